//! One real PostgreSQL for all tests of a binary, and a database in it for each test.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow};
use xtask::postgres::{Postgres, Settings};

use crate::raw::Client;
use crate::relay::find;

/// Values of the seed's masked columns, none of which may appear anywhere on our side.
pub const RAW: [&str; 6] = [
    "ada.lovelace@raw-mail.example",
    "grace.hopper@raw-mail.example",
    "alan.turing@raw-mail.example",
    "4242424242424242",
    "5555555555554444",
    "4000056655665556",
];

/// The password of every test role.
pub const PASSWORD: &str = "secret-of-the-target";

static SERVER: OnceLock<Result<Postgres, String>> = OnceLock::new();

/// The server that all tests of this binary share, started on first use.
pub fn shared() -> Result<&'static Postgres> {
    SERVER
        .get_or_init(|| start().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("{error}"))
}

fn start() -> Result<Postgres> {
    let mut settings = Settings::for_tests();
    // DEBUG2 also logs Parse and Bind, which log_statement does not.
    settings.extra.push("log_min_messages = debug2".to_owned());
    let server = Postgres::start(&settings)?;
    server.sql("postgres", "CREATE DATABASE seed")?;
    let seed = concat!(env!("CARGO_MANIFEST_DIR"), "/src/seed.sql");
    server
        .sql_file("seed", seed.as_ref())
        .context("loading src/seed.sql")?;
    Ok(server)
}

/// A database with the seed in it and a role that may do everything there.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its name; also the name of its role.
    pub name: String,
    /// The server's port.
    pub port: u16,
}

impl Database {
    /// Makes one on the shared server.
    pub fn new() -> Result<Database> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let server = shared()?;
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        server.sql(
            "postgres",
            &format!("CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'"),
        )?;
        server.sql(
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE seed OWNER {name}"),
        )?;
        Ok(Database {
            name,
            port: server.port(),
        })
    }

    /// A byte for byte copy, OIDs included, with a role of its own. Nobody may be connected to this
    /// one meanwhile.
    pub fn copied(&self) -> Result<Database> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let server = shared()?;
        let name = format!(
            "{}_copy_{}",
            self.name,
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        server.sql(
            "postgres",
            &format!("CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'"),
        )?;
        server.sql(
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE {} OWNER {name}", self.name),
        )?;
        Ok(Database {
            name,
            port: self.port,
        })
    }

    /// A connection past the sidecar, as a superuser.
    pub fn direct(&self) -> Result<Client> {
        // pg_hba.conf names this role (xtask, `postgres.rs`).
        const ROLE: &str = "plain_password";
        shared()?.sql(
            "postgres",
            &format!(
                "DO $$ BEGIN CREATE ROLE {ROLE} LOGIN SUPERUSER PASSWORD '{PASSWORD}'; \
                 EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            ),
        )?;
        Client::direct(self.port, ROLE, PASSWORD, &self.name)
    }

    /// Lets the agent's role do everything, so that only the sidecar is in its way.
    pub fn make_superuser(&self) -> Result<()> {
        shared()?.sql("postgres", &format!("ALTER ROLE {} SUPERUSER", self.name))?;
        Ok(())
    }

    /// Runs SQL as the superuser, past the sidecar.
    pub fn sql(&self, text: &str) -> Result<String> {
        shared()?.sql(&self.name, text)
    }

    /// The server's log lines of this database's role: what reached the server and was run.
    pub fn log(&self) -> Result<Vec<String>> {
        let own = format!(" {0}@{0} ", self.name);
        Ok(shared()?
            .log()
            .lines()
            .filter(|line| line.contains(&own))
            .map(str::to_owned)
            .collect())
    }

    /// Whether a statement with `text` in it reached the server, by its own log.
    pub fn saw(&self, text: &str) -> Result<bool> {
        Ok(self
            .log()?
            .iter()
            .any(|line| find(line.as_bytes(), text.as_bytes()).is_some()))
    }
}
