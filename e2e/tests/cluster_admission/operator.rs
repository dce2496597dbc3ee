//! What the operator may do, were it taken over.

use crate::cases::{Cases, OPERATOR, kubectl};

const REPLICA_SET: &str = r#"{
  "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "d"},
  "spec": {
    "replicas": 0, "selector": {"matchLabels": {"app": "d"}},
    "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
  }
}"#;

#[test]
fn the_operator_only_touches_an_annotation_of_a_workload() {
    let Some(mut cases) = Cases::new() else {
        return;
    };
    let ns = cases.namespace("workloads", &[]);
    kubectl(&["-n", &ns, "create", "-f", "-"], REPLICA_SET).expect("a replica set");
    let operator = format!("--as={OPERATOR}");
    let patch = |patch: &str| {
        [
            "-n",
            &ns,
            "patch",
            "replicaset",
            "d",
            "--type=merge",
            "--dry-run=server",
            &operator,
            "-p",
            patch,
        ]
        .map(str::to_owned)
    };
    cases.passes(
        "another try",
        &patch(r#"{"metadata": {"annotations": {"chaperone.dev/retry": "1"}}}"#),
        "",
    );
    for change in [
        r#"{"metadata": {"annotations": {"chaperone.dev/connections": "a/b"}}}"#,
        r#"{"metadata": {"labels": {"a": "b"}}}"#,
        r#"{"spec": {"replicas": 5}}"#,
        r#"{"spec": {"template": {"spec": {"hostPID": true}}}}"#,
    ] {
        cases.refuses(
            change,
            &patch(change),
            "",
            "changes nothing of a workload but the annotation",
        );
    }
    // What it may read at all.
    let may = |arguments: &[&str]| {
        let mut all = vec!["auth", "can-i", operator.as_str()];
        all.extend(arguments);
        kubectl(&all, "").is_ok_and(|answer| answer.trim() == "yes")
    };
    assert!(may(&["get", "secrets", "-n", "databases"]));
    for verb in ["list", "watch", "update", "create", "delete"] {
        assert!(!may(&[verb, "secrets", "-n", "databases"]), "{verb}");
    }
    assert!(!may(&["get", "secrets", "-n", &ns]));
    assert!(!may(&["get", "secrets/other", "-n", "chaperone-system"]));
    assert!(may(&[
        "get",
        "secrets/chaperone-operator-tls",
        "-n",
        "chaperone-system"
    ]));
    for denied in [
        ["create", "pods"],
        ["create", "pods/exec"],
        ["create", "serviceaccounts/token"],
        ["update", "connections.chaperone.dev"],
        ["grant", "connections.chaperone.dev"],
        ["approve", "connections.chaperone.dev"],
        ["create", "deployments.apps"],
        ["patch", "deployments.apps"],
        ["delete", "mutatingwebhookconfigurations"],
        ["impersonate", "users"],
        ["patch", "approvalrequests.chaperone.dev"],
    ] {
        assert!(!may(&[&denied[..], &["-A"]].concat()), "{denied:?}");
    }
    cases.done();
}
