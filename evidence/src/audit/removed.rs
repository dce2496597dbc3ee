//! What of a log may be gone: what its newest tombstone says, as far as the log bears it out.

use std::ops::RangeInclusive;
use std::path::Path;

use jiff::Timestamp;

use super::collect::{Collected, StoreFolder};
use super::tombstone::{StoreBase, Tombstone};
use super::verify::{LogReport, segment_name};
use super::{Entry, EntryKind, Tree, digest};
use crate::base::Base;
use crate::error::StoreError;
use crate::seal::{Keyring, Place};
use crate::verify::{self as store, BreakReason, Selection, TrustedKey};

/// What was removed, as the log's newest tombstone says.
#[derive(Debug, Clone)]
pub struct Removed {
    /// AuditSegment that the tombstone is in.
    pub name: String,
    /// The tombstone.
    pub tombstone: Tombstone,
}

impl Removed {
    /// Whether none of these checkpoints has to be there.
    pub(super) fn allows(&self, missing: RangeInclusive<u64>) -> bool {
        let (first, last) = missing.into_inner();
        let needed = |(from, to): &(u64, u64)| from.saturating_sub(1) <= last && first <= *to;
        let tombstone = &self.tombstone;
        let mut held = tombstone.held.iter().flat_map(|held| &held.checkpoints);
        last < tombstone.checkpoint && !held.any(needed)
    }
}

/// The newest tombstone that the log bears out; the segment of every other one that is not the log
/// key's, or says what is not so, and why.
pub(super) fn newest_tombstone(
    collected: &Collected,
    public: &[u8; 32],
) -> (Option<Removed>, Vec<(String, String)>) {
    let (mut signed, mut untrue) = (Vec::new(), Vec::new());
    for (name, entries) in &collected.segments {
        for (entry, data) in entries {
            if entry.kind != EntryKind::Tombstone {
                continue;
            }
            let name = name.clone();
            match opened(entry, data, public) {
                Ok(tombstone) => signed.push(Removed { name, tombstone }),
                Err(why) => untrue.push((name, why)),
            }
        }
    }
    signed.sort_by_key(|removed| std::cmp::Reverse(removed.tombstone.number));
    for removed in signed {
        match borne_out(&removed, collected) {
            Ok(()) => return (Some(removed), untrue),
            Err(why) => untrue.push((removed.name, why)),
        }
    }
    (None, untrue)
}

impl LogReport {
    /// The newest tombstone that the log bears out. Every one that is not so is a break.
    pub(super) fn tombstone(
        &mut self,
        collected: &Collected,
        public: &[u8; 32],
    ) -> Option<Removed> {
        let (removed, untrue) = newest_tombstone(collected, public);
        for (name, why) in untrue {
            self.untrue(&name, why);
        }
        removed
    }

    fn untrue(&mut self, name: &str, why: String) {
        self.wrong(segment_name(name), BreakReason::TombstoneInvalid, why);
    }

    /// Says what is gone, and whether it is as much as the tombstone says: `kept` are the leaves
    /// that are there below it.
    pub(super) fn told(&mut self, removed: &Removed, kept: u64, pending: bool) {
        let tombstone = &removed.tombstone;
        if self.report.ok() && tombstone.entries.checked_add(kept) != Some(tombstone.size) {
            let why = format!(
                "it counts {} entries as removed; {} are not here",
                tombstone.entries,
                tombstone.size.saturating_sub(kept)
            );
            self.untrue(&removed.name, why);
        }
        let mut detail = in_words(tombstone);
        if kept > 0 {
            let holds: Vec<&str> = tombstone
                .held
                .iter()
                .map(|held| held.hold.as_str())
                .collect();
            detail.push_str(&format!(
                "; {kept} entries stay, held for {}",
                holds.join(", ")
            ));
        }
        if pending {
            detail.push_str("; the tombstone waits for its checkpoint");
        }
        let file = segment_name(&removed.name).into();
        self.report.note(Some(file), None, detail);
    }

    /// The same in a bundle, which has nothing of what is held below a tombstone: it is not looked for.
    pub(super) fn told_in_bundle(&mut self, mut removed: Removed) {
        removed
            .tombstone
            .stores
            .retain(|known| known.hold.is_empty());
        let detail = in_words(&removed.tombstone);
        self.report
            .note(Some(segment_name(&removed.name).into()), None, detail);
        self.removed = Some(removed);
    }

