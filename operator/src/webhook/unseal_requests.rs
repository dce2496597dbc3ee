//! `/mutate/unsealrequests`: writes who asks into a request for keys.
//!
//! It is who the API server says the caller is, and nobody else. Whether he may ask is for the
//! ValidatingAdmissionPolicy, which sees the result and trusts this webhook no more than any other
//! writer.

use chaperone_crds::{ConditionReason, Requester, UnsealRequest};
use kube::core::admission::Operation;
use serde_json::Value;

use super::Request;
use super::answer::Answer;
use super::caller;

pub(super) fn admit(request: &Request) -> Answer {
    let Some(object) = &request.object else {
        return Answer::admitted();
    };
    if request.operation != Operation::Create || request.sub_resource.is_some() {
        return Answer::admitted();
    }
    let before = serde_json::to_value(object).unwrap_or_default();
    let Ok(new) = serde_json::from_value::<UnsealRequest>(before.clone()) else {
        // The schema was checked before; what it lets through is for the policy.
        return Answer::admitted();
    };
    let Some(user) = caller::name(request) else {
        return refused("your user name is empty or longer than 253 characters");
    };
    let requester = Requester {
        user,
        groups: caller::groups(request, &[]),
    };
    match new.spec.requester {
        None => match stamped(&before, &requester) {
            Some(after) => Answer::changed(before, after, Vec::new()),
            None => Answer::denied(ConditionReason::Internal, "the request cannot be written"),
        },
        Some(said) if said == requester => Answer::admitted(),
        Some(_) => refused("who asks is written for you; leave spec.requester out"),
    }
}

fn refused(message: &str) -> Answer {
    Answer::denied(ConditionReason::UnsealRefused, message)
}

fn stamped(before: &Value, requester: &Requester) -> Option<Value> {
    let mut after = before.clone();
    let spec = after.get_mut("spec")?.as_object_mut()?;
    let requester = serde_json::to_value(requester).ok()?;
    spec.insert("requester".to_owned(), requester);
    Some(after)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use kube::core::admission::AdmissionReview;

    fn ask(more: &str) -> Answer {
        let recipient = "age1g25jpje2xd9dxjc9cek5uhwltg66j8e0al6xjc4n8rhpfqad3cdsx7g5ra";
        let object: Value = serde_saphyr::from_str(&format!(
            "{{apiVersion: chaperone.dev/v1alpha1, kind: UnsealRequest, metadata: {{name: ur-1}}, \
             spec: {{sessions: ['0123456789abcdef'], recipient: {recipient}{more}}}}}"
        ))
        .unwrap();
        let text = format!(
            "{{apiVersion: admission.k8s.io/v1, kind: AdmissionReview, request: {{uid: u, \
             kind: {{group: chaperone.dev, version: v1alpha1, kind: UnsealRequest}}, \
             resource: {{group: chaperone.dev, version: v1alpha1, resource: unsealrequests}}, \
             name: ur-1, operation: CREATE, dryRun: false, \
             userInfo: {{username: jane, groups: [audit]}}, object: {object}}}}}"
        );
        let review: AdmissionReview<kube::core::DynamicObject> =
            serde_saphyr::from_str(&text).unwrap();
        admit(&review.try_into().unwrap())
    }

    #[test]
    fn a_request_is_in_its_callers_name() {
        let answer = ask("");
        let after = answer.outcome().unwrap();
        assert_eq!(after["spec"]["requester"]["user"], "jane");
        assert_eq!(after["spec"]["requester"]["groups"][0], "audit");
    }

    #[test]
    fn nobody_asks_in_anothers_name() {
        for forged in [
            ", requester: {user: joe}",
            ", requester: {user: jane}",
            ", requester: {user: jane, groups: [audit, dba]}",
        ] {
            let answer = ask(forged);
            let (reason, _) = answer.denial().unwrap();
            assert_eq!(reason, ConditionReason::UnsealRefused, "{forged}");
        }
        let own = ask(", requester: {user: jane, groups: [audit]}");
        assert!(own.denial().is_none() && own.outcome().is_none());
    }
}
