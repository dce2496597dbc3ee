//! Deviations noticed while a session runs: counted per minute, recorded once per minute.

use std::time::{Duration, Instant};

/// Counts one kind of event against a threshold per minute.
#[derive(Debug)]
pub(crate) struct Threshold {
    limit: u64,
    started: Instant,
    count: u64,
    reported: bool,
}

impl Threshold {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            started: Instant::now(),
            count: 0,
            reported: false,
        }
    }

    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Counts; true the first time in a minute that the threshold is passed.
    pub(crate) fn add(&mut self, count: u64) -> bool {
        if self.started.elapsed() >= Duration::from_secs(60) {
            self.started = Instant::now();
            self.count = 0;
            self.reported = false;
        }
        self.count = self.count.saturating_add(count);
        if self.count > self.limit && !self.reported {
            self.reported = true;
            return true;
        }
        false
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_reports_once_a_minute() {
        let mut threshold = Threshold::new(2);
        assert!(!threshold.add(2));
        assert!(threshold.add(1));
        assert!(!threshold.add(1));
    }
}
