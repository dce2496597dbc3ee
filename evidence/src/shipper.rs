//! The shipper's thread: turns what is in the spool into signed runs and heads, and frees the
//! spool only once they are durable.
//!
//! It learns everything from the spool's own bytes, so a head never claims more than what is in
//! a durable segment, and a session task never waits for it but through the spool's size.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use zstd::bulk::Compressor;

use crate::clock::Environment;
use crate::codec;
use crate::engine::Engine;
use crate::entry::{Head, Run, Tail};
use crate::frame::{Hash, NO_HASH};
use crate::keys::SigningKey;
use crate::record::{AttachId, MAX_FRAME, SessionId};
use crate::seal::{ActiveSeal, DataKey, KeyName, Recipients, RunKey, SealState, ShippedKeys};
use crate::segment::{self, SegmentWriter};
use crate::spool::{self, At, BATCH_HEADER, FILE_HEADER, Found, batch_at};

/// Bytes of the spool that are looked at together; runs are at most this long.
const WINDOW: usize = 1024 * 1024;
/// Windows that go into one segment; of a store that is sent away one, so that a segment fits into
/// one request in all but rare cases.
const WINDOWS: usize = 8;
/// Longest time between heads while anything happened.
const HEAD_EVERY_NS: u64 = 10_000_000_000;
/// A head is signed early when this many sessions ended.
const MAX_CLOSED: usize = 4096;
/// Between attempts to write a segment.
const RETRY: Duration = Duration::from_millis(200);
/// Fast enough that shipping keeps up with the spool; text still shrinks about fourfold.
const ZSTD_LEVEL: i32 = 1;

/// Where the log stands.
#[derive(Debug, Clone)]
pub(crate) struct LogState {
    /// Number and digest of the last segment.
    pub(crate) segment: u64,
    pub(crate) digest: Hash,
    head_number: u64,
    head_hash: Hash,
    head_body: Option<Vec<u8>>,
    head_ns: u64,
    highest: u64,
    open: BTreeMap<u64, Tail>,
    closed: BTreeMap<u64, Tail>,
    /// Whether anything happened since the last head.
    changed: bool,
    seal: SealState,
}

impl LogState {
    pub(crate) fn new(segment: u64, digest: Hash, seal: SealState) -> LogState {
        LogState {
            segment,
            digest,
            head_number: 0,
            head_hash: NO_HASH,
            head_body: None,
            head_ns: 0,
            highest: 0,
            open: BTreeMap::new(),
            closed: BTreeMap::new(),
            changed: false,
            seal,
        }
    }
}

/// The place in the spool up to which everything is in durable segments.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    files: usize,
    at: u64,
}

pub(crate) struct Shipper {
    engine: Arc<Engine>,
    dir: PathBuf,
    key: SigningKey,
    attach: AttachId,
    attach_body: Vec<u8>,
    state: LogState,
    at: u64,
    compressor: Compressor<'static>,
    recipients: Recipients,
    /// Told of the keys of what is sent away.
    shipped_keys: ShippedKeys,
    latest_stale: bool,
}

impl Shipper {
    pub(crate) fn new(
        engine: Arc<Engine>,
        dir: PathBuf,
        key: SigningKey,
        attach_body: Vec<u8>,
        (recipients, shipped_keys): (Recipients, ShippedKeys),
        mut state: LogState,
    ) -> io::Result<Shipper> {
        state.head_ns = engine.environment.clock.monotonic_ns();
        Ok(Shipper {
            attach: engine.attach,
            engine,
            dir,
            key,
            attach_body,
            state,
            at: FILE_HEADER as u64,
            compressor: Compressor::new(ZSTD_LEVEL)?,
            recipients,
            shipped_keys,
            latest_stale: false,
        })
    }

