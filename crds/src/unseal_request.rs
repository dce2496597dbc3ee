//! UnsealRequest: somebody asks for the keys of sealed sessions. The operator writes who got which
//! into the log, and then answers with the keys, wrapped for the recipient that was named.

use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most sessions of one request.
pub const MOST_SESSIONS: usize = 1000;

/// Asks for the keys of sealed sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "chaperone.dev",
    version = "v1alpha1",
    kind = "UnsealRequest",
    status = "UnsealRequestStatus",
    derive = "PartialEq",
    cel,
    doc = "Asks for the keys of sealed sessions. That they were given is written into the log first.",
    category = "chaperone",
    shortname = "ur",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "User", type_ = "string", json_path = ".spec.requester.user"),
    printcolumn(name = "Opened", type_ = "integer", json_path = ".status.opened"),
    printcolumn(
        name = "Why",
        type_ = "string",
        json_path = ".spec.reason",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a request is never changed: make another one"))]
pub struct UnsealRequestSpec {
    /// The sessions, by their ids of 16 hex digits.
    #[schemars(
        length(min = 1, max = 1000),
        inner(length(min = 16, max = 16), regex(pattern = r"^[0-9a-f]+$"))
    )]
    pub sessions: Vec<String>,
    /// X25519 recipient of age that the keys are wrapped for, as `age-keygen -y` prints it: nobody
    /// else can open the answer.
    #[schemars(
        length(min = 62, max = 62),
        regex(pattern = "^age1[02-9ac-hj-np-z]{58}$")
    )]
    pub recipient: String,
    /// Why. It is written into the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// Who asks. Admission writes it; who writes anybody else's name is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Requester>,
}

/// Who asks, as the API server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Requester {
    /// The user.
    #[schemars(length(min = 1, max = 253))]
    pub user: String,
    /// The user's groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub groups: Vec<String>,
}

/// The answer. Only the operator writes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct UnsealRequestStatus {
    /// Ready once it is answered, with yes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Name of the AuditSegment that says who was given which keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub evidence: Option<String>,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Time>,
    /// How many of the sessions the keys open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>")]
    pub opened: Option<u32>,
    /// Sessions that stay shut: they are sealed for others, or not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 16)))]
    pub shut: Vec<String>,
    /// The keys: a file of age for the recipient, whose content is as the `data.keys` of a bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 1000000))]
    pub keys: Option<ByteString>,
}
