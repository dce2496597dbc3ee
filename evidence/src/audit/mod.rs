//! The log of a whole cluster: many pods' stores in one Merkle tree.
//!
//! ```text
//! pod's store ─segments─► ingest (check) ─► AuditSegment: entries ─leaves─► AuditCheckpoint: tree, note
//!      └─ its key: StoreCertificate, signed by the log key                        └─ signed by the log key
//! ```
//!
//! - [`LogKey`] certifies the key of each pod's store and signs checkpoints;
//! - [`check`] is what is looked at before anything is taken in;
//! - [`Tree`] is the Merkle tree as it grows (RFC 6962, section 2.1), [`Note`] its signed word
//!   (C2SP signed-note and tlog-checkpoint);
//! - [`Cut`] is the log's beginning as it is to go, [`Tombstone`] what then says that it is gone and
//!   what the rest is verified from;
//! - [`Unsealing`] says who was given the keys of which sessions, [`KeyFinder`] finds those;
//! - [`PackWriter`] puts what is old into one file, [`pack_lines`] reads it back;
//! - [`bundle`] is some of it cut out, with proofs (`proof`) that need not the rest;
//! - [`mod@verify`] holds all of it against the log's public key, then every store against its
//!   certificate, with the same pass that verifies a standalone store.
//!
//! These are plain values: who keeps them, and how they travel, is for others to say.

pub mod bundle;
mod bundle_keys;
mod certificate;
mod check;
mod collect;
mod cut;
mod key_finder;
mod note;
mod pack;
mod proof;
mod removed;
mod tombstone;
mod tree;
mod unsealing;
pub mod verify;

#[cfg(test)]
mod tests;

pub use bundle_keys::{add_keys, keys_of};
pub use certificate::{CertificateError, LogKey, Pod, StoreCertificate};
pub use check::{CheckError, Checked, check};
pub use collect::{Checkpoint, Collected, StoreFolder, write_stores};
pub use cut::{At, Cut, Hold};
pub use key_finder::{FoundKeys, KeyFinder};
pub use note::{Note, NoteError, ORIGIN};
pub use pack::{MAX_PACK, PackError, PackWriter, pack_lines};
pub use removed::Removed;
pub use tombstone::{Held, MAX_TOMBSTONE, Tombstone, TombstoneError};
pub use tree::{Tree, leaf_hash};
pub use unsealing::{MAX_UNSEALED, Unsealing, UnsealingError, unsealings};

use serde::{Deserialize, Serialize};

use crate::frame::{Hash, sha256};

/// What an entry of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EntryKind {
    /// A [`StoreCertificate`].
    Certificate,
    /// A part of a segment of a pod's store.
    Segment,
    /// A [`Tombstone`].
    Tombstone,
    /// An [`Unsealing`].
    Unseal,
}

impl EntryKind {
    fn as_str(self) -> &'static str {
        match self {
            EntryKind::Certificate => "Certificate",
            EntryKind::Segment => "Segment",
            EntryKind::Tombstone => "Tombstone",
            EntryKind::Unseal => "Unseal",
        }
    }
}

/// An entry's header: what its leaf is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod; of an unsealing, of its UnsealRequest.
    pub uid: String,
    /// Public key of the pod's store; of a tombstone and of an unsealing, the log's.
    pub store: [u8; 32],
    /// Number of the store's segment, from 1; 0 for a certificate and an unsealing; a tombstone's
    /// own number.
    pub number: u64,
    /// Which part of it, from 0.
    pub part: u32,
    /// How many parts it has.
    pub parts: u32,
    /// SHA-256 of its bytes.
    pub digest: Hash,
}

impl Entry {
    /// The leaf: a few lines of text, so that anyone can make it with what he has.
    ///
    /// ```text
    /// chaperone entry v1
    /// <kind> <namespace> <pod> <uid>
    /// <store, hex> <number> <part>/<parts>
    /// <digest, hex>
    /// ```
    /// each with its newline; no name of Kubernetes has a space in it.
    pub fn leaf(&self) -> Vec<u8> {
        format!(
            "chaperone entry v1\n{} {} {} {}\n{} {} {}/{}\n{}\n",
            self.kind.as_str(),
            self.namespace,
            self.pod,
            self.uid,
            hex::encode(self.store),
            self.number,
            self.part,
            self.parts,
            hex::encode(self.digest),
        )
        .into_bytes()
    }

    /// The leaf's hash (RFC 6962, section 2.1).
    pub fn leaf_hash(&self) -> Hash {
        leaf_hash(&self.leaf())
    }
}

/// SHA-256, as entries and checkpoints are named by.
pub fn digest(bytes: &[u8]) -> Hash {
    sha256(&[bytes])
}
