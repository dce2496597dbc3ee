//! The token that an agent proves its identity with, where a policy selects by identity.
//!
//! ```text
//! AuthenticationCleartextPassword ─► PasswordMessage: the token                  (unless asked otherwise)
//! AuthenticationSASL OAUTHBEARER ─► SASLInitialResponse: n,,^Aauth=Bearer TOKEN^A^A
//!                        refused: AuthenticationSASLContinue {"status": …} ─► SASLResponse ^A
//! ```
//!
//! A server offers one method and has to know which: every client speaks the first, and one that
//! wants the second says so with the startup option `chaperone.authentication=oauthbearer`. It
//! says only how the proof is brought, so that nothing is lost by believing it.

use std::time::Duration;

use bytes::BytesMut;
use chaperone_enforce::{Accepting, Denial};
use chaperone_identity::Verified;
use chaperone_policy::Reason;
use chaperone_wire::{ReadBuffer, Stream};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::startup::negotiate;
use crate::codec::frontend::tag;
use crate::codec::reader::Reader;
use crate::codec::{Startup, encode, frame};

/// The startup option that chooses the method, and its two values.
const OPTION: &str = "chaperone.authentication";
const PASSWORD: &str = "password";
const OAUTH: &str = "oauthbearer";

/// RFC 7628, section 3.
const MECHANISM: &str = "OAUTHBEARER";
/// `kvsep` of RFC 7628, section 3.1.
const SEPARATOR: u8 = 1;
/// Longest password or SASL message (`PG_MAX_AUTH_TOKEN_LENGTH` of PostgreSQL).
const MAX_MESSAGE: usize = 65_535;
/// How long a client may take to confirm a refusal before it is told in PostgreSQL's words.
const CONFIRMATION: Duration = Duration::from_secs(2);

/// How a token is brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Password,
    OauthBearer,
}

/// Why there is no identity.
#[derive(Debug)]
pub(super) enum Unproven {
    /// The agent is gone, or says nothing.
    Gone,
    /// It is told why not.
    Refused(Denial),
}

impl From<Denial> for Unproven {
    fn from(denial: Denial) -> Unproven {
        Unproven::Refused(denial)
    }
}

/// Asks for a token and verifies it. The version is negotiated first, where it has to be.
pub(super) async fn token(
    agent: &mut Stream,
    buffer: &mut ReadBuffer,
    startup: &Startup,
    accepting: Accepting,
    deadline: Instant,
) -> Result<Verified, Unproven> {
    let method = method(startup)?;
    // A token is as good as a password to whoever reads it on its way.
    let local = agent.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
    if !agent.is_tls() && !local {
        let denial = Denial::new(
            Reason::TokenRequired,
            "a token is asked for over TLS only, and this connection is not encrypted",
        );
        return Err(denial.with_hint("connect with sslmode=verify-full").into());
    }
    let mut out = BytesMut::new();
    negotiate(startup, &mut out);
    match method {
        Method::Password => encode::authentication_cleartext_password(&mut out),
        Method::OauthBearer => encode::authentication_sasl(&mut out, &[MECHANISM]),
    }
    agent.write_all(&out).await.map_err(|_| Unproven::Gone)?;
    let message = answer(agent, buffer, deadline).await?;
    match method {
        Method::Password => Ok(accepting.verify(password(&message)?).await?),
        Method::OauthBearer => {
            let token = bearer(&message)?;
            let issuer = accepting.issuer();
            match accepting.verify(token).await {
                Ok(verified) => Ok(verified),
                Err(denial) => {
                    explain(agent, buffer, issuer).await;
                    Err(denial.into())
                }
            }
        }
    }
}

/// Whether a startup setting is the one that is ours, and none of the server's.
pub(super) fn is_ours(setting: &str) -> bool {
    setting == OPTION
}

fn method(startup: &Startup) -> Result<Method, Denial> {
    let asked = startup.settings.iter().rfind(|(name, _)| is_ours(name));
    match asked.map(|(_, value)| value.as_str()) {
        None | Some(PASSWORD) => Ok(Method::Password),
        Some(OAUTH) => Ok(Method::OauthBearer),
        Some(_) => Err(Denial::new(
            Reason::SettingDenied,
            format!("{OPTION} is {PASSWORD} or {OAUTH}"),
        )),
    }
}

/// The body of the one message that may come now.
async fn answer(
    agent: &mut Stream,
    buffer: &mut ReadBuffer,
    deadline: Instant,
) -> Result<Zeroizing<Vec<u8>>, Unproven> {
    loop {
        match frame::next(buffer.bytes_mut(), MAX_MESSAGE) {
            Ok(Some(frame)) if frame.tag == tag::PASSWORD => {
                return Ok(Zeroizing::new(frame.body().to_vec()));
            }
            Ok(Some(_)) => return Err(violation("a token was asked for").into()),
            Ok(None) => {}
            Err(error) => return Err(Denial::new(error.reason(), error.to_string()).into()),
        }
        match timeout_at(deadline, buffer.fill(agent)).await {
            Ok(Ok(count)) if count > 0 => {}
            _ => return Err(Unproven::Gone),
        }
    }
}

