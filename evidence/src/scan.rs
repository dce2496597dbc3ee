//! A whole store in one pass, for those who want many of its sessions.
//!
//! ```text
//! segments ─run by run─► frames ─┬─► Scan       every record with its session, in the log's order
//! spool ─batch by batch──────────┴─► Summaries  each session once it has ended, the others last
//! ```
//!
//! [`crate::read::show`] passes over the store for one session; asking it for each of many would
//! pass over it as often. Here one segment and what is open at a time are held, whatever the size
//! of the store, and a few dozen bytes a session so that none is told twice.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::codec::{self, Malformed};
use crate::entry::Run;
use crate::error::StoreError;
use crate::frame;
use crate::log::Log;
use crate::read::{Key, Listing, SessionSummary, Shown};
use crate::record::{AttachId, Record, SessionId, SessionStart};
use crate::seal::{Place, Unsealer};
use crate::segment::{self, relative_path};
use crate::store::corrupt;

/// Whose a record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The session.
    pub id: SessionId,
    /// The attach it began under.
    pub attach: AttachId,
    /// Its ordinal within that attach, from 1.
    pub ordinal: u64,
    /// What it began with.
    pub start: SessionStart,
    /// When, in nanoseconds since the Unix epoch.
    pub started_ns: u64,
}

/// One record of any session.
#[derive(Debug, Clone)]
pub struct Scanned {
    /// Whose it is.
    pub origin: Arc<Origin>,
    /// The record at its place.
    pub shown: Shown,
}

/// All records of a store but its streams' bytes. Ends after the first error.
pub struct Scan {
    source: Frames,
    open: HashMap<Key, (Arc<Origin>, u64)>,
    ended: HashSet<Key>,
    frames: Vec<u8>,
    at: usize,
    attach: AttachId,
    done: bool,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("open", &self.open.len())
            .finish_non_exhaustive()
    }
}

/// Opens all records of the store in `dir`.
///
/// # Errors
/// Where the folder holds no evidence or cannot be read.
pub fn scan<P: Into<Place>>(place: P) -> Result<Scan, StoreError> {
    Ok(Scan {
        source: Frames::open(&place.into())?,
        open: HashMap::new(),
        ended: HashSet::new(),
        frames: Vec::new(),
        at: 0,
        attach: AttachId::default(),
        done: false,
    })
}

impl Scan {
    /// How many sessions have been passed over so far, because they are sealed and there is no key
    /// for them.
    pub fn sealed(&self) -> usize {
        self.source.sealed.len()
    }

    fn step(&mut self) -> Result<Option<Scanned>, StoreError> {
        loop {
            let rest = self.frames.get(self.at..).unwrap_or_default();
            if rest.is_empty() {
                match self.source.next()? {
                    Some((attach, frames)) => {
                        (self.attach, self.frames, self.at) = (attach, frames, 0);
                        continue;
                    }
                    None => return Ok(None),
                }
            }
            let dir = &self.source.log.dir;
            let bad = |e: Malformed| corrupt(dir, segment::FOLDER, e.0);
            let (frame, _) = frame::read(rest).map_err(bad)?;
            self.at += frame.bytes.len();
            let header = &frame.header;
            let key = (self.attach, header.ordinal);
            let begins = header.sequence == 0;
            if begins && (self.ended.contains(&key) || self.open.contains_key(&key)) {
                continue;
            }
            if !begins {
                let Some((_, next)) = self.open.get_mut(&key) else {
                    continue;
                };
                // A live store's spool overlaps what was shipped meanwhile.
                if header.sequence != *next {
                    continue;
                }
                *next += 1;
                if matches!(header.kind, codec::CLIENT | codec::SERVER) {
                    continue;
                }
            }
            let record = codec::decode(header.kind, frame.body).map_err(bad)?;
            let shown = Shown {
                sequence: header.sequence,
                wall_ns: header.wall_ns,
                offset: Duration::from_nanos(header.offset_ns),
                record,
            };
            if let Some(origin) = self.origin(key, &shown) {
                return Ok(Some(Scanned { origin, shown }));
            }
        }
    }

    /// Whose it is; what begins a session opens it, what ends it closes it.
    fn origin(&mut self, key: Key, shown: &Shown) -> Option<Arc<Origin>> {
        match &shown.record {
            Record::SessionStart(started) => {
                let origin = Arc::new(Origin {
                    id: started.id,
                    attach: key.0,
                    ordinal: key.1,
                    start: started.start.clone(),
                    started_ns: shown.wall_ns,
                });
                self.open.insert(key, (Arc::clone(&origin), 1));
                Some(origin)
            }
            Record::SessionEnd(..) => {
                self.ended.insert(key);
                self.open.remove(&key).map(|(origin, _)| origin)
            }
            _ => self.open.get(&key).map(|(origin, _)| Arc::clone(origin)),
        }
    }
}

