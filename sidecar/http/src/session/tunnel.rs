//! Bytes both ways after a 101: no more HTTP, still recorded piece by piece.

use std::time::Duration;

use crate::websocket::{Down, MessageError, Messages};
use chaperone_enforce::{Denial, Session as Flow};
use chaperone_evidence::{Masked, Permit, RecordError};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};

type Reader = ReadHalf<TokioIo<Upgraded>>;
type Writer = WriteHalf<TokioIo<Upgraded>>;

/// Read at a time.
const PIECE: usize = 16 * 1024;
/// For an agent that may not be reading any more.
const FAREWELL: Duration = Duration::from_secs(2);

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
    /// It cannot be read, or not masked.
    #[error(transparent)]
    Messages(#[from] MessageError),
}

/// What can be recorded now.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Up,
    Down,
    /// The target sends no more: what was held back goes on.
    Last,
}

/// Which side of a direction is gone.
enum Lost {
    From,
    To,
}

/// One direction: what was read waits until it was recorded, then until it was written.
struct Pipe {
    from: Reader,
    to: Writer,
    buffer: Vec<u8>,
    read: usize,
    /// What is written in place of what was read.
    instead: Option<Vec<u8>>,
    /// How much may be written, and how much was.
    released: usize,
    written: usize,
    /// Nothing comes any more.
    ended: bool,
    open: bool,
}

impl Pipe {
    fn new(from: Reader, to: Writer) -> Pipe {
        Pipe {
            from,
            to,
            buffer: vec![0; PIECE],
            read: 0,
            instead: None,
            released: 0,
            written: 0,
            ended: false,
            open: true,
        }
    }

    /// Returns when there is something new to record; `Ok(false)` when nothing more comes, and
    /// after that when all was written.
    async fn ready(&mut self) -> Result<bool, Lost> {
        self.settle().await?;
        if self.ended {
            self.to.shutdown().await.map_err(|_| Lost::To)?;
            self.open = false;
            return Ok(false);
        }
        if self.read == 0 {
            let read = self.from.read(&mut self.buffer).await;
            self.read = read.map_err(|_| Lost::From)?;
        }
        self.ended = self.read == 0;
        Ok(!self.ended)
    }

    /// Writes what was let go.
    async fn settle(&mut self) -> Result<(), Lost> {
        while self.written < self.released {
            let from = self.instead.as_ref().unwrap_or(&self.buffer);
            let rest = from.get(self.written..self.released).unwrap_or_default();
            match self.to.write(rest).await {
                Ok(0) | Err(_) => return Err(Lost::To),
                Ok(count) => self.written += count,
            }
        }
        self.to.flush().await.map_err(|_| Lost::To)?;
        if self.released > 0 {
            self.read = 0;
            self.released = 0;
            self.written = 0;
            self.instead = None;
        }
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.read).unwrap_or_default()
    }

    /// Lets what was read go, once.
    fn release(&mut self, _permit: Option<Permit>) {
        self.released = self.read;
        self.written = 0;
    }

    /// Lets this go in place of what was read. Gives how much that is.
    fn release_instead(&mut self, bytes: Vec<u8>) -> usize {
        // What was read is done with, also where nothing goes on for it.
        self.read = 0;
        self.released = bytes.len();
        self.written = 0;
        self.instead = (!bytes.is_empty()).then_some(bytes);
        self.released
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
                (Ok(false), Step::Down) if self.down.open => return Some(Step::Last),
                (Ok(false), _) => {}
                // What it said before it closed is on its way: kubectl's pings meet a target that has
                // ended while its output goes on.
                (Err(Lost::To), Step::Up) => self.up.open = false,
                (Err(_), _) => return None,
            }
        }
    }

    /// How it ended, where that is known.
    pub(super) fn ended(&self) -> Option<(String, bool)> {
        self.messages.as_ref()?.ended()
    }

    /// What was masked.
    pub(super) fn masked(&self) -> Vec<Masked> {
        let messages = self.messages.iter();
        let masked = messages.flat_map(|messages| messages.masked());
        masked.map(|(by, count)| Masked { by, count }).collect()
    }

    /// Tells the agent why this ends here, where there are words for it, after what was let go before.
    pub(super) async fn farewell(&mut self, flow: &mut Flow, denial: &Denial) {
        let messages = self.messages.as_ref();
        let words = messages.map(|messages| messages.farewell(denial));
        let Some(words) = words.filter(|words| !words.is_empty()) else {
            return;
        };
        // Where this cannot be recorded the agent learns of it all the same: it is nobody's data.
        let _ = flow.record().server(&[words.as_slice().into()]);
        let down = &mut self.down;
        let told = async {
            down.settle().await?;
            down.release_instead(words);
            down.settle().await?;
            down.to.shutdown().await.map_err(|_| Lost::To)
        };
        let _ = tokio::time::timeout(FAREWELL, told).await;
    }

    /// Records what can go on now, and lets it. Gives how many bytes go to the agent.
    pub(super) fn keep(&mut self, flow: &mut Flow, step: Step) -> Result<u64, Broken> {
        let Tunnel { up, down, messages } = self;
        let went = match (step, messages) {
            (Step::Up, None) => {
                let permit = flow.record().control(&[up.bytes().into()])?;
                up.release(Some(permit));
                0
            }
            (Step::Up, Some(messages)) => {
                let recorded = messages.up(up.bytes())?;
                let permit = flow.record().control(&[recorded.part()])?;
                up.release(Some(permit));
                0
            }
            (Step::Down, None) => {
                flow.record().server(&[down.bytes().into()])?;
                down.release(None);
                down.read
            }
            (Step::Last, None) => 0,
            (step, Some(messages)) => {
                let Down { agent, record } = match step {
                    Step::Last => messages.finish()?,
                    _ => messages.down(down.bytes())?,
                };
                if !record.is_empty() {
                    flow.record().server(&[record.as_slice().into()])?;
                }
                match agent {
                    Some(masked) => down.release_instead(masked),
                    None => {
                        down.release(None);
                        down.read
                    }
                }
            }
        };
        Ok(went as u64)
    }
}
