//! A pack: segments and checkpoints of a log in one file, for a place outside of the cluster.
//!
//! ```text
//! zstd( line · line · … )      each a resource as the API server had it, in JSON, and a newline
//! ```
//! A pack is named by the digest of its bytes and signed by nobody: what is in it is proven by the
//! checkpoints, as it was before it was packed. What the lines hold is for others to say.

use std::io::{self, BufRead, BufReader, Read, Write};

use super::digest;
use crate::frame::Hash;

/// Longest pack that a reader takes, in bytes.
pub const MAX_PACK: usize = 48 << 20;
/// Most bytes that its lines are together.
const MAX_UNPACKED: u64 = 64 << 20;
/// Longest line: a segment's longest entry, and what JSON makes of it.
const MAX_LINE: u64 = 4 << 20;
/// What is packed is mostly compressed already; what JSON adds to it goes at any level.
const ZSTD_LEVEL: i32 = 3;

/// Puts a pack together.
pub struct PackWriter {
    encoder: zstd::stream::Encoder<'static, Vec<u8>>,
    raw: u64,
}

impl std::fmt::Debug for PackWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackWriter({} bytes)", self.raw)
    }
}

impl PackWriter {
    /// An empty one.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn new() -> io::Result<PackWriter> {
        let encoder = zstd::stream::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
        Ok(PackWriter { encoder, raw: 0 })
    }

    /// Adds a line, without its newline.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn line(&mut self, line: &[u8]) -> io::Result<()> {
        self.encoder.write_all(line)?;
        self.encoder.write_all(b"\n")?;
        let added = u64::try_from(line.len()).unwrap_or(u64::MAX);
        self.raw = self.raw.saturating_add(added).saturating_add(1);
        Ok(())
    }

    /// Bytes of the lines so far.
    pub fn raw(&self) -> u64 {
        self.raw
    }

    /// The pack's bytes and their digest. The same lines are the same bytes for one build of zstd.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn finish(self) -> io::Result<(Vec<u8>, Hash)> {
        let bytes = self.encoder.finish()?;
        let digest = digest(&bytes);
        Ok((bytes, digest))
    }
}

/// Why a pack is not read.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Not the bytes that it is named by.
    #[error("its bytes are not those it was written with")]
    Digest,
    /// More than a pack has.
    #[error("it is larger than any pack is")]
    TooLarge,
    /// No zstd, or cut short.
    #[error("it cannot be unpacked: {0}")]
    Unreadable(io::Error),
}

/// The lines of a pack, once its bytes are those that it is named by.
///
/// # Errors
/// [`PackError::Digest`] or [`PackError::TooLarge`]; of its lines, whatever keeps them from being
/// read, once.
pub fn pack_lines<'a>(
    bytes: &'a [u8],
    named: &Hash,
) -> Result<impl Iterator<Item = Result<Vec<u8>, PackError>> + use<'a>, PackError> {
    if bytes.len() > MAX_PACK {
        return Err(PackError::TooLarge);
    }
    if digest(bytes) != *named {
        return Err(PackError::Digest);
    }
    let decoder = zstd::stream::Decoder::new(bytes).map_err(PackError::Unreadable)?;
    let mut reader = BufReader::new(decoder.take(MAX_UNPACKED + 1));
    let (mut all, mut ended) = (0_u64, false);
    Ok(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let read = line(&mut reader, &mut all);
        ended = !matches!(read, Ok(Some(_)));
        read.transpose()
    }))
}

fn line(reader: &mut impl BufRead, all: &mut u64) -> Result<Option<Vec<u8>>, PackError> {
    let mut line = Vec::new();
    let mut limited = reader.take(MAX_LINE + 1);
    let read = limited.read_until(b'\n', &mut line);
    let read = read.map_err(PackError::Unreadable)?;
    *all = all.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
    if *all > MAX_UNPACKED {
        return Err(PackError::TooLarge);
    }
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if read > usize::try_from(MAX_LINE).unwrap_or(usize::MAX) => {
            Err(PackError::TooLarge)
        }
        Some(_) => Err(PackError::Unreadable(io::ErrorKind::UnexpectedEof.into())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn packed(lines: &[&[u8]]) -> (Vec<u8>, Hash) {
        let mut writer = PackWriter::new().unwrap();
        for line in lines {
            writer.line(line).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8], named: &Hash) -> Result<Vec<Vec<u8>>, PackError> {
        pack_lines(bytes, named)?.collect()
    }

    #[test]
    fn lines_come_back_and_the_same_ones_are_the_same_pack() {
        let lines: [&[u8]; 3] = [b"{}", b"", b"{\"a\":1}"];
        let (bytes, name) = packed(&lines);
        assert_eq!(read(&bytes, &name).unwrap(), lines);
        assert_eq!(packed(&lines), (bytes, name));
    }

    #[test]
    fn altered_cut_and_endless_packs_are_refused() {
        let (mut bytes, name) = packed(&[b"{}"]);
        bytes[5] ^= 1;
        assert!(matches!(read(&bytes, &name), Err(PackError::Digest)));
        // Whoever can write the name can write the digest too.
        let (bytes, _) = packed(&[&vec![b'a'; 100_000]]);
        let cut = &bytes[..bytes.len() - 2];
        assert!(matches!(
            read(cut, &digest(cut)),
            Err(PackError::Unreadable(_))
        ));
        let (long, name) = packed(&[&vec![b'a'; 5 << 20]]);
        assert!(matches!(read(&long, &name), Err(PackError::TooLarge)));
        let line = vec![b'a'; 3 << 20];
        let (many, name) = packed(&vec![line.as_slice(); 30]);
        assert!(many.len() < 100_000);
        assert!(matches!(read(&many, &name), Err(PackError::TooLarge)));
    }
}
