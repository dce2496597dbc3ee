//! What applies to one subject on one connection: all that a session holds.

use std::sync::Arc;

use crate::condition::Condition;
use crate::index::RuleIndex;
use crate::{Findings, Limits, Masking, Operation, Reason, RuleRef};

/// Everything that applies to one subject on one connection. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub state: State,
    pub masking: Masking,
    /// Set only where it differs from `masking`.
    pub record_masking: Option<Masking>,
    pub limits: Limits,
    pub findings: Findings,
    pub digest: String,
}

/// What decides.
#[derive(Debug)]
pub(crate) enum State {
    /// Something that selects this subject does not compile: everything is denied.
    Broken(Broken),
    /// At least one Enforce policy selects.
    Enforce {
        /// Guardrails and Enforce policies.
        view: View,
        /// Those and the DryRun policies, where there are any.
        would_be: Option<WouldBe>,
    },
    /// Only DryRun policies select.
    Observe {
        /// The guardrails alone.
        guardrails: View,
        /// With the DryRun policies.
        would_be: WouldBe,
    },
}

/// What DryRun policies would decide.
#[derive(Debug)]
pub(crate) enum WouldBe {
    Rules(View),
    Broken(Broken),
}

/// Rules that decide together.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub index: RuleIndex,
    /// A policy, not a guardrail, has an Allow or RequireApproval on this connection.
    pub baseline: bool,
    /// No selecting policy says `catalog: Deny`.
    pub catalog: bool,
}

/// Why everything is denied.
#[derive(Debug, Clone)]
pub(crate) struct Broken {
    pub reason: Reason,
    pub rule: Option<RuleRef>,
    pub message: String,
}

impl Policy {
    /// A policy that denies everything, for one that cannot be compiled, fetched or trusted.
    pub fn invalid(reason: Reason, message: impl Into<String>) -> Policy {
        let message = message.into();
        let digest = crate::digest::of_texts(["invalid", reason.as_str(), &message]);
        Policy::broken(
            Broken {
                reason,
                rule: None,
                message,
            },
            digest,
        )
    }

    pub(crate) fn broken(broken: Broken, digest: String) -> Policy {
        Policy {
            inner: Arc::new(Inner {
                state: State::Broken(broken),
                masking: Masking::default(),
                record_masking: None,
                limits: Limits::default(),
                findings: Findings::default(),
                digest,
            }),
        }
    }

    /// Hex SHA-256 over the connection and every policy that selects, generations included: two
    /// policies with one digest decide the same.
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }

    /// What is masked in what the client gets.
    pub fn masking(&self) -> &Masking {
        &self.inner.masking
    }

    /// What is masked in the record. Differs from [`Policy::masking`] only where nothing but
    /// DryRun policies select: their masks apply to the record alone.
    pub fn record_masking(&self) -> &Masking {
        self.inner
            .record_masking
            .as_ref()
            .unwrap_or(&self.inner.masking)
    }

    /// The strictest limits of everything that applies.
    pub fn limits(&self) -> Limits {
        self.inner.limits
    }

    /// The strictest thresholds of everything that applies.
    pub fn findings(&self) -> &Findings {
        &self.inner.findings
    }

    /// Whether some rule that may match this request looks into its body.
    pub fn reads_json(&self, operation: &Operation) -> bool {
        let of = |view: &View| {
            let accesses = operation.accesses.iter();
            accesses
                .flat_map(|access| view.index.matches(access).conditional)
                .filter_map(|id| view.index.rule(id)?.condition.as_ref())
                .any(Condition::reads_json)
        };
        let of_would_be = |would_be: &WouldBe| match would_be {
            WouldBe::Rules(view) => of(view),
            WouldBe::Broken(_) => false,
        };
        match &self.inner.state {
            State::Broken(_) => false,
            State::Enforce { view, would_be } => {
                of(view) || would_be.as_ref().is_some_and(of_would_be)
            }
            State::Observe {
                guardrails,
                would_be,
            } => of(guardrails) || of_would_be(would_be),
        }
    }

    /// Only DryRun policies select: what guardrails leave is forwarded and observed.
    pub fn is_observing(&self) -> bool {
        matches!(self.inner.state, State::Observe { .. })
    }

    /// Why nothing can be had here whatever the rules say: the connection is not there, or its
    /// rules are too old. One of the rules being broken is something else: [`Policy::denies_all`].
    pub fn unavailable(&self) -> Option<(Reason, &str)> {
        match &self.inner.state {
            State::Broken(broken) if broken.rule.is_none() => {
                Some((broken.reason, &broken.message))
            }
            _ => None,
        }
    }

    /// Why this policy denies everything, where it does.
    pub fn denies_all(&self) -> Option<(Reason, &str)> {
        match &self.inner.state {
            State::Broken(broken) => Some((broken.reason, &broken.message)),
            State::Enforce { .. } | State::Observe { .. } => None,
        }
    }
}
