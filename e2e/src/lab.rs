//! One test's world: manifests, state, ports, and a sidecar in it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use xtask::process::free_port;
use xtask::sidecar::{Sidecar, Standalone};
use xtask::wait::wait_for;
use xtask::workspace::{self, Binaries, Profile};

use crate::clients::{self, Background, Transcript};
use crate::faults::Faults;
use crate::memory_limit::MemoryLimit;
use crate::raw::Client;
use crate::server::{Database, PASSWORD};
use crate::{DEADLINE, Scratch};

/// Masks both sensitive columns of the seed.
pub const MASKING: &str = "
    masking:
    - {name: emails, columns: [\"public.customers.email\"], strategy: Redact}
    - {name: cards, columns: [\"public.customers.card_number\"], strategy: Partial, partial: {keepLast: 4}}";

/// Our two programs, built if nobody has.
pub fn binaries() -> Result<&'static Binaries> {
    static BINARIES: OnceLock<Result<Binaries, String>> = OnceLock::new();
    BINARIES
        .get_or_init(|| Binaries::build(profile()).map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("{error}"))
}

/// The operator, built if nobody has.
pub fn operator() -> Result<PathBuf> {
    workspace::operator(profile())
}

fn profile() -> Profile {
    if cfg!(debug_assertions) {
        Profile::Dev
    } else {
        Profile::Release
    }
}

/// Manifests, state and a port: what a sidecar needs, whatever it is for.
pub struct World {
    scratch: Scratch,
    listen: u16,
    subject: String,
}

impl World {
    /// Empty, for `shop/report-agent`.
    pub fn new() -> Result<World> {
        let scratch = Scratch::new("lab")?;
        fs::create_dir(scratch.path().join("manifests"))?;
        Ok(World {
            scratch,
            listen: free_port()?,
            subject: "shop/report-agent".to_owned(),
        })
    }

    /// Starts a sidecar and waits until it listens.
    pub fn start_sidecar(&self) -> Result<Sidecar> {
        self.standalone(&self.parts())?.start()
    }

    /// The port its sidecar listens on.
    pub fn port(&self) -> u16 {
        self.listen
    }

    /// Its manifests folder.
    pub fn manifests(&self) -> PathBuf {
        self.scratch.path().join("manifests")
    }

    /// Its state folder.
    pub fn state(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    /// A folder of its own for anything else.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// Writes a manifest as an editor would: a new file that takes the old one's place.
    pub fn manifest(&self, name: &str, yaml: &str) -> Result<()> {
        let draft = self.scratch.path().join("draft");
        fs::write(&draft, yaml)?;
        Ok(fs::rename(draft, self.manifests().join(name))?)
    }

    /// (Re)writes the Connection with this `spec:`, indented by two.
    pub fn connection(&self, spec: &str) -> Result<()> {
        self.manifest(
            "connection.yaml",
            &format!(
                "apiVersion: chaperone.dev/v1alpha1\nkind: Connection\nmetadata:\n  name: orders-db\n  \
                 namespace: databases\n  annotations: {{chaperone.dev/listen-port: \"{}\"}}\nspec:\n{spec}",
                self.listen
            ),
        )
    }

    /// (Re)writes an AccessPolicy of the agents of `shop` with `rules`, a YAML list indented by two,
    /// and whatever follows it in the spec.
    pub fn policy(&self, name: &str, rules: &str) -> Result<()> {
        self.manifest(
            &format!("{name}.yaml"),
            &format!(
                "apiVersion: chaperone.dev/v1alpha1\nkind: AccessPolicy\n\
                 metadata: {{name: {name}, namespace: shop}}\nspec:\n  \
                 subjects: [{{serviceAccount: report-agent}}, {{serviceAccount: other-agent}}]\n  \
                 connections: [databases/orders-db]\n  rules:\n{rules}\n"
            ),
        )
    }

    /// Removes a manifest.
    pub fn remove(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.manifests().join(name))?)
    }

    /// The name of the one approval request that is pending.
    pub fn pending(&self) -> Result<String> {
        wait_for("an approval request", DEADLINE, || {
            let list = self.plugin(&["approvals", "-o", "json"])?;
            let Ok(value) = serde_json::from_str::<Value>(&list.out) else {
                return Ok(None);
            };
            Ok(pending_in(&value))
        })
    }

    fn standalone<'a>(&'a self, parts: &'a Parts) -> Result<Standalone<'a>> {
        Ok(Standalone {
            program: &binaries()?.sidecar,
            manifests: &parts.manifests,
            state: &parts.state,
            subject: &self.subject,
            purpose: Some("promises"),
            log: &parts.log,
        })
    }

    fn parts(&self) -> Parts {
        Parts {
            manifests: self.manifests(),
            state: self.state(),
            log: self.scratch.path().join("sidecar.log"),
        }
    }

    /// `chaperone-sidecar check` of the manifests.
    pub fn check(&self) -> Result<Transcript> {
        let mut command = Command::new(&binaries()?.sidecar);
        command
            .arg("check")
            .arg("--manifests")
            .arg(self.manifests());
        clients::run(command, "")
    }

    /// `kubectl-chaperone … --state` on this lab's state.
    pub fn plugin(&self, arguments: &[&str]) -> Result<Transcript> {
        plugin(&self.state(), arguments)
    }

    /// The same with `-o json`, parsed.
    pub fn plugin_json(&self, arguments: &[&str]) -> Result<Value> {
        let arguments = [arguments, &["-o", "json"]].concat();
        let text = self.plugin(&arguments)?.ok()?;
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
    }

    /// Fails unless `verify --all` says that everything is whole.
    pub fn verify(&self) -> Result<()> {
        let verdict = self.plugin(&["verify", "--all"])?;
        ensure!(verdict.code == Some(0), "verify: {}", verdict.all());
        Ok(())
    }
}

/// Manifests, state and ports of one test.
pub struct Lab {
    /// The test's own database.
    pub database: Database,
    world: World,
    upstream: u16,
}

impl std::ops::Deref for Lab {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Lab {
    /// A Connection straight to a database of its own, without guardrails or policies.
    pub fn new() -> Result<Lab> {
        let database = Database::new()?;
        let upstream = database.port;
        Lab::with(database, upstream)
    }

    /// The same, reaching the server through something that listens on `upstream`.
    pub fn behind(database: Database, upstream: u16) -> Result<Lab> {
        Lab::with(database, upstream)
    }

    fn with(database: Database, upstream: u16) -> Result<Lab> {
        let lab = Lab {
            database,
            world: World::new()?,
            upstream,
        };
        lab.guardrails("")?;
        lab.manifest(
            "secret.yaml",
            &format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: agent, namespace: databases}}\n\
                 stringData: {{username: {}, password: {PASSWORD}}}\n",
                lab.database.name
            ),
        )?;
        Ok(lab)
    }

    /// Runs as another subject; policies select `shop/report-agent` and `shop/other-agent`.
    pub fn subject(mut self, subject: &str) -> Lab {
        subject.clone_into(&mut self.world.subject);
        self
    }

    /// (Re)writes the Connection with `yaml` below `guardrails:`, indented by four.
    pub fn guardrails(&self, yaml: &str) -> Result<()> {
        let guardrails = match yaml.trim() {
            "" => String::new(),
            _ => format!("  guardrails:{yaml}\n"),
        };
        self.connection(&format!(
            "  postgres:\n    host: 127.0.0.1\n    port: {}\n    database: {}\n    tls: {{mode: Disable}}\n    \
             credential: {{secret: {{name: agent}}}}\n  consumers: {{namespaceSelector: {{}}}}\n{guardrails}",
            self.upstream, self.database.name
        ))
    }

    /// Starts the sidecar and waits until it listens.
    pub fn start(&self) -> Result<Running<'_>> {
        let sidecar = self.start_sidecar()?;
        Ok(Running { lab: self, sidecar })
    }

    /// Starts the sidecar with failing disks.
    pub fn start_with(&self, faults: &Faults) -> Result<Running<'_>> {
        let parts = self.parts();
        let mut command = self.standalone(&parts)?.command();
        faults.apply(&mut command)?;
        let sidecar = Sidecar::spawn(command, &parts.log)?.ready()?;
        Ok(Running { lab: self, sidecar })
    }

    /// Starts the sidecar where it gets no more memory than `limit` has.
    pub fn start_within(&self, limit: &MemoryLimit) -> Result<Running<'_>> {
        let parts = self.parts();
        let command = limit.around(&self.standalone(&parts)?.command());
        let sidecar = Sidecar::spawn(command, &parts.log)?.ready()?;
        Ok(Running { lab: self, sidecar })
    }

    /// Starts the sidecar so that it seals for these recipients of age, and not for its own key.
    pub fn start_sealed_for(&self, recipients: &[&str]) -> Result<Running<'_>> {
        let parts = self.parts();
        let mut command = self.standalone(&parts)?.command();
        for recipient in recipients {
            command.args(["--seal-for", recipient]);
        }
        let sidecar = Sidecar::spawn(command, &parts.log)?.ready()?;
        Ok(Running { lab: self, sidecar })
    }

    /// Faults for the evidence of this lab.
    pub fn faults(&self) -> Result<Faults> {
        Faults::new(&self.state(), &self.scratch.path().join("faults"))
    }

    /// Runs the sidecar where it is expected to end by itself.
    pub fn start_and_end(&self) -> Result<Transcript> {
        let parts = self.parts();
        clients::run(self.standalone(&parts)?.command(), "")
    }
}

