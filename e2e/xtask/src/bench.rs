//! `cargo bench-all`: what being chaperoned costs, always beside going without and beside
//! PgBouncer, alternating in one run on one machine. Ratios and medians are what to quote. What only
//! a cluster has is measured on one (`cluster`), which takes root.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::needs::{self, Need};
use crate::options::Options;
use crate::pgbouncer::PgBouncer;
use crate::postgres::{self, Postgres, Settings, without_pg_variables};
use crate::process::{Scratch, free_port, succeed};
use crate::sidecar::{Sidecar, Standalone};
use crate::workspace::{self, Binaries, Profile};

mod cluster;
mod http;
mod rows;

const DATABASE: &str = "bench";
const ROLE: &str = "bench_agent";
const PASSWORD: &str = "bench-password";

/// One row of the table.
struct Work {
    name: &'static str,
    clients: u32,
    arguments: &'static [&'static str],
}

const WORK: [Work; 7] = [
    Work {
        name: "select, simple, 1 client",
        clients: 1,
        arguments: &["-S"],
    },
    Work {
        name: "select, prepared, 1 client",
        clients: 1,
        arguments: &["-S", "-M", "prepared"],
    },
    Work {
        name: "select, simple, 8 clients",
        clients: 8,
        arguments: &["-S"],
    },
    Work {
        name: "select, prepared, 8 clients",
        clients: 8,
        arguments: &["-S", "-M", "prepared"],
    },
    Work {
        name: "select, simple, 64 clients",
        clients: 64,
        arguments: &["-S"],
    },
    Work {
        name: "select, prepared, 64 clients",
        clients: 64,
        arguments: &["-S", "-M", "prepared"],
    },
    Work {
        name: "TPC-B, simple, 8 clients",
        clients: 8,
        arguments: &[],
    },
];

/// Prints the tables.
pub fn run(options: &Options) -> Result<()> {
    let part = options.only.as_deref();
    let wants = |name: &str| part.is_none_or(|part| part == name);
    needs::install(&needs::BUILD, options.yes)?;
    if wants("pgbench") {
        needs::install(&[Need::PostgreSql, Need::PgBouncer], options.yes)?;
        pgbench(options)?;
    }
    if wants("rows") {
        needs::install(&[Need::PostgreSql], options.yes)?;
        rows::run(options)?;
    }
    if wants("http") {
        needs::install(&[Need::Nginx, Need::H2load], options.yes)?;
        http::run(options)?;
    }
    if wants("micro") {
        micro()?;
    }
    if wants("cluster") {
        cluster::run(options)?;
    }
    Ok(())
}

fn pgbench(options: &Options) -> Result<()> {
    let binaries = Binaries::build(Profile::Release)?;
    let server = server()?;
    let bouncer = PgBouncer::start(server.port(), DATABASE, ROLE, PASSWORD)?;
    let port = free_port()?;
    let (_scratch, sidecar) = started(&binaries, "bench", &manifest(server.port(), port))?;
    let peers = [
        ("direct", server.port()),
        ("pgbouncer", bouncer.port()),
        ("chaperone", port),
    ];
    let pgbench = server.bin().join("pgbench");
    succeed(client(&pgbench, server.port()).args(["-i", "-q", "-s", "10"]))?;

    println!(
        "{}; {}; PgBouncer in session mode; clients and servers share it\n",
        machine()?,
        postgres::version(server.bin())?,
    );
    let measured = Measured::of(
        options.rounds,
        &WORK,
        |work| (work.name, peers),
        |port, work| {
            measure(&pgbench, port, work, options.seconds)
                .with_context(|| format!("the sidecar said:\n{}", sidecar.output()))
        },
    )?;
    println!("\n{}", render(&measured));
    println!(
        "durability: reads Written, writes Synced; masking armed on one column; no TLS on either side"
    );
    Ok(())
}

