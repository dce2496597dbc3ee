//! What is recorded of a command's text and parameters: the bytes as sent, with secrets
//! overwritten in place and their spans marked.

use std::ops::Range;

use super::statements::Batch;
use super::values::Masks;
use crate::codec::{Format, Parameter};

/// What stands for a masked character; the length stays, so that places in the stream do.
const FILL: u8 = b'*';

/// A text without its secrets.
#[derive(Debug, Clone)]
pub(crate) struct Redacted {
    pub(crate) text: String,
    /// Byte ranges of `text` that were overwritten, ascending.
    pub(crate) spans: Vec<Range<usize>>,
}

/// Masks the literals that a batch declares secret, and whatever the detectors find.
pub(crate) fn redact(text: &str, batch: Option<&Batch>, masks: &Masks) -> Redacted {
    let mut spans: Vec<Range<usize>> =
        batch
            .into_iter()
            .flat_map(|batch| &batch.statements)
            .flat_map(|statement| {
                let offset = statement.statement.offset;
                statement.class.secret_spans.iter().map(move |span| {
                    offset.saturating_add(span.start)..offset.saturating_add(span.end)
                })
            })
            .collect();
    if let Some(detectors) = &masks.detectors {
        spans.extend(detectors.scan(text).into_iter().map(|found| found.range));
    }
    overwrite(text, spans)
}

/// A text that could not be parsed may hold a secret anywhere behind its first quote, and in
/// every number: both are masked. Without masks on the connection it is recorded as it is.
pub(crate) fn redact_unparsed(text: &str, masked: bool) -> Redacted {
    if !masked {
        return overwrite(text, Vec::new());
    }
    let quoted = text.find(['\'', '$', '"']).unwrap_or(text.len());
    let mut spans: Vec<Range<usize>> = std::iter::once(quoted..text.len()).collect();
    let mut number: Option<usize> = None;
    for (at, character) in text.char_indices().take_while(|(at, _)| *at < quoted) {
        match (number, character.is_ascii_digit()) {
            (None, true) => number = Some(at),
            (Some(from), false) => {
                spans.push(from..at);
                number = None;
            }
            _ => {}
        }
    }
    if let Some(from) = number {
        spans.push(from..quoted);
    }
    overwrite(text, spans)
}

fn overwrite(text: &str, mut spans: Vec<Range<usize>>) -> Redacted {
    if spans.is_empty() {
        return Redacted {
            text: text.to_owned(),
            spans,
        };
    }
    spans.sort_unstable_by_key(|span| span.start);
    let mut bytes = text.as_bytes().to_vec();
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(spans.len());
    for span in spans {
        if span.is_empty() || span.end > bytes.len() {
            continue;
        }
        if let Some(slice) = bytes.get_mut(span.clone()) {
            slice.fill(FILL);
        }
        match merged.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => merged.push(span),
        }
    }
    Redacted {
        // Overwriting whole characters with ASCII keeps UTF-8; a span that cuts one does not.
        text: String::from_utf8_lossy(&bytes).into_owned(),
        spans: merged,
    }
}

/// A frame as it is recorded: the same length, spans overwritten.
#[derive(Debug, Clone)]
pub(crate) struct RecordedFrame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) masked: Vec<Range<u32>>,
}

/// The frame with spans (offsets into the frame) overwritten. `None` when there are none: the
/// frame is recorded as it is.
pub(crate) fn recorded_frame(
    frame: &[u8],
    spans: impl Iterator<Item = Range<usize>>,
) -> Option<RecordedFrame> {
    let mut bytes: Option<Vec<u8>> = None;
    let mut masked = Vec::new();
    for span in spans {
        let bytes = bytes.get_or_insert_with(|| frame.to_vec());
        if let Some(slice) = bytes.get_mut(span.clone()) {
            slice.fill(FILL);
            if let (Ok(start), Ok(end)) = (u32::try_from(span.start), u32::try_from(span.end)) {
                masked.push(start..end);
            }
        }
    }
    bytes.map(|bytes| RecordedFrame { bytes, masked })
}

/// The parameters as text, for records, approvers and CEL. `types` are the statement's parameter
/// types where the server has said them; a binary value of any other type is shown as hex, never
/// guessed at.
pub(crate) fn parameter_texts(
    parameters: &[Parameter],
    types: Option<&[u32]>,
    format: impl Fn(usize) -> Format,
) -> Vec<Option<String>> {
    parameters
        .iter()
        .enumerate()
        .map(|(index, parameter)| {
            let type_oid = types.and_then(|types| types.get(index)).copied();
            parameter.value.as_ref().map(|value| match format(index) {
                Format::Text => String::from_utf8_lossy(value).into_owned(),
                Format::Binary => binary_text(type_oid, value),
            })
        })
        .collect()
}

/// Binary formats of the types that drivers send most (PostgreSQL, `pg_type`; each type's `recv`).
fn binary_text(type_oid: Option<u32>, value: &[u8]) -> String {
    const BOOL: u32 = 16;
    const INT8: u32 = 20;
    const INT2: u32 = 21;
    const INT4: u32 = 23;
    const TEXTS: [u32; 4] = [25, 1042, 1043, 19];
    let decoded = match type_oid {
        Some(BOOL) => value.first().map(|byte| (*byte != 0).to_string()),
        Some(INT2) => value
            .try_into()
            .ok()
            .map(|b| i16::from_be_bytes(b).to_string()),
        Some(INT4) => value
            .try_into()
            .ok()
            .map(|b| i32::from_be_bytes(b).to_string()),
        Some(INT8) => value
            .try_into()
            .ok()
            .map(|b| i64::from_be_bytes(b).to_string()),
        Some(oid) if TEXTS.contains(&oid) => std::str::from_utf8(value).ok().map(str::to_owned),
        _ => None,
    };
    decoded.unwrap_or_else(|| {
        let mut hex = String::with_capacity(value.len().saturating_mul(2).saturating_add(2));
        hex.push_str("\\x");
        for byte in value {
            for nibble in [byte >> 4, byte & 0x0f] {
                hex.extend(char::from_digit(u32::from(nibble), 16));
            }
        }
        hex
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_text_that_does_not_parse_shows_no_literal() {
        let text = "SELEC n FROM t5 WHERE m = 4111 AND x = 'it\\'s secret' AND";
        let shown = redact_unparsed(text, true).text;
        assert!(shown.starts_with("SELEC n FROM t* WHERE m = **** AND x = *"));
        assert!(!shown.contains("secret"));
        assert_eq!(redact_unparsed(text, false).text, text);
    }

    #[test]
    fn binary_parameters_are_decoded_by_type_and_never_guessed() {
        assert_eq!(binary_text(Some(23), &[0, 0, 0, 42]), "42");
        assert_eq!(binary_text(Some(25), b"abcd"), "abcd");
        assert_eq!(binary_text(None, b"abcd"), "\\x61626364");
    }

    #[test]
    fn spans_are_merged_and_keep_the_length() {
        let shown = overwrite("abcdef", vec![1..3, 2..4]);
        assert_eq!(shown.text, "a***ef");
        assert_eq!(shown.spans, vec![1..4]);
    }
}
