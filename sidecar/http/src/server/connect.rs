//! From a Connection to a connection that takes requests.

use chaperone_policy::Reason;
use chaperone_wire::{ConnectError, TlsError};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio_util::task::TaskTracker;

use super::{Route, Sender, Speak};

/// Longest head of an answer, in bytes.
const MAX_HEAD: usize = 256 * 1024;
const HTTP_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";

/// Why a request did not get its answer.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The connection did not begin as HTTP.
    #[error("the target does not speak HTTP: {0}")]
    Handshake(hyper::Error),
    /// It ended while the answer was awaited.
    #[error("the target gave no answer: {0}")]
    Sending(hyper::Error),
    /// Its answer is no HTTP.
    #[error("the target's answer is no HTTP: {0}")]
    Answer(hyper::Error),
    /// The request does not fit what the target is spoken to in; nothing was sent.
    #[error("the request cannot be written in the target's version of HTTP")]
    Request,
    /// The credential is no value of a field; nothing was sent.
    #[error("the connection's credential cannot be read, or holds what no field may")]
    Credential,
    /// The answer did not come in time.
    #[error("the target did not answer in time")]
    TimedOut,
}

impl ServerError {
    pub(super) fn sending(error: hyper::Error) -> ServerError {
        match error.is_parse() {
            true => ServerError::Answer(error),
            false => ServerError::Sending(error),
        }
    }

    /// The constant.
    pub fn reason(&self) -> Reason {
        match self {
            ServerError::Connect(error) => error.reason(),
            ServerError::Tls(error) => error.reason(),
            ServerError::Handshake(_) | ServerError::Answer(_) => Reason::TargetProtocol,
            ServerError::Sending(_) | ServerError::TimedOut => Reason::TargetRefused,
            ServerError::Request => Reason::Unsupported,
            ServerError::Credential => Reason::RefNotFound,
        }
    }

    /// Whether the target cannot have seen any of the request.
    pub fn is_unsent(&self) -> bool {
        !matches!(
            self,
            ServerError::Sending(_) | ServerError::Answer(_) | ServerError::TimedOut
        )
    }
}

pub(super) async fn connect(route: Route<'_>, speak: Speak) -> Result<Sender, ServerError> {
    let target = route.target;
    let tcp = chaperone_wire::connect(
        route.resolver,
        &target.host,
        target.port,
        route.allow_special,
        route.deadline,
    )
    .await?;
    let protocols: &[&[u8]] = match speak {
        Speak::One => &[HTTP_1],
        Speak::Either => &[HTTP_2, HTTP_1],
        Speak::Two => &[HTTP_2],
    };
    let tls = target.tls.clone().speaking(protocols);
    let stream = tls.handshake(tcp, &target.host, route.deadline).await?;
    let two = match stream.is_tls() {
        true => stream.application_protocol() == Some(HTTP_2),
        false => speak == Speak::Two,
    };
    let io = TokioIo::new(stream);
    if two {
        let (sender, connection) = http2::Builder::new(Tracked(route.tasks.clone()))
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            .handshake(io)
            .await
            .map_err(ServerError::Handshake)?;
        route.tasks.spawn(drive(connection));
        return Ok(Sender::Two(sender));
    }
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(crate::guard::MAX_FIELDS)
        .handshake(io)
        .await
        .map_err(ServerError::Handshake)?;
    route.tasks.spawn(drive(connection.with_upgrades()));
    Ok(Sender::One(sender))
}

async fn drive(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to a target ended");
    }
}

/// Runs what a connection in HTTP/2 needs beside itself, owned as all tasks are.
#[derive(Debug, Clone)]
pub(crate) struct Tracked(pub(crate) TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
