//! ApprovalRequest: one command that waits for humans. Made by the operator (standalone: by the
//! sidecar), decided by people; all but `decision` and `reviews` is immutable.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::string_enum::string_enum;
use crate::{Approvers, HumanDuration, SqlEffect};

/// One command that waits for humans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "chaperone.dev",
    version = "v1alpha1",
    kind = "ApprovalRequest",
    namespaced,
    status = "ApprovalRequestStatus",
    derive = "PartialEq",
    cel,
    doc = "One command that waits for humans.",
    category = "chaperone",
    shortname = "ar",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Connection", type_ = "string", json_path = ".spec.connection"),
    printcolumn(
        name = "Subject",
        type_ = "string",
        json_path = ".spec.subject.serviceAccount"
    ),
    printcolumn(
        name = "Summary",
        type_ = "string",
        json_path = ".spec.operation.summary"
    ),
    printcolumn(
        name = "Expires",
        type_ = "date",
        json_path = ".spec.expiresAt",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.connection == oldSelf.connection").message("connection is immutable").field_path(".connection"))]
#[x_kube(validation = Rule::new("self.subject == oldSelf.subject").message("subject is immutable").field_path(".subject"))]
#[x_kube(validation = Rule::new("has(self.purpose) == has(oldSelf.purpose) && (!has(self.purpose) || self.purpose == oldSelf.purpose)")
    .message("purpose is immutable"))]
#[x_kube(validation = Rule::new("self.rule == oldSelf.rule").message("rule is immutable").field_path(".rule"))]
#[x_kube(validation = Rule::new("self.operation == oldSelf.operation").message("operation is immutable").field_path(".operation"))]
#[x_kube(validation = Rule::new("self.approvers == oldSelf.approvers").message("approvers is immutable").field_path(".approvers"))]
#[x_kube(validation = Rule::new("self.quorum == oldSelf.quorum").message("quorum is immutable").field_path(".quorum"))]
#[x_kube(validation = Rule::new("self.expiresAt == oldSelf.expiresAt").message("expiresAt is immutable").field_path(".expiresAt"))]
#[x_kube(validation = Rule::new("self.validFor == oldSelf.validFor").message("validFor is immutable").field_path(".validFor"))]
pub struct ApprovalRequestSpec {
    /// The Connection, as `namespace/name`.
    #[schemars(length(min = 3, max = 317), regex(pattern = crate::FULL_NAME_PATTERN))]
    pub connection: String,
    /// Who asks.
    pub subject: ApprovalSubject,
    /// Why the workload says it runs; declared, not proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub purpose: Option<String>,
    /// The rule that asks for approval.
    pub rule: ApprovalRule,
    /// What will run.
    pub operation: ApprovalOperation,
    /// Who may review, copied from the rule when this was made.
    pub approvers: Approvers,
    /// How many different people must approve, copied from the rule when this was made.
    #[schemars(with = "i64")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 16").message("quorum is from 1 to 16"))]
    pub quorum: u32,
    /// When nobody can answer any more.
    pub expires_at: Time,
    /// How long a grant may be redeemed.
    pub valid_for: HumanDuration,
    /// What a human writes; admission turns it into a review and clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<ApprovalDecision>,
    /// Who answered what, one a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["reviewer".into()]))]
    pub reviews: Vec<Review>,
}

/// Who asks for approval. A grant is good for the same one only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApprovalSubject {
    /// Namespace of the workload.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Service account of the workload.
    #[schemars(length(min = 1, max = 253))]
    pub service_account: String,
    /// The pod that asked first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod: Option<String>,
    /// Whose token the agent presented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate: Option<DelegateRef>,
}

/// The identity of a verified token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DelegateRef {
    /// Name of the IdentityProvider.
    #[schemars(length(min = 1, max = 253))]
    pub provider: String,
    /// User name, with the provider's prefix.
    #[schemars(length(min = 1, max = 512))]
    pub username: String,
}

/// The rule that asks, so that a later change of it voids the grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApprovalRule {
    /// The resource it is in.
    #[schemars(length(min = 1, max = 330))]
    pub policy: String,
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Hex SHA-256 of the resource's canonical spec.
    #[schemars(length(min = 1, max = 128))]
    pub digest: String,
}

/// What will run, as an approver reads it: masked values are marked, control characters escaped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApprovalOperation {
    /// One line.
    #[schemars(length(min = 1, max = 256))]
    pub summary: String,
    /// The command.
    #[schemars(length(min = 1, max = 65536))]
    pub command: String,
    /// Its parameters in order; `null` is NULL or a value without text form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(max = 32768)))]
    pub parameters: Vec<Option<String>>,
    /// Keyed digest of the exact command and parameters.
    #[schemars(length(min = 1, max = 128))]
    pub digest: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub effects: Vec<SqlEffect>,
    /// What it does that to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 256)))]
    pub objects: Vec<String>,
}

/// What a human writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApprovalDecision {
    /// Yes or no.
    pub verdict: ApprovalVerdict,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
}

/// What one person answered. Stamped by admission; standalone the reviewer is `local:<uid>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Review {
    /// The person.
    #[schemars(length(min = 1, max = 253))]
    pub reviewer: String,
    /// The person's groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub groups: Vec<String>,
    /// Yes or no.
    pub verdict: ApprovalVerdict,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// When.
    pub at: Time,
}

string_enum! {
    /// What a person answers.
    pub enum ApprovalVerdict {
        /// It may run once.
        Approve = "Approve",
        /// It may not.
        Deny = "Deny",
    }
}

string_enum! {
    /// How far a request is. For people: what counts is counted from the reviews.
    pub enum ApprovalPhase {
        /// Waits for reviews.
        Pending = "Pending",
        /// Granted, and not used.
        Approved = "Approved",
        /// Used.
        Consumed = "Consumed",
        /// Someone said no.
        Denied = "Denied",
        /// Nobody answered, or nobody used it, in time.
        Expired = "Expired",
        /// The client went away or cancelled.
        Cancelled = "Cancelled",
    }
}

/// How far the request is. Only the operator writes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApprovalRequestStatus {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ApprovalPhase>,
    /// When it was granted, used, denied, expired or cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Time>,
    /// The session that used the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub consumed_by: Option<String>,
    /// Ready once there is nothing more to wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
