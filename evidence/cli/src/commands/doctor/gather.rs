//! What is there to judge, as the API server has it.

use std::fmt::Debug;

use chaperone_crds::audit_store::NAMESPACE;
use chaperone_crds::{AccessPolicy, AuditCheckpoint, AuditSegment, AuditStore, Connection};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ListParams, PartialObjectMeta};
use kube::core::DeserializeGuard;
use serde::de::DeserializeOwned;

use crate::error::CliError;
use crate::progress::Progress;
use crate::source::{Cluster, all, api_failure};

/// Objects, or why they cannot be seen.
pub(super) type Listed<T> = Result<Vec<T>, String>;

/// Selects the chart's operator.
const OPERATOR: &str = "app.kubernetes.io/name=chaperone,app.kubernetes.io/component=operator";

/// Everything that is judged.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) now: Timestamp,
    pub(super) operators: Listed<Deployment>,
    pub(super) mutating: Listed<MutatingWebhookConfiguration>,
    pub(super) validating: Listed<ValidatingWebhookConfiguration>,
    pub(super) admission: Listed<ValidatingAdmissionPolicy>,
    pub(super) bindings: Listed<ValidatingAdmissionPolicyBinding>,
    pub(super) definitions: Listed<CustomResourceDefinition>,
    pub(super) stores: Listed<AuditStore>,
    pub(super) segments: Listed<PartialObjectMeta<AuditSegment>>,
    pub(super) checkpoints: Listed<AuditCheckpoint>,
    pub(super) namespaces: Listed<Namespace>,
    pub(super) pods: Listed<Pod>,
    pub(super) deployments: Listed<Deployment>,
    pub(super) stateful_sets: Listed<StatefulSet>,
    pub(super) daemon_sets: Listed<DaemonSet>,
    pub(super) jobs: Listed<Job>,
    pub(super) cron_jobs: Listed<CronJob>,
    pub(super) connections: Listed<DeserializeGuard<Connection>>,
    pub(super) policies: Listed<DeserializeGuard<AccessPolicy>>,
}

/// Asks for all of it. Only a cluster that does not answer at all is an error.
pub(super) fn gather(cluster: &Cluster) -> Result<Facts, CliError> {
    let progress = Progress::start("looking at the cluster");
    let version = cluster.client();
    cluster
        .wait(async { version.apiserver_version().await })
        .map_err(|error| api_failure("ask the cluster anything", &error))?;
    let look = Look {
        cluster,
        progress: &progress,
    };
    Ok(Facts {
        now: Timestamp::now(),
        operators: look.labelled("Deployments", OPERATOR),
        mutating: look.everywhere("MutatingWebhookConfigurations"),
        validating: look.everywhere("ValidatingWebhookConfigurations"),
        admission: look.everywhere("ValidatingAdmissionPolicies"),
        bindings: look.everywhere("ValidatingAdmissionPolicyBindings"),
        definitions: look.everywhere("CustomResourceDefinitions"),
        stores: look.everywhere("AuditStores"),
        segments: look.within("AuditSegments", NAMESPACE),
        checkpoints: look.within("AuditCheckpoints", NAMESPACE),
        namespaces: look.everywhere("Namespaces"),
        pods: look.everywhere("Pods"),
        deployments: look.everywhere("Deployments"),
        stateful_sets: look.everywhere("StatefulSets"),
        daemon_sets: look.everywhere("DaemonSets"),
        jobs: look.everywhere("Jobs"),
        cron_jobs: look.everywhere("CronJobs"),
        connections: look.everywhere("Connections"),
        policies: look.everywhere("AccessPolicies"),
    })
}

struct Look<'a> {
    cluster: &'a Cluster,
    progress: &'a Progress,
}

impl Look<'_> {
    fn everywhere<K>(&self, what: &str) -> Listed<K>
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        self.list(
            what,
            &Api::all(self.cluster.client()),
            &ListParams::default(),
        )
    }

    fn labelled<K>(&self, what: &str, labels: &str) -> Listed<K>
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let selection = ListParams::default().labels(labels);
        self.list(what, &Api::all(self.cluster.client()), &selection)
    }

    fn within<K>(&self, what: &str, namespace: &str) -> Listed<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let api = Api::namespaced(self.cluster.client(), namespace);
        self.list(what, &api, &ListParams::default())
    }

    fn list<K>(&self, what: &str, api: &Api<K>, selection: &ListParams) -> Listed<K>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        self.progress.say(&format!("looking at {what}"));
        self.cluster
            .wait(all(api, selection, |found| found, |_| {}))
            .map_err(|error| api_failure(&format!("list the {what}"), &error).to_string())
    }
}

/// What was listed, or why it was not.
pub(super) fn seen<T>(listed: &Listed<T>) -> Result<&[T], String> {
    listed.as_deref().map_err(Clone::clone)
}
