//! What makes pods, and whether it is short of them. Pure.

use k8s_openapi::api::apps::v1::{DaemonSet, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PodTemplateSpec;

use chaperone_inject::Wanted;

use super::Usable;

/// Something whose controller makes pods itself. A Deployment leaves that to its ReplicaSets, a
/// CronJob to its Jobs.
pub(super) trait Workload {
    /// What its pods are made from.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// Whether it has fewer pods than it wants.
    fn is_short(&self) -> bool;
}

impl Workload for ReplicaSet {
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn is_short(&self) -> bool {
        let wanted = self.spec.as_ref().and_then(|spec| spec.replicas);
        let there = self.status.as_ref().map_or(0, |status| status.replicas);
        there < wanted.unwrap_or(1)
    }
}

impl Workload for StatefulSet {
    fn template(&self) -> Option<&PodTemplateSpec> {
        Some(&self.spec.as_ref()?.template)
    }

    fn is_short(&self) -> bool {
        let wanted = self.spec.as_ref().and_then(|spec| spec.replicas);
        let there = self.status.as_ref().map_or(0, |status| status.replicas);
        there < wanted.unwrap_or(1)
    }
}

impl Workload for DaemonSet {
    fn template(&self) -> Option<&PodTemplateSpec> {
        Some(&self.spec.as_ref()?.template)
    }

    fn is_short(&self) -> bool {
        self.status
            .as_ref()
            .is_none_or(|status| status.current_number_scheduled < status.desired_number_scheduled)
    }
}

impl Workload for Job {
    fn template(&self) -> Option<&PodTemplateSpec> {
        Some(&self.spec.as_ref()?.template)
    }

    fn is_short(&self) -> bool {
        let spec = self.spec.as_ref();
        if spec.and_then(|spec| spec.suspend) == Some(true) {
            return false;
        }
        let wanted = spec.and_then(|spec| spec.parallelism).unwrap_or(1);
        self.status.as_ref().is_none_or(|status| {
            let over = status.conditions.iter().flatten().any(|condition| {
                let ended = matches!(condition.type_.as_str(), "Complete" | "Failed");
                ended && condition.status == "True"
            });
            !over && status.active.unwrap_or(0) < wanted
        })
    }
}

/// Whether this workload in `namespace` lacks pods and may now get them.
pub(super) fn concerns(workload: &impl Workload, namespace: &str, usable: &Usable) -> bool {
    let annotations = workload
        .template()
        .and_then(|template| template.metadata.as_ref())
        .and_then(|metadata| metadata.annotations.as_ref());
    let Some(annotations) = annotations else {
        return false;
    };
    let Ok(wanted) = Wanted::read(annotations, namespace) else {
        return false;
    };
    let named = wanted.connections.iter().any(|reference| {
        let name = (reference.namespace.clone(), reference.name.clone());
        usable.connections.contains(&name) || usable.namespaces.contains(namespace)
    });
    named && workload.is_short()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn replica_set(annotation: &str, wanted: i32, there: i32) -> ReplicaSet {
        serde_saphyr::from_str(&format!(
            "
apiVersion: apps/v1
kind: ReplicaSet
metadata: {{name: report-1, namespace: shop}}
spec:
  replicas: {wanted}
  selector: {{}}
  template:
    metadata: {{annotations: {{chaperone.dev/connections: '{annotation}'}}}}
status: {{replicas: {there}}}
"
        ))
        .unwrap()
    }

    #[test]
    fn only_workloads_that_lack_pods_for_what_appeared_are_touched() {
        let usable = Usable {
            connections: [("databases".to_owned(), "orders-db".to_owned())].into(),
            namespaces: ["relabelled".to_owned()].into(),
        };
        let named = "x,databases/orders-db";
        for (workload, namespace, expected) in [
            (replica_set(named, 2, 0), "shop", true),
            (replica_set(named, 2, 2), "shop", false),
            (replica_set(named, 0, 0), "shop", false),
            (replica_set("orders-db", 1, 0), "shop", false),
            (replica_set("orders-db", 1, 0), "databases", true),
            (replica_set("whatever", 1, 0), "relabelled", true),
            (replica_set("not a name!", 1, 0), "shop", false),
        ] {
            assert_eq!(concerns(&workload, namespace, &usable), expected);
        }
    }
}
