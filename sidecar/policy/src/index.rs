//! Finds the rules that match an access without walking the rules.
//!
//! Per effect: rules without object lists, and one [`PartIndex`] a kind of object. A leaf keeps
//! what the decision needs of all its rules (the first Deny, the first Allow …), so that a
//! thousand rules on one name cost what one does. Rules are numbered in the order of their names,
//! and the least number is the one that is named: order in a file never matters.

use std::collections::HashMap;
use std::sync::Arc;

use crate::pattern::PartIndex;
use crate::rule::{Action, On, Rule};
use crate::{Access, Durability, Effect, Object};
use crate::{http, kubernetes};

/// The position of a rule in [`RuleIndex`]'s list.
pub(crate) type RuleId = u32;

/// What the rules of one leaf, or all that match one access, come to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Matches {
    /// The first unconditional Deny.
    pub deny: Option<RuleId>,
    /// The first unconditional Allow.
    pub allow: Option<RuleId>,
    /// The strictest durability written in an unconditional Allow.
    pub durability: Option<Durability>,
    /// Unconditional RequireApproval rules; may repeat.
    pub approvals: Vec<RuleId>,
    /// Rules whose condition must be asked; may repeat.
    pub conditional: Vec<RuleId>,
}

impl Matches {
    fn add(&mut self, id: RuleId, rule: &Rule) {
        if rule.condition.is_some() {
            self.conditional.push(id);
        } else {
            self.add_holding(id, rule);
        }
    }

    /// Adds a rule that has no condition or whose condition holds.
    pub(crate) fn add_holding(&mut self, id: RuleId, rule: &Rule) {
        match rule.action {
            Action::Deny => self.deny = first(self.deny, Some(id)),
            Action::Allow => {
                self.allow = first(self.allow, Some(id));
                self.durability = self.durability.max(rule.durability);
            }
            Action::RequireApproval => self.approvals.push(id),
        }
    }

    fn merge(&mut self, other: &Matches) {
        self.deny = first(self.deny, other.deny);
        self.allow = first(self.allow, other.allow);
        self.durability = self.durability.max(other.durability);
        self.approvals.extend_from_slice(&other.approvals);
        self.conditional.extend_from_slice(&other.conditional);
    }
}

fn first(a: Option<RuleId>, b: Option<RuleId>) -> Option<RuleId> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

type PairIndex = PartIndex<PartIndex<Matches>>;

/// The rules that name one effect.
#[derive(Debug, Default)]
struct EffectIndex {
    unlisted: Matches,
    relations: PairIndex,
    functions: PairIndex,
    settings: PartIndex<Matches>,
    channels: PartIndex<Matches>,
    /// Restricting rules of any object, for what is not known to lie outside their lists.
    restricting: Matches,
    /// Restricting rules by the schemas their lists reach into.
    restricting_schemas: PartIndex<Matches>,
    /// Restricting rules that list relations or functions.
    restricting_databases: Matches,
}

/// Finds the rules that may match what has this key.
#[derive(Debug, Default)]
struct KeyIndex {
    by_key: HashMap<Box<str>, Vec<RuleId>>,
    others: Vec<RuleId>,
}

impl KeyIndex {
    /// A rule for these keys only; `None` for one that may match any.
    fn add(&mut self, id: RuleId, keys: Option<Vec<&str>>) {
        let Some(keys) = keys else {
            self.others.push(id);
            return;
        };
        for key in keys {
            let rules = self.by_key.entry(key.into()).or_default();
            if rules.last() != Some(&id) {
                rules.push(id);
            }
        }
    }

    /// Each rule once.
    fn candidates(&self, key: &str) -> impl Iterator<Item = RuleId> + '_ {
        let listed = self.by_key.get(key).map(Vec::as_slice).unwrap_or_default();
        listed.iter().chain(&self.others).copied()
    }
}

/// All rules that apply to one subject on one connection.
#[derive(Debug, Default)]
pub(crate) struct RuleIndex {
    rules: Vec<Arc<Rule>>,
    by_effect: Vec<(Effect, EffectIndex)>,
    /// By the first segment of the path.
    requests: KeyIndex,
    /// By the resource.
    resources: KeyIndex,
    /// All restricting rules, of whatever effect.
    restricting: Matches,
}

