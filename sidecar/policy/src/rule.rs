//! One rule of a policy or guardrail, compiled.

use crate::condition::Condition;
use crate::http::Requests;
use crate::kubernetes::Resources;
use crate::pattern::Glob;
use crate::{Access, ApprovalRule, Durability, Effect, Object, RuleRef};

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Covers it.
    Allow,
    /// Refuses it.
    Deny,
    /// Covers it once humans have approved.
    RequireApproval,
}

/// A set of effects, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct EffectSet(u32);

impl EffectSet {
    pub(crate) fn insert(&mut self, effect: Effect) {
        self.0 |= 1 << (effect as u32);
    }

    pub(crate) fn contains(self, effect: Effect) -> bool {
        self.0 & (1 << (effect as u32)) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Effect> {
        Effect::ALL
            .into_iter()
            .filter(move |effect| self.contains(*effect))
    }
}

/// The protocol of a rule, and what it matches there.
#[derive(Debug, Clone, Default)]
pub(crate) enum On {
    /// Effects on objects.
    #[default]
    Sql,
    /// Requests and nothing else.
    Http(Requests),
    /// Requests to the Kubernetes API and nothing else.
    Kubernetes(Resources),
}

/// The object lists of a rule; all empty means any object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Objects {
    pub relations: Vec<[Glob; 2]>,
    pub functions: Vec<[Glob; 2]>,
    pub settings: Vec<Glob>,
    pub channels: Vec<Glob>,
}

impl Objects {
    pub(crate) fn is_unlisted(&self) -> bool {
        self.relations.is_empty()
            && self.functions.is_empty()
            && self.settings.is_empty()
            && self.channels.is_empty()
    }
}

/// A compiled rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub reference: RuleRef,
    /// Comes from the connection: it can only restrict, never cover.
    pub guardrail: bool,
    pub action: Action,
    pub effects: EffectSet,
    pub objects: Objects,
    pub on: On,
    pub condition: Option<Condition>,
    /// Set exactly when `action` is `RequireApproval`.
    pub approval: Option<ApprovalRule>,
    pub durability: Option<Durability>,
    pub message: Option<String>,
    /// The functions it lists were declared clean.
    pub returns_unmasked: bool,
}

impl Rule {
    /// The rule takes something away: what cannot be told apart from what it names is caught too.
    /// A guardrail's RequireApproval is one of these: nothing may slip under it by being unclear.
    pub(crate) fn restricts(&self) -> bool {
        match self.action {
            Action::Deny => true,
            Action::RequireApproval => self.guardrail,
            Action::Allow => false,
        }
    }

    /// Whether the rule speaks about this access, its condition aside. This is the definition;
    /// the index must answer the same.
    pub(crate) fn matches(&self, access: &Access) -> bool {
        match (&self.on, &access.object) {
            (On::Http(requests), Object::Request { method, host, path }) => {
                return !self.is_inert() && requests.matches(method, host, path);
            }
            (On::Kubernetes(resources), Object::Api { verb, object }) => {
                return !self.is_inert() && resources.matches(verb, object);
            }
            (On::Http(_) | On::Kubernetes(_), _)
            | (On::Sql, Object::Request { .. } | Object::Api { .. }) => return false,
            (On::Sql, _) => {}
        }
        if !self.effects.contains(access.effect) || self.is_inert() {
            return false;
        }
        if matches!(access.object, Object::Unresolved(_)) {
            return self.restricts();
        }
        if self.objects.is_unlisted() {
            return true;
        }
        match &access.object {
            Object::Relation { schema, name } => {
                matches_pair(&self.objects.relations, schema, name)
            }
            Object::Function { schema, name } => {
                matches_pair(&self.objects.functions, schema, name)
            }
            Object::Setting(name) => self.objects.settings.iter().any(|glob| glob.matches(name)),
            Object::Channel(name) => self.objects.channels.iter().any(|glob| glob.matches(name)),
            Object::Named { kind, name } => self.restricts() && self.is_inside(kind, name),
            Object::Any => self.restricts(),
            Object::Session
            | Object::Request { .. }
            | Object::Api { .. }
            | Object::Unresolved(_) => false,
        }
    }

    /// A guardrail's Allow only declares functions clean; it neither covers nor restricts.
    pub(crate) fn is_inert(&self) -> bool {
        self.guardrail && self.action == Action::Allow
    }

    /// What the rule lists may lie inside this schema or database, so that what happens to the
    /// container happens to it (`DROP SCHEMA … CASCADE`).
    fn is_inside(&self, kind: &str, name: &str) -> bool {
        let lists = || self.objects.relations.iter().chain(&self.objects.functions);
        match kind {
            "schema" => lists().any(|[schema, _]| schema.matches(name)),
            "database" => lists().next().is_some(),
            _ => false,
        }
    }
}

fn matches_pair(patterns: &[[Glob; 2]], schema: &str, name: &str) -> bool {
    patterns
        .iter()
        .any(|[schemas, names]| schemas.matches(schema) && names.matches(name))
}
