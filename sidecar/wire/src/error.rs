//! How reaching a target can fail.

use std::net::IpAddr;

use chaperone_policy::Reason;

use crate::SpecialAddress;

/// Why no connection to a target came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host is neither a literal address nor a name that DNS can be asked for.
    #[error("\"{host}\" is neither an address nor a host name")]
    NotAName {
        /// As written in the Connection.
        host: String,
    },
    /// The address may not be a target (threat-model.md, row 8).
    #[error("{host} is {address}, {kind}, which is never a target here")]
    Special {
        /// As written in the Connection.
        host: String,
        /// What it is or resolved to.
        address: IpAddr,
        /// Which special range it is in.
        kind: SpecialAddress,
    },
    /// DNS had no answer.
    #[error("cannot resolve {host}: {message}")]
    Dns {
        /// As written in the Connection.
        host: String,
        /// What the resolver said.
        message: String,
    },
    /// No address took the connection.
    #[error("cannot connect to {target}: {source}")]
    Io {
        /// `host:port`, with the address tried last.
        target: String,
        /// The error of the address tried last.
        source: std::io::Error,
    },
    /// The deadline passed first.
    #[error("{target} did not answer in time while {stage}")]
    TimedOut {
        /// `host:port`.
        target: String,
        /// What was being waited for: `resolving`, `connecting`.
        stage: &'static str,
    },
}

impl ConnectError {
    /// The constant for this failure.
    pub fn reason(&self) -> Reason {
        match self {
            ConnectError::NotAName { .. }
            | ConnectError::Special { .. }
            | ConnectError::Dns { .. }
            | ConnectError::Io { .. }
            | ConnectError::TimedOut { .. } => Reason::TargetUnreachable,
        }
    }
}

/// Why TLS to a target is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA's PEM holds no usable certificate.
    #[error("the ca cannot be used: {message}")]
    BadCa {
        /// What is wrong with it.
        message: String,
    },
    /// The client certificate and its key do not work together.
    #[error("the client certificate cannot be used: {message}")]
    BadIdentity {
        /// What is wrong with it; nothing of the key.
        message: String,
    },
    /// The TLS library cannot do what was asked for.
    #[error("tls is not available: {message}")]
    Unavailable {
        /// The library's words.
        message: String,
    },
    /// The host cannot be a certificate's name.
    #[error("\"{host}\" is not a name a certificate can carry")]
    NotAName {
        /// As written in the Connection.
        host: String,
    },
    /// The handshake failed: most often the certificate was not accepted.
    #[error("tls handshake with {host} failed: {source}")]
    Handshake {
        /// As written in the Connection.
        host: String,
        /// The library's error.
        source: std::io::Error,
    },
    /// The deadline passed first.
    #[error("{host} did not finish the tls handshake in time")]
    TimedOut {
        /// As written in the Connection.
        host: String,
    },
    /// An agent's handshake failed: most often it did not accept our certificate.
    #[error("the agent's tls handshake failed: {source}")]
    Agent {
        /// The library's error.
        source: std::io::Error,
    },
    /// An agent's handshake took too long.
    #[error("the agent did not finish the tls handshake in time")]
    AgentTimedOut,
}

impl TlsError {
    /// The constant for this failure.
    pub fn reason(&self) -> Reason {
        match self {
            TlsError::BadCa { .. } | TlsError::BadIdentity { .. } => Reason::RefNotFound,
            TlsError::Unavailable { .. }
            | TlsError::NotAName { .. }
            | TlsError::Handshake { .. }
            | TlsError::TimedOut { .. } => Reason::TargetTls,
            TlsError::Agent { .. } | TlsError::AgentTimedOut => Reason::ProtocolViolation,
        }
    }
}
