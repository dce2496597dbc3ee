//! `show`: a session as a transcript.

use chaperone_evidence::audit::Unsealing;
use chaperone_evidence::{DelegateRecord, SessionId, SessionSummary};
use serde::Serialize;

use super::Answer;
use super::transcript::{Entry, Transcript};
use super::views::{ApprovalView, SessionView, StatementView, UnsealingView, state_name};
use crate::cli::{Format, ShowArgs};
use crate::error::CliError;
use crate::output::{Output, Tone, counted, escape_for_display, escape_line, indented, note};
use crate::source::{Evidence, Found, Source};
use crate::time::{between, date_and_time, from_ns, short};

/// Longest parameter shown, in characters; `-o json` has all.
const SHOWN_PARAMETER: usize = 200;

/// Readers that the heading names: the newest.
const SHOWN_READERS: usize = 3;

#[derive(Debug, Serialize)]
struct ShowView {
    session: SessionView,
    /// Who was given its keys before, oldest first.
    #[serde(rename = "readBy", skip_serializing_if = "Vec::is_empty")]
    read_by: Vec<UnsealingView>,
    entries: Vec<Entry>,
}

/// Prints one session's statements with decision, rule, rows and time.
pub(crate) fn run(
    source: &Source,
    args: &ShowArgs,
    output: &mut Output,
) -> Result<Answer, CliError> {
    let mut evidence = source.evidence()?;
    let Found { session, dir } = source.session(&mut evidence, &args.session)?;
    let read_by = readers(&evidence, &session.id);
    let records = chaperone_evidence::show(&dir, &session.id)?;
    let transcript = Transcript::new(records);
    if args.format.output != Format::Table {
        let entries = transcript.collect::<Result<Vec<Entry>, _>>()?;
        let session = SessionView::from(&session);
        let view = ShowView {
            session,
            read_by,
            entries,
        };
        output.document(args.format.output, &view)?;
        return Ok(Answer::Yes);
    }
    print_heading(&session, &read_by, output)?;
    let mut hidden = 0_u64;
    let mut damage = None;
    for entry in transcript {
        match entry {
            Ok(entry) if !args.all && is_preparation(&entry) => hidden += 1,
            Ok(entry) => print_entry(&entry, output)?,
            Err(error) => damage = Some(error),
        }
    }
    if hidden > 0 {
        output.flush()?;
        let hidden = counted(hidden, "preparation", "preparations");
        note(&format!(
            "not shown: {hidden} that went through; --all shows all"
        ));
    }
    match damage {
        Some(error) => {
            output.flush()?;
            Err(error.into())
        }
        None => Ok(Answer::Yes),
    }
}

/// Who was given the keys of a session before.
fn readers(evidence: &Evidence, session: &SessionId) -> Vec<UnsealingView> {
    let Evidence::Log(log) = evidence else {
        return Vec::new();
    };
    let all = log.unsealings();
    let of_it = |found: &Unsealing| found.keys.iter().any(|key| key.session == *session);
    all.iter()
        .filter(|(_, found)| of_it(found))
        .map(|(name, found)| UnsealingView::of(name, found))
        .collect()
}

/// Prepare and Bind that were let through: the Execute says it all again.
fn is_preparation(entry: &Entry) -> bool {
    match entry {
        Entry::Statement(statement) => {
            matches!(statement.phase, "Prepare" | "Bind")
                && statement.decision.verdict == "Allow"
                && statement
                    .outcome
                    .as_ref()
                    .is_none_or(|o| o.status == "Completed")
        }
        _ => false,
    }
}

/// As people read it. A text that is none of ours is shown as it is.
pub(crate) fn described(delegate: &str) -> String {
    DelegateRecord::parse(delegate).map_or_else(|| delegate.to_owned(), |record| record.describe())
}

fn print_heading(
    session: &SessionSummary,
    read_by: &[UnsealingView],
    output: &mut Output,
) -> Result<(), CliError> {
    let start = &session.start;
    let title = output.paint(Tone::Bold, &format!("Session {}", session.id));
    let delegate = start
        .delegate
        .as_deref()
        .map(|delegate| format!(" for {}", described(delegate)))
        .unwrap_or_default();
    output.line(&format!(
        "{title}  {}",
        escape_line(&format!(
            "{}{delegate} over {} to {}",
            start.subject, start.connection, start.target
        ))
    ))?;
    let started = from_ns(session.started_ns);
    let lasted = short(between(started, from_ns(session.last_ns)));
    let ended = if session.end.is_empty() {
        String::new()
    } else {
        format!(" ({})", session.end)
    };
    output.line(&escape_line(&format!(
        "  {} UTC, {lasted}, {}{ended}",
        date_and_time(started),
        state_name(session.state)
    )))?;
    if let Some(purpose) = &start.purpose {
        output.line(&escape_line(&format!("  purpose: {purpose}")))?;
    }
    if !start.claims.is_empty() {
        let claims: Vec<String> = start
            .claims
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let line = format!("  claimed, not proven: {}", claims.join(" "));
        output.line(&escape_line(&line))?;
    }
    for reader in read_by.iter().rev().take(SHOWN_READERS) {
        output.line(&escape_line(&format!("  read by {}", reader.line())))?;
    }
    if read_by.len() > SHOWN_READERS {
        let more = read_by.len() - SHOWN_READERS;
        output.line(&format!("  and {more} times before; -o json has all"))?;
    }
    output.line("")
}

