//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677; PostgreSQL documentation,
//! section 55.3.1), with the exchange itself done by `postgres-protocol`.

use std::io;

use chaperone_wire::{Secret, server_end_point};
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};

use super::connect::AuthenticationMethod;
use super::error::ConnectError;

/// One exchange.
pub(super) struct Scram {
    exchange: ScramSha256,
    method: AuthenticationMethod,
    challenged: bool,
}

impl Scram {
    /// Chooses the mechanism: bound to the TLS connection where the server offers it and its
    /// certificate has a binding. A server that does not offer what it could have is told that we
    /// could, so that it notices when someone in between removed the offer (RFC 5802, section 6).
    pub(super) fn start(
        mechanisms: &[&str],
        certificate: Option<&[u8]>,
        password: &Secret,
    ) -> Result<Scram, ConnectError> {
        let end_point = certificate.and_then(server_end_point);
        let plus = mechanisms.contains(&SCRAM_SHA_256_PLUS);
        let (binding, method) = match end_point {
            Some(data) if plus => (
                ChannelBinding::tls_server_end_point(data),
                AuthenticationMethod::ScramPlus,
            ),
            _ if !mechanisms.contains(&SCRAM_SHA_256) => {
                return Err(ConnectError::Authentication {
                    message: format!(
                        "the target offers none of the mechanisms spoken here: {}",
                        mechanisms.join(", ")
                    ),
                });
            }
            Some(_) => (ChannelBinding::unrequested(), AuthenticationMethod::Scram),
            None => (ChannelBinding::unsupported(), AuthenticationMethod::Scram),
        };
        Ok(Scram {
            exchange: ScramSha256::new(password.expose(), binding),
            method,
            challenged: false,
        })
    }

    /// The mechanism's registered name.
    pub(super) fn mechanism(&self) -> &'static str {
        match self.method {
            AuthenticationMethod::ScramPlus => SCRAM_SHA_256_PLUS,
            _ => SCRAM_SHA_256,
        }
    }

    /// Which of the two it is.
    pub(super) fn method(&self) -> AuthenticationMethod {
        self.method
    }

    /// What to send next.
    pub(super) fn message(&self) -> &[u8] {
        self.exchange.message()
    }

    /// Takes the server's challenge; then [`Scram::message`] is the answer.
    pub(super) fn challenge(&mut self, challenge: &[u8]) -> Result<(), ConnectError> {
        if std::mem::replace(&mut self.challenged, true) {
            return Err(failed(io::Error::other("a second challenge")));
        }
        self.exchange.update(challenge).map_err(failed)
    }

    /// Checks the server's proof that it knows the password too.
    pub(super) fn finish(mut self, verifier: &[u8]) -> Result<(), ConnectError> {
        self.exchange.finish(verifier).map_err(failed)
    }
}

fn failed(error: io::Error) -> ConnectError {
    ConnectError::Authentication {
        message: format!("the target failed the scram exchange: {error}"),
    }
}
