//! A tombstone: what of a log was removed, why and when, and what the verification of the rest
//! starts from. It is a leaf like every other, so the log itself says that something is gone.
//!
//! Tombstones are cumulative: the newest one speaks for all before it.

use super::certificate::{LogKey, StoreCertificate};
use crate::base::Base;
use crate::codec::{Malformed, Put, Reader};
use crate::frame::Hash;
use crate::keys::{SIGNATURE, verified};
use crate::record::MAX_TEXT;

const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"chaperone tombstone v1\0";
/// Longest tombstone a writer makes and a reader takes, in bytes: it is one entry of one resource.
pub const MAX_TOMBSTONE: usize = 1 << 20;
/// Most holds that a tombstone names, and ranges of checkpoints that they keep together.
const MAX_HOLDS: usize = 1024;
const MAX_RANGES: usize = 1 << 16;

/// What was removed of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// From 1 without gaps.
    pub number: u64,
    /// When it was made, nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// What was younger stayed, in seconds: the retention in force.
    pub at_least_s: u64,
    /// All that this checkpoint and those before it name is removed, but for what is held.
    pub checkpoint: u64,
    /// SHA-256 of that checkpoint's note: it stays as what the rest of the log grows from.
    pub note: Hash,
    /// Leaves of the log up to there.
    pub size: u64,
    /// Segments removed, by this tombstone and those before it.
    pub segments: u64,
    /// Entries in them.
    pub entries: u64,
    /// When the oldest and the newest of those segments were made, in seconds since the Unix epoch.
    pub oldest_s: i64,
    /// The same of the newest.
    pub newest_s: i64,
    /// What stays of it.
    pub held: Vec<Held>,
    /// Stores that go on behind it, and held stretches of stores.
    pub(crate) stores: Vec<StoreBase>,
}

/// What a hold keeps below a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Name of the hold.
    pub hold: String,
    /// Numbers of the checkpoints that stay with all segments they name: first and last of each
    /// range, ascending.
    pub checkpoints: Vec<(u64, u64)>,
}

/// Where the verification of a store starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreBase {
    /// UID of its pod, and its key: what its entries name it by.
    pub(crate) uid: String,
    pub(crate) store: [u8; 32],
    /// Its certificate, as in the log; empty where there was none.
    pub(crate) certificate: Vec<u8>,
    /// The hold that keeps what follows the base; empty where the store simply goes on.
    pub(crate) hold: String,
    /// The last segment of what is held; 0 where the store goes on.
    pub(crate) until: u64,
    /// Segments that were missing already when the others were removed.
    pub(crate) missing: u64,
    pub(crate) base: Base,
}

impl StoreBase {
    /// Whether the log's key certified this store.
    pub(crate) fn certified(&self, public: &[u8; 32]) -> bool {
        StoreCertificate::open(&self.certificate, public)
            .is_ok_and(|found| found.store == self.store && found.pod.uid == self.uid)
    }
}

