//! What is out of the ordinary in what a pod does over a connection (evidence.md, Real time). It is
//! counted over all its sessions, so that connecting anew forgets nothing; each kind is told once a
//! minute, while what follows from it follows each time.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chaperone_policy::{Access, Effect, Findings};

const MINUTE: Duration = Duration::from_secs(60);
/// Comparisons by equality with masked columns a minute before it is a finding (policy.md).
const EQUALITY: u64 = 60;
/// Results before one can be unusual, and rows that always may be.
const USUAL_AFTER: u64 = 20;
const USUAL_ROWS: u64 = 100;
/// Weight of a result in what is usual.
const WEIGHT: f64 = 0.1;
/// Commands before an object can be new.
const SEEN_AFTER: u64 = 100;
/// Objects that are remembered; once there are so many, none is new.
const SEEN_MOST: usize = 16 * 1024;

/// What was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Many commands were denied.
    DenialBurst,
    /// Masked columns were compared with many constants.
    EqualityProbing,
    /// Many values were masked.
    MaskedVolume,
    /// A result was far longer than usual.
    UnusualRows,
    /// An object was named for the first time.
    FirstSeen,
}

impl Kind {
    /// As records, metrics and Events name it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::DenialBurst => "DenialBurst",
            Kind::EqualityProbing => "EqualityProbing",
            Kind::MaskedVolume => "MaskedVolume",
            Kind::UnusualRows => "UnusualRows",
            Kind::FirstSeen => "FirstSeen",
        }
    }
}

/// Something out of the ordinary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: Kind,
    pub(crate) detail: String,
    /// The first of its kind within the minute: it is told.
    pub(crate) first: bool,
}

/// What has been seen of one pod on one connection.
#[derive(Debug, Default)]
pub struct Deviations(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    denials: Minute,
    equalities: Minute,
    masked: Minute,
    usual: Usual,
    commands: u64,
    seen: HashSet<u64>,
    /// The next command waits for a human.
    holding: bool,
}

/// A count within a minute.
#[derive(Debug, Default)]
struct Minute {
    started: Option<Instant>,
    count: u64,
    told: bool,
}

impl Minute {
    /// Counts; the count, and whether it is the first time, once the limit is passed.
    fn add(&mut self, count: u64, limit: u64, now: Instant) -> Option<(u64, bool)> {
        let over = |started: Instant| now.saturating_duration_since(started) >= MINUTE;
        if self.started.is_none_or(over) {
            *self = Minute {
                started: Some(now),
                ..Minute::default()
            };
        }
        self.count = self.count.saturating_add(count);
        if self.count <= limit {
            return None;
        }
        Some((self.count, !std::mem::replace(&mut self.told, true)))
    }
}

/// How many rows a result usually has.
#[derive(Debug, Default)]
struct Usual {
    results: u64,
    mean: f64,
}

impl Deviations {
    /// A command was denied.
    pub(crate) fn denied(&self, limits: &Findings) -> Option<Found> {
        let limit = limits.denials_per_minute?;
        self.counted(
            |state| &mut state.denials,
            (1, limit),
            Kind::DenialBurst,
            "denials",
        )
    }

    /// A command compares masked columns with so many constants.
    pub(crate) fn compared(&self, count: u64, limits: &Findings) -> Option<Found> {
        let limit = limits.equality_per_minute.unwrap_or(EQUALITY);
        self.counted(
            |state| &mut state.equalities,
            (count, limit),
            Kind::EqualityProbing,
            "comparisons with masked columns",
        )
    }

    /// So many values of a result were masked.
    pub(crate) fn masked(&self, count: u64, limits: &Findings) -> Option<Found> {
        let limit = limits.masked_per_minute?;
        self.counted(
            |state| &mut state.masked,
            (count, limit),
            Kind::MaskedVolume,
            "masked values",
        )
    }

    fn counted(
        &self,
        which: impl FnOnce(&mut State) -> &mut Minute,
        (count, limit): (u64, u64),
        kind: Kind,
        what: &str,
    ) -> Option<Found> {
        if count == 0 {
            return None;
        }
        let (count, first) = which(&mut self.state()).add(count, limit, Instant::now())?;
        Some(Found {
            kind,
            detail: format!("{count} {what} within a minute, where {limit} are usual"),
            first,
        })
    }

