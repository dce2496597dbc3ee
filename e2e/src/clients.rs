//! Unmodified clients, and our own plugin, as child processes.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use xtask::needs::{self, Need};
use xtask::postgres::without_pg_variables;
use xtask::wait::wait_for;
use xtask::workspace;

use crate::{DEADLINE, Scratch};

/// What a client printed and how it ended.
#[derive(Debug, Clone)]
pub struct Transcript {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
}

impl Transcript {
    /// Both outputs, for messages.
    pub fn all(&self) -> String {
        format!(
            "exit {:?}\n--- out\n{}\n--- err\n{}",
            self.code, self.out, self.err
        )
    }

    /// The standard output of a command that ended well.
    pub fn ok(self) -> Result<String> {
        match self.code {
            Some(0) => Ok(self.out),
            _ => bail!("a command failed: {}", self.all()),
        }
    }
}

/// A client that runs while a test goes on. Dropping it ends it.
pub struct Background {
    child: Child,
    out: File,
    err: File,
    _scratch: Scratch,
}

impl Background {
    /// Starts `command` with `input` on its standard input.
    pub fn start(mut command: Command, input: &str) -> Result<Background> {
        let scratch = Scratch::new("client")?;
        let stdin = file(&scratch.path().join("in"))?;
        (&stdin).write_all(input.as_bytes())?;
        (&stdin).rewind()?;
        let (out, err) = (
            file(&scratch.path().join("out"))?,
            file(&scratch.path().join("err"))?,
        );
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::from(out.try_clone()?))
            .stderr(Stdio::from(err.try_clone()?))
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Background {
            child,
            out,
            err,
            _scratch: scratch,
        })
    }

    /// What it has printed so far.
    pub fn so_far(&mut self) -> Result<Transcript> {
        let code = self.child.try_wait()?.and_then(|status| status.code());
        Ok(Transcript {
            out: contents(&mut self.out)?,
            err: contents(&mut self.err)?,
            code,
        })
    }

    /// Waits until `text` is in what it printed.
    pub fn until(&mut self, text: &str) -> Result<Transcript> {
        wait_for(&format!("a client to print {text:?}"), DEADLINE, || {
            let ended = self.child.try_wait()?.is_some();
            let transcript = self.so_far()?;
            if transcript.out.contains(text) || transcript.err.contains(text) {
                return Ok(Some(transcript));
            }
            if ended {
                bail!("it ended without printing {text:?}: {}", transcript.all());
            }
            Ok(None)
        })
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self.child.id().to_string();
        let status = Command::new("sh")
            .args(["-c", "kill \"-$0\" \"$1\"", name, &pid])
            .status()?;
        if !status.success() {
            bail!("could not send {name}");
        }
        Ok(())
    }

    /// Waits for its end.
    pub fn finish(self) -> Result<Transcript> {
        self.finish_within(DEADLINE.saturating_mul(3))
    }

    /// Waits for its end, but not longer.
    pub fn finish_within(mut self, deadline: Duration) -> Result<Transcript> {
        wait_for("a client to end", deadline, || Ok(self.child.try_wait()?))?;
        self.so_far()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn file(path: &Path) -> Result<File> {
    Ok(File::options()
        .create(true)
        .read(true)
        .append(true)
        .open(path)?)
}

fn contents(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Runs a command to its end.
pub fn run(command: Command, input: &str) -> Result<Transcript> {
    Background::start(command, input)?.finish()
}

/// psql as a user has it, against a loopback port, reading its script from standard input.
/// Errors come with their SQLSTATE, rows unaligned.
pub fn psql(bin: &Path, port: u16, database: &str) -> Command {
    let mut command = Command::new(bin.join("psql"));
    without_pg_variables(&mut command);
    command
        .env("PGCONNECT_TIMEOUT", "20")
        .args(["-X", "-A", "-t", "-v", "VERBOSITY=verbose"])
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-U",
            "agent",
            "-d",
            database,
        ]);
    command
}

/// Python with psycopg 3, its `PG…` variables set so that `psycopg.connect()` suffices.
pub fn python(port: u16, database: &str, script: &str) -> Result<Command> {
    let mut command = interpreter()?;
    without_pg_variables(&mut command);
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", port.to_string())
        .env("PGUSER", "agent")
        .env("PGDATABASE", database)
        .env("PGCONNECT_TIMEOUT", "20")
        .args(["-c", script]);
    Ok(command)
}

/// Python with the packages of the tests.
pub fn interpreter() -> Result<Command> {
    python_packages()?;
    Ok(Command::new(needs::python()))
}

/// A program of `verifier/`, the second reader of the evidence.
pub fn verifier(program: &str) -> Result<Command> {
    let mut command = interpreter()?;
    // No cache of compiled modules in the checkout.
    command
        .arg("-B")
        .arg(workspace::root().join("e2e/verifier").join(program));
    Ok(command)
}

/// Installs them unless they are there. Takes no root, so that `cargo test` alone runs the tests too.
pub(crate) fn python_packages() -> Result<()> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    INSTALLED
        .get_or_init(|| {
            needs::install(&[Need::PythonPackages], true).map_err(|error| format!("{error:#}"))
        })
        .clone()
        .map_err(|error| anyhow!("Python's packages: {error}"))
}
