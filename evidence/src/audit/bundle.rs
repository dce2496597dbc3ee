//! A bundle: some stores of a log, cut out so that whoever has the log's public key can verify
//! them with nothing else, offline.
//!
//! ```text
//! README.txt · bundle.json · log.pub
//! a cluster's   checkpoint · entries/<leaf> · entries/<leaf>.tlog-proof · growth/<size>
//! a folder's    store/segments/<number>.seg · store/latest
//! their keys    data.keys, or data.keys.age: see `bundle_keys`
//! ```
//! A pod's store goes in whole: its chain has no gaps, so that what is missing shows. What of it is
//! sealed, nobody reads without the keys of its session. Where the log's beginning was removed, the
//! tombstone that says so goes in too, and the store from there on. How the files are packed into
//! one is for others to say.

mod check;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::check::{BundleReport, verify_bundle};
use super::proof::{Leaves, ProofFile};
use super::removed::{Removed, newest_tombstone, regrown};
use super::unsealing::opened;
use super::{Collected, Entry, EntryKind, Note, Tree};
use crate::entry::Run;
use crate::error::StoreError;
use crate::frame::Hash;
use crate::keys::{self, fingerprint};
use crate::record::SessionId;
use crate::segment::{self, LATEST, relative_path};

/// Files of a bundle by path, in the order in which they are packed.
pub type Files = BTreeMap<String, Vec<u8>>;

const FORMAT: &str = "chaperone bundle v1";
const README: &str = "README.txt";
const MANIFEST: &str = "bundle.json";
const KEY: &str = "log.pub";
const CHECKPOINT: &str = "checkpoint";
const STORE: &str = "store";

/// What is in a bundle, in its words.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: String,
    /// Fingerprint of the log's key.
    key: String,
    /// The sessions that it was made for.
    sessions: Vec<String>,
    /// Of a cluster: the entries of the log that are in it, by leaf.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    entries: Vec<ManifestEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestEntry {
    leaf: u64,
    kind: EntryKind,
    namespace: String,
    pod: String,
    uid: String,
    store: String,
    number: u64,
    part: u32,
    parts: u32,
    digest: String,
}

/// Why no bundle can be made.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The log is not such that anything in it can be proven.
    #[error("the log cannot be proven: {0}; `verify` says what is wrong with it")]
    Unprovable(String),
    /// The tombstone that says what was removed is not in the log yet.
    #[error(
        "what was removed of the log is said by a tombstone that has no checkpoint yet; ask again in a \
         few seconds"
    )]
    Waiting,
    /// What there is of a session is held below a tombstone, and what a proof of it needs is gone.
    #[error(
        "session {0} is below the tombstone that removed what was around it, so nothing proves it without \
         the log any more; `verify` on the cluster itself still works"
    )]
    Below(SessionId),
    /// The store cannot be read.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// A bundle of some stores of a cluster's log, each by its pod's UID and its key: every entry of
