//! How far the store has been acknowledged by whoever keeps it elsewhere, and who waits for that.
//!
//! ```text
//! spool bytes ─shipper─► segment n (published) ─outbox─► elsewhere ─► acknowledged n ─► waiters
//! ```

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::engine::lock;

/// Segments on their way that are remembered one by one; past it they are acknowledged together.
const MOST_REMEMBERED: usize = 4096;

pub(crate) struct Replication {
    /// Number of the newest durable segment.
    newest: watch::Sender<u64>,
    /// Segments not acknowledged, and the spool's bytes up to their end.
    ends: Mutex<VecDeque<(u64, u64)>>,
    /// Bytes of the spool that were acknowledged.
    position: watch::Sender<u64>,
    waiting: AtomicUsize,
    stalled: AtomicBool,
}

impl Default for Replication {
    fn default() -> Replication {
        Replication {
            newest: watch::Sender::new(0),
            ends: Mutex::default(),
            position: watch::Sender::new(0),
            waiting: AtomicUsize::new(0),
            stalled: AtomicBool::new(false),
        }
    }
}

impl Replication {
    /// Segment `number` is durable here, and has the spool up to `position`.
    pub(crate) fn published(&self, number: u64, position: u64) {
        {
            let mut ends = lock(&self.ends);
            if ends.len() >= MOST_REMEMBERED {
                ends.pop_back();
            }
            ends.push_back((number, position));
        }
        self.newest.send_replace(number);
    }

    /// Segments up to `number` are durable elsewhere.
    pub(crate) fn acknowledged(&self, number: u64) {
        let mut reached = None;
        {
            let mut ends = lock(&self.ends);
            while let Some((_, position)) = ends.front().filter(|(end, _)| *end <= number) {
                reached = Some(*position);
                ends.pop_front();
            }
        }
        if let Some(reached) = reached {
            self.stalled.store(false, Ordering::Release);
            self.position
                .send_if_modified(|position| std::mem::replace(position, reached) != reached);
        }
    }

    /// Bytes of the spool that were acknowledged.
    pub(crate) fn position(&self) -> u64 {
        *self.position.borrow()
    }

    /// Waits until the spool's bytes up to `position` were acknowledged; false if that took too long.
    pub(crate) fn wait(
        &self,
        position: u64,
        deadline: Instant,
    ) -> impl Future<Output = bool> + use<'_> {
        let mut reached = self.position.subscribe();
        let waiter = Waiter::of(&self.waiting);
        async move {
            let _waiter = waiter;
            let arrived = timeout_at(deadline, reached.wait_for(|reached| *reached >= position));
            let arrived = matches!(arrived.await, Ok(Ok(_)));
            if !arrived {
                self.stalled.store(true, Ordering::Release);
            }
            arrived
        }
    }

    pub(crate) fn segments(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Whether somebody waited in vain, and nothing was acknowledged since.
    pub(crate) fn stalled(&self) -> bool {
        self.stalled.load(Ordering::Acquire)
    }
}

/// Counted as long as it lives.
struct Waiter<'a>(&'a AtomicUsize);

impl<'a> Waiter<'a> {
    fn of(count: &'a AtomicUsize) -> Waiter<'a> {
        count.fetch_add(1, Ordering::AcqRel);
        Waiter(count)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
