//! `policy test` on real manifests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod common;

use std::fs;
use std::path::Path;

use common::{Ran, run_bare};
use tempfile::TempDir;

const SCHEMA: &str = "
CREATE TABLE public.customers (id int, name text, email text);
CREATE TABLE public.orders (id int, customer int, note text);
CREATE SCHEMA reporting;
CREATE VIEW reporting.totals AS SELECT customer, count(*) AS n FROM public.orders GROUP BY customer;
CREATE FUNCTION public.wipe() RETURNS void LANGUAGE sql AS 'DELETE FROM orders';
";

const CONNECTION: &str = "
apiVersion: chaperone.dev/v1alpha1
kind: Connection
metadata: {name: orders-db, namespace: databases}
spec:
  postgres:
    host: orders.db
    tls: {mode: Disable}
    credential: {secret: {name: not-in-the-repository}}
  consumers: {namespaceSelector: {matchLabels: {team: shop}}}
  guardrails:
    rules: [{name: no-ddl, action: Deny, sql: {effects: [SchemaDestroy]}, message: Schema changes go through migrations.}]
    masking: [{name: pii, columns: [public.customers.email], strategy: Redact}]
";

const POLICY: &str = "
apiVersion: chaperone.dev/v1alpha1
kind: AccessPolicy
metadata: {name: report-agent, namespace: shop}
spec:
  subjects: [{serviceAccount: report-agent}]
  connections: [databases/orders-db]
  rules:
  - {name: read, action: Allow, sql: {effects: [Read], relations: ['public.*']}}
  - {name: nightly, action: Allow, when: \"subject.purpose == 'nightly'\", sql: {effects: [Read], relations: ['reporting.*']}}
  - name: deletes
    action: RequireApproval
    sql: {effects: [Delete], relations: [public.orders]}
    approval: {approvers: {groups: [dba]}, quorum: 1, timeout: 0s, validFor: 15m}
";

fn manifests() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("connection.yaml"), CONNECTION).unwrap();
    fs::write(dir.path().join("policy.yaml"), POLICY).unwrap();
    fs::write(dir.path().join("schema.sql"), SCHEMA).unwrap();
    dir
}

fn test(dir: &Path, more: &[&str]) -> Ran {
    let folder = dir.to_str().unwrap();
    let given = [
        "policy",
        "test",
        "--manifests",
        folder,
        "--subject",
        "shop/report-agent",
        "--connection",
        "databases/orders-db",
        "--namespace-label",
        "team=shop",
    ];
    run_bare(&[&given[..], more].concat())
}

fn schema(dir: &Path) -> String {
    dir.join("schema.sql").to_str().unwrap().to_owned()
}

#[test]
fn a_statement_is_decided_as_a_sidecar_would() {
    let dir = manifests();
    let schema = schema(dir.path());
    for (sql, code, verdict, reason) in [
        ("SELECT name, email FROM customers", 0, "Allow", "Allowed"),
        ("SELECT 1", 0, "Allow", "Baseline"),
        ("SELECT relname FROM pg_class", 0, "Allow", "Baseline"),
        ("SET search_path = public", 0, "Allow", "Baseline"),
        (
            "DELETE FROM orders WHERE id = 1",
            1,
            "Hold",
            "ApprovalPending",
        ),
        ("DELETE FROM customers", 1, "Deny", "NotCovered"),
        ("SELECT * FROM reporting.totals", 1, "Deny", "NotCovered"),
        ("SELECT wipe()", 1, "Deny", "NotCovered"),
        ("SELECT * FROM nowhere", 1, "Deny", "NotCovered"),
        ("DROP TABLE orders", 1, "Deny", "DeniedByRule"),
        (
            "SELECT name FROM customers ORDER BY email",
            1,
            "Deny",
            "MaskedPredicate",
        ),
        ("SELEC 1", 1, "Deny", "Unparsable"),
        ("SELECT 1; DELETE FROM customers", 1, "Deny", "NotCovered"),
    ] {
        let judged = test(
            dir.path(),
            &["--sql", sql, "--schema", &schema, "-o", "json"],
        )
        .exits(code);
        assert_eq!(judged.err, "", "{sql}");
        let json = judged.json();
        assert_eq!(
            (&json["verdict"], &json["reason"]),
            (&verdict.into(), &reason.into()),
            "{sql}"
        );
        assert_eq!(json["assumed"], serde_json::json!([]), "{sql}");
    }
}

