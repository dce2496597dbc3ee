//! WebSocket as far as evidence needs it: the frames of either side without their masks.
//!
//! Agents mask what they send (RFC 6455, section 5.3), so that its bytes as such say nothing. The
//! record holds the same frames unmasked, which a server's are anyway; what is sent on is what
//! came.

use std::fmt::Debug;

use chaperone_enforce::Denial;

use crate::record::Recorded;

/// Longest payload of a control frame (RFC 6455, section 5.5).
const MAX_CONTROL: u64 = 125;
/// Longest head of a frame (RFC 6455, section 5.2).
const MAX_HEAD: usize = 14;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// The bytes are no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what follows the upgrade is no WebSocket")]
pub struct NotWebSocket;

/// Why a tunnel cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It is not what was agreed on.
    #[error(transparent)]
    NotWebSocket(#[from] NotWebSocket),
    /// It cannot be masked.
    #[error("what the target sends cannot be masked: {0}")]
    Unmaskable(#[from] chaperone_mask::Unmaskable),
    /// It comes where nothing is expected that could be masked.
    #[error("the target sends what belongs to no output that can be masked")]
    Unexpected,
}

/// What the target sent, masked where something masks it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Down {
    /// For the agent; `None` for exactly what came.
    pub agent: Option<Vec<u8>>,
    /// As it is recorded.
    pub record: Vec<u8>,
}

/// Reads both directions after a 101.
pub trait Messages: Debug + Send {
    /// What the agent sends, as it is recorded.
    ///
    /// # Errors
    /// [`MessageError`].
    fn up(&mut self, bytes: &[u8]) -> Result<Recorded, MessageError>;

    /// What the target sends.
    ///
    /// # Errors
    /// [`MessageError`].
    fn down(&mut self, bytes: &[u8]) -> Result<Down, MessageError>;

    /// The target sends no more: what was held back.
    ///
    /// # Errors
    /// [`MessageError`].
    fn finish(&mut self) -> Result<Down, MessageError>;

    /// What masked how much.
    fn masked(&self) -> Vec<(String, u64)>;

    /// How it ended, if it said so: what stands for the status in the record, and whether it
    /// succeeded.
    fn ended(&self) -> Option<(String, bool)>;

    /// What tells the agent, as was agreed on, why the proxy ends this here. Empty where it cannot be
    /// told: there are no words for it, or the agent was sent half a message.
    fn farewell(&self, denial: &Denial) -> Vec<u8>;
}

/// A piece of a frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Of a control frame of this kind (RFC 6455, section 5.5), not of a message.
    pub control: Option<u8>,
    /// It is of the first frame of a message, and begins it.
    pub first: bool,
    /// Unmasked.
    pub data: &'a [u8],
    /// The message ends with it.
    pub last: bool,
}

/// Appends a whole message, or a control frame, as a server sends it: in one frame, not masked.
pub fn write_frame(kind: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(FIN | kind);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..126), _) => out.push(length),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// One direction.
#[derive(Debug, Default)]
pub struct Frames {
    head: Vec<u8>,
    /// Of the frame whose head was read.
    current: Option<Current>,
    /// Between the first frame of a message and its last.
    fragmented: bool,
    plain: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    left: u64,
    key: [u8; 4],
    at: usize,
    control: Option<u8>,
    first: bool,
    last: bool,
}

impl Frames {
    /// All that was read are whole messages.
    pub fn is_between(&self) -> bool {
        self.head.is_empty() && self.current.is_none() && !self.fragmented
    }

