//! Builders shared by the tests: resources from YAML, subjects and operations in one line.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::collections::BTreeMap;

use chaperone_crds::{AccessPolicySpec, ConnectionSpec};
use chaperone_policy::{
    Access, Decision, Effect, Invalid, NamedConnection, NamedPolicy, NamespaceLabels, Object,
    Operation, Policy, PolicySet, Protocol, Subject, Workload, check, decide,
};

/// A connection `databases/orders-db` and policies in `shop`, ready to compile.
#[derive(Debug, Clone)]
pub struct World {
    pub connection: ConnectionSpec,
    pub policies: Vec<(String, AccessPolicySpec)>,
    pub namespaces: NamespaceLabels,
}

pub fn connection(guardrails: &str) -> ConnectionSpec {
    let text = format!(
        "postgres: {{host: db, credential: {{secret: {{name: db}}}}}}\n\
         consumers: {{namespaceSelector: {{}}}}\n{guardrails}"
    );
    serde_saphyr::from_str(&text).unwrap()
}

/// A policy for the report agent; `body` is what stands beside subjects and connections.
pub fn policy(body: &str) -> AccessPolicySpec {
    let text = format!(
        "subjects: [{{serviceAccount: report-agent}}]\nconnections: [databases/orders-db]\n{body}"
    );
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

impl World {
    pub fn new(guardrails: &str, policies: &[&str]) -> World {
        World {
            connection: connection(guardrails),
            policies: policies
                .iter()
                .enumerate()
                .map(|(number, body)| (format!("p{number}"), policy(body)))
                .collect(),
            namespaces: NamespaceLabels::new(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&NamedConnection<'_>, &[NamedPolicy<'_>]) -> T) -> T {
        let policies: Vec<NamedPolicy<'_>> = self
            .policies
            .iter()
            .map(|(name, spec)| NamedPolicy {
                namespace: "shop",
                name,
                generation: 1,
                spec,
            })
            .collect();
        let connection = NamedConnection {
            namespace: "databases",
            name: "orders-db",
            generation: 1,
            spec: &self.connection,
            namespaces: &self.namespaces,
        };
        act(&connection, &policies)
    }

    pub fn set(&self) -> PolicySet {
        self.with(PolicySet::compile)
    }

    pub fn check(&self) -> Vec<Invalid> {
        self.with(|connection, policies| check(&[*connection], policies))
    }

    pub fn select(&self) -> Option<Policy> {
        self.set().select(&agent())
    }

    pub fn decide(&self, accesses: &[Access]) -> Decision {
        decide(&self.select().unwrap(), &agent(), &operation(accesses))
    }
}

pub fn agent() -> Subject {
    Subject {
        workload: Workload {
            namespace: "shop".to_owned(),
            service_account: "report-agent".to_owned(),
            pod: None,
            labels: BTreeMap::new(),
        },
        delegate: None,
        purpose: Some("nightly".to_owned()),
    }
}

pub fn operation(accesses: &[Access]) -> Operation {
    Operation {
        protocol: Protocol::Postgres,
        accesses: accesses.to_vec(),
        command: "SELECT 1".to_owned(),
        parameters: Vec::new(),
    }
}

pub fn on(effect: Effect, object: Object) -> Access {
    Access {
        effect,
        object,
        baseline: false,
    }
}

pub fn baseline(effect: Effect, object: Object) -> Access {
    Access {
        effect,
        object,
        baseline: true,
    }
}

/// `schema.name`.
pub fn relation(qualified: &str) -> Object {
    let (schema, name) = qualified.split_once('.').unwrap();
    Object::Relation {
        schema: schema.to_owned(),
        name: name.to_owned(),
    }
}

/// `schema.name`.
pub fn function(qualified: &str) -> Object {
    let (schema, name) = qualified.split_once('.').unwrap();
    Object::Function {
        schema: schema.to_owned(),
        name: name.to_owned(),
    }
}
