//! The leader's work: the oldest evidence into packs, and then out of etcd. Each step can be the last
//! one of this process; whoever leads next sees from the AuditPacks what is to be done.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use chaperone_crds::audit_checkpoint::AuditCheckpoint;
use chaperone_crds::audit_store::NAMESPACE;
use chaperone_crds::{
    AuditPack, AuditPackSpec, AuditPackStatus, AuditPacked, AuditSegment, LogPosition,
};
use chaperone_evidence::audit::Tombstone;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};

use super::super::api::{ApiError, delete, in_time, metadata};
use super::super::checkpoint;
use super::super::entry::hash;
use super::super::ledger::Seen;
use super::super::retention;
use super::build::{Builder, Built, FULL, Until};
use super::place::{Place, PlaceError};
use super::{PacksError, Shelf, is_stored, name_of, packed};
use crate::context::Context;
use chaperone_evidence::audit::digest;

/// Share of the quota, in percent, below which nothing more is packed.
const DOWN_TO: u64 = 60;
/// Checkpoints that stay resources, the newest, though they are in packs: most questions are of those.
const KEPT: u64 = 1000;
/// They never take up more than this share of the quota, in percent.
const KEPT_SHARE: u64 = 20;
/// How long the list of AuditPacks is used; the leader alone makes them.
const LISTED: Duration = Duration::from_secs(30);
/// Objects that are deleted at once.
const AT_ONCE: usize = 8;

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Step {
    /// There is nothing to do.
    Idle,
    /// There may be more.
    More,
    /// All that has a checkpoint is packed.
    Exhausted,
}

/// Packs what is old.
pub(in super::super) struct Packer<'a> {
    context: &'a Context,
    shelf: Shelf,
    builder: Builder,
    segments: Api<AuditSegment>,
    checkpoints: Api<AuditCheckpoint>,
    packs: Vec<AuditPack>,
    listed: Option<Instant>,
    /// The newest pack whose segments are out of etcd.
    finished: Option<u64>,
    /// Whether it was begun to make room.
    packing: bool,
}

