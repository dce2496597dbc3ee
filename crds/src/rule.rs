//! Rules: an action on what one protocol can do. Guardrails and policies share them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::HumanDuration;
use crate::string_enum::string_enum;

/// One rule. Order never matters: Deny wins, then RequireApproval, then Allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.sql), has(self.kubernetes), has(self.http), has(self.ssh)].exists_one(p, p)")
    .message("a rule names exactly one of sql, kubernetes, http, ssh"))]
#[x_kube(validation = Rule::new("has(self.approval) == (self.action == 'RequireApproval')")
    .message("approval belongs to action RequireApproval, and that action needs it"))]
pub struct PolicyRule {
    /// Name, unique among the rules of this resource; it stands in errors and in the evidence.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::NAME_PATTERN))]
    pub name: String,
    /// What happens to an operation that matches.
    pub action: Action,
    /// Matches SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlRule>,
    /// Matches requests to a Kubernetes API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesRule>,
    /// Matches HTTP requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpRule>,
    /// Matches SSH channels and commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshRule>,
    /// A CEL expression that must be true as well. Checked when the rule is loaded; an error while it is evaluated denies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub when: Option<String>,
    /// Who must approve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// How durable the record must be before the command is forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// A sentence for the agent, added to the error of a denial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub message: Option<String>,
}

string_enum! {
    /// What happens to an operation that a rule matches.
    pub enum Action {
        /// It may run.
        Allow = "Allow",
        /// It never runs.
        Deny = "Deny",
        /// It runs once humans approved exactly it.
        RequireApproval = "RequireApproval",
    }
}

string_enum! {
    /// How durable the record of an intent must be before its command is forwarded.
    pub enum Durability {
        /// In the spool file.
        Written = "Written",
        /// On the disk under the spool.
        Synced = "Synced",
        /// In the audit store.
        Replicated = "Replicated",
    }
}

/// Effects of SQL on the objects listed here; with no list at all, on every object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SqlRule {
    /// What the statement does.
    #[schemars(length(min = 1, max = 19))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub effects: Vec<SqlEffect>,
    /// Tables, views and sequences as `schema.name`; `*` stands for any text inside a part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 130)))]
    pub relations: Vec<String>,
    /// Functions and procedures as `schema.name`; `*` stands for any text inside a part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 130)))]
    pub functions: Vec<String>,
    /// Settings that SET may change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 130)))]
    pub settings: Vec<String>,
    /// Channels of LISTEN and NOTIFY.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    pub channels: Vec<String>,
    /// Whether what these functions return is known to carry nothing that is masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returns: Option<Returns>,
}

string_enum! {
    /// What a statement does, in rising order of risk.
    pub enum SqlEffect {
        /// Reads schema information.
        Catalog = "Catalog",
        /// Reads rows.
        Read = "Read",
        /// Inserts rows.
        Write = "Write",
        /// Updates rows.
        Modify = "Modify",
        /// Removes rows; TRUNCATE too.
        Delete = "Delete",
        /// COPY … FROM STDIN.
        BulkLoad = "BulkLoad",
        /// COPY … TO STDOUT.
        BulkExport = "BulkExport",
        /// CREATE.
        SchemaCreate = "SchemaCreate",
        /// ALTER, COMMENT.
        SchemaAlter = "SchemaAlter",
        /// DROP.
        SchemaDestroy = "SchemaDestroy",
        /// GRANT, REVOKE, roles, ownership.
        Privilege = "Privilege",
        /// SET and its kin.
        Session = "Session",
        /// Transaction control.
        Transaction = "Transaction",
        /// VACUUM, ANALYZE, REINDEX, CLUSTER, CHECKPOINT.
        Maintenance = "Maintenance",
        /// LOCK, FOR UPDATE, advisory locks.
        Lock = "Lock",
        /// LISTEN, NOTIFY.
        Notify = "Notify",
        /// Runs a function or procedure that is not known to be pure.
        Execute = "Execute",
        /// Files, programs, network, server-side large-object files.
        UnsafeIo = "UnsafeIo",
        /// Could not be fully understood.
        Unknown = "Unknown",
    }
}

