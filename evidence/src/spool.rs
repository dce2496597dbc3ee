//! The spool's bytes: preallocated files that hold batches of frames until they are shipped.
//!
//! ```text
//! file  = "CHSPOOL1" · generation u64 · attach [8] · zeros [8] · batch … · zeros
//! batch = "CHB1" · length u32 · generation u64 · ordinal u64 · first sequence u64 · frames u32
//!         · hash before [32] · hash after [32] · frame …
//! ```
//! A batch proves itself: chaining its frames from the hash before must give the hash after. So a
//! write that a crash cut short is found without a checksum of its own. Files are reused, zeroed and
//! synced in between: what is neither zeros nor a batch of the file's generation was cut short or
//! changed.

use std::path::{Path, PathBuf};

use crate::codec::{self, Put, Reader};
use crate::error::StoreError;
use crate::frame::{self, Frame, Hash, NO_HASH, chain};
use crate::record::{AttachId, MAX_FRAME, SessionId};

/// Folder of the spool within the store.
pub(crate) const FOLDER: &str = "spool";
const MAGIC: &[u8; 8] = b"CHSPOOL1";
const BATCH_MAGIC: &[u8; 4] = b"CHB1";
/// Bytes before a file's first batch.
pub(crate) const FILE_HEADER: usize = 32;
/// Bytes of a batch before its first frame.
pub(crate) const BATCH_HEADER: usize = 100;
/// Bytes that a batch begins with room for.
const LEAST_ROOM: usize = 1024;
const MOST_ROOM: usize = 16 * 1024;
/// Largest spool file a reader takes.
const MAX_FILE: u64 = 1 << 30;

/// `spool/<n>`, relative to the store.
pub(crate) fn relative_path(index: usize) -> PathBuf {
    Path::new(FOLDER).join(format!("{index:02}"))
}

pub(crate) fn file_header(generation: u64, attach: &AttachId) -> Vec<u8> {
    let mut out = Vec::with_capacity(FILE_HEADER);
    out.put(MAGIC);
    out.put_u64(generation);
    out.put(&attach.0);
    out.put_u64(0);
    out
}

/// Consecutive frames of one session on their way to the spool.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Header and frames; the header is filled in by [`Batch::seal`].
    pub(crate) bytes: Vec<u8>,
    ordinal: u64,
    pub(crate) first: u64,
    pub(crate) frames: u32,
    previous: Option<Hash>,
    pub(crate) last_hash: Hash,
}

impl Batch {
    /// A batch whose first frame will have sequence `first` and follow `previous` in the chain.
    pub(crate) fn new(ordinal: u64, first: u64, previous: Option<Hash>) -> Batch {
        Batch::with_room(ordinal, first, previous, LEAST_ROOM)
    }

    /// The one that follows `self`, with room for as much: what a session does, it does again.
    pub(crate) fn next(&self, first: u64) -> Batch {
        let room = self.bytes.len().clamp(LEAST_ROOM, MOST_ROOM);
        Batch::with_room(self.ordinal, first, Some(self.last_hash), room)
    }

    fn with_room(ordinal: u64, first: u64, previous: Option<Hash>, room: usize) -> Batch {
        let last_hash = previous.unwrap_or(NO_HASH);
        let mut bytes = Vec::with_capacity(room);
        bytes.resize(BATCH_HEADER, 0);
        Batch {
            bytes,
            ordinal,
            first,
            frames: 0,
            previous,
            last_hash,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Bytes of its frames.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(BATCH_HEADER)
    }

    /// The chain before its first frame.
    pub(crate) fn previous(&self) -> Option<Hash> {
        self.previous
    }

    /// Takes the frame that was just appended at `at` into the chain.
    pub(crate) fn chain_frame(&mut self, at: usize) {
        let frame = self.bytes.get(at..).unwrap_or_default();
        let first = self.first == 0 && self.frames == 0;
        self.last_hash = chain((!first).then_some(&self.last_hash), frame);
        self.frames += 1;
    }

    /// Writes the header. `generation` is the file's that it goes to.
    pub(crate) fn seal(&mut self, generation: u64) {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let fields: [&[u8]; 8] = [
            BATCH_MAGIC,
            &length.to_be_bytes(),
            &generation.to_be_bytes(),
            &self.ordinal.to_be_bytes(),
            &self.first.to_be_bytes(),
            &self.frames.to_be_bytes(),
            &self.previous.unwrap_or(NO_HASH),
            &self.last_hash,
        ];
        let mut at = 0;
        for field in fields {
            let end = at + field.len();
            if let Some(place) = self.bytes.get_mut(at..end) {
                place.copy_from_slice(field);
            }
            at = end;
        }
    }
}

/// A batch found in a spool file, its chain checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) ordinal: u64,
    pub(crate) first: u64,
    pub(crate) count: u32,
    pub(crate) previous: Hash,
    pub(crate) last_hash: Hash,
    /// The frames alone.
    pub(crate) frames: &'a [u8],
    /// Header and frames.
    pub(crate) len: usize,
}

