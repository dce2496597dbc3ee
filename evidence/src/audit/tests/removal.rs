//! What goes under a tombstone, and that nothing else goes unseen.

use std::sync::Arc;

use super::*;
use crate::audit::collect::write_stores;
use crate::audit::verify;
use crate::clock::SystemEntropy;
use crate::support::{allowed, closed, outcome, shipped, start};
use crate::verify::Level;
use crate::{Identity, Keyring, Place, Recorder, Sessions};
use chaperone_policy::Durability;

/// What the leader does before it removes anything: the tombstone of all up to a checkpoint.
fn tombstone(cluster: &Cluster, checkpoint: u64, holds: Vec<Hold>) -> Tombstone {
    let before = cluster.verify().removed.map(|removed| removed.tombstone);
    let done = before.as_ref().map_or(0, |before| before.checkpoint);
    let mut cut = Cut::new(before.as_ref(), holds);
    let named = |number: &u64| &cluster.collected.checkpoints[number].segments;
    let released: Vec<u64> = cut.released().collect();
    for number in released {
        let entries = named(&number).iter().map(|(_, leaves)| leaves.len() as u64);
        cut.release(named(&number).len() as u64, entries.sum());
    }
    for number in done + 1..=checkpoint {
        for (name, leaves) in named(&number) {
            let entries = cluster.collected.segments[name].as_slice();
            cut.segment(number, Some(1_700_000_000), leaves.len() as u64, entries);
        }
        cut.close(number);
    }
    assert!(cut.is_clean());
    let anchor = &cluster.collected.checkpoints[&checkpoint];
    let at = At {
        checkpoint,
        note: digest(anchor.note.as_bytes()),
        size: anchor.size,
        wall_ns: 1_800_000_000_000_000_000,
        at_least_s: 86_400,
    };
    cut.tombstone(at, &|_| false)
}

impl Cluster {
    fn log_tombstone(&mut self, tombstone: &Tombstone, key: &LogKey) -> String {
        let body = tombstone.sign(key).unwrap();
        let entry = Entry {
            kind: EntryKind::Tombstone,
            namespace: "chaperone-audit".into(),
            pod: "chaperone-operator".into(),
            uid: "log".into(),
            store: *key.public(),
            number: tombstone.number,
            part: 0,
            parts: 1,
            digest: digest(&body),
        };
        let name = format!("ts-{}", tombstone.number);
        self.collected
            .segments
            .insert(name.clone(), vec![(entry, body)]);
        name
    }

    /// Removes what a tombstone says, bit by bit; at each step the rest holds.
    fn remove(&mut self, tombstone: &Tombstone) {
        let numbers: Vec<u64> = self.collected.checkpoints.keys().copied().collect();
        for number in numbers.into_iter().filter(|n| *n <= tombstone.checkpoint) {
            if !tombstone.keeps(number) {
                for (name, _) in self.collected.checkpoints[&number].segments.clone() {
                    self.collected.segments.remove(&name);
                }
                self.holds();
            }
            if !tombstone.keeps_note(number) {
                self.collected.checkpoints.remove(&number);
                self.holds();
            }
        }
    }

    /// Logs a tombstone of all up to a checkpoint, and removes that.
    pub(super) fn bury(&mut self, checkpoint: u64, holds: Vec<Hold>) -> Tombstone {
        let tombstone = tombstone(self, checkpoint, holds);
        let key = LogKey::from_pem(&self.pem).unwrap();
        self.log_tombstone(&tombstone, &key);
        // Readers may come before its checkpoint.
        self.holds();
        self.checkpoint();
        self.holds();
        self.remove(&tombstone);
        tombstone
    }

    fn holds(&self) -> LogReport {
        let report = self.verify();
        assert!(report.report.ok(), "{:#?}", report.report.breaks);
        report
    }

    fn reason(&self) -> BreakReason {
        first(&self.verify()).1
    }
}

/// The reasons of all that is wrong.
fn reasons(report: &LogReport) -> Vec<BreakReason> {
    report
        .report
        .breaks
        .iter()
        .map(|found| found.reason)
        .collect()
}

