//! Evidence is written once: nobody changes it, and nobody takes away what it hangs on.

use crate::cases::{Cases, OPERATOR, create, edited, kubectl, run, with};

const AUDIT: &str = "chaperone-audit";

const SEGMENT: &str = r#"{
  "apiVersion": "chaperone.dev/v1alpha1", "kind": "AuditSegment", "metadata": {"name": "as-1"},
  "spec": {"count": 1, "bytes": 1, "entries": [{
    "kind": "Segment", "namespace": "shop", "pod": "report-1", "uid": "u-1", "number": 1, "part": 0, "parts": 1,
    "store": "0000000000000000000000000000000000000000000000000000000000000000",
    "digest": "0000000000000000000000000000000000000000000000000000000000000000", "data": "AA=="
  }]}
}"#;

const CHECKPOINT: &str = r#"{
  "apiVersion": "chaperone.dev/v1alpha1", "kind": "AuditCheckpoint", "metadata": {"name": "cp-1"},
  "spec": {
    "number": 1, "size": 1, "note": "n",
    "previous": "0000000000000000000000000000000000000000000000000000000000000000",
    "root": "0000000000000000000000000000000000000000000000000000000000000000",
    "subtrees": ["0000000000000000000000000000000000000000000000000000000000000000"],
    "segments": [{"name": "as-1", "leaves": ["0000000000000000000000000000000000000000000000000000000000000000"]}]
  }
}"#;

const SESSION: &str = r#"{
  "apiVersion": "chaperone.dev/v1alpha1", "kind": "Session", "metadata": {"name": "00000000000000a1"},
  "spec": {
    "subject": "shop/report", "connection": "databases/orders-db", "target": "t", "pod": "report-1", "state": "Open",
    "startedAt": "2026-01-01T00:00:00Z", "lastAt": "2026-01-01T00:00:00Z",
    "allowed": 0, "denied": 0, "held": 0, "rows": 0, "masked": 0, "findings": 0, "records": 0
  }
}"#;

const LOG_KEY: &str = r#"{
  "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "chaperone-log-key"}, "data": {"log.key": "AA=="}
}"#;

const STORE: &str = r#"{
  "apiVersion": "chaperone.dev/v1alpha1", "kind": "AuditStore", "metadata": {"name": "default"}, "spec": {}
}"#;

/// The operator by name, whatever roles it has: so it is the policy that refuses.
fn operator_with_every_right() -> [String; 2] {
    [
        format!("--as={OPERATOR}"),
        "--as-group=system:masters".to_owned(),
    ]
}

fn in_audit(arguments: &[&str]) -> Vec<String> {
    let all = [&["-n", AUDIT], arguments, &["--dry-run=server"]].concat();
    all.into_iter().map(str::to_owned).collect()
}

fn written(namespace: &[&str], manifest: &str) {
    let operator = format!("--as={OPERATOR}");
    let arguments = [namespace, &["create", "-f", "-", &operator]].concat();
    kubectl(&arguments, manifest).expect("the operator writes it");
}

