//! The spool at work: appending under one lock, group commit on a thread of its own, and the
//! hand-over of what was appended to the shipper.
//!
//! ```text
//! session tasks ─lock, one write a batch─► spool files ─extents─► shipper ─► segments
//!        └─ wait ─► sync thread: one fdatasync for all who wait
//! ```
//! A write or fdatasync that fails is never tried again: what the page cache then holds is
//! unknown. The spool is dead from there on and every later record is refused.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use chaperone_policy::Durability;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::clock::Environment;
use crate::disk::SpoolFile;
use crate::error::{RecordError, StoreError};
use crate::export::Exports;
use crate::frame::{Hash, NO_HASH};
use crate::record::AttachId;
use crate::recorder::Stats;
use crate::replication::Replication;
use crate::spool::{self, Batch, FILE_HEADER};
use crate::store::SpoolOptions;

/// Most batches that wait without a session task behind them (starts, aborted sessions).
const MAX_QUEUED: usize = 8192;

/// Which part of the spool a record may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// All but the reserve.
    Normal,
    /// The reserve too: Gap and SessionEnd.
    Reserve,
}

/// A stretch of a spool file that holds batches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) index: usize,
    pub(crate) generation: u64,
    pub(crate) end: u64,
}

struct Slot {
    file: Arc<dyn SpoolFile>,
    dirty: AtomicBool,
}

struct Writer {
    index: usize,
    generation: u64,
    at: u64,
}

/// What begins sessions, in the order of their ordinals, and what ended without its task.
pub(crate) struct Intake {
    pub(crate) next_ordinal: u64,
    pub(crate) previous_start: Hash,
    queue: VecDeque<Batch>,
}

/// What the shipper is told.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) extents: VecDeque<Extent>,
    pub(crate) pending: u64,
    pub(crate) queued: bool,
    pub(crate) urgent: bool,
    pub(crate) detach: Option<oneshot::Sender<bool>>,
    pub(crate) stop: bool,
    /// Spool bytes that are in durable segments.
    shipped: u64,
}

#[derive(Default)]
struct SyncQueue {
    waiters: Vec<oneshot::Sender<Result<(), RecordError>>>,
    stop: bool,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) sessions: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) appended: AtomicU64,
    pub(crate) shipped: AtomicU64,
    syncs: AtomicU64,
    synced: AtomicU64,
    pub(crate) segments: AtomicU64,
    pub(crate) ship_failures: AtomicU64,
}

/// Shared by the recorder, its sessions and its two threads.
pub(crate) struct Engine {
    pub(crate) environment: Environment,
    pub(crate) options: SpoolOptions,
    pub(crate) attach: AttachId,
    slots: Vec<Slot>,
    writer: tokio::sync::Mutex<Writer>,
    free: Mutex<VecDeque<usize>>,
    free_bytes: AtomicU64,
    space: Notify,
    pub(crate) intake: Mutex<Intake>,
    progress: Mutex<Progress>,
    wake: Condvar,
    sync: Mutex<SyncQueue>,
    sync_wake: Condvar,
    dead: OnceLock<String>,
    write_stalled: AtomicBool,
    sync_stalled: AtomicBool,
    pub(crate) closed: AtomicBool,
    pub(crate) counters: Counters,
    /// Spool bytes appended so far.
    position: AtomicU64,
    pub(crate) replication: Replication,
    pub(crate) exports: Arc<Exports>,
}

