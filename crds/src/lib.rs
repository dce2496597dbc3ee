//! The resources of `chaperone.dev/v1alpha1`: types, schemas, and the rules across their fields.
//!
//! One resource a file. Everything here is data: no I/O, no client. The operator, the sidecar
//! in a cluster and the sidecar that reads a folder all use these same types, and the folder is
//! held to the same schema as an API server holds them to (see [`validate`]).
//!
//! ```text
//! Rust types ─derive─► CRD schema + CEL rules ─crdgen─► crds/generated/*.yaml ─► API server
//!                              └────────────── validate() ─────────────────────► standalone
//! ```
//!
//! What this crate does not do: decide anything. A resource that passes here may still fail to
//! compile into a policy; `chaperone-policy` says so.

#![allow(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "the derives copy each struct into a function, and printer columns repeat their type"
)]

pub mod access_policy;
pub mod approval_request;
pub mod audit_checkpoint;
pub mod audit_pack;
pub mod audit_segment;
pub mod audit_sink;
pub mod audit_store;
pub mod conditions;
pub mod connection;
pub mod generate;
pub mod identity_provider;
pub mod masking;
pub mod quantity;
pub mod refs;
pub mod rule;
pub mod selector;
pub mod session;
mod string_enum;
pub mod unseal_request;
pub mod validate;

pub use access_policy::{
    AccessPolicy, AccessPolicySpec, AccessPolicyStatus, CatalogAccess, Enforcement, Findings,
    IdentitySelector, Limits, OnFinding, Subject,
};
pub use approval_request::{
    ApprovalDecision, ApprovalOperation, ApprovalPhase, ApprovalRequest, ApprovalRequestSpec,
    ApprovalRequestStatus, ApprovalRule, ApprovalSubject, ApprovalVerdict, DelegateRef, Review,
};
pub use audit_checkpoint::{AuditCheckpoint, AuditCheckpointSpec, CheckpointedSegment};
pub use audit_pack::{
    AuditBackend, AuditPack, AuditPackSpec, AuditPackStatus, LogPosition, ObjectStoreBackend,
    VolumeBackend,
};
pub use audit_segment::{AuditEntry, AuditEntryKind, AuditSegment, AuditSegmentSpec};
pub use audit_sink::{AuditSink, FileSink, HttpSink, SinkEvents, StdoutSink};
pub use audit_store::{
    AuditHold, AuditPacked, AuditRemoved, AuditRetention, AuditSeal, AuditStore, AuditStoreSpec,
    AuditStoreStatus,
};
pub use conditions::{ConditionReason, ConditionType};
pub use connection::{
    Connection, ConnectionSpec, ConnectionStatus, Consumers, Guardrails, HttpCredential,
    HttpTarget, KubernetesCredential, KubernetesTarget, Origin, PostgresTarget, SecretCredential,
    ServiceAccountSource, SshCredential, SshTarget, Tls, TlsMode,
};
pub use identity_provider::{
    Algorithm, ClaimMapping, IdentityProvider, IdentityProviderSpec, IdentityProviderStatus, Jwks,
};
pub use masking::{Detector, Masking, Partial, Predicates, Strategy, Typed};
pub use quantity::{ByteSize, HumanDuration, QuantityError};
pub use refs::{CaSource, KeyRef, NameRef};
pub use rule::{
    Action, Approval, Approvers, Durability, HttpRule, KubernetesRule, PolicyRule, Returns,
    SqlEffect, SqlRule, SshRule,
};
pub use selector::{LabelOperator, LabelRequirement, LabelSelector};
pub use session::{Session, SessionSpec, SessionState};
pub use unseal_request::{Requester, UnsealRequest, UnsealRequestSpec, UnsealRequestStatus};

/// Every resource's `apiVersion`.
pub const API_VERSION: &str = "chaperone.dev/v1alpha1";

/// The API group of every resource.
pub const GROUP: &str = "chaperone.dev";

/// Annotation on a Connection: the loopback port a standalone sidecar listens on for it.
pub const LISTEN_PORT_ANNOTATION: &str = "chaperone.dev/listen-port";

/// The port a standalone sidecar listens on for a PostgreSQL Connection without
/// [`LISTEN_PORT_ANNOTATION`].
pub const DEFAULT_POSTGRES_LISTEN_PORT: u16 = 15432;

/// The port a standalone sidecar listens on for an HTTP Connection without
/// [`LISTEN_PORT_ANNOTATION`].
pub const DEFAULT_HTTP_LISTEN_PORT: u16 = 18080;

/// The port a standalone sidecar listens on for a Kubernetes Connection without
/// [`LISTEN_PORT_ANNOTATION`].
pub const DEFAULT_KUBERNETES_LISTEN_PORT: u16 = 6443;

/// Where a Kubernetes API is for whoever runs in its cluster: the Service that the API server keeps
/// for itself, by a name that its certificate has.
pub const IN_CLUSTER_SERVER: &str = "https://kubernetes.default.svc";

/// A Kubernetes name as this group bounds it: a DNS-1123 subdomain.
pub(crate) const NAME_PATTERN: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";

/// `name`, or `namespace/name`.
pub(crate) const QUALIFIED_NAME_PATTERN: &str =
    "^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";

/// `namespace/name`, both written out.
pub(crate) const FULL_NAME_PATTERN: &str =
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
