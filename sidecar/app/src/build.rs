//! A Connection with its references read: what a listener needs.
//!
//! ```text
//! manifests ─endpoint─┐
//!                     ├─► Resolved ─► Endpoint
//! snapshot ───────────┘
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use chaperone_crds::{
    CaSource, ConditionReason, Connection, ConnectionSpec, HttpTarget, KubernetesTarget, Origin,
    PostgresTarget, TlsMode,
};
use chaperone_http::server as http;
use chaperone_manifests::{Located, Manifests, Problem, SecretBytes};
use chaperone_postgres::server as postgres;
use chaperone_postgres::server::Proof;
use chaperone_wire::{ClientIdentity, Secret, TlsClient, TlsSettings};

/// Where to and as whom. Two that are equal need no new listener.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `namespace/name`.
    pub name: String,
    /// The loopback port.
    pub port: u16,
    /// Where to and as whom.
    pub upstream: Upstream,
    /// Changes when anything above does; of the secret only its hash.
    pub fingerprint: [u8; 32],
}

/// The target and its credential, by protocol.
#[derive(Debug, Clone)]
pub enum Upstream {
    /// A PostgreSQL server.
    Postgres {
        /// Where to.
        target: postgres::Target,
        /// As whom.
        credential: postgres::Credential,
    },
    /// An HTTP API.
    Http {
        /// Where to.
        target: http::Target,
        /// What is added to requests.
        credential: Option<http::Credential>,
    },
    /// A Kubernetes API.
    Kubernetes {
        /// Where to.
        target: http::Target,
        /// What is added to requests; a client certificate is in the target's TLS.
        credential: Option<http::Credential>,
    },
}

/// As it stands in evidence: host and port, and the database or the path that is pinned.
impl std::fmt::Display for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Upstream::Postgres { target, .. } => {
                write!(f, "{}:{}/{}", target.host, target.port, target.database)
            }
            Upstream::Http { target, .. } | Upstream::Kubernetes { target, .. } => {
                write!(f, "{}:{}{}", target.host, target.port, target.prefix)
            }
        }
    }
}

impl Upstream {
    /// Host and port.
    pub fn authority(&self) -> String {
        match self {
            Upstream::Postgres { target, .. } => format!("{}:{}", target.host, target.port),
            Upstream::Http { target, .. } | Upstream::Kubernetes { target, .. } => {
                format!("{}:{}", target.host, target.port)
            }
        }
    }
}

