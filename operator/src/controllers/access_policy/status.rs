//! Writes what was found, and tells of what changed.

use chaperone_crds::{AccessPolicy, AccessPolicyStatus};
use jiff::Timestamp;
use kube::Resource;
use kube::core::ObjectMeta;

use crate::controllers::conditions::{Finding, conditions, of_unreadable};
use crate::controllers::status::{apply, identity};
use crate::controllers::{ReconcileError, Shared};

/// Writes the status if it changed; the outcome for the metric.
pub(super) async fn write(
    shared: &Shared,
    policy: &AccessPolicy,
    mut findings: Vec<Finding>,
    workloads: u32,
) -> Result<&'static str, ReconcileError> {
    let (namespace, name) = identity(policy)?;
    let ready = Finding::ready(&findings);
    findings.push(ready.clone());
    let old = policy.status.clone().unwrap_or_default();
    let status = AccessPolicyStatus {
        conditions: conditions(
            &old.conditions,
            &findings,
            policy.metadata.generation,
            Timestamp::now(),
        ),
        workloads: Some(workloads),
    };
    if status == old {
        return Ok(ready.outcome());
    }
    apply::<AccessPolicy, _>(&shared.context.client, namespace, name, &status).await?;
    if ready.is_news(&old.conditions) {
        let about = policy.object_ref(&());
        let events = &shared.events;
        events
            .publish(&about, ready.good, &ready.reason, "Compile", &ready.message)
            .await;
    }
    Ok(ready.outcome())
}

/// Writes that a policy cannot be read.
pub(super) async fn unreadable(
    shared: &Shared,
    metadata: &ObjectMeta,
    findings: &[Finding],
) -> Result<(), ReconcileError> {
    let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else {
        return Err(ReconcileError::Nameless("name"));
    };
    let status = AccessPolicyStatus {
        conditions: of_unreadable(metadata, findings),
        workloads: None,
    };
    apply::<AccessPolicy, _>(&shared.context.client, namespace, name, &status).await
}
