//! The signed entries of the log: attach certificates, runs, heads. Seals are in `seal::entry`.
//!
//! Each body ends (a run's header ends) with an Ed25519 signature over a domain text and all that
//! is before it: the attach by the log key, run and head by the attach's own key.

use crate::codec::{Malformed, Put, Reader};
use crate::frame::{Hash, sha256};
use crate::keys::{ATTACH_DOMAIN, HEAD_DOMAIN, RUN_DOMAIN, SIGNATURE, SigningKey, verified};
use crate::record::{AttachId, SessionId};
use crate::seal::{KeyName, NONCE};

const VERSION: u8 = 1;
/// Of a run whose frames are sealed.
const SEALED: u8 = 2;
/// Flags of a run; the second one only of a sealed one.
const RECOVERED: u8 = 1;
const ENDS: u8 = 2;

/// One life of one sidecar, certified by the log key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attach {
    /// From 1, without gaps.
    pub(crate) ordinal: u64,
    pub(crate) id: AttachId,
    /// The attach's own key, which signs its runs and heads.
    pub(crate) public: [u8; 32],
    /// The log's key, which signs this.
    pub(crate) log_public: [u8; 32],
    pub(crate) previous: AttachId,
    /// SHA-256 of the previous attach's last head; zeros if it signed none.
    pub(crate) previous_head: Hash,
    /// Segment this attach is the first entry of.
    pub(crate) segment: u64,
    /// Digest of the segment before: it pins all that was there at this moment.
    pub(crate) previous_segment: Hash,
    /// Commitment to the store's digest key.
    pub(crate) digest_key: Hash,
    pub(crate) wall_ns: u64,
    pub(crate) subject: String,
    pub(crate) host: String,
    pub(crate) version: String,
    /// What of the spool before could not be recovered, in words; empty if all was.
    pub(crate) lost: String,
}

impl Attach {
    pub(crate) fn encode(&self, log: &SigningKey) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(512);
        out.put_u8(VERSION);
        out.put_u64(self.ordinal);
        out.put(&self.id.0);
        out.put(&self.public);
        out.put(&self.log_public);
        out.put(&self.previous.0);
        out.put(&self.previous_head);
        out.put_u64(self.segment);
        out.put(&self.previous_segment);
        out.put(&self.digest_key);
        out.put_u64(self.wall_ns);
        out.put_text(&self.subject);
        out.put_text(&self.host);
        out.put_text(&self.version);
        out.put_text(&self.lost);
        let signature = log.sign(ATTACH_DOMAIN, &out)?;
        out.put(&signature);
        Some(out)
    }

    /// Reads a certificate; the signature is checked against the key it names itself.
    pub(crate) fn decode(body: &[u8]) -> Result<Attach, Malformed> {
        let r = &mut Reader::new(body);
        version(r)?;
        let attach = Attach {
            ordinal: r.u64()?,
            id: AttachId(r.array()?),
            public: r.array()?,
            log_public: r.array()?,
            previous: AttachId(r.array()?),
            previous_head: r.array()?,
            segment: r.u64()?,
            previous_segment: r.array()?,
            digest_key: r.array()?,
            wall_ns: r.u64()?,
            subject: r.text()?,
            host: r.text()?,
            version: r.text()?,
            lost: r.text()?,
        };
        r.array::<SIGNATURE>()?;
        r.end()?;
        Ok(attach)
    }

    pub(crate) fn signature_holds(body: &[u8], log_public: &[u8; 32]) -> bool {
        signed_by(body, ATTACH_DOMAIN, log_public)
    }
}

/// What the header of a sealed run says besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Number of the signing attach's Seal entry.
    pub(crate) seal: u32,
    pub(crate) nonce: [u8; NONCE],
    /// Whether its last frame is the session's last: who cannot read it has to know.
    pub(crate) ends: bool,
}

/// Consecutive frames of one session, compressed, with a clear header; sealed or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    /// Whether another attach's spool was shipped by this one.
    pub(crate) recovered: bool,
    /// Whose key signs.
    pub(crate) signer: AttachId,
    /// The attach the session began under.
    pub(crate) attach: AttachId,
    pub(crate) session: SessionId,
    pub(crate) ordinal: u64,
    pub(crate) first: u64,
    pub(crate) count: u32,
    /// Chain before the first frame; zeros if that is the session's first.
    pub(crate) previous_hash: Hash,
    pub(crate) last_hash: Hash,
    pub(crate) first_wall_ns: u64,
    pub(crate) last_wall_ns: u64,
    /// Bytes of the frames.
    pub(crate) raw_len: u32,
    pub(crate) sealed: Option<Sealed>,
}

