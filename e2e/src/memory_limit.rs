//! A process under a real memory limit, as a container has one: a control group of its own
//! (Linux, cgroup-v1/memory.rst and cgroup-v2.rst, "memory.max"). It takes root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use xtask::process::is_root;

/// A control group whose processes get no more memory than it has; the kernel kills one that
/// needs more. Removed when dropped, by when its processes have to be gone.
#[derive(Debug)]
pub struct MemoryLimit {
    folder: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl MemoryLimit {
    /// One of `bytes`, swap included; `None`, said aloud, where this user may make none.
    ///
    /// # Errors
    /// The kernel refuses to root, too.
    pub fn new(bytes: u64) -> Result<Option<MemoryLimit>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !is_root() {
            eprintln!("NOT TESTED under a real memory limit, which takes root");
            return Ok(None);
        }
        let (root, version) = if Path::new("/sys/fs/cgroup/memory").is_dir() {
            ("/sys/fs/cgroup/memory", Version::One)
        } else {
            ("/sys/fs/cgroup", Version::Two)
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("chaperone-e2e-{}-{number}", std::process::id());
        let folder = Path::new(root).join(name);
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let limit = MemoryLimit { folder, version };
        match version {
            Version::One => {
                limit.write("memory.limit_in_bytes", bytes)?;
                // Absent where the kernel does not account for swap.
                let _ = limit.write("memory.memsw.limit_in_bytes", bytes);
            }
            Version::Two => {
                limit.write("memory.max", bytes)?;
                let _ = limit.write("memory.swap.max", 0);
            }
        }
        Ok(Some(limit))
    }

    /// The same command, which enters the group before the program is there.
    pub fn around(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside
            .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
            .arg(self.folder.join("cgroup.procs"))
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// The most that was in use at a time, caches of files included, in bytes.
    pub fn highest(&self) -> Result<u64> {
        let file = match self.version {
            Version::One => "memory.max_usage_in_bytes",
            Version::Two => "memory.peak",
        };
        Ok(self.read(file)?.trim().parse()?)
    }

    /// Fails if the kernel has killed a process of the group.
    pub fn ensure_nobody_was_killed(&self) -> Result<()> {
        let file = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let events = self.read(file)?;
        ensure!(
            events.lines().any(|line| line == "oom_kill 0"),
            "the kernel killed it for its memory: {events}"
        );
        Ok(())
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.folder.join(file);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    fn write(&self, file: &str, value: u64) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, value.to_string()).with_context(|| path.display().to_string())
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // Whoever is still in it keeps it; the folder holds nothing else.
        let _ = fs::remove_dir(&self.folder);
    }
}
