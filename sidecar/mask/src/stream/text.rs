//! Detectors over text in a window: a match that begins in what is given out ends within it.

use super::Rules;

/// Bytes held back: longer than any match but a private key of unusual size.
const WINDOW: usize = 16 * 1024;
/// Bytes kept behind what was given out: what stands before a match says whether it is one.
const BEHIND: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Text {
    held: Vec<u8>,
    /// How much of `held` was given out already.
    given: usize,
}

impl Text {
    pub(super) fn push(&mut self, rules: &mut Rules, piece: &[u8], out: &mut Vec<u8>) {
        // In slices, so that a long piece is not scanned over and over.
        for slice in piece.chunks(WINDOW) {
            self.held.extend_from_slice(slice);
            if self.held.len() >= self.given.saturating_add(WINDOW.saturating_mul(2)) {
                self.give(rules, self.held.len().saturating_sub(WINDOW), out);
            }
        }
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
                if start < from || start >= to {
                    continue;
                }
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
