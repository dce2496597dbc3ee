//! One agent session: its subject, the policy that applies now, and its evidence.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chaperone_approvals::Approvals;
use chaperone_evidence as evidence;
use chaperone_evidence::{Permit, Recorder, SessionRecorder, Staged};
use chaperone_identity::{Providers, Verified};
use chaperone_policy::{
    Access, Decision, Durability, OnFinding, Operation, Policy, PolicySet, Reason, Subject,
    Verdict, decide,
};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::findings::{Deviations, Found};
use crate::identity::{KeyRequests, TOKEN_HINT};
use crate::{Command, Denial, Metrics, Notice, NoticeKind, Notices, Phase, RateLimits};

/// The policies of one connection as they stand now. A new value replaces it whole.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows with every change; what was decided under another generation is decided again.
    pub generation: u64,
    /// The compiled policies.
    pub policies: PolicySet,
    /// Whose tokens can be checked.
    pub providers: Arc<Providers>,
}

/// What all sessions of one connection share.
pub struct Enforcement {
    /// `namespace/name` of the Connection.
    pub connection: String,
    /// `host:port` of the target, for the record.
    pub target: String,
    /// The protocol's name in records.
    pub protocol: &'static str,
    /// Follows the manifests.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Evidence.
    pub recorder: Arc<Recorder>,
    /// Humans.
    pub approvals: Arc<Approvals>,
    /// Counters.
    pub metrics: Metrics,
    /// Rates of the connection.
    pub rates: RateLimits,
    /// What is out of the ordinary on it.
    pub deviations: Deviations,
    /// What the workload's people hear of; shared by all connections.
    pub notices: Arc<Notices>,
    /// Where keys of a provider are asked for that a token needs and nobody has.
    pub key_requests: KeyRequests,
}

/// How a session begins.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// What the client claims about itself; matched by no rule.
    pub claims: BTreeMap<String, String>,
    /// A purpose that the client declares. It counts where it narrows the workload's own as
    /// `<purpose>/<detail>` (api.md, Annotations), and then for records and approvers only: rules
    /// see the workload's.
    pub purpose: Option<String>,
    /// The token that the agent presented.
    pub token: Option<Verified>,
}

/// One session under enforcement.
pub struct Session {
    pub(crate) shared: Arc<Enforcement>,
    pub(crate) subject: Arc<Subject>,
    /// As records and approvers read it.
    pub(crate) purpose: Option<String>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    policy: Policy,
    generation: u64,
    pub(crate) record: SessionRecorder,
    token: Option<Verified>,
    started: Instant,
    /// Why it ends, once a finding closed it.
    closed: Option<Denial>,
}

impl fmt::Debug for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enforcement")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.record.id())
            .finish_non_exhaustive()
    }
}

impl Enforcement {
    /// Begins a session: its start is recorded before anything else happens.
    ///
    /// # Errors
    /// `CannotRecord`, or `NoPolicy` where nothing selects this subject; that session is recorded
    /// and ended.
    pub async fn open(
        self: &Arc<Self>,
        subject: Arc<Subject>,
        start: Start,
    ) -> Result<Session, Denial> {
        let mut snapshot = self.snapshot.clone();
        let current = Arc::clone(&snapshot.borrow_and_update());
        let subject = match &start.token {
            None => subject,
            Some(token) => Arc::new(Subject {
                delegate: Some(token.delegate().clone()),
                ..Subject::clone(&subject)
            }),
        };
        let selected = current.policies.select(&subject);
        let purpose = narrowed(subject.purpose.as_deref(), start.purpose);
        let record = self
            .recorder
            .begin(evidence::SessionStart {
                subject: subject.workload.qualified_name(),
                delegate: start.token.as_ref().map(|token| token.record().to_owned()),
                claims: start.claims,
                connection: self.connection.clone(),
                target: self.target.clone(),
                purpose: purpose.clone(),
                protocol: self.protocol.to_owned(),
                policy_digest: selected
                    .as_ref()
                    .map_or_else(String::new, |policy| policy.digest().to_owned()),
            })
            .map_err(|error| cannot_record(&error))?;
        self.metrics.opened(&self.connection);
        let Some(policy) = selected else {
            return Err(self.end_at_once(record, self.no_policy(&subject)).await);
        };
        Ok(Session {
            shared: Arc::clone(self),
            subject,
            purpose,
            snapshot,
            generation: current.generation,
            closed: None,
            policy,
            record,
            token: start.token,
            started: Instant::now(),
        })
    }