/// What is at a place of a spool file.
#[derive(Debug)]
pub(crate) enum At<'a> {
    /// A whole batch of this generation.
    Batch(Found<'a>),
    /// Nothing was written here in this generation.
    Nothing,
    /// Something that is not a whole batch: a write cut short, or a change.
    Torn(&'static str),
}

/// Looks at the front of `bytes`, which lie in a file of `generation`.
pub(crate) fn batch_at(bytes: &[u8], generation: u64) -> At<'_> {
    let header = bytes.get(..BATCH_HEADER).unwrap_or(bytes);
    if header.iter().all(|&b| b == 0) {
        return At::Nothing;
    }
    let Some((len, theirs, found)) = batch_header(bytes) else {
        return At::Torn("no batch begins here");
    };
    if theirs != generation {
        return At::Torn("a batch of another use of this file");
    }
    let Some(frames) = bytes.get(BATCH_HEADER..len) else {
        return At::Torn("a batch that is cut short");
    };
    let found = Found {
        frames,
        len,
        ..found
    };
    if chained(&found) {
        At::Batch(found)
    } else {
        At::Torn("a batch whose frames do not chain")
    }
}

/// A batch's length, generation and clear fields, nothing checked.
pub(crate) fn batch_header(bytes: &[u8]) -> Option<(usize, u64, Found<'_>)> {
    let mut r = Reader::new(bytes);
    if r.array::<4>().ok()? != *BATCH_MAGIC {
        return None;
    }
    let len = usize::try_from(r.u32().ok()?).ok()?;
    let generation = r.u64().ok()?;
    let found = Found {
        ordinal: r.u64().ok()?,
        first: r.u64().ok()?,
        count: r.u32().ok()?,
        previous: r.array().ok()?,
        last_hash: r.array().ok()?,
        frames: &[],
        len,
    };
    Some((len, generation, found))
}

fn chained(found: &Found<'_>) -> bool {
    if found.first == 0 && found.previous != NO_HASH {
        return false;
    }
    let mut hash = (found.first > 0).then_some(found.previous);
    let mut expected = found.first;
    let mut rest = found.frames;
    for _ in 0..found.count {
        let Ok((frame, after)) = frame::read(rest) else {
            return false;
        };
        if frame.header.ordinal != found.ordinal || frame.header.sequence != expected {
            return false;
        }
        hash = Some(chain(hash.as_ref(), frame.bytes));
        expected = expected.saturating_add(1);
        rest = after;
    }
    rest.is_empty() && found.count > 0 && hash == Some(found.last_hash)
}

/// One spool file read into memory.
pub(crate) struct Snapshot {
    pub(crate) path: PathBuf,
    pub(crate) attach: AttachId,
    generation: u64,
    bytes: Vec<u8>,
}

