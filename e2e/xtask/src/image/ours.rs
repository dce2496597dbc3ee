//! `cargo image`: the sidecar's and the operator's images, for a user's own cluster.
//!
//! The same files as `config/image/Containerfile` packs: one static program each, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::image::{Image, Rootfs};
use crate::needs::{self, find_program};
use crate::options::Options;
use crate::workspace;

/// What is packed: the cargo package, its program and its image are called the same.
pub const NAMES: [&str; 2] = ["chaperone-sidecar", "chaperone-operator"];

/// An image's name and tag, as the chart has it by default.
pub fn reference(name: &str) -> String {
    format!("{name}:{}", env!("CARGO_PKG_VERSION"))
}

/// Writes an image whose one program is `program`, with its libraries if it is not static.
pub fn write(reference: &str, program: &Path, archive: &Path) -> Result<()> {
    let name = program
        .file_name()
        .and_then(|name| name.to_str())
        .with_context(|| format!("{} has no name", program.display()))?;
    let path = format!("/{name}");
    let rootfs = Rootfs::new()?;
    rootfs.program(program, &path)?;
    Image::new(reference, &[&path]).write(&rootfs, archive)
}

/// Builds both, writes their archives, and takes them where the options say.
pub fn run(options: &Options) -> Result<()> {
    needs::install(&needs::BUILD, options.yes)?;
    let programs = build()?;
    let folder = workspace::target().join("images");
    fs::create_dir_all(&folder)?;
    for (name, program) in NAMES.iter().zip(programs) {
        let reference = reference(name);
        let archive = folder.join(format!("{name}.tar"));
        write(&reference, &program, &archive)?;
        println!("{reference}  {}", archive.display());
        if let Some(place) = &options.load {
            load(place, &archive)?;
        }
        if let Some(registry) = &options.push {
            push(&archive, &reference, registry)?;
        }
    }
    Ok(())
}

/// Static: the image needs no distribution below it. glibc and not musl, whose small stacks refuse
/// statements that glibc takes. A target has to be named, or build scripts become static too.
fn build() -> Result<Vec<PathBuf>> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut cargo = workspace::cargo();
    cargo
        .args(["build", "--release", "--locked", "--target", &target])
        .env(
            "RUSTFLAGS",
            format!("{flags} -C target-feature=+crt-static"),
        );
    for name in NAMES {
        cargo.args(["-p", name]);
    }
    println!(
        "Building {} (minutes the first time) …",
        NAMES.join(" and ")
    );
    if !cargo.status().context("starting cargo")?.success() {
        bail!("cargo build of {} failed", NAMES.join(" and "));
    }
    let folder = workspace::target().join(target).join("release");
    Ok(NAMES.map(|name| folder.join(name)).to_vec())
}

fn load(place: &str, archive: &Path) -> Result<()> {
    match place {
        "kind" => said(
            tool("kind")?
                .args(["load", "image-archive"])
                .arg(archive)
                // Which cluster: KIND_CLUSTER_NAME, as kind itself has it.
                .args(named_cluster()),
        ),
        "containerd" => said(
            tool("ctr")?
                .args(["--namespace", "k8s.io", "images", "import"])
                .arg(archive),
        ),
        other => bail!("--load takes kind or containerd, not {other:?}"),
    }
}

fn named_cluster() -> Vec<String> {
    match std::env::var("KIND_CLUSTER_NAME") {
        Ok(name) => vec!["--name".to_owned(), name],
        Err(_) => Vec::new(),
    }
}

/// By whatever the machine has that can push: each logs in by its own configuration.
fn push(archive: &Path, reference: &str, registry: &str) -> Result<()> {
    let target = format!("{}/{reference}", registry.trim_end_matches('/'));
    if let Ok(mut skopeo) = tool("skopeo") {
        return said(
            skopeo
                .arg("copy")
                .arg(format!("docker-archive:{}", archive.display()))
                .arg(format!("docker://{target}")),
        );
    }
    if let Ok(mut crane) = tool("crane") {
        return said(crane.arg("push").arg(archive).arg(&target));
    }
    for engine in ["podman", "docker"] {
        if tool(engine).is_ok() {
            said(tool(engine)?.args(["load", "--input"]).arg(archive))?;
            said(tool(engine)?.args(["tag", reference, &target]))?;
            return said(tool(engine)?.args(["push", &target]));
        }
    }
    bail!("--push takes skopeo, crane, podman or docker, and this machine has none of them")
}

fn tool(name: &str) -> Result<Command> {
    let program = find_program(name)
        .with_context(|| format!("{name} is not on this machine: install it, then try again"))?;
    Ok(Command::new(program))
}

fn said(command: &mut Command) -> Result<()> {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    println!("$ {}", words.join(" "));
    let status = command.status().context("starting it")?;
    if !status.success() {
        bail!("{} ended with {status}", words.join(" "));
    }
    Ok(())
}