    /// Records a session that began with a token and was refused for it, or for the lack of one;
    /// gives what the agent is told.
    pub async fn refuse_token(&self, subject: &Subject, start: Start, denial: Denial) -> Denial {
        let begun = self.recorder.begin(evidence::SessionStart {
            subject: subject.workload.qualified_name(),
            delegate: None,
            claims: start.claims,
            connection: self.connection.clone(),
            target: self.target.clone(),
            purpose: narrowed(subject.purpose.as_deref(), start.purpose),
            protocol: self.protocol.to_owned(),
            policy_digest: String::new(),
        });
        match begun {
            Err(error) => cannot_record(&error),
            Ok(record) => {
                self.metrics.opened(&self.connection);
                self.end_at_once(record, denial).await
            }
        }
    }

    async fn end_at_once(&self, record: SessionRecorder, denial: Denial) -> Denial {
        self.metrics.closed(&self.connection, Some(denial.reason));
        match record.end(ended(Some(&denial))).await {
            Ok(()) => denial,
            Err(error) => cannot_record(&error),
        }
    }

    fn no_policy(&self, subject: &Subject) -> Denial {
        let delegate = subject
            .delegate
            .as_ref()
            .map(|delegate| format!(" with {} of {}", delegate.username, delegate.provider))
            .unwrap_or_default();
        Denial::new(
            Reason::NoPolicy,
            format!(
                "no AccessPolicy gives {}{delegate} access to {}",
                subject.workload.qualified_name(),
                self.connection
            ),
        )
        .with_hint("apply an AccessPolicy whose subjects and connections name both")
    }
}

impl Session {
    /// The session's id in the evidence.
    pub fn id(&self) -> &str {
        self.record.id()
    }

    /// The policy that applies now.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Who acts.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What all sessions of the connection share.
    pub fn shared(&self) -> &Arc<Enforcement> {
        &self.shared
    }

    /// The generation of the policy that applies now.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The session's evidence.
    pub fn record(&mut self) -> &mut SessionRecorder {
        &mut self.record
    }

