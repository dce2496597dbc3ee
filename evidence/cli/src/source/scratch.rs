//! A folder for evidence that was fetched, which is nobody else's to read and does not stay.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};

use tempfile::TempDir;

use crate::error::CliError;

/// Folders to remove should a signal end the process.
static OPEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Exit code after SIGINT, by convention of shells.
const INTERRUPTED: i32 = 130;

/// A folder of mode 0700, gone when this drops or a signal ends the process.
pub(crate) struct Scratch {
    dir: TempDir,
}

impl Scratch {
    /// Makes one.
    pub(crate) fn new() -> Result<Scratch, CliError> {
        static WATCHED: Once = Once::new();
        WATCHED.call_once(remove_on_signals);
        let failed = |error: std::io::Error| {
            CliError::Usage(format!(
                "no folder can be made for what is fetched: {error}; set TMPDIR to one with room"
            ))
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix("kubectl-chaperone-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o700));
        }
        let dir = builder.tempdir().map_err(failed)?;
        open().push(dir.path().to_path_buf());
        Ok(Scratch { dir })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path = self.dir.path();
        open().retain(|open| open != path);
    }
}

fn open() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A signal would otherwise end the process with what it fetched left behind.
fn remove_on_signals() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        // Without a runtime the signal's own default stays: the process ends, the folder stays.
        let Ok(runtime) = runtime else { return };
        if runtime.block_on(signalled()) {
            for dir in open().iter() {
                let _ = std::fs::remove_dir_all(dir);
            }
            std::process::exit(INTERRUPTED);
        }
    });
}

#[cfg(unix)]
async fn signalled() -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    ) else {
        return false;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    true
}

#[cfg(not(unix))]
async fn signalled() -> bool {
    tokio::signal::ctrl_c().await.is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_was_fetched_is_ours_alone_and_does_not_stay() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_path_buf();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::fs::write(path.join("frame"), b"secret").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
