//! What the records of the selected sessions add up to. One pass; only counts and first places are
//! kept.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_evidence::{ApprovalEvent, Record, Scanned, SessionId, State};
use chaperone_policy::{Durability, Reason, Verdict};

use crate::commands::select::Selection;
use crate::error::CliError;
use crate::source::Evidence;

/// Places that are named of each kind.
const MOST_PLACES: usize = 20;
/// Names of columns and detectors that are kept.
const MOST_NAMES: usize = 100;
/// Steps of approvals that are remembered of one session.
const MOST_REVIEWS: usize = 1_024;

/// How often, and where first.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) count: u64,
    /// `session` or `session/sequence`.
    pub(super) first: Vec<String>,
}

impl Places {
    fn add(&mut self, place: String) {
        self.count += 1;
        if self.first.len() < MOST_PLACES {
            self.first.push(place);
        }
    }
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) sessions: u64,
    pub(super) open: u64,
    pub(super) interrupted: Places,
    /// Nanoseconds since the Unix epoch.
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    pub(super) unnamed: Places,
    pub(super) without_purpose: Places,
    pub(super) delegated: u64,
    pub(super) decisions: u64,
    pub(super) forwarded: u64,
    pub(super) denied: u64,
    /// Forwarded, and no rule with its digest is named.
    pub(super) unruled: Places,
    /// Forwarded because nothing is enforced.
    pub(super) observed: Places,
    pub(super) approved: u64,
    pub(super) unauthenticated: Places,
    pub(super) by_themselves: Places,
    pub(super) weaker: Places,
    pub(super) masked: u64,
    pub(super) masked_by: BTreeSet<String>,
    pub(super) findings: Places,
    pub(super) gaps: Places,
    pub(super) steps: Places,
}

/// What is remembered of a session while it is read.
#[derive(Default)]
struct Open {
    /// Who approved which request, and whether that is proven.
    reviews: BTreeMap<String, Vec<(String, bool)>>,
    last_ns: u64,
}

impl Facts {
    /// Of all records of the selected sessions.
    pub(super) fn of(evidence: &Evidence, selection: &Selection) -> Result<Facts, CliError> {
        let mut facts = Facts {
            first_ns: u64::MAX,
            ..Facts::default()
        };
        let mut open: BTreeMap<SessionId, Open> = BTreeMap::new();
        for scanned in evidence.records() {
            let scanned = scanned?;
            let id = scanned.origin.id;
            if !selection.has(&scanned.origin) {
                continue;
            }
            facts.take(&scanned, open.entry(id).or_default());
            if matches!(scanned.shown.record, Record::SessionEnd(..)) {
                open.remove(&id);
            }
        }
        // How the others came out is not in their records.
        for found in evidence.summaries() {
            let session = found?.session;
            match session.state {
                State::Open if open.contains_key(&session.id) => facts.open += 1,
                State::Interrupted | State::Recovered if open.contains_key(&session.id) => {
                    facts.interrupted.add(session.id.to_string());
                }
                _ => {}
            }
        }
        Ok(facts)
    }

    fn take(&mut self, scanned: &Scanned, open: &mut Open) {
        let Scanned { origin, shown } = scanned;
        let place = || format!("{}/{}", origin.id, shown.sequence);
        self.first_ns = self.first_ns.min(shown.wall_ns);
        self.last_ns = self.last_ns.max(shown.wall_ns);
        if shown.wall_ns < open.last_ns {
            self.steps.add(place());
        }
        open.last_ns = shown.wall_ns;
        match &shown.record {
            Record::SessionStart(started) => {
                let start = &started.start;
                self.sessions += 1;
                self.delegated += u64::from(start.delegate.is_some());
                let (namespace, account) = start.subject.split_once('/').unwrap_or_default();
                if namespace.is_empty() || account.is_empty() {
                    self.unnamed.add(origin.id.to_string());
                }
                if start.purpose.as_deref().unwrap_or_default().is_empty() {
                    self.without_purpose.add(origin.id.to_string());
                }
            }
            Record::Intent(record) => self.decided(record, &origin.start.subject, open, &place()),
            Record::Approval(approval) => {
                let known = open.reviews.values().map(Vec::len).sum::<usize>();
                if let (ApprovalEvent::ReviewedApprove, Some(reviewer)) =
                    (approval.event, &approval.reviewer)
                    && known < MOST_REVIEWS
                {
                    let reviews = open.reviews.entry(approval.request.clone()).or_default();
                    reviews.push((reviewer.clone(), approval.authenticated));
                }
            }
            Record::Masked(masked) => {
                self.masked = self.masked.saturating_add(masked.count);
                if self.masked_by.len() < MOST_NAMES {
                    self.masked_by.insert(masked.by.clone());
                }
            }
            Record::Finding(_) => self.findings.add(place()),
            Record::Gap(_) => self.gaps.add(place()),
            _ => {}
        }
    }

    fn decided(
        &mut self,
        record: &chaperone_evidence::IntentRecord,
        subject: &str,
        open: &Open,
        place: &str,
    ) {
        let decision = &record.intent.decision;
        self.decisions += 1;
        if rank(record.served) < rank(record.asked) {
            self.weaker.add(place.to_owned());
        }
        let approved = decision.approval.is_some();
        match decision.verdict {
            Verdict::Deny => self.denied += 1,
            Verdict::Hold if !approved => {}
            Verdict::Hold | Verdict::Allow | Verdict::Observe => self.forwarded += 1,
        }
        match decision.verdict {
            Verdict::Observe => self.observed.add(place.to_owned()),
            // What a driver may always do is allowed by no rule.
            Verdict::Allow | Verdict::Hold
                if (approved || decision.verdict == Verdict::Allow)
                    && decision.reason != Reason::Baseline
                    && (decision.rule.is_empty() || decision.rule_digest.len() != 64) =>
            {
                self.unruled.add(place.to_owned());
            }
            _ => {}
        }
        if let Some(name) = &decision.approval {
            self.approved += 1;
            let none = Vec::new();
            let reviews = open.reviews.get(name).unwrap_or(&none);
            if !reviews.iter().any(|(_, proven)| *proven) {
                self.unauthenticated.add(place.to_owned());
            }
            let own = |reviewer: &str| {
                let account = subject.replace('/', ":");
                reviewer == subject || reviewer == format!("system:serviceaccount:{account}")
            };
            if reviews.iter().any(|(reviewer, _)| own(reviewer)) {
                self.by_themselves.add(place.to_owned());
            }
        }
    }
}

fn rank(durability: Durability) -> u8 {
    match durability {
        Durability::Written => 1,
        Durability::Synced => 2,
        Durability::Replicated => 3,
    }
}
