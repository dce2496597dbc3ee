//! Promises about any pod, not only those of the golden files.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use chaperone_inject::{Plan, Target, inject, verify};
use proptest::prelude::*;
use serde_json::{Map, Value};
use support::{accepted, api, defaulted, other_cluster, own_cluster, plan, target, yaml};

/// Fields of a container that have nothing to do with us.
fn container(name: &'static str) -> impl Strategy<Value = Value> {
    let environment = prop::collection::vec(
        prop::sample::select(vec![
            "PGHOST",
            "PGUSER",
            "PGPORT",
            "SSL_CERT_FILE",
            "GIT_SSL_CAINFO",
            "KUBERNETES_SERVICE_HOST",
            "KUBECONFIG",
            "HOME",
            "X",
        ]),
        0..4,
    );
    let mounts = prop::collection::vec(prop::sample::select(vec!["data", "cloud"]), 0..2);
    (environment, mounts, any::<bool>(), any::<bool>()).prop_map(
        move |(environment, mounts, from, unknown)| {
            let mut fields = Map::new();
            fields.insert("name".to_owned(), name.into());
            fields.insert("image".to_owned(), "agent:1".into());
            if !environment.is_empty() {
                let mut seen: Vec<&str> = Vec::new();
                let mut list = Vec::new();
                for name in environment {
                    if !seen.contains(&name) {
                        seen.push(name);
                        list.push(yaml(&format!("{{name: {name}, value: mine}}")));
                    }
                }
                fields.insert("env".to_owned(), list.into());
            }
            if !mounts.is_empty() {
                let mount = |name: &&str| yaml(&format!("{{name: {name}, mountPath: /{name}}}"));
                let list: Vec<Value> = mounts.iter().map(mount).collect();
                fields.insert("volumeMounts".to_owned(), list.into());
            }
            if from {
                fields.insert("envFrom".to_owned(), yaml("[{configMapRef: {name: c}}]"));
            }
            if unknown {
                fields.insert(
                    "aFieldOfALaterKubernetes".to_owned(),
                    yaml("{a: [1, {b: c}]}"),
                );
            }
            Value::Object(fields)
        },
    )
}

fn pod() -> impl Strategy<Value = Value> {
    let optional = (
        prop::option::of(prop::sample::select(vec![0_i64, 5, 30, 60])),
        prop::option::of(prop::sample::select(vec!["default", "report-agent"])),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    let init = prop::collection::vec(container("init"), 0..2);
    (container("agent"), container("helper"), init, optional).prop_map(
        |(agent, helper, init, (grace, account, aliases, own, cloud, security))| {
            let mut spec = Map::new();
            let mut containers = vec![agent, helper];
            let mut volumes = vec![yaml("{name: data, emptyDir: {}}")];
            if cloud {
                volumes.push(yaml(
                    "{name: cloud, projected: {sources: [{serviceAccountToken: {audience: sts, path: t}}]}}",
                ));
            }
            if own {
                volumes.push(yaml(
                    "{name: kube-api-access-1, projected: {sources: [{serviceAccountToken: {path: t}}]}}",
                ));
                let fields = containers[0].as_object_mut().unwrap();
                let mounts = fields.entry("volumeMounts").or_insert(yaml("[]"));
                mounts.as_array_mut().unwrap().push(yaml(
                    "{name: kube-api-access-1, mountPath: /var/run/secrets/kubernetes.io/serviceaccount}",
                ));
            }
            spec.insert("containers".to_owned(), containers.into());
            if !init.is_empty() {
                spec.insert("initContainers".to_owned(), init.into());
            }
            spec.insert("volumes".to_owned(), volumes.into());
            if let Some(grace) = grace {
                spec.insert("terminationGracePeriodSeconds".to_owned(), grace.into());
            }
            if let Some(account) = account {
                spec.insert("serviceAccountName".to_owned(), account.into());
            }
            if aliases {
                spec.insert(
                    "hostAliases".to_owned(),
                    yaml("[{ip: 10.1.1.1, hostnames: [other]}]"),
                );
            }
            if security {
                spec.insert(
                    "securityContext".to_owned(),
                    yaml("{runAsUser: 1000, sysctls: [{name: net.ipv4.tcp_syncookies, value: '1'}]}"),
                );
            }
            spec.insert("aFieldOfALaterKubernetes".to_owned(), "kept".into());
            let mut pod = yaml("{apiVersion: v1, kind: Pod, metadata: {name: a, labels: {a: b}}}");
            pod["spec"] = Value::Object(spec);
            pod
        },
    )
}

fn plans() -> impl Strategy<Value = Plan> {
    let hosts = [
        "orders.db",
        "stock.db.svc.cluster.local",
        "10.1.2.3",
        "pg.example.com",
    ];
    let kind = prop::option::of(prop::option::of(Just("orders")));
    let one = (0..hosts.len(), kind).prop_map(move |(host, kind)| (host, hosts[host], kind));
    let clusters = prop::sample::subsequence(vec![own_cluster(), other_cluster()], 0..=2);
    (prop::collection::vec(one, 0..4), clusters).prop_map(|(chosen, clusters)| {
        let mut targets: Vec<Target> = chosen
            .iter()
            .enumerate()
            .map(|(position, (host, name, kind))| {
                // A port each, since several may be of one host.
                let port = 5432 + u16::try_from(position * 10 + host).unwrap();
                let reference = format!("c{position}");
                let reference = ("databases", reference.as_str());
                match kind {
                    Some(database) => target(reference, name, port, *database),
                    None => api(reference, name, port, &["pay.test", "stock.db"]),
                }
            })
            .collect();
        targets.extend(clusters);
        plan(targets)
    })
}

/// The pod without everything that is ours to change.
fn others(pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("annotations");
    let spec = pod["spec"].as_object_mut().unwrap();
    spec.remove("automountServiceAccountToken");
    spec.remove("terminationGracePeriodSeconds");
    let drop = |list: Option<&mut Value>, key: &str, ours: &dyn Fn(&str) -> bool| {
        if let Some(items) = list.and_then(Value::as_array_mut) {
            items.retain(|item| !ours(item[key].as_str().unwrap_or_default()));
        }
    };
    let chaperone =
        |name: &str| name.starts_with("chaperone") || name.starts_with("kube-api-access");
    drop(spec.get_mut("volumes"), "name", &chaperone);
    drop(spec.get_mut("initContainers"), "name", &chaperone);
    drop(spec.get_mut("hostAliases"), "ip", &|ip| {
        ip.starts_with("127.")
    });
    if let Some(security) = spec.get_mut("securityContext") {
        drop(security.get_mut("sysctls"), "name", &|name| {
            name.contains("port_start")
        });
    }
    for list in ["initContainers", "containers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            drop(container.get_mut("volumeMounts"), "name", &chaperone);
            if let Some(environment) = container.get_mut("env").and_then(Value::as_array_mut) {
                environment.retain(|variable| {
                    ["mine"].contains(&variable["value"].as_str().unwrap_or_default())
                });
            }
        }
    }
    without_empty(&pod)
}

