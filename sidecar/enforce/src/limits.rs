//! Rates per connection, shared by all its sessions (policy.md: per pod and connection).

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A minute's worth of statements and bytes, counted in a fixed window.
#[derive(Debug)]
pub struct RateLimits {
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    started: Instant,
    statements: u64,
    bytes: u64,
}

const WINDOW: Duration = Duration::from_secs(60);

impl RateLimits {
    /// Nothing used yet.
    pub fn new() -> Self {
        Self {
            window: Mutex::new(Window {
                started: Instant::now(),
                statements: 0,
                bytes: 0,
            }),
        }
    }

    /// Counts one statement; false when there have been `limit` in this minute.
    pub fn statement(&self, limit: Option<u64>) -> bool {
        let Some(limit) = limit else { return true };
        self.within(|window| {
            window.statements = window.statements.saturating_add(1);
            window.statements <= limit
        })
    }

    /// Counts bytes on their way to the agent; false when `limit` is passed in this minute.
    pub fn bytes(&self, bytes: u64, limit: Option<u64>) -> bool {
        let Some(limit) = limit else { return true };
        self.within(|window| {
            window.bytes = window.bytes.saturating_add(bytes);
            window.bytes <= limit
        })
    }

    fn within(&self, count: impl FnOnce(&mut Window) -> bool) -> bool {
        // A poisoned window is one whose counter is off by a little; counting on is right.
        let mut window = self
            .window
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if window.started.elapsed() >= WINDOW {
            *window = Window {
                started: Instant::now(),
                statements: 0,
                bytes: 0,
            };
        }
        count(&mut window)
    }
}

impl Default for RateLimits {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_limit_stops_the_one_after_the_last_allowed() {
        let limits = RateLimits::new();
        assert!(limits.statement(Some(2)));
        assert!(limits.statement(Some(2)));
        assert!(!limits.statement(Some(2)));
        assert!(limits.statement(None));
    }

    #[test]
    fn bytes_are_counted_together() {
        let limits = RateLimits::new();
        assert!(limits.bytes(60, Some(100)));
        assert!(!limits.bytes(60, Some(100)));
    }
}
