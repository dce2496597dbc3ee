//! `cargo e2e`: formatting, lints, licences, and every test, with a time for each.
//!
//! Tests that take a real Kubernetes are in files whose names start with `cluster_`: they run one
//! file after the other beside all other tests, a cluster for each file, and print when both are
//! through. They take root; without it a line says what was not
//! tested. The few tests that fail are run once more: see `failures`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cluster::Cluster;
use crate::image::ready_made::ReadyMade;
use crate::needs::{self, Need};
use crate::options::Options;
use crate::process::is_root;
use crate::workspace::{self, BINARIES_VARIABLE, Profile};
use crate::{cluster, failures, fuzz, licenses};

/// What the tests take that need no cluster.
const NEEDS: [Need; 19] = [
    Need::CCompiler,
    Need::LibClang,
    Need::PostgreSql,
    Need::Maven,
    Need::Xz,
    Need::Releases,
    Need::PgBouncer,
    Need::Promtool,
    Need::Nginx,
    Need::Curl,
    Need::Git,
    Need::PythonVenv,
    Need::PythonPackages,
    Need::Jdk,
    Need::Ruby,
    Need::Go,
    Need::Drivers,
    Need::Rustfmt,
    Need::Clippy,
];

/// Set to 0 for tests that are not to bring up a cluster.
pub const CLUSTER_VARIABLE: &str = "CHAPERONE_CLUSTER";

/// Runs all of them; the first that fails ends the run.
pub fn run(options: &Options) -> Result<()> {
    let mut phases = Phases::default();
    let mut wanted = NEEDS.to_vec();
    if options.full {
        wanted.push(Need::CxxCompiler);
    }
    if is_root() {
        wanted.extend(cluster::NEEDS.iter().filter(|need| !NEEDS.contains(need)));
    }
    phases.run("install", || needs::install(&wanted, options.yes))?;
    phases.run("format", || cargo(&["fmt", "--all", "--check"], &[]))?;
    phases.run("licences", || licenses::check(options.full))?;
    // Go takes as long as all of Rust: it builds beside it, and whoever wants it waits for it.
    if is_root() {
        std::thread::spawn(cluster::program::folder);
    }
    phases.run("lints", || {
        cargo(
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ],
            &[],
        )
    })?;
    // The promises run the real programs, which `cargo test` alone does not build. All of it at
    // once, or cargo would build the dependencies again with the features of two programs only.
    phases.run("build", || {
        cargo(&["build", "--workspace", "--all-targets", "--locked"], &[])
    })?;
    // A promise that fails says what is wrong in its own words.
    let built = workspace::folder(Profile::Dev).display().to_string();
    let mut variables = vec![
        (BINARIES_VARIABLE, built.as_str()),
        ("RUST_LIB_BACKTRACE", "0"),
    ];
    if options.full {
        variables.push(("CHAPERONE_FULL", "1"));
        phases.run("fuzz", fuzz::run)?;
    }
    let mut unstable = Vec::new();
    // Either waits more than it computes: together they take little longer than the longer one.
    let kubernetes = is_root().then(|| {
        let variables: Vec<(&'static str, String)> = variables
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        std::thread::spawn(move || on_kubernetes(&variables))
    });
    let tests = phases.run("tests", || {
        let words = "test --workspace --locked --no-fail-fast";
        println!("$ cargo {words}");
        let log = log_of("tests");
        fs::write(&log, "")?;
        let with = |more: &[String]| {
            let mut command = workspace::cargo();
            command
                .args(words.split(' '))
                .args(more.first().map(|_| "--"))
                .args(more)
                .envs(variables.iter().copied())
                .env(CLUSTER_VARIABLE, "0");
            command
        };
        unstable.push(failures::all_passed(with, &log, io::stdout())?);
        Ok(())
    });
    // Whatever became of those: it has a cluster that it must take down again.
    if let Some(kubernetes) = kubernetes {
        let joined = phases.run("kubernetes", || match kubernetes.join() {
            Ok(result) => {
                unstable.extend(result?);
                Ok(())
            }
            Err(_) => bail!("the tests on a Kubernetes panicked"),
        });
        println!(
            "{}",
            fs::read_to_string(log_of("kubernetes")).unwrap_or_default()
        );
        both(tests, joined)?;
    } else {
        tests?;
    }
    println!("\n{}{}", unstable.concat(), phases.table());
    if !is_root() {
        println!("NOT TESTED: the promises on a Kubernetes, which takes root: sudo cargo e2e");
    }
    Ok(())
}

