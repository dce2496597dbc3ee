//! ApprovalRequest: shows people how far a request is, and deletes it a day after its end.
//!
//! Nothing is granted here. Whoever redeems counts the reviews anew; what is written is for
//! reading, and never takes away the mark of a redemption: the status is replaced only if nobody
//! wrote the request since it was read.

mod status;

use std::sync::Arc;
use std::time::Duration;

use chaperone_approvals::resource::{self, Sealing};
use chaperone_approvals::rules::{self, ReviewerProof};
use chaperone_crds::ApprovalRequest;
use futures::stream;
use jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;

use super::status::identity;
use super::{ReconcileError, Shared, control};

/// How long a finished request stays to be looked at.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// How long one stays that is not as it was written and so has no end of its own.
const KEPT_UNREADABLE: SignedDuration = SignedDuration::from_hours(24 * 7);
/// Longest pause between two looks.
const LOOK: Duration = Duration::from_secs(3600);

/// Runs the controller.
pub(super) async fn run(shared: Arc<Shared>) {
    let nothing_else = stream::pending();
    control::<ApprovalRequest, _, _>("approval_request", shared, nothing_else, reconcile).await;
}

async fn reconcile(
    object: Arc<DeserializeGuard<ApprovalRequest>>,
    shared: Arc<Shared>,
) -> Result<(Action, &'static str), ReconcileError> {
    let (namespace, name) = identity(object.as_ref())?;
    let now = Timestamp::now();
    // One that has another shape has no status that we could change either.
    let Ok(request) = &object.0 else {
        return Ok((Action::requeue(LOOK), "Malformed"));
    };
    let key = shared.digest_key.get().await?;
    let read = resource::read(name, request.clone(), Sealing::Cluster(key.expose()));
    let (evaluation, ends_at, kept) = match read {
        Ok(stored) => {
            let evaluation = rules::evaluate(&stored.facts, ReviewerProof::Authenticated, now);
            let ends_at = evaluation.ended_at;
            (Ok(evaluation), ends_at, KEPT)
        }
        Err(why) => {
            let made = request.metadata.creation_timestamp.as_ref();
            (Err(why), made.map(|time| time.0), KEPT_UNREADABLE)
        }
    };
    if let Some(gone_at) = ends_at.and_then(|at| at.checked_add(kept).ok())
        && gone_at <= now
    {
        delete(&shared, request, namespace, name).await?;
        return Ok((Action::await_change(), "Deleted"));
    }
    let outcome = match &evaluation {
        Ok(evaluation) => {
            status::write(&shared, request, evaluation, now).await?;
            evaluation.phase.as_str()
        }
        Err(why) => {
            status::unreadable(&shared, request, why, now).await?;
            "Malformed"
        }
    };
    // Looked at again when it runs out, or when it may be deleted.
    let next = match (&evaluation, ends_at) {
        (Ok(evaluation), None) => Some(evaluation.open_until),
        (_, Some(ended_at)) => ended_at.checked_add(kept).ok(),
        (Err(_), None) => None,
    };
    let pause = next
        .and_then(|next| Duration::try_from(next.duration_since(now)).ok())
        .unwrap_or(LOOK);
    let pause = pause.saturating_add(Duration::from_millis(200)).min(LOOK);
    Ok((Action::requeue(pause), outcome))
}

async fn delete(
    shared: &Shared,
    request: &ApprovalRequest,
    namespace: &str,
    name: &str,
) -> Result<(), ReconcileError> {
    let api: Api<DeserializeGuard<ApprovalRequest>> =
        Api::namespaced(shared.context.client.clone(), namespace);
    let as_it_was = DeleteParams {
        preconditions: Some(Preconditions {
            uid: request.metadata.uid.clone(),
            resource_version: request.metadata.resource_version.clone(),
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &as_it_was).await {
        Ok(_) => Ok(()),
        // Gone, or changed and looked at again for that.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
