//! Attaching, and everything a sidecar needs to know, as it stands at one moment.

use std::collections::BTreeMap;

use chaperone_crds::{AccessPolicySpec, AuditSink, ConnectionSpec, IdentityProviderSpec};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::SecretBytes;

/// What a sidecar says of itself when it attaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AttachRequest {
    /// Version of the sidecar, for the operator's log.
    pub version: String,
}

/// What an attached sidecar gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AttachAnswer {
    /// Who every session of this pod is.
    pub pod: PodIdentity,
    /// HMAC key of command digests, the same for all pods, so that a grant is found again after
    /// the pod that asked for it is gone. 32 bytes.
    pub digest_key: SecretBytes,
    /// What applies now.
    pub snapshot: Snapshot,
}

/// The pod as TokenReview and the API server know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PodIdentity {
    /// Namespace.
    pub namespace: String,
    /// Service account.
    pub service_account: String,
    /// Pod name.
    pub name: String,
    /// Pod UID.
    pub uid: String,
    /// Labels of the pod, for `podSelector`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The annotation `chaperone.dev/purpose`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
}

/// Everything one sidecar needs to decide and to connect. A newer one replaces it whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Snapshot {
    /// Grows with every change for this pod, whichever replica says so; the steps are large.
    pub generation: u64,
    /// Past this moment, without a newer one, everything is denied.
    pub valid_until: Timestamp,
    /// Labels of the pod as they are now, for `podSelector`. Those of [`PodIdentity`] are as they
    /// were at attach.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The Connections the pod was injected for, in the order of its annotation.
    pub connections: Vec<ConnectionSnapshot>,
    /// The IdentityProviders that policies of these Connections name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identity_providers: Vec<ProviderSnapshot>,
    /// The recipients of age (`age1…`) that evidence is sealed for; an empty list: it is not. `None`
    /// where nobody knows: what was said before goes on, and no sidecar starts.
    #[serde(default = "nobody", skip_serializing_if = "is_nobody")]
    pub seal_for: Option<Vec<String>>,
    /// Where events go. `None` where nobody knows: what was said before goes on.
    #[serde(default = "no_sinks", skip_serializing_if = "is_no_sinks")]
    pub sinks: Option<Vec<SinkSnapshot>>,
}

/// One sink, with what it authenticates with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SinkSnapshot {
    /// What the AuditStore says.
    pub spec: AuditSink,
    /// The value that its `authorizationKey` names; `None` where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<SecretBytes>,
}

/// What an operator means that knows of no sinks.
fn no_sinks() -> Option<Vec<SinkSnapshot>> {
    Some(Vec::new())
}

fn is_no_sinks(sinks: &Option<Vec<SinkSnapshot>>) -> bool {
    sinks.as_ref().is_some_and(Vec::is_empty)
}

/// What an operator means that knows of no sealing.
fn nobody() -> Option<Vec<String>> {
    Some(Vec::new())
}

fn is_nobody(recipients: &Option<Vec<String>>) -> bool {
    recipients.as_ref().is_some_and(Vec::is_empty)
}

/// One IdentityProvider and its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProviderSnapshot {
    /// `metadata.name`.
    pub name: String,
    /// What it says.
    pub spec: IdentityProviderSpec,
    /// The JSON Web Key Set that its issuer gave last; `None` while there is none, or where the
    /// spec has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
}

/// A token needs a key that the snapshot does not have. The newer keys, if there are any, come
/// with the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KeysWanted {
    /// Name of the IdentityProvider.
    pub provider: String,
}

/// One Connection with its references read, and the policies that name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConnectionSnapshot {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// What it says. `None` where it is gone or does not admit the pod's namespace: everything is
    /// denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<ConnectionSpec>,
    /// The keys of the credential's Secret that a sidecar logs in with: `username`, `password`,
    /// `tls.crt`, `tls.key`, as far as they are there.
    #[serde(default)]
    pub credential: BTreeMap<String, SecretBytes>,
    /// PEM of the CA that `tls.ca` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Labels of the pod's namespace, which `consumers` selects among.
    #[serde(default)]
    pub namespace_labels: BTreeMap<String, String>,
    /// All AccessPolicies of the pod's namespace that name this Connection; the sidecar selects
    /// among them. Those of other namespaces select no pod of this one.
    #[serde(default)]
    pub policies: Vec<PolicySnapshot>,
    /// Why it cannot be served, if it cannot: everything is denied with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// One AccessPolicy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PolicySnapshot {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// What it says.
    pub spec: AccessPolicySpec,
}

/// Something that keeps a Connection from being served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Fault {
    /// A constant of `chaperone_crds::ConditionReason`.
    pub reason: String,
    /// A sentence that says what to do.
    pub message: String,
}

/// A line of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StreamEvent {
    /// What applies from now on.
    Snapshot(Box<Snapshot>),
    /// Nothing changed; the snapshot of this generation is valid until then.
    Heartbeat {
        /// Generation that the operator believes the sidecar has.
        generation: u64,
        /// Its new `valid_until`.
        valid_until: Timestamp,
    },
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Refusal {
    /// A reason constant, the same as in records, Events and conditions.
    pub reason: String,
    /// A sentence that says what to do.
    pub message: String,
}
