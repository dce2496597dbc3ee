//! Runs the real binary on real folders.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod session;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use chaperone_approvals::{Folder, NewRequest, SystemClock, Ticket, Tuple, combined_rule_digest};
use chaperone_policy::{Access, ApprovalRule, Effect, Object, RuleRef};
use tokio::runtime::Runtime;

/// What a run of the binary gave.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
    pub bytes: Vec<u8>,
}

impl Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code().expect("it was not killed"),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8(output.stderr).unwrap(),
            bytes: output.stdout,
        }
    }

    /// The output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }

    /// Asserts the exit code.
    pub fn exits(self, code: i32) -> Ran {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.out, self.err
        );
        self
    }
}

/// The binary, without anything from our own environment.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-chaperone"));
    command.env_remove("CHAPERONE_STATE").env_remove("NO_COLOR");
    // Nor any cluster of ours.
    command.env("KUBECONFIG", "/nonexistent/kubeconfig");
    command.env_remove("KUBERNETES_SERVICE_HOST");
    command
}

/// Runs with `--state`.
pub fn run(state: &Path, args: &[&str]) -> Ran {
    let output = binary().args(args).arg("--state").arg(state).output();
    Ran::from(output.unwrap())
}

/// Runs without `--state`.
pub fn run_bare(args: &[&str]) -> Ran {
    Ran::from(binary().args(args).output().unwrap())
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

pub fn folder(state: &Path) -> Folder {
    Folder::open(&state.join("approvals"), Arc::new(SystemClock)).unwrap()
}

pub fn relation(schema: &str, name: &str) -> Object {
    Object::Relation {
        schema: schema.to_owned(),
        name: name.to_owned(),
    }
}

pub fn access(effect: Effect, object: Object) -> Access {
    Access {
        effect,
        object,
        baseline: false,
    }
}

/// A DELETE that waits, with a command that tries to fool its reader.
pub fn waiting_delete(number: u8, quorum: u32) -> NewRequest {
    let rules = vec![ApprovalRule {
        rule: RuleRef {
            policy: "shop/report-agent".to_owned(),
            rule: "deletes".to_owned(),
            generation: 0,
            digest: "ab".repeat(32),
        },
        users: vec![],
        groups: vec!["dba".to_owned()],
        quorum,
        timeout: Duration::from_secs(20),
        valid_for: Duration::from_secs(900),
    }];
    NewRequest {
        tuple: Tuple {
            namespace: "shop".to_owned(),
            service_account: "report-agent".to_owned(),
            delegate: None,
            connection: "databases/orders-db".to_owned(),
            command_digest: [number; 32],
            rule_digest: combined_rule_digest(&rules),
        },
        purpose: Some("nightly-report".to_owned()),
        rules,
        summary: "DELETE over databases/orders-db".to_owned(),
        command: format!("DELETE FROM public.orders WHERE id = $1 -- \u{1b}[2J\u{202e} {number}"),
        parameters: vec![Some("42".to_owned()), None],
        accesses: vec![access(Effect::Delete, relation("public", "orders"))],
        expires_in: Duration::from_secs(600),
    }
}

pub fn ask(folder: &Folder, new: NewRequest) -> Ticket {
    runtime().block_on(folder.request(new)).unwrap()
}
