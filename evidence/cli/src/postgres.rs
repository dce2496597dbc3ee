//! PostgreSQL's wire protocol 3.0 as lines to read (PostgreSQL documentation, chapter 55,
//! "Frontend/Backend Protocol", sections 55.2 and 55.7).
//!
//! For people only: nothing is decided on what this makes of the bytes. Recorded streams begin
//! after login, so every message has a type byte and a length.

use crate::output::escape_line;

/// Largest message that is put together; a longer one is named and its bytes skipped.
const MAX_MESSAGE: usize = 1024 * 1024;
/// Longest text shown of one value or statement, in characters.
const MAX_SHOWN: usize = 2_000;

/// Which side sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The agent.
    Frontend,
    /// What the agent takes for the server.
    Backend,
}

/// Puts one side's bytes together into messages.
#[derive(Debug)]
pub(crate) struct Reader {
    sender: Sender,
    buffer: Vec<u8>,
    /// Bytes of an overlong message still to be skipped.
    skip: usize,
    /// A length made no sense: nothing after it can be read.
    lost: bool,
}

impl Reader {
    /// For the messages of `sender`.
    pub(crate) fn new(sender: Sender) -> Reader {
        Reader {
            sender,
            buffer: Vec::new(),
            skip: 0,
            lost: false,
        }
    }

    /// Takes more bytes and returns a line for each message that they complete.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        if self.lost {
            return lines;
        }
        self.buffer
            .extend_from_slice(bytes.get(skipped..).unwrap_or_default());
        let mut at = 0;
        while let Some(([kind, length @ ..], rest)) = self
            .buffer
            .get(at..)
            .and_then(<[u8]>::split_first_chunk::<5>)
        {
            let length = u32::from_be_bytes(*length);
            let body = usize::try_from(length).unwrap_or(usize::MAX);
            let Some(body) = body.checked_sub(4).filter(|_| length <= 0x7fff_ffff) else {
                self.lost = true;
                lines.push("bytes that are no PostgreSQL messages follow; see --raw".to_owned());
                break;
            };
            if body > MAX_MESSAGE {
                lines.push(format!(
                    "{} of {body} bytes",
                    name(self.sender, *kind).unwrap_or("message")
                ));
                self.skip = body.saturating_sub(rest.len());
                at += 5 + body.min(rest.len());
                continue;
            }
            let Some(body) = rest.get(..body) else { break };
            lines.push(describe(self.sender, *kind, body));
            at += 5 + body.len();
        }
        self.buffer.drain(..at.min(self.buffer.len()));
        lines
    }

    /// What is left at the end of the stream.
    pub(crate) fn finish(&self) -> Option<String> {
        (!self.buffer.is_empty() && !self.lost)
            .then(|| format!("({} bytes of an unfinished message)", self.buffer.len()))
    }
}

fn name(sender: Sender, kind: u8) -> Option<&'static str> {
    Some(match (sender, kind) {
        (Sender::Frontend, b'Q') => "Query",
        (Sender::Frontend, b'P') => "Parse",
        (Sender::Frontend, b'B') => "Bind",
        (Sender::Frontend, b'E') => "Execute",
        (Sender::Frontend, b'D') => "Describe",
        (Sender::Frontend, b'C') => "Close",
        (Sender::Frontend, b'F') => "FunctionCall",
        (Sender::Frontend, b'H') => "Flush",
        (Sender::Frontend, b'S') => "Sync",
        (Sender::Frontend, b'X') => "Terminate",
        (Sender::Frontend, b'f') => "CopyFail",
        (Sender::Backend, b'T') => "RowDescription",
        (Sender::Backend, b'D') => "DataRow",
        (Sender::Backend, b'C') => "CommandComplete",
        (Sender::Backend, b'E') => "ErrorResponse",
        (Sender::Backend, b'N') => "NoticeResponse",
        (Sender::Backend, b'Z') => "ReadyForQuery",
        (Sender::Backend, b'S') => "ParameterStatus",
        (Sender::Backend, b'K') => "BackendKeyData",
        (Sender::Backend, b'R') => "Authentication",
        (Sender::Backend, b'A') => "NotificationResponse",
        (Sender::Backend, b't') => "ParameterDescription",
        (Sender::Backend, b'n') => "NoData",
        (Sender::Backend, b'I') => "EmptyQueryResponse",
        (Sender::Backend, b'1') => "ParseComplete",
        (Sender::Backend, b'2') => "BindComplete",
        (Sender::Backend, b'3') => "CloseComplete",
        (Sender::Backend, b's') => "PortalSuspended",
        (Sender::Backend, b'V') => "FunctionCallResponse",
        (Sender::Backend, b'G') => "CopyInResponse",
        (Sender::Backend, b'H') => "CopyOutResponse",
        (Sender::Backend, b'W') => "CopyBothResponse",
        (_, b'd') => "CopyData",
        (_, b'c') => "CopyDone",
        _ => return None,
    })
}

