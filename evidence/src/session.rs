//! One session's recorder, and the permits it gives.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chaperone_policy::{Durability, Reason, Verdict};
use tokio::time::Instant;

use crate::codec::{self, Piece};
use crate::engine::{Engine, Room, lock};
use crate::error::RecordError;
use crate::frame::{self, Hash, Header};
use crate::record::{
    Approval, ApprovalEvent, AsIntent, ClientClass, EndCause, Finding, Gap, IntentView, MAX_STREAM,
    Masked, Outcome, OutcomeStatus, PolicyChanged, Record, SessionEnd, SessionId, Totals,
};
use crate::recorder::Recorder;
use crate::spool::{BATCH_HEADER, Batch, FILE_HEADER};

/// Longest that a stream waits for room in a spool that is being emptied.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes a session may keep unwritten; a caller that flushes never gets near.
const MAX_BACKLOG: usize = 8 * 1024 * 1024;
/// A batch is closed once it is this long, and the next begun.
const BATCH_TARGET: usize = 256 * 1024;
/// What an aborted or refused session may still leave for others to write.
const MAX_LEFTOVER: usize = 256 * 1024;
/// Granted approvals a session remembers; each is redeemed once.
const MAX_GRANTS: usize = 1024;

/// Stream bytes, with the places the recording must mark as masked.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The bytes; masked spans are already overwritten.
    pub bytes: &'a [u8],
    /// Spans of `bytes` (start, end) that are not what was on the wire; ascending, not overlapping.
    pub masked: &'a [Range<u32>],
}

impl<'a> From<&'a [u8]> for Part<'a> {
    fn from(bytes: &'a [u8]) -> Part<'a> {
        Part { bytes, masked: &[] }
    }
}

/// What a permit lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermitClass {
    /// One command under a durable intent.
    Command,
    /// Protocol housekeeping.
    Control,
}

/// Proof that what is about to be forwarded is recorded. Only the recorder makes one, and the
/// writer to the target takes it by value (architecture.md, invariant 1).
///
/// There is no constructor and no copy:
///
/// ```compile_fail
/// fn twice(permit: chaperone_evidence::Permit) -> (chaperone_evidence::Permit, chaperone_evidence::Permit) {
///     (permit.clone(), permit)
/// }
/// ```
#[derive(Debug)]
#[must_use = "a permit that is dropped forwards nothing; record an Outcome of NotForwarded"]
pub struct Permit {
    session: Arc<str>,
    sequence: u64,
    class: PermitClass,
}

impl Permit {
    /// Id of the session it belongs to.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// Sequence of the intent (Command) or of the Client record (Control).
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What it lets through.
    pub fn class(&self) -> PermitClass {
        self.class
    }
}

/// A command whose record is in memory and not durable yet. It lets nothing through.
#[derive(Debug)]
#[must_use = "what is staged and never settled is recorded and forwards nothing"]
pub struct Staged {
    session: Arc<str>,
    sequence: u64,
    served: Durability,
    approval: Option<String>,
}

impl Staged {
    /// Sequence of its intent.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Only once it is durable.
    fn permit(self) -> Permit {
        Permit {
            session: self.session,
            sequence: self.sequence,
            class: PermitClass::Command,
        }
    }
}

/// One session's records. Owned by the session's task: frames get their sequence and their place
/// in the chain here, without a lock. Dropped without [`SessionRecorder::end`] it ends Aborted.
pub struct SessionRecorder {
    recorder: Arc<Recorder>,
    id: Arc<str>,
    ordinal: u64,
    begun_ns: u64,
    /// Full batches that wait to be written; `batch` is the one being filled.
    waiting: VecDeque<Batch>,
    waiting_bytes: usize,
    batch: Batch,
    /// Sequence of the next record.
    next: u64,
    totals: Totals,
    grants: BTreeSet<String>,
    ended: bool,
}

