//! The copies: written by the shipper, removed when nobody needs them any more.
//!
//! ```text
//! file  = "CHEXPRT1" · attach [8] · segment u64 · block …
//! block = length u32 · raw length u32 · zstd of: run …
//! run   = attach [8] · ordinal u64 · first u64 · next u64 · length u32 · frame …
//! ```
//! `first` and `next` are of the run as it was recorded, streams included: where they do not join,
//! something is missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::FOLDER;
use super::cursor::{self, Cursor};
use crate::codec::{self, Malformed, Put, Reader};
use crate::disk::Disk;
use crate::engine::lock;
use crate::error::StoreError;
use crate::frame;
use crate::record::AttachId;
use crate::shipper::{OpenRun, Span, publish};

const MAGIC: &[u8; 8] = b"CHEXPRT1";
/// Bytes before a file's first block.
pub(super) const HEADER: usize = 24;
const EXTENSION: &str = "frames";
/// Bytes that are compressed together; one run more may follow.
const BLOCK: usize = 256 * 1024;
/// Most bytes of a block: [`BLOCK`], and a run of as much as a shipper looks at together.
pub(super) const MOST_BLOCK: usize = 16 * 1024 * 1024;
/// As in segments.
const ZSTD_LEVEL: i32 = 1;

/// The copies of one store, and who still needs which.
pub struct Exports {
    folder: PathBuf,
    /// Most bytes of all copies.
    most: u64,
    inner: Mutex<Inner>,
    /// Number of the newest file whose segment is durable.
    published: watch::Sender<u64>,
    left_out: AtomicU64,
}

#[derive(Default)]
struct Inner {
    /// Sizes of the files that are there.
    files: BTreeMap<u64, u64>,
    /// The first file that each sink still needs.
    sinks: BTreeMap<String, u64>,
}

impl std::fmt::Debug for Exports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exports")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Exports {
    /// The copies in the store `dir`, whose log ends with segment `last`. Sinks are those that have a
    /// cursor.
    pub(crate) fn open(dir: &Path, last: u64, most: u64) -> Result<Exports, StoreError> {
        let folder = dir.join(FOLDER);
        let mut inner = Inner::default();
        let mut newest = 0;
        let failed = |e| StoreError::io("read", &folder, e);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => Some(entries),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(failed(e)),
        };
        for entry in entries.into_iter().flatten() {
            let path = entry.map_err(failed)?.path();
            if let Some(name) = cursor::sink_of(&path) {
                // One that is damaged is begun anew by its feed.
                let next = Cursor::read(&path).map_or(0, |cursor| cursor.file);
                newest = newest.max(next.saturating_sub(1));
                inner.sinks.insert(name, next);
                continue;
            }
            let known = number_of(&path).zip(fs::metadata(&path).ok());
            // Its segment was never whole: what it holds is still in the spool, and comes again.
            match known.filter(|_| segment_of(&path).is_some_and(|segment| segment <= last)) {
                Some((number, metadata)) => {
                    newest = newest.max(number);
                    inner.files.insert(number, metadata.len());
                }
                None => fs::remove_file(&path).map_err(|e| StoreError::io("remove", &path, e))?,
            }
        }
        Ok(Exports {
            folder,
            most,
            inner: Mutex::new(inner),
            published: watch::Sender::new(newest),
            left_out: AtomicU64::new(0),
        })
    }

    /// These are the sinks from now on. One that is new is told of the sessions that begin from now
    /// on; what only one that is gone needed is removed.
    ///
    /// # Errors
    /// Where a cursor cannot be written or removed.
    pub fn configure(&self, disk: &dyn Disk, names: &[String]) -> Result<(), StoreError> {
        let mut inner = lock(&self.inner);
        if !names.is_empty() {
            use std::os::unix::fs::DirBuilderExt;
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.folder)
                .map_err(|e| StoreError::io("create", &self.folder, e))?;
        }
        for name in inner.sinks.keys() {
            let path = self.cursor(name);
            if !names.contains(name) {
                fs::remove_file(&path).map_err(|e| StoreError::io("remove", &path, e))?;
            }
        }
        inner.sinks.retain(|name, _| names.contains(name));
        for name in names {
            if !inner.sinks.contains_key(name) {
                let next = self.newest() + 1;
                let cursor = Cursor::begin(next);
                let path = self.cursor(name);
                publish(disk, &path, &cursor.to_bytes())
                    .map_err(|e| StoreError::io("write", &path, e))?;
                inner.sinks.insert(name.clone(), next);
            }
        }
        self.trim(&mut inner);
        Ok(())
    }

    /// Bytes of what some sink has not been told.
    pub fn unsent_bytes(&self) -> u64 {
        lock(&self.inner).files.values().sum()
    }

    /// Copies that were left out so far: too many bytes were unsent, or the disk refused.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    pub(super) fn published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    pub(super) fn newest(&self) -> u64 {
        *self.published.borrow()
    }

    pub(super) fn cursor(&self, sink: &str) -> PathBuf {
        self.folder.join(cursor::file_name(sink))
    }

    pub(super) fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:010}.{EXTENSION}"))
    }

    /// This sink needs nothing before file `next`.
    pub(super) fn reached(&self, sink: &str, next: u64) {
        let mut inner = lock(&self.inner);
        if let Some(needed) = inner.sinks.get_mut(sink) {
            *needed = next;
            self.trim(&mut inner);
        }
    }

    fn trim(&self, inner: &mut Inner) {
        let needed = inner.sinks.values().min().copied().unwrap_or(u64::MAX);
        while let Some(entry) = inner.files.first_entry() {
            if *entry.key() >= needed {
                return;
            }
            let path = self.path(*entry.key());
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "what every sink has cannot be removed");
                return;
            }
            entry.remove();
        }
    }

    // ---- for the shipper ----

    /// Begins the copy that goes with a segment; none where there is no sink.
    pub(crate) fn begin(&self, attach: AttachId, segment: u64) -> Option<Copied> {
        if lock(&self.inner).sinks.is_empty() {
            return None;
        }
        let mut file = Vec::with_capacity(1024);
        file.put(MAGIC);
        file.put(&attach.0);
        file.put_u64(segment);
        Some(Copied {
            file,
            block: Vec::new(),
            runs: 0,
            written: None,
        })
    }

    /// Makes a copy durable, before its segment is. Evidence does not depend on it: one that cannot
    /// be kept is left out.
    pub(crate) fn keep(&self, disk: &dyn Disk, copied: &mut Copied) {
        let path = self.path(self.newest() + 1);
        let written = copied.pack().and_then(|()| {
            let size = copied.file.len() as u64;
            if self.unsent_bytes().saturating_add(size) > self.most {
                return Err(std::io::Error::other("too much is unsent"));
            }
            publish(disk, &path, &copied.file).map(|()| size)
        });
        copied.written = match written {
            Ok(size) => Some(size),
            Err(error) => {
                if self.left_out.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(%error, "what sinks are told cannot be kept; they will be told that it is missing");
                }
                None
            }
        };
    }

    /// The segment of this copy is durable.
    pub(crate) fn publish(&self, copied: &Copied) {
        let number = self.newest() + 1;
        if let Some(size) = copied.written {
            lock(&self.inner).files.insert(number, size);
        }
        self.published.send_replace(number);
    }
}