impl Run {
    /// Sequence of its last frame.
    pub(crate) fn last(&self) -> u64 {
        self.first
            .saturating_add(u64::from(self.count).saturating_sub(1))
    }

    /// What opens it, if it is sealed.
    pub(crate) fn key_name(&self) -> Option<KeyName> {
        self.sealed.map(|sealed| KeyName {
            attach: self.signer,
            seal: sealed.seal,
            session: self.session,
        })
    }

    /// The header as far as it is known before the payload is: what a sealed payload is bound to.
    pub(crate) fn lead(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(320);
        let mut flags = if self.recovered { RECOVERED } else { 0 };
        if self.sealed.is_some_and(|sealed| sealed.ends) {
            flags |= ENDS;
        }
        let sealed = self.sealed.is_some();
        out.put_u8(if sealed { SEALED } else { VERSION });
        out.put_u8(flags);
        out.put(&self.signer.0);
        out.put(&self.attach.0);
        out.put(&self.session.0);
        out.put_u64(self.ordinal);
        out.put_u64(self.first);
        out.put_u32(self.count);
        out.put(&self.previous_hash);
        out.put(&self.last_hash);
        out.put_u64(self.first_wall_ns);
        out.put_u64(self.last_wall_ns);
        out.put_u32(self.raw_len);
        if let Some(sealed) = &self.sealed {
            out.put_u32(sealed.seal);
            out.put(&sealed.nonce);
        }
        out
    }

    /// Header, which begins with `lead`, and signature; the payload follows them in the entry.
    pub(crate) fn encode(lead: Vec<u8>, payload: &[u8], key: &SigningKey) -> Option<Vec<u8>> {
        let mut out = lead;
        out.put(&sha256(&[payload]));
        out.put_len(payload.len());
        let signature = key.sign(RUN_DOMAIN, &out)?;
        out.put(&signature);
        Some(out)
    }

    /// Reads a run: its header, the bytes that are signed, the signature, the payload.
    pub(crate) fn decode(body: &[u8]) -> Result<SignedRun<'_>, Malformed> {
        let r = &mut Reader::new(body);
        let sealed = match r.u8()? {
            VERSION => false,
            SEALED => true,
            _ => return Err(UNKNOWN_VERSION),
        };
        let known = if sealed { RECOVERED | ENDS } else { RECOVERED };
        let flags = r.u8()?;
        if flags > known {
            return Err(Malformed("flags this reader does not know"));
        }
        let mut run = Run {
            recovered: flags & RECOVERED != 0,
            signer: AttachId(r.array()?),
            attach: AttachId(r.array()?),
            session: SessionId(r.array()?),
            ordinal: r.u64()?,
            first: r.u64()?,
            count: r.u32()?,
            previous_hash: r.array()?,
            last_hash: r.array()?,
            first_wall_ns: r.u64()?,
            last_wall_ns: r.u64()?,
            raw_len: r.u32()?,
            sealed: None,
        };
        if sealed {
            run.sealed = Some(Sealed {
                seal: r.u32()?,
                nonce: r.array()?,
                ends: flags & ENDS != 0,
            });
        }
        let lead = body.get(..body.len() - r.remaining()).unwrap_or_default();
        let payload_digest = r.array()?;
        let payload_len = usize::try_from(r.u32()?).unwrap_or(usize::MAX);
        let signed = body.get(..body.len() - r.remaining()).unwrap_or_default();
        let signature = r.take(SIGNATURE)?;
        let payload = r.take(payload_len)?;
        r.end()?;
        if run.count == 0 {
            return Err(Malformed("a run of no frames"));
        }
        if run.first.checked_add(u64::from(run.count)).is_none() {
            return Err(Malformed("sequences out of range"));
        }
        Ok(SignedRun {
            run,
            lead,
            payload_digest,
            signed,
            signature,
            payload,
        })
    }
}

/// A run as found in a segment.
pub(crate) struct SignedRun<'a> {
    pub(crate) run: Run,
    /// The header that a sealed payload is bound to.
    pub(crate) lead: &'a [u8],
    /// SHA-256 of the payload as it is here.
    payload_digest: Hash,
    signed: &'a [u8],
    signature: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl SignedRun<'_> {
    pub(crate) fn signature_holds(&self, public: &[u8; 32]) -> bool {
        verified(public, RUN_DOMAIN, self.signed, self.signature)
    }

    pub(crate) fn payload_matches(&self) -> bool {
        sha256(&[self.payload]) == self.payload_digest
    }

    /// The frames in a payload that is not sealed, or not any more. Never more memory than the
    /// longest run a writer makes.
    pub(crate) fn frames(&self, compressed: &[u8]) -> Result<Vec<u8>, Malformed> {
        let raw_len = usize::try_from(self.run.raw_len).unwrap_or(usize::MAX);
        if raw_len > MAX_RUN {
            return Err(Malformed("a run longer than any writer makes"));
        }
        let bytes = zstd::bulk::decompress(compressed, raw_len)
            .map_err(|_| Malformed("its payload does not decompress"))?;
        if bytes.len() != raw_len {
            return Err(Malformed(
                "its payload has another length than its header says",
            ));
        }
        Ok(bytes)
    }
}