/// A target that is served.
#[derive(Debug, Clone, Copy)]
pub enum Served<'a> {
    /// A PostgreSQL server.
    Postgres(&'a PostgresTarget),
    /// An HTTP API.
    Http(&'a HttpTarget),
    /// A Kubernetes API.
    Kubernetes(&'a KubernetesTarget),
}

impl<'a> Served<'a> {
    /// The target of a Connection; `None` for kinds that this version does not serve.
    pub fn of(spec: &'a ConnectionSpec) -> Option<Served<'a>> {
        match (&spec.postgres, &spec.http, &spec.kubernetes) {
            (Some(postgres), _, _) => Some(Served::Postgres(postgres)),
            (None, Some(http), _) => Some(Served::Http(http)),
            (None, None, Some(kubernetes)) => Some(Served::Kubernetes(kubernetes)),
            (None, None, None) => None,
        }
    }

    /// How the target proves who it is, and the field that says so.
    fn tls(self) -> (TlsMode, &'static str) {
        match self {
            Served::Postgres(target) => (target.tls.mode, "spec.postgres.tls"),
            Served::Http(target) => (target.tls.mode, "spec.http.tls"),
            Served::Kubernetes(_) => (TlsMode::VerifyFull, "spec.kubernetes"),
        }
    }
}

/// What a Connection says, with its references read from wherever they are.
pub struct Resolved<'a> {
    /// `namespace/name`.
    pub name: String,
    /// Where it is served.
    pub port: u16,
    /// The target.
    pub target: Served<'a>,
    /// The keys of the credential's Secret.
    pub credential: BTreeMap<&'a str, &'a [u8]>,
    /// PEM of the CA that `tls.ca` names.
    pub ca: Option<&'a [u8]>,
    /// Where the pod's own token for the API server is; `None` standalone.
    pub own_token: Option<PathBuf>,
}

impl std::fmt::Debug for Resolved<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolved")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What keeps a Connection from being served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// The constant.
    pub reason: ConditionReason,
    /// The field of the Connection.
    pub path: &'static str,
    /// What is wrong with what it refers to.
    pub message: String,
}

impl Resolved<'_> {
    /// Checks that what was read can be used.
    ///
    /// # Errors
    /// [`Unusable`]: a key that is missing, or TLS material that is none.
    pub fn endpoint(&self) -> Result<Endpoint, Unusable> {
        let settings = self.tls();
        let client = TlsClient::new(&settings)
            .map_err(|error| unusable(self.target.tls().1, error.to_string()))?;
        let upstream = match self.target {
            Served::Postgres(target) => self.postgres(target, client, &settings)?,
            Served::Http(target) => self.http(target, client)?,
            Served::Kubernetes(target) => self.kubernetes(target, client, &settings)?,
        };
        Ok(Endpoint {
            name: self.name.clone(),
            port: self.port,
            fingerprint: self.fingerprint(),
            upstream,
        })
    }

    fn postgres(
        &self,
        target: &PostgresTarget,
        tls: TlsClient,
        settings: &TlsSettings,
    ) -> Result<Upstream, Unusable> {
        let missing = |key: &str| {
            unusable(
                "spec.postgres.credential.secret.name",
                format!("its Secret has no usable key {key}"),
            )
        };
        let username = self
            .credential
            .get("username")
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        let (username, proof) = match (username, self.credential.get("password")) {
            (Some(username), Some(password)) => (
                username.to_owned(),
                Proof::Password(Secret::new(password.to_vec())),
            ),
            (Some(username), None) if settings.identity.is_some() => {
                (username.to_owned(), Proof::ClientCertificate)
            }
            (None, _) => return Err(missing("username")),
            (Some(_), None) => return Err(missing("password")),
        };
        Ok(Upstream::Postgres {
            target: postgres::Target {
                host: target.host.clone(),
                port: target.port,
                database: target.database.clone().unwrap_or_default(),
                tls,
            },
            credential: postgres::Credential { username, proof },
        })
    }

    fn http(&self, target: &HttpTarget, tls: TlsClient) -> Result<Upstream, Unusable> {
        let wrong = |message: &str| Unusable {
            reason: ConditionReason::Invalid,
            path: "spec.http.url",
            message: message.to_owned(),
        };
        let origin = Origin::of(&target.url)
            .ok_or_else(|| wrong("is no URL of http:// or https://, a host and a port"))?;
        let path = match origin.path {
            "" => "/",
            path => path,
        };
        let prefix = chaperone_http::normal::target(path, None)
            .map_err(|error| wrong(&error.to_string()))?;
        let credential = match &target.credential {
            None => None,
            Some(credential) => {
                let key = &credential.secret.key;
                let found = self.credential.get(key.as_str());
                let value = found.map(|value| value.trim_ascii_end()).ok_or_else(|| {
                    unusable(
                        "spec.http.credential.secret.key",
                        format!("its Secret has no key {key}"),
                    )
                })?;
                let header = http::header(&credential.header, value).ok_or_else(|| {
                    unusable(
                        "spec.http.credential",
                        "its value holds what no field may".to_owned(),
                    )
                })?;
                Some(header)
            }
        };
        Ok(Upstream::Http {
            target: http::Target {
                host: origin.host,
                port: origin.port,
                secure: origin.secure,
                prefix: prefix.path,
                hosts: target
                    .hosts
                    .iter()
                    .map(|host| host.to_ascii_lowercase())
                    .collect(),
                tls,
            },
            credential,
        })
    }

    fn kubernetes(
        &self,
        target: &KubernetesTarget,
        tls: TlsClient,
        settings: &TlsSettings,
    ) -> Result<Upstream, Unusable> {
        let path = "spec.kubernetes.credential";
        let missing = |message: &str| unusable(path, message.to_owned());
        let origin = Origin::of(target.url()).ok_or_else(|| Unusable {
            reason: ConditionReason::Invalid,
            path: "spec.kubernetes.server",
            message: "is no URL of a host and a port".to_owned(),
        })?;
        let token = self.credential.get("token");
        let credential = match (token, &target.credential.service_account, &self.own_token) {
            (Some(token), ..) => {
                let header = http::token(token);
                Some(header.ok_or_else(|| missing("its token holds what no field may"))?)
            }
            (None, Some(_), Some(path)) => Some(http::token_file(path.clone())),
            (None, Some(_), None) => {
                return Err(Unusable {
                    reason: ConditionReason::Unsupported,
                    path,
                    message: chaperone_manifests::NO_CLUSTER.to_owned(),
                });
            }
            (None, None, _) if settings.identity.is_some() => None,
            (None, None, _) => {
                return Err(missing(
                    "its Secret has no key token, and no tls.crt and tls.key",
                ));
            }
        };
        Ok(Upstream::Kubernetes {
            target: http::Target {
                host: origin.host,
                port: origin.port,
                secure: true,
                prefix: "/".to_owned(),
                hosts: Vec::new(),
                tls,
            },
            credential,
        })
    }

    fn tls(&self) -> TlsSettings {
        let identity = match (
            self.credential.get("tls.crt"),
            self.credential.get("tls.key"),
        ) {
            (Some(certificate), Some(key)) => Some(ClientIdentity {
                certificates_pem: certificate.to_vec(),
                key_pem: Secret::new(key.to_vec()),
            }),
            _ => None,
        };
        TlsSettings {
            mode: match self.target.tls().0 {
                TlsMode::Disable => chaperone_wire::TlsMode::Disable,
                TlsMode::VerifyFull => chaperone_wire::TlsMode::VerifyFull,
            },
            ca_pem: self.ca.map(<[u8]>::to_vec),
            identity,
        }
    }

    fn fingerprint(&self) -> [u8; 32] {
        use aws_lc_rs::digest::{Context, SHA256};
        let mut context = Context::new(&SHA256);
        let mut add = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        add(&self.port.to_be_bytes());
        add(format!("{:?}", self.target).as_bytes());
        for (key, value) in &self.credential {
            add(key.as_bytes());
            add(value);
        }
        add(self.ca.unwrap_or_default());
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        out
    }
}

