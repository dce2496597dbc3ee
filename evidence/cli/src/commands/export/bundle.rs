//! A bundle: what proves itself to whoever has the log's public key.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use chaperone_evidence::audit::bundle::{self, BundleError, Files};
use chaperone_evidence::audit::{add_keys, keys_of};
use chaperone_evidence::{BreakReason, Keyring, Recipient, Selection, SessionId};

use super::save;
use crate::archive;
use crate::cli::ExportArgs;
use crate::commands::Answer;
use crate::commands::select::{opened, selected};
use crate::error::CliError;
use crate::output::{Output, counted, note};
use crate::progress::Progress;
use crate::source::{Evidence, Found, Scratch, Source};

/// How long what was just recorded may take into the signed log.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes the bundle of the sessions that are asked for.
pub(crate) fn run(
    source: &Source,
    args: &ExportArgs,
    namespace: Option<&str>,
    output: &mut Output,
) -> Result<Answer, CliError> {
    if args.to.is_none() && output.is_terminal() {
        return Err(CliError::Usage(
            "a bundle is no text: name a file with --to, or redirect the output".to_owned(),
        ));
    }
    let mut evidence = opened(source, &args.sessions, &args.filter, namespace)?;
    let found = wanted(&evidence, args, namespace)?;
    if found.is_empty() {
        note("no session matches");
        return Ok(Answer::No);
    }
    let count = counted(found.len() as u64, "session", "sessions");
    let progress = Progress::start("making the bundle");
    let files = proven(source, &mut evidence, found, &args.recipient)?;
    drop(progress);
    match &args.to {
        None => {
            let mut bytes = Vec::new();
            archive::write(&files, &mut bytes)?;
            output.raw(&bytes)?;
        }
        Some(path) => {
            save(path, |to| Ok(archive::write(&files, to)?))?;
            output.line(&format!("{} holds {count}", path.display()))?;
        }
    }
    Ok(Answer::Yes)
}

fn wanted(
    evidence: &Evidence,
    args: &ExportArgs,
    namespace: Option<&str>,
) -> Result<Vec<Found>, CliError> {
    let mut found = if args.sessions.is_empty() {
        evidence.sessions()?
    } else {
        let named = args.sessions.iter().map(|name| evidence.session(name));
        named.collect::<Result<_, _>>()?
    };
    found.retain(|found| selected(&found.session, &args.filter, namespace));
    found.sort_by_key(Found::order);
    found.dedup_by_key(|found| found.session.id);
    Ok(found)
}

/// Makes the bundle, and verifies it as its reader will: nobody is handed one that does not show what
/// it was made for. What has just been recorded is waited for until it is in the signed log.
fn proven(
    source: &Source,
    evidence: &mut Evidence,
    mut found: Vec<Found>,
    recipients: &[Recipient],
) -> Result<Files, CliError> {
    let sessions: Vec<SessionId> = found.iter().map(|found| found.session.id).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stores: BTreeSet<&Path> = found.iter().map(|found| found.dir.as_path()).collect();
        let why_not = match files(evidence, &stores, &sessions)? {
            Err(why) => why,
            Ok(mut files) => {
                let keys = opening(&found, &sessions)?;
                add_keys(&mut files, &keys, recipients)
                    .map_err(|error| CliError::Usage(format!("--recipient: {error}")))?;
                let scratch = Scratch::new()?;
                let told = bundle::verify_bundle(
                    &files,
                    None,
                    None,
                    evidence.keys(),
                    &Selection::All,
                    scratch.path(),
                )?;
                let shut = sessions.iter().filter(|id| told.report.sealed.contains(id));
                let shut = shut.filter(|id| !keys.opens(id)).count();
                if shut > 0 {
                    note(&format!(
                        "{} sealed in it: you have no key to hand on",
                        counted(shut as u64, "session stays", "sessions stay")
                    ));
                }
                let breaks = told.report.breaks;
                let missing = breaks
                    .iter()
                    .find(|one| one.session.is_none() && one.reason == BreakReason::SessionMissing);
                match (missing, breaks.first()) {
                    (Some(missing), _) => {
                        format!("{}; it is not in the signed log yet", missing.detail)
                    }
                    // Evidence that is broken is worth handing on, too.
                    (None, Some(first)) => {
                        note(&format!(
                            "what is exported does not verify: {} ({})",
                            first.detail,
                            first.reason.as_str()
                        ));
                        return Ok(files);
                    }
                    (None, None) => return Ok(files),
                }
            }
        };
        if Instant::now() >= deadline {
            return Err(CliError::Usage(format!(
                "{why_not}; try again in a minute, and see `kubectl chaperone doctor` if that does not help"
            )));
        }
        std::thread::sleep(PAUSE);
        source.refresh(evidence)?;
        found = sessions
            .iter()
            .map(|id| evidence.session(&id.to_string()))
            .collect::<Result<_, _>>()?;
    }
}

/// The keys that open these sessions, as far as there are any here.
fn opening(found: &[Found], sessions: &[SessionId]) -> Result<Keyring, CliError> {
    let mut keys = Keyring::default();
    let mut seen = BTreeSet::new();
    for place in found.iter().map(|found| &found.dir) {
        if seen.insert(place.as_path()) {
            keys.extend(&keys_of(place, sessions)?);
        }
    }
    Ok(keys)
}

/// The bundle's files; within, why nothing can be proven.
fn files(
    evidence: &Evidence,
    stores: &BTreeSet<&Path>,
    sessions: &[SessionId],
) -> Result<Result<Files, String>, CliError> {
    let made = match evidence {
        Evidence::Folder(dir) => bundle::of_folder(dir, sessions),
        Evidence::Log(log) => {
            let public = log.published().ok_or_else(|| {
                CliError::Usage("the cluster publishes no key of its log".to_owned())
            })?;
            let stores: Vec<(String, [u8; 32])> = log
                .stores()
                .iter()
                .filter(|store| stores.contains(store.dir.as_path()))
                .map(|store| (store.pod.uid.clone(), store.public))
                .collect();
            bundle::of_log(log.collected(), &public, &stores, sessions)
        }
    };
    match made {
        Ok(files) => Ok(Ok(files)),
        Err(BundleError::Store(error)) => Err(CliError::Evidence(error)),
        Err(
            error @ (BundleError::Unprovable(_) | BundleError::Waiting | BundleError::Below(_)),
        ) => Ok(Err(error.to_string())),
    }
}
