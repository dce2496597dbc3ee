//! Each CEL rule, with an object it accepts and one it refuses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use chaperone_crds::*;
use serde_json::{Value, json};

type CelErrors = kube::core::cel::ValidationErrors;

fn messages(result: Result<(), CelErrors>) -> Vec<String> {
    let errors = result.err().map(CelErrors::into_vec).unwrap_or_default();
    errors
        .into_iter()
        .map(|error| format!("{}: {}", error.field_path, error.message))
        .collect()
}

fn connection(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut spec = json!({"postgres": {
        "host": "orders.db", "tls": {"mode": "VerifyFull", "ca": {"configMap": {"name": "ca", "key": "ca.crt"}}},
        "credential": {"secret": {"name": "orders-agent"}},
    }});
    change(&mut spec);
    messages(Connection::new("orders-db", serde_json::from_value(spec).unwrap()).validate_cel())
}

fn policy(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut spec = json!({
        "subjects": [{"serviceAccount": "report-agent"}],
        "connections": ["databases/orders-db"],
        "rules": [
            {"name": "read", "action": "Allow", "sql": {"effects": ["Read"]}},
            {"name": "humans", "action": "RequireApproval", "sql": {"effects": ["Delete"]},
             "approval": {"approvers": {"groups": ["dba"]}, "quorum": 1, "timeout": "20s", "validFor": "15m"}},
        ],
        "masking": [
            {"name": "pii", "columns": ["public.customers.email"], "strategy": "Partial", "partial": {"keepLast": 4}},
            {"name": "cards", "detectors": ["PaymentCard"], "strategy": "Redact"},
        ],
    });
    change(&mut spec);
    messages(
        AccessPolicy::new("report-agent", serde_json::from_value(spec).unwrap()).validate_cel(),
    )
}

fn provider(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut spec = json!({
        "issuer": "https://id.example.com", "audiences": ["chaperone"], "jwks": {"discovery": true},
        "username": {"claim": "sub", "prefix": "corp:"},
    });
    change(&mut spec);
    messages(IdentityProvider::new("corp", serde_json::from_value(spec).unwrap()).validate_cel())
}

fn request() -> Value {
    json!({
        "connection": "databases/orders-db",
        "subject": {"namespace": "shop", "serviceAccount": "report-agent"},
        "purpose": "nightly-report",
        "rule": {"policy": "shop/report-agent", "name": "humans", "digest": "aa"},
        "operation": {"summary": "DELETE public.orders", "command": "DELETE FROM orders", "digest": "bb",
                      "effects": ["Delete"], "objects": ["public.orders"]},
        "approvers": {"groups": ["dba"]}, "quorum": 1,
        "expiresAt": "2026-01-01T00:00:00Z", "validFor": "15m",
    })
}

fn update(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let old = ApprovalRequest::new("ar-1", serde_json::from_value(request()).unwrap());
    let mut spec = request();
    change(&mut spec);
    let new = ApprovalRequest::new("ar-1", serde_json::from_value(spec).unwrap());
    messages(new.validate_cel_update(&old))
}

const ONE_TARGET: &str = "spec: a Connection names exactly one of postgres, http, kubernetes, ssh";

#[test]
fn a_connection_has_exactly_one_target() {
    let none: [&str; 0] = [];
    assert_eq!(connection(|_| {}), none);
    for other in [
        json!({"http": {"url": "https://api.example.com"}}),
        json!({"kubernetes": {"inCluster": true, "credential": {"serviceAccount": "Self"}}}),
        json!({"ssh": {"host": "h", "hostKeys": ["ssh-ed25519 AAAA"], "credential": {"username": "u", "privateKey": {"name": "s", "key": "k"}}}}),
    ] {
        assert_eq!(connection(|spec| *spec = other.clone()), none, "{other}");
        assert_eq!(
            connection(|spec| merge(spec, &other)),
            [ONE_TARGET],
            "{other}"
        );
    }
    assert_eq!(connection(|spec| *spec = json!({})), [ONE_TARGET]);
}

#[test]
fn tls_disabled_takes_no_ca() {
    assert_eq!(
        connection(|spec| spec["postgres"]["tls"]["mode"] = json!("Disable")),
        ["spec.postgres.tls: ca has no meaning with mode Disable"]
    );
    let none: [&str; 0] = [];
    assert_eq!(
        connection(|spec| spec["postgres"]["tls"] = json!({"mode": "Disable"})),
        none
    );
    let unknown = serde_json::from_value::<Tls>(json!({"mode": "Prefer"}))
        .unwrap_err()
        .to_string();
    assert_eq!(
        unknown,
        "unknown variant `Prefer`, expected `VerifyFull` or `Disable`"
    );
}

