//! What resources say about each other: names that must exist, ports that must differ.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_crds::{
    CaSource, ConditionReason, Connection, DEFAULT_HTTP_LISTEN_PORT,
    DEFAULT_KUBERNETES_LISTEN_PORT, DEFAULT_POSTGRES_LISTEN_PORT, HttpTarget, KeyRef,
    KubernetesTarget, LISTEN_PORT_ANNOTATION, PostgresTarget,
};

use super::resources::qualify;
use super::{Located, Manifests, Problem, ResourceName};

/// What is said of a Connection of another kind.
pub const UNSERVED: &str =
    "only postgres, http and kubernetes Connections are served by this version";
/// What is said of a target that only a pod has.
pub const NO_CLUSTER: &str = "there is no cluster around a standalone sidecar; write server: https://… and credential.secret";

/// The loopback port that a Connection listens on.
///
/// # Errors
/// The annotation is no port number from 1 to 65535.
pub fn listen_port(connection: &Located<Connection>) -> Result<u16, Problem> {
    let annotations = connection.value.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|annotations| annotations.get(LISTEN_PORT_ANNOTATION))
    else {
        let spec = &connection.value.spec;
        return Ok(match (&spec.http, &spec.kubernetes) {
            (Some(_), _) => DEFAULT_HTTP_LISTEN_PORT,
            (None, Some(_)) => DEFAULT_KUBERNETES_LISTEN_PORT,
            (None, None) => DEFAULT_POSTGRES_LISTEN_PORT,
        });
    };
    let port = text.parse::<u16>().ok().filter(|port| *port > 0);
    port.ok_or_else(|| {
        let message = format!("{text:?} is not a port; write a number from 1 to 65535 in quotes");
        connection.problem(&annotation_path(), message)
    })
}

/// Adds the problems between resources.
pub(super) fn check(manifests: &mut Manifests) {
    let mut problems = Vec::new();
    collisions(&manifests.connections, &mut problems);
    for connection in &manifests.connections {
        let spec = &connection.value.spec;
        match (&spec.postgres, &spec.http, &spec.kubernetes) {
            (Some(target), _, _) => postgres(connection, target, manifests, &mut problems),
            (None, Some(target), _) => http(connection, target, manifests, &mut problems),
            (None, None, Some(target)) => {
                kubernetes(connection, target, manifests, &mut problems);
            }
            (None, None, None) => problems.push(connection.problem_because(
                ConditionReason::Unsupported,
                "spec",
                UNSERVED,
            )),
        }
    }
    policies(manifests, &mut problems);
    manifests.problems.append(&mut problems);
}

