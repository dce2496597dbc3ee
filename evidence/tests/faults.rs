//! Disks that err, stall, fill up and forget: nothing is let through, nothing is lost unmarked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use chaperone_evidence::disk::{Disk, NewFile, RealDisk, SpoolFile};
use chaperone_evidence::*;
use chaperone_policy::{Durability, Reason, Verdict};
use support::*;

/// A real disk with switches.
#[derive(Default)]
struct Faults {
    fail_write: AtomicBool,
    fail_sync: AtomicBool,
    fail_segments: AtomicBool,
    /// Milliseconds that a segment takes.
    slow_segments: AtomicU64,
    stall_sync: Mutex<bool>,
    released: Condvar,
    syncs_tried: AtomicUsize,
    /// What each spool file would hold after a power cut, by path.
    synced: Mutex<Vec<(PathBuf, Vec<u8>)>>,
}

impl Faults {
    fn stall(&self, on: bool) {
        *self.stall_sync.lock().unwrap() = on;
        self.released.notify_all();
    }
}

struct FaultDisk(Arc<Faults>);

struct FaultSpool {
    faults: Arc<Faults>,
    real: Arc<dyn SpoolFile>,
    path: PathBuf,
    len: usize,
}

impl SpoolFile for FaultSpool {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.faults.fail_write.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.real.write_at(bytes, offset)
    }
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.real.read_at(out, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.faults.syncs_tried.fetch_add(1, Ordering::SeqCst);
        let mut stalled = self.faults.stall_sync.lock().unwrap();
        while *stalled {
            stalled = self.faults.released.wait(stalled).unwrap();
        }
        if self.faults.fail_sync.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let mut image = vec![0; self.len];
        self.real.read_at(&mut image, 0)?;
        let mut synced = self.faults.synced.lock().unwrap();
        synced.retain(|(path, _)| *path != self.path);
        synced.push((self.path.clone(), image));
        Ok(())
    }
}

impl Disk for FaultDisk {
    fn create_spool(&self, path: &Path, len: u64) -> io::Result<Arc<dyn SpoolFile>> {
        let real = RealDisk.create_spool(path, len)?;
        self.0
            .synced
            .lock()
            .unwrap()
            .push((path.to_owned(), vec![0; len as usize]));
        Ok(Arc::new(FaultSpool {
            faults: self.0.clone(),
            real,
            path: path.to_owned(),
            len: len as usize,
        }))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        if self.0.fail_segments.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(28));
        }
        let slow = self.0.slow_segments.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(slow));
        RealDisk.create(path)
    }
}

struct Rig {
    dir: tempfile::TempDir,
    faults: Arc<Faults>,
    recorder: Arc<Recorder>,
}

fn rig(deadline: Duration) -> Rig {
    rig_with(SpoolOptions {
        deadline,
        ..options()
    })
}

fn rig_with(options: SpoolOptions) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let recorder = attach_on(dir.path(), Arc::new(FaultDisk(faults.clone())), options);
    Rig {
        dir,
        faults,
        recorder,
    }
}

