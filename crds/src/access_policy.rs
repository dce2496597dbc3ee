//! AccessPolicy: who may do what over which Connections.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::string_enum::string_enum;
use crate::{Approval, ByteSize, HumanDuration, LabelSelector, Masking, PolicyRule};

/// Who may do what over which Connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "chaperone.dev",
    version = "v1alpha1",
    kind = "AccessPolicy",
    plural = "accesspolicies",
    namespaced,
    status = "AccessPolicyStatus",
    derive = "PartialEq",
    cel,
    doc = "Who may do what over which Connections.",
    category = "chaperone",
    shortname = "apol",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Enforcement",
        type_ = "string",
        json_path = ".spec.enforcement"
    ),
    printcolumn(
        name = "Connections",
        type_ = "string",
        json_path = ".spec.connections"
    ),
    printcolumn(name = "Workloads", type_ = "integer", json_path = ".status.workloads"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AccessPolicySpec {
    /// Who it is for: any of these.
    #[schemars(length(min = 1, max = 32))]
    pub subjects: Vec<Subject>,
    /// The Connections it is for, as `namespace/name`, or `name` in this namespace.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 317), regex(pattern = crate::QUALIFIED_NAME_PATTERN)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub connections: Vec<String>,
    /// Whether it decides, or only records what it would have decided.
    #[serde(default)]
    pub enforcement: Enforcement,
    /// Rules; their order never matters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<PolicyRule>,
    /// Masking of results.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub masking: Vec<Masking>,
    /// Whether schema information may be read.
    #[serde(default)]
    pub catalog: CatalogAccess,
    /// Limits per pod and Connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// When a session is worth a finding, and what happens then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<Findings>,
}

/// Whom a policy is for, proven in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.serviceAccount), has(self.podSelector), has(self.identity)].exists_one(s, s)")
    .message("a subject names exactly one of serviceAccount, podSelector, identity"))]
pub struct Subject {
    /// Pods of this service account in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::NAME_PATTERN))]
    pub service_account: Option<String>,
    /// Pods of this namespace by their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Whoever presents a verified token with these claims, from a pod of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentitySelector>,
}

/// A verified token, by its issuer and claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IdentitySelector {
    /// Name of the IdentityProvider.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::NAME_PATTERN))]
    pub provider: String,
    /// Claims, each with the values of which the token must have one. None at all selects every token of the provider.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "claims")]
    pub claims: BTreeMap<String, Vec<String>>,
}

string_enum! {
    /// Whether a policy decides.
    #[default = Enforce]
    pub enum Enforcement {
        /// It decides.
        Enforce = "Enforce",
        /// It only records what it would have decided.
        DryRun = "DryRun",
    }
}

string_enum! {
    /// Whether schema information may be read.
    #[default = Allow]
    pub enum CatalogAccess {
        /// What describes the schema and holds no data may be read.
        Allow = "Allow",
        /// Only what a rule allows.
        Deny = "Deny",
    }
}

/// Limits per pod and Connection; what is absent is not limited here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// Rows that one statement may return.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", range(min = 1))]
    pub rows_per_statement: Option<u64>,
    /// Bytes returned within a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_minute: Option<ByteSize>,
    /// Statements within a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", range(min = 1, max = 1000000))]
    pub statements_per_minute: Option<u32>,
    /// How long a session may last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_duration: Option<HumanDuration>,
}

/// What is worth a finding, counted per pod and Connection over all sessions, and what happens then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "(has(self.onFinding) && self.onFinding == 'HoldNext') == has(self.approval)")
    .message("onFinding: HoldNext and approval belong together"))]
pub struct Findings {
    /// Denials within a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", range(min = 1, max = 1000000))]
    pub denials_per_minute: Option<u32>,
    /// Comparisons of masked columns within a minute; 60 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", range(min = 1, max = 1000000))]
    pub equality_per_minute: Option<u32>,
    /// Values masked within a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", range(min = 1, max = 1000000000))]
    pub masked_per_minute: Option<u32>,
    /// A result of so many times the rows of the usual one. What is usual is learned from the
    /// results before it, of which there must have been 20; below 100 rows none is unusual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", range(min = 2, max = 1000000))]
    pub rows_times_usual: Option<u32>,
    /// An object that none of the pod's commands named before, once there have been 100 of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first_seen: bool,
    /// What happens besides the record.
    #[serde(default)]
    pub on_finding: OnFinding,
    /// Whom the next command waits for, with `onFinding: HoldNext`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
}

string_enum! {
    /// What a finding leads to.
    #[default = Alert]
    pub enum OnFinding {
        /// A metric and an Event.
        Alert = "Alert",
        /// The pod's next command over the Connection waits for a human, in whichever session.
        HoldNext = "HoldNext",
        /// The session is closed.
        Close = "Close",
    }
}

/// What the operator found out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AccessPolicyStatus {
    /// Accepted, ResolvedRefs, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// How many injected workloads it selects, by service account or labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", range(min = 0))]
    pub workloads: Option<u32>,
}

fn claims(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "Claims, each with the values of which the token must have one. None at all selects every token of the provider.",
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "type": "array",
            "minItems": 1,
            "maxItems": 64,
            "items": {"type": "string", "maxLength": 253},
        },
    })
}
