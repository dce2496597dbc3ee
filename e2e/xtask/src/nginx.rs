//! nginx on a port of its own: the target of promises on HTTP, and the peer of its benchmarks.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::needs::find_program;
use crate::process::{Process, Scratch, free_port};
use crate::wait::wait_for;

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    _process: Process,
    scratch: Scratch,
    port: u16,
}

impl Nginx {
    /// Starts one whose only server has these directives; `{folder}` in them is its own folder,
    /// `{port}` its port.
    pub fn start(directives: &str) -> Result<Nginx> {
        let program = find_program("nginx").context("no nginx on this machine")?;
        let scratch = Scratch::new("nginx")?;
        let port = free_port()?;
        let folder = scratch.path().display().to_string();
        let directives = directives
            .replace("{folder}", &folder)
            .replace("{port}", &port.to_string());
        let user = match crate::process::is_root() {
            true => "user root;",
            false => "",
        };
        let configuration = format!(
            "daemon off;
{user}
worker_processes 2;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  default_type application/json;
  keepalive_requests 1000000;
  client_max_body_size 0;
{directives}
}}
"
        );
        let file = scratch.path().join("nginx.conf");
        fs::write(&file, configuration)?;
        let mut command = Command::new(program);
        command.arg("-p").arg(scratch.path()).arg("-c").arg(&file);
        let log = scratch.path().join("log");
        let mut process = Process::spawn(command, &log, "QUIT")?;
        wait_for("nginx to listen", Duration::from_secs(20), || {
            if let Some(status) = process.ended()? {
                bail!(
                    "nginx ended with {status}: {}",
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
            Ok(TcpStream::connect(("127.0.0.1", port)).ok())
        })?;
        Ok(Nginx {
            _process: process,
            scratch,
            port,
        })
    }

    /// Its loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A file in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        Path::new(self.scratch.path()).join(name)
    }
}
