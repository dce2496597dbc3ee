//! Condition types and reasons of `status.conditions`, and the reasons of standalone problems.
//!
//! One list: the same string stands in a condition, an Event and the output of
//! `chaperone-sidecar check`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::string_enum::string_enum;

string_enum! {
    /// What a condition is about.
    pub enum ConditionType {
        /// The spec is well formed and compiles.
        Accepted = "Accepted",
        /// Everything it names exists.
        ResolvedRefs = "ResolvedRefs",
        /// The target answers, speaks the protocol and takes the credential.
        Reachable = "Reachable",
        /// All of the above.
        Ready = "Ready",
    }
}

string_enum! {
    /// Why a condition has its status, or why a manifest is refused.
    pub enum ConditionReason {
        /// The spec is well formed and compiles.
        Accepted = "Accepted",
        /// Everything it names exists.
        ResolvedRefs = "ResolvedRefs",
        /// The target answered.
        Reachable = "Reachable",
        /// Nothing is missing.
        Ready = "Ready",
        /// Not looked at yet.
        Pending = "Pending",
        /// A file cannot be read: missing, too large, not text.
        Unreadable = "Unreadable",
        /// Not YAML.
        Malformed = "Malformed",
        /// A kind or apiVersion that is not understood here.
        UnknownKind = "UnknownKind",
        /// A field that does not exist.
        UnknownField = "UnknownField",
        /// A field that must be there is not.
        MissingField = "MissingField",
        /// A value that is not allowed.
        Invalid = "Invalid",
        /// Two resources, or two entries of a list, with one name.
        Duplicate = "Duplicate",
        /// A Secret, ConfigMap, Connection or IdentityProvider that is named does not exist.
        RefNotFound = "RefNotFound",
        /// A Connection that a workload names is missing or does not admit its namespace.
        ConnectionNotFound = "ConnectionNotFound",
        /// Two Connections would listen on one address.
        ConnectionsCollide = "ConnectionsCollide",
        /// A pod with the host's network has no loopback of its own to listen on.
        HostNetwork = "HostNetwork",
        /// Containers of the pod could look into the sidecar's process.
        SharedProcesses = "SharedProcesses",
        /// A name, path, address, user or setting that the sidecar needs is used otherwise.
        Reserved = "Reserved",
        /// A container would get a token for the cluster's API, or the sidecar's.
        TokenExposed = "TokenExposed",
        /// The pod would look targets up where its author says.
        CustomDns = "CustomDns",
        /// A Job's pods cannot be changed once it exists.
        JobImmutable = "JobImmutable",
        /// A review that is not its author's to give.
        ReviewRefused = "ReviewRefused",
        /// The pod's sidecar is not what the injector writes.
        SidecarAltered = "SidecarAltered",
        /// The sidecar's image is none that is accepted.
        ImageNotAccepted = "ImageNotAccepted",
        /// A policy or guardrail does not compile.
        PolicyInvalid = "PolicyInvalid",
        /// Known, and not served by this build.
        Unsupported = "Unsupported",
        /// The target cannot be reached.
        TargetUnreachable = "TargetUnreachable",
        /// The target did not accept the credential.
        TargetAuthentication = "TargetAuthentication",
        /// The target's TLS identity could not be verified.
        TargetTls = "TargetTls",
        /// The target broke the protocol.
        TargetProtocol = "TargetProtocol",
        /// The target ended or refused the session.
        TargetRefused = "TargetRefused",
        /// The target is a loopback, link-local or metadata address.
        TargetNotAllowed = "TargetNotAllowed",
        /// Between us and the target, statements of one session may run in several.
        TransactionPooler = "TransactionPooler",
        /// Served, but the target lets in whoever reaches it, the sidecar or not.
        BypassPossible = "BypassPossible",
        /// Served, but the role may do more than any rule allows.
        PrivilegesWide = "PrivilegesWide",
        /// The operator may not read what is referred to.
        RefNotPermitted = "RefNotPermitted",
        /// The API server gave no answer.
        ApiUnavailable = "ApiUnavailable",
        /// A token that is missing, expired, for somebody else, or not bound to a pod.
        TokenRefused = "TokenRefused",
        /// The token's pod is gone, or another one has its name.
        PodNotFound = "PodNotFound",
        /// More than one caller may have at once.
        LimitExceeded = "LimitExceeded",
        /// Evidence that is not the pod's own, or does not hold.
        EvidenceRefused = "EvidenceRefused",
        /// The audit store is full, or nearly.
        QuotaExceeded = "QuotaExceeded",
        /// The oldest evidence cannot be packed: it stays where it is.
        PackingFailed = "PackingFailed",
        /// The oldest evidence was removed under a tombstone, to make room.
        EvidenceRemoved = "EvidenceRemoved",
        /// The keys were given, and the log says so.
        Unsealed = "Unsealed",
        /// No key of the operator's opens what was asked for: it is sealed for others.
        SealedForOthers = "SealedForOthers",
        /// Nothing of what was asked for is sealed, or there.
        NothingToUnseal = "NothingToUnseal",
        /// A request for keys that is not its author's to make.
        UnsealRefused = "UnsealRefused",
        /// The operator lost a key that evidence was sealed for.
        SealKeyLost = "SealKeyLost",
        /// A fault of our own.
        Internal = "Internal",
    }
}

/// A metav1 condition.
///
/// `generation` is the resource's `metadata.generation` that was looked at; `now` is when the
/// status last changed, which the caller keeps from the old condition if it did not.
pub fn condition(
    kind: ConditionType,
    status: bool,
    reason: ConditionReason,
    message: impl Into<String>,
    generation: Option<i64>,
    now: Time,
) -> Condition {
    Condition {
        last_transition_time: now,
        message: message.into(),
        observed_generation: generation,
        reason: reason.as_str().to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        type_: kind.as_str().to_owned(),
    }
}
