//! Reading a store back: the list of its sessions, one session's records, its replay.
//!
//! Reading trusts what it finds; whether that is whole and unchanged is [`mod@crate::verify`]'s
//! question. A store in use can be read too.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use chaperone_policy::Verdict;

use crate::codec::{self, Malformed};
use crate::entry::{Attach, Head, Run};
use crate::error::StoreError;
use crate::frame::{self, Frame};
use crate::log::Log;
use crate::record::{AttachId, Record, SessionEnd, SessionId, SessionStart};
use crate::seal::{Place, ShippedKeys, Unsealer};
use crate::segment::{self, relative_path};
use crate::spool;
use crate::store::corrupt;

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Its sidecar lives and it has not ended.
    Open,
    /// Its SessionEnd is there.
    Ended,
    /// Its sidecar died; the tail after the last shipped run may be missing.
    Interrupted,
    /// As Interrupted, but the spool's tail was found and shipped by the next attach.
    Recovered,
}

impl State {
    /// The name in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Open => "Open",
            State::Ended => "Ended",
            State::Interrupted => "Interrupted",
            State::Recovered => "Recovered",
        }
    }
}

/// One session, as `sessions` lists it.
#[derive(Debug, Clone)]
pub struct SessionSummary {
    /// Its id.
    pub id: SessionId,
    /// The attach it began under.
    pub attach: AttachId,
    /// Its ordinal within that attach, from 1.
    pub ordinal: u64,
    /// What it began with.
    pub start: SessionStart,
    /// When, in nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// Time of its last record.
    pub last_ns: u64,
    /// Where it is in its life.
    pub state: State,
    /// Why it ended, as text; empty while it has not.
    pub end: String,
    /// Intents allowed (approved ones included).
    pub allowed: u64,
    /// Intents denied.
    pub denied: u64,
    /// Intents held for a human.
    pub held: u64,
    /// Intents forwarded because only DryRun policies select.
    pub observed: u64,
    /// Rows of all outcomes.
    pub rows: u64,
    /// Values masked.
    pub masked: u64,
    /// Findings.
    pub findings: u64,
    /// Records.
    pub records: u64,
    /// Whether its frames are sealed and there was no key for them: then only its id, attach, ordinal,
    /// times, state and number of records are known.
    pub sealed: bool,
}

/// The sessions of a store.
#[derive(Debug)]
pub struct Sessions;

impl Sessions {
    /// All sessions, oldest first.
    pub fn list(place: impl Into<Place>) -> Result<Vec<SessionSummary>, StoreError> {
        let place = place.into();
        let log = Log::open(&place)?;
        let mut listing = Listing::of(&place);
        for &number in &log.segments {
            let bytes = segment::load(&place, number)?;
            listing
                .segment(&bytes)
                .map_err(|e| corrupt(&place, relative_path(number), e.0))?;
        }
        for file in &log.spool {
            for batch in file.batches().0 {
                listing.frames(file.attach, batch.frames);
            }
        }
        Ok(listing.finish(log.live))
    }

    /// The one session whose id begins with `prefix`.
    pub fn find(place: impl Into<Place>, prefix: &str) -> Result<SessionId, StoreError> {
        let mut found = Sessions::list(place)?
            .into_iter()
            .map(|session| session.id)
            .filter(|id| {
                let id = id.to_string();
                !prefix.is_empty() && id.starts_with(&prefix.to_ascii_lowercase())
            });
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(id),
            (None, _) => Err(StoreError::NoSession(prefix.to_owned())),
            _ => Err(StoreError::Ambiguous(prefix.to_owned())),
        }
    }
}

/// A session by the attach it began under and its ordinal there.
pub(crate) type Key = (AttachId, u64);

/// Counts up sessions as their frames come.
#[derive(Default)]
pub(crate) struct Listing {
    unsealer: Unsealer,
    sessions: HashMap<Key, (SessionSummary, bool)>,
    order: Vec<Key>,
    /// Sessions that were taken out, which a spool may still begin again.
    taken: HashSet<Key>,
    last_attach: AttachId,
    detached: bool,
}

