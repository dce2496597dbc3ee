//! What the server still owes us, in order: each reply is passed on, swallowed or replaced.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use chaperone_enforce::Denial;

use super::masks::{Plan, ResultField};
use super::names::{Described, Portal, Prepared};
use super::statements::Batch;
use crate::codec::Format;

/// One reply, or group of replies, that will come.
#[derive(Debug)]
pub(crate) enum Expect {
    /// To a simple Query: results of each statement, then ReadyForQuery.
    Query(Box<Running>),
    /// ParseComplete.
    Parse {
        /// Whether the statement may show a masked relation, and so its error.
        touches: bool,
    },
    /// ParameterDescription and RowDescription or NoData that the proxy asked for: swallowed.
    OwnDescribe(Arc<Prepared>, Arc<Described>),
    /// BindComplete.
    Bind {
        /// The intent that will never run if this fails.
        intent: u64,
        /// As for Parse.
        touches: bool,
    },
    /// [ParameterDescription] and RowDescription or NoData for the agent.
    Describe,
    /// The rows of a portal.
    Execute(Box<Running>),
    /// CloseComplete.
    Close,
    /// ReadyForQuery.
    Sync,
    /// The error that a deliberately broken message makes; replaced by this denial.
    Abort {
        /// What the agent is told instead.
        denial: Box<Denial>,
        /// Sent as a simple Query, so ReadyForQuery follows.
        simple: bool,
        /// The error has come.
        answered: bool,
    },
}

/// The columns of a result, as the server said them.
pub(crate) type Columns = Arc<[ResultField]>;
/// The formats that a Bind asked for.
pub(crate) type Formats = Arc<[Format]>;

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) intent: u64,
    pub(crate) batch: Arc<Batch>,
    /// The policy generation it was decided under.
    pub(crate) generation: u64,
    /// Changes to names that hold as soon as the server answers at all.
    pub(crate) at_once: usize,
    /// Changes to names that hold once a statement (by its position) has completed.
    pub(crate) changes: VecDeque<(usize, usize)>,
    /// Which statement of the batch answers now.
    pub(crate) statement: usize,
    pub(crate) started: Instant,
    /// The portal, for Execute.
    pub(crate) portal: Option<Arc<Portal>>,
    /// The result's columns and the formats that Bind asked for, so that a plan can be made again.
    pub(crate) fields: Option<(Columns, Formats)>,
    pub(crate) plan: Option<Arc<Plan>>,
    /// The record's plan where it differs from the agent's.
    pub(crate) record_plan: Option<Arc<Plan>>,
    pub(crate) copy: Option<CopyRun>,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) masked: u64,
    /// The columns that were.
    pub(crate) masked_by: Vec<String>,
    pub(crate) failed: Option<String>,
    /// Refused while it ran: the server's error is replaced by this.
    pub(crate) refused: Option<Box<Denial>>,
    pub(crate) tag: String,
}

/// A COPY under way.
#[derive(Debug)]
pub(crate) enum CopyRun {
    /// To the agent.
    Out(super::copy::CopyMasks),
    /// From the agent; `open` until it, or we, have ended the data.
    In { open: bool },
}

impl Running {
    pub(crate) fn new(intent: u64, batch: Arc<Batch>, generation: u64) -> Self {
        Self {
            intent,
            batch,
            generation,
            at_once: 0,
            changes: VecDeque::new(),
            statement: 0,
            started: Instant::now(),
            portal: None,
            fields: None,
            plan: None,
            record_plan: None,
            copy: None,
            rows: 0,
            bytes: 0,
            masked: 0,
            masked_by: Vec::new(),
            failed: None,
            refused: None,
            tag: String::new(),
        }
    }

