//! Why an object could not be looked at to the end. What is wrong with the object itself is no
//! error but a condition.

use crate::digest_key::DigestKeyError;

/// A look that failed, to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server failed us.
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    /// There is no key to read approval requests with.
    #[error(transparent)]
    DigestKey(#[from] DigestKeyError),
    /// It took too long.
    #[error("it took too long")]
    TimedOut,
    /// An object without a name or namespace.
    #[error("the object has no {0}")]
    Nameless(&'static str),
}

impl ReconcileError {
    /// For the metric.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            ReconcileError::Api(_) => "ApiUnavailable",
            ReconcileError::DigestKey(_) => "DigestKey",
            ReconcileError::TimedOut => "TimedOut",
            ReconcileError::Nameless(_) => "Malformed",
        }
    }
}
