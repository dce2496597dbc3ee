//! What holds for every set of rules and every operation (policy.md, Decision).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use chaperone_crds::{
    AccessPolicySpec, Action, Approval, Approvers, CatalogAccess, Enforcement, Guardrails,
    HumanDuration, PolicyRule, SqlEffect, SqlRule,
};
use chaperone_policy::{
    Access, Decision, Effect, NamespaceLabels, Object, Reason, RuleRef, Verdict, decide,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use support::{World, agent, connection, operation, policy};

const EFFECTS: [SqlEffect; 7] = [
    SqlEffect::Catalog,
    SqlEffect::Read,
    SqlEffect::Modify,
    SqlEffect::Delete,
    SqlEffect::Session,
    SqlEffect::Notify,
    SqlEffect::Unknown,
];
const PATTERNS: [&str; 8] = [
    "public.a", "public.b", "public.*", "*.a", "*.*", "pay*.a", "*c.b*", "p*c.*a",
];
const WHEN: [&str; 4] = [
    "subject.purpose == 'nightly'",
    "subject.purpose == 'other'",
    "subject.namespace.startsWith('sh')",
    "subject.delegate.username == 'x'",
];

fn any_effect() -> impl Strategy<Value = Effect> {
    select(Effect::ALL.to_vec()).prop_filter("of the rules", |effect| {
        EFFECTS
            .iter()
            .any(|known| known.as_str() == effect.as_str())
    })
}

fn any_object() -> impl Strategy<Value = Object> {
    let part = || select(vec!["a", "b", "ab"]);
    let schema = || select(vec!["public", "payroll", "private"]);
    prop_oneof![
        8 => (schema(), part()).prop_map(|(schema, name)| Object::Relation {
            schema: schema.to_owned(),
            name: name.to_owned(),
        }),
        2 => (schema(), part()).prop_map(|(schema, name)| Object::Function {
            schema: schema.to_owned(),
            name: name.to_owned(),
        }),
        1 => Just(Object::Session),
        1 => part().prop_map(|name| Object::Setting(name.to_owned())),
        1 => part().prop_map(|name| Object::Channel(name.to_owned())),
        1 => (select(vec!["schema", "role", "database"]), schema()).prop_map(|(kind, name)| {
            Object::Named { kind: kind.to_owned(), name: name.to_owned() }
        }),
        1 => part().prop_map(|name| Object::Unresolved(name.to_owned())),
        1 => Just(Object::Any),
    ]
}

fn any_access() -> impl Strategy<Value = Access> {
    (any_effect(), any_object(), prop::bool::weighted(0.2)).prop_map(
        |(effect, object, baseline)| Access {
            effect,
            object,
            baseline,
        },
    )
}

fn any_accesses() -> impl Strategy<Value = Vec<Access>> {
    prop::collection::vec(any_access(), 1..4)
}

fn any_sql() -> impl Strategy<Value = SqlRule> {
    let effects = subsequence(EFFECTS.to_vec(), 1..=EFFECTS.len());
    let lists = subsequence(PATTERNS.to_vec(), 0..=2);
    let singles = subsequence(vec!["a", "b*", "*"], 0..=1);
    (effects, lists.clone(), lists, singles.clone(), singles).prop_map(
        |(effects, relations, functions, settings, channels)| {
            let texts = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect();
            let mut sql = SqlRule {
                effects,
                relations: texts(relations),
                functions: texts(functions),
                settings: texts(settings),
                channels: texts(channels),
                returns: None,
            };
            // Keep each list only where one of the effects can be on it, or the rule is refused.
            let has = |effects: &[SqlEffect]| sql.effects.iter().any(|e| effects.contains(e));
            use SqlEffect::{Catalog, Delete, Modify, Notify, Read, Session};
            if !has(&[Catalog, Read, Modify, Delete]) {
                sql.relations.clear();
            }
            if !has(&[Catalog, Read, Modify]) {
                sql.functions.clear();
            }
            if !has(&[Catalog, Read, Session]) {
                sql.settings.clear();
            }
            if !has(&[Notify]) {
                sql.channels.clear();
            }
            sql
        },
    )
}

/// A rule without a name; conditions fail for some of them only if `failing`.
fn any_rule(actions: Vec<Action>, failing: bool) -> impl Strategy<Value = PolicyRule> {
    let when = select(WHEN[..if failing { 4 } else { 3 }].to_vec());
    (
        select(actions),
        any_sql(),
        prop::option::weighted(0.3, when),
    )
        .prop_map(|(action, sql, when)| PolicyRule {
            name: String::new(),
            action,
            sql: Some(sql),
            kubernetes: None,
            http: None,
            ssh: None,
            when: when.map(str::to_owned),
            approval: (action == Action::RequireApproval).then(|| Approval {
                approvers: Approvers {
                    users: Vec::new(),
                    groups: vec!["dba".to_owned()],
                },
                quorum: 1,
                timeout: HumanDuration::from_secs(20),
                valid_for: HumanDuration::from_secs(900),
            }),
            durability: None,
            message: None,
        })
}

fn named(mut rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    for (number, rule) in rules.iter_mut().enumerate() {
        rule.name = format!("r{number}");
    }
    rules
}

const ALL_ACTIONS: [Action; 3] = [Action::Allow, Action::Deny, Action::RequireApproval];

fn any_policy(failing: bool) -> impl Strategy<Value = AccessPolicySpec> {
    let rules = prop::collection::vec(any_rule(ALL_ACTIONS.to_vec(), failing), 0..6);
    (rules, prop::bool::weighted(0.2), prop::bool::weighted(0.3)).prop_map(
        |(rules, catalog_denied, dry_run)| {
            let mut spec = policy("");
            spec.rules = named(rules);
            spec.catalog = if catalog_denied {
                CatalogAccess::Deny
            } else {
                CatalogAccess::Allow
            };
            spec.enforcement = if dry_run {
                Enforcement::DryRun
            } else {
                Enforcement::Enforce
            };
            spec
        },
    )
}

fn any_world(failing: bool) -> impl Strategy<Value = World> {
    let restricting = vec![Action::Deny, Action::RequireApproval];
    let guardrails = prop::collection::vec(any_rule(restricting, failing), 0..3);
    let policies = prop::collection::vec(any_policy(failing), 1..4);
    (guardrails, policies).prop_map(|(guardrails, policies)| {
        let mut spec = connection("");
        spec.guardrails = Some(Guardrails {
            rules: named(guardrails),
            ..Default::default()
        });
        World {
            connection: spec,
            policies: policies
                .into_iter()
                .enumerate()
                .map(|(number, spec)| (format!("p{number}"), spec))
                .collect(),
            namespaces: NamespaceLabels::new(),
        }
    })
}

fn enforcing(mut world: World) -> World {
    for (_, spec) in &mut world.policies {
        spec.enforcement = Enforcement::Enforce;
    }
    world
}

/// How much a verdict lets through.
fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Deny => 0,
        Verdict::Hold => 1,
        Verdict::Allow | Verdict::Observe => 2,
    }
}

