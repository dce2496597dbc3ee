//! What can go wrong while recording and while opening a store.

use std::io;
use std::path::PathBuf;

use chaperone_policy::Reason;

/// Why something could not be recorded. Nothing may be forwarded after one of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The spool is dead: a write or an fdatasync failed and is never retried.
    #[error("the evidence spool failed and takes no more records: {0}")]
    Dead(String),
    /// The level asked for was not reached in time.
    #[error("the record did not become durable within {0} s")]
    Timeout(u64),
    /// An earlier record timed out and the spool has not caught up.
    #[error("the evidence spool is stalled; an earlier record is still waiting")]
    Stalled,
    /// The spool is full and nothing was shipped in time.
    #[error("the evidence spool is full; free space in the state folder")]
    Full,
    /// The caller let too much pile up without a flush.
    #[error("more than {0} bytes of records wait to be written")]
    Backlog(usize),
    /// A permit was asked for under a decision that forwards nothing.
    #[error("the decision does not allow forwarding")]
    NotAllowed,
    /// A record is longer than the spool can take.
    #[error("the record is too long to be kept")]
    TooLarge,
    /// The recorder has detached, or the session has ended.
    #[error("the recorder is closed")]
    Closed,
}

impl RecordError {
    /// The constant for the client's error, the metric and the log.
    pub fn reason(&self) -> Reason {
        match self {
            RecordError::NotAllowed => Reason::Internal,
            _ => Reason::CannotRecord,
        }
    }
}

/// Why a store could not be opened, attached to, or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system said no.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// The verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another sidecar holds the folder.
    #[error("{0} is in use by another sidecar; give each its own state folder")]
    InUse(PathBuf),
    /// The store's digests are made with another key than the one given.
    #[error("{0} holds evidence under another digest key; keep it, and record into another folder")]
    OtherDigestKey(PathBuf),
    /// There is no store.
    #[error("{0} holds no evidence; give the state folder of a standalone sidecar")]
    NotFound(PathBuf),
    /// A file is not what it should be.
    #[error("{path}: {what}; run verify to see what is wrong")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// No session of that name.
    #[error("no session {0}; `sessions` lists them")]
    NoSession(String),
    /// More than one session starts with these digits.
    #[error("{0} names more than one session; give more of its digits")]
    Ambiguous(String),
    /// A session's frames are sealed.
    #[error(
        "session {0} is sealed for somebody else; give a key that it was sealed for with --identity"
    )]
    Sealed(String),
    /// The store was opened to be read.
    #[error("the store is open read-only")]
    ReadOnly,
    /// The random number generator or a signature failed.
    #[error("cryptography failed: {0}")]
    Crypto(&'static str),
}

impl StoreError {
    /// The constant for logs and conditions.
    pub fn reason(&self) -> Reason {
        match self {
            StoreError::Io { .. }
            | StoreError::InUse(_)
            | StoreError::OtherDigestKey(_)
            | StoreError::Corrupt { .. } => Reason::CannotRecord,
            _ => Reason::Internal,
        }
    }

    pub(crate) fn io(doing: &'static str, path: &std::path::Path, source: io::Error) -> StoreError {
        StoreError::Io {
            doing,
            path: path.to_path_buf(),
            source,
        }
    }
}
