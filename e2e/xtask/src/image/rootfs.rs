//! The files of an image, gathered in a scratch folder.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::Scratch;

/// A root folder in the making.
#[derive(Debug)]
pub struct Rootfs {
    scratch: Scratch,
}

impl Rootfs {
    /// With `/tmp`, and the users that our images run as, which programs look up by number.
    pub fn new() -> Result<Rootfs> {
        let rootfs = Rootfs {
            scratch: Scratch::new("rootfs")?,
        };
        rootfs.shared_folder("/tmp")?;
        rootfs.text(
            "/etc/passwd",
            "root:x:0:0:root:/:/bin/sh\npostgres:x:70:70:postgres:/tmp:/bin/sh\nnonroot:x:65532:65532:nonroot:/tmp:/bin/sh\n",
        )?;
        rootfs.text(
            "/etc/group",
            "root:x:0:\npostgres:x:70:\nnonroot:x:65532:\n",
        )?;
        // glibc without this file asks the DNS before /etc/hosts.
        rootfs.text("/etc/nsswitch.conf", "hosts: files dns\n")?;
        Ok(rootfs)
    }

    /// The folder that becomes `/`.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    fn inside(&self, path: &str) -> Result<PathBuf> {
        let relative = path
            .strip_prefix('/')
            .with_context(|| format!("{path} is not absolute"))?;
        let target = self.path().join(relative);
        let parent = target.parent().context("a file in an image needs a name")?;
        fs::create_dir_all(parent)?;
        Ok(target)
    }

    /// A text file.
    pub fn text(&self, path: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.inside(path)?, text)?)
    }

    /// A shell script that can be run.
    pub fn script(&self, path: &str, text: &str) -> Result<()> {
        self.text(path, text)?;
        set_mode(&self.inside(path)?, 0o755)
    }

    /// A folder that anybody may write to, as images run under any number.
    pub fn shared_folder(&self, path: &str) -> Result<()> {
        let folder = self.inside(path)?;
        fs::create_dir_all(&folder)?;
        set_mode(&folder, 0o1777)
    }

    /// A link.
    pub fn link(&self, path: &str, target: &str) -> Result<()> {
        let link = self.inside(path)?;
        Ok(std::os::unix::fs::symlink(target, link)?)
    }

    /// A file of this machine's, at `path`.
    pub fn file(&self, source: &Path, path: &str) -> Result<()> {
        let target = self.inside(path)?;
        fs::copy(source, &target).with_context(|| format!("copying {}", source.display()))?;
        Ok(())
    }

    /// A folder of this machine's, at the same path, without what `exclude` (patterns of tar)
    /// names.
    pub fn folder(&self, source: &Path, exclude: &[&str]) -> Result<()> {
        let source = source
            .to_str()
            .with_context(|| format!("{} is not UTF-8", source.display()))?;
        let target = self.inside(source)?;
        fs::create_dir_all(&target)?;
        let mut pack = Command::new("tar");
        for pattern in exclude {
            pack.arg(format!("--exclude={pattern}"));
        }
        let mut pack = pack
            .args(["--create", "--directory", source, "."])
            .stdout(Stdio::piped())
            .spawn()
            .context("starting tar")?;
        let packed = pack.stdout.take().context("tar has no output")?;
        let unpacked = Command::new("tar")
            .args(["--extract", "--no-same-owner", "--directory"])
            .arg(&target)
            .stdin(packed)
            .status()?;
        if !pack.wait()?.success() || !unpacked.success() {
            bail!("copying {source} failed");
        }
        Ok(())
    }

    /// A program at `path`, and the libraries that it is linked with where the loader finds them.
    pub fn program(&self, source: &Path, path: &str) -> Result<()> {
        self.file(source, path)?;
        set_mode(&self.inside(path)?, 0o755)?;
        self.libraries(&[source.to_owned()])
    }

    /// The libraries that `programs` are linked with.
    pub fn libraries(&self, programs: &[PathBuf]) -> Result<()> {
        let mut wanted = BTreeSet::new();
        for program in programs {
            wanted.extend(linked_with(program)?);
        }
        for library in wanted {
            if !self.inside(&library)?.exists() {
                self.file(Path::new(&library), &library)?;
                set_mode(&self.inside(&library)?, 0o755)?;
            }
        }
        Ok(())
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", path.display()))
}

/// What ldd names; nothing for a static program.
fn linked_with(program: &Path) -> Result<BTreeSet<String>> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .context("starting ldd")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    if complaint.contains("not a dynamic executable") || said.contains("statically linked") {
        return Ok(BTreeSet::new());
    }
    if !output.status.success() {
        bail!("ldd {}: {said}{complaint}", program.display());
    }
    if let Some(line) = said.lines().find(|line| line.contains("not found")) {
        bail!("{} lacks a library: {}", program.display(), line.trim());
    }
    Ok(said.lines().filter_map(library).collect())
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, or a loader's path alone.
fn library(line: &str) -> Option<String> {
    let path = match line.split_once("=>") {
        Some((_, path)) => path,
        None => line,
    };
    let path = path.split_whitespace().next()?;
    path.starts_with('/').then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::library;

    #[test]
    fn ldd_lines_name_files() {
        assert_eq!(
            library("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)").as_deref(),
            Some("/lib/x86_64-linux-gnu/libc.so.6")
        );
        assert_eq!(
            library("\t/lib64/ld-linux-x86-64.so.2 (0x7f)").as_deref(),
            Some("/lib64/ld-linux-x86-64.so.2")
        );
        assert_eq!(library("\tlinux-vdso.so.1 (0x7f)"), None);
    }
}