string_enum! {
    /// What functions return, as far as masking goes.
    pub enum Returns {
        /// Nothing that is masked.
        Unmasked = "Unmasked",
    }
}

/// Requests to a Kubernetes API. A list that is absent matches everything of its kind. What an
/// Allow or RequireApproval of a policy covers by `*` or by an absent list never includes running
/// commands, tunnels, tokens, acting as someone else, raising rights and Secrets, nor other API
/// groups than Kubernetes' own: those only by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KubernetesRule {
    /// Verbs as RBAC has them, in small letters; `*` stands for every one but `approve`, `attest`,
    /// `bind`, `escalate`, `impersonate` and `sign`. Running a command, attaching and forwarding a
    /// port are `create`, whatever the client's request is.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 63)))]
    pub verbs: Vec<String>,
    /// API groups; the core group is the empty string, and `*` stands for any text. Without any,
    /// those of Kubernetes itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32), inner(length(max = 253)))]
    pub groups: Vec<String>,
    /// Resources in the plural, with subresources as `pods/exec`; `*` stands for any text. `*`
    /// alone has the subresources log, resize, scale and status with it, and no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    pub resources: Vec<String>,
    /// Namespaces; `*` stands for any text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// Object names; `*` stands for any text. A request that names no object, such as a list or a
    /// create, is covered only without this list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    pub names: Vec<String>,
    /// Paths that are no resource, such as `/metrics`, with the method in small letters as verb;
    /// `*` stands for any text. Discovery needs no rule while `catalog` is Allow.
    #[serde(
        default,
        rename = "nonResourceURLs",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)))]
    pub non_resource_urls: Vec<String>,
}

/// HTTP requests. A list that is absent matches everything of its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRule {
    /// Methods, in capitals; `*` stands for every one. `Upgrade` lets a request leave HTTP for
    /// another protocol such as WebSocket, and is never meant by `*`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 32)))]
    pub methods: Vec<String>,
    /// Hosts, in small letters; `*` stands for any text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    pub hosts: Vec<String>,
    /// Paths, written decoded; `*` stands for any text inside a segment, a segment `**` for any
    /// number of segments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512)))]
    pub paths: Vec<String>,
}

/// SSH. A list that is absent matches everything of its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SshRule {
    /// Login names on the target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 63)))]
    pub logins: Vec<String>,
    /// Channel types.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 63)))]
    pub channels: Vec<String>,
    /// Commands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512)))]
    pub commands: Vec<String>,
}

/// Who must approve, and for how long an answer is waited for and stays good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Approval {
    /// Who may review.
    pub approvers: Approvers,
    /// How many different people must approve.
    #[serde(default = "one")]
    #[schemars(with = "i64")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 16").message("quorum is from 1 to 16"))]
    pub quorum: u32,
    /// How long the client waits before it is told to come back; `0s` does not wait.
    #[serde(default = "default_timeout")]
    pub timeout: HumanDuration,
    /// How long a grant may be redeemed.
    #[serde(default = "default_valid_for")]
    pub valid_for: HumanDuration,
}

/// People who may review, by name or by group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "(has(self.users) && size(self.users) > 0) || (has(self.groups) && size(self.groups) > 0)")
    .message("name at least one of users, groups"))]
pub struct Approvers {
    /// User names, as the API server knows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub users: Vec<String>,
    /// Groups, as the API server knows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub groups: Vec<String>,
}

fn one() -> u32 {
    1
}

fn default_timeout() -> HumanDuration {
    HumanDuration::from_secs(20)
}

fn default_valid_for() -> HumanDuration {
    HumanDuration::from_secs(15 * 60)
}
