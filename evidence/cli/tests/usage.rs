//! Usage, environment and exit codes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod common;

use common::{binary, run, run_bare};
use tempfile::TempDir;

const COMMANDS: [&[&str]; 12] = [
    &["sessions"],
    &["search", "x"],
    &["export"],
    &["report", "--framework", "soc2"],
    &["policy", "suggest"],
    &["show", "last"],
    &["why", "last/1"],
    &["replay", "last"],
    &["verify"],
    &["approvals"],
    &["approve", "ar-bcdfg"],
    &["deny", "ar-bcdfg"],
];

#[test]
fn without_a_cluster_or_a_state_folder_it_says_what_to_do() {
    for command in COMMANDS {
        let ran = run_bare(command).exits(2);
        assert!(ran.err.contains("no cluster"), "{}", ran.err);
        assert!(ran.err.contains("--context"), "{}", ran.err);
        assert!(ran.err.contains("--state DIR"), "{}", ran.err);
        assert_eq!(ran.out, "");
    }
}

#[test]
fn a_folder_that_is_none_is_named() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("nowhere");
    for command in COMMANDS {
        let ran = run(&missing, command).exits(2);
        assert!(ran.err.contains("nowhere is no folder"), "{}", ran.err);
        assert!(!missing.exists());
    }
}

#[test]
fn an_empty_folder_stays_empty() {
    let dir = TempDir::new().unwrap();
    for command in COMMANDS {
        let ran = run(dir.path(), command).exits(2);
        assert!(ran.err.starts_with("error"), "{}", ran.err);
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            0,
            "{command:?}"
        );
    }
}

#[test]
fn the_state_folder_may_come_from_the_environment() {
    let dir = TempDir::new().unwrap();
    let output = binary()
        .args(["approvals"])
        .env("CHAPERONE_STATE", dir.path().join("nowhere"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("nowhere")
    );
}

#[test]
fn wrong_usage_exits_two() {
    for args in [
        &["nonsense"][..],
        &[],
        &["sessions", "--since", "yesterday"],
        &["sessions", "--decision", "maybe"],
        &["replay", "last", "--speed", "-1"],
        &["verify", "abc", "--all"],
        &["show"],
    ] {
        assert_eq!(run_bare(args).code, 2, "{args:?}");
    }
}

#[test]
fn version_help_and_completion_need_nothing() {
    let version = run_bare(&["version"]).exits(0);
    assert_eq!(
        version.out.trim(),
        concat!("kubectl-chaperone ", env!("CARGO_PKG_VERSION"))
    );
    let help = run_bare(&["--help"]).exits(0);
    for command in [
        "sessions",
        "show",
        "why",
        "replay",
        "search",
        "export",
        "report",
        "verify",
        "approvals",
        "approve",
        "deny",
        "doctor",
        "policy",
    ] {
        assert!(help.out.contains(command), "{command}");
    }
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run_bare(&["completion", shell]).exits(0);
        assert!(script.out.contains("kubectl-chaperone"), "{shell}");
        assert!(script.out.contains("COMPLETE"), "{shell}");
    }
}