/// Three pods one after the other, each in a checkpoint of its own.
async fn three() -> Cluster {
    let mut cluster = Cluster::new();
    for n in [1, 2, 3] {
        let (dir, _) = recorded(n).await;
        cluster.ship(n, dir.path());
        cluster.checkpoint();
    }
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_under_a_tombstone_is_noted_and_the_rest_verifies() {
    let mut cluster = three().await;
    let whole = cluster.holds().report;
    let buried = cluster.bury(2, Vec::new());
    let report = cluster.holds();
    assert_eq!(report.report.sessions, 2, "of {}", whole.sessions);
    let kept: Vec<u64> = cluster.collected.checkpoints.keys().copied().collect();
    assert_eq!(kept, [2, 3, 4]);
    assert_eq!(
        (report.size, report.root),
        (cluster.tree.size(), cluster.tree.root())
    );
    let removed = report.removed.unwrap().tombstone;
    assert_eq!(removed, buried);
    assert_eq!(
        (removed.entries, removed.size),
        (removed.segments, removed.entries)
    );
    let note = &report.report.notes[0];
    assert_eq!(note.file.as_deref(), Some(Path::new("AuditSegment/ts-1")));
    for part in [
        format!("{} segments", removed.segments),
        "2023-11-14".to_owned(),
        "2027-01-15".to_owned(),
        "tombstone 1".to_owned(),
        "checkpoint 2".to_owned(),
    ] {
        assert!(note.detail.contains(&part), "{part}: {}", note.detail);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_segment_without_a_tombstone_is_missed() {
    let mut cluster = three().await;
    cluster.bury(1, Vec::new());
    let whole = cluster.collected.clone();
    for name in whole.segments.keys() {
        cluster.collected = whole.clone();
        cluster.collected.segments.remove(name);
        // Without the tombstone everything below it is missed too.
        let expected = match name.starts_with("ts-") {
            true => BreakReason::CheckpointMissing,
            false => BreakReason::SegmentMissing,
        };
        let anchored = cluster.collected.checkpoints.contains_key(&1);
        assert!(anchored, "checkpoint 1 is the anchor");
        let found = cluster.verify();
        let found = reasons(&found);
        assert!(
            found.contains(&expected) || found.contains(&BreakReason::SegmentMissing),
            "{name}: {found:?}"
        );
    }
    for number in [1, 2, 3] {
        cluster.collected = whole.clone();
        cluster.collected.checkpoints.remove(&number);
        let found = cluster.reason();
        let expected = match number {
            1 => BreakReason::TombstoneInvalid,
            _ => BreakReason::CheckpointMissing,
        };
        assert_eq!(found, expected, "cp-{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_tombstone_hides_nothing() {
    let whole = three().await;
    let honest = tombstone(&whole, 2, Vec::new());
    let own = LogKey::from_pem(&whole.pem).unwrap();
    let forger = Cluster::new();
    let try_it = |forged: &Tombstone, key: &LogKey, sequenced: bool| {
        let mut cluster = Cluster {
            key: LogKey::from_pem(&whole.pem).unwrap(),
            pem: whole.pem.clone(),
            collected: whole.collected.clone(),
            tree: whole.tree.clone(),
            made: whole.made,
        };
        cluster.log_tombstone(forged, key);
        if sequenced {
            cluster.checkpoint();
        }
        for number in 1..=forged.checkpoint.min(3) {
            for (name, _) in cluster.collected.checkpoints[&number].segments.clone() {
                cluster.collected.segments.remove(&name);
            }
        }
        cluster.collected.checkpoints.remove(&1);
        reasons(&cluster.verify())
    };
    for sequenced in [false, true] {
        assert_eq!(try_it(&honest, &own, sequenced), []);
        let forged = try_it(&honest, &forger.key, sequenced);
        assert_eq!(forged[0], BreakReason::TombstoneInvalid);
        assert!(forged.contains(&BreakReason::CheckpointMissing));
    }
    // Even the log key's word counts only as far as the log bears it out.
    type Claim = fn(&mut Tombstone);
    let claims: [Claim; 5] = [
        |claim| claim.checkpoint = 3,
        |claim| claim.checkpoint = 4,
        |claim| claim.note = [1; 32],
        |claim| claim.size += 1,
        |claim| claim.entries += 1,
    ];
    for (index, claim) in claims.into_iter().enumerate() {
        let mut claimed = honest.clone();
        claim(&mut claimed);
        let found = try_it(&claimed, &own, true);
        assert_eq!(
            found[0],
            BreakReason::TombstoneInvalid,
            "claim {index}: {found:?}"
        );
    }
    // A bit of it changed.
    let mut bytes = honest.sign(&own).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Tombstone::open(&bytes, own.public()).unwrap_err();
}

/// A pod whose sidecar goes on: three sessions, open over many segments, of which each has a
/// checkpoint of its own.
async fn going_on(cluster: &mut Cluster, n: usize, dir: &Path) -> Vec<String> {
    let recorder: Arc<Recorder> = attach(dir);
    let mut sessions = Vec::new();
    for at in 0..3 {
        sessions.push(recorder.begin(start(at)).unwrap());
    }
    let ids = sessions
        .iter()
        .map(|session| session.id().to_owned())
        .collect();
    for round in 0..3 {
        for session in &mut sessions {
            let permit = allowed(session, "SELECT 1", Durability::Written).await;
            session.outcome(outcome(permit.sequence())).unwrap();
            shipped(&recorder).await;
        }
        cluster.ship(n, dir);
        cluster.checkpoint();
        if round == 1 {
            sessions.pop().unwrap().end(closed()).await.unwrap();
            shipped(&recorder).await;
            cluster.ship(n, dir);
            cluster.checkpoint();
        }
    }
    for session in sessions {
        session.end(closed()).await.unwrap();
        shipped(&recorder).await;
        cluster.ship(n, dir);
        cluster.checkpoint();
    }
    detach(&recorder).await;
    cluster.ship(n, dir);
    cluster.checkpoint();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_straddle_the_cut_verify_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::new();
    going_on(&mut cluster, 1, dir.path()).await;
    // The next life of the sidecar follows on the last.
    let recorder = attach(dir.path());
    full_session(&recorder, 9).await;
    detach(&recorder).await;
    cluster.ship(1, dir.path());
    cluster.checkpoint();
    let whole = cluster.collected.clone();
    let (tree, all) = (cluster.tree.clone(), cluster.holds().report.records);
    let last = *whole.checkpoints.keys().next_back().unwrap();
    let mut counts = vec![all];
    for cut in 1..=last {
        (cluster.collected, cluster.tree) = (whole.clone(), tree.clone());
        cluster.bury(cut, Vec::new());
        let report = cluster.holds().report;
        counts.push(report.records);
        // What is behind the cut is held to everything as before.
        let of_a_store = |entries: &[(Entry, Vec<u8>)]| entries[0].0.kind == EntryKind::Segment;
        let mut behind = cluster.collected.segments.iter();
        let next = behind.find(|(_, entries)| of_a_store(entries));
        if let Some(name) = next.map(|(name, _)| name.clone()) {
            cluster.collected.segments.remove(&name);
            assert_eq!(
                cluster.reason(),
                BreakReason::SegmentMissing,
                "{cut} {name}"
            );
        }
    }
    assert!(
        counts.windows(2).all(|pair| pair[0] >= pair[1]),
        "{counts:?}"
    );
    assert_eq!((counts[0], counts.last()), (all, Some(&0)));
    let straddling = counts
        .iter()
        .filter(|count| **count > 0 && **count < all)
        .count();
    assert!(straddling > 3, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_tombstone_speaks_for_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::new();
    going_on(&mut cluster, 1, dir.path()).await;
    let first = cluster.bury(2, Vec::new());
    let second = cluster.bury(4, Vec::new());
    assert_eq!((first.number, second.number), (1, 2));
    assert!(second.segments > first.segments && second.entries > first.entries);
    let newest = *cluster.collected.checkpoints.keys().next_back().unwrap();
    // The first one's own segment goes too.
    let third = cluster.bury(newest - 1, Vec::new());
    assert!(!cluster.collected.segments.contains_key("ts-1"));
    let report = cluster.holds();
    assert_eq!(report.removed.unwrap().tombstone, third);
    // An older one does not speak for what the newer one removed.
    cluster.collected.segments.remove("ts-3");
    assert!(!cluster.verify().report.ok());
}

fn hold(name: &str, namespaces: &[&str], sessions: &[&str]) -> Hold {
    let id = |text: &&str| SessionId(hex::decode(text).unwrap().try_into().unwrap());
    Hold {
        name: name.into(),
        namespaces: namespaces.iter().map(|n| (*n).to_owned()).collect(),
        sessions: sessions.iter().map(id).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_stays_and_verifies_until_it_is_let_go() {
    let mut cluster = Cluster::new();
    let (bank, _) = recorded(100).await;
    let (shop, _) = recorded(1).await;
    let live = tempfile::tempdir().unwrap();
    cluster.ship(1, shop.path());
    cluster.checkpoint();
    cluster.ship(100, bank.path());
    cluster.checkpoint();
    let ids = going_on(&mut cluster, 2, live.path()).await;
    let holds = || {
        vec![
            hold("case-17", &["bank"], &[]),
            hold("case-18", &[], &[&ids[2]]),
        ]
    };
    let before = cluster.holds().report;
    let newest = *cluster.collected.checkpoints.keys().next_back().unwrap();
    let buried = cluster.bury(newest - 2, holds());
    let report = cluster.holds();
    let note = &report.report.notes[0].detail;
    assert!(note.contains("case-17, case-18"), "{note}");
    assert!(report.report.records < before.records && report.report.sessions >= 3);
    assert!(!buried.keeps(1) && buried.keeps(2));
    // What is held is missed if it goes.
    let whole = cluster.collected.clone();
    for number in (1..=buried.checkpoint).filter(|number| buried.keeps(*number)) {
        for (name, _) in &whole.checkpoints[&number].segments {
            cluster.collected.segments.remove(name);
            assert_eq!(cluster.reason(), BreakReason::SegmentMissing, "{name}");
            cluster.collected = whole.clone();
        }
        cluster.collected.checkpoints.remove(&(number - 1));
        assert_eq!(
            cluster.reason(),
            BreakReason::CheckpointMissing,
            "cp-{number}"
        );
        cluster.collected = whole.clone();
    }
    // It stays held by the next tombstone, and goes once the hold does.
    let again = cluster.bury(newest, holds());
    assert!(again.keeps(2));
    let kept = again.entries;
    let newest = *cluster.collected.checkpoints.keys().next_back().unwrap();
    let free = cluster.bury(newest, Vec::new());
    assert!(free.held.is_empty() && free.entries > kept);
    assert_eq!(free.entries, free.size);
    assert_eq!(cluster.holds().report.sessions, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_a_hole_does_not_keep_the_log_from_being_cut() {
    let mut cluster = Cluster::new();
    let (dir, _) = recorded(1).await;
    cluster.ship(1, dir.path());
    let first = cluster
        .segment_entries()
        .map(|(entry, _)| entry.number)
        .min()
        .unwrap();
    for entries in cluster.collected.segments.values_mut() {
        entries.retain(|(entry, _)| entry.kind == EntryKind::Certificate || entry.number > first);
    }
    cluster
        .collected
        .segments
        .retain(|_, entries| !entries.is_empty());
    cluster.checkpoint();
    for n in [2, 3, 4] {
        let (dir, _) = recorded(n).await;
        cluster.ship(n, dir.path());
        cluster.checkpoint();
    }
    assert_eq!(cluster.reason(), BreakReason::SegmentMissing);
    let buried = tombstone(&cluster, 4, Vec::new());
    let key = LogKey::from_pem(&cluster.pem).unwrap();
    cluster.log_tombstone(&buried, &key);
    cluster.checkpoint();
    for number in 1..=4 {
        for (name, _) in cluster.collected.checkpoints[&number].segments.clone() {
            cluster.collected.segments.remove(&name);
        }
    }
    // That something was missing is said as long as anything of the pod is there.
    let (more, _) = recorded(9).await;
    cluster.ship(9, more.path());
    cluster.checkpoint();
    assert!(cluster.verify().report.ok());
    let missing = buried
        .stores
        .iter()
        .filter(|known| known.missing > 0)
        .count();
    assert_eq!(missing, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_under_a_seal_that_is_gone_opens_still() {
    let auditor = Identity::generate(&SystemEntropy).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::new();
    let recorder = attach(dir.path());
    recorder.seal_for(&[auditor.recipient()]);
    let mut sessions = Vec::new();
    for at in 0..2 {
        let mut session = recorder.begin(start(at)).unwrap();
        let permit = allowed(&mut session, "SELECT 1", Durability::Written).await;
        session.outcome(outcome(permit.sequence())).unwrap();
        sessions.push(session);
        shipped(&recorder).await;
        cluster.ship(1, dir.path());
        cluster.checkpoint();
    }
    for session in sessions {
        session.end(closed()).await.unwrap();
    }
    detach(&recorder).await;
    cluster.ship(1, dir.path());
    cluster.checkpoint();
    cluster.bury(1, Vec::new());
    // Who has no key sees that it is whole, and who has it what is in it.
    assert_eq!(cluster.holds().report.level, Level::Outer);
    let (ring, written) = (Keyring::new(vec![auditor]), tempfile::tempdir().unwrap());
    let public = cluster.key.public();
    let folders = write_stores(&cluster.collected, public, written.path(), &|_| false).unwrap();
    let report = verify::verify(&cluster.collected, &folders, public, true, &ring, None).unwrap();
    assert!(report.report.ok(), "{:#?}", report.report.breaks);
    assert_eq!(report.report.level, Level::Full);
    let listed = Sessions::list(Place::new(&folders[0].dir, &ring)).unwrap();
    assert_eq!(listed.len(), 1, "the first began in what is gone");
    assert!(!listed[0].sealed);
    assert_eq!(listed[0].allowed, 1);
}
