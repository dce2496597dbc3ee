//! From a session's records to its statements, each with what came of it.

use std::collections::VecDeque;

use chaperone_evidence::{Outcome, Phase, Record, Shown, StoreError};
use chaperone_policy::Verdict;
use serde::Serialize;

use super::views::{ApprovalView, EventView, OutcomeView, StatementView, cause_name};
use crate::output::counted;
use crate::time::{from_ns, rfc3339};

/// Entries held back at most while an outcome is awaited: pipelines are shorter than that, and a
/// session of any length fits into memory.
const MAX_HELD_BACK: usize = 4_096;

/// One thing that happened in a session.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind")]
pub(crate) enum Entry {
    /// A command and the decision on it.
    Statement(Box<StatementView>),
    /// A step of an approval.
    Approval(ApprovalView),
    /// Another policy from here on.
    PolicyChanged(EventView),
    /// Values masked.
    Masked(EventView),
    /// Something to look at.
    Finding(EventView),
    /// Records that could not be kept.
    Gap(EventView),
    /// The end.
    SessionEnd(EventView),
}

/// A session's entries in order. Stream bytes are skipped.
pub(crate) struct Transcript<I> {
    records: I,
    settling: Settling,
    done: bool,
}

impl<I: Iterator<Item = Result<Shown, StoreError>>> Transcript<I> {
    /// Over the records of one session.
    pub(crate) fn new(records: I) -> Transcript<I> {
        Transcript {
            records,
            settling: Settling::default(),
            done: false,
        }
    }
}

/// Entries of one session, of which the statements still get their outcomes.
#[derive(Default)]
pub(crate) struct Settling {
    held_back: VecDeque<(Entry, bool)>,
}

impl Settling {
    /// The next entry that nothing more is to be known of; with `all` also those that are waited
    /// for.
    pub(crate) fn ready(&mut self, all: bool) -> Option<Entry> {
        let crowded = self.held_back.len() > MAX_HELD_BACK;
        let settled = self.held_back.front().is_some_and(|(_, awaits)| !awaits);
        if settled || crowded || all {
            self.held_back.pop_front().map(|(entry, _)| entry)
        } else {
            None
        }
    }

    /// Takes the next record.
    pub(crate) fn take(&mut self, shown: Shown) {
        let Shown {
            sequence, wall_ns, ..
        } = shown;
        let event = |what| EventView {
            sequence,
            at: rfc3339(from_ns(wall_ns)),
            what,
        };
        let (entry, awaits) = match shown.record {
            Record::Intent(record) => {
                let intent = &record.intent;
                let runs = matches!(intent.phase, Phase::Command | Phase::Execute);
                let forwarded =
                    matches!(intent.decision.verdict, Verdict::Allow | Verdict::Observe);
                let view = StatementView::new(sequence, wall_ns, &record);
                (Entry::Statement(Box::new(view)), runs && forwarded)
            }
            Record::Outcome(outcome) => return self.settle(&outcome),
            Record::Approval(approval) => (
                Entry::Approval(ApprovalView::new(sequence, wall_ns, &approval)),
                false,
            ),
            Record::PolicyChanged(change) => (Entry::PolicyChanged(event(change.detail)), false),
            Record::Masked(masked) => {
                let what = format!(
                    "{} of {}",
                    counted(masked.count, "value", "values"),
                    masked.by
                );
                (Entry::Masked(event(what)), false)
            }
            Record::Finding(finding) => {
                let what = format!("{}: {}", finding.kind, finding.detail);
                (Entry::Finding(event(what)), false)
            }
            Record::Gap(gap) => {
                let what = format!(
                    "{} records ({} bytes) could not be kept: {}",
                    gap.records, gap.bytes, gap.why
                );
                (Entry::Gap(event(what)), false)
            }
            Record::SessionEnd(end, _) => {
                let mut what = cause_name(end.cause).to_owned();
                if let Some(reason) = end.reason {
                    what.push_str(&format!(" ({reason})"));
                }
                if !end.detail.is_empty() {
                    what.push_str(&format!(": {}", end.detail));
                }
                (Entry::SessionEnd(event(what)), false)
            }
            Record::SessionStart(_)
            | Record::Client { .. }
            | Record::Server(_)
            | Record::Proxy { .. } => return,
        };
        self.held_back.push_back((entry, awaits));
    }

