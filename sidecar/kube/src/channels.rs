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

/// Both directions.
#[derive(Debug, Default)]
pub struct Channels {
    up: Frames,
    down: Frames,
    /// Messages have channels; what is tunnelled through port-forward has none.
    plain: bool,
    channel: Option<u8>,
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
            channel,
            kept,
            ended,
            ..
        } = self;
        down.read(bytes, &mut out, &mut |piece| {
            if *plain {
                return;
            }
            let mut data = piece.data;
            if piece.first {
                *channel = None;
            }
            if channel.is_none() {
                let Some((first, rest)) = data.split_first() else {
                    return;
                };
                *channel = Some(*first);
                data = rest;
                kept.clear();
            }
            if *channel != Some(ERROR) {
                return;
            }
            let room = MAX_KEPT.saturating_sub(kept.len());
            kept.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
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
