//! Row 3: a token of our audience goes to a sidecar and to nobody else.

use crate::cases::{Cases, Edits, INJECTED, ORDINARY, Row, create, edited, kubectl, node};

#[test]
fn nobody_else_gets_our_token_audience() {
    let Some(mut cases) = Cases::new() else {
        return;
    };
    let plain = cases.namespace("tokens", &[]);
    let token = r#"{"serviceAccountToken": {"audience": "chaperone.dev", "path": "token"}}"#;
    let projected =
        |sources: &str| format!(r#"[{{"name": "x", "projected": {{"sources": [{sources}]}}}}]"#);
    for (name, sources) in [
        ("its only source", token.to_owned()),
        (
            "its second source",
            format!(r#"{{"downwardAPI": {{}}}}, {token}"#),
        ),
    ] {
        let pod = edited(ORDINARY, &[("/spec/volumes", &projected(&sources))]);
        cases.refuses(
            name,
            &create(&plain),
            &pod,
            "must carry the init container chaperone",
        );
        cases.refuses(
            &format!("{name}, in kube-system"),
            &create("kube-system"),
            &pod,
            "must carry the init container chaperone",
        );
    }
    cases.passes(
        "another audience",
        &create(&plain),
        &edited(
            ORDINARY,
            &[(
                "/spec/volumes",
                &projected(r#"{"serviceAccountToken": {"audience": "vault", "path": "t"}}"#),
            )],
        ),
    );
    cases.passes("the default token", &create(&plain), ORDINARY);
    cases.passes(
        "an unrelated container called chaperone",
        &create(&plain),
        &edited(ORDINARY, &[("/spec/containers/0/name", "\"chaperone\"")]),
    );

    // An imitation: the container of that name is ours to the letter, or gets no token.
    let mine = "/spec/initContainers/0";
    for (name, edits, message) in IMITATIONS {
        let edits: Vec<(String, &str)> = edits
            .iter()
            .map(|(at, value)| {
                (
                    if at.starts_with("/spec") {
                        (*at).to_owned()
                    } else {
                        format!("{mine}{at}")
                    },
                    *value,
                )
            })
            .collect();
        let mut edits: Vec<(&str, &str)> = edits
            .iter()
            .map(|(at, value)| (at.as_str(), *value))
            .collect();
        edits.push(("/spec/volumes/-", r#"{"name": "x", "emptyDir": {}}"#));
        cases.refuses(name, &create(&plain), &edited(INJECTED, &edits), message);
    }
    for (name, edits) in VOLUMES {
        cases.refuses(
            name,
            &create(&plain),
            &edited(INJECTED, edits),
            "is for the one token in the volume chaperone-token",
        );
    }

    // Asking for a token outright.
    kubectl(&["apply", "-f", "-"], &node("token-node")).expect("a node");
    kubectl(
        &["-n", &plain, "create", "-f", "-"],
        &edited(INJECTED, &[("/spec/nodeName", "\"token-node\"")]),
    )
    .expect("a pod on it");
    let uid = kubectl(
        &[
            "-n",
            &plain,
            "get",
            "pod",
            "agent",
            "-o",
            "jsonpath={.metadata.uid}",
        ],
        "",
    )
    .unwrap();
    let ask = |arguments: &[&str]| {
        let mut all: Vec<String> = ["-n", &plain, "create", "token", "default"]
            .map(str::to_owned)
            .into();
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        all
    };
    let ours = "--audience=chaperone.dev";
    let bound = [
        "--bound-object-kind=Pod".to_owned(),
        "--bound-object-name=agent".to_owned(),
        format!("--bound-object-uid={uid}"),
    ];
    let bound: Vec<&str> = bound.iter().map(String::as_str).collect();
    let message = "for sidecars alone, which get them from their kubelet";
    cases.refuses("a token of our audience", &ask(&[ours]), "", message);
    cases.refuses(
        "a token of ours among others",
        &ask(&["--audience=vault", ours]),
        "",
        message,
    );
    cases.refuses(
        "a token bound to the pod",
        &ask(&[&[ours], &bound[..]].concat()),
        "",
        message,
    );
    cases.refuses(
        "a token for one who calls himself a node",
        &ask(&[
            &[ours, "--as=system:node:x", "--as-group=system:masters"],
            &bound[..],
        ]
        .concat()),
        "",
        message,
    );
    cases.passes(
        "a node's token for its pod",
        &ask(&[
            &[
                ours,
                "--as=system:node:token-node",
                "--as-group=system:nodes",
            ],
            &bound[..],
        ]
        .concat()),
        "",
    );
    kubectl(
        &["-n", &plain, "create", "-f", "-"],
        &edited(ORDINARY, &[("/spec/nodeName", "\"token-node\"")]),
    )
    .expect("another pod on it");
    let uid = kubectl(
        &[
            "-n",
            &plain,
            "get",
            "pod",
            "ordinary",
            "-o",
            "jsonpath={.metadata.uid}",
        ],
        "",
    )
    .unwrap();
    let uid = format!("--bound-object-uid={uid}");
    let ordinary = [
        "--bound-object-kind=Pod",
        "--bound-object-name=ordinary",
        &uid,
    ];
    cases.passes(
        "a node's default token",
        &ask(&[
            &["--as=system:node:token-node", "--as-group=system:nodes"],
            &ordinary[..],
        ]
        .concat()),
        "",
    );
    cases.refuses(
        "a node's token of ours for another pod",
        &ask(&[
            &[
                ours,
                "--as=system:node:token-node",
                "--as-group=system:nodes",
            ],
            &ordinary[..],
        ]
        .concat()),
        "",
        "not found in pod spec volume",
    );
    cases.passes(
        "a token of another audience",
        &ask(&["--audience=vault"]),
        "",
    );
    cases.passes("a token of the API server", &ask(&[]), "");
    let driver = |audience: &str| {
        format!(
            r#"{{"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {{"name": "d.example"}}, "spec": {{"tokenRequests": [{{"audience": "vault"}}, {{"audience": "{audience}"}}]}}}}"#
        )
    };
    let make = ["create", "--dry-run=server", "-f", "-"].map(str::to_owned);
    cases.refuses(
        "a CSI driver",
        &make,
        &driver("chaperone.dev"),
        "tokenRequests",
    );
    cases.passes("another CSI driver", &make, &driver("x"));
    cases.done();
}

/// Fields of the init container, or of the pod, that are not what the webhook writes.
const IMITATIONS: &[Row] = &[
    (
        "claims to be injected",
        &[
            ("/spec/initContainers", "[]"),
            ("/spec/volumes", "[]"),
            ("/spec/containers/0/volumeMounts", "[]"),
        ],
        "must carry the init container",
    ),
    (
        "another image",
        &[("/image", "\"evil\"")],
        "The image evil is not one of the release",
    ),
    (
        "an image that looks alike",
        &[("/image", "\"docker.io/library/chaperone-sidecar:0.1.0\"")],
        "is not one of the release",
    ),
    (
        "another command",
        &[("/command", "[\"/bin/sh\"]")],
        "nothing else",
    ),
    (
        "other arguments",
        &[("/args", "[\"standalone\"]")],
        "nothing else",
    ),
    (
        "not a native sidecar",
        &[("/restartPolicy", ""), ("/startupProbe", "")],
        "nothing else",
    ),
    (
        "a hook",
        &[("/lifecycle", r#"{"preStop": {"exec": {"command": ["x"]}}}"#)],
        "nothing else",
    ),
    (
        "an exec probe",
        &[("/livenessProbe", r#"{"exec": {"command": ["x"]}}"#)],
        "nothing else",
    ),
    ("a terminal", &[("/stdin", "true")], "nothing else"),
    (
        "a working folder",
        &[("/workingDir", "\"/tmp\"")],
        "nothing else",
    ),
    (
        "the CA's key as a termination message",
        &[("/terminationMessagePath", "\"/var/lib/chaperone/ca.key\"")],
        "nothing else",
    ),
    (
        "another operator",
        &[("/env/0/value", "\"https://evil.example\"")],
        "another operator",
    ),
    (
        "another operator, said twice",
        &[(
            "/env/1",
            r#"{"name": "CHAPERONE_OPERATOR", "value": "https://evil.example"}"#,
        )],
        "another operator",
    ),
    (
        "the operator from a field",
        &[(
            "/env/0",
            r#"{"name": "CHAPERONE_OPERATOR", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}"#,
        )],
        "another operator",
    ),
    (
        "one variable more",
        &[(
            "/env/-",
            r#"{"name": "HTTPS_PROXY", "value": "http://evil"}"#,
        )],
        "environment",
    ),
    (
        "one variable instead",
        &[("/env/2", r#"{"name": "SSL_CERT_FILE", "value": "/x"}"#)],
        "environment",
    ),
    (
        "variables of a ConfigMap",
        &[("/envFrom", r#"[{"configMapRef": {"name": "x"}}]"#)],
        "nothing else",
    ),
    (
        "another user",
        &[("/securityContext/runAsUser", "1000")],
        "must run as user 17337",
    ),
    (
        "privileges",
        &[("/securityContext/capabilities/add", "[\"SYS_PTRACE\"]")],
        "without privileges",
    ),
    (
        "a writable root",
        &[("/securityContext/readOnlyRootFilesystem", "false")],
        "read-only root",
    ),
    (
        "one mount more",
        &[(
            "/volumeMounts/-",
            r#"{"name": "x", "mountPath": "/etc/ssl"}"#,
        )],
        "its three volumes",
    ),
    (
        "a mount elsewhere",
        &[("/volumeMounts/0/mountPath", "\"/s\"")],
        "its three volumes",
    ),
    (
        "a part of a mount",
        &[("/volumeMounts/0/subPath", "\"s\"")],
        "its three volumes",
    ),
    (
        "a mount twice",
        &[("/volumeMounts/0/name", "\"chaperone-trust\"")],
        "its three volumes",
    ),
];

/// Volumes that are not what the webhook writes.
const VOLUMES: &[(&str, Edits)] = &[
    (
        "the token twice in a volume",
        &[(
            "/spec/volumes/1/projected/sources/-",
            r#"{"serviceAccountToken": {"audience": "chaperone.dev", "path": "u"}}"#,
        )],
    ),
    (
        "the token in another volume too",
        &[(
            "/spec/volumes/-",
            r#"{"name": "x", "projected": {"sources": [{"serviceAccountToken": {"audience": "chaperone.dev", "path": "t"}}]}}"#,
        )],
    ),
    (
        "a spool that outlives the pod",
        &[(
            "/spec/volumes/0",
            r#"{"name": "chaperone-spool", "persistentVolumeClaim": {"claimName": "x"}}"#,
        )],
    ),
    (
        "trust from elsewhere",
        &[(
            "/spec/volumes/2",
            r#"{"name": "chaperone-trust", "configMap": {"name": "x"}}"#,
        )],
    ),
];
