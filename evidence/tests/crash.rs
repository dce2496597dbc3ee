//! A sidecar that is killed: this binary runs itself as a child and kills it with SIGKILL.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use chaperone_evidence::*;
use chaperone_policy::{Durability, Verdict};
use support::*;

const CHILD: &str = "EVIDENCE_CRASH_DIR";

/// Not a test of its own: what the child does until it is killed. It prints `permit <session>
/// <sequence>` for each permit it gets, which is the moment a command would be forwarded.
#[test]
fn the_child() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let recorder = attach(&dir);
        for lane in 0..3 {
            let recorder = recorder.clone();
            tokio::spawn(async move { work(&recorder, lane).await });
        }
        std::future::pending::<()>().await;
    });
}

async fn work(recorder: &std::sync::Arc<Recorder>, lane: usize) {
    loop {
        let mut session = recorder.begin(start(lane)).unwrap();
        for n in 0..40usize {
            let durability = if n.is_multiple_of(4) {
                Durability::Synced
            } else {
                Durability::Written
            };
            let bytes = vec![b'q'; 200 * (n + 1)];
            let permit = session
                .intent(
                    &intent(Verdict::Allow, "SELECT 1"),
                    &[Part::from(&bytes[..])],
                    durability,
                )
                .await
                .unwrap();
            let line = format!("permit {} {}\n", permit.session(), permit.sequence());
            std::io::stdout().write_all(line.as_bytes()).unwrap();
            session.server(&[Part::from(&bytes[..])]).unwrap();
            session.outcome(outcome(permit.sequence())).unwrap();
        }
        session.end(closed()).await.unwrap();
    }
}

/// Runs the child until it has printed `permits` of them, kills it, and returns all it printed.
fn run_and_kill(dir: &Path, permits: usize) -> Vec<(String, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["the_child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    let mut killed = false;
    for line in &mut lines {
        let Ok(line) = line else { break };
        let words: Vec<&str> = line.split(' ').collect();
        if let ["permit", session, sequence] = words[..] {
            seen.push((session.to_owned(), sequence.parse().unwrap()));
        }
        if seen.len() >= permits && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself");
    seen
}

fn intents(dir: &Path) -> std::collections::BTreeSet<(String, u64)> {
    let mut out = std::collections::BTreeSet::new();
    for session in Sessions::list(dir).unwrap() {
        for shown in show(dir, &session.id).unwrap().map(Result::unwrap) {
            if matches!(shown.record, Record::Intent(_)) {
                out.insert((session.id.to_string(), shown.sequence));
            }
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_every_permit_has_its_intent() {
    let dir = tempfile::tempdir().unwrap();
    let mut permits = Vec::new();
    for round in 0..12 {
        permits.extend(run_and_kill(dir.path(), 1 + round * 23));
        // As the crash left it, and after the next attach has recovered it.
        let report = assert_ok(dir.path());
        assert!(
            !report
                .notes
                .iter()
                .any(|note| note.detail.contains("could not be kept"))
        );
        let there = intents(dir.path());
        let lost: Vec<_> = permits
            .iter()
            .filter(|permit| !there.contains(permit))
            .collect();
        assert!(lost.is_empty(), "round {round}: {lost:?}");
    }
    let recorder = attach(dir.path());
    detach(&recorder).await;
    let report = assert_ok(dir.path());
    assert_eq!((report.attaches.len(), report.unproven), (13, 0));
    let there = intents(dir.path());
    assert!(permits.iter().all(|permit| there.contains(permit)));
    let listed = Sessions::list(dir.path()).unwrap();
    assert!(listed.iter().all(|session| session.state != State::Open));
    assert!(
        listed
            .iter()
            .any(|session| session.state == State::Recovered)
    );
}
