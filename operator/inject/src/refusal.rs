//! Why a workload, a pod or a sidecar is refused: a constant and a sentence each.

use chaperone_crds::ConditionReason;
use thiserror::Error;

/// Why something is refused. Its text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// An annotation that is not understood.
    #[error("annotation {annotation}: {problem}")]
    Annotation {
        /// Which.
        annotation: &'static str,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// Not shaped like a Kubernetes object of its kind.
    #[error("this object cannot be read: {0}")]
    Malformed(String),
    /// A Connection that is missing, or does not admit the pod's namespace. One sentence for
    /// both: who may not use a Connection learns nothing of it.
    #[error(
        "there is no Connection {connection} that namespace {namespace} may use; create it, or let \
         its spec.consumers select this namespace; refused pods are tried again when it appears"
    )]
    ConnectionNotFound {
        /// `namespace/name`.
        connection: String,
        /// The pod's.
        namespace: String,
    },
    /// A Connection of a protocol that this build does not serve.
    #[error("Connection {connection} is for {protocol}, which this release does not serve yet")]
    Unsupported {
        /// `namespace/name`.
        connection: String,
        /// Its protocol.
        protocol: &'static str,
    },
    /// Two Connections with one address.
    #[error(
        "Connections {first} and {second} are the same host and port; name only one, pin different \
         databases in both, or have no name lead to both in spec.http.hosts"
    )]
    ConnectionsCollide {
        /// `namespace/name`.
        first: String,
        /// `namespace/name`.
        second: String,
    },
    /// `hostNetwork: true`.
    #[error(
        "a pod with hostNetwork has no loopback of its own for the sidecar; remove hostNetwork"
    )]
    HostNetwork,
    /// A pod for Windows nodes.
    #[error("the sidecar runs on Linux only; remove the annotation or spec.os")]
    Windows,
    /// `hostPID`, `hostIPC` or `shareProcessNamespace`.
    #[error("with {field} others reach into the sidecar's process; remove {field}")]
    SharedProcesses {
        /// Which.
        field: &'static str,
    },
    /// The pod uses something that the sidecar needs for itself.
    #[error("{what} is reserved for the sidecar; {remedy}")]
    Reserved {
        /// What, with its path.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A volume that gives the agent a token of the cluster or the sidecar's.
    #[error("volume {volume} gives the pod a token for {audience}; remove that source")]
    TokenExposed {
        /// Which volume.
        volume: String,
        /// For whom.
        audience: String,
    },
    /// Own name servers or search domains.
    #[error(
        "{field} would let the pod's author choose where the sidecar finds its targets; remove it"
    )]
    CustomDns {
        /// Which.
        field: &'static str,
    },
    /// A Job's annotations were changed.
    #[error("a Job's pods cannot be changed; delete and recreate the Job")]
    JobImmutable,
    /// The sidecar is not ours.
    #[error("the sidecar of this pod is not what was injected: {difference}; recreate the pod")]
    SidecarAltered {
        /// What differs, never with a value.
        difference: String,
    },
    /// The sidecar's image is not accepted.
    #[error(
        "sidecar image {image} is not accepted; recreate the pod, or add the image to \
         sidecar.acceptedImages"
    )]
    ImageNotAccepted {
        /// The image.
        image: String,
    },
}

impl Refusal {
    /// The constant, the same in Events, metrics and answers.
    pub fn reason(&self) -> ConditionReason {
        match self {
            Refusal::Annotation { .. } => ConditionReason::Invalid,
            Refusal::Malformed(_) => ConditionReason::Malformed,
            Refusal::ConnectionNotFound { .. } => ConditionReason::ConnectionNotFound,
            Refusal::Unsupported { .. } | Refusal::Windows => ConditionReason::Unsupported,
            Refusal::ConnectionsCollide { .. } => ConditionReason::ConnectionsCollide,
            Refusal::HostNetwork => ConditionReason::HostNetwork,
            Refusal::SharedProcesses { .. } => ConditionReason::SharedProcesses,
            Refusal::Reserved { .. } => ConditionReason::Reserved,
            Refusal::TokenExposed { .. } => ConditionReason::TokenExposed,
            Refusal::CustomDns { .. } => ConditionReason::CustomDns,
            Refusal::JobImmutable => ConditionReason::JobImmutable,
            Refusal::SidecarAltered { .. } => ConditionReason::SidecarAltered,
            Refusal::ImageNotAccepted { .. } => ConditionReason::ImageNotAccepted,
        }
    }
}
