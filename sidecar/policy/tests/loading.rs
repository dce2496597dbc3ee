//! What is refused when a resource is loaded, and where it says so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use support::World;

/// Exactly one problem, at this path, whose message contains this.
#[track_caller]
fn refused(body: &str, path: &str, message: &str) {
    let found = World::new("", &[body]).check();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].resource, "AccessPolicy shop/p0");
    assert_eq!(found[0].path, path);
    assert!(found[0].message.contains(message), "{}", found[0].message);
}

#[track_caller]
fn refused_sql(sql: &str, path: &str, message: &str) {
    let body = format!("rules: [{{name: a, action: Allow, sql: {{{sql}}}}}]");
    refused(&body, &format!("spec.rules[0].sql.{path}"), message);
}

#[track_caller]
fn refused_when(when: &str, message: &str) {
    let when = serde_json::Value::from(when);
    let body =
        format!("rules: [{{name: a, action: Allow, when: {when}, sql: {{effects: [Read]}}}}]");
    refused(&body, "spec.rules[0].when", message);
}

#[track_caller]
fn accepted(body: &str) {
    assert_eq!(World::new("", &[body]).check(), []);
}

#[test]
fn a_rule_that_can_never_match_is_refused() {
    refused_sql("effects: []", "effects", "never match");
    refused_sql("effects: [Read], relations: ['']", "relations[0]", "empty");
    refused_sql(
        "effects: [Read], relations: [a.b, orders]",
        "relations[1]",
        "schema.name",
    );
    refused_sql(
        "effects: [Read], relations: [a.b.c]",
        "relations[0]",
        "3 part",
    );
    refused_sql(
        "effects: [Read], relations: [a.]",
        "relations[0]",
        "empty part",
    );
    refused_sql(
        "effects: [Execute], functions: [f]",
        "functions[0]",
        "schema.name",
    );
    refused_sql("effects: [Read], channels: [jobs]", "channels", "channels");
    refused_sql(
        "effects: [Execute], relations: [a.b]",
        "relations",
        "relations",
    );
    refused_sql(
        "effects: [Delete], functions: [a.b]",
        "functions",
        "functions",
    );
    refused_sql("effects: [Delete], settings: [a]", "settings", "settings");
    accepted(
        "rules: [{name: a, action: Allow, sql: {effects: [Session], settings: [my.setting]}}]",
    );
}

#[test]
fn approval_without_approvers_is_refused() {
    let ask = |rest: &str| {
        format!("rules: [{{name: a, action: RequireApproval, sql: {{effects: [Delete]}}{rest}}}]")
    };
    refused(&ask(""), "spec.rules[0].approval", "approvers");
    refused(
        &ask(", approval: {approvers: {}}"),
        "spec.rules[0].approval.approvers",
        "at least one of users, groups",
    );
    refused(
        &ask(", approval: {approvers: {users: [ann, ann]}, quorum: 2}"),
        "spec.rules[0].approval.quorum",
        "never reach",
    );
    refused(
        &ask(", approval: {approvers: {groups: [dba]}, quorum: 0}"),
        "spec.rules[0].approval.quorum",
        "1 to 16",
    );
    refused(
        &ask(", approval: {approvers: {groups: [dba]}, validFor: 0s}"),
        "spec.rules[0].approval.validFor",
        "never valid",
    );
    refused(
        "rules: [{name: a, action: Allow, sql: {effects: [Read]}, approval: {approvers: {groups: [dba]}}}]",
        "spec.rules[0].approval",
        "RequireApproval",
    );
    accepted(&ask(
        ", approval: {approvers: {groups: [dba]}, quorum: 3, timeout: 0s}",
    ));
}

#[test]
fn cel_that_cannot_be_trusted_is_refused() {
    refused_when("subject.purpose ==", "does not parse");
    refused_when("nope == 1", "`nope` is not declared");
    refused_when("false && nope.x == 1", "`nope` is not declared");
    refused_when("true || nope(1)", "no function `nope`");
    refused_when("true || subject.purpose.nope(1)", "no function `nope`");
    refused_when("subject.nmespace == 'x'", "no field `nmespace`");
    refused_when("has(operation.nope)", "no field `nope`");
    refused_when("subject.delegate.name == 'x'", "no field `name`");
    refused_when("subject.purpose", "true or false");
    refused_when("1 + 1", "true or false");
    refused_when("subject.purpose > 1", "sample");
    refused_when(&format!("true || '{}' == ''", "x".repeat(1024)), "1024");
    refused_when(
        "operation.parameters.all(a, operation.parameters.all(b, operation.parameters.all(c, a == c)))",
        "loops",
    );
    refused_when("[1].exists(x, x == 1) && x == 1", "`x` is not declared");
}

