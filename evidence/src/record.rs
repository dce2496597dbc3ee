//! What is recorded: one type a kind, as a reader gets it back.
//!
//! The bytes of each kind are in FORMAT.md; nothing here does I/O. Texts
//! in these types are already masked: a raw sensitive value never reaches this crate.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::time::Duration;

use chaperone_policy::{Access, Decision, Durability, Reason, Verdict};

/// Longest frame a writer makes and a reader takes, in bytes.
pub const MAX_FRAME: usize = 4 * 1024 * 1024;
/// Most stream bytes one Client, Server or Proxy frame carries; longer ones are split.
pub const MAX_STREAM: usize = 64 * 1024;
/// Longest command text an Intent keeps, in bytes; the Client frames have the rest.
pub const MAX_COMMAND: usize = 1024 * 1024;
/// Most bytes all parameters of an Intent keep together.
pub const MAX_PARAMETERS: usize = 512 * 1024;
/// Most parameters, accesses or claims a record keeps.
pub const MAX_ITEMS: usize = 4096;
/// Longest name, reason or other short text, in bytes.
pub const MAX_TEXT: usize = 4096;

/// Who came, over what, under which policy: the first record of every session, sequence 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionStart {
    /// `namespace/service-account`.
    pub subject: String,
    /// The [`DelegateRecord`](crate::DelegateRecord) of a verified token, if the agent presented one.
    pub delegate: Option<String>,
    /// What the client says of itself (`application_name` …): declared, not proven.
    pub claims: BTreeMap<String, String>,
    /// `namespace/name` of the Connection.
    pub connection: String,
    /// Host, port and database from the Connection, as one text.
    pub target: String,
    /// Why the workload says it runs.
    pub purpose: Option<String>,
    /// `postgres`.
    pub protocol: String,
    /// Digest of the policy set in force at the start.
    pub policy_digest: String,
}

/// A [`SessionStart`] with the places the recorder gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStarted {
    /// What the sidecar said.
    pub start: SessionStart,
    /// The session's id: random, 16 hex digits.
    pub id: SessionId,
    /// The attach it began under.
    pub attach: AttachId,
    /// H(SessionStart frame) of the session with the ordinal before this one; zeros for the first.
    pub previous_start: [u8; 32],
}

/// The step of a command's life an intent stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// A command that is complete in itself (simple Query, COPY data start, function call).
    Command,
    /// A statement is prepared; nothing runs yet.
    Prepare,
    /// Parameters are bound to a prepared statement.
    Bind,
    /// A bound statement runs.
    Execute,
}

/// What was decided, in the words an auditor can look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionRecord {
    /// What happens.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// `namespace/name` of the AccessPolicy or Connection; empty where no rule settled it.
    pub policy: String,
    /// The rule's name.
    pub rule: String,
    /// `metadata.generation` of that resource.
    pub generation: i64,
    /// Hex SHA-256 of its canonical spec.
    pub rule_digest: String,
    /// The effect and object that settled it.
    pub access: Option<String>,
    /// Name of the ApprovalRequest whose grant was redeemed. `verify` asks for its Approval record.
    pub approval: Option<String>,
    /// What DryRun policies would have decided.
    pub would_be: Option<WouldBe>,
}

/// A decision that only a DryRun policy would have made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WouldBe {
    /// What would happen.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// `namespace/name` of the policy.
    pub policy: String,
    /// The rule's name.
    pub rule: String,
}

impl From<&Decision> for WouldBe {
    fn from(decision: &Decision) -> WouldBe {
        let (policy, rule) = decision
            .rule
            .clone()
            .map(|r| (r.policy, r.rule))
            .unwrap_or_default();
        WouldBe {
            verdict: decision.verdict,
            reason: decision.reason,
            policy,
            rule,
        }
    }
}

/// A command and the decision on it, recorded before anything is forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Which step.
    pub phase: Phase,
    /// A word or two: `SELECT`, `COPY FROM`.
    pub summary: String,
    /// `Read on public.orders` …
    pub accesses: Vec<String>,
    /// The command's text, masked. Kept up to [`MAX_COMMAND`].
    pub command: String,
    /// Bound parameters, masked; `None` is NULL. Kept up to [`MAX_PARAMETERS`].
    pub parameters: Vec<Option<String>>,
    /// HMAC-SHA-256 of the raw command and parameters under the store's digest key.
    pub digest: [u8; 32],
    /// What was decided.
    pub decision: DecisionRecord,
    /// Sequence of the intent this one continues (Execute → Bind → Prepare).
    pub refers_to: Option<u64>,
}