/// A copy that is being made.
pub(crate) struct Copied {
    file: Vec<u8>,
    block: Vec<u8>,
    runs: usize,
    /// Its size, once it is on the disk.
    written: Option<u64>,
}

impl Copied {
    /// Takes what makes events of a run.
    pub(crate) fn run(&mut self, run: &OpenRun) -> std::io::Result<()> {
        let Span {
            attach,
            ordinal,
            first,
            next,
        } = run.span();
        let out = &mut self.block;
        out.put(&attach.0);
        out.put_u64(ordinal);
        out.put_u64(first);
        out.put_u64(next);
        let at = out.len();
        out.put_u32(0);
        let mut rest = run.frames.as_slice();
        while !rest.is_empty() {
            let (frame, after) = frame::read(rest).map_err(|e| std::io::Error::other(e.0))?;
            if makes_events(frame.header.kind) {
                out.put(frame.bytes);
            }
            rest = after;
        }
        let len = out.len() - at - 4;
        codec::patch_u32(out, at, len);
        self.runs += 1;
        if out.len() >= BLOCK {
            self.pack()
        } else {
            Ok(())
        }
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs == 0
    }

    fn pack(&mut self) -> std::io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let packed = zstd::bulk::compress(&self.block, ZSTD_LEVEL)?;
        self.file.put_len(packed.len());
        self.file.put_len(self.block.len());
        self.file.put(&packed);
        self.block.clear();
        Ok(())
    }
}

/// Whether [`crate::ocsf`] looks at records of this kind.
fn makes_events(kind: u8) -> bool {
    !matches!(
        kind,
        codec::CLIENT | codec::SERVER | codec::PROXY | codec::POLICY_CHANGED
    )
}

/// The attach under which a copy was made, and its segment.
pub(super) fn header(bytes: &[u8]) -> Result<(AttachId, u64), Malformed> {
    let r = &mut Reader::new(bytes);
    if &r.array::<8>()? != MAGIC {
        return Err(Malformed("it is no copy for sinks"));
    }
    Ok((AttachId(r.array()?), r.u64()?))
}

fn segment_of(path: &Path) -> Option<u64> {
    use std::io::Read;
    let mut bytes = [0; HEADER];
    fs::File::open(path).ok()?.read_exact(&mut bytes).ok()?;
    header(&bytes).ok().map(|(_, segment)| segment)
}

fn number_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(EXTENSION)?
        .strip_suffix('.')?
        .parse()
        .ok()
}
