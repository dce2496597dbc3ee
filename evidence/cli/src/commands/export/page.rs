//! Sessions as one page for a browser: when, what, decided how, by which rule, with what result.
//! Reads without a script; with one it searches. See [`crate::html`] for why it is safe to open.

use std::io::Write;
use std::time::Duration;

use chaperone_evidence::{Direction, SessionSummary};

use crate::commands::select::Selection;
use crate::commands::transcript::{Entry, Transcript};
use crate::commands::views::{ApprovalView, EventView, StatementView, state_name};
use crate::error::CliError;
use crate::html::{self, line, text};
use crate::output::counted;
use crate::postgres::{Reader, Sender};
use crate::source::{Evidence, Found};
use crate::time::{between, date_and_time, from_ns, short};

/// Sessions of one page: a browser has to hold it.
const MOST_SESSIONS: usize = 200;
/// Marks of one timeline.
const MOST_MARKS: usize = 2_000;
/// Messages of one session's stream that are shown.
const MOST_MESSAGES: usize = 5_000;
/// Width of a timeline in its own units.
const WIDTH: f64 = 1_000.0;

/// Writes the sessions that are selected.
pub(super) fn write(
    evidence: &Evidence,
    selection: &Selection,
    to: &mut dyn Write,
) -> Result<(), CliError> {
    if selection.len() > MOST_SESSIONS {
        return Err(CliError::Usage(format!(
            "{} sessions are selected, and a page holds {MOST_SESSIONS}; select fewer, or take --format ndjson",
            selection.len()
        )));
    }
    let sessions = selection.all(evidence)?;
    let count = counted(sessions.len() as u64, "session", "sessions");
    write!(to, "{}", html::head(&format!("Chaperone: {count}")))?;
    write!(
        to,
        "<header><h1>What agents did: {count}</h1>\n<p class=\"dim\">For reading. It proves nothing: \
         what proves is a bundle, and <code>kubectl chaperone verify --bundle</code>. All times are UTC; \
         masked values were masked before they were recorded. Characters that mislead the eye are \
         shown as <code>\\u{{…}}</code>.</p></header>\n\
         <div class=\"tools\" role=\"search\" hidden><input type=\"search\" placeholder=\"Search statements, rules, reasons ( / )\" aria-label=\"Search\">"
    )?;
    for verdict in ["Allow", "Deny", "Hold", "Observe", "other"] {
        write!(
            to,
            "<label><input type=\"checkbox\" value=\"{verdict}\" checked> {verdict}</label>"
        )?;
    }
    writeln!(
        to,
        "<output class=\"dim\"></output><button type=\"button\" title=\"light or dark ( t )\">Theme</button>\
         <span class=\"dim\">j k: next, previous</span></div>\n<main>"
    )?;
    for found in &sessions {
        session(found, to)?;
    }
    write!(to, "</main>\n{}", html::foot())?;
    Ok(())
}

fn session(found: &Found, to: &mut dyn Write) -> Result<(), CliError> {
    let Found { session, dir } = found;
    let start = &session.start;
    writeln!(
        to,
        "<section id=\"s-{id}\"><h2>Session <span class=\"mono\">{id}</span></h2>\n<dl>",
        id = session.id
    )?;
    let lasted = short(between(
        from_ns(session.started_ns),
        from_ns(session.last_ns),
    ));
    let claims: Vec<String> = start
        .claims
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let began = date_and_time(from_ns(session.started_ns));
    for (name, value) in [
        ("subject", start.subject.clone()),
        (
            "on behalf of",
            start
                .delegate
                .as_deref()
                .map(crate::commands::show::described)
                .unwrap_or_default(),
        ),
        ("connection", start.connection.clone()),
        ("target", start.target.clone()),
        ("purpose", start.purpose.clone().unwrap_or_default()),
        ("claimed, not proven", claims.join(" ")),
        (
            "began",
            format!("{began}, lasted {lasted}, {}", state_name(session.state)),
        ),
        ("ended", session.end.clone()),
        ("decisions", decisions(session)),
        ("policy digest", start.policy_digest.clone()),
    ] {
        if !value.is_empty() {
            writeln!(to, "<dt>{name}</dt><dd>{}</dd>", line(&value))?;
        }
    }
    writeln!(to, "</dl>")?;
    timeline(found, to)?;
    let mut damage = None;
    for told in Transcript::new(chaperone_evidence::show(dir, &session.id)?) {
        match told {
            Ok(told) => entry(session, &told, to)?,
            Err(error) => damage = Some(error),
        }
    }
    if let Some(error) = damage {
        return Err(error.into());
    }
    if start.protocol == "postgres" {
        stream(found, to)?;
    }
    writeln!(to, "</section>")?;
    Ok(())
}

