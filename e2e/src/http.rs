//! HTTP for tests: a lab over a target, raw bytes to a sidecar, and a target that keeps the raw
//! bytes it was sent.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use xtask::drivers;
use xtask::process::{Process, Scratch, free_port};
use xtask::sidecar::Sidecar;
use xtask::wait::wait_for;

use crate::DEADLINE;
use crate::lab::World;

/// What most tests allow: all under `/open` but for `/open/secret`.
pub const RULES: &str = "
  - {name: open, action: Allow, http: {methods: [GET, HEAD, POST, PUT], paths: [\"/open/**\"]}}
  - {name: secret, action: Deny, http: {methods: [\"*\"], paths: [\"/open/secret\", \"/open/secret/**\"]}}";

/// A Connection to an HTTP target on loopback, and a sidecar in front of it.
pub struct Api {
    /// Manifests and state.
    pub world: World,
    target: u16,
}

impl Api {
    /// To this port, without guardrails or policies; the credential is `Bearer real`.
    pub fn to(target: u16) -> Result<Api> {
        let api = Api {
            world: World::new()?,
            target,
        };
        api.world.manifest(
            "secret.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: api, namespace: databases}\n\
             stringData: {token: Bearer real}\n",
        )?;
        api.guardrails("")?;
        Ok(api)
    }

    /// The same, whose agents may do what `rules` say.
    pub fn ruled(target: u16, rules: &str) -> Result<Api> {
        let api = Api::to(target)?;
        api.world.policy("agents", rules)?;
        Ok(api)
    }

    /// (Re)writes the Connection with `yaml` below `guardrails:`, indented by four.
    pub fn guardrails(&self, yaml: &str) -> Result<()> {
        let guardrails = match yaml.trim() {
            "" => String::new(),
            _ => format!("  guardrails:{yaml}\n"),
        };
        self.world.connection(&format!(
            "  http:\n    url: \"http://127.0.0.1:{}\"\n    hosts: [api.test]\n    tls: {{mode: Disable}}\n    \
             credential: {{header: Authorization, secret: {{name: api, key: token}}}}\n  \
             consumers: {{namespaceSelector: {{}}}}\n{guardrails}",
            self.target
        ))
    }

    /// Starts its sidecar.
    pub fn start(&self) -> Result<Sidecar> {
        self.world.start_sidecar()
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.world.port())
    }

    /// curl without a configuration of the user's own; the status, an empty line, and the body.
    pub fn curl(&self, path: &str, arguments: &[&str]) -> Result<(u16, String)> {
        let mut command = Command::new("curl");
        command
            .args(["-q", "-sS", "--max-time", "60", "-w", "\n%{http_code}"])
            .args(arguments)
            .arg(self.url(path));
        let output = crate::clients::run(command, "")?;
        let text = output.out;
        let (body, code) = text.rsplit_once('\n').context("curl printed no status")?;
        Ok((code.trim().parse()?, body.to_owned()))
    }

    /// A raw connection to its sidecar.
    pub fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.world.port()))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(stream)
    }

    /// Sends raw bytes and gives the first answer, or what came of it before the sidecar closed.
    pub fn raw(&self, bytes: &[u8]) -> Result<String> {
        let mut stream = self.connect()?;
        // It may close before it has read all.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while !is_whole(&answer) {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// Whether an answer has come to its end: as many bytes as it says, or the last chunk.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    match length.and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(length) => body.len() >= length,
        None => body.ends_with("0\r\n\r\n"),
    }
}

/// A target that keeps what it is sent and answers each connection's first head with given bytes.
pub struct Target {
    port: u16,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Target {
    /// Answers with these pieces, flushed one by one, as soon as a head has come.
    pub fn answering(pieces: &[&[u8]]) -> Result<Target> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        let kept = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (pieces, kept) = (pieces.clone(), Arc::clone(&kept));
                std::thread::spawn(move || serve(stream, &pieces, &kept));
            }
        });
        Ok(Target { port, seen })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// All bytes that were sent to it so far.
    pub fn seen(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&seen).into_owned()
    }
}

fn serve(mut stream: TcpStream, pieces: &[Vec<u8>], kept: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 65536];
    let mut head = Vec::new();
    let mut answered = false;
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            return;
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        kept.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        head.extend_from_slice(bytes);
        if !answered && head.windows(4).any(|window| window == b"\r\n\r\n") {
            answered = true;
            for piece in pieces {
                if stream.write_all(piece).is_err() {
                    return;
                }
            }
        }
    }
}

/// A server of somebody else's on loopback; by itself `net/http` of Go, which says what it understood.
pub struct Server {
    _process: Process,
    scratch: Scratch,
    port: u16,
}

impl Server {
    /// Starts one.
    pub fn start() -> Result<Server> {
        let mut command = go()?;
        command.arg("serve");
        Server::run(command)
    }

    /// Starts another program that serves on the port of loopback that is its last argument.
    pub fn run(mut command: Command) -> Result<Server> {
        let port = free_port()?;
        let scratch = Scratch::new("server")?;
        command.arg(port.to_string());
        let log = scratch.path().join("log");
        let mut process = Process::spawn(command, &log, "KILL")?;
        wait_for("the server to listen", Duration::from_secs(30), || {
            if let Some(status) = process.ended()? {
                bail!(
                    "it ended with {status}: {}",
                    std::fs::read_to_string(&log).unwrap_or_default()
                );
            }
            Ok(TcpStream::connect(("127.0.0.1", port)).ok())
        })?;
        Ok(Server {
            _process: process,
            scratch,
            port,
        })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it printed: Go's a line of JSON for each request that it was sent.
    pub fn seen(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.scratch.path().join("log"))?)
    }
}

/// The program of `e2e/drivers/go-http`.
pub fn go() -> Result<Command> {
    Ok(Command::new(drivers::prepared("go-http")?.join("main")))
}