impl<'a> Packer<'a> {
    pub(in super::super) fn new(context: &'a Context) -> Packer<'a> {
        let client = &context.client;
        Packer {
            context,
            shelf: Shelf::new(context),
            builder: Builder::new(client),
            segments: Api::namespaced(client.clone(), NAMESPACE),
            checkpoints: Api::namespaced(client.clone(), NAMESPACE),
            packs: Vec::new(),
            listed: None,
            finished: None,
            packing: false,
        }
    }

    pub(in super::super) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// The packs that may be read, oldest first.
    pub(in super::super) fn stored(&self) -> impl Iterator<Item = &AuditPackSpec> {
        let packs = self.packs.iter().filter(|pack| is_stored(pack));
        packs.map(|pack| &pack.spec)
    }

    /// What lies in packs, in numbers; none where that is not known.
    pub(in super::super) fn told(&self) -> Option<AuditPacked> {
        self.listed.map(|_| packed(self.stored()))
    }

    /// What was known of the packs is not any more.
    pub(in super::super) fn forget(&mut self) {
        self.listed = None;
    }

    /// Looks which packs there are, if that was long ago.
    pub(in super::super) async fn refresh(&mut self) -> Result<(), PacksError> {
        if self.listed.is_none_or(|at| at.elapsed() >= LISTED) {
            self.packs = self.shelf.listed().await?;
            self.listed = Some(Instant::now());
        }
        Ok(())
    }

    /// Does what comes next: finishes the newest pack, or begins another where `is_full`.
    pub(in super::super) async fn step(
        &mut self,
        is_full: bool,
        quota: u64,
        tip: u64,
        tombstone: Option<&Tombstone>,
    ) -> Result<Step, PacksError> {
        self.refresh().await?;
        if let Some(newest) = self.packs.last().cloned() {
            if !is_stored(&newest) {
                self.listed = None;
                self.store(newest, None, tip).await?;
                return Ok(Step::More);
            }
            if self.finished != Some(newest.spec.number) {
                self.clear(&newest.spec, quota, tip, tombstone).await?;
                self.finished = Some(newest.spec.number);
                return Ok(Step::More);
            }
        }
        self.packing |= is_full;
        if !self.packing {
            return Ok(Step::Idle);
        }
        let used = self.used().await?;
        let above = used.saturating_sub(quota / 100 * DOWN_TO);
        if above == 0 {
            self.packing = false;
            return Ok(Step::Idle);
        }
        let (number, first) = self.next(tombstone);
        let until = Until::Bytes(above.min(FULL));
        let Some(built) = self.builder.build(number, first, until, tip).await? else {
            self.packing = false;
            return Ok(Step::Exhausted);
        };
        // A place that does not answer shows before anything is begun.
        self.shelf.place().await?;
        let draft = AuditPack::new(&name_of(number), built.spec.clone());
        self.listed = None;
        let made = in_time(self.shelf.packs.create(&PostParams::default(), &draft)).await;
        let made = match made {
            // Another leader's: it is gone on from.
            Err(ApiError::Failed(kube::Error::Api(status))) if status.is_already_exists() => {
                return Ok(Step::More);
            }
            made => made?,
        };
        self.store(made, Some(built), tip).await?;
        Ok(Step::More)
    }

    /// Where the next pack begins.
    fn next(&self, tombstone: Option<&Tombstone>) -> (u64, LogPosition) {
        let below = tombstone.map_or(0, |tombstone| tombstone.checkpoint);
        let behind = LogPosition {
            checkpoint: below.saturating_add(1),
            segment: 0,
        };
        let Some(newest) = self.packs.last().map(|pack| &pack.spec) else {
            return (1, behind);
        };
        let last = newest.last;
        let after = match newest.through >= last.checkpoint {
            true => LogPosition {
                checkpoint: last.checkpoint.saturating_add(1),
                segment: 0,
            },
            false => LogPosition {
                segment: last.segment.saturating_add(1),
                ..last
            },
        };
        (newest.number.saturating_add(1), after.max(behind))
    }

    async fn used(&self) -> Result<u64, ApiError> {
        let (segments, checkpoints) = (
            metadata(&self.segments).await?,
            metadata(&self.checkpoints).await?,
        );
        let all = segments.values().chain(checkpoints.values());
        Ok(all.map(|seen| seen.bytes).fold(0, u64::saturating_add))
    }

    /// Writes the object that an AuditPack names, reads it back, and says that it is there. What it
    /// names and can be put together no more is taken back.
    async fn store(
        &self,
        pack: AuditPack,
        built: Option<Built>,
        tip: u64,
    ) -> Result<(), PacksError> {
        let name = pack.name_any();
        let place = self.shelf.place().await?;
        let AuditPackSpec {
            number,
            first,
            last,
            ..
        } = pack.spec;
        let built = match built {
            Some(built) => Some(built),
            None => {
                let until = Until::Position(last);
                match self.builder.build(number, first, until, tip).await {
                    // What it was to hold is gone.
                    Err(PacksError::Log(_)) => None,
                    built => built?,
                }
            }
        };
        let Some(built) = built.filter(|built| built.spec == pack.spec) else {
            tracing::warn!(name, "what a pack was to hold has changed; it is made anew");
            return self.take_back(&place, &pack).await;
        };
        let failed = |error| PacksError::Place(name.clone(), error);
        let Built { spec, bytes } = built;
        place.put(&spec.digest, bytes).await.map_err(failed)?;
        let found = place.get(&spec.digest, spec.bytes).await.map_err(failed)?;
        if hash(&spec.digest) != Some(digest(&found)) {
            let why = "what was read back is not what was written".to_owned();
            return Err(failed(PlaceError::Store(why)));
        }
        let mut stored = pack;
        stored.status = Some(AuditPackStatus {
            stored_at: Some(Time(Timestamp::now())),
        });
        // With its version, so that an AuditPack that another leader took back is not said to be there.
        let params = PostParams::default();
        in_time(self.shelf.packs.replace_status(&name, &params, &stored)).await?;
        tracing::info!(name, segments = spec.segments, "old evidence is packed");
        self.context
            .metrics
            .audit
            .packs
            .with_label_values(&["Stored"])
            .inc();
        Ok(())
    }

    async fn take_back(&self, place: &Place, pack: &AuditPack) -> Result<(), PacksError> {
        let name = pack.name_any();
        let gone = place.delete(&pack.spec.digest).await;
        gone.map_err(|error| PacksError::Place(name.clone(), error))?;
        let same = DeleteParams {
            preconditions: Some(Preconditions {
                resource_version: pack.resource_version(),
                uid: pack.uid(),
            }),
            ..DeleteParams::default()
        };
        in_time(self.shelf.packs.delete(&name, &same)).await?;
        Ok(())
    }

    /// Deletes what is in a pack that was read just now: segments first, then checkpoints that are
    /// neither new nor name a tombstone.
    async fn clear(
        &self,
        pack: &AuditPackSpec,
        quota: u64,
        tip: u64,
        tombstone: Option<&Tombstone>,
    ) -> Result<(), PacksError> {
        let unpacked = self.shelf.open(pack).await?;
        let there = metadata(&self.segments).await?;
        let names = unpacked.segments.into_keys();
        let names: Vec<String> = names.filter(|name| there.contains_key(name)).collect();
        stream::iter(names)
            .map(|name| async move { delete(&self.segments, &name).await })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        let listed = metadata(&self.checkpoints).await?;
        // What a tombstone has left, for a hold for one, is in no pack.
        let below = tombstone.map_or(0, |tombstone| tombstone.checkpoint);
        let packed = below.saturating_add(1)..=pack.through;
        for number in spare(&listed, &packed, tip, quota) {
            let name = checkpoint::name_of(number);
            let Some(found) = in_time(self.checkpoints.get_opt(&name)).await? else {
                continue;
            };
            let mut named = found.spec.segments.iter();
            // Else its tombstone would be taken for one that waits for its checkpoint.
            if named.any(|segment| retention::number_of(&segment.name).is_some()) {
                continue;
            }
            delete(&self.checkpoints, &name).await?;
        }
        Ok(())
    }

    /// Removes the packs of which a tombstone leaves nothing.
    pub(in super::super) async fn remove(
        &mut self,
        tombstone: &Tombstone,
    ) -> Result<(), PacksError> {
        self.listed = None;
        self.refresh().await?;
        let (mut place, mut left) = (None, Vec::new());
        for pack in std::mem::take(&mut self.packs) {
            if !is_stored(&pack) || !goes(&pack.spec, tombstone) {
                left.push(pack);
                continue;
            }
            let name = pack.name_any();
            let place = match &mut place {
                Some(place) => place,
                None => place.insert(self.shelf.place().await?),
            };
            // The object first: while its AuditPack is there, it is known what is to go.
            let gone = place.delete(&pack.spec.digest).await;
            gone.map_err(|error| PacksError::Place(name.clone(), error))?;
            delete(&self.shelf.packs, &name).await?;
            self.context
                .metrics
                .audit
                .removed
                .inc_by(pack.spec.segments);
        }
        self.packs = left;
        Ok(())
    }
}

/// Whether a tombstone leaves nothing of what is in a pack.
pub(in super::super) fn goes(pack: &AuditPackSpec, tombstone: &Tombstone) -> bool {
    // What is numbered by whoever wrote the AuditPack is not walked through without end.
    pack.last.checkpoint <= tombstone.checkpoint
        && (pack.first.checkpoint..=pack.last.checkpoint)
            .all(|number| !tombstone.keeps_note(number))
}

/// Of the checkpoints that are in packs, those that need not be resources any more, oldest first.
fn spare(
    listed: &HashMap<String, Seen>,
    packed: &RangeInclusive<u64>,
    tip: u64,
    quota: u64,
) -> Vec<u64> {
    let mut numbers: BTreeSet<u64> = BTreeSet::new();
    let mut bytes = 0_u64;
    for (name, seen) in listed {
        numbers.extend(checkpoint::number_of(name));
        bytes = bytes.saturating_add(seen.bytes);
    }
    let most = quota / 100 * KEPT_SHARE;
    let mut spare = Vec::new();
    for number in numbers.range(packed.start()..) {
        let number = *number;
        let old = tip.saturating_sub(number) >= KEPT;
        if !packed.contains(&number) || number >= tip || !(old || bytes > most) {
            break;
        }
        let seen = listed.get(&checkpoint::name_of(number));
        bytes = bytes.saturating_sub(seen.map_or(0, |seen| seen.bytes));
        spare.push(number);
    }
    spare
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn listed(numbers: std::ops::RangeInclusive<u64>, bytes: u64) -> HashMap<String, Seen> {
        let seen = Seen {
            created: Timestamp::UNIX_EPOCH,
            bytes,
        };
        numbers.map(|n| (checkpoint::name_of(n), seen)).collect()
    }

    #[test]
    fn the_newest_thousand_checkpoints_stay_unless_they_take_up_too_much() {
        let roomy = 1 << 40;
        let all = listed(1..=1500, 100);
        let spared = spare(&all, &(1..=1400), 1500, roomy);
        assert_eq!((spared.first(), spared.len()), (Some(&1), 500));
        assert_eq!(spared.last(), Some(&500));
        // Only what is whole in packs.
        assert_eq!(spare(&all, &(1..=7), 1500, roomy).len(), 7);
        // What a tombstone left is in none.
        assert_eq!(spare(&all, &(401..=1400), 1500, roomy).len(), 100);
        // A fifth of the quota holds 300 of them.
        assert_eq!(spare(&all, &(1..=1400), 1500, 150_000).len(), 1200);
        // The newest one is what the next grows from.
        assert_eq!(
            spare(&listed(9..=9, 1000), &(1..=9), 9, 100),
            Vec::<u64>::new()
        );
    }
}
