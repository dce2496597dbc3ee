//! Policies compiled for each connection, from a folder or from a snapshot.

use std::collections::BTreeMap;

use chaperone_crds::{AccessPolicy, AccessPolicySpec, Connection};
use chaperone_mask::Detectors;
use chaperone_policy::{NamedConnection, NamedPolicy, NamespaceLabels, PolicySet, check};

use crate::{Located, Manifests, Problem};

/// Compiles what applies on one connection. A policy that asks for what this version does not
/// have denies, with what `describe` says of its field.
pub fn compile_set(
    connection: &NamedConnection<'_>,
    policies: &[NamedPolicy<'_>],
    describe: impl Fn(usize, &str, String) -> String,
) -> PolicySet {
    let mut set = PolicySet::compile(connection, policies);
    for (position, policy) in policies.iter().enumerate() {
        if let Some((path, message)) = missing_detectors(policy.spec).into_iter().next() {
            let message = describe(position, &path, message);
            set = set.with_unreadable(policy.namespace, policy.name, &message);
        }
    }
    set
}

/// Compiles what applies on one connection of a folder. What cannot be understood denies where it
/// would have applied. `namespaces` is what `consumers` selects among; standalone there is none.
pub fn compile(
    connection: &Located<Connection>,
    manifests: &Manifests,
    namespaces: &NamespaceLabels,
) -> PolicySet {
    let policies: Vec<NamedPolicy<'_>> = manifests.policies.iter().map(named_policy).collect();
    let named = named_connection(connection, namespaces);
    let mut set = compile_set(&named, &policies, |position, path, message| match manifests
        .policies
        .get(position)
    {
        Some(policy) => policy.problem(path, message).to_string(),
        None => message,
    });
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
        for (path, message) in missing_detectors(&policy.value.spec) {
            problems.push(policy.problem(&path, message));
        }
    }
    problems
}

/// Detectors that this version does not have yet are refused, so that nobody believes in them.
fn missing_detectors(spec: &AccessPolicySpec) -> Vec<(String, String)> {
    let mut missing = Vec::new();
    for (index, masking) in spec.masking.iter().enumerate() {
        for (position, detector) in masking.detectors.iter().enumerate() {
            let asked = [(
                policy_detector(*detector),
                chaperone_policy::Strategy::Redact,
            )];
            if let Err(error) = Detectors::new(&asked) {
                let path = format!("spec.masking[{index}].detectors[{position}]");
                missing.push((path, error.to_string()));
            }
        }
    }
    missing
}

fn policy_detector(detector: chaperone_crds::Detector) -> chaperone_policy::Detector {
    use chaperone_crds::Detector as From;
    use chaperone_policy::Detector as To;
    match detector {
        From::PaymentCard => To::PaymentCard,
        From::Iban => To::Iban,
        From::EmailAddress => To::EmailAddress,
        From::PhoneNumber => To::PhoneNumber,
        From::UsSsn => To::UsSsn,
        From::JsonWebToken => To::JsonWebToken,
        From::PrivateKey => To::PrivateKey,
        From::AwsAccessKey => To::AwsAccessKey,
    }
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
