//! What a tombstone says goes: segments first, then the checkpoints that name them, then packs.

use std::collections::BTreeSet;

use chaperone_crds::{AuditCheckpoint, AuditSegment};
use chaperone_evidence::audit::Tombstone;
use futures::{StreamExt, TryStreamExt, stream};
use kube::Api;

use chaperone_crds::audit_store::NAMESPACE;

use super::super::api::{delete, in_time};
use super::super::checkpoint;
use super::{Known, Retention, RetentionError};

/// Objects that are deleted at once.
const AT_ONCE: usize = 8;

impl Retention<'_> {
    /// Whether all is gone that the tombstone says. Nothing goes while no checkpoint names it.
    pub(super) async fn finish(&mut self, known: &mut Known) -> Result<bool, RetentionError> {
        if !self.is_sequenced(known).await? {
            return Ok(false);
        }
        self.remove(&known.tombstone).await?;
        self.packer.remove(&known.tombstone).await?;
        Ok(true)
    }

    async fn is_sequenced(&self, known: &mut Known) -> Result<bool, RetentionError> {
        let mut packed = None;
        while let Some(number) = known.looked {
            let Some(found) = self.named(number, &mut packed).await? else {
                return Ok(false);
            };
            let mut named = found.segments.iter();
            known.looked = match named.any(|segment| segment.name == known.name) {
                true => None,
                false => Some(number.saturating_add(1)),
            };
        }
        Ok(true)
    }

    async fn remove(&self, tombstone: &Tombstone) -> Result<(), RetentionError> {
        let there = self.listed().await?;
        let numbers: BTreeSet<u64> = self
            .listed_checkpoints()
            .await?
            .keys()
            .filter_map(|name| checkpoint::number_of(name))
            .filter(|number| *number <= tombstone.checkpoint)
            .collect();
        let client = &self.context.client;
        let segments: Api<AuditSegment> = Api::namespaced(client.clone(), NAMESPACE);
        let checkpoints: Api<AuditCheckpoint> = Api::namespaced(client.clone(), NAMESPACE);
        for number in numbers {
            let name = checkpoint::name_of(number);
            if !tombstone.keeps(number) {
                let Some(found) = in_time(self.checkpoints.get_opt(&name)).await? else {
                    continue;
                };
                let named = found.spec.segments.into_iter().map(|segment| segment.name);
                let names: Vec<String> = named.filter(|name| there.contains_key(name)).collect();
                let count = u64::try_from(names.len()).unwrap_or_default();
                stream::iter(names)
                    .map(|name| {
                        let segments = segments.clone();
                        async move { delete(&segments, &name).await }
                    })
                    .buffer_unordered(AT_ONCE)
                    .try_collect::<()>()
                    .await?;
                self.context.metrics.audit.removed.inc_by(count);
            }
            if !tombstone.keeps_note(number) {
                delete(&checkpoints, &name).await?;
            }
        }
        Ok(())
    }
}
