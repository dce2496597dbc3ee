//! Writes what was found, and tells of what changed.

use chaperone_crds::{ConditionReason, ConditionType, Connection, ConnectionStatus};
use jiff::Timestamp;
use kube::Resource;
use kube::core::ObjectMeta;

use super::dereference::Found;
use crate::controllers::conditions::{Finding, conditions, of_unreadable};
use crate::controllers::status::{apply, identity};
use crate::controllers::{ReconcileError, Shared};
use crate::target;

/// Writes the status if it changed; the outcome for the metric.
pub(super) async fn write(
    shared: &Shared,
    connection: &Connection,
    found: &Found,
    mut findings: Vec<Finding>,
) -> Result<&'static str, ReconcileError> {
    let (namespace, name) = identity(connection)?;
    let allow_special = shared.context.config.allow_special_targets;
    if let Err(fault) = target::served(&connection.spec, allow_special)
        && fault.reason != ConditionReason::Unsupported.as_str()
    {
        findings.retain(|finding| finding.kind != ConditionType::Reachable);
        findings.push(Finding::fault(ConditionType::Reachable, &fault));
    }
    let ready = Finding::ready(&findings);
    findings.push(ready.clone());
    let old = connection.status.clone().unwrap_or_default();
    let status = ConnectionStatus {
        conditions: conditions(
            &old.conditions,
            &findings,
            connection.metadata.generation,
            Timestamp::now(),
        ),
        target: target::display(&connection.spec),
        workloads: Some(found.workloads),
    };
    if status == old {
        return Ok(ready.outcome());
    }
    apply::<Connection, _>(&shared.context.client, namespace, name, &status).await?;
    if ready.is_news(&old.conditions) {
        let about = connection.object_ref(&());
        // A warning is worth one though the Connection is served.
        let good = ready.good && ready.reason == ConditionType::Ready.as_str();
        let events = &shared.events;
        events
            .publish(&about, good, &ready.reason, "Probe", &ready.message)
            .await;
    }
    Ok(ready.outcome())
}

/// Writes that a Connection cannot be read.
pub(super) async fn unreadable(
    shared: &Shared,
    metadata: &ObjectMeta,
    findings: &[Finding],
) -> Result<(), ReconcileError> {
    let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else {
        return Err(ReconcileError::Nameless("name"));
    };
    let status = ConnectionStatus {
        conditions: of_unreadable(metadata, findings),
        ..ConnectionStatus::default()
    };
    apply::<Connection, _>(&shared.context.client, namespace, name, &status).await
}
