//! Group commit: entries of many pods in one AuditSegment, and an answer once the API server has it.
//!
//! ```text
//! put ─queue (bounded)─► gather: ≤ 1 s, ≤ 512 KiB, at once if a command waits ─► create ─► answers
//! ```
//!
//! One write at a time: what comes during it goes into the next one.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use chaperone_crds::audit_segment::MOST_ENTRIES;
use chaperone_crds::audit_store::NAMESPACE;
use chaperone_crds::{AuditEntry, AuditEntryKind, AuditSegment, AuditSegmentSpec};
use chaperone_evidence::audit::{LogKey, digest};
use k8s_openapi::ByteString;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::metrics::AuditMetrics;
use super::{BYTES_ANNOTATION, OPERATOR};

/// Longest that an entry waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// Bytes of data after which no other entry joins. A single one may be longer.
const MOST_BYTES: usize = 512 * 1024;
/// Entries that wait at once.
const MOST_WAITING: usize = 2048;
/// Data that waits at once, in KiB.
const MOST_WAITING_KIB: usize = 8 * 1024;
/// Times that one segment is tried, each within its deadline.
const ATTEMPTS: u32 = 3;
const DEADLINE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// Why an entry was not taken in. It may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IngestError {
    /// More waits already than may.
    #[error("too much evidence waits to be written; send it again after a pause")]
    Full,
    /// The API server did not take the segment, or did not say so.
    #[error("the API server did not take the evidence in; send it again")]
    Unavailable,
    /// The operator ends.
    #[error("the operator ends; send it again")]
    Stopped,
}

/// The way into the log. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Ingest {
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

/// An entry, and who waits for it.
struct Waiting {
    entry: AuditEntry,
    urgent: bool,
    done: oneshot::Sender<Result<String, IngestError>>,
    /// Its part of the queue's room, given back when it is written.
    _room: Option<OwnedSemaphorePermit>,
}

impl Ingest {
    /// Starts the writer; it runs in `tasks` for as long as those are kept.
    pub(super) fn start(
        client: &Client,
        metrics: &AuditMetrics,
        tasks: &mut JoinSet<()>,
    ) -> Ingest {
        let (queue, waiting) = mpsc::channel(MOST_WAITING);
        let writer = Writer {
            api: Api::namespaced(client.clone(), NAMESPACE),
            metrics: metrics.clone(),
        };
        tasks.spawn(writer.run(waiting));
        Ingest {
            queue,
            room: Arc::new(Semaphore::new(MOST_WAITING_KIB)),
        }
    }

    /// Takes an entry in; the name of the AuditSegment it is in, once the API server has it.
    pub(crate) async fn put(&self, entry: AuditEntry, urgent: bool) -> Result<String, IngestError> {
        let kib = entry.data.0.len().div_ceil(1024).max(1);
        let kib = u32::try_from(kib).map_err(|_| IngestError::Full)?;
        let room = self.room.clone().try_acquire_many_owned(kib);
        let room = room.map_err(|_| IngestError::Full)?;
        let (done, answer) = oneshot::channel();
        let waiting = Waiting {
            entry,
            urgent,
            done,
            _room: Some(room),
        };
        self.queue.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => IngestError::Full,
            mpsc::error::TrySendError::Closed(_) => IngestError::Stopped,
        })?;
        answer.await.map_err(|_| IngestError::Stopped)?
    }
}

/// What goes into one segment.
#[derive(Default)]
struct Batch {
    waiting: Vec<Waiting>,
    bytes: usize,
    urgent: bool,
}

impl Batch {
    fn takes(&self, more: &Waiting) -> bool {
        let bytes = self.bytes.saturating_add(more.entry.data.0.len());
        self.waiting.is_empty() || (self.waiting.len() < MOST_ENTRIES && bytes <= MOST_BYTES)
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= MOST_ENTRIES || self.bytes >= MOST_BYTES
    }

    fn push(&mut self, waiting: Waiting) {
        // Who gave up waiting sends it again; it need not be there twice.
        if waiting.done.is_closed() {
            return;
        }
        self.bytes = self.bytes.saturating_add(waiting.entry.data.0.len());
        self.urgent |= waiting.urgent;
        self.waiting.push(waiting);
    }
}

/// A batch that begins with `first`, and the one that did not fit any more.
async fn gather(queue: &mut mpsc::Receiver<Waiting>, first: Waiting) -> (Batch, Option<Waiting>) {
    let until = Instant::now() + GATHER;
    let mut batch = Batch::default();
    batch.push(first);
    while !batch.is_full() {
        let next = match batch.urgent {
            // Whatever is there already comes along.
            true => queue.try_recv().ok(),
            false => timeout_at(until, queue.recv()).await.ok().flatten(),
        };
        match next {
            None => break,
            Some(next) if batch.takes(&next) => batch.push(next),
            next => return (batch, next),
        }
    }
    (batch, None)
}

