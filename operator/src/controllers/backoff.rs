//! How long to leave an object alone that fails again and again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::core::ObjectMeta;

/// The first pause.
const FIRST: Duration = Duration::from_secs(1);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(300);
/// Objects remembered; past it all begin anew.
const MOST: usize = 8 * 1024;

/// Failures in a row, by controller and UID.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: Mutex<HashMap<(&'static str, String), u32>>,
}

impl Backoff {
    /// The pause after one more failure: doubled each time, within bounds.
    pub(crate) fn next(&self, controller: &'static str, object: &ObjectMeta) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MOST {
            failures.clear();
        }
        let count = failures.entry(key(controller, object)).or_default();
        *count = count.saturating_add(1);
        let doublings = count.saturating_sub(1).min(16);
        FIRST
            .saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX))
            .min(LONGEST)
    }

    /// It went well.
    pub(crate) fn reset(&self, controller: &'static str, object: &ObjectMeta) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&key(controller, object));
    }
}

fn key(controller: &'static str, object: &ObjectMeta) -> (&'static str, String) {
    (controller, object.uid.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_bounds_and_begin_anew_after_success() {
        let (backoff, object) = (Backoff::default(), ObjectMeta::default());
        let pauses: Vec<u64> = (0..12)
            .map(|_| backoff.next("c", &object).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(backoff.next("another", &object), FIRST);
        backoff.reset("c", &object);
        assert_eq!(backoff.next("c", &object), FIRST);
    }
}
