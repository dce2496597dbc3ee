//! How many workloads a resource concerns: injected pods, counted by what owns them, so that a
//! Deployment's replicas are one.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chaperone_crds::AccessPolicy;
use chaperone_inject::Wanted;
use chaperone_inject::names::INJECTED_ANNOTATION;
use k8s_openapi::api::core::v1::Pod;
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};

use super::{ReconcileError, Shared};
use crate::target;

type InjectedPod = Arc<PartialObjectMeta<Pod>>;

/// Workloads that use a Connection.
pub(super) fn using(shared: &Shared, namespace: &str, name: &str) -> u32 {
    let pods = shared.context.stores.pods.state();
    let using = pods.iter().filter(|pod| {
        uses(pod, |to_namespace, to_name| {
            (to_namespace, to_name) == (namespace, name)
        })
    });
    owners(using)
}

/// Workloads that a policy selects, over a Connection that it names: by labels and by service
/// account. Who will present which token is not known beforehand, so `identity` selects none here.
pub(super) async fn selected(
    shared: &Shared,
    policy: &AccessPolicy,
    namespace: &str,
) -> Result<u32, ReconcileError> {
    let subjects = &policy.spec.subjects;
    let all = shared.context.stores.pods.state();
    let mut selected = Vec::new();
    for pod in &all {
        let own = pod.metadata.namespace.as_deref() == Some(namespace);
        if !own || !uses(pod, |to, name| target::names(policy, to, name)) {
            continue;
        }
        let labelled = subjects.iter().any(|subject| {
            let selector = subject.pod_selector.as_ref();
            selector.is_some_and(|selector| selector.matches(pod.labels()))
        });
        let by_account = subjects
            .iter()
            .any(|subject| subject.service_account.is_some());
        if labelled || (by_account && shared.accounts.is_one_of(shared, pod, policy).await?) {
            selected.push(pod);
        }
    }
    shared.accounts.forget_others(&all);
    Ok(owners(selected.into_iter()))
}

/// Service accounts of injected pods, by UID. The watch shows metadata only, which does not say;
/// a pod's never changes, so each is asked for once.
#[derive(Default)]
pub(super) struct Accounts(Mutex<HashMap<String, String>>);

impl Accounts {
    /// Whether the pod's is among the policy's subjects. One that is gone is nobody's.
    async fn is_one_of(
        &self,
        shared: &Shared,
        pod: &InjectedPod,
        policy: &AccessPolicy,
    ) -> Result<bool, ReconcileError> {
        let (Some(uid), Some(namespace)) = (&pod.metadata.uid, &pod.metadata.namespace) else {
            return Ok(false);
        };
        let is_named = |account: &String| {
            let mut subjects = policy.spec.subjects.iter();
            subjects.any(|subject| subject.service_account.as_ref() == Some(account))
        };
        if let Some(known) = self.lock().get(uid) {
            return Ok(is_named(known));
        }
        let api: Api<Pod> = Api::namespaced(shared.context.client.clone(), namespace);
        let found = api.get_opt(&pod.name_any()).await?;
        let Some(found) = found.filter(|found| found.metadata.uid.as_ref() == Some(uid)) else {
            return Ok(false);
        };
        let account = found.spec.and_then(|spec| spec.service_account_name);
        let account = account.unwrap_or_default();
        let named = is_named(&account);
        self.lock().insert(uid.clone(), account);
        Ok(named)
    }

    /// Keeps what is known of pods that are there, once there is more to forget than to keep.
    fn forget_others(&self, pods: &[InjectedPod]) {
        let mut known = self.lock();
        if known.len() > pods.len().saturating_mul(2) {
            let there: BTreeSet<&String> = pods
                .iter()
                .filter_map(|pod| pod.metadata.uid.as_ref())
                .collect();
            known.retain(|uid, _| there.contains(uid));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a pod was injected for a Connection that fits.
fn uses(pod: &PartialObjectMeta<Pod>, fits: impl Fn(&str, &str) -> bool) -> bool {
    let own = pod.metadata.namespace.as_deref().unwrap_or_default();
    let injected = pod.annotations().contains_key(INJECTED_ANNOTATION);
    injected
        && Wanted::read(pod.annotations(), own).is_ok_and(|wanted| {
            let mut connections = wanted.connections.iter();
            connections.any(|wanted| fits(&wanted.namespace, &wanted.name))
        })
}

fn owners<'a>(pods: impl Iterator<Item = &'a InjectedPod>) -> u32 {
    let owners: BTreeSet<_> = pods
        .map(|pod| (pod.metadata.namespace.as_deref(), owner(pod)))
        .collect();
    u32::try_from(owners.len()).unwrap_or(u32::MAX)
}

/// Kind and name of what made a pod.
fn owner(pod: &PartialObjectMeta<Pod>) -> (String, String) {
    let controller = pod
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true));
    let Some(controller) = controller else {
        return ("Pod".to_owned(), pod.name_any());
    };
    let hash = pod.labels().get("pod-template-hash");
    // Old and new replicas of one Deployment are one workload.
    let deployment = hash.and_then(|hash| {
        let name = controller.name.strip_suffix(hash.as_str())?;
        name.strip_suffix('-')
    });
    match deployment {
        Some(name) if controller.kind == "ReplicaSet" => ("Deployment".to_owned(), name.to_owned()),
        _ => (controller.kind.clone(), controller.name.clone()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn pod(name: &str, owner: &str, injected: bool) -> InjectedPod {
        let injected = match injected {
            true => ", chaperone.dev/injected: abc",
            false => "",
        };
        let text = format!(
            "
apiVersion: meta.k8s.io/v1
kind: PartialObjectMetadata
metadata:
  name: {name}
  namespace: shop
  labels: {{pod-template-hash: h1}}
  annotations: {{chaperone.dev/connections: 'databases/orders-db,own'{injected}}}
  ownerReferences: {owner}
"
        );
        Arc::new(serde_saphyr::from_str(&text).unwrap())
    }

    fn of(kind: &str, name: &str) -> String {
        format!("[{{apiVersion: v1, kind: {kind}, name: {name}, uid: u, controller: true}}]")
    }

    #[test]
    fn replicas_of_one_deployment_are_one_workload() {
        let pods = [
            pod("a", &of("ReplicaSet", "report-h1"), true),
            pod("b", &of("ReplicaSet", "report-h1"), true),
            pod("c", &of("ReplicaSet", "bare"), true),
            pod("d", &of("Job", "nightly"), true),
            pod("e", "[]", true),
        ];
        assert_eq!(owners(pods.iter()), 4);
    }

    #[test]
    fn only_injected_pods_use_what_they_name() {
        let to = |namespace: &'static str, name: &'static str| {
            move |to: &str, found: &str| (to, found) == (namespace, name)
        };
        let injected = pod("a", "[]", true);
        assert!(uses(&injected, to("databases", "orders-db")));
        assert!(uses(&injected, to("shop", "own")));
        assert!(!uses(&injected, to("databases", "own")));
        assert!(!uses(&pod("a", "[]", false), to("databases", "orders-db")));
    }
}
