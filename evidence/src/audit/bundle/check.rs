//! Verifying a bundle: what is in it against the log's key, and against what it says of itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{
    CHECKPOINT, FORMAT, Files, KEY, MANIFEST, Manifest, ManifestEntry, STORE, entry_path,
    growth_path,
};
use crate::audit::bundle_keys::read_keys;
use crate::audit::collect::write_stores_behind;
use crate::audit::proof::{ProofFile, consistent, included};
use crate::audit::removed::{self, Removed};
use crate::audit::unsealing::opened;
use crate::audit::verify::LogReport;
use crate::audit::{Collected, Entry, EntryKind, Note, digest};
use crate::error::StoreError;
use crate::keys::{self, fingerprint};
use crate::record::SessionId;
use crate::seal::{Keyring, Place};
use crate::segment::{self, LATEST, relative_path};
use crate::store::LOG_PUBLIC;
use crate::verify::{self as store, BreakReason, Level, Report, Selection, TrustedKey};

/// What a bundle proves.
#[derive(Debug, Clone)]
pub struct BundleReport {
    /// Of the log, where it is of a cluster's.
    pub log: Option<LogReport>,
    /// What is wrong and what was checked.
    pub report: Report,
    /// Stores in it.
    pub stores: usize,
}

/// Verifies a bundle against `key`, else against the key that it has itself. `held` is a note of
/// the log that the auditor kept, `ring` what he opens sealed frames with besides the keys in it.
/// What is read of it is written below `scratch`. Its level is that of the sessions it was made for.
///
/// # Errors
/// Where `scratch` cannot be written or read back.
pub fn verify_bundle(
    files: &Files,
    key: Option<&TrustedKey>,
    held: Option<&str>,
    ring: &Keyring,
    selection: &Selection,
    scratch: &Path,
) -> Result<BundleReport, StoreError> {
    let own = files
        .get(KEY)
        .and_then(|pem| keys::parse_public_pem(std::str::from_utf8(pem).ok()?));
    let public = match key {
        Some(TrustedKey::PublicKey(key)) => Some(*key),
        Some(TrustedKey::Fingerprint(wanted)) => {
            own.filter(|own| fingerprint(own) == wanted.trim())
        }
        None => own,
    };
    let mut checked = LogReport::new(&public.unwrap_or_default(), key.is_some());
    let mut told = BundleReport {
        log: None,
        report: checked.report.clone(),
        stores: 0,
    };
    let Some(public) = public.filter(|public| own.is_none_or(|own| own == *public)) else {
        checked.wrong(KEY, BreakReason::KeyMismatch, "it is not the log's key");
        told.report = checked.report;
        return Ok(told);
    };
    let manifest = files
        .get(MANIFEST)
        .and_then(|text| serde_json::from_slice::<Manifest>(text).ok())
        .filter(|manifest| manifest.format == FORMAT && manifest.key == fingerprint(&public));
    let Some(manifest) = manifest else {
        checked.wrong(
            MANIFEST,
            BreakReason::BundleInvalid,
            "it cannot be read, or is of another format or log",
        );
        told.report = checked.report;
        return Ok(told);
    };
    let ring = match read_keys(files, ring) {
        Ok(ring) => ring,
        Err((name, detail)) => {
            checked.wrong(name, BreakReason::BundleInvalid, detail);
            told.report = checked.report;
            return Ok(told);
        }
    };
    let folders = if files.contains_key(CHECKPOINT) {
        let entries = checked.proven(files, &manifest, &public, held);
        checked.removed_before(&entries, &public);
        let entries = entries
            .into_iter()
            .map(|(_, entry, data)| (entry, data))
            .collect();
        let folders = checked.stores(entries, &public, &ring, selection, scratch)?;
        told.log = Some(checked.clone());
        folders
    } else {
        let dir = scratch.join(STORE);
        unpack(files, &public, &dir)?;
        let key = TrustedKey::PublicKey(public);
        let found = store::verify(Place::new(&dir, &ring), selection, Some(&key))?;
        checked.report.merge(found, Path::new(STORE));
        vec![dir]
    };
    checked.promised(&manifest, &folders)?;
    if *selection == Selection::All && !manifest.sessions.is_empty() {
        let promised = |id: &SessionId| manifest.sessions.contains(&id.to_string());
        if !checked.report.sealed.iter().any(promised) {
            checked.report.level = Level::Full;
        }
    }
    told.report = checked.report;
    told.stores = folders.len();
    Ok(told)
}

