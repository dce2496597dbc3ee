//! Reading packs: which there are, and what is in one.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use chaperone_crds::audit_store::NAMESPACE;
use chaperone_crds::{
    AuditCheckpointSpec, AuditPack, AuditPackSpec, AuditSegmentSpec, LogPosition,
};
use chaperone_evidence::audit::{PackError, pack_lines};
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::super::api::{ApiError, in_time};
use super::super::checkpoint;
use super::super::entry::hash;
use super::super::ledger::Seen;
use super::super::sequencer::seen;
use super::place::{Place, PlaceError};
use super::{is_stored, name_of, number_of};
use crate::context::{Context, Stores};
use crate::target;

/// AuditPacks of one page.
const PAGE: u32 = 500;

/// Why a pack is not written or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PacksError {
    /// The API server failed us.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// There is no place, or it failed us.
    #[error("AuditPack/{0}: {1}")]
    Place(String, PlaceError),
    /// No place could be had at all.
    #[error(transparent)]
    NoPlace(#[from] PlaceError),
    /// What is there is not what was written.
    #[error("AuditPack/{0}: {1}")]
    Pack(String, PackError),
    /// A fault of the log or of our own.
    #[error("{0}")]
    Log(String),
}

/// The packs there are.
#[derive(Clone)]
pub(crate) struct Shelf {
    client: Client,
    stores: Stores,
    folder: Option<PathBuf>,
    allow_special: bool,
    pub(super) packs: Api<AuditPack>,
}

/// What is in a pack.
#[derive(Debug, Default)]
pub(in super::super) struct Unpacked {
    /// By number.
    pub(in super::super) checkpoints: BTreeMap<u64, AuditCheckpointSpec>,
    /// By name.
    pub(in super::super) segments: HashMap<String, PackedSegment>,
}

/// A segment in a pack.
#[derive(Debug)]
pub(in super::super) struct PackedSegment {
    /// When it was made, and its size as a resource.
    pub(in super::super) seen: Seen,
    /// None where it was none any more when it was packed.
    pub(in super::super) spec: Option<AuditSegmentSpec>,
}

impl Shelf {
    pub(crate) fn new(context: &Context) -> Shelf {
        Shelf {
            client: context.client.clone(),
            stores: context.stores.clone(),
            folder: context.config.packs_dir.clone(),
            allow_special: context.config.allow_special_targets,
            packs: Api::namespaced(context.client.clone(), NAMESPACE),
        }
    }

    /// Where the AuditStore has them now.
    pub(super) async fn place(&self) -> Result<Place, PlaceError> {
        let store = self.stores.audit_store();
        let backend = store.as_ref().and_then(|store| store.spec.backend.as_ref());
        let allow = target::special(self.allow_special);
        Place::of(backend, self.folder.as_deref(), &self.client, allow).await
    }

    /// All there are, by number: those that may be read first, then what is not stored yet.
    pub(super) async fn listed(&self) -> Result<Vec<AuditPack>, ApiError> {
        let mut found = BTreeMap::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = in_time(self.packs.list(&page)).await?;
            for pack in list.items {
                // What has another name is none of ours.
                if number_of(&pack.name_any()) == Some(pack.spec.number) {
                    found.insert(pack.spec.number, pack);
                }
            }
            match list.metadata.continue_ {
                Some(token) if !token.is_empty() => page = page.continue_token(&token),
                _ => return Ok(found.into_values().collect()),
            }
        }
    }

    /// Those that may be read.
    pub(in super::super) async fn stored(&self) -> Result<Vec<AuditPackSpec>, ApiError> {
        let packs = self.listed().await?.into_iter();
        Ok(packs.filter(is_stored).map(|pack| pack.spec).collect())
    }

    /// The bytes of the pack of that name, for whoever can name their digest too: who can was let see
    /// the AuditPack. They are as they are there; the digest says whether they are the right ones.
    pub(crate) async fn bytes(
        &self,
        name: &str,
        digest: &str,
    ) -> Result<Option<Vec<u8>>, PacksError> {
        let Some(pack) = in_time(self.packs.get_opt(name)).await? else {
            return Ok(None);
        };
        if !is_stored(&pack) || pack.spec.digest != digest {
            return Ok(None);
        }
        let bytes = self.place().await?.get(digest, pack.spec.bytes).await;
        bytes
            .map(Some)
            .map_err(|error| PacksError::Place(name.to_owned(), error))
    }

    /// What is in a pack, once it is what its AuditPack says.
    pub(in super::super) async fn open(
        &self,
        pack: &AuditPackSpec,
    ) -> Result<Unpacked, PacksError> {
        let name = name_of(pack.number);
        let place = self.place().await?;
        let bytes = place.get(&pack.digest, pack.bytes).await;
        let bytes = bytes.map_err(|error| PacksError::Place(name.clone(), error))?;
        let digest = hash(&pack.digest)
            .ok_or_else(|| PacksError::Log(format!("AuditPack/{name} names no digest")))?;
        let unpacked = spawn_blocking(move || unpacked(&bytes, &digest)).await;
        unpacked
            .map_err(|error| PacksError::Log(error.to_string()))?
            .map_err(|error| PacksError::Pack(name, error))
    }
}

