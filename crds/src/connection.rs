//! Connection: a target, its owner's guardrails, and the credential only the sidecar gets.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::string_enum::string_enum;
use crate::{CaSource, KeyRef, LabelSelector, Limits, Masking, NameRef, PolicyRule};

/// A target, its owner's guardrails, and the credential that only the sidecar gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "chaperone.dev",
    version = "v1alpha1",
    kind = "Connection",
    namespaced,
    status = "ConnectionStatus",
    derive = "PartialEq",
    cel,
    doc = "A target, its owner's guardrails, and the credential that only the sidecar gets.",
    category = "chaperone",
    shortname = "conn",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.target"),
    printcolumn(name = "Workloads", type_ = "integer", json_path = ".status.workloads"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.postgres), has(self.http), has(self.kubernetes), has(self.ssh)].exists_one(t, t)")
    .message("a Connection names exactly one of postgres, http, kubernetes, ssh"))]
pub struct ConnectionSpec {
    /// A PostgreSQL database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresTarget>,
    /// An HTTP API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpTarget>,
    /// A Kubernetes API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesTarget>,
    /// An SSH host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshTarget>,
    /// Who may use it besides its own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumers: Option<Consumers>,
    /// What always applies, whatever AccessPolicies say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrails: Option<Guardrails>,
}

/// A PostgreSQL database. The target is this host and port, never what a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PostgresTarget {
    /// Host name or IP address.
    #[schemars(length(min = 1, max = 253), regex(pattern = HOST_PATTERN))]
    pub host: String,
    /// Port.
    #[serde(default = "postgres_port")]
    #[schemars(with = "i64", range(min = 1, max = 65535))]
    pub port: u16,
    /// The database, if clients may use only this one; it is the default too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub database: Option<String>,
    /// TLS to the target.
    #[serde(default)]
    pub tls: Tls,
    /// What the sidecar logs in with.
    pub credential: SecretCredential,
}

/// TLS to a target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode != 'Disable' || !has(self.ca)")
    .message("ca has no meaning with mode Disable"))]
pub struct Tls {
    /// Whether the target must prove who it is.
    #[serde(default)]
    pub mode: TlsMode,
    /// Whose certificates are accepted; without it, those of the public roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
}

string_enum! {
    /// Whether a target must prove who it is.
    #[default = VerifyFull]
    pub enum TlsMode {
        /// Certificate chain and host name are verified.
        VerifyFull = "VerifyFull",
        /// No TLS: everything, the password's proof too, crosses the network readable.
        Disable = "Disable",
    }
}

/// A Secret with `username` and `password`, or with `tls.crt` and `tls.key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SecretCredential {
    /// The Secret.
    pub secret: NameRef,
}

/// An HTTP API. The target is this URL, never what a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.url.startsWith('https://') || (has(self.tls) && has(self.tls.mode) && self.tls.mode == 'Disable')")
    .message("http:// crosses the network readable; write tls: {mode: Disable} to say so"))]
#[x_kube(validation = Rule::new(
    "self.url.startsWith('http://') || !has(self.tls) || !has(self.tls.mode) || self.tls.mode != 'Disable'")
    .message("tls mode Disable belongs to an http:// url"))]
pub struct HttpTarget {
    /// Scheme, host, port, and the path that every request must lie under.
    #[schemars(length(min = 8, max = 2048), regex(pattern = URL_PATTERN))]
    pub url: String,
    /// Host names that stand for this target besides the URL's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253), regex(pattern = HOST_PATTERN)))]
    pub hosts: Vec<String>,
    /// TLS to the target.
    #[serde(default)]
    pub tls: Tls,
    /// What the sidecar adds to a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<HttpCredential>,
}

/// A header that the sidecar sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpCredential {
    /// The header's name.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[-A-Za-z0-9]+$"))]
    pub header: String,
    /// Its value.
    pub secret: KeyRef,
}