    /// How many changes to names its answer still decides on.
    pub(crate) fn undecided(&self) -> usize {
        self.changes
            .iter()
            .fold(self.at_once, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Whether the server takes COPY data now.
    pub(crate) fn copying_in(&self) -> bool {
        matches!(self.copy, Some(CopyRun::In { open: true }))
    }

    /// Whether it will ask for COPY data that it has not asked for yet.
    pub(crate) fn will_copy_in(&self) -> bool {
        let from = match self.copy {
            Some(CopyRun::In { .. }) => self.statement.saturating_add(1),
            _ => self.statement,
        };
        self.failed.is_none()
            && self
                .batch
                .statements
                .iter()
                .skip(from)
                .any(|statement| statement.is_copy_in())
    }
}

impl Expect {
    /// Changes to names that this reply decides on.
    pub(crate) fn undecided(&self) -> usize {
        match self {
            Expect::Parse { .. } | Expect::Bind { .. } | Expect::Close => 1,
            Expect::Query(running) | Expect::Execute(running) => running.undecided(),
            Expect::OwnDescribe(..) | Expect::Describe | Expect::Sync | Expect::Abort { .. } => 0,
        }
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    queue: VecDeque<Expect>,
}

/// Replies that may be outstanding; a client that pipelines more is made to wait.
pub(crate) const MOST: usize = 4096;

impl Expected {
    pub(crate) fn push(&mut self, expect: Expect) {
        self.queue.push_back(expect);
    }

    pub(crate) fn front(&mut self) -> Option<&mut Expect> {
        self.queue.front_mut()
    }

    pub(crate) fn pop(&mut self) -> Option<Expect> {
        self.queue.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// All but the first `count` belong to messages that were never sent.
    pub(crate) fn keep(&mut self, count: usize) {
        self.queue.truncate(count);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.queue.len() >= MOST
    }

    /// Whether a ReadyForQuery is sure to come last, so that waiting for idle ends.
    pub(crate) fn ends_ready(&self) -> bool {
        matches!(
            self.queue.back(),
            None | Some(Expect::Sync | Expect::Query(_) | Expect::Abort { simple: true, .. })
        )
    }

    /// The server skips to the next Sync after an error: everything before it is taken out, in
    /// order. Whether that Sync is out.
    pub(crate) fn skip_to_sync(&mut self) -> (Vec<Expect>, bool) {
        let position = self
            .queue
            .iter()
            .position(|expect| matches!(expect, Expect::Sync));
        let count = position.unwrap_or(self.queue.len());
        let skipped: Vec<Expect> = self.queue.drain(..count).collect();
        (skipped, position.is_some())
    }

    /// Whether a question for this statement's description is out.
    pub(crate) fn describes(&self, prepared: &Arc<Prepared>) -> bool {
        self.queue.iter().any(|expect| {
            matches!(expect, Expect::OwnDescribe(asked, _) if Arc::ptr_eq(asked, prepared))
        })
    }

    /// Everything, at the end of the session.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Expect> + '_ {
        self.queue.drain(..)
    }

    /// Whether a Sync is out.
    pub(crate) fn has_sync(&self) -> bool {
        self.queue
            .iter()
            .any(|expect| matches!(expect, Expect::Sync))
    }

    /// The server ignores Sync and Flush while it waits for COPY data
    /// (PostgreSQL, Message Flow, COPY Operations). Whether there were any.
    pub(crate) fn forget_syncs_behind_front(&mut self) -> bool {
        let before = self.queue.len();
        let mut first = true;
        self.queue.retain(|expect| {
            let keep = first || !matches!(expect, Expect::Sync);
            first = false;
            keep
        });
        self.queue.len() < before
    }

    /// The command that is answered now, if it is one.
    pub(crate) fn running(&mut self) -> Option<&mut Running> {
        match self.queue.front_mut() {
            Some(Expect::Query(running) | Expect::Execute(running)) => Some(running),
            _ => None,
        }
    }

    /// Every command, to be changed.
    pub(crate) fn all_running_mut(&mut self) -> impl Iterator<Item = &mut Running> {
        self.queue.iter_mut().filter_map(|expect| match expect {
            Expect::Query(running) | Expect::Execute(running) => Some(running.as_mut()),
            _ => None,
        })
    }

    /// All commands that have been forwarded and not finished.
    pub(crate) fn all_running(&self) -> impl Iterator<Item = &Running> {
        self.queue.iter().filter_map(|expect| match expect {
            Expect::Query(running) | Expect::Execute(running) => Some(running.as_ref()),
            _ => None,
        })
    }
}
