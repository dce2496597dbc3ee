//! What a Connection's spec comes to once its references are read. Pure.
//!
//! ```text
//! ConnectionSpec ─served─► Target, or a Fault: not served, or never a target
//! Target ─references─► what to read ─material─► credential + CA, or a Fault
//! material ─upstream─► where to and as whom, which is what a probe needs
//! ```

use std::collections::BTreeMap;

use axum::http::HeaderValue;
use chaperone_control::{Fault, SecretBytes};
use chaperone_crds::{
    AccessPolicy, CaSource, ConditionReason, Connection, ConnectionSpec, HttpTarget, KeyRef,
    KubernetesTarget, Origin, PostgresTarget, TlsMode as SpecTls,
};
use chaperone_postgres::server as postgres;
use chaperone_postgres::server::Proof;
use chaperone_wire::{
    AllowSpecial, ClientIdentity, Secret, SpecialAddress, TlsClient, TlsMode, TlsSettings,
};

use crate::references::{Data, Kind, Missing, Read, Reference};

/// The keys of a PostgreSQL credential's Secret that mean something; the others stay where they
/// are.
const POSTGRES_KEYS: [&str; 4] = ["username", "password", "tls.crt", "tls.key"];

/// The keys of a Kubernetes credential's Secret that mean something.
const KUBERNETES_KEYS: [&str; 3] = ["token", "tls.crt", "tls.key"];
/// Where every namespace has the CA of its own cluster's API server, and the key
/// (kube-controller-manager, root-ca-certificate-publisher-controller).
const CLUSTER_CA: (&str, &str) = ("kube-root-ca.crt", "ca.crt");

/// A target of a kind that this version serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    spec: &'a ConnectionSpec,
    kind: Protocol<'a>,
}

/// What is spoken with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol<'a> {
    Postgres(&'a PostgresTarget),
    Http(&'a HttpTarget),
    Kubernetes(&'a KubernetesTarget),
}

/// Where to and as whom.
#[derive(Debug, Clone)]
pub enum Upstream {
    /// A PostgreSQL server, to log in to.
    Postgres {
        /// Where to.
        target: postgres::Target,
        /// As whom.
        credential: postgres::Credential,
    },
    /// What is only reached: nothing can be asked of it that has no effect for certain.
    Other {
        /// Host name or IP address.
        host: String,
        /// Port.
        port: u16,
        /// Whether it has to prove who it is.
        tls: TlsClient,
    },
}

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
    if let Some(kubernetes) = &spec.kubernetes {
        return Some(kubernetes.url().chars().take(320).collect());
    }
    if let Some(ssh) = &spec.ssh {
        return Some(format!("{}:{}", ssh.host, ssh.port));
    }
    None
}

/// The target of a spec, if it may be one.
///
/// # Errors
/// `Unsupported` for a protocol that is not served, `TargetNotAllowed` for a special address written
/// out, or for a short name that nothing proves. An address that a name leads to is refused by
/// whoever resolves it.
pub fn served(spec: &ConnectionSpec, allow_special: bool) -> Result<Target<'_>, Fault> {
    let kind = match (&spec.postgres, &spec.http, &spec.kubernetes) {
        (Some(postgres), _, _) => Protocol::Postgres(postgres),
        (None, Some(http), _) => Protocol::Http(http),
        (None, None, Some(kubernetes)) => Protocol::Kubernetes(kubernetes),
        (None, None, None) => {
            return Err(fault(
                ConditionReason::Unsupported,
                "only postgres, http and kubernetes are served so far",
            ));
        }
    };
    let target = Target { spec, kind };
    if let Protocol::Kubernetes(kubernetes) = kind
        && kubernetes.server.is_some()
        && kubernetes.credential.service_account.is_some()
    {
        return Err(fault(
            ConditionReason::TargetNotAllowed,
            "a pod's own token is for the API server of its own cluster, and sent to no other: \
             write inCluster: true",
        ));
    }
    let (host, _) = target.authority()?;
    if !allow_special {
        allowed(&host, target.proves_nothing())?;
    }
    Ok(target)
}

