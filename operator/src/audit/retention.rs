//! What keeps the store from filling up: its oldest evidence goes, and the log says so.
//!
//! ```text
//! used ≥ 80 % ─► plan: oldest checkpoints, read, held ones told apart ─► tombstone ts-<n> ─► its checkpoint
//!                                                                    └─► delete segments, then checkpoints
//! ```
//!
//! With a backend, what is old is packed instead (`packs`), and packs go like this once they are older
//! than `retention.packed`.
//!
//! - Nothing goes before the tombstone that says so has its place in the log.
//! - The name `ts-<n>` is the fence between two leaders, as `cp-<n>` is for checkpoints.
//! - What is to be deleted is read from the tombstone and the checkpoints that are still there, so
//!   whoever leads goes on where another stopped; what is gone already is no fault.

mod plan;
mod remove;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chaperone_crds::audit_store::{NAME, NAMESPACE};
use chaperone_crds::{
    AuditCheckpoint, AuditPacked, AuditRemoved, AuditSegment, AuditStore, AuditStoreSpec,
    ConditionReason,
};
use chaperone_evidence::audit::Tombstone;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::DeserializeGuard;
use kube::{Api, Resource};
use tokio::sync::watch;
use tokio::time::sleep;

use super::api::{ApiError, in_time, metadata, numbered};
use super::ledger::Seen;
use super::log_key::{LogKeyError, LogKeys};
use super::packs::{Packer, PacksError, Step};
use super::quota::{Level, level};
use super::sequencer::Progress;
use crate::context::Context;
use crate::controllers::events::Events;

/// How often it is looked whether there is something to do.
const LOOK: Duration = Duration::from_secs(2);
/// Pause after a fault.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest pause before packs that are old, and could not go, are read again.
const OVERDUE: Duration = Duration::from_secs(3600);
/// Longest pause after faults of the place for packs.
const LONGEST: Duration = Duration::from_secs(60);
/// Longest pause where nothing is old enough yet.
const STUCK: Duration = Duration::from_secs(30);

/// What was removed, and why no more is, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Removal {
    /// By the newest tombstone.
    pub(super) removed: Option<AuditRemoved>,
    /// What lies in packs.
    pub(super) packed: Option<AuditPacked>,
    /// Why nothing can be removed or packed, where something should be.
    pub(super) stuck: Option<Stuck>,
    /// Whether what is old is packed rather than removed.
    pub(super) packs: bool,
}

/// Why there is no more room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stuck {
    /// There is nothing that may go.
    Nothing(String),
    /// The place for packs, or a pack, is at fault.
    Packing(String),
}

/// Why nothing was removed this time.
#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Key(#[from] LogKeyError),
    /// What is in packs cannot be had, or nothing can be packed.
    #[error(transparent)]
    Packs(#[from] PacksError),
    /// Somebody changed what the log is made of.
    #[error("{0}")]
    Log(String),
}

/// The newest tombstone.
struct Known {
    name: String,
    tombstone: Tombstone,
    /// The next checkpoint that may name its segment; none once one does.
    looked: Option<u64>,
    /// Whether all that it says is gone.
    done: bool,
}

/// Removes what is old.
pub(super) struct Retention<'a> {
    context: &'a Context,
    keys: &'a LogKeys,
    segments: Api<DeserializeGuard<AuditSegment>>,
    checkpoints: Api<AuditCheckpoint>,
    events: Events,
    progress: watch::Receiver<Option<Progress>>,
    told: watch::Sender<Option<Removal>>,
    packer: Packer<'a>,
    /// How long nothing is packed after a fault.
    pause: Duration,
    /// When it was last looked which old packs can go.
    planned: Option<Instant>,
    /// None until it was looked for.
    known: Option<Option<Known>>,
}

