//! What is looked at before anything of a pod is taken into the log.

use super::certificate::{CertificateError, StoreCertificate};
use crate::codec::Malformed;
use crate::entry::{Attach, Head, Run};
use crate::frame::{Hash, sha256};
use crate::record::AttachId;
use crate::seal::Seal;
use crate::segment;

/// A segment, or a part of one, that may be taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Whose it is.
    pub certificate: StoreCertificate,
    /// SHA-256 of the bytes.
    pub digest: Hash,
}

/// Why something is not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The store's certificate does not hold.
    #[error("the store's certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The certificate is another pod's.
    #[error("the store's certificate is for another pod")]
    OtherPod,
    /// The attach does not hold.
    #[error("the attach: {0}")]
    Attach(&'static str),
    /// The segment does not hold.
    #[error("the segment: {0}")]
    Segment(&'static str),
}

fn segment_error(error: Malformed) -> CheckError {
    CheckError::Segment(error.0)
}

/// Checks bytes that a pod's sidecar hands in: the certificate is the log key's and for this pod; and
/// of a whole segment, that it is sound and every entry is signed by the attach that the store's key
/// certified. Parts are only tied to their pod: whoever verifies puts them together.
///
/// # Errors
/// What does not hold.
pub fn check(
    certificate: &[u8],
    public: &[u8; 32],
    uid: &str,
    attach: &[u8],
    number: u64,
    parts: u32,
    data: &[u8],
) -> Result<Checked, CheckError> {
    let certificate = StoreCertificate::open(certificate, public)?;
    if certificate.pod.uid != uid {
        return Err(CheckError::OtherPod);
    }
    if parts == 1 {
        whole(&certificate.store, attach, number, data)?;
    }
    Ok(Checked {
        certificate,
        digest: sha256(&[data]),
    })
}

fn whole(store: &[u8; 32], attach: &[u8], number: u64, data: &[u8]) -> Result<(), CheckError> {
    let certified = Attach::decode(attach).map_err(|error| CheckError::Attach(error.0))?;
    if !Attach::signature_holds(attach, store) {
        return Err(CheckError::Attach("the store's key did not sign it"));
    }
    let segment = segment::parse(data).map_err(segment_error)?;
    if segment.number != number {
        return Err(CheckError::Segment("it has another number"));
    }
    for entry in &segment.entries {
        let signed = match entry.kind {
            segment::ATTACH => entry.body == attach,
            segment::RUN => {
                let run = Run::decode(entry.body).map_err(segment_error)?;
                by(run.run.signer, &certified)?;
                run.payload_matches() && run.signature_holds(&certified.public)
            }
            segment::HEAD => {
                let head = Head::decode(entry.body).map_err(segment_error)?;
                by(head.attach, &certified)?;
                Head::signature_holds(entry.body, &certified.public)
            }
            segment::SEAL => {
                let seal = Seal::decode(entry.body).map_err(segment_error)?;
                by(seal.attach, &certified)?;
                Seal::signature_holds(entry.body, &certified.public)
            }
            _ => return Err(CheckError::Segment("an entry of unknown kind")),
        };
        if !signed {
            return Err(CheckError::Segment("an entry's signature does not hold"));
        }
    }
    Ok(())
}

fn by(signer: AttachId, certified: &Attach) -> Result<(), CheckError> {
    if signer == certified.id {
        Ok(())
    } else {
        Err(CheckError::Segment("another attach signs an entry"))
    }
}
