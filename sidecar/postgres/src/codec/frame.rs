//! Where one message ends: a type byte, then an Int32 length that counts itself and the body
//! (PostgreSQL documentation, section 55.2.1).
//!
//! Three ways to take them, by how much the caller needs:
//! - [`next`] splits a whole frame off the buffer: for messages that are kept, decided on, recorded;
//! - [`peek`] looks at a whole frame in place: for runs of rows that are copied or forwarded at once;
//! - [`header`] and [`PassThrough`] let a body flow by in pieces that is never collected.

use bytes::{Bytes, BytesMut};

use super::error::FrameError;

/// Bytes of a type byte and a length field.
pub const HEADER: usize = 5;

/// The type byte and length of a frame whose body may not have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Message type byte.
    pub tag: u8,
    /// The length field: the body's bytes and its own four.
    pub length: usize,
}

impl FrameHeader {
    /// Bytes of the whole frame.
    pub fn total(&self) -> usize {
        self.length.saturating_add(1)
    }
}

/// One whole message exactly as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Message type byte.
    pub tag: u8,
    /// The whole frame: type byte, length, body. Shares the read buffer's memory.
    pub raw: Bytes,
}

impl Frame {
    /// What follows the length field.
    pub fn body(&self) -> &[u8] {
        self.raw.get(HEADER..).unwrap_or_default()
    }

    /// The frame without owning it.
    pub fn as_ref(&self) -> FrameRef<'_> {
        FrameRef {
            tag: self.tag,
            raw: &self.raw,
        }
    }
}

/// One whole message still in the read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRef<'a> {
    /// Message type byte.
    pub tag: u8,
    /// The whole frame: type byte, length, body.
    pub raw: &'a [u8],
}

impl<'a> FrameRef<'a> {
    /// What follows the length field.
    pub fn body(&self) -> &'a [u8] {
        self.raw.get(HEADER..).unwrap_or_default()
    }
}

/// The header at the front of `bytes`; `None` while it has not arrived.
///
/// # Errors
/// [`FrameError::TooShort`]; the caller compares the length with what it takes.
pub fn header(bytes: &[u8]) -> Result<Option<FrameHeader>, FrameError> {
    let Some(([tag, length @ ..], _)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*length);
    match usize::try_from(length) {
        Ok(checked) if checked >= 4 => Ok(Some(FrameHeader {
            tag: *tag,
            length: checked,
        })),
        _ => Err(FrameError::TooShort { tag: *tag, length }),
    }
}

/// The frame at the front of `bytes`, left in place; `None` while it has not all arrived.
///
/// # Errors
/// [`FrameError`] as soon as the length is seen, where it is below 4 or above `limit`.
pub fn peek(bytes: &[u8], limit: usize) -> Result<Option<FrameRef<'_>>, FrameError> {
    let Some(header) = header(bytes)? else {
        return Ok(None);
    };
    if header.length > limit {
        return Err(FrameError::TooLarge {
            tag: header.tag,
            length: header.length,
            limit,
        });
    }
    Ok(bytes.get(..header.total()).map(|raw| FrameRef {
        tag: header.tag,
        raw,
    }))
}

/// How many whole frames of `tag`, none longer than `limit`, are at the front of `bytes`, and their
/// bytes together. What ends them, a bad length too, is left for [`next`] to look at.
pub fn run(bytes: &[u8], tag: u8, limit: usize) -> (u64, usize) {
    let (mut count, mut length) = (0, 0);
    while let Some(rest) = bytes.get(length..)
        && let Ok(Some(frame)) = peek(rest, limit)
        && frame.tag == tag
    {
        count += 1;
        length += frame.raw.len();
    }
    (count, length)
}

/// Splits the frame off the front of `buffer`; `None` while it has not all arrived.
///
/// # Errors
/// As [`peek`].
pub fn next(buffer: &mut BytesMut, limit: usize) -> Result<Option<Frame>, FrameError> {
    let Some(frame) = peek(buffer, limit)? else {
        return Ok(None);
    };
    let (tag, total) = (frame.tag, frame.raw.len());
    Ok(Some(Frame {
        tag,
        raw: buffer.split_to(total).freeze(),
    }))
}

/// A frame that flows by in pieces: for what is forwarded unchanged and too large to collect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassThrough {
    remaining: usize,
}

impl PassThrough {
    /// The whole frame of `header`, type byte and length included.
    pub fn new(header: FrameHeader) -> PassThrough {
        PassThrough {
            remaining: header.total(),
        }
    }

    /// Takes what has arrived of the frame off the front of `buffer`; may be empty.
    pub fn take(&mut self, buffer: &mut BytesMut) -> Bytes {
        let count = self.remaining.min(buffer.len());
        self.remaining -= count;
        buffer.split_to(count).freeze()
    }

    /// Bytes of the frame that have not been taken.
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// The whole frame has been taken.
    pub fn is_done(&self) -> bool {
        self.remaining == 0
    }
}
