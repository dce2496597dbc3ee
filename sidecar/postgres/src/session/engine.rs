//! The loop that owns both sockets of a session.
//!
//! One task, one select: whatever is ready is read into a bounded buffer or written from one,
//! then whole messages are handled in order. Nothing half-read is ever dropped, and a side that
//! does not read stops the other from filling our memory.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use chaperone_enforce::{Denial, Session as Flow};
use chaperone_evidence::RecordError;
use chaperone_policy::Reason;
use chaperone_sql::{Overlay, SearchPath};
use chaperone_wire::{Drain, ReadBuffer, StreamReader, StreamWriter};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::errors::error_response;
use super::expect::{Expected, Running};
use super::hold::Held;
use super::large::LargeMessage;
use super::names::Names;
use super::staging::BeforeStaged;
use super::statements::Environment;
use super::target::TargetWriter;
use super::values::Masks;
use super::{Connection, Facts};
use crate::codec::{Frame, FrameError, ProtocolError, Severity, TransactionStatus, frame};
use crate::server::CancelHandle;

/// Bytes that may wait for one side before the other is no longer read.
const BACKLOG: usize = 256 * 1024;
/// Evidence that may wait in memory before the sockets wait for it.
pub(crate) const RECORD_BACKLOG: usize = 256 * 1024;
/// Bytes recorded at a time.
pub(crate) const RECORD_PIECE: usize = 128 * 1024;
/// For the last bytes of a session to be written.
pub(crate) const GOODBYE: Duration = Duration::from_secs(2);
/// How often buffered evidence is written when nothing else makes it.
const TICK: Duration = Duration::from_millis(200);

/// What ends a session.
#[derive(Debug, Clone)]
pub(crate) struct Fault(pub(crate) Denial);

impl Fault {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Denial::new(reason, message))
    }

    pub(crate) fn cannot_record(error: &RecordError) -> Self {
        Self::new(
            error.reason(),
            format!("the evidence of this session cannot be kept: {error}"),
        )
    }

    pub(crate) fn protocol(error: &ProtocolError) -> Self {
        Self::new(Reason::ProtocolViolation, error.to_string())
    }

    pub(crate) fn target_protocol(error: &ProtocolError) -> Self {
        Self::new(Reason::TargetProtocol, format!("the server: {error}"))
    }
}

/// How a session came to its end without a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    ByAgent,
    ByServer,
}

/// What the frontend waits for.
#[derive(Debug)]
pub(crate) enum Blocked {
    /// Replies that are outstanding; then the pending message is handled.
    UntilIdle,
    /// Replies that decide on names which the pending message uses.
    UntilSettled,
    /// The server naming the parameter types of a statement.
    UntilTyped(Arc<super::names::Prepared>),
    /// The server asking for COPY data.
    UntilCopy,
    /// A human.
    Held(Box<Held>),
}