/// `kubectl-chaperone … --state` on any folder.
pub fn plugin(state: &Path, arguments: &[&str]) -> Result<Transcript> {
    let mut command = Command::new(&binaries()?.plugin);
    command.args(arguments).arg("--state").arg(state);
    clients::run(command, "")
}

struct Parts {
    manifests: PathBuf,
    state: PathBuf,
    log: PathBuf,
}

/// A lab whose sidecar runs.
pub struct Running<'lab> {
    /// Where it runs.
    pub lab: &'lab Lab,
    /// The sidecar.
    pub sidecar: Sidecar,
}

impl Running<'_> {
    /// Logs in with the raw client.
    pub fn client(&self) -> Result<Client> {
        Client::connect(self.lab.listen, &self.lab.database.name)
            .with_context(|| format!("the sidecar said:\n{}", self.sidecar.output()))
    }

    /// Runs a psql script.
    pub fn psql(&self, script: &str) -> Result<Transcript> {
        clients::run(self.psql_command()?, script)
    }

    /// Starts a psql script and goes on.
    pub fn psql_in_background(&self, script: &str) -> Result<Background> {
        Background::start(self.psql_command()?, script)
    }

    /// psql against this sidecar.
    pub fn psql_command(&self) -> Result<Command> {
        Ok(clients::psql(
            self.lab.database.server()?.bin(),
            self.lab.listen,
            &self.lab.database.name,
        ))
    }

    /// Runs Python with psycopg 3.
    pub fn python(&self, script: &str) -> Result<Transcript> {
        clients::run(
            clients::python(self.lab.listen, &self.lab.database.name, script)?,
            "",
        )
    }

    /// The name of the one approval request that is pending.
    pub fn pending(&self) -> Result<String> {
        self.lab.pending()
    }

    /// The metrics, from the admin address that the sidecar printed.
    pub fn metrics(&self) -> Result<String> {
        let said = self.sidecar.output();
        let address = said
            .lines()
            .find_map(|line| line.strip_prefix("admin on http://"))
            .context("no admin address")?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Ok(answer)
    }

    /// Ends it by SIGTERM and waits.
    pub fn stop(mut self) -> Result<()> {
        self.sidecar.process().signal("TERM")?;
        let status = self.sidecar.process().wait(DEADLINE)?;
        ensure!(
            status.success(),
            "SIGTERM ended it with {status}:\n{}",
            self.sidecar.output()
        );
        Ok(())
    }

    /// Ends it by SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.sidecar.process().kill().map(|_| ())
    }

    /// Resident memory in KiB.
    pub fn resident(&mut self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.sidecar.process().id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let Some(value) = line.and_then(|rest| rest.split_whitespace().next()) else {
            bail!("no VmRSS");
        };
        Ok(value.parse()?)
    }
}

/// The name of a request whose phase is Pending, in whatever list the plugin prints.
fn pending_in(value: &Value) -> Option<String> {
    match value {
        Value::Array(items) => items.iter().find_map(pending_in),
        Value::Object(fields) => {
            let phase = fields
                .get("phase")
                .or_else(|| value.pointer("/status/phase"));
            let name = fields
                .get("name")
                .or_else(|| value.pointer("/metadata/name"));
            match (phase.and_then(Value::as_str), name.and_then(Value::as_str)) {
                (Some("Pending"), Some(name)) => Some(name.to_owned()),
                _ => fields.values().find_map(pending_in),
            }
        }
        _ => None,
    }
}
