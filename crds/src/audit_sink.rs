//! AuditSink: where events go while they happen, besides the log.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ByteSize;
use crate::string_enum::string_enum;

/// Name of the Secret in [`crate::audit_store::NAMESPACE`] that holds what sinks authenticate with.
/// One name, so that whoever may write an AuditStore cannot have another Secret sent somewhere.
pub const SECRET: &str = "chaperone-sinks";

string_enum! {
    /// Events that a sink can be limited to.
    pub enum SinkEvents {
        /// Requests for approval, and what became of them (OCSF 3005).
        Approvals = "Approvals",
        /// Findings, and what could not be kept or told (OCSF 2004).
        Findings = "Findings",
        /// Commands that were denied or held (OCSF 6005).
        Denials = "Denials",
    }
}

/// Where events go, as OCSF 1.8, each at least once. `metadata.uid` is the same where one comes twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "(has(self.webhook) ? 1 : 0) + (has(self.otlp) ? 1 : 0) + (has(self.file) ? 1 : 0) + (has(self.stdout) ? 1 : 0) == 1")
    .message("name exactly one of webhook, otlp, file, stdout"))]
#[x_kube(validation = Rule::new("!has(self.webhook) || self.webhook.url.startsWith('https://')")
    .message("webhook.url must begin with https://"))]
#[x_kube(validation = Rule::new(
    "!has(self.otlp) || self.otlp.url.startsWith('https://') || !has(self.otlp.authorizationKey)")
    .message("otlp.url must begin with https:// where there is an authorizationKey"))]
pub struct AuditSink {
    /// Its name. Under another name it is another sink, which is told of the sessions that begin from
    /// now on.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Only these events; by default all. Their sequence then has gaps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub only: Vec<SinkEvents>,
    /// JSON arrays of events by POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<HttpSink>,
    /// Log records by POST, as OTLP/HTTP in JSON; the URL ends with /v1/logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp: Option<HttpSink>,
    /// Lines of JSON in a file. Standalone only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileSink>,
    /// Lines of JSON on the sidecar's standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<StdoutSink>,
}

impl AuditSink {
    /// The key of [`SECRET`] that it needs.
    pub fn authorization_key(&self) -> Option<&str> {
        let http = self.webhook.as_ref().or(self.otlp.as_ref())?;
        http.authorization_key.as_deref()
    }
}

/// A server that is posted to. Redirects are not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpSink {
    /// Where to.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://[^\\s#@]+$"))]
    pub url: String,
    /// PEM of the CAs that certify it; without it, the public ones do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub ca: Option<String>,
    /// The key of the Secret `chaperone-sinks` in the namespace `chaperone-audit` whose value is the
    /// field Authorization, such as `Bearer …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub authorization_key: Option<String>,
}

/// A file of lines. When it is full it is renamed to `<path>.1`, that one to `<path>.2` and so on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FileSink {
    /// Its path.
    #[schemars(length(min = 1, max = 4096))]
    pub path: String,
    /// When it is full.
    #[serde(default = "default_max_bytes")]
    pub max_bytes: ByteSize,
    /// Files that are kept besides it; the oldest is removed.
    #[serde(default = "default_keep")]
    #[schemars(with = "i64", range(min = 0, max = 99))]
    pub keep: u8,
}

fn default_max_bytes() -> ByteSize {
    ByteSize::from_bytes(64 * 1024 * 1024)
}

fn default_keep() -> u8 {
    4
}

/// The sidecar's standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(transform = nothing_in_it)]
pub struct StdoutSink {}

/// A structural schema says so by number.
pub(crate) fn nothing_in_it(schema: &mut schemars::Schema) {
    schema.remove("additionalProperties");
    schema.insert("maxProperties".to_owned(), 0.into());
}
