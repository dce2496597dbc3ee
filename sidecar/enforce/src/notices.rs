//! What people who look at the workload hear of: denials, holds and findings, gathered until
//! somebody takes them, those of one kind and reason as one. Names of objects and rules only: what a
//! command says is nobody's business here.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Kinds and reasons that wait at once; there are fewer reasons than that.
const MOST: usize = 64;
/// Longest detail, in characters: a statement can hold a name of any length.
const LONGEST: usize = 512;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoticeKind {
    /// Commands were denied.
    Denied,
    /// Commands wait for a human.
    Held,
    /// Something was out of the ordinary.
    Finding,
}

/// Something that happened, once or more often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What.
    pub kind: NoticeKind,
    /// The reason's constant, or the finding's kind.
    pub reason: String,
    /// `namespace/name` of the Connection.
    pub connection: String,
    /// The session of the last one.
    pub session: String,
    /// What the last one was about.
    pub detail: String,
    /// How often.
    pub count: u64,
}

/// Those that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Notices(Mutex<BTreeMap<(NoticeKind, String, String), Notice>>);

impl Notices {
    /// One more. Past a bound those of other reasons are only counted by the metrics.
    pub fn add(&self, mut notice: Notice) {
        if let Some((end, _)) = notice.detail.char_indices().nth(LONGEST) {
            notice.detail.truncate(end);
        }
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (
            notice.kind,
            notice.reason.clone(),
            notice.connection.clone(),
        );
        let full = waiting.len() >= MOST;
        match waiting.get_mut(&key) {
            Some(before) => {
                let count = before.count.saturating_add(notice.count);
                *before = Notice { count, ..notice };
            }
            None if full => {}
            None => {
                waiting.insert(key, notice);
            }
        }
    }

    /// All that wait.
    pub fn take(&self) -> Vec<Notice> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *waiting).into_values().collect()
    }

    /// Puts back what could not be told.
    pub fn put_back(&self, notices: Vec<Notice>) {
        for notice in notices {
            self.add(notice);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn those_of_one_reason_are_one_and_there_is_a_bound() {
        let notices = Notices::default();
        let denied = |reason: &str, session: &str| Notice {
            kind: NoticeKind::Denied,
            reason: reason.to_owned(),
            connection: "databases/orders-db".to_owned(),
            session: session.to_owned(),
            detail: "Read on public.salaries".to_owned(),
            count: 1,
        };
        notices.add(denied("NotCovered", "a"));
        notices.add(denied("NotCovered", "b"));
        let taken = notices.take();
        assert_eq!(taken.len(), 1);
        assert_eq!((taken[0].count, taken[0].session.as_str()), (2, "b"));
        assert!(notices.take().is_empty());
        notices.put_back(taken);
        notices.add(denied("NotCovered", "c"));
        assert_eq!(notices.take()[0].count, 3);
        notices.add(Notice {
            detail: "é".repeat(5000),
            ..denied("NotCovered", "c")
        });
        assert_eq!(notices.take()[0].detail.chars().count(), LONGEST);
        for reason in 0..2 * MOST {
            notices.add(denied(&reason.to_string(), "d"));
        }
        assert_eq!(notices.take().len(), MOST);
    }
}
