//! Whether agents are on the path: injected, their sidecars running, and of the right image.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chaperone_inject::names::{
    CONNECTIONS_ANNOTATION, CONTAINER, COPIED_ANNOTATION, GOVERNED_LABEL, INJECTED_ANNOTATION,
};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::ResourceExt;

use super::gather::{Facts, seen};
use super::{Checked, Finding};
use crate::output::counted;
use crate::time::between;

/// How long a pod may take to start before it is found wanting.
const STARTING: Duration = Duration::from_secs(120);
/// Annotation on pods that a kubelet runs from a file (Kubernetes, Static Pods).
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A workload that makes pods.
struct Workload {
    namespace: String,
    selector: LabelSelector,
}

/// Every pod of a governed namespace has its sidecar, and it runs.
pub(super) fn governed(facts: &Facts) -> Checked {
    let governed: BTreeSet<String> = governed_namespaces(facts)?;
    let pods = seen(&facts.pods)?.iter();
    let pods: Vec<&Pod> = pods
        .filter(|pod| lives(pod) && governed.contains(&pod.namespace().unwrap_or_default()))
        .collect();
    let of = counted(governed.len() as u64, "namespace", "namespaces");
    Ok(each_on_the_path(&pods, &format!("in {of}"), facts))
}

/// Every pod of an annotated workload has its sidecar, and it runs.
pub(super) fn annotated(facts: &Facts) -> Checked {
    let governed = governed_namespaces(facts)?;
    let workloads = annotated_workloads(facts)?;
    let pods = seen(&facts.pods)?.iter();
    let pods: Vec<&Pod> = pods
        .filter(|pod| {
            let namespace = pod.namespace().unwrap_or_default();
            // Those were told of already.
            let elsewhere = !governed.contains(&namespace);
            let asked = pod.annotations().contains_key(CONNECTIONS_ANNOTATION)
                || workloads.iter().any(|workload| {
                    workload.namespace == namespace && matches(&workload.selector, pod.labels())
                });
            elsewhere && asked && lives(pod)
        })
        .collect();
    let of = counted(workloads.len() as u64, "workload", "workloads");
    Ok(each_on_the_path(&pods, &format!("of {of}"), facts))
}

/// What is said of these pods where each has its sidecar, and those that are off the path.
fn each_on_the_path(pods: &[&Pod], whose: &str, facts: &Facts) -> (String, Vec<Finding>) {
    let findings = pods
        .iter()
        .filter_map(|pod| off_the_path(pod, facts))
        .collect();
    let pods = counted(pods.len() as u64, "pod", "pods");
    (format!("{pods} {whose}, each with its sidecar"), findings)
}

/// Every sidecar runs the image that the operator injects now.
pub(super) fn images(facts: &Facts) -> Checked {
    let operator = seen(&facts.operators)?
        .first()
        .ok_or("there is no operator")?;
    let pod = operator
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    let arguments: Vec<&str> = pod
        .into_iter()
        .flat_map(|pod| &pod.containers)
        .flat_map(|container| container.args.iter().flatten())
        .map(String::as_str)
        .collect();
    let option = |name: &str| {
        arguments
            .iter()
            .find_map(|argument| argument.strip_prefix(name))
    };
    let image =
        option("--sidecar-image=").ok_or("the operator's Deployment names no sidecar image")?;
    let accepted: Vec<&str> = option("--accepted-images=")
        .unwrap_or_default()
        .split(',')
        .collect();
    let mut findings = Vec::new();
    let mut running = 0_u64;
    for pod in seen(&facts.pods)?.iter().filter(|pod| lives(pod)) {
        let Some(runs) = sidecar_image(pod) else {
            continue;
        };
        running += 1;
        if runs == image {
            continue;
        }
        let about = about(pod);
        findings.push(if accepted.contains(&runs) {
            Finding::warn(about, format!("its sidecar is {runs} while {image} is injected now; restart its workload"))
        } else {
            Finding::fail(about, format!("its sidecar is {runs}, which is not accepted any more, so it gets no policy; restart its workload"))
        });
    }
    let sidecars = counted(running, "sidecar runs", "sidecars run");
    Ok((format!("{sidecars} {image}"), findings))
}

fn governed_namespaces(facts: &Facts) -> Result<BTreeSet<String>, String> {
    let operators = seen(&facts.operators)?.iter();
    let left_out: BTreeSet<String> = operators
        .filter_map(ResourceExt::namespace)
        .chain(["kube-system".to_owned()])
        .collect();
    let namespaces = seen(&facts.namespaces)?.iter();
    Ok(namespaces
        .filter(|namespace| {
            let label = namespace.labels().get(GOVERNED_LABEL);
            label.is_some_and(|value| value == "true")
        })
        .map(ResourceExt::name_any)
        .filter(|name| !left_out.contains(name))
        .collect())
}

