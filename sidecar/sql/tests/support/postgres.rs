//! A PostgreSQL of the test's own, on a unix socket in a temporary folder.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use chaperone_sql::catalog_sql::QUERIES;
use chaperone_sql::{Catalog, CatalogBuilder};

/// Where the server's programs are: `PG_BIN`, or the newest that the system has.
fn programs() -> PathBuf {
    if let Some(folder) = std::env::var_os("PG_BIN") {
        return folder.into();
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed, or PG_BIN says where")
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(|folder| folder.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL is installed")
}

pub(crate) struct Postgres {
    folder: tempfile::TempDir,
    programs: PathBuf,
}

impl Postgres {
    pub(crate) fn start() -> Postgres {
        let folder = tempfile::tempdir().unwrap();
        let server = Postgres {
            programs: programs(),
            folder,
        };
        succeed(Command::new("chmod").arg("777").arg(server.folder.path()));
        let data = server.data();
        succeed(
            server
                .unprivileged("initdb")
                .args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8"])
                .args(["--locale", "C", "-D"])
                .arg(&data),
        );
        let options = format!(
            "-c listen_addresses='' -c fsync=off -c unix_socket_directories={}",
            server.folder.path().display()
        );
        succeed(
            server
                .unprivileged("pg_ctl")
                .args(["-w", "-t", "60", "-o", &options, "-l"])
                .arg(server.folder.path().join("log"))
                .arg("-D")
                .arg(&data)
                .arg("start"),
        );
        server
    }

    /// What psql prints for these arguments.
    pub(crate) fn psql(&self, arguments: &[&str]) -> String {
        let output = succeed(self.client().args(arguments));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same where some of what it is given may fail.
    pub(crate) fn psql_whatever(&self, arguments: &[&str]) -> String {
        let output = self.client().args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn client(&self) -> Command {
        let mut command = Command::new(self.programs.join("psql"));
        command
            .args(["-X", "-U", "postgres", "-d", "postgres", "-h"])
            .arg(self.folder.path());
        command
    }

    /// The catalog as it is now.
    pub(crate) fn catalog(&self) -> Catalog {
        let mut builder = CatalogBuilder::new();
        for query in QUERIES {
            let output = self.psql(&[
                "-At",
                "-F",
                "\x1f",
                "-R",
                "\x1e",
                "-P",
                "null=\x1d",
                "-c",
                query.text,
            ]);
            for row in output.trim_end_matches('\n').split('\x1e') {
                if row.is_empty() {
                    continue;
                }
                let row: Vec<Option<&str>> = row
                    .split('\x1f')
                    .map(|value| (value != "\x1d").then_some(value))
                    .collect();
                builder.add(query.kind, &row).unwrap();
            }
        }
        builder.build(7)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The server refuses to run as root.
    fn unprivileged(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        if !is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"])
            .arg(program);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.data();
        let _ = self
            .unprivileged("pg_ctl")
            .args(["-m", "immediate", "-D"])
            .arg(data)
            .arg("stop")
            .output();
    }
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(Path::new("/proc/self")).unwrap()) == 0
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
