//! What a Connection's spec comes to once its references are read. Pure.
//!
//! ```text
//! ConnectionSpec ─references─► what to read ─material─► credential + CA, or a Fault
//! material ─settings─► where to log in and as whom
//! ```

use std::collections::BTreeMap;

use chaperone_control::{Fault, SecretBytes};
use chaperone_crds::{
    AccessPolicy, CaSource, ConditionReason, Connection, ConnectionSpec, KeyRef, PostgresTarget,
    TlsMode as SpecTls,
};
use chaperone_postgres::server::{Credential, Proof, Target};
use chaperone_wire::{
    AllowSpecial, ClientIdentity, Secret, SpecialAddress, TlsClient, TlsMode, TlsSettings,
};

use crate::references::{Data, Kind, Missing, Read, Reference};

/// The keys of a credential's Secret that mean something; the others stay where they are.
const CREDENTIAL_KEYS: [&str; 4] = ["username", "password", "tls.crt", "tls.key"];

/// What was read for one Connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Material {
    /// What a sidecar logs in with.
    pub credential: BTreeMap<String, SecretBytes>,
    /// PEM of the CA that `tls.ca` names.
    pub ca: Option<String>,
}

/// A fault with its reason and what to do.
pub fn fault(reason: ConditionReason, message: impl Into<String>) -> Fault {
    Fault {
        reason: reason.as_str().to_owned(),
        message: message.into(),
    }
}

/// Which special addresses are dialled, by `--allow-special-targets`.
pub fn special(allow: bool) -> AllowSpecial {
    match allow {
        true => AllowSpecial::LiteralLoopback,
        false => AllowSpecial::Nothing,
    }
}

/// Host and port, as `status.target` shows them.
pub fn display(spec: &ConnectionSpec) -> Option<String> {
    if let Some(postgres) = &spec.postgres {
        let host = &postgres.host;
        return Some(match host.contains(':') {
            true => format!("[{host}]:{}", postgres.port),
            false => format!("{host}:{}", postgres.port),
        });
    }
    if let Some(http) = &spec.http {
        return Some(http.url.chars().take(320).collect());
    }
    if let Some(ssh) = &spec.ssh {
        return Some(format!("{}:{}", ssh.host, ssh.port));
    }
    None
}

/// The PostgreSQL target of a spec, if it may be one.
///
/// # Errors
/// `Unsupported` for another protocol, `TargetNotAllowed` for a special address written out, or for
/// a short name that nothing proves. An address that a name leads to is refused by whoever
/// resolves it.
pub fn postgres(spec: &ConnectionSpec, allow_special: bool) -> Result<&PostgresTarget, Fault> {
    let Some(postgres) = &spec.postgres else {
        return Err(fault(
            ConditionReason::Unsupported,
            "only postgres is served so far",
        ));
    };
    if allow_special {
        return Ok(postgres);
    }
    let host = postgres.host.trim_end_matches('.').to_ascii_lowercase();
    let special = match host.parse() {
        Ok(address) => SpecialAddress::of(address).map(|special| special.to_string()),
        Err(_) if host == "localhost" || host.ends_with(".localhost") => {
            Some(SpecialAddress::Loopback.to_string())
        }
        Err(_) => None,
    };
    match special {
        None if is_short(&postgres.host) && postgres.tls.mode == SpecTls::Disable => Err(fault(
            ConditionReason::TargetNotAllowed,
            format!(
                "without TLS nobody proves to be {0:?}, and a name this short is looked up among \
                 the agent's own services first; write it in full, such as \
                 {0}.svc.cluster.local, or end it with a dot",
                postgres.host
            ),
        )),
        None => Ok(postgres),
        Some(special) => Err(fault(
            ConditionReason::TargetNotAllowed,
            format!(
                "{} is {special}, which is never a target; name the host, or set the chart value \
                 allowSpecialTargets",
                postgres.host
            ),
        )),
    }
}

/// Whether a resolver with a pod's search list (`NAMESPACE.svc.cluster.local` first, `ndots:5`) may
/// find it among the services of the pod's namespace, as SERVICE or HOSTNAME.SERVICE.
fn is_short(host: &str) -> bool {
    !host.ends_with('.') && host.parse::<std::net::IpAddr>().is_err() && host.split('.').count() < 3
}

/// Whether a Connection admits pods of a namespace, whose labels may not be known.
pub fn admits(
    connection: &Connection,
    namespace: &str,
    labels: Option<&BTreeMap<String, String>>,
) -> bool {
    if connection.metadata.namespace.as_deref() == Some(namespace) {
        return true;
    }
    // Labels that are not known are not no labels: `NotIn` would select those.
    match (&connection.spec.consumers, labels) {
        (Some(consumers), Some(labels)) => consumers.namespace_selector.matches(labels),
        _ => false,
    }
}

/// The Connections that a policy names, as (namespace, name); `None` for one that it names
/// illegibly, which may be any.
pub fn named(policy: &AccessPolicy) -> impl Iterator<Item = Option<(&str, &str)>> {
    let own = policy.metadata.namespace.as_deref().unwrap_or_default();
    policy.spec.connections.iter().map(move |text| {
        let (namespace, name) = text.split_once('/').unwrap_or((own, text));
        let legible = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
        legible.then_some((namespace, name))
    })
}

/// Whether a policy is for a Connection.
pub fn names(policy: &AccessPolicy, namespace: &str, name: &str) -> bool {
    named(policy).any(|named| named.is_none_or(|named| named == (namespace, name)))
}