impl Iterator for Scan {
    type Item = Result<Scanned, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.step().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

/// The sessions of a store, each told once: those that ended in the order in which they did, then
/// those that did not. Ends after the first error.
pub struct Summaries {
    log: Log,
    /// Newest first.
    segments: Vec<u64>,
    listing: Listing,
    told: VecDeque<SessionSummary>,
    finished: bool,
}

impl std::fmt::Debug for Summaries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Summaries")
            .field("segments", &self.segments.len())
            .finish_non_exhaustive()
    }
}

/// Opens the sessions of the store in `dir`.
///
/// # Errors
/// Where the folder holds no evidence or cannot be read.
pub fn summaries<P: Into<Place>>(place: P) -> Result<Summaries, StoreError> {
    recent(place, usize::MAX)
}

/// [`summaries`] of those sessions that began in the newest `segments` segments or later.
///
/// # Errors
/// As of [`summaries`].
pub fn recent(place: impl Into<Place>, segments: usize) -> Result<Summaries, StoreError> {
    let place = place.into();
    let log = Log::open(&place)?;
    let segments = log.segments.iter().rev().take(segments).copied().collect();
    Ok(Summaries {
        log,
        segments,
        listing: Listing::of(&place),
        told: VecDeque::new(),
        finished: false,
    })
}

impl Summaries {
    /// How many segments are still to be read.
    pub fn left(&self) -> usize {
        self.segments.len()
    }

    fn refill(&mut self) -> Result<(), StoreError> {
        if let Some(number) = self.segments.pop() {
            let bytes = segment::load(&self.log.dir, number)?;
            self.listing
                .segment(&bytes)
                .map_err(|e| corrupt(&self.log.dir, relative_path(number), e.0))?;
            self.told.extend(self.listing.take_ended());
            return Ok(());
        }
        self.finished = true;
        for file in &self.log.spool {
            for batch in file.batches().0 {
                self.listing.frames(file.attach, batch.frames);
            }
        }
        let listing = std::mem::take(&mut self.listing);
        self.told.extend(listing.finish(self.log.live));
        Ok(())
    }
}

impl Iterator for Summaries {
    type Item = Result<SessionSummary, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(session) = self.told.pop_front() {
                return Some(Ok(session));
            }
            if self.finished {
                return None;
            }
            if let Err(error) = self.refill() {
                self.finished = true;
                return Some(Err(error));
            }
        }
    }
}

/// Stretches of frames in the log's order, each with the attach that its sessions began under.
struct Frames {
    log: Log,
    unsealer: Unsealer,
    /// Sessions of which there were runs that nothing opens.
    sealed: HashSet<Key>,
    /// Newest first.
    segments: Vec<u64>,
    /// Runs of the segment at hand that are not unpacked yet.
    runs: VecDeque<Vec<u8>>,
    /// Spool files that were read.
    files: usize,
    /// Batches of the spool file at hand.
    batches: VecDeque<Vec<u8>>,
}

impl Frames {
    fn open(place: &Place) -> Result<Frames, StoreError> {
        let log = Log::open(place)?;
        Ok(Frames {
            unsealer: Unsealer::of(place),
            sealed: HashSet::new(),
            segments: log.segments.iter().rev().copied().collect(),
            log,
            runs: VecDeque::new(),
            files: 0,
            batches: VecDeque::new(),
        })
    }

    fn next(&mut self) -> Result<Option<(AttachId, Vec<u8>)>, StoreError> {
        loop {
            if let Some(body) = self.runs.pop_front() {
                let bad = |e: Malformed| corrupt(&self.log.dir, segment::FOLDER, e.0);
                let signed = Run::decode(&body).map_err(bad)?;
                match self.unsealer.readable(&signed).map_err(bad)? {
                    Some(frames) => return Ok(Some((signed.run.attach, frames))),
                    None => {
                        self.sealed.insert((signed.run.attach, signed.run.ordinal));
                        continue;
                    }
                }
            }
            let Some(number) = self.segments.pop() else {
                return Ok(self.spooled());
            };
            let bytes = segment::load(&self.log.dir, number)?;
            let segment = segment::parse(&bytes)
                .map_err(|e| corrupt(&self.log.dir, relative_path(number), e.0))?;
            for entry in &segment.entries {
                match entry.kind {
                    // One that does not hold opens nothing; verify says so.
                    segment::SEAL => drop(self.unsealer.take_body(entry.body)),
                    segment::RUN => self.runs.push_back(entry.body.to_vec()),
                    _ => {}
                }
            }
        }
    }

    fn spooled(&mut self) -> Option<(AttachId, Vec<u8>)> {
        loop {
            if let Some(frames) = self.batches.pop_front() {
                let file = self.files.checked_sub(1)?;
                return Some((self.log.spool.get(file)?.attach, frames));
            }
            let found = self.log.spool.get(self.files)?.batches().0;
            self.batches
                .extend(found.iter().map(|batch| batch.frames.to_vec()));
            self.files += 1;
        }
    }
}
