//! A cluster's log as it was fetched, with each pod's store in a folder of its own.

use std::collections::{BTreeMap, HashSet};

use chaperone_crds::audit_store::NAMESPACE;
use chaperone_crds::{AuditCheckpoint, AuditSegment};
use chaperone_evidence::audit::{
    Collected, Entry, StoreFolder, Unsealing, unsealings, write_stores,
};
use chaperone_evidence::{Break, BreakReason, Keyring};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{ApiResource, ListParams, PartialObjectMeta};
use kube::core::DynamicObject;

use super::convert::{self, fault};
use super::fetch::all;
use super::scratch::Scratch;
use super::views::Views;
use super::{Cluster, api_failure, packs};
use crate::error::CliError;
use crate::output::note;
use crate::progress::Progress;

/// ConfigMap in which the operator publishes the log's public key.
pub(super) const KEY_CONFIG_MAP: &str = "chaperone-log";
/// Its key with the PEM.
const KEY_PEM: &str = "log.pub";
/// Bytes of evidence that are fetched at most: eight times the quota that the chart sets.
const MOST_BYTES: usize = 4 << 30;

/// All of a cluster's evidence.
pub(crate) struct FetchedLog {
    collected: Collected,
    /// What of it cannot be read, by resource.
    faults: BTreeMap<String, Vec<Break>>,
    published: Option<[u8; 32]>,
    /// Names and digests of the packs that were read.
    packs: BTreeMap<String, String>,
    /// Segments that are in one of them.
    packed: HashSet<String>,
    live: HashSet<String>,
    bytes: usize,
    stores: Vec<StoreFolder>,
    scratch: Scratch,
    keys: Keyring,
    views: Views,
}

impl FetchedLog {
    /// Fetches all of it.
    ///
    /// Checkpoints come first: every segment that one names was there before it, so what is
    /// missing from the segments that come second is missing, unless it was removed meanwhile, which a
    /// later checkpoint tells. Packs come last, since what is in one is deleted only after it is there.
    pub(crate) fn fetch(cluster: &Cluster, keys: &Keyring) -> Result<FetchedLog, CliError> {
        let progress = Progress::start("reading the log");
        let mut log = FetchedLog {
            collected: Collected::default(),
            faults: BTreeMap::new(),
            published: None,
            packs: BTreeMap::new(),
            packed: HashSet::new(),
            live: HashSet::new(),
            bytes: 0,
            stores: Vec::new(),
            scratch: Scratch::new()?,
            keys: keys.clone(),
            views: Views::default(),
        };
        cluster.wait(async {
            log.published = published(cluster).await?;
            log.checkpoints(cluster).await?;
            log.segments(cluster, &progress).await?;
            log.packs(cluster, &progress).await?;
            log.live = match live(cluster).await? {
                Some(live) => live,
                None => {
                    note("you may not list pods: sessions that are still open are told as interrupted");
                    HashSet::new()
                }
            };
            log.views = Views::fetch(cluster).await?;
            Ok::<(), CliError>(())
        })?;
        progress.say("putting the stores together");
        log.write()?;
        Ok(log)
    }

    /// Fetches segments that are new, and forgets those that are gone. Nothing is written where
    /// nothing changed.
    pub(super) fn refresh(&mut self, cluster: &Cluster) -> Result<(), CliError> {
        let changed = cluster.wait(async {
            let api = segments_api(cluster);
            let names = metadata::<AuditSegment>(cluster, NAMESPACE)
                .await
                .map_err(|error| api_failure("list the AuditSegments", &error))?;
            let names: HashSet<String> = names
                .into_iter()
                .filter_map(|found| found.metadata.name)
                .collect();
            let before = self.collected.segments.len();
            self.collected
                .segments
                .retain(|name, _| names.contains(name) || self.packed.contains(name));
            self.faults.retain(|name, _| {
                let packed = self.packed.contains(name) || self.packs.contains_key(name);
                names.contains(name) || packed || name.starts_with("cp-")
            });
            let mut changed = before != self.collected.segments.len();
            self.bytes = self
                .collected
                .segments
                .values()
                .map(|held| size(held))
                .sum();
            for name in names {
                if self.collected.segments.contains_key(&name) {
                    continue;
                }
                let found = api
                    .get_opt(&name)
                    .await
                    .map_err(|error| api_failure("get an AuditSegment", &error))?;
                if let Some(object) = found {
                    self.take(convert::segment(&object))?;
                    changed = true;
                }
            }
            let packs = self.packs.len();
            self.packs(cluster, &Progress::start("reading packs"))
                .await?;
            changed |= packs != self.packs.len();
            self.views = Views::fetch(cluster).await?;
            if let Some(live) = live(cluster).await?
                && live != self.live
            {
                self.live = live;
                changed = true;
            }
            Ok::<bool, CliError>(changed)
        })?;
        if changed {
            self.scratch = Scratch::new()?;
            self.write()?;
        }
        Ok(())
    }

