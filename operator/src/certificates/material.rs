//! The serving certificate and its authority: made, and renewed in time. Pure but for randomness.
//!
//! ```text
//! CA 10 years ── at 2/3 ──► the next CA joins the bundle ── near the end ──► it takes over
//! leaf 90 days ── at 2/3 ──► the next leaf
//! ```
//!
//! Sidecars are given the whole bundle when they are injected. So the next CA is in it for years
//! before anything is signed with it, and only pods older than that have to be recreated.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use zeroize::Zeroizing;

/// How long an authority is valid.
const AUTHORITY: SignedDuration = SignedDuration::from_hours(24 * 3650);
/// How long a leaf is valid.
const LEAF: SignedDuration = SignedDuration::from_hours(24 * 90);
/// How far back validity begins, for clocks that are behind.
const SKEW: SignedDuration = SignedDuration::from_hours(24);

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// The library's.
    #[error("a certificate cannot be made: {0}")]
    Rcgen(#[from] rcgen::Error),
    /// The clock says something impossible.
    #[error("the clock of this machine is out of range")]
    Clock(#[from] jiff::Error),
}

/// An authority.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// PEM of its certificate.
    pub certificate: String,
    /// PEM of its key.
    pub key: Zeroizing<String>,
    /// When it ends.
    pub ends: Timestamp,
}

/// Everything that the Secret holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// Signs leaves.
    pub authority: Authority,
    /// Will sign leaves; trusted already.
    pub next: Option<Authority>,
    /// PEM of the leaf.
    pub certificate: String,
    /// PEM of the leaf's key.
    pub key: Zeroizing<String>,
    /// When the leaf ends.
    pub ends: Timestamp,
    /// DNS names of the leaf.
    pub names: Vec<String>,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material")
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

impl Material {
    /// PEM of every authority that is to be trusted, the signing one first.
    pub fn authorities(&self) -> Vec<String> {
        let mut all = vec![self.authority.certificate.clone()];
        all.extend(self.next.iter().map(|next| next.certificate.clone()));
        all
    }
}

/// What should be there instead of `old` at `now`; `None` if nothing is to be done.
///
/// # Errors
/// [`MaterialError`], which no input leads to.
pub fn renew(
    old: Option<&Material>,
    names: &[String],
    now: Timestamp,
) -> Result<Option<Material>, MaterialError> {
    let usable = old.filter(|old| now < old.authority.ends);
    let Some(old) = usable else {
        return Ok(Some(signed(authority(now)?, None, names, now)?));
    };
    if old.next.is_none() && due(old.authority.ends, AUTHORITY, now) {
        let next = Some(authority(now)?);
        return Ok(Some(Material {
            next,
            ..old.clone()
        }));
    }
    // While it still may sign a leaf of full length, it does: later pods know its successor.
    if let Some(next) = &old.next
        && old.authority.ends.duration_since(now) < LEAF + LEAF
    {
        return Ok(Some(signed(next.clone(), None, names, now)?));
    }
    if due(old.ends, LEAF, now) || old.names != names {
        let next = old.next.clone();
        return Ok(Some(signed(old.authority.clone(), next, names, now)?));
    }
    Ok(None)
}

/// Whether two thirds of a life are over.
fn due(ends: Timestamp, life: SignedDuration, now: Timestamp) -> bool {
    ends.duration_since(now) < life / 3
}

fn authority(now: Timestamp) -> Result<Authority, MaterialError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let (mut params, ends) = validity(now, AUTHORITY)?;
    describe_authority(&mut params, &key);
    let certificate = params.self_signed(&key)?;
    Ok(Authority {
        certificate: certificate.pem(),
        key: Zeroizing::new(key.serialize_pem()),
        ends,
    })
}

