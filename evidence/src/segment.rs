//! Segments: the files that hold the log. An entry is an attach, a run, a head or a seal; each is
//! signed, and each segment names the digest of the one before it.
//!
//! ```text
//! segment = "CHSEG1\r\n" · number u64 · previous digest [32] · entry … · end
//! entry   = kind u8 · length u32 · body          end = 0 · 36 · entries u32 · digest [32]
//! ```
//! The digest is SHA-256 over everything before the end entry.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::codec::{Malformed, Put, Reader};
use crate::disk::{Disk, NewFile};
use crate::error::StoreError;
use crate::frame::{Hash, NO_HASH, sha256};

/// Folder of the segments within the store.
pub(crate) const FOLDER: &str = "segments";
/// The copy of the newest attach and head, which tells when the log's end was cut off.
pub(crate) const LATEST: &str = "latest";

const MAGIC: &[u8; 8] = b"CHSEG1\r\n";
pub(crate) const ATTACH: u8 = 1;
pub(crate) const RUN: u8 = 2;
pub(crate) const HEAD: u8 = 3;
pub(crate) const SEAL: u8 = 4;
const END: u8 = 0;
const SEGMENT_HEADER: usize = 48;
/// Largest entry body a reader takes.
pub(crate) const MAX_ENTRY: usize = 32 * 1024 * 1024;
/// Largest segment a reader takes: what a writer makes is far smaller.
pub(crate) const MAX_SEGMENT: u64 = 256 * 1024 * 1024;

/// `segments/<20 digits>.seg`, relative to the store.
pub(crate) fn relative_path(number: u64) -> PathBuf {
    Path::new(FOLDER).join(format!("{number:020}.seg"))
}

/// The number in a segment's file name.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    if digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()) {
        digits.parse().ok()
    } else {
        None
    }
}

/// The numbers of all segments in a store, ascending.
pub(crate) fn list(dir: &Path) -> Result<Vec<u64>, StoreError> {
    let folder = dir.join(FOLDER);
    let entries = std::fs::read_dir(&folder).map_err(|e| StoreError::io("list", &folder, e))?;
    let mut numbers = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| StoreError::io("list", &folder, e))?;
        if let Some(number) = entry.file_name().to_str().and_then(number_of) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Writes one segment; it appears whole or not at all.
pub(crate) struct SegmentWriter {
    file: Box<dyn NewFile>,
    hasher: Sha256,
    entries: u32,
    bytes: u64,
}

impl SegmentWriter {
    pub(crate) fn create(
        disk: &dyn Disk,
        dir: &Path,
        number: u64,
        previous: &Hash,
    ) -> std::io::Result<SegmentWriter> {
        let file = disk.create(&dir.join(relative_path(number)))?;
        let mut writer = SegmentWriter {
            file,
            hasher: Sha256::new(),
            entries: 0,
            bytes: 0,
        };
        let mut header = Vec::with_capacity(SEGMENT_HEADER);
        header.put(MAGIC);
        header.put_u64(number);
        header.put(previous);
        writer.write(&header)?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    pub(crate) fn entry(&mut self, kind: u8, parts: &[&[u8]]) -> std::io::Result<()> {
        let mut header = Vec::with_capacity(5);
        header.put_u8(kind);
        header.put_len(parts.iter().map(|p| p.len()).sum());
        self.write(&header)?;
        for part in parts {
            self.write(part)?;
        }
        self.entries += 1;
        Ok(())
    }

    /// SHA-256 of the segment as far as it is written.
    pub(crate) fn so_far(&self) -> Hash {
        self.hasher.clone().finalize().into()
    }

    /// Syncs and names the file. The result is its digest.
    pub(crate) fn publish(mut self) -> std::io::Result<Hash> {
        let digest: Hash = self.hasher.finalize().into();
        let mut end = Vec::with_capacity(41);
        end.put_u8(END);
        end.put_u32(36);
        end.put_u32(self.entries);
        end.put(&digest);
        self.file.write_all(&end)?;
        self.file.publish()?;
        Ok(digest)
    }
}

/// One entry of a segment, its kind and its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawEntry<'a> {
    /// Where in the file it begins.
    pub(crate) at: usize,
    pub(crate) kind: u8,
    pub(crate) body: &'a [u8],
}

