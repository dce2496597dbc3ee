//! `approvals`: what waits, or waited, for a human.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use chaperone_approvals::{Entry, Phase};
use chaperone_crds::ApprovalRequest;
use jiff::Timestamp;
use serde::Serialize;

use super::Answer;
use crate::cli::{ApprovalsArgs, Format};
use crate::error::CliError;
use crate::output::{
    Cell, Output, Table, Tone, complain, escape_for_display, escape_line, indented, note,
};
use crate::source::{Desk, Source};
use crate::time::{between, date_and_time, rfc3339, short};

/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_millis(500);

const HEADER: &[&str] = &[
    "NAME",
    "PHASE",
    "APPROVED",
    "AGE",
    "LEFT",
    "SUBJECT",
    "CONNECTION",
    "SUMMARY",
];

/// One request in `-o json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestView {
    name: String,
    phase: &'static str,
    reason: &'static str,
    created_at: String,
    open_until: String,
    quorums: Vec<QuorumView>,
    ignored_reviews: Vec<IgnoredView>,
    /// The resource.
    request: ApprovalRequest,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct QuorumView {
    rule: String,
    approved: u32,
    needed: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct IgnoredView {
    reviewer: String,
    why: String,
}

impl From<&Entry> for RequestView {
    fn from(entry: &Entry) -> RequestView {
        let evaluation = &entry.evaluation;
        RequestView {
            name: entry.name.clone(),
            phase: evaluation.phase.as_str(),
            reason: evaluation.phase.reason().as_str(),
            created_at: rfc3339(entry.created_at),
            open_until: rfc3339(evaluation.open_until),
            quorums: evaluation
                .progress
                .iter()
                .map(|(rule, approved, needed)| QuorumView {
                    rule: rule.clone(),
                    approved: *approved,
                    needed: *needed,
                })
                .collect(),
            ignored_reviews: evaluation
                .ignored
                .iter()
                .map(|(reviewer, why)| IgnoredView {
                    reviewer: reviewer.clone(),
                    why: why.clone(),
                })
                .collect(),
            request: entry.request.clone(),
        }
    }
}

/// Lists requests; of each that waits, what an approver should read.
pub(crate) fn run(
    source: &Source,
    args: &ApprovalsArgs,
    output: &mut Output,
) -> Result<Answer, CliError> {
    let desk = source.desk()?;
    let format = args.format.output;
    if let Some(name) = &args.name {
        let entry = desk.get(name)?;
        match format {
            Format::Table => details(&entry, &desk, output)?,
            format => output.document(format, &RequestView::from(&entry))?,
        }
        return Ok(Answer::Yes);
    }
    if args.watch {
        return watch(&desk, format, output);
    }
    let (entries, damaged) = desk.list()?;
    for error in &damaged {
        complain(error);
    }
    match format {
        Format::Table if entries.is_empty() => note("nothing waits for a human"),
        Format::Table => {
            output.table(&table(&entries, Table::new(HEADER)))?;
            for entry in waiting(&entries) {
                output.line("")?;
                details(entry, &desk, output)?;
            }
        }
        format => {
            let views: Vec<RequestView> = entries.iter().map(RequestView::from).collect();
            output.documents(format, &views)?;
        }
    }
    Ok(Answer::Yes)
}

fn watch(desk: &Desk<'_>, format: Format, output: &mut Output) -> Result<Answer, CliError> {
    let mut seen: HashMap<(String, String), RequestView> = HashMap::new();
    let mut columns = Table::new(HEADER);
    loop {
        // What is damaged is not worth a line every time; the listing names it.
        let (entries, _) = desk.list()?;
        let mut now = HashMap::with_capacity(entries.len());
        let mut changed = Vec::new();
        for entry in entries {
            let view = RequestView::from(&entry);
            let key = (
                entry.request.spec.subject.namespace.clone(),
                entry.name.clone(),
            );
            if seen.get(&key) != Some(&view) {
                changed.push(entry.clone());
            }
            now.insert(key, view);
        }
        seen = now;
        if format == Format::Table {
            let filled = table(&changed, columns);
            output.table(&filled)?;
            for entry in waiting(&changed) {
                details(entry, desk, output)?;
            }
            output.flush()?;
            columns = filled;
            columns.go_on();
        } else {
            for entry in &changed {
                output.event(format, &RequestView::from(entry))?;
            }
        }
        thread::sleep(WATCH_EVERY);
    }
}

fn waiting(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    entries
        .iter()
        .filter(|entry| entry.evaluation.phase == Phase::Pending)
}

fn table(entries: &[Entry], mut table: Table) -> Table {
    let now = Timestamp::now();
    for entry in entries {
        let spec = &entry.request.spec;
        let evaluation = &entry.evaluation;
        let left = if evaluation.phase.is_final() {
            String::new()
        } else {
            short(between(now, evaluation.open_until))
        };
        table.push(vec![
            Cell::toned(Tone::Bold, &entry.name),
            Cell::toned(phase_tone(evaluation.phase), evaluation.phase.as_str()),
            Cell::new(&quorums(entry)),
            Cell::new(&short(between(entry.created_at, now))),
            Cell::new(&left),
            Cell::new(&format!(
                "{}/{}",
                spec.subject.namespace, spec.subject.service_account
            )),
            Cell::new(&spec.connection),
            Cell::new(&spec.operation.summary),
        ]);
    }
    table
}

/// `1/2`, one for each rule.
fn quorums(entry: &Entry) -> String {
    let each: Vec<String> = entry
        .evaluation
        .progress
        .iter()
        .map(|(_, given, needed)| format!("{given}/{needed}"))
        .collect();
    each.join(" ")
}

/// All that an approver should read, and the command that answers.
pub(crate) fn details(entry: &Entry, desk: &Desk<'_>, output: &mut Output) -> Result<(), CliError> {
    let spec = &entry.request.spec;
    let evaluation = &entry.evaluation;
    let name = output.paint(Tone::Bold, &entry.name);
    let phase = output.paint(phase_tone(evaluation.phase), evaluation.phase.as_str());
    output.line(&format!(
        "{name}  {phase} ({} approved)  {}",
        quorums(entry),
        escape_line(&spec.operation.summary)
    ))?;
    let subject = &spec.subject;
    let delegate = subject
        .delegate
        .as_ref()
        .map(|delegate| format!(" for {} ({})", delegate.username, delegate.provider))
        .unwrap_or_default();
    let purpose = spec
        .purpose
        .as_deref()
        .map(|purpose| format!(", purpose {purpose}"))
        .unwrap_or_default();
    output.line(&escape_line(&format!(
        "  by {}/{}{delegate} over {}{purpose}",
        subject.namespace, subject.service_account, spec.connection
    )))?;
    let effects: Vec<&str> = spec.operation.effects.iter().map(|e| e.as_str()).collect();
    output.line(&escape_line(&format!(
        "  {} on {}",
        effects.join(", "),
        spec.operation.objects.join(", ")
    )))?;
    output.line(&indented(&escape_for_display(&spec.operation.command), 6))?;
    for (i, value) in spec.operation.parameters.iter().enumerate() {
        let shown = match value {
            Some(value) => format!("'{}'", escape_line(value)),
            None => "NULL".to_owned(),
        };
        output.line(&format!("      ${} = {shown}", i + 1))?;
    }
    let digest = format!("  digest {}", escape_line(&spec.operation.digest));
    output.line(&output.paint(Tone::Dim, &digest))?;
    for review in &evaluation.reviews {
        let proof = if review.authenticated {
            ""
        } else {
            " (unauthenticated)"
        };
        output.line(&escape_line(&format!(
            "  {} by {}{proof} at {} UTC{}",
            review.verdict.as_str(),
            review.reviewer,
            date_and_time(review.at),
            said(&review.reason)
        )))?;
    }
    for (reviewer, why) in &evaluation.ignored {
        output.line(&escape_line(&format!("  not counted: {reviewer}, {why}")))?;
    }
    if evaluation.phase == Phase::Pending {
        output.line(&format!("  {}", escape_line(&desk.approve_command(entry))))?;
    }
    Ok(())
}

fn said(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    }
}

/// How a phase stands out.
pub(crate) fn phase_tone(phase: Phase) -> Tone {
    match phase {
        Phase::Pending => Tone::Warn,
        Phase::Approved | Phase::Consumed => Tone::Good,
        Phase::Denied => Tone::Bad,
        Phase::Expired | Phase::Cancelled => Tone::Dim,
    }
}
