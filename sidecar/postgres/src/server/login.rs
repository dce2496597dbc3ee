//! Startup and authentication (PostgreSQL documentation, section 55.2.1).

use std::io;

use bytes::{Bytes, BytesMut};
use chaperone_wire::Secret;
use tokio::io::AsyncWriteExt;
use zeroize::Zeroize;

use super::connect::{AuthenticationMethod, ConnectOptions, Credential, Proof, ServerConnection};
use super::error::ConnectError;
use super::scram::Scram;
use crate::codec::{Authentication, Backend, ErrorFields, Frame, encode, frame};

/// Bytes of a frame during login at most. A real server's are below 2 KiB.
const MAX_LOGIN_FRAME: usize = 64 << 10;

/// Settings reported at most. A real server reports about 15.
const MAX_PARAMETERS: usize = 256;

/// What classification relies on, set by us whatever the role's defaults are: the text is UTF-8,
/// and a backslash in a plain string is an ordinary character (postgres.md, Wire).
const FIXED_SETTINGS: [(&str, &str); 3] = [
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("backslash_quote", "safe_encoding"),
];

/// Those of them that a server reports, with what it must report.
const CHECKED_SETTINGS: [(&str, &str); 2] = [
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
];

/// Where the authentication stands.
enum Progress {
    /// The server has not asked yet.
    Start,
    /// An answer was sent that AuthenticationOk may follow.
    Answered,
    /// SCRAM waits for its challenge or for the server's proof.
    Scram(Box<Scram>),
    /// We are in.
    Done,
}

/// Logs in on a fresh connection and waits for the first ReadyForQuery.
pub(super) async fn login(
    connection: &mut ServerConnection,
    credential: &Credential,
    settings: &[(String, String)],
    options: &ConnectOptions,
) -> Result<(), ConnectError> {
    let startup = startup_packet(&connection.target.database, credential, settings);
    send(connection, &startup).await?;
    let mut progress = Progress::Start;
    loop {
        let frame = receive(connection).await?;
        match Backend::parse(frame.as_ref())? {
            Backend::Authentication(request) => {
                progress = authenticate(connection, credential, options, request, progress).await?;
            }
            Backend::ErrorResponse(fields) => return Err(refusal(&fields, credential)),
            Backend::NoticeResponse(_) => {}
            Backend::NegotiateProtocolVersion { .. } => {
                return Err(protocol("it does not speak protocol 3.0"));
            }
            Backend::ParameterStatus { name, value } if matches!(progress, Progress::Done) => {
                if connection.parameters.len() >= MAX_PARAMETERS {
                    return Err(protocol("it reports too many settings"));
                }
                connection
                    .parameters
                    .insert(name.to_owned(), value.to_owned());
            }
            Backend::BackendKeyData { pid, key } if matches!(progress, Progress::Done) => {
                connection.backend_pid = pid;
                connection.cancel_key = Bytes::copy_from_slice(key);
            }
            Backend::ReadyForQuery(status) if matches!(progress, Progress::Done) => {
                connection.status = status;
                break;
            }
            _ => return Err(protocol("it sent a message that has no place in a login")),
        }
    }
    check_settings(connection)
}

fn check_settings(connection: &ServerConnection) -> Result<(), ConnectError> {
    for (name, wanted) in CHECKED_SETTINGS {
        let value = connection.parameters.get(name).map_or("", String::as_str);
        if value != wanted {
            return Err(ConnectError::Setting {
                name,
                value: value.to_owned(),
                wanted,
            });
        }
    }
    Ok(())
}

fn startup_packet(
    database: &str,
    credential: &Credential,
    settings: &[(String, String)],
) -> BytesMut {
    let reserved = |name: &str| {
        matches!(name, "user" | "database" | "options" | "replication")
            || FIXED_SETTINGS.iter().any(|(fixed, _)| *fixed == name)
    };
    let forwarded = settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        // An empty name would end the packet early.
        .filter(|(name, _)| !name.is_empty() && !reserved(name));
    let mut out = BytesMut::new();
    encode::startup(
        &mut out,
        [
            ("user", credential.username.as_str()),
            ("database", database),
        ]
        .into_iter()
        .chain(forwarded)
        .chain(FIXED_SETTINGS),
    );
    out
}