    /// Takes bytes, appends the same frames unmasked to `out`, and gives pieces of their payloads.
    ///
    /// # Errors
    /// [`NotWebSocket`].
    pub fn read(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<u8>,
        piece: &mut dyn FnMut(Piece<'_>),
    ) -> Result<(), NotWebSocket> {
        loop {
            if let Some(mut current) = self.current {
                let count = usize::try_from(current.left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let (now, rest) = bytes.split_at(count);
                bytes = rest;
                self.plain.clear();
                for (place, byte) in (current.at..).zip(now) {
                    let key = current.key.get(place % 4).copied().unwrap_or_default();
                    self.plain.push(byte ^ key);
                }
                current.at = current.at.wrapping_add(count) % 4;
                current.left = current.left.saturating_sub(count as u64);
                out.extend_from_slice(&self.plain);
                let done = current.left == 0;
                if done || count > 0 {
                    piece(Piece {
                        control: current.control,
                        first: std::mem::take(&mut current.first),
                        data: &self.plain,
                        last: current.last && done,
                    });
                }
                self.current = (!done).then_some(current);
                if !done {
                    return Ok(());
                }
                continue;
            }
            let Some((byte, rest)) = bytes.split_first() else {
                return Ok(());
            };
            bytes = rest;
            self.head.push(*byte);
            self.current = self.begun(out)?;
            if self.current.is_some() {
                self.head.clear();
            }
        }
    }

    /// The frame whose head is read now, once all of it is.
    fn begun(&mut self, out: &mut Vec<u8>) -> Result<Option<Current>, NotWebSocket> {
        let [kind, length, rest @ ..] = self.head.as_slice() else {
            return Ok(None);
        };
        let extended = match length & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let masked = length & MASKED != 0;
        let (Some(number), after) = (rest.get(..extended), rest.get(extended..)) else {
            return Ok(None);
        };
        let after = after.unwrap_or_default();
        let key = match (masked, after) {
            (false, _) => [0; 4],
            (true, &[a, b, c, d]) => [a, b, c, d],
            (true, _) if self.head.len() < MAX_HEAD => return Ok(None),
            (true, _) => return Err(NotWebSocket),
        };
        let left = match extended {
            0 => u64::from(length & !MASKED),
            _ => number
                .iter()
                .fold(0, |sum, byte| (sum << 8) | u64::from(*byte)),
        };
        // Extensions were not offered, so their bits mean nothing (RFC 6455, section 5.2).
        if kind & 0x70 != 0 || left > u64::from(u32::MAX) {
            return Err(NotWebSocket);
        }
        let last = kind & FIN != 0;
        let (control, first) = match (kind & 0x0f, self.fragmented) {
            (0, true) => (None, false),
            (1 | 2, false) => (None, true),
            (kind @ 8..=10, _) if last && left <= MAX_CONTROL => (Some(kind), true),
            _ => return Err(NotWebSocket),
        };
        if control.is_none() {
            self.fragmented = !last;
        }
        out.extend_from_slice(&[*kind, length & !MASKED]);
        out.extend_from_slice(number);
        Ok(Some(Current {
            left,
            key,
            at: 0,
            control,
            first,
            last,
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// "Hello" of RFC 6455, section 5.7.
    const MASKED_HELLO: [u8; 11] = [
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];

    fn read(bytes: &[u8], step: usize) -> Result<(Vec<u8>, Vec<Vec<u8>>), NotWebSocket> {
        let mut frames = Frames::default();
        let (mut out, mut messages) = (Vec::new(), Vec::new());
        for part in bytes.chunks(step) {
            frames.read(part, &mut out, &mut |piece| {
                if piece.control.is_some() {
                    return;
                }
                if piece.first {
                    messages.push(Vec::new());
                }
                messages.last_mut().unwrap().extend_from_slice(piece.data);
            })?;
        }
        Ok((out, messages))
    }

    #[test]
    fn frames_are_read_however_they_are_cut() {
        let mut long = vec![0x82, 0xfe, 0x01, 0x00, 1, 2, 3, 4];
        long.extend((0..256_u16).map(|i| (i as u8) ^ [1, 2, 3, 4][usize::from(i % 4)]));
        let mut all = MASKED_HELLO.to_vec();
        // Fragments with a ping between them, and an empty message.
        all.extend([
            0x01, 0x03, b'H', b'e', b'l', 0x89, 0x00, 0x80, 0x02, b'l', b'o', 0x82, 0x00,
        ]);
        all.extend(&long);
        for step in [1, 2, 3, 7, 1000] {
            let (out, messages) = read(&all, step).unwrap();
            assert_eq!(
                messages[..3],
                [b"Hello".to_vec(), b"Hello".to_vec(), Vec::new()]
            );
            assert_eq!(messages[3], (0..=255).collect::<Vec<u8>>());
            assert_eq!(&out[..7], b"\x81\x05Hello");
            // What was unmasked reads the same again.
            assert_eq!(read(&out, step).unwrap(), (out.clone(), messages));
        }
    }

    #[test]
    fn what_is_no_frame_is_told() {
        for bytes in [
            &[0xc1, 0x00][..],
            &[0x83, 0x00],
            &[0x80, 0x00],
            &[0x09, 0x00],
            &[0x89, 0x7e, 0x01, 0x00],
            &[0x01, 0x00, 0x81, 0x00],
            &[0x82, 0x7f, 0xff, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(read(bytes, 1).unwrap_err(), NotWebSocket, "{bytes:?}");
        }
    }
}