    /// A receiver that wakes when the policies change.
    pub fn changes(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Takes up the newest policies; true when they are others than before.
    ///
    /// # Errors
    /// `NoPolicy` when nothing selects this subject any more, `TokenRequired` and `TokenRefused`
    /// when who it is is not proven any more: the session must end.
    pub fn refresh(&mut self) -> Result<bool, Denial> {
        let current = Arc::clone(&self.snapshot.borrow_and_update());
        if current.generation == self.generation {
            return Ok(false);
        }
        self.generation = current.generation;
        if let Some(denial) = self.unproven(&current) {
            self.policy = Policy::invalid(denial.reason, denial.message.clone());
            return Err(denial);
        }
        let Some(policy) = current.policies.select(&self.subject) else {
            self.policy = Policy::invalid(
                Reason::NoPolicy,
                "no AccessPolicy selects this subject any more",
            );
            return Err(self.shared.no_policy(&self.subject));
        };
        if policy.digest() != self.policy.digest() {
            self.record
                .policy_changed(evidence::PolicyChanged {
                    previous: self.policy.digest().to_owned(),
                    current: policy.digest().to_owned(),
                    detail: String::new(),
                })
                .map_err(|error| cannot_record(&error))?;
        }
        self.policy = policy;
        Ok(true)
    }

    /// Why a session could not begin under these policies as this one did.
    fn unproven(&self, current: &Snapshot) -> Option<Denial> {
        let (reason, message) = match &self.token {
            Some(token) if token.is_trusted_by(&current.providers) => return None,
            Some(_) => (
                Reason::TokenRefused,
                "the IdentityProvider of the session's token is gone or was changed",
            ),
            None if current
                .policies
                .identity_providers(&self.subject)
                .is_empty() =>
            {
                return None;
            }
            None => (
                Reason::TokenRequired,
                "a policy selects by identity now, and this session began without a token",
            ),
        };
        Some(Denial::new(reason, message).with_hint(TOKEN_HINT))
    }

    /// Why the session must end by now, if it must.
    pub fn overdue(&self) -> Option<Denial> {
        if let Some(closed) = &self.closed {
            return Some(closed.clone());
        }
        // By the wall clock, whatever that has done meanwhile: so is `exp`.
        let expired = |token: &Verified| token.expires() <= Timestamp::now();
        if self.token.as_ref().is_some_and(expired) {
            let denial = Denial::new(
                Reason::TokenExpired,
                "the token that this session began with has expired",
            );
            return Some(denial.with_hint("connect again with a new token"));
        }
        let lasts = self.policy.limits().session_duration?;
        (self.started.elapsed() >= lasts).then(|| {
            Denial::new(
                Reason::SessionExpired,
                "the session lasted as long as its policy allows",
            )
        })
    }

    /// Decides, and counts the statement against the connection's rate.
    pub fn decide(&mut self, operation: &Operation) -> Decision {
        if !self
            .shared
            .rates
            .statement(self.policy.limits().statements_per_minute)
        {
            return self.deny(
                Reason::LimitExceeded,
                None,
                "more statements in this minute than the policy allows",
            );
        }
        let decision = self.decide_again(operation);
        if decision.verdict != Verdict::Deny {
            let found = self
                .shared
                .deviations
                .named(&operation.accesses, self.policy.findings());
            if found.is_some() {
                self.found(found);
                // What follows from it holds for this command already.
                return self.decide_again(operation);
            }
        }
        decision
    }

    /// The same for a command that is counted already, or will be.
    pub fn decide_again(&self, operation: &Operation) -> Decision {
        let mut decision = decide(&self.policy, &self.subject, operation);
        if decision.verdict == Verdict::Deny {
            return decision;
        }
        if let Some(closed) = &self.closed {
            return self.deny(closed.reason, None, &closed.message);
        }
        let findings = self.policy.findings();
        // Beginning and ending a transaction, and what else every client does, goes on.
        if findings.on_finding == OnFinding::HoldNext
            && decision.reason != Reason::Baseline
            && self.shared.deviations.is_holding()
        {
            decision.verdict = Verdict::Hold;
            decision.reason = Reason::ApprovalPending;
            decision.rule = findings.approvals.first().map(|asked| asked.rule.clone());
            decision
                .approvals
                .extend(findings.approvals.iter().cloned());
            decision.durability = Durability::Replicated;
        }
        decision
    }

    /// Records what is out of the ordinary, and does what the policy says of it.
    fn found(&mut self, found: Option<Found>) {
        let Some(found) = found else { return };
        let kind = found.kind.as_str();
        if found.first {
            self.shared.metrics.found(&self.shared.connection, kind);
            tracing::warn!(session = self.id(), kind, "finding: {}", found.detail);
            // One that cannot be kept fails the next record, which denies.
            let _ = self.record.finding(evidence::Finding {
                kind: kind.to_owned(),
                detail: found.detail.clone(),
            });
            self.notice(NoticeKind::Finding, kind, found.detail.clone());
        }
        match self.policy.findings().on_finding {
            OnFinding::Alert => {}
            OnFinding::HoldNext => self.shared.deviations.hold(),
            OnFinding::Close => {
                let message = format!("{kind}: {}", found.detail);
                self.closed = Some(Denial::new(Reason::ClosedByFinding, message));
            }
        }
    }

    /// Something that the workload's people should hear of.
    pub(crate) fn notice(&self, kind: NoticeKind, reason: &str, detail: String) {
        self.shared.notices.add(Notice {
            kind,
            reason: reason.to_owned(),
            connection: self.shared.connection.clone(),
            session: self.record.id().to_owned(),
            detail,
            count: 1,
        });
    }

    /// A command has ended with so many rows, of which so many values were masked.
    pub fn passed(&mut self, rows: u64, masked: u64) {
        let shared = &self.shared;
        shared.metrics.passed(&shared.connection, rows, masked);
        let findings = self.policy.findings();
        let unusual = shared.deviations.rows(rows, findings);
        let many = shared.deviations.masked(masked, findings);
        self.found(unusual);
        self.found(many);
    }

    /// A decision of the flow itself rather than of a rule.
    pub fn deny(&self, reason: Reason, access: Option<Access>, message: &str) -> Decision {
        Decision {
            verdict: Verdict::Deny,
            reason,
            rule: None,
            access,
            message: Some(message.to_owned()),
            approvals: Vec::new(),
            durability: Durability::Written,
            dry_run: None,
        }
    }

    /// Records the intent and returns the right to forward exactly this command, once.
    ///
    /// # Errors
    /// `CannotRecord`: nothing may be forwarded.
    pub async fn permit(
        &mut self,
        decision: &Decision,
        command: &Command<'_>,
    ) -> Result<Permit, Denial> {
        self.permit_as(decision, command, None).await
    }

    pub(crate) async fn permit_as(
        &mut self,
        decision: &Decision,
        command: &Command<'_>,
        approval: Option<&str>,
    ) -> Result<Permit, Denial> {
        self.forwardable(decision, command);
        let intent = self.intent(decision, command, approval);
        self.record
            .intent(&intent, command.client, decision.durability)
            .await
            .map_err(|error| cannot_record(&error))
    }

    /// Takes the intent down and lets nothing through yet: [`Session::permits`] does, for all
    /// commands of a pipeline at once.
    ///
    /// # Errors
    /// `CannotRecord`: nothing may be forwarded.
    pub fn stage(&mut self, decision: &Decision, command: &Command<'_>) -> Result<Staged, Denial> {
        self.forwardable(decision, command);
        let intent = self.intent(decision, command, None);
        self.record
            .stage(&intent, command.client, decision.durability)
            .map_err(|error| cannot_record(&error))
    }

    /// A permit for each of these, in their order, once all are recorded as they asked to be.
    ///
    /// # Errors
    /// `CannotRecord`: none of them may be forwarded.
    pub async fn permits(&mut self, staged: Vec<Staged>) -> Result<Vec<Permit>, Denial> {
        self.record
            .permits(staged)
            .await
            .map_err(|error| cannot_record(&error))
    }

    fn forwardable(&self, decision: &Decision, command: &Command<'_>) {
        if matches!(command.phase, Phase::Command | Phase::Bind) {
            self.shared
                .metrics
                .decided(&self.shared.connection, decision);
        }
    }

    /// Records that the command was refused, and words it.
    pub async fn refuse(&mut self, decision: &Decision, command: &Command<'_>) -> Denial {
        self.shared
            .metrics
            .decided(&self.shared.connection, decision);
        let about = decision.access.as_ref().map(ToString::to_string);
        self.notice(
            NoticeKind::Denied,
            decision.reason.as_str(),
            about.unwrap_or_default(),
        );
        let found = self.shared.deviations.denied(self.policy.findings());
        self.found(found);
        let intent = self.intent(decision, command, None);
        match self.record.refusal(&intent, command.client).await {
            Ok(sequence) => Denial::from_decision(decision, self.record.id(), Some(sequence)),
            Err(error) => cannot_record(&error),
        }
    }

    /// Counts comparisons by equality with masked columns (policy.md, Inference).
    pub fn equality(&mut self, count: u64) {
        let findings = self.policy.findings();
        let found = self.shared.deviations.compared(count, findings);
        self.found(found);
    }

    /// Ends the session's record.
    pub async fn end(self, denial: Option<&Denial>) -> Result<(), Denial> {
        self.shared
            .metrics
            .closed(&self.shared.connection, denial.map(|denial| denial.reason));
        self.record
            .end(ended(denial))
            .await
            .map_err(|error| cannot_record(&error))
    }

    pub(crate) fn intent<'c>(
        &self,
        decision: &'c Decision,
        command: &Command<'c>,
        approval: Option<&'c str>,
    ) -> evidence::IntentView<'c, Access> {
        evidence::IntentView {
            phase: command.phase,
            summary: command.verb,
            accesses: &command.operation.accesses,
            command: command.text,
            parameters: command.parameters,
            digest: self.shared.recorder.digest(command.exact),
            decision: evidence::DecisionView::new(decision, approval),
            refers_to: command.refers_to,
        }
    }
}

