//! The status of a request: phase, since when, and a Ready condition beside the marks of
//! redemption and cancellation, which are kept as they are.

use chaperone_approvals::resource::phase_of_resource;
use chaperone_approvals::rules::{Evaluation, Phase};
use chaperone_crds::{ApprovalRequest, ApprovalRequestStatus, ConditionType};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::PostParams;
use kube::{Api, Resource};

use crate::FIELD_MANAGER;
use crate::controllers::conditions::{Finding, conditions, whole_seconds};
use crate::controllers::status::identity;
use crate::controllers::{ReconcileError, Shared};

/// Writes how far the request is, if that changed.
pub(super) async fn write(
    shared: &Shared,
    request: &ApprovalRequest,
    evaluation: &Evaluation,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    let finding = Finding {
        kind: ConditionType::Ready,
        // Ready once there is nothing more to wait for.
        good: evaluation.phase != Phase::Pending,
        reason: evaluation.phase.reason().as_str().to_owned(),
        message: message(evaluation),
    };
    let old = request.status.clone().unwrap_or_default();
    let phase = Some(phase_of_resource(evaluation.phase));
    let status = ApprovalRequestStatus {
        changed_at: match old.phase == phase {
            true => old.changed_at.clone(),
            false => Some(Time(whole_seconds(now))),
        },
        phase,
        consumed_by: old.consumed_by.clone(),
        conditions: beside_marks(&old, &finding, request.metadata.generation, now),
    };
    let moved = old.phase != phase;
    if replace(shared, request, &old, status).await? && moved {
        let good = !matches!(evaluation.phase, Phase::Denied | Phase::Expired);
        let about = request.object_ref(&());
        let events = &shared.events;
        events
            .publish(&about, good, &finding.reason, "Review", &finding.message)
            .await;
    }
    Ok(())
}

/// Writes that the request is not as it was written.
pub(super) async fn unreadable(
    shared: &Shared,
    request: &ApprovalRequest,
    why: &str,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    let finding = Finding::bad(
        ConditionType::Ready,
        chaperone_crds::ConditionReason::Malformed,
        format!("{why}; it grants nothing, delete it"),
    );
    let old = request.status.clone().unwrap_or_default();
    let status = ApprovalRequestStatus {
        conditions: beside_marks(&old, &finding, request.metadata.generation, now),
        ..old.clone()
    };
    replace(shared, request, &old, status).await.map(|_| ())
}

/// The Ready condition, and all others as they are.
fn beside_marks(
    old: &ApprovalRequestStatus,
    finding: &Finding,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    let ready = std::slice::from_ref(finding);
    let mut all = conditions(&old.conditions, ready, generation, now);
    let marks = old.conditions.iter();
    all.extend(
        marks
            .filter(|mark| mark.type_ != finding.kind.as_str())
            .cloned(),
    );
    all
}

/// Replaces the status if nobody wrote since it was read; whether it was written. A lost race
/// needs no retry: whoever won has made an event to look at.
async fn replace(
    shared: &Shared,
    request: &ApprovalRequest,
    old: &ApprovalRequestStatus,
    status: ApprovalRequestStatus,
) -> Result<bool, ReconcileError> {
    if status == *old {
        return Ok(false);
    }
    let (namespace, name) = identity(request)?;
    let api: Api<ApprovalRequest> = Api::namespaced(shared.context.client.clone(), namespace);
    let mut written = request.clone();
    written.status = Some(status);
    let ours = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api.replace_status(name, &ours, &written).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Who said what, and what is still missing.
fn message(evaluation: &Evaluation) -> String {
    let by = |evaluation: &Evaluation| {
        let names: Vec<&str> = evaluation
            .reviews
            .iter()
            .map(|review| review.reviewer.as_str())
            .collect();
        names.join(", ")
    };
    match evaluation.phase {
        Phase::Pending => {
            let missing: Vec<String> = evaluation
                .progress
                .iter()
                .filter(|(_, given, quorum)| given < quorum)
                .map(|(rule, given, quorum)| format!("{rule}: {given} of {quorum}"))
                .collect();
            format!("waits for approvals: {}", missing.join("; "))
        }
        Phase::Approved => format!(
            "approved by {}; good for one command until {}",
            by(evaluation),
            evaluation.open_until
        ),
        Phase::Denied => {
            let denied = evaluation
                .reviews
                .iter()
                .find(|review| review.verdict == chaperone_approvals::Verdict::Deny);
            let who = denied.map_or("somebody", |review| review.reviewer.as_str());
            format!("denied by {who}")
        }
        Phase::Expired if evaluation.approved_at.is_some() => {
            "approved, and not used in time".to_owned()
        }
        Phase::Expired => "nobody answered in time".to_owned(),
        Phase::Cancelled => "the client went away before anybody answered".to_owned(),
        Phase::Consumed => format!("approved by {}; used", by(evaluation)),
    }
}