#[test]
fn nobody_can_change_them() {
    let Some(mut cases) = Cases::new() else {
        return;
    };
    let operator = operator_with_every_right();
    let operator = [operator[0].as_str(), operator[1].as_str()];
    for (manifest, object) in [
        (SEGMENT, "auditsegment/as-1"),
        (CHECKPOINT, "auditcheckpoint/cp-1"),
    ] {
        cases.refuses(
            "made by an admin",
            &create(AUDIT),
            manifest,
            "written by chaperone-operator alone",
        );
        written(&["-n", AUDIT], manifest);
        for (what, patch) in [
            ("labels", r#"{"metadata": {"labels": {"a": "b"}}}"#),
            (
                "annotations",
                r#"{"metadata": {"annotations": {"chaperone.dev/bytes": "0"}}}"#,
            ),
            ("finalizers", r#"{"metadata": {"finalizers": ["a.b/c"]}}"#),
            ("spec", r#"{"spec": {"count": 2, "number": 2, "size": 2}}"#),
        ] {
            let arguments = in_audit(&["patch", object, "--type=merge", "-p", patch]);
            cases.refuses(
                &format!("{what} of {object}, by an admin"),
                &arguments,
                "",
                "never changed",
            );
            cases.refuses(
                &format!("{what} of {object}, by the operator"),
                &with(arguments, &operator),
                "",
                "never changed",
            );
        }
        let delete = in_audit(&["delete", object]);
        cases.refuses(
            &format!("{object} deleted by an admin"),
            &delete,
            "",
            "deleted by chaperone-operator alone",
        );
        cases.refuses(
            &format!("{object} deleted with its namespace"),
            &with(
                delete.clone(),
                &["--as=system:serviceaccount:kube-system:namespace-controller"],
            ),
            "",
            "deleted by chaperone-operator alone",
        );
        cases.passes(
            &format!("{object} deleted by the operator"),
            &with(delete, &operator),
            "",
        );
        let (kind, _) = object.split_once('/').unwrap();
        let all =
            format!("--raw=/apis/chaperone.dev/v1alpha1/namespaces/{AUDIT}/{kind}s?dryRun=All");
        cases.refuses(
            &format!("all {kind}s at once"),
            &["delete".to_owned(), all],
            "",
            "deleted by chaperone-operator alone",
        );
    }
    // What it all hangs on.
    for object in [
        "namespace/chaperone-audit",
        "crd/auditsegments.chaperone.dev",
        "crd/auditcheckpoints.chaperone.dev",
    ] {
        let arguments = ["delete", object, "--dry-run=server"].map(str::to_owned);
        for more in [&[][..], &operator] {
            cases.refuses(
                object,
                &with(arguments.clone().into(), more),
                "",
                "All evidence would go with",
            );
        }
    }
    cases.passes(
        "another definition",
        &["delete", "crd/sessions.chaperone.dev", "--dry-run=server"].map(str::to_owned),
        "",
    );
    cases.done();
}

#[test]
fn the_log_key_is_the_operators_and_stays() {
    let Some(mut cases) = Cases::new() else {
        return;
    };
    let operator = operator_with_every_right();
    let operator = [operator[0].as_str(), operator[1].as_str()];
    cases.refuses(
        "made by an admin",
        &create(AUDIT),
        LOG_KEY,
        "written by chaperone-operator alone",
    );
    let public = edited(
        LOG_KEY,
        &[
            ("/kind", r#""ConfigMap""#),
            ("/metadata/name", r#""chaperone-log""#),
        ],
    );
    cases.refuses(
        "its public half by an admin",
        &create(AUDIT),
        &public,
        "written by chaperone-operator alone",
    );
    let other = edited(LOG_KEY, &[("/metadata/name", r#""other""#)]);
    cases.passes("another Secret", &create(AUDIT), &other);
    cases.passes("one of that name elsewhere", &create("databases"), LOG_KEY);
    written(&["-n", AUDIT], LOG_KEY);
    let patch = in_audit(&[
        "patch",
        "secret/chaperone-log-key",
        "-p",
        r#"{"data": {"log.key": "AQ=="}}"#,
    ]);
    cases.refuses("changed by an admin", &patch, "", "alone");
    cases.refuses(
        "changed by the operator",
        &with(patch, &operator),
        "",
        "never changed",
    );
    let delete = in_audit(&["delete", "secret/chaperone-log-key"]);
    cases.refuses("deleted by an admin", &delete, "", "alone");
    cases.done();
}

#[test]
fn views_are_written_by_the_operator_and_read_by_auditors() {
    let Some(mut cases) = Cases::new() else {
        return;
    };
    let ns = cases.namespace("views", &[]);
    let operator = format!("--as={OPERATOR}");
    let who = "written by chaperone-operator alone";
    cases.refuses("a session by an admin", &create(&ns), SESSION, who);
    cases.passes(
        "a session by the operator",
        &with(create(&ns), &[&operator]),
        SESSION,
    );
    written(&["-n", &ns], SESSION);
    let patch = [
        "-n",
        &ns,
        "patch",
        "session/00000000000000a1",
        "--type=merge",
        "--dry-run=server",
        "-p",
        r#"{"spec": {"denied": 5}}"#,
    ]
    .map(str::to_owned);
    cases.refuses("changed by an admin", &patch, "", who);
    cases.passes(
        "changed by the operator",
        &with(patch.into(), &[&operator]),
        "",
    );
    written(&[], STORE);
    let store = |more: &[&str], patch: &str| {
        let all = [
            &["patch", "auditstore/default", "--type=merge"],
            more,
            &["--dry-run=server", "-p", patch],
        ];
        all.concat().into_iter().map(str::to_owned).collect()
    };
    let used = r#"{"status": {"usedBytes": 0}}"#;
    let cases_of_status: Vec<String> = store(&["--subresource=status"], used);
    cases.refuses("the status by an admin", &cases_of_status, "", who);
    cases.passes(
        "the status by the operator",
        &with(cases_of_status, &[&operator]),
        "",
    );
    let quota: Vec<String> = store(&[], r#"{"spec": {"quota": "1Gi"}}"#);
    cases.passes("the quota by an admin", &quota, "");
    assert!(
        run(&with(quota, &[&operator]), "").is_err(),
        "the quota is people's"
    );

    kubectl(
        &[
            "create",
            "clusterrolebinding",
            "auditors",
            "--clusterrole=chaperone-auditor",
            "--user=ann",
        ],
        "",
    )
    .expect("a binding");
    let may = |user: &str, arguments: &[&str]| {
        let user = format!("--as={user}");
        let all = [&["auth", "can-i", &user], arguments].concat();
        kubectl(&all, "").is_ok_and(|answer| answer.trim() == "yes")
    };
    for resource in [
        "auditsegments",
        "auditcheckpoints",
        "auditpacks",
        "sessions",
    ] {
        let resource = format!("{resource}.chaperone.dev");
        assert!(may("ann", &["list", &resource, "-n", AUDIT]), "{resource}");
        assert!(!may("ann", &["create", &resource, "-n", AUDIT]));
        assert!(!may("ann", &["delete", &resource, "-n", AUDIT]));
    }
    assert!(may("ann", &["get", "auditstores.chaperone.dev/default"]));
    assert!(may(
        "ann",
        &["get", "configmaps/chaperone-log", "-n", AUDIT]
    ));
    assert!(!may(
        "ann",
        &["get", "secrets/chaperone-log-key", "-n", AUDIT]
    ));
    // What the operator may do with it.
    for resource in ["auditsegments", "auditcheckpoints", "auditpacks"] {
        let resource = format!("{resource}.chaperone.dev");
        // It deletes one by one what goes under a tombstone, or was packed.
        for verb in ["create", "get", "list", "delete"] {
            assert!(may(OPERATOR, &[verb, &resource, "-n", AUDIT]), "{verb}");
        }
        for verb in ["update", "patch", "deletecollection"] {
            assert!(!may(OPERATOR, &[verb, &resource, "-n", AUDIT]), "{verb}");
        }
        assert!(!may(OPERATOR, &["create", &resource, "-n", &ns]));
    }
    for verb in ["update", "patch", "delete", "list", "watch"] {
        let key = "secrets/chaperone-log-key";
        assert!(!may(OPERATOR, &[verb, key, "-n", AUDIT]), "{verb}");
    }
    assert!(!may(OPERATOR, &["get", "secrets/other", "-n", AUDIT]));
    cases.done();
}
