//! From what an annotation names to what is injected.

use std::collections::BTreeMap;
use std::sync::Arc;

use chaperone_crds::{ConditionReason, Connection};
use chaperone_inject::{Operator, Plan, Reference, Refusal, Sidecar, Target, Wanted, names};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt};

use super::answer::Answer;
use crate::context::Context;
use crate::target::admits;

/// Labels of a namespace: from the store, or asked for where a new namespace is not in it yet.
pub(super) async fn namespace_labels(
    context: &Context,
    name: &str,
) -> Result<BTreeMap<String, String>, Answer> {
    if let Some(labels) = context.stores.namespace_labels(name) {
        return Ok(labels);
    }
    let api: Api<Namespace> = Api::all(context.client.clone());
    let found = api.get_metadata_opt(name).await.map_err(unavailable)?;
    Ok(found
        .map(|found| found.labels().clone())
        .unwrap_or_default())
}

/// Whether every pod of a namespace with these labels is injected.
pub(super) fn is_governed(labels: &BTreeMap<String, String>) -> bool {
    labels.get(names::GOVERNED_LABEL).map(String::as_str) == Some("true")
}

/// Namespaces that are never touched, whatever the webhook configuration says.
pub(super) fn is_left_out(context: &Context, namespace: &str) -> bool {
    namespace == "kube-system" || namespace == context.config.namespace
}

/// The plan for a pod in `namespace` that wants this.
pub(super) async fn plan(
    context: &Context,
    namespace: &str,
    labels: &BTreeMap<String, String>,
    wanted: Wanted,
) -> Result<Plan, Answer> {
    let authorities = context.authorities.borrow().concat();
    if authorities.is_empty() {
        return Err(Answer::denied(
            ConditionReason::Pending,
            "the operator has no certificates yet; try again in a few seconds",
        ));
    }
    let mut targets = Vec::with_capacity(wanted.connections.len());
    for reference in wanted.connections {
        targets.push(target(context, namespace, labels, reference).await?);
    }
    Ok(Plan {
        namespace: namespace.to_owned(),
        targets,
        operator: Operator {
            url: context.config.operator_url(),
            authorities,
        },
        sidecar: Sidecar {
            image: context.config.sidecar_image.clone(),
            resources: context.config.sidecar_resources.clone(),
        },
        purpose: wanted.purpose,
    })
}

async fn target(
    context: &Context,
    namespace: &str,
    labels: &BTreeMap<String, String>,
    reference: Reference,
) -> Result<Target, Answer> {
    let found = connection(context, &reference).await?;
    match found.filter(|found| admits(found, namespace, Some(labels))) {
        Some(found) => Ok(Target::of(reference, &found.spec)?),
        None => Err(Refusal::ConnectionNotFound {
            connection: reference.to_string(),
            namespace: namespace.to_owned(),
        }
        .into()),
    }
}

/// From the store, or asked for: `kubectl apply` of a Connection and its user is one command.
async fn connection(
    context: &Context,
    reference: &Reference,
) -> Result<Option<Arc<Connection>>, Answer> {
    let (namespace, name) = (&reference.namespace, &reference.name);
    if let Some(found) = context.stores.connection(namespace, name) {
        return Ok(Some(found));
    }
    let api: Api<Connection> = Api::namespaced(context.client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(unavailable)?;
    Ok(found.map(Arc::new))
}

fn unavailable(error: kube::Error) -> Answer {
    tracing::warn!(%error, "the API server gave no answer");
    Answer::denied(
        ConditionReason::ApiUnavailable,
        "the operator got no answer from the API server; try again",
    )
}
