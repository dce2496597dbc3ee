//! The beginning of an agent's connection: encryption, the version of HTTP, and the run of either.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use chaperone_wire::Stream;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Agent, Connection, exchange};
use crate::guard::{Guard, MAX_HEAD};
use crate::server::connect::Tracked;

/// What our TLS offers to agents (RFC 7301), best first.
pub const APPLICATION_PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// How HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The type of a TLS record that holds a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// A connection whose version is known.
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) two: bool,
    /// Read of it already.
    pub(super) read: Vec<u8>,
}

/// No TLS and no request was read yet: the answer is the least that every client understands.
pub(super) async fn turn_away(mut tcp: TcpStream) {
    let text =
        b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let _ = tcp.write_all(text).await;
}

pub(super) async fn open(connection: &Connection, tcp: TcpStream) -> Option<Opened> {
    let mut first = [0];
    if tcp.peek(&mut first).await.ok()? == 0 {
        return None;
    }
    let mut stream = match (&connection.tls, first) {
        (Some(tls), [TLS_HANDSHAKE]) => {
            let deadline = Instant::now() + connection.bounds.startup;
            match tls.accept(tcp, deadline).await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(%error, "an agent's handshake failed");
                    return None;
                }
            }
        }
        _ => Stream::from(tcp),
    };
    if stream.application_protocol() == Some(b"h2") {
        return Some(Opened {
            stream,
            two: true,
            read: Vec::new(),
        });
    }
    let mut read = Vec::new();
    let mut buffer = [0; 512];
    while PREFACE.starts_with(&read) && read.len() < PREFACE.len() {
        let count = stream.read(&mut buffer).await.ok()?;
        if count == 0 {
            return None;
        }
        read.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    let two = read.starts_with(PREFACE);
    Some(Opened { stream, two, read })
}

pub(super) async fn run_one(agent: &Arc<Agent>, guard: Guard<Stream>) {
    let shared = Arc::clone(agent);
    let service = service_fn(move |request| exchange::handle(Arc::clone(&shared), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(agent.connection.bounds.head)
        .max_buf_size(MAX_HEAD.saturating_mul(2))
        .max_headers(crate::guard::MAX_FIELDS)
        .serve_connection(TokioIo::new(guard), service)
        .with_upgrades();
    until_drained(agent, connection, |connection| {
        connection.graceful_shutdown()
    })
    .await;
}

pub(super) async fn run_two(agent: &Arc<Agent>, stream: Stream, read: Vec<u8>) {
    let shared = Arc::clone(agent);
    let service = service_fn(move |request| exchange::handle(Arc::clone(&shared), request));
    let bounds = &agent.connection.bounds;
    let connection = http2::Builder::new(Tracked(agent.tasks.clone()))
        .timer(TokioTimer::new())
        .keep_alive_interval(bounds.head)
        .max_concurrent_streams(bounds.streams)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .serve_connection(TokioIo::new(Prefixed { read, stream }), service);
    until_drained(agent, connection, |connection| {
        connection.graceful_shutdown()
    })
    .await;
}

/// Serves a connection to its end. Once the sidecar drains, it takes no other request, and is left
/// when the drain's time is over.
async fn until_drained<C>(agent: &Agent, connection: C, close: impl FnOnce(Pin<&mut C>))
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let mut drain = agent.drain.clone();
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = drain.started() => {
            close(connection.as_mut());
            tokio::select! {
                result = connection.as_mut() => result,
                () = drain.expired() => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an agent's connection ended");
    }
}

/// A stream of which some has been read.
struct Prefixed {
    read: Vec<u8>,
    stream: Stream,
}

impl AsyncRead for Prefixed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, out);
        }
        let count = this.read.len().min(out.remaining());
        out.put_slice(this.read.get(..count).unwrap_or_default());
        this.read.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
