//! `verify`: whether the evidence is whole and unchanged, and if not, where first.

use std::path::Path;

use chaperone_crds::audit_store::NAMESPACE;
use chaperone_evidence::audit::bundle::{self, Files};
use chaperone_evidence::audit::verify::{LogReport, verify};
use chaperone_evidence::{
    Break, BreakReason, Keyring, Level, Place, Report, Selection, SessionId, TrustedKey,
    fingerprint,
};
use serde::Serialize;

use super::Answer;
use super::key::trusted_key;
use super::views::UnsealingView;
use crate::archive;
use crate::cli::{Format, VerifyArgs};
use crate::error::CliError;
use crate::output::{Output, Tone, counted, escape_line, note};
use crate::progress::Progress;
use crate::source::{Evidence, FetchedLog, Scratch, Source};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportView {
    ok: bool,
    level: &'static str,
    key: String,
    key_given: bool,
    attaches: usize,
    sessions: u64,
    /// Sessions among them of which only the outside was checked.
    sealed: usize,
    records: u64,
    unproven: u64,
    bytes: u64,
    breaks: Vec<BreakView>,
    notes: Vec<NoteView>,
    /// Of a cluster only.
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<LogView>,
}

#[derive(Debug, Clone, Serialize)]
struct LogView {
    checkpoints: u64,
    size: u64,
    root: String,
    pending: u64,
    stores: usize,
    /// What is gone under the newest tombstone.
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<RemovedView>,
    /// Who was given the keys of which sealed sessions, oldest first.
    unsealings: Vec<UnsealingView>,
}

#[derive(Debug, Clone, Serialize)]
struct RemovedView {
    tombstone: String,
    checkpoint: u64,
    segments: u64,
    entries: u64,
}

#[derive(Debug, Serialize)]
struct BreakView {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    reason: &'static str,
    detail: String,
}

#[derive(Debug, Serialize)]
struct NoteView {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    detail: String,
}

/// What was found, of a folder, a cluster's log or a bundle.
pub(super) struct Verified {
    /// Whose word it is where no key is given.
    owner: &'static str,
    /// What verify says.
    pub(super) report: Report,
    log: Option<LogView>,
}

/// How often a log is read in which something is missing.
const READINGS: usize = 3;
/// Unsealings that are printed; `-o json` has all.
const SHOWN_UNSEALINGS: usize = 10;
/// Most of a note that is read.
const MAX_NOTE: u64 = 16 * 1024;

/// Verifies, prints the report, and answers no if anything is wrong.
pub(crate) fn run(
    source: &Source,
    args: &VerifyArgs,
    output: &mut Output,
) -> Result<Answer, CliError> {
    let key = args.key.as_deref().map(trusted_key).transpose()?;
    let evidence = source.evidence()?;
    let session = match &args.session {
        Some(session) => Some(evidence.session(session)?.session.id),
        None => None,
    };
    let progress = Progress::start("verifying");
    let verified = verified(source, evidence, session.as_ref(), key.as_ref());
    drop(progress);
    say(&verified?, args, output)
}

/// Verifies evidence, which is `source`'s, wherever it is from.
pub(super) fn verified(
    source: &Source,
    evidence: Evidence,
    session: Option<&SessionId>,
    key: Option<&TrustedKey>,
) -> Result<Verified, CliError> {
    let mut log = match evidence {
        Evidence::Folder(dir) => return of_folder(&dir, session, key),
        Evidence::Log(log) => log,
    };
    // A log is read in many answers. What goes meanwhile, under a tombstone that came behind what was
    // read of the checkpoints, looks as if it had been taken; that is still missed when all is read
    // again.
    for _ in 1..READINGS {
        let keys = log.keys().clone();
        let found = of_log(log, session, key)?;
        if !found.misses_something() {
            return Ok(found);
        }
        note("something is missed that may have gone while the log was read: reading it again");
        log = match source.evidence_with(&keys)? {
            Evidence::Log(log) => log,
            Evidence::Folder(_) => return Ok(found),
        };
    }
    of_log(log, session, key)
}

/// The same of a bundle, for which no source is needed.
pub(crate) fn of_bundle(
    path: &Path,
    args: &VerifyArgs,
    keys: &Keyring,
    output: &mut Output,
) -> Result<Answer, CliError> {
    let key = args.key.as_deref().map(trusted_key).transpose()?;
    let held = args.note.as_deref().map(read_note).transpose()?;
    let selection = match &args.session {
        None => Selection::All,
        Some(session) => {
            let id = hex::decode(session).ok().and_then(|id| id.try_into().ok());
            Selection::Session(SessionId(id.ok_or_else(|| {
                CliError::Usage(format!("{session} is no session id; give it whole"))
            })?))
        }
    };
    let progress = Progress::start("verifying");
    let scratch = Scratch::new()?;
    let (files, torn) = match archive::read(path)? {
        Ok(files) => (files, None),
        Err(why) => (Files::new(), Some(why)),
    };
    let found = bundle::verify_bundle(
        &files,
        key.as_ref(),
        held.as_deref(),
        keys,
        &selection,
        scratch.path(),
    )?;
    drop(progress);
    let mut report = found.report;
    if let Some(detail) = torn {
        // Whatever else is wrong follows from it.
        report.breaks = vec![Break {
            file: path.to_path_buf(),
            session: None,
            sequence: None,
            reason: BreakReason::BundleInvalid,
            detail,
        }];
    }
    let log = found.log.map(|log| LogView::of(&log, found.stores));
    let verified = Verified {
        owner: "bundle",
        report,
        log,
    };
    say(&verified, args, output)
}