impl<'a> Retention<'a> {
    pub(super) fn new(
        context: &'a Context,
        keys: &'a LogKeys,
        progress: watch::Receiver<Option<Progress>>,
        told: watch::Sender<Option<Removal>>,
    ) -> Self {
        Self {
            context,
            keys,
            segments: Api::namespaced(context.client.clone(), NAMESPACE),
            checkpoints: Api::namespaced(context.client.clone(), NAMESPACE),
            events: Events::new(context.client.clone(), &context.config.pod_name),
            progress,
            told,
            packer: Packer::new(context),
            pause: PAUSE,
            planned: None,
            known: None,
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let pause = match self.round().await {
                Ok(pause) => {
                    self.pause = PAUSE;
                    pause
                }
                Err(RetentionError::Packs(error)) => self.not_packed(&error),
                Err(error) => {
                    tracing::warn!(%error, "old evidence is not removed, trying again");
                    // Another leader may have gone on meanwhile.
                    self.known = None;
                    PAUSE
                }
            };
            sleep(pause).await;
        }
    }

    /// What there is to do now; how long nothing else will be.
    async fn round(&mut self) -> Result<Duration, RetentionError> {
        let Some(progress) = self.progress.borrow().clone() else {
            return Ok(LOOK);
        };
        // On a log that cannot go on nothing is signed, tombstones neither.
        let Some((tip, _)) = progress.tip else {
            return Ok(LOOK);
        };
        if self.known.is_none() {
            self.known = Some(self.newest().await?);
            self.tell(None);
        }
        if let Some(Some(mut known)) = self.known.take() {
            if !known.done {
                known.done = self.finish(&mut known).await?;
            }
            self.known = Some(Some(known));
        } else {
            self.known = Some(None);
        }
        let busy = matches!(&self.known, Some(Some(known)) if !known.done);
        if busy {
            return Ok(LOOK);
        }
        let Some(watched) = self.context.stores.audit_store() else {
            return Ok(LOOK);
        };
        let is_full = |quota| level(progress.used_bytes, quota) != Level::Fine;
        if watched.spec.backend.is_some() {
            let full = is_full(watched.spec.quota.get());
            return self.pack(&watched, full, tip).await;
        }
        if !is_full(watched.spec.quota.get()) {
            self.tell(None);
            return Ok(LOOK);
        }
        // Holds as they are now: a watch may be behind.
        let stores: Api<AuditStore> = Api::all(self.context.client.clone());
        let store = in_time(stores.get(NAME)).await?;
        if !is_full(store.spec.quota.get()) {
            return Ok(LOOK);
        }
        match self.plan(&store.spec, None).await? {
            Ok(tombstone) => {
                let why =
                    "they were older than spec.retention.atLeast, and the store was nearly full";
                self.bury(&store, tombstone, tip, why).await?;
                Ok(LOOK)
            }
            Err(why) => {
                self.tell(Some(Stuck::Nothing(why)));
                // It gets older slowly, and looking is a list of all there is.
                let at_least = store.spec.retention.at_least.get();
                Ok((at_least / 10).clamp(LOOK, STUCK))
            }
        }
    }

    /// Packs what is old, and removes packs that are older than they are to be kept.
    async fn pack(
        &mut self,
        watched: &AuditStore,
        is_full: bool,
        tip: u64,
    ) -> Result<Duration, RetentionError> {
        let known = self.known.as_ref().and_then(Option::as_ref);
        let tombstone = known.map(|known| &known.tombstone);
        let quota = watched.spec.quota.get();
        match self.packer.step(is_full, quota, tip, tombstone).await? {
            Step::More => {
                self.tell(None);
                return Ok(Duration::ZERO);
            }
            Step::Exhausted => {
                let why = "all that has a checkpoint is packed already: raise spec.quota";
                self.tell(Some(Stuck::Nothing(why.to_owned())));
                return Ok(STUCK);
            }
            Step::Idle => {}
        }
        self.tell(None);
        let Some(kept) = self.overdue(&watched.spec) else {
            return Ok(LOOK);
        };
        let pause = (kept / 20).clamp(PAUSE, OVERDUE);
        if self.planned.is_some_and(|at| at.elapsed() < pause) {
            return Ok(LOOK);
        }
        self.planned = Some(Instant::now());
        // Holds as they are now.
        let stores: Api<AuditStore> = Api::all(self.context.client.clone());
        let store = in_time(stores.get(NAME)).await?;
        match self.plan(&store.spec, Some(kept)).await? {
            Ok(tombstone) => {
                let why = "they were older than spec.retention.packed";
                self.bury(&store, tombstone, tip, why).await?;
                Ok(LOOK)
            }
            // Held, or not old enough with what is in the same pack: no fault.
            Err(_) => Ok(LOOK),
        }
    }

