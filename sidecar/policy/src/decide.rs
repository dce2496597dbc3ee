//! The decision itself (policy.md, Decision, steps 2–7).

use std::cmp::Reverse;

use crate::index::{Matches, RuleId};
use crate::policy::{Broken, State, View, WouldBe};
use crate::{
    Access, Decision, Durability, Effect, Object, Operation, Policy, Reason, RuleRef, Subject,
    Verdict,
};

/// Decides on one operation. Pure; the order of rules, policies and accesses never matters.
///
/// Every access must be covered, none may be denied, and each one that needs approval adds its
/// approvers. A [`Verdict::Hold`] lists every quorum that must be met; a redeemed grant is decided
/// again, and the caller forwards when what is still asked for has been granted.
pub fn decide(policy: &Policy, subject: &Subject, operation: &Operation) -> Decision {
    match &policy.inner.state {
        State::Broken(broken) => broken.decide(operation),
        State::Enforce { view, would_be } => Decision {
            dry_run: would_be
                .as_ref()
                .map(|view| Box::new(view.decide(subject, operation))),
            ..view.decide(subject, operation)
        },
        State::Observe {
            guardrails,
            would_be,
        } => Decision {
            dry_run: Some(Box::new(would_be.decide(subject, operation))),
            ..guardrails.observe(subject, operation)
        },
    }
}

impl WouldBe {
    fn decide(&self, subject: &Subject, operation: &Operation) -> Decision {
        match self {
            WouldBe::Rules(view) => view.decide(subject, operation),
            WouldBe::Broken(broken) => broken.decide(operation),
        }
    }
}

impl Broken {
    fn decide(&self, operation: &Operation) -> Decision {
        Decision {
            verdict: Verdict::Deny,
            reason: self.reason,
            rule: self.rule.clone(),
            access: None,
            message: Some(self.message.clone()),
            approvals: Vec::new(),
            durability: operation
                .accesses
                .iter()
                .map(|access| default_durability(access.effect))
                .max()
                .unwrap_or(Durability::Synced),
            dry_run: None,
        }
    }
}

impl View {
    /// Steps 2 to 6.
    pub(crate) fn decide(&self, subject: &Subject, operation: &Operation) -> Decision {
        let mut outcome = Outcome::new(self, subject, operation);
        for access in &operation.accesses {
            outcome.add(access, self.index.matches(access));
        }
        outcome.into_decision()
    }

    /// Step 7, the guardrails' part: what they neither deny nor hold is observed.
    ///
    /// What could not be understood may do anything, so every guardrail stands in its way here:
    /// with Enforce policies a rule would have to name `Unknown`, and nothing asks for that now.
    fn observe(&self, subject: &Subject, operation: &Operation) -> Decision {
        let mut outcome = Outcome::new(self, subject, operation);
        for access in &operation.accesses {
            let matches = match access.effect {
                Effect::Unknown => self.index.restricting(),
                _ => self.index.matches(access),
            };
            outcome.add(access, matches);
        }
        outcome.uncovered = None;
        if operation.accesses.is_empty() || outcome.is_stopped() {
            return outcome.into_decision();
        }
        Decision {
            verdict: Verdict::Observe,
            reason: Reason::Observed,
            rule: None,
            access: None,
            message: None,
            approvals: Vec::new(),
            durability: outcome.durability(),
            dry_run: None,
        }
    }

    /// Whether the client baseline covers this access.
    pub(crate) fn is_baseline(&self, access: &Access) -> bool {
        access.baseline
            && self.baseline
            && (self.catalog || access.effect != Effect::Catalog)
            && access.effect != Effect::Unknown
            && !matches!(access.object, Object::Unresolved(_) | Object::Any)
    }
}

/// Read-only work and session state can be lost with the node; anything else cannot.
pub(crate) fn default_durability(effect: Effect) -> Durability {
    match effect {
        Effect::Catalog | Effect::Read | Effect::Session | Effect::Transaction => {
            Durability::Written
        }
        _ => Durability::Synced,
    }
}

