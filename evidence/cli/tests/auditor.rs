//! What an auditor uses: searching, paging, exports to read, reports, suggested policies, and the
//! README's lines as they are printed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use chaperone_policy::{Effect, Object, Reason, Verdict};
use common::session::{
    Told, allowed, approved_session, full_session, session_of, short_sessions, unselected_session,
};
use common::{Ran, access, binary, relation, run, run_bare};
use serde_json::Value;
use tempfile::TempDir;

fn read(name: &str) -> Vec<chaperone_policy::Access> {
    vec![access(Effect::Read, relation("public", name))]
}

/// One JSON value a line.
fn lines(ran: &Ran) -> Vec<Value> {
    ran.out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

// ---- query ----

#[test]
fn statements_are_found_by_what_they_say_do_and_met() {
    let state = TempDir::new().unwrap();
    let full = full_session(state.path()).id;
    let stray = unselected_session(state.path());
    let found = |args: &[&str]| -> Vec<(String, String)> {
        let args = [&["search", "-o", "ndjson"], args].concat();
        let found = lines(&run(state.path(), &args));
        let place = |hit: &Value| {
            let verdict = hit["decision"]["reason"].as_str().unwrap().to_owned();
            (hit["session"].as_str().unwrap().to_owned(), verdict)
        };
        found.iter().map(place).collect()
    };
    let hit = |session: &str, reason: &str| (session.to_owned(), reason.to_owned());
    let (read, denied, approved, unselected) = (
        hit(&full, "Allowed"),
        hit(&full, "NotCovered"),
        hit(&full, "Approved"),
        hit(&stray, "NoPolicy"),
    );
    let all = [&read, &denied, &approved, &unselected].map(Clone::clone);
    assert_eq!(found(&[]), all);
    for (args, expected) in [
        (&["EMAIL"][..], vec![&read]),
        // A dot is a dot, unless it is said to be an expression.
        (&["public.orders WHERE"], vec![&approved]),
        (&["id = .1"], vec![]),
        (&["-E", "id = .1"], vec![&approved]),
        // Parameters are said, too.
        (&["42"], vec![&approved]),
        (&["--relation", "public.customers"], vec![&read, &denied]),
        (&["--relation", "reporting.*"], vec![&unselected]),
        (&["--relation", "customers"], vec![]),
        (&["--effect", "delete"], vec![&denied, &approved]),
        (&["--effect", "Read", "--relation", "public.orders"], vec![]),
        (&["--rule", "read-reporting"], vec![&read, &approved]),
        (
            &["--rule", "report-agent/read-reporting"],
            vec![&read, &approved],
        ),
        (&["--rule", "reporting"], vec![]),
        (&["--policy", "shop/report-agent"], vec![&read, &approved]),
        (&["--reason", "notcovered"], vec![&denied]),
        (&["--decision", "deny"], vec![&denied, &unselected]),
        (&["--subject", "stray-agent"], vec![&unselected]),
        (
            &["--connection", "databases/orders-db"],
            vec![&read, &denied, &approved],
        ),
        (&["-n", "elsewhere"], vec![]),
        (&["--since", "1h", "--until", "2020-01-01"], vec![]),
    ] {
        let expected: Vec<_> = expected.into_iter().cloned().collect();
        assert_eq!(found(args), expected, "{args:?}");
    }
    run(state.path(), &["search", "EMAIL"]).exits(0);
    let none = run(state.path(), &["search", "nothing-such"]).exits(1);
    assert_eq!(none.err.trim(), "no statement matches");
    run(state.path(), &["search", "-E", "("]).exits(2);
    // What an agent wrote cannot drive a terminal.
    let table = run(state.path(), &["search"]).exits(0).out;
    assert!(
        table.contains("\\u{1b}]0;owned") && !table.contains('\u{1b}'),
        "{table}"
    );
    assert!(table.contains(&format!("{full}/1")), "{table}");
}

#[test]
fn search_goes_on_where_the_page_before_ended() {
    let state = TempDir::new().unwrap();
    short_sessions(state.path(), 25);
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut args = vec!["search", "-o", "json", "--limit", "10"];
        if let Some(after) = &after {
            args.extend(["--continue", after]);
        }
        let page = run(state.path(), &args).exits(0);
        found.extend(page.json().as_array().unwrap().clone());
        after = page
            .err
            .split_once("--continue ")
            .map(|(_, place)| place.trim().to_owned());
        if after.is_none() {
            break;
        }
    }
    let distinct: BTreeSet<String> = found.iter().map(|hit| hit["command"].to_string()).collect();
    assert_eq!((found.len(), distinct.len()), (25, 25));
    run(state.path(), &["search", "--continue", "nowhere/1"]).exits(2);
}

