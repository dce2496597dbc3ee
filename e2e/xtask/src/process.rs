//! Child processes that end with their owner, scratch folders, and ports.

use std::collections::HashSet;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::janitor;
use crate::wait::wait_for;

/// A running child. Dropping it ends it by its stop signal, and by force after ten seconds.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    stop: &'static str,
    reaped: bool,
}

impl Process {
    /// Starts `command` with standard output and error appended to `log`; `stop` names the
    /// signal that ends it in the ordinary way.
    pub fn spawn(mut command: Command, log: &Path, stop: &'static str) -> Result<Process> {
        let name = Path::new(command.get_program())
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        janitor::owns_process(child.id(), stop);
        Ok(Process {
            child,
            name,
            stop,
            reaped: false,
        })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() && !self.reaped {
            self.reaped = true;
            janitor::process_is_gone(self.child.id());
        }
        Ok(status)
    }

    /// Sends a signal by name (`TERM`, `KILL`, `HUP`).
    pub fn signal(&self, name: &str) -> Result<()> {
        if self.reaped {
            bail!("{} has already ended", self.name);
        }
        let status = Command::new("sh")
            .args([
                "-c",
                "kill \"-$0\" \"$1\"",
                name,
                &self.child.id().to_string(),
            ])
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            bail!("could not send {name} to {}", self.name);
        }
        Ok(())
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        wait_for(&what, deadline, || self.ended())
    }

    /// Ends it by force and waits until it is gone.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.child.kill()?;
        self.wait(Duration::from_secs(10))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.ended(), Ok(None)) {
            let asked = self.signal(self.stop);
            if asked.is_err() || self.wait(Duration::from_secs(10)).is_err() {
                let _ = self.kill();
            }
        }
    }
}

/// A folder of our own under the system's temporary one, removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty folder that other users may traverse (a server runs as one of them).
    pub fn new(purpose: &str) -> Result<Scratch> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("chaperone-{purpose}-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // An earlier process with our number may have left one behind.
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        janitor::owns_folder(&path);
        Ok(Scratch { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the folder where it is and gives its path.
    pub fn into_path(self) -> PathBuf {
        let path = self.path.clone();
        std::mem::forget(self);
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Where something is made that is to be `kept` whole: beside it, and nobody else's, in this process
/// or in another.
pub fn draft(kept: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = kept.file_name().unwrap_or_default().to_string_lossy();
    kept.with_file_name(format!("draft-{name}-{}-{count}", std::process::id()))
}

/// A loopback port that nobody listens on and that no call in this process was given before.
/// Taken from below the range the kernel uses for outgoing connections, so that none of those
/// takes it between now and its use.
pub fn free_port() -> Result<u16> {
    static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut taken = TAKEN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let taken = taken.get_or_insert_with(HashSet::new);
    let offset = std::process::id().wrapping_mul(97) % 12_000;
    for step in 0..12_000_u32 {
        let Ok(port) = u16::try_from(20_000 + (offset + step) % 12_000) else {
            continue;
        };
        if !taken.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            taken.insert(port);
            return Ok(port);
        }
    }
    bail!("no free loopback port between 20000 and 32000")
}

/// Whether this process is root.
pub fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1))
        == Some("0")
}

/// The unprivileged user that servers run as when we are root: name, uid, gid.
pub fn unprivileged() -> Option<(String, String, String)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    ["postgres", "nobody"].iter().find_map(|wanted| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| name == wanted)?;
            let uid = fields.nth(1)?;
            let gid = fields.next()?;
            Some((name.to_owned(), uid.to_owned(), gid.to_owned()))
        })
    })
}

/// `program` as an unprivileged user when we are root, else as ourselves.
pub fn demoted(program: &Path) -> Result<Command> {
    if !is_root() {
        return Ok(Command::new(program));
    }
    let (_, uid, gid) = unprivileged().context("no user postgres or nobody to run a server as")?;
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={uid}"))
        .arg(format!("--regid={gid}"))
        .arg("--clear-groups")
        .arg("--")
        .arg(program)
        .current_dir("/");
    Ok(command)
}

/// Gives `path` and all below it to the user of [`demoted`]; nothing to do when not root.
pub fn hand_over(path: &Path) -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (_, uid, gid) = unprivileged().context("no user postgres or nobody to run a server as")?;
    succeed(
        Command::new("chown")
            .args(["-R", &format!("{uid}:{gid}")])
            .arg(path),
    )?;
    Ok(())
}

/// Runs to the end, capturing; a failure is an error that carries what was printed.
pub fn succeed(command: &mut Command) -> Result<Output> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
    if !output.status.success() {
        bail!(
            "{} ended with {}:\n{}{}",
            command.get_program().to_string_lossy(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
    }
    Ok(output)
}