impl RuleIndex {
    /// Indexes rules. The caller's order does not matter.
    pub(crate) fn new(mut rules: Vec<Arc<Rule>>) -> RuleIndex {
        rules.sort_by(|a, b| order(a).cmp(&order(b)));
        let mut index = RuleIndex {
            rules,
            ..RuleIndex::default()
        };
        for (id, rule) in index.rules.iter().enumerate() {
            let Ok(id) = RuleId::try_from(id) else { break };
            if rule.is_inert() {
                continue;
            }
            match &rule.on {
                On::Sql => {}
                On::Http(requests) => {
                    index.requests.add(id, requests.firsts());
                    continue;
                }
                On::Kubernetes(resources) => {
                    index.resources.add(id, resources.bases());
                    continue;
                }
            }
            if rule.restricts() {
                index.restricting.add(id, rule);
            }
            for effect in rule.effects.iter() {
                let position = index
                    .by_effect
                    .iter()
                    .position(|(known, _)| *known == effect)
                    .unwrap_or_else(|| {
                        index.by_effect.push((effect, EffectIndex::default()));
                        index.by_effect.len().saturating_sub(1)
                    });
                if let Some((_, entry)) = index.by_effect.get_mut(position) {
                    entry.add(id, rule);
                }
            }
        }
        index
    }

    pub(crate) fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    pub(crate) fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.rules
            .get(usize::try_from(id).ok()?)
            .map(|rule| &**rule)
    }

    /// Every restricting rule: what an access that could do anything might run into.
    pub(crate) fn restricting(&self) -> Matches {
        self.restricting.clone()
    }

    /// Everything that matches this access, conditions not asked yet.
    pub(crate) fn matches(&self, access: &Access) -> Matches {
        let mut found = Matches::default();
        let candidates = match &access.object {
            Object::Request { path, .. } => Some(self.requests.candidates(http::first(path))),
            Object::Api { object, .. } => Some(self.resources.candidates(kubernetes::base(object))),
            _ => None,
        };
        if let Some(candidates) = candidates {
            for id in candidates {
                if let Some(rule) = self.rule(id).filter(|rule| rule.matches(access)) {
                    found.add(id, rule);
                }
            }
            return found;
        }
        if let Some((_, entry)) = self
            .by_effect
            .iter()
            .find(|(effect, _)| *effect == access.effect)
        {
            entry.collect(&access.object, &mut found);
        }
        found
    }
}

/// Guardrails first, then by policy and rule name; the digest only separates what has one name.
fn order(rule: &Rule) -> (bool, &str, &str, &str) {
    let reference = &rule.reference;
    (
        !rule.guardrail,
        &reference.policy,
        &reference.rule,
        &reference.digest,
    )
}

impl EffectIndex {
    fn add(&mut self, id: RuleId, rule: &Rule) {
        if rule.restricts() {
            self.restricting.add(id, rule);
        }
        if rule.objects.is_unlisted() {
            self.unlisted.add(id, rule);
            return;
        }
        add_pairs(&mut self.relations, &rule.objects.relations, id, rule);
        add_pairs(&mut self.functions, &rule.objects.functions, id, rule);
        for glob in &rule.objects.settings {
            self.settings.update(glob, |leaf| leaf.add(id, rule));
        }
        for glob in &rule.objects.channels {
            self.channels.update(glob, |leaf| leaf.add(id, rule));
        }
        let mut inside = rule
            .objects
            .relations
            .iter()
            .chain(&rule.objects.functions)
            .peekable();
        if rule.restricts() && inside.peek().is_some() {
            self.restricting_databases.add(id, rule);
            for [schema, _] in inside {
                self.restricting_schemas
                    .update(schema, |leaf| leaf.add(id, rule));
            }
        }
    }

    fn collect(&self, object: &Object, found: &mut Matches) {
        match object {
            Object::Unresolved(_) => return found.merge(&self.restricting),
            Object::Any => found.merge(&self.restricting),
            Object::Relation { schema, name } => visit_pair(&self.relations, schema, name, found),
            Object::Function { schema, name } => visit_pair(&self.functions, schema, name, found),
            Object::Setting(name) => self.settings.visit(name, &mut |leaf| found.merge(leaf)),
            Object::Channel(name) => self.channels.visit(name, &mut |leaf| found.merge(leaf)),
            Object::Named { kind, name } => match kind.as_str() {
                "schema" => {
                    self.restricting_schemas
                        .visit(name, &mut |leaf| found.merge(leaf));
                }
                "database" => found.merge(&self.restricting_databases),
                _ => {}
            },
            Object::Session | Object::Request { .. } | Object::Api { .. } => {}
        }
        found.merge(&self.unlisted);
    }
}

