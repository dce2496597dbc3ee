//! The rules within one session: what must come before what.

use std::collections::HashMap;

use chaperone_policy::{Durability, Reason, Verdict};

use super::BreakReason;
use crate::codec;
use crate::entry::Tail;
use crate::frame::{Frame, Hash, chain};
use crate::record::{
    ApprovalEvent, AttachId, ClientClass, IntentRecord, OutcomeStatus, Record, SessionId,
    SessionStarted,
};

/// Intents that are remembered; an Outcome comes soon after its intent.
const MAX_INTENTS: usize = 1 << 20;

/// What is wrong with a frame.
pub(super) type Wrong = (BreakReason, String);

/// One session as far as it was read.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) attach: AttachId,
    ordinal: u64,
    /// Sequence of the frame that must come next.
    pub(super) next: u64,
    pub(super) hash: Option<Hash>,
    pub(super) ended: bool,
    /// Something is wrong already: what follows from it is not reported again.
    pub(super) broken: bool,
    /// Not all of it could be opened: from there on only its headers are looked at.
    pub(super) blind: bool,
    /// First record that is there. What is before it was removed, and with it what later records
    /// may refer to.
    from: u64,
    /// Ascending; whether each lets a command through.
    intents: Vec<(u64, bool)>,
    forgotten: u64,
    /// Grants not redeemed yet.
    grants: HashMap<String, u32>,
    /// What each intent without an outcome yet has redeemed.
    redeemed: HashMap<u64, String>,
}

/// What a frame says that concerns more than its session.
pub(super) enum Said {
    Nothing,
    /// SessionStart: the hash of the start before it, and of this one.
    Started {
        previous: Hash,
        own: Hash,
    },
    /// A Gap, in words.
    Gap(String),
}

impl Session {
    pub(super) fn new(id: SessionId, attach: AttachId, ordinal: u64) -> Session {
        Session {
            id,
            attach,
            ordinal,
            next: 0,
            hash: None,
            ended: false,
            broken: false,
            blind: false,
            from: 0,
            intents: Vec::new(),
            forgotten: 0,
            grants: HashMap::new(),
            redeemed: HashMap::new(),
        }
    }

    /// A session whose records up to this tail were removed.
    pub(super) fn carried(attach: AttachId, tail: &Tail) -> Session {
        let from = tail.sequence.saturating_add(1);
        Session {
            next: from,
            hash: Some(tail.hash),
            from,
            forgotten: from,
            ..Session::new(tail.session, attach, tail.ordinal)
        }
    }

    /// Whether its last record that was there is removed: then it may have ended with that.
    pub(super) fn end_is_unknown(&self) -> bool {
        self.from > 0 && self.next == self.from && !self.ended
    }

    /// The first record that is there, and how many before it are not.
    pub(super) fn begins_at(&self) -> u64 {
        self.from
    }

    /// Takes the next frame: its place, its chain, its content.
    pub(super) fn frame(&mut self, frame: &Frame<'_>) -> Result<Said, Wrong> {
        let header = &frame.header;
        if header.ordinal != self.ordinal {
            return wrong(
                BreakReason::RecordInvalid,
                format!("it says ordinal {}", header.ordinal),
            );
        }
        if header.sequence != self.next {
            let reason = if header.sequence > self.next {
                BreakReason::RecordsMissing
            } else {
                BreakReason::RecordsRepeated
            };
            return wrong(reason, format!("record {} was to be next", self.next));
        }
        if self.ended {
            return wrong(
                BreakReason::RecordInvalid,
                "it comes after the session's end",
            );
        }
        self.hash = Some(chain(self.hash.as_ref(), frame.bytes));
        self.next += 1;
        let record = codec::decode(header.kind, frame.body).map_err(|e| {
            (
                BreakReason::RecordInvalid,
                format!("it cannot be read: {e}"),
            )
        })?;
        if (header.sequence == 0) != matches!(record, Record::SessionStart(_)) {
            return wrong(
                BreakReason::RecordInvalid,
                "SessionStart and only it is a session's first record",
            );
        }
        self.record(header.sequence, record)
    }