impl Snapshot {
    /// Its batches in order, then what stopped the reading if that was not the end.
    pub(crate) fn batches(&self) -> (Vec<Found<'_>>, Option<(usize, &'static str)>) {
        let mut found = Vec::new();
        let mut at = FILE_HEADER;
        while let Some(rest) = self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match batch_at(rest, self.generation) {
                At::Batch(batch) => {
                    at += batch.len;
                    found.push(batch);
                }
                At::Nothing => {
                    // A later batch of this generation means that one before it is gone.
                    let torn = self.later_batch(at).then_some((at, "batches after a hole"));
                    return (found, torn);
                }
                At::Torn(why) => return (found, Some((at, why))),
            }
        }
        (found, None)
    }

    fn later_batch(&self, from: usize) -> bool {
        let rest = self.bytes.get(from..).unwrap_or_default();
        let mut needle = [0; 4];
        needle.copy_from_slice(BATCH_MAGIC);
        rest.windows(4).enumerate().any(|(at, window)| {
            window == needle
                && rest
                    .get(at..)
                    .and_then(batch_header)
                    .is_some_and(|(_, generation, _)| generation == self.generation)
        })
    }
}

/// Reads every spool file of a store, in the order of their use. A file that a live recorder
/// turns over while it is read is read again.
pub(crate) fn snapshot(dir: &Path) -> Result<Vec<Snapshot>, StoreError> {
    let folder = dir.join(FOLDER);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(StoreError::io("list", &folder, e)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| StoreError::io("list", &folder, e))?;
        let Some(snapshot) = read_file(&entry.path())? else {
            continue;
        };
        files.push(snapshot);
    }
    files.sort_by_key(|file| file.generation);
    Ok(files)
}

fn read_file(path: &Path) -> Result<Option<Snapshot>, StoreError> {
    for _ in 0..8 {
        let bytes = match read_used(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::io("read", path, e)),
        };
        let Some((generation, attach)) = parse_file_header(&bytes) else {
            // A file that is allocated and not in use yet begins with zeros.
            if bytes.iter().take(FILE_HEADER).all(|&b| b == 0) {
                return Ok(None);
            }
            return Err(StoreError::Corrupt {
                path: path.to_path_buf(),
                what: "not a spool file of this version".into(),
            });
        };
        let mut again = vec![0; FILE_HEADER];
        let unchanged = std::fs::File::open(path)
            .and_then(|mut f| std::io::Read::read_exact(&mut f, &mut again))
            .is_ok_and(|()| parse_file_header(&again) == Some((generation, attach)));
        if unchanged {
            return Ok(Some(Snapshot {
                path: path.to_path_buf(),
                attach,
                generation,
                bytes,
            }));
        }
    }
    Ok(None)
}

fn read_used(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let mut file = std::fs::File::open(path)?.take(MAX_FILE);
    file.read_to_end(&mut bytes)?;
    // Most of a spool is zeros that hold nothing; a frame may end in some of its own.
    let used = bytes
        .iter()
        .rposition(|&b| b != 0)
        .map_or(0, |last| last + 1);
    bytes.truncate(used + MAX_FRAME);
    bytes.shrink_to_fit();
    Ok(bytes)
}

fn parse_file_header(bytes: &[u8]) -> Option<(u64, AttachId)> {
    let mut r = Reader::new(bytes);
    if r.array::<8>().ok()? != *MAGIC {
        return None;
    }
    let generation = r.u64().ok()?;
    let attach = AttachId(r.array().ok()?);
    (r.u64().ok()? == 0).then_some((generation, attach))
}

/// A batch's first frame.
pub(crate) fn first_frame<'a>(batch: &Found<'a>) -> Option<Frame<'a>> {
    frame::read(batch.frames).ok().map(|(frame, _)| frame)
}

/// A batch's last frame.
pub(crate) fn last_frame<'a>(batch: &Found<'a>) -> Option<Frame<'a>> {
    let mut last = None;
    let mut rest = batch.frames;
    while let Ok((frame, after)) = frame::read(rest) {
        last = Some(frame);
        rest = after;
    }
    last
}

/// The id in the SessionStart that a session's first batch begins with.
pub(crate) fn session_id(batch: &Found<'_>) -> Option<SessionId> {
    let frame = first_frame(batch)?;
    if frame.header.kind != codec::SESSION_START {
        return None;
    }
    frame.body.first_chunk().map(|id| SessionId(*id))
}