/// 600 sessions; CHAPERONE_SESSIONS=100000 makes it the full number, by hand.
#[test]
fn every_session_is_on_exactly_one_page() {
    let count = std::env::var("CHAPERONE_SESSIONS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(600);
    let limit = (count / 4).to_string();
    let state = TempDir::new().unwrap();
    let ids = short_sessions(state.path(), count);
    let mut pages: Vec<Vec<String>> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut args = vec!["sessions", "-o", "json", "--limit", &limit];
        if let Some(cursor) = &cursor {
            args.extend(["--continue", cursor]);
        }
        let ran = run(state.path(), &args).exits(0);
        let page = ran.json().as_array().unwrap().clone();
        let id = |session: &Value| session["id"].as_str().unwrap().to_owned();
        pages.push(page.iter().map(id).collect());
        // A script takes it from the oldest session, a human from what is said.
        let oldest = page[0]["cursor"].as_str().unwrap().to_owned();
        match ran.err.split_once("--continue ") {
            Some((_, said)) => assert_eq!(said.trim(), oldest),
            None => break,
        }
        // What comes meanwhile moves nothing.
        if cursor.is_none() {
            unselected_session(state.path());
        }
        cursor = Some(oldest);
    }
    pages.reverse();
    assert_eq!(pages.len(), 4);
    assert_eq!(pages.concat(), ids);
    // Unordered, each once.
    let streamed = lines(&run(state.path(), &["sessions", "-o", "ndjson"]).exits(0));
    let distinct: BTreeSet<String> = streamed.iter().map(|s| s["id"].to_string()).collect();
    assert_eq!((streamed.len(), distinct.len()), (count + 1, count + 1));
    run(state.path(), &["sessions", "--continue", "last"]).exits(2);
}

#[test]
fn names_of_sessions_complete_in_shells_and_in_kubectl() {
    let state = TempDir::new().unwrap();
    let id = full_session(state.path()).id;
    let state = state.path().to_str().unwrap();
    let asked = |words: &[&str]| run_bare(&[&["__complete"], words].concat()).exits(0).out;
    let found = asked(&["show", "--state", state, ""]);
    assert!(
        found.contains(&format!("{id}\t")) && found.contains("last\t"),
        "{found}"
    );
    assert!(found.trim_end().ends_with(":4"), "{found}");
    let started = asked(&["show", "--state", state, &id[..4]]);
    assert!(
        started.contains(&id) && !started.contains("last"),
        "{started}"
    );
    let connections = asked(&["sessions", "--state", state, "--connection", ""]);
    assert!(connections.contains("databases/orders-db"), "{connections}");
    assert!(asked(&["sess"]).contains("sessions\t"));
    // Nothing to read is nothing to say, never an error.
    assert!(asked(&["show", "--state", "/nowhere", ""]).contains("last"));
    let shell = binary()
        .args(["--", "kubectl-chaperone", "show", "--state", state, ""])
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", "4")
        .env("_CLAP_IFS", "\n")
        .output()
        .unwrap();
    let said = String::from_utf8(shell.stdout).unwrap();
    assert!(said.lines().any(|line| line == id), "{said}");
    let program = run_bare(&["completion", "kubectl"]).exits(0).out;
    assert!(
        program.starts_with("#!/bin/sh\n") && program.contains("__complete"),
        "{program}"
    );
}