/// The workload's purpose, or a declared one that narrows it.
fn narrowed(own: Option<&str>, declared: Option<String>) -> Option<String> {
    let own = own?;
    let detail = declared
        .as_deref()
        .and_then(|declared| declared.strip_prefix(own)?.strip_prefix('/'));
    match detail {
        Some(detail) if !detail.is_empty() => declared,
        _ => Some(own.to_owned()),
    }
}

fn ended(denial: Option<&Denial>) -> evidence::SessionEnd {
    match denial {
        None => evidence::SessionEnd {
            cause: evidence::EndCause::ClientClosed,
            reason: None,
            detail: String::new(),
        },
        Some(denial) => evidence::SessionEnd {
            cause: match denial.reason {
                Reason::TargetRefused | Reason::TargetProtocol | Reason::TargetUnreachable => {
                    evidence::EndCause::TargetClosed
                }
                _ => evidence::EndCause::Terminated,
            },
            reason: Some(denial.reason),
            detail: denial.message.clone(),
        },
    }
}

/// The record failed: nothing is forwarded any more.
pub(crate) fn cannot_record(error: &evidence::RecordError) -> Denial {
    Denial::new(
        Reason::CannotRecord,
        format!("the evidence of this command cannot be kept, so it is not run: {error}"),
    )
    .with_hint("free space on, or repair, the disk that holds the evidence")
}

/// How often a waiting client is told that it still waits (postgres.md, Limits).
pub(crate) const REMINDER: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_is_only_ever_narrowed() {
        let with = |own, declared: &str| narrowed(own, Some(declared.to_owned()));
        assert_eq!(
            with(Some("nightly"), "nightly/q3").as_deref(),
            Some("nightly/q3")
        );
        for declared in ["nightly", "nightly/", "nightlyx/y", "other", "", "psql"] {
            assert_eq!(with(Some("nightly"), declared).as_deref(), Some("nightly"));
        }
        assert_eq!(with(None, "nightly/q3"), None);
        assert_eq!(narrowed(Some("nightly"), None).as_deref(), Some("nightly"));
    }
}
