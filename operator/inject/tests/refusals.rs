//! Pods that are refused, and pods that only look injected.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::type_complexity
)]

mod support;

use chaperone_inject::{Accepted, Refusal, inject, names, verify};
use serde_json::Value;
use support::{CA, IMAGE, URL, accepted, defaulted, orders, own_cluster, plan, target, yaml};

fn refused(spec: &str) -> String {
    let pod = yaml(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {spec}}}"
    ));
    match inject(&pod, &plan(vec![orders()])) {
        Ok(_) => panic!("not refused: {spec}"),
        Err(refusal) => format!("{}: {refusal}", refusal.reason().as_str()),
    }
}

#[test]
fn a_pod_that_could_escape_is_refused() {
    let agent = "containers: [{name: agent, image: a}]";
    for (extra, reason) in [
        ("hostNetwork: true", "HostNetwork"),
        ("hostPID: true", "SharedProcesses"),
        ("hostIPC: true", "SharedProcesses"),
        ("shareProcessNamespace: true", "SharedProcesses"),
        ("os: {name: windows}", "Unsupported"),
        ("dnsPolicy: None", "CustomDns"),
        ("dnsConfig: {nameservers: [10.1.1.1]}", "CustomDns"),
        ("dnsConfig: {searches: [evil.example]}", "CustomDns"),
        ("securityContext: {runAsUser: 17337}", "Reserved"),
        ("securityContext: {fsGroup: 17337}", "Reserved"),
        (
            "securityContext: {supplementalGroups: [1, 17337]}",
            "Reserved",
        ),
        (
            "securityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: '8000'}]}",
            "Reserved",
        ),
        (
            "hostAliases: [{ip: 10.0.0.1, hostnames: [orders.db]}]",
            "Reserved",
        ),
        ("hostAliases: [{ip: 127.0.0.2, hostnames: [x]}]", "Reserved"),
        (
            "volumes: [{name: chaperone-spool, emptyDir: {}}]",
            "Reserved",
        ),
        (
            "volumes: [{name: t, projected: {sources: [{serviceAccountToken: {path: t, audience: chaperone.dev}}]}}]",
            "TokenExposed",
        ),
        (
            "volumes: [{name: t, projected: {sources: [{serviceAccountToken: {path: t}}]}}]",
            "TokenExposed",
        ),
        (
            "initContainers: [{name: chaperone, image: evil}]",
            "Reserved",
        ),
        (
            "initContainers: [{name: a, securityContext: {runAsUser: 17337}}]",
            "Reserved",
        ),
    ] {
        let message = refused(&format!("{{{agent}, {extra}}}"));
        assert!(message.starts_with(reason), "{extra}: {message}");
    }
    for container in [
        "{name: chaperone, image: evil}",
        "{name: a, volumeMounts: [{name: chaperone-token, mountPath: /t}]}",
        "{name: a, volumeMounts: [{name: chaperone-spool, mountPath: /t}]}",
        "{name: a, volumeMounts: [{name: x, mountPath: /etc/chaperone/trust/}]}",
        "{name: a, env: [{name: X, valueFrom: {fileKeyRef: {volumeName: chaperone-spool, path: p, key: k}}}]}",
    ] {
        let message = refused(&format!("{{containers: [{container}]}}"));
        assert!(message.starts_with("Reserved"), "{container}: {message}");
    }
}

/// Where in-cluster configuration looks, nothing of the pod's own may be.
#[test]
fn a_pod_with_its_own_idea_of_the_api_servers_token_is_refused() {
    let pod = |name: &str, path: &str| {
        yaml(&format!(
            "{{metadata: {{name: a}}, spec: {{containers: [{{name: agent, volumeMounts: \
             [{{name: {name}, mountPath: {path}}}]}}], volumes: [{{name: {name}, emptyDir: {{}}}}]}}}}"
        ))
    };
    let path = names::SERVICE_ACCOUNT_PATH;
    let inside = format!("{path}/token");
    for at in [path, &inside] {
        let pod = pod("own", at);
        let refusal = inject(&pod, &plan(vec![own_cluster()])).unwrap_err();
        assert_eq!(refusal.reason().as_str(), "Reserved", "{at}");
        inject(&pod, &plan(vec![orders()])).unwrap();
    }
    inject(
        &pod("own", "/var/run/secrets/other"),
        &plan(vec![own_cluster()]),
    )
    .unwrap();
}

#[test]
fn what_is_not_a_pod_is_refused_and_not_guessed_at() {
    for text in [
        "{}",
        "[]",
        "null",
        "{spec: {containers: {}}}",
        "{spec: {containers: [1]}}",
    ] {
        let pod = yaml(text);
        let answer = inject(&pod, &plan(vec![orders()]));
        if text != "{}" {
            assert!(answer.is_err(), "{text}");
        }
    }
}

#[test]
fn connections_that_collide_are_refused() {
    let twice = plan(vec![
        target(("databases", "a"), "orders.db", 5432, None),
        target(
            ("databases", "b"),
            "orders.db.svc.cluster.local",
            5432,
            Some("x"),
        ),
    ]);
    let pod = yaml("{metadata: {name: a}, spec: {containers: [{name: agent}]}}");
    let refusal = inject(&pod, &twice).unwrap_err();
    assert_eq!(refusal.reason().as_str(), "ConnectionsCollide");
    assert!(
        refusal.to_string().contains("databases/a and databases/b"),
        "{refusal}"
    );
}