fn decisions(session: &SessionSummary) -> String {
    format!(
        "{} allowed, {} denied, {} held, {} observed; {}, {} masked, {}",
        session.allowed,
        session.denied,
        session.held,
        session.observed,
        counted(session.rows, "row", "rows"),
        counted(session.masked, "value", "values"),
        counted(session.findings, "finding", "findings")
    )
}

/// A mark for each entry at its time, which leads to it. Positions are attributes: a style would be
/// against the page's own policy.
fn timeline(found: &Found, to: &mut dyn Write) -> Result<(), CliError> {
    let session = &found.session;
    let span = session.last_ns.saturating_sub(session.started_ns).max(1);
    writeln!(
        to,
        "<svg class=\"time\" viewBox=\"0 0 1000 34\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"When it happened\">"
    )?;
    for told in Transcript::new(chaperone_evidence::show(&found.dir, &session.id)?).take(MOST_MARKS)
    {
        let Ok(Entry::Statement(statement)) = told else {
            continue;
        };
        let after = statement.at_ns.saturating_sub(session.started_ns);
        #[allow(clippy::cast_precision_loss, reason = "a place on a drawing")]
        let x = (after as f64 / span as f64).min(1.0) * (WIDTH - 8.0);
        let verdict = statement.decision.verdict;
        writeln!(
            to,
            "<a href=\"#{place}\"><rect class=\"{verdict}\" x=\"{x:.1}\" y=\"5\" width=\"6\" height=\"24\"><title>#{sequence} {verdict} {summary}</title></rect></a>",
            place = place(session, statement.sequence),
            sequence = statement.sequence,
            summary = line(&statement.summary)
        )?;
    }
    writeln!(to, "</svg>")?;
    Ok(())
}

fn place(session: &SessionSummary, sequence: u64) -> String {
    format!("s-{}-{sequence}", session.id)
}

fn entry(session: &SessionSummary, entry: &Entry, to: &mut dyn Write) -> Result<(), CliError> {
    match entry {
        Entry::Statement(told) => statement(session, told, to),
        Entry::Approval(told) => approval(session, told, to),
        Entry::PolicyChanged(told) => event(session, "policy", told, to),
        Entry::Masked(told) => event(session, "masked", told, to),
        Entry::Finding(told) => event(session, "finding", told, to),
        Entry::Gap(told) => event(session, "GAP", told, to),
        Entry::SessionEnd(told) => event(session, "end", told, to),
    }
}

fn open(
    session: &SessionSummary,
    class: &str,
    badge: &str,
    (sequence, at): (u64, &str),
    to: &mut dyn Write,
) -> Result<(), CliError> {
    let time = at
        .split_once('T')
        .map_or(at, |(_, time)| time.trim_end_matches('Z'));
    write!(
        to,
        "<article class=\"entry {class}\" id=\"{}\" tabindex=\"0\"><span class=\"badge\">{}</span> \
         <span class=\"mono dim\">#{sequence} {}</span> ",
        place(session, sequence),
        line(badge),
        line(time)
    )?;
    Ok(())
}

