//! A throw-away PostgreSQL: real, unprivileged, on a loopback port of its own.
//!
//! `initdb` runs once a version and is kept under `target/`; every server starts from a copy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{Process, Scratch, demoted, draft, free_port, hand_over, succeed};
use crate::releases::Release;

use crate::wait::wait_for;
use crate::workspace;

/// The superuser of every throw-away server. Only its unix socket lets him in.
pub const SUPERUSER: &str = "postgres";

/// What a server is started for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A fixed port, or a free one.
    pub port: Option<u16>,
    /// fsync and the rest, as a user would run it; off is for tests.
    pub durable: bool,
    /// More lines of postgresql.conf.
    pub extra: Vec<String>,
    /// A certificate and key in PEM; the server then offers TLS.
    pub tls: Option<(String, String)>,
    /// PEM of the CA of client certificates, for `pg_hba.conf` lines that ask for one.
    pub client_ca: Option<String>,
    /// Another version than the machine's.
    pub release: Option<Release>,
}

impl Settings {
    /// Fast and forgetful, with every statement in the log.
    pub fn for_tests() -> Settings {
        Settings {
            port: None,
            durable: false,
            extra: vec!["log_statement = all".to_owned()],
            tls: None,
            client_ca: None,
            release: None,
        }
    }
}

/// A running server. Dropping it stops it and removes its data.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    scratch: Scratch,
    port: u16,
    /// Of the machine's own version: another one brings no clients.
    clients: PathBuf,
}

