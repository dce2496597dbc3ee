//! Matches inside a JSON text: found through escapes, replaced so that it stays JSON.

use std::borrow::Cow;
use std::ops::Range;

/// A JSON text with the escapes of its strings resolved, and the way back: `\u0040` is an `@`
/// that a detector must see, and six bytes of the original that must go.
pub(super) struct Unescaped<'a> {
    /// What detectors read.
    pub(super) text: Cow<'a, str>,
    /// (offset in `text`, offset in the original) wherever the distance between them changes.
    steps: Vec<(usize, usize)>,
}

impl<'a> Unescaped<'a> {
    /// Resolves all escapes (RFC 8259, 7). A broken one is left as it is.
    pub(super) fn new(json: &'a str) -> Unescaped<'a> {
        if !json.contains('\\') {
            return Unescaped {
                text: Cow::Borrowed(json),
                steps: Vec::new(),
            };
        }
        let mut text = String::with_capacity(json.len());
        let mut steps = Vec::new();
        let mut at = 0;
        while let Some(offset) = json.get(at..).and_then(|rest| rest.find('\\')) {
            text.push_str(json.get(at..at + offset).unwrap_or_default());
            at += offset;
            let (c, length) = escape(json.get(at..).unwrap_or_default());
            steps.push((text.len(), at));
            text.push(c);
            at += length;
            steps.push((text.len(), at));
        }
        text.push_str(json.get(at..).unwrap_or_default());
        Unescaped {
            text: Cow::Owned(text),
            steps,
        }
    }

    /// Where a range of `text` is in the original.
    pub(super) fn original(&self, range: &Range<usize>) -> Range<usize> {
        self.offset(range.start)..self.offset(range.end)
    }

    fn offset(&self, at: usize) -> usize {
        let after = self.steps.partition_point(|(text, _)| *text <= at);
        match after.checked_sub(1).and_then(|index| self.steps.get(index)) {
            Some((text, original)) => original + (at - text),
            None => at,
        }
    }
}

/// The character of the escape at the start of the text, and how many bytes it takes.
fn escape(text: &str) -> (char, usize) {
    let simple = match text.as_bytes().get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode(text).unwrap_or(('\\', 1)),
        Some(c @ (b'"' | b'\\' | b'/')) => char::from(*c),
        _ => return ('\\', 1),
    };
    (simple, 2)
}

fn unicode(text: &str) -> Option<(char, usize)> {
    let unit = |at: usize| u32::from_str_radix(text.get(at..at + 4)?, 16).ok();
    let high = unit(2)?;
    if let Some(c) = char::from_u32(high) {
        return Some((c, 6));
    }
    let low = text
        .get(6..8)
        .filter(|start| *start == "\\u")
        .and_then(|_| unit(8));
    match low {
        Some(low @ 0xDC00..=0xDFFF) if (0xD800..0xDC00).contains(&high) => {
            let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            Some((char::from_u32(code)?, 12))
        }
        _ => Some((char::REPLACEMENT_CHARACTER, 6)),
    }
}

/// Follows a JSON text from match to match, to know which lie inside a string.
pub(super) struct Position<'a> {
    json: &'a [u8],
    at: usize,
    in_string: bool,
}

impl<'a> Position<'a> {
    pub(super) fn new(json: &'a str) -> Position<'a> {
        Position {
            json: json.as_bytes(),
            at: 0,
            in_string: false,
        }
    }

    /// Whether `at`, not before any earlier one, is inside a string.
    pub(super) fn in_string(&mut self, at: usize) -> bool {
        while self.at < at {
            match self.json.get(self.at) {
                Some(b'\\') => self.at += 1,
                Some(b'"') => self.in_string = !self.in_string,
                _ => {}
            }
            self.at += 1;
        }
        self.in_string
    }

    /// The whole number that the range is part of.
    pub(super) fn number(&self, range: &Range<usize>) -> Range<usize> {
        let part =
            |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
        let left = self.json.get(..range.start).unwrap_or_default();
        let right = self.json.get(range.end..).unwrap_or_default();
        let before = left.iter().rev().take_while(|byte| part(byte)).count();
        let after = right.iter().take_while(|byte| part(byte)).count();
        range.start - before..range.end + after
    }
}