fn read_note(path: &Path) -> Result<String, CliError> {
    use std::io::Read;
    let read = std::fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(MAX_NOTE).read_to_string(&mut text)?;
        Ok(text)
    });
    read.map_err(|error| {
        CliError::Usage(format!("cannot read the note {}: {error}", path.display()))
    })
}

impl Verified {
    fn misses_something(&self) -> bool {
        let missing = |found: &Break| {
            matches!(
                found.reason,
                BreakReason::SegmentMissing | BreakReason::CheckpointMissing
            )
        };
        self.report.breaks.iter().any(missing)
    }
}

/// Prints what was found; the answer.
fn say(verified: &Verified, args: &VerifyArgs, output: &mut Output) -> Result<Answer, CliError> {
    let printed = if args.format.output == Format::Table {
        print(verified, output)
    } else {
        output.document(args.format.output, &view(verified))
    };
    match printed {
        // The answer is the exit code, read or not.
        Err(error) if !error.is_broken_pipe() => return Err(error),
        _ => {}
    }
    Ok(if verified.report.ok() {
        Answer::Yes
    } else {
        Answer::No
    })
}

fn of_folder(
    dir: &Place,
    session: Option<&SessionId>,
    key: Option<&TrustedKey>,
) -> Result<Verified, CliError> {
    let selection = session.map_or(Selection::All, |id| Selection::Session(*id));
    let report = chaperone_evidence::verify(dir, &selection, key)?;
    Ok(Verified {
        owner: "folder",
        report,
        log: None,
    })
}

/// Against the key that was given, or else the one that the cluster publishes.
fn of_log(
    log: Box<FetchedLog>,
    session: Option<&SessionId>,
    key: Option<&TrustedKey>,
) -> Result<Verified, CliError> {
    let published = log.published();
    let public = match (key, published) {
        (Some(TrustedKey::PublicKey(key)), _) => *key,
        (_, Some(key)) => key,
        _ => {
            return Err(CliError::Usage(format!(
                "the cluster publishes no key of its log (ConfigMap chaperone-log in {NAMESPACE}); give the key as a file with --key"
            )));
        }
    };
    let log = log.trusting(&public)?;
    let found = verify(
        log.collected(),
        log.stores(),
        &public,
        key.is_some(),
        log.keys(),
        session,
    )?;
    let view = LogView::of(&found, log.stores().len());
    let mut report = found.report;
    let mut breaks: Vec<Break> = key_fits(key, published).into_iter().collect();
    breaks.extend(log.faults().cloned());
    // What cannot be read explains what is missing.
    report.breaks.splice(0..0, breaks);
    if let Some(TrustedKey::Fingerprint(wanted)) = key {
        report.fingerprint.clone_from(wanted);
    }
    Ok(Verified {
        owner: "cluster",
        report,
        log: Some(view),
    })
}

impl LogView {
    fn of(found: &LogReport, stores: usize) -> LogView {
        LogView {
            checkpoints: found.checkpoints,
            size: found.size,
            root: hex::encode(found.root),
            pending: found.pending,
            stores,
            removed: found.removed.as_ref().map(|removed| RemovedView {
                tombstone: removed.name.clone(),
                checkpoint: removed.tombstone.checkpoint,
                segments: removed.tombstone.segments,
                entries: removed.tombstone.entries,
            }),
            unsealings: found
                .unsealings
                .iter()
                .map(|(name, found)| UnsealingView::of(name, found))
                .collect(),
        }
    }
}

/// A cluster that publishes another key than the auditor knows has had its log replaced, or its
/// auditor misled.
fn key_fits(key: Option<&TrustedKey>, published: Option<[u8; 32]>) -> Option<Break> {
    let known = match key? {
        TrustedKey::PublicKey(key) => fingerprint(key),
        TrustedKey::Fingerprint(wanted) => wanted.trim().to_owned(),
    };
    let published = fingerprint(&published?);
    (published != known).then(|| Break {
        file: format!("ConfigMap/{NAMESPACE}/chaperone-log").into(),
        session: None,
        sequence: None,
        reason: BreakReason::KeyMismatch,
        detail: format!("the cluster publishes {published}, which is not the key that was given"),
    })
}

