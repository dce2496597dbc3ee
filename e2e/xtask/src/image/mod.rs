//! Container images made of this machine's own programs, with no engine and no registry.
//!
//! ```text
//! Rootfs (files, programs with the libraries ldd names) ─► Image (user, command) ─► docker-archive tar
//! ```
//!
//! The archive is what `docker save` writes and `docker load`, `ctr images import` and `kind load
//! image-archive` read: <https://github.com/moby/docker-image-spec>. The same input gives the same
//! bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::digest;
use crate::process::succeed;

pub mod ours;
pub mod ready_made;
pub mod rootfs;

pub use rootfs::Rootfs;

/// What is run in a container of an image, and how.
#[derive(Debug, Clone)]
pub struct Image {
    /// `name:tag`, such as `localhost/agent:e2e`.
    pub reference: String,
    /// Numeric, `uid:gid`: `runAsNonRoot` accepts no names.
    pub user: String,
    /// What the container's arguments are appended to.
    pub entrypoint: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
}

impl Image {
    /// A program run as nobody in particular.
    pub fn new(reference: &str, entrypoint: &[&str]) -> Image {
        Image {
            reference: reference.to_owned(),
            user: "65532:65532".to_owned(),
            entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
            environment: vec!["PATH=/usr/local/bin:/usr/bin:/bin".to_owned()],
        }
    }

    /// Writes `rootfs` as this image's one layer into `archive`.
    pub fn write(&self, rootfs: &Rootfs, archive: &Path) -> Result<()> {
        let folder = archive.with_extension("draft");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let layer = folder.join("layer.tar");
        tar(rootfs.path(), &[PathBuf::from(".")], &layer)?;
        let config = self.config(&digest::of_file(&layer)?);
        let name = format!("{}.json", digest::of_bytes(config.as_bytes())?);
        fs::write(folder.join(&name), config)?;
        fs::write(
            folder.join("manifest.json"),
            format!(
                "[{{\"Config\":{},\"RepoTags\":[{}],\"Layers\":[\"layer.tar\"]}}]",
                json(&name),
                json(&self.reference)
            ),
        )?;
        let parts = ["manifest.json", &name, "layer.tar"].map(PathBuf::from);
        tar(&folder, &parts, archive)?;
        fs::remove_dir_all(&folder)?;
        Ok(())
    }

    fn config(&self, layer: &str) -> String {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let list = |words: &[String]| {
            let words: Vec<String> = words.iter().map(|word| json(word)).collect();
            format!("[{}]", words.join(","))
        };
        format!(
            "{{\"architecture\":\"{architecture}\",\"os\":\"linux\",\"config\":{{\"User\":{},\"Env\":{},\"Entrypoint\":{},\"WorkingDir\":\"/\"}},\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:{layer}\"]}}}}",
            json(&self.user),
            list(&self.environment),
            list(&self.entrypoint),
        )
    }
}

/// A string in JSON. What we write holds no control characters.
fn json(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Packs `parts` of `folder`, with nothing of this machine's users or clock in it.
fn tar(folder: &Path, parts: &[PathBuf], archive: &Path) -> Result<()> {
    succeed(
        Command::new("tar")
            .args(["--create", "--format=ustar", "--sort=name", "--mtime=@0"])
            .args(["--owner=0", "--group=0", "--numeric-owner"])
            .arg("--file")
            .arg(archive)
            .arg("--directory")
            .arg(folder)
            .args(parts),
    )
    .with_context(|| format!("packing {}", archive.display()))?;
    Ok(())
}