/// A poisoned lock only means that another thread panicked; what it guards is always whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Makes the spool's files anew.
    pub(crate) fn create(
        dir: &Path,
        environment: Environment,
        options: SpoolOptions,
        attach: AttachId,
        exports: Exports,
    ) -> Result<Engine, StoreError> {
        let mut slots = Vec::new();
        for index in 0..options.files {
            let path = dir.join(spool::relative_path(index));
            let file = environment
                .disk
                .create_spool(&path, options.file_bytes)
                .map_err(|e| StoreError::io("allocate", &path, e))?;
            slots.push(Slot {
                file,
                dirty: AtomicBool::new(false),
            });
        }
        let engine = Engine {
            environment,
            attach,
            slots,
            writer: tokio::sync::Mutex::new(Writer {
                index: 0,
                generation: 1,
                at: FILE_HEADER as u64,
            }),
            free: Mutex::new((1..options.files).collect()),
            free_bytes: AtomicU64::new(0),
            space: Notify::new(),
            intake: Mutex::new(Intake {
                next_ordinal: 1,
                previous_start: NO_HASH,
                queue: VecDeque::new(),
            }),
            progress: Mutex::new(Progress::default()),
            wake: Condvar::new(),
            sync: Mutex::new(SyncQueue::default()),
            sync_wake: Condvar::new(),
            dead: OnceLock::new(),
            write_stalled: AtomicBool::new(false),
            sync_stalled: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            counters: Counters::default(),
            position: AtomicU64::new(0),
            replication: Replication::default(),
            exports: Arc::new(exports),
            options,
        };
        engine
            .begin_file(0, 1)
            .map_err(|e| StoreError::io("write", &dir.join(spool::relative_path(0)), e))?;
        Ok(engine)
    }

    fn begin_file(&self, index: usize, generation: u64) -> std::io::Result<()> {
        let slot = self
            .slots
            .get(index)
            .ok_or_else(|| std::io::Error::other("no such spool file"))?;
        slot.dirty.store(true, Ordering::Release);
        slot.file
            .write_at(&spool::file_header(generation, &self.attach), 0)?;
        let mut progress = lock(&self.progress);
        progress.extents.push_back(Extent {
            index,
            generation,
            end: FILE_HEADER as u64,
        });
        Ok(())
    }

    // ---- health ----

    pub(crate) fn healthy(&self) -> bool {
        self.dead.get().is_none()
            && !self.is_held_up()
            && !self.sync_stalled.load(Ordering::Acquire)
            && !self.closed.load(Ordering::Acquire)
    }

    /// What is served where `asked` is asked for.
    pub(crate) fn serves(&self, asked: Durability) -> Durability {
        if self.options.replicate {
            asked
        } else {
            asked.min(Durability::Synced)
        }
    }

    /// Whether a new command may be tried at all, to be recorded as `served`.
    pub(crate) fn ready(&self, served: Durability) -> Result<(), RecordError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(RecordError::Closed);
        }
        self.alive()?;
        if self.is_held_up()
            || (served >= Durability::Synced && self.sync_stalled.load(Ordering::Acquire))
            || (served >= Durability::Replicated && self.replication.stalled())
        {
            return Err(RecordError::Stalled);
        }
        Ok(())
    }

    /// Whether a write was waited for in vain and would be again.
    fn is_held_up(&self) -> bool {
        if !self.write_stalled.load(Ordering::Acquire) {
            return false;
        }
        // Whoever was waited for may have been done in the moment in which that was noted, and nobody
        // writes any more who could take it back.
        let free = self
            .writer
            .try_lock()
            .is_ok_and(|writer| self.room(&writer) > self.options.reserve + COMMAND);
        if free {
            self.write_stalled.store(false, Ordering::Release);
        }
        !free
    }

    fn alive(&self) -> Result<(), RecordError> {
        match self.dead.get() {
            Some(why) => Err(RecordError::Dead(why.clone())),
            None => Ok(()),
        }
    }

    fn die(&self, doing: &str, error: &std::io::Error) -> RecordError {
        let why = format!("cannot {doing}: {error}");
        if self.dead.set(why.clone()).is_ok() {
            tracing::error!(%why, "the evidence spool failed; every command is refused from here on");
        }
        self.space.notify_waiters();
        RecordError::Dead(why)
    }

    // ---- appending ----

    /// Appends batches in order, those that wait in the intake first. Batches that are written
    /// leave the queue, so after an error it holds exactly what is not written.
    pub(crate) async fn write(
        &self,
        batches: &mut VecDeque<Batch>,
        deadline: Instant,
        room: Room,
    ) -> Result<(), RecordError> {
        loop {
            let mut space = std::pin::pin!(self.space.notified());
            space.as_mut().enable();
            let result = {
                let mut writer = match self.writer.try_lock() {
                    Ok(writer) => writer,
                    Err(_) => match timeout_at(deadline, self.writer.lock()).await {
                        Ok(writer) => writer,
                        Err(_) => {
                            self.write_stalled.store(true, Ordering::Release);
                            return Err(RecordError::Timeout(self.options.deadline.as_secs()));
                        }
                    },
                };
                self.append_all(&mut writer, batches, room)
            };
            match result {
                Err(RecordError::Full) if room == Room::Normal => {
                    self.hurry();
                    if timeout_at(deadline, space).await.is_err() {
                        self.write_stalled.store(true, Ordering::Release);
                        return Err(RecordError::Full);
                    }
                }
                other => return other,
            }
        }
    }

    /// The same without waiting for whoever is writing.
    pub(crate) fn write_if_free(&self, batches: &mut VecDeque<Batch>) -> Result<(), RecordError> {
        match self.writer.try_lock() {
            Ok(mut writer) => self.append_all(&mut writer, batches, Room::Normal),
            Err(_) => Ok(()),
        }
    }

    /// Appends what waits in the intake; for the shipper's thread.
    pub(crate) fn write_queued(&self) {
        let mut writer = self.writer.blocking_lock();
        let _ = self.append_all(&mut writer, &mut VecDeque::new(), Room::Normal);
    }

    fn append_all(
        &self,
        writer: &mut Writer,
        batches: &mut VecDeque<Batch>,
        room: Room,
    ) -> Result<(), RecordError> {
        self.alive()?;
        if self.closed.load(Ordering::Acquire) {
            return Err(RecordError::Closed);
        }
        loop {
            // Popped under the intake's lock, written outside it: begin() never waits for a disk.
            let Some(mut batch) = lock(&self.intake).queue.pop_front() else {
                break;
            };
            if let Err(error) = self.append(writer, &mut batch, room) {
                lock(&self.intake).queue.push_front(batch);
                return Err(error);
            }
        }
        while let Some(batch) = batches.front_mut() {
            self.append(writer, batch, room)?;
            batches.pop_front();
        }
        self.write_stalled.store(false, Ordering::Release);
        Ok(())
    }

    fn append(
        &self,
        writer: &mut Writer,
        batch: &mut Batch,
        room: Room,
    ) -> Result<(), RecordError> {
        let len = batch.bytes.len() as u64;
        let file_bytes = self.options.file_bytes;
        if len + FILE_HEADER as u64 > file_bytes {
            return Err(RecordError::TooLarge);
        }
        let free = self.room(writer);
        if room == Room::Normal && free < len.saturating_add(self.options.reserve) {
            return Err(RecordError::Full);
        }
        if writer.at + len > file_bytes {
            let index = lock(&self.free).pop_front().ok_or(RecordError::Full)?;
            writer.generation += 1;
            self.begin_file(index, writer.generation)
                .map_err(|e| self.die("write the spool", &e))?;
            writer.index = index;
            writer.at = FILE_HEADER as u64;
        }
        batch.seal(writer.generation);
        let slot = self.slots.get(writer.index).ok_or(RecordError::Closed)?;
        // Marked before the write: a sync that starts in between then syncs once too often,
        // never once too few.
        slot.dirty.store(true, Ordering::Release);
        slot.file
            .write_at(&batch.bytes, writer.at)
            .map_err(|e| self.die("write the spool", &e))?;
        slot.dirty.store(true, Ordering::Release);
        writer.at += len;
        self.position.fetch_add(len, Ordering::AcqRel);
        self.free_bytes
            .store(free.saturating_sub(len), Ordering::Relaxed);
        self.counters
            .appended
            .fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.tell_shipper(writer, len);
        Ok(())
    }

    /// Bytes that the spool still takes.
    fn room(&self, writer: &Writer) -> u64 {
        let file_bytes = self.options.file_bytes;
        let files = lock(&self.free).len() as u64;
        (file_bytes - writer.at) + files * (file_bytes - FILE_HEADER as u64)
    }

    fn tell_shipper(&self, writer: &Writer, len: u64) {
        let mut progress = lock(&self.progress);
        if let Some(extent) = progress.extents.back_mut() {
            extent.end = writer.at;
        }
        let before = progress.pending;
        progress.pending += len;
        // Woken when there is something at all, and again when there is a segment's worth.
        let ripe = self.ship_bytes();
        if before == 0 || (before < ripe && progress.pending >= ripe) {
            self.wake.notify_one();
        }
    }

    /// Puts a batch where the next write of anyone takes it along.
    pub(crate) fn enqueue(&self, intake: &mut Intake, batch: Batch) -> Result<(), RecordError> {
        if intake.queue.len() >= MAX_QUEUED {
            return Err(RecordError::Full);
        }
        intake.queue.push_back(batch);
        let mut progress = lock(&self.progress);
        if !progress.queued {
            progress.queued = true;
            self.wake.notify_one();
        }
        Ok(())
    }

    // ---- durability ----

    /// Waits until everything appended so far is on the disk.
    pub(crate) async fn synced(&self, deadline: Instant) -> Result<(), RecordError> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut queue = lock(&self.sync);
            if queue.stop {
                return Err(RecordError::Closed);
            }
            queue.waiters.push(sender);
        }
        self.sync_wake.notify_one();
        match timeout_at(deadline, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(RecordError::Closed),
            Err(_) => {
                self.sync_stalled.store(true, Ordering::Release);
                Err(RecordError::Timeout(self.options.deadline.as_secs()))
            }
        }
    }

    /// Waits until everything appended so far is where the loss of this machine cannot reach it.
    pub(crate) async fn replicated(&self, deadline: Instant) -> Result<(), RecordError> {
        let position = self.position.load(Ordering::Acquire);
        let waiting = self.replication.wait(position, deadline);
        self.hurry();
        if waiting.await {
            Ok(())
        } else {
            Err(RecordError::Timeout(self.options.deadline.as_secs()))
        }
    }

    /// The sync thread: one fdatasync a file for all who wait.
    pub(crate) fn sync_loop(&self) {
        loop {
            let waiters = {
                let mut queue = lock(&self.sync);
                while queue.waiters.is_empty() && !queue.stop {
                    queue = self
                        .sync_wake
                        .wait(queue)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                if queue.waiters.is_empty() {
                    return;
                }
                std::mem::take(&mut queue.waiters)
            };
            let result = self.sync_dirty();
            if result.is_ok() {
                self.sync_stalled.store(false, Ordering::Release);
                self.counters.syncs.fetch_add(1, Ordering::Relaxed);
                self.counters
                    .synced
                    .fetch_add(waiters.len() as u64, Ordering::Relaxed);
            }
            for waiter in waiters {
                let _ = waiter.send(result.clone());
            }
        }
    }

    fn sync_dirty(&self) -> Result<(), RecordError> {
        self.alive()?;
        for slot in &self.slots {
            if slot.dirty.swap(false, Ordering::AcqRel) {
                slot.file
                    .sync_data()
                    .map_err(|e| self.die("sync the spool", &e))?;
            }
        }
        self.alive()
    }

    // ---- for the shipper ----

    /// Waits until there is something to ship or to do, and says what.
    pub(crate) fn wait_for_work(&self, last: std::time::Instant, beat: bool) -> Work {
        let mut progress = lock(&self.progress);
        loop {
            let since = last.elapsed();
            let waiting = progress.pending > 0 || progress.queued || beat;
            let ripe =
                progress.urgent || progress.pending >= self.ship_bytes() || since >= SHIP_EVERY;
            if progress.stop || progress.detach.is_some() || (waiting && ripe) {
                progress.queued = false;
                progress.urgent = false;
                return Work {
                    stop: progress.stop,
                    detach: progress.detach.take(),
                };
            }
            progress = if waiting {
                let left = SHIP_EVERY.saturating_sub(since);
                self.wake
                    .wait_timeout(progress, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            } else {
                self.wake
                    .wait(progress)
                    .unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    /// How many bytes make a segment of their own.
    fn ship_bytes(&self) -> u64 {
        let bytes = if self.options.replicate {
            SHIP_BYTES_AWAY
        } else {
            SHIP_BYTES
        };
        bytes.min(self.options.file_bytes / 2)
    }

    /// Spool bytes that were appended so far.
    pub(crate) fn appended(&self) -> u64 {
        let progress = lock(&self.progress);
        progress.shipped.saturating_add(progress.pending)
    }

    /// Spool bytes that are in durable segments.
    pub(crate) fn shipped_so_far(&self) -> u64 {
        lock(&self.progress).shipped
    }

    /// Spool bytes that are in durable segments, and those that were acknowledged elsewhere: while
    /// either grows there will be room.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.shipped_so_far(), self.replication.position())
    }

    /// The extent that is `skip` files after the oldest unshipped one.
    pub(crate) fn extent(&self, skip: usize) -> Option<Extent> {
        lock(&self.progress).extents.get(skip).copied()
    }

    pub(crate) fn read(&self, index: usize, out: &mut [u8], at: u64) -> std::io::Result<()> {
        let slot = self
            .slots
            .get(index)
            .ok_or_else(|| std::io::Error::other("no such spool file"))?;
        slot.file.read_at(out, at)
    }

    /// Segment `number` is durable and has the spool's next `bytes`, all files before
    /// `whole_files` among them.
    pub(crate) fn shipped(&self, number: u64, bytes: u64, whole_files: usize) {
        let done: Vec<Extent> = {
            let mut progress = lock(&self.progress);
            progress.pending = progress.pending.saturating_sub(bytes);
            progress.shipped = progress.shipped.saturating_add(bytes);
            self.replication.published(number, progress.shipped);
            progress.extents.drain(..whole_files).collect()
        };
        for extent in done {
            if let Err(error) = self.clear(extent) {
                self.die("clear a spool file", &error);
                return;
            }
            lock(&self.free).push_back(extent.index);
            self.write_stalled.store(false, Ordering::Release);
            self.space.notify_waiters();
        }
    }

    /// Zeros a shipped file, its header first: a reader then takes it as not in use.
    fn clear(&self, extent: Extent) -> std::io::Result<()> {
        const STEP: usize = 256 * 1024;
        let slot = self
            .slots
            .get(extent.index)
            .ok_or_else(|| std::io::Error::other("no such spool file"))?;
        let zeros = vec![0; STEP];
        let mut at = 0;
        while at < extent.end {
            let take = usize::try_from(extent.end - at).unwrap_or(STEP).min(STEP);
            slot.file
                .write_at(zeros.get(..take).unwrap_or_default(), at)?;
            at += take as u64;
        }
        // Durable before the file is used again: a power cut must not bring old batches back
        // behind new ones.
        slot.file.sync_data()
    }

    fn hurry(&self) {
        lock(&self.progress).urgent = true;
        self.wake.notify_one();
    }

    /// The spool's own bytes are not what was written: nothing more may be signed or recorded.
    pub(crate) fn changed_underneath(&self) -> std::io::Error {
        let error = std::io::Error::other("its bytes changed underneath");
        self.die("ship the spool", &error);
        error
    }

    pub(crate) fn stopped(&self) -> bool {
        lock(&self.progress).stop
    }

    /// Writes what waits and lets nothing in after it.
    pub(crate) async fn close(&self, deadline: Instant) -> Result<(), RecordError> {
        let Ok(mut writer) = timeout_at(deadline, self.writer.lock()).await else {
            self.closed.store(true, Ordering::Release);
            return Err(RecordError::Timeout(self.options.deadline.as_secs()));
        };
        let result = self.append_all(&mut writer, &mut VecDeque::new(), Room::Reserve);
        // Under the lock: whoever appends next finds it closed.
        self.closed.store(true, Ordering::Release);
        result
    }

    pub(crate) fn ask_detach(&self, done: oneshot::Sender<bool>) {
        lock(&self.progress).detach = Some(done);
        self.wake.notify_one();
    }

    /// Tells both threads to go.
    pub(crate) fn stop(&self) {
        self.closed.store(true, Ordering::Release);
        lock(&self.progress).stop = true;
        self.wake.notify_one();
        lock(&self.sync).stop = true;
        self.sync_wake.notify_one();
    }

    pub(crate) fn stats(&self) -> Stats {
        let c = &self.counters;
        let sessions = c.sessions.load(Ordering::Relaxed);
        Stats {
            sessions,
            open_sessions: sessions.saturating_sub(c.ended.load(Ordering::Relaxed)),
            appended_bytes: c.appended.load(Ordering::Relaxed),
            shipped_bytes: c.shipped.load(Ordering::Relaxed),
            syncs: c.syncs.load(Ordering::Relaxed),
            synced_intents: c.synced.load(Ordering::Relaxed),
            segments: c.segments.load(Ordering::Relaxed),
            ship_failures: c.ship_failures.load(Ordering::Relaxed),
            spool_free: self.free_bytes.load(Ordering::Relaxed),
        }
    }
}

/// Room that is taken for enough for a command, once there was none.
const COMMAND: u64 = 64 * 1024;

/// Frames wait at most this long for their segment.
pub(crate) const SHIP_EVERY: std::time::Duration = std::time::Duration::from_millis(1000);
/// Or until there are this many bytes of them: a segment costs two syncs, and a signature for each
/// session in it.
const SHIP_BYTES: u64 = 1024 * 1024;
/// The same where a segment is sent away, in one request.
const SHIP_BYTES_AWAY: u64 = 512 * 1024;

/// Why the shipper was woken, besides bytes to ship.
pub(crate) struct Work {
    pub(crate) stop: bool,
    pub(crate) detach: Option<oneshot::Sender<bool>>,
}
