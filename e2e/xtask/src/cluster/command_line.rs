//! `cargo cluster …`: a cluster left running to play with.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::cluster::{Cluster, NEEDS, chart};
use crate::image::ready_made::ReadyMade;
use crate::needs::{self, Need};
use crate::process::succeed;
use crate::workspace::{self, Binaries, Profile};

/// How the task is used.
pub const USAGE: &str = "\
cargo cluster [--state DIR] up [--yes] [--bare]
                                             a Kubernetes of your own, as root, in namespaces of its own, with
                                             the chart installed; --bare leaves the chart out
cargo cluster [--state DIR] kubectl …        kubectl on it; likewise helm …
cargo cluster [--state DIR] run PROGRAM …    a program of this machine in its network, with KUBECONFIG set
cargo cluster [--state DIR] load IMAGE …     agent, postgres, busybox, or a file that `cargo image` or `docker save` wrote,
                                             or NAME:TAG=PROGRAM, an image with that program in it
cargo cluster [--state DIR] down             ends all of it, also after a crash

DIR is the cluster's folder, by default target/cluster; another one is another cluster.
";

/// Runs one of them. What follows `kubectl`, `helm` and `run` is passed on as it stands.
pub fn run(arguments: impl Iterator<Item = String>) -> Result<()> {
    let mut arguments = arguments;
    let mut state = workspace::target().join("cluster");
    let verb = loop {
        let Some(argument) = arguments.next() else {
            bail!("cargo cluster does what?\n\n{USAGE}");
        };
        match argument.as_str() {
            "--state" => state = PathBuf::from(arguments.next().context("--state needs a folder")?),
            "--help" | "-h" | "help" => {
                print!("{USAGE}");
                return Ok(());
            }
            _ => break argument,
        }
    };
    let rest: Vec<String> = arguments.collect();
    match verb.as_str() {
        "up" => up(&state, &rest),
        "down" => {
            none(&rest)?;
            Cluster::remove(&state)
        }
        "kubectl" => replaced_by(Cluster::open(&state)?.kubectl(), &rest),
        "helm" => replaced_by(Cluster::open(&state)?.helm(), &rest),
        "run" => {
            let (program, rest) = rest.split_first().context("run which program?")?;
            replaced_by(Cluster::open(&state)?.command(Path::new(program)), rest)
        }
        "load" => {
            let cluster = Cluster::open(&state)?;
            for image in &rest {
                if let Some(image) = ReadyMade::named(image) {
                    cluster.load(image)?;
                } else if let Some((reference, program)) = image.split_once('=') {
                    cluster.load_program(reference, Path::new(program))?;
                } else {
                    cluster.load_image(Path::new(image))?;
                }
            }
            Ok(())
        }
        other => bail!("unknown verb {other:?}\n\n{USAGE}"),
    }
}

fn up(state: &Path, rest: &[String]) -> Result<()> {
    let has = |option: &str| rest.iter().any(|argument| argument == option);
    let (yes, bare) = (has("--yes"), has("--bare"));
    if let Some(unknown) = rest
        .iter()
        .find(|argument| !matches!(argument.as_str(), "--yes" | "--bare"))
    {
        bail!("unknown option {unknown:?}\n\n{USAGE}");
    }
    // Said before minutes are spent on building what could not be used.
    Cluster::must_be_root()?;
    needs::install(&NEEDS, yes)?;
    if !bare {
        needs::install(&[&needs::BUILD[..], &[Need::PostgreSql]].concat(), yes)?;
    }
    crate::cluster::program::folder()?;
    let ours = if bare {
        None
    } else {
        let operator = workspace::operator(Profile::Dev)?;
        Some((operator, Binaries::build(Profile::Dev)?.sidecar))
    };
    let start = Instant::now();
    let cluster = Cluster::up(state)?;
    println!(
        "Kubernetes is ready after {:.1} s, in {}",
        start.elapsed().as_secs_f64(),
        cluster.state().display()
    );
    if let Some((operator, sidecar)) = ours {
        chart::prepare(&cluster, &operator, &sidecar)?;
        cluster.load(ReadyMade::Agent)?;
        cluster.load(ReadyMade::Postgres)?;
        succeed(&mut chart::helm(&cluster))?;
        println!(
            "Chaperone is installed in {}; Connections go into {}. Images for agents and \
             databases: {}, {}",
            chart::SYSTEM,
            chart::DATABASES,
            ReadyMade::Agent.reference(),
            ReadyMade::Postgres.reference()
        );
    }
    println!("  cargo cluster kubectl get pods -A");
    cluster.leave_running();
    Ok(())
}

fn none(rest: &[String]) -> Result<()> {
    match rest.first() {
        Some(unknown) => bail!("unknown option {unknown:?}\n\n{USAGE}"),
        None => Ok(()),
    }
}

/// Becomes the program, so that its exit code, signals and terminal are its own.
fn replaced_by(mut command: std::process::Command, arguments: &[String]) -> Result<()> {
    let error = command.args(arguments).exec();
    Err(error).with_context(|| format!("starting {}", command.get_program().to_string_lossy()))
}