#[test]
fn a_ca_comes_from_one_place() {
    let both = json!({"configMap": {"name": "a", "key": "k"}, "secret": {"name": "a", "key": "k"}});
    for ca in [both, json!({})] {
        assert_eq!(
            connection(|spec| spec["postgres"]["tls"]["ca"] = ca.clone()),
            ["spec.postgres.tls.ca: name exactly one of configMap, secret"]
        );
    }
}

#[test]
fn a_kubernetes_target_is_a_server_or_the_own_cluster() {
    let kubernetes = |target: Value| connection(|spec| *spec = json!({"kubernetes": target}));
    let none: [&str; 0] = [];
    let credential = json!({"secret": {"name": "s"}});
    assert_eq!(
        kubernetes(json!({"server": "https://k:6443", "credential": credential})),
        none
    );
    let own = json!({"serviceAccount": "Self"});
    assert_eq!(
        kubernetes(json!({"inCluster": true, "credential": own})),
        none
    );
    // Whoever writes a Connection would be sent the tokens of those who use it.
    assert_eq!(
        kubernetes(json!({"server": "https://k:6443", "credential": own})),
        [
            "spec.kubernetes: a pod's own token is for the API server of its own cluster, and sent to \
             no other: write inCluster: true"
        ]
    );
    let message = ["spec.kubernetes: name exactly one of server, inCluster: true"];
    assert_eq!(kubernetes(json!({"credential": credential})), message);
    assert_eq!(
        kubernetes(json!({"server": "https://k", "inCluster": true, "credential": credential})),
        message
    );
    let message = ["spec.kubernetes.credential: name exactly one of serviceAccount, secret"];
    assert_eq!(
        kubernetes(json!({"inCluster": true, "credential": {}})),
        message
    );
    assert_eq!(
        kubernetes(
            json!({"inCluster": true, "credential": {"serviceAccount": "Self", "secret": {"name": "s"}}})
        ),
        message
    );
}

#[test]
fn a_rule_names_exactly_one_protocol() {
    let none: [&str; 0] = [];
    assert_eq!(policy(|_| {}), none);
    let message = ["spec.rules[0]: a rule names exactly one of sql, kubernetes, http, ssh"];
    for (protocol, body) in [
        ("http", json!({"methods": ["GET"]})),
        ("kubernetes", json!({"verbs": ["get"]})),
        ("ssh", json!({"channels": ["exec"]})),
    ] {
        assert_eq!(
            policy(|spec| spec["rules"][0][protocol] = body.clone()),
            message,
            "{protocol} too"
        );
        let alone = |spec: &mut Value| {
            spec["rules"][0] = json!({"name": "r", "action": "Allow", protocol: body})
        };
        assert_eq!(policy(alone), none, "{protocol} alone");
    }
    assert_eq!(policy(|spec| remove(&mut spec["rules"][0], "sql")), message);
}

#[test]
fn approval_is_there_if_and_only_if_it_is_required() {
    let message =
        ["spec.rules[1]: approval belongs to action RequireApproval, and that action needs it"];
    assert_eq!(
        policy(|spec| remove(&mut spec["rules"][1], "approval")),
        message
    );
    for action in ["Allow", "Deny"] {
        assert_eq!(
            policy(|spec| spec["rules"][1]["action"] = json!(action)),
            message
        );
    }
}

#[test]
fn approvals_have_approvers_and_a_quorum() {
    for nobody in [json!({}), json!({"users": [], "groups": []})] {
        assert_eq!(
            policy(|spec| spec["rules"][1]["approval"]["approvers"] = nobody),
            ["spec.rules[1].approval.approvers: name at least one of users, groups"]
        );
    }
    for quorum in [0, 17] {
        assert_eq!(
            policy(|spec| spec["rules"][1]["approval"]["quorum"] = json!(quorum)),
            ["spec.rules[1].approval.quorum: quorum is from 1 to 16"]
        );
    }
    let none: [&str; 0] = [];
    assert_eq!(
        policy(|spec| spec["rules"][1]["approval"] = json!({"approvers": {"users": ["ann"]}})),
        none
    );
}

#[test]
fn masking_names_columns_or_detectors() {
    let message = ["spec.masking[0]: name exactly one of columns, jsonPaths, detectors"];
    assert_eq!(
        policy(|spec| spec["masking"][0]["detectors"] = json!(["Iban"])),
        message
    );
    assert_eq!(
        policy(|spec| remove(&mut spec["masking"][0], "columns")),
        message
    );
}

#[test]
fn partial_belongs_to_its_strategy() {
    let message =
        ["spec.masking[0]: partial belongs to strategy Partial, and that strategy needs it"];
    for strategy in ["Redact", "Hash", "Null"] {
        assert_eq!(
            policy(|spec| spec["masking"][0]["strategy"] = json!(strategy)),
            message
        );
    }
    assert_eq!(
        policy(|spec| remove(&mut spec["masking"][0], "partial")),
        message
    );
}

