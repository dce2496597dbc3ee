//! IdentityProvider: can its tokens be checked? What is written here only tells: every replica
//! fetches keys for itself, and sidecars refuse tokens whose key they do not have.

use std::sync::Arc;
use std::time::Duration;

use chaperone_control::Fault;
use chaperone_crds::{ConditionReason, ConditionType, IdentityProvider, IdentityProviderStatus};
use jiff::Timestamp;
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use super::conditions::{Finding, conditions, of_unreadable};
use super::status::apply_cluster_scoped;
use super::{ReconcileError, Shared, changes, control};

/// How often it is looked at, should no event say so.
const LOOK: Duration = Duration::from_secs(300);

/// Runs the controller.
pub(super) async fn run(shared: Arc<Shared>) {
    let triggers = changes(&shared);
    control::<IdentityProvider, _, _>("identity_provider", shared, triggers, reconcile).await;
}

async fn reconcile(
    object: Arc<DeserializeGuard<IdentityProvider>>,
    shared: Arc<Shared>,
) -> Result<(Action, &'static str), ReconcileError> {
    let provider = match &object.0 {
        Ok(provider) => provider,
        Err(invalid) => {
            let message = format!(
                "it cannot be read, so its tokens are refused: {}",
                invalid.error
            );
            let reason = ConditionReason::Malformed;
            let finding = Finding::bad(ConditionType::Accepted, reason, message);
            unreadable(&shared, &invalid.metadata, finding).await?;
            return Ok((Action::requeue(LOOK), "Malformed"));
        }
    };
    let findings = [accepted(provider), reachable(&shared, provider)];
    let outcome = write(&shared, provider, findings.to_vec()).await?;
    Ok((Action::requeue(LOOK), outcome))
}

fn accepted(provider: &IdentityProvider) -> Finding {
    let problems = chaperone_identity::problems(&provider.spec);
    let kind = ConditionType::Accepted;
    match problems.first() {
        None => Finding::good(kind, ConditionReason::Accepted, ""),
        Some((path, message)) => {
            let message = format!("{path}: {message}");
            Finding::bad(kind, ConditionReason::Invalid, message)
        }
    }
}

/// Whether the issuer gave its keys when it was asked last.
fn reachable(shared: &Shared, provider: &IdentityProvider) -> Finding {
    let (kind, good) = (ConditionType::Reachable, ConditionReason::Reachable);
    if !provider.spec.jwks.discovery {
        return Finding::good(kind, good, "its keys are in spec.jwks.inline");
    }
    let Some(known) = shared.context.stores.known_keys(&provider.name_any()) else {
        let message = "its keys have not been fetched yet";
        return Finding::bad(kind, ConditionReason::Pending, message);
    };
    match known.failed {
        None => Finding::good(kind, good, "its keys were fetched"),
        Some((reason, why)) => {
            let used = match known.keys {
                Some(_) => "; those it gave before are used",
                None => "; its tokens are refused",
            };
            let fault = Fault {
                reason: reason.to_owned(),
                message: format!("{why}{used}"),
            };
            Finding::fault(kind, &fault)
        }
    }
}

async fn write(
    shared: &Shared,
    provider: &IdentityProvider,
    mut findings: Vec<Finding>,
) -> Result<&'static str, ReconcileError> {
    let ready = Finding::ready(&findings);
    findings.push(ready.clone());
    let old = provider.status.clone().unwrap_or_default();
    let status = IdentityProviderStatus {
        conditions: conditions(
            &old.conditions,
            &findings,
            provider.metadata.generation,
            Timestamp::now(),
        ),
    };
    if status == old {
        return Ok(ready.outcome());
    }
    let client = &shared.context.client;
    apply_cluster_scoped::<IdentityProvider, _>(client, &provider.name_any(), &status).await?;
    if ready.is_news(&old.conditions) {
        let about = provider.object_ref(&());
        let events = &shared.events;
        events
            .publish(&about, ready.good, &ready.reason, "Fetch", &ready.message)
            .await;
    }
    Ok(ready.outcome())
}

async fn unreadable(
    shared: &Shared,
    metadata: &ObjectMeta,
    finding: Finding,
) -> Result<(), ReconcileError> {
    let name = metadata
        .name
        .as_deref()
        .ok_or(ReconcileError::Nameless("name"))?;
    let status = IdentityProviderStatus {
        conditions: of_unreadable(metadata, &[finding]),
    };
    apply_cluster_scoped::<IdentityProvider, _>(&shared.context.client, name, &status).await
}
