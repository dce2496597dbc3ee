//! Commands of one pipeline are recorded together: each is staged as it is decided on, and all of
//! them get their permits from one write, and one sync, before any of them goes out.

use chaperone_evidence::{Permit, Staged};
use chaperone_policy::Reason;

use super::engine::{Engine, Fault};
use crate::codec::Frame;
use crate::codec::frontend::tag;

/// How a session stood before the first staged command: where it goes back to when they cannot be
/// recorded, as if the first of them had been refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BeforeStaged {
    replies: usize,
    names: usize,
    pipeline_open: bool,
}

/// What lets a command through: now, or once its pipeline is settled.
#[derive(Debug)]
pub(crate) enum Pass {
    /// Its record is durable.
    Now(Permit),
    /// Its record is made.
    Staged(Staged),
}

impl Pass {
    /// Sequence of the intent.
    pub(crate) fn intent(&self) -> u64 {
        match self {
            Pass::Now(permit) => permit.sequence(),
            Pass::Staged(staged) => staged.sequence(),
        }
    }
}

impl Engine<'_> {
    /// Whether this message may join those that wait for their permits.
    pub(crate) fn joins_staged(frame: &Frame) -> bool {
        matches!(
            frame.tag,
            tag::PARSE | tag::BIND | tag::EXECUTE | tag::DESCRIBE | tag::CLOSE
        )
    }

    /// Forwards a command now, or with its pipeline. To be called before what it makes the session
    /// expect is noted.
    pub(crate) fn pass(&mut self, pass: Pass, frame: &Frame) -> Result<(), Fault> {
        let sent = match pass {
            Pass::Now(permit) => self.target.forward(permit, &frame.raw),
            Pass::Staged(staged) => {
                if !self.target.is_staging() {
                    self.before_staged = Some(BeforeStaged {
                        replies: self.expected.len(),
                        names: self.names.undecided(),
                        pipeline_open: self.pipeline_open,
                    });
                }
                self.target.stage(staged, &frame.raw)
            }
        };
        sent.map_err(|error| Fault::new(Reason::Internal, error.to_string()))
    }

    /// Lets the staged commands through once all of them are recorded as they must be; or none of
    /// them, and the agent is told of the first.
    pub(crate) async fn settle(&mut self) -> Result<(), Fault> {
        if !self.target.is_staging() {
            return Ok(());
        }
        let staged = self.target.take_staged();
        match self.flow.permits(staged).await {
            Ok(permits) => self
                .target
                .release(permits)
                .map_err(|error| Fault::new(Reason::Internal, error.to_string())),
            Err(denial) => {
                self.target.withdraw();
                if let Some(before) = self.before_staged.take() {
                    self.expected.keep(before.replies);
                    self.names.withdraw(before.names);
                    self.pipeline_open = before.pipeline_open;
                }
                self.deny_extended(denial)
            }
        }
    }
}
