//! The leader's work: every segment gets its place in the log, once.
//!
//! ```text
//! read all checkpoints ─► list and watch segments ─► every second: due? read, hash, sign, create cp-N
//!                                                        AlreadyExists ─► read cp-N, go on from it
//! ```
//!
//! Two that run at once never fork the log: both may sign, one creates. The one that does not has
//! signed for nobody, takes over what the other's checkpoint names, and looks anew at what waits.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use chaperone_crds::audit_checkpoint::MOST_SEGMENTS;
use chaperone_crds::audit_store::NAMESPACE;
use chaperone_crds::{AuditCheckpoint, AuditCheckpointSpec, AuditSegment};
use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use kube::api::{ListParams, ObjectMeta, PartialObjectMeta, PostParams};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::BYTES_ANNOTATION;
use super::api::{ApiError, in_time};
use super::checkpoint::{Tip, TipError, name_of, number_of};
use super::entry::{Hash, Unsound, leaves};
use super::ledger::{Ledger, Seen, Sizes};
use super::log_key::{LogKeyError, LogKeys};
use super::metrics::AuditMetrics;
use crate::context::Context;

/// How often it is looked whether a checkpoint is due.
const LOOK: Duration = Duration::from_secs(1);
/// Leaves after which no other segment joins: with 67 bytes each the object stays far below what
/// etcd takes (1.5 MiB).
const MOST_LEAVES: usize = 8000;
/// Checkpoints that are read at once when a term begins; each has up to 600 KiB.
const PAGE: u32 = 16;
/// Segments that are read at once; each has up to 1.2 MiB.
const AT_ONCE: usize = 4;
/// Pause before a term that could not begin is tried again.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a log is left alone that cannot go on, before it is looked at anew.
const STUCK: Duration = Duration::from_secs(300);

/// How the log stands, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Number of the newest checkpoint and leaves of the log.
    pub(super) tip: Option<(u64, u64)>,
    /// Bytes of all segments and checkpoints.
    pub(super) used_bytes: u64,
    /// What is wrong with it.
    pub(super) problem: Option<String>,
}

/// Why a checkpoint was not made.
#[derive(Debug, thiserror::Error)]
enum SequencerError {
    /// The API server failed us.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// There is no key.
    #[error(transparent)]
    Key(#[from] LogKeyError),
    /// Nothing may be signed on top of what is there.
    #[error("checkpoint {0}: {1}")]
    Stuck(u64, TipError),
}

/// Sequences the log.
pub(super) struct Sequencer<'a> {
    segments: Api<DeserializeGuard<AuditSegment>>,
    checkpoints: Api<AuditCheckpoint>,
    context: &'a Context,
    keys: &'a LogKeys,
    metrics: &'a AuditMetrics,
    progress: watch::Sender<Option<Progress>>,
}

/// One term: from taking over until leadership is lost. A log that cannot go on is counted still:
/// it must not outgrow its quota unseen.
struct Term {
    tip: Result<Tip, String>,
    ledger: Ledger,
    sizes: Sizes,
    /// Whether the segments were listed.
    listed: bool,
}