// ---- exports ----

/// Text that would run, lie or break out, wherever it is put without care.
const HOSTILE: &str = "SELECT '</script><script>alert(1)</script>' AS \"\u{202e}evil\u{1b}[2J\", '<img src=x onerror=alert(2)>' -- \" ' & </pre></style><!-- ]]>";

fn hostile(state: &Path) -> String {
    session_of(
        state,
        "shop/<b>\"'agent",
        &[
            allowed(HOSTILE, read("<svg/onload=alert(3)>")),
            Told {
                sql: HOSTILE,
                accesses: read("orders"),
                verdict: Verdict::Deny,
                reason: Reason::NotCovered,
            },
        ],
    )
}

/// Every tag of a page, as it is written.
fn tags(page: &str) -> Vec<&str> {
    page.split('<')
        .skip(1)
        .map(|rest| rest.split('>').next().unwrap())
        .collect()
}

/// What is between the tags of these elements is not HTML.
fn without(page: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let (before, rest) = page.split_once(&open).unwrap();
    let (_, after) = rest.split_once(&close).unwrap();
    format!("{before}{open}{close}{after}")
}

/// Well-formed, without anything to load, and nothing of what was recorded is markup.
fn assert_inert(page: &str) {
    assert!(page.starts_with("<!DOCTYPE html>"));
    assert!(page.contains("default-src 'none'"), "no policy of its own");
    let body = without(&without(page, "style"), "script");
    assert_eq!(body.matches("<script").count(), 1, "another script");
    let mut open: Vec<&str> = Vec::new();
    for tag in tags(&body) {
        let name = tag.split([' ', '/']).next().unwrap();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "<{tag}> closes another");
        } else if !["!DOCTYPE", "meta", "input", "br"].contains(&name) {
            assert!(
                [
                    "html", "head", "title", "style", "script", "body", "header", "main",
                    "section", "article", "h1", "h2", "p", "code", "div", "label", "output",
                    "button", "span", "dl", "dt", "dd", "svg", "a", "rect", "pre", "details",
                    "summary", "table", "thead", "tbody", "tr", "th", "td", "title"
                ]
                .contains(&name),
                "<{tag}> is not ours"
            );
            open.push(name);
        }
        for attribute in [" src", " on", " style=", " http", " action", " srcdoc"] {
            let ours = tag.starts_with("meta http-equiv");
            assert!(ours || !tag.contains(attribute), "<{tag}>");
        }
        if let Some((_, link)) = tag.split_once("href=\"") {
            assert!(link.starts_with('#'), "<{tag}> leads away");
        }
    }
    assert_eq!(open, Vec::<&str>::new(), "not closed");
    let misleading =
        |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!body.contains(misleading), "a character that misleads");
}

#[test]
fn a_page_holds_all_that_happened_and_nothing_in_it_can_run_or_lie() {
    let state = TempDir::new().unwrap();
    full_session(state.path());
    hostile(state.path());
    let page = run(state.path(), &["export", "--format", "html"])
        .exits(0)
        .out;
    assert_inert(&page);
    for shown in [
        "2 sessions",
        "&lt;/script&gt;&lt;script&gt;alert(1)",
        "\\u{202e}evil\\u{1b}[2J",
        "rule shop/report-agent/read-reporting",
        "NotCovered",
        "DELETE FROM public.orders WHERE id = $1",
        "<dd>'42'</dd>",
        "ar-bcdfg ReviewedApprove by local:1000 (unauthenticated): ticket 42",
        "1 value of public.customers.email",
        "DenialBurst: 1 denial",
        "1 row",
        "4 ms",
        "DataRow  [masked]",
    ] {
        assert!(page.contains(shown), "no {shown:?} in the page");
    }
    // Whoever reads without a script is not shown what only a script can use.
    assert!(page.contains("<div class=\"tools\" role=\"search\" hidden>"));
}

