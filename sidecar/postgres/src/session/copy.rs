//! COPY TO STDOUT in text and csv, masked row by row (PostgreSQL, COPY, File Formats).
//!
//! The server sends one row a CopyData message. A row that does not have the fields that were
//! planned for is masked whole: order and number of columns are proven, never guessed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use chaperone_mask::{Detectors, Masker, Wire};
use chaperone_sql::CopyFormat;

use super::masks::{ColumnPlan, Treatment};
use super::values::{Cell, Masks};
use crate::codec::{Frame, encode};

/// Why a COPY TO STDOUT cannot be masked, if so: its bytes are then not what the masks are made for.
pub(crate) fn unmaskable(
    format: CopyFormat,
    options: &BTreeMap<String, String>,
) -> Option<&'static str> {
    if format == CopyFormat::Binary {
        return Some("COPY in binary format cannot be masked; use text or csv");
    }
    let encoding = options.get("encoding").map(|name| {
        name.chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .collect::<String>()
    });
    match encoding.as_deref() {
        None | Some("utf8" | "unicode") => None,
        Some(_) => Some("COPY in another encoding cannot be masked; use UTF8"),
    }
}

/// How the fields of one COPY are written and what happens to each.
#[derive(Debug)]
pub(crate) struct CopyMask {
    format: CopyFormat,
    delimiter: u8,
    quote: u8,
    escape: u8,
    null: Vec<u8>,
    header: bool,
    /// One a column; `None` masks every field, since their types are not known.
    columns: Option<Vec<ColumnPlan>>,
    /// Nothing is to be done.
    pub(crate) untouched: bool,
    /// What a value becomes, before it is written.
    replacement: Vec<u8>,
}

/// The masks of one COPY TO STDOUT.
#[derive(Debug)]
pub(crate) struct CopyMasks {
    pub(crate) agent: CopyMask,
    /// The record's where it differs; `None` in it records nothing, since it cannot be masked.
    pub(crate) record: Option<Option<CopyMask>>,
    /// Columns as the server announced them.
    pub(crate) columns: usize,
}

impl CopyMasks {
    /// The first line has passed already.
    pub(crate) fn begun(&mut self) {
        self.agent.header = false;
        if let Some(Some(record)) = &mut self.record {
            record.header = false;
        }
    }
}

/// The row could not be read: nothing of it may pass.
struct Unreadable;

/// One field of a row. Where its text is borrowed it is its own form in the row: nothing in it is
/// escaped or quoted, or has to be.
struct FieldText<'a> {
    null: bool,
    text: Cow<'a, [u8]>,
}

impl CopyMask {
    /// `columns` as planned, or `None` for a COPY whose columns have no known origin.
    pub(crate) fn new(
        format: CopyFormat,
        options: &BTreeMap<String, String>,
        columns: Option<Vec<ColumnPlan>>,
    ) -> Self {
        let one = |name: &str, default: u8| {
            options
                .get(name)
                .and_then(|value| value.bytes().next())
                .unwrap_or(default)
        };
        let csv = format == CopyFormat::Csv;
        let quote = one("quote", b'"');
        let header = options.get("header").is_some_and(|value| {
            !matches!(value.to_ascii_lowercase().as_str(), "false" | "off" | "0")
        });
        let untouched = columns
            .as_ref()
            .is_some_and(|columns| columns.iter().all(|c| c.treatment == Treatment::Pass));
        Self {
            format,
            delimiter: one("delimiter", if csv { b',' } else { b'\t' }),
            quote,
            escape: one("escape", quote),
            null: options.get("null").map_or_else(
                || {
                    if csv { Vec::new() } else { b"\\N".to_vec() }
                },
                |null| null.clone().into_bytes(),
            ),
            header,
            columns,
            untouched,
            replacement: Vec::new(),
        }
    }

    /// Passes one CopyData message on. Returns how many values were replaced.
    pub(crate) fn pass(&mut self, frame: &Frame, masks: &Masks, out: &mut BytesMut) -> u64 {
        if self.untouched {
            out.extend_from_slice(&frame.raw);
            return 0;
        }
        let mut masked = 0;
        out.reserve(frame.raw.len());
        encode::message(out, frame.tag, |out| {
            masked = self.row(frame.body(), masks, out);
        });
        masked
    }

