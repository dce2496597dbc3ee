//! UnsealRequest: answered by the leader, once; deleted an hour after it was made. Who may ask is
//! for the admission policy; what is written into the log first, for `audit/unseal`.

use std::sync::Arc;
use std::time::Duration;

use chaperone_crds::{ConditionReason, ConditionType, UnsealRequest, UnsealRequestStatus};
use futures::stream;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};

use super::conditions::{Finding, conditions, whole_seconds};
use super::status::apply_cluster_scoped;
use super::{ReconcileError, Shared, control};
use crate::audit::{UnsealError, Unsealed};

/// How long a request stays, answered or not: its answer is for who waits for it.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// Pause before one is tried again that could not be answered.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest pause between two looks.
const LOOK: Duration = Duration::from_secs(3600);

/// Runs the controller.
pub(super) async fn run(shared: Arc<Shared>) {
    let nothing_else = stream::pending();
    control::<UnsealRequest, _, _>("unseal_request", shared, nothing_else, reconcile).await;
}

async fn reconcile(
    object: Arc<DeserializeGuard<UnsealRequest>>,
    shared: Arc<Shared>,
) -> Result<(Action, &'static str), ReconcileError> {
    let Ok(request) = &object.0 else {
        return Ok((Action::requeue(LOOK), "Malformed"));
    };
    let made = request.metadata.creation_timestamp.as_ref();
    let made = made.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let left = KEPT - Timestamp::now().duration_since(made);
    let Some(left) = Duration::try_from(left).ok().filter(|left| !left.is_zero()) else {
        delete(&shared, request).await?;
        return Ok((Action::await_change(), "Deleted"));
    };
    let old = request.status.clone().unwrap_or_default();
    if old.answered_at.is_some() {
        return Ok((Action::requeue(left.min(LOOK)), "Answered"));
    }
    let answered = shared.unsealer.unseal(&shared.context, request).await;
    let pause = match &answered {
        Err(error) if error.may_pass() => PAUSE,
        _ => left.min(LOOK),
    };
    let reason = write(&shared, request, &old, answered).await?;
    Ok((Action::requeue(pause), reason.as_str()))
}

/// Writes the answer; its reason.
async fn write(
    shared: &Shared,
    request: &UnsealRequest,
    old: &UnsealRequestStatus,
    answered: Result<Unsealed, UnsealError>,
) -> Result<ConditionReason, ReconcileError> {
    let final_word = answered
        .as_ref()
        .err()
        .is_none_or(|error| !error.may_pass());
    let (reason, finding) = match &answered {
        Ok(unsealed) => {
            let reason = ConditionReason::Unsealed;
            let good = Finding::good(ConditionType::Ready, reason, told(request, unsealed));
            (reason, good)
        }
        Err(error) => {
            let reason = error.reason();
            let bad = Finding::bad(ConditionType::Ready, reason, error.to_string());
            (reason, bad)
        }
    };
    let now = Timestamp::now();
    let findings = std::slice::from_ref(&finding);
    let generation = request.metadata.generation;
    let mut status = UnsealRequestStatus {
        conditions: conditions(&old.conditions, findings, generation, now),
        answered_at: final_word.then(|| Time(whole_seconds(now))),
        ..UnsealRequestStatus::default()
    };
    if let Ok(unsealed) = answered {
        status.evidence = Some(unsealed.evidence);
        status.opened = Some(unsealed.opened);
        status.shut = unsealed.shut;
        status.keys = Some(ByteString(unsealed.keys));
    }
    let (client, name) = (&shared.context.client, request.name_any());
    apply_cluster_scoped::<UnsealRequest, _>(client, &name, &status).await?;
    let unseals = &shared.context.metrics.audit.unseals;
    unseals.with_label_values(&[reason.as_str()]).inc();
    if finding.is_news(&old.conditions) {
        let about = request.object_ref(&());
        shared
            .events
            .publish(
                &about,
                finding.good,
                &finding.reason,
                "Unseal",
                &finding.message,
            )
            .await;
    }
    Ok(reason)
}

fn told(request: &UnsealRequest, unsealed: &Unsealed) -> String {
    let user = request.spec.requester.as_ref();
    let user = user.map_or("somebody", |requester| requester.user.as_str());
    let shut = match unsealed.shut.len() {
        0 => String::new(),
        shut => format!("; {shut} stay shut, which are sealed for others or not there"),
    };
    format!(
        "{user} was given the keys of {} sessions, as AuditSegment/{} says{shut}",
        unsealed.opened, unsealed.evidence
    )
}

async fn delete(shared: &Shared, request: &UnsealRequest) -> Result<(), ReconcileError> {
    let api: Api<DeserializeGuard<UnsealRequest>> = Api::all(shared.context.client.clone());
    let this_one = DeleteParams {
        preconditions: Some(Preconditions {
            uid: request.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(&request.name_any(), &this_one).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
