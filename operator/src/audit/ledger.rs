//! Which segments there are, which of them wait for a checkpoint, and how much room all take. It
//! sees names, times and sizes only.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A checkpoint is made once a segment has waited for so long …
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// … or so many wait.
const ENOUGH: usize = 500;

/// What is known of a segment without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// When the API server took it in.
    pub(super) created: Timestamp,
    /// Bytes of its spec.
    pub(super) bytes: u64,
}

/// The segments of one leader's term.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    segments: HashMap<String, Seen>,
    /// By the order of the log; and since when each was seen to wait.
    waiting: BTreeMap<(Timestamp, String), Instant>,
    /// Segments that a checkpoint names. A name is forgotten only when its segment is seen to be
    /// deleted: a list may be older than a checkpoint, and a name forgotten is named twice.
    named: HashSet<String>,
    /// Segments that get no leaf, and why.
    refused: BTreeMap<String, String>,
    used: u64,
}

impl Ledger {
    /// All segments there are now.
    pub(super) fn listed(&mut self, segments: HashMap<String, Seen>, now: Instant) {
        self.waiting
            .retain(|(_, name), _| segments.contains_key(name));
        self.segments = HashMap::new();
        self.used = 0;
        for (name, seen) in segments {
            self.appeared(name, seen, now);
        }
    }

    /// A segment that is there.
    pub(super) fn appeared(&mut self, name: String, seen: Seen, now: Instant) {
        if !self.named.contains(&name) && !self.refused.contains_key(&name) {
            let place = (seen.created, name.clone());
            self.waiting.entry(place).or_insert(now);
        }
        self.used = self.used.saturating_add(seen.bytes);
        if let Some(before) = self.segments.insert(name, seen) {
            self.used = self.used.saturating_sub(before.bytes);
        }
    }

    /// A segment that was deleted.
    pub(super) fn gone(&mut self, name: &str) {
        self.named.remove(name);
        self.refused.remove(name);
        if let Some(seen) = self.segments.remove(name) {
            self.used = self.used.saturating_sub(seen.bytes);
            self.waiting.remove(&(seen.created, name.to_owned()));
        }
    }

    /// A checkpoint names these.
    pub(super) fn named<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        for name in names {
            self.named.insert(name.to_owned());
            self.no_more_waiting(name);
        }
    }

    /// This one gets no leaf.
    pub(super) fn refuse(&mut self, name: &str, why: String) {
        self.no_more_waiting(name);
        self.refused.insert(name.to_owned(), why);
    }

    fn no_more_waiting(&mut self, name: &str) {
        if let Some(seen) = self.segments.get(name) {
            self.waiting.remove(&(seen.created, name.to_owned()));
        }
    }

    /// Forgets the names of segments that are not there. Only right where all checkpoints were read
    /// before the segments were listed.
    pub(super) fn forget_deleted(&mut self) {
        self.named.retain(|name| self.segments.contains_key(name));
    }

    /// Whether it is time for a checkpoint.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let longest = self
            .waiting
            .values()
            .map(|since| now.saturating_duration_since(*since))
            .max();
        self.waiting.len() >= ENOUGH || longest.is_some_and(|longest| longest >= LONGEST_WAIT)
    }

    /// The first that wait, in the order of the log.
    pub(super) fn first(&self, most: usize) -> Vec<String> {
        let names = self.waiting.keys().map(|(_, name)| name.clone());
        names.take(most).collect()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of all segments.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// One that gets no leaf and why, and how many there are.
    pub(super) fn refused(&self) -> Option<(&str, &str, usize)> {
        let (name, why) = self.refused.first_key_value()?;
        Some((name, why, self.refused.len()))
    }
}

/// Sizes of the checkpoints.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    by_number: BTreeMap<u64, u64>,
    used: u64,
}

impl Sizes {
    pub(super) fn appeared(&mut self, number: u64, bytes: u64) {
        let before = self.by_number.insert(number, bytes).unwrap_or_default();
        self.used = self.used.saturating_add(bytes).saturating_sub(before);
    }