struct Writer {
    api: Api<AuditSegment>,
    metrics: AuditMetrics,
}

impl Writer {
    async fn run(self, mut queue: mpsc::Receiver<Waiting>) {
        let mut carried: Option<Waiting> = None;
        loop {
            let first = match carried.take() {
                Some(first) => first,
                None => match queue.recv().await {
                    Some(first) => first,
                    None => return,
                },
            };
            let (batch, rest) = gather(&mut queue, first).await;
            carried = rest;
            if !batch.waiting.is_empty() {
                self.commit(batch).await;
            }
        }
    }

    async fn commit(&self, batch: Batch) {
        let count = batch.waiting.len();
        let mut entries = Vec::with_capacity(count);
        let mut waiters = Vec::with_capacity(count);
        for Waiting {
            entry,
            urgent: _,
            done,
            _room,
        } in batch.waiting
        {
            entries.push(entry);
            waiters.push((done, _room));
        }
        let spec = AuditSegmentSpec {
            count: u32::try_from(count).unwrap_or(u32::MAX),
            bytes: u32::try_from(batch.bytes).unwrap_or(u32::MAX),
            entries,
        };
        let made = self.create(spec).await;
        if made.is_ok() {
            self.metrics.segments.inc();
            let bytes = u64::try_from(batch.bytes).unwrap_or(u64::MAX);
            self.metrics.bytes.inc_by(bytes);
        }
        for (done, _room) in waiters {
            // Who gave up waiting sends it again: the same part twice is one.
            let _ = done.send(made.clone());
        }
    }

    /// Makes the segment. An attempt whose outcome is not known is made again under the same name,
    /// so that it cannot be there twice.
    async fn create(&self, spec: AuditSegmentSpec) -> Result<String, IngestError> {
        let mut segment = resource(spec).ok_or(IngestError::Unavailable)?;
        let mut unknown = false;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                sleep(PAUSE).await;
            }
            let params = PostParams::default();
            match timeout(DEADLINE, self.api.create(&params, &segment)).await {
                Ok(Ok(_)) => return Ok(name(&segment)),
                Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => {
                    if unknown && self.is_ours(&segment).await {
                        return Ok(name(&segment));
                    }
                    segment = resource(segment.spec).ok_or(IngestError::Unavailable)?;
                    unknown = false;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, name = name(&segment), "an AuditSegment was not made");
                    if !may_pass(&error) {
                        return Err(IngestError::Unavailable);
                    }
                    unknown = true;
                }
                Err(_) => {
                    tracing::warn!(
                        name = name(&segment),
                        "an AuditSegment was not made in time"
                    );
                    unknown = true;
                }
            }
        }
        Err(IngestError::Unavailable)
    }

    async fn is_ours(&self, segment: &AuditSegment) -> bool {
        match timeout(DEADLINE, self.api.get(&name(segment))).await {
            Ok(Ok(found)) => found.spec == segment.spec,
            _ => false,
        }
    }
}

/// The segment under a name that nobody has.
fn resource(spec: AuditSegmentSpec) -> Option<AuditSegment> {
    let mut random = [0; 10];
    aws_lc_rs::rand::fill(&mut random)
        .inspect_err(|_| tracing::error!("the system gives no random bytes"))
        .ok()?;
    named(format!("as-{}", hex::encode(random)), spec)
}

/// A segment under a name that holds one leaf of the operator's own, signed already. None where it
/// cannot be written.
pub(super) fn leaf(
    name: String,
    kind: AuditEntryKind,
    key: &LogKey,
    uid: &str,
    number: u64,
    data: Vec<u8>,
) -> Option<AuditSegment> {
    let entry = AuditEntry {
        kind,
        namespace: NAMESPACE.to_owned(),
        pod: OPERATOR.to_owned(),
        uid: uid.to_owned(),
        store: hex::encode(key.public()),
        number,
        part: 0,
        parts: 1,
        digest: hex::encode(digest(&data)),
        data: ByteString(data),
    };
    let spec = AuditSegmentSpec {
        count: 1,
        bytes: u32::try_from(entry.data.0.len()).unwrap_or(u32::MAX),
        entries: vec![entry],
    };
    named(name, spec)
}

/// The segment under a name. None where it cannot be written.
pub(super) fn named(name: String, spec: AuditSegmentSpec) -> Option<AuditSegment> {
    let bytes = serde_json::to_vec(&spec).ok()?.len().to_string();
    Some(AuditSegment {
        metadata: ObjectMeta {
            name: Some(name),
            annotations: Some([(BYTES_ANNOTATION.to_owned(), bytes)].into()),
            ..ObjectMeta::default()
        },
        spec,
    })
}

fn name(segment: &AuditSegment) -> String {
    segment.metadata.name.clone().unwrap_or_default()
}

/// Whether the same request may succeed a moment later.
pub(super) fn may_pass(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code >= 500 || matches!(status.code, 408 | 409 | 429),
        _ => true,
    }
}
