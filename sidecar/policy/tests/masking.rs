//! What is masked, limited and watched: the union, the strictest of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use chaperone_policy::{
    Detector, OnFinding, PolicySet, Predicates, Reason, Strategy, Typed, Verdict, decide,
};
use support::{World, agent, on, operation, relation};

fn mask(name: &str, rest: &str) -> String {
    format!("{{name: {name}, {rest}}}")
}

fn policy(masks: &[String]) -> String {
    format!("masking: [{}]", masks.join(", "))
}

#[test]
fn the_strictest_mask_of_a_column_wins() {
    let ladder = [
        "strategy: Partial, partial: {keepFirst: 2, keepLast: 4}",
        "strategy: Partial, partial: {keepLast: 4}",
        "strategy: Hash",
        "strategy: Redact",
        "strategy: \"Null\"",
    ];
    let expected = [
        Strategy::Partial {
            keep_first: 2,
            keep_last: 4,
        },
        Strategy::Partial {
            keep_first: 0,
            keep_last: 4,
        },
        Strategy::Hash,
        Strategy::Redact,
        Strategy::Null,
    ];
    for milder in 0..ladder.len() {
        for stricter in milder..ladder.len() {
            let a = policy(&[mask(
                "a",
                &format!("columns: [public.*.email], {}", ladder[milder]),
            )]);
            let b = policy(&[mask(
                "b",
                &format!("columns: [public.customers.e*], {}", ladder[stricter]),
            )]);
            for bodies in [[a.as_str(), b.as_str()], [b.as_str(), a.as_str()]] {
                let policy = World::new("", &bodies).select().unwrap();
                let found = policy
                    .masking()
                    .column("public", "customers", "email")
                    .unwrap();
                assert_eq!(found.strategy, expected[stricter]);
            }
        }
    }
}

#[test]
fn column_patterns_match_part_by_part() {
    let body = policy(&[mask(
        "a",
        "columns: [public.customers.*_number], strategy: Redact, typed: Zero",
    )]);
    let policy = World::new("", &[&body]).select().unwrap();
    let masking = policy.masking();
    let found = masking
        .column("public", "customers", "card_number")
        .unwrap();
    assert_eq!(found.typed, Typed::Zero);
    assert_eq!(
        (found.rule.policy.as_str(), found.rule.rule.as_str()),
        ("shop/p0", "a")
    );
    assert!(masking.column("public", "customers", "number").is_none());
    assert!(masking.column("public", "orders", "card_number").is_none());
    assert!(
        masking
            .column("private", "customers", "card_number")
            .is_none()
    );
    assert!(masking.has_columns() && !masking.has_detectors() && !masking.is_empty());
    assert!(World::new("", &[""]).select().unwrap().masking().is_empty());
}

#[test]
fn stricter_predicates_hold_even_beside_a_stricter_strategy() {
    let open = mask(
        "open",
        "columns: [a.b.c], strategy: Redact, predicates: Allow",
    );
    let closed = mask("closed", "columns: ['a.b.*'], strategy: Hash");
    let column = |masks: &[String]| {
        let policy = World::new("", &[&policy(masks)]).select().unwrap();
        policy.masking().column("a", "b", "c").unwrap().clone()
    };
    assert_eq!(
        column(std::slice::from_ref(&open)).predicates,
        Predicates::Allow
    );
    let both = column(&[open, closed]);
    assert_eq!(
        (both.strategy, both.predicates),
        (Strategy::Redact, Predicates::Equality)
    );
}

#[test]
fn detectors_are_joined_and_the_strictest_strategy_wins() {
    let a = policy(&[mask(
        "a",
        "detectors: [EmailAddress, PaymentCard], strategy: Hash",
    )]);
    let b = policy(&[mask("b", "detectors: [PaymentCard], strategy: Redact")]);
    let policy = World::new("", &[&a, &b]).select().unwrap();
    let found: Vec<_> = policy
        .masking()
        .detectors()
        .iter()
        .map(|rule| (rule.detector, rule.strategy))
        .collect();
    assert_eq!(
        found,
        [
            (Detector::PaymentCard, Strategy::Redact),
            (Detector::EmailAddress, Strategy::Hash)
        ]
    );
}

const GUARDRAIL_MASK: &str =
    "guardrails: {masking: [{name: pii, columns: [public.customers.email], strategy: Redact}]}";

#[test]
fn dry_run_masks_apply_to_the_record_alone() {
    let dry = format!(
        "enforcement: DryRun\n{}",
        policy(&[mask("a", "columns: [a.b.c], strategy: Hash")])
    );
    let alone = World::new(GUARDRAIL_MASK, &[&dry]).select().unwrap();
    assert!(alone.is_observing());
    assert!(alone.masking().column("a", "b", "c").is_none());
    assert!(alone.record_masking().column("a", "b", "c").is_some());
    for masking in [alone.masking(), alone.record_masking()] {
        assert!(masking.column("public", "customers", "email").is_some());
    }
    let beside = World::new(GUARDRAIL_MASK, &[&dry, ""]).select().unwrap();
    assert!(beside.record_masking().column("a", "b", "c").is_none());
}

