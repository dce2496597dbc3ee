//! The streams of exec and attach over WebSocket: `v5.channel.k8s.io` and before (KEP 4006;
//! k8s.io/apimachinery, pkg/util/remotecommand).
//!
//! A message's first byte is its channel: 0 stdin, 1 stdout, 2 stderr, 3 how it ended, 4 resize,
//! 255 the end of another channel.

use chaperone_enforce::Denial;
use chaperone_http::answer::About;
use chaperone_http::api::TextMasks;
use chaperone_http::record::Recorded;
use chaperone_http::websocket::{Down, Frames, MessageError, Messages, NotWebSocket, write_frame};

use crate::api::CHANNELS;
use crate::masked_channels::{Shown, Withheld};
use crate::status;

/// Kinds of frames (RFC 6455, section 5.2).
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
/// A close frame's code (RFC 6455, section 7.4.1). With any other, clients tell of the code and not of
/// what was said before.
const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();
pub(crate) const STDIN: u8 = 0;
pub(crate) const STDOUT: u8 = 1;
pub(crate) const STDERR: u8 = 2;
/// The channel that says how it ended.
pub(crate) const ERROR: u8 = 3;
/// Longest word on how it ended that is kept, in bytes.
const MAX_KEPT: usize = 4096;

/// One direction, by channel.
#[derive(Debug, Default)]
pub struct ChannelFrames {
    frames: Frames,
    /// Of the message that is read.
    channel: Option<u8>,
}

/// A piece of what a channel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelPiece<'a> {
    /// Which.
    pub channel: u8,
    /// It begins a message.
    pub first: bool,
    /// Without the channel's byte.
    pub data: &'a [u8],
    /// The message ends with it.
    pub last: bool,
}

/// A piece of one direction.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    Channel(ChannelPiece<'a>),
    /// Of a control frame: its kind, and whether it ends with it.
    Control(u8, &'a [u8], bool),
}

