//! Limits and findings thresholds of a [`Policy`](crate::Policy): for each field the strictest.

use std::time::Duration;

use crate::ApprovalRule;

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

/// When something is worth telling (evidence.md, Real time), counted per pod and connection over
/// all its sessions. `None` is no threshold set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Denials in any minute.
    pub denials_per_minute: Option<u64>,
    /// Comparisons of masked columns by equality in any minute.
    pub equality_per_minute: Option<u64>,
    /// Values masked in any minute.
    pub masked_per_minute: Option<u64>,
    /// Rows of a result, in multiples of the usual one's.
    pub rows_times_usual: Option<u64>,
    /// Whether an object is told that was never named before.
    pub first_seen: bool,
    /// What happens then.
    pub on_finding: OnFinding,
    /// Whom the next command waits for, of every policy that holds.
    pub approvals: Vec<ApprovalRule>,
}

impl Findings {
    /// The stricter of each field.
    #[must_use]
    pub fn strictest(mut self, other: &Findings) -> Findings {
        self.approvals.extend(other.approvals.iter().cloned());
        Findings {
            denials_per_minute: least(self.denials_per_minute, other.denials_per_minute),
            equality_per_minute: least(self.equality_per_minute, other.equality_per_minute),
            masked_per_minute: least(self.masked_per_minute, other.masked_per_minute),
            rows_times_usual: least(self.rows_times_usual, other.rows_times_usual),
            first_seen: self.first_seen || other.first_seen,
            on_finding: self.on_finding.max(other.on_finding),
            approvals: self.approvals,
        }
    }
}

fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
