//! A connection, encrypted or not, behind one type.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::TlsStream;

/// A TCP connection with or without TLS, as client or as server.
#[derive(Debug)]
pub enum Stream {
    /// Unencrypted.
    Plain(TcpStream),
    /// Encrypted; boxed because its state is a few kilobytes.
    Tls(Box<TlsStream<TcpStream>>),
}

/// The reading half of a [`Stream`].
#[derive(Debug)]
pub enum StreamReader {
    /// Unencrypted.
    Plain(OwnedReadHalf),
    /// Encrypted.
    Tls(ReadHalf<Box<TlsStream<TcpStream>>>),
}

/// The writing half of a [`Stream`]. Dropping a plain one closes that direction.
#[derive(Debug)]
pub enum StreamWriter {
    /// Unencrypted.
    Plain(OwnedWriteHalf),
    /// Encrypted.
    Tls(WriteHalf<Box<TlsStream<TcpStream>>>),
}

impl Stream {
    /// The address at the other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().peer_addr()
    }

    /// Whether the bytes are encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// The peer's own certificate, where TLS has one.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => tls.get_ref().1.peer_certificates()?.first(),
        }
    }

    /// The application protocol that both sides agreed on (RFC 7301), if any.
    pub fn application_protocol(&self) -> Option<&[u8]> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }

    /// The host that a client of ours asked for in its handshake (RFC 6066, section 3).
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Stream::Tls(tls) => match &**tls {
                TlsStream::Server(tls) => tls.get_ref().1.server_name(),
                TlsStream::Client(_) => None,
            },
            Stream::Plain(_) => None,
        }
    }

    /// Our own address.
    ///
    /// # Errors
    /// The socket's own.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().local_addr()
    }

    /// Halves for two tasks.
    pub fn into_split(self) -> (StreamReader, StreamWriter) {
        match self {
            Stream::Plain(tcp) => {
                let (reader, writer) = tcp.into_split();
                (StreamReader::Plain(reader), StreamWriter::Plain(writer))
            }
            Stream::Tls(tls) => {
                let (reader, writer) = tokio::io::split(tls);
                (StreamReader::Tls(reader), StreamWriter::Tls(writer))
            }
        }
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Stream {
        Stream::Plain(tcp)
    }
}

macro_rules! delegate_read {
    ($name:ident) => {
        impl AsyncRead for $name {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $name::Plain(inner) => Pin::new(inner).poll_read(cx, buf),
                    $name::Tls(inner) => Pin::new(inner).poll_read(cx, buf),
                }
            }
        }
    };
}

macro_rules! delegate_write {
    ($name:ident) => {
        impl AsyncWrite for $name {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $name::Plain(inner) => Pin::new(inner).poll_write(cx, buf),
                    $name::Tls(inner) => Pin::new(inner).poll_write(cx, buf),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $name::Plain(inner) => Pin::new(inner).poll_write_vectored(cx, bufs),
                    $name::Tls(inner) => Pin::new(inner).poll_write_vectored(cx, bufs),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $name::Plain(inner) => inner.is_write_vectored(),
                    $name::Tls(inner) => inner.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $name::Plain(inner) => Pin::new(inner).poll_flush(cx),
                    $name::Tls(inner) => Pin::new(inner).poll_flush(cx),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $name::Plain(inner) => Pin::new(inner).poll_shutdown(cx),
                    $name::Tls(inner) => Pin::new(inner).poll_shutdown(cx),
                }
            }
        }
    };
}

delegate_read!(Stream);
delegate_read!(StreamReader);
delegate_write!(Stream);
delegate_write!(StreamWriter);
