//! Files of age with X25519 recipients (C2SP age, `age-encryption.org/v1`): small secrets for those
//! who hold a key, in a form that the age tools read too.
//!
//! ```text
//! age-encryption.org/v1
//! -> X25519 <share>            one stanza a recipient; its body is the file key, wrapped for him
//! <file key, sealed>
//! --- <HMAC of all of this>
//! <nonce [16]> <chunks of 64 KiB, each sealed>
//! ```
//! Only X25519 is written; stanzas of other types are passed over when reading. No armour, no
//! passphrases, no plugins.

use std::fmt;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::{hkdf, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use zeroize::{Zeroize, Zeroizing};

use crate::clock::Entropy;

const INTRO: &[u8] = b"age-encryption.org/v1\n";
const STANZA: &str = "X25519";
const X25519_INFO: &[u8] = b"age-encryption.org/v1/X25519";
const HRP_RECIPIENT: &str = "age";
const HRP_IDENTITY: &str = "age-secret-key-";
/// Bytes of a chunk before it is sealed.
const CHUNK: usize = 64 * 1024;
/// Bytes that sealing adds to each.
const TAG: usize = 16;
const FILE_KEY: usize = 16;
const NONCE: usize = 16;
/// Columns of a stanza's body; its last line is shorter.
const COLUMNS: usize = 64;
/// Largest header that is read.
const MAX_HEADER: usize = 64 * 1024;
/// Most recipients of one file.
pub const MAX_RECIPIENTS: usize = 16;

/// Why something of age is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AgeError {
    /// Not a recipient this knows.
    #[error(
        "it is no X25519 recipient of age: one line that begins with age1, as `age-keygen -y` prints it"
    )]
    Recipient,
    /// Not an identity this knows.
    #[error(
        "it is no X25519 identity of age: lines that begin with AGE-SECRET-KEY-1, as `age-keygen` writes them"
    )]
    Identity,
    /// Not a file of age.
    #[error("it is no file of age")]
    Malformed,
    /// None of the identities is one of its recipients.
    #[error("none of the identities can open it")]
    NoIdentity,
    /// It is for one of the identities, and was changed.
    #[error("it was changed after it was sealed")]
    Changed,
    /// Too many or no recipients.
    #[error("it takes 1 to {MAX_RECIPIENTS} recipients")]
    Count,
    /// Randomness or arithmetic failed.
    #[error("cryptography failed")]
    Crypto,
}

/// Somebody who may read: an X25519 public key, `age1…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient([u8; 32]);

impl Recipient {
    /// Reads `age1…`.
    ///
    /// # Errors
    /// [`AgeError::Recipient`], also for recipients of other types (SSH, post-quantum, plugins).
    pub fn parse(text: &str) -> Result<Recipient, AgeError> {
        let key = from_bech32(text, HRP_RECIPIENT).map(Recipient);
        // One way to write it: two lists of recipients are the same if their texts are.
        key.filter(|key| key.to_string() == text)
            .ok_or(AgeError::Recipient)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_bech32(&self.0, HRP_RECIPIENT).unwrap_or_default())
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The private half of a [`Recipient`], `AGE-SECRET-KEY-1…`.
#[derive(Clone)]
pub struct Identity {
    secret: Zeroizing<[u8; 32]>,
    recipient: Recipient,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(of {})", self.recipient)
    }
}

impl Identity {
    /// A new one. None without randomness.
    pub fn generate(entropy: &dyn Entropy) -> Option<Identity> {
        let mut secret = Zeroizing::new([0; 32]);
        entropy.fill(secret.as_mut()).then_some(())?;
        Identity::of(secret)
    }

    fn of(secret: Zeroizing<[u8; 32]>) -> Option<Identity> {
        let recipient = Recipient(public_of(&private(&secret)?)?);
        Some(Identity { secret, recipient })
    }

    /// Reads one line.
    ///
    /// # Errors
    /// [`AgeError::Identity`].
    pub fn parse(line: &str) -> Result<Identity, AgeError> {
        from_bech32(line, HRP_IDENTITY)
            .map(Zeroizing::new)
            .and_then(Identity::of)
            .filter(|identity| *identity.to_text() == line)
            .ok_or(AgeError::Identity)
    }

    /// Reads a file of them, as `age-keygen` writes it: comments and empty lines are passed over.
    ///
    /// # Errors
    /// [`AgeError::Identity`] where any line is none, or there is none.
    pub fn parse_file(text: &str) -> Result<Vec<Identity>, AgeError> {
        let lines = text.lines().map(str::trim);
        let found: Vec<Identity> = lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(Identity::parse)
            .collect::<Result<_, _>>()?;
        if found.is_empty() {
            return Err(AgeError::Identity);
        }
        Ok(found)
    }

    /// The line that [`Identity::parse`] reads.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = to_bech32(&self.secret, HRP_IDENTITY).unwrap_or_default();
        let upper = text.to_ascii_uppercase();
        text.zeroize();
        Zeroizing::new(upper)
    }

    /// Its public half.
    pub fn recipient(&self) -> Recipient {
        self.recipient
    }
}

