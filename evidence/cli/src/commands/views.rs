//! What `-o json` and `-o yaml` print. Fields are only ever added.

use std::collections::BTreeMap;

use chaperone_evidence::audit::Unsealing;
use chaperone_evidence::{
    Approval, ApprovalEvent, DecisionRecord, DelegateRecord, EndCause, IntentRecord, Outcome,
    OutcomeStatus, Phase, SessionSummary, State,
};
use chaperone_policy::{Durability, Verdict};
use serde::Serialize;

use crate::time::{from_ns, rfc3339};

/// One session.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionView {
    pub(crate) id: String,
    pub(crate) state: &'static str,
    pub(crate) subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delegate: Option<String>,
    /// All that is recorded of the token, its chain of actors whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<DelegateRecord>,
    pub(crate) connection: String,
    pub(crate) target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) purpose: Option<String>,
    pub(crate) protocol: String,
    pub(crate) claimed: BTreeMap<String, String>,
    pub(crate) started_at: String,
    pub(crate) last_at: String,
    pub(crate) end: String,
    pub(crate) allowed: u64,
    pub(crate) denied: u64,
    pub(crate) held: u64,
    pub(crate) observed: u64,
    pub(crate) rows: u64,
    pub(crate) masked: u64,
    pub(crate) findings: u64,
    pub(crate) records: u64,
    /// Whether nothing here opens it: then texts and counts by decision are not known.
    pub(crate) sealed: bool,
    pub(crate) attach: String,
    pub(crate) ordinal: u64,
    pub(crate) policy_digest: String,
    /// For `--continue`: what began before it.
    pub(crate) cursor: String,
}

impl From<&SessionSummary> for SessionView {
    fn from(session: &SessionSummary) -> SessionView {
        let delegate = session.start.delegate.as_ref();
        let token = delegate.and_then(|text| DelegateRecord::parse(text));
        let username = token.as_ref().map(|token| token.username.clone());
        SessionView {
            id: session.id.to_string(),
            state: state_name(session.state),
            subject: session.start.subject.clone(),
            delegate: username.or_else(|| delegate.cloned()),
            token,
            connection: session.start.connection.clone(),
            target: session.start.target.clone(),
            purpose: session.start.purpose.clone(),
            protocol: session.start.protocol.clone(),
            claimed: session.start.claims.clone(),
            started_at: rfc3339(from_ns(session.started_ns)),
            last_at: rfc3339(from_ns(session.last_ns)),
            end: session.end.clone(),
            allowed: session.allowed,
            denied: session.denied,
            held: session.held,
            observed: session.observed,
            rows: session.rows,
            masked: session.masked,
            findings: session.findings,
            records: session.records,
            sealed: session.sealed,
            attach: session.attach.to_string(),
            ordinal: session.ordinal,
            policy_digest: session.start.policy_digest.clone(),
            cursor: super::Cursor::of(session).to_string(),
        }
    }
}

/// That somebody was given the keys of sealed sessions.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnsealingView {
    pub(crate) at: String,
    pub(crate) user: String,
    pub(crate) groups: Vec<String>,
    pub(crate) reason: String,
    pub(crate) request: String,
    pub(crate) recipient: String,
    pub(crate) sessions: Vec<String>,
    /// The AuditSegment that says so.
    pub(crate) evidence: String,
}

impl UnsealingView {
    pub(crate) fn of(name: &str, found: &Unsealing) -> UnsealingView {
        UnsealingView {
            at: rfc3339(from_ns(found.wall_ns)),
            user: found.user.clone(),
            groups: found.groups.clone(),
            reason: found.reason.clone(),
            request: found.request.clone(),
            recipient: found.recipient.to_string(),
            sessions: found.sessions().iter().map(ToString::to_string).collect(),
            evidence: name.to_owned(),
        }
    }

    /// Who, when and why.
    pub(crate) fn line(&self) -> String {
        let why = match self.reason.is_empty() {
            true => String::new(),
            false => format!(": {}", self.reason),
        };
        format!("{} at {}, by {}{why}", self.user, self.at, self.request)
    }
}

/// One statement and what was decided on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatementView {
    pub(crate) sequence: u64,
    pub(crate) at: String,
    /// The same, for those who compare.
    #[serde(skip)]
    pub(crate) at_ns: u64,
    pub(crate) phase: &'static str,
    pub(crate) summary: String,
    pub(crate) command: String,
    pub(crate) parameters: Vec<Option<String>>,
    pub(crate) accesses: Vec<String>,
    pub(crate) digest: String,
    pub(crate) truncated: bool,
    pub(crate) decision: DecisionView,
    pub(crate) durability: DurabilityView,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refers_to: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<OutcomeView>,
}