fn collisions(connections: &[Located<Connection>], problems: &mut Vec<Problem>) {
    let mut taken: BTreeMap<u16, String> = BTreeMap::new();
    for connection in connections.iter().filter(|found| {
        let spec = &found.value.spec;
        spec.ssh.is_none()
    }) {
        let port = match listen_port(connection) {
            Ok(port) => port,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        match taken.get(&port) {
            Some(first) => problems.push(connection.problem_because(
                ConditionReason::ConnectionsCollide,
                &annotation_path(),
                format!("port {port} is taken by Connection {first}; give each its own"),
            )),
            None => {
                taken.insert(port, connection.qualified_name());
            }
        }
    }
}

fn annotation_path() -> String {
    format!("metadata.annotations[{LISTEN_PORT_ANNOTATION}]")
}

fn postgres(
    connection: &Located<Connection>,
    target: &PostgresTarget,
    manifests: &Manifests,
    problems: &mut Vec<Problem>,
) {
    let name = &target.credential.secret.name;
    let path = "spec.postgres.credential.secret.name";
    let missing = |path: &str, message: String| {
        connection.problem_because(ConditionReason::RefNotFound, path, message)
    };
    match manifests.secrets.get(&here(connection, name)) {
        None => problems.push(missing(path, no_such("Secret", connection, name))),
        Some(values) => {
            let has = |keys: [&str; 2]| keys.iter().all(|key| values.contains_key(*key));
            if !has(["username", "password"]) && !has(["tls.crt", "tls.key"]) {
                let message = format!(
                    "Secret {name:?} needs keys username and password, or tls.crt and tls.key"
                );
                problems.push(missing(path, message));
            }
        }
    }
    ca(
        connection,
        target.tls.ca.as_ref(),
        "spec.postgres.tls.ca",
        manifests,
        problems,
    );
}

fn kubernetes(
    connection: &Located<Connection>,
    target: &KubernetesTarget,
    manifests: &Manifests,
    problems: &mut Vec<Problem>,
) {
    let path = "spec.kubernetes.credential.secret.name";
    let missing =
        |message: String| connection.problem_because(ConditionReason::RefNotFound, path, message);
    let Some(secret) = &target.credential.secret else {
        let unsupported = ConditionReason::Unsupported;
        problems.push(connection.problem_because(unsupported, "spec.kubernetes", NO_CLUSTER));
        return;
    };
    match manifests.secrets.get(&here(connection, &secret.name)) {
        None => problems.push(missing(no_such("Secret", connection, &secret.name))),
        Some(values) => {
            let has = |key: &str| values.contains_key(key);
            let usable = has("token") || (has("tls.crt") && has("tls.key"));
            if !usable {
                let name = &secret.name;
                problems.push(missing(format!(
                    "Secret {name:?} needs the key token, or tls.crt and tls.key"
                )));
            }
        }
    }
    let path = "spec.kubernetes.ca";
    ca(connection, target.ca.as_ref(), path, manifests, problems);
}

fn http(
    connection: &Located<Connection>,
    target: &HttpTarget,
    manifests: &Manifests,
    problems: &mut Vec<Problem>,
) {
    if let Some(credential) = &target.credential {
        problems.extend(key_of(
            "Secret",
            connection,
            &credential.secret,
            &manifests.secrets,
            "spec.http.credential.secret",
        ));
    }
    ca(
        connection,
        target.tls.ca.as_ref(),
        "spec.http.tls.ca",
        manifests,
        problems,
    );
}

fn ca(
    connection: &Located<Connection>,
    source: Option<&CaSource>,
    path: &str,
    manifests: &Manifests,
    problems: &mut Vec<Problem>,
) {
    if let Some(CaSource { config_map, secret }) = source {
        if let Some(reference) = config_map {
            problems.extend(key_of(
                "ConfigMap",
                connection,
                reference,
                &manifests.config_maps,
                &format!("{path}.configMap"),
            ));
        }
        if let Some(reference) = secret {
            problems.extend(key_of(
                "Secret",
                connection,
                reference,
                &manifests.secrets,
                &format!("{path}.secret"),
            ));
        }
    }
}

/// A reference to one key, whose resource or key may be missing.
fn key_of<V>(
    kind: &str,
    connection: &Located<Connection>,
    KeyRef { name, key }: &KeyRef,
    all: &BTreeMap<ResourceName, BTreeMap<String, V>>,
    path: &str,
) -> Option<Problem> {
    let (field, message) = match all.get(&here(connection, name)) {
        None => ("name", no_such(kind, connection, name)),
        Some(values) if !values.contains_key(key.as_str()) => {
            ("key", format!("{kind} {name:?} has no key {key:?}"))
        }
        Some(_) => return None,
    };
    let path = format!("{path}.{field}");
    Some(connection.problem_because(ConditionReason::RefNotFound, &path, message))
}

/// References of a Connection lead to its own namespace.
fn here(connection: &Located<Connection>, name: &str) -> ResourceName {
    (connection.namespace.clone(), name.to_owned())
}

fn no_such(kind: &str, connection: &Located<Connection>, name: &str) -> String {
    format!(
        "there is no {kind} {name:?} in namespace {:?}",
        connection.namespace
    )
}

fn policies(manifests: &Manifests, problems: &mut Vec<Problem>) {
    let mut connections: BTreeSet<ResourceName> = BTreeSet::new();
    for found in &manifests.connections {
        connections.insert((found.namespace.clone(), found.name.clone()));
    }
    let providers: BTreeSet<&str> = manifests
        .identity_providers
        .iter()
        .map(|found| found.name.as_str())
        .collect();
    for policy in &manifests.policies {
        for (index, name) in policy.value.spec.connections.iter().enumerate() {
            let (namespace, name) = qualify(name, &policy.namespace);
            if !connections.contains(&(namespace.clone(), name.clone())) {
                problems.push(policy.problem_because(
                    ConditionReason::RefNotFound,
                    &format!("spec.connections[{index}]"),
                    format!("there is no usable Connection {name:?} in namespace {namespace:?}"),
                ));
            }
        }
        for (index, subject) in policy.value.spec.subjects.iter().enumerate() {
            let Some(identity) = &subject.identity else {
                continue;
            };
            if !providers.contains(identity.provider.as_str()) {
                problems.push(policy.problem_because(
                    ConditionReason::RefNotFound,
                    &format!("spec.subjects[{index}].identity.provider"),
                    format!(
                        "there is no usable IdentityProvider {:?}",
                        identity.provider
                    ),
                ));
            }
        }
    }
}