/// Whether a host may be a target where none is special.
fn allowed(host: &str, proves_nothing: bool) -> Result<(), Fault> {
    let bare = host.trim_end_matches('.').to_ascii_lowercase();
    let special = match bare.parse() {
        Ok(address) => SpecialAddress::of(address).map(|special| special.to_string()),
        Err(_) if bare == "localhost" || bare.ends_with(".localhost") => {
            Some(SpecialAddress::Loopback.to_string())
        }
        Err(_) => None,
    };
    match special {
        None if is_short(host) && proves_nothing => Err(fault(
            ConditionReason::TargetNotAllowed,
            format!(
                "without TLS nobody proves to be {host:?}, and a name this short is looked up among \
                 the agent's own services first; write it in full, such as \
                 {host}.svc.cluster.local, or end it with a dot"
            ),
        )),
        None => Ok(()),
        Some(special) => Err(fault(
            ConditionReason::TargetNotAllowed,
            format!(
                "{host} is {special}, which is never a target; name the host, or set the chart \
                 value allowSpecialTargets"
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

impl Target<'_> {
    /// What a Connection in `namespace` refers to.
    pub fn references(&self, namespace: &str) -> Vec<Reference> {
        let reference = |kind, name: &str| Reference {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let secret = self.spec.secret();
        secret
            .map(|(name, _)| reference(Kind::Secret, name))
            .into_iter()
            .chain(self.ca().map(|ca| reference(ca.kind, ca.name)))
            .collect()
    }

    /// Picks what a sidecar needs out of what was read.
    ///
    /// # Errors
    /// The first reference that is missing or unusable.
    pub fn material(
        &self,
        namespace: &str,
        read: &BTreeMap<Reference, Read>,
    ) -> Result<Material, Fault> {
        let credential = match self.spec.secret() {
            None => BTreeMap::new(),
            Some((name, path)) => {
                let secret = data(namespace, Kind::Secret, name, path, read)?;
                self.credential_keys()
                    .iter()
                    .filter_map(|key| Some(((*key).to_owned(), secret.get(*key)?.clone())))
                    .collect()
            }
        };
        let ca = match self.ca() {
            Some(ca) => Some(ca.read(namespace, read)?),
            None => None,
        };
        let material = Material { credential, ca };
        self.upstream(&material)?;
        Ok(material)
    }

    /// Where to and as whom.
    ///
    /// # Errors
    /// Keys that are missing, certificates that are none.
    pub fn upstream(&self, material: &Material) -> Result<Upstream, Fault> {
        match self.kind {
            Protocol::Postgres(target) => log_in(target, material),
            Protocol::Http(target) => {
                if let Some(credential) = &target.credential {
                    field_value(&credential.secret, material)?;
                }
                let (host, port) = self.authority()?;
                Ok(Upstream::Other {
                    host,
                    port,
                    tls: tls(target.tls.mode, "spec.http.tls", material, None)?,
                })
            }
            Protocol::Kubernetes(target) => {
                let identity = kubernetes_identity(target, material)?;
                let (host, port) = self.authority()?;
                let path = "spec.kubernetes.ca";
                Ok(Upstream::Other {
                    host,
                    port,
                    tls: tls(SpecTls::VerifyFull, path, material, identity)?,
                })
            }
        }
    }

    /// Whose certificates are accepted, if it is not the public roots'.
    fn ca(&self) -> Option<Ca<'_>> {
        if let Some((source, path)) = self.spec.ca() {
            let (kind, key) = ca_of(source)?;
            return Some(Ca {
                kind,
                name: &key.name,
                key: &key.key,
                path,
            });
        }
        match self.kind {
            Protocol::Kubernetes(target) if target.server.is_none() => Some(Ca {
                kind: Kind::ConfigMap,
                name: CLUSTER_CA.0,
                key: CLUSTER_CA.1,
                path: "spec.kubernetes.inCluster",
            }),
            _ => None,
        }
    }

    /// What a change of may change what a probe finds.
    pub fn fingerprint(&self) -> Vec<u8> {
        match self.kind {
            Protocol::Postgres(target) => serde_json::to_vec(target),
            Protocol::Http(target) => serde_json::to_vec(target),
            Protocol::Kubernetes(target) => serde_json::to_vec(target),
        }
        .unwrap_or_default()
    }

    fn authority(&self) -> Result<(String, u16), Fault> {
        let (url, path) = match self.kind {
            Protocol::Postgres(target) => return Ok((target.host.clone(), target.port)),
            Protocol::Http(target) => (target.url.as_str(), "spec.http.url"),
            Protocol::Kubernetes(target) => (target.url(), "spec.kubernetes.server"),
        };
        match Origin::of(url) {
            Some(origin) => Ok((origin.host, origin.port)),
            None => Err(fault(
                ConditionReason::Invalid,
                format!("{path} is no URL of a scheme, a host and a port"),
            )),
        }
    }

    fn proves_nothing(&self) -> bool {
        self.spec
            .tls()
            .is_some_and(|(mode, _)| mode == SpecTls::Disable)
    }

    fn credential_keys(&self) -> Vec<&str> {
        match self.kind {
            Protocol::Postgres(_) => POSTGRES_KEYS.to_vec(),
            Protocol::Http(target) => {
                let credential = target.credential.as_ref();
                let key = credential.map(|credential| credential.secret.key.as_str());
                key.into_iter().collect()
            }
            Protocol::Kubernetes(_) => KUBERNETES_KEYS.to_vec(),
        }
    }
}

/// Where a CA is read from.
struct Ca<'a> {
    kind: Kind,
    name: &'a str,
    key: &'a str,
    /// The field that says so.
    path: &'static str,
}

impl Ca<'_> {
    fn read(&self, namespace: &str, read: &BTreeMap<Reference, Read>) -> Result<String, Fault> {
        let Ca {
            kind,
            name,
            key,
            path,
        } = *self;
        let found = data(namespace, kind, name, path, read)?;
        let text = found
            .get(key)
            .and_then(|bytes| std::str::from_utf8(bytes.expose()).ok());
        let kind = kind.as_str();
        text.map(str::to_owned)
            .ok_or_else(|| unusable(format!("{path}: {kind} {name:?} has no usable key {key:?}")))
    }
}

/// The certificate that the sidecar shows to an API server. A token is as good, and so is the pod's
/// own, which only the sidecar has.
fn kubernetes_identity(
    target: &KubernetesTarget,
    material: &Material,
) -> Result<Option<ClientIdentity>, Fault> {
    let Some(secret) = &target.credential.secret else {
        return Ok(None);
    };
    if let Some(token) = material.credential.get("token") {
        return match HeaderValue::from_bytes(token.expose().trim_ascii_end()) {
            Ok(value) if !value.is_empty() => Ok(None),
            _ => Err(unusable(format!(
                "spec.kubernetes.credential.secret: key \"token\" of Secret {:?} is no token",
                secret.name
            ))),
        };
    }
    match client_identity(material) {
        Some(identity) => Ok(Some(identity)),
        None => Err(unusable(format!(
            "spec.kubernetes.credential.secret: Secret {:?} needs a key token, or tls.crt and tls.key",
            secret.name
        ))),
    }
}

fn client_identity(material: &Material) -> Option<ClientIdentity> {
    let value = |key: &str| material.credential.get(key).map(SecretBytes::expose);
    Some(ClientIdentity {
        certificates_pem: value("tls.crt")?.to_vec(),
        key_pem: Secret::new(value("tls.key")?.to_vec()),
    })
}

/// The value of the field that is added to requests, as the sidecar writes it.
fn field_value(key: &KeyRef, material: &Material) -> Result<(), Fault> {
    let KeyRef { name, key } = key;
    let Some(value) = material.credential.get(key) else {
        return Err(unusable(format!(
            "spec.http.credential.secret: Secret {name:?} has no key {key:?}"
        )));
    };
    match HeaderValue::from_bytes(value.expose().trim_ascii_end()) {
        Ok(_) => Ok(()),
        Err(_) => Err(unusable(format!(
            "spec.http.credential.secret: key {key:?} of Secret {name:?} holds what no header may"
        ))),
    }
}

fn log_in(target: &PostgresTarget, material: &Material) -> Result<Upstream, Fault> {
    let secret = &target.credential.secret.name;
    let value = |key: &str| material.credential.get(key).map(SecretBytes::expose);
    let identity = client_identity(material);
    let has_identity = identity.is_some();
    let tls = tls(target.tls.mode, "spec.postgres.tls", material, identity)?;
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
    Ok(Upstream::Postgres {
        target: postgres::Target {
            host: target.host.clone(),
            port: target.port,
            database: target.database.clone().unwrap_or_default(),
            tls,
        },
        credential: postgres::Credential {
            username: username.to_owned(),
            proof,
        },
    })
}

fn tls(
    mode: SpecTls,
    path: &str,
    material: &Material,
    identity: Option<ClientIdentity>,
) -> Result<TlsClient, Fault> {
    TlsClient::new(&TlsSettings {
        mode: match mode {
            SpecTls::Disable => TlsMode::Disable,
            SpecTls::VerifyFull => TlsMode::VerifyFull,
        },
        ca_pem: material.ca.as_ref().map(|text| text.clone().into_bytes()),
        identity,
    })
    .map_err(|error| unusable(format!("{path}: {error}")))
}

fn unusable(message: String) -> Fault {
    fault(ConditionReason::RefNotFound, message)
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
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

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
            let fault = served(&spec(host, "Disable"), false).expect_err(host);
            assert_eq!(fault.reason, "TargetNotAllowed");
            assert!(
                fault.message.contains(".svc.cluster.local"),
                "{}",
                fault.message
            );
            // A certificate in that name proves more than a resolver does.
            served(&spec(host, "VerifyFull"), false).unwrap();
            let fault = served(&http(&format!("http://{host}:8080/v1")), false).expect_err(host);
            assert_eq!(fault.reason, "TargetNotAllowed");
            served(&http(&format!("https://{host}")), false).unwrap();
        }
        for host in [
            "orders.db.svc.cluster.local",
            "db.example.com",
            "example.com.",
            "10.1.2.3",
            "2001:db8::1",
        ] {
            served(&spec(host, "Disable"), false).expect(host);
            if !host.contains(':') {
                served(&http(&format!("http://{host}/")), false).expect(host);
            }
        }
        for url in [
            "https://127.0.0.1:8443",
            "https://[::1]/",
            "https://169.254.169.254/latest",
            "https://localhost",
        ] {
            let fault = served(&http(url), false).expect_err(url);
            assert_eq!(fault.reason, "TargetNotAllowed", "{url}");
            served(&http(url), true).expect(url);
        }
    }

    fn http(url: &str) -> ConnectionSpec {
        let mode = match url.starts_with("https") {
            true => "VerifyFull",
            false => "Disable",
        };
        let text = format!(
            "http: {{url: '{url}', tls: {{mode: {mode}}}, \
             credential: {{header: Authorization, secret: {{name: api, key: token}}}}}}"
        );
        serde_saphyr::from_str(&text).unwrap()
    }

    #[test]
    fn an_api_gets_the_one_key_that_it_names_and_only_if_a_field_may_hold_it() {
        let spec = http("https://api.example.com/v1");
        let target = served(&spec, false).unwrap();
        let wanted = target.references("apis");
        assert_eq!(wanted.len(), 1);
        let read = |token: &str| {
            let value = |text: &str| SecretBytes::new(text.as_bytes().to_vec());
            let data = BTreeMap::from([
                ("token".to_owned(), value(token)),
                ("admin".to_owned(), value("no business of a sidecar")),
            ]);
            BTreeMap::from([(wanted[0].clone(), Ok(std::sync::Arc::new(data)))])
        };
        let material = target.material("apis", &read("Bearer real\n")).unwrap();
        assert_eq!(material.credential.keys().collect::<Vec<_>>(), ["token"]);
        let Upstream::Other { host, port, .. } = target.upstream(&material).unwrap() else {
            panic!("an API is not logged in to");
        };
        assert_eq!((host.as_str(), port), ("api.example.com", 443));
        let fault = target.material("apis", &read("a\nb: c")).unwrap_err();
        assert_eq!(fault.reason, "RefNotFound");
        assert!(!fault.message.contains("b: c"), "{}", fault.message);
    }

    #[test]
    fn a_kubernetes_api_gets_its_clusters_ca_and_a_token_certificate_or_nothing() {
        let spec = |text: &str| -> ConnectionSpec {
            serde_saphyr::from_str(&format!("kubernetes: {text}")).unwrap()
        };
        let own = spec("{inCluster: true, credential: {serviceAccount: Self}}");
        let target = served(&own, false).unwrap();
        let wanted = target.references("apis");
        let ca = Reference {
            kind: Kind::ConfigMap,
            namespace: "apis".to_owned(),
            name: "kube-root-ca.crt".to_owned(),
        };
        assert_eq!(wanted, std::slice::from_ref(&ca));
        let missing = BTreeMap::from([(ca.clone(), Err(Missing::NotFound))]);
        let fault = target.material("apis", &missing).unwrap_err();
        assert!(fault.message.contains("inCluster"), "{}", fault.message);
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let object = |entries: &[(&str, &str)]| {
            let entries = entries.iter().map(|(key, value)| {
                let value = SecretBytes::new(value.as_bytes().to_vec());
                ((*key).to_owned(), value)
            });
            Ok(std::sync::Arc::new(entries.collect::<Data>()))
        };
        let read = BTreeMap::from([(ca, object(&[("ca.crt", &pem)]))]);
        let material = target.material("apis", &read).unwrap();
        assert!(material.credential.is_empty());
        assert_eq!(material.ca.as_deref(), Some(pem.as_str()));
        let Upstream::Other { host, port, tls } = target.upstream(&material).unwrap() else {
            panic!("an API is not logged in to");
        };
        assert_eq!((host.as_str(), port), ("kubernetes.default.svc", 443));
        assert_eq!(tls.mode(), TlsMode::VerifyFull);

        let other = spec("{server: 'https://k8s.example:6443', credential: {secret: {name: api}}}");
        let target = served(&other, false).unwrap();
        let wanted = target.references("apis");
        for (entries, good) in [
            (&[("token", "abc\n"), ("else", "x")][..], true),
            (
                &[("tls.crt", pem.as_str()), ("tls.key", &key.serialize_pem())],
                true,
            ),
            (&[("tls.crt", pem.as_str())], false),
            (&[("token", "")], false),
            (&[("else", "x")], false),
        ] {
            let read = BTreeMap::from([(wanted[0].clone(), object(entries))]);
            let material = target.material("apis", &read);
            assert_eq!(material.is_ok(), good, "{:?}", entries[0].0);
            let kept = material.map(|material| material.credential.contains_key("else"));
            assert!(!kept.unwrap_or_default());
        }
        for server in [
            "https://127.0.0.1:6443",
            "https://localhost",
            "https://[::1]",
        ] {
            let text = format!("{{server: '{server}', credential: {{secret: {{name: api}}}}}}");
            let fault = served(&spec(&text), false).unwrap_err();
            assert_eq!(fault.reason, "TargetNotAllowed", "{server}");
        }
        // Whoever writes a Connection does not get the tokens of those who use it.
        let theft = spec("{server: 'https://evil.example', credential: {serviceAccount: Self}}");
        let fault = served(&theft, true).unwrap_err();
        assert_eq!(fault.reason, "TargetNotAllowed");
    }
}
