//! The sealing side, on the shipper's thread.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use zeroize::Zeroizing;

use super::{DataKey, KeyName, NONCE, Recipient, Seal, Secret, encrypt};
use crate::clock::Environment;
use crate::engine::lock;
use crate::entry::Sealed;
use crate::keys::SigningKey;
use crate::record::{AttachId, SessionId};

/// A secret is used for new sessions this long at most, and then forgotten.
const SEAL_EVERY_NS: u64 = 3_600_000_000_000;

/// For whom is sealed from now on; none: nothing is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recipients(Arc<Mutex<(u64, Vec<Recipient>)>>);

impl Recipients {
    pub(crate) fn new(recipients: Vec<Recipient>) -> Recipients {
        Recipients(Arc::new(Mutex::new((1, recipients))))
    }

    /// Sessions that begin from now on are sealed for these.
    pub(crate) fn replace(&self, recipients: &[Recipient]) {
        let mut current = lock(&self.0);
        if current.1 != recipients {
            *current = (current.0 + 1, recipients.to_vec());
        }
    }

    fn get(&self) -> (u64, Vec<Recipient>) {
        lock(&self.0).clone()
    }
}

/// A secret that is in use.
#[derive(Debug)]
pub(crate) struct ActiveSeal {
    attach: AttachId,
    number: u32,
    secret: Secret,
    /// Of the recipients that it is for.
    generation: u64,
    begun_ns: u64,
}

impl ActiveSeal {
    /// The key of a session that this attach ships.
    pub(crate) fn key(&self, session: SessionId) -> Option<RunKey> {
        Some(RunKey {
            seal: self.number,
            key: Arc::new(self.secret.session_key(self.attach, session)?),
        })
    }
}

/// What a run is sealed with.
#[derive(Debug, Clone)]
pub(crate) struct RunKey {
    seal: u32,
    key: Arc<DataKey>,
}

impl RunKey {
    /// What the header of the next run says of it.
    pub(crate) fn header(&self, environment: &Environment, ends: bool) -> io::Result<Sealed> {
        let mut nonce = [0; NONCE];
        if !environment.entropy.fill(&mut nonce) {
            return Err(io::Error::other("no randomness"));
        }
        Ok(Sealed {
            seal: self.seal,
            nonce,
            ends,
        })
    }

    pub(crate) fn key(&self) -> &DataKey {
        &self.key
    }

    pub(crate) fn name(&self, attach: AttachId, session: SessionId) -> KeyName {
        KeyName {
            attach,
            seal: self.seal,
            session,
        }
    }
}

/// The secret in use, and the keys of the sessions that are open. A copy of it is changed while a
/// segment is written, and kept if the segment is.
#[derive(Debug, Clone, Default)]
pub(crate) struct SealState {
    active: Option<Arc<ActiveSeal>>,
    number: u32,
    sessions: BTreeMap<u64, RunKey>,
}

impl SealState {
    /// The body of a new Seal entry, where one is due: nothing was sealed yet, it is for others than
    /// before, or it is an hour old. From here on sessions begin under it.
    pub(crate) fn renew(
        &mut self,
        recipients: &Recipients,
        attach: AttachId,
        environment: &Environment,
        key: &SigningKey,
    ) -> io::Result<Option<Vec<u8>>> {
        let (generation, recipients) = recipients.get();
        let now = environment.clock.monotonic_ns();
        let fresh = self.active.as_ref().is_some_and(|active| {
            active.generation == generation && now.saturating_sub(active.begun_ns) < SEAL_EVERY_NS
        });
        if fresh {
            return Ok(None);
        }
        if recipients.is_empty() {
            self.active = None;
            return Ok(None);
        }
        let mut secret = Zeroizing::new([0; 32]);
        if !environment.entropy.fill(secret.as_mut()) {
            return Err(io::Error::other("no randomness"));
        }
        let secret = Secret(secret);
        let wrapped = encrypt(secret.0.as_ref(), &recipients, environment.entropy.as_ref())
            .map_err(io::Error::other)?;
        self.number += 1;
        let body = Seal {
            attach,
            number: self.number,
            wall_ns: environment.clock.wall_ns(),
            commitment: secret.commitment(),
            recipients,
            wrapped,
        }
        .encode(key)
        .ok_or_else(|| io::Error::other("cannot sign a seal"))?;
        self.active = Some(Arc::new(ActiveSeal {
            attach,
            number: self.number,
            secret,
            generation,
            begun_ns: now,
        }));
        Ok(Some(body))
    }

    /// The secret in use.
    pub(crate) fn active(&self) -> Option<&ActiveSeal> {
        self.active.as_deref()
    }

    /// A session begins. None where it has to be sealed and cannot.
    pub(crate) fn begin(&mut self, ordinal: u64, session: SessionId) -> Option<()> {
        if let Some(active) = self.active() {
            let key = active.key(session)?;
            self.sessions.insert(ordinal, key);
        }
        Some(())
    }

    /// The key of a session's next run; forgotten here if that is its last.
    pub(crate) fn key(&mut self, ordinal: u64, ends: bool) -> Option<RunKey> {
        if ends {
            self.sessions.remove(&ordinal)
        } else {
            self.sessions.get(&ordinal).cloned()
        }
    }
}
