//! SHA-256, by coreutils: there is nothing here to link.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::succeed;

/// The digest of `bytes` in hex.
pub fn of_bytes(bytes: &[u8]) -> Result<String> {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting sha256sum")?;
    child
        .stdin
        .take()
        .context("sha256sum has no standard input")?
        .write_all(bytes)?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("sha256sum ended with {}", output.status);
    }
    hex(&output.stdout)
}

/// The digest of a file in hex.
pub fn of_file(path: &Path) -> Result<String> {
    let output = succeed(Command::new("sha256sum").arg("--").arg(path))?;
    hex(&output.stdout)
}

/// The digest in hex of `first` and of the contents of `files`, in order of their names.
pub fn of_files(first: &str, mut files: Vec<PathBuf>) -> Result<String> {
    files.sort();
    let mut all = first.as_bytes().to_vec();
    for path in files {
        all.extend(of_file(&path)?.into_bytes());
        all.push(b'\n');
    }
    of_bytes(&all)
}

fn hex(printed: &[u8]) -> Result<String> {
    let text = String::from_utf8_lossy(printed);
    let digest = text.split_whitespace().next().unwrap_or_default();
    if digest.len() != 64 {
        bail!("sha256sum printed {text:?}");
    }
    Ok(digest.to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn sha256_is_what_the_standard_says() {
        // FIPS 180-4's example for "abc".
        assert_eq!(
            super::of_bytes(b"abc").ok().as_deref(),
            Some("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        );
    }
}