/// A standalone store's files as a folder. A path is made anew from the number in it.
fn unpack(files: &Files, public: &[u8; 32], dir: &Path) -> Result<(), StoreError> {
    let put = |path: &Path, bytes: &[u8]| {
        let folder = path.parent().unwrap_or(dir);
        fs::create_dir_all(folder).map_err(|error| StoreError::io("create", folder, error))?;
        fs::write(path, bytes).map_err(|error| StoreError::io("write", path, error))
    };
    fs::create_dir_all(dir.join(segment::FOLDER))
        .map_err(|error| StoreError::io("create", dir, error))?;
    put(&dir.join(LOG_PUBLIC), keys::public_pem(public).as_bytes())?;
    for (name, bytes) in files {
        let Some(name) = name.strip_prefix(STORE).and_then(|n| n.strip_prefix('/')) else {
            continue;
        };
        let number = name
            .strip_prefix(segment::FOLDER)
            .and_then(|name| name.strip_prefix('/'))
            .and_then(segment::number_of);
        match number {
            Some(number) => put(&dir.join(relative_path(number)), bytes)?,
            None if name == LATEST => put(&dir.join(LATEST), bytes)?,
            None => {}
        }
    }
    Ok(())
}

impl LogReport {
    /// Every entry is in the tree that the newest note signs: those that are.
    fn proven(
        &mut self,
        files: &Files,
        manifest: &Manifest,
        public: &[u8; 32],
        held: Option<&str>,
    ) -> Vec<(u64, Entry, Vec<u8>)> {
        let text = files
            .get(CHECKPOINT)
            .and_then(|note| std::str::from_utf8(note).ok())
            .unwrap_or_default();
        let note = match Note::open(text, public) {
            Ok(note) => note,
            Err(error) => {
                self.wrong(
                    CHECKPOINT,
                    BreakReason::CheckpointInvalid,
                    error.to_string(),
                );
                return Vec::new();
            }
        };
        (self.checkpoints, self.size, self.root) = (1, note.size, note.root);
        if let Some(held) = held {
            self.grew(files, held, text, &note, public);
        }
        let mut entries = Vec::with_capacity(manifest.entries.len());
        for listed in &manifest.entries {
            let found = self.in_tree(files, listed, text, &note);
            entries.extend(found.map(|(entry, data)| (listed.leaf, entry, data)));
        }
        entries
    }

    /// What the tombstone in it says is gone. It comes after what it removes, as its leaf shows.
    fn removed_before(&mut self, entries: &[(u64, Entry, Vec<u8>)], public: &[u8; 32]) {
        let mut newest: Option<Removed> = None;
        for (leaf, entry, data) in entries {
            if entry.kind != EntryKind::Tombstone {
                continue;
            }
            let found = removed::opened(entry, data, public);
            let found = found.and_then(|tombstone| match tombstone.size <= *leaf {
                true => Ok(tombstone),
                false => Err("it removes itself".to_owned()),
            });
            let name = format!("ts-{}", entry.number);
            match found {
                Err(why) => self.wrong(MANIFEST, BreakReason::TombstoneInvalid, why),
                Ok(tombstone) => {
                    let before = newest.as_ref().map(|newest| newest.tombstone.number);
                    if before.is_none_or(|before| before < tombstone.number) {
                        newest = Some(Removed { name, tombstone });
                    }
                }
            }
        }
        if let Some(newest) = newest {
            self.told_in_bundle(newest);
        }
    }