impl Endpoint {
    /// Leads nowhere: for a connection whose policies deny everyone before anything is dialled.
    pub fn nowhere(name: String, port: u16) -> Endpoint {
        Endpoint {
            name,
            port,
            upstream: Upstream::Postgres {
                target: postgres::Target {
                    // No name and no address: nothing resolves it.
                    host: String::new(),
                    port: 0,
                    database: String::new(),
                    tls: TlsClient::disabled(),
                },
                credential: postgres::Credential {
                    username: String::new(),
                    proof: Proof::Password(Secret::new(Vec::new())),
                },
            },
            fingerprint: [0; 32],
        }
    }
}

/// Reads the references of one Connection of a folder.
///
/// # Errors
/// The first [`Problem`]: a reference that is missing or unusable.
pub fn endpoint(
    connection: &Located<Connection>,
    manifests: &Manifests,
) -> Result<Endpoint, Problem> {
    let Some(target) = Served::of(&connection.value.spec) else {
        return Err(connection.problem_because(
            ConditionReason::Unsupported,
            "spec",
            chaperone_manifests::UNSERVED,
        ));
    };
    let port = chaperone_manifests::listen_port(connection)?;
    let none = SecretValues::new();
    let spec = &connection.value.spec;
    let secret = match spec.secret() {
        Some((name, path)) => secret(connection, name, path, manifests)?,
        None => &none,
    };
    let ca = match spec.ca() {
        None => None,
        Some((source, path)) => Some(ca(connection, source, path, manifests)?),
    };
    let resolved = Resolved {
        name: connection.qualified_name(),
        port,
        target,
        credential: secret
            .iter()
            .map(|(key, value)| (key.as_str(), value.expose()))
            .collect(),
        ca: ca.as_deref(),
        own_token: None,
    };
    resolved.endpoint().map_err(|unusable| {
        connection.problem_because(unusable.reason, unusable.path, unusable.message)
    })
}

/// What is wrong with the references of all Connections, and with all IdentityProviders.
pub fn problems(manifests: &Manifests) -> Vec<Problem> {
    let mut problems: Vec<Problem> = manifests
        .connections
        .iter()
        .filter_map(|connection| endpoint(connection, manifests).err())
        .collect();
    problems.extend(provider_problems(manifests));
    problems
}

/// Keys and CAs that are none: no token of such a provider is believed.
pub fn provider_problems(manifests: &Manifests) -> Vec<Problem> {
    let mut problems = Vec::new();
    for provider in &manifests.identity_providers {
        for (path, message) in chaperone_identity::problems(&provider.value.spec) {
            problems.push(provider.problem(path, message));
        }
    }
    problems
}

fn unusable(path: &'static str, message: String) -> Unusable {
    Unusable {
        reason: ConditionReason::RefNotFound,
        path,
        message,
    }
}

type SecretValues = BTreeMap<String, SecretBytes>;

fn secret<'a>(
    connection: &Located<Connection>,
    name: &str,
    path: &str,
    manifests: &'a Manifests,
) -> Result<&'a SecretValues, Problem> {
    manifests
        .secrets
        .get(&(connection.namespace.clone(), name.to_owned()))
        .ok_or_else(|| {
            connection.problem_because(
                ConditionReason::RefNotFound,
                path,
                format!(
                    "there is no Secret {name:?} in namespace {:?}",
                    connection.namespace
                ),
            )
        })
}

fn ca(
    connection: &Located<Connection>,
    source: &CaSource,
    path: &str,
    manifests: &Manifests,
) -> Result<Vec<u8>, Problem> {
    let (kind, reference) = match (&source.config_map, &source.secret) {
        (Some(reference), _) => ("ConfigMap", reference),
        (None, Some(reference)) => ("Secret", reference),
        (None, None) => {
            return Err(connection.problem(path, "name one of configMap, secret"));
        }
    };
    let at = (connection.namespace.clone(), reference.name.clone());
    let found = if kind == "ConfigMap" {
        manifests
            .config_maps
            .get(&at)
            .and_then(|values| values.get(&reference.key))
            .map(|text| text.clone().into_bytes())
    } else {
        manifests
            .secrets
            .get(&at)
            .and_then(|values| values.get(&reference.key))
            .map(|bytes| bytes.expose().to_vec())
    };
    found.ok_or_else(|| {
        connection.problem_because(
            ConditionReason::RefNotFound,
            path,
            format!(
                "there is no {kind} {:?} with key {:?}",
                reference.name, reference.key
            ),
        )
    })
}
