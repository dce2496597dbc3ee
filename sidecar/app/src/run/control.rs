//! The control API's client: one HTTP/2 connection, a bearer that is read anew for each request.
//!
//! ```text
//! call ─► (control runtime) ─ sender ─► connect: DNS, TCP, TLS with OPERATOR_CA ─► request ─► JSON
//! stream ─► Lines: NDJSON, one bounded line at a time
//! ```
//!
//! Each call makes one attempt within its deadline; whoever calls decides what is tried again.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use chaperone_approvals::{ApiError, ApiFuture, ApprovalApi, is_name};
use chaperone_control::{
    Append, Appended, AttachAnswer, AttachRequest, Cancel, CertificateAnswer, CertificateRequest,
    KeysWanted, MOST_BYTES, NewApproval, Notices, Redeem, Refusal, SessionViews, StreamEvent,
};
use chaperone_wire::{AllowSpecial, Resolver, TlsClient, TlsMode, TlsSettings};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

use super::settings::{Operator, Settings};

/// For a connection and an answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// A connection that says nothing is asked whether it lives …
const KEEPALIVE: Duration = Duration::from_secs(10);
/// … and is given up after this long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A projected token has about 1 kB.
const MOST_TOKEN: usize = 64 * 1024;

/// The client. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    operator: Operator,
    tls: TlsClient,
    resolver: Resolver,
    token: PathBuf,
    /// Connections are driven here, never on the data plane.
    control: tokio::runtime::Handle,
    sender: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("host", &self.inner.operator.host)
            .finish_non_exhaustive()
    }
}

/// The token that stands for the pod, as it is now.
pub(crate) struct Token(Zeroizing<Vec<u8>>);

impl Token {
    /// Whether both are the same.
    pub(crate) fn is(&self, other: &Token) -> bool {
        *self.0 == *other.0
    }
}

impl Client {
    /// A client that has not connected yet, and drives its connections on this runtime.
    pub(crate) fn new(settings: &Settings) -> anyhow::Result<Client> {
        let tls = TlsClient::new(&TlsSettings {
            mode: TlsMode::VerifyFull,
            ca_pem: Some(settings.operator.ca_pem.clone().into_bytes()),
            identity: None,
        })?
        .speaking(&[b"h2"]);
        Ok(Client {
            inner: Arc::new(Inner {
                operator: settings.operator.clone(),
                tls,
                resolver: Resolver::new(),
                token: settings.token.clone(),
                control: tokio::runtime::Handle::current(),
                sender: Mutex::new(None),
            }),
        })
    }

    /// Reads the token file, which the kubelet replaces.
    pub(crate) fn token(&self) -> Result<Token, ApiError> {
        let path = &self.inner.token;
        let bytes = std::fs::read(path).map_err(|error| {
            ApiError::Unreachable(format!(
                "the token {} cannot be read: {error}",
                path.display()
            ))
        })?;
        let bytes = Zeroizing::new(bytes);
        let text = bytes.trim_ascii();
        if text.is_empty() || text.len() > MOST_TOKEN {
            let why = format!("{} holds no token", path.display());
            return Err(ApiError::Unreachable(why));
        }
        Ok(Token(Zeroizing::new(text.to_vec())))
    }

    pub(crate) async fn attach(&self) -> Result<AttachAnswer, ApiError> {
        let body = json(&AttachRequest {
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })?;
        self.call(Method::POST, "/v1/attach".to_owned(), body, DEADLINE)
            .await
    }

    pub(crate) async fn certificate(
        &self,
        request: &CertificateRequest,
    ) -> Result<CertificateAnswer, ApiError> {
        let path = "/v1/audit/certificate".to_owned();
        self.call(Method::POST, path, json(request)?, DEADLINE)
            .await
    }

    /// Returns once the part is durable in the cluster's log.
    pub(crate) async fn append(&self, append: &Append) -> Result<Appended, ApiError> {
        let path = "/v1/audit".to_owned();
        self.call(Method::POST, path, json(append)?, DEADLINE).await
    }

