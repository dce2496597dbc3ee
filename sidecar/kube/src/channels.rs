//! The streams of exec and attach over WebSocket: `v5.channel.k8s.io` and before (KEP 4006;
//! k8s.io/apimachinery, pkg/util/remotecommand).
//!
//! A message's first byte is its channel: 0 stdin, 1 stdout, 2 stderr, 3 how it ended, 4 resize,
//! 255 the end of another channel.

use chaperone_http::websocket::{Frames, Messages, NotWebSocket};

/// The channel that says how it ended.
const ERROR: u8 = 3;
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
        let channel = &mut self.channel;
        self.frames.read(bytes, out, &mut |part| {
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
            piece(ChannelPiece {
                channel: known,
                first: begun,
                data,
                last: part.last,
            });
        })
    }
}

/// Both directions.
#[derive(Debug, Default)]
pub struct Channels {
    up: Frames,
    down: ChannelFrames,
    /// Messages have channels; what is tunnelled through port-forward has none.
    plain: bool,
    kept: Vec<u8>,
    ended: Option<(String, bool)>,
}

impl Channels {
    /// Of the agreed protocol.
    pub fn new(protocol: &str) -> Channels {
        Channels {
            plain: !protocol.ends_with("channel.k8s.io"),
            ..Channels::default()
        }
    }
}

impl Messages for Channels {
    fn up(&mut self, bytes: &[u8]) -> Result<Vec<u8>, NotWebSocket> {
        let mut out = Vec::with_capacity(bytes.len());
        self.up.read(bytes, &mut out, &mut |_| {})?;
        Ok(out)
    }

    fn down(&mut self, bytes: &[u8]) -> Result<Vec<u8>, NotWebSocket> {
        let mut out = Vec::with_capacity(bytes.len());
        let Channels {
            down,
            plain,
            kept,
            ended,
            ..
        } = self;
        down.read(bytes, &mut out, &mut |piece| {
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
        Ok(out)
    }

    fn ended(&self) -> Option<(String, bool)> {
        self.ended.clone()
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(channel: u8, text: &str) -> Vec<u8> {
        let mut bytes = vec![0x82, 0x7e];
        bytes.extend((u16::try_from(text.len() + 1).unwrap()).to_be_bytes());
        bytes.push(channel);
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn how_a_command_ended_is_read_however_it_is_cut() {
        let failed = r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
        for (text, told) in [
            (
                r#"{"metadata":{},"status":"Success"}"#,
                ("exit 0".to_owned(), true),
            ),
            (failed, ("exit 3".to_owned(), false)),
            (
                r#"{"status":"Failure","message":"no such container"}"#,
                ("failed".to_owned(), false),
            ),
            ("command terminated", ("failed".to_owned(), false)),
        ] {
            for step in [1, 5, 4096] {
                let mut channels = Channels::new("v5.channel.k8s.io");
                // Output that looks like an end is none.
                let mut bytes = message(1, r#"{"status":"Success"}"#);
                bytes.extend(message(ERROR, text));
                let mut recorded = Vec::new();
                for part in bytes.chunks(step) {
                    recorded.extend(channels.down(part).unwrap());
                }
                assert_eq!(channels.ended(), Some(told.clone()), "{text}");
                assert_eq!(recorded, bytes);
            }
        }
        let mut tunnel = Channels::new("SPDY/3.1+portforward.k8s.io");
        tunnel.down(&message(ERROR, failed)).unwrap();
        assert_eq!(tunnel.ended(), None);
    }
}