    fn record(&mut self, sequence: u64, record: Record) -> Result<Said, Wrong> {
        match record {
            Record::SessionStart(started) => return self.started(&started),
            Record::Intent(intent) => self.intent(sequence, &intent)?,
            Record::Client { class, intent, .. } => self.client(sequence, class, intent)?,
            Record::Outcome(outcome) => {
                if outcome.intent >= sequence
                    || (outcome.intent >= self.forgotten && !self.known(outcome.intent))
                {
                    let detail = format!("record {} is no intent", outcome.intent);
                    return wrong(BreakReason::OutcomeWithoutIntent, detail);
                }
                // A grant is used up by what was forwarded, not by what could not be.
                if let Some(name) = self.redeemed.remove(&outcome.intent)
                    && outcome.status == OutcomeStatus::NotForwarded
                {
                    *self.grants.entry(name).or_default() += 1;
                }
            }
            Record::Approval(approval) if approval.event == ApprovalEvent::Granted => {
                *self.grants.entry(approval.request).or_default() += 1;
            }
            Record::Gap(gap) => {
                return Ok(Said::Gap(format!(
                    "{} records could not be kept: {}",
                    gap.records, gap.why
                )));
            }
            Record::SessionEnd(_, totals) => {
                if totals.records != sequence {
                    let detail = format!("it counts {} records before it", totals.records);
                    return wrong(BreakReason::RecordInvalid, detail);
                }
                self.ended = true;
                self.intents = Vec::new();
                self.redeemed = HashMap::new();
            }
            _ => {}
        }
        Ok(Said::Nothing)
    }

    fn started(&self, started: &SessionStarted) -> Result<Said, Wrong> {
        if started.id != self.id || started.attach != self.attach {
            let detail = format!(
                "it says session {} of attach {}",
                started.id, started.attach
            );
            return wrong(BreakReason::RecordInvalid, detail);
        }
        Ok(Said::Started {
            previous: started.previous_start,
            own: self.hash.unwrap_or_default(),
        })
    }

    fn intent(&mut self, sequence: u64, record: &IntentRecord) -> Result<(), Wrong> {
        let decision = &record.intent.decision;
        // Without a log to replicate to, Replicated is served as Synced, and says so.
        let served = [record.asked, record.asked.min(Durability::Synced)];
        if !served.contains(&record.served) {
            return wrong(
                BreakReason::RecordInvalid,
                "it was served at another durability than asked",
            );
        }
        let mut lets_through = match decision.verdict {
            Verdict::Allow | Verdict::Observe => true,
            Verdict::Deny | Verdict::Hold => false,
        };
        if let Some(name) = &decision.approval {
            if decision.verdict != Verdict::Deny {
                match self.grants.get_mut(name).filter(|left| **left > 0) {
                    Some(left) => *left -= 1,
                    // It may have been granted in what was removed.
                    None if self.from > 0 => {}
                    None => {
                        return wrong(
                            BreakReason::ApprovalMissing,
                            format!("{name} is not granted before it"),
                        );
                    }
                }
                self.redeemed.insert(sequence, name.clone());
                lets_through = true;
            }
        } else if decision.reason == Reason::Approved {
            return wrong(
                BreakReason::ApprovalMissing,
                "it is approved by nothing it names",
            );
        }
        if self.intents.len() >= MAX_INTENTS {
            let half = MAX_INTENTS / 2;
            self.intents.drain(..half);
            self.forgotten = self.intents.first().map_or(0, |(first, _)| *first);
        }
        self.intents.push((sequence, lets_through));
        Ok(())
    }

    fn client(&self, sequence: u64, class: ClientClass, intent: u64) -> Result<(), Wrong> {
        let found = self.find(intent).filter(|_| intent < sequence);
        // An intent that was removed: whether it let the command through cannot be told any more.
        if class != ClientClass::Control && intent < self.from {
            return Ok(());
        }
        match (class, found) {
            (ClientClass::Command, Some(true)) | (ClientClass::Refused, Some(_)) => Ok(()),
            (ClientClass::Control, _) if intent == 0 => Ok(()),
            (ClientClass::Command, Some(false)) => wrong(
                BreakReason::CommandWithoutIntent,
                format!("intent {intent} forwards nothing"),
            ),
            (ClientClass::Control, _) => wrong(
                BreakReason::RecordInvalid,
                "housekeeping that names an intent",
            ),
            (_, None) => wrong(
                BreakReason::CommandWithoutIntent,
                format!("record {intent} is no intent before it"),
            ),
        }
    }

    fn find(&self, intent: u64) -> Option<bool> {
        let at = self
            .intents
            .binary_search_by_key(&intent, |(sequence, _)| *sequence)
            .ok()?;
        self.intents.get(at).map(|(_, lets_through)| *lets_through)
    }

    fn known(&self, intent: u64) -> bool {
        self.find(intent).is_some()
    }
}

fn wrong<T>(reason: BreakReason, detail: impl Into<String>) -> Result<T, Wrong> {
    Err((reason, detail.into()))
}
