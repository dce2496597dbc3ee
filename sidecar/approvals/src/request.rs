//! What is asked for and what comes back.

use std::time::Duration;

use chaperone_policy::{Access, ApprovalRule, Effect};
use jiff::Timestamp;

use crate::error::ApprovalError;
use crate::escape::{escape_for_display, escape_line};
use crate::rules::{Counted, MAX_REVIEWS, Phase};
use crate::tuple::{Tuple, combined_rule_digest};

/// Most bytes of command and parameters that can be put to a human (policy.md, Approvals).
pub(crate) const MAX_COMMAND_BYTES: usize = 32 * 1024;
/// Most pending requests of one subject (policy.md, Approvals).
pub const MAX_PENDING: usize = 10;
/// Bounds of the resource's schema, in characters or items.
const MAX_COMMAND_CHARS: usize = 65_536;
const MAX_PARAMETER_CHARS: usize = 32_768;
const MAX_PARAMETERS: usize = 1_024;
const MAX_OBJECTS: usize = 256;
const MAX_OBJECT_CHARS: usize = 256;

/// A command that waits for humans.
#[derive(Debug, Clone)]
pub struct NewRequest {
    /// What the grant will be bound to. Its `rule_digest` must be
    /// [`combined_rule_digest`](crate::combined_rule_digest) of `rules`.
    pub tuple: Tuple,
    /// Why the workload says it runs.
    pub purpose: Option<String>,
    /// Every rule that asks (`Decision::approvals`); never empty. All quorums must be reached.
    pub rules: Vec<ApprovalRule>,
    /// One line for lists, `Delete on public.orders`.
    pub summary: String,
    /// The command as approvers may read it: already masked, not yet escaped.
    pub command: String,
    /// Bound parameters, already masked; `None` is NULL.
    pub parameters: Vec<Option<String>>,
    /// What the command does to what.
    pub accesses: Vec<Access>,
    /// How long the request may wait for its reviews.
    pub expires_in: Duration,
}

impl From<&NewRequest> for Draft {
    fn from(new: &NewRequest) -> Draft {
        Draft {
            tuple: new.tuple.clone(),
            pod: None,
            purpose: new.purpose.clone(),
            rules: new.rules.clone(),
            summary: new.summary.clone(),
            command: new.command.clone(),
            parameters: new.parameters.clone(),
            effects: new.accesses.iter().map(|access| access.effect).collect(),
            objects: new
                .accesses
                .iter()
                .map(|access| access.object.to_string())
                .collect(),
            expires_in: new.expires_in,
        }
    }
}

/// A [`NewRequest`] in words, as it crosses from a sidecar to the operator.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What the grant will be bound to.
    pub tuple: Tuple,
    /// The pod that asks, where there is one.
    pub pod: Option<String>,
    /// Why the workload says it runs.
    pub purpose: Option<String>,
    /// Every rule that asks; never empty.
    pub rules: Vec<ApprovalRule>,
    /// One line for lists.
    pub summary: String,
    /// The command: already masked, not yet escaped.
    pub command: String,
    /// Bound parameters, already masked; `None` is NULL.
    pub parameters: Vec<Option<String>>,
    /// What the command does.
    pub effects: Vec<Effect>,
    /// To what, not yet escaped.
    pub objects: Vec<String>,
    /// How long the request may wait for its reviews.
    pub expires_in: Duration,
}

impl Draft {
    /// The objects, each once, as an approver reads them.
    pub(crate) fn objects(&self) -> Vec<String> {
        let mut objects: Vec<String> = self
            .objects
            .iter()
            .map(|object| escape_line(object))
            .collect();
        objects.sort();
        objects.dedup();
        objects
    }

    /// Whether it can be put to a human at all.
    ///
    /// # Errors
    /// `TooLargeToApprove`, or [`ApprovalError::Invalid`].
    pub fn check(&self) -> Result<(), ApprovalError> {
        self.check_size()?;
        if self.rules.is_empty() {
            return Err(ApprovalError::Invalid("no rule asks for it".to_owned()));
        }
        if self.tuple.rule_digest != combined_rule_digest(&self.rules) {
            return Err(ApprovalError::Invalid(
                "the tuple is not of the rules that ask".to_owned(),
            ));
        }
        for asked in &self.rules {
            let rule = format!("{}/{}", asked.rule.policy, asked.rule.rule);
            if asked.users.is_empty() && asked.groups.is_empty() {
                return Err(ApprovalError::Invalid(format!("{rule} names no approvers")));
            }
            if asked.quorum == 0 || asked.quorum as usize > MAX_REVIEWS {
                return Err(ApprovalError::Invalid(format!(
                    "{rule} asks for {} approvers; 1 to {MAX_REVIEWS} are possible",
                    asked.quorum
                )));
            }
        }
        Ok(())
    }

    fn check_size(&self) -> Result<(), ApprovalError> {
        let values = || self.parameters.iter().flatten();
        let size = self.command.len() + values().map(String::len).sum::<usize>();
        let too_large = |size, limit| Err(ApprovalError::TooLargeToApprove { size, limit });
        if size > MAX_COMMAND_BYTES {
            return too_large(size, MAX_COMMAND_BYTES);
        }
        // Escaped text is longer, and must be shown whole.
        let shown = escape_for_display(&self.command).chars().count();
        if shown > MAX_COMMAND_CHARS {
            return too_large(shown, MAX_COMMAND_CHARS);
        }
        let longest = values()
            .map(|value| escape_for_display(value).chars().count())
            .max()
            .unwrap_or_default();
        if longest > MAX_PARAMETER_CHARS {
            return too_large(longest, MAX_PARAMETER_CHARS);
        }
        if self.parameters.len() > MAX_PARAMETERS {
            return too_large(self.parameters.len(), MAX_PARAMETERS);
        }
        let objects = self.objects();
        if objects.len() > MAX_OBJECTS {
            return too_large(objects.len(), MAX_OBJECTS);
        }
        let longest = objects.iter().map(|object| object.chars().count()).max();
        match longest {
            Some(longest) if longest > MAX_OBJECT_CHARS => too_large(longest, MAX_OBJECT_CHARS),
            _ => Ok(()),
        }
    }
}

/// A request that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// `ar-xxxxx`.
    pub name: String,
    /// `Pending`, or `Approved` where an earlier request of the same tuple left a grant.
    pub phase: Phase,
    /// Until when it can be granted, or if approved, redeemed.
    pub open_until: Timestamp,
    /// Whether this call made it.
    pub created: bool,
}

/// A redeemed approval: one command may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The request's name.
    pub name: String,
    /// Who approved, when and why; oldest first. Goes into the evidence before the command.
    pub reviews: Vec<Counted>,
    /// When the last quorum was reached.
    pub approved_at: Timestamp,
}