    /// The stores in it.
    pub(crate) fn stores(&self) -> &[StoreFolder] {
        &self.stores
    }

    /// What opens sealed sessions.
    pub(crate) fn keys(&self) -> &Keyring {
        &self.keys
    }

    /// Adds keys that open more.
    pub(super) fn take_keys(&mut self, keys: &Keyring) {
        self.keys.extend(keys);
    }

    /// What the operator tells of sessions that nothing here opens.
    pub(super) fn views(&self) -> &Views {
        &self.views
    }

    /// Who was given keys of which sessions, oldest first, as far as the published key says so.
    pub(crate) fn unsealings(&self) -> Vec<(String, Unsealing)> {
        let public = self.published.unwrap_or_default();
        unsealings(&self.collected, &public).0
    }

    /// As plain values.
    pub(crate) fn collected(&self) -> &Collected {
        &self.collected
    }

    /// What of it cannot be read.
    pub(crate) fn faults(&self) -> impl Iterator<Item = &Break> {
        self.faults.values().flatten()
    }

    /// Whether its first checkpoints are gone.
    pub(super) fn lost_its_beginning(&self) -> bool {
        let first = self.collected.checkpoints.keys().next();
        first.is_some_and(|first| *first > 1)
    }

    /// The key that the cluster publishes, if it publishes one.
    pub(crate) fn published(&self) -> Option<[u8; 32]> {
        self.published
    }

    /// Writes the stores again, held against another key than the published one.
    pub(crate) fn trusting(mut self: Box<Self>, key: &[u8; 32]) -> Result<Box<Self>, CliError> {
        if self.published.as_ref() != Some(key) {
            self.scratch = Scratch::new()?;
            self.write_with(key)?;
        }
        Ok(self)
    }

    fn write(&mut self) -> Result<(), CliError> {
        // Without a key no certificate holds, which only `verify` asks about.
        self.write_with(&self.published.unwrap_or_default())
    }

    fn write_with(&mut self, key: &[u8; 32]) -> Result<(), CliError> {
        let live = |uid: &str| self.live.contains(uid);
        self.stores = write_stores(&self.collected, key, self.scratch.path(), &live)?;
        Ok(())
    }

    async fn checkpoints(&mut self, cluster: &Cluster) -> Result<(), CliError> {
        let api = Api::namespaced_with(
            cluster.client(),
            NAMESPACE,
            &ApiResource::erase::<AuditCheckpoint>(&()),
        );
        let read = |object: DynamicObject| convert::checkpoint(&object);
        let found = all(&api, &ListParams::default(), read, |_| {})
            .await
            .map_err(|error| api_failure("list the AuditCheckpoints", &error))?;
        for mut read in found {
            if let Some((number, checkpoint)) = read.checkpoint
                && self
                    .collected
                    .checkpoints
                    .insert(number, checkpoint)
                    .is_some()
            {
                read.faults.push(fault(
                    &format!("AuditCheckpoint/{}", read.name),
                    BreakReason::CheckpointInvalid,
                    format!("there is another one with number {number}"),
                ));
            }
            if !read.faults.is_empty() {
                self.faults.insert(read.name, read.faults);
            }
        }
        Ok(())
    }

    async fn segments(&mut self, cluster: &Cluster, progress: &Progress) -> Result<(), CliError> {
        let read = |object: DynamicObject| convert::segment(&object);
        let seen = |count: usize| progress.say(&format!("reading the log: {count} segments"));
        let found = all(&segments_api(cluster), &ListParams::default(), read, seen)
            .await
            .map_err(|error| api_failure("list the AuditSegments", &error))?;
        for segment in found {
            self.take(segment)?;
        }
        Ok(())
    }