    /// Ships until told to stop.
    pub(crate) fn run(mut self) {
        let mut last = Instant::now()
            .checked_sub(crate::engine::SHIP_EVERY)
            .unwrap_or_else(Instant::now);
        loop {
            let work = self.engine.wait_for_work(last, self.state.changed);
            if work.stop {
                return;
            }
            last = Instant::now();
            self.engine.write_queued();
            if let Some(done) = work.detach {
                let shipped = self.finish();
                let _ = done.send(shipped);
                return;
            }
            if !self.ship_all(false) {
                std::thread::sleep(RETRY);
            }
        }
    }

    /// Ships everything and signs the last head, again and again until it works or the
    /// recorder gives up waiting.
    fn finish(&mut self) -> bool {
        while !self.ship_all(true) {
            if self.engine.stopped() {
                return false;
            }
            std::thread::sleep(RETRY);
        }
        for index in 0..self.engine.options.files {
            let path = self.dir.join(spool::relative_path(index));
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove an empty spool file");
            }
        }
        true
    }

    /// Writes segments until what was there at first is in one; at a detach until nothing is left.
    /// What is appended meanwhile waits for its own turn: a segment costs two syncs and a signature
    /// for each session, however little is in it. False if one could not be written.
    fn ship_all(&mut self, detach: bool) -> bool {
        let until = self.engine.appended();
        loop {
            match self.ship_segment(detach) {
                Ok(true) if detach || self.engine.shipped_so_far() < until => {}
                Ok(_) => {
                    if self.latest_stale {
                        self.write_latest();
                    }
                    return true;
                }
                Err(error) => {
                    self.engine
                        .counters
                        .ship_failures
                        .fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "cannot write a segment of evidence; trying again");
                    return false;
                }
            }
        }
    }

    /// Writes one segment. False if there was nothing to write.
    fn ship_segment(&mut self, detach: bool) -> io::Result<bool> {
        let mut state = self.state.clone();
        let mut cursor = Cursor {
            files: 0,
            at: self.at,
        };
        let mut writer: Option<SegmentWriter> = None;
        let (mut spool_bytes, mut frame_bytes) = (0, 0);
        let mut keys = Vec::new();
        let mut copied = self.engine.exports.begin(self.attach, state.segment + 1);
        let windows = if self.engine.options.replicate {
            1
        } else {
            WINDOWS
        };
        for _ in 0..windows {
            let (window, len) = self.read_window(&mut cursor)?;
            if len == 0 {
                break;
            }
            let writer = match &mut writer {
                Some(writer) => writer,
                None => {
                    let writer = writer.insert(self.create(&state)?);
                    self.begin_seal(writer, &mut state)?;
                    writer
                }
            };
            let runs = self.runs(&window, len, &mut state)?;
            for run in runs.into_values().flatten() {
                frame_bytes += run.frames.len() as u64;
                if self.engine.options.replicate {
                    keys.extend(run.opened_by(self.attach));
                }
                if let Some(copied) = &mut copied {
                    copied.run(&run)?;
                }
                self.write_run(writer, run)?;
            }
            spool_bytes += len as u64;
        }
        let drained = cursor_at_end(&self.engine, &cursor);
        let head = self.head_due(&state, detach && drained);
        if head {
            let writer = match &mut writer {
                Some(writer) => writer,
                None => writer.insert(self.create(&state)?),
            };
            self.write_head(writer, &mut state, detach && drained)?;
        }
        let Some(writer) = writer else {
            return Ok(false);
        };
        let disk = self.engine.environment.disk.as_ref();
        let mut copied = copied.filter(|copied| !copied.is_empty());
        if let Some(copied) = &mut copied {
            self.engine.exports.keep(disk, copied);
        }
        state.digest = writer.publish()?;
        if let Some(copied) = &copied {
            self.engine.exports.publish(copied);
        }
        state.segment += 1;
        self.state = state;
        self.at = cursor.at;
        // Before anybody hears of the segment.
        self.shipped_keys.add(self.state.segment, keys);
        self.engine
            .shipped(self.state.segment, spool_bytes, cursor.files);
        self.engine
            .counters
            .segments
            .fetch_add(1, Ordering::Relaxed);
        self.engine
            .counters
            .shipped
            .fetch_add(frame_bytes, Ordering::Relaxed);
        if head {
            self.write_latest();
        }
        Ok(!(detach && head && drained))
    }

    fn create(&self, state: &LogState) -> io::Result<SegmentWriter> {
        let disk = self.engine.environment.disk.as_ref();
        SegmentWriter::create(disk, &self.dir, state.segment + 1, &state.digest)
    }

    /// Begins a new seal where one is due, before the sessions that begin under it.
    fn begin_seal(&self, writer: &mut SegmentWriter, state: &mut LogState) -> io::Result<()> {
        let environment = &self.engine.environment;
        let body = state
            .seal
            .renew(&self.recipients, self.attach, environment, &self.key)?;
        match body {
            Some(body) => writer.entry(segment::SEAL, &[&body]),
            None => Ok(()),
        }
    }

    /// Reads whole batches from the cursor on and moves it. Length 0: there are none.
    fn read_window(&self, cursor: &mut Cursor) -> io::Result<(Vec<u8>, usize)> {
        while let Some(extent) = self.engine.extent(cursor.files) {
            if cursor.at >= extent.end {
                // The last file stays: it is still being written.
                if self.engine.extent(cursor.files + 1).is_none() {
                    break;
                }
                cursor.files += 1;
                cursor.at = FILE_HEADER as u64;
                continue;
            }
            let left = usize::try_from(extent.end - cursor.at).unwrap_or(usize::MAX);
            let mut bytes = vec![0; left.min(WINDOW)];
            self.engine.read(extent.index, &mut bytes, cursor.at)?;
            let mut len = whole_batches(&bytes, extent.generation);
            if len == 0 && left > bytes.len() {
                // One batch longer than a window.
                bytes = vec![0; left.min(2 * MAX_FRAME)];
                self.engine.read(extent.index, &mut bytes, cursor.at)?;
                len = whole_batches(&bytes, extent.generation);
            }
            if len == 0 {
                return Err(self.engine.changed_underneath());
            }
            bytes.truncate(len);
            cursor.at += len as u64;
            return Ok((bytes, len));
        }
        Ok((Vec::new(), 0))
    }

    /// Groups a window's batches into one run a session, in the order of ordinals.
    fn runs(
        &self,
        window: &[u8],
        len: usize,
        state: &mut LogState,
    ) -> io::Result<BTreeMap<u64, Vec<OpenRun>>> {
        let mut runs: BTreeMap<u64, Vec<OpenRun>> = BTreeMap::new();
        let mut rest = window.get(..len).unwrap_or_default();
        while !rest.is_empty() {
            let Some(batch) = unchecked_batch(rest) else {
                return Err(self.engine.changed_underneath());
            };
            rest = rest.get(batch.len..).unwrap_or_default();
            let Some((session, key)) = state.take(&batch) else {
                return Err(self.engine.changed_underneath());
            };
            let list = runs.entry(batch.ordinal).or_default();
            match list.last_mut() {
                Some(run) => run.extend(&batch),
                None => list.push(OpenRun::new(session, self.attach, &batch, key)),
            }
        }
        Ok(runs)
    }

    fn write_run(&mut self, writer: &mut SegmentWriter, run: OpenRun) -> io::Result<()> {
        let environment = &self.engine.environment;
        let (header, payload) = run.finish(
            self.attach,
            false,
            &self.key,
            &mut self.compressor,
            environment,
        )?;
        writer.entry(segment::RUN, &[&header, &payload])
    }

    fn head_due(&self, state: &LogState, last: bool) -> bool {
        let since = self
            .engine
            .environment
            .clock
            .monotonic_ns()
            .saturating_sub(state.head_ns);
        last || (state.changed && since >= HEAD_EVERY_NS) || state.closed.len() >= MAX_CLOSED
    }

    fn write_head(
        &self,
        writer: &mut SegmentWriter,
        state: &mut LogState,
        detach: bool,
    ) -> io::Result<()> {
        let head = Head {
            detach,
            attach: self.attach,
            number: state.head_number + 1,
            previous: state.head_hash,
            segment: state.segment + 1,
            before: writer.so_far(),
            wall_ns: self.engine.environment.clock.wall_ns(),
            highest: state.highest,
            open: state.open.values().copied().collect(),
            closed: std::mem::take(&mut state.closed).into_values().collect(),
        };
        let body = head
            .encode(&self.key)
            .ok_or_else(|| io::Error::other("cannot sign a head"))?;
        writer.entry(segment::HEAD, &[&body])?;
        state.head_number = head.number;
        state.head_hash = Head::hash(&body);
        state.head_body = Some(body);
        state.head_ns = self.engine.environment.clock.monotonic_ns();
        state.changed = false;
        Ok(())
    }

    fn write_latest(&mut self) {
        let disk = self.engine.environment.disk.as_ref();
        let bytes = segment::latest(&self.attach_body, self.state.head_body.as_deref());
        let result = publish(disk, &self.dir.join(segment::LATEST), &bytes);
        self.latest_stale = result.is_err();
        if let Err(error) = result {
            tracing::warn!(%error, "cannot write the copy of the newest head; trying again");
        }
    }
}

