//! The programs of `e2e/drivers`, one a PostgreSQL driver: each folder is copied below the target
//! folder by the digest of its files, and gets there what its language's own tools fetch and build.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::maven::Artifact;
use crate::process::{draft, succeed};
use crate::{cluster, digest, needs, workspace};

/// The folders that have to be prepared; what Python and Ruby run lies where it is.
const PREPARED: [&str; 6] = [
    "go-grpc",
    "go-http",
    "node-postgres",
    "pgjdbc",
    "pgx",
    "prisma",
];

const PGJDBC: Artifact = Artifact {
    group: "org.postgresql",
    name: "postgresql",
    version: "42.7.14",
    classifier: None,
    digest: "73914527305a40cce504b0d3d90b23caf565136912d607ae8ae7c5895512332c",
};

/// Where the sources are.
pub fn sources() -> PathBuf {
    workspace::root().join("e2e/drivers")
}

/// Whether all of them are prepared.
pub fn are_there() -> bool {
    PREPARED
        .iter()
        .all(|name| kept(name).is_ok_and(|folder| folder.is_dir()))
}

/// Prepares all of them.
pub fn prepare_all() -> Result<()> {
    for name in PREPARED {
        prepared(name)?;
    }
    Ok(())
}

/// The folder of a driver's program with all that it takes, which is made where nobody has.
pub fn prepared(name: &str) -> Result<PathBuf> {
    let kept = kept(name)?;
    if kept.is_dir() {
        return Ok(kept);
    }
    let parent = kept.parent().context("the target folder has no parent")?;
    fs::create_dir_all(parent)?;
    // The second of two finds what the first made.
    let lock = File::create(parent.join(format!("{name}.lock")))?;
    lock.lock()?;
    if kept.is_dir() {
        return Ok(kept);
    }
    let draft = draft(&kept);
    fs::create_dir_all(&draft)?;
    for file in files(name)? {
        fs::copy(&file, draft.join(file.file_name().unwrap_or_default()))?;
    }
    prepare(name, &draft).with_context(|| format!("preparing the driver {name}"))?;
    fs::rename(&draft, &kept)?;
    Ok(kept)
}

fn kept(name: &str) -> Result<PathBuf> {
    let first = format!("{} {}\n", PGJDBC.version, std::env::consts::ARCH);
    let mut digest = digest::of_files(&first, files(name)?)?;
    digest.truncate(16);
    let folder = workspace::target().join("e2e").join("drivers");
    Ok(folder.join(format!("{name}-{digest}")))
}

fn files(name: &str) -> Result<Vec<PathBuf>> {
    let folder = sources().join(name);
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

fn prepare(name: &str, folder: &Path) -> Result<()> {
    println!("Preparing the driver {name} …");
    match name {
        "pgjdbc" => {
            let jar = PGJDBC.fetch(folder)?;
            fs::rename(jar, folder.join("pgjdbc.jar"))?;
            let compile = ["-cp", "pgjdbc.jar", "-d", ".", "Main.java"];
            succeed(Command::new("javac").args(compile).current_dir(folder))?;
        }
        "pgx" | "go-grpc" | "go-http" => {
            // As the test cluster is built: they share what Go has compiled.
            let build = [
                "build",
                "-mod=readonly",
                "-trimpath",
                "-ldflags=-s -w",
                "-o",
                "main",
                ".",
            ];
            let mut go = cluster::go()?;
            go.env("CGO_ENABLED", "0").args(build).current_dir(folder);
            succeed(&mut go)?;
        }
        _ => {
            // What comes with npm packages is data, not a program to run at once.
            let install = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
            succeed(node("npm").args(install).current_dir(folder))?;
            if folder.join("schema.prisma").is_file() {
                let generate = ["node_modules/prisma/build/index.js", "generate"];
                let mut node = node("node");
                node.args(generate).current_dir(folder);
                // It would fetch the engine that migrates, which generating does not start.
                node.env("PRISMA_SCHEMA_ENGINE_BINARY", "/bin/true");
                succeed(&mut node)?;
            }
        }
    }
    Ok(())
}

/// `node` or `npm` of the venv, which find each other by the PATH.
pub fn node(program: &str) -> Command {
    let program = needs::in_venv(program);
    let mut path = program
        .parent()
        .unwrap_or(Path::new(""))
        .as_os_str()
        .to_owned();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    let mut command = Command::new(program);
    command.env("PATH", path).env("CHECKPOINT_DISABLE", "1");
    command
}
