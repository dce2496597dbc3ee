//! Pods, plans, and what the API server does to what it stores.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

use chaperone_inject::{Accepted, Cluster, Operator, Plan, Protocol, Reference, Sidecar, Target};
use serde_json::Value;

pub const URL: &str = "https://chaperone-operator.chaperone-system.svc:8443";
pub const CA: &str = "-----BEGIN CERTIFICATE-----\nMIIBAAAA\nBBBB\n-----END CERTIFICATE-----\n";
pub const IMAGE: &str = "registry.example/chaperone-sidecar:0.1.0";

pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

pub fn target(reference: (&str, &str), host: &str, port: u16, database: Option<&str>) -> Target {
    Target {
        reference: Reference {
            namespace: reference.0.to_owned(),
            name: reference.1.to_owned(),
        },
        protocol: Protocol::Postgres,
        host: host.to_owned(),
        port,
        database: database.map(str::to_owned),
        names: Vec::new(),
    }
}

/// A Kubernetes API.
pub fn cluster(reference: (&str, &str), host: &str, port: u16, cluster: Cluster) -> Target {
    Target {
        protocol: Protocol::Kubernetes(cluster),
        ..target(reference, host, port, None)
    }
}

/// That of the pod's own cluster, as the pod.
pub fn own_cluster() -> Target {
    let own = Cluster {
        own: true,
        as_pod: true,
    };
    cluster(("clusters", "own"), "kubernetes.default.svc", 443, own)
}

/// Another one, by a credential of its own.
pub fn other_cluster() -> Target {
    let other = Cluster {
        own: false,
        as_pod: false,
    };
    cluster(("clusters", "other"), "10.5.5.5", 6443, other)
}

/// An HTTP API.
pub fn api(reference: (&str, &str), host: &str, port: u16, names: &[&str]) -> Target {
    Target {
        protocol: Protocol::Http,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..target(reference, host, port, None)
    }
}

pub fn orders() -> Target {
    target(
        ("databases", "orders-db"),
        "orders.db.svc.cluster.local",
        5432,
        Some("orders"),
    )
}

pub fn plan(targets: Vec<Target>) -> Plan {
    Plan {
        namespace: "shop".to_owned(),
        targets,
        operator: Operator {
            url: URL.to_owned(),
            authorities: CA.to_owned(),
        },
        sidecar: Sidecar {
            image: IMAGE.to_owned(),
            resources: None,
        },
        purpose: None,
    }
}

/// Calls with what a sidecar may have.
pub fn accepted<T>(call: impl FnOnce(Accepted<'_>) -> T) -> T {
    call(Accepted {
        images: &[IMAGE.to_owned()],
        authorities: &[CA.to_owned()],
        operator: URL,
    })
}

/// What the API server's defaulting adds to a pod (pkg/apis/core/v1/defaults.go of Kubernetes),
/// and what common admission plugins do to the containers of others.
pub fn defaulted(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let spec = pod["spec"].as_object_mut().unwrap();
    for (field, value) in [
        ("dnsPolicy", Value::from("ClusterFirst")),
        ("enableServiceLinks", true.into()),
        ("restartPolicy", "Always".into()),
        ("schedulerName", "default-scheduler".into()),
        ("terminationGracePeriodSeconds", 30.into()),
        ("preemptionPolicy", "PreemptLowerPriority".into()),
        ("priority", 0.into()),
    ] {
        spec.entry(field).or_insert(value);
    }
    for list in ["initContainers", "containers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let container = container.as_object_mut().unwrap();
            for (field, value) in [
                ("imagePullPolicy", Value::from("Always")),
                ("terminationMessagePath", "/dev/termination-log".into()),
                ("terminationMessagePolicy", "File".into()),
            ] {
                container.entry(field).or_insert(value);
            }
            container.insert(
                "resources".to_owned(),
                yaml("{limits: {memory: 64Mi}, requests: {memory: 64Mi}}"),
            );
            container.insert(
                "resizePolicy".to_owned(),
                yaml("[{resourceName: memory, restartPolicy: NotRequired}]"),
            );
            if let Some(security) = container.get_mut("securityContext") {
                let security = security.as_object_mut().unwrap();
                security.entry("procMount").or_insert("Default".into());
            }
            for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) else {
                    continue;
                };
                for (field, value) in [
                    ("timeoutSeconds", 1),
                    ("periodSeconds", 10),
                    ("successThreshold", 1),
                    ("failureThreshold", 3),
                ] {
                    probe.entry(field).or_insert(value.into());
                }
                if let Some(get) = probe.get_mut("httpGet").and_then(Value::as_object_mut) {
                    get.entry("scheme").or_insert("HTTP".into());
                }
            }
            for port in container
                .get_mut("ports")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                port.as_object_mut()
                    .unwrap()
                    .entry("protocol")
                    .or_insert("TCP".into());
            }
        }
    }
    for volume in spec
        .get_mut("volumes")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(projected) = volume.get_mut("projected").and_then(Value::as_object_mut) {
            projected.entry("defaultMode").or_insert(420.into());
        }
    }
    pod
}
