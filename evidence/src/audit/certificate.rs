//! The log key, and what it says of a pod's store: whose it is.

use zeroize::Zeroizing;

use crate::clock::{Entropy, SystemEntropy};
use crate::codec::{Malformed, Put, Reader};
use crate::error::StoreError;
use crate::keys::{self, SIGNATURE, SigningKey, verified};
use crate::record::MAX_TEXT;

const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"chaperone store v1\0";
/// Longest certificate a reader takes.
const MAX_CERTIFICATE: usize = 8 * 1024;

/// The key of a cluster's log: it certifies stores and signs checkpoints.
pub struct LogKey(SigningKey);

impl std::fmt::Debug for LogKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogKey(…)")
    }
}

impl LogKey {
    /// A new key, as the PEM (PKCS #8, RFC 8410) that [`LogKey::from_pem`] reads.
    ///
    /// # Errors
    /// Where the system gives no randomness.
    pub fn generate() -> Result<Zeroizing<String>, StoreError> {
        let mut seed = Zeroizing::new([0; 32]);
        if !SystemEntropy.fill(seed.as_mut()) {
            return Err(StoreError::Crypto("no randomness"));
        }
        Ok(keys::private_pem(&seed))
    }

    /// Reads a key. None where the text is not one, byte for byte.
    pub fn from_pem(text: &str) -> Option<LogKey> {
        let seed = keys::parse_private_pem(text)?;
        SigningKey::from_seed(&seed).map(LogKey)
    }

    /// Its public half.
    pub fn public(&self) -> &[u8; 32] {
        self.0.public()
    }

    pub(super) fn sign(&self, domain: &[u8], bytes: &[u8]) -> Option<[u8; SIGNATURE]> {
        self.0.sign(domain, bytes)
    }

    pub(super) fn sign_text(&self, text: &[u8]) -> Option<[u8; SIGNATURE]> {
        self.0.sign(b"", text)
    }
}

/// A pod, as the API server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Service account.
    pub service_account: String,
}

/// Whose store it is: what ties a store's own key to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreCertificate {
    /// The store's public key, which signs the attaches in it.
    pub store: [u8; 32],
    /// The pod.
    pub pod: Pod,
    /// When it was certified, nanoseconds since the Unix epoch.
    pub wall_ns: u64,
}

/// Why a certificate does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not a certificate.
    #[error("it is no certificate: {0}")]
    Malformed(&'static str),
    /// The log key did not sign it.
    #[error("the log key did not sign it")]
    Signature,
}

impl From<Malformed> for CertificateError {
    fn from(error: Malformed) -> CertificateError {
        CertificateError::Malformed(error.0)
    }
}

impl StoreCertificate {
    /// The certificate's bytes. None where a name is longer than any name is, or signing fails.
    ///
    /// ```text
    /// version u8 · store [32] · namespace text · name text · uid text · service account text · wall ns u64 · signature [64]
    /// ```
    /// The signature is the log key's, domain `chaperone store v1`, over all before it.
    pub fn sign(&self, key: &LogKey) -> Option<Vec<u8>> {
        let texts = [
            &self.pod.namespace,
            &self.pod.name,
            &self.pod.uid,
            &self.pod.service_account,
        ];
        if texts.iter().any(|text| text.len() > MAX_TEXT / 4) {
            return None;
        }
        let mut out = Vec::with_capacity(512);
        out.put_u8(VERSION);
        out.put(&self.store);
        for text in texts {
            out.put_text(text);
        }
        out.put_u64(self.wall_ns);
        let signature = key.sign(DOMAIN, &out)?;
        out.put(&signature);
        Some(out)
    }

    /// Reads a certificate and holds it against the log's public key.
    ///
    /// # Errors
    /// Where it is none, or another key signed it.
    pub fn open(bytes: &[u8], public: &[u8; 32]) -> Result<StoreCertificate, CertificateError> {
        if bytes.len() > MAX_CERTIFICATE {
            return Err(CertificateError::Malformed("it is too long"));
        }
        let r = &mut Reader::new(bytes);
        if r.u8()? != VERSION {
            return Err(CertificateError::Malformed(
                "a version this reader does not know",
            ));
        }
        let store = r.array()?;
        let pod = Pod {
            namespace: r.text()?,
            name: r.text()?,
            uid: r.text()?,
            service_account: r.text()?,
        };
        let wall_ns = r.u64()?;
        let signed = bytes.get(..bytes.len() - r.remaining()).unwrap_or_default();
        let signature = r.array::<SIGNATURE>()?;
        r.end()?;
        if !verified(public, DOMAIN, signed, &signature) {
            return Err(CertificateError::Signature);
        }
        Ok(StoreCertificate {
            store,
            pod,
            wall_ns,
        })
    }
}
