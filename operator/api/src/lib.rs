//! The control API between operator and sidecar: what is said, in types that both sides share.
//!
//! HTTP/2 over TLS on the operator's Service. Every request carries the pod's projected token
//! (audience [`AUDIENCE`]) as bearer; namespace, service account, pod name and pod UID come from
//! its TokenReview and nowhere else, so no body here repeats them.
//!
//! ```text
//! POST /v1/attach                      AttachRequest  ─► AttachAnswer      JSON
//! GET  /v1/stream?generation=N         ─► StreamEvent, one a line          NDJSON, long-lived
//! POST /v1/approvals                   NewApproval    ─► ApprovalState     JSON
//! GET  /v1/approvals/{name}?wait=S     ─► ApprovalState, at its next change or after S ≤ 30 seconds
//! POST /v1/approvals/{name}/cancel     Cancel         ─► ApprovalState
//! POST /v1/approvals/{name}/redeem     Redeem         ─► ApprovalState (Consumed), exactly once
//! POST /v1/audit/certificate           CertificateRequest ─► CertificateAnswer
//! POST /v1/audit                       Append         ─► Appended, once it is durable
//! POST /v1/audit/sessions              SessionViews   ─► nothing (204)
//! POST /v1/notices                     Notices        ─► nothing (204)
//! POST /v1/identity/keys               KeysWanted     ─► nothing (204); newer keys come by the stream
//! any error                            ─► Refusal with its HTTP status
//! ```
//!
//! - The stream begins with a Snapshot unless the sidecar has this very generation, and ends when
//!   its token does or the pod is gone: read the token anew and open another. `validUntil` grows
//!   only while the operator itself hears from its API server.
//! - 401 is final for this token; 429, 503 and 504 are worth another try after a pause, all else
//!   is not. A redeem whose answer was lost cannot be repeated: the second one finds it Consumed.
//! - Bodies of requests are at most [`MOST_REQUEST_BYTES`] long, lines of answers [`MOST_BYTES`].
//!
//! No I/O here, and no decision: the sidecar compiles the policies of a [`Snapshot`] itself.

mod approval;
mod audit;
mod bytes;
mod notice;
mod secret;
mod snapshot;

pub use approval::{AccessView, ApprovalState, AskingRule, Cancel, NewApproval, Redeem};
pub use audit::{
    Append, Appended, CertificateAnswer, CertificateRequest, RecoveredSession, SessionView,
    SessionViews,
};
pub use bytes::Bytes;
pub use notice::{Notice, NoticeKind, Notices};
pub use secret::SecretBytes;
pub use snapshot::{
    AttachAnswer, AttachRequest, ConnectionSnapshot, Fault, KeysWanted, PodIdentity,
    PolicySnapshot, ProviderSnapshot, Refusal, SinkSnapshot, Snapshot, StreamEvent,
};

/// Audience of the projected token that only the sidecar's container mounts.
pub const AUDIENCE: &str = "chaperone.dev";
/// Port of the control API on the operator's Service.
pub const CONTROL_PORT: u16 = 8443;
/// Longest wait of one approval question, in seconds.
pub const LONGEST_WAIT_SECONDS: u64 = 30;
/// A stream says something at least this often, in seconds; twice that in silence is a dead one.
pub const HEARTBEAT_SECONDS: u64 = 10;
/// Most bytes of the body of a request.
pub const MOST_REQUEST_BYTES: usize = 1024 * 1024;
/// Most bytes of one part of a segment; base64 and the rest of the body fit beside it.
pub const MOST_PART_BYTES: usize = 640 * 1024;
/// Most parts of one segment.
pub const MOST_PARTS: u32 = 64;
/// Most views in one request.
pub const MOST_VIEWS: usize = 256;
/// Most notices in one request.
pub const MOST_NOTICES: usize = 64;
/// Most sessions of earlier lives in one request.
pub const MOST_RECOVERED: usize = 1024;
/// Most streams that one pod has open at once; a new one beyond it is refused.
pub const MOST_STREAMS: usize = 4;
/// Most bytes of the body of an answer, or of one line of a stream.
pub const MOST_BYTES: usize = 8 * 1024 * 1024;
