//! `sessions`, `show`, `why`, `replay` and `verify` on evidence that was really recorded.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use chaperone_crds::{AccessPolicy, Connection};
use chaperone_policy::{
    Effect, NamedConnection, NamedPolicy, Operation, PolicySet, Protocol, Subject, Verdict,
    Workload, decide,
};
use common::session::{full_session, unselected_session};
use common::{access, binary, relation, run};
use serde_json::Value;
use tempfile::TempDir;

/// The first statement with this reason, as JSON.
fn statement(state: &Path, session: &str, reason: &str) -> Value {
    let shown = run(state, &["show", session, "-o", "json"]).exits(0).json();
    let entries = shown["entries"].as_array().unwrap().clone();
    entries
        .into_iter()
        .find(|entry| entry["decision"]["reason"] == reason)
        .unwrap_or_else(|| panic!("no statement with {reason}"))
}

#[test]
fn sessions_are_listed_and_filtered() {
    let state = TempDir::new().unwrap();
    let full = full_session(state.path()).id;
    let stray = unselected_session(state.path());
    let ids = |args: &[&str]| -> Vec<String> {
        let args = [&["sessions", "-o", "json"], args].concat();
        let listed = run(state.path(), &args).exits(0).json();
        let listed = listed.as_array().unwrap().clone();
        listed
            .iter()
            .map(|s| s["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&[]), [full.as_str(), &stray]);
    assert_eq!(ids(&["--subject", "stray-agent"]), [stray.as_str()]);
    assert_eq!(ids(&["--subject", "shop/report-agent"]), [full.as_str()]);
    assert_eq!(ids(&["--connection", "orders-db"]), [full.as_str()]);
    assert_eq!(ids(&["--connection", "rders-db"]), Vec::<String>::new());
    assert_eq!(ids(&["--decision", "allow"]), [full.as_str()]);
    assert_eq!(ids(&["--decision", "deny"]), [full.as_str(), &stray]);
    assert_eq!(ids(&["--decision", "observe"]), Vec::<String>::new());
    assert_eq!(ids(&["--since", "1h"]).len(), 2);
    let session = &run(state.path(), &["sessions", "-o", "json"]).json()[0];
    for (field, value) in [
        ("allowed", 2),
        ("denied", 1),
        ("rows", 2),
        ("masked", 1),
        ("findings", 1),
    ] {
        assert_eq!(session[field], value, "{field}");
    }
    assert_eq!(session["state"], "Ended");
    let table = run(state.path(), &["sessions"]).exits(0).out;
    assert_eq!(table.lines().count(), 3);
    assert!(
        table.lines().next().unwrap().starts_with("SESSION"),
        "{table}"
    );
    assert!(
        table.contains("shop/report-agent") && !table.contains('\u{1b}'),
        "{table}"
    );
    let none = run(state.path(), &["sessions", "--subject", "nobody"]).exits(0);
    assert_eq!(
        (none.out.as_str(), none.err.trim()),
        ("", "no session matches")
    );
    let yaml = run(state.path(), &["sessions", "-o", "yaml"]).exits(0).out;
    assert!(yaml.contains(&full) && yaml.contains(&stray));
}

#[test]
fn watch_prints_sessions_as_they_come() {
    let state = TempDir::new().unwrap();
    let first = unselected_session(state.path());
    let mut child = binary()
        .args(["sessions", "--watch", "-o", "json", "--state"])
        .arg(state.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["id"], first.as_str());
    let second = full_session(state.path()).id;
    // It may be seen while it is open, and is printed again when it has ended.
    let ended = std::iter::repeat_with(&mut next)
        .take(10)
        .find(|session| session["state"] == "Ended")
        .unwrap();
    assert_eq!(
        (&ended["id"], &ended["allowed"]),
        (&second.as_str().into(), &2.into())
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn show_reads_like_a_transcript() {
    let state = TempDir::new().unwrap();
    let id = full_session(state.path()).id;
    let shown = run(state.path(), &["show", &id]).exits(0).out;
    let mut rest = shown.as_str();
    for expected in [
        "shop/report-agent over databases/orders-db to orders.db:5432/orders",
        "purpose: nightly-report",
        "claimed, not proven: application_name=psql\\u{1b}[2J",
        "ALLOW   Allowed · Read on public.customers · rule shop/report-agent/read-reporting · 1 row · 4 ms",
        "SELECT email FROM public.customers -- \\u{1b}]0;owned\\u{7}",
        "masked  1 value of public.customers.email",
        "DENY    NotCovered · Delete on public.orders",
        "DELETE FROM public.orders USING",
        "finding  DenialBurst: 1 denial",
        "ar-bcdfg ReviewedApprove by local:1000 (unauthenticated): ticket 42",
        "ar-bcdfg Granted",
        "ALLOW   Approved",
        "approval ar-bcdfg",
        "Replicated served as Synced",
        "DELETE FROM public.orders WHERE id = $1",
        "$1 = '42'",
        "$2 = NULL",
        "closed by the client",
    ] {
        let at = rest.find(expected);
        let at = at.unwrap_or_else(|| panic!("{expected} is not (in order) in\n{shown}"));
        rest = &rest[at..];
    }
    assert!(
        !shown.chars().any(|c| c.is_control() && c != '\n'),
        "{shown:?}"
    );
}

#[test]
fn a_session_is_named_by_a_prefix_or_as_the_last() {
    let state = TempDir::new().unwrap();
    let first = full_session(state.path()).id;
    let second = unselected_session(state.path());
    let named = |name: &str| {
        let shown = run(state.path(), &["show", name, "-o", "json"])
            .exits(0)
            .json();
        shown["session"]["id"].as_str().unwrap().to_owned()
    };
    assert_eq!(named("last"), second);
    assert_eq!(named(&first[..10]), first);
    assert_eq!(named(&first.to_uppercase()), first);
    let nobody = run(state.path(), &["show", "xyz"]).exits(2).err;
    assert!(
        nobody.contains("no session starts with 'xyz'; newest are"),
        "{nobody}"
    );
    assert!(
        nobody.contains(&first) && nobody.contains(&second),
        "{nobody}"
    );
    run(state.path(), &["show", ""]).exits(2);
}

#[test]
fn why_explains_a_denial_and_its_least_rule_covers_only_that() {
    let state = TempDir::new().unwrap();
    let id = full_session(state.path()).id;
    let sequence = &statement(state.path(), &id, "NotCovered")["sequence"];
    let why = run(state.path(), &["why", &format!("{}/{sequence}", &id[..8])])
        .exits(0)
        .out;
    for expected in [
        "NotCovered: no Allow or RequireApproval rule covers everything",
        "Delete on public.orders  <- this settled it",
        "Read on public.customers",
        "The least that would have allowed it:",
        "action: Allow",
    ] {
        assert!(why.contains(expected), "{expected} is not in\n{why}");
    }
    let json = run(
        state.path(),
        &["why", &format!("last/#{sequence}"), "-o", "json"],
    )
    .exits(0)
    .json();
    let rules: Value = serde_saphyr::from_str(json["wouldHaveAllowed"].as_str().unwrap()).unwrap();
    let said: Vec<(&Value, &Value)> = rules["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| (&rule["sql"]["effects"], &rule["sql"]["relations"]))
        .collect();
    let expected = [
        (
            serde_json::json!(["Read"]),
            serde_json::json!(["public.customers"]),
        ),
        (
            serde_json::json!(["Delete"]),
            serde_json::json!(["public.orders"]),
        ),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(effects, relations)| (effects, relations))
        .collect();
    assert_eq!(said, expected);
}

#[test]
fn the_policy_that_why_writes_allows_that_statement_and_no_more() {
    let state = TempDir::new().unwrap();
    let id = unselected_session(state.path());
    let sequence = &statement(state.path(), &id, "NoPolicy")["sequence"];
    let json = run(
        state.path(),
        &["why", &format!("{id}/{sequence}"), "-o", "json"],
    )
    .exits(0)
    .json();
    let manifest: Value =
        serde_saphyr::from_str(json["wouldHaveAllowed"].as_str().unwrap()).unwrap();
    let policy: AccessPolicy = chaperone_crds::validate::parse(&manifest).unwrap();
    let connection: Connection = chaperone_crds::validate::parse(&serde_json::json!({
        "apiVersion": "chaperone.dev/v1alpha1", "kind": "Connection",
        "metadata": {"name": "other-db", "namespace": "databases"},
        "spec": {
            "postgres": {
                "host": "other.db", "port": 5432, "tls": {"mode": "Disable"},
                "credential": {"secret": {"name": "other"}}
            },
            "consumers": {"namespaceSelector": {}}
        }
    }))
    .unwrap();
    let set = PolicySet::compile(
        &NamedConnection {
            namespace: "databases",
            name: "other-db",
            generation: 0,
            spec: &connection.spec,
            namespaces: &Default::default(),
        },
        &[NamedPolicy {
            namespace: policy.metadata.namespace.as_deref().unwrap(),
            name: policy.metadata.name.as_deref().unwrap(),
            generation: 0,
            spec: &policy.spec,
        }],
    );
    let subject = Subject {
        workload: Workload {
            namespace: "shop".to_owned(),
            service_account: "stray-agent".to_owned(),
            pod: None,
            labels: Default::default(),
        },
        delegate: None,
        purpose: None,
    };
    let policy = set
        .select(&subject)
        .expect("the new policy selects the subject");
    let verdict = |effect, schema, name| {
        let operation = Operation {
            protocol: Protocol::Postgres,
            accesses: vec![access(effect, relation(schema, name))],
            command: String::new(),
            parameters: vec![],
        };
        decide(&policy, &subject, &operation).verdict
    };
    assert_eq!(verdict(Effect::Modify, "public", "orders"), Verdict::Allow);
    assert_eq!(verdict(Effect::Read, "reporting", "totals"), Verdict::Allow);
    assert_eq!(verdict(Effect::Read, "public", "orders"), Verdict::Deny);
    assert_eq!(
        verdict(Effect::Modify, "reporting", "totals"),
        Verdict::Deny
    );
    assert_eq!(verdict(Effect::Delete, "public", "orders"), Verdict::Deny);
}

#[test]
fn why_of_what_is_no_statement_says_which_is() {
    let state = TempDir::new().unwrap();
    full_session(state.path());
    let nearest = run(state.path(), &["why", "last/9999"]).exits(2).err;
    assert!(
        nearest.contains("is no statement; the nearest is #"),
        "{nearest}"
    );
    for bad in ["last", "last/", "last/x", "/1", "last/-1"] {
        run(state.path(), &["why", bad]).exits(2);
    }
}

#[test]
fn raw_replay_is_byte_exact_in_both_directions() {
    let state = TempDir::new().unwrap();
    let recorded = full_session(state.path());
    let raw = |side: &str| {
        run(state.path(), &["replay", "last", "--raw", side])
            .exits(0)
            .bytes
    };
    assert_eq!(raw("client"), recorded.client);
    assert_eq!(raw("server"), recorded.server);
}

#[test]
fn replay_tells_both_sides_in_order() {
    let state = TempDir::new().unwrap();
    full_session(state.path());
    let replayed = run(state.path(), &["replay", "last", "--speed", "1000"])
        .exits(0)
        .out;
    let lines: Vec<&str> = replayed
        .lines()
        .map(|line| &line[line.find(['<', '>']).unwrap()..])
        .collect();
    assert_eq!(
        lines,
        [
            "> Query  SELECT email FROM public.customers -- \\u{1b}]0;owned\\u{7}",
            "< DataRow  [masked]",
            "< CommandComplete  SELECT 1",
            "< ReadyForQuery  idle",
            "> Query  DELETE FROM public.orders USING public.customers c WHERE c.id = 1",
            "< ErrorResponse  ERROR · 42501 · NotCovered: Delete on public.orders",
            "< ReadyForQuery  idle",
            "> Query  DELETE FROM public.orders WHERE id = $1",
            "< CommandComplete  DELETE 1",
            "< ReadyForQuery  idle",
        ]
    );
}

#[test]
fn whole_evidence_verifies_by_any_form_of_the_right_key() {
    let state = TempDir::new().unwrap();
    let recorded = full_session(state.path());
    let alone = run(state.path(), &["verify"]).exits(0).out;
    assert!(alone.contains("whole by the folder's own key"), "{alone}");
    assert!(
        alone.contains(&recorded.fingerprint) && alone.contains("--key"),
        "{alone}"
    );
    let given = run(
        state.path(),
        &["verify", "--all", "--key", &recorded.fingerprint],
    )
    .exits(0)
    .out;
    assert!(given.contains("whole and unchanged"), "{given}");
    let file = state.path().join("log.pub");
    fs::write(&file, &recorded.public_key).unwrap();
    let json = run(
        state.path(),
        &[
            "verify",
            "last",
            "--key",
            file.to_str().unwrap(),
            "-o",
            "json",
        ],
    )
    .exits(0)
    .json();
    assert_eq!(
        (&json["ok"], &json["keyGiven"]),
        (&true.into(), &true.into())
    );
    let wrong = format!("SHA256:{}", "A".repeat(43));
    run(state.path(), &["verify", "--key", &wrong]).exits(1);
    run(state.path(), &["verify", "--key", "/nowhere"]).exits(2);
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn a_changed_byte_is_named_and_answered_with_no() {
    let state = TempDir::new().unwrap();
    full_session(state.path());
    let mut segments = vec![];
    files(&state.path().join("evidence"), &mut segments);
    segments.retain(|path| path.to_string_lossy().contains("segment"));
    let largest = segments
        .into_iter()
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .expect("there is a segment");
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).unwrap();
    let broken = run(state.path(), &["verify"]).exits(1).out;
    assert!(
        broken.contains("BROKEN") && broken.contains("first break"),
        "{broken}"
    );
    let name = largest.file_name().unwrap().to_str().unwrap();
    assert!(broken.contains(name), "{broken}");
    let json = run(state.path(), &["verify", "-o", "json"]).exits(1).json();
    assert_eq!(json["ok"], false);
    assert!(!json["breaks"].as_array().unwrap().is_empty());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let state = TempDir::new().unwrap();
    full_session(state.path());
    let wrong = format!("SHA256:{}", "A".repeat(43));
    for (code, args) in [
        (0, &["show", "last"][..]),
        (0, &["replay", "last"]),
        (0, &["sessions"]),
        (0, &["verify"]),
        // The answer stands, read or not.
        (1, &["verify", "--key", &wrong]),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = binary()
            .args(args)
            .arg("--state")
            .arg(state.path())
            .stdout(Stdio::from(writer))
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{args:?}");
    }
}
