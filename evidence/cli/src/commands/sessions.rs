//! `sessions`: who came, over what, and how it went.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use chaperone_evidence::{SessionId, SessionSummary, State};
use jiff::Timestamp;

use super::select::{Page, selected};
use super::views::{SessionView, state_name};
use super::{Answer, Cursor};
use crate::cli::{Format, SessionsArgs};
use crate::error::CliError;
use crate::output::{Cell, Output, Table, Tone, note, to_json_line};
use crate::progress::Progress;
use crate::source::{Evidence, Found, Source};
use crate::time::{between, date_and_time, from_ns, short};

/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

const HEADER: &[&str] = &[
    "SESSION",
    "STARTED",
    "LASTED",
    "SUBJECT",
    "CONNECTION",
    "STATE",
    "ALLOWED",
    "DENIED",
    "HELD",
    "ROWS",
    "MASKED",
    "FINDINGS",
];

/// Lists sessions, and with `--watch` goes on printing those that begin or change.
pub(crate) fn run(
    source: &Source,
    args: &SessionsArgs,
    namespace: Option<&str>,
    output: &mut Output,
) -> Result<Answer, CliError> {
    let mut evidence = source.evidence()?;
    let format = args.format.output;
    if args.watch {
        let next = || {
            source.refresh(&mut evidence)?;
            Ok(page(&evidence, args, namespace)?.into_sessions())
        };
        return watch(next, format, output);
    }
    // Nothing has to be kept where any order will do.
    if format == Format::Ndjson && args.limit.is_none() {
        for session in chosen(&evidence, args, namespace) {
            let session = session?.session;
            if args
                .before
                .is_none_or(|before| Cursor::of(&session) < before)
            {
                output.line(&to_json_line(&SessionView::from(&session))?)?;
            }
        }
        return Ok(Answer::Yes);
    }
    let progress = Progress::start("reading sessions");
    let page = page(&evidence, args, namespace)?;
    drop(progress);
    let older = page.next();
    let sessions = page.into_sessions();
    match format {
        Format::Table if sessions.is_empty() => note("no session matches"),
        Format::Table => output.table(&table(&sessions, Table::new(HEADER)))?,
        format => {
            let views: Vec<SessionView> = sessions.iter().map(SessionView::from).collect();
            output.documents(format, &views)?;
        }
    }
    if let Some(cursor) = older {
        output.flush()?;
        note(&format!("there are older ones: --continue {cursor}"));
    }
    Ok(Answer::Yes)
}

/// All sessions that are asked for, as they are met.
fn chosen(
    evidence: &Evidence,
    args: &SessionsArgs,
    namespace: Option<&str>,
) -> impl Iterator<Item = Result<Found, CliError>> {
    let wanted = move |found: &Result<Found, CliError>| match found {
        Ok(found) => selected(&found.session, &args.filter, namespace),
        Err(_) => true,
    };
    evidence.summaries().filter(wanted)
}

fn page(
    evidence: &Evidence,
    args: &SessionsArgs,
    namespace: Option<&str>,
) -> Result<Page, CliError> {
    let mut page = Page::new(args.limit, args.before);
    for found in chosen(evidence, args, namespace) {
        page.offer(found?);
    }
    Ok(page)
}

fn watch(
    mut next: impl FnMut() -> Result<Vec<SessionSummary>, CliError>,
    format: Format,
    output: &mut Output,
) -> Result<Answer, CliError> {
    let mut seen: HashMap<SessionId, SessionView> = HashMap::new();
    let mut columns = Table::new(HEADER);
    loop {
        let sessions = next()?;
        let mut changed = Vec::new();
        let mut now = HashMap::with_capacity(sessions.len());
        for session in sessions {
            let view = SessionView::from(&session);
            if seen.get(&session.id) != Some(&view) {
                changed.push(session.clone());
            }
            now.insert(session.id, view);
        }
        seen = now;
        if format == Format::Table {
            let filled = table(&changed, columns);
            output.table(&filled)?;
            output.flush()?;
            columns = filled;
            columns.go_on();
        } else {
            for session in &changed {
                output.event(format, &SessionView::from(session))?;
            }
        }
        thread::sleep(WATCH_EVERY);
    }
}

fn table(sessions: &[SessionSummary], mut table: Table) -> Table {
    for session in sessions {
        let started = from_ns(session.started_ns);
        let until = match session.state {
            State::Open => Timestamp::now(),
            _ => from_ns(session.last_ns),
        };
        let state_tone = match session.state {
            State::Open => Tone::Good,
            State::Ended => Tone::Plain,
            State::Interrupted | State::Recovered => Tone::Warn,
        };
        table.push(vec![
            Cell::toned(Tone::Bold, &session.id.to_string()),
            Cell::new(&date_and_time(started)),
            Cell::new(&short(between(started, until))),
            Cell::new(if session.start.subject.is_empty() && session.sealed {
                "(sealed)"
            } else {
                &session.start.subject
            }),
            Cell::new(&session.start.connection),
            Cell::toned(state_tone, state_name(session.state)),
            Cell::new(&(session.allowed + session.observed).to_string()),
            count(session.denied, Tone::Bad),
            count(session.held, Tone::Warn),
            Cell::new(&session.rows.to_string()),
            Cell::new(&session.masked.to_string()),
            count(session.findings, Tone::Bad),
        ]);
    }
    table
}

/// A number that stands out unless it is zero.
fn count(number: u64, tone: Tone) -> Cell {
    let tone = if number == 0 { Tone::Plain } else { tone };
    Cell::toned(tone, &number.to_string())
}
