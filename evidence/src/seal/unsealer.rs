//! Runs to frames, for readers: the seals of a log as they come, and what opens them.

use std::collections::HashMap;
use std::sync::Arc;

use super::{DataKey, KeyName, Keyring, Place, Seal, Secret, ShippedKeys, Unwrapped};
use crate::codec::{Malformed, Reader};
use crate::entry::SignedRun;
use crate::record::AttachId;

/// File of a store that was written out of a log: bodies of Seal entries that went under a tombstone,
/// each after its length (u32).
pub(crate) const SEALS_BEFORE: &str = "seals";

/// Opens runs with what a keyring has.
#[derive(Debug, Default)]
pub(crate) struct Unsealer {
    keys: Arc<Keyring>,
    shipped: ShippedKeys,
    secrets: HashMap<(AttachId, u32), Secret>,
}

/// A run's frames, or why there are none.
#[derive(Debug)]
pub(crate) enum Frames {
    /// One after the other.
    Clear(Vec<u8>),
    /// They are sealed, and there is no key for them.
    Sealed,
    /// The key that was given for the session does not open them.
    WrongKey,
    /// The session's key, by a secret that is what its seal commits to, does not open them.
    Broken,
    /// What is in them is not what the header says.
    Malformed(Malformed),
}

impl Unsealer {
    pub(crate) fn new(keys: Arc<Keyring>) -> Unsealer {
        Unsealer {
            keys,
            ..Unsealer::default()
        }
    }

    /// For those who only read a store: with the seals too that are gone from it under a tombstone.
    pub(crate) fn of(place: &Place) -> Unsealer {
        let mut unsealer = Unsealer::new(Arc::clone(place.keys()));
        let path = place.as_path().join(SEALS_BEFORE);
        let bytes = std::fs::read(path).unwrap_or_default();
        let mut r = Reader::new(&bytes);
        while let Ok(body) = r.bytes() {
            // One that does not hold opens nothing; verify says so.
            drop(unsealer.take_body(body));
        }
        unsealer
    }

    /// One that opens what this process has shipped itself.
    pub(crate) fn of_shipped(shipped: ShippedKeys) -> Unsealer {
        Unsealer {
            shipped,
            ..Unsealer::default()
        }
    }

    /// Takes a Seal entry. What is wrong with it, for those who verify.
    pub(crate) fn take(&mut self, seal: &Seal) -> Result<(), &'static str> {
        match seal.unwrap(self.keys.identities()) {
            Unwrapped::Secret(secret) => {
                self.secrets.insert((seal.attach, seal.number), secret);
                Ok(())
            }
            Unwrapped::NotForUs => Ok(()),
            Unwrapped::Invalid(why) => Err(why),
        }
    }

    /// Takes the body of a Seal entry, for those who only read.
    pub(crate) fn take_body(&mut self, body: &[u8]) -> Result<(), Malformed> {
        self.take(&Seal::decode(body)?).map_err(Malformed)
    }

    /// The key of that name: by its seal's secret, else as it was given; and whether it was given.
    pub(crate) fn key(&self, name: &KeyName) -> Option<(DataKey, bool)> {
        let derived = self
            .secrets
            .get(&(name.attach, name.seal))
            .and_then(|secret| secret.session_key(name.attach, name.session));
        match derived {
            Some(key) => Some((key, false)),
            None => {
                let given = self.keys.data_key(name).cloned();
                given
                    .or_else(|| self.shipped.get(name))
                    .map(|key| (key, true))
            }
        }
    }

    /// A run's frames.
    pub(crate) fn frames(&self, signed: &SignedRun<'_>) -> Frames {
        let clear = match &signed.run.sealed {
            None => signed.frames(signed.payload),
            Some(sealed) => {
                let found = signed.run.key_name().and_then(|name| self.key(&name));
                let Some((key, given)) = found else {
                    return Frames::Sealed;
                };
                match key.open(signed.lead, sealed.nonce, signed.payload) {
                    Some(compressed) => signed.frames(&compressed),
                    None if given => return Frames::WrongKey,
                    None => return Frames::Broken,
                }
            }
        };
        match clear {
            Ok(frames) => Frames::Clear(frames),
            Err(error) => Frames::Malformed(error),
        }
    }

    /// The same for those who only read: none where it is sealed and there is no key.
    pub(crate) fn readable(&self, signed: &SignedRun<'_>) -> Result<Option<Vec<u8>>, Malformed> {
        match self.frames(signed) {
            Frames::Clear(frames) => Ok(Some(frames)),
            Frames::Sealed => Ok(None),
            Frames::WrongKey => Err(Malformed("the key of its session does not open it")),
            Frames::Broken => Err(Malformed("its sealed frames were changed")),
            Frames::Malformed(error) => Err(error),
        }
    }
}