fn add_pairs(
    index: &mut PairIndex,
    patterns: &[[crate::pattern::Glob; 2]],
    id: RuleId,
    rule: &Rule,
) {
    for [schema, name] in patterns {
        index.update(schema, |names| {
            names.update(name, |leaf| leaf.add(id, rule))
        });
    }
}

fn visit_pair(index: &PairIndex, schema: &str, name: &str, found: &mut Matches) {
    index.visit(schema, &mut |names| {
        names.visit(name, &mut |leaf| found.merge(leaf))
    });
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::RuleRef;
    use crate::pattern::Glob;
    use crate::rule::{EffectSet, Objects};

    fn any_rule() -> impl Strategy<Value = Rule> {
        let pair = || {
            prop::collection::vec(("[pq*]{1,2}", "[ab*]{1,3}"), 0..2).prop_map(|pairs| {
                let glob =
                    |(schema, name): (String, String)| [Glob::new(&schema), Glob::new(&name)];
                pairs.into_iter().map(glob).collect::<Vec<_>>()
            })
        };
        let single = || {
            prop::collection::vec("[ab*]{1,2}", 0..2)
                .prop_map(|texts| texts.iter().map(|text| Glob::new(text)).collect::<Vec<_>>())
        };
        let action = select(vec![Action::Allow, Action::Deny, Action::RequireApproval]);
        let effects = prop::collection::vec(select(Effect::ALL[..4].to_vec()), 1..4);
        (
            action,
            any::<bool>(),
            effects,
            pair(),
            pair(),
            single(),
            single(),
        )
            .prop_map(
                |(action, guardrail, effects, relations, functions, settings, channels)| {
                    let mut set = EffectSet::default();
                    effects.into_iter().for_each(|effect| set.insert(effect));
                    Rule {
                        reference: RuleRef {
                            policy: "p".to_owned(),
                            rule: "r".to_owned(),
                            generation: 0,
                            digest: String::new(),
                        },
                        guardrail,
                        action,
                        effects: set,
                        objects: Objects {
                            relations,
                            functions,
                            settings,
                            channels,
                        },
                        on: On::Sql,
                        condition: None,
                        approval: None,
                        durability: None,
                        message: None,
                        returns_unmasked: false,
                    }
                },
            )
    }

    fn any_object() -> impl Strategy<Value = Object> {
        let pair = || ("[pq]{1,2}", "[ab]{1,3}");
        prop_oneof![
            4 => pair().prop_map(|(schema, name)| Object::Relation { schema, name }),
            3 => pair().prop_map(|(schema, name)| Object::Function { schema, name }),
            1 => "[ab]{1,2}".prop_map(Object::Setting),
            1 => "[ab]{1,2}".prop_map(Object::Channel),
            1 => (select(vec!["schema", "database", "role"]), "[pq]{1,2}")
                .prop_map(|(kind, name)| Object::Named { kind: kind.to_owned(), name }),
            1 => Just(Object::Unresolved("x".to_owned())),
            1 => Just(Object::Any),
            1 => Just(Object::Session),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn every_rule_is_found_exactly_where_it_matches(
            rules in prop::collection::vec(any_rule(), 0..12),
            effect in select(Effect::ALL[..4].to_vec()),
            object in any_object(),
        ) {
            let access = Access { effect, object, baseline: false };
            let index = RuleIndex::new(rules.into_iter().map(Arc::new).collect());
            let found = index.matches(&access);
            let walk = |action: Action| -> Vec<RuleId> {
                let numbered = (0..).zip(index.rules());
                numbered
                    .filter(|(_, rule)| rule.action == action && rule.matches(&access))
                    .map(|(id, _)| id)
                    .collect()
            };
            prop_assert_eq!(found.deny, walk(Action::Deny).first().copied());
            prop_assert_eq!(found.allow, walk(Action::Allow).first().copied());
            let mut approvals = found.approvals;
            approvals.sort_unstable();
            approvals.dedup();
            prop_assert_eq!(approvals, walk(Action::RequireApproval));
        }
    }
}
