//! Feeds through restarts, within their bound, and past what is missing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use chaperone_policy::Durability;

use super::*;
use crate::disk::RealDisk;
use crate::ocsf::Event;
use crate::support::*;
use crate::{Part, Recorder, SpoolOptions};

fn sinks(recorder: &Recorder, names: &[&str]) -> Arc<Exports> {
    let exports = recorder.exports();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    exports.configure(&RealDisk, &names).unwrap();
    exports
}

fn all(feed: &mut Feed, most: usize) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        let events = feed.next(most).unwrap();
        if events.is_empty() {
            return all;
        }
        feed.done().unwrap();
        all.extend(events);
    }
}

fn copies(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir.join(FOLDER)).unwrap();
    entries
        .filter(|entry| {
            let path = entry.as_ref().unwrap().path();
            path.extension()
                .is_some_and(|extension| extension == "frames")
        })
        .count()
}

/// A session of a few commands that is left open.
async fn some(recorder: &Arc<Recorder>, n: usize) -> crate::SessionRecorder {
    let mut session = recorder.begin(start(n)).unwrap();
    for _ in 0..3 {
        let permit = allowed(&mut session, "SELECT 1", Durability::Written).await;
        session.server(&[Part::from(&b"rows"[..])]).unwrap();
        session.outcome(outcome(permit.sequence())).unwrap();
    }
    session
}

fn uids(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| event.metadata.uid.clone())
        .collect()
}

/// Of each session the sequence is 1, 2, 3 …
fn assert_whole(events: &[Event]) {
    let mut next = std::collections::BTreeMap::new();
    for event in events {
        let next = next
            .entry(event.metadata.correlation_uid.clone())
            .or_insert(0);
        *next += 1;
        assert_eq!(event.metadata.sequence, *next, "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_told_once_and_then_its_copy_goes() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = attach(dir.path());
    // Nobody is told of what began before.
    some(&recorder, 9).await.end(closed()).await.unwrap();
    shipped(&recorder).await;
    assert!(!dir.path().join(FOLDER).exists(), "no sink, no copy");
    let exports = sinks(&recorder, &["a", "b"]);
    for n in 1..4 {
        some(&recorder, n).await.end(closed()).await.unwrap();
    }
    detach(&recorder).await;
    let mut a = Feed::open(&exports, "a");
    let told = all(&mut a, 2);
    assert_whole(&told);
    // A start, three commands and an end each.
    assert_eq!(told.len(), 3 * 5);
    let distinct: BTreeSet<_> = uids(&told).into_iter().collect();
    assert_eq!(distinct.len(), told.len());
    assert!(copies(dir.path()) > 0, "b was not told");
    let mut b = Feed::open(&exports, "b");
    assert_eq!(uids(&all(&mut b, 100)), uids(&told));
    assert_eq!(copies(dir.path()), 0);
    assert_eq!((a.missing(), b.missing(), exports.left_out()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_done_comes_again_in_the_next_life_the_same() {
    for done in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let recorder = attach(dir.path());
        let exports = sinks(&recorder, &["a"]);
        let open = some(&recorder, 1).await;
        some(&recorder, 2).await.end(closed()).await.unwrap();
        shipped(&recorder).await;
        let mut feed = Feed::open(&exports, "a");
        let mut told = Vec::new();
        for _ in 0..done {
            told.extend(feed.next(1).unwrap());
            feed.done().unwrap();
        }
        // Read, and gone with the process.
        let lost = feed.next(100).unwrap();
        // A command that only the spool has, and a crash.
        let mut open = open;
        let _ = allowed(&mut open, "SELECT 2", Durability::Written).await;
        let crashed = tempfile::tempdir().unwrap();
        copy(dir.path(), crashed.path());
        let recorder = attach(crashed.path());
        let exports = sinks(&recorder, &["a"]);
        let mut feed = Feed::open(&exports, "a");
        let again = all(&mut feed, 3);
        assert_eq!(uids(&lost), uids(&again[..lost.len()]), "after {done}");
        told.extend(again);
        assert_whole(&told);
        // 4 and 5, and the command whose outcome nobody knows.
        assert_eq!(told.len(), 10, "after {done}");
        assert_eq!(feed.missing(), 0);
        detach(&recorder).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_bound_evidence_goes_on_and_the_gap_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let small = SpoolOptions {
        export_bytes: 1200,
        ..options()
    };
    let recorder = attach_on(dir.path(), Arc::new(RealDisk), small);
    let exports = sinks(&recorder, &["a"]);
    let mut session = some(&recorder, 1).await;
    for _ in 0..20 {
        let permit = allowed(&mut session, "SELECT 1", Durability::Written).await;
        session.outcome(outcome(permit.sequence())).unwrap();
        shipped(&recorder).await;
    }
    assert!(exports.left_out() > 0);
    assert!(exports.unsent_bytes() <= 1200);
    let mut feed = Feed::open(&exports, "a");
    let mut told = all(&mut feed, 5);
    // There is room again.
    session.end(closed()).await.unwrap();
    detach(&recorder).await;
    told.extend(all(&mut feed, 5));
    assert_eq!(feed.missing(), exports.left_out());
    let gap = told
        .iter()
        .position(|event| event.metadata.event_code == "ExportGap")
        .unwrap();
    assert!(told[gap].metadata.sequence > told[gap - 1].metadata.sequence + 1);
    assert_whole(&told[..gap]);
    assert_eq!(told.last().unwrap().activity_name, "Disconnect");
    assert_ok(dir.path());
}