/// Subject and usages of an authority. The name follows from its key, so that they can be said
/// again when it signs, without parsing its certificate.
fn describe_authority(params: &mut CertificateParams, key: &KeyPair) {
    let identifier = params.key_identifier(key);
    let short = identifier.get(..6).unwrap_or_default();
    let mut name = DistinguishedName::new();
    name.push(
        DnType::CommonName,
        format!("chaperone-operator CA {}", hex::encode(short)),
    );
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
}

fn signed(
    authority: Authority,
    next: Option<Authority>,
    names: &[String],
    now: Timestamp,
) -> Result<Material, MaterialError> {
    let authority_key = KeyPair::from_pem(&authority.key)?;
    let mut described = CertificateParams::default();
    describe_authority(&mut described, &authority_key);
    let issuer = Issuer::new(described, authority_key);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let (validity, ends) = validity(now, LEAF)?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "chaperone-operator");
    params.distinguished_name = name;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Material {
        authority,
        next,
        certificate: certificate.pem(),
        key: Zeroizing::new(key.serialize_pem()),
        ends,
        names: names.to_vec(),
    })
}

/// Whole days, as the library counts them.
fn validity(
    now: Timestamp,
    life: SignedDuration,
) -> Result<(CertificateParams, Timestamp), MaterialError> {
    let mut params = CertificateParams::default();
    let from = date(now.checked_sub(SKEW)?);
    let until = date(now.checked_add(life)?);
    let (year, month, day) = parts(from);
    params.not_before = date_time_ymd(year, month, day);
    let (year, month, day) = parts(until);
    params.not_after = date_time_ymd(year, month, day);
    let ends = until.to_zoned(TimeZone::UTC)?.timestamp();
    Ok((params, ends))
}

fn date(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// Year, month, day.
fn parts(date: Date) -> (i32, u8, u8) {
    let part = |number: i8| u8::try_from(number).unwrap_or(1);
    (i32::from(date.year()), part(date.month()), part(date.day()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NAMES: [&str; 1] = ["chaperone-operator.chaperone-system.svc"];

    fn names() -> Vec<String> {
        NAMES.map(str::to_owned).to_vec()
    }

    fn days(number: i64) -> SignedDuration {
        SignedDuration::from_hours(24 * number)
    }

    fn start() -> Timestamp {
        "2025-06-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_leaf_is_renewed_at_two_thirds_and_keeps_its_authority() {
        let first = renew(None, &names(), start()).unwrap().unwrap();
        assert!(
            renew(Some(&first), &names(), start() + days(59))
                .unwrap()
                .is_none()
        );
        let second = renew(Some(&first), &names(), start() + days(61))
            .unwrap()
            .unwrap();
        assert_eq!(first.authorities(), second.authorities());
        assert_ne!(first.certificate, second.certificate);
        assert!(second.ends > first.ends);
    }

    #[test]
    fn the_next_authority_is_trusted_long_before_it_signs() {
        let first = renew(None, &names(), start()).unwrap().unwrap();
        let later = start() + days(2500);
        let joined = renew(Some(&first), &names(), later).unwrap().unwrap();
        assert_eq!(joined.authority.certificate, first.authority.certificate);
        assert_eq!(joined.authorities().len(), 2);
        let end = start() + days(3650 - 100);
        let taken = renew(Some(&joined), &names(), end).unwrap().unwrap();
        assert_eq!(taken.authorities(), joined.authorities().get(1..).unwrap());
        assert!(renew(Some(&taken), &names(), end).unwrap().is_none());
    }

    #[test]
    fn an_expired_authority_is_replaced_whole() {
        let first = renew(None, &names(), start()).unwrap().unwrap();
        let late = renew(Some(&first), &names(), start() + days(4000))
            .unwrap()
            .unwrap();
        assert_ne!(late.authorities(), first.authorities());
    }

    #[test]
    fn other_names_need_another_leaf() {
        let first = renew(None, &names(), start()).unwrap().unwrap();
        let other = vec!["other.svc".to_owned()];
        assert!(renew(Some(&first), &other, start()).unwrap().is_some());
    }
}
