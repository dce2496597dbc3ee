//! Frames: a record's header and body, and the hash chain over them.
//!
//! ```text
//! length u32 · version u8 · kind u8 · ordinal u64 · sequence u64 · wall ns u64 · offset ns u64 · body
//! h₀ = SHA-256(frame₀)   hₙ = SHA-256(hₙ₋₁ ‖ frameₙ)
//! ```
//! `length` counts what follows it.

use sha2::{Digest, Sha256};

use crate::codec::{Malformed, Put, Reader, patch_u32};
use crate::record::MAX_FRAME;

/// A SHA-256 value.
pub(crate) type Hash = [u8; 32];

/// The hash before the first frame: absent, written as zeros.
pub(crate) const NO_HASH: Hash = [0; 32];

pub(crate) const VERSION: u8 = 1;
/// Bytes of a frame before its body, its length included.
pub(crate) const FRAME_HEADER: usize = 38;

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    pub(crate) ordinal: u64,
    pub(crate) sequence: u64,
    pub(crate) wall_ns: u64,
    pub(crate) offset_ns: u64,
}

/// A frame as found in a buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) header: Header,
    pub(crate) body: &'a [u8],
    /// Header and body: what is hashed.
    pub(crate) bytes: &'a [u8],
}

/// Appends a frame; its body is what `body` appends. On error `out` is as before.
pub(crate) fn write(
    out: &mut Vec<u8>,
    header: &Header,
    body: impl FnOnce(&mut Vec<u8>),
) -> Result<usize, Malformed> {
    let at = out.len();
    out.put_u32(0);
    out.put_u8(VERSION);
    out.put_u8(header.kind);
    out.put_u64(header.ordinal);
    out.put_u64(header.sequence);
    out.put_u64(header.wall_ns);
    out.put_u64(header.offset_ns);
    body(out);
    let len = out.len() - at;
    if len > MAX_FRAME {
        out.truncate(at);
        return Err(Malformed("a frame too long"));
    }
    patch_u32(out, at, len - 4);
    Ok(len)
}

/// Reads the frame at the front of `bytes`, and what follows it.
pub(crate) fn read(bytes: &[u8]) -> Result<(Frame<'_>, &[u8]), Malformed> {
    let mut r = Reader::new(bytes);
    let len = usize::try_from(r.u32()?).unwrap_or(usize::MAX);
    if !(FRAME_HEADER - 4..=MAX_FRAME - 4).contains(&len) {
        return Err(Malformed("a frame length out of bounds"));
    }
    let (whole, rest) = bytes
        .split_at_checked(len + 4)
        .ok_or(Malformed("cut short"))?;
    if r.u8()? != VERSION {
        return Err(Malformed("a frame version this reader does not know"));
    }
    let header = Header {
        kind: r.u8()?,
        ordinal: r.u64()?,
        sequence: r.u64()?,
        wall_ns: r.u64()?,
        offset_ns: r.u64()?,
    };
    let body = whole.get(FRAME_HEADER..).unwrap_or_default();
    Ok((
        Frame {
            header,
            body,
            bytes: whole,
        },
        rest,
    ))
}

/// The chain's next value: `previous` is none for a session's first frame.
pub(crate) fn chain(previous: Option<&Hash>, frame: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    if let Some(previous) = previous {
        hasher.update(previous);
    }
    hasher.update(frame);
    hasher.finalize().into()
}

/// SHA-256 over the parts.
pub(crate) fn sha256(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}
