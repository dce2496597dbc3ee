//! Policies of a folder compiled for each connection.

use std::collections::BTreeMap;

use chaperone_crds::{AccessPolicy, Connection};
use chaperone_policy::{NamedConnection, NamedPolicy, NamespaceLabels, PolicySet, check};

use crate::{Located, Manifests, Problem};

/// Compiles what applies on one connection of a folder. What cannot be understood denies where it
/// would have applied. `namespaces` is what `consumers` selects among; standalone there is none.
pub fn compile(
    connection: &Located<Connection>,
    manifests: &Manifests,
    namespaces: &NamespaceLabels,
) -> PolicySet {
    let policies: Vec<NamedPolicy<'_>> = manifests.policies.iter().map(named_policy).collect();
    let named = named_connection(connection, namespaces);
    let mut set = PolicySet::compile(&named, &policies);
    for unreadable in &manifests.unreadable {
        if unreadable.denies_on(&connection.namespace, &connection.name) {
            set = set.with_unreadable(&unreadable.namespace, &unreadable.name, &unreadable.message);
        }
    }
    set
}

/// What does not compile, by file and line.
pub fn problems(manifests: &Manifests) -> Vec<Problem> {
    let namespaces = BTreeMap::new();
    let mut problems = Vec::new();
    for connection in &manifests.connections {
        for invalid in check(&[named_connection(connection, &namespaces)], &[]) {
            problems.push(connection.problem(&invalid.path, invalid.message));
        }
    }
    for policy in &manifests.policies {
        for invalid in check(&[], &[named_policy(policy)]) {
            problems.push(policy.problem(&invalid.path, invalid.message));
        }
    }
    problems
}

fn named_connection<'a>(
    connection: &'a Located<Connection>,
    namespaces: &'a NamespaceLabels,
) -> NamedConnection<'a> {
    NamedConnection {
        namespace: &connection.namespace,
        name: &connection.name,
        generation: connection.value.metadata.generation.unwrap_or_default(),
        spec: &connection.value.spec,
        namespaces,
    }
}

fn named_policy(policy: &Located<AccessPolicy>) -> NamedPolicy<'_> {
    NamedPolicy {
        namespace: &policy.namespace,
        name: &policy.name,
        generation: policy.value.metadata.generation.unwrap_or_default(),
        spec: &policy.value.spec,
    }
}
