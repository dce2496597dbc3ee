//! A log of two pods, and what somebody without the log key can do to it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::verify::{LogReport, verify_into};
use super::*;
use crate::frame::NO_HASH;
use crate::outbox::Outbox;
use crate::record::SessionId;
use crate::support::{attach, detach, full_session};
use crate::verify::BreakReason;

mod behind;
mod removal;
mod unsealing;

struct Cluster {
    key: LogKey,
    /// The same key, for whoever needs it beside the rest.
    pem: String,
    collected: Collected,
    tree: Tree,
    /// Segments made so far.
    made: usize,
}

fn pod(n: usize) -> Pod {
    Pod {
        namespace: if n < 100 { "shop" } else { "bank" }.into(),
        name: format!("report-{n}"),
        uid: format!("00000000-0000-0000-0000-{n:012}"),
        service_account: "report".into(),
    }
}

impl Cluster {
    fn new() -> Cluster {
        let pem = LogKey::generate().unwrap();
        Cluster {
            key: LogKey::from_pem(&pem).unwrap(),
            pem: pem.to_string(),
            collected: Collected::default(),
            tree: Tree::default(),
            made: 0,
        }
    }

    /// What ingest does with a pod's store: its certificate, then its segments, one write each.
    fn ship(&mut self, n: usize, dir: &Path) {
        let store =
            crate::parse_public_pem(&std::fs::read_to_string(dir.join("keys/log.pub")).unwrap())
                .unwrap();
        let certificate = StoreCertificate {
            store,
            pod: pod(n),
            wall_ns: 1,
        };
        let body = certificate.sign(&self.key).unwrap();
        self.put(n, entry(EntryKind::Certificate, n, store, 0, &body), &body);
        let mut outbox = Outbox::open(dir).unwrap();
        while let Some(next) = outbox.unsent().unwrap() {
            let public = *self.key.public();
            let checked = check(
                &body,
                &public,
                &pod(n).uid,
                &next.attach,
                next.number,
                1,
                &next.bytes,
            );
            assert_eq!(checked.unwrap().certificate, certificate);
            let entry = entry(EntryKind::Segment, n, store, next.number, &next.bytes);
            self.put(n, entry, &next.bytes);
            outbox.acknowledge(next.number).unwrap();
        }
    }

    fn put(&mut self, n: usize, entry: Entry, data: &[u8]) {
        self.made += 1;
        let name = format!("as-{n}-{:03}", self.made);
        let entries = vec![(entry, data.to_vec())];
        self.collected.segments.insert(name, entries);
    }

    /// What the leader does: a checkpoint over all that has none.
    fn checkpoint(&mut self) {
        let done: Vec<&String> = self
            .collected
            .checkpoints
            .values()
            .flat_map(|c| c.segments.iter().map(|(name, _)| name))
            .collect();
        let segments: Vec<(String, Vec<_>)> = self
            .collected
            .segments
            .iter()
            .filter(|(name, _)| !done.contains(name))
            .map(|(name, entries)| {
                let leaves = entries.iter().map(|(entry, _)| entry.leaf_hash());
                (name.clone(), leaves.collect())
            })
            .collect();
        for leaf in segments.iter().flat_map(|(_, leaves)| leaves) {
            self.tree.push(*leaf);
        }
        let (size, root) = (self.tree.size(), self.tree.root());
        let previous = self
            .collected
            .checkpoints
            .values()
            .last()
            .map_or(NO_HASH, |last| digest(last.note.as_bytes()));
        let note = Note { size, root }.sign(&self.key).unwrap();
        let newest = self.collected.checkpoints.keys().next_back();
        let number = newest.map_or(1, |newest| newest + 1);
        self.collected.checkpoints.insert(
            number,
            Checkpoint {
                previous,
                segments,
                size,
                root,
                subtrees: self.tree.subtrees().to_vec(),
                note,
            },
        );
    }