impl Postgres {
    /// Starts one and waits until it answers.
    pub fn start(settings: &Settings) -> Result<Postgres> {
        let clients =
            bin_dir().context("no PostgreSQL server on this machine; `cargo e2e` installs it")?;
        let scratch = Scratch::new("pg")?;
        let bin = match settings.release {
            None => clients.clone(),
            Some(release) => unpacked(release, scratch.path())?,
        };
        let data = scratch.path().join("data");
        succeed(
            Command::new("cp")
                .arg("-a")
                .arg(fresh_cluster(&bin)?)
                .arg(&data),
        )?;
        let port = match settings.port {
            Some(port) => port,
            None => free_port()?,
        };
        fs::write(
            data.join("postgresql.conf"),
            configuration(settings, port, scratch.path()),
        )?;
        let certificates = match settings.client_ca {
            Some(_) => "hostssl all certificate_user 127.0.0.1/32 cert\n",
            None => "",
        };
        fs::write(data.join("pg_hba.conf"), format!("{certificates}{HBA}"))?;
        if let Some(ca) = &settings.client_ca {
            fs::write(data.join("clients.crt"), ca)?;
        }
        if let Some((certificate, key)) = &settings.tls {
            fs::write(data.join("server.crt"), certificate)?;
            fs::write(data.join("server.key"), key)?;
            succeed(
                Command::new("chmod")
                    .arg("600")
                    .arg(data.join("server.key")),
            )?;
        }
        hand_over(scratch.path())?;
        let mut command = demoted(&bin.join("postgres"))?;
        command.arg("-D").arg(&data);
        let log = scratch.path().join("log");
        // QUIT: at once; nothing in it is to be kept.
        let process = Process::spawn(command, &log, "QUIT")?;
        let mut server = Postgres {
            process,
            scratch,
            port,
            clients,
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        wait_for("PostgreSQL to answer", Duration::from_secs(60), || {
            if let Some(status) = self.process.ended()? {
                bail!("PostgreSQL ended with {status}:\n{}", self.log());
            }
            // Its own word, before a client is started to ask.
            if !self
                .log()
                .contains("database system is ready to accept connections")
            {
                return Ok(None);
            }
            Ok(self.sql("postgres", "SELECT 1").ok())
        })?;
        Ok(())
    }

    /// The loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of client programs.
    pub fn bin(&self) -> &Path {
        &self.clients
    }

    /// The folder of its unix socket, by which [`SUPERUSER`] logs in.
    pub fn socket_dir(&self) -> &Path {
        self.scratch.path()
    }

    /// The process id of the server.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Everything the server has logged so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.scratch.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Runs SQL as the superuser and gives unaligned, tuples-only output.
    pub fn sql(&self, database: &str, text: &str) -> Result<String> {
        let mut command = self.psql(database);
        command.args(["-At", "-c", text]);
        let output = succeed(&mut command)?;
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    /// Runs a file of SQL as the superuser.
    pub fn sql_file(&self, database: &str, file: &Path) -> Result<()> {
        succeed(self.psql(database).arg("-q").arg("-f").arg(file)).map(|_| ())
    }

    fn psql(&self, database: &str) -> Command {
        let mut command = Command::new(self.clients.join("psql"));
        without_pg_variables(&mut command);
        command
            .args([
                "-X",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                SUPERUSER,
                "-d",
                database,
            ])
            .args(["-p", &self.port.to_string()])
            .arg("-h")
            .arg(self.socket_dir());
        command
    }

    /// Leaves it running after we are gone and gives its folder.
    pub fn leave_running(self) -> PathBuf {
        std::mem::forget(self.process);
        self.scratch.into_path()
    }
}

/// Removes every `PG…` variable: what the machine's user has set must not leak into a test.
pub fn without_pg_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
}

/// The newest PostgreSQL of this machine that has a server in it.
pub fn bin_dir() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for parent in ["/usr/lib/postgresql", "/usr/local/lib/postgresql"] {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let version = entry.file_name().to_string_lossy().parse().unwrap_or(0);
            found.push((version, entry.path().join("bin")));
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    found.extend(std::env::split_paths(&path).map(|folder| (0, folder)));
    found.retain(|(_, bin)| {
        ["initdb", "postgres", "psql", "pgbench"]
            .iter()
            .all(|program| bin.join(program).is_file())
    });
    found.sort();
    found.pop().map(|(_, bin)| bin)
}

/// The version as the server prints it, such as `postgres (PostgreSQL) 15.18`.
pub fn version(bin: &Path) -> Result<String> {
    let output = succeed(Command::new(bin.join("postgres")).arg("--version"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Trust only on the unix socket, whose folder is this run's; passwords on the network.
const HBA: &str = "\
local all all trust
host all plain_password 127.0.0.1/32 password
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
";

fn configuration(settings: &Settings, port: u16, socket_dir: &Path) -> String {
    let mut lines = vec![
        "listen_addresses = '127.0.0.1'".to_owned(),
        format!("port = {port}"),
        format!("unix_socket_directories = '{}'", socket_dir.display()),
        "max_connections = 200".to_owned(),
        "password_encryption = 'scram-sha-256'".to_owned(),
        "log_destination = 'stderr'".to_owned(),
        "logging_collector = off".to_owned(),
        "log_line_prefix = '%m [%p] %u@%d '".to_owned(),
        "shared_buffers = '128MB'".to_owned(),
        "dynamic_shared_memory_type = 'posix'".to_owned(),
        "datestyle = 'iso, mdy'".to_owned(),
        "timezone = 'UTC'".to_owned(),
    ];
    if !settings.durable {
        for name in ["fsync", "synchronous_commit", "full_page_writes"] {
            lines.push(format!("{name} = off"));
        }
    }
    if settings.tls.is_some() {
        lines.push("ssl = on".to_owned());
    }
    if settings.client_ca.is_some() {
        lines.push("ssl_ca_file = 'clients.crt'".to_owned());
    }
    lines.extend(settings.extra.iter().cloned());
    lines.push(String::new());
    lines.join("\n")
}

/// The programs of another version, where the user that runs them can go: the cache of whoever
/// runs the tests is theirs alone.
fn unpacked(release: Release, scratch: &Path) -> Result<PathBuf> {
    release.install()?;
    let folder = scratch.join("release");
    succeed(
        Command::new("cp")
            .arg("-a")
            .arg(release.folder()?)
            .arg(&folder),
    )?;
    hand_over(scratch)?;
    Ok(folder.join("bin"))
}

/// A data folder as initdb leaves it, made once a version.
fn fresh_cluster(bin: &Path) -> Result<PathBuf> {
    let version: String = version(bin)?
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let kept = workspace::target().join("e2e").join(format!("{version}-1"));
    if kept.is_dir() {
        return Ok(kept);
    }
    // The target folder may lie where the server's user cannot go: made elsewhere, then copied.
    let scratch = Scratch::new("initdb")?;
    hand_over(scratch.path())?;
    let data = scratch.path().join("data");
    let mut initdb = demoted(&bin.join("initdb"))?;
    initdb
        .args([
            "-U",
            SUPERUSER,
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ])
        .arg("-D")
        .arg(&data)
        .stdout(Stdio::null());
    succeed(&mut initdb)?;
    let parent = kept.parent().context("the target folder has no parent")?;
    fs::create_dir_all(parent)?;
    let draft = draft(&kept);
    succeed(Command::new("cp").arg("-a").arg(&data).arg(&draft))?;
    // Whoever else made it meanwhile made the same.
    if fs::rename(&draft, &kept).is_err() {
        fs::remove_dir_all(&draft)?;
    }
    Ok(kept)
}