#[test]
fn purpose_and_subject_count() {
    let dir = manifests();
    let schema = schema(dir.path());
    let sql = [
        "--sql",
        "SELECT n FROM reporting.totals",
        "--schema",
        &schema,
    ];
    test(dir.path(), &[&sql[..], &["--purpose", "nightly"]].concat()).exits(0);
    let folder = dir.path().to_str().unwrap();
    let stranger = run_bare(&[
        "policy",
        "test",
        "--manifests",
        folder,
        "--subject",
        "shop/other",
        "--connection",
        "databases/orders-db",
        "--namespace-label",
        "team=shop",
        "--sql",
        "SELECT 1",
        "-o",
        "json",
    ])
    .exits(1);
    assert_eq!(stranger.json()["reason"], "NoPolicy");
    let unlabelled = run_bare(&[
        "policy",
        "test",
        "--manifests",
        folder,
        "--subject",
        "shop/report-agent",
        "--connection",
        "databases/orders-db",
        "--sql",
        "SELECT 1",
    ])
    .exits(1);
    assert!(
        unlabelled.out.contains("--namespace-label"),
        "{}",
        unlabelled.out
    );
}

#[test]
fn it_says_what_would_allow_it_and_that_rule_does() {
    let dir = manifests();
    let schema = schema(dir.path());
    let sql = "DELETE FROM customers USING orders WHERE customers.id = orders.customer";
    let args = ["--sql", sql, "--schema", &schema];
    let told = test(dir.path(), &args).exits(1).out;
    for expected in [
        "DENY NotCovered",
        "Delete on public.customers  (no rule)  <- this settled it",
        "Read on public.orders  (Allow shop/report-agent/read)",
        "The least that would allow it:",
        "public.customers",
    ] {
        assert!(told.contains(expected), "{expected} is not in\n{told}");
    }
    let json = test(dir.path(), &[&args[..], &["-o", "json"]].concat()).json();
    let least: serde_json::Value =
        serde_saphyr::from_str(json["wouldHaveAllowed"].as_str().unwrap()).unwrap();
    let rules = least["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 1, "{least}");
    assert_eq!(rules[0]["sql"]["effects"], serde_json::json!(["Delete"]));
    let added = POLICY.replace(
        "  rules:\n",
        &format!(
            "  rules:\n  - {}\n",
            serde_json::to_string(&rules[0]).unwrap()
        ),
    );
    fs::write(dir.path().join("policy.yaml"), added).unwrap();
    test(dir.path(), &args).exits(0);
}

#[test]
fn a_denial_names_the_rule_and_what_the_agent_reads() {
    let dir = manifests();
    let told = test(dir.path(), &["--sql", "DROP TABLE public.orders"])
        .exits(1)
        .out;
    for expected in [
        "DENY DeniedByRule · rule Connection databases/orders-db/no-ddl",
        "The agent reads: Schema changes go through migrations.",
    ] {
        assert!(told.contains(expected), "{expected} is not in\n{told}");
    }
}

#[test]
fn without_a_schema_it_says_what_it_assumed() {
    let dir = manifests();
    let told = test(dir.path(), &["--sql", "SELECT name FROM customers"])
        .exits(0)
        .out;
    assert!(told.contains("without --schema"), "{told}");
    assert!(told.contains("public.customers"), "{told}");
    let catalog = test(dir.path(), &["--sql", "SELECT * FROM pg_class"])
        .exits(0)
        .out;
    assert!(!catalog.contains("without --schema"), "{catalog}");
    // Patterns mask columns that no schema tells of.
    let masked = test(
        dir.path(),
        &[
            "--sql",
            "SELECT 1 FROM customers WHERE email LIKE 'a%'",
            "-o",
            "json",
        ],
    );
    assert_eq!(masked.exits(1).json()["reason"], "MaskedPredicate");
}

#[test]
fn a_file_of_cases_is_a_test() {
    let dir = manifests();
    let schema = schema(dir.path());
    let cases = dir.path().join("cases.yml.txt");
    let good = "
- {sql: SELECT name FROM customers, expect: Allow, name: reads}
- {sql: DELETE FROM orders, expect: Hold}
- {sql: DROP TABLE orders, expect: Deny}
";
    fs::write(&cases, good).unwrap();
    let file = cases.to_str().unwrap().to_owned();
    let run = |more: &[&str]| {
        test(
            dir.path(),
            &[&["--file", &file, "--schema", &schema][..], more].concat(),
        )
    };
    let told = run(&[]).exits(0).out;
    assert!(told.contains("3 cases as expected"), "{told}");
    fs::write(&cases, good.replace("expect: Hold", "expect: Allow")).unwrap();
    let told = run(&[]).exits(1).out;
    assert!(
        told.contains("WRONG") && told.contains("1 of 3 cases not as expected"),
        "{told}"
    );
    let json = run(&["-o", "json"]).exits(1).json();
    assert_eq!(json[0]["name"], "reads");
    assert_eq!(
        (&json[1]["ok"], &json[1]["verdict"]),
        (&false.into(), &"Hold".into())
    );
    for bad in [
        "",
        "[]",
        "- {sql: x}",
        "- {sql: x, expect: Maybe}",
        "- {sql: x, expect: Deny, extra: 1}",
    ] {
        fs::write(&cases, bad).unwrap();
        run(&[]).exits(2);
    }
}

#[test]
fn a_broken_policy_denies_and_is_named() {
    let dir = manifests();
    fs::write(
        dir.path().join("policy.yaml"),
        POLICY.replace("effects: [Read]", "effects: [Reed]"),
    )
    .unwrap();
    let told = test(dir.path(), &["--sql", "SELECT 1"]).exits(1);
    assert!(told.err.contains("policy.yaml:9"), "{}", told.err);
    assert!(told.out.contains("PolicyInvalid"), "{}", told.out);
}

#[test]
fn wrong_usage_says_what_is_there() {
    let dir = manifests();
    let folder = dir.path().to_str().unwrap();
    let other = run_bare(&[
        "policy",
        "test",
        "--manifests",
        folder,
        "--subject",
        "shop/a",
        "--connection",
        "databases/other",
        "--sql",
        "SELECT 1",
    ])
    .exits(2);
    assert!(other.err.contains("databases/orders-db"), "{}", other.err);
    test(dir.path(), &[]).exits(2);
    test(dir.path(), &["--sql", "x", "--file", "y"]).exits(2);
    test(
        dir.path(),
        &["--sql", "SELECT 1", "--schema", "/nonexistent.sql"],
    )
    .exits(2);
}

#[test]
fn doctor_needs_a_cluster() {
    let dir = TempDir::new().unwrap();
    let ran = common::run(dir.path(), &["doctor"]).exits(2);
    assert!(ran.err.contains("needs a cluster"), "{}", ran.err);
}

/// The sample of HTTP, and what its story says of five requests.
#[test]
fn requests_are_judged_like_statements() {
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/samples");
    let dir = TempDir::new().unwrap();
    let cases = dir.path().join("requests.yaml");
    let yaml = "
- {request: GET /v1/orders/7, expect: Allow}
- {request: POST /v1/orders/7/refunds, json: {amount: 20}, expect: Allow}
- {request: POST /v1/orders/7/refunds, json: {amount: 200}, expect: Hold}
- {request: GET /v1/admin/x, expect: Deny}
- {request: GET /v1/../x, expect: Deny}
";
    fs::write(&cases, yaml).unwrap();
    let run = |more: &[&str]| {
        let given = [
            "policy",
            "test",
            "--manifests",
            samples,
            "--subject",
            "shop/support-agent",
            "--connection",
            "apis/orders-api",
            "--namespace-label",
            "team=shop",
        ];
        run_bare(&[&given[..], more].concat())
    };
    let all = run(&["--file", cases.to_str().unwrap()]);
    assert_eq!(all.code, 0, "{all:?}");
    let one = run(&["--request", "DELETE /v1/orders/7"]);
    assert_eq!(one.code, 1, "{one:?}");
    assert!(
        one.out.contains("DELETE on orders.example.com/v1/orders/7"),
        "{one:?}"
    );
    let both = run(&["--request", "GET /", "--sql", "SELECT 1"]);
    assert_eq!(both.code, 2, "{both:?}");
}
