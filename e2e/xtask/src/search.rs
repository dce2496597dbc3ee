//! Looking for bytes in evidence: by grep, since preallocated spools are large and these tasks and
//! tests are built without optimisation.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The files below `folder` that hold `text`.
pub fn files_with(folder: &Path, text: &str) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        bail!("{} is not there to be searched", folder.display());
    }
    let output = Command::new("grep")
        .env("LC_ALL", "C")
        // Records end in NUL (-z), of which a spool has megabytes, and not in newlines.
        .args(["-rlaFz", "-e", text, "--"])
        .arg(folder)
        .stdin(Stdio::null())
        .output()
        .context("starting grep")?;
    match output.status.code() {
        // 2: a file went away meanwhile; what is left was looked at.
        Some(0..=2) => Ok(String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(PathBuf::from)
            .collect()),
        _ => bail!("grep: {}", String::from_utf8_lossy(&output.stderr)),
    }
}
