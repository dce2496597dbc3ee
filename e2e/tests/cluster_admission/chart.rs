//! The chart itself: wrong values are refused before anything reaches the cluster.

use std::path::{Path, PathBuf};

use chaperone_e2e::{Transcript, clients, cluster};

const WRONG: &[(&str, &str)] = &[
    ("replica=3", "replica"),
    ("replicas=-1", "replicas"),
    ("replicas=many", "replicas"),
    ("image.tag=a b", "tag"),
    ("image.digest=sha256:12", "digest"),
    ("image.pullPolicy=Sometimes", "pullPolicy"),
    ("sidecar.image.registry=x", "registry"),
    ("sidecar.acceptedImages={a\\,b}", "acceptedImages"),
    ("connectionNamespaces={Databases}", "connectionNamespaces"),
    ("connectionNamespaces={*,databases}", "connectionNamespaces"),
    ("connectionNamespaces=databases", "connectionNamespaces"),
    ("snapshotValidFor=1d", "snapshotValidFor"),
    ("allowSpecialTargets=yes", "allowSpecialTargets"),
    ("webhooks.timeoutSeconds=31", "timeoutSeconds"),
    ("webhooks.failurePolicy=Ignore", "failurePolicy"),
    ("rbac.aggregateToEdit=true", "aggregateToEdit"),
    ("resources.limit.memory=1Gi", "limit"),
];

const FINE: &[&str] = &[
    "replicas=1",
    "connectionNamespaces={*}",
    "connectionNamespaces={databases,other}",
    "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "sidecar.acceptedImages={registry.example/chaperone-sidecar:0.0.9}",
    "allowSpecialTargets=true",
    "priorityClassName=system-cluster-critical",
];

#[test]
fn wrong_values_are_refused_by_name() {
    if cluster::unavailable() {
        return;
    }
    let plain = helm(&["lint", "--strict"]);
    assert_eq!(plain.code, Some(0), "{}", plain.all());
    for (value, field) in WRONG {
        let said = template(value);
        assert_ne!(said.code, Some(0), "{value} was taken");
        assert!(said.err.contains(field), "{value}: {}", said.err);
        assert!(said.err.contains("schema"), "{value}: {}", said.err);
    }
    for value in FINE {
        let said = template(value);
        assert_eq!(said.code, Some(0), "{value}: {}", said.all());
    }
}

fn template(value: &str) -> Transcript {
    helm(&[
        "template",
        "--kube-version=v1.33.0",
        "--namespace=chaperone-system",
        "--set",
        value,
    ])
}

fn helm(arguments: &[&str]) -> Transcript {
    let (command, flags) = arguments.split_first().unwrap();
    let mut helm = cluster::shared().expect("a cluster").helm();
    helm.arg(command).arg(folder()).args(flags);
    clients::run(helm, "").expect("helm runs")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/chaperone")
}
