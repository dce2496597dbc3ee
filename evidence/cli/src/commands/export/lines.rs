//! One JSON object a line: our own entries, or OCSF events. In one pass, nothing kept.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use chaperone_evidence::ocsf::Events;
use chaperone_evidence::{DelegateRecord, Origin, Record, SessionId};
use serde::Serialize;

use crate::commands::entries::{Entries, Told};
use crate::commands::select::Selection;
use crate::commands::transcript::Entry;
use crate::error::CliError;
use crate::output::to_json_line;
use crate::progress::Progress;
use crate::source::Evidence;
use crate::time::{from_ns, rfc3339};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryLine<'a> {
    session: String,
    subject: &'a str,
    connection: &'a str,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum What<'a> {
    Start(Box<StartView<'a>>),
    Entry(&'a Entry),
}

/// How a session began.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StartView<'a> {
    kind: &'static str,
    sequence: u64,
    at: String,
    target: &'a str,
    protocol: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<DelegateRecord>,
    claimed: &'a BTreeMap<String, String>,
    attach: String,
    ordinal: u64,
    policy_digest: &'a str,
}

/// Entries as `show -o json` has them, each with its session.
pub(super) fn ndjson(
    evidence: &Evidence,
    selection: &Selection,
    to: &mut dyn Write,
) -> Result<(), CliError> {
    let progress = Progress::start("exporting");
    let mut told = 0_u64;
    for item in Entries::new(chosen(evidence, selection)) {
        let item = item?;
        let (origin, what) = match &item {
            Told::Began(origin) => (origin, What::Start(Box::new(start(origin)))),
            Told::Entry(origin, entry) => (origin, What::Entry(entry)),
        };
        let line = EntryLine {
            session: origin.id.to_string(),
            subject: &origin.start.subject,
            connection: &origin.start.connection,
            what,
        };
        writeln!(to, "{}", to_json_line(&line)?)?;
        told += 1;
        if told.is_multiple_of(1_000) {
            progress.say(&format!("exporting: {told} entries"));
        }
    }
    Ok(())
}

fn start(origin: &Origin) -> StartView<'_> {
    let start = &origin.start;
    StartView {
        kind: "SessionStart",
        sequence: 0,
        at: rfc3339(from_ns(origin.started_ns)),
        target: &start.target,
        protocol: &start.protocol,
        purpose: start.purpose.as_deref(),
        token: start.delegate.as_deref().and_then(DelegateRecord::parse),
        claimed: &start.claims,
        attach: origin.attach.to_string(),
        ordinal: origin.ordinal,
        policy_digest: &start.policy_digest,
    }
}

/// Events for a SIEM.
pub(super) fn ocsf(
    evidence: &Evidence,
    selection: &Selection,
    to: &mut dyn Write,
) -> Result<(), CliError> {
    let progress = Progress::start("exporting");
    let mut open: BTreeMap<SessionId, Events> = BTreeMap::new();
    let mut told = 0_u64;
    for scanned in chosen(evidence, selection) {
        let scanned = scanned?;
        let id = scanned.origin.id;
        let events = open
            .entry(id)
            .or_insert_with(|| Events::new(Arc::clone(&scanned.origin)));
        for event in events.take(&scanned.shown) {
            writeln!(to, "{}", to_json_line(&event)?)?;
            told += 1;
        }
        if matches!(scanned.shown.record, Record::SessionEnd(..)) {
            open.remove(&id);
        }
        if told.is_multiple_of(1_000) {
            progress.say(&format!("exporting: {told} events"));
        }
    }
    for mut events in open.into_values() {
        for event in events.finish() {
            writeln!(to, "{}", to_json_line(&event)?)?;
        }
    }
    Ok(())
}

fn chosen<'a>(
    evidence: &'a Evidence,
    selection: &'a Selection,
) -> impl Iterator<Item = Result<chaperone_evidence::Scanned, CliError>> {
    evidence.records().filter(move |scanned| {
        scanned
            .as_ref()
            .map_or(true, |scanned| selection.has(&scanned.origin))
    })
}