/// The decision without digests, which follow the order of a spec's lists.
fn undigested(mut decision: Decision) -> Decision {
    fn forget(rule: &mut RuleRef) {
        rule.digest.clear();
    }
    decision.rule.iter_mut().for_each(forget);
    decision
        .approvals
        .iter_mut()
        .for_each(|approval| forget(&mut approval.rule));
    decision.dry_run = decision
        .dry_run
        .map(|would_be| Box::new(undigested(*would_be)));
    decision
}

fn all_effects_allowed() -> AccessPolicySpec {
    let names: Vec<&str> = Effect::ALL.iter().map(|effect| effect.as_str()).collect();
    policy(&format!(
        "rules: [{{name: all, action: Allow, sql: {{effects: [{}]}}}}]",
        names.join(", ")
    ))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn order_of_rules_never_matters(
        (world, shuffled, accesses, other_accesses) in (any_world(true), any_accesses()).prop_flat_map(
            |(world, accesses)| {
                let rules: Vec<_> =
                    world.policies.iter().map(|(_, spec)| Just(spec.rules.clone()).prop_shuffle()).collect();
                let guardrails =
                    Just(world.connection.guardrails.clone().unwrap().rules).prop_shuffle();
                let original = world.clone();
                let shuffled = (rules, guardrails).prop_flat_map(move |(rules, guardrails)| {
                    let mut world = original.clone();
                    for ((_, spec), rules) in world.policies.iter_mut().zip(rules) {
                        spec.rules = rules;
                    }
                    world.connection.guardrails.as_mut().unwrap().rules = guardrails;
                    let policies = world.policies.clone();
                    (Just(world), Just(policies).prop_shuffle()).prop_map(|(mut world, policies)| {
                        world.policies = policies;
                        world
                    })
                });
                (Just(world), shuffled, Just(accesses.clone()), Just(accesses).prop_shuffle())
            },
        )
    ) {
        prop_assert_eq!(
            undigested(world.decide(&accesses)),
            undigested(shuffled.decide(&other_accesses))
        );
    }

    #[test]
    fn adding_a_deny_never_allows_more(
        world in any_world(true),
        which in any::<prop::sample::Index>(),
        deny in any_rule(vec![Action::Deny], true),
        accesses in any_accesses(),
    ) {
        let before = world.decide(&accesses);
        let mut stricter = world.clone();
        let position = which.index(world.policies.len());
        let rules = &mut stricter.policies[position].1.rules;
        rules.push(PolicyRule { name: "added".to_owned(), ..deny });
        prop_assert!(rank(stricter.decide(&accesses).verdict) <= rank(before.verdict));
    }

    #[test]
    fn removing_an_allow_never_allows_more(
        world in any_world(false),
        which in any::<prop::sample::Index>(),
        accesses in any_accesses(),
    ) {
        let world = enforcing(world);
        let before = world.decide(&accesses);
        let mut stricter = world.clone();
        let position = which.index(world.policies.len());
        let rules = &mut stricter.policies[position].1.rules;
        if let Some(allow) = rules.iter().position(|rule| rule.action == Action::Allow) {
            rules.remove(allow);
        }
        prop_assert!(rank(stricter.decide(&accesses).verdict) <= rank(before.verdict));
    }

    #[test]
    fn decision_of_a_set_is_the_join_over_its_pairs(
        world in any_world(true),
        accesses in any_accesses(),
    ) {
        let whole = world.decide(&accesses);
        let parts: Vec<Decision> =
            accesses.iter().map(|access| world.decide(std::slice::from_ref(access))).collect();
        let strictest = parts.iter().map(|part| rank(part.verdict)).min().unwrap();
        prop_assert_eq!(rank(whole.verdict), strictest);
        prop_assert_eq!(whole.durability, parts.iter().map(|part| part.durability).max().unwrap());
        if whole.verdict == Verdict::Hold {
            for approval in parts.iter().flat_map(|part| &part.approvals) {
                prop_assert!(whole.approvals.contains(approval));
            }
            prop_assert!(!whole.approvals.is_empty());
        }
    }

    #[test]
    fn broken_policy_denies_all(
        world in any_world(true),
        which in any::<prop::sample::Index>(),
        accesses in any_accesses(),
    ) {
        let mut world = enforcing(world);
        let position = which.index(world.policies.len());
        let mut broken = policy("rules: [{name: broken, action: Allow, sql: {effects: []}}]");
        broken.rules.append(&mut world.policies[position].1.rules);
        world.policies[position].1 = broken;
        let decision = world.decide(&accesses);
        prop_assert_eq!((decision.verdict, decision.reason), (Verdict::Deny, Reason::PolicyInvalid));
    }

    #[test]
    fn guardrails_cannot_be_loosened_by_any_policy(
        world in any_world(true),
        accesses in any_accesses(),
    ) {
        let mut generous = world.clone();
        generous.policies = vec![("generous".to_owned(), all_effects_allowed())];
        let resolved = accesses.iter().all(|access| !matches!(access.object, Object::Unresolved(_)));
        let most = generous.decide(&accesses);
        if resolved || most.reason != Reason::NotCovered {
            prop_assert!(rank(world.decide(&accesses).verdict) <= rank(most.verdict));
        }
        if most.reason == Reason::DeniedByRule {
            prop_assert_eq!(world.decide(&accesses).verdict, Verdict::Deny);
        }
    }

    #[test]
    fn dry_run_changes_nothing_beside_an_enforce(
        world in any_world(true),
        accesses in any_accesses(),
        broken in any::<bool>(),
    ) {
        let mut world = world;
        world.policies[0].1.enforcement = Enforcement::Enforce;
        let mut without = world.clone();
        without.policies.retain(|(_, spec)| spec.enforcement == Enforcement::Enforce);
        if broken {
            for (_, spec) in &mut world.policies {
                if spec.enforcement == Enforcement::DryRun {
                    spec.rules = policy("rules: [{name: x, action: Allow, sql: {effects: []}}]").rules;
                }
            }
        }
        let decision = world.decide(&accesses);
        let dry_runs = world.policies.len() > without.policies.len();
        prop_assert_eq!(decision.dry_run.is_some(), dry_runs);
        prop_assert_eq!(Decision { dry_run: None, ..decision }, without.decide(&accesses));
    }

    #[test]
    fn the_smallest_rule_would_have_allowed_it(
        world in any_world(false),
        accesses in any_accesses(),
    ) {
        let world = enforcing(world);
        let (subject, operation) = (agent(), operation(&accesses));
        let explanation = world.select().unwrap().explain(&subject, &operation);
        prop_assert_eq!(&explanation.decision, &world.decide(&accesses));
        let Some(yaml) = explanation.smallest_rule else {
            let unresolved = accesses.iter().any(|a| matches!(a.object, Object::Unresolved(_)));
            let reason = explanation.decision.reason;
            prop_assert!(unresolved || reason != Reason::NotCovered, "{reason}");
            return Ok(());
        };
        let mut helped = world.clone();
        let rule: PolicyRule = serde_saphyr::from_str(&yaml).unwrap();
        let mut added = policy("");
        added.rules.push(rule);
        helped.policies.push(("added".to_owned(), added));
        let decision = decide(&helped.select().unwrap(), &subject, &operation);
        // A list that no effect is ever on is refused when loaded, and no real access needs one.
        if decision.reason == Reason::PolicyInvalid {
            prop_assert!(decision.message.unwrap().contains("is ever on"));
        } else if explanation.stopped_by.is_empty() {
            prop_assert_eq!(decision.verdict, Verdict::Allow, "{}", yaml);
        } else {
            prop_assert_eq!(decision.verdict, Verdict::Hold, "{}", yaml);
        }
    }

    #[test]
    fn the_index_finds_what_walking_the_rules_finds(
        world in any_world(true),
        accesses in any_accesses(),
    ) {
        let world = enforcing(world);
        let explanation = world.select().unwrap().explain(&agent(), &operation(&accesses));
        let decision = &explanation.decision;
        match decision.reason {
            Reason::DeniedByRule | Reason::ConditionFailed | Reason::ApprovalPending => {
                prop_assert!(explanation.stopped_by.contains(decision.rule.as_ref().unwrap()));
            }
            Reason::Allowed | Reason::Baseline => {
                prop_assert!(explanation.stopped_by.is_empty(), "{:?}", explanation.stopped_by);
            }
            Reason::NotCovered => {
                let named = explanation.accesses.iter().find(|a| Some(&a.access) == decision.access.as_ref());
                prop_assert!(named.is_some_and(|access| !access.baseline));
            }
            reason => prop_assert!(false, "{reason}"),
        }
    }
}
