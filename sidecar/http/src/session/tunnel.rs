//! Bytes both ways after a 101: no more HTTP, still recorded piece by piece.

use std::io;

use crate::websocket::{Messages, NotWebSocket};
use chaperone_enforce::Session as Flow;
use chaperone_evidence::{Permit, RecordError};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};

type Reader = ReadHalf<TokioIo<Upgraded>>;
type Writer = WriteHalf<TokioIo<Upgraded>>;

/// Read at a time.
const PIECE: usize = 16 * 1024;

/// Both directions.
pub(super) struct Tunnel {
    up: Pipe,
    down: Pipe,
    messages: Option<Box<dyn Messages>>,
}

/// What ends a tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// It cannot be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It is not what was agreed on.
    #[error(transparent)]
    Messages(#[from] NotWebSocket),
}

/// What can be recorded now.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Up,
    Down,
}

/// One direction: what was read waits until it was recorded, then until it was written.
struct Pipe {
    from: Reader,
    to: Writer,
    buffer: Vec<u8>,
    read: usize,
    /// How much may be written, and how much was.
    released: usize,
    written: usize,
    open: bool,
}

impl Pipe {
    fn new(from: Reader, to: Writer) -> Pipe {
        Pipe {
            from,
            to,
            buffer: vec![0; PIECE],
            read: 0,
            released: 0,
            written: 0,
            open: true,
        }
    }

    /// Returns when there is something new to record; `Ok(false)` when the direction has ended.
    async fn ready(&mut self) -> io::Result<bool> {
        while self.written < self.released {
            let rest = self
                .buffer
                .get(self.written..self.released)
                .unwrap_or_default();
            let count = self.to.write(rest).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.written += count;
        }
        self.to.flush().await?;
        if self.released > 0 {
            self.read = 0;
            self.released = 0;
            self.written = 0;
        }
        if self.read == 0 {
            self.read = self.from.read(&mut self.buffer).await?;
        }
        if self.read == 0 {
            self.to.shutdown().await?;
            return Ok(false);
        }
        Ok(true)
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.read).unwrap_or_default()
    }

    /// Lets what was read go, once.
    fn release(&mut self, _permit: Option<Permit>) {
        self.released = self.read;
        self.written = 0;
    }
}

impl Tunnel {
    pub(super) fn new(
        agent: Upgraded,
        target: Upgraded,
        messages: Option<Box<dyn Messages>>,
    ) -> Tunnel {
        let (from_agent, to_agent) = split(TokioIo::new(agent));
        let (from_target, to_target) = split(TokioIo::new(target));
        Tunnel {
            up: Pipe::new(from_agent, to_target),
            down: Pipe::new(from_target, to_agent),
            messages,
        }
    }

    /// Moves bytes until some have to be recorded; `None` when both directions have ended, or
    /// either broke. Cancel-safe: what was read or written stays known.
    pub(super) async fn ready(&mut self) -> Option<Step> {
        loop {
            let (up, down) = (&mut self.up, &mut self.down);
            let (step, result) = match (up.open, down.open) {
                (false, false) => return None,
                (true, false) => (Step::Up, up.ready().await),
                (false, true) => (Step::Down, down.ready().await),
                (true, true) => tokio::select! {
                    result = up.ready() => (Step::Up, result),
                    result = down.ready() => (Step::Down, result),
                },
            };
            match (result, step) {
                (Ok(true), step) => return Some(step),
                (Ok(false), Step::Up) => self.up.open = false,
                (Ok(false), Step::Down) => self.down.open = false,
                (Err(_), _) => return None,
            }
        }
    }

    /// How it ended, where that is known.
    pub(super) fn ended(&self) -> Option<(String, bool)> {
        self.messages.as_ref()?.ended()
    }

    /// Records what can go on now, and lets it. Gives the bytes that go to the agent.
    pub(super) fn keep(&mut self, flow: &mut Flow, step: Step) -> Result<u64, Broken> {
        let bytes = match step {
            Step::Up => self.up.bytes(),
            Step::Down => self.down.bytes(),
        };
        let plain = match (&mut self.messages, step) {
            (None, _) => None,
            (Some(messages), Step::Up) => Some(messages.up(bytes)?),
            (Some(messages), Step::Down) => Some(messages.down(bytes)?),
        };
        let shown = plain.as_deref().unwrap_or(bytes);
        match step {
            Step::Up => {
                let permit = flow.record().control(&[shown.into()])?;
                self.up.release(Some(permit));
                Ok(0)
            }
            Step::Down => {
                flow.record().server(&[shown.into()])?;
                self.down.release(None);
                Ok(self.down.read as u64)
            }
        }
    }
}