impl Listing {
    pub(crate) fn of(place: &Place) -> Listing {
        Listing {
            unsealer: Unsealer::of(place),
            ..Listing::default()
        }
    }

    pub(crate) fn segment(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        for entry in segment::parse(bytes)?.entries {
            match entry.kind {
                segment::ATTACH => {
                    self.last_attach = Attach::decode(entry.body)?.id;
                    self.detached = false;
                }
                // One that does not hold opens nothing; verify says so.
                segment::SEAL => drop(self.unsealer.take_body(entry.body)),
                segment::RUN => {
                    let signed = Run::decode(entry.body)?;
                    match self.unsealer.readable(&signed)? {
                        Some(frames) => self.frames(signed.run.attach, &frames),
                        None => self.sealed(&signed.run),
                    }
                    if let Some((_, recovered)) = self
                        .sessions
                        .get_mut(&(signed.run.attach, signed.run.ordinal))
                    {
                        *recovered |= signed.run.recovered;
                    }
                }
                segment::HEAD => self.detached |= Head::decode(entry.body)?.detach,
                _ => {}
            }
        }
        Ok(())
    }

    /// A run of which only the header can be read.
    fn sealed(&mut self, run: &Run) {
        let key = (run.attach, run.ordinal);
        if run.first == 0 && !self.sessions.contains_key(&key) && !self.taken.contains(&key) {
            self.order.push(key);
            let session = sealed_summary(run);
            self.sessions.insert(key, (session, false));
        }
        let Some((session, _)) = self.sessions.get_mut(&key) else {
            return;
        };
        session.sealed = true;
        session.last_ns = run.last_wall_ns;
        session.records = run.last().saturating_add(1);
        if run.sealed.is_some_and(|sealed| sealed.ends) {
            session.state = State::Ended;
        }
    }

    /// Takes out the sessions that have ended, in the order in which they began.
    pub(crate) fn take_ended(&mut self) -> Vec<SessionSummary> {
        let mut ended = Vec::new();
        let (sessions, taken) = (&mut self.sessions, &mut self.taken);
        self.order.retain(|key| {
            let has_ended = |(session, _): &(SessionSummary, bool)| session.state == State::Ended;
            if !sessions.get(key).is_some_and(has_ended) {
                return true;
            }
            ended.extend(sessions.remove(key).map(|(session, _)| session));
            taken.insert(*key);
            false
        });
        ended
    }

    pub(crate) fn frames(&mut self, attach: AttachId, mut bytes: &[u8]) {
        while let Ok((frame, rest)) = frame::read(bytes) {
            self.frame(attach, &frame);
            bytes = rest;
        }
    }

    fn frame(&mut self, attach: AttachId, frame: &Frame<'_>) {
        let key = (attach, frame.header.ordinal);
        if frame.header.sequence == 0 {
            if self.taken.contains(&key) {
                return;
            }
            let Ok(Record::SessionStart(started)) = codec::decode(frame.header.kind, frame.body)
            else {
                return;
            };
            self.sessions.entry(key).or_insert_with(|| {
                self.order.push(key);
                (summary(attach, frame, started.id, started.start), false)
            });
            return;
        }
        let Some((session, _)) = self.sessions.get_mut(&key) else {
            return;
        };
        // A live store's spool overlaps what was shipped meanwhile.
        if frame.header.sequence == session.records {
            count(session, frame);
        }
    }

    pub(crate) fn finish(mut self, live: bool) -> Vec<SessionSummary> {
        let mut out = Vec::with_capacity(self.order.len());
        for key in &self.order {
            let Some((mut session, recovered)) = self.sessions.remove(key) else {
                continue;
            };
            if session.state != State::Ended {
                session.state = match (
                    live && !self.detached && session.attach == self.last_attach,
                    recovered,
                ) {
                    (true, _) => State::Open,
                    (false, true) => State::Recovered,
                    (false, false) => State::Interrupted,
                };
            }
            out.push(session);
        }
        out
    }
}