impl StatementView {
    /// The record of an intent at its place.
    pub(crate) fn new(sequence: u64, wall_ns: u64, record: &IntentRecord) -> StatementView {
        let intent = &record.intent;
        StatementView {
            sequence,
            at: rfc3339(from_ns(wall_ns)),
            at_ns: wall_ns,
            phase: phase_name(intent.phase),
            summary: intent.summary.clone(),
            command: intent.command.clone(),
            parameters: intent.parameters.clone(),
            accesses: intent.accesses.clone(),
            digest: hex(&intent.digest),
            truncated: record.truncated,
            decision: DecisionView::from(&intent.decision),
            durability: DurabilityView {
                asked: durability_name(record.asked),
                served: durability_name(record.served),
            },
            refers_to: intent.refers_to,
            outcome: None,
        }
    }
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DecisionView {
    pub(crate) verdict: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) policy: String,
    pub(crate) rule: String,
    pub(crate) generation: i64,
    pub(crate) rule_digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) approval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) would_be: Option<WouldBeView>,
}

impl From<&DecisionRecord> for DecisionView {
    fn from(decision: &DecisionRecord) -> DecisionView {
        DecisionView {
            verdict: verdict_name(decision.verdict),
            reason: decision.reason.as_str(),
            policy: decision.policy.clone(),
            rule: decision.rule.clone(),
            generation: decision.generation,
            rule_digest: decision.rule_digest.clone(),
            access: decision.access.clone(),
            approval: decision.approval.clone(),
            would_be: decision.would_be.as_ref().map(|would_be| WouldBeView {
                verdict: verdict_name(would_be.verdict),
                reason: would_be.reason.as_str(),
                policy: would_be.policy.clone(),
                rule: would_be.rule.clone(),
            }),
        }
    }
}

/// What a DryRun policy would have decided.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WouldBeView {
    pub(crate) verdict: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) policy: String,
    pub(crate) rule: String,
}

/// How durable the record was before anything was forwarded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct DurabilityView {
    pub(crate) asked: &'static str,
    pub(crate) served: &'static str,
}

/// What came of a statement.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OutcomeView {
    pub(crate) status: &'static str,
    pub(crate) detail: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) duration_micros: u64,
}

impl From<&Outcome> for OutcomeView {
    fn from(outcome: &Outcome) -> OutcomeView {
        OutcomeView {
            status: match outcome.status {
                OutcomeStatus::Completed => "Completed",
                OutcomeStatus::Failed => "Failed",
                OutcomeStatus::Cancelled => "Cancelled",
                OutcomeStatus::NotForwarded => "NotForwarded",
                OutcomeStatus::Unknown => "Unknown",
            },
            detail: outcome.detail.clone(),
            rows: outcome.rows,
            bytes: outcome.bytes,
            duration_micros: u64::try_from(outcome.duration.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

/// A step of an approval.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApprovalView {
    pub(crate) sequence: u64,
    pub(crate) at: String,
    pub(crate) request: String,
    pub(crate) event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reviewer: Option<String>,
    pub(crate) authenticated: bool,
    pub(crate) reason: String,
    pub(crate) policy: String,
    pub(crate) rule: String,
}

impl ApprovalView {
    /// The record at its place.
    pub(crate) fn new(sequence: u64, wall_ns: u64, approval: &Approval) -> ApprovalView {
        ApprovalView {
            sequence,
            at: rfc3339(from_ns(wall_ns)),
            request: approval.request.clone(),
            event: match approval.event {
                ApprovalEvent::Requested => "Requested",
                ApprovalEvent::ReviewedApprove => "ReviewedApprove",
                ApprovalEvent::ReviewedDeny => "ReviewedDeny",
                ApprovalEvent::Granted => "Granted",
                ApprovalEvent::Denied => "Denied",
                ApprovalEvent::Expired => "Expired",
                ApprovalEvent::Cancelled => "Cancelled",
            },
            reviewer: approval.reviewer.clone(),
            authenticated: approval.authenticated,
            reason: approval.reason.clone(),
            policy: approval.policy.clone(),
            rule: approval.rule.clone(),
        }
    }
}

/// Anything else that happened in a session.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventView {
    pub(crate) sequence: u64,
    pub(crate) at: String,
    pub(crate) what: String,
}

/// A session's state as it is printed.
pub(crate) fn state_name(state: State) -> &'static str {
    match state {
        State::Open => "Open",
        State::Ended => "Ended",
        State::Interrupted => "Interrupted",
        State::Recovered => "Recovered",
    }
}

/// A verdict as it is printed.
pub(crate) fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "Allow",
        Verdict::Deny => "Deny",
        Verdict::Hold => "Hold",
        Verdict::Observe => "Observe",
    }
}

/// Who ended a session, in words.
pub(crate) fn cause_name(cause: EndCause) -> &'static str {
    match cause {
        EndCause::ClientClosed => "closed by the client",
        EndCause::TargetClosed => "closed by the target",
        EndCause::Terminated => "ended by the sidecar",
        EndCause::Aborted => "aborted",
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Command => "Command",
        Phase::Prepare => "Prepare",
        Phase::Bind => "Bind",
        Phase::Execute => "Execute",
    }
}

fn durability_name(durability: Durability) -> &'static str {
    match durability {
        Durability::Written => "Written",
        Durability::Synced => "Synced",
        Durability::Replicated => "Replicated",
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