/// Writes a small file whole.
pub(crate) fn publish(
    disk: &dyn crate::disk::Disk,
    path: &std::path::Path,
    bytes: &[u8],
) -> io::Result<()> {
    let mut file = disk.create(path)?;
    file.write_all(bytes)?;
    file.publish()
}

fn cursor_at_end(engine: &Engine, cursor: &Cursor) -> bool {
    engine.extent(cursor.files + 1).is_none()
        && engine
            .extent(cursor.files)
            .is_none_or(|extent| cursor.at >= extent.end)
}

/// Length of the whole, sound batches at the front of `bytes`.
fn whole_batches(bytes: &[u8], generation: u64) -> usize {
    let mut len = 0;
    while let Some(rest) = bytes.get(len..).filter(|rest| !rest.is_empty()) {
        match batch_at(rest, generation) {
            At::Batch(batch) => len += batch.len,
            At::Nothing | At::Torn(_) => break,
        }
    }
    len
}

/// A batch that [`whole_batches`] has found sound.
fn unchecked_batch(bytes: &[u8]) -> Option<Found<'_>> {
    let (len, _, found) = spool::batch_header(bytes)?;
    Some(Found {
        frames: bytes.get(BATCH_HEADER..len)?,
        ..found
    })
}

impl LogState {
    /// Takes a batch into the sessions' tails: its session, and what its run is sealed with. None if
    /// it does not follow what is known.
    fn take(&mut self, batch: &Found<'_>) -> Option<(SessionId, Option<RunKey>)> {
        let session = if batch.first == 0 {
            if self.highest + 1 != batch.ordinal {
                return None;
            }
            self.highest = batch.ordinal;
            let session = spool::session_id(batch)?;
            self.seal.begin(batch.ordinal, session)?;
            session
        } else {
            let tail = self.open.get(&batch.ordinal)?;
            if tail.sequence + 1 != batch.first || tail.hash != batch.previous {
                return None;
            }
            tail.session
        };
        let last = spool::last_frame(batch)?;
        let tail = Tail {
            ordinal: batch.ordinal,
            session,
            sequence: last.header.sequence,
            hash: batch.last_hash,
        };
        let ends = last.header.kind == codec::SESSION_END;
        let key = self.seal.key(batch.ordinal, ends);
        if ends {
            self.open.remove(&batch.ordinal);
            self.closed.insert(batch.ordinal, tail);
        } else {
            self.open.insert(batch.ordinal, tail);
        }
        self.changed = true;
        Some((session, key))
    }
}