/// One session.
pub(crate) struct Engine<'a> {
    pub(crate) shared: &'a Arc<Connection>,
    pub(crate) flow: Flow,
    pub(crate) masks: Masks,
    pub(crate) role: String,
    agent_reader: StreamReader,
    agent_writer: StreamWriter,
    agent_buffer: ReadBuffer,
    server_reader: StreamReader,
    server_writer: StreamWriter,
    pub(crate) server_buffer: ReadBuffer,
    /// What their large messages take, until they have gone on.
    agent_room: LargeMessage,
    server_room: LargeMessage,
    /// TLS keeps bytes of its own that a write does not wait for.
    flush_agent: bool,
    flush_server: bool,
    pub(crate) target: TargetWriter,
    /// How things stood before the first command that waits for its permit.
    pub(crate) before_staged: Option<BeforeStaged>,
    /// Bytes on their way to the agent.
    pub(crate) out: BytesMut,
    /// How much of `out` has been recorded.
    pub(crate) recorded: usize,
    pub(crate) expected: Expected,
    pub(crate) names: Names,
    pub(crate) transaction: TransactionStatus,
    /// Something was forwarded since the last Sync, so the server has a transaction of its own.
    pub(crate) pipeline_open: bool,
    /// After an error the agent's messages are dropped up to its next Sync.
    pub(crate) skipping: bool,
    /// That Sync is answered by us: the server has seen nothing.
    pub(crate) local_sync: bool,
    /// The rest of a result that is withheld is swallowed up to ReadyForQuery.
    pub(crate) swallowing: bool,
    pub(crate) blocked: Option<Blocked>,
    pub(crate) pending: Option<Frame>,
    pub(crate) facts: Facts,
    pub(crate) environment: Option<Arc<Environment>>,
    pub(crate) path: SearchPath,
    /// The session's own temporary schema, once it has one.
    pub(crate) own_temp: Option<String>,
    /// search_path was touched in this transaction: its end may set it back.
    pub(crate) path_in_transaction: bool,
    pub(crate) names_stale: bool,
    /// The catalog was touched in this transaction: its end may set it back.
    pub(crate) catalog_in_transaction: bool,
    /// Relations were altered in this transaction, which the other sessions learn at its end.
    pub(crate) alters_in_transaction: bool,
    pub(crate) overlay: Overlay,
    /// Something in this transaction touched a masked relation: its later errors, a deferred
    /// constraint's for one, may quote values too.
    pub(crate) touched: bool,
    /// Bytes of `out` (from, to) that are recorded as something else: DryRun masks the record only.
    pub(crate) substitutes: std::collections::VecDeque<(usize, usize, bytes::Bytes)>,
    /// What masks the record; the same as `masks` unless only DryRun policies select.
    pub(crate) record_masks: Masks,
    /// The end of the COPY data before, for marks cut in two.
    pub(crate) copy_tail: Vec<u8>,
    /// The answer to a hold, for the message that is handled again.
    pub(crate) granted: Option<(chaperone_enforce::Asked, super::hold::Answer)>,
    /// Partial masks this session was sent (hashed), so that they are known when they come back.
    pub(crate) partial_marks: HashSet<u64>,
    pub(crate) scratch: Vec<u8>,
    pub(crate) cancel_handle: CancelHandle,
    /// The agent's own cancel on its way: it must not hit a question of ours.
    pub(crate) cancelling: Option<JoinHandle<()>>,
    /// A cancel of ours on its way: until the server has seen it, it could hit the next statement.
    pub(crate) stopping: Option<JoinHandle<()>>,
    cancels: mpsc::Receiver<()>,
    policy: watch::Receiver<Arc<chaperone_enforce::Snapshot>>,
    drain: Drain,
}

/// What an [`Engine`] starts with.
pub(crate) struct Parts<'a> {
    pub(crate) shared: &'a Arc<Connection>,
    pub(crate) flow: Flow,
    pub(crate) masks: Masks,
    pub(crate) record_masks: Masks,
    pub(crate) role: String,
    pub(crate) agent: (StreamReader, StreamWriter, ReadBuffer),
    pub(crate) server: (StreamReader, StreamWriter, ReadBuffer),
    pub(crate) facts: Facts,
    pub(crate) path: SearchPath,
    pub(crate) cancel_handle: CancelHandle,
    pub(crate) cancels: mpsc::Receiver<()>,
    pub(crate) drain: Drain,
    /// What the agent is sent first: the end of its login.
    pub(crate) greeting: BytesMut,
}

/// What woke the loop.
enum Event {
    Agent(std::io::Result<usize>),
    Server(std::io::Result<usize>),
    Written(std::io::Result<usize>, Side),
    Cancel,
    Drain,
    Answer,
    Remind,
    Cancelled,
    Tick,
}

