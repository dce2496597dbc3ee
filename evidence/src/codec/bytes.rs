//! Integers, texts and counts in bytes, read from the front and appended at the end.

use std::fmt::{self, Display, Write};

use crate::record::MAX_TEXT;

/// Bytes that are not a record of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Reads from the front of a slice.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(Malformed("cut short"))?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(Malformed("cut short"))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A count of things that take at least `least` bytes each.
    pub(crate) fn count(&mut self, least: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.u32()?).map_err(|_| Malformed("a count too large"))?;
        if count.saturating_mul(least) > self.remaining() {
            return Err(Malformed("a count larger than what follows"));
        }
        Ok(count)
    }

    /// A count of small things, of which a writer never makes more than `most`: read back they
    /// take more memory than their bytes.
    pub(crate) fn few(&mut self, least: usize, most: usize) -> Result<usize, Malformed> {
        let count = self.count(least)?;
        if count > most {
            Err(Malformed("a count larger than any writer makes"))
        } else {
            Ok(count)
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.count(1)?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<String, Malformed> {
        let text =
            std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a flag that is neither 0 nor 1")),
        }
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.flag()? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }

    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed("bytes after the end"))
        }
    }
}

/// Appends to a buffer.
pub(crate) trait Put {
    fn put(&mut self, bytes: &[u8]);
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }
    fn put_len(&mut self, len: usize) {
        self.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    }
    /// A text, cut to `most` bytes. Whether it was cut.
    fn put_cut(&mut self, text: &str, most: usize) -> bool {
        let kept = floor_char(text, most);
        self.put_len(kept.len());
        self.put(kept.as_bytes());
        kept.len() < text.len()
    }
    fn put_text(&mut self, text: &str) {
        self.put_cut(text, MAX_TEXT);
    }
    /// What `value` shows as, cut as a text is. Whether it was cut.
    fn put_shown(&mut self, value: &impl Display) -> bool;
    fn put_option(&mut self, text: Option<&str>) {
        self.put_u8(u8::from(text.is_some()));
        if let Some(text) = text {
            self.put_text(text);
        }
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_shown(&mut self, value: &impl Display) -> bool {
        let at = self.len();
        self.put_u32(0);
        let from = self.len();
        // Nothing here fails; what a value itself refuses to show is left out.
        let _ = write!(Text(self), "{value}");
        let shown = std::str::from_utf8(self.get(from..).unwrap_or_default()).unwrap_or_default();
        let (whole, kept) = (shown.len(), floor_char(shown, MAX_TEXT).len());
        self.truncate(from + kept);
        patch_u32(self, at, kept);
        kept < whole
    }
}

/// A buffer that texts are shown into.
struct Text<'a>(&'a mut Vec<u8>);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// The longest beginning of `text` of at most `most` bytes that ends between characters.
fn floor_char(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len()))
        .rev()
        .find(|&i| text.is_char_boundary(i))
        .unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// Overwrites four bytes at `at` with a big-endian u32.
pub(crate) fn patch_u32(out: &mut [u8], at: usize, value: usize) {
    let value = u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&value);
    }
}
