//! `/mutate/approvalrequests`: turns a `decision` into a review in the name of whoever wrote it.
//!
//! The reviewer is who the API server says the caller is, and nobody else. Whether he may review
//! is for the ValidatingAdmissionPolicies, which see the result and trust this webhook no more
//! than any other writer.

use chaperone_crds::{ApprovalRequest, ConditionReason, Review};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::admission::Operation;
use serde_json::Value;

use super::Request;
use super::answer::Answer;
use super::caller;

/// Most reviews of a request.
const MOST_REVIEWS: usize = 16;

pub(super) fn admit(request: &Request, now: Timestamp) -> Answer {
    let Some(object) = &request.object else {
        return Answer::admitted();
    };
    if request.operation != Operation::Update || request.sub_resource.is_some() {
        return Answer::admitted();
    }
    let before = serde_json::to_value(object).unwrap_or_default();
    let Ok(new) = serde_json::from_value::<ApprovalRequest>(before.clone()) else {
        // The schema was checked before; what it lets through is for the policies.
        return Answer::admitted();
    };
    let Some(decision) = new.spec.decision else {
        return Answer::admitted();
    };
    let old = request.old_object.as_ref();
    let old = old.and_then(|old| serde_json::to_value(old).ok());
    let old = old.and_then(|old| serde_json::from_value::<ApprovalRequest>(old).ok());
    let reviewed = old.map(|old| old.spec.reviews).unwrap_or_default();
    if reviewed != new.spec.reviews {
        return refused(
            "reviews are made from decisions and never written; send spec.decision alone",
        );
    }
    let Some(reviewer) = caller::name(request) else {
        return refused("your user name is empty or longer than 253 characters");
    };
    if reviewed.iter().any(|review| review.reviewer == reviewer) {
        return refused("you have reviewed this request; a review is not changed and counts once");
    }
    if reviewed.len() >= MOST_REVIEWS {
        return refused("this request has all the reviews that it can hold");
    }
    let review = Review {
        reviewer,
        groups: caller::groups(request, &new.spec.approvers.groups),
        verdict: decision.verdict,
        reason: decision.reason,
        at: Time(now),
    };
    match stamped(&before, &review) {
        Some(after) => Answer::changed(before, after, Vec::new()),
        None => Answer::denied(ConditionReason::Internal, "the review cannot be written"),
    }
}

fn refused(message: &str) -> Answer {
    Answer::denied(ConditionReason::ReviewRefused, message)
}

/// The object with the review instead of the decision, and all else as it came.
fn stamped(before: &Value, review: &Review) -> Option<Value> {
    let mut after = before.clone();
    let spec = after.get_mut("spec")?.as_object_mut()?;
    spec.remove("decision");
    let reviews = spec
        .entry("reviews")
        .or_insert_with(|| Value::Array(Vec::new()));
    reviews
        .as_array_mut()?
        .push(serde_json::to_value(review).ok()?);
    Some(after)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use kube::core::admission::AdmissionReview;

    const SPEC: &str = r#"
        connection: databases/orders-db
        subject: {namespace: shop, serviceAccount: report-agent}
        rule: {policy: shop/report-agent, name: deletes, digest: aa}
        operation: {summary: DELETE, command: DELETE FROM t, digest: bb}
        approvers: {groups: [dba]}
        quorum: 2
        expiresAt: "2025-06-01T00:00:00Z"
        validFor: 15m
"#;

    fn object(more: &str) -> Value {
        let text = format!(
            "apiVersion: chaperone.dev/v1alpha1\nkind: ApprovalRequest\n\
             metadata: {{name: ar-1, namespace: shop}}\nspec:{SPEC}{more}"
        );
        serde_saphyr::from_str(&text).unwrap()
    }

    fn ask(user: &str, old: &Value, new: &Value) -> Answer {
        let gvk = "{group: chaperone.dev, version: v1alpha1, kind: ApprovalRequest}";
        let gvr = "{group: chaperone.dev, version: v1alpha1, resource: approvalrequests}";
        let text = format!(
            "{{apiVersion: admission.k8s.io/v1, kind: AdmissionReview, request: {{uid: u, \
             kind: {gvk}, resource: {gvr}, name: ar-1, namespace: shop, operation: UPDATE, \
             dryRun: false, userInfo: {{username: {user}, groups: [a, dba]}}, \
             object: {new}, oldObject: {old}}}}}"
        );
        let review: AdmissionReview<kube::core::DynamicObject> =
            serde_saphyr::from_str(&text).unwrap();
        admit(
            &review.try_into().unwrap(),
            "2025-05-31T00:00:00Z".parse().unwrap(),
        )
    }

    fn patched(answer: &Answer) -> Result<Value, String> {
        match answer.denial() {
            Some((_, message)) => Err(message.to_owned()),
            None => Ok(answer.outcome().unwrap().clone()),
        }
    }

    const DECISION: &str = "        decision: {verdict: Approve, reason: ticket 42}\n";

    #[test]
    fn a_decision_becomes_a_review_in_the_callers_name() {
        let new = object(DECISION);
        let after = patched(&ask("jane", &object(""), &new)).unwrap();
        let review = &after["spec"]["reviews"][0];
        assert_eq!(review["reviewer"], "jane");
        assert_eq!(
            review["groups"],
            serde_saphyr::from_str::<Value>("[dba, a]").unwrap()
        );
        assert_eq!(review["verdict"], "Approve");
        assert_eq!(review["reason"], "ticket 42");
        assert!(after["spec"].get("decision").is_none());
    }

    const REVIEW: &str =
        "        reviews: [{reviewer: jane, verdict: Approve, at: \"2025-05-30T00:00:00Z\"}]\n";

    #[test]
    fn a_second_reviewer_adds_to_the_first() {
        let new = object(&format!("{REVIEW}{DECISION}"));
        let after = patched(&ask("joe", &object(REVIEW), &new)).unwrap();
        assert_eq!(after["spec"]["reviews"].as_array().unwrap().len(), 2);
        assert_eq!(after["spec"]["reviews"][1]["reviewer"], "joe");
    }

    #[test]
    fn one_person_reviews_once() {
        let new = object(&format!("{REVIEW}{DECISION}"));
        let message = patched(&ask("jane", &object(REVIEW), &new)).unwrap_err();
        assert!(message.contains("counts once"), "{message}");
    }

    #[test]
    fn forged_reviews_are_refused() {
        let new = object(&format!("{REVIEW}{DECISION}"));
        assert!(patched(&ask("joe", &object(""), &new)).is_err());
        let gone = object(DECISION);
        assert!(patched(&ask("joe", &object(REVIEW), &gone)).is_err());
    }

    #[test]
    fn an_update_without_decision_is_left_alone() {
        let answer = ask("jane", &object(""), &object(""));
        assert!(answer.denial().is_none() && answer.outcome().is_none());
    }
}