    /// Masks one CopyData payload. Returns how many values were replaced.
    pub(crate) fn row(&mut self, data: &[u8], masks: &Masks, out: &mut BytesMut) -> u64 {
        // Column names are schema, not data.
        if std::mem::take(&mut self.header) {
            out.extend_from_slice(data);
            return 0;
        }
        let (line, end) = match data.strip_suffix(b"\r\n") {
            Some(line) => (line, &b"\r\n"[..]),
            None => match data.strip_suffix(b"\n") {
                Some(line) => (line, &b"\n"[..]),
                None => (data, &b""[..]),
            },
        };
        // The end-of-data marker of the old protocol is not a row.
        if self.format == CopyFormat::Text && line == b"\\." {
            out.extend_from_slice(data);
            return 0;
        }
        let fields = match self.format {
            CopyFormat::Csv => self.split_csv(line),
            _ => self.split_text(line),
        };
        let known = self.columns.as_deref();
        let masked = match (fields, known) {
            (Ok(fields), Some(columns)) if fields.len() == columns.len() => {
                let mut replacement = std::mem::take(&mut self.replacement);
                let masked = self.write((&fields, columns), masks, &mut replacement, out);
                self.replacement = replacement;
                masked
            }
            (Ok(fields), _) => self.write_nulls(fields.len(), out),
            (Err(Unreadable), known) => self.write_nulls(known.map_or(1, <[_]>::len), out),
        };
        out.extend_from_slice(end);
        masked
    }

    fn write(
        &self,
        (fields, columns): (&[FieldText<'_>], &[ColumnPlan]),
        masks: &Masks,
        replacement: &mut Vec<u8>,
        out: &mut BytesMut,
    ) -> u64 {
        let mut masked = 0_u64;
        for (position, (field, column)) in fields.iter().zip(columns).enumerate() {
            if position > 0 {
                out.put_u8(self.delimiter);
            }
            if field.null {
                out.extend_from_slice(&self.null);
                continue;
            }
            replacement.clear();
            match masks.value(column, Some(&field.text), replacement) {
                Cell::Keep => match &field.text {
                    Cow::Borrowed(as_it_came) => out.extend_from_slice(as_it_came),
                    Cow::Owned(text) => self.write_field(text, out),
                },
                Cell::Null => {
                    masked = masked.saturating_add(1);
                    out.extend_from_slice(&self.null);
                }
                Cell::Replace => {
                    masked = masked.saturating_add(1);
                    self.write_field(replacement, out);
                }
            }
        }
        masked
    }

    fn write_nulls(&self, count: usize, out: &mut BytesMut) -> u64 {
        for position in 0..count {
            if position > 0 {
                out.put_u8(self.delimiter);
            }
            out.extend_from_slice(&self.null);
        }
        count as u64
    }

    fn write_field(&self, text: &[u8], out: &mut BytesMut) {
        if self.format == CopyFormat::Csv {
            let plain = text != self.null.as_slice()
                && !text.iter().any(|byte| {
                    matches!(byte, b'\n' | b'\r') || [self.delimiter, self.quote].contains(byte)
                })
                && text != b"\\.";
            if plain {
                out.extend_from_slice(text);
                return;
            }
            out.put_u8(self.quote);
            for &byte in text {
                if byte == self.quote || byte == self.escape {
                    out.put_u8(self.escape);
                }
                out.put_u8(byte);
            }
            out.put_u8(self.quote);
            return;
        }
        for &byte in text {
            match byte {
                b'\\' => out.extend_from_slice(b"\\\\"),
                0x08 => out.extend_from_slice(b"\\b"),
                0x0c => out.extend_from_slice(b"\\f"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                0x0b => out.extend_from_slice(b"\\v"),
                other => {
                    if other == self.delimiter {
                        out.put_u8(b'\\');
                    }
                    out.put_u8(other);
                }
            }
        }
    }

    fn split_text<'a>(&self, line: &'a [u8]) -> Result<Vec<FieldText<'a>>, Unreadable> {
        let mut fields = Vec::with_capacity(self.columns.as_ref().map_or(1, Vec::len));
        let mut rest = line;
        loop {
            let mut end = 0;
            let mut escaped = false;
            let delimited = loop {
                let behind = rest.get(end..).unwrap_or_default();
                let Some(offset) = memchr::memchr2(self.delimiter, b'\\', behind) else {
                    break false;
                };
                end += offset;
                if rest.get(end) != Some(&b'\\') {
                    break true;
                }
                // A backslash, and what it stands before.
                escaped = true;
                end += 2;
                if end > rest.len() {
                    return Err(Unreadable);
                }
            };
            let (raw, behind) = match delimited {
                true => (rest.get(..end), rest.get(end + 1..)),
                false => (Some(rest), None),
            };
            let raw = raw.unwrap_or_default();
            fields.push(FieldText {
                null: raw == self.null.as_slice(),
                text: match escaped || raw.iter().any(|byte| *byte < b' ') {
                    true => Cow::Owned(unescaped(raw)),
                    false => Cow::Borrowed(raw),
                },
            });
            match behind {
                Some(behind) => rest = behind,
                None => return Ok(fields),
            }
        }
    }

    fn split_csv<'a>(&self, line: &'a [u8]) -> Result<Vec<FieldText<'a>>, Unreadable> {
        if memchr::memchr3(self.quote, b'\n', b'\r', line).is_none() {
            let plain = line.split(|byte| *byte == self.delimiter);
            return Ok(plain
                .map(|raw| FieldText {
                    null: raw == self.null.as_slice(),
                    text: Cow::Borrowed(raw),
                })
                .collect());
        }
        let mut fields = Vec::new();
        let mut text = Vec::new();
        let mut quoted = false;
        let mut inside = false;
        let mut bytes = line.iter().copied().peekable();
        loop {
            match bytes.next() {
                None if inside => return Err(Unreadable),
                None => {
                    fields.push(self.csv_field(&mut text, quoted));
                    return Ok(fields);
                }
                Some(byte) if inside => {
                    if byte == self.escape
                        && bytes
                            .peek()
                            .is_some_and(|next| *next == self.quote || *next == self.escape)
                    {
                        text.extend(bytes.next());
                    } else if byte == self.quote {
                        inside = false;
                    } else {
                        text.push(byte);
                    }
                }
                Some(byte) if byte == self.quote => {
                    inside = true;
                    quoted = true;
                }
                Some(byte) if byte == self.delimiter => {
                    fields.push(self.csv_field(&mut text, quoted));
                    quoted = false;
                }
                Some(byte) => text.push(byte),
            }
        }
    }

    fn csv_field(&self, text: &mut Vec<u8>, quoted: bool) -> FieldText<'static> {
        let text = std::mem::take(text);
        FieldText {
            null: !quoted && text == self.null,
            text: Cow::Owned(text),
        }
    }
}

