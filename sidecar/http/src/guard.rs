//! HTTP/1.1 as RFC 9112 has it and nothing wider, checked on the raw bytes before the parser.
//!
//! The parser behind it is lenient where the RFC allows it: it drops a Content-Length beside
//! Transfer-Encoding, joins equal Content-Lengths, takes bare line feeds. Each is a way to make two
//! readers see different requests, so here each is refused. The guard follows the framing itself
//! (heads, lengths, chunks); what passes has exactly one reading.
//!
//! A request that is refused is replaced by one that no client can send, its method in small
//! letters, so that the answer comes in its turn. The reason lies in [`Refused`].

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest head of a request, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;
/// Most fields of a head.
pub const MAX_FIELDS: usize = 100;
/// Longest line that announces a chunk, its extensions included.
const MAX_CHUNK_LINE: usize = 256;
/// Longest trailers of a chunked body.
const MAX_TRAILERS: usize = 16 * 1024;
/// Read at a time.
const READ: usize = 16 * 1024;
/// What takes a refused request's place. The guard lets no small letter of a method through, so
/// this is always its own.
const REPLACEMENT: &[u8] = b"refused / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// The method of [`REPLACEMENT`].
pub const REFUSED_METHOD: &str = "refused";

/// Why the guard refused the request of its connection, if it did.
#[derive(Debug, Clone, Default)]
pub struct Refused(Arc<Mutex<Option<&'static str>>>);

impl Refused {
    /// The reason, for the request that came in the refused one's place.
    pub fn reason(&self) -> Option<&'static str> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, why: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}

/// Passes on what is HTTP/1.1 beyond doubt.
#[derive(Debug)]
pub struct Guard<S> {
    inner: S,
    framing: Framing,
    refused: Refused,
    /// Read and not yet checked.
    unchecked: Vec<u8>,
    /// Checked and not yet passed on, from `passed` on.
    checked: Vec<u8>,
    passed: usize,
    ended: bool,
}

impl<S> Guard<S> {
    /// Over a connection of which `read` has been read already.
    pub fn new(inner: S, read: Vec<u8>) -> (Guard<S>, Refused) {
        let refused = Refused::default();
        let guard = Guard {
            inner,
            framing: Framing::default(),
            refused: refused.clone(),
            unchecked: read,
            checked: Vec::new(),
            passed: 0,
            ended: false,
        };
        (guard, refused)
    }

    /// What was read and not passed on, for who goes on in another protocol. Never anything where
    /// the framing is followed to an upgrade: the guard stops there.
    pub fn into_parts(mut self) -> (S, Vec<u8>) {
        let mut rest = self.checked.split_off(self.passed.min(self.checked.len()));
        rest.append(&mut self.unchecked);
        (self.inner, rest)
    }

    /// Moves what can be told from `unchecked` to `checked`.
    fn check(&mut self) -> io::Result<()> {
        let before = self.checked.len();
        match self.framing.advance(&mut self.unchecked, &mut self.checked) {
            Ok(()) => Ok(()),
            Err(Violation::Head(why)) => {
                self.refused.set(why);
                self.checked.extend_from_slice(REPLACEMENT);
                self.unchecked.clear();
                self.ended = true;
                Ok(())
            }
            Err(Violation::Body(why)) => {
                self.checked.truncate(before.max(self.passed));
                Err(io::Error::new(io::ErrorKind::InvalidData, why))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        loop {
            let left = guard.checked.get(guard.passed..).unwrap_or_default();
            if !left.is_empty() {
                let count = left.len().min(out.remaining());
                out.put_slice(left.get(..count).unwrap_or_default());
                guard.passed += count;
                if guard.passed == guard.checked.len() {
                    guard.checked.clear();
                    guard.passed = 0;
                }
                return Poll::Ready(Ok(()));
            }
            if guard.ended {
                return Poll::Ready(Ok(()));
            }
            guard.check()?;
            if !guard.checked.is_empty() {
                continue;
            }
            let mut bytes = [0_u8; READ];
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut guard.inner).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                guard.ended = true;
            }
            guard.unchecked.extend_from_slice(buffer.filled());
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// What is wrong.
#[derive(Debug, PartialEq, Eq)]
enum Violation {
    /// With a head: it is answered.
    Head(&'static str),
    /// With a body, whose head is on its way: the connection ends.
    Body(&'static str),
}

/// Where in the framing the next byte stands.
#[derive(Debug, Default, PartialEq, Eq)]
enum Framing {
    /// In a head.
    #[default]
    Head,
    /// So many bytes of a body are to come.
    Length(u64),
    /// At the line that announces a chunk.
    ChunkLine,
    /// So many bytes of a chunk are to come.
    Chunk(u64),
    /// At the line end after a chunk.
    ChunkEnd,
    /// In the lines after the last chunk.
    Trailers(usize),
    /// The request wants to leave HTTP: what follows is not ours to read, whatever is answered.
    Upgraded,
}

impl Framing {
    fn advance(&mut self, from: &mut Vec<u8>, to: &mut Vec<u8>) -> Result<(), Violation> {
        loop {
            if from.is_empty() {
                return Ok(());
            }
            match self {
                Framing::Upgraded => {
                    to.append(from);
                    return Ok(());
                }
                Framing::Head => {
                    let Some(end) = find(from, b"\r\n\r\n") else {
                        // What can be seen of it must not wait for its end.
                        return match from.len() > MAX_HEAD {
                            true => Err(Violation::Head("the head is longer than 64 KiB")),
                            false => lines_so_far(from).map_err(Violation::Head),
                        };
                    };
                    let head = from.get(..end + 4).unwrap_or_default();
                    if head.len() > MAX_HEAD {
                        return Err(Violation::Head("the head is longer than 64 KiB"));
                    }
                    *self = check_head(head).map_err(Violation::Head)?;
                    take(from, end + 4, to);
                }
                Framing::Length(left) => {
                    if pass(from, left, to) {
                        *self = Framing::Head;
                    }
                }
                Framing::ChunkLine => {
                    let Some(end) = find(from, b"\r\n") else {
                        return unfinished(from, MAX_CHUNK_LINE).map_err(Violation::Body);
                    };
                    let line = from.get(..end).unwrap_or_default();
                    let size = chunk_size(line).map_err(Violation::Body)?;
                    take(from, end + 2, to);
                    *self = match size {
                        0 => Framing::Trailers(0),
                        size => Framing::Chunk(size),
                    };
                }
                Framing::Chunk(left) => {
                    if pass(from, left, to) {
                        *self = Framing::ChunkEnd;
                    }
                }
                Framing::ChunkEnd => {
                    let Some(end) = from.get(..2) else {
                        return Ok(());
                    };
                    if end != b"\r\n" {
                        return Err(Violation::Body("a chunk is longer than it says"));
                    }
                    take(from, 2, to);
                    *self = Framing::ChunkLine;
                }
                Framing::Trailers(seen) => {
                    let Some(end) = find(from, b"\r\n") else {
                        let most = MAX_TRAILERS.saturating_sub(*seen);
                        return unfinished(from, most).map_err(Violation::Body);
                    };
                    let line = from.get(..end).unwrap_or_default();
                    *seen = seen.saturating_add(end);
                    if *seen > MAX_TRAILERS {
                        return Err(Violation::Body("the trailers are too long"));
                    }
                    let last = line.is_empty();
                    if !last {
                        field(line).map_err(Violation::Body)?;
                    }
                    take(from, end + 2, to);
                    if last {
                        *self = Framing::Head;
                    }
                }
            }
        }
    }
}

/// Moves up to `left` bytes on; true once there are none left to come.
fn pass(from: &mut Vec<u8>, left: &mut u64, to: &mut Vec<u8>) -> bool {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(from.len());
    take(from, count, to);
    *left = left.saturating_sub(count as u64);
    *left == 0
}

fn take(from: &mut Vec<u8>, count: usize, to: &mut Vec<u8>) {
    to.extend(from.drain(..count.min(from.len())));
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// A line that has not ended as it should, and must not be waited for in vain.
fn unfinished(line: &[u8], most: usize) -> Result<(), &'static str> {
    if line.contains(&b'\n') {
        return Err("a line ends without a carriage return");
    }
    match line.len() > most {
        true => Err("a line of a chunked body is too long"),
        false => Ok(()),
    }
}

/// A head that has not ended: each line feed so far ends a line as it should.
fn lines_so_far(bytes: &[u8]) -> Result<(), &'static str> {
    let mut before = 0;
    for byte in bytes {
        match byte {
            b'\n' if before != b'\r' => return Err("a line ends without a carriage return"),
            0 => return Err("the head holds a NUL"),
            _ => before = *byte,
        }
    }
    Ok(())
}

/// Checks a whole head (RFC 9112, sections 2 to 6) and says how its body is framed.
fn check_head(head: &[u8]) -> Result<Framing, &'static str> {
    let text = head.strip_suffix(b"\r\n\r\n").unwrap_or(head);
    let mut lines = split_lines(text)?.into_iter();
    let (method, version) = request_line(lines.next().unwrap_or_default())?;
    let mut length: Option<u64> = None;
    let mut chunked = false;
    let mut hosts = 0_usize;
    let mut upgrade = false;
    let mut count = 0_usize;
    for line in lines {
        count = count.saturating_add(1);
        if count > MAX_FIELDS {
            return Err("the head has more than 100 fields");
        }
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if length.is_some() {
                return Err("Content-Length stands there twice");
            }
            length = Some(decimal(value)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked {
                return Err("Transfer-Encoding stands there twice");
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err("Transfer-Encoding is something else than chunked");
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case(b"host") {
            hosts = hosts.saturating_add(1);
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            // An offer of HTTP/2 is not taken up (RFC 9113, appendix B took it back).
            upgrade = !value.eq_ignore_ascii_case(b"h2c");
        }
    }
    if hosts != 1 {
        return Err("there is not exactly one Host");
    }
    if chunked && length.is_some() {
        return Err("Content-Length stands beside Transfer-Encoding");
    }
    if chunked && version == b"HTTP/1.0" {
        return Err("HTTP/1.0 has no Transfer-Encoding");
    }
    if method == b"CONNECT" {
        return Err("CONNECT asks for another target");
    }
    Ok(match (chunked, length) {
        (true, _) => Framing::ChunkLine,
        (false, Some(length)) if length > 0 => Framing::Length(length),
        _ if upgrade => Framing::Upgraded,
        _ => Framing::Head,
    })
}

fn split_lines(text: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    lines_so_far(text)?;
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = find(rest, b"\r\n") {
        lines.push(rest.get(..end).unwrap_or_default());
        rest = rest.get(end + 2..).unwrap_or_default();
    }
    lines.push(rest);
    if lines.iter().any(|line| line.contains(&b'\r')) {
        return Err("a carriage return stands inside a line");
    }
    Ok(lines)
}

/// `method SP target SP version`, with single spaces (RFC 9112, section 3).
fn request_line(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("the first line is not a method, a target and a version");
    };
    let capital = |byte: &u8| {
        byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'-' || *byte == b'_'
    };
    if method.is_empty() || !method.iter().all(capital) {
        return Err("the method is not written in capitals");
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err("the target holds what must be escaped");
    }
    if version != b"HTTP/1.1" && version != b"HTTP/1.0" {
        return Err("the version is neither HTTP/1.1 nor HTTP/1.0");
    }
    Ok((method, version))
}

/// A field's name and value (RFC 9112, section 5).
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    if line
        .first()
        .is_some_and(|byte| matches!(byte, b' ' | b'\t'))
    {
        return Err("a field goes on over a second line");
    }
    let colon = line.iter().position(|byte| *byte == b':');
    let colon = colon.ok_or("a field has no colon")?;
    let name = line.get(..colon).unwrap_or_default();
    let value = line.get(colon + 1..).unwrap_or_default();
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err("a field's name holds what no name may");
    }
    if value
        .iter()
        .any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f)
    {
        return Err("a field's value holds a control character");
    }
    Ok((name, value.trim_ascii()))
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn decimal(value: &[u8]) -> Result<u64, &'static str> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let digits =
        !text.is_empty() && text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(length) if digits => Ok(length),
        _ => Err("Content-Length is no number"),
    }
}

/// The size of a chunk; extensions are passed over (RFC 9112, section 7.1).
fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    let (size, extensions) = match line.iter().position(|byte| *byte == b';') {
        Some(at) => (line.get(..at), line.get(at..)),
        None => (Some(line), None),
    };
    let clean = |byte: &u8| (0x20..0x7f).contains(byte);
    if !extensions.unwrap_or_default().iter().all(clean) {
        return Err("a chunk's extension holds a control character");
    }
    let text = std::str::from_utf8(size.unwrap_or_default()).unwrap_or_default();
    let digits =
        (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match u64::from_str_radix(text, 16) {
        Ok(size) if digits => Ok(size),
        _ => Err("a chunk's size is no number"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    fn whole(bytes: &[u8]) -> Result<Vec<u8>, Violation> {
        let (mut from, mut to) = (bytes.to_vec(), Vec::new());
        Framing::default().advance(&mut from, &mut to)?;
        Ok(to)
    }

    const GOOD: [&str; 6] = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\n\r\n5\r\nhello\r\n0a;x=y\r\n0123456789\r\n0\r\na: b\r\n\r\nGET / HTTP/1.0\r\nhost: a\r\n\r\n",
        "GET /chat HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n\x00\n\x01anything",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx:\r\ny: \t \r\n\r\n",
    ];

    const BAD: [&str; 29] = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\nhost: a\n\n",
        "GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: y\rz\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: \x00\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\n host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nnocolon\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / x HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /\tx HTTP/1.1\r\nhost: a\r\n\r\n",
        "get / HTTP/1.1\r\nhost: a\r\n\r\n",
        "refused / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nhost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nhost: a\r\n\r\n",
        "GET /\r\n\r\n",
        "CONNECT b:443 HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5x\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ];

    #[test]
    fn what_has_one_reading_passes_unchanged() {
        for text in GOOD {
            assert_eq!(whole(text.as_bytes()).unwrap(), text.as_bytes(), "{text}");
        }
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for text in BAD {
            assert!(
                matches!(whole(text.as_bytes()), Err(Violation::Head(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_bad_chunk_ends_the_connection() {
        for chunks in [
            "5\nhello\r\n0\r\n\r\n",
            "1\na\n0\n\n",
            "1\r\na\r\n0\r\n\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "-1\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            "4\r\nhello\r\n0\r\n\r\n",
            "5;\x01\r\nhello\r\n0\r\n\r\n",
            "fffffffffffffffff\r\nhello",
            "0\r\n folded\r\n\r\n",
        ] {
            let text =
                format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
            assert!(
                matches!(whole(text.as_bytes()), Err(Violation::Body(_))),
                "{chunks:?}"
            );
        }
    }

    #[test]
    fn heads_are_bounded() {
        let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(MAX_HEAD));
        assert!(whole(long.as_bytes()).is_err());
        let many = format!(
            "GET / HTTP/1.1\r\nhost: a\r\n{}\r\n",
            "x: y\r\n".repeat(MAX_FIELDS)
        );
        assert!(whole(many.as_bytes()).is_err());
        // Without an end in sight too.
        assert!(whole(&vec![b'a'; MAX_HEAD + 1]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn the_reading_does_not_depend_on_where_the_network_cuts(
            which in 0..GOOD.len() + BAD.len(),
            cuts in prop::collection::vec(1_usize..40, 1..20),
        ) {
            let text = GOOD.iter().chain(&BAD).nth(which).unwrap().as_bytes();
            let mut framing = Framing::default();
            let (mut from, mut to) = (Vec::new(), Vec::new());
            let mut result = Ok(());
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(text.len());
                from.extend_from_slice(&text[at..end]);
                at = end;
                result = framing.advance(&mut from, &mut to);
                if result.is_err() || at == text.len() {
                    break;
                }
            }
            match whole(text) {
                Ok(passed) => prop_assert_eq!(passed, to),
                Err(_) => prop_assert!(result.is_err()),
            }
        }
    }
}