async fn authenticate(
    connection: &mut ServerConnection,
    credential: &Credential,
    options: &ConnectOptions,
    request: Authentication<'_>,
    progress: Progress,
) -> Result<Progress, ConnectError> {
    match (request, progress) {
        (Authentication::Ok, Progress::Start | Progress::Answered) => Ok(Progress::Done),
        (Authentication::CleartextPassword, Progress::Start) => {
            if !options.allow_cleartext {
                return Err(denied(
                    "the target asks for the password in clear text, which the connection does not allow; use scram-sha-256 there",
                ));
            }
            let password = password(credential)?;
            connection.authentication = AuthenticationMethod::Cleartext;
            answer(connection, |out| encode::password(out, password.expose())).await?;
            Ok(Progress::Answered)
        }
        (Authentication::Md5Password { salt }, Progress::Start) => {
            if !options.allow_md5 {
                return Err(denied(
                    "the target asks for an md5 password, which the connection does not allow; use scram-sha-256 there",
                ));
            }
            let password = password(credential)?;
            let mut hash = postgres_protocol::authentication::md5_hash(
                credential.username.as_bytes(),
                password.expose(),
                salt,
            );
            connection.authentication = AuthenticationMethod::Md5;
            let sent = answer(connection, |out| encode::password(out, hash.as_bytes())).await;
            hash.zeroize();
            sent.map(|()| Progress::Answered)
        }
        (Authentication::Sasl { mechanisms }, Progress::Start) => {
            let certificate = connection.stream.peer_certificate().map(AsRef::as_ref);
            let scram = Scram::start(&mechanisms, certificate, password(credential)?)?;
            connection.authentication = scram.method();
            answer(connection, |out| {
                encode::sasl_initial_response(out, scram.mechanism(), scram.message());
            })
            .await?;
            Ok(Progress::Scram(Box::new(scram)))
        }
        (Authentication::SaslContinue(challenge), Progress::Scram(mut scram)) => {
            scram.challenge(challenge)?;
            answer(connection, |out| {
                encode::sasl_response(out, scram.message())
            })
            .await?;
            Ok(Progress::Scram(scram))
        }
        (Authentication::SaslFinal(verifier), Progress::Scram(scram)) => {
            scram.finish(verifier)?;
            Ok(Progress::Answered)
        }
        (Authentication::Unsupported { code }, _) => Err(denied(&format!(
            "the target asks for an authentication that is not spoken here (code {code}); use scram-sha-256 there"
        ))),
        _ => Err(protocol("its authentication requests are out of order")),
    }
}

fn password(credential: &Credential) -> Result<&Secret, ConnectError> {
    match &credential.proof {
        Proof::Password(password) => Ok(password),
        Proof::ClientCertificate => Err(denied(
            "the target asks for a password, and the connection has a client certificate only",
        )),
    }
}

/// The server's own words, sorted by SQLSTATE class (PostgreSQL documentation, appendix A).
fn refusal(fields: &ErrorFields<'_>, credential: &Credential) -> ConnectError {
    let code = fields.code().into_owned();
    let message = without_secret(fields.message().into_owned(), credential);
    if code.starts_with("28") {
        ConnectError::Authentication {
            message: format!("the target did not accept the credential: {message}"),
        }
    } else {
        ConnectError::Refused { code, message }
    }
}

/// A server that echoes the password does not get it into a record through us.
fn without_secret(message: String, credential: &Credential) -> String {
    let Proof::Password(secret) = &credential.proof else {
        return message;
    };
    match std::str::from_utf8(secret.expose()) {
        Ok(password) if !password.is_empty() && message.contains(password) => {
            "(its message held the password and is withheld)".to_owned()
        }
        _ => message,
    }
}

fn denied(message: &str) -> ConnectError {
    ConnectError::Authentication {
        message: message.to_owned(),
    }
}

fn protocol(message: &str) -> ConnectError {
    ConnectError::Protocol {
        message: message.to_owned(),
    }
}

fn broken(source: io::Error) -> ConnectError {
    ConnectError::Io {
        stage: "the login",
        source,
    }
}

async fn send(connection: &mut ServerConnection, bytes: &[u8]) -> Result<(), ConnectError> {
    connection.stream.write_all(bytes).await.map_err(broken)?;
    connection.stream.flush().await.map_err(broken)
}

/// Sends an answer and erases our copy of it.
async fn answer(
    connection: &mut ServerConnection,
    write: impl FnOnce(&mut BytesMut),
) -> Result<(), ConnectError> {
    let mut out = BytesMut::with_capacity(1024);
    write(&mut out);
    let sent = send(connection, &out).await;
    out.as_mut().zeroize();
    sent
}

async fn receive(connection: &mut ServerConnection) -> Result<Frame, ConnectError> {
    loop {
        if let Some(frame) = frame::next(connection.buffer.bytes_mut(), MAX_LOGIN_FRAME)? {
            return Ok(frame);
        }
        if connection
            .buffer
            .fill(&mut connection.stream)
            .await
            .map_err(broken)?
            == 0
        {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}
