//! The store's two keys, and Ed25519 as the rest of the crate uses it.
//!
//! `keys/log.key` is a PKCS #8 PEM (RFC 8410), `keys/log.pub` its SubjectPublicKeyInfo,
//! `keys/digest.key` 64 hex digits. Each is read strictly: a file that is not byte for byte
//! what would be written is refused, so that a changed byte is always met.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::codec::Malformed;
use crate::frame::{Hash, sha256};

/// RFC 8410 §7: PrivateKeyInfo of an Ed25519 key up to the 32 bytes of the key.
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
];
/// RFC 8410 §4: SubjectPublicKeyInfo up to the 32 bytes of the key.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// Length of an Ed25519 signature.
pub(crate) const SIGNATURE: usize = 64;

/// What is signed begins with the kind of thing it is, so that none passes for another.
pub(crate) const ATTACH_DOMAIN: &[u8] = b"chaperone attach v1\0";
pub(crate) const RUN_DOMAIN: &[u8] = b"chaperone run v1\0";
pub(crate) const HEAD_DOMAIN: &[u8] = b"chaperone head v1\0";
pub(crate) const SEAL_DOMAIN: &[u8] = b"chaperone seal v1\0";
const DIGEST_KEY_DOMAIN: &[u8] = b"chaperone digest key v1\0";

/// An Ed25519 key that signs.
pub(crate) struct SigningKey {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Option<SigningKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(SigningKey { pair, public })
    }

    pub(crate) fn public(&self) -> &[u8; 32] {
        &self.public
    }

    pub(crate) fn sign(&self, domain: &[u8], message: &[u8]) -> Option<[u8; SIGNATURE]> {
        let mut signed = Vec::with_capacity(domain.len() + message.len());
        signed.extend_from_slice(domain);
        signed.extend_from_slice(message);
        self.pair.try_sign(&signed).ok()?.as_ref().try_into().ok()
    }
}

/// Whether `signature` is `public`'s over the message.
pub(crate) fn verified(public: &[u8; 32], domain: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let mut signed = Vec::with_capacity(domain.len() + message.len());
    signed.extend_from_slice(domain);
    signed.extend_from_slice(message);
    UnparsedPublicKey::new(&ED25519, public)
        .verify(&signed, signature)
        .is_ok()
}

/// `SHA256:` and the unpadded base64 of the SHA-256 of the SubjectPublicKeyInfo.
pub fn fingerprint(public: &[u8; 32]) -> String {
    format!(
        "SHA256:{}",
        STANDARD_NO_PAD.encode(sha256(&[&SPKI, public]))
    )
}

/// The PEM of an Ed25519 public key.
pub fn public_pem(public: &[u8; 32]) -> String {
    pem("PUBLIC KEY", &[&SPKI[..], public].concat())
}

/// Reads what [`public_pem`] writes.
pub fn parse_public_pem(text: &str) -> Option<[u8; 32]> {
    let der = unpem("PUBLIC KEY", text)?;
    der.strip_prefix(&SPKI)?.try_into().ok()
}

pub(crate) fn private_pem(seed: &[u8; 32]) -> Zeroizing<String> {
    let mut der = [&PKCS8[..], seed].concat();
    let text = pem("PRIVATE KEY", &der);
    der.zeroize();
    Zeroizing::new(text)
}

pub(crate) fn parse_private_pem(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let der = Zeroizing::new(unpem("PRIVATE KEY", text)?);
    der.strip_prefix(&PKCS8)?
        .try_into()
        .ok()
        .map(Zeroizing::new)
}

fn pem(label: &str, der: &[u8]) -> String {
    // Both of our keys fit into RFC 7468's one line of 64 characters.
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

fn unpem(label: &str, text: &str) -> Option<Vec<u8>> {
    let inner = text
        .strip_prefix(&format!("-----BEGIN {label}-----\n"))?
        .strip_suffix(&format!("\n-----END {label}-----\n"))?;
    let der = STANDARD.decode(inner).ok()?;
    (pem(label, &der) == text).then_some(der)
}

/// HMAC-SHA-256 under a key that only this store has: a plain hash of a command can be guessed.
pub struct DigestKey {
    /// The state after the key, from which each tag begins.
    keyed: Hmac<Sha256>,
    commitment: Hash,
}

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DigestKey(…)")
    }
}

impl DigestKey {
    pub(crate) fn new(key: &[u8; 32]) -> DigestKey {
        // RFC 2104 §2: a key shorter than the hash's block is filled up with zeros.
        let mut padded = Zeroizing::new([0; 64]);
        for (to, from) in padded.iter_mut().zip(key) {
            *to = *from;
        }
        DigestKey {
            keyed: Hmac::new(&(*padded).into()),
            commitment: sha256(&[DIGEST_KEY_DOMAIN, key]),
        }
    }

    /// What attach certificates say of this key: enough to notice another one.
    pub(crate) fn commitment(&self) -> &Hash {
        &self.commitment
    }

    /// The tag over the parts, each preceded by its length (u64, big endian).
    pub fn hmac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.keyed.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

pub(crate) fn digest_key_text(key: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(hex::encode(key));
    text.push('\n');
    text
}

pub(crate) fn parse_digest_key(text: &str) -> Result<Zeroizing<[u8; 32]>, Malformed> {
    let mut key = Zeroizing::new([0; 32]);
    let inner = text
        .strip_suffix('\n')
        .ok_or(Malformed("not 64 hex digits"))?;
    hex::decode_to_slice(inner, key.as_mut()).map_err(|_| Malformed("not 64 hex digits"))?;
    if *digest_key_text(&key) != text {
        return Err(Malformed("not 64 lower-case hex digits"));
    }
    Ok(key)
}
