//! How long and where the one AuditStore keeps evidence, changed under a leader at work.

use chaperone_crds::{
    AuditBackend, AuditHold, AuditStore, HumanDuration, ObjectStoreBackend, VolumeBackend,
};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde::Serialize;

use crate::support::Lab;

/// What an AuditStore is to say from now on, all of it.
#[derive(Debug, Clone)]
pub struct Keeping {
    pub quota: &'static str,
    pub backend: Option<AuditBackend>,
    /// In seconds, as is the next.
    pub at_least: u64,
    pub packed: Option<u64>,
    pub holds: Vec<AuditHold>,
}

impl Default for Keeping {
    /// As the chart has it.
    fn default() -> Keeping {
        Keeping {
            quota: "512Mi",
            backend: None,
            at_least: 24 * 3600,
            packed: None,
            holds: Vec::new(),
        }
    }
}

impl Keeping {
    pub async fn begin(self, lab: &Lab) {
        let spec = Spec {
            quota: self.quota,
            backend: self.backend.map(|backend| Backend {
                volume: backend.volume,
                object_store: backend.object_store,
            }),
            retention: Retention {
                at_least: HumanDuration::from_secs(self.at_least),
                packed: self.packed.map(HumanDuration::from_secs),
            },
            holds: self.holds,
        };
        let stores: Api<AuditStore> = Api::all(lab.client.clone());
        let params = PatchParams::default();
        let patch = Patch::Merge(Patched { spec });
        stores.patch("default", &params, &patch).await.unwrap();
    }
}

#[derive(Debug, Serialize)]
struct Patched {
    spec: Spec,
}

#[derive(Debug, Serialize)]
struct Spec {
    quota: &'static str,
    backend: Option<Backend>,
    retention: Retention,
    holds: Vec<AuditHold>,
}

/// With a null for what is not to be there, or a merge would leave it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Retention {
    at_least: HumanDuration,
    packed: Option<HumanDuration>,
}

/// With a null for the one that is not meant.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Backend {
    volume: Option<VolumeBackend>,
    object_store: Option<ObjectStoreBackend>,
}