/// A field of text format without its backslashes.
fn unescaped(raw: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 0x08,
                Some(b'f') => 0x0c,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 0x0b,
                Some(other) => other,
                None => byte,
            },
            other => other,
        });
    }
    text
}

/// Masks the first row of a COPY TO STDOUT as a session does, its columns taken for text: the way in
/// for whoever has rows of its own to try (`sidecar/fuzz`).
pub fn mask_copy(
    (format, options): (CopyFormat, &BTreeMap<String, String>),
    treatments: &[Treatment],
    (masker, detectors): (Arc<Masker>, Arc<Detectors>),
    row: &[u8],
    out: &mut Vec<u8>,
) -> u64 {
    const TEXT: u32 = 25;
    let column = |treatment: &Treatment| ColumnPlan {
        treatment: *treatment,
        type_oid: TEXT,
        wire: Wire::Text,
        name: String::new(),
    };
    let columns = treatments.iter().map(column).collect();
    let masks = Masks {
        masker,
        detectors: Some(detectors),
    };
    let mut written = BytesMut::new();
    let masked = CopyMask::new(format, options, Some(columns)).row(row, &masks, &mut written);
    out.extend_from_slice(&written);
    masked
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use chaperone_mask::HashKey;
    use chaperone_policy::{Strategy, Typed};

    use super::*;

    const TEXT: u32 = 25;

    fn column(treatment: Treatment) -> ColumnPlan {
        ColumnPlan {
            treatment,
            type_oid: TEXT,
            wire: Wire::Text,
            name: "c".to_owned(),
        }
    }

    fn masks() -> Masks {
        Masks {
            masker: Arc::new(Masker::new(HashKey::new([7; 32]))),
            detectors: None,
        }
    }

    fn run(
        format: CopyFormat,
        options: &[(&str, &str)],
        columns: Option<Vec<ColumnPlan>>,
        row: &str,
    ) -> String {
        let options = options
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let mut out = BytesMut::new();
        CopyMask::new(format, &options, columns).row(row.as_bytes(), &masks(), &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn second_masked() -> Option<Vec<ColumnPlan>> {
        Some(vec![
            column(Treatment::Pass),
            column(Treatment::Mask(Strategy::Redact, Typed::Null)),
        ])
    }

    #[test]
    fn a_masked_field_is_replaced_and_the_rest_is_byte_equal() {
        assert_eq!(
            run(
                CopyFormat::Text,
                &[],
                second_masked(),
                "a\\tb\\\\\ts@x.org\n"
            ),
            "a\\tb\\\\\t[masked]\n"
        );
        assert_eq!(
            run(
                CopyFormat::Csv,
                &[],
                second_masked(),
                "\"a,\"\"b\",s@x.org\n"
            ),
            "\"a,\"\"b\",[masked]\n"
        );
    }

    /// A delimiter, a quote or a line's end inside a value is in no other column.
    #[test]
    fn escapes_and_quotes_keep_fields_where_they_are() {
        for (delimiter, row, masked) in [
            (
                "\t",
                "a\\tb\\nc\\\\\tann@x.org\\t\n",
                "a\\tb\\nc\\\\\t[masked]\n",
            ),
            ("|", "a\\|b|c|d\\\n", "\\N|\\N\n"),
            ("|", "a\\|b\\\\|c\\|d\n", "a\\|b\\\\|[masked]\n"),
            ("|", "|\n", "|[masked]\n"),
            ("|", "\\N|\\N\n", "\\N|\\N\n"),
            ("|", "a\u{1}\tb|c\n", "a\u{1}\\tb|[masked]\n"),
        ] {
            let options = [("delimiter", delimiter)];
            let shown = run(CopyFormat::Text, &options, second_masked(), row);
            assert_eq!(shown, masked, "{row:?}");
        }
        for (row, masked) in [
            ("a,b\n", "a,[masked]\n"),
            (",b\n", ",[masked]\n"),
            ("\\.,b\n", "\\.,[masked]\n"),
            ("\"a\nb,\",\"c\",\n", ",,\n"),
            ("\"a\nb,\",\"c,\"\n", "\"a\nb,\",[masked]\n"),
        ] {
            assert_eq!(
                run(CopyFormat::Csv, &[], second_masked(), row),
                masked,
                "{row:?}"
            );
        }
    }

    #[test]
    fn nulls_stay_nulls() {
        assert_eq!(
            run(CopyFormat::Text, &[], second_masked(), "a\t\\N\n"),
            "a\t\\N\n"
        );
        assert_eq!(run(CopyFormat::Csv, &[], second_masked(), "a,\n"), "a,\n");
        assert_eq!(
            run(CopyFormat::Csv, &[], second_masked(), "a,\"\"\n"),
            "a,[masked]\n"
        );
    }

    #[test]
    fn a_row_of_another_shape_is_masked_whole() {
        assert_eq!(
            run(CopyFormat::Text, &[], second_masked(), "a\tb\tc\n"),
            "\\N\t\\N\t\\N\n"
        );
        assert_eq!(run(CopyFormat::Csv, &[], second_masked(), "\"a,b\n"), ",\n");
        assert_eq!(run(CopyFormat::Text, &[], None, "secret\n"), "\\N\n");
    }

    #[test]
    fn a_header_is_schema_and_passes() {
        let mut out = BytesMut::new();
        let options = [("header".to_owned(), "true".to_owned())].into();
        let mut copy = CopyMask::new(CopyFormat::Csv, &options, second_masked());
        copy.row(b"id,email\n", &masks(), &mut out);
        copy.row(b"1,a@b.c\n", &masks(), &mut out);
        assert_eq!(out.as_ref(), b"id,email\n1,[masked]\n");
    }

    #[test]
    fn a_delimiter_in_a_replacement_is_escaped() {
        assert_eq!(
            run(
                CopyFormat::Csv,
                &[("delimiter", "[")],
                second_masked(),
                "a[b\n"
            ),
            "a[\"[masked]\"\n"
        );
        assert_eq!(
            run(
                CopyFormat::Text,
                &[("delimiter", "[")],
                second_masked(),
                "a[b\n"
            ),
            "a[\\[masked]\n"
        );
    }
}
