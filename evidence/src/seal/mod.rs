//! Sealed frames: what a store holds of a session can be read by those whom it was sealed for.
//!
//! ```text
//! Recipient (age1…) ◄─wraps─ secret of a Seal entry ─derives─► DataKey of a session ─AES-256-GCM─► runs
//!        Identity ─unwraps──────────┘                               └─ in a bundle, alone
//! ```
//! A [`Seal`] entry holds a random secret, wrapped for the store's recipients as a file of age. A
//! session's key is derived from it, so a key that is handed on opens one session and leads to no
//! other. The header of a run stays clear: everybody can verify that a store is whole, and who has
//! the key what is in it. The sidecar forgets a secret within an hour and a session's key when the
//! session has ended: it cannot read what it wrote.

mod age;
mod entry;
mod keyring;
mod shipped;
mod unsealer;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::codec::Malformed;
use crate::frame::{Hash, sha256};
use crate::record::{AttachId, SessionId};

pub use age::{AgeError, Identity, MAX_RECIPIENTS, Recipient, decrypt, encrypt};
pub(crate) use entry::{Seal, Unwrapped};
pub use keyring::{Keyring, Place};
pub(crate) use keyring::{SEAL_KEY, read_identities};
pub use shipped::ShippedKeys;
pub(crate) use unsealer::{Frames, SEALS_BEFORE, Unsealer};
pub(crate) use writer::{ActiveSeal, Recipients, RunKey, SealState};

const SECRET_DOMAIN: &[u8] = b"chaperone seal secret v1\0";
const SESSION_INFO: &[u8] = b"chaperone session key v1\0";
const FRAMES_DOMAIN: &[u8] = b"chaperone sealed frames v1\0";

/// Bytes of a nonce. It is random: one key seals at most 2³² runs, of which two have the same nonce
/// with a chance below 2⁻³² (NIST SP 800-38D, section 8.3). At one run a second that is a session
/// of 136 years.
pub(crate) const NONCE: usize = NONCE_LEN;

/// What the sessions' keys of one Seal entry are derived from.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// By which another secret is noticed; it gives nothing of this one away.
    fn commitment(&self) -> Hash {
        sha256(&[SECRET_DOMAIN, self.0.as_ref()])
    }

    /// The key of a session's runs that `attach` signs under this secret.
    pub(crate) fn session_key(&self, attach: AttachId, session: SessionId) -> Option<DataKey> {
        let info = [SESSION_INFO, &attach.0, &session.0].concat();
        age::derive(self.0.as_ref(), &[], &info).map(DataKey)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The key of one session's runs under one seal.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(…)")
    }
}

impl DataKey {
    /// 64 lower-case hex digits.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0.as_ref()))
    }

    /// Reads what [`DataKey::to_hex`] writes.
    pub fn from_hex(text: &str) -> Option<DataKey> {
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text, key.as_mut()).ok()?;
        let key = DataKey(key);
        (*key.to_hex() == text).then_some(key)
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, self.0.as_ref())
            .ok()
            .map(LessSafeKey::new)
    }

    /// Seals a run's compressed frames; `header` is the clear header up to and with the nonce.
    pub(crate) fn seal(
        &self,
        header: &[u8],
        nonce: [u8; NONCE],
        mut frames: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let aad = Aad::from([FRAMES_DOMAIN, header].concat());
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.cipher()?
            .seal_in_place_append_tag(nonce, aad, &mut frames)
            .ok()?;
        Some(frames)
    }

    /// Opens what [`DataKey::seal`] made. None for everything else: another key, header, nonce, or
    /// other bytes.
    pub(crate) fn open(&self, header: &[u8], nonce: [u8; NONCE], sealed: &[u8]) -> Option<Vec<u8>> {
        let aad = Aad::from([FRAMES_DOMAIN, header].concat());
        let mut frames = sealed.to_vec();
        let len = self
            .cipher()?
            .open_in_place(Nonce::assume_unique_for_key(nonce), aad, &mut frames)
            .ok()?
            .len();
        frames.truncate(len);
        Some(frames)
    }
}

/// Whose runs a [`DataKey`] opens: those of a session that an attach signed under one of its seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName {
    /// The attach that signs the runs.
    pub attach: AttachId,
    /// Number of its Seal entry, from 1.
    pub seal: u32,
    /// The session.
    pub session: SessionId,
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.attach, self.seal, self.session)
    }
}

impl KeyName {
    /// Reads what Display writes.
    pub(crate) fn parse(text: &str) -> Result<KeyName, Malformed> {
        let read = || {
            let mut words = text.split(' ');
            let id = |word: &str| -> Option<[u8; 8]> { hex::decode(word).ok()?.try_into().ok() };
            let name = KeyName {
                attach: AttachId(id(words.next()?)?),
                seal: words.next()?.parse().ok()?,
                session: SessionId(id(words.next()?)?),
            };
            (name.to_string() == text).then_some(name)
        };
        read().ok_or(Malformed("not an attach, a number and a session"))
    }
}
