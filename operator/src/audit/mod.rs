//! The audit log of the cluster: evidence of pods as it arrives, and its place in one Merkle tree.
//!
//! ```text
//! control/audit ─entry─► ingest ─group commit─► AuditSegment                      (all replicas)
//! AuditSegment ─metadata─► ledger ─► sequencer ─checkpoint─► AuditCheckpoint cp-N   (leader)
//! ledger ─sizes─► packs ─pack─► a volume or bucket, AuditPack pack-N, then what is in it goes (leader)
//! ledger ─sizes─► retention ─tombstone─► AuditSegment ts-N, then what is old goes  (leader)
//! ledger ─sizes─► store ─► AuditStore status, ConfigMap chaperone-log              (leader)
//! UnsealRequest ─keys of sessions─► unseal ─► AuditSegment us-<uid>, then the answer             (leader)
//! views ─► sessions ─► Session in the agent's namespace                            (all; swept by the leader)
//! ```
//!
//! - Nothing is acknowledged before the API server has it.
//! - The name `cp-N` is the fence between two leaders: whoever creates it goes on from it, the
//!   other reads it and goes on from it too. What was signed and not created is signed for nobody.
//! - Evidence is removed by the retention alone, and never before the log says so; what is packed is
//!   deleted only once its pack was read back.

mod api;
mod checkpoint;
mod entry;
mod ingest;
mod ledger;
mod log_key;
mod metrics;
pub mod packs;
mod quota;
mod retention;
mod seal_key;
mod sequencer;
pub mod sessions;
mod status;
mod unseal;

use std::sync::Arc;

use chaperone_evidence::Recipient;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) use entry::{Place, made};
pub(crate) use ingest::{Ingest, IngestError};
pub use log_key::{LogKeyError, LogKeys};
pub use metrics::AuditMetrics;
pub(crate) use packs::{PacksError, Shelf};
pub use seal_key::{SealKeyError, SealKeys};
pub(crate) use unseal::{UnsealError, Unsealed, Unsealer};

use crate::context::Context;
use retention::Retention;
use sequencer::Sequencer;

/// Annotation on segments and checkpoints: bytes of the spec's JSON, so that what is used can be
/// counted without reading any of it.
pub const BYTES_ANNOTATION: &str = "chaperone.dev/bytes";
/// Label on a Session: UID of the pod whose view it is.
pub const POD_UID_LABEL: &str = "chaperone.dev/pod-uid";
/// Who an entry is of that the operator wrote itself, where it names a pod.
const OPERATOR: &str = "chaperone-operator";
/// ConfigMap of the log's public key, in the namespace of the evidence.
pub const CONFIG_MAP: &str = "chaperone-log";

/// What every replica has: the log key, what is sealed for, and the way into the log.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    pub(crate) keys: Arc<LogKeys>,
    pub(crate) seal_keys: Arc<SealKeys>,
    pub(crate) ingest: Ingest,
}

impl Audit {
    /// Starts the ingest; it runs in `tasks` for as long as those are kept.
    pub(crate) fn start(context: &Context, tasks: &mut JoinSet<()>) -> Audit {
        Audit {
            keys: Arc::new(LogKeys::new(context.client.clone())),
            seal_keys: Arc::new(SealKeys::new(context.client.clone())),
            ingest: Ingest::start(&context.client, &context.metrics.audit, tasks),
        }
    }

    /// Whom evidence is sealed for: whom the AuditStore names, else a key of the operator's.
    ///
    /// # Errors
    /// In words, where that is not known: nothing may be recorded for everybody to read instead.
    pub(crate) async fn seal_for(&self, context: &Context) -> Result<Vec<Recipient>, String> {
        let named = context.stores.seal_for()?;
        if !named.is_empty() {
            return Ok(named);
        }
        let own = self.seal_keys.recipient().await;
        own.map(|own| vec![own]).map_err(|error| error.to_string())
    }

    /// Why nothing more is taken in, if the store is full.
    pub(crate) fn full(context: &Context) -> Option<String> {
        let store = context.stores.audit_store()?;
        quota::refusal(&store)
    }
}

/// What only the leader does, for as long as it leads. Two at once do no harm.
pub async fn lead(context: Context) {
    let keys = LogKeys::new(context.client.clone());
    let seal_keys = SealKeys::new(context.client.clone());
    let (progress, seen) = watch::channel(None);
    let (told, removal) = watch::channel(None);
    let sequencer = Sequencer::new(&context, &keys, progress);
    let retention = Retention::new(&context, &keys, seen.clone(), told);
    tokio::join!(
        sequencer.run(),
        retention.run(),
        status::publish_key(&context, &keys),
        status::keep(&context, &keys, &seal_keys, seen, removal),
        sessions::sweep(&context),
    );
}
