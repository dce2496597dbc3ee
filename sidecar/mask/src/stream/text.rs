//! Detectors over text: a match that begins in what is given out ends within it.
//!
//! What nobody waits for is held back in a window. What somebody looks at (a terminal) is given out
//! up to where a match may still be open, and no later: never after a time, for whoever waits that
//! long between two halves of a secret would get both.

use super::{Rules, Unmaskable};

/// Bytes held back: longer than any match but a private key of unusual size.
const WINDOW: usize = 16 * 1024;
/// Bytes kept behind what was given out: what stands before a match says whether it is one. A secret
/// key of AWS is one for the id that stands up to 256 bytes before it.
const BEHIND: usize = 1024;
/// Longest match, and longest beginning of one, in bytes.
const LONGEST: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Text {
    held: Vec<u8>,
    /// How much of `held` was given out already.
    given: usize,
    /// Somebody looks at it.
    watched: bool,
}

impl Text {
    /// One that somebody looks at.
    pub(super) fn watched() -> Text {
        Text {
            watched: true,
            ..Text::default()
        }
    }

    pub(super) fn push(
        &mut self,
        rules: &mut Rules,
        piece: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        // In slices, so that a long piece is not scanned over and over.
        for slice in piece.chunks(WINDOW) {
            self.held.extend_from_slice(slice);
            let waits = self.held.len().saturating_sub(self.given);
            if self.watched {
                let whole = self.held.get(..whole_characters(&self.held));
                let open = rules.detectors.open(whole.unwrap_or_default());
                self.give(rules, open.max(self.given), out);
            } else if waits >= WINDOW.saturating_mul(2) {
                self.give(rules, self.held.len().saturating_sub(WINDOW), out);
            }
            if self.held.len().saturating_sub(self.given) > LONGEST {
                return Err(Unmaskable::TooLong);
            }
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, rules: &mut Rules, out: &mut Vec<u8>) {
        self.give(rules, self.held.len(), out);
    }

    /// Gives out up to `to`, or up to a match that goes on beyond it.
    fn give(&mut self, rules: &mut Rules, to: usize, out: &mut Vec<u8>) {
        let last = to == self.held.len();
        let mut to = to;
        // Never inside a character.
        while !last && self.held.get(to).is_some_and(|byte| byte & 0xc0 == 0x80) && to > self.given
        {
            to -= 1;
        }
        let held = std::mem::take(&mut self.held);
        let mut at = 0_usize;
        let mut from = self.given;
        for chunk in held.utf8_chunks() {
            let text = chunk.valid();
            for found in rules.detectors.scan(text) {
                let (start, end) = (at + found.range.start, at + found.range.end);
                if end <= from || start >= to {
                    continue;
                }
                // Of one that was seen differently before, at least the rest is masked.
                let start = start.max(from);
                if end > to {
                    to = start;
                    break;
                }
                out.extend_from_slice(held.get(from..start).unwrap_or_default());
                let secret = text.get(found.range).unwrap_or_default();
                let masked = rules.detect(secret);
                out.extend_from_slice(masked.as_deref().unwrap_or(crate::MARK).as_bytes());
                from = end;
            }
            at += text.len() + chunk.invalid().len();
        }
        out.extend_from_slice(held.get(from..to.max(from)).unwrap_or_default());
        let kept_from = to.max(from).saturating_sub(BEHIND);
        self.given = to.max(from) - kept_from;
        self.held = held.get(kept_from..).unwrap_or_default().to_vec();
    }
}

/// Where the last character begins, if it is not whole yet (RFC 3629, section 3): it may be a letter,
/// and say that what stands before it is no match. The end, if it is whole.
fn whole_characters(bytes: &[u8]) -> usize {
    let last = bytes
        .iter()
        .rev()
        .take(3)
        .position(|byte| byte & 0xc0 != 0x80);
    let start = bytes.len().saturating_sub(last.map_or(0, |back| back + 1));
    let needed = match bytes.get(start) {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => 0,
    };
    match start + needed > bytes.len() {
        true => start,
        false => bytes.len(),
    }
}
