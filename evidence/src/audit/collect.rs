//! The log as it was fetched, and its stores as folders that can be read like a standalone one's.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use super::certificate::Pod;
use super::removed::{Removed, newest_tombstone};
use super::{Entry, EntryKind, StoreCertificate};
use crate::codec::Put;
use crate::error::StoreError;
use crate::frame::Hash;
use crate::keys;
use crate::log::LIVE;
use crate::seal::SEALS_BEFORE;
use crate::segment::{self, relative_path};
use crate::store::LOG_PUBLIC;

/// Everything of a log, as it was fetched: nothing here is believed yet.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    /// AuditSegments by name: entries with their bytes, in order.
    pub segments: BTreeMap<String, Vec<(Entry, Vec<u8>)>>,
    /// AuditCheckpoints by number.
    pub checkpoints: BTreeMap<u64, Checkpoint>,
}

/// A checkpoint as it was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// SHA-256 of the note of the one before; zeros for the first.
    pub previous: Hash,
    /// Names of the segments that come next, and the leaf hashes of their entries.
    pub segments: Vec<(String, Vec<Hash>)>,
    /// Leaves up to here.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// Roots of the full subtrees, largest first.
    pub subtrees: Vec<Hash>,
    /// The signed note.
    pub note: String,
}

/// A pod's store, written out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFolder {
    /// Its folder, as a standalone sidecar's `STATE/evidence`.
    pub dir: PathBuf,
    /// Its public key.
    pub public: [u8; 32],
    /// Whose it is, as its certificate says; as its entries say where none holds.
    pub pod: Pod,
    /// Whether a certificate of the log key names it.
    pub certified: bool,
    /// Segments of it that are there.
    pub segments: usize,
    /// Parts of which there are two versions, and segments of which parts are missing, in words.
    pub faults: Vec<(u64, String)>,
}

/// Puts the stores' segments together and writes each store into a folder of its own below `dir`.
/// `public` is the log's key, `live` says of a pod's UID whether it still runs.
///
/// # Errors
/// Where a file cannot be written.
pub fn write_stores(
    collected: &Collected,
    public: &[u8; 32],
    dir: &Path,
    live: &dyn Fn(&str) -> bool,
) -> Result<Vec<StoreFolder>, StoreError> {
    let (removed, _) = newest_tombstone(collected, public);
    write_stores_behind(collected, public, dir, live, removed.as_ref())
}

/// The same behind a tombstone that is known.
pub(super) fn write_stores_behind(
    collected: &Collected,
    public: &[u8; 32],
    dir: &Path,
    live: &dyn Fn(&str) -> bool,
    removed: Option<&Removed>,
) -> Result<Vec<StoreFolder>, StoreError> {
    let mut stores: BTreeMap<(String, [u8; 32]), Gathered<'_>> = BTreeMap::new();
    for (entry, data) in collected.segments.values().flatten() {
        // Of no pod's store.
        if matches!(entry.kind, EntryKind::Tombstone | EntryKind::Unseal) {
            continue;
        }
        let gathered = stores.entry((entry.uid.clone(), entry.store)).or_default();
        gathered.take(entry, data, public);
    }
    let bases = removed.map_or(&[][..], |removed| &removed.tombstone.stores);
    let mut out = Vec::with_capacity(stores.len());
    for ((uid, key), gathered) in stores {
        let folder = dir.join(uid_folder(&uid)).join(hex::encode(key));
        let seals = bases
            .iter()
            .filter(|known| known.uid == uid && known.store == key)
            .flat_map(|known| known.base.seals());
        out.push(gathered.write(folder, key, live(&uid), seals)?);
    }
    Ok(out)
}

/// A UID is the API server's; what is fetched may say anything.
fn uid_folder(uid: &str) -> String {
    let plain = !uid.is_empty()
        && uid.len() <= 64
        && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if plain {
        uid.to_owned()
    } else {
        format!("uid-{}", hex::encode(super::digest(uid.as_bytes())))
    }
}

/// A segment's parts by their number: how many there are, the digest, the bytes.
type Parts<'a> = HashMap<u32, (u32, Hash, &'a [u8])>;