#[test]
fn an_asciicast_plays_one_session_in_its_own_time() {
    let state = TempDir::new().unwrap();
    let id = full_session(state.path()).id;
    hostile(state.path());
    let cast = run(state.path(), &["export", &id, "--format", "asciicast"]).exits(0);
    let all = lines(&cast);
    assert_eq!(all[0]["version"], 2);
    assert!(all[0]["width"].as_u64().unwrap() > 0 && all[0]["timestamp"].as_u64().unwrap() > 0);
    let mut last = 0.0;
    let mut screen = String::new();
    for event in &all[1..] {
        let at = event[0].as_f64().unwrap();
        assert!(at >= last && event[1] == "o");
        last = at;
        screen.push_str(event[2].as_str().unwrap());
    }
    let mut rest = screen.as_str();
    for shown in [
        "ALLOW Allowed by shop/report-agent/read-reporting",
        "> Query  SELECT email",
        "< DataRow  [masked]",
        "DENY NotCovered",
        "ar-bcdfg ReviewedApprove by local:1000",
        "< CommandComplete  DELETE 1",
    ] {
        let at = rest.find(shown);
        rest = &rest[at.unwrap_or_else(|| panic!("no {shown:?}, in order, in {screen}"))..];
    }
    // The only escape sequences are ours: colours.
    for sequence in screen.split('\u{1b}').skip(1) {
        let (code, _) = sequence.split_once('m').unwrap();
        assert!(
            code.strip_prefix('[').unwrap().parse::<u8>().is_ok(),
            "{code}"
        );
    }
    run(state.path(), &["export", "--format", "asciicast"]).exits(2);
}

#[test]
fn ndjson_and_ocsf_have_every_decision_once() {
    let state = TempDir::new().unwrap();
    let full = full_session(state.path()).id;
    let stray = unselected_session(state.path());
    let entries = lines(&run(state.path(), &["export", "--format", "ndjson"]).exits(0));
    let kinds = |id: &str| -> Vec<&str> {
        let of = entries.iter().filter(|entry| entry["session"] == id);
        of.map(|entry| entry["kind"].as_str().unwrap()).collect()
    };
    assert_eq!(
        kinds(&full),
        [
            "SessionStart",
            "Statement",
            "Masked",
            "Statement",
            "Finding",
            "Approval",
            "Approval",
            "Statement",
            "SessionEnd"
        ]
    );
    assert_eq!(kinds(&stray), ["SessionStart", "Statement", "SessionEnd"]);
    let events = lines(&run(state.path(), &["export", "--format", "ocsf"]).exits(0));
    let classes: Vec<u64> = events
        .iter()
        .filter(|event| event["metadata"]["correlation_uid"] == full.as_str())
        .map(|event| event["class_uid"].as_u64().unwrap())
        .collect();
    assert_eq!(classes, [3003, 6005, 6005, 2004, 3005, 3005, 6005, 6005]);
    // Only what is asked for, and no where there is nothing.
    let denied = ["export", "--format", "ocsf", "--subject", "stray-agent"];
    assert_eq!(lines(&run(state.path(), &denied).exits(0)).len(), 3);
    run(
        state.path(),
        &["export", "--format", "ndjson", "--subject", "nobody"],
    )
    .exits(1);
    // Whole or not at all, and over nothing.
    let file = state.path().join("events.ndjson");
    let file = file.to_str().unwrap();
    run(state.path(), &["export", "--format", "ocsf", "--to", file]).exits(0);
    assert_eq!(
        fs::read_to_string(file).unwrap().lines().count(),
        events.len()
    );
    run(state.path(), &["export", "--format", "ocsf", "--to", file]).exits(2);
}

// ---- report ----

const FRAMEWORKS: [&str; 6] = ["soc2", "pci", "iso27001", "hipaa", "nist80053", "eu-ai-act"];

