//! One promise a step of the decision (policy.md, Decision).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use chaperone_policy::{
    Delegate, Durability, Effect, NamespaceLabels, Object, Policy, Reason, Verdict, decide,
};
use support::{World, agent, baseline, function, on, operation, relation};

const READ_ORDERS: &str = "
rules:
- {name: read, action: Allow, sql: {effects: [Read], relations: [public.orders]}}
";

fn read(name: &str) -> chaperone_policy::Access {
    on(Effect::Read, relation(name))
}

#[test]
fn no_policy_means_no_access() {
    assert!(World::new("", &[]).select().is_none());
    let world = World::new("", &[READ_ORDERS]);
    let mut other = agent();
    other.workload.service_account = "other".to_owned();
    assert!(world.set().select(&other).is_none());
    other = agent();
    other.workload.namespace = "elsewhere".to_owned();
    assert!(
        world.set().select(&other).is_none(),
        "a policy is for its own namespace"
    );
    assert!(world.set().select(&agent()).is_some());
}

#[test]
fn only_admitted_namespaces_may_use_a_connection() {
    let mut world = World::new("", &[READ_ORDERS]);
    world.connection.consumers = None;
    assert!(
        world.select().is_none(),
        "without consumers only its own namespace"
    );
    world.connection = serde_saphyr::from_str(
        "postgres: {host: db, credential: {secret: {name: db}}}\n\
         consumers: {namespaceSelector: {matchLabels: {team: shop}}}",
    )
    .unwrap();
    assert!(world.select().is_none(), "unknown labels match nothing");
    world.namespaces =
        NamespaceLabels::from([("shop".into(), [("team".into(), "shop".into())].into())]);
    assert!(world.select().is_some());
    world.namespaces =
        NamespaceLabels::from([("shop".into(), [("team".into(), "ops".into())].into())]);
    assert!(world.select().is_none());
}

#[test]
fn unknown_namespace_labels_do_not_pass_for_absent_ones() {
    let mut world = World::new("", &[READ_ORDERS]);
    world.connection = serde_saphyr::from_str(
        "postgres: {host: db, credential: {secret: {name: db}}}\n\
         consumers: {namespaceSelector: {matchExpressions: [{key: blocked, operator: DoesNotExist}]}}",
    )
    .unwrap();
    assert!(world.select().is_none());
    world.namespaces = NamespaceLabels::from([("shop".into(), [].into())]);
    assert!(world.select().is_some());
}

