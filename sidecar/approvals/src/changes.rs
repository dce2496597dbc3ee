//! Tells waiters that something in the folder changed.

use std::path::Path;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

/// A watched folder. Where the system gives no events (its watch limit is reached, a network
/// file system), waiters are left with their slow poll and the log says so.
#[derive(Debug)]
pub(crate) struct Changes {
    counter: watch::Sender<u64>,
    _watcher: Option<RecommendedWatcher>,
}

impl Changes {
    /// Starts watching `dir`. Blocks shortly.
    pub(crate) fn watch(dir: &Path) -> Changes {
        let counter = watch::Sender::new(0_u64);
        let moved = counter.clone();
        let started = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Our own reads are events too, and must not wake us to read again.
            let read_only =
                matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(_)));
            if !read_only {
                moved.send_modify(|count| *count = count.wrapping_add(1));
            }
        })
        .and_then(|mut watcher| {
            watcher.watch(dir, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        let watcher = started
            .inspect_err(|why| {
                tracing::warn!(dir = %dir.display(), %why, "approvals are polled: no change events");
            })
            .ok();
        Changes {
            counter,
            _watcher: watcher,
        }
    }

    /// A receiver that wakes on the next change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.counter.subscribe()
    }
}
