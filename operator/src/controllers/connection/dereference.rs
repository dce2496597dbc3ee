//! What a Connection's conditions depend on besides itself.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_crds::{Action, Connection, SqlEffect};
use chaperone_inject::Wanted;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;

use crate::controllers::Shared;
use crate::references::{Read, Reference};
use crate::target;

/// What was found.
pub(super) struct Found {
    /// What it refers to.
    pub(super) references: BTreeMap<Reference, Read>,
    /// Effects that some rule of some policy lets through over it; `None` while no policy names
    /// it, and nothing can be said about what its role needs.
    pub(super) allowed: Option<BTreeSet<SqlEffect>>,
    /// How many workloads use it.
    pub(super) workloads: u32,
}

/// Reads all of it.
pub(super) async fn dereference(
    shared: &Shared,
    connection: &Connection,
    namespace: &str,
    name: &str,
) -> Found {
    let references = match &connection.spec.postgres {
        Some(postgres) => {
            let wanted = target::references(namespace, postgres);
            shared.references.read(wanted).await
        }
        None => BTreeMap::new(),
    };
    Found {
        references,
        allowed: allowed(shared, namespace, name),
        workloads: workloads(shared, namespace, name),
    }
}

fn allowed(shared: &Shared, namespace: &str, name: &str) -> Option<BTreeSet<SqlEffect>> {
    let mut allowed: Option<BTreeSet<SqlEffect>> = None;
    for policy in shared.context.stores.policies() {
        let Ok(policy) = &policy.0 else { continue };
        if !target::names(policy, namespace, name) {
            continue;
        }
        let effects = allowed.get_or_insert_default();
        for rule in &policy.spec.rules {
            if rule.action != Action::Deny
                && let Some(sql) = &rule.sql
            {
                effects.extend(sql.effects.iter().copied());
            }
        }
    }
    allowed
}

/// Pods that name it, counted by what owns them: a Deployment's replicas are one workload.
fn workloads(shared: &Shared, namespace: &str, name: &str) -> u32 {
    let mut owners = BTreeSet::new();
    for pod in shared.context.stores.pods.state() {
        let own = pod.namespace().unwrap_or_default();
        let Ok(wanted) = Wanted::read(pod.annotations(), &own) else {
            continue;
        };
        let uses = wanted
            .connections
            .iter()
            .any(|wanted| wanted.namespace == namespace && wanted.name == name);
        if uses {
            owners.insert((own, owner(&pod)));
        }
    }
    u32::try_from(owners.len()).unwrap_or(u32::MAX)
}

/// Kind and name of what made a pod.
fn owner(pod: &PartialObjectMeta<Pod>) -> (String, String) {
    let controller = pod
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true));
    let Some(controller) = controller else {
        return ("Pod".to_owned(), pod.name_any());
    };
    let hash = pod.labels().get("pod-template-hash");
    // Old and new replicas of one Deployment are one workload.
    let deployment = hash.and_then(|hash| {
        let name = controller.name.strip_suffix(hash.as_str())?;
        name.strip_suffix('-')
    });
    match deployment {
        Some(name) if controller.kind == "ReplicaSet" => ("Deployment".to_owned(), name.to_owned()),
        _ => (controller.kind.clone(), controller.name.clone()),
    }
}
