//! What to inject: the annotation with its Connections resolved.

use k8s_openapi::api::core::v1::ResourceRequirements;

use crate::{Reference, Refusal};

/// What to inject into one pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The pod's namespace, where short names of Services are at home.
    pub namespace: String,
    /// The targets, in the order of the annotation.
    pub targets: Vec<Target>,
    /// Whom the sidecar reports to.
    pub operator: Operator,
    /// The sidecar's image and resources.
    pub sidecar: Sidecar,
    /// Why the workload runs.
    pub purpose: Option<String>,
}

/// A Connection as far as a pod needs to know it: never its credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub reference: Reference,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The database that it is pinned to.
    pub database: Option<String>,
    /// Other host names that stand for it.
    pub names: Vec<String>,
}

/// What is spoken with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// PostgreSQL.
    Postgres,
    /// HTTP, encrypted or not.
    Http,
    /// The API of Kubernetes.
    Kubernetes(Cluster),
}

/// What a pod has to know of a Kubernetes API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cluster {
    /// It is that of the pod's own cluster.
    pub own: bool,
    /// The sidecar authenticates as the pod's service account.
    pub as_pod: bool,
}

/// Whom the sidecar reports to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// `https://host:port` of the control API.
    pub url: String,
    /// PEM of the CAs that it may be certified by.
    pub authorities: String,
}

/// What of the sidecar's container is set at installation.
#[derive(Debug, Clone, PartialEq)]
pub struct Sidecar {
    /// Its image.
    pub image: String,
    /// Its resources.
    pub resources: Option<ResourceRequirements>,
}

impl Target {
    /// A Connection as a target.
    ///
    /// # Errors
    /// [`Refusal::Unsupported`] for a protocol that this build does not serve,
    /// [`Refusal::Malformed`] for a URL that is none.
    pub fn of(
        reference: Reference,
        spec: &chaperone_crds::ConnectionSpec,
    ) -> Result<Target, Refusal> {
        if let Some(postgres) = &spec.postgres {
            return Ok(Target {
                reference,
                protocol: Protocol::Postgres,
                host: postgres.host.clone(),
                port: postgres.port,
                database: postgres.database.clone(),
                names: Vec::new(),
            });
        }
        if let Some(http) = &spec.http {
            let origin = chaperone_crds::Origin::of(&http.url).ok_or_else(|| {
                Refusal::Malformed(format!("spec.http.url of Connection {reference} is no URL"))
            })?;
            return Ok(Target {
                reference,
                protocol: Protocol::Http,
                host: origin.host,
                port: origin.port,
                database: None,
                names: http.hosts.clone(),
            });
        }
        if let Some(kubernetes) = &spec.kubernetes {
            let origin = chaperone_crds::Origin::of(kubernetes.url()).ok_or_else(|| {
                Refusal::Malformed(format!(
                    "spec.kubernetes.server of Connection {reference} is no URL"
                ))
            })?;
            return Ok(Target {
                reference,
                protocol: Protocol::Kubernetes(Cluster {
                    own: kubernetes.server.is_none(),
                    // Sent elsewhere it would be given away.
                    as_pod: kubernetes.server.is_none()
                        && kubernetes.credential.service_account.is_some(),
                }),
                host: origin.host,
                port: origin.port,
                database: None,
                names: Vec::new(),
            });
        }
        let protocol = if spec.ssh.is_some() { "SSH" } else { "nothing" };
        Err(Refusal::Unsupported {
            connection: reference.to_string(),
            protocol,
        })
    }

    /// Whether clients tell the two apart by the database they ask for.
    pub(crate) fn differs_by_pin(&self, other: &Target) -> bool {
        match (&self.database, &other.database) {
            (Some(own), Some(other)) => own != other,
            _ => false,
        }
    }
}
