//! Streams of a command with what detectors find replaced, in frames written anew.
//!
//! A secret may lie across messages, so what is cut there means nothing: each output is one text, and
//! what may still be the beginning of a secret waits for more of it, or for the end. How a command
//! ended is told after all of its output, and nothing may come after that.

use chaperone_http::record::Recorded;
use chaperone_http::websocket::{MessageError, write_frame};
use chaperone_mask::{StreamMask, Unmaskable};

use crate::channels::{BINARY, CLOSE, ChannelPiece, ERROR, Part, STDERR, STDIN, STDOUT};

/// Longest word on how it ended, and longest message of the agent that is no input, in bytes.
const MAX_WORD: usize = 64 * 1024;

/// What the target sends, masked.
#[derive(Debug)]
pub(crate) struct Shown {
    out: StreamMask,
    err: StreamMask,
    word: StreamMask,
    /// Of the message that says how it ended.
    told: Vec<u8>,
    control: Vec<u8>,
    ended: bool,
    /// Nothing of it can be shown any more.
    withheld: bool,
    frames: Vec<u8>,
}

impl Shown {
    pub(crate) fn new(stream: &dyn Fn() -> StreamMask) -> Shown {
        Shown {
            out: stream(),
            err: stream(),
            word: stream(),
            told: Vec::new(),
            control: Vec::new(),
            ended: false,
            withheld: false,
            frames: Vec::new(),
        }
    }

    pub(crate) fn take(&mut self, part: Part<'_>) -> Result<(), MessageError> {
        match part {
            Part::Channel(piece) => self.message(piece),
            Part::Control(kind, data, last) => {
                self.control.extend_from_slice(data);
                if last {
                    self.control(kind)?;
                }
                Ok(())
            }
        }
    }

    /// The same for the record alone, which disturbs nobody: what cannot be masked is withheld from
    /// then on.
    pub(crate) fn take_or_withhold(&mut self, part: Part<'_>) {
        if !self.withheld && self.take(part).is_ok() {
            return;
        }
        self.withheld = true;
        if let Part::Channel(piece) = part {
            let stars = vec![b'*'; piece.data.len()];
            write_frame(BINARY, &[&[piece.channel], &stars], &mut self.frames);
        }
    }

    /// What was held back for the record.
    pub(crate) fn finish_or_withhold(&mut self) {
        self.withheld |= self.finish().is_err();
    }

    fn message(&mut self, piece: ChannelPiece<'_>) -> Result<(), MessageError> {
        let ChannelPiece {
            channel,
            first,
            data,
            last,
        } = piece;
        if first && last && data.is_empty() {
            // The kubelet opens each stream with one.
            write_frame(BINARY, &[&[channel]], &mut self.frames);
            return Ok(());
        }
        match channel {
            _ if data.is_empty() && channel != ERROR => Ok(()),
            STDOUT | STDERR if self.ended => Err(MessageError::Unexpected),
            STDOUT => Ok(write(&mut self.out, STDOUT, Some(data), &mut self.frames)?),
            STDERR => Ok(write(&mut self.err, STDERR, Some(data), &mut self.frames)?),
            ERROR => {
                if self.told.len().saturating_add(data.len()) > MAX_WORD {
                    return Err(Unmaskable::TooLong.into());
                }
                self.told.extend_from_slice(data);
                if last {
                    self.finish()?;
                    let told = std::mem::take(&mut self.told);
                    let mut shown = Vec::new();
                    self.word.push(&told, &mut shown)?;
                    self.word.finish(&mut shown)?;
                    write_frame(BINARY, &[&[ERROR], &shown], &mut self.frames);
                }
                Ok(())
            }
            _ => Err(MessageError::Unexpected),
        }
    }

    fn control(&mut self, kind: u8) -> Result<(), MessageError> {
        let mut data = std::mem::take(&mut self.control);
        if kind == CLOSE {
            self.finish()?;
            // Its code stays; words beside it are nobody's output.
            data.truncate(2);
        }
        write_frame(kind, &[&data], &mut self.frames);
        Ok(())
    }

    /// No output comes any more: what was held back is written.
    pub(crate) fn finish(&mut self) -> Result<(), MessageError> {
        if !std::mem::replace(&mut self.ended, true) {
            write(&mut self.out, STDOUT, None, &mut self.frames)?;
            write(&mut self.err, STDERR, None, &mut self.frames)?;
        }
        Ok(())
    }

    /// What can be sent by now.
    pub(crate) fn frames(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.frames)
    }

    pub(crate) fn counts(&self) -> Vec<(String, u64)> {
        let mut counts: std::collections::BTreeMap<String, u64> = Default::default();
        for stream in [&self.out, &self.err, &self.word] {
            for (by, count) in stream.counts() {
                let sum = counts.entry(by).or_default();
                *sum = sum.saturating_add(count);
            }
        }
        counts.into_iter().collect()
    }
}

/// Masks a piece of an output, or its end, and writes what can be shown.
fn write(
    mask: &mut StreamMask,
    channel: u8,
    data: Option<&[u8]>,
    frames: &mut Vec<u8>,
) -> Result<(), Unmaskable> {
    let mut shown = Vec::new();
    match data {
        Some(data) => mask.push(data, &mut shown)?,
        None => mask.finish(&mut shown)?,
    }
    if !shown.is_empty() {
        write_frame(BINARY, &[&[channel], &shown], frames);
    }
    Ok(())
}

/// What the agent sends, as it is recorded: what it types goes on at once, before anybody could say
/// whether it is a secret, so that the record has only how much it was. Sizes of a terminal and ends
/// of streams stay.
#[derive(Debug, Default)]
pub(crate) struct Withheld {
    word: Vec<u8>,
}

impl Withheld {
    pub(crate) fn take(&mut self, part: Part<'_>, recorded: &mut Recorded) {
        let mut head = Vec::new();
        match part {
            Part::Channel(ChannelPiece {
                channel: STDIN,
                data,
                ..
            }) => {
                let stars = vec![b'*'; data.len()];
                write_frame(BINARY, &[&[STDIN], &stars], &mut head);
                let shown = head.len().saturating_sub(stars.len());
                recorded.push(head.get(..shown).unwrap_or_default());
                recorded.push_masked(&stars);
            }
            Part::Channel(piece) => {
                if piece.first {
                    self.word.clear();
                }
                let room = MAX_WORD.saturating_sub(self.word.len());
                self.word.extend(piece.data.iter().take(room));
                if piece.last {
                    write_frame(BINARY, &[&[piece.channel], &self.word], &mut head);
                    recorded.push(&head);
                }
            }
            Part::Control(kind, _, last) => {
                // A ping says nothing, and words beside a close could say anything.
                if last {
                    write_frame(kind, &[], &mut head);
                    recorded.push(&head);
                }
            }
        }
    }
}
