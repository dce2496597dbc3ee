//! What the workload's people hear of.

use serde::{Deserialize, Serialize};

/// `POST /v1/notices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Notices {
    /// At most [`MOST_NOTICES`](crate::MOST_NOTICES).
    pub notices: Vec<Notice>,
}

/// Something that happened since the last ones, once or more often. It names objects and rules; it
/// quotes no command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Notice {
    /// What.
    pub kind: NoticeKind,
    /// The reason's constant, or the finding's kind.
    pub reason: String,
    /// `namespace/name` of the Connection.
    pub connection: String,
    /// The session of the last one.
    pub session: String,
    /// What the last one was about: an access, an ApprovalRequest's name, a finding's detail.
    pub detail: String,
    /// How often.
    pub count: u64,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoticeKind {
    /// Commands were denied.
    Denied,
    /// Commands wait for a human.
    Held,
    /// Something was out of the ordinary.
    Finding,
}