/// The sessions of a store as its segments come, for those who show them while they go on. An ended
/// session is told once and forgotten; of one that began before, only how it came out is told.
#[derive(Default)]
pub struct Tally(Listing);

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tally({} sessions)", self.0.sessions.len())
    }
}

/// What one segment tells.
#[derive(Debug, Default)]
pub struct Told {
    /// The sessions in it, as they stand after it.
    pub sessions: Vec<SessionSummary>,
    /// Where the segment begins a later attach: those sessions of earlier ones whose tail was found
    /// in the spool. Whatever else was open then is Interrupted: nothing more of it will come.
    pub recovered: Option<Vec<RecoveredTail>>,
}

/// The tail of a session that began before the tally did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredTail {
    /// The session.
    pub id: SessionId,
    /// Time of its last record.
    pub last_ns: u64,
    /// Why it ended, if its end was recorded; else empty.
    pub end: String,
}

impl Tally {
    /// One that reads what this process has sealed itself.
    pub fn with(keys: ShippedKeys) -> Tally {
        Tally(Listing {
            unsealer: Unsealer::of_shipped(keys),
            ..Listing::default()
        })
    }

    /// Takes the next segment. One that is not sound tells nothing.
    pub fn take(&mut self, segment: &[u8]) -> Told {
        let before: HashMap<Key, u64> = self
            .0
            .sessions
            .iter()
            .map(|(key, (session, _))| (*key, session.records))
            .collect();
        if self.0.segment(segment).is_err() {
            return Told::default();
        }
        let recovered = self.tails(segment).unwrap_or_default();
        let mut told = Vec::new();
        for (key, (session, recovered)) in &self.0.sessions {
            if before.get(key) != Some(&session.records) {
                let mut session = session.clone();
                if *recovered && session.state == State::Open {
                    session.state = State::Recovered;
                }
                told.push(session);
            }
        }
        let sessions = &mut self.0.sessions;
        sessions.retain(|_, (session, recovered)| session.state == State::Open && !*recovered);
        self.0.order.clear();
        Told {
            sessions: told,
            recovered,
        }
    }

    /// All that is recovered stands in the segment that begins the attach.
    fn tails(&self, segment: &[u8]) -> Result<Option<Vec<RecoveredTail>>, Malformed> {
        let mut later = false;
        let mut tails: Vec<RecoveredTail> = Vec::new();
        for entry in segment::parse(segment)?.entries {
            match entry.kind {
                segment::ATTACH => later |= Attach::decode(entry.body)?.ordinal > 1,
                segment::RUN => {
                    let signed = Run::decode(entry.body)?;
                    let run = &signed.run;
                    let whole = self.0.sessions.contains_key(&(run.attach, run.ordinal));
                    if !run.recovered || whole {
                        continue;
                    }
                    let tail = RecoveredTail {
                        id: run.session,
                        last_ns: run.last_wall_ns,
                        end: match self.0.unsealer.readable(&signed)? {
                            Some(frames) => recorded_end(&frames),
                            None => String::new(),
                        },
                    };
                    // A long tail is several runs, the last of which says how it came out.
                    tails.retain(|earlier| earlier.id != tail.id);
                    tails.push(tail);
                }
                _ => {}
            }
        }
        Ok(later.then_some(tails))
    }
}

/// Why a session ended, if these frames say so.
fn recorded_end(mut frames: &[u8]) -> String {
    let mut end = String::new();
    while let Ok((frame, rest)) = frame::read(frames) {
        if frame.header.kind == codec::SESSION_END
            && let Ok(Record::SessionEnd(ended, _)) = codec::decode(frame.header.kind, frame.body)
        {
            end = end_text(&ended);
        }
        frames = rest;
    }
    end
}

fn summary(
    attach: AttachId,
    frame: &Frame<'_>,
    id: SessionId,
    start: SessionStart,
) -> SessionSummary {
    let (ordinal, wall_ns) = (frame.header.ordinal, frame.header.wall_ns);
    beginning((id, attach, ordinal), start, wall_ns)
}

