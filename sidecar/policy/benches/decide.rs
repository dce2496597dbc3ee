//! `decide` with 10, 100 and 1 000 rules (performance.md: ≤ 1, 2 and 5 µs).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use chaperone_crds as crds;
use chaperone_policy::{
    Access, Effect, NamedConnection, NamedPolicy, NamespaceLabels, Object, Operation, Policy,
    PolicySet, Protocol, Subject, Verdict, Workload, decide,
};
use divan::Bencher;

fn main() {
    divan::main();
}

fn subject() -> Subject {
    Subject {
        workload: Workload {
            namespace: "shop".to_owned(),
            service_account: "report-agent".to_owned(),
            pod: None,
            labels: [].into(),
        },
        delegate: None,
        purpose: None,
    }
}

/// A policy holds at most 64 rules, so many rules are many policies.
fn policy(rules: usize) -> Policy {
    let connection: crds::ConnectionSpec = serde_json::from_str(
        r#"{"postgres": {"host": "db", "credential": {"secret": {"name": "db"}}},
            "guardrails": {"rules": [{"name": "no-ddl", "action": "Deny",
                "sql": {"effects": ["SchemaCreate", "SchemaAlter", "SchemaDestroy"]}}]}}"#,
    )
    .unwrap();
    let specs: Vec<crds::AccessPolicySpec> = (0..rules.div_ceil(50))
        .map(|policy| {
            let rules: Vec<String> = (policy * 50..rules.min((policy + 1) * 50))
                .map(rule)
                .collect();
            let text = format!(
                r#"{{"subjects": [{{"serviceAccount": "report-agent"}}], "connections": ["db"],
                    "rules": [{}]}}"#,
                rules.join(",")
            );
            serde_json::from_str(&text).unwrap()
        })
        .collect();
    let names: Vec<String> = (0..specs.len())
        .map(|number| format!("policy-{number}"))
        .collect();
    let policies: Vec<NamedPolicy<'_>> = specs
        .iter()
        .zip(&names)
        .map(|(spec, name)| NamedPolicy {
            namespace: "shop",
            name,
            generation: 1,
            spec,
        })
        .collect();
    let namespaces = NamespaceLabels::new();
    let connection = NamedConnection {
        namespace: "shop",
        name: "db",
        generation: 1,
        spec: &connection,
        namespaces: &namespaces,
    };
    PolicySet::compile(&connection, &policies)
        .select(&subject())
        .unwrap()
}

/// Exact names, prefixes, suffixes, whole schemas and Denies, in turn.
fn rule(number: usize) -> String {
    let (action, effects, pattern) = match number % 5 {
        0 => ("Allow", r#""Read""#, format!("public.table_{number}")),
        1 => (
            "Allow",
            r#""Read", "Modify""#,
            format!("public.prefix_{number}_*"),
        ),
        2 => ("Allow", r#""Read""#, format!("public.*_suffix_{number}")),
        3 => ("Allow", r#""Read", "Delete""#, format!("schema_{number}.*")),
        _ => (
            "Deny",
            r#""Delete", "Modify""#,
            format!("public.secret_{number}*"),
        ),
    };
    format!(
        r#"{{"name": "rule-{number}", "action": "{action}",
            "sql": {{"effects": [{effects}], "relations": ["{pattern}"]}}}}"#
    )
}

fn operation() -> Operation {
    let relation = |name: &str| Object::Relation {
        schema: "public".to_owned(),
        name: name.to_owned(),
    };
    let access = |effect, object| Access {
        effect,
        object,
        baseline: false,
    };
    Operation {
        protocol: Protocol::Postgres,
        accesses: vec![
            access(Effect::Read, relation("table_5")),
            access(Effect::Read, relation("x_suffix_2")),
            access(Effect::Modify, relation("prefix_6_a")),
        ],
        command: "UPDATE prefix_6_a …".to_owned(),
        parameters: Vec::new(),
    }
}

#[divan::bench(args = [10, 100, 1000])]
fn three_accesses(bencher: Bencher<'_, '_>, rules: usize) {
    let (policy, subject, operation) = (policy(rules), subject(), operation());
    assert_eq!(
        decide(&policy, &subject, &operation).verdict,
        Verdict::Allow
    );
    bencher.bench_local(|| {
        decide(
            divan::black_box(&policy),
            &subject,
            divan::black_box(&operation),
        )
    });
}

#[divan::bench(args = [10, 100, 1000])]
fn denied(bencher: Bencher<'_, '_>, rules: usize) {
    let (policy, subject, mut operation) = (policy(rules), subject(), operation());
    operation.accesses.push(Access {
        effect: Effect::Delete,
        object: Object::Relation {
            schema: "public".to_owned(),
            name: "secret_4".to_owned(),
        },
        baseline: false,
    });
    assert_eq!(decide(&policy, &subject, &operation).verdict, Verdict::Deny);
    bencher.bench_local(|| {
        decide(
            divan::black_box(&policy),
            &subject,
            divan::black_box(&operation),
        )
    });
}
