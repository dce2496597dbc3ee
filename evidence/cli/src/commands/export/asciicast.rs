//! One session as a terminal recording: what was asked, decided and answered, in its own time.
//!
//! asciicast v2: a line of JSON with the terminal's size, then a line `[seconds, "o", text]` for
//! each output. Also asciinema's newer players read it.
//! <https://docs.asciinema.org/manual/asciicast/v2/>

use std::io::Write;
use std::time::Duration;

use chaperone_evidence::{Direction, Record, Shown};
use serde::Serialize;

use crate::commands::select::Selection;
use crate::commands::transcript::{Entry, Settling};
use crate::error::CliError;
use crate::http;
use crate::output::{Tone, always_painted, escape_line, to_json_line};
use crate::postgres::{Reader, Sender};
use crate::source::{Evidence, Found};

/// A usual terminal. Longer lines wrap, as there.
const WIDTH: u32 = 120;
const HEIGHT: u32 = 36;

#[derive(Debug, Serialize)]
struct Header {
    version: u8,
    width: u32,
    height: u32,
    /// Seconds since the Unix epoch.
    timestamp: u64,
    title: String,
}

/// Writes the one session that is selected.
pub(super) fn write(
    evidence: &Evidence,
    selection: &Selection,
    to: &mut dyn Write,
) -> Result<(), CliError> {
    let Found { session, dir } = selection.only(evidence).ok_or_else(|| {
        CliError::Usage(format!(
            "an asciicast holds one session, and {} are selected; name one",
            selection.len()
        ))
    })??;
    let terminal = session.start.protocol == "kubernetes";
    if !terminal && session.start.protocol != "postgres" {
        return Err(CliError::Usage(format!(
            "session {} speaks {}, of which no asciicast can be made",
            session.id, session.start.protocol
        )));
    }
    let header = Header {
        version: 2,
        width: WIDTH,
        height: HEIGHT,
        timestamp: session.started_ns / 1_000_000_000,
        title: escape_line(&format!(
            "{} over {} to {}",
            session.start.subject, session.start.connection, session.start.target
        )),
    };
    writeln!(to, "{}", to_json_line(&header)?)?;
    if terminal {
        return terminal_of(&dir, &session.id, to);
    }
    let mut cast = Cast {
        to,
        client: Reader::new(Sender::Frontend),
        server: Reader::new(Sender::Backend),
        at: Duration::ZERO,
    };
    for shown in chaperone_evidence::show(&dir, &session.id)? {
        cast.take(shown?)?;
    }
    Ok(())
}

/// What a command of exec or attach printed and read: the terminal itself.
fn terminal_of(
    dir: &chaperone_evidence::Place,
    session: &chaperone_evidence::SessionId,
    to: &mut dyn Write,
) -> Result<(), CliError> {
    let mut readers = [http::Reader::default(), http::Reader::default()];
    let mut at = Duration::ZERO;
    let mut any = false;
    for piece in chaperone_evidence::replay(dir, session)? {
        let piece = piece?;
        at = at.max(piece.offset);
        let [client, server] = &mut readers;
        let reader = match piece.direction {
            Direction::Client => client,
            Direction::Server => server,
        };
        for part in reader.parts(&piece.bytes) {
            let http::Part::Channel(channel, bytes) = part else {
                continue;
            };
            let (code, text) = match channel {
                0 => ("i", String::from_utf8_lossy(&bytes).into_owned()),
                1 | 2 => ("o", String::from_utf8_lossy(&bytes).into_owned()),
                4 => match size(&bytes) {
                    Some(size) => ("r", size),
                    None => continue,
                },
                _ => continue,
            };
            any = true;
            let event = (at.as_secs_f64(), code, text);
            writeln!(to, "{}", to_json_line(&event)?)?;
        }
    }
    match any {
        true => Ok(()),
        false => Err(CliError::Usage(format!(
            "session {session} runs no command, so there is no terminal to show"
        ))),
    }
}

/// `COLUMNSxROWS` of a resize message, `{"Width":80,"Height":24}` (k8s.io/client-go,
/// tools/remotecommand).
fn size(bytes: &[u8]) -> Option<String> {
    let size: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let of = |name: &str| size.get(name)?.as_u64();
    Some(format!("{}x{}", of("Width")?, of("Height")?))
}

struct Cast<'a> {
    to: &'a mut dyn Write,
    client: Reader,
    server: Reader,
    at: Duration,
}

impl Cast<'_> {
    fn take(&mut self, shown: Shown) -> Result<(), CliError> {
        // Time only goes on.
        self.at = self.at.max(shown.offset);
        match shown.record {
            Record::Client { stream, .. } => {
                for line in self.client.read(&stream.bytes) {
                    self.print(&always_painted(Tone::Bold, &format!("> {line}")))?;
                }
            }
            Record::Server(stream) => {
                for line in self.server.read(&stream.bytes) {
                    let tone = match line.starts_with("ErrorResponse") {
                        true => Tone::Bad,
                        false => Tone::Plain,
                    };
                    self.print(&always_painted(tone, &format!("< {line}")))?;
                }
            }
            _ => {
                let mut settling = Settling::default();
                settling.take(shown);
                if let Some(entry) = settling.ready(true) {
                    let (tone, text) = told(&entry);
                    self.print(&always_painted(tone, &escape_line(&text)))?;
                }
            }
        }
        Ok(())
    }

    /// One line, whose text is safe to print.
    fn print(&mut self, line: &str) -> Result<(), CliError> {
        let event = (self.at.as_secs_f64(), "o", format!("{line}\r\n"));
        writeln!(self.to, "{}", to_json_line(&event)?)?;
        Ok(())
    }
}

/// What happened beside the stream, in a line.
fn told(entry: &Entry) -> (Tone, String) {
    match entry {
        Entry::Statement(statement) => {
            let decision = &statement.decision;
            let mut text = format!(
                "-- #{} {} {}",
                statement.sequence,
                decision.verdict.to_uppercase(),
                decision.reason
            );
            if !decision.policy.is_empty() {
                text.push_str(&format!(" by {}/{}", decision.policy, decision.rule));
            }
            if let Some(access) = &decision.access {
                text.push_str(&format!(": {access}"));
            }
            (crate::commands::show::verdict_tone(decision.verdict), text)
        }
        Entry::Approval(approval) => {
            let by = approval.reviewer.as_deref().unwrap_or_default();
            let by = if by.is_empty() {
                String::new()
            } else {
                format!(" by {by}")
            };
            let text = format!(
                "-- {} {}{by} {}",
                approval.request, approval.event, approval.reason
            );
            (Tone::Warn, text)
        }
        Entry::PolicyChanged(event) => (Tone::Warn, format!("-- policy changed: {}", event.what)),
        Entry::Masked(event) => (Tone::Dim, format!("-- masked: {}", event.what)),
        Entry::Finding(event) => (Tone::Bad, format!("-- finding: {}", event.what)),
        Entry::Gap(event) => (Tone::Bad, format!("-- GAP: {}", event.what)),
        Entry::SessionEnd(event) => (Tone::Dim, format!("-- end: {}", event.what)),
    }
}