/// PasswordMessage (PostgreSQL, section 55.7): one string and nothing after it.
fn password(body: &[u8]) -> Result<&str, Denial> {
    let mut reader = Reader::new("PasswordMessage", body);
    let malformed = |_| violation("the password message is malformed");
    let token = reader.str().map_err(malformed)?;
    reader.end().map_err(malformed)?;
    Ok(token)
}

/// The token of a SASLInitialResponse (PostgreSQL, section 55.3.2; RFC 7628, section 3.1); empty
/// where the client asks which issuer it is to turn to.
fn bearer(body: &[u8]) -> Result<&str, Denial> {
    let malformed = || violation("the OAUTHBEARER message is malformed");
    let mut reader = Reader::new("SASLInitialResponse", body);
    let mechanism = reader.str().map_err(|_| malformed())?;
    if mechanism != MECHANISM {
        return Err(violation("another mechanism than OAUTHBEARER was chosen"));
    }
    let length = reader.i32().map_err(|_| malformed())?;
    let data = reader.rest();
    if usize::try_from(length) != Ok(data.len()) {
        return Err(malformed());
    }
    let text = std::str::from_utf8(data).map_err(|_| malformed())?;
    // No channel binding, and nobody else to act as: a token says who it is of.
    let pairs = text
        .strip_prefix("n,,\u{1}")
        .or_else(|| text.strip_prefix("y,,\u{1}"))
        .and_then(|rest| rest.strip_suffix("\u{1}\u{1}"))
        .ok_or_else(malformed)?;
    let mut values = pairs
        .split(char::from(SEPARATOR))
        .filter_map(|pair| pair.strip_prefix("auth="));
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(malformed());
    };
    if value.is_empty() {
        return Ok(value);
    }
    // The scheme is read in any case (RFC 9110, section 11.1).
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim_start()),
        _ => Err(malformed()),
    }
}

/// Tells an OAUTHBEARER client that its token is none, and where to get one (RFC 7628, section
/// 3.2.2). It has to answer before the mechanism is over; whether it does changes nothing.
async fn explain(agent: &mut Stream, buffer: &mut ReadBuffer, issuer: Option<String>) {
    let mut why = serde_json::Map::new();
    why.insert("status".to_owned(), "invalid_token".into());
    if let Some(issuer) = issuer {
        let configuration = chaperone_identity::fetch::configuration_of(&issuer);
        why.insert("openid-configuration".to_owned(), configuration.into());
    }
    why.insert("scope".to_owned(), "openid".into());
    let mut out = BytesMut::new();
    let text = serde_json::Value::Object(why).to_string();
    encode::authentication_sasl_continue(&mut out, text.as_bytes());
    if agent.write_all(&out).await.is_ok() {
        let _ = answer(agent, buffer, Instant::now() + CONFIRMATION).await;
    }
}

fn violation(message: &str) -> Denial {
    Denial::new(Reason::ProtocolViolation, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn initial(mechanism: &str, data: &str) -> Vec<u8> {
        let mut out = BytesMut::new();
        encode::sasl_initial_response(&mut out, mechanism, data.as_bytes());
        out.get(frame::HEADER..).unwrap().to_vec()
    }

    #[test]
    fn a_bearer_token_is_read_from_what_rfc_7628_says_and_from_nothing_else() {
        for good in [
            "n,,\u{1}auth=Bearer a.b.c\u{1}\u{1}",
            "y,,\u{1}auth=bearer a.b.c\u{1}\u{1}",
            "n,,\u{1}host=h\u{1}port=5432\u{1}auth=Bearer  a.b.c\u{1}\u{1}",
        ] {
            assert_eq!(bearer(&initial(MECHANISM, good)).unwrap(), "a.b.c");
        }
        let asking = initial(MECHANISM, "n,,\u{1}auth=\u{1}\u{1}");
        assert_eq!(bearer(&asking).unwrap(), "");
        for bad in [
            "",
            "n,,",
            "n,,\u{1}\u{1}",
            "n,,\u{1}auth=Bearer a.b.c\u{1}",
            "n,,\u{1}auth=Basic a.b.c\u{1}\u{1}",
            "n,,\u{1}auth=a.b.c\u{1}\u{1}",
            "n,a=admin,\u{1}auth=Bearer a.b.c\u{1}\u{1}",
            "p=tls-exporter,,\u{1}auth=Bearer a.b.c\u{1}\u{1}",
            "n,,\u{1}auth=Bearer a\u{1}auth=Bearer b\u{1}\u{1}",
        ] {
            let denial = bearer(&initial(MECHANISM, bad)).unwrap_err();
            assert_eq!(denial.reason, Reason::ProtocolViolation, "{bad:?}");
        }
        let other = initial("SCRAM-SHA-256", "n,,\u{1}auth=Bearer a\u{1}\u{1}");
        assert!(bearer(&other).is_err());
        let mut long = initial(MECHANISM, "n,,\u{1}auth=Bearer a\u{1}\u{1}");
        long.push(b'x');
        assert!(bearer(&long).is_err(), "a length that is not the data's");
    }

    #[test]
    fn a_password_message_is_one_string() {
        assert_eq!(password(b"a.b.c\0").unwrap(), "a.b.c");
        for bad in [&b""[..], b"a.b.c", b"a\0b\0", b"\xff\0"] {
            assert!(password(bad).is_err(), "{bad:?}");
        }
    }
}