#[derive(Clone, Copy)]
enum Side {
    Agent,
    Server,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(parts: Parts<'a>) -> Self {
        let policy = parts.flow.changes();
        let target = TargetWriter::new(parts.flow.id().to_owned());
        let (agent_reader, agent_writer, agent_buffer) = parts.agent;
        let (server_reader, server_writer, server_buffer) = parts.server;
        Self {
            shared: parts.shared,
            flow: parts.flow,
            masks: parts.masks,
            role: parts.role,
            agent_reader,
            agent_writer,
            agent_buffer,
            server_reader,
            server_writer,
            server_buffer,
            agent_room: LargeMessage::default(),
            server_room: LargeMessage::default(),
            flush_agent: false,
            flush_server: false,
            target,
            before_staged: None,
            // The login is left out of the stream and marked (evidence.md).
            recorded: parts.greeting.len(),
            out: parts.greeting,
            expected: Expected::default(),
            names: Names::default(),
            transaction: TransactionStatus::Idle,
            pipeline_open: false,
            skipping: false,
            local_sync: false,
            swallowing: false,
            blocked: None,
            pending: None,
            facts: parts.facts,
            environment: None,
            own_temp: own_temp(&parts.path),
            path: parts.path,
            path_in_transaction: false,
            names_stale: false,
            catalog_in_transaction: false,
            alters_in_transaction: false,
            overlay: Overlay::default(),
            touched: false,
            substitutes: std::collections::VecDeque::new(),
            record_masks: parts.record_masks,
            copy_tail: Vec::new(),
            granted: None,
            partial_marks: HashSet::new(),
            scratch: Vec::new(),
            cancel_handle: parts.cancel_handle,
            cancelling: None,
            stopping: None,
            cancels: parts.cancels,
            policy,
            drain: parts.drain,
        }
    }

    /// Runs the session to its end and closes its record.
    pub(crate) async fn run(mut self) {
        let ended = self.turns().await;
        if let Some(Blocked::Held(held)) = self.blocked.take() {
            self.withdraw(*held, "the client went away").await;
        }
        let denial = match ended {
            Ok(Closed::ByAgent) => None,
            Ok(Closed::ByServer) => Some(Denial::new(
                Reason::TargetRefused,
                "the server closed the connection",
            )),
            Err(Fault(denial)) => {
                tracing::info!(session = self.flow.id(), reason = %denial.reason, "session ended: {}", denial.message);
                error_response(&denial, Severity::Fatal).encode(&mut self.out);
                Some(denial)
            }
        };
        let _ = self.record_output();
        self.unanswered();
        let out = std::mem::take(&mut self.out);
        let goodbye = async {
            let _ = self.agent_writer.write_all(&out).await;
            let _ = self.agent_writer.shutdown().await;
            let _ = self.server_writer.shutdown().await;
        };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        if self.alters_in_transaction {
            // A COMMIT whose answer nobody waited for.
            self.alters();
        }
        let id = self.flow.id().to_owned();
        if let Err(error) = self.flow.end(denial.as_ref()).await {
            tracing::error!(session = id, %error, "the end of a session could not be recorded");
        }
    }