/// A Kubernetes API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.server) != (has(self.inCluster) && self.inCluster)")
    .message("name exactly one of server, inCluster: true"))]
#[x_kube(validation = Rule::new(
    "!has(self.credential.serviceAccount) || (has(self.inCluster) && self.inCluster)")
    .message("a pod's own token is for the API server of its own cluster, and sent to no other: \
              write inCluster: true"))]
pub struct KubernetesTarget {
    /// The API server's URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 2048), regex(pattern = "^https://[^/?#]+/?$"))]
    pub server: Option<String>,
    /// The API server of the cluster that the sidecar runs in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_cluster: bool,
    /// Whose certificates are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
    /// What the sidecar authenticates with.
    pub credential: KubernetesCredential,
}

/// What the sidecar authenticates to a Kubernetes API with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.serviceAccount) != has(self.secret)")
    .message("name exactly one of serviceAccount, secret"))]
pub struct KubernetesCredential {
    /// A token of a service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountSource>,
    /// A Secret with `token`, or with `tls.crt` and `tls.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<NameRef>,
}

string_enum! {
    /// Whose service account token is used.
    pub enum ServiceAccountSource {
        /// The pod's own.
        Own = "Self",
    }
}

/// An SSH host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SshTarget {
    /// Host name or IP address.
    #[schemars(length(min = 1, max = 253), regex(pattern = HOST_PATTERN))]
    pub host: String,
    /// Port.
    #[serde(default = "ssh_port")]
    #[schemars(with = "i64", range(min = 1, max = 65535))]
    pub port: u16,
    /// The host's public keys, as `ssh-keyscan` prints them without the host.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 2048)))]
    pub host_keys: Vec<String>,
    /// What the sidecar logs in with.
    pub credential: SshCredential,
}

/// What the sidecar logs in to an SSH host with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SshCredential {
    /// Login name.
    #[schemars(length(min = 1, max = 63))]
    pub username: String,
    /// An OpenSSH private key.
    pub private_key: KeyRef,
}

/// Who may use a Connection besides its own namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Consumers {
    /// Namespaces by their labels.
    pub namespace_selector: LabelSelector,
}

/// What always applies to a Connection, whatever AccessPolicies say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Guardrails {
    /// Rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<PolicyRule>,
    /// Masking.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub masking: Vec<Masking>,
    /// Limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// What the operator found out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConnectionStatus {
    /// Accepted, ResolvedRefs, Reachable, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Host and port of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub target: Option<String>,
    /// How many injected workloads use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", range(min = 0))]
    pub workloads: Option<u32>,
}

impl ConnectionSpec {
    /// The Secret that the credential is taken from, and the field that names it.
    pub fn secret(&self) -> Option<(&str, &'static str)> {
        if let Some(postgres) = &self.postgres {
            let name = &postgres.credential.secret.name;
            return Some((name, "spec.postgres.credential.secret.name"));
        }
        if let Some(http) = &self.http {
            let name = &http.credential.as_ref()?.secret.name;
            return Some((name, "spec.http.credential.secret.name"));
        }
        if let Some(kubernetes) = &self.kubernetes {
            let name = &kubernetes.credential.secret.as_ref()?.name;
            return Some((name, "spec.kubernetes.credential.secret.name"));
        }
        let name = &self.ssh.as_ref()?.credential.private_key.name;
        Some((name, "spec.ssh.credential.privateKey.name"))
    }

    /// Whose certificates are accepted, and the field that says so.
    pub fn ca(&self) -> Option<(&CaSource, &'static str)> {
        if let Some(postgres) = &self.postgres {
            return Some((postgres.tls.ca.as_ref()?, "spec.postgres.tls.ca"));
        }
        if let Some(http) = &self.http {
            return Some((http.tls.ca.as_ref()?, "spec.http.tls.ca"));
        }
        let ca = self.kubernetes.as_ref()?.ca.as_ref()?;
        Some((ca, "spec.kubernetes.ca"))
    }

