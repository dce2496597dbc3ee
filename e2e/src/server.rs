//! One real PostgreSQL for all tests of a binary, and a database in it for each test.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

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
    seeded(Settings::for_tests())
}

/// A server of its own with the seed in it, for databases made [on](Database::on) it.
pub fn seeded(mut settings: Settings) -> Result<Postgres> {
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
    /// Its server, where that is not the shared one.
    own: Option<Arc<Postgres>>,
}

impl Database {
    /// Makes one on the shared server.
    pub fn new() -> Result<Database> {
        Database::made(shared()?, None)
    }

    /// Makes one on another server.
    pub fn on(server: &Arc<Postgres>) -> Result<Database> {
        Database::made(server, Some(Arc::clone(server)))
    }

    fn made(server: &Postgres, own: Option<Arc<Postgres>>) -> Result<Database> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Database::like("seed", name, server, own)
    }

    fn like(
        template: &str,
        name: String,
        server: &Postgres,
        own: Option<Arc<Postgres>>,
    ) -> Result<Database> {
        server.sql(
            "postgres",
            &format!("CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'"),
        )?;
        server.sql(
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE {template} OWNER {name}"),
        )?;
        Ok(Database {
            name,
            port: server.port(),
            own,
        })
    }

    /// The server it is on.
    pub fn server(&self) -> Result<&Postgres> {
        match &self.own {
            Some(own) => Ok(own),
            None => shared(),
        }
    }

    /// A byte for byte copy, OIDs included, with a role of its own. Nobody may be connected to this
    /// one meanwhile.
    pub fn copied(&self) -> Result<Database> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}_copy_{count}", self.name);
        Database::like(&self.name, name, self.server()?, self.own.clone())
    }

    /// A connection past the sidecar, as a superuser.
    pub fn direct(&self) -> Result<Client> {
        // pg_hba.conf names this role (xtask, `postgres.rs`).
        const ROLE: &str = "plain_password";
        self.server()?.sql(
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
        let alter = format!("ALTER ROLE {} SUPERUSER", self.name);
        self.server()?.sql("postgres", &alter).map(|_| ())
    }

    /// Runs SQL as the superuser, past the sidecar.
    pub fn sql(&self, text: &str) -> Result<String> {
        self.server()?.sql(&self.name, text)
    }

    /// The server's log lines of this database's role: what reached the server and was run.
    pub fn log(&self) -> Result<Vec<String>> {
        let own = format!(" {0}@{0} ", self.name);
        Ok(self
            .server()?
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
