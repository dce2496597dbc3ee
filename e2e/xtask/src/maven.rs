//! Artifacts of Maven Central, pinned by their digests.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::digest;
use crate::process::succeed;

/// A jar.
#[derive(Debug, Clone, Copy)]
pub struct Artifact {
    /// Whose it is.
    pub group: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Which of its jars, where it has more than one.
    pub classifier: Option<&'static str>,
    /// SHA-256 of the jar.
    pub digest: &'static str,
}

impl Artifact {
    /// Fetches it, by Maven's own client and into a folder of ours.
    pub fn fetch(&self, into: &Path) -> Result<PathBuf> {
        let Artifact {
            group,
            name,
            version,
            classifier,
            digest,
        } = self;
        let (more, suffix) = match classifier {
            Some(classifier) => (format!(":jar:{classifier}"), format!("-{classifier}")),
            None => (String::new(), String::new()),
        };
        let artifact = format!("{group}:{name}:{version}{more}");
        println!("$ mvn dependency:copy -Dartifact={artifact}");
        succeed(
            Command::new("mvn")
                .args(["-q", "-B", "dependency:copy"])
                .arg(format!("-Dartifact={artifact}"))
                .arg(format!("-DoutputDirectory={}", into.display()))
                .current_dir(into),
        )?;
        let jar = into.join(format!("{name}-{version}{suffix}.jar"));
        let found = digest::of_file(&jar)?;
        if found != *digest {
            bail!("{artifact} has the digest {found}, and {digest} is pinned");
        }
        Ok(jar)
    }
}
