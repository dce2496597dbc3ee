//! `replay`: a session's stream again, in its own time or as its exact bytes.

use std::thread;
use std::time::Duration;

use chaperone_evidence::{Direction, Replayed};

use super::Answer;
use crate::cli::{ReplayArgs, Side};
use crate::error::CliError;
use crate::http;
use crate::output::{Output, Tone};
use crate::postgres::{Reader, Sender};
use crate::source::{Found, Source};

/// Plays one session's stream as the agent saw it.
pub(crate) fn run(
    source: &Source,
    args: &ReplayArgs,
    output: &mut Output,
) -> Result<Answer, CliError> {
    let mut evidence = source.evidence()?;
    let Found { session, dir } = source.session(&mut evidence, &args.session)?;
    // Opened first: of a sealed one the protocol is not known either.
    let pieces = chaperone_evidence::replay(&dir, &session.id)?;
    let http = matches!(session.start.protocol.as_str(), "http" | "kubernetes");
    if args.raw.is_none() && !http && session.start.protocol != "postgres" {
        return Err(CliError::Usage(format!(
            "session {} speaks {}, which only --raw can replay",
            session.id, session.start.protocol
        )));
    }
    let default_speed = if output.is_terminal() { 1.0 } else { 0.0 };
    let speed = args.speed.unwrap_or(match args.raw {
        Some(_) => 0.0,
        None => default_speed,
    });
    let mut player = Player::new(speed, http);
    for piece in pieces {
        let piece = piece?;
        match args.raw {
            Some(side) => {
                if piece.direction == direction_of(side) {
                    player.wait_for(&piece, output)?;
                    output.raw(&piece.bytes)?;
                }
            }
            None => {
                player.wait_for(&piece, output)?;
                player.print(&piece, output)?;
            }
        }
    }
    if args.raw.is_none() {
        player.finish(output)?;
    }
    Ok(Answer::Yes)
}

fn direction_of(side: Side) -> Direction {
    match side {
        Side::Client => Direction::Client,
        Side::Server => Direction::Server,
    }
}

struct Player {
    /// How many times as fast; 0 without pauses.
    speed: f64,
    played_to: Duration,
    client: Lines,
    server: Lines,
}

/// What makes lines of one direction's bytes.
enum Lines {
    Postgres(Reader),
    Http(http::Reader),
}

impl Lines {
    fn new(http: bool, sender: Sender) -> Lines {
        match http {
            true => Lines::Http(http::Reader::default()),
            false => Lines::Postgres(Reader::new(sender)),
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Vec<String> {
        match self {
            Lines::Postgres(reader) => reader.read(bytes),
            Lines::Http(reader) => reader.read(bytes),
        }
    }

    fn finish(&self) -> Option<String> {
        match self {
            Lines::Postgres(reader) => reader.finish(),
            Lines::Http(reader) => reader.finish(),
        }
    }
}

impl Player {
    fn new(speed: f64, http: bool) -> Player {
        Player {
            speed,
            played_to: Duration::ZERO,
            client: Lines::new(http, Sender::Frontend),
            server: Lines::new(http, Sender::Backend),
        }
    }

    /// Pauses as long as the session did before this piece.
    fn wait_for(&mut self, piece: &Replayed, output: &mut Output) -> Result<(), CliError> {
        let pause = piece.offset.saturating_sub(self.played_to);
        self.played_to = self.played_to.max(piece.offset);
        if self.speed > 0.0 && !pause.is_zero() {
            output.flush()?;
            thread::sleep(pause.div_f64(self.speed.max(1e-3)));
        }
        Ok(())
    }

    fn print(&mut self, piece: &Replayed, output: &mut Output) -> Result<(), CliError> {
        let at = output.paint(Tone::Dim, &format!("{:>10.3}", piece.offset.as_secs_f64()));
        let (reader, arrow) = match piece.direction {
            Direction::Client => (&mut self.client, output.paint(Tone::Bold, ">")),
            Direction::Server => (&mut self.server, output.paint(Tone::Dim, "<")),
        };
        for line in reader.read(&piece.bytes) {
            output.line(&format!("{at} {arrow} {line}"))?;
        }
        Ok(())
    }

    fn finish(&self, output: &mut Output) -> Result<(), CliError> {
        for (arrow, reader) in [(">", &self.client), ("<", &self.server)] {
            if let Some(rest) = reader.finish() {
                output.line(&format!("{:>10} {arrow} {rest}", "end"))?;
            }
        }
        Ok(())
    }
}