fn statement(
    session: &SessionSummary,
    told: &StatementView,
    to: &mut dyn Write,
) -> Result<(), CliError> {
    let decision = &told.decision;
    open(
        session,
        decision.verdict,
        decision.verdict,
        (told.sequence, &told.at),
        to,
    )?;
    let mut parts = vec![told.phase.to_owned(), decision.reason.to_owned()];
    if !decision.policy.is_empty() {
        parts.push(format!(
            "rule {}/{} (generation {})",
            decision.policy, decision.rule, decision.generation
        ));
    }
    parts.extend(decision.access.clone());
    parts.extend(
        decision
            .approval
            .as_ref()
            .map(|name| format!("approval {name}")),
    );
    if let Some(outcome) = &told.outcome {
        parts.push(format!("{} {}", outcome.status, outcome.detail));
        parts.push(counted(outcome.rows, "row", "rows"));
        parts.push(short(Duration::from_micros(outcome.duration_micros)));
    }
    if let Some(would_be) = &decision.would_be {
        parts.push(format!(
            "dry run: {} {} by {}/{}",
            would_be.verdict, would_be.reason, would_be.policy, would_be.rule
        ));
    }
    parts.push(match told.durability.asked == told.durability.served {
        true => told.durability.served.to_owned(),
        false => format!(
            "{} served as {}",
            told.durability.asked, told.durability.served
        ),
    });
    writeln!(to, "{}", line(&parts.join(" · ")))?;
    let command = match told.refers_to {
        Some(prepared) if told.command.is_empty() => format!("(as prepared in #{prepared})"),
        _ => told.command.clone(),
    };
    writeln!(to, "<pre>{}</pre>", text(&command))?;
    if !told.parameters.is_empty() {
        writeln!(to, "<dl class=\"mono\">")?;
        for (i, value) in told.parameters.iter().enumerate() {
            let value = match value {
                Some(value) => format!("'{}'", line(value)),
                None => "NULL".to_owned(),
            };
            writeln!(to, "<dt>${}</dt><dd>{value}</dd>", i + 1)?;
        }
        writeln!(to, "</dl>")?;
    }
    if !told.accesses.is_empty() {
        writeln!(
            to,
            "<p class=\"dim\">{}</p>",
            line(&told.accesses.join(", "))
        )?;
    }
    if told.truncated {
        writeln!(
            to,
            "<p>Longer than the record keeps; the stream has the rest.</p>"
        )?;
    }
    writeln!(to, "</article>")?;
    Ok(())
}

fn approval(
    session: &SessionSummary,
    told: &ApprovalView,
    to: &mut dyn Write,
) -> Result<(), CliError> {
    open(session, "other", "approval", (told.sequence, &told.at), to)?;
    let mut said = format!("{} {}", told.request, told.event);
    if let Some(reviewer) = &told.reviewer {
        let proven = if told.authenticated {
            ""
        } else {
            " (unauthenticated)"
        };
        said.push_str(&format!(" by {reviewer}{proven}"));
    }
    if !told.reason.is_empty() {
        said.push_str(&format!(": {}", told.reason));
    }
    said.push_str(&format!(" · rule {}/{}", told.policy, told.rule));
    writeln!(to, "{}</article>", line(&said))?;
    Ok(())
}

fn event(
    session: &SessionSummary,
    badge: &str,
    told: &EventView,
    to: &mut dyn Write,
) -> Result<(), CliError> {
    open(session, "other", badge, (told.sequence, &told.at), to)?;
    writeln!(to, "{}</article>", line(&told.what))?;
    Ok(())
}

/// What went over the agent's connection, message by message.
fn stream(found: &Found, to: &mut dyn Write) -> Result<(), CliError> {
    let mut client = Reader::new(Sender::Frontend);
    let mut server = Reader::new(Sender::Backend);
    let mut messages = 0;
    write!(
        to,
        "<details><summary>The agent's connection, message by message</summary><pre>"
    )?;
    'pieces: for piece in chaperone_evidence::replay(&found.dir, &found.session.id)? {
        let piece = piece?;
        let (reader, arrow) = match piece.direction {
            Direction::Client => (&mut client, "→"),
            Direction::Server => (&mut server, "←"),
        };
        for told in reader.read(&piece.bytes) {
            if messages == MOST_MESSAGES {
                writeln!(
                    to,
                    "… and more: kubectl chaperone replay {}",
                    found.session.id
                )?;
                break 'pieces;
            }
            messages += 1;
            writeln!(
                to,
                "{:>10.3} {arrow} {}",
                piece.offset.as_secs_f64(),
                line(&told)
            )?;
        }
    }
    writeln!(to, "</pre></details>")?;
    Ok(())
}
