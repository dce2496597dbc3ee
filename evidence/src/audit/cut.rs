//! What goes under the next tombstone: the log's oldest stretches one after the other, and how far
//! every store is after them.
//!
//! ```text
//! Cut::new(tombstone before, holds) ─segment(cp-N, its entries)… close(cp-N)─► is_clean ─► tombstone
//! ```
//! A stretch is what one checkpoint names. It stays whole where a hold applies to anything in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::tombstone::{Held, StoreBase, Tombstone};
use super::{Entry, EntryKind};
use crate::base::Base;
use crate::entry::Run;
use crate::frame::Hash;
use crate::record::SessionId;
use crate::segment;

/// A segment that is missing for so many stretches is not on its way any more.
const PATIENCE: u64 = 2;

/// What no retention passes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hold {
    /// Its name, which the tombstone repeats.
    pub name: String,
    /// Evidence of pods in these namespaces.
    pub namespaces: Vec<String>,
    /// Segments that records of these sessions are in.
    pub sessions: Vec<SessionId>,
}

/// The log's beginning as far as it is to go.
#[derive(Debug, Clone)]
pub struct Cut {
    number: u64,
    holds: Vec<Hold>,
    /// What stays, by hold.
    kept: BTreeMap<String, BTreeSet<u64>>,
    /// What stayed, and no hold keeps any more.
    released: BTreeSet<u64>,
    /// Segments and entries of each stretch looked at.
    counts: BTreeMap<u64, (u64, u64)>,
    segments: u64,
    entries: u64,
    times: Option<(i64, i64)>,
    stores: BTreeMap<(String, [u8; 32]), Store>,
}

/// The checkpoint that a cut is at.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// Its number.
    pub checkpoint: u64,
    /// SHA-256 of its note.
    pub note: Hash,
    /// Its size.
    pub size: u64,
    /// Now, nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// The retention in force, seconds.
    pub at_least_s: u64,
}

#[derive(Debug, Clone, Default)]
struct Store {
    certificate: Vec<u8>,
    base: Base,
    missing: u64,
    /// Held stretches of it, in order.
    held: Vec<StoreBase>,
    /// Parts of segments that do not follow yet.
    waiting: BTreeMap<u64, Parts>,
    /// Whether anything of it is in this cut.
    touched: bool,
}

#[derive(Debug, Clone, Default)]
struct Parts {
    namespace: String,
    since: u64,
    stretches: BTreeSet<u64>,
    count: u32,
    parts: HashMap<u32, Vec<u8>>,
}

impl Parts {
    fn whole(&self) -> Option<Vec<u8>> {
        let parts: Option<Vec<&Vec<u8>>> =
            (0..self.count).map(|part| self.parts.get(&part)).collect();
        Some(parts?.into_iter().flatten().copied().collect())
    }
}

impl Cut {
    /// A cut that goes on from the tombstone before, if there is one. What it kept for a hold that
    /// is not there any more is released.
    pub fn new(before: Option<&Tombstone>, holds: Vec<Hold>) -> Cut {
        let mut cut = Cut {
            number: before.map_or(0, |before| before.number).saturating_add(1),
            holds,
            kept: BTreeMap::new(),
            released: BTreeSet::new(),
            counts: BTreeMap::new(),
            segments: before.map_or(0, |before| before.segments),
            entries: before.map_or(0, |before| before.entries),
            times: before.map(|before| (before.oldest_s, before.newest_s)),
            stores: BTreeMap::new(),
        };
        let Some(before) = before else { return cut };
        for held in &before.held {
            let numbers = held.checkpoints.iter().flat_map(|(a, b)| *a..=*b);
            match cut.holds.iter().any(|hold| hold.name == held.hold) {
                true => cut
                    .kept
                    .entry(held.hold.clone())
                    .or_default()
                    .extend(numbers),
                false => cut.released.extend(numbers),
            }
        }
        cut.released
            .retain(|number| !cut.kept.values().any(|kept| kept.contains(number)));
        for known in &before.stores {
            let place = (known.uid.clone(), known.store);
            if known.hold.is_empty() {
                let store = cut.stores.entry(place).or_default();
                store.certificate.clone_from(&known.certificate);
                store.base = known.base.clone();
                store.missing = known.missing;
            } else if cut.holds.iter().any(|hold| hold.name == known.hold) {
                cut.stores
                    .entry(place)
                    .or_default()
                    .held
                    .push(known.clone());
            }
        }
        cut
    }

