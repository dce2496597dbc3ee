//! The keys of a bundle's sessions: what makes them readable, and nothing else in the same stores.

use std::sync::Arc;

use super::bundle::Files;
use super::key_finder::KeyFinder;
use crate::error::StoreError;
use crate::log::Log;
use crate::record::SessionId;
use crate::seal::{AgeError, Keyring, Place, Recipient, decrypt, encrypt};
use crate::segment::{self, relative_path};
use crate::store::corrupt;

/// The sessions' keys, for whoever has the bundle.
const KEYS: &str = "data.keys";
/// The same for those alone whom it was wrapped for.
const WRAPPED: &str = "data.keys.age";

/// The keys that open these sessions' runs, as far as `place` has what they come from.
///
/// # Errors
/// Where the store cannot be read.
pub fn keys_of(place: &Place, sessions: &[SessionId]) -> Result<Keyring, StoreError> {
    let log = Log::open(place)?;
    let mut finder = KeyFinder::new(Arc::clone(place.keys()), sessions.iter().copied());
    for number in log.segments {
        let bytes = segment::load(place, number)?;
        finder
            .segment(&bytes)
            .map_err(|error| corrupt(place, relative_path(number), error.0))?;
    }
    Ok(finder.finish().keys)
}

/// Adds keys to a bundle: as they are, or wrapped for `recipients` where there are any.
///
/// # Errors
/// Where they cannot be wrapped.
pub fn add_keys(
    files: &mut Files,
    keys: &Keyring,
    recipients: &[Recipient],
) -> Result<(), AgeError> {
    let text = keys.keys_to_text();
    if recipients.is_empty() {
        if !text.is_empty() {
            files.insert(KEYS.to_owned(), text.as_bytes().to_vec());
        }
        return Ok(());
    }
    let wrapped = encrypt(text.as_bytes(), recipients, &crate::clock::SystemEntropy)?;
    files.insert(WRAPPED.to_owned(), wrapped);
    Ok(())
}

/// `ring` with what the bundle has for it; else the file that cannot be read, and why.
pub(super) fn read_keys(
    files: &Files,
    ring: &Keyring,
) -> Result<Keyring, (&'static str, &'static str)> {
    let mut all = ring.clone();
    let mut take = |name, bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).map_err(|_| (name, "it is not text"))?;
        all.take_keys(text).map_err(|error| (name, error.0))
    };
    if let Some(bytes) = files.get(KEYS) {
        take(KEYS, bytes)?;
    }
    if let Some(file) = files.get(WRAPPED)
        && !ring.identities().is_empty()
    {
        match decrypt(file, ring.identities()) {
            Ok(text) => take(WRAPPED, &text)?,
            // Outside of what it is for it can still be verified.
            Err(AgeError::NoIdentity) => {}
            Err(_) => return Err((WRAPPED, "it was changed, or is no file of age")),
        }
    }
    Ok(all)
}
