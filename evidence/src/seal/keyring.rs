//! What a reader opens sealed frames with, and where it finds it.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{DataKey, Identity, KeyName};
use crate::codec::Malformed;
use crate::error::StoreError;
use crate::record::SessionId;
use crate::store::corrupt;

/// A standalone store's own identities, where it has any: whoever may read the folder reads it.
pub(crate) const SEAL_KEY: &str = "keys/seal.key";

/// Identities, and keys of single sessions.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    identities: Vec<Identity>,
    keys: BTreeMap<KeyName, DataKey>,
}

impl Keyring {
    /// One that opens whatever was sealed for one of `identities`.
    pub fn new(identities: Vec<Identity>) -> Keyring {
        Keyring {
            identities,
            keys: BTreeMap::new(),
        }
    }

    /// Adds a session's key.
    pub fn insert(&mut self, name: KeyName, key: DataKey) {
        self.keys.insert(name, key);
    }

    /// The identities.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// Whether it has a key of that session.
    pub fn opens(&self, session: &SessionId) -> bool {
        self.keys.keys().any(|name| name.session == *session)
    }

    /// The key of that name, if it was given as such.
    pub(crate) fn data_key(&self, name: &KeyName) -> Option<&DataKey> {
        self.keys.get(name)
    }

    /// Keeps the keys of these alone.
    pub fn retain(&mut self, mut keep: impl FnMut(&KeyName) -> bool) {
        self.keys.retain(|name, _| keep(name));
    }

    /// What it has keys of, ascending.
    pub fn names(&self) -> impl Iterator<Item = KeyName> + '_ {
        self.keys.keys().copied()
    }

    /// The sessions' keys as text: a line for each, its name and 64 hex digits.
    pub fn keys_to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for (name, key) in &self.keys {
            text.push_str(&name.to_string());
            text.push(' ');
            text.push_str(&key.to_hex());
            text.push('\n');
        }
        text
    }

    /// Adds the keys of a text that [`Keyring::keys_to_text`] wrote.
    ///
    /// # Errors
    /// Where it is not such a text, byte for byte; in words.
    pub fn add_text(&mut self, text: &str) -> Result<(), &'static str> {
        self.take_keys(text).map_err(|error| error.0)
    }

    /// The same within this crate.
    pub(crate) fn take_keys(&mut self, text: &str) -> Result<(), Malformed> {
        let mut read = Keyring::default();
        for line in text.lines() {
            let (name, key) = line
                .rsplit_once(' ')
                .ok_or(Malformed("a line that names no key"))?;
            let key = DataKey::from_hex(key).ok_or(Malformed("a key that is not 64 digits"))?;
            read.insert(KeyName::parse(name)?, key);
        }
        if *read.keys_to_text() != text {
            return Err(Malformed("it is not written as it must be"));
        }
        self.keys.extend(read.keys);
        Ok(())
    }

    /// Adds all that another has.
    pub fn extend(&mut self, other: &Keyring) {
        self.identities.extend(other.identities.iter().cloned());
        let keys = other.keys.iter().map(|(name, key)| (*name, key.clone()));
        self.keys.extend(keys);
    }
}

/// The identities in a store's own key file; none where there is no such file. It is read strictly,
/// as every key file of a store: lines of identities and nothing else.
pub(crate) fn read_identities(dir: &Path) -> Result<Vec<Identity>, StoreError> {
    let path = dir.join(SEAL_KEY);
    let text = match std::fs::read_to_string(&path).map(Zeroizing::new) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            return Err(corrupt(dir, SEAL_KEY, "it is not text"));
        }
        Err(error) => return Err(StoreError::io("read", &path, error)),
    };
    let bad = || corrupt(dir, SEAL_KEY, "it is not one identity of age a line");
    let mut found = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').ok_or_else(bad)?;
        found.push(Identity::parse(line).map_err(|_| bad())?);
        rest = after;
    }
    if found.is_empty() {
        return Err(bad());
    }
    Ok(found)
}

/// A store's folder, and what to read it with: what is given, and the folder's own identities.
#[derive(Debug, Clone)]
pub struct Place {
    dir: PathBuf,
    keys: Arc<Keyring>,
}

impl Place {
    /// A folder that is read with these keys too.
    pub fn new(dir: &Path, keys: &Keyring) -> Place {
        let mut all = keys.clone();
        // One that cannot be read opens nothing; verify says what is wrong with it.
        all.identities
            .extend(read_identities(dir).unwrap_or_default());
        Place {
            dir: dir.to_path_buf(),
            keys: Arc::new(all),
        }
    }

    /// The folder.
    pub fn as_path(&self) -> &Path {
        &self.dir
    }

    /// The keys.
    pub fn keys(&self) -> &Arc<Keyring> {
        &self.keys
    }
}

impl From<&Path> for Place {
    fn from(dir: &Path) -> Place {
        Place::new(dir, &Keyring::default())
    }
}

impl From<&PathBuf> for Place {
    fn from(dir: &PathBuf) -> Place {
        Place::from(dir.as_path())
    }
}

impl From<&Place> for Place {
    fn from(place: &Place) -> Place {
        place.clone()
    }
}

impl Deref for Place {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.dir
    }
}
