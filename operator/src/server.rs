//! TLS servers with bounds: how many connections, how long a handshake, a header and an answer.
//!
//! ```text
//! accept ─slot─► TLS handshake ─deadline─► HTTP/1.1 or 2 ─► Router, each answer within its deadline
//! ```

use std::convert::Infallible;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

/// Longest a client may take for its handshake, and for the header of a request.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after a failed accept: the process is out of descriptors, and spinning frees none.
const BREATH: Duration = Duration::from_millis(100);
/// Waiting connections that the kernel keeps.
const BACKLOG: u32 = 1024;

/// Bounds of one server.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most connections at once; more wait to be accepted.
    pub connections: usize,
    /// Longest time until an answer begins; how long its body takes is the handler's affair.
    pub answer: Duration,
    /// Longest time that open requests have after the stop.
    pub drain: Duration,
}

/// Binds a port on every address, IPv6 and IPv4.
///
/// # Errors
/// The system's, naming the port.
pub fn bind(port: u16) -> io::Result<TcpListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("port {port}: {error}"));
    let listen = |socket: TcpSocket, address: SocketAddr| {
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let both = TcpSocket::new_v6()
        .and_then(|socket| listen(socket, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))));
    // A node without IPv6 has no such socket.
    both.or_else(|_| {
        TcpSocket::new_v4().and_then(|socket| listen(socket, SocketAddr::from(([0; 4], port))))
    })
    .map_err(named)
}

/// Serves until `stop`, then lets open requests end within [`Bounds::drain`].
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(bounds.connections));
    let acceptor = tls.map(TlsAcceptor::from);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, slot)) = accepted else {
            continue;
        };
        let acceptor = acceptor.clone();
        let router = router.clone();
        let stop = stop.clone();
        connections.spawn(async move {
            if let Err(error) = connection(stream, acceptor, router, bounds, stop).await {
                tracing::debug!(%error, "connection ended");
            }
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    if timeout(bounds.drain, connections.wait()).await.is_err() {
        tracing::warn!("requests were still open at the end");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            tracing::warn!(%error, "accept failed");
            sleep(BREATH).await;
            None
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    bounds: Bounds,
    stop: CancellationToken,
) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    match acceptor {
        Some(acceptor) => {
            let stream = timeout(HANDSHAKE, acceptor.accept(stream)).await??;
            talk(TokioIo::new(stream), router, bounds, stop).await
        }
        None => talk(TokioIo::new(stream), router, bounds, stop).await,
    }
}

async fn talk(
    io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    router: Router,
    bounds: Bounds,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut router = router.clone();
        async move {
            let answer = router.call(request.map(Body::new));
            let answer: Result<Response, _> = match timeout(bounds.answer, answer).await {
                Ok(answer) => answer,
                Err(_) => Ok(StatusCode::GATEWAY_TIMEOUT.into_response()),
            };
            Ok::<_, Infallible>(answer.unwrap_or_else(|never| match never {}))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_header_list_size(32 * 1024)
        // A peer that is gone without a word is found out.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let connection = builder.serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        done = connection.as_mut() => return done,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
