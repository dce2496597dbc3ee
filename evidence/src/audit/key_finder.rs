//! The keys of single sessions out of stores: what makes them readable, and nothing else there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::tombstone::Tombstone;
use super::{Entry, EntryKind};
use crate::codec::Malformed;
use crate::entry::Run;
use crate::record::SessionId;
use crate::seal::{KeyName, Keyring, Unsealer};
use crate::segment;

/// Bytes of segments that wait for their other parts, at most.
const MAX_WAITING: usize = 64 << 20;

/// Finds the keys of some sessions. Segments may come in any order: a key is derived only when all
/// have been seen.
#[derive(Debug)]
pub struct KeyFinder {
    wanted: BTreeSet<SessionId>,
    unsealer: Unsealer,
    names: BTreeSet<KeyName>,
    /// Those of whom some run is not sealed, or all are.
    seen: BTreeSet<SessionId>,
    parts: BTreeMap<([u8; 32], u64), BTreeMap<u32, Vec<u8>>>,
    waiting: usize,
}

/// What was found.
#[derive(Debug)]
pub struct FoundKeys {
    /// The keys.
    pub keys: Keyring,
    /// Sessions that are sealed for others.
    pub shut: Vec<SessionId>,
    /// Sessions that are not sealed: everybody who sees them can read them.
    pub clear: Vec<SessionId>,
    /// Sessions of which nothing is there.
    pub missing: Vec<SessionId>,
}

impl KeyFinder {
    /// For these sessions, as far as `ring` opens what their keys come from.
    pub fn new(ring: Arc<Keyring>, sessions: impl IntoIterator<Item = SessionId>) -> KeyFinder {
        KeyFinder {
            wanted: sessions.into_iter().collect(),
            unsealer: Unsealer::new(ring),
            names: BTreeSet::new(),
            seen: BTreeSet::new(),
            parts: BTreeMap::new(),
            waiting: 0,
        }
    }

    /// Takes an entry of a log; `public` is the log's key. What is not sound in it opens nothing:
    /// verify says so. False where more waits for its parts than is kept.
    pub fn entry(&mut self, entry: &Entry, data: &[u8], public: &[u8; 32]) -> bool {
        match entry.kind {
            EntryKind::Certificate | EntryKind::Unseal => {}
            // The seals of what goes on behind it.
            EntryKind::Tombstone => {
                if let Ok(tombstone) = Tombstone::open(data, public) {
                    for body in tombstone.stores.iter().flat_map(|store| store.base.seals()) {
                        drop(self.unsealer.take_body(body));
                    }
                }
            }
            EntryKind::Segment if entry.parts == 1 => drop(self.segment(data)),
            EntryKind::Segment => return self.part(entry, data),
        }
        true
    }

    fn part(&mut self, entry: &Entry, data: &[u8]) -> bool {
        let place = (entry.store, entry.number);
        let parts = self.parts.entry(place).or_default();
        if parts.insert(entry.part, data.to_vec()).is_none() {
            self.waiting = self.waiting.saturating_add(data.len());
        }
        let whole = u32::try_from(parts.len()).is_ok_and(|count| count == entry.parts);
        if whole && let Some(parts) = self.parts.remove(&place) {
            let bytes = parts.into_values().collect::<Vec<_>>().concat();
            self.waiting = self.waiting.saturating_sub(bytes.len());
            drop(self.segment(&bytes));
        }
        self.waiting <= MAX_WAITING
    }

    /// Takes a whole segment of a store.
    pub(super) fn segment(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        for entry in segment::parse(bytes)?.entries {
            match entry.kind {
                // One that does not hold opens nothing.
                segment::SEAL => drop(self.unsealer.take_body(entry.body)),
                segment::RUN => {
                    let run = Run::decode(entry.body)?.run;
                    if self.wanted.contains(&run.session) {
                        self.seen.insert(run.session);
                        self.names.extend(run.key_name());
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The keys, now that all was seen.
    pub fn finish(self) -> FoundKeys {
        let mut keys = Keyring::default();
        let mut sealed = BTreeSet::new();
        for name in self.names {
            sealed.insert(name.session);
            if let Some((key, _)) = self.unsealer.key(&name) {
                keys.insert(name, key);
            }
        }
        let mut found = FoundKeys {
            keys,
            shut: Vec::new(),
            clear: Vec::new(),
            missing: Vec::new(),
        };
        for session in self.wanted {
            if !self.seen.contains(&session) {
                found.missing.push(session);
            } else if !sealed.contains(&session) {
                found.clear.push(session);
            } else if !found.keys.opens(&session) {
                found.shut.push(session);
            }
        }
        found
    }
}