async fn select(
    session: &mut SessionRecorder,
    durability: Durability,
) -> Result<Permit, RecordError> {
    session
        .intent(
            &intent(Verdict::Allow, "SELECT 1"),
            &[Part::from(&b"Q"[..])],
            durability,
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_kills_the_spool_and_gives_no_permit() {
    let rig = rig(Duration::from_secs(5));
    let mut session = rig.recorder.begin(start(1)).unwrap();
    let _ = select(&mut session, Durability::Written).await.unwrap();
    rig.faults.fail_write.store(true, Ordering::SeqCst);
    let error = select(&mut session, Durability::Written).await.unwrap_err();
    assert!(matches!(error, RecordError::Dead(_)));
    assert_eq!(error.reason(), Reason::CannotRecord);
    assert!(!rig.recorder.healthy());
    // The disk is well again; the spool is not.
    rig.faults.fail_write.store(false, Ordering::SeqCst);
    let began = Instant::now();
    assert!(matches!(
        select(&mut session, Durability::Written).await,
        Err(RecordError::Dead(_))
    ));
    assert!(rig.recorder.begin(start(2)).is_err());
    assert!(began.elapsed() < Duration::from_secs(1), "refused at once");
    assert!(session.end(closed()).await.is_err());
    assert_ok(rig.dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_fdatasync_is_never_tried_again() {
    let rig = rig(Duration::from_secs(5));
    let mut session = rig.recorder.begin(start(1)).unwrap();
    rig.faults.fail_sync.store(true, Ordering::SeqCst);
    assert!(matches!(
        select(&mut session, Durability::Synced).await,
        Err(RecordError::Dead(_))
    ));
    let tried = rig.faults.syncs_tried.load(Ordering::SeqCst);
    rig.faults.fail_sync.store(false, Ordering::SeqCst);
    assert!(select(&mut session, Durability::Synced).await.is_err());
    assert!(select(&mut session, Durability::Written).await.is_err());
    assert_eq!(rig.faults.syncs_tried.load(Ordering::SeqCst), tried);
    assert!(!rig.recorder.healthy());
}

fn staged(session: &mut SessionRecorder, command: &str, durability: Durability) -> Staged {
    let client = [Part::from(&b"Q"[..])];
    session
        .stage(&intent(Verdict::Allow, command), &client, durability)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_synced_once_and_is_durable_before_its_permits() {
    let rig = rig(Duration::from_secs(5));
    let mut session = rig.recorder.begin(start(1)).unwrap();
    let _ = select(&mut session, Durability::Synced).await.unwrap();
    let before = rig.faults.syncs_tried.load(Ordering::SeqCst);
    let pipeline: Vec<Staged> = (0..50)
        .map(|n| staged(&mut session, &format!("INSERT {n}"), Durability::Synced))
        .collect();
    let intents: Vec<u64> = pipeline.iter().map(Staged::sequence).collect();
    let permits = session.permits(pipeline).await.unwrap();
    assert_eq!(
        permits.iter().map(Permit::sequence).collect::<Vec<_>>(),
        intents
    );
    assert_eq!(rig.faults.syncs_tried.load(Ordering::SeqCst), before + 1);
    let synced = rig.faults.synced.lock().unwrap();
    let last = b"INSERT 49";
    assert!(
        synced
            .iter()
            .any(|(_, image)| image.windows(last.len()).any(|at| at == last)),
        "what got a permit was on the disk"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_cannot_be_kept_gets_no_permit_at_all() {
    let rig = rig(Duration::from_millis(300));
    let mut session = rig.recorder.begin(start(1)).unwrap();
    rig.faults.stall(true);
    // One that asks for more holds up those before it.
    let pipeline = vec![
        staged(&mut session, "SELECT 1", Durability::Written),
        staged(&mut session, "INSERT 1", Durability::Synced),
        staged(&mut session, "SELECT 2", Durability::Written),
    ];
    assert!(matches!(
        session.permits(pipeline).await,
        Err(RecordError::Timeout(_))
    ));
    rig.faults.stall(false);
    until("the sync", || rig.recorder.healthy());
    // One session's commands are nothing to another.
    let mut other = rig.recorder.begin(start(2)).unwrap();
    let foreign = staged(&mut other, "SELECT 3", Durability::Written);
    assert!(matches!(
        session.permits(vec![foreign]).await,
        Err(RecordError::NotAllowed)
    ));
    session.end(closed()).await.unwrap();
    other.end(closed()).await.unwrap();
    detach(&rig.recorder).await;
    let sessions = Sessions::list(rig.dir.path()).unwrap();
    let not = show(rig.dir.path(), &sessions[0].id).unwrap().filter(|shown| {
        matches!(&shown.as_ref().unwrap().record, Record::Outcome(o) if o.status == OutcomeStatus::NotForwarded)
    });
    assert_eq!(not.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_fdatasync_times_out_then_refuses_at_once_then_recovers() {
    let rig = rig(Duration::from_millis(300));
    let mut session = rig.recorder.begin(start(1)).unwrap();
    rig.faults.stall(true);
    assert!(matches!(
        select(&mut session, Durability::Synced).await,
        Err(RecordError::Timeout(_))
    ));
    assert!(!rig.recorder.healthy());
    let began = Instant::now();
    assert_eq!(
        select(&mut session, Durability::Synced).await.unwrap_err(),
        RecordError::Stalled
    );
    assert!(began.elapsed() < Duration::from_millis(200));
    // Reads do not wait for the disk.
    let _ = select(&mut session, Durability::Written).await.unwrap();
    rig.faults.stall(false);
    until("the sync", || rig.recorder.healthy());
    let _ = select(&mut session, Durability::Synced).await.unwrap();
    session.end(closed()).await.unwrap();
    detach(&rig.recorder).await;
    assert_ok(rig.dir.path());
    // The intent that got no permit says that it was not forwarded.
    let id = Sessions::list(rig.dir.path()).unwrap()[0].id;
    let not = show(rig.dir.path(), &id).unwrap().filter(|shown| {
        matches!(&shown.as_ref().unwrap().record, Record::Outcome(o) if o.status == OutcomeStatus::NotForwarded)
    });
    assert_eq!(not.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_holds_back_then_refuses_and_loses_nothing_unmarked() {
    let rig = rig(Duration::from_millis(300));
    rig.faults.fail_segments.store(true, Ordering::SeqCst);
    let mut session = rig.recorder.begin(start(1)).unwrap();
    let mut other = rig.recorder.begin(start(2)).unwrap();
    let _ = select(&mut other, Durability::Written).await.unwrap();
    let piece = vec![b'x'; 30_000];
    let error = loop {
        session.server(&[Part::from(&piece[..])]).unwrap();
        if let Err(error) = session.flush().await {
            break error;
        }
    };
    assert_eq!(error, RecordError::Full);
    assert!(!rig.recorder.healthy());
    assert!(select(&mut other, Durability::Written).await.is_err());
    // Sessions can still be closed, with a Gap for what did not fit.
    session.server(&[Part::from(&piece[..])]).unwrap();
    session.end(closed()).await.unwrap();
    // There is room again: what waits goes on.
    rig.faults.fail_segments.store(false, Ordering::SeqCst);
    until("room in the spool", || rig.recorder.healthy());
    let _ = select(&mut other, Durability::Synced).await.unwrap();
    other.end(closed()).await.unwrap();
    detach(&rig.recorder).await;
    let report = assert_ok(rig.dir.path());
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.detail.contains("could not be kept")),
        "{:?}",
        report.notes
    );
    assert!(rig.recorder.stats().ship_failures > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn backpressure_waits_for_the_shipper() {
    let rig = rig(Duration::from_secs(20));
    rig.faults.fail_segments.store(true, Ordering::SeqCst);
    let mut session = rig.recorder.begin(start(1)).unwrap();
    let writing = tokio::spawn(async move {
        let piece = vec![b'x'; 30_000];
        for _ in 0..60 {
            session.server(&[Part::from(&piece[..])]).unwrap();
            session.flush().await.unwrap();
        }
        session.end(closed()).await.unwrap();
    });
    until("the spool to fill", || {
        let stats = rig.recorder.stats();
        stats.spool_free > 0 && stats.spool_free < 100_000 && stats.ship_failures > 1
    });
    assert!(!writing.is_finished());
    rig.faults.fail_segments.store(false, Ordering::SeqCst);
    writing.await.unwrap();
    detach(&rig.recorder).await;
    assert!(assert_ok(rig.dir.path()).bytes > 1_800_000);
}

/// A file of the spool takes longer to be emptied than anybody waits for a record; a stream goes on
/// while it is being emptied, and commands are refused meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_faster_than_its_evidence_waits_for_it() {
    let rig = rig_with(SpoolOptions {
        deadline: Duration::from_secs(1),
        // Of which a segment takes half a file.
        file_bytes: 2 * 1024 * 1024,
        replicate: true,
        ..options()
    });
    rig.faults.slow_segments.store(700, Ordering::SeqCst);
    let mut session = rig.recorder.begin(start(1)).unwrap();
    let mut waited = Duration::ZERO;
    let piece = vec![b'x'; 100_000];
    for _ in 0..80 {
        session.server(&[Part::from(&piece[..])]).unwrap();
        let began = Instant::now();
        session.flush().await.unwrap();
        waited = waited.max(began.elapsed());
    }
    assert!(waited > Duration::from_secs(1), "{waited:?}");
    rig.faults.slow_segments.store(0, Ordering::SeqCst);
    session.end(closed()).await.unwrap();
    detach(&rig.recorder).await;
    assert!(assert_ok(rig.dir.path()).bytes > 8_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn synced_intents_survive_a_power_cut() {
    for unsynced in [0, 1, 5] {
        let rig = rig(Duration::from_secs(5));
        // Nothing is shipped: the spool is all there is.
        rig.faults.fail_segments.store(true, Ordering::SeqCst);
        let mut session = rig.recorder.begin(start(1)).unwrap();
        for _ in 0..7 {
            let permit = select(&mut session, Durability::Synced).await.unwrap();
            session.outcome(outcome(permit.sequence())).unwrap();
        }
        for _ in 0..unsynced {
            let _ = select(&mut session, Durability::Written).await.unwrap();
        }
        let images = rig.faults.synced.lock().unwrap().clone();
        let dir = tempfile::tempdir().unwrap();
        copy(rig.dir.path(), dir.path());
        for (path, image) in images {
            let relative = path.strip_prefix(rig.dir.path()).unwrap();
            std::fs::write(dir.path().join(relative), image).unwrap();
        }
        assert_ok(dir.path());
        let recorder = attach(dir.path());
        detach(&recorder).await;
        assert_ok(dir.path());
        let listed = Sessions::list(dir.path()).unwrap();
        assert_eq!(listed[0].allowed, 7);
        assert_eq!(listed[0].state, State::Recovered);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tally_of_the_next_life_tells_how_cut_sessions_came_out() {
    let rig = rig(Duration::from_secs(5));
    let mut sessions = Vec::new();
    for n in 1..=3 {
        let mut session = rig.recorder.begin(start(n)).unwrap();
        let _ = select(&mut session, Durability::Written).await.unwrap();
        sessions.push(session);
    }
    shipped(&rig.recorder).await;
    rig.faults.fail_segments.store(true, Ordering::SeqCst);
    let [mut goes_on, ends, silent] = <[_; 3]>::try_from(sessions).ok().unwrap();
    let _ = select(&mut goes_on, Durability::Synced).await.unwrap();
    let ended = ends.id().to_string();
    ends.end(closed()).await.unwrap();
    let mut late = rig.recorder.begin(start(4)).unwrap();
    let _ = select(&mut late, Durability::Synced).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    copy(rig.dir.path(), dir.path());

    // What was shipped then was sent then.
    let mut outbox = Outbox::open(dir.path()).unwrap();
    while let Some(sent) = outbox.unsent().unwrap() {
        assert_eq!(Tally::default().take(&sent.bytes).recovered, None);
        outbox.acknowledge(sent.number).unwrap();
    }
    let recorder = attach(dir.path());
    let first = Outbox::open(dir.path()).unwrap().unsent().unwrap().unwrap();
    let told = Tally::default().take(&first.bytes);
    let tails = told.recovered.unwrap();
    let tail = |id: &str| tails.iter().find(|tail| tail.id.to_string() == id);
    assert_eq!(tail(goes_on.id()).unwrap().end, "");
    assert_eq!(tail(&ended).unwrap().end, "ClientClosed");
    assert_eq!(tail(silent.id()), None);
    // Of one that is there from its start, all is told.
    assert_eq!((tails.len(), told.sessions.len()), (2, 1));
    let whole = &told.sessions[0];
    assert_eq!(whole.id.to_string(), late.id().to_string());
    assert_eq!((whole.state, whole.allowed), (State::Recovered, 1));
    detach(&recorder).await;
    assert_ok(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_write_is_found_and_bounded() {
    let rig = rig(Duration::from_secs(5));
    rig.faults.fail_segments.store(true, Ordering::SeqCst);
    let mut session = rig.recorder.begin(start(1)).unwrap();
    for _ in 0..3 {
        let _ = select(&mut session, Durability::Synced).await.unwrap();
    }
    let file = rig.dir.path().join("spool/00");
    let whole = std::fs::read(&file).unwrap();
    let used = whole.iter().rposition(|&b| b != 0).unwrap() + 1;
    let mut seen = std::collections::BTreeSet::new();
    for cut in (0..used).step_by(37) {
        let dir = tempfile::tempdir().unwrap();
        copy(rig.dir.path(), dir.path());
        let mut bytes = whole.clone();
        // A write that did not get through, in one way or the other.
        bytes[cut..].fill(0);
        std::fs::write(dir.path().join("spool/00"), bytes).unwrap();
        if cut < 32 {
            continue; // no sidecar began a batch before its file's header was whole
        }
        assert_ok(dir.path());
        let recorder = attach(dir.path());
        detach(&recorder).await;
        let report = assert_ok(dir.path());
        seen.insert(
            Sessions::list(dir.path())
                .unwrap()
                .first()
                .map_or(0, |s| s.allowed),
        );
        assert!(report.attaches.len() == 2);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_in_a_spool_is_named_before_and_after_recovery() {
    let rig = rig(Duration::from_secs(5));
    rig.faults.fail_segments.store(true, Ordering::SeqCst);
    let mut session = rig.recorder.begin(start(1)).unwrap();
    for _ in 0..2 {
        let _ = select(&mut session, Durability::Synced).await.unwrap();
    }
    let whole = std::fs::read(rig.dir.path().join("spool/00")).unwrap();
    let used = whole.iter().rposition(|&b| b != 0).unwrap() + 1;
    let dir = tempfile::tempdir().unwrap();
    copy(rig.dir.path(), dir.path());
    for at in 0..used {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(dir.path().join("spool/00"), bytes).unwrap();
        let report = check(dir.path());
        let named = report.notes.iter().any(|note| note.file.is_some());
        assert!(named || !report.ok(), "byte {at} goes unnoticed");
    }
    let mut bytes = whole.clone();
    bytes[used - 1] ^= 1;
    std::fs::write(dir.path().join("spool/00"), bytes).unwrap();
    let recorder = attach(dir.path());
    detach(&recorder).await;
    let report = assert_ok(dir.path());
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.detail.contains("could not recover spool/00"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_back_breaks_nothing() {
    struct Stepping(AtomicUsize);
    impl clock::Clock for Stepping {
        fn wall_ns(&self) -> u64 {
            let n = self.0.fetch_add(1, Ordering::SeqCst) as u64;
            if n.is_multiple_of(3) {
                5
            } else {
                1_000_000_000 * n
            }
        }
        fn monotonic_ns(&self) -> u64 {
            7
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let environment = clock::Environment {
        clock: Arc::new(Stepping(AtomicUsize::new(0))),
        ..clock::Environment::system()
    };
    let store = Store::open_with(dir.path(), environment).unwrap();
    let recorder = store.attach(identity(), options()).unwrap();
    full_session(&recorder, 1).await;
    detach(&recorder).await;
    assert_ok(dir.path());
}

/// A disk that fails from its nth operation on, as a process that is killed there would leave it.
struct CutOff {
    left: Arc<AtomicUsize>,
}

fn step(left: &AtomicUsize) -> io::Result<()> {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
        left.checked_sub(1)
    })
    .map(drop)
    .map_err(|_| io::Error::other("killed here"))
}

struct CutOffFile {
    left: Arc<AtomicUsize>,
    real: Box<dyn NewFile>,
}

impl NewFile for CutOffFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        step(&self.left)?;
        self.real.write_all(bytes)
    }
    fn publish(self: Box<Self>) -> io::Result<()> {
        step(&self.left)?;
        self.real.publish()?;
        step(&self.left)
    }
}

impl Disk for CutOff {
    fn create_spool(&self, path: &Path, len: u64) -> io::Result<Arc<dyn SpoolFile>> {
        step(&self.left)?;
        RealDisk.create_spool(path, len)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        step(&self.left)?;
        Ok(Box::new(CutOffFile {
            left: self.left.clone(),
            real: RealDisk.create(path)?,
        }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attach_cut_off_at_any_step_loses_nothing() {
    let rig = rig(Duration::from_secs(5));
    rig.faults.fail_segments.store(true, Ordering::SeqCst);
    for n in 0..3 {
        let mut session = rig.recorder.begin(start(n)).unwrap();
        let _ = select(&mut session, Durability::Written).await.unwrap();
        session.end(closed()).await.unwrap();
    }
    let mut open = rig.recorder.begin(start(9)).unwrap();
    let _ = select(&mut open, Durability::Written).await.unwrap();
    for steps in 0.. {
        let dir = tempfile::tempdir().unwrap();
        copy(rig.dir.path(), dir.path());
        let disk = Arc::new(CutOff {
            left: Arc::new(AtomicUsize::new(steps)),
        });
        let environment = clock::Environment {
            disk,
            ..clock::Environment::system()
        };
        let first = Store::open_with(dir.path(), environment)
            .and_then(|store| store.attach(identity(), options()));
        let attached = first.is_ok();
        drop(first);
        assert_ok(dir.path());
        for attaches in 0..2 {
            let recorder = attach(dir.path());
            detach(&recorder).await;
            drop(recorder);
            assert_ok(dir.path());
            let listed = Sessions::list(dir.path()).unwrap();
            assert_eq!(listed.len(), 4, "cut at step {steps}, attach {attaches}");
            assert!(listed.iter().all(|session| session.allowed == 1));
            assert_eq!(listed[3].state, State::Recovered);
        }
        // Every step was cut once.
        if attached {
            assert!(steps > 10);
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_store_cut_off_at_any_step_opens_again() {
    for steps in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(CutOff {
            left: Arc::new(AtomicUsize::new(steps)),
        });
        let environment = clock::Environment {
            disk,
            ..clock::Environment::system()
        };
        drop(
            Store::open_with(dir.path(), environment).and_then(|s| s.attach(identity(), options())),
        );
        let recorder = attach(dir.path());
        full_session(&recorder, 1).await;
        detach(&recorder).await;
        let report = assert_ok(dir.path());
        assert_eq!(report.sessions, 1);
    }
}
