//! Approval requests as a sidecar makes, follows and uses them.

use chaperone_crds::{ApprovalPhase, Approvers, DelegateRef, Review};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A command that waits for humans. Namespace and service account are the caller's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NewApproval {
    /// `namespace/name` of the Connection.
    pub connection: String,
    /// The delegate, if one acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate: Option<DelegateRef>,
    /// Why the workload says it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Hex of the keyed digest of the exact command and parameters.
    pub command_digest: String,
    /// Every rule that asks; all their quorums must be reached.
    pub rules: Vec<AskingRule>,
    /// One line for lists.
    pub summary: String,
    /// The command, masked, not yet escaped.
    pub command: String,
    /// Its parameters, masked; `None` is NULL.
    #[serde(default)]
    pub parameters: Vec<Option<String>>,
    /// What it does to what.
    #[serde(default)]
    pub accesses: Vec<AccessView>,
    /// How long it may wait for its reviews, in seconds.
    pub expires_in_seconds: u64,
}

/// One rule that asks for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AskingRule {
    /// `namespace/name` of the AccessPolicy, or of the Connection for a guardrail.
    pub policy: String,
    /// The rule's name.
    pub rule: String,
    /// `metadata.generation` of its resource.
    pub generation: i64,
    /// Hex digest of its resource's spec.
    pub digest: String,
    /// Who may review.
    pub approvers: Approvers,
    /// How many different people must approve.
    pub quorum: u32,
    /// How long the client waits, in seconds.
    pub timeout_seconds: u64,
    /// How long a grant may be redeemed, in seconds.
    pub valid_for_seconds: u64,
}

/// An effect on an object, as an approver reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AccessView {
    /// The effect's name.
    pub effect: String,
    /// The object.
    pub object: String,
}

/// The client went away or cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Cancel {
    /// Why, in a few words.
    pub why: String,
}

/// Uses a grant for a command that is about to run: all parts must be those it was given for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Redeem {
    /// `namespace/name` of the Connection.
    pub connection: String,
    /// The delegate, if one acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate: Option<DelegateRef>,
    /// Hex of the keyed digest of the exact command and parameters.
    pub command_digest: String,
    /// Combined digest of the rules that ask now.
    pub rule_digest: String,
    /// The session that runs it.
    pub session: String,
}

/// How far a request is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApprovalState {
    /// `ar-xxxxx`, in the pod's namespace.
    pub name: String,
    /// Counted from its reviews.
    pub phase: ApprovalPhase,
    /// Until when it can be granted, or if approved, redeemed.
    pub open_until: Timestamp,
    /// Whether this call made it.
    #[serde(default)]
    pub created: bool,
    /// When the last quorum was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_at: Option<Timestamp>,
    /// Who answered what, oldest first.
    #[serde(default)]
    pub reviews: Vec<Review>,
}
