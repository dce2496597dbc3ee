//! What stands in the evidence: messages in the syntax of HTTP/1.1, whichever version was spoken.
//!
//! A head is its first line and its fields in order; a body follows in chunks exactly where the
//! head says `transfer-encoding: chunked`, which is written in place of whatever framing there was.
//! So each direction of a session is a sequence of messages that can be read on its own
//! (evidence/FORMAT.md, Streams). Values of fields that prove who someone is are withheld.

use std::borrow::Cow;
use std::ops::Range;

use chaperone_evidence::Part;
use hyper::header::HeaderMap;

/// Fields whose values are withheld besides the connection's own.
const SECRET: [&str; 8] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "x-amz-security-token",
];
const WITHHELD: &str = "[masked]";
/// Ends a body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Bytes of a record, with the spans that were not on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    bytes: Vec<u8>,
    masked: Vec<Range<u32>>,
}

impl Recorded {
    /// For the recorder.
    pub fn part(&self) -> Part<'_> {
        Part {
            bytes: &self.bytes,
            masked: &self.masked,
        }
    }

    /// Bytes as they were on the wire.
    pub fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
    }

    /// Bytes that stand for others.
    pub fn push_masked(&mut self, text: &[u8]) {
        let start = self.bytes.len();
        self.push(text);
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        if !text.is_empty() {
            self.masked.push(place(start)..place(self.bytes.len()));
        }
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A value as it was, or as the masks left it.
    fn push_text<'a>(&mut self, text: &'a str, mask: &dyn Fn(&'a str) -> Cow<'a, str>) {
        match mask(text) {
            Cow::Borrowed(text) => self.push(text.as_bytes()),
            Cow::Owned(text) => self.push_masked(text.as_bytes()),
        }
    }
}

/// How fields are written.
pub struct Writing<'a> {
    /// Name of the field that the connection's credential replaces.
    pub credential: Option<&'a str>,
    /// Detectors over text.
    pub mask: &'a (dyn Fn(&str) -> Option<String> + Sync),
    /// A body follows.
    pub body: bool,
}

impl Writing<'_> {
    fn masked<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match (self.mask)(text) {
            Some(masked) => Cow::Owned(masked),
            None => Cow::Borrowed(text),
        }
    }

    fn fields(&self, fields: &HeaderMap, out: &mut Recorded) {
        for (name, value) in fields {
            let name = name.as_str();
            if matches!(name, "content-length" | "transfer-encoding") {
                continue;
            }
            out.push(name.as_bytes());
            out.push(b": ");
            if SECRET.contains(&name) || self.credential == Some(name) {
                out.push_masked(WITHHELD.as_bytes());
            } else {
                let text = String::from_utf8_lossy(value.as_bytes());
                match self.masked(&text) {
                    Cow::Owned(masked) => out.push_masked(masked.as_bytes()),
                    Cow::Borrowed(_) => out.push(value.as_bytes()),
                }
            }
            out.push(b"\r\n");
        }
        if self.body {
            out.push(b"transfer-encoding: chunked\r\n");
        }
        out.push(b"\r\n");
    }
}

/// A request's head.
pub fn request(
    method: &str,
    target: &str,
    host: &str,
    fields: &HeaderMap,
    writing: &Writing<'_>,
) -> Recorded {
    let mut out = Recorded::default();
    out.push(method.as_bytes());
    out.push(b" ");
    out.push_text(target, &|text| writing.masked(text));
    out.push(b" HTTP/1.1\r\nhost: ");
    out.push(host.as_bytes());
    out.push(b"\r\n");
    writing.fields(fields, &mut out);
    out
}

/// An answer's head.
pub fn answer(status: hyper::StatusCode, fields: &HeaderMap, writing: &Writing<'_>) -> Recorded {
    let mut out = Recorded::default();
    let reason = status.canonical_reason().unwrap_or_default();
    out.push(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
    writing.fields(fields, &mut out);
    out
}

/// A piece of a body.
pub fn chunk(data: &[u8]) -> Recorded {
    let mut out = Recorded::default();
    out.push(format!("{:x}\r\n", data.len()).as_bytes());
    out.push(data);
    out.push(b"\r\n");
    out
}

/// A piece of a body whose bytes are withheld: of the same length.
pub fn withheld_chunk(length: usize) -> Recorded {
    let mut out = Recorded::default();
    out.push(format!("{length:x}\r\n").as_bytes());
    out.push_masked(&vec![b'*'; length]);
    out.push(b"\r\n");
    out
}

/// The end of a body that has trailers.
pub fn trailers(fields: &HeaderMap, writing: &Writing<'_>) -> Recorded {
    let mut out = Recorded::default();
    out.push(b"0\r\n");
    let writing = Writing {
        body: false,
        ..*writing
    };
    writing.fields(fields, &mut out);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn what_proves_an_identity_is_withheld_and_marked() {
        let mut fields = HeaderMap::new();
        fields.insert("accept", "a".parse().unwrap());
        fields.insert("authorization", "Bearer hunter2".parse().unwrap());
        fields.insert("x-token", "hunter2".parse().unwrap());
        fields.insert("content-length", "5".parse().unwrap());
        let writing = Writing {
            credential: Some("x-token"),
            mask: &|text| {
                text.contains("@")
                    .then(|| text.replace("ann@a.test", "[masked]"))
            },
            body: true,
        };
        let head = request("POST", "/a?q=ann@a.test", "api.test", &fields, &writing);
        let text = String::from_utf8(head.bytes.clone()).unwrap();
        assert_eq!(
            text,
            "POST /a?q=[masked] HTTP/1.1\r\nhost: api.test\r\naccept: a\r\nauthorization: [masked]\r\n\
             x-token: [masked]\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let spans: Vec<&str> = head
            .masked
            .iter()
            .map(|span| &text[span.start as usize..span.end as usize])
            .collect();
        assert_eq!(spans, ["/a?q=[masked]", "[masked]", "[masked]"]);
    }
}
