//! How the target can fail us.

use chaperone_policy::Reason;
use chaperone_wire as wire;

use crate::codec::{FrameError, ProtocolError};

/// Why no session with the target came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No address, no connection, or no answer to one.
    #[error(transparent)]
    Unreachable(#[from] wire::ConnectError),
    /// The connection broke while logging in.
    #[error("the target closed the connection during {stage}: {source}")]
    Io {
        /// What was going on.
        stage: &'static str,
        /// The socket's error.
        source: std::io::Error,
    },
    /// The deadline passed while logging in.
    #[error("the target did not finish the login in time")]
    TimedOut,
    /// The target has no TLS and the Connection asks for it.
    #[error("the target offers no tls; enable it there, or write tls mode Disable")]
    TlsNotOffered,
    /// TLS failed, or its settings are unusable.
    #[error(transparent)]
    Tls(#[from] wire::TlsError),
    /// The credential was not accepted, or the target asks for one we do not give.
    #[error("{message}")]
    Authentication {
        /// The server's words, or ours; never any of the credential.
        message: String,
    },
    /// The target ended the login for another reason: no such database, starting up, too many
    /// connections …
    #[error("the target refused the session: {message} (SQLSTATE {code})")]
    Refused {
        /// The server's SQLSTATE.
        code: String,
        /// The server's words.
        message: String,
    },
    /// The target does not speak the protocol as it must.
    #[error("the target broke the protocol: {message}")]
    Protocol {
        /// How.
        message: String,
    },
    /// A setting that classification relies on is not what was asked for.
    #[error("the target reports {name} as {value:?}; it must be {wanted}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What ParameterStatus said.
        value: String,
        /// What it must be.
        wanted: &'static str,
    },
}

impl ConnectError {
    /// The constant for this failure.
    pub fn reason(&self) -> Reason {
        match self {
            ConnectError::Unreachable(error) => error.reason(),
            ConnectError::Io { .. } | ConnectError::TimedOut => Reason::TargetUnreachable,
            ConnectError::TlsNotOffered => Reason::TargetTls,
            ConnectError::Tls(error) => error.reason(),
            ConnectError::Authentication { .. } => Reason::TargetAuthentication,
            ConnectError::Refused { .. } => Reason::TargetRefused,
            ConnectError::Protocol { .. } | ConnectError::Setting { .. } => Reason::TargetProtocol,
        }
    }
}

impl From<ProtocolError> for ConnectError {
    fn from(error: ProtocolError) -> ConnectError {
        ConnectError::Protocol {
            message: error.to_string(),
        }
    }
}

impl From<FrameError> for ConnectError {
    fn from(error: FrameError) -> ConnectError {
        ConnectError::Protocol {
            message: error.to_string(),
        }
    }
}

/// Why a query of our own failed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The connection broke.
    #[error("the target closed the connection: {0}")]
    Io(#[from] std::io::Error),
    /// The deadline passed. The connection cannot be used again.
    #[error("the target did not answer a catalog query in time")]
    TimedOut,
    /// The target does not speak the protocol as it must.
    #[error("the target broke the protocol: {message}")]
    Protocol {
        /// How.
        message: String,
    },
    /// The server answered with an error; the connection is ready again.
    #[error("the target refused a catalog query: {message} (SQLSTATE {code})")]
    Server {
        /// The server's SQLSTATE.
        code: String,
        /// The server's words.
        message: String,
    },
}

impl QueryError {
    /// The constant for this failure.
    pub fn reason(&self) -> Reason {
        match self {
            QueryError::Io(_) | QueryError::TimedOut => Reason::TargetUnreachable,
            QueryError::Protocol { .. } => Reason::TargetProtocol,
            QueryError::Server { .. } => Reason::TargetRefused,
        }
    }
}

impl From<ProtocolError> for QueryError {
    fn from(error: ProtocolError) -> QueryError {
        QueryError::Protocol {
            message: error.to_string(),
        }
    }
}

impl From<FrameError> for QueryError {
    fn from(error: FrameError) -> QueryError {
        QueryError::Protocol {
            message: error.to_string(),
        }
    }
}
