//! The `tls-server-end-point` channel binding (RFC 5929, section 4).

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};

/// The binding data of a server certificate in DER: its hash, by the hash of its own signature
/// algorithm, where MD5 and SHA-1 become SHA-256. `None` where RFC 5929 leaves it undefined
/// (Ed25519, and RSASSA-PSS, which servers treat differently) or the DER is not understood.
pub fn server_end_point(certificate_der: &[u8]) -> Option<Vec<u8>> {
    let algorithm = match signature_algorithm(certificate_der)? {
        // md5WithRSAEncryption, sha1WithRSAEncryption, sha256WithRSAEncryption (RFC 8017, A.2.4).
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 4 | 5 | 11] => &SHA256,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 12] => &SHA384,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 13] => &SHA512,
        // ecdsa-with-SHA1, ecdsa-with-SHA256 … SHA512 (RFC 5758, section 3.2).
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] => &SHA256,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 2] => &SHA256,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 3] => &SHA384,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 4] => &SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate_der).as_ref().to_vec())
}

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// The OID in `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, … }` (RFC 5280, 4.1).
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (inside, _) = element(certificate, SEQUENCE)?;
    let (_, after_tbs) = element(inside, SEQUENCE)?;
    let (algorithm, _) = element(after_tbs, SEQUENCE)?;
    let (oid, _) = element(algorithm, OBJECT_IDENTIFIER)?;
    Some(oid)
}

/// The content of the DER element at the front of `der`, and what follows it (X.690, section 8.1).
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    if first != tag {
        return None;
    }
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let count = usize::from(length & 0x7f);
        if !(1..=4).contains(&count) {
            return None;
        }
        let (octets, rest) = rest.split_at_checked(count)?;
        let value = octets
            .iter()
            .fold(0usize, |value, octet| (value << 8) | usize::from(*octet));
        (value, rest)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn certificate(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(vec!["db.test".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_binding_hashes_with_the_certificates_own_hash() {
        let der = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(
            server_end_point(&der).unwrap(),
            digest::digest(&SHA256, &der).as_ref()
        );
        let der = certificate(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(
            server_end_point(&der).unwrap(),
            digest::digest(&SHA384, &der).as_ref()
        );
        assert_eq!(server_end_point(&certificate(&rcgen::PKCS_ED25519)), None);
    }

    #[test]
    fn a_cut_certificate_has_no_binding_and_no_panic() {
        let der = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
        for end in 0..der.len() {
            // The OID is read as soon as the outer lengths hold, so a cut one never yields a hash.
            assert_eq!(server_end_point(der.get(..end).unwrap()), None);
        }
        for index in 0..der.len().min(64) {
            for value in [0x00, 0x7f, 0x80, 0x84, 0xff] {
                let mut bent = der.clone();
                if let Some(byte) = bent.get_mut(index) {
                    *byte = value;
                }
                let _ = server_end_point(&bent);
            }
        }
    }
}