/// The join over the accesses seen so far.
struct Outcome<'a> {
    view: &'a View,
    subject: &'a Subject,
    operation: &'a Operation,
    /// Conditions already asked for this operation.
    asked: Vec<(RuleId, Result<bool, String>)>,
    denied: Option<(RuleId, &'a Access)>,
    failed: Option<(RuleId, &'a Access)>,
    uncovered: Option<&'a Access>,
    held: Option<(RuleId, &'a Access)>,
    approvals: Vec<RuleId>,
    allowed: Option<(RuleId, &'a Access)>,
    baseline: Option<&'a Access>,
    durability: Option<Durability>,
}

impl<'a> Outcome<'a> {
    fn new(view: &'a View, subject: &'a Subject, operation: &'a Operation) -> Outcome<'a> {
        Outcome {
            view,
            subject,
            operation,
            asked: Vec::new(),
            denied: None,
            failed: None,
            uncovered: None,
            held: None,
            approvals: Vec::new(),
            allowed: None,
            baseline: None,
            durability: None,
        }
    }

    fn add(&mut self, access: &'a Access, mut matches: Matches) {
        self.ask_conditions(access, &mut matches);
        if let Some(id) = matches.deny {
            keep_first_rule(&mut self.denied, id, access);
        }
        let mut durability = matches.durability;
        let mut covered = matches.allow.is_some();
        for id in matches.approvals {
            let Some(rule) = self.view.index.rule(id) else {
                continue;
            };
            covered |= !rule.guardrail;
            durability = durability.max(Some(rule.durability.unwrap_or(Durability::Replicated)));
            keep_first_rule(&mut self.held, id, access);
            self.approvals.push(id);
        }
        if let Some(id) = matches.allow {
            keep_riskiest_access(&mut self.allowed, id, access);
        }
        if !covered {
            let slot = match self.view.is_baseline(access) {
                true => &mut self.baseline,
                false => &mut self.uncovered,
            };
            *slot = Some(slot.map_or(access, |known| riskier(known, access)));
        }
        let durability = durability.unwrap_or_else(|| default_durability(access.effect));
        self.durability = self.durability.max(Some(durability));
    }

    /// Turns conditional matches into plain ones. An error denies, whatever the rule would do.
    fn ask_conditions(&mut self, access: &'a Access, matches: &mut Matches) {
        for id in std::mem::take(&mut matches.conditional) {
            let Some(rule) = self.view.index.rule(id) else {
                continue;
            };
            let Some(condition) = &rule.condition else {
                continue;
            };
            let known = self.asked.iter().position(|(asked, _)| *asked == id);
            let position = known.unwrap_or_else(|| {
                self.asked
                    .push((id, condition.holds(self.subject, self.operation)));
                self.asked.len().saturating_sub(1)
            });
            match self.asked.get(position) {
                Some((_, Ok(true))) => matches.add_holding(id, rule),
                Some((_, Ok(false))) => {}
                Some((_, Err(_))) | None => keep_first_rule(&mut self.failed, id, access),
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.denied.is_some() || self.failed.is_some() || self.held.is_some()
    }

    fn durability(&self) -> Durability {
        self.durability.unwrap_or(Durability::Synced)
    }

    fn into_decision(mut self) -> Decision {
        let answer = |verdict, reason| Decision {
            verdict,
            reason,
            rule: None,
            access: None,
            message: None,
            approvals: Vec::new(),
            durability: self.durability(),
            dry_run: None,
        };
        if let Some((id, access)) = self.denied {
            return Decision {
                rule: self.reference(id),
                access: Some(access.clone()),
                message: self
                    .view
                    .index
                    .rule(id)
                    .and_then(|rule| rule.message.clone()),
                ..answer(Verdict::Deny, Reason::DeniedByRule)
            };
        }
        if let Some((id, access)) = self.failed {
            let asked = self.asked.iter().find(|(asked, _)| *asked == id);
            return Decision {
                rule: self.reference(id),
                access: Some(access.clone()),
                message: asked.and_then(|(_, result)| result.clone().err()),
                ..answer(Verdict::Deny, Reason::ConditionFailed)
            };
        }
        if self.uncovered.is_some() || self.operation.accesses.is_empty() {
            return Decision {
                access: self.uncovered.cloned(),
                ..answer(Verdict::Deny, Reason::NotCovered)
            };
        }
        if let Some((id, access)) = self.held {
            let decision = Decision {
                rule: self.reference(id),
                access: Some(access.clone()),
                message: self
                    .view
                    .index
                    .rule(id)
                    .and_then(|rule| rule.message.clone()),
                ..answer(Verdict::Hold, Reason::ApprovalPending)
            };
            self.approvals.sort_unstable();
            self.approvals.dedup();
            let rules = self
                .approvals
                .iter()
                .filter_map(|id| self.view.index.rule(*id));
            let approvals = rules.filter_map(|rule| rule.approval.clone()).collect();
            return Decision {
                approvals,
                ..decision
            };
        }
        match self.allowed {
            Some((id, access)) => Decision {
                rule: self.reference(id),
                access: Some(access.clone()),
                ..answer(Verdict::Allow, Reason::Allowed)
            },
            None => Decision {
                access: self.baseline.cloned(),
                ..answer(Verdict::Allow, Reason::Baseline)
            },
        }
    }

    fn reference(&self, id: RuleId) -> Option<RuleRef> {
        self.view.index.rule(id).map(|rule| rule.reference.clone())
    }
}

/// Of two accesses the one worth naming: the riskier effect, then the first name.
fn riskier<'a>(a: &'a Access, b: &'a Access) -> &'a Access {
    let key = |access: &'a Access| (access.effect, Reverse(&access.object), access.baseline);
    if key(b) > key(a) { b } else { a }
}

/// Keeps the first rule by name, and the riskiest access it was met on.
fn keep_first_rule<'a>(slot: &mut Option<(RuleId, &'a Access)>, id: RuleId, access: &'a Access) {
    *slot = Some(match *slot {
        Some((known, kept)) if known < id => (known, kept),
        Some((known, kept)) if known == id => (id, riskier(kept, access)),
        _ => (id, access),
    });
}

/// Keeps the riskiest access, and the first rule by name that covers it.
fn keep_riskiest_access<'a>(
    slot: &mut Option<(RuleId, &'a Access)>,
    id: RuleId,
    access: &'a Access,
) {
    *slot = Some(match *slot {
        Some((known, kept)) if std::ptr::eq(riskier(kept, access), kept) => {
            // The same access twice: either rule may be first.
            if kept == access {
                (known.min(id), kept)
            } else {
                (known, kept)
            }
        }
        _ => (id, access),
    });
}
