//! ApprovalRequests of a cluster: read, and answered as `kubectl patch` would.

use chaperone_approvals::rules::{ReviewerProof, evaluate};
use chaperone_approvals::{ApprovalError, Entry, Verdict, is_name, resource};
use chaperone_crds::{ApprovalDecision, ApprovalRequest, ApprovalVerdict};
use jiff::Timestamp;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::{DeserializeGuard, ObjectMeta};
use serde::Serialize;

use super::fetch::all;
use super::{Cluster, api_failure};
use crate::error::CliError;

/// What `approve` and `deny` write.
#[derive(Debug, Serialize)]
struct Answer {
    spec: AnswerSpec,
}

#[derive(Debug, Serialize)]
struct AnswerSpec {
    decision: ApprovalDecision,
}

/// All requests of the namespace that was given, or of all; each as far as it can be read.
pub(super) fn list(cluster: &Cluster) -> Result<Vec<Result<Entry, CliError>>, CliError> {
    let found = select(cluster, &ListParams::default())?;
    let mut entries: Vec<Result<Entry, CliError>> = found.into_iter().map(entry).collect();
    // Newest first, as a folder's are.
    entries
        .sort_by_key(|entry| std::cmp::Reverse(entry.as_ref().ok().map(|entry| entry.created_at)));
    Ok(entries)
}

/// The one request of this name.
pub(super) fn get(cluster: &Cluster, name: &str) -> Result<Entry, CliError> {
    // A name from the command line becomes part of a selector and of a path.
    if !is_name(name) {
        return Err(ApprovalError::NotFound(name.to_owned()).into());
    }
    let only = ListParams::default().fields(&format!("metadata.name={name}"));
    let mut found = select(cluster, &only)?;
    match (found.pop(), found.as_slice()) {
        (Some(one), []) => entry(one),
        (None, _) => Err(ApprovalError::NotFound(name.to_owned()).into()),
        (Some(one), others) => {
            let namespaces: Vec<&str> = others
                .iter()
                .chain([&one])
                .filter_map(|request| metadata(request).namespace.as_deref())
                .collect();
            Err(CliError::Usage(format!(
                "several requests are named {name}, in {}; say which with -n NAMESPACE",
                namespaces.join(", ")
            )))
        }
    }
}

/// Writes a decision, which admission turns into a review in the caller's name.
pub(super) fn review(
    cluster: &Cluster,
    name: &str,
    verdict: Verdict,
    reason: &str,
) -> Result<Entry, CliError> {
    let waiting = get(cluster, name)?;
    let namespace = waiting.request.metadata.namespace.unwrap_or_default();
    let answer = Answer {
        spec: AnswerSpec {
            decision: ApprovalDecision {
                verdict: match verdict {
                    Verdict::Approve => ApprovalVerdict::Approve,
                    Verdict::Deny => ApprovalVerdict::Deny,
                },
                reason: (!reason.is_empty()).then(|| reason.to_owned()),
            },
        },
    };
    let api: Api<ApprovalRequest> = Api::namespaced(cluster.client(), &namespace);
    let patch = Patch::Merge(&answer);
    let params = PatchParams::default();
    match cluster.wait(api.patch(name, &params, &patch)) {
        Ok(request) => entry(DeserializeGuard(Ok(request))),
        Err(kube::Error::Api(status)) if is_refusal(&status) => Err(CliError::Refused {
            name: name.to_owned(),
            why: refusal(&status.message),
        }),
        Err(error) => Err(api_failure("answer the request", &error)),
    }
}

fn select(
    cluster: &Cluster,
    selection: &ListParams,
) -> Result<Vec<DeserializeGuard<ApprovalRequest>>, CliError> {
    let api: Api<DeserializeGuard<ApprovalRequest>> = match &cluster.namespace {
        Some(namespace) => Api::namespaced(cluster.client(), namespace),
        None => Api::all(cluster.client()),
    };
    cluster
        .wait(all(&api, selection, |found| found, |_| {}))
        .map_err(|error| match (&error, &cluster.namespace) {
            (kube::Error::Api(status), None) if status.is_forbidden() => CliError::Cluster {
                what: "cannot list the requests of all namespaces".to_owned(),
                why: format!("{}; name one with -n NAMESPACE", status.message),
            },
            _ => api_failure("list the approval requests", &error),
        })
}

fn metadata(request: &DeserializeGuard<ApprovalRequest>) -> &ObjectMeta {
    match &request.0 {
        Ok(request) => &request.metadata,
        Err(unreadable) => &unreadable.metadata,
    }
}

/// What its reviews amount to. Whether it is sealed only the operator can tell, who will.
fn entry(request: DeserializeGuard<ApprovalRequest>) -> Result<Entry, CliError> {
    let name = metadata(&request).name.clone().unwrap_or_default();
    let namespace = metadata(&request).namespace.clone().unwrap_or_default();
    let unreadable = |why: String| CliError::Request {
        name: format!("{namespace}/{name}"),
        why,
    };
    let mut request = request.0.map_err(|error| unreadable(error.error))?;
    // Who wrote which field is the API server's book-keeping, and longer than the rest.
    request.metadata.managed_fields = None;
    let (request, facts) = resource::unsealed(request).map_err(unreadable)?;
    Ok(Entry {
        name,
        evaluation: evaluate(&facts, ReviewerProof::Authenticated, Timestamp::now()),
        created_at: facts.created_at,
        request,
    })
}

/// Whether the API server understood, and says no.
fn is_refusal(status: &kube::core::Status) -> bool {
    matches!(status.code, 400 | 403 | 409 | 422)
}

/// The one sentence of a refusal that is meant for people: what admission said, without who
/// said it.
fn refusal(message: &str) -> String {
    let said = ["denied the request: ", "denied request: "]
        .iter()
        .find_map(|mark| Some(message.split_once(mark)?.1))
        .unwrap_or(message);
    said.trim().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_refusal_is_one_sentence() {
        for (message, sentence) in [
            (
                "admission webhook \"approvalrequests.chaperone.dev\" denied the request: ReviewRefused: one reviewer counts once",
                "ReviewRefused: one reviewer counts once",
            ),
            (
                "approvalrequests.chaperone.dev \"ar-1\" is forbidden: ValidatingAdmissionPolicy 'chaperone-reviews' with binding 'chaperone-reviews' denied request: not among the approvers (dba).",
                "not among the approvers (dba)",
            ),
            (
                "User \"eve\" cannot patch resource",
                "User \"eve\" cannot patch resource",
            ),
        ] {
            assert_eq!(refusal(message), sentence);
        }
    }

    #[test]
    fn an_answer_is_the_patch_that_kubectl_would_send() {
        let answer = |reason: Option<&str>| Answer {
            spec: AnswerSpec {
                decision: ApprovalDecision {
                    verdict: ApprovalVerdict::Approve,
                    reason: reason.map(str::to_owned),
                },
            },
        };
        assert_eq!(
            serde_json::to_string(&answer(Some("ticket 42"))).unwrap(),
            r#"{"spec":{"decision":{"verdict":"Approve","reason":"ticket 42"}}}"#
        );
        assert_eq!(
            serde_json::to_string(&answer(None)).unwrap(),
            r#"{"spec":{"decision":{"verdict":"Approve"}}}"#
        );
    }
}