/// Most bytes of frames in one run.
pub(crate) const MAX_RUN: usize = 8 * 1024 * 1024;

/// Where one session stood when a head was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) ordinal: u64,
    pub(crate) session: SessionId,
    pub(crate) sequence: u64,
    pub(crate) hash: Hash,
}

/// What an attach has shipped so far, signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Whether this is the attach's last word.
    pub(crate) detach: bool,
    pub(crate) attach: AttachId,
    /// From 1, without gaps within the attach.
    pub(crate) number: u64,
    /// SHA-256 of the attach's head before this one; zeros for the first.
    pub(crate) previous: Hash,
    /// Segment this head is in, and SHA-256 of that segment up to it: with the digest in its
    /// header this pins every byte of the log before the head.
    pub(crate) segment: u64,
    pub(crate) before: Hash,
    pub(crate) wall_ns: u64,
    /// Highest session ordinal shipped.
    pub(crate) highest: u64,
    /// Sessions that have not ended.
    pub(crate) open: Vec<Tail>,
    /// Sessions that ended since the head before.
    pub(crate) closed: Vec<Tail>,
}

impl Head {
    pub(crate) fn encode(&self, key: &SigningKey) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(256);
        out.put_u8(VERSION);
        out.put_u8(u8::from(self.detach));
        out.put(&self.attach.0);
        out.put_u64(self.number);
        out.put(&self.previous);
        out.put_u64(self.segment);
        out.put(&self.before);
        out.put_u64(self.wall_ns);
        out.put_u64(self.highest);
        for tails in [&self.open, &self.closed] {
            put_tails(&mut out, tails.iter());
        }
        let signature = key.sign(HEAD_DOMAIN, &out)?;
        out.put(&signature);
        Some(out)
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Head, Malformed> {
        let r = &mut Reader::new(body);
        version(r)?;
        let head = Head {
            detach: r.flag()?,
            attach: AttachId(r.array()?),
            number: r.u64()?,
            previous: r.array()?,
            segment: r.u64()?,
            before: r.array()?,
            wall_ns: r.u64()?,
            highest: r.u64()?,
            open: tails(r)?,
            closed: tails(r)?,
        };
        r.array::<SIGNATURE>()?;
        r.end()?;
        Ok(head)
    }

    pub(crate) fn signature_holds(body: &[u8], public: &[u8; 32]) -> bool {
        signed_by(body, HEAD_DOMAIN, public)
    }

    /// What the next head and the next attach name this one by.
    pub(crate) fn hash(body: &[u8]) -> Hash {
        sha256(&[body])
    }
}

pub(crate) fn put_tails<'a>(out: &mut Vec<u8>, tails: impl ExactSizeIterator<Item = &'a Tail>) {
    out.put_len(tails.len());
    for tail in tails {
        out.put_u64(tail.ordinal);
        out.put(&tail.session.0);
        out.put_u64(tail.sequence);
        out.put(&tail.hash);
    }
}

pub(crate) fn tails(r: &mut Reader<'_>) -> Result<Vec<Tail>, Malformed> {
    const TAIL: usize = 56;
    let count = r.count(TAIL)?;
    let mut tails: Vec<Tail> = Vec::with_capacity(count);
    for _ in 0..count {
        let tail = Tail {
            ordinal: r.u64()?,
            session: SessionId(r.array()?),
            sequence: r.u64()?,
            hash: r.array()?,
        };
        if tails
            .last()
            .is_some_and(|last| last.ordinal >= tail.ordinal)
        {
            return Err(Malformed("sessions of a head out of order"));
        }
        tails.push(tail);
    }
    Ok(tails)
}

fn version(r: &mut Reader<'_>) -> Result<(), Malformed> {
    if r.u8()? == VERSION {
        Ok(())
    } else {
        Err(UNKNOWN_VERSION)
    }
}

const UNKNOWN_VERSION: Malformed = Malformed("a version this reader does not know");

/// Whether the body ends in `public`'s signature over the rest.
pub(crate) fn signed_by(body: &[u8], domain: &[u8], public: &[u8; 32]) -> bool {
    let at = body.len().saturating_sub(SIGNATURE);
    match body.split_at_checked(at) {
        Some((signed, signature)) => verified(public, domain, signed, signature),
        None => false,
    }
}