/// theirs that a checkpoint names, with its proof in the newest one, and so what says that the
/// sessions were opened for somebody. `public` is the log's key.
///
/// # Errors
/// Where the checkpoints do not name what is there.
pub fn of_log(
    collected: &Collected,
    public: &[u8; 32],
    stores: &[(String, [u8; 32])],
    sessions: &[SessionId],
) -> Result<Files, BundleError> {
    let unprovable = |what: &str| BundleError::Unprovable(what.to_owned());
    let (removed, _) = newest_tombstone(collected, public);
    let begins = removed
        .as_ref()
        .map_or(0, |removed| removed.tombstone.checkpoint);
    let beginning = beginning(collected, begins)?;
    let newest = collected.checkpoints.values().next_back();
    let note = newest
        .map(|checkpoint| checkpoint.note.clone())
        .ok_or_else(|| unprovable("it has no checkpoint yet"))?;
    let (mut hashes, mut wanted) = (Vec::new(), Vec::new());
    let first = usize::try_from(beginning.size()).unwrap_or(usize::MAX);
    let behind = || collected.checkpoints.range(begins.saturating_add(1)..);
    let mut says = None;
    for (name, leaves) in behind().flat_map(|(_, c)| &c.segments) {
        let there = collected.segments.get(name);
        for (at, leaf) in leaves.iter().enumerate() {
            let of_stores = |entry: &Entry| {
                let mut stores = stores.iter();
                stores.any(|(uid, key)| *uid == entry.uid && *key == entry.store)
            };
            let index = first.saturating_add(hashes.len());
            if let Some((entry, data)) = there.and_then(|entries| entries.get(at)) {
                let removes = removed
                    .as_ref()
                    .is_some_and(|removed| removed.name == *name);
                if removes {
                    says = Some(index);
                }
                if removes || of_stores(entry) || has_opened(entry, data, public, sessions) {
                    wanted.push((index, entry, data));
                }
            }
            hashes.push(*leaf);
        }
    }
    if removed.is_some() && says.is_none() {
        return Err(BundleError::Waiting);
    }
    there_is(
        sessions,
        removed.as_ref(),
        wanted.iter().map(|(_, entry, data)| (*entry, *data)),
    )?;
    let leaves = Leaves::behind(&beginning, hashes);
    let signed = Note::open(&note, public).map_err(|error| unprovable(&error.to_string()))?;
    if (signed.size, Some(signed.root)) != (as_u64(leaves.size()), leaves.root()) {
        return Err(unprovable("its newest checkpoint signs another tree"));
    }
    let mut files = Files::new();
    let mut entries = Vec::with_capacity(wanted.len());
    for (index, entry, data) in wanted {
        let proof = ProofFile {
            number: as_u64(index),
            path: leaves.inclusion(index).unwrap_or_default(),
            note: note.clone(),
        };
        let path = entry_path(as_u64(index));
        files.insert(format!("{path}.tlog-proof"), proof.inclusion().into_bytes());
        files.insert(path, data.clone());
        entries.push(ManifestEntry::of(as_u64(index), entry));
    }
    for (_, checkpoint) in collected.checkpoints.range(begins..) {
        let old = usize::try_from(checkpoint.size).unwrap_or(usize::MAX);
        let path = leaves
            .consistency(old)
            .ok_or_else(|| unprovable("a checkpoint is larger than the newest one"))?;
        let proof = ProofFile {
            number: checkpoint.size,
            path,
            note: note.clone(),
        };
        let name = growth_path(checkpoint.size);
        files.insert(name, proof.consistency().into_bytes());
    }
    files.insert(CHECKPOINT.to_owned(), note.into_bytes());
    finish(files, public, sessions, entries)
}

/// The tree up to a checkpoint behind which a bundle begins: none of a log that has its beginning.
fn beginning(collected: &Collected, begins: u64) -> Result<Tree, BundleError> {
    let unprovable = |what: &str| BundleError::Unprovable(what.to_owned());
    if begins == 0 {
        let first = collected.checkpoints.keys().next();
        return match first.is_some_and(|first| *first > 1) {
            true => Err(unprovable(
                "its beginning is not there, and no tombstone says so",
            )),
            false => Ok(Tree::default()),
        };
    }
    let anchor = collected.checkpoints.get(&begins);
    anchor
        .and_then(|anchor| regrown(anchor.size, &anchor.subtrees, &anchor.root))
        .ok_or_else(|| unprovable("the checkpoint that a tombstone leaves does not hold"))
}

/// Whether each of these sessions is in some of these entries, where some of the log is removed: else
/// it is below the tombstone.
fn there_is<'a>(
    sessions: &[SessionId],
    removed: Option<&Removed>,
    entries: impl Iterator<Item = (&'a Entry, &'a Vec<u8>)>,
) -> Result<(), BundleError> {
    if removed.is_none() {
        return Ok(());
    }
    /// Whose segment, and which.
    type Place<'a> = (&'a str, [u8; 32], u64);
    let mut parts: BTreeMap<Place<'_>, BTreeMap<u32, &[u8]>> = BTreeMap::new();
    for (entry, data) in entries.filter(|(entry, _)| entry.kind == EntryKind::Segment) {
        let place = (entry.uid.as_str(), entry.store, entry.number);
        parts.entry(place).or_default().insert(entry.part, data);
    }
    let mut there = BTreeSet::new();
    for parts in parts.into_values() {
        let bytes: Vec<u8> = parts.into_values().flatten().copied().collect();
        let Ok(split) = segment::split(&bytes) else {
            continue;
        };
        let runs = split
            .entries
            .iter()
            .filter(|entry| entry.kind == segment::RUN);
        there.extend(runs.filter_map(|entry| Some(Run::decode(entry.body).ok()?.run.session)));
    }
    match sessions.iter().find(|session| !there.contains(*session)) {
        Some(session) => Err(BundleError::Below(*session)),
        None => Ok(()),
    }
}