/// Where the output of tests goes; those on a Kubernetes run while others print theirs.
fn log_of(tests: &str) -> PathBuf {
    workspace::root().join(format!("target/{tests}.log"))
}

/// Builds a Kubernetes and runs the tests that take one. Gives what is to be told of those that are
/// unstable.
fn on_kubernetes(variables: &[(&'static str, String)]) -> Result<[String; 2]> {
    cluster::program::folder()?;
    let log = log_of("kubernetes");
    fs::write(&log, "")?;
    // Each test waits for pods most of its time, but a node has only so many processors.
    let words = "test --workspace --locked --no-fail-fast --test cluster_* -- --test-threads 3";
    let start = Instant::now();
    let with = |more: &[String]| {
        let mut command = workspace::cargo();
        command
            .args(words.split(' '))
            .args(more)
            .envs(variables.iter().map(|(name, value)| (name, value)));
        command
    };
    let passed = failures::all_passed(with, &log, io::sink());
    println!(
        "\n== tests on a Kubernetes: {} s",
        start.elapsed().as_secs()
    );
    let (passed, operator) = both(passed, operator_on_a_cluster(&log))?;
    Ok([passed, operator])
}

/// Where both failed both are told: what failed here says nothing of what failed there.
fn both<A, B>(one: Result<A>, other: Result<B>) -> Result<(A, B)> {
    match (one, other) {
        (Err(one), Err(other)) => Err(one.context(format!("{other:#}"))),
        (one, other) => Ok((one?, other?)),
    }
}

/// The operator's own tests that want a real API server (`operator/tests/cluster`), on a cluster that
/// has nothing of ours yet.
fn operator_on_a_cluster(log: &Path) -> Result<String> {
    let words = ["test", "--workspace", "--locked", "--no-run"];
    let said = workspace::cargo().args(words).output()?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    // Cargo names each: `Executable tests/cluster/main.rs (target/debug/deps/cluster-0a1b…)`.
    let program = said
        .lines()
        .filter(|line| line.contains("tests/cluster/main.rs"))
        .find_map(|line| line.split_once('(')?.1.strip_suffix(')'))
        .with_context(|| format!("cargo names no test of the operator on a cluster:\n{said}"))?;
    let program = workspace::root().join(program);
    let state = std::env::temp_dir().join(format!("chaperone-operator-{}", std::process::id()));
    let cluster = Cluster::up(&state)?;
    cluster.load(ReadyMade::Postgres)?;
    let with = |more: &[String]| {
        let mut command = cluster.command(&program);
        command
            .args(["--ignored", "--test-threads", "2"])
            .args(more);
        command
    };
    let passed = failures::all_passed(with, log, io::sink());
    cluster.down()?;
    passed
}

fn cargo(arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    println!("$ cargo {}", arguments.join(" "));
    let mut command: Command = workspace::cargo();
    let status = command
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .status()
        .context("starting cargo")?;
    if !status.success() {
        bail!("cargo {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

#[derive(Default)]
struct Phases(Vec<(&'static str, Duration)>);

impl Phases {
    fn run(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n== {name}");
        let start = Instant::now();
        work().with_context(|| format!("phase {name}, after:\n{}", self.table()))?;
        self.0.push((name, start.elapsed()));
        Ok(())
    }

    fn table(&self) -> String {
        self.0
            .iter()
            .map(|(name, time)| format!("  {name:<10} {:>6.1} s  ok", time.as_secs_f64()))
            .collect::<Vec<_>>()
            .join("\n")
    }
}