/// An intent as it is written, borrowed from where it was made, so that nothing is copied on its way
/// into a record; `S` is what shows an access.
#[derive(Debug)]
pub struct IntentView<'a, S> {
    /// As in [`Intent`].
    pub phase: Phase,
    /// As in [`Intent`].
    pub summary: &'a str,
    /// As in [`Intent`].
    pub accesses: &'a [S],
    /// As in [`Intent`].
    pub command: &'a str,
    /// As in [`Intent`].
    pub parameters: &'a [Option<String>],
    /// As in [`Intent`].
    pub digest: [u8; 32],
    /// As in [`Intent`].
    pub decision: DecisionView<'a, S>,
    /// As in [`Intent`].
    pub refers_to: Option<u64>,
}

/// A [`DecisionRecord`] as it is written.
#[derive(Debug)]
pub struct DecisionView<'a, S> {
    /// As in [`DecisionRecord`].
    pub verdict: Verdict,
    /// As in [`DecisionRecord`].
    pub reason: Reason,
    /// As in [`DecisionRecord`].
    pub policy: &'a str,
    /// As in [`DecisionRecord`].
    pub rule: &'a str,
    /// As in [`DecisionRecord`].
    pub generation: i64,
    /// As in [`DecisionRecord`].
    pub rule_digest: &'a str,
    /// As in [`DecisionRecord`].
    pub access: Option<&'a S>,
    /// As in [`DecisionRecord`].
    pub approval: Option<&'a str>,
    /// As in [`DecisionRecord`].
    pub would_be: Option<Cow<'a, WouldBe>>,
}

/// What can be recorded as an intent.
pub trait AsIntent {
    /// What shows an access.
    type Shown: Display;

    /// The intent.
    fn as_intent(&self) -> IntentView<'_, Self::Shown>;
}

impl AsIntent for Intent {
    type Shown = String;

    fn as_intent(&self) -> IntentView<'_, String> {
        let decision = &self.decision;
        IntentView {
            phase: self.phase,
            summary: &self.summary,
            accesses: &self.accesses,
            command: &self.command,
            parameters: &self.parameters,
            digest: self.digest,
            decision: DecisionView {
                verdict: decision.verdict,
                reason: decision.reason,
                policy: &decision.policy,
                rule: &decision.rule,
                generation: decision.generation,
                rule_digest: &decision.rule_digest,
                access: decision.access.as_ref(),
                approval: decision.approval.as_deref(),
                would_be: decision.would_be.as_ref().map(Cow::Borrowed),
            },
            refers_to: self.refers_to,
        }
    }
}

impl<S: Display> AsIntent for IntentView<'_, S> {
    type Shown = S;

    fn as_intent(&self) -> IntentView<'_, S> {
        let would_be = self.decision.would_be.as_deref();
        IntentView {
            decision: DecisionView {
                would_be: would_be.map(Cow::Borrowed),
                ..self.decision
            },
            ..*self
        }
    }
}

impl<'a> DecisionView<'a, Access> {
    /// A decision, redeemed by the grant of this ApprovalRequest if there is one.
    pub fn new(decision: &'a Decision, approval: Option<&'a str>) -> DecisionView<'a, Access> {
        let rule = decision.rule.as_ref();
        DecisionView {
            verdict: decision.verdict,
            reason: decision.reason,
            policy: rule.map_or("", |rule| &rule.policy),
            rule: rule.map_or("", |rule| &rule.rule),
            generation: rule.map_or(0, |rule| rule.generation),
            rule_digest: rule.map_or("", |rule| &rule.digest),
            access: decision.access.as_ref(),
            approval,
            would_be: decision
                .dry_run
                .as_deref()
                .map(|would_be| Cow::Owned(WouldBe::from(would_be))),
        }
    }
}

/// Why stream bytes of the client are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientClass {
    /// A command, forwarded under the intent it names.
    Command,
    /// Protocol housekeeping that carries no command (Sync, Flush, Close, copy data).
    Control,
    /// A command that was refused; never forwarded.
    Refused,
}

/// Stream bytes, with the places where something was masked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stream {
    /// The bytes; masked spans are already overwritten.
    pub bytes: Vec<u8>,
    /// Spans of `bytes` that are not what was on the agent's side of the wire.
    pub masked: Vec<Range<u32>>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutcomeStatus {
    /// The target completed it.
    Completed,
    /// The target answered with an error.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It was recorded, then not forwarded after all.
    NotForwarded,
    /// The session ended before an answer came.
    Unknown,
}

/// What came of an intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Sequence of the intent.
    pub intent: u64,
    /// How it ended.
    pub status: OutcomeStatus,
    /// The command tag or the SQLSTATE.
    pub detail: String,
    /// Rows sent or changed.
    pub rows: u64,
    /// Bytes sent to the agent.
    pub bytes: u64,
    /// From forwarding to the end of the answer.
    pub duration: Duration,
}