/// A sidecar for the agent of all that is measured, with these manifests, in a folder of its own, which
/// goes when what is given is dropped.
fn started(binaries: &Binaries, folder: &str, manifests: &str) -> Result<(Scratch, Sidecar)> {
    let scratch = Scratch::new(folder)?;
    let there = scratch.path().join("manifests");
    fs::create_dir(&there)?;
    fs::write(there.join("bench.yaml"), manifests)?;
    let sidecar = Standalone {
        program: &binaries.sidecar,
        manifests: &there,
        state: &scratch.path().join("state"),
        subject: "bench/agent",
        purpose: None,
        log: &scratch.path().join("sidecar.log"),
    }
    .start()?;
    Ok((scratch, sidecar))
}

/// A server with the database and the role of all that is measured.
fn server() -> Result<Postgres> {
    let settings = Settings {
        port: None,
        durable: true,
        extra: Vec::new(),
        ..Settings::for_tests()
    };
    let server = Postgres::start(&settings)?;
    server.sql(
        "postgres",
        &format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'"),
    )?;
    server.sql(
        "postgres",
        &format!("CREATE DATABASE {DATABASE} OWNER {ROLE}"),
    )?;
    Ok(server)
}

/// Policy, parsing and masking armed, as a user would have them.
fn manifest(server: u16, listen: u16) -> String {
    let guardrails = "  guardrails:
    rules:
    - {name: no-ddl, action: Deny, sql: {effects: [SchemaCreate, SchemaAlter, SchemaDestroy]}, message: No schema changes.}
    masking:
    - {name: filler, columns: [\"public.pgbench_accounts.filler\"], strategy: Redact}
";
    connection("bench-db", server, listen, guardrails) + &shared(&["bench-db"])
}

/// A Connection that `listen`s, with these guardrails.
fn connection(name: &str, server: u16, listen: u16, guardrails: &str) -> String {
    format!(
        "---
apiVersion: chaperone.dev/v1alpha1
kind: Connection
metadata:
  name: {name}
  namespace: bench
  annotations: {{chaperone.dev/listen-port: \"{listen}\"}}
spec:
  postgres:
    host: 127.0.0.1
    port: {server}
    database: {DATABASE}
    tls: {{mode: Disable}}
    credential: {{secret: {{name: bench-agent}}}}
{guardrails}"
    )
}

/// The credential, and the policy for these Connections.
fn shared(connections: &[&str]) -> String {
    format!(
        "---
apiVersion: v1
kind: Secret
metadata: {{name: bench-agent, namespace: bench}}
stringData: {{username: {ROLE}, password: {PASSWORD}}}
---
apiVersion: chaperone.dev/v1alpha1
kind: AccessPolicy
metadata: {{name: bench, namespace: bench}}
spec:
  subjects: [{{serviceAccount: agent}}]
  connections: [{}]
  rules:
  - {{name: read, action: Allow, sql: {{effects: [Read, BulkExport], relations: [\"public.*\"]}}}}
  - {{name: write, action: Allow, sql: {{effects: [Write, Modify], relations: [\"public.pgbench_*\"]}}}}
",
        connections.join(", ")
    )
}

fn client(pgbench: &std::path::Path, port: u16) -> Command {
    let mut command = Command::new(pgbench);
    without_pg_variables(&mut command);
    command
        .env("PGPASSWORD", PASSWORD)
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", ROLE])
        .arg(DATABASE);
    command
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    tps: f64,
    latency_ms: f64,
}

fn measure(pgbench: &std::path::Path, port: u16, work: &Work, seconds: u32) -> Result<Cell> {
    let mut command = client(pgbench, port);
    command
        .args(work.arguments)
        // -n: no VACUUM, which the agent may not run.
        .args([
            "-n",
            "-c",
            &work.clients.to_string(),
            "-j",
            "2",
            "-T",
            &seconds.to_string(),
        ]);
    let output = String::from_utf8_lossy(&succeed(&mut command)?.stdout).into_owned();
    if output.contains("number of failed transactions: 0") || !output.contains("number of failed") {
        let figure = |start: &str| -> Option<f64> {
            let line = output.lines().find(|line| line.starts_with(start))?;
            line.strip_prefix(start)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        };
        return Ok(Cell {
            tps: figure("tps = ").with_context(|| format!("no tps in:\n{output}"))?,
            latency_ms: figure("latency average = ")
                .with_context(|| format!("no latency in:\n{output}"))?,
        });
    }
    bail!("pgbench had failed transactions:\n{output}")
}

/// A peer's name and port.
type Peer = (&'static str, u16);

/// What rounds of measuring gave, by work and peer.
struct Measured<C>(BTreeMap<(&'static str, &'static str), Vec<C>>);

impl<C> Measured<C> {
    /// Measures each work through each of its three peers, round after round, so that what the machine
    /// does meanwhile meets all alike.
    fn of<W>(
        rounds: u32,
        works: &[W],
        peers: impl Fn(&W) -> (&'static str, [Peer; 3]),
        measure: impl Fn(u16, &W) -> Result<C>,
    ) -> Result<Measured<C>> {
        let mut cells: BTreeMap<_, Vec<C>> = BTreeMap::new();
        for round in 1..=rounds {
            for work in works {
                let (name, peers) = peers(work);
                for (peer, port) in peers {
                    let cell =
                        measure(port, work).with_context(|| format!("{name} through {peer}"))?;
                    cells.entry((name, peer)).or_default().push(cell);
                }
            }
            println!("round {round} of {rounds} done");
        }
        Ok(Measured(cells))
    }

    fn median(&self, work: &'static str, peer: &'static str, of: impl Fn(&C) -> f64) -> f64 {
        let cells = self.0.get(&(work, peer)).into_iter().flatten();
        let mut values: Vec<f64> = cells.map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

fn render(measured: &Measured<Cell>) -> String {
    let mut lines = vec![
        "| work (medians) | direct tps | PgBouncer tps | Chaperone tps | of direct | of PgBouncer | added ms a transaction |"
            .to_owned(),
        "|---|---:|---:|---:|---:|---:|---:|".to_owned(),
    ];
    for work in &WORK {
        let tps = |peer| measured.median(work.name, peer, |cell| cell.tps);
        let latency = |peer| measured.median(work.name, peer, |cell| cell.latency_ms);
        let (direct, bouncer, ours) = (tps("direct"), tps("pgbouncer"), tps("chaperone"));
        lines.push(format!(
            "| {} | {direct:.0} | {bouncer:.0} | {ours:.0} | {:.2} | {:.2} | {:+.3} |",
            work.name,
            ours / direct,
            ours / bouncer,
            latency("chaperone") - latency("direct"),
        ));
    }
    lines.join("\n")
}

/// What a figure is worth nothing without.
fn machine() -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let cores = std::thread::available_parallelism()?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split_whitespace().next().unwrap_or_default();
    Ok(format!(
        "machine: {model}, {cores} cores, {} GiB, Linux {}, load before {load}",
        kib / (1 << 20),
        kernel.trim(),
    ))
}

/// The crates' own benches, each as its crate prints it; built together, or each would build what
/// all stand on anew.
fn micro() -> Result<()> {
    let status = workspace::cargo()
        .args(["bench", "--quiet"])
        .args(["-p", "chaperone-policy", "--bench", "decide"])
        .args(["-p", "chaperone-sql", "--bench", "classify"])
        .args(["-p", "chaperone-mask", "--bench", "mask"])
        .args(["-p", "chaperone-evidence", "--bench", "evidence"])
        // Neither has any: with them the features are those of the programs, whose build serves then.
        .args(["-p", "chaperone-sidecar", "-p", "xtask"])
        .status()
        .context("starting cargo bench")?;
    ensure!(status.success(), "cargo bench ended with {status}");
    Ok(())
}