/// The state of every control of one framework.
fn controls(state: &Path, framework: &str, key: Option<&str>, code: i32) -> Vec<(String, String)> {
    let mut args = vec!["report", "--framework", framework, "-o", "oscal"];
    args.extend(key.into_iter().flat_map(|key| ["--key", key]));
    let document = run(state, &args).exits(code).json();
    let result = &document["assessment-results"]["results"][0];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut controls: Vec<(String, String)> = Vec::new();
    for finding in result["findings"].as_array().into_iter().flatten() {
        let target = &finding["target"];
        controls.push((text(&target["target-id"]), text(&target["status"]["state"])));
    }
    let selected = &result["reviewed-controls"]["control-selections"][0];
    for control in selected["exclude-controls"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let id = text(&control["control-id"]);
        assert!(
            selected["remarks"]
                .as_str()
                .unwrap()
                .contains(&format!("{id}: "))
        );
        controls.push((id, "not-assessed".to_owned()));
    }
    controls
}

fn control(state: &Path, framework: &str, key: Option<&str>, id: &str, code: i32) -> String {
    let controls = controls(state, framework, key, code);
    let found = controls.into_iter().find(|(control, _)| control == id);
    found.unwrap_or_else(|| panic!("no control {id}")).1
}

fn key(state: &Path) -> String {
    let file = state.join("evidence/keys/log.pub");
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_finding_of_the_report_follows_the_evidence_both_ways() {
    let whole = TempDir::new().unwrap();
    let (state, key) = (whole.path(), key(whole.path()));
    session_of(
        state,
        "shop/report-agent",
        &[allowed("SELECT 1 FROM public.orders", read("orders"))],
    );
    let with_key = Some(key.as_str());
    // Integrity: with a key it is shown; without one it is not; a changed byte refutes it.
    assert_eq!(
        control(state, "pci", with_key, "pci-10.3.2", 0),
        "satisfied"
    );
    assert_eq!(control(state, "pci", None, "pci-10.3.2", 0), "not-assessed");
    // Refusals, masking, approvals, findings: nothing of the kind yet, then something.
    for id in ["pci-10.2.1.4", "pci-3.4.1"] {
        assert_eq!(
            control(state, "pci", with_key, id, 0),
            "not-assessed",
            "{id}"
        );
    }
    assert_eq!(control(state, "soc2", with_key, "CC8.1", 0), "not-assessed");
    full_session(state);
    // Approved by somebody who is not proven, and less durable than asked.
    for id in ["pci-10.2.1.4", "pci-3.4.1"] {
        assert_eq!(control(state, "pci", with_key, id, 1), "satisfied", "{id}");
    }
    assert_eq!(
        control(state, "pci", with_key, "pci-10.3.3", 1),
        "not-satisfied"
    );
    assert_eq!(
        control(state, "soc2", with_key, "CC8.1", 1),
        "not-satisfied"
    );
    // A store of its own: nothing is forgotten.
    let proven = TempDir::new().unwrap();
    approved_session(proven.path(), "ada", true);
    let proven_key = self::key(proven.path());
    assert_eq!(
        control(proven.path(), "soc2", Some(&proven_key), "CC8.1", 0),
        "satisfied"
    );
    approved_session(
        proven.path(),
        "system:serviceaccount:shop:report-agent",
        true,
    );
    assert_eq!(
        control(proven.path(), "soc2", Some(&proven_key), "CC8.1", 1),
        "not-satisfied"
    );

    // DryRun is no enforcement.
    assert_eq!(
        control(state, "nist80053", with_key, "ac-3", 1),
        "satisfied"
    );
    session_of(
        state,
        "shop/report-agent",
        &[Told {
            verdict: Verdict::Observe,
            reason: Reason::Observed,
            ..allowed("SELECT 1 FROM public.orders", read("orders"))
        }],
    );
    assert_eq!(
        control(state, "nist80053", with_key, "ac-3", 1),
        "not-satisfied"
    );
    // Of a session alone that has none of it, all is well.
    let until = ["report", "--framework", "nist80053", "--subject", "nobody"];
    run(state, &until).exits(1);

    // Of broken evidence only that is said.
    let segments = state.join("evidence/segments");
    let largest = fs::read_dir(segments)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).unwrap();
    for framework in FRAMEWORKS {
        for (id, state) in controls(state, framework, with_key, 1) {
            assert_ne!(state, "satisfied", "{framework} {id}");
        }
    }
}