    /// What is in packs that were not read yet.
    async fn packs(&mut self, cluster: &Cluster, progress: &Progress) -> Result<(), CliError> {
        let there = packs::listed(cluster).await?;
        let all = there.len();
        for (index, (name, pack)) in there.into_iter().enumerate() {
            if self.packs.get(&name) == Some(&pack.digest) {
                continue;
            }
            progress.say(&format!("reading packs: {} of {all}", index + 1));
            match packs::fetch(cluster, &name, &pack).await? {
                None => continue,
                Some(Ok(unpacked)) => {
                    for segment in unpacked.segments {
                        self.packed_segment(&name, segment)?;
                    }
                    for read in unpacked.checkpoints {
                        self.packed_checkpoint(&name, read);
                    }
                }
                Some(Err(broken)) => {
                    self.faults.insert(name.clone(), vec![broken]);
                }
            }
            self.packs.insert(name, pack.digest);
        }
        Ok(())
    }

    /// A segment that is a resource still is the same one there.
    fn packed_segment(&mut self, pack: &str, segment: convert::Segment) -> Result<(), CliError> {
        self.packed.insert(segment.name.clone());
        match self.collected.segments.get(&segment.name) {
            None => self.take(segment),
            Some(there) if *there == segment.entries => Ok(()),
            Some(_) => {
                let detail = format!("it is another one in AuditPack/{pack}");
                let file = format!("AuditSegment/{}", segment.name);
                let wrong = fault(&file, BreakReason::SegmentChanged, detail);
                self.faults.entry(segment.name).or_default().push(wrong);
                Ok(())
            }
        }
    }

    /// So is a checkpoint.
    fn packed_checkpoint(&mut self, pack: &str, mut read: convert::Numbered) {
        if let Some((number, checkpoint)) = read.checkpoint {
            let there = self
                .collected
                .checkpoints
                .entry(number)
                .or_insert_with(|| checkpoint.clone());
            if *there != checkpoint {
                let detail = format!("it is another one in AuditPack/{pack}");
                let file = format!("AuditCheckpoint/{}", read.name);
                read.faults
                    .push(fault(&file, BreakReason::CheckpointInvalid, detail));
            }
        }
        if !read.faults.is_empty() {
            self.faults.insert(read.name, read.faults);
        }
    }

    fn take(&mut self, segment: convert::Segment) -> Result<(), CliError> {
        let convert::Segment {
            name,
            entries,
            faults,
        } = segment;
        if !faults.is_empty() {
            self.faults.insert(name.clone(), faults);
        }
        self.bytes += size(&entries);
        self.collected.segments.insert(name, entries);
        if self.bytes > MOST_BYTES {
            return Err(CliError::Usage(format!(
                "the log is larger than {} GiB, which is more than is read at once",
                MOST_BYTES >> 30
            )));
        }
        Ok(())
    }
}

fn size(entries: &[(Entry, Vec<u8>)]) -> usize {
    entries.iter().map(|(_, data)| data.len()).sum()
}

fn segments_api(cluster: &Cluster) -> Api<DynamicObject> {
    Api::namespaced_with(
        cluster.client(),
        NAMESPACE,
        &ApiResource::erase::<AuditSegment>(&()),
    )
}

/// Names and little else of all objects of a kind in a namespace.
async fn metadata<K>(
    cluster: &Cluster,
    namespace: &str,
) -> Result<Vec<PartialObjectMeta<K>>, kube::Error>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<PartialObjectMeta<K>> = Api::namespaced(cluster.client(), namespace);
    all(&api, &ListParams::default(), |found| found, |_| {}).await
}

/// The log's public key, as the operator publishes it.
async fn published(cluster: &Cluster) -> Result<Option<[u8; 32]>, CliError> {
    let api: Api<ConfigMap> = Api::namespaced(cluster.client(), NAMESPACE);
    let found = api
        .get_opt(KEY_CONFIG_MAP)
        .await
        .map_err(|error| api_failure("read the log's public key", &error))?;
    let pem = found.and_then(|found| found.data?.remove(KEY_PEM));
    Ok(pem.and_then(|pem| chaperone_evidence::parse_public_pem(&pem)))
}

/// UIDs of the pods that are there; `None` for who may not see them.
async fn live(cluster: &Cluster) -> Result<Option<HashSet<String>>, CliError> {
    let api: Api<PartialObjectMeta<Pod>> = Api::all(cluster.client());
    let uid = |pod: PartialObjectMeta<Pod>| pod.metadata.uid;
    match all(&api, &ListParams::default(), uid, |_| {}).await {
        Ok(uids) => Ok(Some(uids.into_iter().flatten().collect())),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
        Err(error) => Err(api_failure("list the pods", &error)),
    }
}
