//! What statements do, recorded as `Read on public.orders`.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_crds::{PolicyRule, SqlEffect, SqlRule};

use super::{LIST, allow, name};

/// What an object is, told from the words it is recorded in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Relation(String),
    Function(String),
    Setting(String),
    Channel(String),
    /// No list of a rule names it; only a rule without any list matches.
    Unlisted,
}

/// Effects by object.
#[derive(Default)]
pub(super) struct Sql(BTreeMap<Target, BTreeSet<SqlEffect>>);

impl Sql {
    /// What drivers rarely lack is left out unless it is `lacking`.
    pub(super) fn add(&mut self, access: &str, lacking: bool) -> Result<(), String> {
        let (effect, object) = parse(access)?;
        let target = target_of(object).ok_or_else(|| {
            format!("the name in '{access}' could not be resolved; qualify it with its schema")
        })?;
        if lacking || !is_usual(effect, &target) {
            self.0.entry(target).or_default().insert(effect);
        }
        Ok(())
    }

    /// Objects of one kind with the same effects are one rule, or as many as it takes.
    pub(super) fn rules(self) -> Vec<PolicyRule> {
        let mut rules: BTreeMap<(u8, BTreeSet<SqlEffect>, usize), SqlRule> = BTreeMap::new();
        let mut placed: BTreeMap<(u8, BTreeSet<SqlEffect>), usize> = BTreeMap::new();
        for (target, effects) in self.0 {
            let kind = match target {
                Target::Relation(_) => 0,
                Target::Function(_) => 1,
                Target::Setting(_) => 2,
                Target::Channel(_) => 3,
                Target::Unlisted => 4,
            };
            let before = placed.entry((kind, effects.clone())).or_default();
            let full = *before / LIST;
            *before += 1;
            let rule = rules
                .entry((kind, effects.clone(), full))
                .or_insert_with(|| SqlRule {
                    effects: effects.into_iter().collect(),
                    ..SqlRule::default()
                });
            match target {
                Target::Relation(pattern) => rule.relations.push(pattern),
                Target::Function(pattern) => rule.functions.push(pattern),
                Target::Setting(name) => rule.settings.push(name),
                Target::Channel(name) => rule.channels.push(name),
                Target::Unlisted => {}
            }
        }
        let rules = rules.into_values().enumerate();
        let rules = rules.map(|(index, sql)| {
            let name = name(&effects_of(&sql), index);
            PolicyRule {
                sql: Some(sql),
                ..allow(name)
            }
        });
        rules.collect()
    }
}

fn parse(access: &str) -> Result<(SqlEffect, &str), String> {
    let unknown = || format!("the record's '{access}' is no effect on an object");
    let (effect, object) = access.split_once(" on ").ok_or_else(unknown)?;
    let effect = SqlEffect::ALL
        .iter()
        .copied()
        .find(|known| known.as_str() == effect)
        .ok_or_else(unknown)?;
    Ok((effect, object))
}

/// The reverse of how `chaperone_policy::Object` is written. `None`: an unresolved name.
pub(super) fn target_of(object: &str) -> Option<Target> {
    if object.ends_with(" (unresolved)") {
        return None;
    }
    if object == "session" || object == "*" {
        return Some(Target::Unlisted);
    }
    if let Some(name) = object.strip_prefix("setting ") {
        return Some(Target::Setting(name.to_owned()));
    }
    if let Some(name) = object.strip_prefix("channel ") {
        return Some(Target::Channel(name.to_owned()));
    }
    let kind_first = object
        .split_once(' ')
        .is_some_and(|(kind, _)| kind.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
    match object.strip_suffix("()") {
        Some(function) => Some(Target::Function(pattern(function))),
        None if kind_first || !object.contains('.') => Some(Target::Unlisted),
        None => Some(Target::Relation(pattern(object))),
    }
}

/// `schema.name` as a pattern. A dot inside the name cannot be written; `*` is what covers it.
fn pattern(qualified: &str) -> String {
    match qualified.split_once('.') {
        Some((schema, name)) => format!("{schema}.{}", name.replace('.', "*")),
        None => qualified.to_owned(),
    }
}

/// What drivers need and rarely lack (policy.md, Client baseline).
fn is_usual(effect: SqlEffect, target: &Target) -> bool {
    match effect {
        SqlEffect::Catalog | SqlEffect::Session | SqlEffect::Transaction => true,
        SqlEffect::Read => *target == Target::Unlisted,
        _ => false,
    }
}

/// `delete-read`
fn effects_of(sql: &SqlRule) -> String {
    let effects = sql.effects.iter().take(3);
    let effects: Vec<String> = effects
        .map(|effect| effect.as_str().to_ascii_lowercase())
        .collect();
    effects.join("-")
}
