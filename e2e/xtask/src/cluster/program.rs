//! The one program that is a whole Kubernetes, and helm: built from `e2e/cluster` by Go, and kept
//! outside the checkout by the digest of its source, so that the next clone finds it built.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::cluster::go;
use crate::process::succeed;
use crate::{digest, workspace};

/// What the components say they are; the minor version decides what clients believe they may use.
const VERSION: &str = "v1.34.4";

/// The names by which the one program is called.
const NAMES: [&str; 11] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
    "coredns",
    "sample-apiserver",
    "cluster-pki",
    "cluster-probe",
];

/// The folder of the built programs: [`NAMES`], `helm` and `pause`. Builds them where nobody has.
pub fn folder() -> Result<PathBuf> {
    let source = workspace::root().join("e2e/cluster");
    let parent = cache()?;
    let kept = parent.join(format!("cluster-{}", source_digest(&source)?));
    if kept.is_dir() {
        return Ok(kept);
    }
    fs::create_dir_all(&parent).with_context(|| format!("making {}", parent.display()))?;
    // Two builds at once would each take twice as long; the second finds what the first made.
    let lock = File::create(parent.join("cluster.lock"))?;
    lock.lock()?;
    if kept.is_dir() {
        return Ok(kept);
    }
    let draft = parent.join("cluster.draft");
    if draft.exists() {
        fs::remove_dir_all(&draft)?;
    }
    build(&source, &draft)?;
    fs::rename(&draft, &kept).with_context(|| format!("moving to {}", kept.display()))?;
    Ok(kept)
}

/// Where what took long to make is kept between checkouts.
pub fn cache() -> Result<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|folder| folder.join("chaperone"))
        .context("neither XDG_CACHE_HOME nor HOME says where to keep what was built")
}

fn linker_flags() -> String {
    let variable = "-X k8s.io/component-base/version";
    format!(
        "-s -w {variable}.gitVersion={VERSION} {variable}.gitMajor=1 {variable}.gitMinor=34 {variable}.gitTreeState=clean"
    )
}

/// Over everything that decides what is built.
fn source_digest(source: &Path) -> Result<String> {
    let mut files = Vec::new();
    for folder in [source.to_owned(), source.join("pause")] {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
        {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(".go") || name == "go.mod" || name == "go.sum" {
                files.push(path);
            }
        }
    }
    let first = format!("{} {}\n", std::env::consts::ARCH, linker_flags());
    let mut digest = digest::of_files(&first, files)?;
    digest.truncate(16);
    Ok(digest)
}

fn build(source: &Path, folder: &Path) -> Result<()> {
    println!("Building Kubernetes {VERSION} into one program (minutes, once) …");
    let start = Instant::now();
    fs::create_dir_all(folder)?;
    let mut go = go::command()?;
    go.current_dir(source)
        .env("CGO_ENABLED", "0")
        .args(["build", "-mod=readonly", "-trimpath", "-ldflags"])
        .arg(linker_flags())
        .arg("-o")
        // A slash at the end: a folder, with each program under its own name.
        .arg(folder.join(""))
        .args([".", "./pause", "helm.sh/helm/v3/cmd/helm"])
        .stdin(Stdio::null());
    let status = go.status().context("starting go")?;
    if !status.success() {
        bail!("go build of e2e/cluster ended with {status}");
    }
    for name in NAMES {
        succeed(
            Command::new("ln")
                .args(["-s", "cluster"])
                .arg(folder.join(name)),
        )?;
    }
    println!("… built in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}
