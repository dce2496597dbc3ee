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

pub(super) fn walk(
    log: &Log,
    selection: &Selection,
    keys: &Keys,
    unsealer: Unsealer,
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
    walk.segments();
    walk.latest();
    walk.spool();
    walk.finish();
    Ok(())
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

    fn segments(&mut self) {
        let mut expected = 1;
        for &number in &self.log.segments {
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
        let signed = self
            .keys
            .log
            .is_some_and(|key| Attach::signature_holds(body, &key));
        if !signed || Some(attach.log_public) != self.keys.log {
            return self.wrong(
                None,
                BreakReason::AttachInvalid,
                "the log key did not sign this attach",
            );
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
        self.current = Some(Life {
            id: attach.id,
            public: attach.public,
            body: body.to_vec(),
            ordinal: attach.ordinal,
            heads: Vec::new(),
            seals: 0,
            detached: false,
            active: false,
            highest: 0,
            last_start: NO_HASH,
            sessions: BTreeMap::new(),
        });
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
            let detail = format!(
                "interrupted after record {}; its tail is not proven",
                session.next.saturating_sub(1)
            );
            self.report.note(None, Some(session.id), detail);
        }
    }
}
