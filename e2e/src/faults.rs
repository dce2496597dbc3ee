//! Disks that fail: `faults/fault.c`, loaded into the sidecar, obeying a control file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Result, anyhow};
use xtask::process::succeed;
use xtask::workspace;

/// What happens at the next write or sync below the path that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// EIO.
    Io,
    /// ENOSPC on writes and allocations.
    Full,
    /// EIO on syncs only.
    Sync,
    /// Waits for as long as this is set.
    Stall,
    /// The n-th affected call from then on ends the process at once.
    Kill(u32),
}

/// The control file of one sidecar, and what its environment must hold.
#[derive(Debug, Clone)]
pub struct Faults {
    control: PathBuf,
    prefix: PathBuf,
}

impl Faults {
    /// Faults for files below `prefix`, obeying the file `control`; none yet.
    pub fn new(prefix: &Path, control: &Path) -> Result<Faults> {
        // Paths are compared as the kernel gives them.
        let parent = prefix.parent().unwrap_or(prefix).canonicalize()?;
        let prefix = parent.join(prefix.file_name().unwrap_or_default());
        let faults = Faults {
            control: control.to_owned(),
            prefix,
        };
        faults.set(Fault::None)?;
        Ok(faults)
    }

    /// From now on.
    pub fn set(&self, fault: Fault) -> Result<()> {
        let text = match fault {
            Fault::None => "ok".to_owned(),
            Fault::Io => "eio".to_owned(),
            Fault::Full => "enospc".to_owned(),
            Fault::Sync => "syncfail".to_owned(),
            Fault::Stall => "stall".to_owned(),
            Fault::Kill(calls) => format!("kill {calls}"),
        };
        let draft = self.control.with_extension("draft");
        fs::write(&draft, text)?;
        // Renamed, so that a reader never sees half of it.
        Ok(fs::rename(&draft, &self.control)?)
    }

    /// Loads the shim into `command`.
    pub fn apply(&self, command: &mut Command) -> Result<()> {
        command
            .env("LD_PRELOAD", library()?)
            .env("FAULT_PREFIX", &self.prefix)
            .env("FAULT_CONTROL", &self.control);
        Ok(())
    }
}

/// The shim, compiled once a test binary.
fn library() -> Result<&'static Path> {
    static LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    LIBRARY
        .get_or_init(|| compile().map_err(|error| format!("{error:#}")))
        .as_deref()
        .map_err(|error| anyhow!("{error}"))
}

fn compile() -> Result<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/faults/fault.c");
    let folder = workspace::target().join("e2e");
    fs::create_dir_all(&folder)?;
    let draft = folder.join(format!("fault-{}.so", std::process::id()));
    succeed(
        Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&draft)
            .arg(source)
            .arg("-ldl"),
    )?;
    let library = folder.join("fault.so");
    fs::rename(&draft, &library)?;
    Ok(library)
}