    /// Checkpoints whose segments were held and are not any more: they go with this cut, in
    /// [`Cut::release`].
    pub fn released(&self) -> impl Iterator<Item = u64> {
        self.released.iter().copied()
    }

    /// Counts what a released checkpoint names.
    pub fn release(&mut self, segments: u64, entries: u64) {
        self.segments = self.segments.saturating_add(segments);
        self.entries = self.entries.saturating_add(entries);
    }

    /// Takes the next segment that a checkpoint names: when it was made (seconds since the Unix
    /// epoch; none where it is not there), how many leaves it has, and its entries as far as they
    /// can be read.
    pub fn segment(
        &mut self,
        checkpoint: u64,
        made_s: Option<i64>,
        leaves: u64,
        entries: &[(Entry, Vec<u8>)],
    ) {
        let counted = self.counts.entry(checkpoint).or_default();
        counted.0 = counted.0.saturating_add(1);
        counted.1 = counted.1.saturating_add(leaves);
        if let Some(made_s) = made_s {
            let (oldest, newest) = self.times.unwrap_or((made_s, made_s));
            self.times = Some((oldest.min(made_s), newest.max(made_s)));
        }
        for (entry, data) in entries {
            self.entry(checkpoint, entry, data);
        }
    }

    /// All that a checkpoint names was taken: every store moves on as far as it goes.
    pub fn close(&mut self, checkpoint: u64) {
        for ((uid, key), store) in &mut self.stores {
            while let Some(kept) = store.next(checkpoint, &self.holds, uid, key) {
                for (hold, stretches) in kept {
                    self.kept.entry(hold).or_default().extend(stretches);
                }
            }
        }
    }

    fn entry(&mut self, checkpoint: u64, entry: &Entry, data: &[u8]) {
        let place = (entry.uid.clone(), entry.store);
        match entry.kind {
            EntryKind::Certificate => {
                let store = self.stores.entry(place).or_default();
                store.touched = true;
                if store.certificate.is_empty() {
                    store.certificate = data.to_vec();
                }
            }
            EntryKind::Segment => {
                let store = self.stores.entry(place).or_default();
                store.touched = true;
                // Sent twice, because an answer was lost.
                if entry.number <= store.base.number {
                    return;
                }
                let parts = store.waiting.entry(entry.number).or_insert_with(|| Parts {
                    namespace: entry.namespace.clone(),
                    since: checkpoint,
                    count: entry.parts,
                    ..Parts::default()
                });
                parts.stretches.insert(checkpoint);
                parts
                    .parts
                    .entry(entry.part)
                    .or_insert_with(|| data.to_vec());
            }
            // The one that is being made speaks for it; what was read is no store's.
            EntryKind::Tombstone | EntryKind::Unseal => {}
        }
    }

    /// Whether every store is whole up to here, so that the next tombstone may be here.
    pub fn is_clean(&self) -> bool {
        self.stores.values().all(|store| store.waiting.is_empty())
    }

    /// Whether a stretch stays, as far as is known.
    pub fn keeps(&self, checkpoint: u64) -> bool {
        self.kept.values().any(|kept| kept.contains(&checkpoint))
    }

