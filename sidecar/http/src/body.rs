//! Bodies: one that is there whole, one that flows through, one that is collected within a bound,
//! one that is decompressed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

/// Frames between who reads a body and who writes it on.
const FRAMES: usize = 2;
/// Taken out of a decoder at a time.
const DECODED: usize = 16 * 1024;
/// Deepest JSON that is looked into.
const MAX_DEPTH: usize = 128;

/// The body did not come to its end, and must not look as if it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body was cut off")]
pub struct CutOff;

/// A body that is sent.
#[derive(Debug, Default)]
pub struct Body(Kind);

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Empty,
    Whole(Bytes),
    Flow {
        pieces: mpsc::Receiver<Piece>,
        left: Option<u64>,
    },
}

/// What goes through a flowing body.
#[derive(Debug)]
enum Piece {
    Frame(Frame<Bytes>),
    End,
}

/// Where a flowing body comes from. Dropped before its end was given, it is cut off: the reader
/// must not take it for whole.
#[derive(Debug)]
pub struct Frames(mpsc::Sender<Piece>);

/// Room for one frame, or for the end.
#[derive(Debug)]
pub struct Room(mpsc::OwnedPermit<Piece>);

impl Room {
    /// Takes it up with a frame.
    pub fn frame(self, frame: Frame<Bytes>) {
        self.0.send(Piece::Frame(frame));
    }

    /// Says that all was sent.
    pub fn end(self) {
        self.0.send(Piece::End);
    }
}

impl Frames {
    /// Waits for room. Cancel-safe.
    ///
    /// # Errors
    /// [`CutOff`]: nobody reads any more.
    pub async fn room(&self) -> Result<Room, CutOff> {
        let room = self.0.clone().reserve_owned().await;
        room.map(Room).map_err(|_| CutOff)
    }

    /// Returns when nobody reads any more.
    pub async fn unread(&self) {
        self.0.closed().await;
    }
}

impl Body {
    /// One that flows, of so many bytes where that is known.
    pub fn flow(length: Option<u64>) -> (Frames, Body) {
        let (sender, pieces) = mpsc::channel(FRAMES);
        let kind = Kind::Flow {
            pieces,
            left: length,
        };
        (Frames(sender), Body(kind))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body(Kind::Whole(bytes.into()))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let kind = &mut self.get_mut().0;
        match kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *kind = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Flow { pieces, left } => match std::task::ready!(pieces.poll_recv(cx)) {
                Some(Piece::Frame(frame)) => {
                    if let (Some(left), Some(data)) = (left, frame.data_ref()) {
                        *left = left.saturating_sub(data.len() as u64);
                    }
                    Poll::Ready(Some(Ok(frame)))
                }
                Some(Piece::End) => {
                    *kind = Kind::Empty;
                    Poll::Ready(None)
                }
                None => Poll::Ready(Some(Err(CutOff))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Flow { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Flow {
                left: Some(left), ..
            } => SizeHint::with_exact(*left),
            Kind::Flow { left: None, .. } => SizeHint::default(),
        }
    }
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// What the fields say; `None` for one that is not known, and for several.
    pub fn of(fields: &HeaderMap) -> Option<Coding> {
        let mut values = fields.get_all(CONTENT_ENCODING).iter();
        let Some(value) = values.next() else {
            return Some(Coding::Identity);
        };
        if values.next().is_some() {
            return None;
        }
        match value.to_str().ok()?.trim().to_ascii_lowercase().as_str() {
            "identity" | "" => Some(Coding::Identity),
            "gzip" | "x-gzip" => Some(Coding::Gzip),
            "deflate" => Some(Coding::Deflate),
            "br" => Some(Coding::Brotli),
            "zstd" => Some(Coding::Zstd),
            _ => None,
        }
    }
}

/// A body that is read: its frames, or what they decompress to.
pub enum Source {
    /// As it comes.
    Frames(Incoming),
    /// Decompressed; trailers are left out.
    Decoded(Pin<Box<dyn AsyncRead + Send>>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Source::Frames(_) => "Source::Frames",
            Source::Decoded(_) => "Source::Decoded",
        })
    }
}

impl Source {
    /// Decompresses what comes.
    pub fn decoded(incoming: Incoming, coding: Coding) -> Source {
        let reader = Reader {
            incoming,
            left: Bytes::new(),
        };
        match coding {
            Coding::Identity => Source::Frames(reader.incoming),
            Coding::Gzip => {
                let mut decoder = GzipDecoder::new(reader);
                decoder.multiple_members(true);
                Source::Decoded(Box::pin(decoder))
            }
            Coding::Deflate => Source::Decoded(Box::pin(ZlibDecoder::new(reader))),
            Coding::Brotli => Source::Decoded(Box::pin(BrotliDecoder::new(reader))),
            Coding::Zstd => Source::Decoded(Box::pin(ZstdDecoder::new(reader))),
        }
    }

    /// The next frame. Cancel-safe.
    pub async fn next(&mut self) -> Option<io::Result<Frame<Bytes>>> {
        match self {
            Source::Frames(incoming) => {
                let frame = incoming.frame().await?;
                Some(frame.map_err(io::Error::other))
            }
            Source::Decoded(reader) => {
                let mut bytes = vec![0; DECODED];
                match reader.read(&mut bytes).await {
                    Ok(0) => None,
                    Ok(count) => {
                        bytes.truncate(count);
                        Some(Ok(Frame::data(bytes.into())))
                    }
                    Err(error) => Some(Err(error)),
                }
            }
        }
    }
}

/// An incoming body as bytes to read.
struct Reader {
    incoming: Incoming,
    left: Bytes,
}

