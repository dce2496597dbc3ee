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
    // Said before minutes are spent on building what could not be taken anywhere.
    if let Some(place) = &options.load {
        loader(place)?;
    }
    if options.push.is_some() {
        pusher()?;
    }
    needs::install(&needs::BUILD, options.yes)?;
    for image in pack(&build()?, &workspace::target().join("images"))? {
        println!("{}  {}", image.reference, image.archive.display());
        if let Some(place) = &options.load {
            said(loader(place)?.arg(&image.archive))?;
        }
        if let Some(registry) = &options.push {
            push(&image, registry)?;
        }
    }
    if let Some(registry) = &options.push {
        let [sidecar, operator] = NAMES.map(|name| under(registry, name));
        println!(
            "helm install … --set image.repository={operator} --set sidecar.image.repository={sidecar}"
        );
    }
    Ok(())
}

/// An image that was written.
#[derive(Debug)]
pub struct Packed {
    /// Its name and tag.
    pub reference: String,
    /// Its docker-archive.
    pub archive: PathBuf,
}

/// Writes the images of both programs, in the order of [`NAMES`], into `folder`.
pub fn pack(programs: &[PathBuf], folder: &Path) -> Result<Vec<Packed>> {
    fs::create_dir_all(folder)?;
    let names = NAMES.iter().zip(programs);
    names
        .map(|(name, program)| {
            let packed = Packed {
                reference: reference(name),
                archive: folder.join(format!("{name}.tar")),
            };
            write(&packed.reference, program, &packed.archive)?;
            Ok(packed)
        })
        .collect()
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

/// What takes an archive, as its last argument, into a cluster's nodes.
fn loader(place: &str) -> Result<Command> {
    match place {
        "kind" => {
            let mut kind = tool("kind")?;
            kind.args(["load", "image-archive"]);
            // Which cluster, as kind itself has it.
            if let Ok(name) = std::env::var("KIND_CLUSTER_NAME") {
                kind.args(["--name", &name]);
            }
            Ok(kind)
        }
        // CONTAINERD_ADDRESS and CONTAINERD_SNAPSHOTTER are ctr's own.
        "containerd" => {
            let mut ctr = tool("ctr")?;
            ctr.args(["--namespace", "k8s.io", "images", "import"]);
            Ok(ctr)
        }
        other => bail!("--load takes kind or containerd, not {other:?}"),
    }
}

/// Programs that push, the simplest first. Each logs in by its own configuration.
const PUSHERS: [&str; 4] = ["skopeo", "crane", "podman", "docker"];

fn pusher() -> Result<&'static str> {
    let found = PUSHERS
        .into_iter()
        .find(|name| find_program(name).is_some());
    found.with_context(|| {
        format!(
            "--push takes one of {}, and this machine has none of them: install one, then try again",
            PUSHERS.join(", ")
        )
    })
}

fn push(image: &Packed, registry: &str) -> Result<()> {
    let (archive, target) = (&image.archive, under(registry, &image.reference));
    let pusher = pusher()?;
    match pusher {
        "skopeo" => said(
            tool(pusher)?
                .arg("copy")
                .arg(format!("docker-archive:{}", archive.display()))
                .arg(format!("docker://{target}")),
        ),
        "crane" => said(tool(pusher)?.arg("push").arg(archive).arg(&target)),
        engine => {
            said(tool(engine)?.args(["load", "--input"]).arg(archive))?;
            said(tool(engine)?.args(["tag", &image.reference, &target]))?;
            said(tool(engine)?.args(["push", &target]))
        }
    }
}

fn under(registry: &str, name: &str) -> String {
    format!("{}/{name}", registry.trim_end_matches('/'))
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