    /// A result had so many rows.
    pub(crate) fn rows(&self, rows: u64, limits: &Findings) -> Option<Found> {
        let times = limits.rows_times_usual?;
        if rows == 0 {
            return None;
        }
        let usual = &mut self.state().usual;
        let (before, mean) = (usual.results, usual.mean);
        // Precise to 2^53 rows.
        let now = rows as f64;
        usual.results = before.saturating_add(1);
        usual.mean = match before {
            0 => now,
            _ => mean + WEIGHT * (now - mean),
        };
        let unusual = before >= USUAL_AFTER && rows >= USUAL_ROWS && now > mean * times as f64;
        unusual.then(|| Found {
            kind: Kind::UnusualRows,
            detail: format!("a result of {rows} rows, where {mean:.0} are usual"),
            first: true,
        })
    }

    /// A command that is not denied names these.
    pub(crate) fn named(&self, accesses: &[Access], limits: &Findings) -> Option<Found> {
        if !limits.first_seen {
            return None;
        }
        let mut state = self.state();
        let state = &mut *state;
        let learnt = state.commands >= SEEN_AFTER;
        state.commands = state.commands.saturating_add(1);
        let mut new: Vec<String> = Vec::new();
        for access in accesses.iter().filter(|access| is_of_data(access)) {
            if state.seen.len() >= SEEN_MOST {
                break;
            }
            let mut hasher = DefaultHasher::new();
            (access.effect, &access.object).hash(&mut hasher);
            if state.seen.insert(hasher.finish()) && learnt {
                new.push(access.to_string());
            }
        }
        let (first, rest) = new.split_first()?;
        let more = match rest.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(Found {
            kind: Kind::FirstSeen,
            detail: format!("{first}{more}, for the first time"),
            first: true,
        })
    }

    /// The next command waits for a human.
    pub(crate) fn hold(&self) {
        self.state().holding = true;
    }

    pub(crate) fn is_holding(&self) -> bool {
        self.state().holding
    }

    /// A human has let one through.
    pub(crate) fn release(&self) {
        self.state().holding = false;
    }

    /// A poisoned lock only means that another session panicked; counting on is right.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What every client does to begin with is no news.
fn is_of_data(access: &Access) -> bool {
    !access.baseline
        && !matches!(
            access.effect,
            Effect::Catalog | Effect::Session | Effect::Transaction
        )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use chaperone_policy::Object;

    use super::*;

    #[test]
    fn a_threshold_is_told_once_a_minute_and_passed_each_time() {
        let now = Instant::now();
        let mut minute = Minute::default();
        assert_eq!(minute.add(2, 2, now), None);
        assert_eq!(minute.add(1, 2, now), Some((3, true)));
        assert_eq!(minute.add(1, 2, now), Some((4, false)));
        assert_eq!(minute.add(2, 2, now + MINUTE), None);
        assert_eq!(minute.add(1, 2, now + MINUTE), Some((3, true)));
    }

    #[test]
    fn a_result_is_unusual_beside_those_before_it() {
        let limits = Findings {
            rows_times_usual: Some(10),
            ..Findings::default()
        };
        let seen = Deviations::default();
        // Nothing is usual yet.
        assert_eq!(seen.rows(5000, &limits), None);
        for _ in 0..200 {
            assert_eq!(seen.rows(20, &limits), None);
        }
        assert_eq!(seen.rows(150, &limits), None, "not ten times as many");
        let found = seen.rows(2000, &limits).unwrap();
        assert_eq!((found.kind, found.first), (Kind::UnusualRows, true));
        let few = Deviations::default();
        for _ in 0..30 {
            let _ = few.rows(1, &limits);
        }
        assert_eq!(few.rows(99, &limits), None, "few rows are never many");
        assert_eq!(few.rows(5000, &Findings::default()), None, "not asked for");
    }

    #[test]
    fn an_object_is_new_once_and_after_what_is_usual_is_known() {
        let limits = Findings {
            first_seen: true,
            ..Findings::default()
        };
        let reads = |name: &str| Access {
            effect: Effect::Read,
            object: Object::Relation {
                schema: "public".into(),
                name: name.into(),
            },
            baseline: false,
        };
        let seen = Deviations::default();
        for _ in 0..SEEN_AFTER {
            assert_eq!(seen.named(&[reads("orders")], &limits), None);
        }
        assert_eq!(seen.named(&[reads("orders")], &limits), None);
        let found = seen.named(&[reads("orders"), reads("salaries")], &limits);
        assert!(found.unwrap().detail.contains("salaries"));
        assert_eq!(seen.named(&[reads("salaries")], &limits), None);
        let writes = Access {
            effect: Effect::Write,
            ..reads("orders")
        };
        assert!(seen.named(&[writes], &limits).is_some(), "another effect");
    }
}