    /// For how long packed evidence is kept, if the oldest pack is older.
    fn overdue(&self, spec: &AuditStoreSpec) -> Option<Duration> {
        let kept = spec.retention.packed?.get();
        let kept = kept.max(spec.retention.at_least.get());
        let oldest = self.packer.stored().next()?;
        let due = oldest.newest.0.checked_add(kept).ok()?;
        (due < Timestamp::now()).then_some(kept)
    }

    /// Nothing is packed, and nothing deleted; for how long it is left alone.
    fn not_packed(&mut self, error: &PacksError) -> Duration {
        tracing::warn!(%error, "old evidence is not packed, trying again");
        let packs = &self.context.metrics.audit.packs;
        packs.with_label_values(&["Failed"]).inc();
        self.known = None;
        self.packer.forget();
        self.tell(Some(Stuck::Packing(error.to_string())));
        let pause = self.pause;
        self.pause = pause.saturating_mul(2).min(LONGEST);
        pause
    }

    /// Writes the tombstone; what it says goes once a checkpoint names it.
    async fn bury(
        &mut self,
        store: &AuditStore,
        tombstone: Tombstone,
        tip: u64,
        why: &str,
    ) -> Result<(), RetentionError> {
        let name = self.write(&tombstone).await?;
        let note = format!(
            "{} segments are removed in all, up to checkpoint {}, under AuditSegment/{name}: {why}",
            tombstone.segments, tombstone.checkpoint
        );
        tracing::info!(
            name,
            checkpoint = tombstone.checkpoint,
            "old evidence is to go"
        );
        self.known = Some(Some(Known {
            name,
            tombstone,
            looked: Some(tip.saturating_add(1)),
            done: false,
        }));
        self.context.metrics.audit.tombstones.inc();
        self.tell(None);
        let reason = ConditionReason::EvidenceRemoved.as_str();
        let about = store.object_ref(&());
        self.events
            .publish(&about, true, reason, "Remove", &note)
            .await;
        Ok(())
    }

    fn tell(&self, stuck: Option<Stuck>) {
        let known = self.known.as_ref().and_then(Option::as_ref);
        let removal = Removal {
            removed: known.map(|known| removed(&known.name, &known.tombstone)),
            packed: self.packer.told(),
            packs: self
                .context
                .stores
                .audit_store()
                .is_some_and(|store| store.spec.backend.is_some()),
            stuck,
        };
        self.told.send_if_modified(|told| {
            let removal = Some(removal);
            let changed = *told != removal;
            *told = removal;
            changed
        });
    }

    /// What is known of all segments without reading any.
    async fn listed(&self) -> Result<HashMap<String, Seen>, RetentionError> {
        let api: Api<AuditSegment> = Api::namespaced(self.context.client.clone(), NAMESPACE);
        Ok(metadata(&api).await?)
    }

    /// The same of all checkpoints.
    async fn listed_checkpoints(&self) -> Result<HashMap<String, Seen>, RetentionError> {
        Ok(metadata(&self.checkpoints).await?)
    }
}

/// The name of a tombstone's segment.
fn name_of(number: u64) -> String {
    format!("ts-{number}")
}

/// The number in such a name, if it is one, written as [`name_of`] does.
pub(super) fn number_of(name: &str) -> Option<u64> {
    numbered("ts-", name)
}

fn removed(name: &str, tombstone: &Tombstone) -> AuditRemoved {
    let seconds = i64::try_from(tombstone.wall_ns / 1_000_000_000).unwrap_or_default();
    AuditRemoved {
        tombstone: name.to_owned(),
        at: Time(Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)),
        checkpoint: tombstone.checkpoint,
        segments: tombstone.segments,
        entries: tombstone.entries,
    }
}
