//! `sessions`: who came, over what, and how it went.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use chaperone_evidence::{SessionId, SessionSummary, State};
use jiff::Timestamp;

use super::Answer;
use super::views::{SessionView, state_name};
use crate::cli::{DecisionFilter, Format, SessionFilter, SessionsArgs};
use crate::error::CliError;
use crate::output::{Cell, Output, Table, Tone, note};
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
    output: &mut Output,
) -> Result<Answer, CliError> {
    let since = since(&args.filter);
    let list = |evidence: &Evidence| -> Result<Vec<SessionSummary>, CliError> {
        let sessions = evidence.sessions()?.into_iter();
        let sessions = sessions.map(|Found { session, .. }| session);
        Ok(sessions
            .filter(|session| selected(session, &args.filter, since))
            .collect())
    };
    let mut evidence = source.evidence()?;
    if args.watch {
        let next = || {
            source.refresh(&mut evidence)?;
            list(&evidence)
        };
        return watch(next, args.format.output, output);
    }
    let sessions = list(&evidence)?;
    match args.format.output {
        Format::Table if sessions.is_empty() => note("no session matches"),
        Format::Table => output.table(&table(&sessions, Table::new(HEADER)))?,
        format => {
            let views: Vec<SessionView> = sessions.iter().map(SessionView::from).collect();
            output.document(format, &views)?;
        }
    }
    Ok(Answer::Yes)
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

/// The moment that `--since` says, as of now.
pub(super) fn since(filter: &SessionFilter) -> Option<Timestamp> {
    filter.since.map(|duration| {
        Timestamp::now()
            .checked_sub(duration)
            .unwrap_or(Timestamp::MIN)
    })
}

/// Whether a session is among those that are asked for.
pub(super) fn selected(
    session: &SessionSummary,
    filter: &SessionFilter,
    since: Option<Timestamp>,
) -> bool {
    let named = |wanted: &Option<String>, full: &str| {
        wanted.as_deref().is_none_or(|wanted| {
            full == wanted
                || full
                    .rsplit_once('/')
                    .is_some_and(|(_, name)| name == wanted)
        })
    };
    let decided = match filter.decision {
        None => true,
        Some(DecisionFilter::Allow) => session.allowed > 0,
        Some(DecisionFilter::Deny) => session.denied > 0,
        Some(DecisionFilter::Hold) => session.held > 0,
        Some(DecisionFilter::Observe) => session.observed > 0,
    };
    decided
        && named(&filter.connection, &session.start.connection)
        && named(&filter.subject, &session.start.subject)
        && since.is_none_or(|since| from_ns(session.last_ns) >= since)
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
            Cell::new(if session.sealed {
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