    pub(crate) async fn sessions(&self, views: &SessionViews) -> Result<(), ApiError> {
        let path = "/v1/audit/sessions".to_owned();
        self.call(Method::POST, path, json(views)?, DEADLINE).await
    }

    pub(crate) async fn notices(&self, notices: &Notices) -> Result<(), ApiError> {
        let path = "/v1/notices".to_owned();
        self.call(Method::POST, path, json(notices)?, DEADLINE)
            .await
    }

    /// Has the keys of an IdentityProvider fetched again.
    pub(crate) async fn want_keys(&self, provider: &str) -> Result<(), ApiError> {
        let path = "/v1/identity/keys".to_owned();
        let body = json(&KeysWanted {
            provider: provider.to_owned(),
        })?;
        self.call(Method::POST, path, body, DEADLINE).await
    }

    /// Opens the stream of snapshots that are newer than `generation`.
    pub(crate) async fn stream(&self, generation: u64) -> Result<Lines, ApiError> {
        let path = format!("/v1/stream?generation={generation}");
        let until = Instant::now() + DEADLINE;
        let response = timeout_at(until, self.send(Method::GET, &path, Bytes::new()))
            .await
            .map_err(|_| late())??;
        if response.status() != StatusCode::OK {
            return Err(refusal(response, until).await);
        }
        Ok(Lines {
            body: response.into_body(),
            buffer: BytesMut::new(),
        })
    }

    /// One call, driven on the control runtime from wherever it is made.
    async fn call<T: DeserializeOwned + Send + 'static>(
        &self,
        method: Method,
        path: String,
        body: Bytes,
        deadline: Duration,
    ) -> Result<T, ApiError> {
        let client = self.clone();
        let until = Instant::now() + deadline;
        let task = self.inner.control.spawn(async move {
            let response = timeout_at(until, client.send(method, &path, body))
                .await
                .map_err(|_| late())??;
            let status = response.status();
            if status == StatusCode::NO_CONTENT {
                return serde_json::from_slice(b"null").map_err(|error| not_understood(&error));
            }
            if status != StatusCode::OK {
                return Err(refusal(response, until).await);
            }
            let bytes = collect(response, until).await?;
            serde_json::from_slice(&bytes).map_err(|error| not_understood(&error))
        });
        AbortOnDropHandle::new(task)
            .await
            .map_err(|error| ApiError::Unreachable(format!("a call did not end: {error}")))?
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ApiError> {
        let mut sender = self.sender().await?;
        let request = self.request(method, path, body)?;
        let sent = sender.send_request(request).await;
        sent.map_err(|error| {
            ApiError::Unreachable(format!("{} failed: {error}", self.inner.authority()))
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ApiError> {
        let token = self.token()?;
        let mut bearer = Zeroizing::new(b"Bearer ".to_vec());
        bearer.extend_from_slice(&token.0);
        let mut bearer = HeaderValue::from_bytes(&bearer)
            .map_err(|_| ApiError::Unreachable("the token is no token".to_owned()))?;
        bearer.set_sensitive(true);
        Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.inner.authority()))
            .header(AUTHORIZATION, bearer)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| ApiError::Unreachable(error.to_string()))
    }

    /// The connection, made anew where the last one is gone.
    async fn sender(&self) -> Result<SendRequest<Full<Bytes>>, ApiError> {
        let mut kept = self.inner.sender.lock().await;
        if let Some(sender) = kept.as_mut()
            && !sender.is_closed()
            && sender.ready().await.is_ok()
        {
            return Ok(sender.clone());
        }
        let sender = self.inner.connect().await?;
        *kept = Some(sender.clone());
        Ok(sender)
    }
}

