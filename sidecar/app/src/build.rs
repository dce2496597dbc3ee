//! A Connection with its references read: what a listener needs.
//!
//! ```text
//! manifests ─endpoint─┐
//!                     ├─► Resolved ─► Endpoint
//! snapshot ───────────┘
//! ```

use std::collections::BTreeMap;

use chaperone_crds::{CaSource, ConditionReason, Connection, PostgresTarget, TlsMode};
use chaperone_manifests::{Located, Manifests, Problem, SecretBytes};
use chaperone_postgres::server::{Credential, Proof, Target};
use chaperone_wire::{ClientIdentity, Secret, TlsClient, TlsSettings};

/// Where to and as whom. Two that are equal need no new listener.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `namespace/name`.
    pub name: String,
    /// The loopback port.
    pub port: u16,
    /// Where to.
    pub target: Target,
    /// As whom.
    pub credential: Credential,
    /// Changes when anything above does; of the secret only its hash.
    pub fingerprint: [u8; 32],
}

/// What a Connection says, with its references read from wherever they are.
pub struct Resolved<'a> {
    /// `namespace/name`.
    pub name: String,
    /// Where it is served.
    pub port: u16,
    /// The target.
    pub postgres: &'a PostgresTarget,
    /// The keys of the credential's Secret.
    pub credential: BTreeMap<&'a str, &'a [u8]>,
    /// PEM of the CA that `tls.ca` names.
    pub ca: Option<&'a [u8]>,
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
        let unusable = |path, message| Unusable {
            reason: ConditionReason::RefNotFound,
            path,
            message,
        };
        let settings = self.tls();
        let client = TlsClient::new(&settings)
            .map_err(|error| unusable("spec.postgres.tls", error.to_string()))?;
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
        Ok(Endpoint {
            name: self.name.clone(),
            port: self.port,
            fingerprint: self.fingerprint(),
            target: Target {
                host: self.postgres.host.clone(),
                port: self.postgres.port,
                database: self.postgres.database.clone().unwrap_or_default(),
                tls: client,
            },
            credential: Credential { username, proof },
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
            mode: match self.postgres.tls.mode {
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
        add(format!("{:?}", self.postgres).as_bytes());
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
            target: Target {
                // No name and no address: nothing resolves it.
                host: String::new(),
                port: 0,
                database: String::new(),
                tls: TlsClient::disabled(),
            },
            credential: Credential {
                username: String::new(),
                proof: Proof::Password(Secret::new(Vec::new())),
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
    let Some(postgres) = &connection.value.spec.postgres else {
        return Err(connection.problem_because(
            ConditionReason::Unsupported,
            "spec",
            "only postgres is served standalone so far",
        ));
    };
    let port = chaperone_manifests::listen_port(connection)?;
    let secret = secret(connection, postgres, manifests)?;
    let ca = match &postgres.tls.ca {
        None => None,
        Some(source) => Some(ca(connection, source, manifests)?),
    };
    let resolved = Resolved {
        name: connection.qualified_name(),
        port,
        postgres,
        credential: secret
            .iter()
            .map(|(key, value)| (key.as_str(), value.expose()))
            .collect(),
        ca: ca.as_deref(),
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

type SecretValues = BTreeMap<String, SecretBytes>;

fn secret<'a>(
    connection: &Located<Connection>,
    postgres: &PostgresTarget,
    manifests: &'a Manifests,
) -> Result<&'a SecretValues, Problem> {
    let name = &postgres.credential.secret.name;
    manifests
        .secrets
        .get(&(connection.namespace.clone(), name.clone()))
        .ok_or_else(|| {
            connection.problem_because(
                ConditionReason::RefNotFound,
                "spec.postgres.credential.secret.name",
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
    manifests: &Manifests,
) -> Result<Vec<u8>, Problem> {
    let (kind, reference) = match (&source.config_map, &source.secret) {
        (Some(reference), _) => ("ConfigMap", reference),
        (None, Some(reference)) => ("Secret", reference),
        (None, None) => {
            return Err(connection.problem("spec.postgres.tls.ca", "name one of configMap, secret"));
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
            "spec.postgres.tls.ca",
            format!(
                "there is no {kind} {:?} with key {:?}",
                reference.name, reference.key
            ),
        )
    })
}