#[test]
fn a_subject_is_proven_in_one_way() {
    let none: [&str; 0] = [];
    let message =
        ["spec.subjects[0]: a subject names exactly one of serviceAccount, podSelector, identity"];
    for (way, body) in [
        (
            "podSelector",
            json!({"matchLabels": {"app": "report-agent"}}),
        ),
        (
            "identity",
            json!({"provider": "corp", "claims": {"groups": ["analysts"]}}),
        ),
    ] {
        assert_eq!(
            policy(|spec| spec["subjects"][0] = json!({way: body})),
            none,
            "{way} alone"
        );
        assert_eq!(
            policy(|spec| spec["subjects"][0][way] = body.clone()),
            message,
            "{way} too"
        );
    }
    assert_eq!(policy(|spec| spec["subjects"][0] = json!({})), message);
}

#[test]
fn label_requirements_have_values_if_they_compare() {
    let selector = |requirement: Value| {
        policy(|spec| {
            spec["subjects"][0] = json!({"podSelector": {"matchExpressions": [requirement]}})
        })
    };
    let none: [&str; 0] = [];
    let message = [
        "spec.subjects[0].podSelector.matchExpressions[0]: In and NotIn need values; Exists and DoesNotExist take none",
    ];
    assert_eq!(
        selector(json!({"key": "a", "operator": "In", "values": ["b"]})),
        none
    );
    assert_eq!(selector(json!({"key": "a", "operator": "Exists"})), none);
    assert_eq!(selector(json!({"key": "a", "operator": "NotIn"})), message);
    assert_eq!(
        selector(json!({"key": "a", "operator": "Exists", "values": ["b"]})),
        message
    );
}

#[test]
fn keys_come_from_one_place() {
    let none: [&str; 0] = [];
    assert_eq!(provider(|_| {}), none);
    assert_eq!(
        provider(|spec| spec["jwks"] = json!({"inline": "{\"keys\":[]}"})),
        none
    );
    for jwks in [
        json!({}),
        json!({"discovery": false}),
        json!({"discovery": true, "inline": "{}"}),
    ] {
        assert_eq!(
            provider(|spec| spec["jwks"] = jwks.clone()),
            ["spec.jwks: name exactly one of discovery: true, inline"]
        );
    }
}

#[test]
fn only_decision_and_reviews_of_a_request_change() {
    let none: [&str; 0] = [];
    assert_eq!(update(|_| {}), none);
    assert_eq!(
        update(|spec| {
            spec["decision"] = json!({"verdict": "Approve", "reason": "ticket 42"});
            spec["reviews"] = json!([{"reviewer": "ann", "groups": ["dba"], "verdict": "Approve", "at": "2026-01-01T00:00:00Z"}]);
        }),
        none
    );
    for (field, value) in [
        ("connection", json!("databases/other")),
        (
            "subject",
            json!({"namespace": "shop", "serviceAccount": "other"}),
        ),
        ("purpose", json!("other")),
        (
            "rule",
            json!({"policy": "shop/report-agent", "name": "humans", "digest": "cc"}),
        ),
        (
            "operation",
            json!({"summary": "s", "command": "DROP TABLE orders", "digest": "bb"}),
        ),
        ("approvers", json!({"users": ["agent"]})),
        ("quorum", json!(2)),
        ("expiresAt", json!("2027-01-01T00:00:00Z")),
        ("validFor", json!("8h")),
    ] {
        let found = update(|spec| spec[field] = value);
        assert_eq!(found.len(), 1, "{field}: {found:?}");
        assert!(
            found[0].ends_with(&format!("{field} is immutable")),
            "{found:?}"
        );
    }
    assert_eq!(
        update(|spec| remove(spec, "purpose")),
        ["spec: purpose is immutable"]
    );
}

#[test]
fn every_field_of_a_request_is_covered_by_a_rule_or_meant_to_change() {
    let crd = serde_json::to_value(generate::definition::<ApprovalRequest>()).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let rules = spec["x-kubernetes-validations"].as_array().unwrap();
    let covered = |field: &str| {
        rules
            .iter()
            .any(|rule| rule["message"] == format!("{field} is immutable"))
    };
    for field in spec["properties"].as_object().unwrap().keys() {
        assert_eq!(
            covered(field),
            !["decision", "reviews"].contains(&field.as_str()),
            "{field}"
        );
    }
}

fn merge(spec: &mut Value, other: &Value) {
    for (field, value) in other.as_object().unwrap() {
        spec[field] = value.clone();
    }
}

fn remove(object: &mut Value, field: &str) {
    object.as_object_mut().unwrap().remove(field).unwrap();
}