#[test]
fn a_delegate_is_selected_by_its_provider_and_claims() {
    let mut world = World::new("", &[READ_ORDERS]);
    world.policies[0].1 = serde_saphyr::from_str(&format!(
        "subjects: [{{identity: {{provider: corp, claims: {{groups: [analysts, dba]}}}}}}]\n\
         connections: [databases/orders-db]\n{READ_ORDERS}"
    ))
    .unwrap();
    let with_groups = |provider: &str, groups: &str| {
        let mut subject = agent();
        let claims = serde_json::json!({ "groups": serde_json::from_str::<serde_json::Value>(groups).unwrap() });
        subject.delegate = Some(Delegate {
            provider: provider.to_owned(),
            username: "corp:ann".to_owned(),
            groups: Vec::new(),
            claims: claims.as_object().unwrap().clone(),
        });
        world.set().select(&subject).is_some()
    };
    assert!(world.select().is_none(), "no token, no identity");
    assert!(with_groups("corp", r#"["staff", "dba"]"#));
    assert!(with_groups("corp", r#""analysts""#));
    assert!(!with_groups("corp", r#"["staff"]"#));
    assert!(!with_groups("corp", r#"{"dba": true}"#));
    assert!(!with_groups("evil", r#"["dba"]"#));
}

/// A world of these policies: namespace, what is before the rules.
fn subjects(policies: &[&str]) -> World {
    let mut world = World::new("", &vec![READ_ORDERS; policies.len()]);
    for (policy, head) in world.policies.iter_mut().zip(policies) {
        let text = format!("connections: [databases/orders-db]\n{head}\n{READ_ORDERS}");
        policy.1 = serde_saphyr::from_str(&text).unwrap();
    }
    world
}

#[test]
fn a_token_is_asked_for_exactly_where_a_policy_that_counts_selects_by_one() {
    let account = "subjects: [{serviceAccount: report-agent}]";
    let corp = "subjects: [{serviceAccount: other}, {identity: {provider: corp}}]";
    let acme = "subjects: [{identity: {provider: acme, claims: {groups: [x]}}}]";
    let dry = "subjects: [{identity: {provider: dry}}]\nenforcement: DryRun";
    for (policies, providers) in [
        (&[account][..], &[][..]),
        (&[], &[]),
        (&[account, corp], &["corp"]),
        (&[corp, acme, acme], &["acme", "corp"]),
        // What only observes changes nothing for who is decided on, and is all there is for others.
        (&[account, dry], &[]),
        (&[dry], &["dry"]),
        (&[corp, dry], &["corp", "dry"]),
    ] {
        let set = subjects(policies).set();
        assert_eq!(set.identity_providers(&agent()), providers, "{policies:?}");
    }
    // Another namespace's policies select nobody here.
    let set = subjects(&[corp]).set();
    let mut elsewhere = agent();
    elsewhere.workload.namespace = "elsewhere".to_owned();
    assert!(set.identity_providers(&elsewhere).is_empty());
}

#[test]
fn deny_wins_over_allow_and_approval_and_says_its_message() {
    let world = World::new(
        "",
        &["
rules:
- {name: read, action: Allow, sql: {effects: [Read], relations: ['public.*']}}
- {name: ask, action: RequireApproval, sql: {effects: [Read]}, approval: {approvers: {groups: [dba]}}}
- {name: no-pay, action: Deny, sql: {effects: [Read], relations: [public.payroll]}, message: Ask HR.}
"],
    );
    let decision = world.decide(&[read("public.orders"), read("public.payroll")]);
    assert_eq!(
        (decision.verdict, decision.reason),
        (Verdict::Deny, Reason::DeniedByRule)
    );
    let rule = decision.rule.unwrap();
    assert_eq!(
        (rule.policy.as_str(), rule.rule.as_str()),
        ("shop/p0", "no-pay")
    );
    assert_eq!(rule.generation, 1);
    assert_eq!(rule.digest.len(), 64);
    assert_eq!(decision.access, Some(read("public.payroll")));
    assert_eq!(decision.message.as_deref(), Some("Ask HR."));
}

#[test]
fn of_several_rules_the_first_by_name_is_named() {
    let deny = |name: &str, effect: &str| {
        format!("rules: [{{name: {name}, action: Deny, sql: {{effects: [{effect}]}}}}]")
    };
    let (first, second) = (deny("z", "Read"), deny("a", "Delete"));
    let world = World::new("", &[&first, &second]);
    let accesses = [read("public.a"), on(Effect::Delete, relation("public.a"))];
    let reversed = [accesses[1].clone(), accesses[0].clone()];
    for accesses in [accesses, reversed] {
        let rule = world.decide(&accesses).rule.unwrap();
        assert_eq!((rule.policy.as_str(), rule.rule.as_str()), ("shop/p0", "z"));
    }
    let guardrail = "guardrails: {rules: [{name: zz, action: Deny, sql: {effects: [Delete]}}]}";
    let rule =
        World::new(guardrail, &[&second]).decide(&[on(Effect::Delete, relation("public.a"))]);
    assert_eq!(
        rule.rule.unwrap().policy,
        "Connection databases/orders-db",
        "guardrails first"
    );
}

#[test]
fn a_policy_applies_only_to_the_connections_it_names() {
    let mut world = World::new("", &[READ_ORDERS]);
    world.policies[0].1.connections = vec!["databases/other".to_owned()];
    assert!(world.select().is_none());
    world.policies[0].1.connections = vec!["orders-db".to_owned()];
    assert!(
        world.select().is_none(),
        "a bare name is one in the policy's own namespace"
    );
    world.policies[0].1.connections = vec![
        "databases/other".to_owned(),
        "databases/orders-db".to_owned(),
    ];
    assert!(world.select().is_some());
}

#[test]
fn every_access_must_be_covered_and_the_missing_one_is_named() {
    let world = World::new("", &[READ_ORDERS]);
    assert_eq!(
        world.decide(&[read("public.orders")]).reason,
        Reason::Allowed
    );
    let decision = world.decide(&[read("public.orders"), read("public.secrets")]);
    assert_eq!(
        (decision.verdict, decision.reason),
        (Verdict::Deny, Reason::NotCovered)
    );
    assert_eq!(decision.access, Some(read("public.secrets")));
    assert_eq!(
        world.decide(&[]).verdict,
        Verdict::Deny,
        "nothing understood is nothing allowed"
    );
}

#[test]
fn approvals_hold_and_every_quorum_is_listed() {
    let world = World::new(
        "
guardrails:
  rules:
  - {name: owner, action: RequireApproval, sql: {effects: [Delete]}, approval: {approvers: {users: [ann]}}}
",
        &["
rules:
- {name: b, action: RequireApproval, sql: {effects: [Delete], relations: ['public.*']}, approval: {approvers: {groups: [dba]}, quorum: 2, timeout: 0s, validFor: 1m}}
- {name: a, action: RequireApproval, sql: {effects: [Delete]}, approval: {approvers: {groups: [ops]}}}
- {name: other, action: RequireApproval, sql: {effects: [Modify]}, approval: {approvers: {groups: [ops]}}}
"],
    );
    let decision = world.decide(&[on(Effect::Delete, relation("public.orders"))]);
    assert_eq!(
        (decision.verdict, decision.reason),
        (Verdict::Hold, Reason::ApprovalPending)
    );
    let rules: Vec<_> = decision
        .approvals
        .iter()
        .map(|rule| rule.rule.rule.as_str())
        .collect();
    assert_eq!(rules, ["owner", "a", "b"]);
    assert_eq!(decision.approvals[2].quorum, 2);
    assert_eq!(decision.approvals[2].timeout.as_secs(), 0);
    assert_eq!(decision.approvals[1].timeout.as_secs(), 20);
    assert_eq!(decision.durability, Durability::Replicated);
}

#[test]
fn a_guardrail_never_grants() {
    let world = World::new(
        "
guardrails:
  rules:
  - {name: owner, action: RequireApproval, sql: {effects: [Delete]}, approval: {approvers: {users: [ann]}}}
",
        &[READ_ORDERS],
    );
    let decision = world.decide(&[on(Effect::Delete, relation("public.orders"))]);
    assert_eq!(decision.reason, Reason::NotCovered);
    let world = World::new(
        "guardrails: {rules: [{name: all, action: Allow, sql: {effects: [Delete]}}]}",
        &[READ_ORDERS],
    );
    assert_eq!(world.check()[0].path, "spec.guardrails.rules[0].action");
    assert_eq!(
        world.decide(&[read("public.orders")]).reason,
        Reason::PolicyInvalid
    );
}

#[test]
fn only_a_rule_that_names_unknown_allows_it() {
    let unknown = on(Effect::Unknown, Object::Any);
    let all = "
rules:
- {name: all, action: Allow, sql: {effects: [Catalog, Read, Write, Modify, Delete, BulkLoad, BulkExport, SchemaCreate, SchemaAlter, SchemaDestroy, Privilege, Session, Transaction, Maintenance, Lock, Notify, Execute, UnsafeIo]}}
";
    let named = "rules: [{name: unknown, action: Allow, sql: {effects: [Unknown]}}]";
    assert_eq!(
        World::new("", &[all])
            .decide(std::slice::from_ref(&unknown))
            .verdict,
        Verdict::Deny
    );
    assert_eq!(
        World::new("", &[all, named])
            .decide(std::slice::from_ref(&unknown))
            .verdict,
        Verdict::Allow
    );
    let flagged = baseline(Effect::Unknown, Object::Any);
    assert_eq!(
        World::new("", &[all]).decide(&[flagged]).verdict,
        Verdict::Deny
    );
}

#[test]
fn what_cannot_be_resolved_matches_no_allow_and_every_deny() {
    let unresolved = || on(Effect::Delete, Object::Unresolved("orders".to_owned()));
    let allow = "rules: [{name: all, action: Allow, sql: {effects: [Delete]}}]";
    let ask = "rules: [{name: ask, action: RequireApproval, sql: {effects: [Delete]}, approval: {approvers: {groups: [dba]}}}]";
    let decision = World::new("", &[allow, ask]).decide(&[unresolved()]);
    assert_eq!(decision.reason, Reason::NotCovered);
    let deny =
        "rules: [{name: no, action: Deny, sql: {effects: [Delete], relations: [private.x]}}]";
    let decision = World::new("", &[allow, deny]).decide(&[unresolved()]);
    assert_eq!(decision.reason, Reason::DeniedByRule);
    let flagged = baseline(Effect::Read, Object::Unresolved("x".to_owned()));
    assert_eq!(
        World::new("", &[allow]).decide(&[flagged]).reason,
        Reason::NotCovered
    );
}

#[test]
fn an_object_matches_only_the_list_of_its_own_kind() {
    let world = World::new(
        "",
        &["
rules:
- {name: lists, action: Allow, sql: {effects: [Read, Execute, Session, Notify], relations: [public.a], functions: [public.f], settings: [Work_Mem], channels: ['jobs_*']}}
- {name: unlisted, action: Allow, sql: {effects: [Transaction, SchemaCreate]}}
"],
    );
    let allowed = |effect, object| world.decide(&[on(effect, object)]).verdict == Verdict::Allow;
    assert!(allowed(Effect::Read, relation("public.a")));
    assert!(!allowed(Effect::Read, relation("public.f")));
    assert!(allowed(Effect::Execute, function("public.f")));
    assert!(!allowed(Effect::Execute, function("public.a")));
    assert!(allowed(
        Effect::Session,
        Object::Setting("work_mem".to_owned())
    ));
    assert!(!allowed(
        Effect::Session,
        Object::Setting("role".to_owned())
    ));
    assert!(allowed(
        Effect::Notify,
        Object::Channel("jobs_new".to_owned())
    ));
    assert!(!allowed(
        Effect::Notify,
        Object::Channel("other".to_owned())
    ));
    assert!(!allowed(Effect::Read, Object::Session));
    assert!(!allowed(Effect::Read, Object::Any));
    assert!(allowed(Effect::Transaction, Object::Session));
    let schema = Object::Named {
        kind: "schema".to_owned(),
        name: "x".to_owned(),
    };
    assert!(allowed(Effect::SchemaCreate, schema));
}

#[test]
fn dropping_a_schema_meets_the_denies_of_what_is_in_it() {
    let world = World::new(
        "guardrails: {rules: [{name: keep, action: Deny, sql: {effects: [SchemaDestroy], relations: ['pay*.*']}}]}",
        &["rules: [{name: drop, action: Allow, sql: {effects: [SchemaDestroy]}}]"],
    );
    let drop = |kind: &str, name: &str| {
        let object = Object::Named {
            kind: kind.to_owned(),
            name: name.to_owned(),
        };
        world.decide(&[on(Effect::SchemaDestroy, object)]).verdict
    };
    assert_eq!(drop("schema", "payroll"), Verdict::Deny);
    assert_eq!(drop("schema", "scratch"), Verdict::Allow);
    assert_eq!(drop("database", "orders"), Verdict::Deny);
    assert_eq!(drop("type", "payroll"), Verdict::Allow);
}

#[test]
fn baseline_needs_an_allow_or_approval_and_never_beats_a_deny() {
    let begin = baseline(Effect::Transaction, Object::Session);
    let catalog = baseline(Effect::Catalog, relation("pg_catalog.pg_class"));
    let world = World::new("", &[READ_ORDERS]);
    let decision = world.decide(std::slice::from_ref(&begin));
    assert_eq!(
        (decision.verdict, decision.reason),
        (Verdict::Allow, Reason::Baseline)
    );
    assert_eq!(decision.rule, None);
    assert_eq!(
        world.decide(std::slice::from_ref(&catalog)).reason,
        Reason::Baseline
    );

    let only_deny = "rules: [{name: no, action: Deny, sql: {effects: [Delete]}}]";
    let world = World::new("", &[only_deny]);
    assert_eq!(
        world.decide(std::slice::from_ref(&begin)).reason,
        Reason::NotCovered
    );

    let no_catalog = format!("{READ_ORDERS}\ncatalog: Deny");
    let world = World::new("", &[READ_ORDERS, &no_catalog]);
    assert_eq!(
        world.decide(std::slice::from_ref(&catalog)).reason,
        Reason::NotCovered
    );
    assert_eq!(
        world.decide(std::slice::from_ref(&begin)).reason,
        Reason::Baseline
    );

    let no_begin = "rules: [{name: no, action: Deny, sql: {effects: [Transaction]}}]";
    let world = World::new("", &[READ_ORDERS, no_begin]);
    assert_eq!(world.decide(&[begin]).reason, Reason::DeniedByRule);
}

#[test]
fn durability_is_the_strictest_that_applies() {
    let world = World::new(
        "",
        &["
rules:
- {name: read, action: Allow, sql: {effects: [Read, Write]}}
- {name: audit, action: Allow, sql: {effects: [Read], relations: [public.audit]}, durability: Replicated}
- {name: logs, action: Allow, sql: {effects: [Write], relations: [public.logs]}, durability: Written}
- {name: ask, action: RequireApproval, sql: {effects: [Delete], relations: [public.logs]}, durability: Synced, approval: {approvers: {groups: [dba]}}}
"],
    );
    let durability = |accesses: &[_]| world.decide(accesses).durability;
    let write = |name| on(Effect::Write, relation(name));
    assert_eq!(durability(&[read("public.a")]), Durability::Written);
    assert_eq!(durability(&[write("public.a")]), Durability::Synced);
    assert_eq!(durability(&[write("public.logs")]), Durability::Written);
    assert_eq!(
        durability(&[write("public.logs"), write("public.a")]),
        Durability::Synced
    );
    assert_eq!(durability(&[read("public.audit")]), Durability::Replicated);
    assert_eq!(
        durability(&[on(Effect::Delete, relation("public.logs"))]),
        Durability::Synced
    );
}

#[test]
fn dry_run_alone_observes_what_guardrails_leave() {
    let dry = format!("enforcement: DryRun\n{READ_ORDERS}");
    let guardrails = "
guardrails:
  rules:
  - {name: no-ddl, action: Deny, sql: {effects: [SchemaDestroy]}}
  - {name: ask, action: RequireApproval, sql: {effects: [Delete], relations: [public.orders]}, approval: {approvers: {users: [ann]}}}
";
    let world = World::new(guardrails, &[&dry]);
    let decision = world.decide(&[read("public.secrets")]);
    assert_eq!(
        (decision.verdict, decision.reason),
        (Verdict::Observe, Reason::Observed)
    );
    let would_be = decision.dry_run.unwrap();
    assert_eq!(
        (would_be.verdict, would_be.reason),
        (Verdict::Deny, Reason::NotCovered)
    );
    let drop = on(Effect::SchemaDestroy, relation("public.orders"));
    assert_eq!(world.decide(&[drop]).verdict, Verdict::Deny);
    let delete = on(Effect::Delete, relation("public.orders"));
    assert_eq!(world.decide(&[delete]).verdict, Verdict::Hold);
    let unclear = on(Effect::Delete, Object::Unresolved("orders".to_owned()));
    assert_eq!(
        world.decide(&[unclear]).verdict,
        Verdict::Hold,
        "it may be public.orders"
    );
    let unknown = on(Effect::Unknown, Object::Any);
    assert_eq!(
        world.decide(std::slice::from_ref(&unknown)).verdict,
        Verdict::Deny,
        "it may be a DROP"
    );
    assert_eq!(
        World::new("", &[&dry]).decide(&[unknown]).verdict,
        Verdict::Observe
    );
}

#[test]
fn dry_run_beside_enforce_only_says_what_it_would_have_done() {
    let dry = "enforcement: DryRun\nrules: [{name: no, action: Deny, sql: {effects: [Read]}}]";
    let world = World::new("", &[READ_ORDERS, dry]);
    let decision = world.decide(&[read("public.orders")]);
    assert_eq!(decision.verdict, Verdict::Allow);
    assert_eq!(decision.dry_run.unwrap().reason, Reason::DeniedByRule);
}

#[test]
fn a_condition_decides_and_an_error_in_it_denies() {
    let when = |action: &str, text: &str| {
        let approval = match action {
            "RequireApproval" => ", approval: {approvers: {groups: [dba]}}",
            _ => "",
        };
        format!(
            "rules:\n- {{name: cond, action: {action}, when: \"{text}\", sql: {{effects: [Read]}}{approval}}}"
        )
    };
    let decide = |body: &str| World::new("", &[body]).decide(&[read("public.a")]);
    assert_eq!(
        decide(&when("Allow", "subject.purpose == 'nightly'")).verdict,
        Verdict::Allow
    );
    assert_eq!(
        decide(&when("Allow", "subject.purpose == 'other'")).reason,
        Reason::NotCovered
    );
    assert_eq!(
        decide(&when("Allow", "operation.verb == 'SELECT'")).verdict,
        Verdict::Allow
    );
    assert_eq!(
        decide(&when("Allow", "'public.a' in operation.relations")).verdict,
        Verdict::Allow
    );
    assert_eq!(
        decide(&when("Allow", "!has(subject.delegate)")).verdict,
        Verdict::Allow
    );
    for action in ["Allow", "Deny", "RequireApproval"] {
        let decision = decide(&when(action, "subject.delegate.username == 'x'"));
        assert_eq!(
            (decision.verdict, decision.reason),
            (Verdict::Deny, Reason::ConditionFailed)
        );
        assert_eq!(decision.rule.unwrap().rule, "cond");
        let decision = decide(&when(action, "operation.parameters[0] == 'x'"));
        assert_eq!(decision.reason, Reason::ConditionFailed, "{action}");
    }
    let beside = format!(
        "{}\n- {{name: plain, action: Allow, sql: {{effects: [Read]}}}}",
        when("Allow", "subject.delegate.username == 'x'")
    );
    assert_eq!(
        decide(&beside).reason,
        Reason::ConditionFailed,
        "even if another rule covers it"
    );
}

#[test]
fn broken_policy_denies_all_and_says_where() {
    let broken = "
rules:
- {name: fine, action: Allow, sql: {effects: [Read]}}
- {name: broken, action: Allow, when: 'nope == 1', sql: {effects: [Read]}}
";
    let world = World::new("", &[READ_ORDERS, broken]);
    let decision = world.decide(&[read("public.orders")]);
    assert_eq!(
        (decision.verdict, decision.reason),
        (Verdict::Deny, Reason::PolicyInvalid)
    );
    assert_eq!(decision.rule.unwrap().policy, "shop/p1");
    let message = decision.message.unwrap();
    assert!(
        message.starts_with("AccessPolicy shop/p1: spec.rules[1].when: `nope`"),
        "{message}"
    );
    let mut other = agent();
    other.workload.service_account = "other".to_owned();
    assert!(
        world.set().select(&other).is_none(),
        "whom it does not select it does not deny"
    );
}

#[test]
fn policy_with_broken_subjects_denies_everyone() {
    let mut world = World::new("", &[READ_ORDERS, READ_ORDERS]);
    world.policies[1].1.subjects[0].service_account = None;
    assert_eq!(
        world.decide(&[read("public.orders")]).reason,
        Reason::PolicyInvalid
    );
    let mut other = agent();
    other.workload.service_account = "other".to_owned();
    let policy = world.set().select(&other).unwrap();
    let decision = decide(&policy, &other, &operation(&[read("public.orders")]));
    assert_eq!(decision.reason, Reason::PolicyInvalid);
}

#[test]
fn unreadable_policy_denies_everyone() {
    let set = World::new("", &[READ_ORDERS]).set();
    let before = set.select(&agent()).unwrap();
    let set = set.with_unreadable("shop", "torn", "line 3: unknown field `rulez`");
    let policy = set.select(&agent()).unwrap();
    let decision = decide(&policy, &agent(), &operation(&[read("public.orders")]));
    assert_eq!(decision.reason, Reason::PolicyInvalid);
    assert!(decision.message.unwrap().contains("unknown field `rulez`"));
    assert_ne!(policy.digest(), before.digest());
}

#[test]
fn invalid_policy_value_denies_with_its_reason() {
    let policy = Policy::invalid(Reason::RefNotFound, "the Secret db is missing");
    let decision = decide(&policy, &agent(), &operation(&[read("public.orders")]));
    assert_eq!(
        (decision.verdict, decision.reason),
        (Verdict::Deny, Reason::RefNotFound)
    );
    assert_eq!(
        decision.message.as_deref(),
        Some("the Secret db is missing")
    );
    assert_eq!(
        policy.denies_all(),
        Some((Reason::RefNotFound, "the Secret db is missing"))
    );
}

#[test]
fn any_change_of_what_applies_changes_the_digest() {
    let world = World::new("", &[READ_ORDERS]);
    let digest = |world: &World| world.select().unwrap().digest().to_owned();
    let before = digest(&world);
    assert_eq!(before, digest(&world.clone()));
    let mut changed = world.clone();
    changed.policies[0].1.rules[0].message = Some("x".to_owned());
    assert_ne!(before, digest(&changed));
    let mut changed = world.clone();
    changed.connection.guardrails = Some(Default::default());
    assert_ne!(before, digest(&changed));
}

#[test]
fn a_policy_is_shared_between_threads_and_sessions() {
    fn shared<T: Send + Sync>() {}
    shared::<Policy>();
    shared::<chaperone_policy::PolicySet>();
    let set = World::new("", &[READ_ORDERS]).set();
    assert_eq!(
        set.select(&agent()).unwrap().digest(),
        set.select(&agent()).unwrap().digest()
    );
}
