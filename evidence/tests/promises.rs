//! The promises about faults (evidence.md, "Faults to prove"), and where each is kept.
//!
//! | fault | on the spool and the log | on the real thing |
//! |---|---|---|
//! | kill -9 at every step | [`nothing_runs_without_an_intent`], `crash.rs`, `faults.rs::an_attach_cut_off_at_any_step_loses_nothing` | e2e `evidence.rs::killed_at_every_step`, `cluster_evidence.rs::sidecar_killed_mid_session_recovers_its_spool`, `sinks.rs::every_sink_gets_every_record_at_least_once` |
//! | power cut | [`nothing_is_lost_unmarked`], `faults.rs::synced_intents_survive_a_power_cut`, `…::a_torn_write_is_found_and_bounded` | simulated only: what was not synced is dropped |
//! | ENOSPC, EIO, a disk that stalls | `faults.rs::a_failed_write_…`, `…::a_failed_fdatasync_is_never_tried_again`, `…::a_full_spool_…`, `…::a_stalled_fdatasync_…` | e2e `evidence.rs::nothing_without_a_record`, `…::nothing_through_a_stall` (a preloaded library fails the system calls) |
//! | operator down, slow, restarted | `replication.rs::without_an_acknowledgement_…` | `cluster_outage.rs`, `cluster_kills.rs::operator_restart_and_leader_change_lose_nothing` |
//! | two leaders | – | operator `tests/cluster/audit.rs::two_leaders_cannot_fork_the_log` |
//! | API server refuses writes | `replication.rs::without_an_acknowledgement_…` | operator `tests/cluster/audit.rs::a_full_quota_refuses_and_recovers`, `cluster_outage.rs::an_api_server_that_refuses_evidence_…` |
//! | place for packs down, slow, saying no; a leader lost while it packs | – | operator `tests/places.rs`, `tests/cluster/packs.rs`; `cluster_seal.rs::what_is_packed_is_found_again_…` |
//! | run or segment altered, dropped, repeated, reordered, swapped; wrong key | `verify::tests` (`verify_names_the_first_break` and those beside it) | e2e `evidence.rs::a_changed_byte_…`, `cluster_uninstall.rs::a_segment_altered_by_a_cluster_admin_is_named_by_verify`, `independent_verifier.rs` |
//! | forged session from another pod | `audit::tests` | operator `tests/cluster/audit.rs::a_pod_hands_in_only_its_own`; `cluster_admission/evidence.rs` |
//! | clock steps | `faults.rs::a_clock_that_steps_back_breaks_nothing` | – |
//! | receivers of events gone, slow, saying no | `export::tests` | e2e `sinks.rs` |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chaperone_evidence::disk::{Disk, NewFile, RealDisk, SpoolFile};
use chaperone_evidence::*;
use chaperone_policy::Durability;
use support::*;

/// A machine that stops at its nth operation on the disk: that one is done by half or not at all, and
/// nothing after it is done.
struct Machine {
    left: AtomicUsize,
    /// What the disk has of each spool file once the power is gone.
    synced: Mutex<BTreeMap<PathBuf, Vec<u8>>>,
}

impl Machine {
    fn step(&self) -> io::Result<()> {
        let left = |left: usize| left.checked_sub(1);
        let stepped = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
        stepped.map(drop).map_err(|_| io::Error::other("stopped"))
    }

    fn stopped(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }
}

struct Parts(Arc<Machine>);

struct Spool {
    machine: Arc<Machine>,
    real: Arc<dyn SpoolFile>,
    path: PathBuf,
    len: usize,
}

impl SpoolFile for Spool {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let before = self.machine.stopped();
        match self.machine.step() {
            Ok(()) => self.real.write_at(bytes, offset),
            Err(error) => {
                if !before {
                    self.real.write_at(&bytes[..bytes.len() / 2], offset)?;
                }
                Err(error)
            }
        }
    }
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.real.read_at(out, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.machine.step()?;
        let mut image = vec![0; self.len];
        self.real.read_at(&mut image, 0)?;
        self.machine
            .synced
            .lock()
            .unwrap()
            .insert(self.path.clone(), image);
        Ok(())
    }
}