#[test]
fn the_report_names_what_it_cannot_see_and_reads_as_text_and_as_a_page() {
    let state = TempDir::new().unwrap();
    hostile(state.path());
    for framework in FRAMEWORKS {
        let args = ["report", "--framework", framework];
        let text = run(state.path(), &args).exits(0).out;
        assert!(
            text.contains("| not-assessed |") && text.contains("| satisfied |"),
            "{text}"
        );
        assert!(text.contains("1 session, 2 decisions"), "{text}");
        let page = run(state.path(), &[&args[..], &["-o", "html"]].concat())
            .exits(0)
            .out;
        assert_inert(&page);
    }
    let hipaa = controls(state.path(), "hipaa", None, 0);
    let unseen = ("hipaa-164.312.e.1".to_owned(), "not-assessed".to_owned());
    assert!(hipaa.contains(&unseen), "{hipaa:?}");
    // The same evidence, the same words: only the time differs.
    let nobody = ["report", "--framework", "soc2", "--subject", "nobody"];
    run(state.path(), &nobody).exits(1);
}

// ---- suggested policies ----

#[test]
fn the_suggested_policy_allows_what_was_observed_and_nothing_else() {
    let state = TempDir::new().unwrap();
    let catalog = || access(Effect::Catalog, relation("pg_catalog", "pg_class"));
    // No driver may set that without a rule, though it is of a kind that drivers usually may.
    let setting = || access(Effect::Session, Object::Setting("work_mem".to_owned()));
    let observed = [
        "SELECT name FROM public.customers",
        "SELECT c.name, o.note FROM public.customers c JOIN public.orders o ON o.customer = c.id",
        "INSERT INTO public.notes (body) VALUES ('x')",
        "UPDATE public.orders SET note = 'x' WHERE id = 1",
        "SET work_mem = '64MB'",
        "SELECT relname FROM pg_catalog.pg_class",
    ];
    let write = access(Effect::Write, relation("public", "notes"));
    let modify = access(Effect::Modify, relation("public", "orders"));
    let both = [read("customers"), read("orders")].concat();
    session_of(
        state.path(),
        "shop/report-agent",
        &[
            allowed(observed[0], read("customers")),
            allowed(observed[1], both),
            Told {
                verdict: Verdict::Observe,
                reason: Reason::Observed,
                ..allowed(observed[2], vec![write])
            },
        ],
    );
    session_of(
        state.path(),
        "shop/report-agent",
        &[
            allowed(observed[3], [read("orders"), vec![modify]].concat()),
            allowed(observed[4], vec![setting()]),
            allowed(observed[5], vec![catalog()]),
            Told {
                sql: "DELETE FROM public.customers",
                accesses: vec![access(Effect::Delete, relation("public", "customers"))],
                verdict: Verdict::Deny,
                reason: Reason::NotCovered,
            },
        ],
    );
    // A human's yes becomes no rule, another's work no part of it.
    approved_session(state.path(), "ada", true);
    session_of(
        state.path(),
        "shop/other-agent",
        &[allowed("SELECT 1 FROM public.salaries", read("salaries"))],
    );
    let mine = [
        "policy",
        "suggest",
        "--subject",
        "shop/report-agent",
        "--since",
        "1h",
    ];
    let suggested = run(state.path(), &mine).exits(0);
    assert!(
        suggested.out.contains("6 were checked to run under it"),
        "{}",
        suggested.out
    );
    assert!(
        suggested
            .err
            .contains("1 statement that a human was asked for"),
        "{}",
        suggested.err
    );

    let folder = TempDir::new().unwrap();
    let manifests = folder.path().to_str().unwrap();
    fs::write(folder.path().join("policy.yaml"), &suggested.out).unwrap();
    fs::write(
        folder.path().join("connection.yaml"),
        "
apiVersion: chaperone.dev/v1alpha1
kind: Connection
metadata: {name: orders-db, namespace: databases}
spec:
  postgres: {host: orders.db, tls: {mode: Disable}, credential: {secret: {name: orders}}}
  consumers: {namespaceSelector: {}}
",
    )
    .unwrap();
    let verdict = |subject: &str, sql: &str| {
        let asked = run_bare(&[
            "policy",
            "test",
            "--manifests",
            manifests,
            "--subject",
            subject,
            "--connection",
            "databases/orders-db",
            "--sql",
            sql,
            "-o",
            "json",
        ]);
        let said = asked.json();
        assert_eq!(asked.code == 0, said["verdict"] == "Allow", "{said}");
        said["verdict"].as_str().unwrap().to_owned()
    };
    for sql in observed {
        assert_eq!(verdict("shop/report-agent", sql), "Allow", "{sql}");
        assert_eq!(verdict("shop/other-agent", sql), "Deny", "{sql}");
    }
    for sql in [
        "DELETE FROM public.orders WHERE id = 7",
        "DELETE FROM public.customers",
        "SELECT 1 FROM public.salaries",
        "SELECT body FROM public.notes",
        "UPDATE public.customers SET name = 'x'",
        "INSERT INTO public.orders (note) VALUES ('x')",
        "DROP TABLE public.orders",
        "TRUNCATE public.notes",
        "SET session_replication_role = replica",
    ] {
        assert_eq!(verdict("shop/report-agent", sql), "Deny", "{sql}");
    }
    // What was denied is covered where that is asked for.
    let denied = run(state.path(), &[&mine[..], &["--denied"]].concat())
        .exits(0)
        .out;
    assert!(
        denied.contains("Delete") && denied.contains("public.customers"),
        "{denied}"
    );
    let all = run(state.path(), &["policy", "suggest"]).exits(0).out;
    assert_eq!(all.matches("kind: AccessPolicy").count(), 2, "{all}");
    run(state.path(), &["policy", "suggest", "--subject", "nobody"]).exits(1);
}

