//! AccessPolicy: does it compile, and is what it names there? A policy that does not compile
//! denies whom it selects, whatever is written here.

mod status;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use chaperone_crds::{AccessPolicy, ConditionReason, ConditionType, IdentityProvider};
use kube::Api;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;

use super::conditions::Finding;
use super::status::identity;
use super::{ReconcileError, Shared, changes, control, workloads};
use crate::target;

/// How often it is looked at, should no event say so.
const LOOK: Duration = Duration::from_secs(300);

/// Runs the controller.
pub(super) async fn run(shared: Arc<Shared>) {
    let triggers = changes(&shared);
    control::<AccessPolicy, _, _>("access_policy", shared, triggers, reconcile).await;
}

async fn reconcile(
    object: Arc<DeserializeGuard<AccessPolicy>>,
    shared: Arc<Shared>,
) -> Result<(Action, &'static str), ReconcileError> {
    let (namespace, name) = identity(object.as_ref())?;
    let policy = match &object.0 {
        Ok(policy) => policy,
        Err(invalid) => {
            let message = format!(
                "it cannot be read, and denies every pod of this namespace: {}",
                invalid.error
            );
            let reason = ConditionReason::Malformed;
            let findings = [Finding::bad(ConditionType::Accepted, reason, message)];
            status::unreadable(&shared, &invalid.metadata, &findings).await?;
            return Ok((Action::requeue(LOOK), "Malformed"));
        }
    };
    let missing = dereference(&shared, policy, namespace).await?;
    let findings = validate::validate(policy, namespace, name, &missing);
    let workloads = workloads::selected(&shared, policy, namespace).await?;
    let outcome = status::write(&shared, policy, findings, workloads).await?;
    Ok((Action::requeue(LOOK), outcome))
}

/// What the policy names and nobody may use: paths and sentences.
async fn dereference(
    shared: &Shared,
    policy: &AccessPolicy,
    namespace: &str,
) -> Result<Vec<(ConditionReason, String)>, ReconcileError> {
    let mut missing = Vec::new();
    let stores = &shared.context.stores;
    let labels = stores.namespace_labels(namespace);
    for (index, named) in target::named(policy).enumerate() {
        // What is illegible does not compile, which is said elsewhere.
        let Some((to, name)) = named else { continue };
        let found = stores.connection(to, name);
        let usable = found.is_some_and(|found| target::admits(&found, namespace, labels.as_ref()));
        if !usable {
            missing.push((
                ConditionReason::ConnectionNotFound,
                format!(
                    "spec.connections[{index}]: there is no Connection {to}/{name} that namespace \
                     {namespace} may use; create it, or let its spec.consumers select this \
                     namespace"
                ),
            ));
        }
    }
    let providers: Api<IdentityProvider> = Api::all(shared.context.client.clone());
    for (index, subject) in policy.spec.subjects.iter().enumerate() {
        let Some(identity) = &subject.identity else {
            continue;
        };
        if providers
            .get_metadata_opt(&identity.provider)
            .await?
            .is_none()
        {
            missing.push((
                ConditionReason::RefNotFound,
                format!(
                    "spec.subjects[{index}].identity.provider: there is no IdentityProvider {:?}",
                    identity.provider
                ),
            ));
        }
    }
    Ok(missing)
}