#[test]
fn cel_that_may_hold_is_accepted() {
    for when in [
        "subject.purpose != ''",
        "subject.namespace == 'shop' && subject.serviceAccount.startsWith('report')",
        "subject.labels['app'] == 'x' || 'tier' in subject.labels",
        "has(subject.delegate) && 'dba' in subject.delegate.groups",
        "has(subject.delegate) && subject.delegate.claims.level > 3",
        "operation.effects.all(e, e == 'Read')",
        "operation.relations.exists(r, r.matches('^public[.]'))",
        "size(operation.command) < 100 && operation.parameters[3] == null",
        "operation.parameters.exists(subject, subject == 'x')",
        "type(operation.command) == string",
        "duration('1h') > duration('30m')",
        "operation.verb in ['SELECT', 'INSERT']",
        "int(operation.parameters[0]) > 3",
    ] {
        let text = serde_json::Value::from(when);
        accepted(&format!(
            "rules: [{{name: a, action: Allow, when: {text}, sql: {{effects: [Read]}}}}]"
        ));
    }
}

#[test]
fn names_are_unique_and_protocols_one() {
    let rule = "{name: a, action: Allow, sql: {effects: [Read]}}";
    refused(
        &format!("rules: [{rule}, {rule}]"),
        "spec.rules[1].name",
        "already",
    );
    refused(
        "rules: [{name: a, action: Allow}]",
        "spec.rules[0]",
        "exactly one of sql",
    );
    refused(
        "rules: [{name: a, action: Allow, sql: {effects: [Read]}, http: {methods: [GET]}}]",
        "spec.rules[0]",
        "exactly one of sql",
    );
    let mask = "{name: a, columns: [a.b.c], strategy: Redact}";
    refused(
        &format!("masking: [{mask}, {mask}]"),
        "spec.masking[1].name",
        "already",
    );
}

#[test]
fn masking_that_says_nothing_is_refused() {
    refused(
        "masking: [{name: a, strategy: Redact}]",
        "spec.masking[0]",
        "exactly one of",
    );
    refused(
        "masking: [{name: a, columns: [public.email], strategy: Redact}]",
        "spec.masking[0].columns[0]",
        "schema.relation.column",
    );
    refused(
        "masking: [{name: a, columns: [a.b.c], strategy: Partial}]",
        "spec.masking[0].partial",
        "Partial",
    );
    refused(
        "masking: [{name: a, columns: [a.b.c], strategy: Hash, partial: {keepLast: 4}}]",
        "spec.masking[0].partial",
        "Partial",
    );
}

#[test]
fn returns_belongs_to_an_allow_of_functions() {
    refused_sql("effects: [Read], returns: Unmasked", "returns", "Execute");
    refused_sql(
        "effects: [Execute], returns: Unmasked",
        "returns",
        "functions",
    );
    accepted(
        "rules: [{name: a, action: Allow, sql: {effects: [Execute], functions: [a.f], returns: Unmasked}}]",
    );
}

#[test]
fn zero_limits_and_illegible_connections_are_refused() {
    refused(
        "limits: {rowsPerStatement: 0}",
        "spec.limits.rowsPerStatement",
        "zero",
    );
    refused(
        "limits: {sessionDuration: 0s}",
        "spec.limits.sessionDuration",
        "zero",
    );
    let mut world = World::new("", &[""]);
    world.policies[0].1.connections = vec!["a/b/c".to_owned()];
    assert_eq!(world.check()[0].path, "spec.connections[0]");
    assert!(
        world.select().is_some(),
        "it may have meant this one, so it denies here"
    );
}

#[test]
fn every_problem_is_told_not_only_the_first() {
    let world = World::new(
        "guardrails: {rules: [{name: g, action: Deny, http: {methods: [GET]}}]}",
        &[
            "rules: [{name: a, action: Allow, when: '1', sql: {effects: [], relations: ['', x]}}]",
            "rules: [{name: b, action: RequireApproval, sql: {effects: [Read]}}]",
        ],
    );
    let found: Vec<String> = world
        .check()
        .into_iter()
        .map(|invalid| format!("{} {}", invalid.resource, invalid.path))
        .collect();
    assert_eq!(
        found,
        [
            "Connection databases/orders-db spec.guardrails.rules[0]",
            "AccessPolicy shop/p0 spec.rules[0].when",
            "AccessPolicy shop/p0 spec.rules[0].sql.effects",
            "AccessPolicy shop/p0 spec.rules[0].sql.relations[0]",
            "AccessPolicy shop/p0 spec.rules[0].sql.relations[1]",
            "AccessPolicy shop/p1 spec.rules[0].approval",
        ]
    );
}