// ---- the README ----

/// The commands of the README's part for auditors.
fn walk_through() -> Vec<String> {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let (_, part) = readme
        .split_once("\n## For an auditor\n")
        .expect("the README has such a part");
    let (part, _) = part.split_once("\n## ").unwrap();
    let (_, block) = part.split_once("```sh\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    block.lines().map(str::to_owned).collect()
}

#[test]
fn the_auditors_walk_through_works_as_printed() {
    let folder = TempDir::new().unwrap();
    full_session(&folder.path().join("state"));
    let programs = Path::new(env!("CARGO_BIN_EXE_kubectl-chaperone"))
        .parent()
        .unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut wrote = 0;
    let lines = walk_through();
    assert!(lines.len() >= 8, "{lines:?}");
    for line in lines {
        let ran = Command::new("sh")
            .args(["-c", &line])
            .current_dir(folder.path())
            .env("PATH", format!("{}:{path}", programs.display()))
            .env_remove("CHAPERONE_STATE")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let complained = String::from_utf8_lossy(&ran.stderr).into_owned();
        // A report answers no where a control is not satisfied, as it says.
        let code = if line.contains(" report ") { 1 } else { 0 };
        assert_eq!(ran.status.code(), Some(code), "{line}\n{said}{complained}");
        wrote += usize::from(!said.is_empty());
    }
    assert!(wrote >= 5);
    for file in ["last.tar", "last.html", "soc2.html", "events.ndjson"] {
        assert!(
            fs::metadata(folder.path().join(file)).unwrap().len() > 500,
            "{file}"
        );
    }
}
