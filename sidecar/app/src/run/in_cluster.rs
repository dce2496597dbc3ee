//! What clients of Kubernetes read: the files of in-cluster configuration, and a kubeconfig.
//!
//! ```text
//! TRUST/serviceaccount/token, ca.crt, namespace    mounted where client-go looks for them
//! TRUST/kubeconfig                                 a context for each Kubernetes Connection
//! ```
//!
//! The token in both is a dummy: the sidecar replaces whatever an agent presents.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chaperone_inject::names::{TRUST_KUBECONFIG, TRUST_SERVICE_ACCOUNT};
use serde::Serialize;

use super::pod_ca::publish;
use super::settings::Settings;

/// What stands where a token is expected.
const DUMMY: &str = "only-the-sidecar-has-the-token";
/// The one user of the kubeconfig.
const USER: &str = "agent";

/// A Kubernetes Connection that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// `namespace/name`.
    pub(crate) connection: String,
    /// Where the sidecar listens for it.
    pub(crate) address: SocketAddr,
}

/// Writes all of them for a pod of this namespace.
pub(crate) fn write(
    settings: &Settings,
    ca_pem: &str,
    namespace: &str,
    servers: &[Server],
) -> anyhow::Result<()> {
    let folder = settings.trust.join(TRUST_SERVICE_ACCOUNT);
    for (name, text) in [
        ("token", DUMMY),
        ("ca.crt", ca_pem),
        ("namespace", namespace),
    ] {
        publish(&folder.join(name), text.as_bytes(), 0o644)?;
    }
    let text = serde_json::to_vec_pretty(&config(ca_pem, namespace, servers))?;
    publish(&settings.trust.join(TRUST_KUBECONFIG), &text, 0o644)
}

/// A kubeconfig (client-go, clientcmd/api/v1), as far as it is written here. JSON is YAML.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Kubeconfig {
    api_version: &'static str,
    kind: &'static str,
    clusters: Vec<NamedCluster>,
    contexts: Vec<NamedContext>,
    #[serde(rename = "current-context")]
    current_context: String,
    users: Vec<NamedUser>,
}

#[derive(Serialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Serialize)]
struct Cluster {
    server: String,
    #[serde(rename = "certificate-authority-data")]
    certificate_authority_data: String,
}

#[derive(Serialize)]
struct NamedContext {
    name: String,
    context: InContext,
}

#[derive(Serialize)]
struct InContext {
    cluster: String,
    namespace: String,
    user: &'static str,
}

#[derive(Serialize)]
struct NamedUser {
    name: &'static str,
    user: User,
}

#[derive(Serialize)]
struct User {
    token: &'static str,
}

fn config(ca_pem: &str, namespace: &str, servers: &[Server]) -> Kubeconfig {
    let clusters = servers.iter().map(|server| NamedCluster {
        name: server.connection.clone(),
        cluster: Cluster {
            // The certificate has the address among its names, and no hosts file has to be right.
            server: format!("https://{}", server.address),
            certificate_authority_data: STANDARD.encode(ca_pem),
        },
    });
    let contexts = servers.iter().map(|server| NamedContext {
        name: server.connection.clone(),
        context: InContext {
            cluster: server.connection.clone(),
            namespace: namespace.to_owned(),
            user: USER,
        },
    });
    let first = servers.first().map(|server| server.connection.clone());
    Kubeconfig {
        api_version: "v1",
        kind: "Config",
        clusters: clusters.collect(),
        contexts: contexts.collect(),
        current_context: first.unwrap_or_default(),
        users: vec![NamedUser {
            name: USER,
            user: User { token: DUMMY },
        }],
    }
}