/// Whoever may write a policy must not be able to end the process with it.
#[test]
fn hostile_cel_never_ends_the_process() {
    let nested = |open: &str, core: &str, close: &str| {
        let depth = (1024 - core.len()) / (open.len() + close.len());
        format!("{}{core}{}", open.repeat(depth), close.repeat(depth))
    };
    for when in [
        nested("(", "true", ")"),
        nested("[", "1", "]"),
        nested("{1:", "1", "}"),
        nested("!", "true", ""),
        nested("-", "1", ""),
        nested("true?", "true", ":false"),
        nested("", "true", "||true"),
        nested("", "1", "+1"),
        nested("", "subject", ".a"),
        nested("", "subject.labels", "['a']"),
        nested("size(", "''", ")"),
        nested("[1].map(x,", "x", ")"),
        "\"".repeat(1000),
        "\u{0}\u{202e}'".to_owned(),
        "1/0 == 1".to_owned(),
        "9223372036854775807 + 1 == 0".to_owned(),
        "-9223372036854775808 / -1 == 0".to_owned(),
        "duration('9999999999999999h') == duration('1h')".to_owned(),
        "timestamp('9999-12-31T23:59:59Z') + duration('999999h') == timestamp('x')".to_owned(),
        "'a'.matches('(((((a{1000}){1000}){1000}){1000}){1000})')".to_owned(),
    ] {
        let text = serde_json::Value::from(when.as_str());
        let body =
            format!("rules: [{{name: a, action: Allow, when: {text}, sql: {{effects: [Read]}}}}]");
        let world = World::new("", &[&body]);
        world.check();
        world.decide(&[support::on(
            chaperone_policy::Effect::Read,
            support::relation("a.b"),
        )]);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_as_cel_is_answered(when in "[a-z0-9'\"()\\[\\]{}?:,.+*/%!<>=&| -]{0,60}|\\PC{0,40}") {
        let mut world = World::new("", &["rules: [{name: a, action: Allow, sql: {effects: [Read]}}]"]);
        world.policies[0].1.rules[0].when = Some(when);
        world.check();
        world.decide(&[support::on(chaperone_policy::Effect::Read, support::relation("a.b"))]);
    }
}

/// Sessions run on stacks much smaller than the one that expressions are parsed on.
#[test]
fn the_deepest_accepted_cel_evaluates_on_a_small_stack() {
    let shapes = [
        ("(true && !", "true", ")"),
        ("!(true || ", "true", ")"),
        ("true ? ", "true", " : false"),
        ("true == ", "true", ""),
        ("size([", "1", "]) == 1"),
        ("", "subject.labels", "['a']"),
        ("", "true", " && true"),
        ("", "size('')", " + 1"),
        ("[1].all(x, ", "x == 1", ")"),
        ("{1: ", "true", "}[1]"),
        ("string(", "''", ")"),
    ];
    let mut accepted = 0;
    for (open, core, close) in shapes {
        for depth in 1..=40 {
            let text = format!("{}{core}{}", open.repeat(depth), close.repeat(depth));
            for when in [text.clone(), format!("{text} == {core}")] {
                let mut world = World::new(
                    "",
                    &["rules: [{name: a, action: Allow, sql: {effects: [Read]}}]"],
                );
                world.policies[0].1.rules[0].when = Some(when);
                if !world.check().is_empty() {
                    continue;
                }
                accepted += 1;
                let read = [support::on(
                    chaperone_policy::Effect::Read,
                    support::relation("a.b"),
                )];
                let (policy, subject) = (world.select().unwrap(), support::agent());
                let operation = support::operation(&read);
                let small = std::thread::Builder::new().stack_size(1 << 20);
                let session = small
                    .spawn(move || chaperone_policy::decide(&policy, &subject, &operation))
                    .unwrap();
                session.join().unwrap();
            }
        }
    }
    assert!(accepted > 100, "{accepted}");
}
