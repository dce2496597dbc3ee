//! Limits and findings thresholds of a [`Policy`](crate::Policy): for each field the strictest.

use std::time::Duration;

/// What one pod may use of one connection. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Rows of one statement's result; per cursor, not per FETCH.
    pub rows_per_statement: Option<u64>,
    /// Bytes of results in any minute.
    pub bytes_per_minute: Option<u64>,
    /// Statements in any minute.
    pub statements_per_minute: Option<u64>,
    /// How long one session may last.
    pub session_duration: Option<Duration>,
}

impl Limits {
    /// The stricter of each field.
    #[must_use]
    pub fn strictest(self, other: Limits) -> Limits {
        Limits {
            rows_per_statement: least(self.rows_per_statement, other.rows_per_statement),
            bytes_per_minute: least(self.bytes_per_minute, other.bytes_per_minute),
            statements_per_minute: least(self.statements_per_minute, other.statements_per_minute),
            session_duration: least(self.session_duration, other.session_duration),
        }
    }
}

/// What happens when a threshold is crossed, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum OnFinding {
    /// It is recorded, counted and told.
    #[default]
    Alert,
    /// The next command waits for a human.
    HoldNext,
    /// The session ends.
    Close,
}

/// When something is worth telling (evidence.md, Real time). `None` is no threshold set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Findings {
    /// Denials in any minute.
    pub denials_per_minute: Option<u64>,
    /// Comparisons of masked columns by equality in any minute.
    pub equality_per_minute: Option<u64>,
    /// What happens then.
    pub on_finding: OnFinding,
}

impl Findings {
    /// The stricter of each field.
    #[must_use]
    pub fn strictest(self, other: Findings) -> Findings {
        Findings {
            denials_per_minute: least(self.denials_per_minute, other.denials_per_minute),
            equality_per_minute: least(self.equality_per_minute, other.equality_per_minute),
            on_finding: self.on_finding.max(other.on_finding),
        }
    }
}

fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