fn print_entry(entry: &Entry, output: &mut Output) -> Result<(), CliError> {
    match entry {
        Entry::Statement(statement) => print_statement(statement, output),
        Entry::Approval(approval) => print_approval(approval, output),
        Entry::PolicyChanged(event) => print_event("policy changed", Tone::Warn, event, output),
        Entry::Masked(event) => print_event("masked", Tone::Dim, event, output),
        Entry::Finding(event) => print_event("finding", Tone::Bad, event, output),
        Entry::Gap(event) => print_event("GAP", Tone::Bad, event, output),
        Entry::SessionEnd(event) => print_event("end", Tone::Dim, event, output),
    }
}

fn print_event(
    label: &str,
    tone: Tone,
    event: &super::views::EventView,
    output: &mut Output,
) -> Result<(), CliError> {
    let place = place(event.sequence, &event.at, output);
    let label = output.paint(tone, label);
    output.line(&format!("{place}  {label}  {}", escape_line(&event.what)))
}

fn print_approval(approval: &ApprovalView, output: &mut Output) -> Result<(), CliError> {
    let place = place(approval.sequence, &approval.at, output);
    let label = output.paint(Tone::Warn, "approval");
    let mut text = format!("{} {}", approval.request, approval.event);
    if let Some(reviewer) = &approval.reviewer {
        text.push_str(&format!(" by {reviewer}"));
        if !approval.authenticated {
            text.push_str(" (unauthenticated)");
        }
    }
    if !approval.reason.is_empty() {
        text.push_str(&format!(": {}", approval.reason));
    }
    output.line(&format!("{place}  {label}  {}", escape_line(&text)))
}

fn print_statement(statement: &StatementView, output: &mut Output) -> Result<(), CliError> {
    let place = place(statement.sequence, &statement.at, output);
    output.line(&format!("{place}  {}", headline(statement, output)))?;
    print_command(statement, output)
}

/// Verdict, reason, rule and outcome in one line.
pub(crate) fn headline(statement: &StatementView, output: &Output) -> String {
    let decision = &statement.decision;
    let tone = verdict_tone(decision.verdict);
    let verdict = output.paint(tone, &format!("{:<7}", decision.verdict.to_uppercase()));
    let mut parts = vec![decision.reason.to_owned()];
    if let Some(access) = &decision.access {
        parts.push(access.clone());
    }
    if !decision.policy.is_empty() {
        parts.push(format!("rule {}/{}", decision.policy, decision.rule));
    }
    if let Some(approval) = &decision.approval {
        parts.push(format!("approval {approval}"));
    }
    if let Some(outcome) = &statement.outcome {
        let took = short(std::time::Duration::from_micros(outcome.duration_micros));
        let status = match outcome.status {
            // HTTP has a status and no rows; a command tag is never three digits.
            "Completed" if is_status(&outcome.detail) => {
                format!(
                    "{} · {}",
                    outcome.detail,
                    counted(outcome.bytes, "byte", "bytes")
                )
            }
            "Completed" => counted(outcome.rows, "row", "rows"),
            other => format!("{other} {}", outcome.detail).trim().to_owned(),
        };
        parts.push(status);
        parts.push(took);
    }
    if let Some(would_be) = &decision.would_be {
        parts.push(format!(
            "dry run: {} {} by {}/{}",
            would_be.verdict, would_be.reason, would_be.policy, would_be.rule
        ));
    }
    if statement.durability.asked != statement.durability.served {
        parts.push(format!(
            "{} served as {}",
            statement.durability.asked, statement.durability.served
        ));
    }
    format!("{verdict} {}", escape_line(&parts.join(" · ")))
}

fn is_status(detail: &str) -> bool {
    detail.len() == 3 && detail.bytes().all(|byte| byte.is_ascii_digit())
}

/// The command and its parameters, indented.
pub(crate) fn print_command(
    statement: &StatementView,
    output: &mut Output,
) -> Result<(), CliError> {
    let command = match (&statement.command, statement.refers_to) {
        (command, Some(prepared)) if command.is_empty() => format!("(as prepared in #{prepared})"),
        (command, _) => escape_for_display(command.trim_end()),
    };
    output.line(&indented(&command, 6))?;
    for (i, value) in statement.parameters.iter().enumerate() {
        let shown = match value {
            None => "NULL".to_owned(),
            Some(value) => shortened(&escape_line(value)),
        };
        output.line(&format!("      ${} = {shown}", i + 1))?;
    }
    if statement.truncated {
        let cut = output.paint(
            Tone::Warn,
            "(longer than the record keeps; see replay --raw)",
        );
        output.line(&format!("      {cut}"))?;
    }
    Ok(())
}

/// How a verdict stands out.
pub(crate) fn verdict_tone(verdict: &str) -> Tone {
    match verdict {
        "Allow" => Tone::Good,
        "Deny" => Tone::Bad,
        _ => Tone::Warn,
    }
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= SHOWN_PARAMETER {
        return format!("'{text}'");
    }
    let start: String = text.chars().take(SHOWN_PARAMETER).collect();
    format!("'{start}…' ({} characters)", text.chars().count())
}

/// `#12  12:00:01.123`.
fn place(sequence: u64, at: &str, output: &Output) -> String {
    let time = at
        .split_once('T')
        .map_or(at, |(_, time)| time.trim_end_matches('Z'));
    output.paint(Tone::Dim, &format!("{:>4}  {time}", format!("#{sequence}")))
}
