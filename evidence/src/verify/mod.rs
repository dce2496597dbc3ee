//! Whether a store is whole and unchanged, and if not where it first is not.
//!
//! One pass over the log in its order: segments name the one before them, attaches are signed by
//! the log key and name the attach before, runs and heads are signed by the attach, heads name
//! what must be there by then. Within runs every frame is chained and read, and the rules of
//! `session.rs` hold. What is only in the spool is chained but not signed: an unproven tail.

mod keys;
mod session;
mod walk;

#[cfg(test)]
pub(crate) mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::Base;
use crate::error::StoreError;
use crate::log::Log;
use crate::record::{AttachId, SessionId};
use crate::seal::{Place, Unsealer};

/// What to verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Everything.
    All,
    /// One session's frames, and the log around it.
    Session(SessionId),
}

/// The log's public key, as the auditor knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustedKey {
    /// The Ed25519 public key.
    PublicKey([u8; 32]),
    /// Its fingerprint, `SHA256:…`.
    Fingerprint(String),
}

/// How deep a verification went, of the sessions that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Signatures and clear headers only, of some at least: their frames are sealed, and there was
    /// no key for them.
    Outer,
    /// Every frame.
    Full,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// The file, relative to the store.
    pub file: PathBuf,
    /// The session, where it is known.
    pub session: Option<SessionId>,
    /// The record, where it is known.
    pub sequence: Option<u64>,
    /// What is wrong.
    pub reason: BreakReason,
    /// The same in words, with what was expected.
    pub detail: String,
}

impl std::fmt::Display for Break {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if let Some(session) = self.session {
            write!(f, "session {session}")?;
            if let Some(sequence) = self.sequence {
                write!(f, ", record {sequence}")?;
            }
            f.write_str(": ")?;
        }
        write!(f, "{}: {}", self.reason.as_str(), self.detail)
    }
}

macro_rules! break_reasons {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// What can be wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum BreakReason { $($(#[$doc])* $name),+ }

        impl BreakReason {
            /// The constant, as users and machines read it.
            pub fn as_str(self) -> &'static str {
                match self { $(BreakReason::$name => stringify!($name)),+ }
            }
        }
    };
}

break_reasons! {
    /// A key file is missing, unreadable or not the log's.
    KeyMismatch,
    /// The log has no such segment, or cannot be read there.
    SegmentMissing,
    /// A segment's bytes are not what was written.
    SegmentChanged,
    /// A segment does not follow the one before it.
    SegmentOutOfOrder,
    /// An attach that others name is not there.
    AttachMissing,
    /// An attach's certificate does not hold.
    AttachInvalid,
    /// A signature does not hold.
    SignatureInvalid,
    /// A run's payload is not what was signed.
    RunChanged,
    /// An entry stands where none of its kind may.
    EntryMisplaced,
    /// Frames do not chain.
    ChainBroken,
    /// Records are missing between two that are there.
    RecordsMissing,
    /// Records are there twice or in another order.
    RecordsRepeated,
    /// A session that must be there is not.
    SessionMissing,
    /// A session, or the log, ends before what a signed head names.
    TailMissing,
    /// A head does not fit the log.
    HeadInvalid,
    /// A record cannot be read or breaks the rules of its kind.
    RecordInvalid,
    /// A command was forwarded without an intent before it that allows it.
    CommandWithoutIntent,
    /// An outcome names no intent.
    OutcomeWithoutIntent,
    /// An approval that an intent redeems is not recorded before it.
    ApprovalMissing,
    /// A seal cannot be read, does not follow, or does not hold the secret it commits to.
    SealInvalid,
    /// A run's sealed frames do not open under its session's key.
    SealBroken,
    /// A pod's store has no certificate of the log key.
    CertificateInvalid,
    /// The log has no such checkpoint.
    CheckpointMissing,
    /// A checkpoint is not signed, does not follow, or signs another tree.
    CheckpointInvalid,
    /// A tombstone is not the log key's, or claims what the log does not bear out.
    TombstoneInvalid,
    /// What says that sessions were unsealed is not the log key's, or not what its entry says.
    UnsealInvalid,
    /// A bundle is not what its manifest says.
    BundleInvalid,
    /// A bundle's proof does not show what it is to show.
    ProofInvalid,
}

/// Something short of proof that is no sign of tampering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The file, relative to the store, where it is about one.
    pub file: Option<PathBuf>,
    /// The session, where it is about one.
    pub session: Option<SessionId>,
    /// What.
    pub detail: String,
}