/// Which records a run holds: those of sequence `first` to before `next`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) attach: AttachId,
    pub(crate) ordinal: u64,
    pub(crate) first: u64,
    pub(crate) next: u64,
}

/// A run that is still growing.
#[derive(Debug)]
pub(crate) struct OpenRun {
    session: SessionId,
    attach: AttachId,
    ordinal: u64,
    first: u64,
    count: u32,
    previous_hash: Hash,
    last_hash: Hash,
    first_wall_ns: u64,
    last_wall_ns: u64,
    /// Whether its last frame is the session's last.
    ends: bool,
    key: Option<RunKey>,
    pub(crate) frames: Vec<u8>,
}

impl OpenRun {
    /// A run that begins with `batch`, of a session that began under `attach`; sealed with `key`,
    /// where there is one.
    pub(crate) fn new(
        session: SessionId,
        attach: AttachId,
        batch: &Found<'_>,
        key: Option<RunKey>,
    ) -> OpenRun {
        let first_wall_ns = spool::first_frame(batch).map_or(0, |frame| frame.header.wall_ns);
        let mut run = OpenRun {
            session,
            attach,
            ordinal: batch.ordinal,
            first: batch.first,
            count: 0,
            previous_hash: batch.previous,
            last_hash: batch.last_hash,
            first_wall_ns,
            last_wall_ns: first_wall_ns,
            ends: false,
            key,
            frames: Vec::with_capacity(batch.frames.len()),
        };
        run.extend(batch);
        run
    }