fn injected() -> Value {
    let pod = yaml(
        "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop}, spec: {containers: \
         [{name: agent, image: a}, {name: other, image: a}], initContainers: [{name: first}]}}",
    );
    defaulted(
        &inject(&pod, &plan(vec![orders(), own_cluster()]))
            .unwrap()
            .pod,
    )
}

fn is_refused(pod: &Value) -> bool {
    accepted(|accepted| verify(pod, accepted)).is_err()
}

#[test]
fn what_was_injected_is_read_back() {
    let verified = accepted(|accepted| verify(&injected(), accepted)).unwrap();
    assert_eq!(verified.image, IMAGE);
    let listener = verified.listeners.first().unwrap();
    assert_eq!(listener.reference.to_string(), "databases/orders-db");
    assert_eq!(listener.address.to_string(), "127.0.0.2:5432");
}

#[test]
fn another_image_authority_or_operator_is_refused() {
    let pod = injected();
    let images = [IMAGE.to_owned()];
    let authorities = [CA.to_owned()];
    let good = Accepted {
        images: &images,
        authorities: &authorities,
        operator: URL,
    };
    assert!(verify(&pod, good).is_ok());
    assert!(matches!(
        verify(
            &pod,
            Accepted {
                images: &[],
                ..good
            }
        ),
        Err(Refusal::ImageNotAccepted { .. })
    ));
    let other = [CA.replace("BBBB", "CCCC")];
    assert!(
        verify(
            &pod,
            Accepted {
                authorities: &other,
                ..good
            }
        )
        .is_err()
    );
    let both = [other[0].clone(), CA.to_owned()];
    assert!(
        verify(
            &pod,
            Accepted {
                authorities: &both,
                ..good
            }
        )
        .is_ok()
    );
    assert!(
        verify(
            &pod,
            Accepted {
                operator: "https://evil.example:8443",
                ..good
            }
        )
        .is_err()
    );
}

#[test]
fn a_pod_that_imitates_the_sidecar_gets_nothing() {
    let edits: Vec<(&str, Box<dyn Fn(&mut Value)>)> = vec![
        (
            "no sidecar",
            Box::new(|pod| {
                pod["spec"]["initContainers"]
                    .as_array_mut()
                    .unwrap()
                    .remove(0);
            }),
        ),
        (
            "a second one",
            Box::new(|pod| {
                let copy = pod["spec"]["initContainers"][0].clone();
                pod["spec"]["containers"].as_array_mut().unwrap().push(copy);
            }),
        ),
        (
            "token elsewhere",
            Box::new(|pod| {
                pod["spec"]["containers"][0]["volumeMounts"]
                    .as_array_mut()
                    .unwrap()
                    .push(yaml(
                        "{name: chaperone-token, mountPath: /t, readOnly: true}",
                    ));
            }),
        ),
        (
            "spool elsewhere",
            Box::new(|pod| {
                pod["spec"]["initContainers"][1]["volumeMounts"]
                    .as_array_mut()
                    .unwrap()
                    .push(yaml(
                        "{name: chaperone-spool, mountPath: /t, readOnly: true}",
                    ));
            }),
        ),
        (
            "trust writable elsewhere",
            Box::new(|pod| {
                let mounts = pod["spec"]["containers"][1]["volumeMounts"]
                    .as_array_mut()
                    .unwrap();
                for mount in mounts {
                    mount.as_object_mut().unwrap().remove("readOnly");
                }
            }),
        ),
        (
            "trust twice, once writable",
            Box::new(|pod| {
                pod["spec"]["containers"][1]["volumeMounts"]
                    .as_array_mut()
                    .unwrap()
                    .push(yaml("{name: chaperone-trust, mountPath: /t}"));
            }),
        ),
        (
            "token for an ephemeral container",
            Box::new(|pod| {
                pod["spec"]["ephemeralContainers"] =
                    yaml("[{name: debug, volumeMounts: [{name: chaperone-token, mountPath: /t}]}]");
            }),
        ),
        (
            "trust for an ephemeral container",
            Box::new(|pod| {
                pod["spec"]["ephemeralContainers"] =
                    yaml("[{name: debug, volumeMounts: [{name: chaperone-trust, mountPath: /t}]}]");
            }),
        ),
        (
            "an ephemeral container in the sidecar",
            Box::new(|pod| {
                pod["spec"]["ephemeralContainers"] =
                    yaml("[{name: debug, targetContainerName: chaperone}]");
            }),
        ),
        (
            "a volume as environment",
            Box::new(|pod| {
                pod["spec"]["containers"][0]["envFrom"] =
                    yaml("[{someLaterRef: {volumeName: chaperone-spool}}]");
            }),
        ),
        (
            "the audience in another volume",
            Box::new(|pod| {
                pod["spec"]["volumes"].as_array_mut().unwrap().push(yaml(
                "{name: t, projected: {sources: [{serviceAccountToken: {audience: chaperone.dev, path: t}}]}}"));
            }),
        ),
        (
            "the same user",
            Box::new(|pod| {
                pod["spec"]["containers"][0]["securityContext"] = yaml("{runAsUser: 17337}");
            }),
        ),
        (
            "shared processes",
            Box::new(|pod| {
                pod["spec"]["shareProcessNamespace"] = true.into();
            }),
        ),
        (
            "own name servers",
            Box::new(|pod| {
                pod["spec"]["dnsConfig"] = yaml("{nameservers: [10.0.0.1]}");
            }),
        ),
        (
            "a volume twice",
            Box::new(|pod| {
                pod["spec"]["volumes"]
                    .as_array_mut()
                    .unwrap()
                    .push(yaml("{name: chaperone-spool, hostPath: {path: /tmp}}"));
            }),
        ),
        (
            "an environment of its own",
            Box::new(|pod| {
                pod["spec"]["initContainers"][0]["env"]
                    .as_array_mut()
                    .unwrap()
                    .push(yaml("{name: LD_PRELOAD, value: /var/lib/chaperone/x.so}"));
            }),
        ),
        (
            "another order of trust",
            Box::new(|pod| {
                pod["spec"]["initContainers"][0]["env"][1]["value"] = "".into();
            }),
        ),
        (
            "listening on the pod's address",
            Box::new(|pod| {
                pod["spec"]["initContainers"][0]["env"][2]["value"] =
                    "databases/orders-db=0.0.0.0:5432".into();
            }),
        ),
    ];
    for (name, edit) in edits {
        let mut pod = injected();
        edit(&mut pod);
        assert!(is_refused(&pod), "{name}");
    }
    assert!(!is_refused(&injected()));
}

