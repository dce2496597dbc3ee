//! The keys of what was just shipped, for as long as the sidecar has still to tell of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::{DataKey, KeyName};
use crate::engine::lock;

/// Each with the segment that its session ended in.
type Kept = BTreeMap<KeyName, (DataKey, Option<u64>)>;

/// Keys of sessions that are open, and of those whose last segment was not told of yet. They are
/// nowhere but in memory.
#[derive(Debug, Clone, Default)]
pub struct ShippedKeys(Arc<Mutex<Kept>>);

impl ShippedKeys {
    /// What opens the runs of a segment, and whether each ends its session.
    pub(crate) fn add(
        &self,
        segment: u64,
        keys: impl IntoIterator<Item = (KeyName, DataKey, bool)>,
    ) {
        let mut known = lock(&self.0);
        for (name, key, ends) in keys {
            known.insert(name, (key, ends.then_some(segment)));
        }
    }

    pub(crate) fn get(&self, name: &KeyName) -> Option<DataKey> {
        lock(&self.0).get(name).map(|(key, _)| key.clone())
    }

    /// All up to this segment has been told: what ended there is forgotten.
    pub fn forget(&self, segment: u64) {
        lock(&self.0).retain(|_, (_, last)| last.is_none_or(|last| last > segment));
    }
}