impl AsyncBufRead for Reader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let reader = self.get_mut();
        while reader.left.is_empty() {
            let next = Pin::new(&mut reader.incoming);
            match std::task::ready!(hyper::body::Body::poll_frame(next, cx)) {
                None => break,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        reader.left = data;
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        Poll::Ready(Ok(&reader.left))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let left = &mut self.get_mut().left;
        *left = left.slice(amount.min(left.len())..);
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = std::task::ready!(self.as_mut().poll_fill_buf(cx))?;
        let count = bytes.len().min(out.remaining());
        out.put_slice(bytes.get(..count).unwrap_or_default());
        self.consume(count);
        Poll::Ready(Ok(()))
    }
}

/// Why a body could not be looked into.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Longer than may be collected.
    #[error("the body is longer than the {0} bytes that can be looked into")]
    TooLong(usize),
    /// Its compression is not known, or its bytes are not what it says.
    #[error("the body cannot be decompressed")]
    Undecodable,
    /// Its type is JSON and it is not, or not JSON with one reading.
    #[error("the body is not JSON with one reading: {0}")]
    NotJson(String),
    /// The agent did not send all of it.
    #[error("the body did not come to its end")]
    CutOff,
}

/// Collects a body as it came, at most `most` bytes.
///
/// # Errors
/// [`BodyError::TooLong`] or [`BodyError::CutOff`].
pub async fn collect(incoming: &mut Incoming, most: usize) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|_| BodyError::CutOff)?;
        if let Ok(data) = frame.into_data() {
            if bytes.len().saturating_add(data.len()) > most {
                return Err(BodyError::TooLong(most));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// Decompresses a collected body to at most `most` bytes.
///
/// # Errors
/// [`BodyError::TooLong`] or [`BodyError::Undecodable`].
pub async fn decode(bytes: &[u8], coding: Coding, most: usize) -> Result<Vec<u8>, BodyError> {
    let mut reader: Pin<Box<dyn AsyncRead + Send + '_>> = match coding {
        Coding::Identity => return Ok(bytes.to_vec()),
        Coding::Gzip => Box::pin(GzipDecoder::new(bytes)),
        Coding::Deflate => Box::pin(ZlibDecoder::new(bytes)),
        Coding::Brotli => Box::pin(BrotliDecoder::new(bytes)),
        Coding::Zstd => Box::pin(ZstdDecoder::new(bytes)),
    };
    let mut decoded = Vec::new();
    let limit = (most as u64).saturating_add(1);
    let read = (&mut reader).take(limit).read_to_end(&mut decoded).await;
    read.map_err(|_| BodyError::Undecodable)?;
    if decoded.len() > most {
        return Err(BodyError::TooLong(most));
    }
    Ok(decoded)
}

/// Reads JSON in which no object has a name twice: of two, one reader takes the first and another
/// the last (RFC 8259, section 4).
///
/// # Errors
/// What is wrong, without any of the text.
pub fn json(bytes: &[u8]) -> Result<Value, BodyError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let wrong = |error: serde_json::Error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "a name stands twice in one object",
            _ => "it does not parse",
        };
        BodyError::NotJson(format!(
            "{what}, at line {} column {}",
            error.line(),
            error.column()
        ))
    };
    let value = Unique { depth: 0 }
        .deserialize(&mut reader)
        .map_err(wrong)?;
    reader.end().map_err(wrong)?;
    Ok(value)
}

/// A value whose objects' names are unique.
#[derive(Clone, Copy)]
struct Unique {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("twice"));
            }
        }
        Ok(map.into())
    }
}

impl Unique {
    fn inner<E: Error>(self) -> Result<Unique, E> {
        match self.depth < MAX_DEPTH {
            true => Ok(Unique {
                depth: self.depth + 1,
            }),
            false => Err(E::custom("deep")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn json_with_two_readings_is_refused() {
        assert_eq!(json(br#" {"a": [1, {"b": null}]} "#).unwrap()["a"][0], 1);
        for text in [
            r#"{"a": 1, "a": 2}"#,
            r#"{"a": 1, "\u0061": 2}"#,
            r#"[{"b": {"a": 1, "a": 1}}]"#,
            r#"{"a": 1} {"a": 2}"#,
            r#"{"a": 1,}"#,
            "{\"a\": NaN}",
            "\u{feff}{}",
            "",
        ] {
            assert!(json(text.as_bytes()).is_err(), "{text}");
        }
        assert!(json("[".repeat(4096).as_bytes()).is_err());
    }

    #[tokio::test]
    async fn what_is_decompressed_is_bounded() {
        use async_compression::tokio::bufread::{
            BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder,
        };
        let zeros = vec![b'0'; 1 << 20];
        async fn read(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
            let mut out = Vec::new();
            from.read_to_end(&mut out).await.unwrap();
            out
        }
        for (coding, packed) in [
            (Coding::Gzip, read(GzipEncoder::new(&zeros[..])).await),
            (Coding::Deflate, read(ZlibEncoder::new(&zeros[..])).await),
            (Coding::Brotli, read(BrotliEncoder::new(&zeros[..])).await),
            (Coding::Zstd, read(ZstdEncoder::new(&zeros[..])).await),
        ] {
            assert_eq!(decode(&packed, coding, 1 << 20).await.unwrap(), zeros);
            let long = decode(&packed, coding, (1 << 20) - 1).await;
            assert!(matches!(long, Err(BodyError::TooLong(_))), "{coding:?}");
            let cut = packed.get(..packed.len() / 2).unwrap_or_default();
            assert!(decode(cut, coding, 1 << 20).await.is_err(), "{coding:?}");
        }
    }
}