    /// The tombstone for all stretches taken. `gone` says of a pod's UID that nothing more can come
    /// of it: where nothing came in this cut either, its store is forgotten.
    pub fn tombstone(&self, at: At, gone: &dyn Fn(&str) -> bool) -> Tombstone {
        let (mut segments, mut entries) = (self.segments, self.entries);
        for (_, counted) in self
            .counts
            .iter()
            .filter(|(number, _)| !self.keeps(**number))
        {
            segments = segments.saturating_add(counted.0);
            entries = entries.saturating_add(counted.1);
        }
        let (oldest_s, newest_s) = self.times.unwrap_or_default();
        let held = self.kept.iter().map(|(hold, numbers)| Held {
            hold: hold.clone(),
            checkpoints: ranges(numbers),
        });
        let mut stores = Vec::with_capacity(self.stores.len());
        for ((uid, key), store) in &self.stores {
            stores.extend(store.held.iter().cloned());
            if store.touched || !store.held.is_empty() || !gone(uid) {
                stores.push(store.at("", 0, uid, key));
            }
        }
        Tombstone {
            number: self.number,
            wall_ns: at.wall_ns,
            at_least_s: at.at_least_s,
            checkpoint: at.checkpoint,
            note: at.note,
            size: at.size,
            segments,
            entries,
            oldest_s,
            newest_s,
            held: held.collect(),
            stores,
        }
    }
}

/// What each hold keeps, by its name.
type Kept = Vec<(String, BTreeSet<u64>)>;

impl Store {
    fn at(&self, hold: &str, until: u64, uid: &str, key: &[u8; 32]) -> StoreBase {
        StoreBase {
            uid: uid.to_owned(),
            store: *key,
            certificate: self.certificate.clone(),
            hold: hold.to_owned(),
            until,
            missing: self.missing,
            base: self.base.clone(),
        }
    }

    /// Moves on by one segment, if one can be taken.
    fn next(&mut self, now: u64, holds: &[Hold], uid: &str, key: &[u8; 32]) -> Option<Kept> {
        let (number, first) = self.waiting.first_key_value()?;
        let number = *number;
        let follows = number == self.base.number.saturating_add(1);
        let whole = first.whole();
        let late = now.saturating_sub(first.since) >= PATIENCE;
        if !(late || (follows && whole.is_some())) {
            return None;
        }
        let parts = self.waiting.remove(&number)?;
        let between = number.saturating_sub(self.base.number).saturating_sub(1);
        self.missing = self.missing.saturating_add(between);
        if between > 0 {
            self.base.digest = Hash::default();
        }
        let Some(bytes) = whole else {
            self.missing = self.missing.saturating_add(1);
            self.base.take(number, &[]);
            return Some(Vec::new());
        };
        let mut kept = Kept::new();
        for hold in holds
            .iter()
            .filter(|hold| hold.applies(&parts.namespace, &bytes))
        {
            let last = self
                .held
                .iter_mut()
                .rev()
                .find(|held| held.hold == hold.name);
            match last.filter(|held| held.until == self.base.number) {
                Some(held) => held.until = number,
                None => {
                    let begins = self.at(&hold.name, number, uid, key);
                    self.held.push(begins);
                }
            }
            kept.push((hold.name.clone(), parts.stretches.clone()));
        }
        self.base.take(number, &bytes);
        Some(kept)
    }
}

impl Hold {
    fn applies(&self, namespace: &str, bytes: &[u8]) -> bool {
        if self.namespaces.iter().any(|held| held == namespace) {
            return true;
        }
        if self.sessions.is_empty() {
            return false;
        }
        let Ok(segment) = segment::split(bytes) else {
            return false;
        };
        let mut runs = segment
            .entries
            .iter()
            .filter(|entry| entry.kind == segment::RUN);
        runs.any(|entry| {
            Run::decode(entry.body).is_ok_and(|run| self.sessions.contains(&run.run.session))
        })
    }
}

/// Neighbours together, first and last of each.
fn ranges(numbers: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*number) => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    ranges
}