fn sealed_summary(run: &Run) -> SessionSummary {
    let place = (run.session, run.attach, run.ordinal);
    beginning(place, SessionStart::default(), run.first_wall_ns)
}

/// A session of which nothing is known but how it began.
fn beginning(
    (id, attach, ordinal): (SessionId, AttachId, u64),
    start: SessionStart,
    wall_ns: u64,
) -> SessionSummary {
    SessionSummary {
        id,
        attach,
        ordinal,
        start,
        started_ns: wall_ns,
        last_ns: wall_ns,
        state: State::Open,
        end: String::new(),
        allowed: 0,
        denied: 0,
        held: 0,
        observed: 0,
        rows: 0,
        masked: 0,
        findings: 0,
        records: 1,
        sealed: false,
    }
}

fn count(session: &mut SessionSummary, frame: &Frame<'_>) {
    session.records += 1;
    session.last_ns = frame.header.wall_ns;
    // The stream is most of a store, and nothing of it is counted here.
    if matches!(
        frame.header.kind,
        codec::CLIENT | codec::SERVER | codec::PROXY
    ) {
        return;
    }
    match codec::decode(frame.header.kind, frame.body) {
        Ok(Record::Intent(record)) => match record.intent.decision.verdict {
            Verdict::Allow => session.allowed += 1,
            Verdict::Deny => session.denied += 1,
            Verdict::Hold => session.held += 1,
            Verdict::Observe => session.observed += 1,
        },
        Ok(Record::Outcome(outcome)) => session.rows = session.rows.saturating_add(outcome.rows),
        Ok(Record::Masked(masked)) => session.masked = session.masked.saturating_add(masked.count),
        Ok(Record::Finding(_)) => session.findings += 1,
        Ok(Record::SessionEnd(end, _)) => {
            session.state = State::Ended;
            session.end = end_text(&end);
        }
        _ => {}
    }
}

fn end_text(end: &SessionEnd) -> String {
    let mut text = format!("{:?}", end.cause);
    if let Some(reason) = end.reason {
        text.push_str(": ");
        text.push_str(reason.as_str());
    }
    if !end.detail.is_empty() {
        text.push_str(": ");
        text.push_str(&end.detail);
    }
    text
}

/// One record with its place.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its sequence in the session.
    pub sequence: u64,
    /// When, in nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// Since the session began, by the monotonic clock.
    pub offset: Duration,
    /// What.
    pub record: Record,
}

/// One session's records in order. Holds one segment at a time, and ends after the first error.
pub struct Show {
    log: Log,
    unsealer: Unsealer,
    session: SessionId,
    /// Known once its first frame was seen.
    key: Option<Key>,
    /// Segments not read yet, newest first.
    segments: Vec<u64>,
    spool_read: bool,
    frames: Vec<u8>,
    at: usize,
    /// Runs of the segment at hand that are not unpacked yet.
    runs: VecDeque<Vec<u8>>,
    next: u64,
    done: bool,
}

impl std::fmt::Debug for Show {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Show")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl Show {
    fn new(log: Log, unsealer: Unsealer, session: SessionId) -> Show {
        let segments = log.segments.iter().rev().copied().collect();
        Show {
            log,
            unsealer,
            session,
            key: None,
            segments,
            spool_read: false,
            frames: Vec::new(),
            at: 0,
            runs: VecDeque::new(),
            next: 0,
            done: false,
        }
    }

    /// Makes `frames` the next stretch of the session. False: there is none.
    fn refill(&mut self) -> Result<bool, StoreError> {
        loop {
            if let Some(body) = self.runs.pop_front() {
                self.frames = Run::decode(&body)
                    .and_then(|run| self.unsealer.readable(&run))
                    .map_err(|e| corrupt(&self.log.dir, segment::FOLDER, e.0))?
                    .ok_or_else(|| StoreError::Sealed(self.session.to_string()))?;
                self.at = 0;
                return Ok(true);
            }
            let Some(number) = self.segments.pop() else {
                return Ok(self.take_spool());
            };
            let bytes = segment::load(&self.log.dir, number)?;
            let bad = |e: Malformed| corrupt(&self.log.dir, relative_path(number), e.0);
            for entry in segment::parse(&bytes).map_err(bad)?.entries {
                if entry.kind == segment::SEAL {
                    // One that does not hold opens nothing; verify says so.
                    drop(self.unsealer.take_body(entry.body));
                }
                if entry.kind != segment::RUN {
                    continue;
                }
                let run = Run::decode(entry.body).map_err(bad)?.run;
                if run.session == self.session {
                    self.key = Some((run.attach, run.ordinal));
                    self.runs.push_back(entry.body.to_vec());
                }
            }
        }
    }

