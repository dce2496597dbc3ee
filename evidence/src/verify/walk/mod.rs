//! The pass over the log: segments and attaches here, then seals, runs, heads, and the tail.

mod heads;
mod runs;
mod seals;
mod tail;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::keys::Keys;
use super::session::{Said, Session};
use super::{Break, BreakReason, Report, Selection};
use crate::base::Base;
use crate::entry::{Attach, Head, Run, SignedRun, Tail};
use crate::error::StoreError;
use crate::frame::{self, Hash, NO_HASH};
use crate::log::Log;
use crate::record::{AttachId, SessionId};
use crate::seal::{Frames, Seal, Unsealer};
use crate::segment::{self, LATEST, RawEntry, Segment, relative_path};
use crate::spool::{self, Found};

/// One attach as far as it was read.
struct Life {
    id: AttachId,
    public: [u8; 32],
    body: Vec<u8>,
    ordinal: u64,
    /// Heads before those in `heads`, which are not here any more.
    earlier_heads: u64,
    heads: Vec<Hash>,
    /// Number of its last Seal entry.
    seals: u32,
    detached: bool,
    /// Whether it has shipped sessions of its own.
    active: bool,
    highest: u64,
    last_start: Hash,
    /// Sessions that have not ended, and those that ended since the last head.
    sessions: BTreeMap<u64, Session>,
}

struct Walk<'a> {
    log: &'a Log,
    selection: &'a Selection,
    keys: &'a Keys,
    unsealer: Unsealer,
    report: &'a mut Report,
    /// The attach before the current one: its spool may be shipped by the current.
    previous: Option<Life>,
    current: Option<Life>,
    digest: Hash,
    file: PathBuf,
}

/// Walks over the whole log, or from a base, up to and with the segment `until` if one is named.
pub(super) fn walk(
    log: &Log,
    selection: &Selection,
    keys: &Keys,
    unsealer: Unsealer,
    (base, until): (Option<&Base>, Option<u64>),
    report: &mut Report,
) -> Result<(), StoreError> {
    let mut walk = Walk {
        log,
        selection,
        keys,
        unsealer,
        report,
        previous: None,
        current: None,
        digest: NO_HASH,
        file: PathBuf::new(),
    };
    match base {
        None => {
            walk.segments(1, until);
            walk.latest();
            walk.spool();
        }
        // Such a store was written out of a cluster's log: its `latest` was made from its segments,
        // and there is no spool.
        Some(base) => {
            walk.begin(base);
            walk.segments(base.number.saturating_add(1), until);
            // What follows was removed, and how it went on is not to be told from here.
            if until.is_some() {
                return Ok(());
            }
        }
    }
    walk.finish();
    Ok(())
}

impl Life {
    fn new(attach: &Attach, body: &[u8]) -> Life {
        Life {
            id: attach.id,
            public: attach.public,
            body: body.to_vec(),
            ordinal: attach.ordinal,
            earlier_heads: 0,
            heads: Vec::new(),
            seals: 0,
            detached: false,
            active: false,
            highest: 0,
            last_start: NO_HASH,
            sessions: BTreeMap::new(),
        }
    }

    /// Heads it has signed.
    fn signed_heads(&self) -> u64 {
        let here = u64::try_from(self.heads.len()).unwrap_or(u64::MAX);
        self.earlier_heads.saturating_add(here)
    }
}