#[test]
fn only_the_owner_declares_functions_clean_of_what_the_owner_masks() {
    let declares = "
masking: [{name: m, columns: [a.b.c], strategy: Redact}]
rules: [{name: vat, action: Allow, sql: {effects: [Execute], functions: [reporting.vat], returns: Unmasked}}]
";
    let clean = |guardrails: &str| {
        let policy = World::new(guardrails, &[declares]).select().unwrap();
        assert!(!policy.masking().function_unmasked("reporting", "other"));
        policy.masking().function_unmasked("reporting", "vat")
    };
    assert!(clean(""));
    assert!(!clean(GUARDRAIL_MASK));
    assert!(clean(
        "guardrails:
  masking: [{name: pii, columns: [public.customers.email], strategy: Redact}]
  rules: [{name: vat, action: Allow, sql: {effects: [Execute], functions: ['reporting.*t'], returns: Unmasked}}]"
    ));
}

#[test]
fn broken_policy_still_masks_what_was_forwarded_before() {
    let broken = "rules: [{name: x, action: Allow, sql: {effects: []}}]";
    let policy = World::new(GUARDRAIL_MASK, &[broken]).select().unwrap();
    assert!(policy.denies_all().is_some());
    assert!(
        policy
            .masking()
            .column("public", "customers", "email")
            .is_some()
    );
}

#[test]
fn the_strictest_limits_and_thresholds_win() {
    let world = World::new(
        "guardrails: {limits: {rowsPerStatement: 100, sessionDuration: 8h}}",
        &[
            "limits: {rowsPerStatement: 1000, bytesPerMinute: 256Mi, sessionDuration: 1h}\n\
             findings: {denialsPerMinute: 20, rowsTimesUsual: 50, onFinding: HoldNext,\
             approval: {approvers: {groups: [dba]}, quorum: 2}}",
            "limits: {statementsPerMinute: 600}\nfindings: {denialsPerMinute: 5, equalityPerMinute: 60, maskedPerMinute: 900, firstSeen: true}",
        ],
    );
    let policy = world.select().unwrap();
    let limits = policy.limits();
    assert_eq!(limits.rows_per_statement, Some(100));
    assert_eq!(limits.bytes_per_minute, Some(256 << 20));
    assert_eq!(limits.statements_per_minute, Some(600));
    assert_eq!(limits.session_duration.unwrap().as_secs(), 3600);
    let findings = policy.findings();
    assert_eq!(findings.denials_per_minute, Some(5));
    assert_eq!(findings.equality_per_minute, Some(60));
    assert_eq!(findings.masked_per_minute, Some(900));
    assert_eq!(findings.rows_times_usual, Some(50));
    assert!(findings.first_seen);
    assert_eq!(findings.on_finding, OnFinding::HoldNext);
    let asked: Vec<_> = findings.approvals.iter().map(|rule| rule.quorum).collect();
    assert_eq!(asked, [2]);
}

#[test]
fn a_finding_that_holds_names_who_can_let_go() {
    for (findings, path) in [
        (
            "{denialsPerMinute: 3, onFinding: HoldNext}",
            "spec.findings.approval",
        ),
        (
            "{onFinding: HoldNext, approval: {approvers: {}}}",
            "spec.findings.approval.approvers",
        ),
        (
            "{onFinding: Close, approval: {approvers: {groups: [dba]}}}",
            "spec.findings.approval",
        ),
    ] {
        let world = World::new("", &[&format!("findings: {findings}")]);
        let (reason, message) = world
            .select()
            .unwrap()
            .denies_all()
            .map(|(reason, message)| (reason, message.to_owned()))
            .unwrap();
        assert_eq!(reason, Reason::PolicyInvalid);
        assert!(message.contains(path), "{message}");
    }
}

#[test]
fn a_suspended_policy_denies_all_and_goes_on_masking() {
    let body = format!(
        "rules: [{{name: reads, action: Allow, sql: {{effects: [Read], relations: [\"public.*\"]}}}}]\n{}",
        policy(&[mask(
            "emails",
            "columns: [public.*.email], strategy: Redact"
        )])
    );
    let world = World::new("", &[&body]);
    let reading = operation(&[on(
        chaperone_policy::Effect::Read,
        relation("public.customers"),
    )]);
    let before = world.select().unwrap();
    assert_eq!(decide(&before, &agent(), &reading).verdict, Verdict::Allow);
    assert_eq!(before.unavailable(), None);
    let suspended = world.set().suspended(Reason::SnapshotExpired, "too old");
    let after = suspended.select(&agent()).unwrap();
    let decision = decide(&after, &agent(), &reading);
    assert_eq!(decision.verdict, Verdict::Deny);
    assert_eq!(decision.reason, Reason::SnapshotExpired);
    assert_eq!(
        after.unavailable(),
        Some((Reason::SnapshotExpired, "too old"))
    );
    assert_ne!(after.digest(), before.digest());
    let masked = after.masking().column("public", "customers", "email");
    assert_eq!(masked.unwrap().strategy, Strategy::Redact);
    // Whom nothing selects would go on without masks, so he has no policy.
    let nobody = World::new("", &[]);
    let set = nobody.set().suspended(Reason::SnapshotExpired, "too old");
    assert!(set.select(&agent()).is_none());

    let gone = PolicySet::unavailable("databases", "x", Reason::ConnectionNotFound, "gone");
    let policy = gone.select(&agent()).unwrap();
    assert_eq!(
        policy.unavailable(),
        Some((Reason::ConnectionNotFound, "gone"))
    );
    // A rule that does not compile denies too, and is no reason to keep a session out.
    let broken = World::new(
        "",
        &["rules: [{name: r, action: Allow, when: \"nonsense(\", sql: {effects: [Read]}}]"],
    );
    let policy = broken.select().unwrap();
    assert!(policy.denies_all().is_some() && policy.unavailable().is_none());
}
