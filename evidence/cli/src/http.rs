//! Recorded HTTP as lines to read (evidence/FORMAT.md, Streams): heads as they are, bodies by line.
//!
//! After an upgrade to the channels of exec and attach (`v5.channel.k8s.io` and before) it is what
//! each channel carried: the record holds their frames as RFC 6455 has them, unmasked.
//!
//! For people only: nothing is decided on what this makes of the bytes.

use chaperone_kube::channels::ChannelFrames;

use crate::output::escape_line;

/// Longest line that is put together; a longer one is shown in parts.
const MAX_LINE: usize = 2_000;

/// Puts one direction's bytes together into lines.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
    place: Place,
    /// The head that is read says that a body follows.
    chunked: bool,
    /// It says that frames follow.
    upgrade: bool,
    frames: ChannelFrames,
}

/// A piece of one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// A line, safe to print.
    Line(String),
    /// What a channel of exec or attach carried.
    Channel(u8, Vec<u8>),
}

impl Part {
    /// For people.
    pub(crate) fn lines(self) -> Vec<String> {
        match self {
            Part::Line(line) => vec![line],
            Part::Channel(channel, bytes) => {
                let name = match channel {
                    0 => "stdin",
                    1 => "stdout",
                    2 => "stderr",
                    3 => "ended",
                    4 => "resize",
                    255 => "close",
                    _ => "channel",
                };
                let text = String::from_utf8_lossy(&bytes);
                let lines = text.lines().flat_map(shown);
                lines.map(|line| format!("{name}: {line}")).collect()
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Head,
    /// At the line with the length of a chunk.
    Length,
    /// So many bytes of it are to come, and its line end.
    Chunk(usize),
    /// After the last chunk.
    Trailers,
    /// After an upgrade to WebSocket.
    Frames,
    /// What follows is not known.
    Other,
}

impl Reader {
    /// Takes more bytes and returns the lines that they complete.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<String> {
        self.parts(bytes)
            .into_iter()
            .flat_map(Part::lines)
            .collect()
    }

    /// Takes more bytes and returns what they complete.
    pub(crate) fn parts(&mut self, bytes: &[u8]) -> Vec<Part> {
        let mut parts = Vec::new();
        match self.place {
            Place::Other => parts.push(Part::Line(format!("({} bytes)", bytes.len()))),
            Place::Frames => self.frames(bytes, &mut parts),
            _ => {
                self.buffer.extend_from_slice(bytes);
                parts.extend(self.lines().into_iter().map(Part::Line));
                if self.place == Place::Frames {
                    let rest = std::mem::take(&mut self.buffer);
                    self.frames(&rest, &mut parts);
                }
            }
        }
        parts
    }

    fn frames(&mut self, bytes: &[u8], parts: &mut Vec<Part>) {
        let read = self.frames.read(bytes, &mut Vec::new(), &mut |piece| {
            if !piece.data.is_empty() {
                parts.push(Part::Channel(piece.channel, piece.data.to_vec()));
            }
        });
        if read.is_err() {
            self.place = Place::Other;
        }
    }

    fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            if self.place == Place::Frames {
                return lines;
            }
            if let Place::Chunk(length) = self.place {
                let Some(chunk) = self.buffer.get(..length + 2) else {
                    return lines;
                };
                let text = String::from_utf8_lossy(chunk.get(..length).unwrap_or_default());
                for line in text.lines() {
                    lines.extend(shown(line));
                }
                self.buffer.drain(..length + 2);
                self.place = Place::Length;
                continue;
            }
            let end = self.buffer.windows(2).position(|pair| pair == b"\r\n");
            let Some(end) = end else {
                // What follows a 101 has no lines.
                if self.place == Place::Head && self.buffer.len() > 1024 * 1024 {
                    self.place = Place::Other;
                    self.buffer.clear();
                }
                return lines;
            };
            let line =
                String::from_utf8_lossy(self.buffer.get(..end).unwrap_or_default()).into_owned();
            self.buffer.drain(..end + 2);
            self.line(&line, &mut lines);
        }
    }

    fn line(&mut self, line: &str, lines: &mut Vec<String>) {
        match self.place {
            Place::Length => {
                self.place = match usize::from_str_radix(line, 16) {
                    Ok(0) => Place::Trailers,
                    Ok(length) => Place::Chunk(length),
                    Err(_) => Place::Other,
                };
            }
            Place::Head if line.is_empty() => {
                self.place = match (self.upgrade, self.chunked) {
                    (true, _) => Place::Frames,
                    (false, true) => Place::Length,
                    (false, false) => Place::Head,
                };
                self.chunked = false;
                self.upgrade = false;
            }
            Place::Trailers if line.is_empty() => self.place = Place::Head,
            Place::Head if line == "transfer-encoding: chunked" => self.chunked = true,
            Place::Head if line.starts_with("sec-websocket-protocol: ") => {
                self.upgrade = line.contains("channel.k8s.io");
                lines.extend(shown(line));
            }
            _ => lines.extend(shown(line)),
        }
    }

    /// What is left of a message that never ended.
    pub(crate) fn finish(&self) -> Option<String> {
        let rest = self.buffer.len();
        (rest > 0).then(|| format!("({rest} bytes of an unfinished message)"))
    }
}

fn shown(line: &str) -> Vec<String> {
    let characters: Vec<char> = line.chars().collect();
    characters
        .chunks(MAX_LINE)
        .map(|part| escape_line(&part.iter().collect::<String>()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_wherever_they_are_cut() {
        let text = b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\na\nb\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        let expected = [
            "POST /a HTTP/1.1",
            "host: x",
            "hello",
            "a",
            "b",
            "GET / HTTP/1.1",
        ];
        for cut in 1..text.len() {
            let mut reader = Reader::default();
            let lines: Vec<String> = text
                .chunks(cut)
                .flat_map(|piece| reader.read(piece))
                .collect();
            assert_eq!(lines, expected);
            assert_eq!(reader.finish(), None);
        }
    }
}
