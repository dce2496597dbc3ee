//! Waiting for a condition, never for a time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(5);

/// Looks at `condition` until it gives a value, or fails naming `what` after `deadline`.
/// An error from the condition ends the wait at once.
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    wait_in_steps(deadline, STEP, condition)?
        .with_context(|| format!("waited {} s for {what}", deadline.as_secs()))
}

/// The same, looking every `step`, which is worth more where each look costs a process; `None`
/// after `deadline`, so that the caller can say what it knows.
pub fn wait_in_steps<T>(
    deadline: Duration,
    step: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(Some(value));
        }
        if start.elapsed() > deadline {
            return Ok(None);
        }
        thread::sleep(step);
    }
}