    /// A store whose beginning was removed: each stretch of it that is there, from its base.
    pub(super) fn store_behind(
        &mut self,
        folder: &StoreFolder,
        ring: &Keyring,
        bases: &[StoreBase],
        selection: &Selection,
        prefix: &Path,
    ) -> Result<(), StoreError> {
        for known in bases
            .iter()
            .filter(|known| known.hold.is_empty() && known.missing > 0)
        {
            let detail = format!(
                "{} segments of it were missing already when those around them were removed",
                known.missing
            );
            self.wrong(prefix, BreakReason::SegmentMissing, detail);
        }
        let key = TrustedKey::PublicKey(folder.public);
        for (base, until) in passes(bases) {
            let place = Place::new(&folder.dir, ring);
            let found = store::verify_from(place, selection, Some(&key), Some(base), until)?;
            self.report.merge(found, prefix);
        }
        Ok(())
    }
}

/// Whether the passes over a store look at one of its segments.
pub(super) fn looked_at(bases: &[StoreBase], number: u64) -> bool {
    bases.is_empty()
        || passes(bases)
            .iter()
            .any(|(base, until)| number > base.number && until.is_none_or(|until| number <= until))
}

/// From where to where a store is to be verified. What follows on something held is one pass with
/// it, so that nothing is looked at twice.
fn passes(bases: &[StoreBase]) -> Vec<(&Base, Option<u64>)> {
    let mut sorted: Vec<&StoreBase> = bases.iter().collect();
    // Where both begin at one place, what is held comes first.
    sorted.sort_by_key(|known| (known.base.number, known.hold.is_empty()));
    let mut passes: Vec<(&Base, Option<u64>)> = Vec::new();
    for known in sorted {
        let until = (!known.hold.is_empty()).then_some(known.until);
        match passes.last_mut() {
            Some((_, None)) => {}
            Some((_, last)) if last.is_some_and(|last| known.base.number <= last) => {
                *last = match (*last, until) {
                    (Some(last), Some(until)) => Some(last.max(until)),
                    _ => None,
                };
            }
            _ => passes.push((&known.base, until)),
        }
    }
    passes
}

/// What is gone, for people.
fn in_words(tombstone: &Tombstone) -> String {
    let made = i64::try_from(tombstone.wall_ns / 1_000_000_000).unwrap_or(i64::MAX);
    format!(
        "{} segments with {} entries, of {} to {}, were removed on {} under tombstone {}; \
         nothing younger than {} s was; checkpoint {} stays as what the rest grows from",
        tombstone.segments,
        tombstone.entries,
        date(tombstone.oldest_s),
        date(tombstone.newest_s),
        date(made),
        tombstone.number,
        tombstone.at_least_s,
        tombstone.checkpoint,
    )
}

pub(super) fn opened(entry: &Entry, data: &[u8], public: &[u8; 32]) -> Result<Tombstone, String> {
    let tombstone = Tombstone::open(data, public).map_err(|error| error.to_string())?;
    if entry.number != tombstone.number || entry.parts != 1 || entry.store != *public {
        return Err("it is another one than its entry says".to_owned());
    }
    Ok(tombstone)
}

/// The checkpoint that a tombstone names is there, is the one it means, and came before it.
fn borne_out(removed: &Removed, collected: &Collected) -> Result<(), String> {
    let tombstone = &removed.tombstone;
    let number = tombstone.checkpoint;
    let anchor = collected
        .checkpoints
        .get(&number)
        .ok_or_else(|| format!("checkpoint {number}, which it says is to stay, is not there"))?;
    if digest(anchor.note.as_bytes()) != tombstone.note || anchor.size != tombstone.size {
        return Err(format!("checkpoint {number} is another one than it means"));
    }
    let mut before = collected.checkpoints.range(..=number);
    let named = before.any(|(_, checkpoint)| {
        let mut segments = checkpoint.segments.iter();
        segments.any(|(name, _)| *name == removed.name)
    });
    match named {
        true => Err(format!(
            "it removes itself: checkpoint {number} comes after it"
        )),
        false => Ok(()),
    }
}

/// The tree up to a checkpoint whose predecessor was removed, as that checkpoint signed it.
pub(super) fn regrown(size: u64, subtrees: &[[u8; 32]], root: &[u8; 32]) -> Option<Tree> {
    Tree::of(size, subtrees.to_vec()).filter(|tree| tree.root() == *root)
}

fn date(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
