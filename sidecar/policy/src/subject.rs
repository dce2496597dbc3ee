//! Who acts. Built from proofs only; what a client merely claims never gets here.

use std::collections::BTreeMap;

/// The identity a decision is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The pod, proven by TokenReview in a cluster and given by `--subject` standalone.
    pub workload: Workload,
    /// The identity of a verified token the agent presented, if any.
    pub delegate: Option<Delegate>,
    /// Why the workload says it runs. Declared, not proven.
    pub purpose: Option<String>,
}

/// The agent's pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Service account name, without its namespace.
    pub service_account: String,
    /// Absent standalone.
    pub pod: Option<Pod>,
    /// The pod's labels; empty standalone.
    pub labels: BTreeMap<String, String>,
}

/// One pod, by name and by the UID that no later pod shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

/// A verified token's identity (policy.md, Identity).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegate {
    /// Name of the IdentityProvider whose keys verified the token.
    pub provider: String,
    /// Mapped username, with the provider's prefix.
    pub username: String,
    /// Mapped groups, with the provider's prefix.
    pub groups: Vec<String>,
    /// Every claim of the token, for `identity.claims` selectors and CEL.
    pub claims: serde_json::Map<String, serde_json::Value>,
}

impl Workload {
    /// `namespace/service-account`, the form used in evidence and messages.
    pub fn qualified_name(&self) -> String {
        format!("{}/{}", self.namespace, self.service_account)
    }
}