struct New {
    machine: Arc<Machine>,
    real: Box<dyn NewFile>,
}

impl NewFile for New {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.machine.step()?;
        self.real.write_all(bytes)
    }
    fn publish(self: Box<Self>) -> io::Result<()> {
        self.machine.step()?;
        self.real.publish()?;
        // Whole and named, and nobody heard of it.
        self.machine.step()
    }
}

impl Disk for Parts {
    fn create_spool(&self, path: &Path, len: u64) -> io::Result<Arc<dyn SpoolFile>> {
        self.0.step()?;
        let real = RealDisk.create_spool(path, len)?;
        let len = usize::try_from(len).unwrap();
        let mut synced = self.0.synced.lock().unwrap();
        synced.insert(path.to_owned(), vec![0; len]);
        Ok(Arc::new(Spool {
            machine: Arc::clone(&self.0),
            real,
            path: path.to_owned(),
            len,
        }))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        self.0.step()?;
        Ok(Box::new(New {
            machine: Arc::clone(&self.0),
            real: RealDisk.create(path)?,
        }))
    }
}

/// What the session layer was told before the machine stopped.
#[derive(Default)]
struct Told {
    /// Permits: the moments when commands would be forwarded.
    permits: Vec<(String, u64, Durability)>,
    /// Sessions that were told that their end is recorded, and their commands.
    ended: BTreeMap<String, u64>,
}

async fn work(recorder: &Arc<Recorder>, told: &mut Told) -> Result<(), RecordError> {
    for n in 0..3 {
        let mut session = recorder.begin(start(n))?;
        let id = session.id().to_owned();
        for command in 0..4_u64 {
            let durability = match command % 2 {
                0 => Durability::Written,
                _ => Durability::Synced,
            };
            let asked = intent(chaperone_policy::Verdict::Allow, "SELECT 1");
            let bytes = vec![b'q'; 3000];
            let client = [Part::from(&bytes[..])];
            let permit = session.intent(&asked, &client, durability).await?;
            told.permits
                .push((id.clone(), permit.sequence(), durability));
            session.server(&[Part::from(&bytes[..])])?;
            session.outcome(outcome(permit.sequence()))?;
        }
        if n < 2 {
            session.end(closed()).await?;
            told.ended.insert(id, 4);
        } else {
            session.flush().await?;
        }
    }
    let _ = recorder.detach(Duration::from_millis(60)).await;
    Ok(())
}

/// A store whose machine stopped, as a killed process left it and as a power cut left it.
struct Stopped {
    told: Told,
    killed: tempfile::TempDir,
    dark: tempfile::TempDir,
    finished: bool,
}

async fn stopped_at(step: usize) -> Stopped {
    let dir = tempfile::tempdir().unwrap();
    // A store, a sink and its keys were there before.
    let recorder = attach(dir.path());
    let sinks = ["sink".to_owned()];
    recorder.exports().configure(&RealDisk, &sinks).unwrap();
    detach(&recorder).await;
    drop(recorder);
    let machine = Arc::new(Machine {
        left: AtomicUsize::new(step),
        synced: Mutex::default(),
    });
    let environment = clock::Environment {
        disk: Arc::new(Parts(Arc::clone(&machine))),
        ..clock::Environment::system()
    };
    let options = SpoolOptions {
        deadline: Duration::from_millis(300),
        ..options()
    };
    let mut told = Told::default();
    let attached = Store::open_with(dir.path(), environment)
        .and_then(|store| store.attach(identity(), options));
    if let Ok(recorder) = &attached {
        let _ = work(recorder, &mut told).await;
    }
    let finished = !machine.stopped();
    let (killed, dark) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    copy(dir.path(), killed.path());
    copy(dir.path(), dark.path());
    for (path, image) in machine.synced.lock().unwrap().iter() {
        let at = dark.path().join(path.strip_prefix(dir.path()).unwrap());
        // A detach removes its spool; a name that is gone is not synced, and may be back.
        std::fs::write(at, image).unwrap();
    }
    Stopped {
        told,
        killed,
        dark,
        finished,
    }
}

