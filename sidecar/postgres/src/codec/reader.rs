//! Takes fields off a message body, in order, never past its end.

use super::error::ProtocolError;
use super::frontend::Format;

/// A position in one message's body.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    message: &'static str,
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    /// At the beginning of `body`, which belongs to the message called `message` in errors.
    pub(crate) fn new(message: &'static str, body: &'a [u8]) -> Reader<'a> {
        Reader {
            message,
            rest: body,
            length: body.len(),
        }
    }

    /// Bytes taken so far.
    pub(crate) fn position(&self) -> usize {
        self.length - self.rest.len()
    }

    /// Bytes not taken yet.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], ProtocolError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(ProtocolError::Truncated {
                message: self.message,
            })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(ProtocolError::Truncated {
                message: self.message,
            })?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ProtocolError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ProtocolError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, ProtocolError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ProtocolError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, ProtocolError> {
        self.array().map(i32::from_be_bytes)
    }

    /// A number of items of at least `size` bytes each, refused when they cannot all be there: a
    /// count alone never makes anyone allocate. The server reads these Int16 as unsigned
    /// (`pq_getmsgint(…, 2)`), and drivers do send up to 65535 parameters.
    pub(crate) fn count(&mut self, size: usize) -> Result<usize, ProtocolError> {
        let count = usize::from(self.u16()?);
        match count.checked_mul(size) {
            Some(needed) if needed <= self.rest.len() => Ok(count),
            _ => Err(ProtocolError::BadCount {
                message: self.message,
            }),
        }
    }

    /// `count` items, in memory for exactly those: collecting fallible items would grow by
    /// doubling, since how many there will be is then not known.
    pub(crate) fn items<T>(
        &mut self,
        count: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, ProtocolError>,
    ) -> Result<Vec<T>, ProtocolError> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Formats, each an Int16: a count and that many.
    pub(crate) fn formats(&mut self) -> Result<Vec<Format>, ProtocolError> {
        let count = self.count(2)?;
        self.items(count, |reader| {
            let code = reader.i16()?;
            Format::from_code(code).ok_or_else(|| reader.bad_value())
        })
    }

    /// An Int32 length and that many bytes; -1 is NULL.
    pub(crate) fn value(&mut self) -> Result<Option<&'a [u8]>, ProtocolError> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| ProtocolError::BadCount {
                    message: self.message,
                })?;
                self.bytes(length).map(Some)
            }
        }
    }

    /// The bytes up to the next NUL, which is taken too.
    pub(crate) fn cstr(&mut self) -> Result<&'a [u8], ProtocolError> {
        let unterminated = ProtocolError::UnterminatedString {
            message: self.message,
        };
        let end = memchr::memchr(0, self.rest).ok_or(unterminated)?;
        let (text, rest) = self.rest.split_at_checked(end).ok_or(unterminated)?;
        self.rest = rest.get(1..).unwrap_or_default();
        Ok(text)
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, ProtocolError> {
        let text = self.cstr()?;
        std::str::from_utf8(text).map_err(|_| ProtocolError::NotUtf8 {
            message: self.message,
        })
    }

    /// Everything left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The message must end here.
    pub(crate) fn end(&self) -> Result<(), ProtocolError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(ProtocolError::TrailingBytes {
                message: self.message,
            })
        }
    }

    pub(crate) fn bad_value(&self) -> ProtocolError {
        ProtocolError::BadValue {
            message: self.message,
        }
    }

    pub(crate) fn bad_count(&self) -> ProtocolError {
        ProtocolError::BadCount {
            message: self.message,
        }
    }
}