fn annotated_workloads(facts: &Facts) -> Result<Vec<Workload>, String> {
    let mut found = Vec::new();
    let mut take = |meta: &ObjectMeta,
                    template: Option<&PodTemplateSpec>,
                    selector: Option<&LabelSelector>| {
        if let Some(selector) = selector.filter(|_| asks(meta) || template_asks(template)) {
            found.push(Workload {
                namespace: meta.namespace.clone().unwrap_or_default(),
                selector: selector.clone(),
            });
        }
    };
    for object in seen(&facts.deployments)? {
        let spec = object.spec.as_ref();
        take(
            &object.metadata,
            spec.map(|s| &s.template),
            spec.map(|s| &s.selector),
        );
    }
    for object in seen(&facts.stateful_sets)? {
        let spec = object.spec.as_ref();
        take(
            &object.metadata,
            spec.map(|s| &s.template),
            spec.map(|s| &s.selector),
        );
    }
    for object in seen(&facts.daemon_sets)? {
        let spec = object.spec.as_ref();
        take(
            &object.metadata,
            spec.map(|s| &s.template),
            spec.map(|s| &s.selector),
        );
    }
    let cron: BTreeSet<(Option<String>, String)> = seen(&facts.cron_jobs)?
        .iter()
        .filter(|object| {
            let job = object
                .spec
                .as_ref()
                .and_then(|spec| spec.job_template.spec.as_ref());
            asks(&object.metadata) || template_asks(job.map(|job| &job.template))
        })
        .map(|object| (object.namespace(), object.name_any()))
        .collect();
    for object in seen(&facts.jobs)? {
        let spec = object.spec.as_ref();
        let selector = spec.and_then(|spec| spec.selector.as_ref());
        let of_cron = object.owner_references().iter().any(|owner| {
            owner.kind == "CronJob" && cron.contains(&(object.namespace(), owner.name.clone()))
        });
        let mut meta = object.metadata.clone();
        if of_cron {
            let annotations = meta.annotations.get_or_insert_default();
            annotations.insert(CONNECTIONS_ANNOTATION.to_owned(), String::new());
        }
        take(&meta, spec.map(|spec| &spec.template), selector);
    }
    Ok(found)
}

fn asks(meta: &ObjectMeta) -> bool {
    let annotations = meta.annotations.as_ref();
    annotations.is_some_and(|found| found.contains_key(CONNECTIONS_ANNOTATION))
}

fn template_asks(template: Option<&PodTemplateSpec>) -> bool {
    let annotations =
        template.and_then(|template| template.metadata.as_ref()?.annotations.as_ref());
    annotations.is_some_and(|found| {
        found.contains_key(CONNECTIONS_ANNOTATION) || found.contains_key(COPIED_ANNOTATION)
    })
}

/// A pod that is to run or runs; a kubelet's own is no workload of anybody's.
fn lives(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
        && pod.metadata.deletion_timestamp.is_none()
        && !pod.annotations().contains_key(MIRROR)
}

fn about(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

fn sidecar_image(pod: &Pod) -> Option<&str> {
    let containers = pod.spec.as_ref()?.init_containers.as_ref()?;
    let sidecar = containers
        .iter()
        .find(|container| container.name == CONTAINER)?;
    pod.annotations().get(INJECTED_ANNOTATION)?;
    sidecar.image.as_deref()
}

/// What keeps a pod's traffic from being seen, if anything.
fn off_the_path(pod: &Pod, facts: &Facts) -> Option<Finding> {
    let about = about(pod);
    if !pod.annotations().contains_key(INJECTED_ANNOTATION) {
        return Some(Finding::fail(
            about,
            "runs without a sidecar; delete it, and the pod that takes its place is injected",
        ));
    }
    if sidecar_image(pod).is_none() {
        return Some(Finding::fail(
            about,
            "says that it is injected and has no sidecar: somebody made it look so; delete it",
        ));
    }
    let status = pod.status.as_ref();
    let sidecar = status
        .and_then(|status| status.init_container_statuses.as_ref())
        .and_then(|all| all.iter().find(|one| one.name == CONTAINER));
    let state = sidecar.and_then(|sidecar| sidecar.state.as_ref());
    if state.is_some_and(|state| state.running.is_some()) {
        return None;
    }
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let why = waiting.and_then(|waiting| waiting.reason.clone());
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    let age = pod
        .creation_timestamp()
        .map(|made| between(made.0, facts.now));
    let namespace = pod.namespace().unwrap_or_default();
    Some(if age.is_some_and(|age| age < STARTING) {
        Finding::warn(about, format!("its sidecar is still starting{why}"))
    } else {
        Finding::fail(
            about.clone(),
            format!(
                "its sidecar does not run{why}; see `kubectl -n {namespace} logs {} -c {CONTAINER}`",
                pod.name_any()
            ),
        )
    })
}

/// Whether labels are selected (Kubernetes, Labels and Selectors).
fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let wanted = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    wanted
        .into_iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|expression| {
            let value = labels.get(&expression.key);
            let values = expression.values.as_deref().unwrap_or_default();
            match expression.operator.as_str() {
                "In" => value.is_some_and(|value| values.contains(value)),
                "NotIn" => value.is_none_or(|value| !values.contains(value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}