/// The result.
#[derive(Debug, Clone)]
pub struct Report {
    /// How deep it went.
    pub level: Level,
    /// Fingerprint of the log key that everything was checked against.
    pub fingerprint: String,
    /// Whether that key was given by the caller; otherwise it is the folder's own word.
    pub key_given: bool,
    /// Lives of sidecars seen.
    pub attaches: Vec<AttachId>,
    /// Sessions whose frames were checked.
    pub sessions: u64,
    /// The sessions among them of which only headers were checked, as there was no key to their
    /// frames.
    pub sealed: Vec<SessionId>,
    /// Records checked.
    pub records: u64,
    /// Records among them that only the spool has: chained, not signed yet.
    pub unproven: u64,
    /// Bytes of frames checked.
    pub bytes: u64,
    /// What is wrong, in the order met, at most [`MAX_BREAKS`]; empty if nothing is.
    pub breaks: Vec<Break>,
    /// What is not proven, at most [`MAX_NOTES`].
    pub notes: Vec<Note>,
}

/// Most breaks a report lists: after the first, each may follow from another.
pub const MAX_BREAKS: usize = 64;
/// Most notes a report lists.
pub const MAX_NOTES: usize = 4096;

impl Report {
    /// Nothing looked at yet.
    pub(crate) fn new(fingerprint: String, key_given: bool) -> Report {
        Report {
            level: Level::Full,
            fingerprint,
            key_given,
            attaches: Vec::new(),
            sessions: 0,
            sealed: Vec::new(),
            records: 0,
            unproven: 0,
            bytes: 0,
            breaks: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds what was found in one of many stores, whose files are below `prefix`.
    pub(crate) fn merge(&mut self, other: Report, prefix: &Path) {
        self.attaches.extend(other.attaches);
        self.sessions += other.sessions;
        for session in other.sealed {
            self.is_sealed(session);
        }
        self.records += other.records;
        self.unproven += other.unproven;
        self.bytes += other.bytes;
        for found in other.breaks {
            self.wrong(Break {
                file: prefix.join(found.file),
                ..found
            });
        }
        for note in other.notes {
            // A written-out store has no private keys, which is as it should be.
            if note.file.as_ref().is_some_and(|f| f.starts_with("keys")) {
                continue;
            }
            let file = note.file.map_or(prefix.to_path_buf(), |f| prefix.join(f));
            self.note(Some(file), note.session, note.detail);
        }
    }

    /// Whether nothing is wrong. Notes may still say what is not proven.
    pub fn ok(&self) -> bool {
        self.breaks.is_empty()
    }

    /// The first thing that is wrong.
    pub fn first_break(&self) -> Option<&Break> {
        self.breaks.first()
    }

    pub(crate) fn wrong(&mut self, found: Break) {
        if self.breaks.len() < MAX_BREAKS {
            self.breaks.push(found);
        }
    }

    /// A session that cannot be opened.
    pub(crate) fn is_sealed(&mut self, session: SessionId) {
        self.level = Level::Outer;
        self.sealed.push(session);
    }

    pub(crate) fn note(
        &mut self,
        file: Option<PathBuf>,
        session: Option<SessionId>,
        detail: impl Into<String>,
    ) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(Note {
                file,
                session,
                detail: detail.into(),
            });
        }
    }
}

/// Verifies the store in a folder (`STATE/evidence`), against `key` if the auditor has one, and as
/// deep as the keys there are open it. A store in use can be verified too.
///
/// Only the end of the log can be taken away unseen, with `latest` put back to what it was then:
/// an auditor who keeps a later head or attach elsewhere sees that too.
///
/// # Errors
/// Where the folder holds no evidence or cannot be read. What is wrong with the evidence is in
/// the report.
pub fn verify(
    place: impl Into<Place>,
    selection: &Selection,
    key: Option<&TrustedKey>,
) -> Result<Report, StoreError> {
    verify_from(place, selection, key, None, None)
}

/// As [`verify`], of a store out of a cluster's log whose beginning was removed: from `base` on, up
/// to and with the segment `until` if one is named.
pub(crate) fn verify_from(
    place: impl Into<Place>,
    selection: &Selection,
    key: Option<&TrustedKey>,
    base: Option<&Base>,
    until: Option<u64>,
) -> Result<Report, StoreError> {
    let place = place.into();
    let log = Log::open(&place)?;
    let mut report = Report::new(String::new(), key.is_some());
    let keys = keys::check(&log, key, &mut report);
    let unsealer = Unsealer::new(Arc::clone(place.keys()));
    walk::walk(&log, selection, &keys, unsealer, (base, until), &mut report)?;
    Ok(report)
}
