//! AuditStore: how evidence is kept. There is one, `default`, which the operator makes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::audit_pack::AuditBackend;
use crate::{AuditSink, ByteSize, HumanDuration};

/// Name of the one there is.
pub const NAME: &str = "default";
/// Namespace of the evidence.
pub const NAMESPACE: &str = "chaperone-audit";

/// How evidence is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "chaperone.dev",
    version = "v1alpha1",
    kind = "AuditStore",
    status = "AuditStoreStatus",
    derive = "PartialEq",
    cel,
    doc = "How evidence is kept. There is one, named default.",
    category = "chaperone",
    shortname = "astore",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Quota", type_ = "string", json_path = ".spec.quota"),
    printcolumn(name = "Used", type_ = "integer", json_path = ".status.usedBytes"),
    printcolumn(
        name = "Packed",
        type_ = "integer",
        json_path = ".status.packed.segments"
    ),
    printcolumn(
        name = "Removed",
        type_ = "integer",
        json_path = ".status.removed.segments"
    ),
    printcolumn(name = "Size", type_ = "integer", json_path = ".status.size"),
    printcolumn(name = "Key", type_ = "string", json_path = ".status.logKey"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuditStoreSpec {
    /// Most bytes of all AuditSegments and AuditCheckpoints together. Past it nothing more is
    /// taken in, the sidecars' spools fill, and then they deny.
    #[serde(default = "default_quota")]
    pub quota: ByteSize,
    /// Where the oldest evidence goes once four fifths of the quota are used, in packs. Without it, it
    /// goes under a tombstone, as `retention` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<AuditBackend>,
    /// What is kept at least.
    #[serde(default)]
    pub retention: AuditRetention,
    /// Who can read what is kept. Without it, who may `unseal`: it is sealed for a key of the operator,
    /// which opens a session for an UnsealRequest and writes into the log for whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<AuditSeal>,
    /// How many keys of its own the operator is to have had, from 1. Raised past those that
    /// `status.sealKeys` lists, it has a new one made that is sealed for from then on; the others are
    /// kept, and open what was sealed for them.
    #[serde(default = "first_key", skip_serializing_if = "is_first")]
    #[schemars(with = "i64", range(min = 1, max = 64))]
    pub seal_key: u32,
    /// What no retention passes. It goes on taking up the quota.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub holds: Vec<AuditHold>,
    /// Where events go while they happen. What a sink missed, `kubectl chaperone export --format ocsf`
    /// has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sinks: Vec<AuditSink>,
}

fn default_quota() -> ByteSize {
    ByteSize::from_bytes(512 * 1024 * 1024)
}

fn first_key() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_first(number: &u32) -> bool {
    *number == first_key()
}

impl Default for AuditStoreSpec {
    fn default() -> Self {
        Self {
            quota: default_quota(),
            backend: None,
            retention: AuditRetention::default(),
            seal: None,
            seal_key: first_key(),
            holds: Vec::new(),
            sinks: Vec::new(),
        }
    }
}

/// Who can read what is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuditSeal {
    /// X25519 recipients of age, as `age-keygen -y` prints them. Sessions that begin from now on are
    /// sealed for all of these, and neither the sidecar nor the operator can read what is kept of
    /// them; those before stay as they are. One that cannot be understood denies everything. That
    /// these read is known to nobody: no UnsealRequest is needed, and none helps.
    #[schemars(
        length(min = 1, max = 16),
        inner(
            length(min = 62, max = 62),
            regex(pattern = "^age1[02-9ac-hj-np-z]{58}$")
        )
    )]
    pub recipients: Vec<String>,
}

/// Evidence that is kept until the hold is taken away. A hold of the same name is the same hold: what
/// is to be let go and what is to be held anew have two names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuditHold {
    /// Its name: a case, a ticket. It is written into the log.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Evidence of the pods in these namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// Evidence of these sessions, by their ids of 16 hex digits, and of what their sidecars wrote
    /// with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        inner(length(min = 16, max = 16), regex(pattern = r"^[0-9a-f]+$"))
    )]
    pub sessions: Vec<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
}

/// What is kept at least.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuditRetention {
    /// Evidence younger than this is never removed. What is older is removed once four fifths of the
    /// quota are used, the oldest first, and the log says so. With a backend it is packed instead,
    /// whatever its age, and stays.
    #[serde(default = "default_at_least")]
    pub at_least: HumanDuration,
    /// How long packed evidence is kept, at least as long as `atLeast`; then it is removed, and the log
    /// says so. Without it, it is kept for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<HumanDuration>,
}

fn default_at_least() -> HumanDuration {
    HumanDuration::from_secs(24 * 3600)
}

impl Default for AuditRetention {
    fn default() -> Self {
        Self {
            at_least: default_at_least(),
            packed: None,
        }
    }
}

/// How it stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditStoreStatus {
    /// Conditions: Ready.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// Bytes of all AuditSegments and AuditCheckpoints.
    #[serde(default)]
    #[schemars(with = "i64")]
    pub used_bytes: u64,
    /// Number of the newest checkpoint.
    #[serde(default)]
    #[schemars(with = "i64")]
    pub checkpoint: u64,
    /// Leaves of the log.
    #[serde(default)]
    #[schemars(with = "i64")]
    pub size: u64,
    /// Fingerprint of the log's public key, `SHA256:…`.
    #[serde(default)]
    pub log_key: String,
    /// Recipients of the operator's own keys, oldest first: evidence is sealed for the last, where the
    /// spec names nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 62)))]
    pub seal_keys: Vec<String>,
    /// What was removed, by the newest tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<AuditRemoved>,
    /// What lies in packs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<AuditPacked>,
}

/// What lies in packs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditPacked {
    /// How many.
    #[schemars(with = "i64")]
    pub packs: u64,
    /// Bytes of them.
    #[schemars(with = "i64")]
    pub bytes: u64,
    /// AuditSegments in them.
    #[schemars(with = "i64")]
    pub segments: u64,
    /// The newest checkpoint up to which every segment is in one.
    #[schemars(with = "i64")]
    pub checkpoint: u64,
}

/// What was removed so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditRemoved {
    /// AuditSegment of the newest tombstone.
    pub tombstone: String,
    /// When it was written.
    pub at: Time,
    /// The checkpoint up to which everything is removed that no hold keeps.
    #[schemars(with = "i64")]
    pub checkpoint: u64,
    /// AuditSegments removed, by all tombstones.
    #[schemars(with = "i64")]
    pub segments: u64,
    /// Entries in them.
    #[schemars(with = "i64")]
    pub entries: u64,
}
