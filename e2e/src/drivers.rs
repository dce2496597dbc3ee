//! The programs of `e2e/drivers`: each speaks with PostgreSQL by one driver, as an application would,
//! and prints all that it was told. What it prints must be the same whether the sidecar stands
//! between or not.
//!
//! A program takes one word: `transcript` for all that the driver can do, `denied` for statements
//! that the database's own role may not run either, `masked` for a table with masked columns.

use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail, ensure};
use xtask::drivers;
use xtask::needs;
use xtask::postgres::without_pg_variables;

use crate::server::PASSWORD;
use crate::{Database, Lab, clients};

const MASKS: &str = "
    masking:
    - {name: people, columns: [\"public.people.email\", \"public.people.profile\", \"public.people.born\",
       \"public.people.score\", \"public.people.tags\"], strategy: Redact}";

/// In which language a program is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// `main.py`
    Python,
    /// `main.mjs`
    JavaScript,
    /// `Main.java`
    Java,
    /// `main.go`
    Go,
    /// `main.rb`
    Ruby,
    /// `main.sh`
    Shell,
}

/// One program.
#[derive(Debug, Clone, Copy)]
pub struct Driver {
    /// Its folder in `e2e/drivers`.
    pub name: &'static str,
    /// What it is written in.
    pub language: Language,
}

impl Driver {
    fn command(&self) -> Result<Command> {
        let sources = drivers::sources().join(self.name);
        Ok(match self.language {
            Language::Python => {
                let mut command = Command::new(needs::python());
                command.arg("-B").arg(sources.join("main.py"));
                command
            }
            Language::Ruby => {
                let mut command = Command::new("ruby");
                command.arg(sources.join("main.rb"));
                command
            }
            Language::Shell => {
                let mut command = Command::new("sh");
                command.arg(sources.join("main.sh"));
                command
            }
            Language::JavaScript => {
                let mut command = drivers::node("node");
                command.arg(drivers::prepared(self.name)?.join("main.mjs"));
                command
            }
            Language::Go => Command::new(drivers::prepared(self.name)?.join("main")),
            Language::Java => {
                let folder = drivers::prepared(self.name)?;
                let mut command = Command::new("java");
                command
                    .args(["-XX:TieredStopAtLevel=1", "-cp"])
                    .arg(format!("{0}:{0}/pgjdbc.jar", folder.display()))
                    .arg("Main");
                command
            }
        })
    }

    /// Runs it as the database's role against a port, which is the database's own or a sidecar's.
    /// The name that the database and its role share is another one in each copy, and so left out of
    /// what comes back.
    fn run(&self, word: &str, port: u16, database: &Database) -> Result<String> {
        // Node.js is there too.
        clients::python_packages()?;
        let mut command = self.command()?;
        without_pg_variables(&mut command);
        command
            .arg(word)
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", port.to_string())
            .env("PGUSER", &database.name)
            .env("PGPASSWORD", PASSWORD)
            .env("PGDATABASE", &database.name)
            .env("PGCONNECT_TIMEOUT", "20")
            .env("TZ", "UTC")
            .env("LANG", "C.UTF-8")
            .env("CLIENTS", database.server()?.bin());
        let said = clients::run(command, "")?;
        ensure!(said.code == Some(0), "{}", said.all());
        Ok(said.out.replace(&database.name, "DATABASE"))
    }

    /// What it says of `word` without the sidecar, and through it, on two copies of the world.
    fn both(&self, word: &str) -> Result<(String, String)> {
        let direct = world()?.copied()?;
        let direct = self.run(word, direct.port, &direct)?;
        let lab = lab("")?;
        let running = lab.start()?;
        let through = self.run(word, lab.port(), &lab.database)?;
        running.stop()?;
        lab.verify()?;
        Ok((direct, through))
    }

    /// Fails unless the driver is told the same, byte for byte, whether the sidecar stands between or
    /// not. `marks` are words that show how far the program came.
    pub fn is_not_disturbed(&self, marks: &[&str]) -> Result<()> {
        let (direct, through) = self.both("transcript")?;
        for mark in marks.iter().chain(&["\nend"]) {
            ensure!(direct.contains(mark), "no {mark:?} in\n{direct}");
        }
        same(&direct, &through)
    }

    /// Fails unless what policy denies is to the driver what the server's own refusal is.
    pub fn is_denied_as_by_the_server(&self) -> Result<()> {
        let (direct, through) = self.both("denied")?;
        let refusals = direct.matches("42501").count();
        ensure!(refusals >= 3, "only {refusals} refusals in\n{direct}");
        same(&direct, &through)
    }

    /// Fails unless masked values come in a form that the driver can decode.
    pub fn reads_masked_values(&self, least: usize) -> Result<()> {
        const MASKED: &str =
            "masked id=1 email=[masked] profile=\"[masked]\" born=NULL score=NULL tags=NULL";
        let lab = lab(MASKS)?;
        let running = lab.start()?;
        let said = self.run("masked", lab.port(), &lab.database)?;
        running.stop()?;
        let wrong = said.lines().find(|line| *line != MASKED);
        ensure!(
            wrong.is_none() && said.lines().count() >= least,
            "{wrong:?} in\n{said}"
        );
        lab.verify()
    }
}

fn lab(masks: &str) -> Result<Lab> {
    let database = world()?.copied()?;
    let port = database.port;
    let lab = Lab::behind(database, port)?;
    lab.guardrails(masks)?;
    lab.policy("application", &text("rules.yaml")?)?;
    Ok(lab)
}

/// A file that all programs share.
fn text(name: &str) -> Result<String> {
    let path = drivers::sources().join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The database that every run gets a copy of.
fn world() -> Result<&'static Database> {
    static WORLD: OnceLock<Result<Database, String>> = OnceLock::new();
    let made = || {
        let world = Database::new()?;
        world.sql(&text("world.sql")?)?;
        Ok(world)
    };
    WORLD
        .get_or_init(|| made().map_err(|error: anyhow::Error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("{error}"))
}

fn same(direct: &str, through: &str) -> Result<()> {
    let (wanted, got) = (lines(direct), lines(through));
    if let Some(at) = (0..wanted.len().max(got.len())).find(|at| wanted.get(*at) != got.get(*at)) {
        let near = |lines: &[&str], before: usize| {
            let near = lines
                .iter()
                .skip(at.saturating_sub(before))
                .take(before + 4);
            near.copied().collect::<Vec<_>>().join("\n  ")
        };
        bail!(
            "they part in line {}\ndirect:\n  {}\nthrough:\n  {}",
            at + 1,
            near(&wanted, 3),
            near(&got, 0)
        );
    }
    Ok(())
}

/// With their ends: the last may have none.
fn lines(text: &str) -> Vec<&str> {
    text.split('\n').collect()
}
