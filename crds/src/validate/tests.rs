#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn connection(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut object = json!({
        "apiVersion": API_VERSION, "kind": "Connection",
        "metadata": {"name": "orders-db", "namespace": "databases"},
        "spec": {
            "postgres": {"host": "orders.db", "credential": {"secret": {"name": "orders-agent"}}},
            "guardrails": {"rules": [
                {"name": "no-ddl", "action": "Deny", "sql": {"effects": ["SchemaCreate"]}},
                {"name": "humans", "action": "RequireApproval", "sql": {"effects": ["Delete"]},
                 "approval": {"approvers": {"groups": ["dba"]}}},
            ]},
        },
    });
    change(&mut object);
    validate::<Connection>(&object)
        .iter()
        .map(|found| format!("{}: {}", found.path, found.message))
        .collect()
}

fn says(change: impl FnOnce(&mut Value), expected: &[&str]) {
    assert_eq!(connection(change), expected);
}

#[test]
fn a_good_resource_has_no_violation_and_parses_with_its_defaults() {
    says(|_| {}, &[]);
    let object = json!({
        "apiVersion": API_VERSION, "kind": "Connection", "metadata": {"name": "a"},
        "spec": {"postgres": {"host": "h", "credential": {"secret": {"name": "s"}}}},
    });
    let parsed: Connection = parse(&object).unwrap();
    let postgres = parsed.spec.postgres.unwrap();
    assert_eq!((postgres.port, postgres.tls), (5432, crate::Tls::default()));
}

#[test]
fn every_violation_is_found_with_its_path() {
    says(
        |object| {
            object["metadata"]["name"] = json!("Orders DB");
            object["metadata"]["annotations"] = json!({"chaperone.dev/listen-port": 15432});
            object["spec"]["postgres"]["port"] = json!(0);
            object["spec"]["postgres"]["hots"] = json!("typo");
            object["spec"]["guardrails"]["rules"][0]["sql"]["effects"] = json!(["Raed"]);
            object["spec"]["guardrails"]["rules"][1]["name"] = json!("no-ddl");
            object["spec"]["guardrails"]["rules"][1]["approval"]["timeout"] = json!("20");
        },
        &[
            "metadata.annotations[chaperone.dev/listen-port]: must be a text, not a number; put it in quotes",
            "metadata.name: \"Orders DB\" is not allowed; write lower-case letters, digits, - and . only, not first or last - or .",
            "spec.guardrails.rules[0].sql.effects[0]: \"Raed\" is not allowed; write one of Catalog, Read, Write, Modify, Delete, BulkLoad, BulkExport, SchemaCreate, SchemaAlter, SchemaDestroy, Privilege, Session, Transaction, Maintenance, Lock, Notify, Execute, UnsafeIo, Unknown",
            "spec.guardrails.rules[1].approval.timeout: \"20\" is not allowed; write a whole number and s, m or h, such as 20s, 15m, 8h",
            "spec.guardrails.rules[1].name: \"no-ddl\" is there already; each may stand here once",
            "spec.postgres.hots: unknown field; allowed here: credential, database, host, port, tls",
            "spec.postgres.port: 0 is not from 1 to 65535",
        ],
    );
}

#[test]
fn missing_null_and_mistyped_fields_are_named() {
    says(
        |object| {
            object.as_object_mut().unwrap().remove("apiVersion");
            object["kind"] = json!("Conection");
            let spec = object["spec"].as_object_mut().unwrap();
            spec.insert("consumers".to_owned(), Value::Null);
            spec["postgres"] = json!({"host": 5, "credential": "orders-agent"});
        },
        &[
            "apiVersion: is required",
            "kind: \"Conection\" is not known here; write Connection",
            "spec.consumers: has no value; leave it out, or write a mapping",
            "spec.postgres.credential: must be a mapping, not a text",
            "spec.postgres.host: must be a text, not a number; write a host name or an IP address, without port",
        ],
    );
    says(
        |object| {
            object["spec"]["guardrails"]["masking"] =
                json!([{"name": "m", "columns": ["a.b.c"], "strategy": null}])
        },
        &[
            "spec.guardrails.masking[0].strategy: has no value: Null without quotes is YAML's nothing; write \"Null\"",
        ],
    );
}

#[test]
fn rules_across_fields_apply_where_there_is_no_api_server() {
    says(
        |object| {
            object["spec"]["guardrails"]["rules"][0]["http"] = json!({"methods": ["GET"]});
            object["spec"]["guardrails"]["rules"][1]["approval"]["quorum"] = json!(0);
        },
        &[
            "spec.guardrails.rules[0]: a rule names exactly one of sql, kubernetes, http, ssh",
            "spec.guardrails.rules[1].approval.quorum: quorum is from 1 to 16",
        ],
    );
}

#[test]
fn a_mistake_in_one_rule_does_not_hide_one_in_another() {
    says(
        |object| {
            object["spec"]["guardrails"]["rules"][0]["sqll"] = json!({});
            object["spec"]["guardrails"]["rules"][1]["action"] = json!("Allow");
        },
        &[
            "spec.guardrails.rules[0].sqll: unknown field; allowed here: action, approval, durability, http, kubernetes, message, name, sql, ssh, when",
            "spec.guardrails.rules[1]: approval belongs to action RequireApproval, and that action needs it",
        ],
    );
}

#[test]
fn all_patterns_of_all_schemas_compile() {
    fn count(schema: &Value) -> usize {
        let own = usize::from(schema.get("pattern").is_some_and(Value::is_string));
        own + match schema {
            Value::Object(fields) => fields.values().map(count).sum(),
            Value::Array(items) => items.iter().map(count).sum(),
            _ => 0,
        }
    }
    for compiled in [
        Connection::compiled(),
        AccessPolicy::compiled(),
        ApprovalRequest::compiled(),
        IdentityProvider::compiled(),
        AuditStore::compiled(),
    ] {
        let mut distinct = BTreeSet::new();
        fn distinct_patterns<'s>(schema: &'s Value, into: &mut BTreeSet<&'s str>) {
            into.extend(schema.get("pattern").and_then(Value::as_str));
            match schema {
                Value::Object(fields) => fields.values().for_each(|s| distinct_patterns(s, into)),
                Value::Array(items) => items.iter().for_each(|s| distinct_patterns(s, into)),
                _ => {}
            }
        }
        distinct_patterns(&compiled.schema, &mut distinct);
        assert!(count(&compiled.schema) > 0);
        assert_eq!(
            distinct,
            compiled.patterns.keys().map(String::as_str).collect()
        );
    }
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zA-Z0-9./*]{0,12}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("spec".to_owned()),
        Just("postgres".to_owned()),
        Just("guardrails".to_owned()),
        Just("rules".to_owned()),
        Just("sql".to_owned()),
        Just("action".to_owned()),
        Just("metadata".to_owned()),
        Just("name".to_owned()),
        ".{0,6}",
    ];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_value_is_parsed_or_refused_with_a_reason(value in arbitrary_json()) {
        for object in [value.clone(), json!({"apiVersion": API_VERSION, "kind": "Connection", "metadata": {"name": "a"}, "spec": value})] {
            if let Err(violations) = parse::<Connection>(&object) {
                prop_assert!(!violations.is_empty());
                prop_assert!(violations.iter().all(|found| !found.message.is_empty()));
            }
        }
    }
}