    pub(super) fn gone(&mut self, number: u64) {
        let before = self.by_number.remove(&number).unwrap_or_default();
        self.used = self.used.saturating_sub(before);
    }

    /// All there are now.
    pub(super) fn listed(&mut self, numbers: &BTreeSet<u64>) {
        let gone: Vec<u64> = self
            .by_number
            .keys()
            .filter(|number| !numbers.contains(number))
            .copied()
            .collect();
        gone.into_iter().for_each(|number| self.gone(number));
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn seen(second: i64) -> Seen {
        Seen {
            created: Timestamp::from_second(second).unwrap(),
            bytes: 10,
        }
    }

    fn ledger(names: &[(&str, i64)], now: Instant) -> Ledger {
        let mut ledger = Ledger::default();
        for (name, second) in names {
            ledger.appeared((*name).to_owned(), seen(*second), now);
        }
        ledger
    }

    #[test]
    fn segments_come_by_their_time_and_then_their_name() {
        let ledger = ledger(&[("b", 2), ("z", 1), ("a", 2)], Instant::now());
        assert_eq!(ledger.first(9), ["z", "a", "b"]);
        assert_eq!(ledger.first(2), ["z", "a"]);
    }

    #[test]
    fn a_checkpoint_is_due_when_one_waited_long_or_many_wait() {
        let now = Instant::now();
        let mut ledger = ledger(&[("a", 1)], now);
        assert!(!ledger.is_due(now));
        assert!(ledger.is_due(now + LONGEST_WAIT));
        // Its time by another clock says nothing.
        ledger.appeared("old".to_owned(), seen(0), now);
        assert!(!ledger.is_due(now + LONGEST_WAIT / 2));
        for n in 0..ENOUGH {
            ledger.appeared(format!("n{n}"), seen(3), now);
        }
        assert!(ledger.is_due(now));
    }

    #[test]
    fn what_a_checkpoint_names_never_waits_again() {
        let now = Instant::now();
        let mut ledger = ledger(&[("a", 1), ("b", 2)], now);
        ledger.named(["a", "later"].into_iter());
        assert_eq!(ledger.first(9), ["b"]);
        // Seen again, by an event, by a list that has it and after one that has it not.
        ledger.appeared("a".to_owned(), seen(1), now);
        ledger.listed([("b".to_owned(), seen(2))].into(), now);
        ledger.listed(
            [("a".to_owned(), seen(1)), ("b".to_owned(), seen(2))].into(),
            now,
        );
        ledger.appeared("later".to_owned(), seen(3), now);
        assert_eq!(ledger.first(9), ["b"]);
        assert_eq!(ledger.used(), 30);
        ledger.forget_deleted();
        ledger.gone("a");
        assert_eq!((ledger.first(9), ledger.used()), (vec!["b".to_owned()], 20));
    }

    #[test]
    fn what_is_refused_waits_no_more_and_is_told() {
        let mut ledger = ledger(&[("a", 1), ("b", 2)], Instant::now());
        ledger.refuse("a", "altered".to_owned());
        ledger.appeared("a".to_owned(), seen(1), Instant::now());
        assert_eq!(ledger.first(9), ["b"]);
        assert_eq!(ledger.refused(), Some(("a", "altered", 1)));
        ledger.gone("a");
        assert_eq!((ledger.refused(), ledger.used()), (None, 10));
    }

    #[test]
    fn sizes_add_up_whatever_is_said_twice() {
        let mut sizes = Sizes::default();
        sizes.appeared(1, 5);
        sizes.appeared(2, 7);
        sizes.appeared(2, 7);
        assert_eq!(sizes.used(), 12);
        sizes.gone(1);
        sizes.gone(1);
        assert_eq!(sizes.used(), 7);
        sizes.appeared(3, 1);
        sizes.listed(&[3].into());
        assert_eq!(sizes.used(), 1);
    }
}
