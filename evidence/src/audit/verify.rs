//! Whether a cluster's log is whole and unchanged, and every store in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::collect::{Checkpoint, Collected, StoreFolder, write_stores};
use super::removed::{Removed, looked_at, regrown};
use super::tombstone::StoreBase;
use super::unsealing::{Unsealing, unsealings};
use super::{Entry, Note, Tree, digest};
use crate::error::StoreError;
use crate::frame::{Hash, NO_HASH};
use crate::keys::fingerprint;
use crate::record::SessionId;
use crate::seal::{Keyring, Place};
use crate::verify::{self as store, Break, BreakReason, Report, Selection, TrustedKey};

/// How far the log was found good.
#[derive(Debug, Clone)]
pub struct LogReport {
    /// Checkpoints that hold.
    pub checkpoints: u64,
    /// Leaves of the log, by the last checkpoint that holds.
    pub size: u64,
    /// Root over them: what to keep, to notice later if the log was cut or replaced.
    pub root: Hash,
    /// Entries that no checkpoint names yet.
    pub pending: u64,
    /// What was removed, if anything was.
    pub removed: Option<Removed>,
    /// Who was given the keys of which sessions, oldest first, with the AuditSegment that says so.
    pub unsealings: Vec<(String, Unsealing)>,
    /// The rest, with what is wrong in the log and in the stores.
    pub report: Report,
}

/// Verifies a log against `public`, the log's key, and as deep as `ring` opens it. The stores are
/// written below `dir`, each verified on its own: `folders` are what [`write_stores`] made of it.
///
/// # Errors
/// Where a store's folder cannot be read back.
pub fn verify(
    collected: &Collected,
    folders: &[StoreFolder],
    public: &[u8; 32],
    key_given: bool,
    ring: &Keyring,
    selection: Option<&SessionId>,
) -> Result<LogReport, StoreError> {
    let mut log = LogReport::new(public, key_given);
    log.entries(collected);
    log.unsealed(collected, public);
    log.removed = log.tombstone(collected, public);
    log.tree(collected, public);
    for folder in folders {
        log.store(folder, public, ring, selection)?;
    }
    Ok(log)
}

/// As [`verify()`], with the stores written below `dir` first.
///
/// # Errors
/// Where a file cannot be written or read back.
pub fn verify_into(
    collected: &Collected,
    public: &[u8; 32],
    dir: &Path,
) -> Result<LogReport, StoreError> {
    let folders = write_stores(collected, public, dir, &|_| false)?;
    verify(collected, &folders, public, true, &Keyring::default(), None)
}

impl LogReport {
    /// Nothing looked at yet.
    pub(super) fn new(public: &[u8; 32], key_given: bool) -> LogReport {
        LogReport {
            checkpoints: 0,
            size: 0,
            root: Tree::default().root(),
            pending: 0,
            removed: None,
            unsealings: Vec::new(),
            report: Report::new(fingerprint(public), key_given),
        }
    }

    pub(super) fn wrong(
        &mut self,
        file: impl Into<PathBuf>,
        reason: BreakReason,
        detail: impl Into<String>,
    ) {
        self.report.wrong(Break {
            file: file.into(),
            session: None,
            sequence: None,
            reason,
            detail: detail.into(),
        });
    }

    /// Every entry's bytes are what its header says.
    fn entries(&mut self, collected: &Collected) {
        for (name, entries) in &collected.segments {
            for (index, (entry, data)) in entries.iter().enumerate() {
                if digest(data) != entry.digest {
                    let detail = format!(
                        "the bytes of {} are not those it was written with",
                        place(index, entry)
                    );
                    self.wrong(segment_name(name), BreakReason::SegmentChanged, detail);
                }
            }
        }
    }

    /// Who read what. Every unsealing that is none is a break.
    pub(super) fn unsealed(&mut self, collected: &Collected, public: &[u8; 32]) {
        let (good, bad) = unsealings(collected, public);
        self.unsealings = good;
        for (name, why) in bad {
            self.wrong(segment_name(&name), BreakReason::UnsealInvalid, why);
        }
    }

    /// The checkpoints chain, are signed, and name what is there.
    fn tree(&mut self, collected: &Collected, public: &[u8; 32]) {
        let removed = self.removed.clone();
        let mut tree = Tree::default();
        let mut previous = NO_HASH;
        let mut named: BTreeSet<&str> = BTreeSet::new();
        let (mut expected, mut kept) = (1, 0);
        for (&number, checkpoint) in &collected.checkpoints {
            let file = format!("AuditCheckpoint/cp-{number}");
            let gap = number != expected;
            let allowed = removed
                .as_ref()
                .is_some_and(|removed| removed.allows(expected..=number.saturating_sub(1)));
            if gap && !allowed {
                let detail = format!(
                    "checkpoints {expected} to {} are not there",
                    number.saturating_sub(1)
                );
                self.wrong(&file, BreakReason::CheckpointMissing, detail);
                // Nothing after a gap can be tied to what is before it.
                return self.pending(collected, &named);
            }
            expected = number.saturating_add(1);
            let grown = if gap {
                stands(checkpoint, public).map(|grown| tree = grown)
            } else {
                grows(&mut tree, previous, checkpoint, public)
            };
            if let Err(detail) = grown {
                self.wrong(&file, BreakReason::CheckpointInvalid, detail);
                return self.pending(collected, &named);
            }
            let below = removed
                .as_ref()
                .map(|removed| &removed.tombstone)
                .filter(|tombstone| number <= tombstone.checkpoint);
            let gone = below.is_some_and(|tombstone| !tombstone.keeps(number));
            for (name, leaves) in &checkpoint.segments {
                kept += match below {
                    Some(_) if !gone => leaves.len() as u64,
                    _ => 0,
                };
                if !named.insert(name) {
                    let detail = format!("it names {name} a second time");
                    self.wrong(&file, BreakReason::CheckpointInvalid, detail);
                }
                // What goes under a tombstone goes bit by bit.
                if !gone || collected.segments.contains_key(name) {
                    self.named(collected, number, name, leaves);
                }
            }
            previous = digest(checkpoint.note.as_bytes());
            self.checkpoints += 1;
            self.size = tree.size();
            self.root = tree.root();
        }
        if let Some(removed) = removed {
            let waits = !named.contains(removed.name.as_str());
            self.told(&removed, kept, waits);
        }
        self.pending(collected, &named);
    }

