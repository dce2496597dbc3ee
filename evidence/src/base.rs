//! What the verification of a store starts from where its beginning was removed: how far the store
//! was then, by the clear headers of runs and heads. Frames are never looked into: they may be
//! sealed.

use std::collections::BTreeMap;

use crate::codec::{Malformed, Put, Reader};
use crate::entry::{Attach, Head, Run, Tail, put_tails, tails};
use crate::frame::{Hash, NO_HASH};
use crate::record::AttachId;
use crate::seal::Seal;
use crate::segment;

/// A store up to one of its segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    /// The last segment that is not looked at; 0 where the store's beginning is there.
    pub(crate) number: u64,
    /// Its digest; zeros where that is not known, which then fits no segment.
    pub(crate) digest: Hash,
    /// The attach in force.
    pub(crate) life: Option<BaseLife>,
}

/// An attach as far as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseLife {
    /// The attach's own certificate, as in its segment.
    pub(crate) attach: Vec<u8>,
    /// Heads it has signed, and the hash of the last; zeros for none.
    pub(crate) heads: u64,
    pub(crate) head: Hash,
    pub(crate) detached: bool,
    /// Highest ordinal of its sessions.
    pub(crate) highest: u64,
    /// Sessions that no head has named as closed: whether they have ended only their frames say.
    pub(crate) tails: BTreeMap<u64, Tail>,
    /// Which seal each of those is sealed under.
    sealed: BTreeMap<u64, u32>,
    /// The Seal entries of these, and the newest, under which sessions begin: what is there is opened
    /// by them.
    pub(crate) seals: BTreeMap<u32, Vec<u8>>,
}

impl Default for Base {
    fn default() -> Base {
        Base {
            number: 0,
            digest: NO_HASH,
            life: None,
        }
    }
}

impl Base {
    /// Takes the store's next segment. What cannot be read moves it on and nothing else, so that
    /// what was broken does not come to fit.
    pub(crate) fn take(&mut self, number: u64, bytes: &[u8]) {
        self.number = number;
        self.digest = NO_HASH;
        let Ok(segment) = segment::split(bytes) else {
            return;
        };
        self.digest = segment.digest;
        for entry in &segment.entries {
            match entry.kind {
                segment::ATTACH => {
                    self.life = Attach::decode(entry.body)
                        .is_ok()
                        .then(|| BaseLife::new(entry.body));
                }
                segment::RUN => {
                    if let (Some(life), Ok(signed)) = (&mut self.life, Run::decode(entry.body)) {
                        life.run(&signed.run);
                    }
                }
                segment::SEAL => {
                    if let (Some(life), Ok(seal)) = (&mut self.life, Seal::decode(entry.body)) {
                        life.seals.insert(seal.number, entry.body.to_vec());
                        life.forget_seals();
                    }
                }
                segment::HEAD => {
                    if let (Some(life), Ok(head)) = (&mut self.life, Head::decode(entry.body)) {
                        life.head(&head, Head::hash(entry.body));
                    }
                }
                _ => {}
            }
        }
    }

    /// Seals that are gone, and that what is there may be sealed under.
    pub(crate) fn seals(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.life.iter().flat_map(|life| life.seals.values())
    }

    /// ```text
    /// number u64 · digest [32] · life option (attach u32 length and bytes · heads u64 · last head [32]
    ///     · detached flag · highest ordinal u64 · tails as in a head
    ///     · sealed (u32 count; each: ordinal u64, seal u32) · seals (u32 count; each u32 length and
    ///     bytes))
    /// ```
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.number);
        out.put(&self.digest);
        out.put_u8(u8::from(self.life.is_some()));
        if let Some(life) = &self.life {
            out.put_len(life.attach.len());
            out.put(&life.attach);
            out.put_u64(life.heads);
            out.put(&life.head);
            out.put_u8(u8::from(life.detached));
            out.put_u64(life.highest);
            put_tails(out, life.tails.values());
            out.put_len(life.sealed.len());
            for (ordinal, seal) in &life.sealed {
                out.put_u64(*ordinal);
                out.put_u32(*seal);
            }
            out.put_len(life.seals.len());
            for body in life.seals.values() {
                out.put_len(body.len());
                out.put(body);
            }
        }
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Base, Malformed> {
        Ok(Base {
            number: r.u64()?,
            digest: r.array()?,
            life: r.option(|r| {
                Ok(BaseLife {
                    attach: r.bytes()?.to_vec(),
                    heads: r.u64()?,
                    head: r.array()?,
                    detached: r.flag()?,
                    highest: r.u64()?,
                    tails: tails(r)?
                        .into_iter()
                        .map(|tail| (tail.ordinal, tail))
                        .collect(),
                    sealed: (0..r.count(12)?)
                        .map(|_| Ok((r.u64()?, r.u32()?)))
                        .collect::<Result<_, Malformed>>()?,
                    seals: (0..r.count(4)?)
                        .map(|_| {
                            let body = r.bytes()?;
                            Ok((Seal::decode(body)?.number, body.to_vec()))
                        })
                        .collect::<Result<_, Malformed>>()?,
                })
            })?,
        })
    }
}

impl BaseLife {
    fn new(attach: &[u8]) -> BaseLife {
        BaseLife {
            attach: attach.to_vec(),
            heads: 0,
            head: NO_HASH,
            detached: false,
            highest: 0,
            tails: BTreeMap::new(),
            sealed: BTreeMap::new(),
            seals: BTreeMap::new(),
        }
    }

    /// Number of the newest seal; 0 where there was none.
    pub(crate) fn newest_seal(&self) -> u32 {
        self.seals.last_key_value().map_or(0, |(number, _)| *number)
    }

    fn forget_seals(&mut self) {
        let newest = self.newest_seal();
        let (seals, sealed) = (&mut self.seals, &self.sealed);
        seals.retain(|number, _| *number == newest || sealed.values().any(|used| used == number));
    }

    fn run(&mut self, run: &Run) {
        let own: Option<AttachId> = Attach::decode(&self.attach).ok().map(|attach| attach.id);
        // What was found of the attach before is whole in the segment that begins this one.
        if own != Some(run.attach) {
            return;
        }
        self.highest = self.highest.max(run.ordinal);
        let tail = Tail {
            ordinal: run.ordinal,
            session: run.session,
            sequence: run.last(),
            hash: run.last_hash,
        };
        self.tails.insert(run.ordinal, tail);
        if let Some(sealed) = run.sealed {
            self.sealed.insert(run.ordinal, sealed.seal);
        }
    }

    fn head(&mut self, head: &Head, hash: Hash) {
        self.heads = head.number;
        self.head = hash;
        self.detached = head.detach;
        for closed in &head.closed {
            self.tails.remove(&closed.ordinal);
            self.sealed.remove(&closed.ordinal);
        }
        self.forget_seals();
    }
}