impl Walk<'_> {
    fn wrong(
        &mut self,
        session: Option<(SessionId, u64)>,
        reason: BreakReason,
        detail: impl Into<String>,
    ) {
        if let (Selection::Session(wanted), Some((id, _))) = (self.selection, session)
            && *wanted != id
        {
            return;
        }
        self.report.wrong(Break {
            file: self.file.clone(),
            session: session.map(|(id, _)| id),
            sequence: session.map(|(_, sequence)| sequence),
            reason,
            detail: detail.into(),
        });
    }

    // ---- segments ----

    fn segments(&mut self, first: u64, until: Option<u64>) {
        let mut expected = first;
        let log = self.log;
        let wanted = first..=until.unwrap_or(u64::MAX);
        for &number in log.segments.iter().filter(|number| wanted.contains(number)) {
            self.file = relative_path(expected);
            if number != expected {
                let detail = format!(
                    "segments {expected} to {} are not there",
                    number.saturating_sub(1)
                );
                self.wrong(None, BreakReason::SegmentMissing, detail);
            }
            self.file = relative_path(number);
            expected = number.saturating_add(1);
            match segment::load(&self.log.dir, number) {
                Ok(bytes) => self.segment(number, &bytes),
                Err(error) => {
                    self.wrong(None, BreakReason::SegmentMissing, error.to_string());
                    self.digest = NO_HASH;
                }
            }
        }
    }

    /// Takes up the store where its base left it.
    fn begin(&mut self, base: &Base) {
        self.digest = base.digest;
        self.file = relative_path(base.number);
        let Some(life) = &base.life else { return };
        let attach = match Attach::decode(&life.attach) {
            Ok(attach) => attach,
            Err(error) => return self.wrong(None, BreakReason::AttachInvalid, error.to_string()),
        };
        if !self.certified(&attach, &life.attach) {
            return;
        }
        self.report.attaches.push(attach.id);
        for body in life.seals.values() {
            self.seal_before(&attach, body);
        }
        let sessions = life
            .tails
            .iter()
            .map(|(ordinal, tail)| (*ordinal, Session::carried(attach.id, tail)));
        self.current = Some(Life {
            earlier_heads: life.heads.saturating_sub(1),
            heads: (life.heads > 0).then_some(life.head).into_iter().collect(),
            seals: life.newest_seal(),
            detached: life.detached,
            active: life.highest > 0,
            highest: life.highest,
            sessions: sessions.collect(),
            ..Life::new(&attach, &life.attach)
        });
    }

    fn segment(&mut self, number: u64, bytes: &[u8]) {
        let before = self.report.breaks.len();
        let segment = match segment::split(bytes) {
            Ok(segment) => segment,
            Err(error) => {
                self.wrong(None, BreakReason::SegmentChanged, error.to_string());
                self.digest = NO_HASH;
                return;
            }
        };
        for (index, entry) in segment.entries.iter().enumerate() {
            self.entry(&segment, index, entry);
        }
        // What an entry says is more telling; this is for what no entry notices.
        if self.report.breaks.len() == before {
            if let Some(unsound) = segment.unsound {
                self.wrong(None, BreakReason::SegmentChanged, unsound.to_string());
            } else if segment.number != number {
                let detail = format!("it says it is segment {}", segment.number);
                self.wrong(None, BreakReason::SegmentOutOfOrder, detail);
            } else if segment.previous != self.digest {
                self.wrong(
                    None,
                    BreakReason::SegmentOutOfOrder,
                    "the segment before it is not the one it names",
                );
            }
        }
        self.digest = segment.digest;
    }

    fn entry(&mut self, segment: &Segment<'_>, index: usize, entry: &RawEntry<'_>) {
        match entry.kind {
            segment::ATTACH => self.attach(segment, index, entry.body),
            segment::RUN => match Run::decode(entry.body) {
                Ok(run) => self.run(&run),
                Err(error) => self.wrong(None, BreakReason::RunChanged, error.to_string()),
            },
            segment::HEAD => self.head(segment, entry),
            segment::SEAL => self.seal(entry.body),
            kind => self.wrong(
                None,
                BreakReason::EntryMisplaced,
                format!("an entry of unknown kind {kind}"),
            ),
        }
    }

    // ---- attaches ----

    fn attach(&mut self, segment: &Segment<'_>, index: usize, body: &[u8]) {
        let attach = match Attach::decode(body) {
            Ok(attach) => attach,
            Err(error) => return self.wrong(None, BreakReason::AttachInvalid, error.to_string()),
        };
        if !self.certified(&attach, body) {
            return;
        }
        let (ordinal, id, head) = match &self.current {
            Some(life) => (
                life.ordinal,
                life.id,
                life.heads.last().copied().unwrap_or(NO_HASH),
            ),
            None => (0, AttachId::default(), NO_HASH),
        };
        if attach.ordinal != ordinal + 1 || attach.previous != id {
            let detail = format!(
                "attach {} follows attach {} ({}), but {} ({}) was to be before it",
                attach.ordinal,
                ordinal,
                id,
                attach.ordinal.saturating_sub(1),
                attach.previous
            );
            self.wrong(None, BreakReason::AttachMissing, detail);
        } else if attach.previous_head != head {
            self.wrong(
                None,
                BreakReason::TailMissing,
                "the last head of the attach before is not the one it names",
            );
        }
        if index != 0 || attach.segment != segment.number || attach.previous_segment != self.digest
        {
            self.wrong(
                None,
                BreakReason::SegmentOutOfOrder,
                "the log before this attach is not what it was",
            );
        }
        if self
            .keys
            .digest_key
            .is_some_and(|key| key != attach.digest_key)
        {
            self.wrong(
                None,
                BreakReason::KeyMismatch,
                "keys/digest.key is not the one of this attach",
            );
        }
        if !attach.lost.is_empty() {
            let detail = format!("attach {} could not recover {}", attach.id, attach.lost);
            self.report.note(Some(self.file.clone()), None, detail);
        }
        self.report.attaches.push(attach.id);
        self.retire();
        self.current = Some(Life::new(&attach, body));
    }

    /// Whether the log key signed an attach. What is wrong is said here.
    fn certified(&mut self, attach: &Attach, body: &[u8]) -> bool {
        let signed = self
            .keys
            .log
            .is_some_and(|key| Attach::signature_holds(body, &key));
        let certified = signed && Some(attach.log_public) == self.keys.log;
        if !certified {
            let detail = "the log key did not sign this attach";
            self.wrong(None, BreakReason::AttachInvalid, detail);
        }
        certified
    }

    /// The current attach becomes the previous one; of the one before nothing can come any more.
    fn retire(&mut self) {
        let current = self.current.take();
        if let Some(gone) = std::mem::replace(&mut self.previous, current) {
            self.interrupted(&gone);
        }
    }

    fn interrupted(&mut self, life: &Life) {
        for session in life.sessions.values().filter(|session| !session.ended) {
            let last = session.next.saturating_sub(1);
            // Its end may have been removed with the rest of it, before a head could say so.
            let detail = if session.end_is_unknown() {
                format!("removed up to record {last}; whether that was its end is not proven")
            } else {
                format!("interrupted after record {last}; its tail is not proven")
            };
            self.report.note(None, Some(session.id), detail);
        }
    }
}
