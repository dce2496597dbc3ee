//! The way to the target: connections to it, and the one function that writes an agent's request.

pub(crate) mod connect;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use chaperone_evidence::Permit;
use chaperone_wire::{AllowSpecial, Resolver, Secret, TlsClient};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use hyper::{Request, Response, Uri};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use self::connect::ServerError;
use crate::body::{Body, Frames, Room};

/// Where to. Everything in it comes from the Connection.
#[derive(Debug, Clone)]
pub struct Target {
    /// Host name or literal address, in small letters; a dot at its end matters to DNS alone.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether the URL says https.
    pub secure: bool,
    /// The path that every request lies under, in normal form; `/` for all.
    pub prefix: String,
    /// Other names that stand for it.
    pub hosts: Vec<String>,
    /// How much TLS, checked already.
    pub tls: TlsClient,
}

impl Target {
    /// The host as requests name it.
    pub fn name(&self) -> &str {
        self.host.strip_suffix('.').unwrap_or(&self.host)
    }

    /// What a request's Host says to it: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.name().to_owned(),
        };
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Whether a path lies under the URL's.
    pub fn covers(&self, path: &str) -> bool {
        let prefix = self.prefix.trim_end_matches('/');
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// What the sidecar adds to each request.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The field.
    pub header: HeaderName,
    /// Its value.
    pub value: Value,
}

/// Where the value of a credential is.
#[derive(Debug, Clone)]
pub enum Value {
    /// Here.
    Held(Secret),
    /// A bearer token in a file, which another replaces before it expires.
    TokenFile(PathBuf),
}

impl Value {
    async fn read(&self) -> Result<HeaderValue, ServerError> {
        let value = match self {
            Value::Held(secret) => HeaderValue::from_bytes(secret.expose()),
            Value::TokenFile(path) => {
                let token = tokio::fs::read(path).await.map(Secret::new);
                let token = token.map_err(|_| ServerError::Credential)?;
                HeaderValue::from_bytes(bearer(token.expose()).expose())
            }
        };
        let mut value = value.map_err(|_| ServerError::Credential)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// What says in a field that this token is presented (RFC 6750, section 2.1).
fn bearer(token: &[u8]) -> Secret {
    Secret::new([b"Bearer ", token.trim_ascii()].concat())
}

/// A bearer token; `None` where it is none.
pub fn token(token: &[u8]) -> Option<Credential> {
    header(AUTHORIZATION.as_str(), bearer(token).expose())
}

/// The pod's own token, read for each request.
pub fn token_file(path: PathBuf) -> Credential {
    Credential {
        header: AUTHORIZATION,
        value: Value::TokenFile(path),
    }
}

/// A credential of this header and value; `None` where either is none.
pub fn header(name: &str, value: &[u8]) -> Option<Credential> {
    HeaderValue::from_bytes(value).ok()?;
    Some(Credential {
        header: name.parse().ok()?,
        value: Value::Held(Secret::new(value.to_vec())),
    })
}

/// What connecting takes.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// Where to.
    pub target: &'a Target,
    /// As whom.
    pub credential: Option<&'a Credential>,
    /// Names.
    pub resolver: &'a Resolver,
    /// Which special addresses may be a target.
    pub allow_special: AllowSpecial,
    /// What drives connections.
    pub tasks: &'a TaskTracker,
    /// What all lanes of the agent's connection share.
    pub shared: &'a Shared,
    /// When the connection must be there.
    pub deadline: Instant,
}

/// A connection in HTTP/2, on which any number of requests go at a time.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Option<http2::SendRequest<Body>>>);

impl Shared {
    fn get(&self) -> Option<http2::SendRequest<Body>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone().filter(|sender| !sender.is_closed())
    }

    /// Lets the connection go.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn set(&self, sender: http2::SendRequest<Body>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    }
}

/// One lane's connection in HTTP/1.1, for one request after another.
#[derive(Debug, Default)]
pub struct Way(Option<http1::SendRequest<Body>>);

/// Which HTTP the target is spoken to in, where it leaves the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speak {
    /// HTTP/1.1.
    One,
    /// HTTP/2 if the target's TLS offers it.
    Either,
    /// HTTP/2, over plain TCP too: gRPC has no other.
    Two,
}

pub(crate) enum Sender {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

/// Sends a request. This is the only writer of an agent's request to a target, and it takes the
/// permit with it. `request` has its path and query alone as URI, and neither Host nor credential.
///
/// # Errors
/// [`ServerError`]; whether anything was sent by then is not known, unless it says so.
pub async fn forward(
    permit: Permit,
    way: &mut Way,
    route: Route<'_>,
    speak: Speak,
    mut request: Request<Body>,
) -> Result<Response<Incoming>, ServerError> {
    // Used up by what follows, however that ends.
    drop(permit);
    let authority = route.target.authority();
    let fields = request.headers_mut();
    if let Some(credential) = route.credential {
        fields.insert(credential.header.clone(), credential.value.read().await?);
    }
    let mut fresh = false;
    loop {
        let sender = match known(way, route, speak).await {
            Some(sender) => sender,
            None => {
                fresh = true;
                connect::connect(route, speak).await?
            }
        };
        match sender {
            Sender::Two(mut sender) => {
                route.shared.set(sender.clone());
                let scheme = if route.target.secure { "https" } else { "http" };
                absolute(&mut request, scheme, &authority)?;
                request.headers_mut().remove(HOST);
                return sender
                    .send_request(request)
                    .await
                    .map_err(ServerError::sending);
            }
            Sender::One(mut sender) => {
                let host = HeaderValue::from_str(&authority).map_err(|_| ServerError::Request)?;
                request.headers_mut().insert(HOST, host);
                match sender.try_send_request(request).await {
                    Ok(response) => {
                        way.0 = Some(sender);
                        return Ok(response);
                    }
                    Err(mut error) => match error.take_message() {
                        // Nothing of it was written: the target had closed an idle connection.
                        Some(unsent) if !fresh => request = unsent,
                        _ => return Err(ServerError::sending(error.into_error())),
                    },
                }
            }
        }
    }
}

/// A connection that is there and free.
async fn known(way: &mut Way, route: Route<'_>, speak: Speak) -> Option<Sender> {
    if speak != Speak::One
        && let Some(shared) = route.shared.get()
    {
        return Some(Sender::Two(shared));
    }
    let mut sender = way.0.take()?;
    match sender.ready().await {
        Ok(()) if !sender.is_closed() => Some(Sender::One(sender)),
        _ => None,
    }
}

fn absolute(request: &mut Request<Body>, scheme: &str, authority: &str) -> Result<(), ServerError> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = scheme.parse().ok();
    parts.authority = authority.parse().ok();
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| ServerError::Request)?;
    Ok(())
}

/// Sends a piece of a request's body, recorded under the permit that goes with it.
pub fn forward_body(permit: Permit, room: Room, piece: bytes::Bytes) {
    drop(permit);
    room.frame(hyper::body::Frame::data(piece));
}

/// Ends a request's body.
pub async fn end_body(frames: &Frames) {
    if let Ok(room) = frames.room().await {
        room.end();
    }
}