    async fn turns(&mut self) -> Result<Closed, Fault> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.give_room_back();
            if self.server_room.waits() {
                self.backend_messages().await?;
            }
            if self.unblock() && self.frontend_messages().await? {
                return Ok(Closed::ByAgent);
            }
            self.record_all_output().await?;
            self.relieve_record().await?;
            let event = self.next_event(&mut tick).await;
            // Before anything that has come is looked at: it is decided on under the policy of now.
            if self.policy.has_changed().unwrap_or(false) {
                self.policy.mark_unchanged();
                self.policy_changed().await?;
            }
            match event {
                Event::Agent(read) => match read {
                    Ok(0) | Err(_) => return Ok(Closed::ByAgent),
                    Ok(_) => {}
                },
                Event::Server(read) => match read {
                    Ok(0) | Err(_) => {
                        self.backend_messages().await?;
                        return Ok(Closed::ByServer);
                    }
                    Ok(_) => self.backend_messages().await?,
                },
                Event::Written(written, side) => match (written, side) {
                    (Ok(count), Side::Agent) => {
                        // Only what has been recorded is ever written, so `substitutes` is empty.
                        self.out.advance(count);
                        self.recorded = self.recorded.saturating_sub(count);
                        self.flush_agent =
                            count > 0 && matches!(self.agent_writer, StreamWriter::Tls(_));
                    }
                    (Ok(count), Side::Server) => {
                        self.target.written(count);
                        self.flush_server =
                            count > 0 && matches!(self.server_writer, StreamWriter::Tls(_));
                    }
                    (Err(_), Side::Agent) => return Ok(Closed::ByAgent),
                    (Err(_), Side::Server) => {
                        // What the server said before it went is worth reading.
                        while matches!(self.read_target().await, Ok(())) {
                            self.backend_messages().await?;
                        }
                        return Ok(Closed::ByServer);
                    }
                },
                Event::Cancel => self.cancelled().await?,
                Event::Drain => {
                    return Err(Fault::new(
                        Reason::ShuttingDown,
                        "the sidecar is shutting down",
                    ));
                }
                Event::Answer => self.answered().await?,
                Event::Remind => self.remind(),
                // `unblock` sees that the task is done.
                Event::Cancelled => {}
                Event::Tick => {
                    if let Some(denial) = self.flow.overdue() {
                        return Err(Fault(denial));
                    }
                    // No answer waits for this. What fails here fails whatever needs the record.
                    if self.flow.record().buffered() > 0 {
                        let _ = self.flow.record().flush_if_free();
                    }
                }
            }
        }
    }

    async fn next_event(&mut self, tick: &mut tokio::time::Interval) -> Event {
        let frontend_paused = (self.blocked.is_some() || self.stopping.is_some())
            && self.agent_buffer.len() >= BACKLOG;
        let read_agent = !frontend_paused
            && self.target.len() < BACKLOG
            && self.agent_buffer.len() < self.agent_buffer.cap()
            && !self.agent_room.waits();
        let read_server = self.out.len() < BACKLOG && !self.server_room.waits();
        let (answer, reminder) = match &mut self.blocked {
            Some(Blocked::Held(held)) => (Some(&mut held.waiting.answer), Some(held.remind_at)),
            _ => (None, None),
        };
        let cancelling = self.stopping.as_mut();
        // Policies and drains are looked for each turn, and every tick makes one: to wait for them
        // here would take locks that all sessions share, several times a statement.
        let draining = self.drain.is_draining();
        let to_server = self.target.bytes();
        // What is rare comes first, or a stream that never pauses would starve it.
        tokio::select! {
            biased;
            Some(()) = self.cancels.recv() => Event::Cancel,
            answer = wait_answer(answer) => {
                if let (Some(Blocked::Held(held)), Some(answer)) = (&mut self.blocked, answer) {
                    held.answer = Some(answer);
                }
                Event::Answer
            }
            () = until(reminder) => Event::Remind,
            () = finished(cancelling) => Event::Cancelled,
            () = self.drain.expired(), if draining => Event::Drain,
            _ = tick.tick() => Event::Tick,
            written = write_or_flush(&mut self.server_writer, to_server), if !to_server.is_empty() || self.flush_server => {
                Event::Written(written, Side::Server)
            }
            written = write_or_flush(&mut self.agent_writer, &self.out), if !self.out.is_empty() || self.flush_agent => {
                Event::Written(written, Side::Agent)
            }
            read = self.server_buffer.fill(&mut self.server_reader), if read_server => Event::Server(read),
            read = self.agent_buffer.fill(&mut self.agent_reader), if read_agent => Event::Agent(read),
        }
    }

    /// Large messages that have gone on take no room any more.
    fn give_room_back(&mut self) {
        if self.pending.is_none() && self.target.len() < BACKLOG {
            self.agent_room.give_back(self.agent_buffer.as_slice());
        }
        if self.out.len() < BACKLOG {
            self.server_room.give_back(self.server_buffer.as_slice());
        }
    }

    /// Whether the frontend may go on.
    fn unblock(&mut self) -> bool {
        let over = match &self.blocked {
            None => true,
            Some(Blocked::UntilIdle) => self.expected.is_empty(),
            Some(Blocked::UntilSettled) => self.names.is_settled(),
            Some(Blocked::UntilTyped(prepared)) => {
                prepared.parameter_types.get().is_some() || !self.expected.describes(prepared)
            }
            Some(Blocked::UntilCopy) => !self.awaiting_copy_in(),
            Some(Blocked::Held(_)) => false,
        };
        if over {
            self.blocked = None;
        }
        if self.stopping.as_ref().is_some_and(JoinHandle::is_finished) {
            self.stopping = None;
        }
        over && self.stopping.is_none()
    }

    /// The next whole message of the agent, if one is there and there is room for what it makes.
    pub(crate) fn next_frontend(&mut self) -> Result<Option<Frame>, Fault> {
        if self.target.len() >= BACKLOG || self.expected.is_full() {
            return Ok(None);
        }
        if let Some(frame) = self.pending.take() {
            return Ok(Some(frame));
        }
        let limit = self.shared.bounds.frontend_frame;
        if !self
            .agent_room
            .is_there(self.agent_buffer.as_slice(), limit)?
        {
            return Ok(None);
        }
        frame::next(self.agent_buffer.bytes_mut(), limit)
            .map_err(|error| Fault::new(error.reason(), error.to_string()))
    }

    /// The next whole message of the server.
    pub(crate) fn next_backend(&mut self) -> Result<Option<Frame>, Fault> {
        let limit = self.shared.bounds.backend_frame;
        if !self
            .server_room
            .is_there(self.server_buffer.as_slice(), limit)?
        {
            return Ok(None);
        }
        frame::next(self.server_buffer.bytes_mut(), limit).map_err(|error| match error {
            FrameError::TooLarge { length, limit, .. } => Fault::new(
                Reason::LimitExceeded,
                format!(
                    "the server sent a message of {length} bytes; at most {limit} can be passed on"
                ),
            ),
            other => Fault::new(Reason::TargetProtocol, format!("the server: {other}")),
        })
    }

    /// Records what the agent is about to be sent, before it is sent.
    pub(crate) fn record_output(&mut self) -> Result<(), Fault> {
        while let Some((from, to, instead)) = self.substitutes.pop_front() {
            self.record_range(self.recorded, from)?;
            if !instead.is_empty() {
                self.flow
                    .record()
                    .server(&[instead.as_ref().into()])
                    .map_err(|error| Fault::cannot_record(&error))?;
            }
            self.recorded = to;
        }
        self.record_range(self.recorded, self.out.len())
    }

    fn record_range(&mut self, from: usize, to: usize) -> Result<(), Fault> {
        let new = self.out.get(from..to).unwrap_or_default();
        if !new.is_empty() {
            self.flow
                .record()
                .server(&[new.into()])
                .map_err(|error| Fault::cannot_record(&error))?;
        }
        self.recorded = to;
        Ok(())
    }

    /// The same for however much there is: the record is written in between.
    pub(crate) async fn record_all_output(&mut self) -> Result<(), Fault> {
        loop {
            let until = match self.substitutes.front() {
                Some((from, _, _)) if *from > self.recorded => *from,
                Some(_) => {
                    if let Some((_, to, instead)) = self.substitutes.pop_front() {
                        for piece in instead.chunks(RECORD_PIECE) {
                            self.flow
                                .record()
                                .server(&[piece.into()])
                                .map_err(|error| Fault::cannot_record(&error))?;
                            self.relieve_record().await?;
                        }
                        self.recorded = to;
                    }
                    continue;
                }
                None if self.recorded < self.out.len() => self.out.len(),
                None => return Ok(()),
            };
            let to = until.min(self.recorded.saturating_add(RECORD_PIECE));
            self.record_range(self.recorded, to)?;
            self.relieve_record().await?;
        }
    }

    /// Writes the record when much of it waits in memory.
    pub(crate) async fn relieve_record(&mut self) -> Result<(), Fault> {
        if self.flow.record().buffered() > RECORD_BACKLOG {
            self.flush_record().await?;
        }
        Ok(())
    }

    /// What has been added to `out` from `from` on is recorded as `instead`.
    pub(crate) fn substitute(&mut self, from: usize, instead: bytes::Bytes) {
        self.substitutes.push_back((from, self.out.len(), instead));
    }

    /// Commands that the session's end leaves without an answer.
    fn unanswered(&mut self) {
        let unknown: Vec<(u64, Instant, u64, u64)> = self
            .expected
            .drain()
            .filter_map(|expect| match expect {
                super::expect::Expect::Query(running) | super::expect::Expect::Execute(running) => {
                    Some((running.intent, running.started, running.rows, running.bytes))
                }
                _ => None,
            })
            .collect();
        for (intent, started, rows, bytes) in unknown {
            let outcome = chaperone_evidence::Outcome {
                intent,
                status: chaperone_evidence::OutcomeStatus::Unknown,
                detail: String::new(),
                rows,
                bytes,
                duration: started.elapsed(),
            };
            // If it cannot be kept, the session's end puts a Gap in its place.
            let _ = self.flow.record().outcome(outcome);
        }
    }

    pub(crate) async fn flush_record(&mut self) -> Result<(), Fault> {
        self.flow
            .record()
            .flush()
            .await
            .map_err(|error| Fault::cannot_record(&error))
    }

    /// Writes all that waits for the server; only for questions of our own, while nothing else
    /// is outstanding.
    pub(crate) async fn write_target(&mut self) -> Result<(), Fault> {
        self.settle().await?;
        let written = self.server_writer.write_all(self.target.bytes()).await;
        self.target.written(self.target.bytes().len());
        written.map_err(|error| {
            Fault::new(
                Reason::TargetRefused,
                format!("the server went away: {error}"),
            )
        })
    }

    /// Reads more from the server; an error at its end.
    pub(crate) async fn read_target(&mut self) -> Result<(), Fault> {
        match self.server_buffer.fill(&mut self.server_reader).await {
            Ok(count) if count > 0 => Ok(()),
            _ => Err(Fault::new(Reason::TargetRefused, "the server went away")),
        }
    }

    /// The command that is answered now.
    pub(crate) fn running(&mut self) -> Option<&mut Running> {
        self.expected.running()
    }
}

fn own_temp(path: &SearchPath) -> Option<String> {
    match path {
        SearchPath::Known(schemas) => schemas
            .iter()
            .find(|schema| schema.starts_with("pg_temp_"))
            .cloned(),
        SearchPath::Dirty => None,
    }
}

/// Writes what there is, or makes TLS write what it has kept; the count is of `bytes`.
async fn write_or_flush(writer: &mut StreamWriter, bytes: &[u8]) -> std::io::Result<usize> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(bytes).await {
        // Writing nothing means that the other side is gone.
        Ok(0) => Err(std::io::ErrorKind::WriteZero.into()),
        other => other,
    }
}

async fn wait_answer(
    answer: Option<&mut tokio::sync::oneshot::Receiver<super::hold::Answer>>,
) -> Option<super::hold::Answer> {
    match answer {
        // A sender that is gone without an answer is an answer: nothing was granted.
        Some(receiver) => Some(receiver.await.unwrap_or_else(|_| super::hold::no_answer())),
        None => std::future::pending().await,
    }
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn finished(task: Option<&mut JoinHandle<()>>) {
    match task {
        Some(task) if !task.is_finished() => {
            let _ = task.await;
        }
        _ => std::future::pending().await,
    }
}