/// What a Connection in `namespace` refers to.
pub fn references(namespace: &str, postgres: &PostgresTarget) -> Vec<Reference> {
    let reference = |kind, name: &str| Reference {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let mut found = vec![reference(Kind::Secret, &postgres.credential.secret.name)];
    if let Some((kind, key)) = postgres.tls.ca.as_ref().and_then(ca_of) {
        found.push(reference(kind, &key.name));
    }
    found
}

/// Picks what a sidecar needs out of what was read.
///
/// # Errors
/// The first reference that is missing or unusable.
pub fn material(
    namespace: &str,
    postgres: &PostgresTarget,
    read: &BTreeMap<Reference, Read>,
) -> Result<Material, Fault> {
    let secret = data(
        namespace,
        Kind::Secret,
        &postgres.credential.secret.name,
        "spec.postgres.credential.secret.name",
        read,
    )?;
    let credential = CREDENTIAL_KEYS
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), secret.get(*key)?.clone())))
        .collect();
    let ca = match postgres.tls.ca.as_ref().and_then(ca_of) {
        None => None,
        Some((kind, reference)) => {
            let path = "spec.postgres.tls.ca";
            let found = data(namespace, kind, &reference.name, path, read)?;
            let text = found
                .get(&reference.key)
                .and_then(|bytes| std::str::from_utf8(bytes.expose()).ok());
            let text = text.ok_or_else(|| {
                let (kind, name, key) = (kind.as_str(), &reference.name, &reference.key);
                fault(
                    ConditionReason::RefNotFound,
                    format!("{path}: {kind} {name:?} has no usable key {key:?}"),
                )
            })?;
            Some(text.to_owned())
        }
    };
    let material = Material { credential, ca };
    settings(postgres, &material)?;
    Ok(material)
}

/// Where to log in and as whom.
///
/// # Errors
/// Keys that are missing, certificates that are none.
pub fn settings(
    postgres: &PostgresTarget,
    material: &Material,
) -> Result<(Target, Credential), Fault> {
    let secret = &postgres.credential.secret.name;
    let unusable = |message: String| fault(ConditionReason::RefNotFound, message);
    let value = |key: &str| material.credential.get(key).map(SecretBytes::expose);
    let identity = match (value("tls.crt"), value("tls.key")) {
        (Some(certificates), Some(key)) => Some(ClientIdentity {
            certificates_pem: certificates.to_vec(),
            key_pem: Secret::new(key.to_vec()),
        }),
        _ => None,
    };
    let has_identity = identity.is_some();
    let tls = TlsClient::new(&TlsSettings {
        mode: match postgres.tls.mode {
            SpecTls::Disable => TlsMode::Disable,
            SpecTls::VerifyFull => TlsMode::VerifyFull,
        },
        ca_pem: material.ca.as_ref().map(|text| text.clone().into_bytes()),
        identity,
    })
    .map_err(|error| unusable(format!("spec.postgres.tls: {error}")))?;
    let username = value("username")
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .filter(|name| !name.is_empty())
        .ok_or_else(|| unusable(format!("Secret {secret:?} has no usable key username")))?;
    let proof = match value("password") {
        Some(password) => Proof::Password(Secret::new(password.to_vec())),
        None if has_identity => Proof::ClientCertificate,
        None => {
            return Err(unusable(format!(
                "Secret {secret:?} needs keys username and password, or username, tls.crt and \
                 tls.key"
            )));
        }
    };
    Ok((
        Target {
            host: postgres.host.clone(),
            port: postgres.port,
            database: postgres.database.clone().unwrap_or_default(),
            tls,
        },
        Credential {
            username: username.to_owned(),
            proof,
        },
    ))
}

fn ca_of(source: &CaSource) -> Option<(Kind, &KeyRef)> {
    match (&source.config_map, &source.secret) {
        (Some(reference), _) => Some((Kind::ConfigMap, reference)),
        (None, Some(reference)) => Some((Kind::Secret, reference)),
        (None, None) => None,
    }
}

fn data<'a>(
    namespace: &str,
    kind: Kind,
    name: &str,
    path: &str,
    read: &'a BTreeMap<Reference, Read>,
) -> Result<&'a Data, Fault> {
    let reference = Reference {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let kind = kind.as_str();
    match read.get(&reference) {
        Some(Ok(data)) => Ok(data),
        Some(Err(Missing::NotFound)) => Err(fault(
            ConditionReason::RefNotFound,
            format!("{path}: there is no {kind} {name:?} in namespace {namespace:?}"),
        )),
        Some(Err(Missing::NotPermitted)) => Err(fault(
            ConditionReason::RefNotPermitted,
            format!(
                "{path}: the operator may not read {kind} {name:?}; add namespace {namespace:?} to \
                 the chart value connectionNamespaces"
            ),
        )),
        None | Some(Err(Missing::Unavailable)) => Err(fault(
            ConditionReason::ApiUnavailable,
            format!("{path}: {kind} {name:?} could not be read yet; it is tried again"),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn a_short_name_that_nothing_proves_is_refused() {
        let spec = |host: &str, mode: &str| -> ConnectionSpec {
            let text = format!(
                "postgres: {{host: '{host}', tls: {{mode: {mode}}}, credential: {{secret: {{name: a}}}}}}"
            );
            serde_saphyr::from_str(&text).unwrap()
        };
        for host in ["orders", "orders.db"] {
            let fault = postgres(&spec(host, "Disable"), false).expect_err(host);
            assert_eq!(fault.reason, "TargetNotAllowed");
            assert!(
                fault.message.contains(".svc.cluster.local"),
                "{}",
                fault.message
            );
            // A certificate in that name proves more than a resolver does.
            postgres(&spec(host, "VerifyFull"), false).unwrap();
        }
        for host in [
            "orders.db.svc.cluster.local",
            "db.example.com",
            "example.com.",
            "10.1.2.3",
            "2001:db8::1",
        ] {
            postgres(&spec(host, "Disable"), false).expect(host);
        }
    }
}