/// A segment file, split.
pub(crate) struct Segment<'a> {
    bytes: &'a [u8],
    pub(crate) number: u64,
    pub(crate) previous: Hash,
    /// The digest its end gives it; zeros where the end is not reached.
    pub(crate) digest: Hash,
    pub(crate) entries: Vec<RawEntry<'a>>,
    /// What keeps it from being whole and unchanged.
    pub(crate) unsound: Option<Malformed>,
}

impl Segment<'_> {
    /// SHA-256 of the segment up to an entry.
    pub(crate) fn before(&self, entry: &RawEntry<'_>) -> Hash {
        sha256(&[self.bytes.get(..entry.at).unwrap_or_default()])
    }
}

/// Splits a segment file that must be sound.
pub(crate) fn parse(bytes: &[u8]) -> Result<Segment<'_>, Malformed> {
    let segment = split(bytes)?;
    match segment.unsound {
        Some(unsound) => Err(unsound),
        None => Ok(segment),
    }
}

/// Splits a segment file as far as that goes, so that what is wrong can be named by entry.
pub(crate) fn split(bytes: &[u8]) -> Result<Segment<'_>, Malformed> {
    let mut r = Reader::new(bytes);
    if r.array::<8>()? != *MAGIC {
        return Err(Malformed("not a segment of this version"));
    }
    let (number, previous) = (r.u64()?, r.array()?);
    let mut segment = Segment {
        bytes,
        number,
        previous,
        digest: NO_HASH,
        entries: Vec::new(),
        unsound: None,
    };
    loop {
        let before = bytes.len() - r.remaining();
        match raw_entry(&mut r) {
            Ok(Some(entry)) => segment.entries.push(RawEntry {
                at: before,
                ..entry
            }),
            Ok(None) => {
                let content = bytes.get(..before).unwrap_or_default();
                segment.unsound = segment_end(&mut r, content, &mut segment).err();
                return Ok(segment);
            }
            Err(error) => {
                segment.unsound = Some(error);
                return Ok(segment);
            }
        }
    }
}

fn segment_end(
    r: &mut Reader<'_>,
    content: &[u8],
    segment: &mut Segment<'_>,
) -> Result<(), Malformed> {
    let count = r.u32()?;
    segment.digest = r.array()?;
    r.end()?;
    if usize::try_from(count).ok() != Some(segment.entries.len()) {
        return Err(Malformed("the number of entries is not what its end says"));
    }
    if sha256(&[content]) != segment.digest {
        return Err(Malformed("its bytes do not match its digest"));
    }
    Ok(())
}

/// The next entry; none at the end entry, whose body is left unread.
fn raw_entry<'a>(r: &mut Reader<'a>) -> Result<Option<RawEntry<'a>>, Malformed> {
    let kind = r.u8()?;
    let len = r.count(1)?;
    if kind == END {
        return if len == 36 {
            Ok(None)
        } else {
            Err(Malformed("an end entry of another length"))
        };
    }
    if len > MAX_ENTRY {
        return Err(Malformed("an entry longer than any writer makes"));
    }
    Ok(Some(RawEntry {
        at: 0,
        kind,
        body: r.take(len)?,
    }))
}

/// The entries of `latest`: an attach, and a head if there was one.
pub(crate) fn parse_latest(
    bytes: &[u8],
) -> Result<(RawEntry<'_>, Option<RawEntry<'_>>), Malformed> {
    let mut r = Reader::new(bytes);
    let attach = raw_entry(&mut r)?.ok_or(Malformed("no attach"))?;
    let head = if r.remaining() > 0 {
        raw_entry(&mut r)?
    } else {
        None
    };
    r.end()?;
    if attach.kind != ATTACH || head.is_some_and(|h| h.kind != HEAD) {
        return Err(Malformed("not an attach and a head"));
    }
    Ok((attach, head))
}

/// What [`parse_latest`] reads.
pub(crate) fn latest(attach: &[u8], head: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, body) in std::iter::once((ATTACH, attach)).chain(head.map(|h| (HEAD, h))) {
        out.put_u8(kind);
        out.put_len(body.len());
        out.put(body);
    }
    out
}

/// Reads a segment file whole.
pub(crate) fn load(dir: &Path, number: u64) -> Result<Vec<u8>, StoreError> {
    let path = dir.join(relative_path(number));
    let io = |e| StoreError::io("read", &path, e);
    let size = std::fs::metadata(&path).map_err(io)?.len();
    if size > MAX_SEGMENT {
        return Err(StoreError::Corrupt {
            path,
            what: "it is larger than any writer makes".into(),
        });
    }
    std::fs::read(&path).map_err(io)
}
