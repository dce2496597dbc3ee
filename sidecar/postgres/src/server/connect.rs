//! From a Connection to a session that is ready for its first query.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use chaperone_wire::{AllowSpecial, ReadBuffer, Resolver, Secret, Stream, TlsClient, TlsMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::error::ConnectError;
use super::login;
use crate::codec::{Frame, TransactionStatus, encode};

/// Bytes of a server's frame that are collected at most, by its length field. A larger one can only
/// be passed through unchanged ([`crate::codec::PassThrough`]).
pub const MAX_COLLECTED_FRAME: usize = 64 << 20;

/// Where to. Everything in it comes from the Connection.
#[derive(Debug, Clone)]
pub struct Target {
    /// Host name or literal address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The database to open.
    pub database: String,
    /// How much TLS, checked already.
    pub tls: TlsClient,
}

/// As whom.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The role.
    pub username: String,
    /// How to prove it.
    pub proof: Proof,
}

/// How a role is proven.
#[derive(Debug, Clone)]
pub enum Proof {
    /// By a password: SCRAM, and md5 or cleartext where [`ConnectOptions`] allow them.
    Password(Secret),
    /// By the client certificate in the target's [`TlsClient`].
    ClientCertificate,
}

/// What is allowed on the way.
#[derive(Debug, Clone, Copy)]
pub struct ConnectOptions {
    /// Which special addresses may be a target.
    pub allow_special: AllowSpecial,
    /// Answer a server that asks for an md5 hash.
    pub allow_md5: bool,
    /// Answer a server that asks for the password itself.
    pub allow_cleartext: bool,
    /// When all of it must be done.
    pub deadline: Instant,
}

/// What the server asked for to let us in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationMethod {
    /// Nothing: `trust`, `peer`, or a client certificate. Without a client certificate anyone who
    /// can reach this server gets in, this sidecar or not.
    None,
    /// The password itself.
    Cleartext,
    /// A hash of it.
    Md5,
    /// SCRAM-SHA-256.
    Scram,
    /// SCRAM-SHA-256-PLUS, bound to the TLS connection.
    ScramPlus,
}

/// A session that is logged in and idle.
#[derive(Debug)]
pub struct ServerConnection {
    /// The connection.
    pub stream: Stream,
    /// What has been read of it and not taken.
    pub buffer: ReadBuffer,
    /// Every ParameterStatus so far, by name.
    pub parameters: BTreeMap<String, String>,
    /// The server process, for cancelling.
    pub backend_pid: i32,
    /// Its cancel key.
    pub cancel_key: Bytes,
    /// From the last ReadyForQuery.
    pub status: TransactionStatus,
    /// How the login went.
    pub authentication: AuthenticationMethod,
    /// Notices, notifications and ParameterStatus that arrived during [`super::load_catalog`]: the
    /// client's, in order.
    pub deferred: VecDeque<Frame>,
    pub(super) target: Target,
    pub(super) address: SocketAddr,
}

/// Connects, encrypts as the target's TLS mode says, logs in, and makes sure that the session's
/// text means what classification takes it for. `settings` are startup parameters to pass on
/// (names in lower case); `client_encoding`, `standard_conforming_strings` and `backslash_quote`
/// among them are replaced by ours.
///
/// # Errors
/// [`ConnectError`]; nothing in it shows the credential.
pub async fn connect(
    resolver: &Resolver,
    target: &Target,
    credential: &Credential,
    settings: &[(String, String)],
    options: &ConnectOptions,
) -> Result<ServerConnection, ConnectError> {
    let deadline = options.deadline;
    let tcp = chaperone_wire::connect(
        resolver,
        &target.host,
        target.port,
        options.allow_special,
        deadline,
    )
    .await?;
    let address = tcp.peer_addr().map_err(|source| ConnectError::Io {
        stage: "connect",
        source,
    })?;
    let stream = encrypt(tcp, target, deadline).await?;
    let mut connection = ServerConnection {
        stream,
        // One chunk above the limit, so that a frame of exactly the limit always fits.
        buffer: ReadBuffer::new(MAX_COLLECTED_FRAME + ReadBuffer::MAX_CHUNK),
        parameters: BTreeMap::new(),
        backend_pid: 0,
        cancel_key: Bytes::new(),
        status: TransactionStatus::Idle,
        authentication: AuthenticationMethod::None,
        deferred: VecDeque::new(),
        target: target.clone(),
        address,
    };
    timeout_at(
        deadline,
        login::login(&mut connection, credential, settings, options),
    )
    .await
    .map_err(|_| ConnectError::TimedOut)??;
    Ok(connection)
}

/// SSLRequest and handshake (PostgreSQL documentation, section 55.2.10), or nothing where the mode
/// is Disable. Exactly one byte is read before the handshake, so that nothing sent in plain text
/// can be taken for something that came encrypted.
pub(super) async fn encrypt(
    mut tcp: TcpStream,
    target: &Target,
    deadline: Instant,
) -> Result<Stream, ConnectError> {
    if target.tls.mode() == TlsMode::Disable {
        return Ok(Stream::Plain(tcp));
    }
    let failed = |source: io::Error| ConnectError::Io {
        stage: "the tls request",
        source,
    };
    let mut request = BytesMut::new();
    encode::ssl_request(&mut request);
    let exchange = async {
        tcp.write_all(&request).await?;
        tcp.read_u8().await
    };
    let answer = timeout_at(deadline, exchange)
        .await
        .map_err(|_| ConnectError::TimedOut)?
        .map_err(failed)?;
    match answer {
        b'S' => Ok(target.tls.handshake(tcp, &target.host, deadline).await?),
        b'N' => Err(ConnectError::TlsNotOffered),
        // An ErrorResponse here is not authenticated; its text is not shown (CVE-2024-10977).
        b'E' => Err(ConnectError::Refused {
            code: "08P01".to_owned(),
            message: "it answered the tls request with an error".to_owned(),
        }),
        _ => Err(ConnectError::Protocol {
            message: "it answered the tls request with an unknown byte".to_owned(),
        }),
    }
}