    /// The stores of these entries.
    fn stores(
        &mut self,
        entries: Vec<(Entry, Vec<u8>)>,
        public: &[u8; 32],
        ring: &Keyring,
        selection: &Selection,
        scratch: &Path,
    ) -> Result<Vec<std::path::PathBuf>, StoreError> {
        let collected = Collected {
            segments: [("bundle".to_owned(), entries)].into(),
            checkpoints: BTreeMap::new(),
        };
        for (entry, data) in collected.segments.values().flatten() {
            if entry.kind != EntryKind::Unseal {
                continue;
            }
            match opened(entry, data, public) {
                Ok(found) => self.unsealings.push((format!("us-{}", found.uid), found)),
                Err(why) => self.wrong(MANIFEST, BreakReason::UnsealInvalid, why),
            }
        }
        let removed = self.removed.clone();
        let gone = |_: &str| false;
        let folders = write_stores_behind(&collected, public, scratch, &gone, removed.as_ref())?;
        let selected = match selection {
            Selection::All => None,
            Selection::Session(id) => Some(id),
        };
        for folder in &folders {
            self.store(folder, public, ring, selected)?;
        }
        Ok(folders.into_iter().map(|folder| folder.dir).collect())
    }

    fn in_tree(
        &mut self,
        files: &Files,
        listed: &ManifestEntry,
        text: &str,
        note: &Note,
    ) -> Option<(Entry, Vec<u8>)> {
        let path = entry_path(listed.leaf);
        let Some(entry) = listed.entry() else {
            let detail = format!("what it says of leaf {} cannot be read", listed.leaf);
            self.wrong(MANIFEST, BreakReason::BundleInvalid, detail);
            return None;
        };
        let Some(data) = files.get(&path) else {
            self.wrong(path, BreakReason::SegmentMissing, "it is not there");
            return None;
        };
        if digest(data) != entry.digest {
            self.wrong(
                path,
                BreakReason::SegmentChanged,
                "its bytes are not those it was logged with",
            );
            return None;
        }
        let name = format!("{path}.tlog-proof");
        let proof = files
            .get(&name)
            .and_then(|proof| ProofFile::parse_inclusion(std::str::from_utf8(proof).ok()?));
        let holds = proof.is_some_and(|proof| {
            let leaf = entry.leaf_hash();
            proof.number == listed.leaf
                && proof.note == text
                && included(&leaf, proof.number, note.size, &proof.path, &note.root)
        });
        if !holds {
            let detail = "it does not show that its entry is in the log";
            self.wrong(name, BreakReason::ProofInvalid, detail);
            return None;
        }
        Some((entry, data.clone()))
    }

    /// The log grew out of the one that the auditor's note is of.
    fn grew(&mut self, files: &Files, held: &str, text: &str, note: &Note, public: &[u8; 32]) {
        let old = match Note::open(held, public) {
            Ok(old) => old,
            Err(error) => {
                let detail = format!("the note that was given: {error}");
                return self.wrong(CHECKPOINT, BreakReason::CheckpointInvalid, detail);
            }
        };
        let name = growth_path(old.size);
        let proof = files
            .get(&name)
            .and_then(|proof| ProofFile::parse_consistency(std::str::from_utf8(proof).ok()?));
        let holds = proof.is_some_and(|proof| {
            proof.note == text
                && proof.number == old.size
                && consistent(old.size, &old.root, note.size, &note.root, &proof.path)
        });
        if !holds {
            let detail = format!(
                "the log of {} leaves did not grow out of the one of {} that you hold a note of",
                note.size, old.size
            );
            self.wrong(name, BreakReason::ProofInvalid, detail);
        }
    }

    /// The sessions that a bundle says it was made for are in it.
    fn promised(
        &mut self,
        manifest: &Manifest,
        folders: &[std::path::PathBuf],
    ) -> Result<(), StoreError> {
        // What is broken may not be readable, and why is said already.
        if !self.report.ok() {
            return Ok(());
        }
        let mut there = Vec::new();
        for dir in folders {
            let listed = crate::read::Sessions::list(dir)?;
            there.extend(listed.into_iter().map(|session| session.id.to_string()));
        }
        for session in &manifest.sessions {
            if !there.contains(session) {
                let mut detail = format!("session {session} is not in it");
                if let Some(removed) = &self.removed {
                    let number = removed.tombstone.number;
                    detail.push_str(&format!(
                        ": it may be among what tombstone {number} says is gone"
                    ));
                }
                self.wrong(MANIFEST, BreakReason::SessionMissing, detail);
            }
        }
        Ok(())
    }
}