#[derive(Default)]
struct Gathered<'a> {
    pod: Option<Pod>,
    certified: bool,
    parts: BTreeMap<u64, Parts<'a>>,
    faults: Vec<(u64, String)>,
}

impl<'a> Gathered<'a> {
    fn take(&mut self, entry: &Entry, data: &'a [u8], public: &[u8; 32]) {
        match entry.kind {
            EntryKind::Tombstone | EntryKind::Unseal => {}
            EntryKind::Certificate => {
                let holds = StoreCertificate::open(data, public)
                    .ok()
                    .filter(|found| found.store == entry.store && found.pod.uid == entry.uid);
                if let Some(found) = holds {
                    self.pod = Some(found.pod);
                    self.certified = true;
                }
            }
            EntryKind::Segment => {
                self.pod.get_or_insert_with(|| Pod {
                    namespace: entry.namespace.clone(),
                    name: entry.pod.clone(),
                    uid: entry.uid.clone(),
                    service_account: String::new(),
                });
                let parts = self.parts.entry(entry.number).or_default();
                let digest = super::digest(data);
                match parts.get(&entry.part) {
                    None => {
                        parts.insert(entry.part, (entry.parts, digest, data));
                    }
                    // Sent twice, because an answer was lost.
                    Some((count, known, _)) if *count == entry.parts && *known == digest => {}
                    Some(_) => self.faults.push((
                        entry.number,
                        format!("there are two versions of its part {}", entry.part),
                    )),
                }
            }
        }
    }

    fn write<'s>(
        mut self,
        dir: PathBuf,
        public: [u8; 32],
        live: bool,
        seals: impl Iterator<Item = &'s Vec<u8>>,
    ) -> Result<StoreFolder, StoreError> {
        let make = |path: &Path| {
            fs::create_dir_all(path).map_err(|error| StoreError::io("create", path, error))
        };
        let put = |path: PathBuf, bytes: &[u8]| {
            fs::write(&path, bytes).map_err(|error| StoreError::io("write", &path, error))
        };
        make(&dir.join(segment::FOLDER))?;
        make(&dir.join("keys"))?;
        put(dir.join(LOG_PUBLIC), keys::public_pem(&public).as_bytes())?;
        let (mut attach, mut head) = (None, None);
        let mut segments = 0;
        for (number, parts) in std::mem::take(&mut self.parts) {
            match joined(&parts) {
                Ok(bytes) => {
                    newest(&bytes, &mut attach, &mut head);
                    put(dir.join(relative_path(number)), &bytes)?;
                    segments += 1;
                }
                Err(why) => self.faults.push((number, why)),
            }
        }
        if let Some(attach) = attach {
            let latest = segment::latest(&attach, head.as_deref());
            put(dir.join(segment::LATEST), &latest)?;
        }
        if live {
            put(dir.join(LIVE), b"")?;
        }
        let mut before = Vec::new();
        for seal in seals {
            before.put_len(seal.len());
            before.put(seal);
        }
        if !before.is_empty() {
            put(dir.join(SEALS_BEFORE), &before)?;
        }
        Ok(StoreFolder {
            dir,
            public,
            pod: self.pod.unwrap_or_default(),
            certified: self.certified,
            segments,
            faults: self.faults,
        })
    }
}

fn joined(parts: &Parts<'_>) -> Result<Vec<u8>, String> {
    let count = parts.values().next().map_or(0, |(count, ..)| *count);
    if parts.values().any(|(other, ..)| *other != count) {
        return Err("its parts disagree on how many there are".to_owned());
    }
    let mut bytes = Vec::new();
    for part in 0..count {
        let (_, _, data) = parts
            .get(&part)
            .ok_or_else(|| format!("its part {part} of {count} is not there"))?;
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

/// The newest attach and its newest head, as a store's `latest` would have them.
fn newest(bytes: &[u8], attach: &mut Option<Vec<u8>>, head: &mut Option<Vec<u8>>) {
    let Ok(segment) = segment::split(bytes) else {
        return;
    };
    for entry in &segment.entries {
        match entry.kind {
            segment::ATTACH => {
                *attach = Some(entry.body.to_vec());
                *head = None;
            }
            segment::HEAD => *head = Some(entry.body.to_vec()),
            _ => {}
        }
    }
}
