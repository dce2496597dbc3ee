//! kubectl, as anybody.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::clients::{self, Background, Transcript};
use crate::cluster::shared;
use crate::lab;

/// kubectl on the shared cluster, as the administrator or by impersonation, in a namespace.
#[derive(Debug, Clone, Default)]
pub struct Kubectl {
    flags: Vec<String>,
}

impl Kubectl {
    /// As the administrator, in the default namespace.
    pub fn admin() -> Kubectl {
        Kubectl::default()
    }

    /// In a namespace.
    pub fn in_namespace(mut self, name: &str) -> Kubectl {
        self.flags.push(format!("--namespace={name}"));
        self
    }

    /// As somebody else, such as `jane` or `system:serviceaccount:shop:report-agent`. Who is in no
    /// group named here is in `system:authenticated` only.
    pub fn impersonating(mut self, user: &str, groups: &[&str]) -> Kubectl {
        self.flags.push(format!("--as={user}"));
        for group in groups {
            self.flags.push(format!("--as-group={group}"));
        }
        self
    }

    /// Runs it with `input` on standard input, however it ends.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Result<Transcript> {
        clients::run(self.command(arguments)?, input)
    }

    /// Runs it, however it ends.
    pub fn run(&self, arguments: &[&str]) -> Result<Transcript> {
        self.run_with(arguments, "")
    }

    /// Starts it and goes on: `exec`, `logs --follow`, `port-forward`, `get --watch`.
    pub fn in_background(&self, arguments: &[&str]) -> Result<Background> {
        Background::start(self.command(arguments)?, "")
    }

    /// Runs it and gives what it printed; an error if it failed.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        self.run(arguments)?
            .ok()
            .with_context(|| format!("kubectl {}", arguments.join(" ")))
    }

    /// Objects as JSON: `["pod", "agent"]`, `["pods", "-l", "app=agent"]`.
    pub fn json(&self, what: &[&str]) -> Result<Value> {
        let text = self.ok(&[&["get", "-o", "json"], what].concat())?;
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
    }

    /// `kubectl-chaperone` as the same person in the same namespace, however it ends.
    pub fn plugin(&self, arguments: &[&str]) -> Result<Transcript> {
        let mut command = shared()?.command(&lab::binaries()?.plugin);
        command.env_remove("CHAPERONE_STATE");
        command.args(arguments).args(&self.flags);
        clients::run(command, "")
    }

    /// The same with `-o json`, parsed; an error if it failed.
    pub fn plugin_json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.plugin(&[arguments, &["-o", "json"]].concat())?.ok()?;
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
    }

    /// Applies manifests.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        self.run_with(&["apply", "-f", "-"], yaml)?
            .ok()
            .with_context(|| format!("applying:\n{yaml}"))
    }

    /// Applies manifests that the API server has to refuse, and gives what it said.
    pub fn refused(&self, yaml: &str) -> Result<String> {
        let said = self.run_with(&["apply", "-f", "-"], yaml)?;
        ensure!(
            said.code != Some(0),
            "this was to be refused and was not:\n{yaml}\n{}",
            said.all()
        );
        Ok(said.err)
    }

    fn command(&self, arguments: &[&str]) -> Result<std::process::Command> {
        let mut command = shared()?.kubectl();
        command.args(&self.flags).args(arguments);
        Ok(command)
    }
}
