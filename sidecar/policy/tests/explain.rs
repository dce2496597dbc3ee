//! What `kubectl chaperone why` says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use chaperone_policy::{Action, ConditionOutcome, Effect, Explanation, Object, Reason, Verdict};
use support::{World, agent, function, on, operation, relation};

fn explain(world: &World, accesses: &[chaperone_policy::Access]) -> Explanation {
    world
        .select()
        .unwrap()
        .explain(&agent(), &operation(accesses))
}

const READ: &str =
    "rules: [{name: read, action: Allow, sql: {effects: [Read], relations: [public.orders]}}]";

#[test]
fn the_smallest_rule_names_only_what_was_missing() {
    let accesses = [
        on(Effect::Read, relation("public.orders")),
        on(Effect::Delete, relation("public.orders")),
        on(Effect::Execute, function("reporting.f")),
    ];
    let explanation = explain(&World::new("", &[READ]), &accesses);
    assert_eq!(explanation.decision.reason, Reason::NotCovered);
    assert_eq!(
        explanation.smallest_rule.unwrap(),
        "name: allow-delete-execute\naction: Allow\nsql:\n  effects: [Delete, Execute]\n  \
         relations: [\"public.orders\"]\n  functions: [\"reporting.f\"]\n"
    );
    let matched = &explanation.accesses[0].rules[0];
    assert_eq!(
        (matched.rule.rule.as_str(), matched.action),
        ("read", Action::Allow)
    );
    assert_eq!(matched.condition, ConditionOutcome::Absent);
    assert!(explanation.accesses[1].rules.is_empty());
    assert!(explanation.stopped_by.is_empty());
}

#[test]
fn a_guardrail_that_no_rule_gets_past_is_named() {
    let guardrails =
        "guardrails: {rules: [{name: no-ddl, action: Deny, sql: {effects: [SchemaDestroy]}}]}";
    let drop = on(Effect::SchemaDestroy, relation("public.orders"));
    let explanation = explain(&World::new(guardrails, &[READ]), &[drop]);
    assert_eq!(explanation.smallest_rule, None);
    assert_eq!(
        explanation.stopped_by[0].policy,
        "Connection databases/orders-db"
    );
    assert_eq!(explanation.stopped_by[0].rule, "no-ddl");
}

#[test]
fn no_rule_is_offered_for_a_name_that_means_nothing() {
    let unresolved = on(Effect::Read, Object::Unresolved("x".to_owned()));
    let explanation = explain(&World::new("", &[READ]), &[unresolved]);
    assert_eq!(explanation.decision.reason, Reason::NotCovered);
    assert_eq!(explanation.smallest_rule, None);
}

#[test]
fn a_condition_that_does_not_hold_is_told_from_one_that_fails() {
    let when = |text: &str| {
        let body = format!(
            "rules: [{{name: c, action: Allow, when: \"{text}\", sql: {{effects: [Read]}}}}]"
        );
        let explanation = explain(
            &World::new("", &[&body]),
            &[on(Effect::Read, relation("a.b"))],
        );
        explanation.accesses[0].rules[0].condition.clone()
    };
    assert_eq!(
        when("subject.purpose == 'nightly'"),
        ConditionOutcome::Holds
    );
    assert_eq!(
        when("subject.purpose == 'x'"),
        ConditionOutcome::DoesNotHold
    );
    assert!(matches!(
        when("subject.delegate.username == 'x'"),
        ConditionOutcome::Failed(_)
    ));
}

#[test]
fn a_dry_run_is_explained_by_what_it_would_do() {
    let dry = format!("enforcement: DryRun\n{READ}");
    let explanation = explain(
        &World::new("", &[&dry]),
        &[on(Effect::Delete, relation("public.orders"))],
    );
    assert_eq!(explanation.decision.verdict, Verdict::Observe);
    assert!(
        explanation
            .smallest_rule
            .unwrap()
            .contains("effects: [Delete]")
    );
}
