//! Touches workloads of one kind.

use std::collections::BTreeMap;
use std::fmt::Debug;

use chaperone_inject::names::RETRY_ANNOTATION;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Usable;
use super::workload::{Workload, concerns};
use crate::FIELD_MANAGER;
use crate::controllers::{ReconcileError, Shared};

/// Objects of one page.
const PAGE: u32 = 250;

/// The one annotation, as a merge patch.
#[derive(Debug, Serialize)]
struct Touch {
    metadata: Metadata,
}

#[derive(Debug, Serialize)]
struct Metadata {
    annotations: BTreeMap<&'static str, String>,
}

/// Touches all workloads of this kind that lack pods and may now get them; how many.
pub(super) async fn touch<K>(shared: &Shared, usable: &Usable) -> Result<u64, ReconcileError>
where
    K: Workload
        + Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let client = &shared.context.client;
    let all: Api<K> = Api::all(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    let mut touched = 0_u64;
    loop {
        let list = all.list(&page).await?;
        for workload in &list.items {
            let namespace = workload.namespace().unwrap_or_default();
            if !concerns(workload, &namespace, usable) {
                continue;
            }
            let name = workload.name_any();
            let patch = Touch {
                metadata: Metadata {
                    annotations: BTreeMap::from([(RETRY_ANNOTATION, Timestamp::now().to_string())]),
                },
            };
            let api: Api<K> = Api::namespaced(client.clone(), &namespace);
            let ours = PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            };
            match api
                .patch_metadata(&name, &ours, &Patch::Merge(&patch))
                .await
            {
                Ok(_) => {
                    touched = touched.saturating_add(1);
                    tracing::info!(kind = %K::kind(&()), namespace, name, "tried again");
                }
                // One that is gone or may not be touched keeps none of the others waiting.
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), namespace, name, %error, "not tried again");
                }
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(touched),
        }
    }
}
