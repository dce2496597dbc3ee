//! Row 9: nobody reads a Secret by a Connection, and nobody gives what is not his.

use crate::cases::{Cases, create, kubectl, role, with};

#[test]
fn writing_a_connection_does_not_read_a_secret() {
    let Some(mut cases) = Cases::new() else {
        return;
    };
    let ns = cases.namespace("connections", &[]);
    role(
        &ns,
        "writer",
        "alice",
        &["create,update,patch,get connections.chaperone.dev"],
    );
    role(
        &ns,
        "reads-one",
        "alice",
        &["get secrets --resource-name=allowed"],
    );
    role(&ns, "lists", "alice", &["list,watch secrets"]);
    let alice = ["--as=alice"];
    let connection = |spec: &str| {
        format!(
            r#"{{"apiVersion": "chaperone.dev/v1alpha1", "kind": "Connection", "metadata": {{"name": "c"}}, "spec": {spec}}}"#
        )
    };
    let create_as_alice = with(create(&ns), &alice);
    for (name, spec) in TARGETS {
        cases.refuses(
            name,
            &create_as_alice,
            &connection(&spec.replace("NAME", "secret")),
            &format!("You may not read the Secret {ns}/secret"),
        );
        cases.passes(
            &format!("{name}, allowed"),
            &create_as_alice,
            &connection(&spec.replace("NAME", "allowed")),
        );
        cases.passes(
            &format!("{name}, by an admin"),
            &create(&ns),
            &connection(&spec.replace("NAME", "secret")),
        );
    }
    cases.passes("a CA in a ConfigMap", &create_as_alice, &connection(
        r#"{"postgres": {"host": "db.example", "tls": {"ca": {"configMap": {"name": "x", "key": "ca.crt"}}}, "credential": {"secret": {"name": "allowed"}}}}"#));

    // One that exists, with a Secret alice may not read: it is not to be sent elsewhere.
    kubectl(
        &["-n", &ns, "create", "-f", "-"],
        &connection(&TARGETS[0].1.replace("NAME", "secret")),
    )
    .expect("a connection");
    let patch = |patch: &str| {
        [
            "-n",
            &ns,
            "patch",
            "connection",
            "c",
            "--type=merge",
            "--dry-run=server",
            "--as=alice",
            "-p",
            patch,
        ]
        .map(str::to_owned)
    };
    let message = "You may not read the Secret";
    cases.refuses(
        "another host",
        &patch(r#"{"spec": {"postgres": {"host": "evil.example"}}}"#),
        "",
        message,
    );
    cases.refuses(
        "no TLS",
        &patch(r#"{"spec": {"postgres": {"tls": {"mode": "Disable"}}}}"#),
        "",
        message,
    );
    cases.refuses(
        "more consumers",
        &patch(r#"{"spec": {"consumers": {"namespaceSelector": {}}}}"#),
        "",
        message,
    );
    cases.refuses(
        "guardrails",
        &patch(r#"{"spec": {"guardrails": {"limits": {"rowsPerStatement": 1}}}}"#),
        "",
        message,
    );
    cases.passes(
        "a label",
        &patch(r#"{"metadata": {"labels": {"a": "b"}}}"#),
        "",
    );
    cases.passes(
        "another Secret that she may read",
        &patch(r#"{"spec": {"postgres": {"credential": {"secret": {"name": "allowed"}}}}}"#),
        "",
    );
    cases.done();
}

#[test]
fn writing_a_policy_needs_the_grant() {
    let Some(mut cases) = Cases::new() else {
        return;
    };
    let shop = cases.namespace("policies", &[]);
    let data = cases.namespace("policies-data", &[]);
    role(
        &shop,
        "writer",
        "alice",
        &["* accesspolicies.chaperone.dev"],
    );
    role(
        &data,
        "grants",
        "alice",
        &["grant connections.chaperone.dev --resource-name=mine"],
    );
    role(
        &data,
        "observes",
        "alice",
        &["observe connections.chaperone.dev --resource-name=seen"],
    );
    role(
        &data,
        "reads",
        "alice",
        &["get,list,watch,update,patch,delete,create connections.chaperone.dev"],
    );
    role(
        &shop,
        "own",
        "alice",
        &["grant connections.chaperone.dev --resource-name=local"],
    );
    let create_as_alice = with(create(&shop), &["--as=alice"]);
    let policy = |connections: &[&str], more: &str| {
        format!(
            r#"{{"apiVersion": "chaperone.dev/v1alpha1", "kind": "AccessPolicy", "metadata": {{"name": "p"}}, "spec": {{"subjects": [{{"serviceAccount": "x"}}], "connections": {} {more}}}}}"#,
            serde_json::to_string(connections).unwrap()
        )
    };
    let at = |name: &str| format!("{data}/{name}");
    let (mine, other, seen) = (at("mine"), at("other"), at("seen"));
    let dry = r#", "enforcement": "DryRun""#;
    cases.passes("granted", &create_as_alice, &policy(&[&mine], ""));
    cases.passes("granted here", &create_as_alice, &policy(&["local"], ""));
    cases.refuses("not granted", &create_as_alice, &policy(&[&other], ""), &format!("You need the verb grant on each Connection that the policy names, and have it not on {other}"));
    cases.refuses(
        "that name, but here",
        &create_as_alice,
        &policy(&["mine"], ""),
        "the verb grant",
    );
    cases.refuses(
        "one of two",
        &create_as_alice,
        &policy(&[&mine, &other], ""),
        "the verb grant",
    );
    cases.refuses(
        "observed but enforced",
        &create_as_alice,
        &policy(&[&seen], ""),
        "the verb grant",
    );
    cases.refuses(
        "granted but observed",
        &create_as_alice,
        &policy(&[&mine], dry),
        "the verb observe",
    );
    cases.passes("observed", &create_as_alice, &policy(&[&seen], dry));
    cases.passes("an admin's", &create(&shop), &policy(&[&other, &seen], dry));
    // Each of sixteen places is asked for, and asking for all costs no more than is allowed.
    for place in 0..16 {
        let names: Vec<String> = (0..16)
            .map(|i| {
                if i == place {
                    other.clone()
                } else {
                    format!("{data}/mine-{i}")
                }
            })
            .collect();
        let resource_names: Vec<String> = (0..16)
            .map(|i| format!("--resource-name=mine-{i}"))
            .collect();
        if place == 0 {
            role(
                &data,
                "grants-many",
                "alice",
                &[&format!(
                    "grant connections.chaperone.dev {}",
                    resource_names.join(" ")
                )],
            );
            let all: Vec<String> = (0..16).map(|i| format!("{data}/mine-{i}")).collect();
            cases.passes(
                "sixteen",
                &create_as_alice,
                &policy(&all.iter().map(String::as_str).collect::<Vec<_>>(), ""),
            );
        }
        cases.refuses(
            &format!("place {place}"),
            &create_as_alice,
            &policy(&names.iter().map(String::as_str).collect::<Vec<_>>(), ""),
            &other,
        );
    }

    // Taking away what holds back.
    let deny = r#", "rules": [{"name": "r", "action": "Deny", "sql": {"effects": ["Delete"]}}]"#;
    let named = |name: &str, text: String| {
        text.replace("\"name\": \"p\"", &format!("\"name\": \"{name}\""))
    };
    for (name, text) in [
        ("denies", policy(&[&mine, &other], deny)),
        ("allows", policy(&[&mine, &other], "")),
        (
            "masks",
            policy(
                &[&other],
                r#", "masking": [{"name": "m", "detectors": ["Iban"], "strategy": "Redact"}]"#,
            ),
        ),
        ("owned", policy(&[&mine], deny)),
    ] {
        kubectl(&["-n", &shop, "create", "-f", "-"], &named(name, text)).expect("a policy");
    }
    let delete = |name: &str| {
        [
            "-n",
            &shop,
            "delete",
            "accesspolicy",
            name,
            "--dry-run=server",
            "--as=alice",
        ]
        .map(str::to_owned)
    };
    let patch = |name: &str, patch: &str| {
        [
            "-n",
            &shop,
            "patch",
            "accesspolicy",
            name,
            "--type=merge",
            "--dry-run=server",
            "--as=alice",
            "-p",
            patch,
        ]
        .map(str::to_owned)
    };
    cases.refuses(
        "delete what denies",
        &delete("denies"),
        "",
        "holds something back on",
    );
    cases.refuses(
        "delete what masks",
        &delete("masks"),
        "",
        "holds something back on",
    );
    cases.passes("delete what only allows", &delete("allows"), "");
    cases.passes("delete one's own", &delete("owned"), "");
    cases.refuses(
        "no longer name it",
        &patch(
            "denies",
            &format!(r#"{{"spec": {{"connections": ["{mine}"]}}}}"#),
        ),
        "",
        "holds something back on",
    );
    cases.refuses(
        "take the rule out",
        &patch("denies", r#"{"spec": {"rules": []}}"#),
        "",
        "the verb grant",
    );
    cases.refuses(
        "add one's subject",
        &patch(
            "allows",
            r#"{"spec": {"subjects": [{"serviceAccount": "y"}]}}"#,
        ),
        "",
        "the verb grant",
    );
    cases.refuses(
        "enforced to DryRun",
        &patch("owned", r#"{"spec": {"enforcement": "DryRun"}}"#),
        "",
        "the verb observe",
    );
    cases.passes(
        "a label",
        &patch("denies", r#"{"metadata": {"labels": {"a": "b"}}}"#),
        "",
    );
    let controller = with(
        [
            "-n",
            &shop,
            "delete",
            "accesspolicy",
            "denies",
            "--dry-run=server",
        ]
        .map(str::to_owned)
        .into(),
        &["--as=system:serviceaccount:kube-system:namespace-controller"],
    );
    cases.passes(
        "the namespace controller empties a namespace",
        &controller,
        "",
    );
    cases.done();
}

/// Every place of a Connection that names a Secret.
const TARGETS: &[(&str, &str)] = &[
    (
        "postgres",
        r#"{"postgres": {"host": "db.example", "credential": {"secret": {"name": "NAME"}}}}"#,
    ),
    (
        "postgres CA",
        r#"{"postgres": {"host": "db.example", "tls": {"ca": {"secret": {"name": "NAME", "key": "ca.crt"}}}, "credential": {"secret": {"name": "allowed"}}}}"#,
    ),
    (
        "http",
        r#"{"http": {"url": "https://api.example", "credential": {"header": "authorization", "secret": {"name": "NAME", "key": "t"}}}}"#,
    ),
    (
        "http CA",
        r#"{"http": {"url": "https://api.example", "tls": {"ca": {"secret": {"name": "NAME", "key": "ca.crt"}}}}}"#,
    ),
    (
        "kubernetes",
        r#"{"kubernetes": {"server": "https://k.example", "credential": {"secret": {"name": "NAME"}}}}"#,
    ),
    (
        "kubernetes CA",
        r#"{"kubernetes": {"inCluster": true, "ca": {"secret": {"name": "NAME", "key": "ca.crt"}}, "credential": {"serviceAccount": "Self"}}}"#,
    ),
    (
        "ssh",
        r#"{"ssh": {"host": "h.example", "hostKeys": ["ssh-ed25519 A"], "credential": {"username": "u", "privateKey": {"name": "NAME", "key": "k"}}}}"#,
    ),
];