/// Seals `content` for all of `recipients`: a whole file.
///
/// # Errors
/// [`AgeError::Count`], [`AgeError::Crypto`].
pub fn encrypt(
    content: &[u8],
    recipients: &[Recipient],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, AgeError> {
    if recipients.is_empty() || recipients.len() > MAX_RECIPIENTS {
        return Err(AgeError::Count);
    }
    let random = |out: &mut [u8]| entropy.fill(out).then_some(()).ok_or(AgeError::Crypto);
    let mut file_key = Zeroizing::new([0; FILE_KEY]);
    random(file_key.as_mut())?;
    let mut out = INTRO.to_vec();
    for recipient in recipients {
        let mut ephemeral = Zeroizing::new([0; 32]);
        random(ephemeral.as_mut())?;
        stanza(&mut out, &file_key, recipient, &ephemeral).ok_or(AgeError::Crypto)?;
    }
    out.extend_from_slice(b"---");
    let mac = hmac::sign(&header_key(&file_key).ok_or(AgeError::Crypto)?, &out);
    out.extend_from_slice(format!(" {}\n", STANDARD_NO_PAD.encode(mac.as_ref())).as_bytes());
    let mut nonce = [0; NONCE];
    random(&mut nonce)?;
    out.extend_from_slice(&nonce);
    let key = payload_key(&file_key, &nonce).ok_or(AgeError::Crypto)?;
    let mut number = 0;
    let mut rest = content;
    loop {
        let (chunk, after) = rest.split_at(rest.len().min(CHUNK));
        rest = after;
        let mut sealed = Zeroizing::new(chunk.to_vec());
        let tag = key
            .seal_in_place_separate_tag(
                chunk_nonce(number, rest.is_empty()),
                Aad::empty(),
                &mut sealed,
            )
            .map_err(|_| AgeError::Crypto)?;
        out.extend_from_slice(&sealed);
        out.extend_from_slice(tag.as_ref());
        number += 1;
        if rest.is_empty() {
            return Ok(out);
        }
    }
}

/// Opens a file that was sealed for one of `identities`.
///
/// # Errors
/// [`AgeError::Malformed`], [`AgeError::NoIdentity`], [`AgeError::Changed`].
pub fn decrypt(file: &[u8], identities: &[Identity]) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let header = Header::read(file).ok_or(AgeError::Malformed)?;
    let file_key = header
        .stanzas
        .iter()
        .find_map(|stanza| identities.iter().find_map(|one| unwrap(stanza, one)))
        .ok_or(AgeError::NoIdentity)?;
    let key = header_key(&file_key).ok_or(AgeError::Crypto)?;
    hmac::verify(&key, header.authenticated, &header.mac).map_err(|_| AgeError::Changed)?;
    let (nonce, mut rest) = header
        .payload
        .split_first_chunk::<NONCE>()
        .ok_or(AgeError::Changed)?;
    let key = payload_key(&file_key, nonce).ok_or(AgeError::Crypto)?;
    let mut content = Zeroizing::new(Vec::with_capacity(rest.len()));
    let mut number = 0;
    loop {
        let (chunk, after) = rest.split_at(rest.len().min(CHUNK + TAG));
        rest = after;
        let last = rest.is_empty();
        let mut chunk = Zeroizing::new(chunk.to_vec());
        let opened = key
            .open_in_place(chunk_nonce(number, last), Aad::empty(), &mut chunk)
            .map_err(|_| AgeError::Changed)?;
        // Only a file of nothing ends in a chunk of nothing.
        if opened.is_empty() && number > 0 {
            return Err(AgeError::Changed);
        }
        content.extend_from_slice(opened);
        number += 1;
        if last {
            return Ok(content);
        }
    }
}

/// A header, its stanzas told apart.
struct Header<'a> {
    stanzas: Vec<Stanza>,
    /// All up to and with `---`.
    authenticated: &'a [u8],
    mac: Vec<u8>,
    payload: &'a [u8],
}

struct Stanza {
    share: [u8; 32],
    body: Vec<u8>,
}

