//! What can go wrong with an approval, each with the reason constant a client is given.

use std::path::PathBuf;

use chaperone_policy::Reason;

use crate::rules::Phase;

/// Why an approval could not be asked for, reviewed or redeemed.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    /// The subject already waits for as many humans as it may.
    #[error(
        "{pending} requests of this subject wait for a human already (at most {limit}); get one reviewed or cancel one"
    )]
    TooManyPending {
        /// How many are pending.
        pending: usize,
        /// How many may be.
        limit: usize,
    },
    /// The command is more than a human can judge.
    #[error(
        "the command, its parameters or its objects are too many for an approver to judge ({size}, at most {limit}); split the command"
    )]
    TooLargeToApprove {
        /// Bytes of command and parameters, or how many of what else is too much.
        size: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The caller's request makes no sense: no approvers, a quorum of zero.
    #[error("the approval cannot be asked for: {0}")]
    Invalid(String),
    /// There is no such request.
    #[error("no approval request is named '{0}'; `kubectl-chaperone approvals` lists them")]
    NotFound(String),
    /// The request is not (or no longer) approved.
    #[error("approval request {name} is {phase}, not Approved")]
    NotApproved {
        /// The request.
        name: String,
        /// What it is instead.
        phase: Phase,
    },
    /// The grant was used before.
    #[error("approval request {0} was used already; a grant releases exactly one command")]
    AlreadyRedeemed(String),
    /// The grant is for something else.
    #[error("approval request {name} was granted for another {what}")]
    TupleMismatch {
        /// The request.
        name: String,
        /// Which part differs: `subject`, `connection`, `command` or `rule`.
        what: &'static str,
    },
    /// Somebody who may not review tried to.
    #[error("{reviewer} may not review {name}: {why}")]
    ReviewRefused {
        /// The request.
        name: String,
        /// Who tried.
        reviewer: String,
        /// Why not.
        why: String,
    },
    /// The file is not a request as it was written. It counts as not approved.
    #[error("{} is not an approval request as it was written: {why}; it grants nothing, delete it", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with line and column where there is one.
        why: String,
    },
    /// The folder's lock could not be had.
    #[error("{} is locked by another process for more than {seconds} s; see which with `fuser`", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// The file system said no.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `write`.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The operator said no.
    #[error("{message}")]
    Refused {
        /// The constant that it named.
        reason: Reason,
        /// A sentence that says what to do.
        message: String,
    },
    /// The operator gave no answer.
    #[error("the operator cannot be reached for approvals: {0}; run the same command again later")]
    Unreachable(String),
    /// A background task did not finish.
    #[error("the approvals folder's worker stopped: {0}")]
    Worker(String),
}

impl ApprovalError {
    /// The constant for the client's error, the record and the metric.
    pub fn reason(&self) -> Reason {
        match self {
            ApprovalError::TooManyPending { .. } => Reason::TooManyPending,
            ApprovalError::TooLargeToApprove { .. } => Reason::TooLargeToApprove,
            ApprovalError::NotApproved { phase, .. } => phase.reason(),
            ApprovalError::Refused { reason, .. } => *reason,
            ApprovalError::Unreachable(_)
            | ApprovalError::Invalid(_)
            | ApprovalError::NotFound(_)
            | ApprovalError::AlreadyRedeemed(_)
            | ApprovalError::TupleMismatch { .. }
            | ApprovalError::ReviewRefused { .. }
            | ApprovalError::Malformed { .. }
            | ApprovalError::Locked { .. }
            | ApprovalError::Io { .. }
            | ApprovalError::Worker(_) => Reason::ApprovalUnavailable,
        }
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: std::io::Error,
    ) -> ApprovalError {
        ApprovalError::Io {
            action,
            path: path.into(),
            source,
        }
    }
}
