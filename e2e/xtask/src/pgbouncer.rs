//! PgBouncer in session mode: the peer that the benchmarks compare with.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::needs::find_program;
use crate::process::{Process, Scratch, demoted, free_port, hand_over};
use crate::wait::wait_for;

/// A running PgBouncer in front of one database.
#[derive(Debug)]
pub struct PgBouncer {
    _process: Process,
    _scratch: Scratch,
    port: u16,
}

impl PgBouncer {
    /// Starts one that logs in to `database` at `port` as `user` with `password`, and lets
    /// anybody in on loopback, as the sidecar does.
    pub fn start(port: u16, database: &str, user: &str, password: &str) -> Result<PgBouncer> {
        let program = find_program("pgbouncer").context("no pgbouncer on this machine")?;
        let scratch = Scratch::new("pgbouncer")?;
        let own = free_port()?;
        let folder = scratch.path().display();
        let users = scratch.path().join("users.txt");
        fs::write(&users, format!("\"{user}\" \"{password}\"\n"))?;
        let config = scratch.path().join("pgbouncer.ini");
        fs::write(
            &config,
            format!(
                "[databases]\n\
                 {database} = host=127.0.0.1 port={port} dbname={database} user={user} password={password}\n\
                 [pgbouncer]\n\
                 listen_addr = 127.0.0.1\nlisten_port = {own}\nunix_socket_dir =\n\
                 auth_type = any\nauth_file = {folder}/users.txt\n\
                 pool_mode = session\nmax_client_conn = 500\ndefault_pool_size = 100\n\
                 ignore_startup_parameters = extra_float_digits\n\
                 log_connections = 0\nlog_disconnections = 0\nlog_stats = 0\n"
            ),
        )?;
        hand_over(scratch.path())?;
        let mut command = demoted(&program)?;
        command.arg(&config);
        let log = scratch.path().join("log");
        let mut process = Process::spawn(command, &log, "KILL")?;
        wait_for("PgBouncer to listen", Duration::from_secs(20), || {
            if let Some(status) = process.ended()? {
                bail!(
                    "PgBouncer ended with {status}: {}",
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
            Ok(TcpStream::connect(("127.0.0.1", own)).ok())
        })?;
        Ok(PgBouncer {
            _process: process,
            _scratch: scratch,
            port: own,
        })
    }

    /// Its loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }
}