fn print(verified: &Verified, output: &mut Output) -> Result<(), CliError> {
    let Verified { owner, report, log } = verified;
    let verdict = match (report.ok(), report.key_given) {
        (true, true) => output.paint(Tone::Good, "whole and unchanged"),
        (true, false) => output.paint(Tone::Good, &format!("whole by the {owner}'s own key")),
        (false, _) => output.paint(Tone::Bad, "BROKEN"),
    };
    let attaches = u64::try_from(report.attaches.len()).unwrap_or(u64::MAX);
    output.line(&format!(
        "{verdict}: {}, {}, {} of frames, {}, level {}",
        counted(report.sessions, "session", "sessions"),
        counted(report.records, "record", "records"),
        counted(report.bytes, "byte", "bytes"),
        counted(attaches, "attach", "attaches"),
        level_name(report.level)
    ))?;
    if !report.sealed.is_empty() {
        let sealed = u64::try_from(report.sealed.len()).unwrap_or(u64::MAX);
        let hint = format!(
            "{} sealed, and no key here opens them: only headers, signatures and completeness were checked",
            counted(sealed, "session is", "sessions are")
        );
        output.line(&output.paint(Tone::Warn, &hint))?;
    }
    if report.unproven > 0 {
        let hint = format!(
            "{} of them only in the spool: chained, and not signed yet",
            counted(report.unproven, "record", "records")
        );
        output.line(&output.paint(Tone::Warn, &hint))?;
    }
    if let Some(log) = log {
        print_log(log, output)?;
    }
    output.line(&format!("log key {}", escape_line(&report.fingerprint)))?;
    if !report.key_given {
        let noted = match *owner {
            "folder" => "the sidecar printed at start",
            _ => "you noted when Chaperone was installed",
        };
        let hint = format!(
            "no key was given, so this is the {owner}'s own word: compare the fingerprint with the \
             one {noted}, or pass it with --key"
        );
        output.line(&output.paint(Tone::Warn, &hint))?;
    }
    for (i, found) in report.breaks.iter().enumerate() {
        let label = if i == 0 { "first break" } else { "break" };
        let label = output.paint(Tone::Bad, label);
        let session = found.session.map(|id| format!(" session {id}"));
        let sequence = found.sequence.map(|sequence| format!(" #{sequence}"));
        let place = format!(
            "{}{}{} in {}: {}",
            found.reason.as_str(),
            session.unwrap_or_default(),
            sequence.unwrap_or_default(),
            found.file.display(),
            found.detail
        );
        output.line(&format!("{label}: {}", escape_line(&place)))?;
    }
    for found in &report.notes {
        let label = output.paint(Tone::Warn, "note");
        let session = found.session.map(|id| format!("session {id}: "));
        let text = format!("{}{}", session.unwrap_or_default(), found.detail);
        output.line(&format!("{label}: {}", escape_line(&text)))?;
    }
    Ok(())
}

fn print_log(log: &LogView, output: &mut Output) -> Result<(), CliError> {
    let stores = u64::try_from(log.stores).unwrap_or(u64::MAX);
    output.line(&format!(
        "log of {}, {}, {}, root {}",
        counted(stores, "store", "stores"),
        counted(log.checkpoints, "checkpoint", "checkpoints"),
        counted(log.size, "leaf", "leaves"),
        log.root
    ))?;
    if log.pending > 0 {
        let pending = counted(log.pending, "entry waits", "entries wait");
        let hint = format!("{pending} for a checkpoint: there, and not signed for yet");
        output.line(&output.paint(Tone::Warn, &hint))?;
    }
    let count = u64::try_from(log.unsealings.len()).unwrap_or(u64::MAX);
    if count > 0 {
        let times = counted(count, "time", "times");
        output.line(&format!("sealed sessions were opened {times}, the newest:"))?;
    }
    for found in log.unsealings.iter().rev().take(SHOWN_UNSEALINGS) {
        let sessions = found.sessions.len() as u64;
        let what = match found.sessions.as_slice() {
            [one] => format!("session {one}"),
            _ => counted(sessions, "session", "sessions"),
        };
        output.line(&escape_line(&format!("  {what} by {}", found.line())))?;
    }
    Ok(())
}

fn view(verified: &Verified) -> ReportView {
    let Verified { report, log, .. } = verified;
    ReportView {
        ok: report.ok(),
        level: level_name(report.level),
        key: report.fingerprint.clone(),
        key_given: report.key_given,
        attaches: report.attaches.len(),
        sessions: report.sessions,
        sealed: report.sealed.len(),
        records: report.records,
        unproven: report.unproven,
        bytes: report.bytes,
        breaks: report
            .breaks
            .iter()
            .map(|found| BreakView {
                file: found.file.display().to_string(),
                session: found.session.map(|id| id.to_string()),
                sequence: found.sequence,
                reason: found.reason.as_str(),
                detail: found.detail.clone(),
            })
            .collect(),
        notes: report
            .notes
            .iter()
            .map(|found| NoteView {
                file: found.file.as_ref().map(|file| file.display().to_string()),
                session: found.session.map(|id| id.to_string()),
                detail: found.detail.clone(),
            })
            .collect(),
        log: log.clone(),
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Outer => "outer",
        Level::Full => "full",
    }
}
