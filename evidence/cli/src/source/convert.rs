//! From the resources of the log to its plain values. Nothing here is believed: what cannot be
//! read becomes a break in the evidence, never a panic and never a silence.

use std::path::PathBuf;

use chaperone_crds::{AuditCheckpointSpec, AuditEntry, AuditEntryKind};
use chaperone_evidence::audit::{Checkpoint, Entry, EntryKind};
use chaperone_evidence::{Break, BreakReason};
use kube::core::DynamicObject;
use serde_json::Value;

type Hash = [u8; 32];

/// An AuditSegment as it can be read.
#[derive(Debug, Default)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) entries: Vec<(Entry, Vec<u8>)>,
    pub(super) faults: Vec<Break>,
}

/// An AuditCheckpoint as it can be read.
#[derive(Debug, Default)]
pub(super) struct Numbered {
    pub(super) name: String,
    pub(super) checkpoint: Option<(u64, Checkpoint)>,
    pub(super) faults: Vec<Break>,
}

/// Reads a segment entry by entry. An entry of which nothing can be made is left out; one whose
/// digest alone is no digest keeps its bytes and gets zeros, which no bytes have.
pub(super) fn segment(object: &DynamicObject) -> Segment {
    let name = object.metadata.name.clone().unwrap_or_default();
    let file = format!("AuditSegment/{name}");
    let wrong = |detail: String| fault(&file, BreakReason::SegmentChanged, detail);
    let mut segment = Segment {
        name,
        ..Segment::default()
    };
    let entries = object
        .data
        .pointer("/spec/entries")
        .and_then(Value::as_array);
    let Some(entries) = entries else {
        segment
            .faults
            .push(wrong("it has no list of entries".to_owned()));
        return segment;
    };
    for (index, value) in entries.iter().enumerate() {
        let entry: AuditEntry = match serde_json::from_value(value.clone()) {
            Ok(entry) => entry,
            Err(error) => {
                let detail = format!("entry {index} cannot be read: {error}");
                segment.faults.push(wrong(detail));
                continue;
            }
        };
        let Some(store) = hash(&entry.store) else {
            let detail = format!(
                "entry {index} of pod {}/{} names no store that is one",
                entry.namespace, entry.pod
            );
            segment.faults.push(wrong(detail));
            continue;
        };
        let digest = hash(&entry.digest).unwrap_or_else(|| {
            let detail = format!("the digest of entry {index} is none");
            segment.faults.push(wrong(detail));
            [0; 32]
        });
        segment.entries.push((
            Entry {
                kind: match entry.kind {
                    AuditEntryKind::Certificate => EntryKind::Certificate,
                    AuditEntryKind::Segment => EntryKind::Segment,
                    AuditEntryKind::Tombstone => EntryKind::Tombstone,
                    AuditEntryKind::Unseal => EntryKind::Unseal,
                },
                namespace: entry.namespace,
                pod: entry.pod,
                uid: entry.uid,
                store,
                number: entry.number,
                part: entry.part,
                parts: entry.parts,
                digest,
            },
            entry.data.0,
        ));
    }
    segment
}

/// Reads a checkpoint. Hashes that are none become zeros, which then fit nothing.
pub(super) fn checkpoint(object: &DynamicObject) -> Numbered {
    let name = object.metadata.name.clone().unwrap_or_default();
    let file = format!("AuditCheckpoint/{name}");
    let wrong = |detail: String| fault(&file, BreakReason::CheckpointInvalid, detail);
    let mut read = Numbered {
        name: name.clone(),
        ..Numbered::default()
    };
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    let spec: AuditCheckpointSpec = match serde_json::from_value(spec) {
        Ok(spec) => spec,
        Err(error) => {
            read.faults
                .push(wrong(format!("it cannot be read: {error}")));
            return read;
        }
    };
    if name != format!("cp-{}", spec.number) {
        let detail = format!("its number is {}, which its name is not", spec.number);
        read.faults.push(wrong(detail));
    }
    let segments = spec.segments.iter().map(|segment| {
        let leaves = segment
            .leaves
            .iter()
            .map(|leaf| hash(leaf).unwrap_or_default());
        (segment.name.clone(), leaves.collect())
    });
    let checkpoint = Checkpoint {
        previous: hash(&spec.previous).unwrap_or([0xff; 32]),
        segments: segments.collect(),
        size: spec.size,
        root: hash(&spec.root).unwrap_or_default(),
        subtrees: spec
            .subtrees
            .iter()
            .map(|subtree| hash(subtree).unwrap_or_default())
            .collect(),
        note: spec.note,
    };
    read.checkpoint = Some((spec.number, checkpoint));
    read
}