fn unpacked(bytes: &[u8], digest: &[u8; 32]) -> Result<Unpacked, PackError> {
    let mut found = Unpacked::default();
    for line in pack_lines(bytes, digest)? {
        // Whatever else is in it tells nothing here.
        let Ok(object) = serde_json::from_slice::<DynamicObject>(&line?) else {
            continue;
        };
        let name = object.name_any();
        let spec = object.data.get("spec").cloned().unwrap_or(Value::Null);
        if let Some(number) = checkpoint::number_of(&name) {
            if let Ok(spec) = serde_json::from_value(spec) {
                found.checkpoints.insert(number, spec);
            }
        } else {
            let segment = PackedSegment {
                seen: seen(&object.metadata),
                spec: serde_json::from_value(spec).ok(),
            };
            found.segments.insert(name, segment);
        }
    }
    Ok(found)
}

/// The log as it lies in packs, read one pack at a time: whoever reads it goes on from stretch to stretch.
pub(in super::super) struct Packed {
    shelf: Shelf,
    packs: Vec<AuditPackSpec>,
    open: Option<(u64, Arc<Unpacked>)>,
}

impl Packed {
    pub(in super::super) async fn of(shelf: &Shelf) -> Result<Packed, ApiError> {
        Ok(Packed {
            packs: shelf.stored().await?,
            shelf: shelf.clone(),
            open: None,
        })
    }

    pub(in super::super) fn packs(&self) -> &[AuditPackSpec] {
        &self.packs
    }

    /// A checkpoint that is in a pack.
    pub(in super::super) async fn checkpoint(
        &mut self,
        number: u64,
    ) -> Result<Option<AuditCheckpointSpec>, PacksError> {
        let mut packs = self.packs.iter();
        let holds = |pack: &&AuditPackSpec| pack.through >= number;
        let Some(pack) = packs.find(holds).cloned() else {
            return Ok(None);
        };
        Ok(self.opened(&pack).await?.checkpoints.get(&number).cloned())
    }

    /// The pack that a segment is in.
    pub(in super::super) async fn holding(
        &mut self,
        position: LogPosition,
    ) -> Result<Option<Arc<Unpacked>>, PacksError> {
        let mut packs = self.packs.iter();
        let holds = |pack: &&AuditPackSpec| (pack.first..=pack.last).contains(&position);
        match packs.find(holds).cloned() {
            Some(pack) => self.opened(&pack).await.map(Some),
            None => Ok(None),
        }
    }

    async fn opened(&mut self, pack: &AuditPackSpec) -> Result<Arc<Unpacked>, PacksError> {
        if let Some((number, open)) = &self.open
            && *number == pack.number
        {
            return Ok(Arc::clone(open));
        }
        self.open = None;
        let unpacked = Arc::new(self.shelf.open(pack).await?);
        self.open = Some((pack.number, Arc::clone(&unpacked)));
        Ok(unpacked)
    }
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}
