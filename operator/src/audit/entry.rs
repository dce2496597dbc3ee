//! Entries as resources, and their leaves: what is signed is made from the bytes that are there,
//! never from what somebody says of them.

use chaperone_control::PodIdentity;
use chaperone_crds::{AuditEntry, AuditEntryKind, AuditSegmentSpec};
use chaperone_evidence::audit::{Entry, EntryKind, digest};
use k8s_openapi::ByteString;

/// SHA-256.
pub(super) type Hash = [u8; 32];

/// Why a segment gets no leaf.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsound {
    /// The resource has another shape.
    #[error("it cannot be read")]
    Unreadable,
    /// `count` or `bytes` is not what is there.
    #[error("it says of its entries what is not so")]
    Count,
    /// A header that no leaf can be made of.
    #[error("entry {0} has a header that is not one")]
    Header(usize),
    /// The data is not what its digest says.
    #[error("the bytes of entry {0} are not those it was written with")]
    Digest(usize),
}

/// What an entry is besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Certificate or Segment.
    pub(crate) kind: AuditEntryKind,
    /// Public key of the pod's store.
    pub(crate) store: [u8; 32],
    /// Number of the store's segment.
    pub(crate) number: u64,
    /// Which part of it.
    pub(crate) part: u32,
    /// Of how many.
    pub(crate) parts: u32,
}

/// The entry of a pod. The pod is the authenticated one, whatever the bytes say.
pub(crate) fn made(pod: &PodIdentity, place: Place, data: Vec<u8>) -> AuditEntry {
    let Place {
        kind,
        store,
        number,
        part,
        parts,
    } = place;
    AuditEntry {
        kind,
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        store: hex::encode(store),
        number,
        part,
        parts,
        digest: hex::encode(digest(&data)),
        data: ByteString(data),
    }
}

/// The leaf hashes of a segment, in order.
pub(super) fn leaves(spec: &AuditSegmentSpec) -> Result<Vec<Hash>, Unsound> {
    let bytes: usize = spec.entries.iter().map(|entry| entry.data.0.len()).sum();
    if u32::try_from(spec.entries.len()) != Ok(spec.count) || u32::try_from(bytes) != Ok(spec.bytes)
    {
        return Err(Unsound::Count);
    }
    spec.entries
        .iter()
        .enumerate()
        .map(|(index, entry)| {
            let header = header(entry).ok_or(Unsound::Header(index))?;
            match digest(&entry.data.0) == header.digest {
                true => Ok(header.leaf_hash()),
                false => Err(Unsound::Digest(index)),
            }
        })
        .collect()
}

pub(super) fn header(entry: &AuditEntry) -> Option<Entry> {
    // A space or newline in a name would let two headers have one leaf.
    let named = [&entry.namespace, &entry.pod, &entry.uid]
        .iter()
        .all(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()));
    named.then_some(Entry {
        kind: match entry.kind {
            AuditEntryKind::Certificate => EntryKind::Certificate,
            AuditEntryKind::Segment => EntryKind::Segment,
            AuditEntryKind::Tombstone => EntryKind::Tombstone,
            AuditEntryKind::Unseal => EntryKind::Unseal,
        },
        namespace: entry.namespace.clone(),
        pod: entry.pod.clone(),
        uid: entry.uid.clone(),
        store: hash(&entry.store)?,
        number: entry.number,
        part: entry.part,
        parts: entry.parts,
        digest: hash(&entry.digest)?,
    })
}

/// The entries of a segment whose bytes are what they say.
pub(super) fn sound(spec: AuditSegmentSpec) -> Vec<(Entry, Vec<u8>)> {
    let whole = spec.entries.into_iter().filter_map(|entry| {
        let header = header(&entry)?;
        (digest(&entry.data.0) == header.digest).then_some((header, entry.data.0))
    });
    whole.collect()
}

/// 64 lower-case hex digits: only one text is a hash's.
pub(super) fn hash(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).ok()?;
    (hex::encode(hash) == text).then_some(hash)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn segment() -> AuditSegmentSpec {
        let pod = PodIdentity {
            namespace: "shop".to_owned(),
            service_account: "report".to_owned(),
            name: "report-1".to_owned(),
            uid: "u-1".to_owned(),
            labels: Default::default(),
            purpose: None,
        };
        let place = Place {
            kind: AuditEntryKind::Segment,
            store: [7; 32],
            number: 3,
            part: 0,
            parts: 1,
        };
        AuditSegmentSpec {
            count: 2,
            bytes: 3,
            entries: vec![
                made(&pod, place, vec![1]),
                made(&pod, Place { number: 4, ..place }, vec![2, 3]),
            ],
        }
    }

    #[test]
    fn a_leaf_is_that_of_the_bytes_that_are_there() {
        let found = leaves(&segment()).unwrap();
        let expected = Entry {
            kind: EntryKind::Segment,
            namespace: "shop".to_owned(),
            pod: "report-1".to_owned(),
            uid: "u-1".to_owned(),
            store: [7; 32],
            number: 4,
            part: 0,
            parts: 1,
            digest: digest(&[2, 3]),
        };
        assert_eq!((found.len(), found[1]), (2, expected.leaf_hash()));
    }

    #[test]
    fn what_was_altered_gets_no_leaf() {
        type Alter = fn(&mut AuditSegmentSpec);
        let altered: [(Alter, Unsound); 7] = [
            (|spec| spec.count = 1, Unsound::Count),
            (|spec| spec.bytes = 4, Unsound::Count),
            (|spec| spec.entries[1].data.0[0] = 9, Unsound::Digest(1)),
            (
                |spec| spec.entries[0].digest = "ab".repeat(32),
                Unsound::Digest(0),
            ),
            (
                |spec| spec.entries[0].digest = "AB".repeat(32),
                Unsound::Header(0),
            ),
            (|spec| spec.entries[1].store.truncate(2), Unsound::Header(1)),
            (
                |spec| spec.entries[1].pod = "a b".to_owned(),
                Unsound::Header(1),
            ),
        ];
        for (alter, expected) in altered {
            let mut spec = segment();
            alter(&mut spec);
            assert_eq!(leaves(&spec), Err(expected));
        }
    }
}