fn without_empty(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields
                .iter()
                .map(|(key, field)| (key.clone(), without_empty(field)));
            let empty = |field: &Value| match field {
                Value::Object(fields) => fields.is_empty(),
                Value::Array(items) => items.is_empty(),
                _ => false,
            };
            Value::Object(kept.filter(|(_, field)| !empty(field)).collect())
        }
        Value::Array(items) => items.iter().map(without_empty).collect(),
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn injecting_twice_is_injecting_once((pod, plan) in (pod(), plans())) {
        let once = inject(&pod, &plan).unwrap();
        let twice = inject(&once.pod, &plan).unwrap();
        prop_assert_eq!(&once.pod, &twice.pod);
        let stored = defaulted(&once.pod);
        prop_assert_eq!(&inject(&stored, &plan).unwrap().pod, &stored);
    }

    #[test]
    fn nothing_outside_our_fields_changes((pod, plan) in (pod(), plans())) {
        let injected = inject(&pod, &plan).unwrap();
        prop_assert_eq!(others(&pod), others(&injected.pod));
        for list in ["initContainers", "containers"] {
            let empty = Vec::new();
            for old in pod["spec"][list].as_array().unwrap_or(&empty) {
                let new = injected.pod["spec"][list].as_array().unwrap();
                let new = new.iter().find(|new| new["name"] == old["name"]).unwrap();
                for variable in old["env"].as_array().unwrap_or(&empty) {
                    prop_assert!(new["env"].as_array().unwrap().contains(variable));
                }
            }
        }
    }

    #[test]
    fn what_is_injected_verifies((pod, plan) in (pod(), plans())) {
        let injected = inject(&pod, &plan).unwrap().pod;
        prop_assert_eq!(&injected["spec"]["initContainers"][0]["name"], "chaperone");
        for pod in [defaulted(&injected), injected] {
            let verified = accepted(|accepted| verify(&pod, accepted)).unwrap();
            let names: Vec<String> =
                verified.listeners.iter().map(|listener| listener.reference.to_string()).collect();
            let wanted: Vec<String> =
                plan.targets.iter().map(|target| target.reference.to_string()).collect();
            prop_assert_eq!(names, wanted);
        }
    }

    /// Whatever the pod asks for, the API server's token is in the one volume that only the sidecar
    /// mounts.
    #[test]
    fn no_agent_gets_a_token_of_the_api_server((pod, plan) in (pod(), plans())) {
        let injected = inject(&pod, &plan).unwrap().pod;
        let empty = Vec::new();
        let mut holders = Vec::new();
        for volume in injected["spec"]["volumes"].as_array().unwrap_or(&empty) {
            for source in volume["projected"]["sources"].as_array().unwrap_or(&empty) {
                let token = &source["serviceAccountToken"];
                if !token.is_null() && token["audience"].is_null() {
                    holders.push(volume["name"].as_str().unwrap());
                }
            }
        }
        let wanted = plan.targets.iter().any(|target| target.reference.to_string() == "clusters/own");
        prop_assert_eq!(holders, if wanted { vec!["chaperone-token"] } else { vec![] });
        for list in ["initContainers", "containers"] {
            for container in injected["spec"][list].as_array().unwrap_or(&empty) {
                let mounts = container["volumeMounts"].as_array().unwrap_or(&empty);
                let holds = mounts.iter().any(|mount| mount["name"] == "chaperone-token");
                prop_assert_eq!(holds, container["name"] == "chaperone");
            }
        }
    }

    #[test]
    fn another_plan_replaces_the_first((pod, first, second) in (pod(), plans(), plans())) {
        let both = inject(&inject(&pod, &first).unwrap().pod, &second).unwrap().pod;
        let verified = accepted(|accepted| verify(&both, accepted)).unwrap();
        prop_assert_eq!(verified.listeners.len(), second.targets.len());
    }
}
