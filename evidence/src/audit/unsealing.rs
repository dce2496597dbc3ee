//! An unsealing: that somebody was given the keys of sealed sessions. It is a leaf like every other,
//! written before the keys are handed out, so the log itself says who could read what.

use super::certificate::LogKey;
use super::collect::Collected;
use super::{Entry, EntryKind};
use crate::codec::{Malformed, Put, Reader};
use crate::keys::{SIGNATURE, verified};
use crate::record::{AttachId, MAX_TEXT, SessionId};
use crate::seal::{KeyName, Recipient};

const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"chaperone unseal v1\0";
/// Most keys that one unsealing names: those of a thousand sessions, most of which have one.
pub const MAX_UNSEALED: usize = 4096;
/// Most groups of whoever asked.
const MAX_GROUPS: usize = 64;
/// Longest unsealing that is read, in bytes.
const MAX_BYTES: usize = 1 << 18;

/// Who was given which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsealing {
    /// When it was written, nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// Name of the UnsealRequest.
    pub request: String,
    /// Its UID.
    pub uid: String,
    /// Who asked, as the API server says.
    pub user: String,
    /// The groups of whoever asked.
    pub groups: Vec<String>,
    /// Whom the keys were wrapped for.
    pub recipient: Recipient,
    /// Why, as whoever asked says; empty where nothing was said.
    pub reason: String,
    /// The keys that were handed out, ascending: they open the runs that they name and nothing else.
    pub keys: Vec<KeyName>,
}

impl Unsealing {
    /// The sessions that were opened, each once.
    pub fn sessions(&self) -> Vec<SessionId> {
        let mut sessions: Vec<SessionId> = self.keys.iter().map(|key| key.session).collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions
    }

    /// Its bytes, signed by the log key. None where a reader would not take them, or signing fails.
    ///
    /// ```text
    /// version u8 · wall ns u64 · request text · uid text · user text · groups (u32 count, texts)
    ///   · recipient text · reason text · keys (u32 count; each: attach [8], seal u32, session [8])
    ///   · signature [64]
    /// ```
    pub fn sign(&self, key: &LogKey) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(1024);
        out.put_u8(VERSION);
        out.put_u64(self.wall_ns);
        for text in [&self.request, &self.uid, &self.user] {
            out.put_text(text);
        }
        out.put_len(self.groups.len());
        for group in &self.groups {
            out.put_text(group);
        }
        out.put_text(&self.recipient.to_string());
        out.put_text(&self.reason);
        out.put_len(self.keys.len());
        for name in &self.keys {
            out.put(&name.attach.0);
            out.put_u32(name.seal);
            out.put(&name.session.0);
        }
        let signature = key.sign(DOMAIN, &out)?;
        out.put(&signature);
        Unsealing::open(&out, key.public()).is_ok().then_some(out)
    }

    /// Reads an unsealing and holds it against the log's public key.
    ///
    /// # Errors
    /// Where it is none, or another key signed it.
    pub fn open(bytes: &[u8], public: &[u8; 32]) -> Result<Unsealing, UnsealingError> {
        if bytes.len() > MAX_BYTES {
            return Err(UnsealingError::Malformed("it is too long"));
        }
        let at = bytes.len().saturating_sub(SIGNATURE);
        let (signed, signature) = bytes
            .split_at_checked(at)
            .ok_or(UnsealingError::Malformed("cut short"))?;
        if !verified(public, DOMAIN, signed, signature) {
            return Err(UnsealingError::Signature);
        }
        Ok(decode(signed)?)
    }
}

fn decode(bytes: &[u8]) -> Result<Unsealing, Malformed> {
    let r = &mut Reader::new(bytes);
    if r.u8()? != VERSION {
        return Err(Malformed("a version this reader does not know"));
    }
    let (wall_ns, request, uid, user) = (r.u64()?, short(r)?, short(r)?, short(r)?);
    let mut groups = Vec::new();
    for _ in 0..r.few(4, MAX_GROUPS)? {
        groups.push(short(r)?);
    }
    let recipient = Recipient::parse(&short(r)?).map_err(|_| Malformed("no recipient of age"))?;
    let reason = short(r)?;
    let mut keys: Vec<KeyName> = Vec::new();
    for _ in 0..r.few(20, MAX_UNSEALED)? {
        let name = KeyName {
            attach: AttachId(r.array()?),
            seal: r.u32()?,
            session: SessionId(r.array()?),
        };
        if keys.last().is_some_and(|last| *last >= name) {
            return Err(Malformed("keys that do not ascend"));
        }
        keys.push(name);
    }
    if keys.is_empty() {
        return Err(Malformed("it names no key"));
    }
    r.end()?;
    Ok(Unsealing {
        wall_ns,
        request,
        uid,
        user,
        groups,
        recipient,
        reason,
        keys,
    })
}

fn short(r: &mut Reader<'_>) -> Result<String, Malformed> {
    let text = r.text()?;
    if text.len() > MAX_TEXT {
        return Err(Malformed("a text longer than any is"));
    }
    Ok(text)
}

/// The unsealing in an entry, if it is one of the log key and its own; else why not.
pub(super) fn opened(entry: &Entry, data: &[u8], public: &[u8; 32]) -> Result<Unsealing, String> {
    let found = Unsealing::open(data, public).map_err(|error| error.to_string())?;
    let own = entry.uid == found.uid && entry.store == *public;
    if !own || (entry.number, entry.part, entry.parts) != (0, 0, 1) {
        return Err("it is another one than its entry says".to_owned());
    }
    Ok(found)
}

/// Things by the AuditSegment that each is in.
type Named<T> = Vec<(String, T)>;

/// All unsealings of a log, oldest first, each with its AuditSegment; and what is taken for one and
/// is none, with its segment and why.
pub fn unsealings(collected: &Collected, public: &[u8; 32]) -> (Named<Unsealing>, Named<String>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (name, entries) in &collected.segments {
        for (entry, data) in entries {
            if entry.kind != EntryKind::Unseal {
                continue;
            }
            match opened(entry, data, public) {
                Ok(found) => good.push((name.clone(), found)),
                Err(why) => bad.push((name.clone(), why)),
            }
        }
    }
    good.sort_by(|a, b| (a.1.wall_ns, &a.0).cmp(&(b.1.wall_ns, &b.0)));
    (good, bad)
}

/// Why an unsealing does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsealingError {
    /// Not an unsealing.
    #[error("it is no unsealing: {0}")]
    Malformed(&'static str),
    /// The log key did not sign it.
    #[error("the log key did not sign it")]
    Signature,
}

impl From<Malformed> for UnsealingError {
    fn from(error: Malformed) -> UnsealingError {
        UnsealingError::Malformed(error.0)
    }
}
