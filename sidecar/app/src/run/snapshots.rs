//! From the operator's snapshot to what each listener serves: by the code that a folder of
//! manifests takes too.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chaperone_control::{ConnectionSnapshot, Snapshot};
use chaperone_identity::{Providers, Source};
use chaperone_inject::names::{API_TOKEN, TOKEN_PATH};
use chaperone_policy::{NamedConnection, NamedPolicy, NamespaceLabels, PolicySet, Reason};

use super::settings::Listen;
use crate::build::{Endpoint, Resolved, Served, Upstream};

/// What one Connection of the pod comes to.
pub(crate) struct Ready {
    pub(crate) endpoint: Endpoint,
    pub(crate) policies: PolicySet,
}

/// Why everything is denied whatever the snapshot says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suspension {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// What `listen` serves under this snapshot. Never fails: what cannot be served denies.
pub(crate) fn ready(
    listen: &Listen,
    namespace: &str,
    snapshot: &Snapshot,
    suspension: Option<&Suspension>,
) -> Ready {
    let found = connection_of(snapshot, listen);
    let mut ready = match found.map(|connection| usable(listen, namespace, connection)) {
        Some(Ok(ready)) => ready,
        Some(Err(denied)) => nothing(listen, denied),
        None => nothing(
            listen,
            Suspension {
                reason: Reason::ConnectionNotFound,
                message: format!(
                    "Connection {} is not among those of this pod; create it, or delete the pod",
                    listen.connection
                ),
            },
        ),
    };
    if let Some(suspension) = suspension {
        let (reason, message) = (suspension.reason, suspension.message.clone());
        ready.policies = ready.policies.suspended(reason, message);
    }
    ready
}

/// The Connection that is served there, if the operator says anything of it.
pub(crate) fn connection_of<'a>(
    snapshot: &'a Snapshot,
    listen: &Listen,
) -> Option<&'a ConnectionSnapshot> {
    snapshot.connections.iter().find(|connection| {
        listen.connection.split_once('/') == Some((&connection.namespace, &connection.name))
    })
}

/// Whose tokens can be checked under this snapshot.
pub(crate) fn providers(snapshot: &Snapshot) -> Arc<Providers> {
    let sources: Vec<Source> = snapshot
        .identity_providers
        .iter()
        .map(|provider| Source {
            name: provider.name.clone(),
            spec: provider.spec.clone(),
            fetched: provider.keys.clone(),
        })
        .collect();
    Arc::new(Providers::new(&sources))
}

fn usable(
    listen: &Listen,
    namespace: &str,
    connection: &ConnectionSnapshot,
) -> Result<Ready, Suspension> {
    if let Some(fault) = &connection.fault {
        return Err(Suspension {
            reason: reason(&fault.reason),
            message: fault.message.clone(),
        });
    }
    let Some(spec) = &connection.spec else {
        return Err(Suspension {
            reason: Reason::ConnectionNotFound,
            message: format!(
                "Connection {} is gone or does not admit namespace {namespace}",
                listen.connection
            ),
        });
    };
    let Some(target) = Served::of(spec) else {
        return Err(Suspension {
            reason: Reason::Unsupported,
            message: chaperone_manifests::UNSERVED.to_owned(),
        });
    };
    let resolved = Resolved {
        name: listen.connection.clone(),
        port: listen.address.port(),
        target,
        credential: connection
            .credential
            .iter()
            .map(|(key, value)| (key.as_str(), value.expose()))
            .collect(),
        ca: connection.ca.as_deref().map(str::as_bytes),
        own_token: Some(Path::new(TOKEN_PATH).join(API_TOKEN)),
    };
    // A CA that is named and was not sent must not turn into the public roots.
    if spec.ca().is_some() && connection.ca.is_none() {
        return Err(Suspension {
            reason: Reason::RefNotFound,
            message: format!("the CA of Connection {} was not found", listen.connection),
        });
    }
    let mut endpoint = resolved.endpoint().map_err(|unusable| Suspension {
        reason: reason(unusable.reason.as_str()),
        message: format!("{}: {}", unusable.path, unusable.message),
    })?;
    if let Upstream::Http { target, .. } | Upstream::Kubernetes { target, .. } =
        &mut endpoint.upstream
    {
        // Every name that the injector leads here stands for the target.
        let names = std::iter::once(&target.host).chain(&target.hosts);
        target.hosts = names
            .flat_map(|name| chaperone_inject::forms(name, namespace))
            .collect();
    }
    Ok(Ready {
        endpoint,
        policies: policies(namespace, connection, spec),
    })
}

fn policies(
    namespace: &str,
    connection: &ConnectionSnapshot,
    spec: &chaperone_crds::ConnectionSpec,
) -> PolicySet {
    let labels = connection.namespace_labels.clone();
    let namespaces: NamespaceLabels = BTreeMap::from([(namespace.to_owned(), labels)]);
    let named = NamedConnection {
        namespace: &connection.namespace,
        name: &connection.name,
        generation: connection.generation,
        spec,
        namespaces: &namespaces,
    };
    let policies: Vec<NamedPolicy<'_>> = connection
        .policies
        .iter()
        .map(|policy| NamedPolicy {
            namespace: &policy.namespace,
            name: &policy.name,
            generation: policy.generation,
            spec: &policy.spec,
        })
        .collect();
    PolicySet::compile(&named, &policies)
}

fn nothing(listen: &Listen, denied: Suspension) -> Ready {
    let (namespace, name) = listen.connection.split_once('/').unwrap_or_default();
    Ready {
        endpoint: Endpoint::nowhere(listen.connection.clone(), listen.address.port()),
        policies: PolicySet::unavailable(namespace, name, denied.reason, denied.message),
    }
}

/// The same constant on our side. One that only a newer operator knows still denies.
fn reason(text: &str) -> Reason {
    Reason::parse(text).unwrap_or(Reason::RefNotFound)
}