    fn verify(&self) -> LogReport {
        let dir = tempfile::tempdir().unwrap();
        verify_into(&self.collected, self.key.public(), dir.path()).unwrap()
    }

    fn segment_entries(&mut self) -> impl Iterator<Item = &mut (Entry, Vec<u8>)> {
        self.collected
            .segments
            .values_mut()
            .flatten()
            .filter(|(entry, _)| entry.kind == EntryKind::Segment)
    }
}

fn entry(kind: EntryKind, n: usize, store: [u8; 32], number: u64, data: &[u8]) -> Entry {
    Entry {
        kind,
        namespace: pod(n).namespace,
        pod: pod(n).name,
        uid: pod(n).uid,
        store,
        number,
        part: 0,
        parts: 1,
        digest: digest(data),
    }
}

async fn recorded(n: usize) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let recorder = attach(dir.path());
    full_session(&recorder, n).await;
    let (id, _) = full_session(&recorder, n + 1).await;
    detach(&recorder).await;
    (dir, id)
}

async fn cluster() -> Cluster {
    let mut cluster = Cluster::new();
    for n in [1, 2] {
        let (dir, _) = recorded(n).await;
        cluster.ship(n, dir.path());
        cluster.checkpoint();
    }
    cluster
}

fn first(report: &LogReport) -> (String, BreakReason) {
    let found = report.report.first_break().expect("something is wrong");
    (found.file.display().to_string(), found.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_log_verifies() {
    let report = cluster().await.verify();
    assert!(report.report.ok(), "{:#?}", report.report.breaks);
    assert_eq!(report.checkpoints, 2);
    assert_eq!(report.pending, 0);
    assert_eq!(report.report.sessions, 4);
    assert!(report.report.records > 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_segment_is_named_with_its_session() {
    let mut cluster = cluster().await;
    // The bytes alone, then the entry's digest with them, then the checkpoint's leaf too.
    let (entry, data) = cluster.segment_entries().last().unwrap();
    let at = data.len() / 2;
    data[at] ^= 1;
    let pod = format!("Pod/shop/{}", entry.pod);
    let bytes_only = cluster.verify();
    assert_eq!(first(&bytes_only).1, BreakReason::SegmentChanged);
    assert!(first(&bytes_only).0.starts_with("AuditSegment/as-"));
    let stores: Vec<_> = bytes_only
        .report
        .breaks
        .iter()
        .filter(|found| found.file.starts_with(&pod))
        .collect();
    assert!(!stores.is_empty(), "the store's own chain breaks too");

    let (entry, data) = cluster.segment_entries().last().unwrap();
    entry.digest = digest(data);
    let leaf = entry.leaf_hash();
    let with_header = cluster.verify();
    assert!(first(&with_header).0.starts_with("AuditSegment/as-"));
    assert_eq!(first(&with_header).1, BreakReason::SegmentChanged);

    let last = cluster.collected.checkpoints.values_mut().last().unwrap();
    *last.segments.last_mut().unwrap().1.last_mut().unwrap() = leaf;
    let with_leaf = cluster.verify();
    assert_eq!(
        first(&with_leaf),
        (
            "AuditCheckpoint/cp-2".to_owned(),
            BreakReason::CheckpointInvalid
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_out_is_missed() {
    let whole = cluster().await.collected;
    let mut cluster = cluster().await;
    for name in whole.segments.keys().skip(1) {
        cluster.collected = Collected {
            segments: cluster.collected.segments.clone(),
            ..cluster.collected
        };
        let Some(taken) = cluster.collected.segments.remove(name) else {
            continue;
        };
        let report = cluster.verify();
        assert_eq!(
            first(&report),
            (format!("AuditSegment/{name}"), BreakReason::SegmentMissing)
        );
        cluster.collected.segments.insert(name.clone(), taken);
    }
    let taken = cluster.collected.checkpoints.remove(&1).unwrap();
    assert_eq!(first(&cluster.verify()).1, BreakReason::CheckpointMissing);
    cluster.collected.checkpoints.insert(1, taken);
    assert!(cluster.verify().report.ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_signs_checkpoints_or_certificates() {
    let other = Cluster::new();
    let mut cluster = cluster().await;
    let last = cluster.collected.checkpoints.get_mut(&2).unwrap();
    let kept = last.note.clone();
    last.note = Note {
        size: last.size,
        root: last.root,
    }
    .sign(&other.key)
    .unwrap();
    assert_eq!(first(&cluster.verify()).1, BreakReason::CheckpointInvalid);
    cluster.collected.checkpoints.get_mut(&2).unwrap().note = kept;

    // A store that somebody made himself, in a segment of its own.
    let (dir, _) = recorded(7).await;
    let mut forger = Cluster::new();
    forger.ship(7, dir.path());
    let honest = cluster.collected.segments.len();
    for entries in forger.collected.segments.into_values() {
        let name = format!("forged-{}", cluster.collected.segments.len());
        cluster.collected.segments.insert(name, entries);
    }
    assert!(cluster.collected.segments.len() > honest);
    let report = cluster.verify();
    assert_eq!(
        first(&report),
        (
            "Pod/shop/report-7".to_owned(),
            BreakReason::CertificateInvalid
        )
    );
    assert!(report.pending > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_of_one_segment_are_named_and_the_same_twice_is_one() {
    let mut cluster = cluster().await;
    let again = cluster.segment_entries().next().unwrap().clone();
    cluster
        .collected
        .segments
        .insert("zz-again".into(), vec![again.clone()]);
    assert!(cluster.verify().report.ok());
    let (mut entry, mut data) = again;
    data.push(0);
    entry.digest = digest(&data);
    cluster
        .collected
        .segments
        .insert("zz-other".into(), vec![(entry, data)]);
    let report = cluster.verify();
    assert_eq!(first(&report).1, BreakReason::SegmentChanged);
    assert!(report.report.breaks[0].detail.contains("two versions"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_hands_in_only_its_own() {
    let cluster = Cluster::new();
    let public = *cluster.key.public();
    let (dir, _) = recorded(1).await;
    let (other, _) = recorded(3).await;
    let certificate = |dir: &Path, n: usize, key: &LogKey| {
        let text = std::fs::read_to_string(dir.join("keys/log.pub")).unwrap();
        let store = crate::parse_public_pem(&text).unwrap();
        let certificate = StoreCertificate {
            store,
            pod: pod(n),
            wall_ns: 1,
        };
        certificate.sign(key).unwrap()
    };
    let own = certificate(dir.path(), 1, &cluster.key);
    let next = Outbox::open(dir.path()).unwrap().unsent().unwrap().unwrap();
    let foreign = Outbox::open(other.path())
        .unwrap()
        .unsent()
        .unwrap()
        .unwrap();
    let uid = pod(1).uid;
    let judge = |certificate: &[u8], uid: &str, attach: &[u8], number, bytes: &[u8]| {
        check(certificate, &public, uid, attach, number, 1, bytes)
    };
    judge(&own, &uid, &next.attach, 1, &next.bytes).unwrap();
    let theirs = certificate(dir.path(), 1, &Cluster::new().key);
    let mut changed = next.bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    for (what, result) in [
        (
            "another log key",
            judge(&theirs, &uid, &next.attach, 1, &next.bytes),
        ),
        (
            "another pod",
            judge(&own, &pod(2).uid, &next.attach, 1, &next.bytes),
        ),
        (
            "another store's attach",
            judge(&own, &uid, &foreign.attach, 1, &foreign.bytes),
        ),
        (
            "another store's segment",
            judge(&own, &uid, &next.attach, 1, &foreign.bytes),
        ),
        (
            "another number",
            judge(&own, &uid, &next.attach, 2, &next.bytes),
        ),
        ("changed", judge(&own, &uid, &next.attach, 1, &changed)),
        ("nothing", judge(&[], &uid, &next.attach, 1, &next.bytes)),
    ] {
        assert!(result.is_err(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_goes_and_the_next_attach_goes_on() {
    let (dir, _) = recorded(1).await;
    let mut cluster = Cluster::new();
    cluster.ship(1, dir.path());
    let recorder = attach(dir.path());
    let (id, _) = full_session(&recorder, 5).await;
    detach(&recorder).await;
    let left = crate::segment::list(dir.path()).unwrap();
    assert!(left[0] > 1, "{left:?}");
    // A certificate that is there twice is no harm either.
    cluster.ship(1, dir.path());
    cluster.checkpoint();
    let report = cluster.verify();
    assert!(report.report.ok(), "{:#?}", report.report.breaks);
    assert_eq!(report.report.sessions, 3);
    assert_eq!(report.report.attaches.len(), 2);
    let out = tempfile::tempdir().unwrap();
    let stores = write_stores(
        &cluster.collected,
        cluster.key.public(),
        out.path(),
        &|_| false,
    )
    .unwrap();
    let found = crate::Sessions::find(&stores[0].dir, &id).unwrap();
    assert_eq!(found.to_string(), id);
}

/// RFC 6962, section 2.1, as it is written there.
fn root(leaves: &[Vec<u8>]) -> crate::frame::Hash {
    match leaves {
        [] => crate::frame::sha256(&[]),
        [leaf] => leaf_hash(leaf),
        _ => {
            let k = leaves.len().next_power_of_two() / 2;
            crate::frame::sha256(&[&[1], &root(&leaves[..k]), &root(&leaves[k..])])
        }
    }
}

proptest! {
    #[test]
    fn the_tree_is_that_of_rfc_6962(leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..70)) {
        let mut tree = Tree::default();
        for leaf in &leaves {
            tree.push(leaf_hash(leaf));
            let again = Tree::of(tree.size(), tree.subtrees().to_vec());
            prop_assert_eq!(again.as_ref(), Some(&tree));
        }
        prop_assert_eq!(tree.root(), root(&leaves));
        prop_assert_eq!(tree.size(), leaves.len() as u64);
    }

    #[test]
    fn any_change_of_a_note_or_certificate_is_refused(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let key = LogKey::from_pem(&LogKey::generate().unwrap()).unwrap();
        let note = Note { size: 7, root: [3; 32] };
        let mut signed = note.sign(&key).unwrap().into_bytes();
        let text = String::from_utf8(signed.clone()).unwrap();
        prop_assert_eq!(Note::open(&text, key.public()).unwrap(), note);
        let index = at.index(signed.len());
        signed[index] ^= 1 << bit;
        if let Ok(text) = String::from_utf8(signed) {
            prop_assert!(Note::open(&text, key.public()).is_err());
        }
        let certificate = StoreCertificate { store: [5; 32], pod: pod(1), wall_ns: 9 };
        let mut bytes = certificate.sign(&key).unwrap();
        prop_assert_eq!(StoreCertificate::open(&bytes, key.public()).unwrap(), certificate);
        let index = at.index(bytes.len());
        bytes[index] ^= 1 << bit;
        prop_assert!(StoreCertificate::open(&bytes, key.public()).is_err());
    }
}

/// The empty tree, and the first leaves of the test tree that Certificate Transparency
/// implementations share (google/certificate-transparency, merkle tree tests).
#[test]
fn the_tree_has_the_roots_that_others_have() {
    let leaves: [&[u8]; 4] = [b"", b"\x00", b"\x10", b"\x20\x21"];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    let mut tree = Tree::default();
    assert_eq!(
        hex::encode(tree.root()),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    for (leaf, root) in leaves.iter().zip(roots) {
        tree.push(leaf_hash(leaf));
        assert_eq!(hex::encode(tree.root()), root);
    }
}

fn leaves(count: usize) -> Vec<crate::frame::Hash> {
    (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
}

fn root_of(leaves: &[crate::frame::Hash]) -> crate::frame::Hash {
    let mut tree = Tree::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    tree.root()
}

#[test]
fn every_leaf_and_every_growth_of_a_tree_is_proven() {
    let all = leaves(40);
    for size in 1..=all.len() {
        let these = &all[..size];
        let (tree, root) = (proof::Leaves::new(these.to_vec()), root_of(these));
        assert_eq!(tree.root(), Some(root));
        for (index, leaf) in these.iter().enumerate() {
            let path = tree.inclusion(index).unwrap();
            let at = |index: usize| proof::included(leaf, index as u64, size as u64, &path, &root);
            for other in 0..=size {
                assert_eq!(at(other), other == index, "{other} for {index} of {size}");
            }
        }
        assert_eq!(tree.inclusion(size), None);
        for old in 0..=size {
            let path = tree.consistency(old).unwrap();
            let before = root_of(&these[..old]);
            let another = leaf_hash(b"another");
            let grew = |old: usize, before: &crate::frame::Hash| {
                proof::consistent(old as u64, before, size as u64, &root, &path)
            };
            assert!(grew(old, &before), "{old} to {size}");
            if old > 0 {
                assert!(!grew(old, &another), "{old} to {size}");
                assert!(!grew(old - 1, &before), "{old} to {size}");
            }
        }
        assert_eq!(tree.consistency(size + 1), None);
    }
}

#[test]
fn what_is_behind_a_beginning_is_proven_without_its_leaves() {
    let all = leaves(40);
    for size in 1..=all.len() {
        let whole = proof::Leaves::new(all[..size].to_vec());
        let mut beginning = Tree::default();
        for begins in 0..=size {
            let tree = proof::Leaves::behind(&beginning, all[begins..size].to_vec());
            assert_eq!((tree.size(), tree.root()), (size, whole.root()));
            for index in begins..size {
                let path = tree.inclusion(index);
                assert_eq!(
                    path,
                    whole.inclusion(index),
                    "{index} behind {begins} of {size}"
                );
            }
            for old in begins..=size {
                let path = tree.consistency(old);
                assert_eq!(
                    path,
                    whole.consistency(old),
                    "{old} behind {begins} of {size}"
                );
            }
            beginning.push(*all.get(begins).unwrap_or(&[0; 32]));
        }
    }
}

proptest! {
    #[test]
    fn no_other_path_proves_anything(
        size in 2usize..300, index in 0usize..300, change in 0usize..4096, bit in 0u8..8,
    ) {
        let all = leaves(size);
        let index = index % size;
        let tree = proof::Leaves::new(all.clone());
        let root = tree.root().unwrap();
        let good = tree.inclusion(index).unwrap();
        let included = |path: &[_]| {
            proof::included(&all[index], index as u64, size as u64, path, &root)
        };
        prop_assert!(included(&good));
        let mut path = good.clone();
        let step = change % path.len();
        path[step][change / 32 % 32] ^= 1 << bit;
        prop_assert!(!included(&path));
        prop_assert!(!included(&good[1..]));
        prop_assert!(!included(&[good.as_slice(), &[root]].concat()));
    }
}

#[test]
fn a_proof_is_a_file_that_reads_back_and_nothing_else_does() {
    let file = proof::ProofFile {
        number: 12,
        path: leaves(3),
        note: "chaperone.dev/log\n3\nroot\n\nsignature\n".into(),
    };
    let text = file.inclusion();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 12\n"));
    assert_eq!(proof::ProofFile::parse_inclusion(&text), Some(file.clone()));
    let grown = file.consistency();
    assert!(grown.starts_with("old 12\n"));
    assert_eq!(proof::ProofFile::parse_consistency(&grown), Some(file));
    for bad in [
        "",
        "c2sp.org/tlog-proof@v1\n",
        &text.replace("12", "012"),
        &text.replace("=", ""),
    ] {
        assert_eq!(proof::ProofFile::parse_inclusion(bad), None, "{bad}");
    }
}

/// A bundle of the first pod's store, and the pod's second session.
async fn bundled() -> (Cluster, bundle::Files, String) {
    let mut cluster = Cluster::new();
    let (dir, id) = recorded(1).await;
    cluster.ship(1, dir.path());
    cluster.checkpoint();
    let (other, _) = recorded(2).await;
    cluster.ship(2, other.path());
    cluster.checkpoint();
    let store = cluster
        .collected
        .segments
        .values()
        .flatten()
        .next()
        .unwrap();
    let stores = [(store.0.uid.clone(), store.0.store)];
    let session = SessionId(hex::decode(&id).unwrap().try_into().unwrap());
    let files = bundle::of_log(
        &cluster.collected,
        cluster.key.public(),
        &stores,
        &[session],
    );
    (cluster, files.unwrap(), id)
}

fn unbundle(cluster: &Cluster, files: &bundle::Files, held: Option<&str>) -> bundle::BundleReport {
    let dir = tempfile::tempdir().unwrap();
    let key = crate::verify::TrustedKey::PublicKey(*cluster.key.public());
    let all = crate::verify::Selection::All;
    let ring = crate::Keyring::default();
    bundle::verify_bundle(files, Some(&key), held, &ring, &all, dir.path()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_proves_a_store_with_the_logs_key_alone() {
    let (cluster, files, id) = bundled().await;
    let found = unbundle(&cluster, &files, None);
    assert!(found.report.ok(), "{:#?}", found.report.breaks);
    assert_eq!((found.stores, found.report.sessions), (1, 2));
    assert_eq!(found.log.unwrap().size, cluster.tree.size());
    assert!(String::from_utf8_lossy(&files["README.txt"]).contains(&id));
    let private = files
        .values()
        .any(|bytes| bytes.windows(11).any(|window| window == b"PRIVATE KEY"));
    assert!(!private);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_changed_or_missing_file_of_a_bundle_is_named() {
    let (cluster, files, _) = bundled().await;
    for name in files.keys() {
        // What people read, and proofs of growth nobody asked for.
        if name == "README.txt" || name.starts_with("growth/") {
            continue;
        }
        let mut less = files.clone();
        less.remove(name);
        // Without its copy of the key the auditor's own serves.
        assert_eq!(
            unbundle(&cluster, &less, None).report.ok(),
            name == "log.pub",
            "{name}"
        );
        let length = files[name].len();
        for at in [0, length / 3, length / 2, length - 1] {
            let mut changed = files.clone();
            changed.get_mut(name).unwrap()[at] ^= 4;
            let found = unbundle(&cluster, &changed, None);
            assert!(!found.report.ok() || name == "log.pub", "{name} at {at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_a_log_that_was_rewritten_does_not_fit_a_kept_note() {
    let (cluster, files, _) = bundled().await;
    let kept = cluster.collected.checkpoints[&1].note.clone();
    let found = unbundle(&cluster, &files, Some(&kept));
    assert!(found.report.ok(), "{:#?}", found.report.breaks);
    // The same log key signs another history of as many leaves.
    let note = Note::open(&kept, cluster.key.public()).unwrap();
    let forked = Note {
        root: leaf_hash(b"another history"),
        ..note
    };
    let forked = forked.sign(&cluster.key).unwrap();
    let found = unbundle(&cluster, &files, Some(&forked));
    assert_eq!(
        found.report.first_break().unwrap().reason,
        BreakReason::ProofInvalid
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_a_bundle_promises_and_has_not_is_missed() {
    let (cluster, mut files, id) = bundled().await;
    let manifest = String::from_utf8(files["bundle.json"].clone()).unwrap();
    let other = manifest.replace(&id, "0123456789abcdef");
    files.insert("bundle.json".into(), other.into_bytes());
    let found = unbundle(&cluster, &files, None);
    assert_eq!(
        found.report.first_break().unwrap().reason,
        BreakReason::SessionMissing
    );
}
