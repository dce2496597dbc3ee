//! Which log key everything is checked against, and whether the folder's key files fit it.

use std::path::PathBuf;

use super::{Break, BreakReason, Report, TrustedKey};
use crate::entry::Attach;
use crate::error::StoreError;
use crate::frame::Hash;
use crate::keys::{SigningKey, fingerprint};
use crate::log::Log;
use crate::seal::{SEAL_KEY, read_identities};
use crate::segment;
use crate::store::{
    DIGEST_KEY, LOG_KEY, LOG_PUBLIC, read_digest_key, read_log_key, read_log_public,
};

/// What the attach certificates must fit.
pub(super) struct Keys {
    /// None: no key is known, so no certificate holds.
    pub(super) log: Option<[u8; 32]>,
    /// Commitment of the folder's digest key, if that can be read.
    pub(super) digest_key: Option<Hash>,
}

pub(super) fn check(log: &Log, given: Option<&TrustedKey>, report: &mut Report) -> Keys {
    let in_folder = read_log_public(&log.dir);
    let trusted = match given {
        Some(TrustedKey::PublicKey(key)) => Some(*key),
        Some(TrustedKey::Fingerprint(wanted)) => in_folder
            .as_ref()
            .ok()
            .copied()
            .into_iter()
            .chain(first_certificate(log))
            .find(|key| fingerprint(key) == wanted.trim()),
        None => in_folder.as_ref().ok().copied(),
    };
    report.fingerprint = match (trusted, given) {
        (Some(key), _) => fingerprint(&key),
        (None, Some(TrustedKey::Fingerprint(wanted))) => wanted.clone(),
        (None, _) => String::new(),
    };
    match &in_folder {
        Ok(key) if trusted.is_none_or(|trusted| trusted != *key) => {
            mismatch(
                report,
                LOG_PUBLIC,
                "it is not the key the log is to be verified against",
            );
        }
        Ok(_) => {}
        // An auditor's copy may come without it, if he brings his own.
        Err(error) if given.is_some() && missing(error) => {}
        Err(error) => mismatch(report, LOG_PUBLIC, &error.to_string()),
    }
    match read_log_key(&log.dir) {
        Ok(seed) => {
            let public = SigningKey::from_seed(&seed).map(|key| *key.public());
            if public != trusted {
                mismatch(
                    report,
                    LOG_KEY,
                    "it is not the private half of the log's key",
                );
            }
        }
        Err(error) => absent(report, LOG_KEY, &error),
    }
    if let Err(error) = read_identities(&log.dir)
        && !missing(&error)
    {
        mismatch(report, SEAL_KEY, &error.to_string());
    }
    let digest_key = match read_digest_key(&log.dir) {
        Ok(key) => Some(*key.commitment()),
        Err(error) => {
            absent(report, DIGEST_KEY, &error);
            None
        }
    };
    Keys {
        log: trusted,
        digest_key,
    }
}

/// Private files may be missing in an auditor's copy, or unreadable to him; not be another's.
fn absent(report: &mut Report, name: &str, error: &StoreError) {
    if missing(error) {
        report.note(
            Some(PathBuf::from(name)),
            None,
            "not here or not readable; not checked",
        );
    } else {
        mismatch(report, name, &error.to_string());
    }
}

fn missing(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if matches!(
        source.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
    ))
}

fn mismatch(report: &mut Report, name: &str, detail: &str) {
    report.wrong(Break {
        file: PathBuf::from(name),
        session: None,
        sequence: None,
        reason: BreakReason::KeyMismatch,
        detail: detail.to_owned(),
    });
}

fn first_certificate(log: &Log) -> Option<[u8; 32]> {
    let bytes = segment::load(&log.dir, *log.segments.first()?).ok()?;
    let segment = segment::split(&bytes).ok()?;
    let first = segment
        .entries
        .first()
        .filter(|entry| entry.kind == segment::ATTACH)?;
    Attach::decode(first.body)
        .ok()
        .map(|attach| attach.log_public)
}
