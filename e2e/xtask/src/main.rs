//! `cargo demo`, `cargo e2e`, `cargo bench-all`: see `--help`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line prints"
)]

use std::process::ExitCode;

use anyhow::{Result, bail};
use xtask::image::ours;
use xtask::options::Options;
use xtask::{bench, checks, cluster, demo, licenses};

const USAGE: &str = "\
cargo demo [--yes] [--keep] [--release]      a denied statement, a masked read and an approval, within a minute
cargo e2e [--yes] [--full]                   formatting, lints, licences, all tests
cargo bench-all [--yes] [--seconds N] [--rounds N] [--only pgbench|rows|http|micro|cluster]
                                             what being chaperoned costs, against direct and PgBouncer; as
                                             root also on a Kubernetes
cargo image [--load kind|containerd] [--push REGISTRY/PATH]
                                             the images of sidecar and operator, for your own cluster, as
                                             docker-archives in target/images; --load and --push take
                                             kind, ctr, or one of skopeo, crane, podman, docker
cargo cluster up|down|kubectl|…              a Kubernetes of your own: cargo cluster --help
cargo xtask licences [--full]                only that part of cargo e2e

--yes      install what is missing without asking
--keep     leave the demo running and print how to connect
--release  build the demo optimised
--full     the long corpora too, and cargo-deny with its advisory database
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next().unwrap_or_default();
    if task == "cluster" {
        return cluster::command_line::run(arguments);
    }
    let options = Options::parse(arguments)?;
    if options.help {
        print!("{USAGE}");
        return Ok(());
    }
    match task.as_str() {
        "demo" => demo::run(&options),
        "e2e" => checks::run(&options),
        "bench-all" => bench::run(&options),
        "licences" => licenses::check(options.full),
        "image" => ours::run(&options),
        "" | "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => bail!("unknown task {other:?}\n\n{USAGE}"),
    }
}