    fn take_spool(&mut self) -> bool {
        if std::mem::replace(&mut self.spool_read, true) {
            return false;
        }
        self.frames.clear();
        self.at = 0;
        for file in &self.log.spool {
            for batch in file.batches().0 {
                if self.key.is_none() && spool::session_id(&batch) == Some(self.session) {
                    self.key = Some((file.attach, batch.ordinal));
                }
                if self.key == Some((file.attach, batch.ordinal)) {
                    self.frames.extend_from_slice(batch.frames);
                }
            }
        }
        !self.frames.is_empty()
    }

    fn step(&mut self) -> Result<Option<Shown>, StoreError> {
        loop {
            let rest = self.frames.get(self.at..).unwrap_or_default();
            if rest.is_empty() {
                if self.refill()? {
                    continue;
                } else {
                    return Ok(None);
                }
            }
            let bad = |e: Malformed| corrupt(&self.log.dir, segment::FOLDER, e.0);
            let (frame, _) = frame::read(rest).map_err(bad)?;
            self.at += frame.bytes.len();
            // A live store's spool overlaps what was shipped meanwhile.
            if frame.header.sequence != self.next {
                continue;
            }
            self.next += 1;
            let record = codec::decode(frame.header.kind, frame.body).map_err(bad)?;
            return Ok(Some(Shown {
                sequence: frame.header.sequence,
                wall_ns: frame.header.wall_ns,
                offset: Duration::from_nanos(frame.header.offset_ns),
                record,
            }));
        }
    }
}

impl Iterator for Show {
    type Item = Result<Shown, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.step().transpose();
        self.done = match &item {
            Some(Ok(shown)) => matches!(shown.record, Record::SessionEnd(..)),
            _ => true,
        };
        item
    }
}

/// Opens one session's records.
///
/// # Errors
/// [`StoreError::Sealed`] where no key here opens them.
pub fn show(place: impl Into<Place>, session: &SessionId) -> Result<Show, StoreError> {
    let place = place.into();
    let unsealer = Unsealer::of(&place);
    let mut show = Show::new(Log::open(&place)?, unsealer, *session);
    if show.refill()? {
        Ok(show)
    } else {
        Err(StoreError::NoSession(session.to_string()))
    }
}

/// Which way stream bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Agent to sidecar.
    Client,
    /// Sidecar to agent.
    Server,
}

/// A piece of the stream on the agent's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Which way.
    pub direction: Direction,
    /// Since the session began.
    pub offset: Duration,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Spans of `bytes` that were masked.
    pub masked: Vec<Range<u32>>,
}

/// A session's stream in order. Ends after the first error.
#[derive(Debug)]
pub struct Replay(Show);

impl Iterator for Replay {
    type Item = Result<Replayed, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let shown = match self.0.next()? {
                Ok(shown) => shown,
                Err(error) => return Some(Err(error)),
            };
            let (direction, stream) = match shown.record {
                Record::Client { stream, .. } => (Direction::Client, stream),
                Record::Server(stream) => (Direction::Server, stream),
                _ => continue,
            };
            if stream.bytes.is_empty() {
                continue;
            }
            return Some(Ok(Replayed {
                direction,
                offset: shown.offset,
                bytes: stream.bytes,
                masked: stream.masked,
            }));
        }
    }
}

/// Opens one session's stream.
///
/// # Errors
/// As [`show`].
pub fn replay(place: impl Into<Place>, session: &SessionId) -> Result<Replay, StoreError> {
    show(place, session).map(Replay)
}
