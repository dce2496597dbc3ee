//! Evidence on its way from a pod's store into the cluster's log.

use chaperone_crds::SessionSpec;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Bytes;

/// Asks for the certificate of the pod's store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CertificateRequest {
    /// Hex of the store's Ed25519 public key.
    pub store: String,
}

/// The store's certificate; durable in the log before this is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CertificateAnswer {
    /// `chaperone_evidence::audit::StoreCertificate`, signed by the log key. It goes with every
    /// append.
    pub certificate: Bytes,
}

/// A part of a segment of the pod's store. Sent again until it is acknowledged: the same part twice
/// is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Append {
    /// The store's certificate.
    pub certificate: Bytes,
    /// The body of the attach that signs the segment's runs and heads.
    pub attach: Bytes,
    /// The segment's number.
    pub number: u64,
    /// Which part, from 0.
    pub part: u32,
    /// How many parts there are; only the bytes of a whole segment can be checked on the way in.
    pub parts: u32,
    /// The bytes, at most [`crate::MOST_PART_BYTES`].
    pub data: Bytes,
    /// Whether a command waits for it: then it is written at once, not with others.
    #[serde(default)]
    pub urgent: bool,
}

/// It is durable in the cluster's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Appended {
    /// Name of the AuditSegment.
    pub segment: String,
}

/// Views of the pod's sessions as they stand now. Newer ones replace older ones; a lost one is made
/// good by the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SessionViews {
    /// At most [`crate::MOST_VIEWS`].
    pub sessions: Vec<SessionView>,
    /// Told once by a sidecar that started again, before any session of its new life: those of its
    /// earlier lives whose last records it found, at most [`crate::MOST_RECOVERED`]. What else of
    /// the pod's is still open was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Vec<RecoveredSession>>,
}

/// How a session came out that a sidecar's crash cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RecoveredSession {
    /// The session's id.
    pub id: String,
    /// Its last record's time.
    pub last_at: Timestamp,
    /// Why it ended, if its end was recorded; else empty.
    pub end: String,
}

/// One session's view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SessionView {
    /// The session's id, 16 hex digits.
    pub id: String,
    /// What `kubectl get sessions` shows. Pod and namespace are the caller's, whatever it says.
    pub spec: SessionSpec,
}