impl ChannelFrames {
    /// Takes bytes, appends the same frames unmasked to `out`, and gives pieces of messages. A
    /// message without a byte has no channel, and is left out.
    ///
    /// # Errors
    /// [`NotWebSocket`].
    pub fn read(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        piece: &mut dyn FnMut(ChannelPiece<'_>),
    ) -> Result<(), NotWebSocket> {
        self.read_all(bytes, out, &mut |part| {
            if let Part::Channel(part) = part {
                piece(part);
            }
        })
    }

    /// The same with what belongs to no channel.
    pub(crate) fn read_all(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        piece: &mut dyn FnMut(Part<'_>),
    ) -> Result<(), NotWebSocket> {
        let channel = &mut self.channel;
        self.frames.read(bytes, out, &mut |part| {
            if let Some(kind) = part.control {
                return piece(Part::Control(kind, part.data, part.last));
            }
            if part.first {
                *channel = None;
            }
            let begun = channel.is_none();
            let (known, data) = match (*channel, part.data) {
                (Some(known), data) => (known, data),
                (None, [first, rest @ ..]) => (*first, rest),
                (None, []) => return,
            };
            *channel = Some(known);
            piece(Part::Channel(ChannelPiece {
                channel: known,
                first: begun,
                data,
                last: part.last,
            }));
        })
    }
}

/// Both directions.
#[derive(Debug, Default)]
pub struct Channels {
    up: ChannelFrames,
    down: ChannelFrames,
    /// Messages have channels; what is tunnelled through port-forward has none.
    plain: bool,
    /// How it ended is a Status: from version 4 on.
    tells_status: bool,
    kept: Vec<u8>,
    ended: Option<(String, bool)>,
    /// Masks what the agent gets.
    agent: Option<Shown>,
    /// Masks what is recorded, where the agent gets what came.
    record: Option<Shown>,
    /// What the agent types is recorded as so many bytes.
    withheld: Option<Withheld>,
}

impl Channels {
    /// Of the agreed protocol. `None`: it has no channels whose text these masks could mask.
    pub fn new(protocol: &str, masks: &TextMasks) -> Option<Channels> {
        let plain = !protocol.ends_with(CHANNELS);
        let shown = |detectors| Shown::new(&|| masks.stream(detectors));
        (!plain || !masks.is_armed()).then(|| Channels {
            plain,
            tells_status: ["v4.", "v5."]
                .iter()
                .any(|version| protocol.starts_with(version)),
            agent: masks.agent.as_ref().map(shown),
            record: masks.record.as_ref().map(shown),
            withheld: masks.is_armed().then(Withheld::default),
            ..Channels::default()
        })
    }
}

impl Messages for Channels {
    fn up(&mut self, bytes: &[u8]) -> Result<Recorded, MessageError> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut recorded = Recorded::default();
        match &mut self.withheld {
            None => {
                self.up.read(bytes, &mut out, &mut |_| {})?;
                recorded.push(&out);
            }
            Some(withheld) => {
                let mut take = |part: Part<'_>| withheld.take(part, &mut recorded);
                self.up.read_all(bytes, &mut out, &mut take)?;
            }
        }
        Ok(recorded)
    }

    fn down(&mut self, bytes: &[u8]) -> Result<Down, MessageError> {
        let mut came = Vec::with_capacity(bytes.len());
        let mut result = Ok(());
        let Channels {
            down,
            plain,
            kept,
            ended,
            agent,
            record,
            ..
        } = self;
        down.read_all(bytes, &mut came, &mut |part| {
            if let (Some(agent), Ok(())) = (&mut *agent, result) {
                result = agent.take(part);
            }
            if let Some(record) = record {
                record.take_or_withhold(part);
            }
            let Part::Channel(piece) = part else { return };
            if *plain || piece.channel != ERROR {
                return;
            }
            if piece.first {
                kept.clear();
            }
            let room = MAX_KEPT.saturating_sub(kept.len()).min(piece.data.len());
            kept.extend_from_slice(piece.data.get(..room).unwrap_or_default());
            if piece.last {
                *ended = outcome(kept).or_else(|| ended.take());
            }
        })?;
        result?;
        Ok(self.masked_down(came))
    }

    fn finish(&mut self) -> Result<Down, MessageError> {
        if let Some(agent) = &mut self.agent {
            agent.finish()?;
        }
        if let Some(record) = &mut self.record {
            record.finish_or_withhold();
        }
        Ok(self.masked_down(Vec::new()))
    }

    fn ended(&self) -> Option<(String, bool)> {
        self.ended.clone()
    }

    fn masked(&self) -> Vec<(String, u64)> {
        let shown = self.agent.as_ref().or(self.record.as_ref());
        shown.map(Shown::counts).unwrap_or_default()
    }

    fn farewell(&self, denial: &Denial) -> Vec<u8> {
        // Masked, it got frames of ours, each of them whole.
        let whole = self.agent.is_some() || self.down.frames.is_between();
        let mut frames = Vec::new();
        if self.plain || !whole || self.ended.is_some() {
            return frames;
        }
        let (_, status) = status::of(denial, &About::default(), None);
        let words = match self.tells_status {
            true => status.to_string(),
            false => status::words(denial),
        };
        write_frame(BINARY, &[&[ERROR], words.as_bytes()], &mut frames);
        write_frame(CLOSE, &[&NORMAL], &mut frames);
        frames
    }
}

impl Channels {
    fn masked_down(&mut self, came: Vec<u8>) -> Down {
        let agent = self.agent.as_mut().map(Shown::frames);
        let record = self.record.as_mut().map(Shown::frames);
        Down {
            record: record.or_else(|| agent.clone()).unwrap_or(came),
            agent,
        }
    }
}

/// `exit 3` of a Status (v4 and v5), or the words of older versions, without values.
fn outcome(bytes: &[u8]) -> Option<(String, bool)> {
    if bytes.is_empty() {
        return None;
    }
    let status: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    if status.get("status").and_then(|text| text.as_str()) == Some("Success") {
        return Some(("exit 0".to_owned(), true));
    }
    let causes = status.pointer("/details/causes");
    let code = causes.and_then(|causes| {
        let causes = causes.as_array()?.iter();
        let of = |cause: &serde_json::Value| {
            let reason = cause.get("reason")?.as_str()?;
            let message = cause.get("message")?.as_str()?;
            (reason == "ExitCode").then(|| message.parse::<i32>().ok())?
        };
        causes.filter_map(of).next()
    });
    match code {
        Some(code) => Some((format!("exit {code}"), false)),
        None => Some(("failed".to_owned(), false)),
    }
}

#[cfg(test)]
mod tests;
