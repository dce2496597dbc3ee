//! Tells when a folder's files have changed, a little after the last change.

use std::path::Path;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// An editor writes a file in several steps; a moment later it is whole.
const SETTLE: Duration = Duration::from_millis(50);
/// Where events are lost, or the file system has none, the folder is read again this often.
const POLL: Duration = Duration::from_secs(5);

/// Files and bytes a file that are looked at; loading refuses more.
const MOST_FILES: usize = 10_000;
const MOST_BYTES: u64 = 1024 * 1024;

/// Watches one folder.
pub(crate) struct FolderWatcher {
    _watcher: Option<RecommendedWatcher>,
    events: mpsc::Receiver<()>,
}

impl FolderWatcher {
    /// Starts to watch. A system without file events is polled.
    pub(crate) fn new(folder: &Path) -> Self {
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let reading = matches!(&event, Ok(event) if event.kind.is_access());
            if !reading {
                // A full channel means that a change waits to be seen already.
                let _ = sender.try_send(());
            }
        })
        .and_then(|mut watcher| {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        let watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "manifests cannot be watched; they are read again every {} s", POLL.as_secs());
                None
            }
        };
        Self {
            _watcher: watcher,
            events,
        }
    }

    /// Waits for a change, or for the time to look anyway.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            event = self.events.recv() => {
                if event.is_none() {
                    tokio::time::sleep(POLL).await;
                    return;
                }
                while tokio::time::timeout(SETTLE, self.events.recv()).await.is_ok_and(|event| event.is_some()) {}
            }
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// SHA-256 over names and contents of a folder's files, so that an event without a change is
/// none. What cannot be read counts by its name: loading it says why.
pub(crate) fn folder_digest(folder: &Path) -> [u8; 32] {
    use aws_lc_rs::digest::{Context, SHA256};
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    let mut context = Context::new(&SHA256);
    for file in files.iter().take(MOST_FILES) {
        let name = file.as_os_str().as_encoded_bytes();
        context.update(&(name.len() as u64).to_be_bytes());
        context.update(name);
        let small = file
            .metadata()
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MOST_BYTES);
        let text = if small {
            std::fs::read(file).unwrap_or_default()
        } else {
            Vec::new()
        };
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(&text);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}