/// Whether an entry says that one of these sessions was opened for somebody.
fn has_opened(entry: &Entry, data: &[u8], public: &[u8; 32], sessions: &[SessionId]) -> bool {
    entry.kind == EntryKind::Unseal
        && opened(entry, data, public)
            .is_ok_and(|found| found.keys.iter().any(|key| sessions.contains(&key.session)))
}

/// A bundle of a standalone sidecar's store. Neither private keys nor what is only in the spool,
/// which nobody has signed, go in.
///
/// # Errors
/// Where the store cannot be read.
pub fn of_folder(dir: &Path, sessions: &[SessionId]) -> Result<Files, BundleError> {
    let public = crate::store::read_log_public(dir)?;
    let mut files = Files::new();
    // Before the segments: what it names is in them.
    let latest = dir.join(LATEST);
    match fs::read(&latest) {
        Ok(bytes) => drop(files.insert(format!("{STORE}/{LATEST}"), bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(StoreError::io("read", &latest, error).into()),
    }
    for number in segment::list(dir)? {
        let path = format!("{STORE}/{}", relative_path(number).display());
        files.insert(path, segment::load(dir, number)?);
    }
    finish(files, &public, sessions, Vec::new())
}

fn finish(
    mut files: Files,
    public: &[u8; 32],
    sessions: &[SessionId],
    entries: Vec<ManifestEntry>,
) -> Result<Files, BundleError> {
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        key: fingerprint(public),
        sessions: sessions.iter().map(ToString::to_string).collect(),
        entries,
    };
    let mut text = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| BundleError::Unprovable(error.to_string()))?;
    text.push(b'\n');
    files.insert(MANIFEST.to_owned(), text);
    files.insert(KEY.to_owned(), keys::public_pem(public).into_bytes());
    files.insert(README.to_owned(), readme(&manifest).into_bytes());
    Ok(files)
}

fn readme(manifest: &Manifest) -> String {
    format!(
        "Evidence of what agents did, recorded by Chaperone.\n\n\
         Sessions: {}\n\
         Log key:  {}\n\n\
         To verify it, offline, with the log's public key as you know it, not as log.pub here says:\n\n\
         \x20   kubectl chaperone verify --bundle THIS.tar --key YOUR-COPY-OF-log.pub\n\n\
         If you kept a checkpoint of this log, add --note FILE: it is shown that the log only grew.\n\
         The store of each pod that a session ran in is here whole: its chain has no gaps, so that what\n\
         is missing shows. What is sealed in it can be read with the sessions' keys in data.keys alone;\n\
         if there is data.keys.age, they are wrapped for somebody, who adds --identity FILE. Other\n\
         sessions stay sealed; only what was recorded before stores were sealed is readable as it is.\n\
         The format is described in evidence/FORMAT.md of Chaperone's sources, well enough to write a\n\
         verifier of your own.\n",
        manifest.sessions.join(", "),
        manifest.key,
    )
}

fn entry_path(leaf: u64) -> String {
    format!("entries/{leaf:012}")
}

fn growth_path(size: u64) -> String {
    format!("growth/{size:012}")
}

fn as_u64(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

impl ManifestEntry {
    fn of(leaf: u64, entry: &Entry) -> ManifestEntry {
        ManifestEntry {
            leaf,
            kind: entry.kind,
            namespace: entry.namespace.clone(),
            pod: entry.pod.clone(),
            uid: entry.uid.clone(),
            store: hex::encode(entry.store),
            number: entry.number,
            part: entry.part,
            parts: entry.parts,
            digest: hex::encode(entry.digest),
        }
    }

    fn entry(&self) -> Option<Entry> {
        let hash = |text: &str| -> Option<Hash> { hex::decode(text).ok()?.try_into().ok() };
        Some(Entry {
            kind: self.kind,
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            uid: self.uid.clone(),
            store: hash(&self.store)?,
            number: self.number,
            part: self.part,
            parts: self.parts,
            digest: hash(&self.digest)?,
        })
    }
}
