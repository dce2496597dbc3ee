//! Cancel keys: ours outward, mapped inward. A key cancels its own session only.

use std::collections::HashMap;
use std::sync::Mutex;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use tokio::sync::mpsc;

/// Sessions by the process id they told their agent.
#[derive(Debug, Default)]
pub struct CancelRegistry {
    sessions: Mutex<HashMap<i32, Registered>>,
}

#[derive(Debug)]
struct Registered {
    key: Bytes,
    signal: mpsc::Sender<()>,
}

/// A session's place in the registry; dropping it takes the key back.
#[derive(Debug)]
pub(crate) struct CancelKey<'a> {
    registry: &'a CancelRegistry,
    pub(crate) pid: i32,
    pub(crate) key: Bytes,
}

/// No random number could be had.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system gave no random bytes")]
pub(crate) struct NoRandom;

impl CancelRegistry {
    /// A fresh key of `length` bytes: 4 in protocol 3.0, up to 256 in 3.2
    /// (PostgreSQL, Message Formats, BackendKeyData).
    pub(crate) fn register(
        &self,
        length: usize,
        signal: mpsc::Sender<()>,
    ) -> Result<CancelKey<'_>, NoRandom> {
        let mut key = vec![0_u8; length];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| NoRandom)?;
        let key = Bytes::from(key);
        loop {
            let mut raw = [0_u8; 4];
            aws_lc_rs::rand::fill(&mut raw).map_err(|_| NoRandom)?;
            let pid = i32::from_be_bytes(raw) & i32::MAX;
            let mut sessions = self.lock();
            if pid == 0 || sessions.contains_key(&pid) {
                continue;
            }
            sessions.insert(
                pid,
                Registered {
                    key: key.clone(),
                    signal,
                },
            );
            return Ok(CancelKey {
                registry: self,
                pid,
                key,
            });
        }
    }

    /// A CancelRequest came: tells the session whose key it is. An unknown or wrong key does
    /// nothing and is not answered, as PostgreSQL does not either.
    pub(crate) fn cancel(&self, pid: i32, key: &[u8]) {
        let sessions = self.lock();
        if let Some(registered) = sessions.get(&pid)
            && verify_slices_are_equal(&registered.key, key).is_ok()
        {
            // A full channel means that a cancel waits there already.
            let _ = registered.signal.try_send(());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Registered>> {
        self.sessions
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for CancelKey<'_> {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.pid);
    }
}
