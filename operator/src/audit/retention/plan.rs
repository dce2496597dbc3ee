//! Which of the log's beginning is to go, and the tombstone that says so.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chaperone_crds::audit_store::NAMESPACE;
use chaperone_crds::{AuditCheckpointSpec, AuditEntryKind, AuditHold, AuditStoreSpec, LogPosition};
use chaperone_evidence::SessionId;
use chaperone_evidence::audit::{At, Cut, Hold, Tombstone, digest};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::super::api::in_time;
use super::super::checkpoint;
use super::super::entry::sound;
use super::super::ingest;
use super::super::packs::{Packed, goes};
use super::{Known, Retention, RetentionError, name_of, number_of};

/// Share of the quota, in percent, below which nothing more goes.
const DOWN_TO: u64 = 60;
/// Checkpoints that one tombstone removes: reading them should take a minute at most.
const MOST_STRETCHES: usize = 1000;
/// Segments that are read at once.
const AT_ONCE: usize = 4;
/// What a tombstone is of, where an entry names the UID of its pod.
const UID: &str = "log";

/// A cut that may be made, and how many bytes it frees.
struct Best {
    cut: Cut,
    checkpoint: u64,
    note: String,
    size: u64,
    freed: u64,
}

impl Retention<'_> {
    /// The newest tombstone there is.
    pub(super) async fn newest(&self) -> Result<Option<Known>, RetentionError> {
        let names = self.listed().await?;
        let Some(number) = names.keys().filter_map(|name| number_of(name)).max() else {
            return Ok(None);
        };
        let name = name_of(number);
        let tombstone = self.opened(&name).await?;
        Ok(Some(Known {
            looked: Some(tombstone.checkpoint.saturating_add(1)),
            name,
            tombstone,
            done: false,
        }))
    }

    async fn opened(&self, name: &str) -> Result<Tombstone, RetentionError> {
        let wrong = |why: String| RetentionError::Log(format!("AuditSegment/{name}: {why}"));
        let key = self.keys.get().await?;
        let segment = in_time(self.segments.get(name)).await?;
        let segment = segment.0.map_err(|error| wrong(error.error))?;
        let entry = segment
            .spec
            .entries
            .iter()
            .find(|entry| entry.kind == AuditEntryKind::Tombstone)
            .ok_or_else(|| wrong("it holds no tombstone".to_owned()))?;
        Tombstone::open(&entry.data.0, key.public()).map_err(|error| wrong(error.to_string()))
    }

    /// The next tombstone; or why there is none. To make room it takes what is older than
    /// `retention.atLeast`, as far as that is needed; else all that is older than `kept`.
    pub(super) async fn plan(
        &self,
        spec: &AuditStoreSpec,
        kept: Option<Duration>,
    ) -> Result<Result<Tombstone, String>, RetentionError> {
        let (segments, checkpoints) = (self.listed().await?, self.listed_checkpoints().await?);
        let mut packed = Some(Packed::of(self.packer.shelf()).await?);
        let bytes = segments
            .values()
            .chain(checkpoints.values())
            .map(|seen| seen.bytes);
        let used: u64 = bytes.fold(0, u64::saturating_add);
        let quota = spec.quota.get();
        let enough = quota / 100 * DOWN_TO;
        let before = self
            .known
            .as_ref()
            .and_then(Option::as_ref)
            .map(|known| &known.tombstone);
        let mut cut = Cut::new(before, holds(&spec.holds));
        let mut freed = 0_u64;
        for number in cut.released().collect::<Vec<u64>>() {
            let named = self.checkpoint(number, &mut packed).await?;
            let leaves = named.segments.iter().map(|segment| segment.leaves.len());
            let entries = u64::try_from(leaves.sum::<usize>()).unwrap_or(u64::MAX);
            cut.release(
                u64::try_from(named.segments.len()).unwrap_or(u64::MAX),
                entries,
            );
            freed = freed.saturating_add(size(&named, &segments));
        }
        let at_least = spec.retention.at_least.get();
        let at_least = kept.map_or(at_least, |kept| kept.max(at_least));
        let young = Timestamp::now()
            .checked_sub(at_least)
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let mut best: Option<Best> = None;
        let first = before
            .map_or(0, |before| before.checkpoint)
            .saturating_add(1);
        for number in (first..).take(MOST_STRETCHES) {
            let Some(named) = self.named(number, &mut packed).await? else {
                break;
            };
            let own = checkpoints.get(&checkpoint::name_of(number));
            let mut seen = named.segments.iter().filter_map(|s| segments.get(&s.name));
            if seen.any(|seen| seen.created > young) {
                break;
            }
            if !self
                .take(&mut cut, &named, &segments, &mut packed, young)
                .await?
            {
                break;
            }
            if !cut.keeps(number) {
                freed = freed
                    .saturating_add(size(&named, &segments))
                    .saturating_add(own.map_or(0, |own| own.bytes));
            }
            if cut.is_clean() {
                best = Some(Best {
                    cut: cut.clone(),
                    checkpoint: number,
                    note: named.note,
                    size: named.size,
                    freed,
                });
                if kept.is_none() && used.saturating_sub(freed) <= enough {
                    break;
                }
            }
        }
        let stuck = |why: &str| Ok(Err(why.to_owned()));
        let Some(best) = best else {
            return stuck(
                "nothing is older than spec.retention.atLeast, so nothing is removed: raise \
                 spec.quota, or keep less",
            );
        };
        let at = At {
            checkpoint: best.checkpoint,
            note: digest(best.note.as_bytes()),
            size: best.size,
            wall_ns: u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default(),
            at_least_s: at_least.as_secs(),
        };
        let pods = self.context.stores.pods.state();
        let there: HashSet<String> = pods.iter().filter_map(|pod| pod.uid()).collect();
        // A watch that has seen nothing yet knows of nobody that he is gone.
        let gone = |uid: &str| !there.is_empty() && !there.contains(uid);
        let tombstone = best.cut.tombstone(at, &gone);
        if kept.is_some() {
            let packs = packed.iter().flat_map(Packed::packs);
            return match packs.into_iter().any(|pack| goes(pack, &tombstone)) {
                true => Ok(Ok(tombstone)),
                false => stuck("what is older than spec.retention.packed is held by spec.holds"),
            };
        }
        // It takes up room itself.
        let key = self.keys.get().await?;
        let Some(signed) = tombstone.sign(&key) else {
            return stuck("more pods are recorded at once than one tombstone can speak for");
        };
        let costs = u64::try_from(signed.len())
            .unwrap_or(u64::MAX)
            .saturating_mul(3);
        if best.freed <= costs {
            return stuck(
                "what is older than spec.retention.atLeast is held by spec.holds, or too little to \
                 make room: raise spec.quota",
            );
        }
        Ok(Ok(tombstone))
    }

    /// A checkpoint, as a resource or in a pack.
    pub(super) async fn named(
        &self,
        number: u64,
        packed: &mut Option<Packed>,
    ) -> Result<Option<AuditCheckpointSpec>, RetentionError> {
        let name = checkpoint::name_of(number);
        if let Some(found) = in_time(self.checkpoints.get_opt(&name)).await? {
            return Ok(Some(found.spec));
        }
        let packed = match packed {
            Some(packed) => packed,
            None => packed.insert(Packed::of(self.packer.shelf()).await?),
        };
        Ok(packed.checkpoint(number).await?)
    }

    async fn checkpoint(
        &self,
        number: u64,
        packed: &mut Option<Packed>,
    ) -> Result<AuditCheckpointSpec, RetentionError> {
        let name = checkpoint::name_of(number);
        self.named(number, packed)
            .await?
            .ok_or_else(|| RetentionError::Log(format!("AuditCheckpoint/{name} is not there")))
    }

    /// Reads what a checkpoint names into the cut. Whether none of it is younger than it may be; if
    /// one is, the cut is of no use any more.
    async fn take(
        &self,
        cut: &mut Cut,
        named: &AuditCheckpointSpec,
        listed: &HashMap<String, super::Seen>,
        packed: &mut Option<Packed>,
        young: Timestamp,
    ) -> Result<bool, RetentionError> {
        let names: Vec<(usize, String, usize)> = named
            .segments
            .iter()
            .enumerate()
            .map(|(index, segment)| (index, segment.name.clone(), segment.leaves.len()))
            .collect();
        let mut reads = stream::iter(names)
            .map(|(index, name, leaves)| async move {
                let found = match listed.contains_key(&name) {
                    true => in_time(self.segments.get_opt(&name)).await,
                    false => Ok(None),
                };
                (index, name, leaves, found)
            })
            .buffered(AT_ONCE);
        while let Some((index, name, leaves, found)) = reads.next().await {
            let mut made = listed.get(&name).map(|seen| seen.created);
            // One that somebody took away, or changed, tells nothing of its store.
            let mut spec = found?
                .and_then(|found| found.0.ok())
                .map(|found| found.spec);
            if made.is_none()
                && let Some(packed) = packed.as_mut()
            {
                let position = LogPosition {
                    checkpoint: named.number,
                    segment: u32::try_from(index).unwrap_or(u32::MAX),
                };
                let pack = packed.holding(position).await?;
                let kept = pack.as_ref().and_then(|pack| pack.segments.get(&name));
                made = kept.map(|kept| kept.seen.created);
                spec = kept.and_then(|kept| kept.spec.clone());
            }
            if made.is_some_and(|made| made > young) {
                return Ok(false);
            }
            let entries = spec.map_or_else(Vec::new, sound);
            let leaves = u64::try_from(leaves).unwrap_or(u64::MAX);
            let made = made.map(Timestamp::as_second);
            cut.segment(named.number, made, leaves, &entries);
        }
        cut.close(named.number);
        Ok(true)
    }

    /// Writes a tombstone where nobody has written one; the name of its segment.
    pub(super) async fn write(&self, tombstone: &Tombstone) -> Result<String, RetentionError> {
        let wrong = |why: &str| RetentionError::Log(why.to_owned());
        let key = self.keys.get().await?;
        let data = tombstone
            .sign(&key)
            .ok_or_else(|| wrong("the log key signed no tombstone"))?;
        let name = name_of(tombstone.number);
        let made = ingest::leaf(
            name.clone(),
            AuditEntryKind::Tombstone,
            &key,
            UID,
            tombstone.number,
            data,
        )
        .ok_or_else(|| wrong("the tombstone cannot be written"))?;
        let api: Api<chaperone_crds::AuditSegment> =
            Api::namespaced(self.context.client.clone(), NAMESPACE);
        // Where there is one of that name, another leader made it: the round begins anew.
        in_time(api.create(&PostParams::default(), &made)).await?;
        Ok(name)
    }
}

