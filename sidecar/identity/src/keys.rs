//! The public keys of an issuer: a JSON Web Key Set (RFC 7517, section 5).

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

/// Longest key set that is taken, in bytes.
pub const MAX_JWKS: usize = 64 * 1024;
/// Most keys of a set; a set with more is refused rather than cut.
const MAX_KEYS: usize = 64;

/// Why a text gives no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Longer than [`MAX_JWKS`].
    #[error("the key set has {0} bytes; at most {MAX_JWKS} are taken")]
    TooLong(usize),
    /// No JSON object with a list `keys`.
    #[error("the key set is not a JSON object with a list `keys` (RFC 7517, section 5)")]
    NotAKeySet,
    /// More than any issuer needs.
    #[error("the key set has {0} keys; at most {MAX_KEYS} are taken")]
    TooMany(usize),
    /// None that verifies a signature.
    #[error("the key set has no public RSA, EC or Ed25519 key for signatures")]
    NoneUsable,
}

/// Keys that may have signed a token.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    id: Option<String>,
    /// The only algorithm it is for, where its issuer says so (RFC 7517, section 4.4).
    only: Option<String>,
    kind: Kind,
    key: DecodingKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.keys.iter().map(|key| &key.id))
            .finish()
    }
}

impl KeySet {
    /// Reads a key set. Keys that are not understood, for encryption or symmetric are left out:
    /// a token can never be verified by one (RFC 7517, section 5, says to ignore the unknown).
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn parse(text: &str) -> Result<KeySet, KeysError> {
        if text.len() > MAX_JWKS {
            return Err(KeysError::TooLong(text.len()));
        }
        let value: Value = serde_json::from_str(text).map_err(|_| KeysError::NotAKeySet)?;
        let Some(Value::Array(found)) = value.get("keys") else {
            return Err(KeysError::NotAKeySet);
        };
        if found.len() > MAX_KEYS {
            return Err(KeysError::TooMany(found.len()));
        }
        let keys: Vec<Key> = found.iter().filter_map(Key::read).collect();
        if keys.is_empty() {
            return Err(KeysError::NoneUsable);
        }
        Ok(KeySet { keys })
    }

    /// The keys that a token of this header may have been signed with. A key id must be the key's
    /// own; a token without one may be of any key that fits its algorithm.
    pub(crate) fn candidates<'a>(
        &'a self,
        id: Option<&'a str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'a DecodingKey> {
        self.keys
            .iter()
            .filter(move |key| id.is_none() || key.id.as_deref() == id)
            .filter(move |key| key.fits(algorithm))
            .map(|key| &key.key)
    }
}

impl Key {
    fn read(value: &Value) -> Option<Key> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        let kind = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Kind::Rsa,
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => Kind::P256,
                EllipticCurve::P384 => Kind::P384,
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) => match key.curve {
                EllipticCurve::Ed25519 => Kind::Ed25519,
                _ => return None,
            },
            // A symmetric key in a public document is everybody's.
            _ => return None,
        };
        let for_signatures = jwk
            .common
            .public_key_use
            .as_ref()
            .is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
        if !for_signatures {
            return None;
        }
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Key {
            id: text("kid"),
            only: text("alg"),
            kind,
            key: DecodingKey::from_jwk(&jwk).ok()?,
        })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        let kind = match algorithm {
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => Kind::Rsa,
            Algorithm::ES256 => Kind::P256,
            Algorithm::ES384 => Kind::P384,
            Algorithm::EdDSA => Kind::Ed25519,
            _ => return false,
        };
        let named = format!("{algorithm:?}");
        self.kind == kind && self.only.as_ref().is_none_or(|only| *only == named)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Example keys of RFC 7517, appendix A.1, and RFC 8037, appendix A.2.
    const P256: &str = r#"{"kty":"EC","crv":"P-256","kid":"1",
        "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#;
    const ED25519: &str =
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    const SYMMETRIC: &str = r#"{"kty":"oct","kid":"1","alg":"HS256","k":"c2VjcmV0"}"#;

    fn set(keys: &[&str]) -> Result<KeySet, KeysError> {
        KeySet::parse(&format!("{{\"keys\":[{}]}}", keys.join(",")))
    }

    fn count(set: &KeySet, id: Option<&str>, algorithm: Algorithm) -> usize {
        set.candidates(id, algorithm).count()
    }

    #[test]
    fn a_key_is_found_by_its_id_and_only_for_its_own_algorithm() {
        let set = set(&[P256, ED25519, SYMMETRIC]).unwrap();
        assert_eq!(count(&set, Some("1"), Algorithm::ES256), 1);
        assert_eq!(count(&set, Some("2"), Algorithm::ES256), 0);
        assert_eq!(count(&set, None, Algorithm::EdDSA), 1);
        for other in [Algorithm::ES384, Algorithm::RS256, Algorithm::HS256] {
            assert_eq!(count(&set, Some("1"), other), 0, "{other:?}");
        }
    }

    #[test]
    fn keys_that_sign_nothing_are_no_keys() {
        let encryption = P256.replace("\"kid\"", "\"use\":\"enc\",\"kid\"");
        for keys in [&[SYMMETRIC][..], &[&encryption], &["{}", "1", "null"], &[]] {
            assert_eq!(set(keys).unwrap_err(), KeysError::NoneUsable);
        }
        let other = P256.replace("\"kid\"", "\"alg\":\"ES384\",\"kid\"");
        assert_eq!(count(&set(&[&other]).unwrap(), None, Algorithm::ES256), 0);
    }

    #[test]
    fn junk_is_no_key_set() {
        for junk in ["", "[]", "{}", "{\"keys\":{}}", "\u{0}"] {
            assert_eq!(KeySet::parse(junk).unwrap_err(), KeysError::NotAKeySet);
        }
        let many = vec![ED25519; MAX_KEYS + 1];
        assert_eq!(set(&many).unwrap_err(), KeysError::TooMany(MAX_KEYS + 1));
        let long = " ".repeat(MAX_JWKS + 1);
        assert!(matches!(KeySet::parse(&long), Err(KeysError::TooLong(_))));
    }
}