    /// The host names and addresses that the target is known by, in small letters, without a dot at
    /// their end.
    pub fn hosts(&self) -> Vec<String> {
        let mut hosts: Vec<String> = Vec::new();
        hosts.extend(self.postgres.iter().map(|target| target.host.clone()));
        if let Some(http) = &self.http {
            hosts.extend(Origin::of(&http.url).map(|origin| origin.host));
            hosts.extend(http.hosts.iter().cloned());
        }
        if let Some(kubernetes) = &self.kubernetes {
            hosts.extend(Origin::of(kubernetes.url()).map(|origin| origin.host));
        }
        hosts.extend(self.ssh.iter().map(|target| target.host.clone()));
        for host in &mut hosts {
            *host = host.trim_end_matches('.').to_ascii_lowercase();
        }
        hosts
    }

    /// How the target proves who it is, and the field that says so, where there is a choice.
    pub fn tls(&self) -> Option<(TlsMode, &'static str)> {
        if let Some(postgres) = &self.postgres {
            return Some((postgres.tls.mode, "spec.postgres.tls.mode"));
        }
        let http = self.http.as_ref()?;
        Some((http.tls.mode, "spec.http.tls.mode"))
    }
}

impl KubernetesTarget {
    /// The API server's URL.
    pub fn url(&self) -> &str {
        self.server.as_deref().unwrap_or(crate::IN_CLUSTER_SERVER)
    }
}

/// Where a URL of a Connection leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Whether it says https.
    pub secure: bool,
    /// Host name or IP address, in small letters and without brackets. A dot at its end stays: such
    /// a name is looked up as it is.
    pub host: String,
    /// The port written, or the scheme's own (RFC 9110, sections 4.2.1 and 4.2.2).
    pub port: u16,
    /// What follows the authority: empty, or a path.
    pub path: &'a str,
}

impl<'a> Origin<'a> {
    /// Takes a URL apart as the schema lets it in; `None` for any other.
    pub fn of(url: &'a str) -> Option<Origin<'a>> {
        let (scheme, rest) = url.split_once("://")?;
        let secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let host = host.to_ascii_lowercase();
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port > 0)?,
            None if !port.is_empty() => return None,
            None if secure => 443,
            None => 80,
        };
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        (!host.is_empty() && host.bytes().all(legal)).then_some(Origin {
            secure,
            host,
            port,
            path,
        })
    }
}

/// A host name or an IP address: nothing that could carry a port, a path or a space.
pub(crate) const HOST_PATTERN: &str =
    r"^([A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+)$";

/// Scheme and authority without user information, and a path without query or fragment.
const URL_PATTERN: &str =
    r"^https?://([-_.A-Za-z0-9]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^?#]*)?$";

fn postgres_port() -> u16 {
    5432
}

fn ssh_port() -> u16 {
    22
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_to_one_host_and_port_or_is_none() {
        let found = |url: &'static str| {
            let origin = Origin::of(url)?;
            Some((origin.secure, origin.host, origin.port, origin.path))
        };
        for (url, secure, host, port, path) in [
            ("https://API.test", true, "api.test", 443, ""),
            ("http://api.test./v1/", false, "api.test.", 80, "/v1/"),
            ("https://10.1.2.3:8443/", true, "10.1.2.3", 8443, "/"),
            ("https://[2001:db8::1]:6443", true, "2001:db8::1", 6443, ""),
            ("http://[::1]/a:b", false, "::1", 80, "/a:b"),
        ] {
            assert_eq!(found(url), Some((secure, host.to_owned(), port, path)));
        }
        for url in [
            "ftp://api.test",
            "api.test",
            "https://",
            "https://:443",
            "https://api.test:0",
            "https://api.test:65536",
            "https://api.test:",
            "https://user@api.test",
            "https://[::1]x",
            "https://[::1",
        ] {
            assert_eq!(found(url), None, "{url}");
        }
    }
}