/// One message as a line. What is not as it should be is shown as far as it goes.
fn describe(sender: Sender, kind: u8, body: &[u8]) -> String {
    let Some(name) = name(sender, kind) else {
        let kind = escape_line(&char::from(kind).to_string());
        return format!("message '{kind}' of {} bytes", body.len());
    };
    let mut fields = Fields(body);
    let detail = match (sender, kind) {
        (Sender::Frontend, b'Q') => fields.text(),
        (Sender::Frontend, b'P') => named(fields.text(), fields.text()),
        (Sender::Frontend, b'B') => bind(&mut fields),
        (Sender::Frontend, b'E') => named(fields.text(), fields.limit()),
        (Sender::Frontend, b'D' | b'C') => fields.statement_or_portal(),
        (Sender::Frontend, b'f') | (Sender::Backend, b'C') => fields.text(),
        (Sender::Backend, b'T') => fields.columns(),
        (Sender::Backend, b'D') => fields.values(),
        (Sender::Backend, b'E' | b'N') => fields.error(),
        (Sender::Backend, b'Z') => fields.status(),
        (Sender::Backend, b'S') => match (fields.text(), fields.text()) {
            (Some(name), Some(value)) => Some(format!("{name}={value}")),
            _ => None,
        },
        (Sender::Backend, b'A') => {
            fields.take(4);
            named(fields.text(), fields.text())
        }
        (_, b'd') => Some(value(body)),
        // Nothing in it, or a secret (authentication, cancel key).
        _ => Some(String::new()),
    };
    match detail {
        Some(detail) if detail.is_empty() => name.to_owned(),
        Some(detail) => format!("{name}  {detail}"),
        None => format!("{name} (malformed, {} bytes)", body.len()),
    }
}

/// `[name] rest`, without the brackets for the unnamed one.
fn named(name: Option<String>, rest: Option<String>) -> Option<String> {
    let (name, rest) = (name?, rest?);
    Some(if name.is_empty() {
        rest
    } else {
        format!("[{name}] {rest}")
    })
}

/// Portal, statement, and the parameters' values.
fn bind(fields: &mut Fields<'_>) -> Option<String> {
    let portal = fields.text()?;
    let statement = fields.text()?;
    for _ in 0..fields.int16()? {
        fields.int16()?;
    }
    let values = fields.values()?;
    let statement = if statement.is_empty() {
        String::new()
    } else {
        format!("of [{statement}] ")
    };
    named(Some(portal), Some(format!("{statement}{values}")))
}

/// The fields of a message, taken from its front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn int16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    }

    fn int32(&mut self) -> Option<i32> {
        let bytes = self.take(4)?;
        Some(i32::from_be_bytes(bytes.try_into().ok()?))
    }

    /// A string up to its NUL.
    fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(end)?;
        self.take(1)?;
        Some(value(text))
    }

    /// Execute's row limit; zero is none.
    fn limit(&mut self) -> Option<String> {
        Some(match self.int32()? {
            0 => String::new(),
            rows => format!("at most {rows} rows"),
        })
    }

    fn statement_or_portal(&mut self) -> Option<String> {
        let kind = match self.take(1)? {
            [b'S'] => "statement",
            [b'P'] => "portal",
            _ => return None,
        };
        let name = self.text()?;
        Some(format!("{kind} [{name}]"))
    }

    /// Names of a RowDescription.
    fn columns(&mut self) -> Option<String> {
        let mut names = Vec::new();
        for _ in 0..self.int16()? {
            names.push(self.text()?);
            // Table OID, column, type OID, size, modifier, format.
            self.take(18)?;
        }
        Some(names.join(" | "))
    }

    /// Values with their lengths: a DataRow, or the parameters of a Bind.
    fn values(&mut self) -> Option<String> {
        let mut values = Vec::new();
        for _ in 0..self.int16()? {
            let length = self.int32()?;
            values.push(if length == -1 {
                "NULL".to_owned()
            } else {
                value(self.take(usize::try_from(length).ok()?)?)
            });
        }
        Some(values.join(" | "))
    }

    /// Severity, code, message, detail and hint of an error or notice.
    fn error(&mut self) -> Option<String> {
        let mut parts: [(u8, Option<String>); 5] =
            [b'S', b'C', b'M', b'D', b'H'].map(|f| (f, None));
        loop {
            let [field] = self.take(1)? else { return None };
            if *field == 0 {
                break;
            }
            let text = self.text()?;
            if let Some((_, part)) = parts.iter_mut().find(|(wanted, _)| wanted == field) {
                *part = Some(text);
            }
        }
        let parts: Vec<String> = parts.into_iter().filter_map(|(_, part)| part).collect();
        Some(parts.join(" · "))
    }

    fn status(&mut self) -> Option<String> {
        Some(
            match self.take(1)? {
                [b'I'] => "idle",
                [b'T'] => "in a transaction",
                [b'E'] => "in a failed transaction",
                _ => return None,
            }
            .to_owned(),
        )
    }
}

