//! Sessions of this process that wait for a request: while one does, another's cancel must not
//! take the request away from it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How long a cancel lets the caller's own wait take to end.
const WAITER_LEAVES: Duration = Duration::from_secs(1);

/// Who waits for what.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    by_request: Mutex<HashMap<String, usize>>,
    /// A session stopped waiting.
    left: Notify,
}

/// Counts one waiter of a request for as long as it lives.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    waiters: &'a Waiters,
    name: String,
}

impl Waiters {
    /// One more waits for `name`.
    pub(crate) fn enter(&self, name: &str) -> Waiting<'_> {
        *self.lock().entry(name.to_owned()).or_default() += 1;
        Waiting {
            waiters: self,
            name: name.to_owned(),
        }
    }

    /// Whether anybody waits for `name`.
    pub(crate) fn wait_for(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }

    /// Waits a moment for the caller's own wait to end; false when somebody goes on waiting.
    pub(crate) async fn leave(&self, name: &str) -> bool {
        let until = Instant::now() + WAITER_LEAVES;
        while self.wait_for(name) {
            let left = self.left.notified();
            // Looked at again after the notification is armed, or it could be missed.
            if !self.wait_for(name) {
                break;
            }
            if timeout_at(until, left).await.is_err() {
                return false;
            }
        }
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        self.by_request
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        if let Some(count) = waiting.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.name);
            }
        }
        drop(waiting);
        self.waiters.left.notify_waiters();
    }
}
