//! The Seal entry: the secret that an attach seals with from here on, wrapped for whoever may read.

use zeroize::Zeroizing;

use super::{AgeError, Identity, MAX_RECIPIENTS, Recipient, Secret, decrypt};
use crate::codec::{Malformed, Put, Reader};
use crate::entry::signed_by;
use crate::frame::Hash;
use crate::keys::{SEAL_DOMAIN, SIGNATURE, SigningKey};
use crate::record::AttachId;

const VERSION: u8 = 1;
/// Largest wrapped secret that is read: far more than the most recipients make.
const MAX_WRAPPED: usize = 16 * 1024;

/// A secret and who may have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seal {
    /// The attach that signs, and seals with it.
    pub(crate) attach: AttachId,
    /// From 1, without gaps within the attach.
    pub(crate) number: u32,
    pub(crate) wall_ns: u64,
    /// Commitment to the secret.
    pub(crate) commitment: Hash,
    /// Whom it is wrapped for, in the clear.
    pub(crate) recipients: Vec<Recipient>,
    /// The 32 bytes of the secret, as a file of age.
    pub(crate) wrapped: Vec<u8>,
}

/// What an attempt to have the secret gave.
#[derive(Debug)]
pub(crate) enum Unwrapped {
    /// It.
    Secret(Secret),
    /// It is for none of the identities.
    NotForUs,
    /// It is for one of them, and is not what was committed to.
    Invalid(&'static str),
}

impl Seal {
    pub(crate) fn encode(&self, key: &SigningKey) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(512);
        out.put_u8(VERSION);
        out.put(&self.attach.0);
        out.put_u32(self.number);
        out.put_u64(self.wall_ns);
        out.put(&self.commitment);
        out.put_len(self.recipients.len());
        for recipient in &self.recipients {
            out.put_text(&recipient.to_string());
        }
        out.put_len(self.wrapped.len());
        out.put(&self.wrapped);
        let signature = key.sign(SEAL_DOMAIN, &out)?;
        out.put(&signature);
        Some(out)
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Seal, Malformed> {
        let r = &mut Reader::new(body);
        if r.u8()? != VERSION {
            return Err(Malformed("a version this reader does not know"));
        }
        let (attach, number, wall_ns, commitment) =
            (AttachId(r.array()?), r.u32()?, r.u64()?, r.array()?);
        let count = r.few(4, MAX_RECIPIENTS)?;
        let mut recipients = Vec::with_capacity(count);
        for _ in 0..count {
            let recipient = Recipient::parse(&r.text()?);
            recipients.push(recipient.map_err(|_| Malformed("no recipient of age"))?);
        }
        let wrapped = r.bytes()?;
        if recipients.is_empty() || wrapped.len() > MAX_WRAPPED {
            return Err(Malformed("no recipients, or a secret too long"));
        }
        r.array::<SIGNATURE>()?;
        r.end()?;
        Ok(Seal {
            attach,
            number,
            wall_ns,
            commitment,
            recipients,
            wrapped: wrapped.to_vec(),
        })
    }

    pub(crate) fn signature_holds(body: &[u8], public: &[u8; 32]) -> bool {
        signed_by(body, SEAL_DOMAIN, public)
    }

    /// The secret, for whoever holds one of the identities that it names.
    pub(crate) fn unwrap(&self, identities: &[Identity]) -> Unwrapped {
        let ours = |one: &Identity| self.recipients.contains(&one.recipient());
        let own: Vec<Identity> = identities.iter().filter(|one| ours(one)).cloned().collect();
        if own.is_empty() {
            return Unwrapped::NotForUs;
        }
        match unwrap(&self.wrapped, &own) {
            Ok(secret) if secret.commitment() == self.commitment => Unwrapped::Secret(secret),
            Ok(_) => Unwrapped::Invalid("it holds another secret than it commits to"),
            Err(_) => Unwrapped::Invalid("its recipient cannot open it"),
        }
    }
}

/// The secret in a wrapped one.
fn unwrap(wrapped: &[u8], identities: &[Identity]) -> Result<Secret, AgeError> {
    let content = decrypt(wrapped, identities)?;
    let secret: Zeroizing<[u8; 32]> = content
        .as_slice()
        .try_into()
        .map(Zeroizing::new)
        .map_err(|_| AgeError::Changed)?;
    Ok(Secret(secret))
}
