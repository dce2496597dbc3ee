//! Rows of COPY TO STDOUT under masks.

use std::collections::BTreeMap;
use std::sync::Arc;

use chaperone_policy::{Strategy, Typed};
use chaperone_postgres::session::{CopyTreatment, mask_copy};
use chaperone_sql::CopyFormat;

use crate::values::{detectors, holds, masker};
use crate::{SECRET, control};

/// The columns of every row: as it is, masked, looked through.
const COLUMNS: [CopyTreatment; 3] = [
    CopyTreatment::Pass,
    CopyTreatment::Mask(Strategy::Redact, Typed::Null),
    CopyTreatment::Detect,
];

/// Three bytes of control (format, delimiter, quote and escape), then a row as a server would never
/// write it and, written as it would, one of which those bytes are the first field.
pub fn copy(data: &[u8]) {
    let ([format, delimiter, quote], row) = control::<3>(data);
    let csv = format & 1 == 1;
    let wanted = Dialect {
        csv,
        delimiter: delimiter_of(delimiter, csv),
        quote: quote_of(quote),
        escape: if format & 2 == 2 {
            b'\\'
        } else {
            quote_of(quote)
        },
    };
    let garbage = masked(&wanted, row);
    // A row of another shape becomes one NULL a field: two characters for none.
    assert!(
        garbage.len() <= row.len().saturating_mul(3) + 64,
        "a row grew out of bounds"
    );

    let first = field(row);
    let secret = [b"x ", SECRET.as_bytes(), b" y"].concat();
    let line = wanted.line(&[&first, &secret, &secret]);
    let out = masked(&wanted, &line);
    assert!(!holds(&out, SECRET.as_bytes()), "{line:?} became {out:?}");
    let expected = wanted.line(&[&first, b"[masked]", b"x [masked] y"]);
    assert_eq!(
        String::from_utf8_lossy(&out),
        String::from_utf8_lossy(&expected),
        "what is not masked changed"
    );
}

fn masked(dialect: &Dialect, row: &[u8]) -> Vec<u8> {
    let (format, options) = dialect.options();
    let mut out = Vec::new();
    let detectors = Arc::new(detectors(Strategy::Redact));
    mask_copy(
        (format, &options),
        &COLUMNS,
        (Arc::new(masker()), detectors),
        row,
        &mut out,
    );
    out
}

/// Text without what no text of PostgreSQL has, NUL and what is not UTF-8, and without the secret.
fn field(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes).replace('\0', "");
    text.replace(SECRET, "?").into_bytes()
}

/// How one COPY writes (PostgreSQL, COPY, File Formats).
struct Dialect {
    csv: bool,
    delimiter: u8,
    quote: u8,
    escape: u8,
}

/// What COPY admits: no line break, in text no lower-case letter, digit, dot or backslash.
fn delimiter_of(byte: u8, csv: bool) -> u8 {
    let admitted: &[u8] = if csv { b",;|\t:/ A7" } else { b"\t,;|:/ A" };
    let index = usize::from(byte) % admitted.len();
    admitted.get(index).copied().unwrap_or(b',')
}

fn quote_of(byte: u8) -> u8 {
    let admitted = b"\"'`~";
    let index = usize::from(byte) % admitted.len();
    admitted.get(index).copied().unwrap_or(b'"')
}

impl Dialect {
    fn options(&self) -> (CopyFormat, BTreeMap<String, String>) {
        let mut options = BTreeMap::from([(
            "delimiter".to_owned(),
            char::from(self.delimiter).to_string(),
        )]);
        if self.csv {
            options.insert("quote".to_owned(), char::from(self.quote).to_string());
            options.insert("escape".to_owned(), char::from(self.escape).to_string());
            return (CopyFormat::Csv, options);
        }
        (CopyFormat::Text, options)
    }

    /// A row as the server writes it (`CopyAttributeOutText`, `CopyAttributeOutCSV`).
    fn line(&self, fields: &[&[u8]]) -> Vec<u8> {
        let mut line = Vec::new();
        for (position, field) in fields.iter().enumerate() {
            if position > 0 {
                line.push(self.delimiter);
            }
            match self.csv {
                true => self.csv(field, &mut line),
                false => self.text(field, &mut line),
            }
        }
        line.push(b'\n');
        line
    }

    fn csv(&self, field: &[u8], line: &mut Vec<u8>) {
        let special = |byte: &u8| [self.delimiter, self.quote, b'\n', b'\r'].contains(byte);
        if !field.is_empty() && !field.iter().any(special) && field != b"\\." {
            line.extend_from_slice(field);
            return;
        }
        line.push(self.quote);
        for byte in field {
            if [self.quote, self.escape].contains(byte) {
                line.push(self.escape);
            }
            line.push(*byte);
        }
        line.push(self.quote);
    }

    fn text(&self, field: &[u8], line: &mut Vec<u8>) {
        for byte in field {
            let escaped = match byte {
                b'\\' => b'\\',
                0x08 => b'b',
                0x0b => b'v',
                0x0c => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                other if *other == self.delimiter => *other,
                other => {
                    line.push(*other);
                    continue;
                }
            };
            line.extend_from_slice(&[b'\\', escaped]);
        }
    }
}