/// A break in one resource.
pub(super) fn fault(file: &str, reason: BreakReason, detail: String) -> Break {
    Break {
        file: PathBuf::from(file),
        session: None,
        sequence: None,
        reason,
        detail,
    }
}

fn hash(text: &str) -> Option<Hash> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use kube::api::TypeMeta;
    use proptest::prelude::*;

    use super::*;

    fn object(name: &str, spec: &str) -> DynamicObject {
        let mut object: DynamicObject = DynamicObject {
            types: Some(TypeMeta::default()),
            metadata: Default::default(),
            data: serde_saphyr::from_str(spec).unwrap(),
        };
        object.metadata.name = Some(name.to_owned());
        object
    }

    fn entry(from: &str, to: &str) -> String {
        let key = "ab".repeat(32);
        format!(
            "{{kind: Segment, namespace: shop, pod: a, uid: u, store: {key}, number: 1, part: 0, parts: 1, digest: {key}, data: aGk=}}"
        )
        .replace(from, to)
    }

    fn read(entries: &[String]) -> Segment {
        segment(&object(
            "seg-1",
            &format!("spec: {{entries: [{}]}}", entries.join(", ")),
        ))
    }

    #[test]
    fn a_whole_entry_keeps_its_bytes_and_header() {
        let segment = read(&[entry("number: 1", "number: 1")]);
        assert!(segment.faults.is_empty());
        let (entry, data) = &segment.entries[0];
        assert_eq!(
            (entry.number, entry.store, data.as_slice()),
            (1, [0xab; 32], &b"hi"[..])
        );
    }

    #[test]
    fn what_cannot_be_read_is_a_break_and_the_rest_is_read() {
        let key = "ab".repeat(32);
        let (store, digest) = (format!("store: {key}"), format!("digest: {key}"));
        for (from, to, kept) in [
            ("number: 1", "number: -1", 1),
            ("number: 1", "number: 99999999999999999999999", 1),
            ("part: 0", "part: 4294967296", 1),
            ("kind: Segment", "kind: Other", 1),
            ("data: aGk=", "data: '!'", 1),
            (&store, "store: xyz", 1),
            // Its bytes are there, whatever its digest was.
            (&digest, "digest: xyz", 2),
        ] {
            let segment = read(&[entry(from, to), entry("number: 1", "number: 1")]);
            assert_eq!(segment.faults.len(), 1, "{to}");
            assert_eq!(segment.entries.len(), kept, "{to}");
            assert_eq!(segment.faults[0].file, PathBuf::from("AuditSegment/seg-1"));
        }
        assert_eq!(segment(&object("seg-1", "spec: {}")).faults.len(), 1);
    }

    #[test]
    fn a_checkpoint_under_another_name_is_a_break() {
        let zeros = "00".repeat(32);
        let spec = format!(
            "spec: {{number: 2, previous: '{zeros}', segments: [{{name: s, leaves: [nonsense]}}], size: 1, root: '{zeros}', subtrees: [], note: signed}}"
        );
        let whole = checkpoint(&object("cp-2", &spec));
        assert!(whole.faults.is_empty());
        assert_eq!(whole.checkpoint.unwrap().1.segments[0].1, [[0; 32]]);
        assert_eq!(checkpoint(&object("cp-3", &spec)).faults.len(), 1);
        assert_eq!(
            checkpoint(&object("cp-3", "spec: {number: x}"))
                .faults
                .len(),
            1
        );
    }

    proptest! {
        #[test]
        fn no_resource_makes_it_panic(text in "[ -~]{0,80}", number in any::<i64>()) {
            let value = serde_json::Value::from(text.clone());
            let spec = format!("spec: {{number: {number}, previous: {value}, root: {value}, size: {number}, note: {value}, subtrees: [], segments: [], entries: [{value}, {{store: {value}}}]}}");
            segment(&object("a", &spec));
            checkpoint(&object("a", &spec));
        }
    }
}
