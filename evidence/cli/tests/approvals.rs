//! `approvals`, `approve` and `deny` on real requests.
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
use std::process::Stdio;

use chaperone_approvals::Phase;
use common::{ask, binary, folder, run, runtime, waiting_delete};
use tempfile::TempDir;

#[test]
fn an_approver_reads_all_of_it_and_approves_once() {
    let state = TempDir::new().unwrap();
    let folder = folder(state.path());
    let new = waiting_delete(1, 1);
    let tuple = new.tuple.clone();
    let name = ask(&folder, new).name;
    let listed = run(state.path(), &["approvals"]).exits(0);
    for expected in [
        name.as_str(),
        "Pending",
        "0/1",
        "shop/report-agent",
        "databases/orders-db",
        "purpose nightly-report",
        "Delete on public.orders",
        "DELETE FROM public.orders WHERE id = $1 -- \\u{1b}[2J\\u{202e} 1",
        "$1 = '42'",
        "$2 = NULL",
        &"01".repeat(32),
        &format!("kubectl-chaperone approve {name} --state"),
    ] {
        assert!(
            listed.out.contains(expected),
            "{expected} is not in\n{}",
            listed.out
        );
    }
    assert!(!listed.out.contains('\u{1b}') && !listed.out.contains('\u{202e}'));
    let approved = run(state.path(), &["approve", &name, "--reason", "ticket 42"]).exits(0);
    assert!(approved.out.contains("runs once"), "{}", approved.out);
    let grant = runtime().block_on(folder.redeem(&name, &tuple)).unwrap();
    assert_eq!(grant.reviews[0].reason, "ticket 42");
    assert_eq!(
        grant.reviews[0].reviewer,
        chaperone_approvals::local_reviewer()
    );
    assert!(!grant.reviews[0].authenticated);
    let again = run(state.path(), &["approve", &name]).exits(1);
    assert!(again.err.contains("Consumed already"), "{}", again.err);
    assert!(again.err.contains("ApprovalUnavailable"), "{}", again.err);
}

#[test]
fn a_denied_request_stays_denied() {
    let state = TempDir::new().unwrap();
    let folder = folder(state.path());
    let name = ask(&folder, waiting_delete(1, 1)).name;
    let denied = run(state.path(), &["deny", &name, "-o", "json"]).exits(0);
    assert_eq!(denied.json()["phase"], "Denied");
    run(state.path(), &["approve", &name]).exits(1);
    assert_eq!(folder.get(&name).unwrap().evaluation.phase, Phase::Denied);
}

#[test]
fn one_person_is_not_two() {
    let state = TempDir::new().unwrap();
    let folder = folder(state.path());
    let name = ask(&folder, waiting_delete(1, 2)).name;
    let first = run(state.path(), &["approve", &name]).exits(0);
    assert!(
        first.out.contains("more people must approve"),
        "{}",
        first.out
    );
    let second = run(state.path(), &["approve", &name]).exits(1);
    assert!(second.err.contains("different people"), "{}", second.err);
    assert_eq!(folder.get(&name).unwrap().evaluation.phase, Phase::Pending);
}

#[test]
fn requests_are_printed_as_data_too() {
    let state = TempDir::new().unwrap();
    let folder = folder(state.path());
    assert_eq!(
        run(state.path(), &["approvals", "-o", "json"])
            .exits(0)
            .json(),
        serde_json::json!([])
    );
    let nothing = run(state.path(), &["approvals"]).exits(0);
    assert_eq!(
        (nothing.out.as_str(), nothing.err.trim()),
        ("", "nothing waits for a human")
    );
    let name = ask(&folder, waiting_delete(1, 1)).name;
    let json = run(state.path(), &["approvals", "-o", "json"])
        .exits(0)
        .json();
    assert_eq!(json[0]["name"], name.as_str());
    assert_eq!(json[0]["reason"], "ApprovalPending");
    assert_eq!(json[0]["quorums"][0]["needed"], 1);
    assert_eq!(json[0]["request"]["kind"], "ApprovalRequest");
    let yaml = run(state.path(), &["approvals", &name, "-o", "yaml"]).exits(0);
    assert!(yaml.out.contains(&format!("name: {name}")), "{}", yaml.out);
    let one = run(state.path(), &["approvals", &name]).exits(0);
    assert!(one.out.contains("DELETE FROM"), "{}", one.out);
}

#[test]
fn a_damaged_request_is_named_and_the_others_are_listed() {
    let state = TempDir::new().unwrap();
    let folder = folder(state.path());
    let broken = ask(&folder, waiting_delete(1, 1)).name;
    let whole = ask(&folder, waiting_delete(2, 1)).name;
    let path = state.path().join(format!("approvals/{broken}.yaml"));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        text.replace("public.orders WHERE", "public.orders --"),
    )
    .unwrap();
    let listed = run(state.path(), &["approvals"]).exits(0);
    assert!(listed.out.contains(&whole) && !listed.out.contains(&broken));
    assert!(listed.err.contains(&broken) && listed.err.contains("edited"));
    let approve = run(state.path(), &["approve", &broken]).exits(2);
    assert!(approve.err.contains("edited"), "{}", approve.err);
}

#[test]
fn a_name_that_is_none_says_where_the_names_are() {
    let state = TempDir::new().unwrap();
    let missing = run(state.path(), &["approvals"]).exits(2);
    assert!(
        missing.err.contains("is not the state folder"),
        "{}",
        missing.err
    );
    let _folder = folder(state.path());
    for name in ["ar-zzzzz", "../../etc/passwd", ""] {
        let refused = run(state.path(), &["approve", name]).exits(2);
        assert!(
            refused
                .err
                .contains("`kubectl-chaperone approvals` lists them"),
            "{}",
            refused.err
        );
    }
}

#[test]
fn watch_prints_a_request_that_comes_and_its_answer() {
    let state = TempDir::new().unwrap();
    let folder = folder(state.path());
    let mut child = binary()
        .args(["approvals", "--watch", "-o", "json", "--state"])
        .arg(state.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next =
        || -> serde_json::Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let name = ask(&folder, waiting_delete(1, 1)).name;
    let first = next();
    assert_eq!(
        (&first["name"], &first["phase"]),
        (&name.as_str().into(), &"Pending".into())
    );
    run(state.path(), &["approve", &name]).exits(0);
    assert_eq!(next()["phase"], "Approved");
    // Nobody reads any more: the next line ends it quietly.
    drop(lines);
    run(state.path(), &["deny", &name]).exits(0);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
