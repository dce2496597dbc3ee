//! A checkpoint's text and signature: C2SP tlog-checkpoint within a C2SP signed note.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::certificate::LogKey;
use crate::frame::{Hash, sha256};
use crate::keys::{SIGNATURE, verified};

/// First line of every checkpoint of such a log, and the name of its key.
pub const ORIGIN: &str = "chaperone.dev/log";
/// signed-note, "Signature types": Ed25519.
const ED25519_TYPE: u8 = 1;
const DASH: &str = "\u{2014} ";

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Leaves of the log.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
}

/// Why a note does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a checkpoint of this log.
    #[error("it is no checkpoint of a {ORIGIN}: {0}")]
    Malformed(&'static str),
    /// The log key did not sign it.
    #[error("the log key did not sign it")]
    Signature,
}

impl Note {
    /// The text that is signed.
    fn text(&self) -> String {
        format!("{ORIGIN}\n{}\n{}\n", self.size, STANDARD.encode(self.root))
    }

    /// The note, signed. None where signing fails.
    pub fn sign(&self, key: &LogKey) -> Option<String> {
        let text = self.text();
        let signature = key.sign_text(text.as_bytes())?;
        let mut named = key_hash(key.public()).to_vec();
        named.extend_from_slice(&signature);
        Some(format!(
            "{text}\n{DASH}{ORIGIN} {}\n",
            STANDARD.encode(named)
        ))
    }

    /// Reads a note and holds it against the log's public key.
    ///
    /// # Errors
    /// Where it is not such a note, byte for byte, or another key signed it.
    pub fn open(note: &str, public: &[u8; 32]) -> Result<Note, NoteError> {
        let (text, signatures) = note
            .split_once("\n\n")
            .ok_or(NoteError::Malformed("it has no signature"))?;
        let mut lines = text.split('\n');
        if lines.next() != Some(ORIGIN) {
            return Err(NoteError::Malformed("it is of another log"));
        }
        let size = lines
            .next()
            .and_then(|size| size.parse().ok())
            .ok_or(NoteError::Malformed("it has no size"))?;
        let root = lines
            .next()
            .and_then(|root| STANDARD.decode(root).ok())
            .and_then(|root| root.try_into().ok())
            .ok_or(NoteError::Malformed("it has no root"))?;
        let read = Note { size, root };
        let text = read.text();
        if note.strip_prefix(&text) != Some(&format!("\n{signatures}")) {
            return Err(NoteError::Malformed("it is not written as it must be"));
        }
        let signed = signatures.lines().any(|line| {
            line.strip_prefix(DASH)
                .and_then(|line| line.strip_prefix(ORIGIN))
                .and_then(|line| line.strip_prefix(' '))
                .and_then(|named| STANDARD.decode(named).ok())
                .is_some_and(|named| holds(&named, text.as_bytes(), public))
        });
        if signed {
            Ok(read)
        } else {
            Err(NoteError::Signature)
        }
    }
}

fn holds(named: &[u8], text: &[u8], public: &[u8; 32]) -> bool {
    named.len() == 4 + SIGNATURE
        && named.split_at_checked(4).is_some_and(|(hash, signature)| {
            hash == key_hash(public) && verified(public, b"", text, signature)
        })
}

/// signed-note, "Key hash": the first four bytes of SHA-256 over name, newline, type and key.
fn key_hash(public: &[u8; 32]) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&[ORIGIN.as_bytes(), b"\n", &[ED25519_TYPE], public]);
    [a, b, c, d]
}
