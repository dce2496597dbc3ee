//! The answer to one operation.

use std::time::Duration;

use crate::{Access, Reason};

/// What happens to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Forwarded.
    Allow,
    /// Refused; the target sees nothing.
    Deny,
    /// Waits for humans.
    Hold,
    /// Forwarded because only DryRun policies select.
    Observe,
}

/// How far an intent must have got before its command is forwarded (evidence.md, Durability).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// In the spool file's page cache.
    Written,
    /// On the disk under the spool.
    Synced,
    /// In the audit store. Standalone the state folder is the store and this is `Synced`.
    Replicated,
}

/// A rule, named so that an auditor can find exactly this one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuleRef {
    /// `namespace/name` of the AccessPolicy, or `Connection namespace/name` for a guardrail.
    pub policy: String,
    /// The rule's name; empty where the whole policy is meant.
    pub rule: String,
    /// `metadata.generation` of the resource; 0 standalone.
    pub generation: i64,
    /// Hex SHA-256 of the resource's canonical spec.
    pub digest: String,
}

/// What one RequireApproval rule asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRule {
    /// The rule that asks.
    pub rule: RuleRef,
    /// User names that may review.
    pub users: Vec<String>,
    /// Groups that may review.
    pub groups: Vec<String>,
    /// Distinct reviewers needed.
    pub quorum: u32,
    /// How long the client waits before it is told to come back.
    pub timeout: Duration,
    /// How long a grant may be redeemed.
    pub valid_for: Duration,
}

/// The decision on one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What happens.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The rule that settled it; none where no rule did.
    pub rule: Option<RuleRef>,
    /// The effect and object that settled it.
    pub access: Option<Access>,
    /// The rule's own message for the client.
    pub message: Option<String>,
    /// What must be granted when the verdict is [`Verdict::Hold`]; never empty then.
    pub approvals: Vec<ApprovalRule>,
    /// How durable the intent must be before anything is forwarded.
    pub durability: Durability,
    /// What DryRun policies would have decided, where they select.
    pub dry_run: Option<Box<Decision>>,
}