impl Tombstone {
    /// Whether it leaves a checkpoint with all segments that it names.
    pub fn keeps(&self, checkpoint: u64) -> bool {
        checkpoint > self.checkpoint
            || self.held.iter().any(|held| {
                held.checkpoints
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&checkpoint))
            })
    }

    /// Whether it leaves a checkpoint itself: what is kept grows from the one before it.
    pub fn keeps_note(&self, checkpoint: u64) -> bool {
        checkpoint == self.checkpoint
            || self.keeps(checkpoint)
            || self.keeps(checkpoint.saturating_add(1))
    }

    /// Its bytes, signed by the log key. None where they would be too long, or signing fails.
    ///
    /// ```text
    /// version u8 · number u64 · wall ns u64 · at least s u64 · checkpoint u64 · note [32] · size u64
    ///   · segments u64 · entries u64 · oldest s i64 · newest s i64
    ///   · holds (u32 count; each: name text, ranges (u32 count; each: first u64, last u64))
    ///   · stores (u32 count; each: uid text, store [32], certificate u32 length and bytes, hold text,
    ///     until u64, missing u64, base) · signature [64]
    /// ```
    pub fn sign(&self, key: &LogKey) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(4096);
        out.put_u8(VERSION);
        for value in [self.number, self.wall_ns, self.at_least_s, self.checkpoint] {
            out.put_u64(value);
        }
        out.put(&self.note);
        for value in [self.size, self.segments, self.entries] {
            out.put_u64(value);
        }
        out.put(&self.oldest_s.to_be_bytes());
        out.put(&self.newest_s.to_be_bytes());
        out.put_len(self.held.len());
        for held in &self.held {
            out.put_text(&held.hold);
            out.put_len(held.checkpoints.len());
            for (first, last) in &held.checkpoints {
                out.put_u64(*first);
                out.put_u64(*last);
            }
        }
        out.put_len(self.stores.len());
        for store in &self.stores {
            out.put_text(&store.uid);
            out.put(&store.store);
            out.put_len(store.certificate.len());
            out.put(&store.certificate);
            out.put_text(&store.hold);
            out.put_u64(store.until);
            out.put_u64(store.missing);
            store.base.encode(&mut out);
        }
        let signature = key.sign(DOMAIN, &out)?;
        out.put(&signature);
        (out.len() <= MAX_TOMBSTONE).then_some(out)
    }

    /// Reads a tombstone and holds it against the log's public key.
    ///
    /// # Errors
    /// Where it is none, or another key signed it.
    pub fn open(bytes: &[u8], public: &[u8; 32]) -> Result<Tombstone, TombstoneError> {
        if bytes.len() > MAX_TOMBSTONE {
            return Err(TombstoneError::Malformed("it is too long"));
        }
        let at = bytes.len().saturating_sub(SIGNATURE);
        let (signed, signature) = bytes
            .split_at_checked(at)
            .ok_or(TombstoneError::Malformed("cut short"))?;
        if !verified(public, DOMAIN, signed, signature) {
            return Err(TombstoneError::Signature);
        }
        Ok(decode(signed)?)
    }
}

fn decode(bytes: &[u8]) -> Result<Tombstone, Malformed> {
    const LEAST_OF_A_STORE: usize = 32 + 4 * 4 + 3 * 8;
    let r = &mut Reader::new(bytes);
    if r.u8()? != VERSION {
        return Err(Malformed("a version this reader does not know"));
    }
    let mut tombstone = Tombstone {
        number: r.u64()?,
        wall_ns: r.u64()?,
        at_least_s: r.u64()?,
        checkpoint: r.u64()?,
        note: r.array()?,
        size: r.u64()?,
        segments: r.u64()?,
        entries: r.u64()?,
        oldest_s: i64::from_be_bytes(r.array()?),
        newest_s: i64::from_be_bytes(r.array()?),
        held: Vec::new(),
        stores: Vec::new(),
    };
    for _ in 0..r.few(8, MAX_HOLDS)? {
        let hold = name(r)?;
        let mut checkpoints = Vec::new();
        for _ in 0..r.few(16, MAX_RANGES)? {
            checkpoints.push((r.u64()?, r.u64()?));
        }
        tombstone.held.push(Held { hold, checkpoints });
    }
    for _ in 0..r.count(LEAST_OF_A_STORE)? {
        tombstone.stores.push(StoreBase {
            uid: name(r)?,
            store: r.array()?,
            certificate: r.bytes()?.to_vec(),
            hold: name(r)?,
            until: r.u64()?,
            missing: r.u64()?,
            base: Base::decode(r)?,
        });
    }
    r.end()?;
    Ok(tombstone)
}

fn name(r: &mut Reader<'_>) -> Result<String, Malformed> {
    let text = r.text()?;
    if text.len() > MAX_TEXT {
        return Err(Malformed("a name longer than any is"));
    }
    Ok(text)
}

/// Why a tombstone does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TombstoneError {
    /// Not a tombstone.
    #[error("it is no tombstone: {0}")]
    Malformed(&'static str),
    /// The log key did not sign it.
    #[error("the log key did not sign it")]
    Signature,
}

impl From<Malformed> for TombstoneError {
    fn from(error: Malformed) -> TombstoneError {
        TombstoneError::Malformed(error.0)
    }
}
