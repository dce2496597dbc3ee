//! Rules on HTTP requests, and the conditions that look into them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::sync::Arc;

use chaperone_policy::{Decision, Durability, Operation, Reason, Request, Verdict, decide};
use serde_json::json;
use support::{World, agent, policy};

fn world(guardrails: &str, policies: &[&str]) -> World {
    let spec = format!(
        "http: {{url: \"https://api.test/\"}}\nconsumers: {{namespaceSelector: {{}}}}\n{guardrails}"
    );
    World {
        connection: serde_saphyr::from_str(&spec).unwrap(),
        policies: policies
            .iter()
            .enumerate()
            .map(|(number, body)| (format!("p{number}"), policy(body)))
            .collect(),
        namespaces: Default::default(),
    }
}

fn request(method: &str, path: &str) -> Request {
    Request {
        method: method.to_owned(),
        host: "api.test".to_owned(),
        path: path.to_owned(),
        ..Request::default()
    }
}

fn judge(world: &World, request: Request, upgrade: bool) -> Decision {
    let operation = Operation::http(Arc::new(request), upgrade, String::new());
    decide(&world.select().unwrap(), &agent(), &operation)
}

const ORDERS: &str = "rules:
- {name: read, action: Allow, http: {methods: [GET, HEAD], paths: [\"/v1/orders/**\"]}}
- {name: secrets, action: Deny, http: {methods: [\"*\"], paths: [\"/v1/orders/*/secret\"]}, message: Not for agents.}
- {name: create, action: Allow, http: {methods: [POST], hosts: [\"*.test\"], paths: [/v1/orders]}, when: request.json.amount <= 1000}
- {name: refund, action: RequireApproval, http: {methods: [POST], paths: [\"/v1/orders/*/refund\"]}, approval: {approvers: {groups: [ops]}}}";

#[test]
fn a_request_is_matched_by_method_host_and_path() {
    let world = world("", &[ORDERS]);
    assert_eq!(world.check(), []);
    let read = judge(&world, request("GET", "/v1/orders/7"), false);
    assert_eq!(
        (read.verdict, read.durability),
        (Verdict::Allow, Durability::Written)
    );
    let secret = judge(&world, request("GET", "/v1/orders/7/secret"), false);
    assert_eq!(secret.reason, Reason::DeniedByRule);
    let elsewhere = judge(&world, request("DELETE", "/v1/orders/7"), false);
    assert_eq!(elsewhere.reason, Reason::NotCovered);
    assert_eq!(
        elsewhere.access.unwrap().to_string(),
        "DELETE on api.test/v1/orders/7"
    );
    let refund = judge(&world, request("POST", "/v1/orders/7/refund"), false);
    assert_eq!(
        (refund.verdict, refund.durability),
        (Verdict::Hold, Durability::Replicated)
    );
}

#[test]
fn a_condition_sees_the_body_only_where_it_is_read() {
    let world = world("", &[ORDERS]);
    let with = |json| Request {
        json,
        ..request("POST", "/v1/orders")
    };
    assert_eq!(
        judge(&world, with(Some(json!({"amount": 10}))), false).verdict,
        Verdict::Allow
    );
    assert_eq!(
        judge(&world, with(Some(json!({"amount": 5000}))), false).reason,
        Reason::NotCovered
    );
    // No body, or one without the field: a condition that cannot be answered denies.
    assert_eq!(
        judge(&world, with(None), false).reason,
        Reason::ConditionFailed
    );
    assert_eq!(
        judge(&world, with(Some(json!({}))), false).reason,
        Reason::ConditionFailed
    );
    let policy = world.select().unwrap();
    let reads = |method, path| {
        let request = Arc::new(request(method, path));
        policy.reads_json(&Operation::http(request, false, String::new()))
    };
    assert!(reads("POST", "/v1/orders") && !reads("GET", "/v1/orders"));
}

#[test]
fn query_and_headers_are_seen_whole() {
    let world = world("", &["rules:
- {name: read, action: Allow, http: {methods: [GET]}}
- {name: admin, action: Deny, http: {methods: [GET]}, when: \"'admin' in request.query && '1' in request.query.admin\"}
- {name: debug, action: Deny, http: {methods: [GET]}, when: \"'x-debug' in request.headers && request.headers['x-debug'].contains('on')\"}"]);
    assert_eq!(world.check(), []);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let hidden = Request {
        query: vec![pair("admin", "0"), pair("admin", "1")],
        ..request("GET", "/")
    };
    assert_eq!(judge(&world, hidden, false).reason, Reason::DeniedByRule);
    let debug = Request {
        headers: vec![pair("x-debug", "off, on")],
        ..request("GET", "/")
    };
    assert_eq!(judge(&world, debug, false).reason, Reason::DeniedByRule);
    assert_eq!(
        judge(&world, request("GET", "/"), false).verdict,
        Verdict::Allow
    );
}

#[test]
fn leaving_http_needs_a_rule_that_says_so() {
    let any = world(
        "",
        &["rules: [{name: any, action: Allow, http: {methods: [\"*\"]}}]"],
    );
    assert_eq!(
        judge(&any, request("GET", "/chat"), false).verdict,
        Verdict::Allow
    );
    let denied = judge(&any, request("GET", "/chat"), true);
    assert_eq!(
        denied.access.unwrap().to_string(),
        "Upgrade on api.test/chat"
    );
    let named = world(
        "",
        &["rules: [{name: chat, action: Allow, http: {methods: [GET, Upgrade], paths: [/chat]}}]"],
    );
    assert_eq!(
        judge(&named, request("GET", "/chat"), true).verdict,
        Verdict::Allow
    );
}

#[test]
fn rules_of_one_protocol_do_not_match_the_other() {
    let world = world(
        "",
        &["rules:
- {name: sql, action: Allow, sql: {effects: [Read, Write, Modify, Delete, Unknown]}}"],
    );
    assert_eq!(
        judge(&world, request("GET", "/"), false).reason,
        Reason::NotCovered
    );
}

#[test]
fn what_is_wrong_is_named_by_its_field() {
    let world = world(
        "guardrails: {rules: [{name: g, action: Allow, http: {methods: [GET]}}, {name: s, action: Deny, sql: {effects: [Read]}}],
  masking: [{name: m, columns: [a.b.c], strategy: Redact}]}",
        &["rules:
- {name: a, action: Allow, http: {methods: [get], paths: [v1, \"/a%20b\"], hosts: [\"API.test\"]}}
- {name: b, action: Allow, http: {methods: [GET]}, when: operation.verb == 'SELECT'}
- {name: c, action: Allow, http: {methods: [GET]}, when: request.body == ''}
- {name: d, action: Allow, sql: {effects: [Read]}, when: request.method == 'GET'}
masking: [{name: m, jsonPaths: [customer.email], strategy: Redact}]"],
    );
    let paths: Vec<String> = world
        .check()
        .into_iter()
        .map(|invalid| invalid.path)
        .collect();
    assert_eq!(
        paths,
        [
            "spec.guardrails.rules[0].action",
            "spec.guardrails.rules[1]",
            "spec.guardrails.masking[0].columns",
            "spec.rules[0].http.methods[0]",
            "spec.rules[0].http.hosts[0]",
            "spec.rules[0].http.paths[0]",
            "spec.rules[0].http.paths[1]",
            "spec.rules[1].when",
            "spec.rules[2].when",
            "spec.rules[3].when",
            "spec.masking[0].jsonPaths[0]",
        ]
    );
}

#[test]
fn the_smallest_rule_allows_exactly_that_request() {
    let world = world(
        "",
        &["rules: [{name: r, action: Allow, http: {methods: [GET], paths: [/a]}}]"],
    );
    let operation = Operation::http(Arc::new(request("POST", "/b c")), false, String::new());
    let explained = world.select().unwrap().explain(&agent(), &operation);
    let rule = explained.smallest_rule.unwrap();
    let fixed = format!("rules:\n- {}", rule.trim_end().replace('\n', "\n  "));
    let fixed = self::world("", &[&fixed]);
    assert_eq!(
        judge(&fixed, request("POST", "/b c"), false).verdict,
        Verdict::Allow
    );
    assert_eq!(
        judge(&fixed, request("GET", "/b c"), false).verdict,
        Verdict::Deny
    );
}
