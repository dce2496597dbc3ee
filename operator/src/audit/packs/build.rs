//! What goes into the next pack: segments in the order of the log, from where the one before ended.

use std::io;

use chaperone_crds::audit_store::NAMESPACE;
use chaperone_crds::{
    AuditCheckpoint, AuditCheckpointSpec, AuditPackSpec, AuditSegment, LogPosition,
};
use chaperone_evidence::audit::PackWriter;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ApiResource, ObjectMeta, TypeMeta};
use kube::core::DynamicObject;
use kube::{Api, Client, Resource};

use super::super::BYTES_ANNOTATION;
use super::super::api::in_time;
use super::super::checkpoint;
use super::super::retention;
use super::PacksError;

/// Bytes of resources after which a pack is full.
pub(super) const FULL: u64 = 16 << 20;
/// Segments that are read at once; each has up to 1.2 MiB.
const AT_ONCE: usize = 4;

/// Where a pack ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// With the segment with which so many bytes are in it.
    Bytes(u64),
    /// Just here, as it did before.
    Position(LogPosition),
}

/// A pack that is put together.
pub(super) struct Built {
    pub(super) spec: AuditPackSpec,
    pub(super) bytes: Vec<u8>,
}

/// Reads what is to be packed.
#[derive(Debug, Clone)]
pub(super) struct Builder {
    segments: Api<DynamicObject>,
    checkpoints: Api<DynamicObject>,
}

/// What is in it so far.
struct Draft {
    writer: PackWriter,
    last: Option<LogPosition>,
    through: u64,
    segments: u64,
    newest: Timestamp,
}

impl Builder {
    pub(super) fn new(client: &Client) -> Builder {
        let (segment, checkpoint) = (
            ApiResource::erase::<AuditSegment>(&()),
            ApiResource::erase::<AuditCheckpoint>(&()),
        );
        Builder {
            segments: Api::namespaced_with(client.clone(), NAMESPACE, &segment),
            checkpoints: Api::namespaced_with(client.clone(), NAMESPACE, &checkpoint),
        }
    }

    /// The pack of this number from `first` on, of what the checkpoints up to `tip` name. None where
    /// there is nothing.
    pub(super) async fn build(
        &self,
        number: u64,
        first: LogPosition,
        until: Until,
        tip: u64,
    ) -> Result<Option<Built>, PacksError> {
        let mut draft = Draft {
            writer: PackWriter::new().map_err(unwritten)?,
            last: None,
            through: first.checkpoint.saturating_sub(1),
            segments: 0,
            newest: Timestamp::UNIX_EPOCH,
        };
        let mut from = first;
        while from.checkpoint <= tip {
            let name = checkpoint::name_of(from.checkpoint);
            let found = in_time(self.checkpoints.get_opt(&name)).await?;
            let found =
                found.ok_or_else(|| PacksError::Log(format!("AuditCheckpoint/{name} is gone")))?;
            if self.stretch(&mut draft, from, found, until).await? {
                break;
            }
            from = LogPosition {
                checkpoint: from.checkpoint.saturating_add(1),
                segment: 0,
            };
        }
        let Some(last) = draft.last else {
            return Ok(None);
        };
        let (bytes, digest) = draft.writer.finish().map_err(unwritten)?;
        let spec = AuditPackSpec {
            number,
            first,
            last,
            through: draft.through,
            digest: hex::encode(digest),
            bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            segments: draft.segments,
            newest: Time(draft.newest),
        };
        Ok(Some(Built { spec, bytes }))
    }

    /// Adds what a checkpoint names, and after it the checkpoint. Whether the pack ends in it.
    async fn stretch(
        &self,
        draft: &mut Draft,
        from: LogPosition,
        found: DynamicObject,
        until: Until,
    ) -> Result<bool, PacksError> {
        let unread = || PacksError::Log(format!("checkpoint {} cannot be read", from.checkpoint));
        let spec = found.data.get("spec").cloned().ok_or_else(unread)?;
        let named: AuditCheckpointSpec = serde_json::from_value(spec).map_err(|_| unread())?;
        let count = named.segments.len();
        let skipped = usize::try_from(from.segment).unwrap_or(usize::MAX);
        let names = named.segments.into_iter().enumerate().skip(skipped);
        let mut reads = stream::iter(names)
            .map(|(index, segment)| async move {
                let found = match retention::number_of(&segment.name) {
                    // Where the newest tombstone is looked for.
                    Some(_) => Ok(None),
                    None => in_time(self.segments.get_opt(&segment.name)).await,
                };
                (index, segment.name, found)
            })
            .buffered(AT_ONCE);
        let mut whole = Some(found);
        while let Some((index, name, found)) = reads.next().await {
            match found? {
                Some(found) => draft.segment(found)?,
                None if retention::number_of(&name).is_some() => {}
                None => {
                    tracing::error!(name, "an AuditSegment was deleted before it was packed");
                }
            }
            let position = LogPosition {
                checkpoint: from.checkpoint,
                segment: u32::try_from(index).unwrap_or(u32::MAX),
            };
            draft.last = Some(position);
            if index.saturating_add(1) == count
                && let Some(checkpoint) = whole.take()
            {
                draft.line::<AuditCheckpoint>(checkpoint)?;
                draft.through = from.checkpoint;
            }
            let ends = match until {
                Until::Bytes(bytes) => draft.writer.raw() >= bytes,
                Until::Position(last) => position >= last,
            };
            if ends {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Draft {
    fn segment(&mut self, found: DynamicObject) -> Result<(), PacksError> {
        let made = found.metadata.creation_timestamp.as_ref();
        self.newest = made.map_or(self.newest, |made| made.0.max(self.newest));
        self.segments = self.segments.saturating_add(1);
        self.line::<AuditSegment>(found)
    }

    /// A resource as it is, without what only this API server has use for.
    fn line<K: Resource<DynamicType = ()>>(
        &mut self,
        object: DynamicObject,
    ) -> Result<(), PacksError> {
        let mut annotations = object.metadata.annotations.unwrap_or_default();
        annotations.retain(|name, _| name == BYTES_ANNOTATION);
        let kept = DynamicObject {
            types: Some(TypeMeta {
                api_version: K::api_version(&()).into_owned(),
                kind: K::kind(&()).into_owned(),
            }),
            metadata: ObjectMeta {
                name: object.metadata.name,
                creation_timestamp: object.metadata.creation_timestamp,
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            data: object.data,
        };
        let line = serde_json::to_vec(&kept).map_err(|error| unwritten(error.into()))?;
        self.writer.line(&line).map_err(unwritten)
    }
}

fn unwritten(error: io::Error) -> PacksError {
    PacksError::Log(format!("no pack can be put together: {error}"))
}