impl<'a> Sequencer<'a> {
    pub(super) fn new(
        context: &'a Context,
        keys: &'a LogKeys,
        progress: watch::Sender<Option<Progress>>,
    ) -> Self {
        Self {
            segments: Api::namespaced(context.client.clone(), NAMESPACE),
            checkpoints: Api::namespaced(context.client.clone(), NAMESPACE),
            context,
            keys,
            metrics: &context.metrics.audit,
            progress,
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        loop {
            match self.take_over().await {
                Ok(term) => self.term(term).await,
                Err(error) => {
                    tracing::warn!(%error, "the audit log is not taken over, trying again");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Returns once a log that cannot go on is worth another look.
    async fn term(&self, mut term: Term) {
        let client = &self.context.client;
        let config = watcher::Config::default;
        let segments: Api<PartialObjectMeta<AuditSegment>> =
            Api::namespaced(client.clone(), NAMESPACE);
        let mut segments = std::pin::pin!(watched(watcher(segments, config())));
        let checkpoints: Api<PartialObjectMeta<AuditCheckpoint>> =
            Api::namespaced(client.clone(), NAMESPACE);
        let mut checkpoints = std::pin::pin!(watched(watcher(checkpoints, config())));
        let (mut listing, mut numbers) = (HashMap::new(), BTreeSet::new());
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stuck: Option<Instant> = None;
        loop {
            tokio::select! {
                Some(event) = segments.next() => term.segment(event, &mut listing),
                Some(event) = checkpoints.next() => term.checkpoint(event, &mut numbers),
                _ = look.tick() => {
                    if term.listed {
                        self.look(&mut term).await;
                        self.tell(&term);
                    }
                    if term.tip.is_err()
                        && stuck.get_or_insert_with(Instant::now).elapsed() >= STUCK
                    {
                        return;
                    }
                }
            }
        }
    }

    /// Where the log stands: the newest checkpoint, and every name in any of them.
    async fn take_over(&self) -> Result<Term, SequencerError> {
        let mut term = Term {
            tip: Ok(Tip::default()),
            ledger: Ledger::default(),
            sizes: Sizes::default(),
            listed: false,
        };
        let mut newest: Option<(u64, AuditCheckpointSpec)> = None;
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = in_time(self.checkpoints.list(&page)).await?;
            for checkpoint in list.items {
                // What has another name is no part of the log.
                let Some(number) = number_of(&checkpoint.name_any()) else {
                    continue;
                };
                let spec = checkpoint.spec;
                let names = spec.segments.iter().map(|segment| segment.name.as_str());
                term.ledger.named(names);
                if newest.as_ref().is_none_or(|(found, _)| *found < number) {
                    newest = Some((number, spec));
                }
            }
            match list.metadata.continue_ {
                Some(token) if !token.is_empty() => page = page.continue_token(&token),
                _ => break,
            }
        }
        if let Some((number, spec)) = newest {
            let key = self.keys.get().await?;
            let tip = Tip::of(number, &spec, key.public());
            term.tip = tip.map_err(|why| stuck(number, &why));
        }
        if let Ok(tip) = &term.tip {
            let (checkpoint, size) = (tip.number(), tip.size());
            tracing::info!(checkpoint, size, "the audit log is taken over");
        }
        Ok(term)
    }

    /// Makes a checkpoint if one is due. A fault of the API server is tried again at the next look.
    async fn look(&self, term: &mut Term) {
        let Ok(tip) = &term.tip else { return };
        if !term.ledger.is_due(Instant::now()) {
            return;
        }
        match self.checkpoint(tip, &mut term.ledger).await {
            Ok(Some((tip, spec))) => {
                let names = spec.segments.iter().map(|segment| segment.name.as_str());
                term.ledger.named(names);
                term.tip = Ok(tip);
            }
            Ok(None) => {}
            Err(SequencerError::Stuck(number, why)) => term.tip = Err(stuck(number, &why)),
            Err(error) => {
                tracing::warn!(%error, "a checkpoint was not made, it is tried again");
            }
        }
    }

    /// The next checkpoint as it is there now, ours or another's.
    async fn checkpoint(
        &self,
        tip: &Tip,
        ledger: &mut Ledger,
    ) -> Result<Option<(Tip, AuditCheckpointSpec)>, SequencerError> {
        let key = self.keys.get().await?;
        let taken = self.read(ledger).await?;
        if taken.is_empty() {
            return Ok(None);
        }
        let number = tip.next_number();
        let cannot = |why| SequencerError::Stuck(number, why);
        let (spec, next) = tip.next(taken, &key).map_err(cannot)?;
        let bytes = serde_json::to_vec(&spec).map_or(0, |json| json.len());
        let made = AuditCheckpoint {
            metadata: ObjectMeta {
                name: Some(name_of(number)),
                annotations: Some([(BYTES_ANNOTATION.to_owned(), bytes.to_string())].into()),
                ..ObjectMeta::default()
            },
            spec,
        };
        let params = PostParams::default();
        match in_time(self.checkpoints.create(&params, &made)).await {
            Ok(_) => Ok(Some((next, made.spec))),
            Err(ApiError::Failed(kube::Error::Api(status))) if status.is_already_exists() => {
                let found = in_time(self.checkpoints.get(&name_of(number))).await?;
                let next = tip.followed_by(&found.spec, key.public()).map_err(cannot)?;
                tracing::info!(number, "another made this checkpoint; going on from it");
                Ok(Some((next, found.spec)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The leaves of the segments that come next.
    async fn read(&self, ledger: &mut Ledger) -> Result<Vec<(String, Vec<Hash>)>, SequencerError> {
        let names = ledger.first(MOST_SEGMENTS);
        let mut reads = stream::iter(names)
            .map(|name| async move {
                let found = in_time(self.segments.get_opt(&name)).await;
                (name, found)
            })
            .buffered(AT_ONCE);
        let (mut taken, mut count) = (Vec::new(), 0_usize);
        while let Some((name, found)) = reads.next().await {
            let Some(segment) = found? else {
                tracing::error!(name, "an AuditSegment was deleted before its checkpoint");
                ledger.gone(&name);
                continue;
            };
            let found = match &segment.0 {
                Ok(segment) => leaves(&segment.spec),
                Err(_) => Err(Unsound::Unreadable),
            };
            match found {
                Ok(leaves) => {
                    count = count.saturating_add(leaves.len());
                    if count > MOST_LEAVES && !taken.is_empty() {
                        break;
                    }
                    taken.push((name, leaves));
                }
                Err(why) => {
                    tracing::error!(name, %why, "an AuditSegment is not signed");
                    ledger.refuse(&name, why.to_string());
                }
            }
        }
        Ok(taken)
    }

    fn tell(&self, term: &Term) {
        let used = term.ledger.used().saturating_add(term.sizes.used());
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let tip = term.tip.as_ref().ok();
        let tip = tip.map(|tip| (tip.number(), tip.size()));
        if let Some((number, _)) = tip {
            self.metrics.checkpoint.set(gauge(number));
        }
        self.metrics.used.set(gauge(used));
        let waiting = u64::try_from(term.ledger.waiting()).unwrap_or(u64::MAX);
        self.metrics.pending.set(gauge(waiting));
        let refused = term.ledger.refused().map(|(name, why, count)| {
            format!(
                "{count} segments are not signed, the first is AuditSegment/{name}: {why}; what \
                 they hold is not proven, find out who changed them"
            )
        });
        let progress = Progress {
            tip,
            used_bytes: used,
            problem: term.tip.as_ref().err().cloned().or(refused),
        };
        self.progress.send_if_modified(|known| {
            let progress = Some(progress);
            let changed = *known != progress;
            *known = progress;
            changed
        });
    }
}

/// Why the log cannot go on, said once for every time it is looked at.
fn stuck(number: u64, why: &TipError) -> String {
    let name = name_of(number);
    let problem = format!("AuditCheckpoint/{name}: {why}; no more checkpoints are made");
    tracing::error!(problem, "the audit log cannot go on");
    problem
}

impl Term {
    fn segment(
        &mut self,
        event: Event<PartialObjectMeta<AuditSegment>>,
        listing: &mut HashMap<String, Seen>,
    ) {
        match event {
            Event::Init => listing.clear(),
            Event::InitApply(object) => {
                listing.insert(object.name_any(), seen(object.meta()));
            }
            Event::InitDone => {
                self.ledger.listed(std::mem::take(listing), Instant::now());
                if !self.listed {
                    // Every checkpoint was read before this list began.
                    self.ledger.forget_deleted();
                    self.listed = true;
                }
            }
            Event::Apply(object) => {
                let seen = seen(object.meta());
                self.ledger
                    .appeared(object.name_any(), seen, Instant::now());
            }
            Event::Delete(object) => self.ledger.gone(&object.name_any()),
        }
    }

    fn checkpoint(
        &mut self,
        event: Event<PartialObjectMeta<AuditCheckpoint>>,
        numbers: &mut BTreeSet<u64>,
    ) {
        match event {
            Event::Init => numbers.clear(),
            Event::InitDone => self.sizes.listed(&std::mem::take(numbers)),
            Event::Delete(object) => {
                if let Some(number) = number_of(&object.name_any()) {
                    self.sizes.gone(number);
                }
            }
            Event::InitApply(object) | Event::Apply(object) => {
                if let Some(number) = number_of(&object.name_any()) {
                    numbers.insert(number);
                    self.sizes.appeared(number, seen(object.meta()).bytes);
                }
            }
        }
    }
}

/// A watch that goes on after a fault.
fn watched<K>(
    stream: impl Stream<Item = watcher::Result<Event<PartialObjectMeta<K>>>> + Send,
) -> impl Stream<Item = Event<PartialObjectMeta<K>>> + Send
where
    K: Resource<DynamicType = ()> + Send,
{
    stream.default_backoff().filter_map(|event| async move {
        event
            .inspect_err(|error| {
                tracing::warn!(kind = %K::kind(&()), %error, "watch failed, trying again");
            })
            .ok()
    })
}

pub(super) fn seen(metadata: &ObjectMeta) -> Seen {
    let created = metadata.creation_timestamp.as_ref();
    let annotations = metadata.annotations.as_ref();
    let bytes = annotations.and_then(|all| all.get(BYTES_ANNOTATION)?.parse().ok());
    Seen {
        created: created.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        bytes: bytes.unwrap_or_default(),
    }
}