impl std::fmt::Debug for SessionRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionRecorder")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl SessionRecorder {
    pub(crate) fn new(
        recorder: Arc<Recorder>,
        id: SessionId,
        ordinal: u64,
        begun_ns: u64,
        hash: Hash,
    ) -> SessionRecorder {
        SessionRecorder {
            recorder,
            id: id.to_string().into(),
            ordinal,
            begun_ns,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            batch: Batch::new(ordinal, 1, Some(hash)),
            next: 1,
            totals: Totals::default(),
            grants: BTreeSet::new(),
            ended: false,
        }
    }

    /// The session's id, 16 hex digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Records a command and its bytes, with everything buffered before, in one write; returns
    /// once both are durable as asked. Without that there is no permit: within the spool's
    /// deadline (5 s), and at once while it is dead or stalled.
    ///
    /// A verdict that forwards nothing is refused here too, as is an approval that was not
    /// recorded as Granted in this session. Dropping the future keeps the records.
    pub async fn intent(
        &mut self,
        intent: &impl AsIntent,
        client: &[Part<'_>],
        durability: Durability,
    ) -> Result<Permit, RecordError> {
        let staged = self.stage(intent, client, durability)?;
        self.settle(std::slice::from_ref(&staged)).await?;
        Ok(staged.permit())
    }

    /// Records a command and its bytes in memory, refused as by [`SessionRecorder::intent`]. What it
    /// gives lets nothing through: [`SessionRecorder::permits`] makes permits of many at once, so
    /// that a pipeline of commands costs one write, and one sync, instead of one each.
    pub fn stage(
        &mut self,
        intent: &impl AsIntent,
        client: &[Part<'_>],
        durability: Durability,
    ) -> Result<Staged, RecordError> {
        let served = self.engine().serves(durability);
        self.engine().ready(served)?;
        let intent = intent.as_intent();
        self.check_forwardable(&intent)?;
        let sequence = self.frame(codec::INTENT, |out| {
            codec::put_intent(out, &intent, durability, served, false)
        })?;
        if let Err(error) = self.stream(
            codec::CLIENT,
            Some((ClientClass::Command, sequence)),
            client,
        ) {
            self.not_forwarded(sequence);
            return Err(error);
        }
        if let Some(name) = intent.decision.approval {
            self.grants.remove(name);
        }
        Ok(Staged {
            session: Arc::clone(&self.id),
            sequence,
            served,
            approval: intent.decision.approval.map(str::to_owned),
        })
    }

    /// Writes all that is buffered, and returns once every one of `staged` is durable as it was
    /// asked to be: a permit each, in their order. On an error there is none for any of them, and
    /// the record says that they were not forwarded.
    pub async fn permits(&mut self, staged: Vec<Staged>) -> Result<Vec<Permit>, RecordError> {
        self.settle(&staged).await?;
        Ok(staged.into_iter().map(Staged::permit).collect())
    }

    async fn settle(&mut self, staged: &[Staged]) -> Result<(), RecordError> {
        let Some(served) = staged.iter().map(|one| one.served).max() else {
            return Ok(());
        };
        if staged.iter().any(|one| one.session != self.id) {
            return Err(RecordError::NotAllowed);
        }
        let deadline = Instant::now() + self.engine().options.deadline;
        if let Err(error) = self.durable(deadline, served).await {
            for one in staged {
                self.not_forwarded(one.sequence);
                self.grants.extend(one.approval.clone());
            }
            return Err(error);
        }
        self.totals.forwarded += staged.len() as u64;
        Ok(())
    }

    fn check_forwardable<S>(&self, intent: &IntentView<'_, S>) -> Result<(), RecordError> {
        let granted = match intent.decision.approval {
            Some(name) => self.grants.contains(name),
            None => intent.decision.reason != Reason::Approved,
        };
        let forwards = match intent.decision.verdict {
            Verdict::Allow | Verdict::Observe => true,
            Verdict::Hold => intent.decision.approval.is_some(),
            Verdict::Deny => false,
        };
        if granted && forwards {
            Ok(())
        } else {
            Err(RecordError::NotAllowed)
        }
    }

    async fn durable(&mut self, deadline: Instant, served: Durability) -> Result<(), RecordError> {
        self.write(deadline).await?;
        match served {
            Durability::Written => {}
            Durability::Synced => self.engine().synced(deadline).await?,
            // What the cluster's log has acknowledged was in a synced segment before.
            Durability::Replicated => self.engine().replicated(deadline).await?,
        }
        // A write that the disk held up past the deadline is durable, and too late: whoever sent
        // the command may believe it refused.
        if Instant::now() > deadline {
            return Err(RecordError::Timeout(
                self.engine().options.deadline.as_secs(),
            ));
        }
        Ok(())
    }

    /// Says of an intent that is recorded, or will be, that it was not forwarded.
    fn not_forwarded(&mut self, intent: u64) {
        let outcome = Outcome {
            intent,
            status: OutcomeStatus::NotForwarded,
            detail: Reason::CannotRecord.as_str().to_owned(),
            rows: 0,
            bytes: 0,
            duration: Duration::ZERO,
        };
        // If even this does not fit, the session's end writes a Gap in its place.
        let _ = self.record(&Record::Outcome(outcome));
    }

    /// Records a command that is not forwarded (Written). The result is the intent's sequence.
    pub async fn refusal(
        &mut self,
        intent: &impl AsIntent,
        client: &[Part<'_>],
    ) -> Result<u64, RecordError> {
        self.engine().ready(Durability::Written)?;
        let deadline = Instant::now() + self.engine().options.deadline;
        let sequence = self.frame(codec::INTENT, |out| {
            codec::put_intent(
                out,
                &intent.as_intent(),
                Durability::Written,
                Durability::Written,
                false,
            );
        })?;
        self.totals.refused += 1;
        self.stream(
            codec::CLIENT,
            Some((ClientClass::Refused, sequence)),
            client,
        )?;
        self.write(deadline).await?;
        Ok(sequence)
    }

    /// Buffers housekeeping bytes of the client (Sync, Flush, Describe, Close, CopyData …).
    pub fn control(&mut self, client: &[Part<'_>]) -> Result<Permit, RecordError> {
        self.engine().ready(Durability::Written)?;
        let sequence = self.next;
        self.stream(codec::CLIENT, Some((ClientClass::Control, 0)), client)?;
        Ok(Permit {
            session: Arc::clone(&self.id),
            sequence,
            class: PermitClass::Control,
        })
    }

    /// Buffers what the agent is sent, after masking.
    pub fn server(&mut self, parts: &[Part<'_>]) -> Result<(), RecordError> {
        self.stream(codec::SERVER, None, parts)
    }

    /// Buffers what the proxy itself sent to the target. Pass no bytes where they are secret.
    pub fn proxy(&mut self, purpose: &str, bytes: &[u8]) -> Result<(), RecordError> {
        if bytes.is_empty() {
            return self
                .frame(codec::PROXY, |out| codec::put_proxy(out, purpose, bytes))
                .map(drop);
        }
        for chunk in bytes.chunks(MAX_STREAM) {
            self.frame(codec::PROXY, |out| codec::put_proxy(out, purpose, chunk))?;
        }
        Ok(())
    }

    /// Buffers how a command ended.
    pub fn outcome(&mut self, outcome: Outcome) -> Result<(), RecordError> {
        let rows = outcome.rows;
        self.record(&Record::Outcome(outcome))?;
        self.totals.rows = self.totals.rows.saturating_add(rows);
        Ok(())
    }

    /// Buffers a step of an approval. `Granted` must come before the intent that redeems it, and
    /// lets through one.
    pub fn approval(&mut self, approval: Approval) -> Result<(), RecordError> {
        let granted = (approval.event == ApprovalEvent::Granted).then(|| approval.request.clone());
        self.record(&Record::Approval(approval))?;
        if let Some(name) = granted.filter(|_| self.grants.len() < MAX_GRANTS) {
            self.grants.insert(name);
        }
        Ok(())
    }

    /// Buffers a change of policy.
    pub fn policy_changed(&mut self, change: PolicyChanged) -> Result<(), RecordError> {
        self.record(&Record::PolicyChanged(change))
    }

    /// Buffers how many values were masked.
    pub fn masked(&mut self, masked: Masked) -> Result<(), RecordError> {
        self.record(&Record::Masked(masked))
    }

    /// Buffers a finding.
    pub fn finding(&mut self, finding: Finding) -> Result<(), RecordError> {
        self.record(&Record::Finding(finding))
    }

    /// Bytes of records not yet in the spool.
    pub fn buffered(&self) -> usize {
        self.waiting_bytes + self.batch.len()
    }

    /// Writes what is buffered to the spool (Written). Where the spool is full it waits, a minute at
    /// most, as long as it is being emptied: streams may come faster than evidence goes, and no command
    /// waits for this.
    pub async fn flush(&mut self) -> Result<(), RecordError> {
        let begun = Instant::now();
        loop {
            let progress = self.engine().progress();
            let deadline = Instant::now() + self.engine().options.deadline;
            match self.write(deadline).await {
                Err(RecordError::Full)
                    if self.engine().progress() != progress && begun.elapsed() < PATIENCE => {}
                result => return result,
            }
        }
    }

    /// Writes what is buffered if nobody else is writing, and otherwise leaves it for later: a disk
    /// that holds up the one does not hold up the other.
    pub fn flush_if_free(&mut self) -> Result<(), RecordError> {
        self.close_batch();
        let recorder = Arc::clone(&self.recorder);
        let result = recorder.engine.write_if_free(&mut self.waiting);
        self.count_waiting();
        result
    }

    /// Writes SessionEnd and all before it, with a Gap in place of what does not fit in time.
    pub async fn end(mut self, end: SessionEnd) -> Result<(), RecordError> {
        let deadline = Instant::now() + self.engine().options.deadline;
        self.ended = true;
        self.engine().counters.ended.fetch_add(1, Ordering::Relaxed);
        let mut result = match self.record_end(&end) {
            Ok(()) => self.write(deadline).await,
            Err(error) => Err(error),
        };
        if matches!(
            result,
            Err(RecordError::Full | RecordError::TooLarge | RecordError::Backlog(_))
        ) {
            self.give_up("the spool was full", &end);
            self.close_batch();
            let grace = Instant::now() + Duration::from_secs(1);
            let recorder = Arc::clone(&self.recorder);
            result = recorder
                .engine
                .write(&mut self.waiting, grace, Room::Reserve)
                .await;
        }
        if result.is_err() {
            self.leave(&end);
        }
        result
    }

    // ---- frames ----

    fn engine(&self) -> &Engine {
        &self.recorder.engine
    }

    /// For tests of verify: a record that no method of this type would make.
    #[cfg(test)]
    pub(crate) fn forge(&mut self, record: &Record) {
        let _ = self.record(record);
    }

    fn record(&mut self, record: &Record) -> Result<(), RecordError> {
        self.frame(codec::kind_of(record), |out| codec::encode(record, out))
            .map(drop)
    }

    /// Appends one frame to the batch and to the chain. The result is its sequence.
    fn frame(&mut self, kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> Result<u64, RecordError> {
        if self.buffered() > MAX_BACKLOG {
            return Err(RecordError::Backlog(MAX_BACKLOG));
        }
        if self.batch.len() >= self.batch_target() {
            self.close_batch();
        }
        let clock = &self.recorder.engine.environment.clock;
        let header = Header {
            kind,
            ordinal: self.ordinal,
            sequence: self.next,
            wall_ns: clock.wall_ns(),
            offset_ns: clock.monotonic_ns().saturating_sub(self.begun_ns),
        };
        let mut at = self.batch.bytes.len();
        let len = frame::write(&mut self.batch.bytes, &header, body)
            .map_err(|_| RecordError::TooLarge)?;
        if len + BATCH_HEADER > self.batch_limit() {
            self.batch.bytes.truncate(at);
            return Err(RecordError::TooLarge);
        }
        if self.batch.bytes.len() > self.batch_limit() {
            // It fits only into a batch of its own.
            let frame = self.batch.bytes.split_off(at);
            self.close_batch();
            at = self.batch.bytes.len();
            self.batch.bytes.extend_from_slice(&frame);
        }
        self.batch.chain_frame(at);
        let sequence = self.next;
        self.next += 1;
        Ok(sequence)
    }

    fn batch_limit(&self) -> usize {
        usize::try_from(self.engine().options.file_bytes).unwrap_or(usize::MAX) - FILE_HEADER
    }

    fn batch_target(&self) -> usize {
        BATCH_TARGET.min(self.batch_limit() / 4)
    }

    fn close_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let next = self.batch.next(self.next);
        let full = std::mem::replace(&mut self.batch, next);
        self.waiting_bytes += full.len();
        self.waiting.push_back(full);
    }

    /// Appends stream bytes: one frame where they fit, otherwise as many as it takes.
    fn stream(
        &mut self,
        kind: u8,
        client: Option<(ClientClass, u64)>,
        parts: &[Part<'_>],
    ) -> Result<(), RecordError> {
        let total: usize = parts.iter().map(|part| part.bytes.len()).sum();
        let head = move |out: &mut Vec<u8>| {
            if let Some((class, intent)) = client {
                codec::put_client(out, class, intent);
            }
        };
        if total <= MAX_STREAM {
            if total > 0 || client.is_some() {
                let pieces = parts
                    .iter()
                    .map(|part| Piece::whole(part.bytes, part.masked));
                self.frame(kind, |out| {
                    head(out);
                    codec::put_stream(out, pieces);
                })?;
            }
        } else {
            for part in parts {
                let mut base = 0;
                for bytes in part.bytes.chunks(MAX_STREAM) {
                    let piece = Piece {
                        bytes,
                        base,
                        masked: part.masked,
                    };
                    self.frame(kind, |out| {
                        head(out);
                        codec::put_stream(out, std::iter::once(piece));
                    })?;
                    base = base.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                }
            }
        }
        let count = if kind == codec::SERVER {
            &mut self.totals.server_bytes
        } else {
            &mut self.totals.client_bytes
        };
        *count = count.saturating_add(total as u64);
        Ok(())
    }

    async fn write(&mut self, deadline: Instant) -> Result<(), RecordError> {
        self.close_batch();
        let recorder = Arc::clone(&self.recorder);
        let result = recorder
            .engine
            .write(&mut self.waiting, deadline, Room::Normal)
            .await;
        self.count_waiting();
        result
    }

    fn count_waiting(&mut self) {
        self.waiting_bytes = self.waiting.iter().map(Batch::len).sum();
    }

    // ---- ends ----

    fn record_end(&mut self, end: &SessionEnd) -> Result<(), RecordError> {
        let totals = Totals {
            records: self.next,
            ..self.totals
        };
        self.record(&Record::SessionEnd(end.clone(), totals))
    }

    /// Goes back to what is written and puts a Gap and the end after it.
    fn give_up(&mut self, why: &str, end: &SessionEnd) {
        self.close_batch();
        let Some(first) = self.waiting.front() else {
            return;
        };
        let (next, previous) = (first.first, first.previous());
        let gap = Gap {
            records: self.next.saturating_sub(next),
            bytes: self.waiting.iter().map(|batch| batch.len() as u64).sum(),
            why: why.to_owned(),
        };
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.batch = Batch::new(self.ordinal, next, previous);
        self.next = next;
        let _ = self.record(&Record::Gap(gap));
        let _ = self.record_end(end);
    }

    /// Leaves what is not written to whoever writes next; a Gap if it is much.
    fn leave(&mut self, end: &SessionEnd) {
        self.close_batch();
        if self.waiting.iter().map(Batch::len).sum::<usize>() > MAX_LEFTOVER {
            self.give_up("the session ended while it could not be written", end);
            self.close_batch();
        }
        let mut intake = lock(&self.recorder.engine.intake);
        while let Some(batch) = self.waiting.pop_front() {
            if self.recorder.engine.enqueue(&mut intake, batch).is_err() {
                break;
            }
        }
    }
}

impl Drop for SessionRecorder {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.engine().counters.ended.fetch_add(1, Ordering::Relaxed);
        let end = SessionEnd {
            cause: EndCause::Aborted,
            reason: None,
            detail: String::new(),
        };
        if self.record_end(&end).is_err() {
            self.give_up("the session was aborted with too much unwritten", &end);
        }
        self.leave(&end);
    }
}