fn size(named: &AuditCheckpointSpec, listed: &HashMap<String, super::Seen>) -> u64 {
    let seen = named.segments.iter().filter_map(|s| listed.get(&s.name));
    seen.map(|seen| seen.bytes).fold(0, u64::saturating_add)
}

fn holds(holds: &[AuditHold]) -> Vec<Hold> {
    let session = |text: &String| -> Option<SessionId> {
        Some(SessionId(hex::decode(text).ok()?.try_into().ok()?))
    };
    holds
        .iter()
        .map(|hold| Hold {
            name: hold.name.clone(),
            namespaces: hold.namespaces.clone(),
            sessions: hold.sessions.iter().filter_map(session).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_that_cannot_be_read_holds_the_rest() {
        let hold = AuditHold {
            name: "case-17".to_owned(),
            namespaces: vec!["shop".to_owned()],
            sessions: vec!["0123456789abcdef".to_owned(), "nonsense".to_owned()],
            reason: None,
        };
        let read = holds(&[hold]);
        let session = SessionId([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        let expected = Hold {
            name: "case-17".to_owned(),
            namespaces: vec!["shop".to_owned()],
            sessions: vec![session],
        };
        assert_eq!(read, [expected]);
    }

    #[test]
    fn only_a_tombstones_name_has_a_number() {
        assert_eq!(number_of("ts-12"), Some(12));
        for name in ["ts-0", "ts-012", "ts-", "cp-1", "as-ts-1", "ts-+1"] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }
}
