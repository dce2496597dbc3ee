//! One test's namespace.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use xtask::cluster::Cluster;
use xtask::wait::wait_in_steps;

use crate::DEADLINE;
use crate::clients::Transcript;
use crate::cluster::{Kubectl, shared};

/// How long a test waits for the cluster, whose node is busy with other tests too.
const PATIENCE: Duration = DEADLINE.saturating_mul(2);
/// How often the cluster is looked at: each look is a process and a request.
const STEP: Duration = Duration::from_millis(200);

/// A namespace of its own. Dropping it deletes it, without waiting.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one whose name starts with `purpose`.
    pub fn new(purpose: &str) -> Result<Namespace> {
        Namespace::labelled(purpose, &[])
    }

    /// Makes one that Pod Security holds to the strictest of its levels.
    pub fn restricted(purpose: &str) -> Result<Namespace> {
        Namespace::labelled(purpose, &["pod-security.kubernetes.io/enforce=restricted"])
    }

    /// Makes one with labels, each `key=value`.
    pub fn labelled(purpose: &str, labels: &[&str]) -> Result<Namespace> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("{purpose}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Kubectl::admin().ok(&["create", "namespace", &name])?;
        let namespace = Namespace { name };
        if !labels.is_empty() {
            let name = namespace.name();
            Kubectl::admin().ok(&[&["label", "namespace", name], labels].concat())?;
        }
        // Pods are refused until it is there.
        namespace.until("the default service account", || {
            let found = namespace
                .kubectl()
                .run(&["get", "serviceaccount/default"])?;
            Ok((found.code == Some(0)).then_some(()))
        })?;
        Ok(namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// kubectl in here, as the administrator.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::admin().in_namespace(&self.name)
    }

    /// Applies manifests in here, as the administrator.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        self.kubectl().apply(yaml).map(|_| ())
    }

    /// Runs a command in a pod's container, or in its default one, however it ends.
    pub fn exec(&self, pod: &str, container: Option<&str>, words: &[&str]) -> Result<Transcript> {
        let mut arguments = vec!["exec", pod];
        if let Some(container) = container {
            arguments.extend(["-c", container]);
        }
        arguments.push("--");
        arguments.extend(words);
        self.kubectl().run(&arguments)
    }

    /// What a container has printed.
    pub fn logs(&self, pod: &str, container: &str) -> Result<String> {
        self.kubectl().ok(&["logs", pod, "-c", container])
    }

    /// Waits for a condition that kubectl wait understands: `condition=Ready`, `delete`,
    /// `jsonpath={.status.phase}=Succeeded`.
    pub fn wait_for(&self, object: &str, condition: &str) -> Result<()> {
        let condition = format!("--for={condition}");
        let deadline = format!("--timeout={}s", PATIENCE.as_secs());
        self.kubectl()
            .ok(&["wait", object, &condition, &deadline])
            .map(|_| ())
            .with_context(|| self.diagnosis())
    }

    /// Waits until a pod is Ready: started, and its readiness probes passed.
    pub fn wait_until_ready(&self, pod: &str) -> Result<()> {
        self.wait_for(&format!("pod/{pod}"), "condition=Ready")
    }

    /// Waits until a workload's newest pods are Ready and its old ones gone.
    pub fn wait_until_rolled_out(&self, workload: &str) -> Result<()> {
        let deadline = format!("--timeout={}s", PATIENCE.as_secs());
        self.kubectl()
            .ok(&["rollout", "status", workload, &deadline])
            .map(|_| ())
            .with_context(|| self.diagnosis())
    }

    /// Looks at `condition` until it gives a value, or fails with all that the namespace can tell.
    pub fn until<T>(&self, what: &str, condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        wait_in_steps(PATIENCE, STEP, condition)?.with_context(|| {
            let seconds = PATIENCE.as_secs();
            format!("waited {seconds} s for {what}\n{}", self.diagnosis())
        })
    }

    /// Names of the pods with a label, `key=value`, that are not on their way out.
    pub fn pods(&self, label: &str) -> Result<Vec<String>> {
        let list = self.kubectl().json(&["pods", "-l", label])?;
        let items = list.get("items").and_then(Value::as_array);
        Ok(items
            .into_iter()
            .flatten()
            .filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none())
            .filter_map(|pod| pod.pointer("/metadata/name")?.as_str())
            .map(str::to_owned)
            .collect())
    }

    /// The events in here: `reason object: message`, one a line.
    pub fn events(&self) -> Result<String> {
        let columns = "jsonpath={range .items[*]}{.reason} {.involvedObject.kind}/{.involvedObject.name}: {.message}{\"\\n\"}{end}";
        self.kubectl().ok(&[
            "get",
            "events",
            "--sort-by=.metadata.creationTimestamp",
            "-o",
            columns,
        ])
    }

    /// Daemons that are gone, pods, events and the ends of all logs, for a message about what went wrong.
    pub fn diagnosis(&self) -> String {
        let mut parts = shared().map(Cluster::faults).unwrap_or_default();
        parts.push(format!("In namespace {}:", self.name));
        for arguments in [&["get", "pods", "-o", "wide"][..], &["get", "events"][..]] {
            if let Ok(said) = self.kubectl().run(arguments) {
                parts.push(said.out + &said.err);
            }
        }
        let pods = self.kubectl().run(&["get", "pods", "-o", "name"]);
        for pod in pods.map(|said| said.out).unwrap_or_default().lines() {
            let flags = ["logs", pod, "--all-containers", "--prefix", "--tail=15"];
            if let Ok(said) = self.kubectl().run(&flags) {
                parts.push(said.out + &said.err);
            }
        }
        parts.join("\n")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Kubectl::admin().run(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}