/// A value as text where it is text, else as hex.
fn value(bytes: &[u8]) -> String {
    let is_text = |text: &&str| !text.contains('\0');
    let text = match std::str::from_utf8(bytes).ok().filter(is_text) {
        Some(text) => escape_line(text),
        None => format!("\\x{}", hex::encode(bytes)),
    };
    if text.chars().count() <= MAX_SHOWN {
        return text;
    }
    let start: String = text.chars().take(MAX_SHOWN).collect();
    format!("{start}… ({} bytes)", bytes.len())
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation
    )]

    use proptest::prelude::*;

    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind], &length.to_be_bytes()[..], body].concat()
    }

    fn server_stream() -> Vec<u8> {
        let column = |name: &str| [name.as_bytes(), &[0; 19]].concat();
        let row = [
            &2_u16.to_be_bytes()[..],
            &5_u32.to_be_bytes(),
            b"a\x1b[2J",
            &(-1_i32).to_be_bytes(),
        ]
        .concat();
        [
            message(
                b'T',
                &[&2_u16.to_be_bytes()[..], &column("id"), &column("email")].concat(),
            ),
            message(b'D', &row),
            message(b'C', b"SELECT 1\0"),
            message(
                b'E',
                b"SERROR\0VERROR\0C42501\0Mdenied: NotCovered\0Hask\0\0",
            ),
            message(b'Z', b"T"),
            message(b'K', &[1, 2, 3, 4, 5, 6, 7, 8]),
        ]
        .concat()
    }

    const SERVER_LINES: [&str; 6] = [
        "RowDescription  id | email",
        "DataRow  a\\u{1b}[2J | NULL",
        "CommandComplete  SELECT 1",
        "ErrorResponse  ERROR · 42501 · denied: NotCovered · ask",
        "ReadyForQuery  in a transaction",
        "BackendKeyData",
    ];

    #[test]
    fn messages_of_the_server_are_told() {
        let mut reader = Reader::new(Sender::Backend);
        assert_eq!(reader.read(&server_stream()), SERVER_LINES);
        assert_eq!(reader.finish(), None);
    }

    #[test]
    fn messages_of_the_client_are_told() {
        let bind = [
            &b"\0s1\0"[..],
            &1_u16.to_be_bytes(),
            &0_u16.to_be_bytes(),
            &2_u16.to_be_bytes(),
            &2_u32.to_be_bytes(),
            b"42",
            &2_u32.to_be_bytes(),
            &[0, 1],
            &0_u16.to_be_bytes(),
        ]
        .concat();
        let stream = [
            message(b'Q', b"SELECT 1;\n\0"),
            message(b'P', b"s1\0SELECT $1\0\0\0"),
            message(b'B', &bind),
            message(b'D', b"Ss1\0"),
            message(b'E', b"\0\0\0\0\x05"),
            message(b'S', b""),
            message(b'P', b"no nul"),
            message(b'?', b"abc"),
        ]
        .concat();
        let mut reader = Reader::new(Sender::Frontend);
        assert_eq!(
            reader.read(&stream),
            [
                "Query  SELECT 1;\\u{a}",
                "Parse  [s1] SELECT $1",
                "Bind  of [s1] 42 | \\x0001",
                "Describe  statement [s1]",
                "Execute  at most 5 rows",
                "Sync",
                "Parse (malformed, 6 bytes)",
                "message '?' of 3 bytes",
            ]
        );
    }

    #[test]
    fn hostile_lengths_end_the_reading_and_no_more() {
        let mut reader = Reader::new(Sender::Backend);
        let lines = reader.read(b"D\0\0\0\x03rest");
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("--raw"));
        assert!(reader.read(&server_stream()).is_empty());
        // A huge one is skipped, not kept, and the next is read.
        let mut reader = Reader::new(Sender::Backend);
        let huge = 3 * MAX_MESSAGE;
        let head = [b"d".as_slice(), &(huge as u32 + 4).to_be_bytes()].concat();
        assert_eq!(reader.read(&head), [format!("CopyData of {huge} bytes")]);
        for _ in 0..3 {
            assert!(reader.read(&vec![b'x'; MAX_MESSAGE]).is_empty());
        }
        assert_eq!(reader.read(&server_stream()), SERVER_LINES);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn messages_cut_anywhere_read_the_same(cuts in prop::collection::vec(1_usize..40, 0..20)) {
            let stream = server_stream();
            let mut reader = Reader::new(Sender::Backend);
            let mut lines = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                lines.extend(reader.read(now));
                rest = later;
            }
            lines.extend(reader.read(rest));
            prop_assert_eq!(lines, SERVER_LINES);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            for sender in [Sender::Frontend, Sender::Backend] {
                let mut reader = Reader::new(sender);
                for line in reader.read(&bytes) {
                    prop_assert!(!line.chars().any(char::is_control));
                }
            }
        }
    }
}