    /// Gives a statement its outcome. One that was let go already stays without.
    fn settle(&mut self, outcome: &Outcome) {
        for (entry, awaits) in &mut self.held_back {
            if let Entry::Statement(statement) = entry
                && statement.sequence == outcome.intent
            {
                statement.outcome = Some(OutcomeView::from(outcome));
                *awaits = false;
                return;
            }
        }
    }
}

impl<I: Iterator<Item = Result<Shown, StoreError>>> Iterator for Transcript<I> {
    type Item = Result<Entry, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.settling.ready(self.done) {
                return Some(Ok(entry));
            }
            if self.done {
                return None;
            }
            match self.records.next() {
                Some(Ok(shown)) => self.settling.take(shown),
                Some(Err(error)) => {
                    self.done = true;
                    // What was read before the damage is worth showing, but the error first.
                    return Some(Err(error));
                }
                None => self.done = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use chaperone_evidence::{DecisionRecord, Intent, IntentRecord, OutcomeStatus};
    use chaperone_policy::{Durability, Reason};

    use super::*;

    fn shown(sequence: u64, record: Record) -> Result<Shown, StoreError> {
        Ok(Shown {
            sequence,
            wall_ns: sequence,
            offset: Duration::ZERO,
            record,
        })
    }

    fn intent(sequence: u64, verdict: Verdict) -> Result<Shown, StoreError> {
        let record = IntentRecord {
            intent: Intent {
                phase: Phase::Command,
                summary: String::new(),
                accesses: vec![],
                command: String::new(),
                parameters: vec![],
                digest: [0; 32],
                decision: DecisionRecord {
                    verdict,
                    reason: Reason::Allowed,
                    policy: String::new(),
                    rule: String::new(),
                    generation: 0,
                    rule_digest: String::new(),
                    access: None,
                    approval: None,
                    would_be: None,
                },
                refers_to: None,
            },
            asked: Durability::Written,
            served: Durability::Written,
            truncated: false,
        };
        shown(sequence, Record::Intent(Box::new(record)))
    }

    fn outcome(sequence: u64, of: u64) -> Result<Shown, StoreError> {
        let outcome = Outcome {
            intent: of,
            status: OutcomeStatus::Completed,
            detail: String::new(),
            rows: of,
            bytes: 0,
            duration: Duration::ZERO,
        };
        shown(sequence, Record::Outcome(outcome))
    }

    /// Sequence and rows of each statement.
    fn told(records: Vec<Result<Shown, StoreError>>) -> Vec<Option<(u64, Option<u64>)>> {
        Transcript::new(records.into_iter())
            .map(|entry| match entry.ok()? {
                Entry::Statement(s) => Some((s.sequence, s.outcome.map(|outcome| outcome.rows))),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn pipelined_statements_keep_their_order_and_get_their_own_outcome() {
        let records = vec![
            intent(1, Verdict::Allow),
            intent(2, Verdict::Deny),
            intent(3, Verdict::Observe),
            outcome(4, 3),
            outcome(5, 1),
        ];
        let expected = [(1, Some(1)), (2, None), (3, Some(3))].map(Some);
        assert_eq!(told(records), expected);
    }

    #[test]
    fn a_statement_without_an_outcome_is_told_at_the_end() {
        let records = vec![intent(1, Verdict::Allow), intent(2, Verdict::Deny)];
        assert_eq!(told(records), [(1, None), (2, None)].map(Some));
    }

    #[test]
    fn damage_is_an_error_and_hides_nothing_before_it() {
        let damage = Err(StoreError::Crypto("damaged"));
        let records = vec![intent(1, Verdict::Allow), damage, intent(3, Verdict::Deny)];
        assert_eq!(told(records), [None, Some((1, None))]);
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let endless = (1..).map(|sequence| intent(sequence, Verdict::Allow));
        let mut transcript = Transcript::new(endless);
        for _ in 0..10 {
            assert!(transcript.next().is_some());
        }
        assert!(transcript.settling.held_back.len() <= MAX_HELD_BACK + 1);
    }
}
