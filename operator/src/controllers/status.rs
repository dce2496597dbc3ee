//! Writing a status: server-side apply of the fields that are ours, and only if they changed.

use std::fmt::Debug;

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ReconcileError;
use crate::FIELD_MANAGER;

/// An object with nothing but what identifies it and its status.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Apply<'a, Status> {
    api_version: String,
    kind: String,
    metadata: Metadata<'a>,
    status: &'a Status,
}

#[derive(Debug, Serialize)]
struct Metadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
}

/// The name and namespace of an object.
pub(super) fn identity<K: Resource>(object: &K) -> Result<(&str, &str), ReconcileError> {
    let meta = object.meta();
    Ok((
        meta.namespace
            .as_deref()
            .ok_or(ReconcileError::Nameless("namespace"))?,
        meta.name
            .as_deref()
            .ok_or(ReconcileError::Nameless("name"))?,
    ))
}

/// Applies a status. An object that is gone meanwhile is none that needs one.
pub(super) async fn apply<K, Status>(
    client: &Client,
    namespace: &str,
    name: &str,
    status: &Status,
) -> Result<(), ReconcileError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug,
    Status: Serialize + Debug,
{
    let api = Api::namespaced(client.clone(), namespace);
    write::<K, Status>(&api, Some(namespace), name, status).await
}

/// The same of an object without a namespace.
pub(crate) async fn apply_cluster_scoped<K, Status>(
    client: &Client,
    name: &str,
    status: &Status,
) -> Result<(), ReconcileError>
where
    K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    Status: Serialize + Debug,
{
    write::<K, Status>(&Api::all(client.clone()), None, name, status).await
}

/// The answer is not looked at: an object that cannot be read gets its condition too.
async fn write<K, Status>(
    api: &Api<DeserializeGuard<K>>,
    namespace: Option<&str>,
    name: &str,
    status: &Status,
) -> Result<(), ReconcileError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    Status: Serialize + Debug,
{
    let applied = Apply {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        metadata: Metadata { name, namespace },
        status,
    };
    let ours = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(name, &ours, &Patch::Apply(&applied)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
