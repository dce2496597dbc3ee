//! Why a command or connection ended, in words a protocol can pass on.

use chaperone_policy::{Decision, Reason};

/// A refusal. The protocol turns it into its own native error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The constant.
    pub reason: Reason,
    /// One sentence for the client.
    pub message: String,
    /// Policy, rule and what was not covered.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Denial {
    /// A refusal without a rule behind it.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// Adds what to do.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Words a decision that denies.
    pub fn from_decision(decision: &Decision, session: &str, sequence: Option<u64>) -> Self {
        let what = decision
            .access
            .as_ref()
            .map_or_else(|| "this command".to_owned(), ToString::to_string);
        let message = match decision.reason {
            Reason::DeniedByRule => match &decision.message {
                Some(message) => format!("denied: {message}"),
                None => format!("denied by rule: {what}"),
            },
            Reason::NotCovered => format!("no rule allows {what}"),
            Reason::PolicyInvalid => {
                "a policy that applies here does not compile, so everything it selects is denied"
                    .to_owned()
            }
            Reason::ConditionFailed => "a rule's condition could not be evaluated".to_owned(),
            other => match &decision.message {
                Some(message) => message.clone(),
                None => format!("{other}: {what}"),
            },
        };
        let mut detail = format!("reason: {}", decision.reason);
        if let Some(rule) = &decision.rule {
            detail.push_str("; policy: ");
            detail.push_str(&rule.policy);
            if !rule.rule.is_empty() {
                detail.push_str("; rule: ");
                detail.push_str(&rule.rule);
            }
        }
        if let Some(access) = &decision.access {
            detail.push_str("; access: ");
            detail.push_str(&access.to_string());
        }
        let hint = match sequence {
            Some(sequence) => format!("kubectl chaperone why {session}/{sequence}"),
            None => format!("kubectl chaperone show {session}"),
        };
        Self {
            reason: decision.reason,
            message,
            detail: Some(detail),
            hint: Some(hint),
        }
    }
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl std::error::Error for Denial {}