    /// Takes the session's next batch.
    pub(crate) fn extend(&mut self, batch: &Found<'_>) {
        self.frames.extend_from_slice(batch.frames);
        self.count = self.count.saturating_add(batch.count);
        self.last_hash = batch.last_hash;
        if let Some(last) = spool::last_frame(batch) {
            self.last_wall_ns = last.header.wall_ns;
            self.ends = last.header.kind == codec::SESSION_END;
        }
    }

    /// What it holds.
    pub(crate) fn span(&self) -> Span {
        Span {
            attach: self.attach,
            ordinal: self.ordinal,
            first: self.first,
            next: self.first.saturating_add(u64::from(self.count)),
        }
    }

    /// Has it sealed under this secret. False where it cannot be.
    pub(crate) fn seal_under(&mut self, seal: &ActiveSeal) -> bool {
        self.key = seal.key(self.session);
        self.key.is_some()
    }

    /// What opens it once `signer` has signed it, if it is sealed, and whether it is the last of its
    /// session.
    pub(crate) fn opened_by(&self, signer: AttachId) -> Option<(KeyName, DataKey, bool)> {
        let key = self.key.as_ref()?;
        Some((key.name(signer, self.session), key.key().clone(), self.ends))
    }

    /// Header with signature, and payload.
    pub(crate) fn finish(
        self,
        signer: AttachId,
        recovered: bool,
        key: &SigningKey,
        compressor: &mut Compressor<'_>,
        environment: &Environment,
    ) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let mut payload = compressor.compress(&self.frames)?;
        let sealed = match &self.key {
            Some(key) => Some(key.header(environment, self.ends)?),
            None => None,
        };
        let run = Run {
            recovered,
            signer,
            attach: self.attach,
            session: self.session,
            ordinal: self.ordinal,
            first: self.first,
            count: self.count,
            previous_hash: self.previous_hash,
            last_hash: self.last_hash,
            first_wall_ns: self.first_wall_ns,
            last_wall_ns: self.last_wall_ns,
            raw_len: u32::try_from(self.frames.len()).unwrap_or(u32::MAX),
            sealed,
        };
        let lead = run.lead();
        if let (Some(with), Some(sealed)) = (&self.key, sealed) {
            payload = with
                .key()
                .seal(&lead, sealed.nonce, payload)
                .ok_or_else(|| io::Error::other("cannot seal a run"))?;
        }
        let header = Run::encode(lead, &payload, key)
            .ok_or_else(|| io::Error::other("cannot sign a run"))?;
        Ok((header, payload))
    }
}
