//! The log's public key, in whatever form an auditor has it.

use std::fs;

use chaperone_evidence::TrustedKey;

use crate::error::CliError;

/// Largest key file read.
const MAX_KEY_FILE: u64 = 16 * 1024;
/// DER of an Ed25519 SubjectPublicKeyInfo up to the key's 32 bytes (RFC 8410, section 10.1).
const ED25519_SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// A fingerprint, or a file with a fingerprint or with the key as PEM, DER, hex or raw bytes.
pub(super) fn trusted_key(given: &str) -> Result<TrustedKey, CliError> {
    if given.starts_with("SHA256:") {
        return Ok(TrustedKey::Fingerprint(given.to_owned()));
    }
    let metadata = fs::metadata(given).map_err(|e| {
        CliError::Usage(format!(
            "cannot read the key file {given}: {e}; give a file, or a fingerprint that starts with SHA256:"
        ))
    })?;
    if metadata.len() > MAX_KEY_FILE {
        return Err(CliError::Usage(format!("{given} is too large to be a key")));
    }
    let bytes = fs::read(given)
        .map_err(|e| CliError::Usage(format!("cannot read the key file {given}: {e}")))?;
    parse_key(&bytes).ok_or_else(|| {
        CliError::Usage(format!(
            "{given} holds no Ed25519 public key (PEM, DER, hex, base64 or 32 raw bytes) and no SHA256: fingerprint"
        ))
    })
}

fn parse_key(bytes: &[u8]) -> Option<TrustedKey> {
    if let Some(key) = from_binary(bytes) {
        return Some(key);
    }
    let text = std::str::from_utf8(bytes).ok()?.trim();
    if text.starts_with("SHA256:") {
        let fingerprint = text.split_whitespace().next()?;
        return Some(TrustedKey::Fingerprint(fingerprint.to_owned()));
    }
    if let Ok(decoded) = hex::decode(text) {
        return from_binary(&decoded);
    }
    let base64: String = text
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect();
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(base64)
        .ok()?;
    from_binary(&decoded)
}

fn from_binary(bytes: &[u8]) -> Option<TrustedKey> {
    let key = bytes.strip_prefix(&ED25519_SPKI).unwrap_or(bytes);
    Some(TrustedKey::PublicKey(<[u8; 32]>::try_from(key).ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use base64::Engine as _;

    use super::*;

    #[test]
    fn a_key_is_read_in_every_usual_form() {
        let key: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap() + 200);
        let der = [&ED25519_SPKI[..], &key].concat();
        let base64 = base64::engine::general_purpose::STANDARD.encode(&der);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n");
        let hexed = format!("{}\n", hex::encode(key));
        for form in [
            &key[..],
            &der,
            pem.as_bytes(),
            base64.as_bytes(),
            hexed.as_bytes(),
        ] {
            assert_eq!(parse_key(form), Some(TrustedKey::PublicKey(key)));
        }
        let fingerprint = b"SHA256:abc a comment\n";
        assert_eq!(
            parse_key(fingerprint),
            Some(TrustedKey::Fingerprint("SHA256:abc".to_owned()))
        );
        for bad in [&b""[..], b"hello", &key[..31], b"\xff\xff"] {
            assert_eq!(parse_key(bad), None);
        }
    }
}
