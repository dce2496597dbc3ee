//! What can go wrong, with the exit code it means.

use std::io;
use std::process::ExitCode;

use chaperone_approvals::ApprovalError;
use chaperone_evidence::StoreError;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(
        "no cluster: {0}; name one with --kubeconfig or --context, or give --state DIR (or set \
         CHAPERONE_STATE) with the folder of a standalone sidecar"
    )]
    NoCluster(String),
    #[error("{0} needs a cluster; leave --state and CHAPERONE_STATE out")]
    NeedsCluster(&'static str),
    #[error("{what}: {why}")]
    Cluster { what: String, why: String },
    #[error("the store of pod {pod} cannot be read: {why}; `verify` says what is wrong with it")]
    Store { pod: String, why: String },
    #[error("approval request {name} cannot be read: {why}; it grants nothing")]
    Request { name: String, why: String },
    #[error("{name} was not answered: {why}")]
    Refused { name: String, why: String },
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Evidence(#[from] StoreError),
    #[error("{0}")]
    Approval(#[from] ApprovalError),
    #[error("cannot print the result: {0}")]
    Output(#[from] io::Error),
    #[error("cannot print the result as {format}: {why}")]
    Encode { format: &'static str, why: String },
}

impl CliError {
    /// The reason constant, where the error has one.
    pub(crate) fn reason(&self) -> Option<chaperone_policy::Reason> {
        match self {
            // A wrong folder, or a key that is not given, is the caller's slip, not a fault of ours.
            CliError::Evidence(StoreError::NotFound(_) | StoreError::Sealed(_)) => None,
            CliError::Evidence(error) => Some(error.reason()),
            CliError::Approval(error) => Some(error.reason()),
            _ => None,
        }
    }

    /// 1 where the answer is no, else 2.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            CliError::Approval(ApprovalError::ReviewRefused { .. }) | CliError::Refused { .. } => {
                ExitCode::from(1)
            }
            _ => ExitCode::from(2),
        }
    }

    /// Whether the reader of our output went away, which is its right.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
