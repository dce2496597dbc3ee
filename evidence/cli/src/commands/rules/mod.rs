//! The smallest rules that would have allowed what a record says was done.
//!
//! Only the record is looked at: what the policy said then, not what it says now. The record has
//! no word on which of the other accesses were covered, so the rules cover all that the
//! statement does beyond what drivers are always allowed.

mod http;
mod kubernetes;
mod sql;

use chaperone_crds::{Action, PolicyRule};

use self::http::Http;
use self::kubernetes::Kubernetes;
use self::sql::Sql;

/// Objects of one list of a rule, as many as every list may have.
const LIST: usize = 64;
/// Longest name of a rule.
const MAX_RULE_NAME: usize = 63;

/// The smallest Allow rules for `accesses` (`Read on public.orders` …), or why there are none.
///
/// A rule is effects × objects, so objects with different effects get rules of their own: one
/// rule for all would allow pairs that nobody asked for. `settled_by` is the access that the
/// decision names; it is covered even where drivers usually need no rule for its kind.
pub(crate) fn smallest_rules(
    accesses: &[String],
    settled_by: Option<&str>,
) -> Result<Vec<PolicyRule>, String> {
    let accesses = accesses.iter().map(String::as_str).chain(settled_by);
    covering(accesses, |access| settled_by == Some(access))
}

/// The rules for `accesses`; what drivers rarely lack is left out unless it is `lacking`.
pub(crate) fn covering<'a>(
    accesses: impl Iterator<Item = &'a str>,
    lacking: impl Fn(&str) -> bool,
) -> Result<Vec<PolicyRule>, String> {
    let (mut sql, mut http, mut kubernetes) =
        (Sql::default(), Http::default(), Kubernetes::default());
    for access in accesses {
        if let Some((method, host, path)) = http::request_of(access) {
            http.add(method, host, path);
        } else if let Some((verb, object)) = kubernetes::request_of(access) {
            kubernetes.add(verb, object);
        } else {
            sql.add(access, lacking(access))?;
        }
    }
    let rules = sql.rules().into_iter().chain(http.rules());
    Ok(rules.chain(kubernetes.rules()).collect())
}

/// One that allows nothing yet.
fn allow(name: String) -> PolicyRule {
    PolicyRule {
        name,
        action: Action::Allow,
        sql: None,
        kubernetes: None,
        http: None,
        ssh: None,
        when: None,
        approval: None,
        durability: None,
        message: None,
    }
}

/// `allow-get`, with a number where several rules need telling apart.
fn name(what: &str, index: usize) -> String {
    let name = match index {
        0 => format!("allow-{what}"),
        index => format!("allow-{what}-{}", index + 1),
    };
    name.chars().take(MAX_RULE_NAME).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::collections::BTreeSet;

    use chaperone_policy::{Access, Effect, Object};

    use super::sql::{Target, target_of};
    use super::*;

    fn text(effect: Effect, object: Object) -> String {
        Access {
            effect,
            object,
            baseline: false,
        }
        .to_string()
    }

    fn relation(schema: &str, name: &str) -> Object {
        Object::Relation {
            schema: schema.to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn rules_cover_what_was_done_and_no_other_pair() {
        let accesses = [
            text(Effect::Delete, relation("public", "a")),
            text(Effect::Read, relation("public", "a")),
            text(Effect::Write, relation("public", "b")),
            text(Effect::Read, relation("public", "c")),
            text(Effect::Read, relation("public", "d.e")),
            text(Effect::Catalog, relation("pg_catalog", "pg_class")),
            text(Effect::Read, Object::Session),
        ];
        let rules = smallest_rules(&accesses, Some("Delete on public.a")).unwrap();
        let said: Vec<(Vec<&str>, Vec<String>)> = rules
            .iter()
            .map(|rule| {
                let sql = rule.sql.clone().unwrap();
                (
                    sql.effects.iter().map(|e| e.as_str()).collect(),
                    sql.relations,
                )
            })
            .collect();
        assert_eq!(
            said,
            [
                (
                    vec!["Read"],
                    vec!["public.c".to_owned(), "public.d*e".to_owned()]
                ),
                (vec!["Read", "Delete"], vec!["public.a".to_owned()]),
                (vec!["Write"], vec!["public.b".to_owned()]),
            ]
        );
        let names: BTreeSet<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(names.len(), rules.len());
    }

    #[test]
    fn every_kind_of_object_is_told_from_its_words() {
        let named = |kind: &str, name: &str| Object::Named {
            kind: kind.to_owned(),
            name: name.to_owned(),
        };
        for (object, target) in [
            (relation("s", "t"), Target::Relation("s.t".to_owned())),
            (
                Object::Function {
                    schema: "s".to_owned(),
                    name: "f".to_owned(),
                },
                Target::Function("s.f".to_owned()),
            ),
            (
                Object::Setting("work_mem".to_owned()),
                Target::Setting("work_mem".to_owned()),
            ),
            (
                Object::Channel("jobs".to_owned()),
                Target::Channel("jobs".to_owned()),
            ),
            (named("schema", "x.y"), Target::Unlisted),
            (named("role", "admin"), Target::Unlisted),
            (Object::Session, Target::Unlisted),
            (Object::Any, Target::Unlisted),
        ] {
            assert_eq!(target_of(&object.to_string()), Some(target));
        }
        let unresolved = Object::Unresolved("t".to_owned());
        assert_eq!(target_of(&unresolved.to_string()), None);
        assert!(smallest_rules(&[text(Effect::Read, unresolved)], None).is_err());
    }

    #[test]
    fn a_request_is_allowed_by_its_method_host_and_path() {
        let accesses = [
            "GET on api.test/chat".to_owned(),
            "Upgrade on api.test/chat".to_owned(),
        ];
        let rules = smallest_rules(&accesses, Some(&accesses[1])).unwrap();
        let http = rules[0].http.as_ref().unwrap();
        assert_eq!(http.methods, ["GET", "Upgrade"]);
        assert_eq!(
            (http.hosts[0].as_str(), http.paths[0].as_str()),
            ("api.test", "/chat")
        );
        assert_eq!(rules.len(), 1);
    }

    #[test]
    fn what_settled_it_is_covered_even_if_usual() {
        let setting = text(Effect::Session, Object::Setting("work_mem".to_owned()));
        let alone = smallest_rules(std::slice::from_ref(&setting), Some(&setting)).unwrap();
        assert_eq!(alone[0].sql.as_ref().unwrap().settings, ["work_mem"]);
        assert!(smallest_rules(&[setting], None).unwrap().is_empty());
    }
}