impl<'a> Header<'a> {
    fn read(file: &'a [u8]) -> Option<Header<'a>> {
        let mut at = INTRO.len();
        file.starts_with(INTRO).then_some(())?;
        let mut stanzas = Vec::new();
        loop {
            let line = line(file, &mut at)?;
            if let Some(mac) = line.strip_prefix("--- ") {
                let end = at.checked_sub(line.len() + 1)?;
                return Some(Header {
                    stanzas,
                    authenticated: file.get(..end + 3)?,
                    mac: STANDARD_NO_PAD.decode(mac).ok()?,
                    payload: file.get(at..)?,
                });
            }
            let arguments = line.strip_prefix("-> ")?.to_owned();
            let mut body = String::new();
            loop {
                let piece = self::line(file, &mut at)?;
                if piece.len() > COLUMNS {
                    return None;
                }
                body.push_str(piece);
                if piece.len() < COLUMNS {
                    break;
                }
            }
            let body = STANDARD_NO_PAD.decode(body).ok()?;
            if let Some(share) = arguments
                .strip_prefix(STANZA)
                .and_then(|a| a.strip_prefix(' '))
            {
                let share = STANDARD_NO_PAD.decode(share).ok()?.try_into().ok()?;
                (body.len() == FILE_KEY + TAG).then_some(())?;
                stanzas.push(Stanza { share, body });
            }
        }
    }
}

/// The line at `at`, without its end, which is gone past.
fn line<'a>(file: &'a [u8], at: &mut usize) -> Option<&'a str> {
    let rest = file.get(*at..MAX_HEADER.min(file.len()))?;
    let len = rest.iter().position(|byte| *byte == b'\n')?;
    *at += len + 1;
    std::str::from_utf8(rest.get(..len)?).ok()
}

fn stanza(
    out: &mut Vec<u8>,
    file_key: &[u8; FILE_KEY],
    recipient: &Recipient,
    ephemeral: &[u8; 32],
) -> Option<()> {
    let private = private(ephemeral)?;
    let share = public_of(&private)?;
    let key = wrap_key(&private, &recipient.0, &share, &recipient.0)?;
    let mut body = Zeroizing::new(file_key.to_vec());
    let tag = key
        .seal_in_place_separate_tag(zero_nonce(), Aad::empty(), &mut body)
        .ok()?;
    body.extend_from_slice(tag.as_ref());
    out.extend_from_slice(
        format!(
            "-> {STANZA} {}\n{}\n",
            STANDARD_NO_PAD.encode(share),
            STANDARD_NO_PAD.encode(body.as_slice())
        )
        .as_bytes(),
    );
    Some(())
}

fn unwrap(stanza: &Stanza, identity: &Identity) -> Option<Zeroizing<[u8; FILE_KEY]>> {
    let private = private(&identity.secret)?;
    let key = wrap_key(
        &private,
        &stanza.share,
        &stanza.share,
        &identity.recipient.0,
    )?;
    let mut body = Zeroizing::new(stanza.body.clone());
    let opened = key
        .open_in_place(zero_nonce(), Aad::empty(), &mut body)
        .ok()?;
    let mut file_key = Zeroizing::new([0; FILE_KEY]);
    file_key.copy_from_slice(opened.get(..FILE_KEY)?);
    Some(file_key)
}

/// The key under which a stanza holds the file key. aws-lc refuses the points that would make it
/// one that everybody knows.
fn wrap_key(
    own: &PrivateKey,
    peer: &[u8; 32],
    share: &[u8; 32],
    recipient: &[u8; 32],
) -> Option<LessSafeKey> {
    let salt = [&share[..], recipient].concat();
    agree(own, UnparsedPublicKey::new(&X25519, peer), (), |shared| {
        derive(shared, &salt, X25519_INFO).ok_or(())
    })
    .ok()
    .and_then(|key| chacha(&key))
}

fn payload_key(file_key: &[u8; FILE_KEY], nonce: &[u8; NONCE]) -> Option<LessSafeKey> {
    let key = derive(file_key, nonce, b"payload")?;
    chacha(&key)
}

fn header_key(file_key: &[u8; FILE_KEY]) -> Option<hmac::Key> {
    let key = derive(file_key, &[], b"header")?;
    Some(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
}

/// HKDF-SHA-256 (RFC 5869), 32 bytes.
pub(super) fn derive(secret: &[u8], salt: &[u8], info: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(&[info], hkdf::HKDF_SHA256)
        .ok()?
        .fill(key.as_mut())
        .ok()?;
    Some(key)
}

fn chacha(key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&CHACHA20_POLY1305, key)
        .ok()
        .map(LessSafeKey::new)
}

/// Of a key that is used once.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// The chunk's number in eleven bytes, and whether it is the last.
fn chunk_nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    if let Some(place) = nonce.get_mut(3..11) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    if let Some(place) = nonce.last_mut() {
        *place = u8::from(last);
    }
    Nonce::assume_unique_for_key(nonce)
}

fn private(secret: &[u8; 32]) -> Option<PrivateKey> {
    PrivateKey::from_private_key(&X25519, secret).ok()
}

fn public_of(private: &PrivateKey) -> Option<[u8; 32]> {
    private.compute_public_key().ok()?.as_ref().try_into().ok()
}

fn to_bech32(key: &[u8; 32], prefix: &str) -> Option<String> {
    bech32::encode::<Bech32>(Hrp::parse(prefix).ok()?, key).ok()
}

fn from_bech32(text: &str, prefix: &str) -> Option<[u8; 32]> {
    let checked = CheckedHrpstring::new::<Bech32>(text).ok()?;
    (checked.hrp() == Hrp::parse(prefix).ok()?).then_some(())?;
    let bytes = Zeroizing::new(checked.byte_iter().collect::<Vec<u8>>());
    bytes.as_slice().try_into().ok()
}
