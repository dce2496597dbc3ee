//! Rows 1, 2, 5 and 6: who may be beside a sidecar, and that a pod stays as it was injected.

use serde_json::Value;

use crate::cases::{Cases, GOVERNED, INJECTED, ORDINARY, Row, create, edited, kubectl, node, with};

#[test]
fn a_pod_that_could_escape_is_refused() {
    let Some(mut cases) = Cases::new() else {
        return;
    };
    let governed = cases.namespace("escape-governed", &GOVERNED);
    let plain = cases.namespace("escape-plain", &[]);
    let pod = |edits: &[(&str, &str)]| edited(INJECTED, edits);

    cases.passes("injected, governed", &create(&governed), &pod(&[]));
    cases.passes("injected, elsewhere", &create(&plain), &pod(&[]));
    cases.passes(
        "ordinary, elsewhere",
        &create(&plain),
        &edited(ORDINARY, &[]),
    );
    let mut second: Value = serde_json::from_str(INJECTED).unwrap();
    second["spec"]["initContainers"]
        .as_array_mut()
        .unwrap()
        .reverse();
    cases.passes(
        "the sidecar second, elsewhere",
        &create(&plain),
        &second.to_string(),
    );
    cases.refuses(
        "the sidecar second",
        &create(&governed),
        &second.to_string(),
        "must carry the sidecar as its first init container",
    );
    for (name, edits, message) in IN_GOVERNED_NAMESPACES {
        cases.refuses(name, &create(&governed), &pod(edits), message);
    }
    cases.passes("a token of another audience", &create(&governed),
        &pod(&[("/spec/volumes/-", r#"{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "sts.amazonaws.com", "path": "token"}}]}}"#)]));
    cases.passes(
        "NET_BIND_SERVICE",
        &create(&governed),
        &pod(&[(
            "/spec/containers/0/securityContext/capabilities/add",
            "[\"NET_BIND_SERVICE\"]",
        )]),
    );

    for (name, edits, message) in EVERYWHERE {
        cases.refuses(
            &format!("{name}, governed"),
            &create(&governed),
            &pod(edits),
            message,
        );
        cases.refuses(
            &format!("{name}, elsewhere"),
            &create(&plain),
            &pod(edits),
            message,
        );
    }
    cases.passes(
        "options of the resolver",
        &create(&plain),
        &pod(&[(
            "/spec/dnsConfig",
            "{\"options\": [{\"name\": \"ndots\", \"value\": \"2\"}]}",
        )]),
    );

    // Pod Security is the namespace's business, and a governed one needs it.
    let label = |namespace: &str, labels: &[&str]| {
        let mut arguments = vec![
            "label",
            "--overwrite",
            "--dry-run=server",
            "namespace",
            namespace,
        ];
        arguments.extend(labels);
        arguments.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    cases.passes(
        "governed and restricted",
        &label(&plain, &["chaperone.dev/governed=true", restricted]),
        "",
    );
    cases.refuses(
        "governed alone",
        &label(&plain, &["chaperone.dev/governed=true"]),
        "",
        "needs Pod Security restricted",
    );
    cases.refuses(
        "governed and baseline",
        &label(
            &plain,
            &[
                "chaperone.dev/governed=true",
                "pod-security.kubernetes.io/enforce=baseline",
            ],
        ),
        "",
        "needs Pod Security restricted",
    );
    cases.refuses(
        "an old version of restricted",
        &label(
            &plain,
            &[
                "chaperone.dev/governed=true",
                restricted,
                "pod-security.kubernetes.io/enforce-version=v1.21",
            ],
        ),
        "",
        "no version before v1.25",
    );
    cases.refuses(
        "Pod Security taken off",
        &label(&governed, &["pod-security.kubernetes.io/enforce-"]),
        "",
        "needs Pod Security restricted",
    );
    cases.refuses(
        "a value that governs nothing",
        &label(&plain, &["chaperone.dev/governed=yes", restricted]),
        "",
        "only value",
    );
    cases.refuses(
        "kube-system",
        &label("kube-system", &["chaperone.dev/governed=true", restricted]),
        "",
        "never governed",
    );

    // The cluster's own pods, and the mirrors of static pods.
    let daemon = edited(
        ORDINARY,
        &[
            ("/spec/hostNetwork", "true"),
            ("/spec/hostPID", "true"),
            (
                "/spec/containers/0/securityContext",
                "{\"privileged\": true, \"runAsUser\": 0}",
            ),
            (
                "/spec/volumes",
                r#"[{"name": "host", "hostPath": {"path": "/"}}]"#,
            ),
        ],
    );
    cases.passes("a daemon of kube-system", &create("kube-system"), &daemon);
    kubectl(&["apply", "-f", "-"], &node("mirror-node")).expect("a node");
    let uid = kubectl(
        &[
            "get",
            "node",
            "mirror-node",
            "-o",
            "jsonpath={.metadata.uid}",
        ],
        "",
    )
    .unwrap();
    let mirror = edited(
        ORDINARY,
        &[
            (
                "/metadata/annotations",
                "{\"kubernetes.io/config.mirror\": \"x\"}",
            ),
            ("/spec/nodeName", "\"mirror-node\""),
            (
                "/metadata/ownerReferences",
                &format!(
                    r#"[{{"apiVersion": "v1", "kind": "Node", "name": "mirror-node", "uid": "{uid}", "controller": true}}]"#
                ),
            ),
            (
                "/spec/securityContext",
                r#"{"runAsNonRoot": true, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}}"#,
            ),
            (
                "/spec/containers/0/securityContext",
                r#"{"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}"#,
            ),
        ],
    );
    let as_node = ["--as=system:node:mirror-node", "--as-group=system:nodes"];
    cases.passes(
        "a node's mirror pod",
        &with(create(&governed), &as_node),
        &mirror,
    );
    cases.refuses(
        "a mirror pod of somebody else",
        &create(&governed),
        &mirror,
        "must carry the sidecar",
    );
    cases.done();
}

#[test]
fn a_running_pod_stays_as_it_was_injected() {
    let Some(mut cases) = Cases::new() else {
        return;
    };
    let plain = cases.namespace("changes", &[]);
    let governed = cases.namespace("changes-governed", &GOVERNED);
    for namespace in [&plain, &governed] {
        kubectl(&["-n", namespace, "create", "-f", "-"], INJECTED).expect("an injected pod");
    }
    kubectl(&["-n", &plain, "create", "-f", "-"], ORDINARY).expect("an ordinary pod");
    let patch = |pod: &str, subresource: &str, patch: &str| {
        let mut arguments: Vec<String> = [
            "-n",
            &plain,
            "patch",
            "pod",
            pod,
            "--dry-run=server",
            "-p",
            patch,
        ]
        .map(str::to_owned)
        .into();
        if !subresource.is_empty() {
            arguments.push(format!("--subresource={subresource}"));
        }
        arguments
    };
    let fixed = "do not change afterwards";
    let connections =
        r#"{"metadata": {"annotations": {"chaperone.dev/connections": "databases/other"}}}"#;
    cases.refuses(
        "another connection",
        &patch("agent", "", connections),
        "",
        fixed,
    );
    cases.refuses(
        "another connection by status",
        &patch("agent", "status", connections),
        "",
        fixed,
    );
    cases.refuses(
        "no connection",
        &patch(
            "agent",
            "",
            r#"{"metadata": {"annotations": {"chaperone.dev/connections": null}}}"#,
        ),
        "",
        fixed,
    );
    cases.refuses(
        "a purpose",
        &patch(
            "agent",
            "",
            r#"{"metadata": {"annotations": {"chaperone.dev/purpose": "audit"}}}"#,
        ),
        "",
        fixed,
    );
    cases.refuses(
        "a forged digest",
        &patch(
            "agent",
            "",
            r#"{"metadata": {"annotations": {"chaperone.dev/injected": "d2"}}}"#,
        ),
        "",
        fixed,
    );
    cases.refuses(
        "a connection for a pod without a sidecar",
        &patch("ordinary", "", connections),
        "",
        fixed,
    );
    cases.refuses(
        "another image of the sidecar",
        &patch(
            "agent",
            "",
            r#"{"spec": {"initContainers": [{"name": "chaperone", "image": "evil"}]}}"#,
        ),
        "",
        "image of the sidecar",
    );
    cases.passes(
        "another image of the agent",
        &patch(
            "agent",
            "",
            r#"{"spec": {"containers": [{"name": "agent", "image": "agent:2"}]}}"#,
        ),
        "",
    );
    cases.passes(
        "a label",
        &patch("agent", "", r#"{"metadata": {"labels": {"a": "b"}}}"#),
        "",
    );
    cases.passes(
        "what a kubelet reports",
        &patch("agent", "status", r#"{"status": {"phase": "Running"}}"#),
        "",
    );
    cases.passes(
        "another annotation",
        &patch(
            "ordinary",
            "",
            r#"{"metadata": {"annotations": {"a": "b"}}}"#,
        ),
        "",
    );

    let binding = |annotations: &str| {
        format!(
            r#"{{"apiVersion": "v1", "kind": "Binding", "metadata": {{"name": "agent", "annotations": {annotations}}}, "target": {{"kind": "Node", "name": "n"}}}}"#
        )
    };
    for path in [
        format!("/api/v1/namespaces/{plain}/pods/agent/binding?dryRun=All"),
        format!("/api/v1/namespaces/{plain}/bindings?dryRun=All"),
    ] {
        let bind = ["create", "--raw", &path, "-f", "-"].map(str::to_owned);
        cases.refuses(
            "annotations by a binding",
            &bind,
            &binding(r#"{"chaperone.dev/connections": "databases/other"}"#),
            "do not change after a pod was made",
        );
        cases.passes("the scheduler's binding", &bind, &binding("{}"));
    }

    let debug = r#"{"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox", "securityContext": {"runAsUser": 17337}}]}}"#;
    cases.refuses(
        "an ephemeral container",
        &patch("agent", "ephemeralcontainers", debug),
        "",
        "Ephemeral containers are refused",
    );
    cases.passes(
        "an ephemeral container elsewhere",
        &patch("ordinary", "ephemeralcontainers", debug),
        "",
    );
    cases.done();
}

/// Rows 1, 2 and 5: what a governed namespace asks of a pod.
const IN_GOVERNED_NAMESPACES: &[Row] = &[
    // Row 1: no injection.
    (
        "an ordinary pod",
        &[
            ("/spec/initContainers", "[]"),
            ("/spec/volumes", "[]"),
            ("/spec/containers/0/volumeMounts", "[]"),
            ("/metadata/annotations", "{}"),
        ],
        "must carry the sidecar as its first init container",
    ),
    (
        "no injected annotation",
        &[("/metadata/annotations", "{}")],
        "must carry the sidecar as its first init container",
    ),
    // Row 2: what the sidecar's separation rests on.
    (
        "no runAsUser",
        &[("/spec/securityContext/runAsUser", "")],
        "Say as which user agent, setup runs",
    ),
    (
        "root in one container",
        &[("/spec/containers/0/securityContext/runAsUser", "0")],
        "runAsUser",
    ),
    (
        "root in an own user namespace",
        &[
            ("/spec/hostUsers", "false"),
            ("/spec/containers/0/securityContext/runAsUser", "0"),
            ("/spec/containers/0/securityContext/runAsNonRoot", "false"),
        ],
        "runAsUser",
    ),
    (
        "privileged",
        &[("/spec/containers/0/securityContext/privileged", "true")],
        "privileged",
    ),
    (
        "escalation left to its default",
        &[(
            "/spec/containers/0/securityContext/allowPrivilegeEscalation",
            "",
        )],
        "allowPrivilegeEscalation",
    ),
    (
        "escalation in an init container",
        &[(
            "/spec/initContainers/1/securityContext/allowPrivilegeEscalation",
            "true",
        )],
        "allowPrivilegeEscalation",
    ),
    (
        "capabilities not dropped",
        &[("/spec/containers/0/securityContext/capabilities", "{}")],
        "apabilities",
    ),
    (
        "SETUID",
        &[(
            "/spec/containers/0/securityContext/capabilities/add",
            "[\"SETUID\"]",
        )],
        "apabilities",
    ),
    (
        "NET_RAW",
        &[(
            "/spec/initContainers/1/securityContext/capabilities/add",
            "[\"NET_RAW\"]",
        )],
        "apabilities",
    ),
    (
        "hostPath",
        &[(
            "/spec/volumes/-",
            r#"{"name": "host", "hostPath": {"path": "/var/lib/kubelet"}}"#,
        )],
        "hostPath",
    ),
    // Row 5: the agent's own token.
    (
        "token mounted by default",
        &[("/spec/automountServiceAccountToken", "")],
        // Admission mounts it into the sidecar too, and either policy may be the first to say so.
        "denied request",
    ),
    (
        "token without an audience",
        &[(
            "/spec/volumes/-",
            r#"{"name": "t", "projected": {"sources": [{"downwardAPI": {}}, {"serviceAccountToken": {"path": "token"}}]}}"#,
        )],
        "no token of the API server",
    ),
    (
        "token for the API server by name",
        &[(
            "/spec/volumes/-",
            r#"{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "https://kubernetes.default.svc", "path": "token"}}]}}"#,
        )],
        "no token of the API server",
    ),
];

/// Row 2: what no pod with a sidecar may have.
const EVERYWHERE: &[Row] = &[
    (
        "the sidecar's user in the pod",
        &[("/spec/securityContext/runAsUser", "17337")],
        "17337",
    ),
    (
        "the sidecar's user in a container",
        &[("/spec/containers/0/securityContext/runAsUser", "17337")],
        "17337",
    ),
    (
        "the sidecar's user in an init container",
        &[("/spec/initContainers/1/securityContext/runAsUser", "17337")],
        "17337",
    ),
    (
        "the sidecar's group",
        &[("/spec/containers/0/securityContext/runAsGroup", "17337")],
        "17337",
    ),
    (
        "the sidecar's group by fsGroup",
        &[("/spec/securityContext/fsGroup", "17337")],
        "17337",
    ),
    (
        "the sidecar's group among others",
        &[("/spec/securityContext/supplementalGroups", "[5, 17337]")],
        "17337",
    ),
    (
        "hostNetwork",
        &[("/spec/hostNetwork", "true")],
        "hostNetwork",
    ),
    ("hostPID", &[("/spec/hostPID", "true")], "hostPID"),
    ("hostIPC", &[("/spec/hostIPC", "true")], "hostIPC"),
    (
        "shared processes",
        &[("/spec/shareProcessNamespace", "true")],
        "shareProcessNamespace",
    ),
    (
        "windows, which Pod Security checks less",
        &[
            ("/spec/os", "{\"name\": \"windows\"}"),
            ("/spec/securityContext", "{\"runAsNonRoot\": true}"),
            ("/spec/initContainers/0/securityContext", "{}"),
            ("/spec/initContainers/1/securityContext", "{}"),
            ("/spec/containers/0/securityContext", "{}"),
        ],
        "denied request",
    ),
    (
        "a nameserver of one's own",
        &[("/spec/dnsConfig", "{\"nameservers\": [\"192.0.2.1\"]}")],
        "dnsConfig",
    ),
    (
        "nothing but a nameserver of one's own",
        &[
            ("/spec/dnsPolicy", "\"None\""),
            ("/spec/dnsConfig", "{\"nameservers\": [\"192.0.2.1\"]}"),
        ],
        "dnsPolicy",
    ),
    (
        "a search list of one's own",
        &[("/spec/dnsConfig", "{\"searches\": [\"evil.example\"]}")],
        "dnsConfig",
    ),
    (
        "the token's volume in the agent",
        &[(
            "/spec/containers/0/volumeMounts/-",
            r#"{"name": "chaperone-token", "mountPath": "/t"}"#,
        )],
        "take the mounts out of agent",
    ),
    (
        "one file of the token's volume",
        &[(
            "/spec/containers/0/volumeMounts/-",
            r#"{"name": "chaperone-token", "mountPath": "/t", "subPath": "token", "readOnly": true}"#,
        )],
        "take the mounts out of agent",
    ),
    (
        "the spool in an init container",
        &[(
            "/spec/initContainers/1/volumeMounts",
            r#"[{"name": "chaperone-spool", "mountPath": "/s"}]"#,
        )],
        "take the mounts out of setup",
    ),
    (
        "trust, writable",
        &[("/spec/containers/0/volumeMounts/0/readOnly", "false")],
        "take the mounts out of agent",
    ),
];
