//! DataRow: reading it, and writing it again with some cells changed.

use bytes::{BufMut, BytesMut};

use super::backend::tag;
use super::error::ProtocolError;
use super::frame::HEADER;
use super::reader::Reader;

const MESSAGE: &str = "DataRow";

/// One row, checked: every length is within it and nothing is left over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataRow<'a> {
    count: u16,
    cells: &'a [u8],
}

impl<'a> DataRow<'a> {
    /// Checks the message's body.
    ///
    /// # Errors
    /// [`ProtocolError`].
    pub fn parse(body: &'a [u8]) -> Result<DataRow<'a>, ProtocolError> {
        let mut reader = Reader::new(MESSAGE, body);
        let count = reader.u16()?;
        let mut cells = reader.clone();
        for _ in 0..count {
            reader.value()?;
        }
        reader.end()?;
        Ok(DataRow {
            count,
            cells: cells.rest(),
        })
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// A row without columns.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The cells in order; `None` is NULL.
    pub fn cells(&self) -> Cells<'a> {
        Cells {
            left: self.count,
            reader: Reader::new(MESSAGE, self.cells),
        }
    }
}

/// Iterates over a row's cells.
#[derive(Debug, Clone)]
pub struct Cells<'a> {
    left: u16,
    reader: Reader<'a>,
}

impl<'a> Iterator for Cells<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // The row was checked when it was made.
        self.reader.value().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

/// What becomes of one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// As the server sent it.
    Keep,
    /// NULL.
    Null,
    /// What was written into the scratch buffer.
    Replace,
}

/// Writes the row in `frame` (the whole frame, type byte and length included) to the end of `out`
/// with each cell as `decide` says, and returns whether any cell was changed. `decide` gets the
/// column's index, its value, and an empty buffer for a replacement. Runs of kept cells are copied
/// at once; nothing is allocated but what `out` and `scratch` grow by. On error `out` is as before.
///
/// # Errors
/// [`ProtocolError`] when the frame is not a DataRow or the result would be too long for one.
pub fn rewrite(
    frame: &[u8],
    out: &mut BytesMut,
    scratch: &mut Vec<u8>,
    decide: impl FnMut(usize, Option<&[u8]>, &mut Vec<u8>) -> Cell,
) -> Result<bool, ProtocolError> {
    let start = out.len();
    let result = rewrite_at(start, frame, out, scratch, decide);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn rewrite_at(
    start: usize,
    frame: &[u8],
    out: &mut BytesMut,
    scratch: &mut Vec<u8>,
    mut decide: impl FnMut(usize, Option<&[u8]>, &mut Vec<u8>) -> Cell,
) -> Result<bool, ProtocolError> {
    let truncated = ProtocolError::Truncated { message: MESSAGE };
    if frame.first() != Some(&tag::DATA_ROW) {
        return Err(ProtocolError::BadValue { message: MESSAGE });
    }
    let mut reader = Reader::new(MESSAGE, frame.get(HEADER..).ok_or(truncated)?);
    let count = reader.u16()?;
    out.reserve(frame.len());
    // Where the run of bytes begins in `frame` that have been kept and not copied yet.
    let mut kept = 0;
    for index in 0..usize::from(count) {
        let before = HEADER + reader.position();
        let value = reader.value()?;
        let after = HEADER + reader.position();
        scratch.clear();
        let cell = decide(index, value, scratch);
        if cell == Cell::Keep {
            continue;
        }
        out.extend_from_slice(frame.get(kept..before).ok_or(truncated)?);
        kept = after;
        match cell {
            Cell::Keep => {}
            Cell::Null => out.put_i32(-1),
            Cell::Replace => {
                out.put_i32(length_of(scratch.len())?);
                out.extend_from_slice(scratch);
            }
        }
    }
    reader.end()?;
    out.extend_from_slice(frame.get(kept..).ok_or(truncated)?);
    let changed = kept != 0;
    if changed {
        let length = length_of(out.len() - start - 1)?;
        if let Some(field) = out.get_mut(start + 1..start + HEADER) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    }
    Ok(changed)
}

fn length_of(bytes: usize) -> Result<i32, ProtocolError> {
    i32::try_from(bytes).map_err(|_| ProtocolError::TooLong { message: MESSAGE })
}