impl Inner {
    fn authority(&self) -> String {
        format!("{}:{}", self.operator.host, self.operator.port)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ApiError> {
        let unreachable = |error: &dyn fmt::Display| ApiError::Unreachable(error.to_string());
        let deadline = Instant::now() + DEADLINE;
        let host = self.operator.host.as_str();
        // The address is the injector's word, not an agent's.
        let allow = AllowSpecial::LiteralLoopback;
        let tcp =
            chaperone_wire::connect(&self.resolver, host, self.operator.port, allow, deadline)
                .await
                .map_err(|error| unreachable(&error))?;
        let stream = self
            .tls
            .handshake(tcp, host, deadline)
            .await
            .map_err(|error| unreachable(&error))?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(&error))?;
        // Ends with its connection: when the operator goes, or when nobody holds a sender.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the operator's connection ended");
            }
        });
        Ok(sender)
    }
}

/// The stream's lines.
pub(crate) struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// The next event; `None` when the operator ended the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<StreamEvent>, ApiError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| not_understood(&error));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(ApiError::Unreachable(error.to_string())),
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    if self.buffer.len().saturating_add(data.len()) > MOST_BYTES {
                        let why = "a line of the stream is longer than any may be";
                        return Err(ApiError::Unreachable(why.to_owned()));
                    }
                    self.buffer.extend_from_slice(&data);
                }
            }
        }
    }
}

async fn collect(response: Response<Incoming>, until: Instant) -> Result<Bytes, ApiError> {
    let body = Limited::new(response.into_body(), MOST_BYTES);
    match timeout_at(until, body.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) => Err(ApiError::Unreachable(format!("an answer was cut: {error}"))),
        Err(_) => Err(late()),
    }
}

/// What the operator says when it says no. A server in between may say something else.
async fn refusal(response: Response<Incoming>, until: Instant) -> ApiError {
    let status = response.status();
    let said = match collect(response, until).await {
        Ok(bytes) => serde_json::from_slice::<Refusal>(&bytes).ok(),
        Err(_) => None,
    };
    match said {
        // A server's own trouble is nobody's decision.
        Some(refusal) if !status.is_server_error() => ApiError::Refused(refusal),
        Some(refusal) => ApiError::Unreachable(format!("{}: {}", refusal.reason, refusal.message)),
        None => ApiError::Unreachable(format!("it answered with HTTP status {status}")),
    }
}

fn json(value: &impl Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| ApiError::Unreachable(format!("a request cannot be written: {error}")))
}

/// The position, and never the text: it may hold a credential.
fn not_understood(error: &serde_json::Error) -> ApiError {
    ApiError::Unreachable(format!(
        "its answer is not understood, at line {} column {} ({:?}); are operator and sidecar of one release?",
        error.line(),
        error.column(),
        error.classify()
    ))
}

fn late() -> ApiError {
    ApiError::Unreachable("no answer in time".to_owned())
}

/// Names of requests are the operator's, and go into a path.
fn approval_path(name: &str, rest: &str) -> Result<String, ApiError> {
    if !is_name(name) {
        let why = "the name of an approval request is not one";
        return Err(ApiError::Unreachable(why.to_owned()));
    }
    Ok(format!("/v1/approvals/{name}{rest}"))
}

impl ApprovalApi for Client {
    fn create(&self, new: NewApproval) -> ApiFuture<'_> {
        Box::pin(async move {
            let path = "/v1/approvals".to_owned();
            self.call(Method::POST, path, json(&new)?, DEADLINE).await
        })
    }

    fn state(&self, name: String, wait: Duration) -> ApiFuture<'_> {
        Box::pin(async move {
            let path = approval_path(&name, &format!("?wait={}", wait.as_secs()))?;
            self.call(Method::GET, path, Bytes::new(), wait + DEADLINE)
                .await
        })
    }

    fn cancel(&self, name: String, cancel: Cancel) -> ApiFuture<'_> {
        Box::pin(async move {
            let path = approval_path(&name, "/cancel")?;
            self.call(Method::POST, path, json(&cancel)?, DEADLINE)
                .await
        })
    }

    fn redeem(&self, name: String, redeem: Redeem) -> ApiFuture<'_> {
        Box::pin(async move {
            let path = approval_path(&name, "/redeem")?;
            self.call(Method::POST, path, json(&redeem)?, DEADLINE)
                .await
        })
    }
}
