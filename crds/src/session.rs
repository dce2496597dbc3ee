//! Session: a view of a session for `kubectl get sessions`, in the agent's namespace. Disposable;
//! the proof is in the AuditSegments.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::string_enum::string_enum;

/// A view of a session: who did what over what, and how it went so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "chaperone.dev",
    version = "v1alpha1",
    kind = "Session",
    namespaced,
    derive = "PartialEq",
    doc = "A view of an agent's session. The proof is in the AuditSegments.",
    category = "chaperone",
    shortname = "ses",
    printcolumn(name = "Subject", type_ = "string", json_path = ".spec.subject"),
    printcolumn(name = "Connection", type_ = "string", json_path = ".spec.connection"),
    printcolumn(name = "State", type_ = "string", json_path = ".spec.state"),
    printcolumn(name = "Allowed", type_ = "integer", json_path = ".spec.allowed"),
    printcolumn(name = "Denied", type_ = "integer", json_path = ".spec.denied"),
    printcolumn(name = "Held", type_ = "integer", json_path = ".spec.held"),
    printcolumn(name = "Rows", type_ = "integer", json_path = ".spec.rows"),
    printcolumn(name = "Pod", type_ = "string", json_path = ".spec.pod", priority = 1),
    printcolumn(
        name = "Target",
        type_ = "string",
        json_path = ".spec.target",
        priority = 1
    ),
    printcolumn(name = "Started", type_ = "date", json_path = ".spec.startedAt")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SessionSpec {
    /// `namespace/service-account`.
    #[schemars(length(max = 320))]
    pub subject: String,
    /// `namespace/name` of the Connection.
    #[schemars(length(max = 320))]
    pub connection: String,
    /// Host, port and database.
    #[schemars(length(max = 512))]
    pub target: String,
    /// Why the workload says it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub purpose: Option<String>,
    /// The pod.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// How far it is.
    pub state: SessionState,
    /// How it ended, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub end: String,
    /// When it began.
    pub started_at: Time,
    /// Its last record.
    pub last_at: Time,
    /// Statements that were allowed, observed ones among them.
    #[schemars(with = "i64")]
    pub allowed: u64,
    /// Statements that were denied.
    #[schemars(with = "i64")]
    pub denied: u64,
    /// Statements that were held for a human.
    #[schemars(with = "i64")]
    pub held: u64,
    /// Rows that the agent was sent.
    #[schemars(with = "i64")]
    pub rows: u64,
    /// Values that were masked.
    #[schemars(with = "i64")]
    pub masked: u64,
    /// Findings.
    #[schemars(with = "i64")]
    pub findings: u64,
    /// Records.
    #[schemars(with = "i64")]
    pub records: u64,
}

string_enum! {
    /// How far a session is.
    pub enum SessionState {
        /// It goes on.
        Open = "Open",
        /// It ended, and said so.
        Ended = "Ended",
        /// Its sidecar stopped without an end; the rest was found in its spool.
        Recovered = "Recovered",
        /// Its sidecar stopped without an end.
        Interrupted = "Interrupted",
    }
}
