//! The standalone sidecar as a child process, with whatever stands in its manifests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::process::Process;
use crate::wait::wait_for;

/// How to start one.
#[derive(Debug, Clone)]
pub struct Standalone<'a> {
    /// The program.
    pub program: &'a Path,
    /// Its `--manifests`.
    pub manifests: &'a Path,
    /// Its `--state`.
    pub state: &'a Path,
    /// Its `--subject`, `namespace/service-account`.
    pub subject: &'a str,
    /// Its `--purpose`, if any.
    pub purpose: Option<&'a str>,
    /// Where its output goes.
    pub log: &'a Path,
}

/// A running sidecar. Dropping it ends it.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
    log: PathBuf,
}

impl Standalone<'_> {
    /// The command line, for callers that add to its environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command
            .arg("standalone")
            .arg("--manifests")
            .arg(self.manifests)
            .arg("--state")
            .arg(self.state)
            .args(["--subject", self.subject]);
        if let Some(purpose) = self.purpose {
            command.args(["--purpose", purpose]);
        }
        command
    }

    /// Starts it and waits until it says that it is ready.
    pub fn start(&self) -> Result<Sidecar> {
        Sidecar::spawn(self.command(), self.log)?.ready()
    }
}

impl Sidecar {
    /// Starts `command` as a sidecar without waiting for it.
    pub fn spawn(command: Command, log: &Path) -> Result<Sidecar> {
        // The log of an earlier life must not say that this one is ready.
        let _ = fs::remove_file(log);
        // Whoever wants its ordinary end sends TERM; what is dropped need not drain.
        let process = Process::spawn(command, log, "KILL")?;
        Ok(Sidecar {
            process,
            log: log.to_owned(),
        })
    }

    /// Waits until it says that it is ready: its listeners are bound then.
    pub fn ready(mut self) -> Result<Sidecar> {
        wait_for("the sidecar to be ready", Duration::from_secs(30), || {
            if let Some(status) = self.process.ended()? {
                bail!("the sidecar ended with {status}:\n{}", self.output());
            }
            Ok(self
                .output()
                .lines()
                .any(|line| line == "ready")
                .then_some(()))
        })?;
        Ok(self)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// All it has printed.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Leaves it running after we are gone.
    pub fn leave_running(self) {
        std::mem::forget(self.process);
    }
}