/// A step in the life of an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ApprovalEvent {
    /// A human is asked.
    Requested,
    /// One reviewer said yes.
    ReviewedApprove,
    /// One reviewer said no.
    ReviewedDeny,
    /// The quorum is reached and the grant redeemed for this session's command.
    Granted,
    /// Somebody said no.
    Denied,
    /// Nobody answered in time.
    Expired,
    /// The client went away.
    Cancelled,
}

/// One review, or a change of an ApprovalRequest's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Name of the ApprovalRequest.
    pub request: String,
    /// What happened to it.
    pub event: ApprovalEvent,
    /// Who reviewed.
    pub reviewer: Option<String>,
    /// Whether the reviewer's identity is proven; false for `local:<uid>`.
    pub authenticated: bool,
    /// The reviewer's words.
    pub reason: String,
    /// `namespace/name` of the policy that asks.
    pub policy: String,
    /// The rule that asks.
    pub rule: String,
    /// Its digest.
    pub rule_digest: String,
}

/// The policy in force for this session changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyChanged {
    /// Digest of the policy set until now.
    pub previous: String,
    /// Digest of the policy set from here on.
    pub current: String,
    /// What it meant for what was running.
    pub detail: String,
}

/// Values masked since the last such record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masked {
    /// The column or the detector.
    pub by: String,
    /// How many values.
    pub count: u64,
}

/// Something a human should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub kind: String,
    /// What was seen.
    pub detail: String,
}

/// Records that could not be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// How many records.
    pub records: u64,
    /// How many bytes of frames.
    pub bytes: u64,
    /// Why.
    pub why: String,
}

/// Who ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndCause {
    /// The agent said goodbye or closed its connection.
    ClientClosed,
    /// The target did.
    TargetClosed,
    /// The sidecar ended it; the reason says why.
    Terminated,
    /// Its task went away without saying why.
    Aborted,
}

/// How a session ended, as the sidecar says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEnd {
    /// Who ended it.
    pub cause: EndCause,
    /// Why, where the sidecar or the target ended it.
    pub reason: Option<Reason>,
    /// A sentence, or empty.
    pub detail: String,
}

/// What a session added up to; counted by the recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Records before SessionEnd.
    pub records: u64,
    /// Intents that were forwarded.
    pub forwarded: u64,
    /// Intents that were refused.
    pub refused: u64,
    /// Stream bytes of the client.
    pub client_bytes: u64,
    /// Stream bytes of the server.
    pub server_bytes: u64,
    /// Rows of all outcomes.
    pub rows: u64,
}

/// One record, read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The first.
    SessionStart(Box<SessionStarted>),
    /// A command and its decision.
    Intent(Box<IntentRecord>),
    /// Bytes from the agent.
    Client {
        /// Why they are here.
        class: ClientClass,
        /// Sequence of the intent they belong to; 0 for Control.
        intent: u64,
        /// The bytes.
        stream: Stream,
    },
    /// Bytes to the agent.
    Server(Stream),
    /// Bytes the proxy itself sent to the target.
    Proxy {
        /// What for: `login`, `catalog`, `cancel` …
        purpose: String,
        /// The bytes; empty where they are a secret.
        bytes: Vec<u8>,
    },
    /// What came of an intent.
    Outcome(Outcome),
    /// A review.
    Approval(Approval),
    /// Another policy from here on.
    PolicyChanged(PolicyChanged),
    /// Values masked.
    Masked(Masked),
    /// Something to look at.
    Finding(Finding),
    /// Records lost.
    Gap(Gap),
    /// The last.
    SessionEnd(SessionEnd, Totals),
}

/// An [`Intent`] with the durability it was asked to have and got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentRecord {
    /// The command and the decision.
    pub intent: Intent,
    /// The level the rule asked for.
    pub asked: Durability,
    /// The level it was held to. Standalone, Replicated is served as Synced.
    pub served: Durability,
    /// Whether texts were cut to their bounds.
    pub truncated: bool,
}

/// Eight random bytes that name a session; shown as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub [u8; 8]);

/// Eight random bytes that name an attach; shown as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AttachId(pub [u8; 8]);

macro_rules! hex_id {
    ($name:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}
hex_id!(SessionId);
hex_id!(AttachId);

impl Record {
    /// The kind's name, as `show` and FORMAT.md write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Record::SessionStart(_) => "SessionStart",
            Record::Intent(_) => "Intent",
            Record::Client { .. } => "Client",
            Record::Server(_) => "Server",
            Record::Proxy { .. } => "Proxy",
            Record::Outcome(_) => "Outcome",
            Record::Approval(_) => "Approval",
            Record::PolicyChanged(_) => "PolicyChanged",
            Record::Masked(_) => "Masked",
            Record::Finding(_) => "Finding",
            Record::Gap(_) => "Gap",
            Record::SessionEnd(..) => "SessionEnd",
        }
    }
}