/// Every place of a value, as a JSON pointer.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                places(field, format!("{at}/{}", key.replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (position, item) in items.iter().enumerate() {
                places(item, format!("{at}/{position}"), found);
            }
        }
        _ => {}
    }
    found.push(at);
}

#[test]
fn any_change_of_one_field_of_the_sidecar_is_refused() {
    let good = injected();
    let mut found = Vec::new();
    let volumes = good["spec"]["volumes"].as_array().unwrap().len();
    places(
        &good["spec"]["initContainers"][0],
        "/spec/initContainers/0".to_owned(),
        &mut found,
    );
    for position in 0..volumes {
        let at = format!("/spec/volumes/{position}");
        places(good.pointer(&at).unwrap(), at, &mut found);
    }
    // What may differ, and comes to the same.
    let free = |place: &str| {
        place.starts_with("/spec/initContainers/0/resources")
            || place.starts_with("/spec/initContainers/0/resizePolicy")
    };
    let replacements = [
        Value::Null,
        true.into(),
        false.into(),
        0.into(),
        8080.into(),
        "x".into(),
        "".into(),
        yaml("[]"),
        yaml("{}"),
        yaml("[x]"),
        yaml("{x: y}"),
    ];
    let mut tried = 0;
    for place in found.iter().filter(|place| !free(place)) {
        let old = good.pointer(place).unwrap();
        for replacement in replacements
            .iter()
            .filter(|replacement| *replacement != old)
        {
            let mut pod = good.clone();
            *pod.pointer_mut(place).unwrap() = replacement.clone();
            assert!(is_refused(&pod), "{place} = {replacement}");
            tried += 1;
        }
        // A field that is not there yet.
        if old.is_object() {
            for name in [
                "command",
                "lifecycle",
                "subPath",
                "aFieldOfALaterKubernetes",
            ] {
                let mut pod = good.clone();
                let fields = pod.pointer_mut(place).unwrap().as_object_mut().unwrap();
                fields.insert(name.to_owned(), "x".into());
                assert!(is_refused(&pod), "{place} with {name}");
                tried += 1;
            }
            for name in old.as_object().unwrap().keys() {
                let place = format!("{place}/{name}");
                // Absent, this is what we write; and no listeners are those of a pod without
                // Connections, so that this is another plan and no imitation.
                let other_plan = place == "/spec/initContainers/0/env/2/value";
                if free(&place) || place.ends_with("/procMount") || other_plan {
                    continue;
                }
                let mut pod = good.clone();
                let fields = pod.pointer_mut(place.rsplit_once('/').unwrap().0).unwrap();
                fields.as_object_mut().unwrap().remove(name);
                assert!(is_refused(&pod), "{place} removed");
                tried += 1;
            }
        }
    }
    assert!(tried > 500, "{tried}");
}

#[test]
fn the_pull_policy_may_be_what_admission_makes_of_it() {
    let mut pod = injected();
    pod["spec"]["initContainers"][0]["imagePullPolicy"] = "Always".into();
    assert!(!is_refused(&pod));
    pod["spec"]["initContainers"][0]["imagePullPolicy"] = "Never".into();
    assert!(is_refused(&pod));
}

#[test]
fn reserved_names_are_those_of_the_contract() {
    assert_eq!(names::CONTAINER, "chaperone");
    assert_eq!(names::USER, 17_337);
}