type Intents = BTreeSet<(String, u64)>;
type States = BTreeMap<String, (State, u64)>;

/// Intents by session, and how each session stands.
fn kept(dir: &Path) -> (Intents, States) {
    let mut intents = BTreeSet::new();
    let mut states = BTreeMap::new();
    for session in Sessions::list(dir).unwrap() {
        let id = session.id.to_string();
        for shown in show(dir, &session.id).unwrap().map(Result::unwrap) {
            if matches!(shown.record, Record::Intent(_)) {
                intents.insert((id.clone(), shown.sequence));
            }
        }
        states.insert(id, (session.state, session.allowed));
    }
    (intents, states)
}

/// The next life: it recovers, and what it says holds. Gives what its sink is told.
async fn next_life(dir: &Path) -> BTreeSet<String> {
    assert_ok(dir);
    let recorder = attach(dir);
    let exports = recorder.exports();
    detach(&recorder).await;
    let mut feed = Feed::open(&exports, "sink");
    let mut uids = BTreeSet::new();
    loop {
        let events = feed.next(100).unwrap();
        if events.is_empty() {
            break;
        }
        uids.extend(events.into_iter().map(|event| event.metadata.uid));
        feed.done().unwrap();
    }
    assert_eq!(feed.missing(), 0);
    assert_ok(dir);
    uids
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_runs_without_an_intent() {
    let mut some = 0;
    for step in 0.. {
        let stopped = stopped_at(step).await;
        for (dir, dark) in [(&stopped.killed, false), (&stopped.dark, true)] {
            let uids = next_life(dir.path()).await;
            let (intents, _) = kept(dir.path());
            for (session, sequence, durability) in &stopped.told.permits {
                // Written survives the process, and no more is promised of it.
                if dark && *durability == Durability::Written {
                    continue;
                }
                let there = intents.contains(&(session.clone(), *sequence));
                assert!(
                    there,
                    "stopped at {step}, dark: {dark}: {session}/{sequence}"
                );
                some += 1;
            }
            // What is in the evidence, the sink is told.
            for (session, sequence) in &intents {
                let told = uids.contains(&format!("{session}/{sequence}"));
                assert!(
                    told,
                    "stopped at {step}, dark: {dark}: {session}/{sequence}"
                );
            }
        }
        if stopped.finished {
            assert!(step > 40 && some > 200, "{step} steps, {some} permits");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_unmarked() {
    let mut cut = 0;
    for step in 0.. {
        let stopped = stopped_at(step).await;
        for dir in [&stopped.killed, &stopped.dark] {
            next_life(dir.path()).await;
            let (_, states) = kept(dir.path());
            for (session, commands) in &stopped.told.ended {
                // One that is said to have ended is whole; else it is marked, or its whole life was
                // never synced, and the machine's attach is marked.
                match states.get(session) {
                    Some((State::Ended, kept)) => assert_eq!(kept, commands, "at {step}"),
                    Some((State::Recovered | State::Interrupted, _)) => cut += 1,
                    Some((State::Open, _)) => panic!("{session} is open after a crash at {step}"),
                    None => panic!("{session} is gone, though it was synced, at {step}"),
                }
            }
            let report = check(dir.path());
            let lives = report.attaches.len();
            assert!(lives >= 2, "the life before and the next: {lives}");
        }
        if stopped.finished {
            assert!(cut > 0, "no stop cut a session");
            break;
        }
    }
}