    /// A segment that a checkpoint names is there, with just these entries.
    fn named(&mut self, collected: &Collected, number: u64, name: &str, leaves: &[Hash]) {
        let file = segment_name(name);
        let Some(entries) = collected.segments.get(name) else {
            let detail = format!("checkpoint {number} names it, and it is not there");
            return self.wrong(file, BreakReason::SegmentMissing, detail);
        };
        let there: Vec<Hash> = entries.iter().map(|(entry, _)| entry.leaf_hash()).collect();
        if there != leaves {
            let at = there
                .iter()
                .zip(leaves)
                .position(|(there, leaf)| there != leaf)
                .unwrap_or(there.len().min(leaves.len()));
            let which = entries
                .get(at)
                .map_or_else(|| format!("entry {at}"), |(entry, _)| place(at, entry));
            let detail = format!("{which} is not the one that checkpoint {number} names");
            self.wrong(file, BreakReason::SegmentChanged, detail);
        }
    }

    fn pending(&mut self, collected: &Collected, named: &BTreeSet<&str>) {
        for (name, entries) in &collected.segments {
            if !named.contains(name.as_str()) {
                self.pending += entries.len() as u64;
            }
        }
        if self.pending > 0 {
            let detail = format!("{} entries wait for their checkpoint", self.pending);
            self.report.note(None, None, detail);
        }
    }

    pub(super) fn store(
        &mut self,
        folder: &StoreFolder,
        public: &[u8; 32],
        ring: &Keyring,
        selection: Option<&SessionId>,
    ) -> Result<(), StoreError> {
        let prefix = format!("Pod/{}/{}", folder.pod.namespace, folder.pod.name);
        let stores = self
            .removed
            .iter()
            .flat_map(|found| &found.tombstone.stores);
        let bases: Vec<StoreBase> = stores
            .filter(|known| known.store == folder.public && known.uid == folder.pod.uid)
            .cloned()
            .collect();
        for (number, why) in &folder.faults {
            // Of what was removed a part may be left.
            if !looked_at(&bases, *number) {
                continue;
            }
            let file = Path::new(&prefix).join(crate::segment::relative_path(*number));
            self.wrong(file, BreakReason::SegmentChanged, why.clone());
        }
        if !folder.certified && !bases.iter().any(|known| known.certified(public)) {
            self.wrong(
                &prefix,
                BreakReason::CertificateInvalid,
                "the log key did not certify this pod's store",
            );
        }
        if folder.segments == 0 {
            let detail = "its sidecar attached, and nothing of it has arrived";
            self.report.note(Some(PathBuf::from(&prefix)), None, detail);
            return Ok(());
        }
        let selection = selection.map_or(Selection::All, |id| Selection::Session(*id));
        if !bases.is_empty() {
            return self.store_behind(folder, ring, &bases, &selection, Path::new(&prefix));
        }
        let key = TrustedKey::PublicKey(folder.public);
        let found = store::verify(Place::new(&folder.dir, ring), &selection, Some(&key))?;
        self.report.merge(found, Path::new(&prefix));
        Ok(())
    }
}

/// The tree up to a checkpoint whose predecessor is gone, by its own word and signature.
fn stands(checkpoint: &Checkpoint, public: &[u8; 32]) -> Result<Tree, String> {
    let note = Note::open(&checkpoint.note, public).map_err(|error| error.to_string())?;
    if (note.size, note.root) != (checkpoint.size, checkpoint.root) {
        return Err("its note says another size or root".to_owned());
    }
    regrown(note.size, &checkpoint.subtrees, &note.root)
        .ok_or_else(|| "its subtrees do not make the tree that it signs".to_owned())
}

/// Takes a checkpoint's leaves into the tree, which must then be what it says.
fn grows(
    tree: &mut Tree,
    previous: Hash,
    checkpoint: &Checkpoint,
    public: &[u8; 32],
) -> Result<(), String> {
    let note = Note::open(&checkpoint.note, public).map_err(|error| error.to_string())?;
    if checkpoint.previous != previous {
        return Err("the checkpoint before it is not the one it names".to_owned());
    }
    if (note.size, note.root) != (checkpoint.size, checkpoint.root) {
        return Err("its note says another size or root".to_owned());
    }
    for leaf in checkpoint.segments.iter().flat_map(|(_, leaves)| leaves) {
        tree.push(*leaf);
    }
    if (tree.size(), tree.root()) != (note.size, note.root) {
        return Err("the segments it names do not make the tree that it signs".to_owned());
    }
    Ok(())
}

pub(super) fn segment_name(name: &str) -> String {
    format!("AuditSegment/{name}")
}

fn place(index: usize, entry: &Entry) -> String {
    format!(
        "entry {index} ({} {} of pod {}/{})",
        entry.kind.as_str().to_lowercase(),
        entry.number,
        entry.namespace,
        entry.pod
    )
}
