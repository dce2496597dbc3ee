//! What the sidecar records with: one [`Recorder`] a sidecar; it begins the sessions.

use std::fs::File;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chaperone_policy::Durability;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::codec;
use crate::engine::{Engine, lock};
use crate::error::RecordError;
use crate::export::Exports;
use crate::frame::{self, Header};
use crate::keys::DigestKey;
use crate::record::{MAX_ITEMS, MAX_TEXT, Record, SessionId, SessionStart, SessionStarted};
use crate::seal::{Recipient, Recipients, ShippedKeys};
use crate::spool::{BATCH_HEADER, Batch};

pub use crate::session::{Part, Permit, PermitClass, SessionRecorder, Staged};

/// Counts for metrics.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    /// Sessions begun.
    pub sessions: u64,
    /// Sessions begun and not ended.
    pub open_sessions: u64,
    /// Frame bytes appended to the spool.
    pub appended_bytes: u64,
    /// Frame bytes shipped into segments.
    pub shipped_bytes: u64,
    /// Group commits: each is one fdatasync of every spool file that needs it.
    pub syncs: u64,
    /// Intents that waited for one; divided by `syncs` the group size.
    pub synced_intents: u64,
    /// Segments written.
    pub segments: u64,
    /// Attempts to write a segment that failed and will be made again.
    pub ship_failures: u64,
    /// Bytes of the spool that are free.
    pub spool_free: u64,
}

/// One life of one sidecar over its store. Dropping it without [`Recorder::detach`] leaves the
/// store as a crash would: recoverable, its sessions Interrupted.
pub struct Recorder {
    pub(crate) engine: Arc<Engine>,
    digest_key: DigestKey,
    recipients: Recipients,
    shipped_keys: ShippedKeys,
    /// Held while this sidecar owns the folder.
    folder: Mutex<Option<File>>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("attach", &self.engine.attach)
            .finish_non_exhaustive()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.engine.stop();
    }
}

impl Recorder {
    pub(crate) fn new(
        engine: Arc<Engine>,
        digest_key: DigestKey,
        folder: File,
        (recipients, shipped_keys): (Recipients, ShippedKeys),
    ) -> Recorder {
        Recorder {
            engine,
            digest_key,
            recipients,
            shipped_keys,
            folder: Mutex::new(Some(folder)),
        }
    }

    /// Id of this attach, 16 hex digits.
    pub fn attach_id(&self) -> String {
        self.engine.attach.to_string()
    }

    /// Begins a session. Its SessionStart is written with the next write of any session, at the
    /// latest within a second; ordinals have no gaps and starts are written in their order.
    pub fn begin(self: &Arc<Self>, start: SessionStart) -> Result<SessionRecorder, RecordError> {
        self.engine.ready(Durability::Written)?;
        check_start(&start)?;
        let mut id = SessionId::default();
        if !self.engine.environment.entropy.fill(&mut id.0) {
            return Err(RecordError::Dead("no randomness".into()));
        }
        let clock = &self.engine.environment.clock;
        let begun = clock.monotonic_ns();
        let mut intake = lock(&self.engine.intake);
        let ordinal = intake.next_ordinal;
        let started = SessionStarted {
            start,
            id,
            attach: self.engine.attach,
            previous_start: intake.previous_start,
        };
        let mut batch = Batch::new(ordinal, 0, None);
        let header = Header {
            kind: codec::SESSION_START,
            ordinal,
            sequence: 0,
            wall_ns: clock.wall_ns(),
            offset_ns: 0,
        };
        let record = Record::SessionStart(Box::new(started));
        frame::write(&mut batch.bytes, &header, |out| codec::encode(&record, out))
            .map_err(|_| RecordError::TooLarge)?;
        batch.chain_frame(BATCH_HEADER);
        let hash = batch.last_hash;
        self.engine.enqueue(&mut intake, batch)?;
        // Taken only now: an ordinal without its start would look like a missing session.
        intake.next_ordinal += 1;
        intake.previous_start = hash;
        drop(intake);
        self.engine
            .counters
            .sessions
            .fetch_add(1, Ordering::Relaxed);
        Ok(SessionRecorder::new(
            Arc::clone(self),
            id,
            ordinal,
            begun,
            hash,
        ))
    }

    /// Whether new commands can be recorded.
    pub fn healthy(&self) -> bool {
        self.engine.healthy()
    }

    /// HMAC-SHA-256 of the parts, each preceded by its length, under the store's digest key.
    pub fn digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.digest_key.hmac(parts)
    }

    /// The number of the newest segment, whenever there is another one: what is to be sent away.
    pub fn segments(&self) -> watch::Receiver<u64> {
        self.engine.replication.segments()
    }

    /// Whether a command waits for its record to be sent away.
    pub fn is_awaited(&self) -> bool {
        self.engine.replication.is_awaited()
    }

    /// The segments up to `number` are where the loss of this machine cannot reach them.
    pub fn acknowledged(&self, number: u64) {
        self.engine.replication.acknowledged(number);
    }

    /// Seals for these from now on: sessions that begin in later segments. Open ones go on as they
    /// began; where there are no recipients, none is sealed.
    pub fn seal_for(&self, recipients: &[Recipient]) {
        self.recipients.replace(recipients);
    }

    /// The keys of what was shipped, for the one who tells of it; where segments are sent away.
    pub fn shipped_keys(&self) -> ShippedKeys {
        self.shipped_keys.clone()
    }

    /// What sinks are told.
    pub fn exports(&self) -> Arc<Exports> {
        Arc::clone(&self.engine.exports)
    }

    /// Counts for metrics.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Ships what is left, signs the last head and gives the folder free. End all sessions
    /// before: those still open are Interrupted. On an error the next attach recovers the rest.
    pub async fn detach(&self, deadline: Duration) -> Result<(), RecordError> {
        let until = Instant::now() + deadline;
        let closed = self.engine.close(until).await;
        let (sender, receiver) = oneshot::channel();
        self.engine.ask_detach(sender);
        let shipped = matches!(timeout_at(until, receiver).await, Ok(Ok(true)));
        self.engine.stop();
        if shipped {
            lock(&self.folder).take();
        }
        closed?;
        if shipped {
            Ok(())
        } else {
            Err(RecordError::Timeout(deadline.as_secs()))
        }
    }
}

fn check_start(start: &SessionStart) -> Result<(), RecordError> {
    let texts = [
        &start.subject,
        &start.connection,
        &start.target,
        &start.protocol,
        &start.policy_digest,
    ];
    let long = texts
        .into_iter()
        .chain(start.delegate.iter())
        .chain(start.purpose.iter())
        .any(|text| text.len() > MAX_TEXT);
    let claims: usize = start
        .claims
        .iter()
        .map(|(name, value)| name.len() + value.len() + 8)
        .sum();
    if long || claims > 64 * 1024 || start.claims.len() > MAX_ITEMS {
        return Err(RecordError::TooLarge);
    }
    Ok(())
}
