//! AuditPack: the oldest of the evidence, many segments in one object outside of etcd, and where those
//! objects are. The object is named by its digest; what is in it the checkpoints prove.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name of the Secret in [`crate::audit_store::NAMESPACE`] with the object store's credentials. One
/// name, so that whoever may write an AuditStore cannot have another Secret sent somewhere.
pub const SECRET: &str = "chaperone-object-store";
/// Its keys.
pub const ACCESS_KEY_ID: &str = "accessKeyId";
/// The other one.
pub const SECRET_ACCESS_KEY: &str = "secretAccessKey";

/// Where packs are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.volume) != has(self.objectStore)")
    .message("name exactly one of volume, objectStore"))]
pub struct AuditBackend {
    /// The operator's own volume: the chart's value `volume.enabled`, which allows one replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeBackend>,
    /// A bucket that speaks S3. Its credentials are the keys `accessKeyId` and `secretAccessKey` of the
    /// Secret `chaperone-object-store` in the namespace `chaperone-audit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStoreBackend>,
}

/// The operator's own volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(transform = crate::audit_sink::nothing_in_it)]
pub struct VolumeBackend {}

/// A bucket. It needs s3:PutObject, s3:GetObject and s3:DeleteObject below the prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ObjectStoreBackend {
    /// Where it is, without the bucket.
    #[schemars(length(min = 9, max = 2048), regex(pattern = "^https://[^\\s#?@/]+$"))]
    pub endpoint: String,
    /// Its region.
    #[serde(default = "default_region")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[-a-z0-9]+$"))]
    pub region: String,
    /// Its name.
    #[schemars(
        length(min = 3, max = 63),
        regex(pattern = "^[a-z0-9][-.a-z0-9]*[a-z0-9]$")
    )]
    pub bucket: String,
    /// What the name of every object begins with, and a slash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = "^[-_a-zA-Z0-9]+(/[-_a-zA-Z0-9]+)*$")
    )]
    pub prefix: Option<String>,
    /// PEM of the CAs that certify the endpoint; without it, the public ones do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub ca: Option<String>,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

/// Segments of the log, one after the other, in one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "chaperone.dev",
    version = "v1alpha1",
    kind = "AuditPack",
    namespaced,
    status = "AuditPackStatus",
    derive = "PartialEq",
    cel,
    doc = "The oldest evidence, packed into one object outside of etcd. Never changed.",
    category = "chaperone-audit",
    shortname = "apack",
    printcolumn(name = "Segments", type_ = "integer", json_path = ".spec.segments"),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".spec.bytes"),
    printcolumn(name = "Checkpoint", type_ = "integer", json_path = ".spec.through"),
    printcolumn(name = "Stored", type_ = "date", json_path = ".status.storedAt"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a pack is never changed"))]
pub struct AuditPackSpec {
    /// Its number, from 1; its name is `pack-<number>`.
    #[schemars(with = "i64", range(min = 1))]
    pub number: u64,
    /// The first segment in it.
    pub first: LogPosition,
    /// The last one.
    pub last: LogPosition,
    /// The newest checkpoint whose every segment is in this pack or one before it; the checkpoints
    /// themselves are in them too.
    #[schemars(with = "i64", range(min = 0))]
    pub through: u64,
    /// Hex SHA-256 of the object, which is its name as well.
    #[schemars(length(min = 64, max = 64), regex(pattern = "^[0-9a-f]{64}$"))]
    pub digest: String,
    /// Bytes of the object.
    #[schemars(with = "i64", range(min = 1))]
    pub bytes: u64,
    /// How many segments are in it.
    #[schemars(with = "i64", range(min = 0))]
    pub segments: u64,
    /// When the newest of them was made.
    pub newest: Time,
}

/// A segment's place: what the checkpoints name one after the other.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LogPosition {
    /// Number of the checkpoint that names it.
    #[schemars(with = "i64", range(min = 1))]
    pub checkpoint: u64,
    /// Which of its segments, from 0.
    #[schemars(with = "i64", range(min = 0, max = 999))]
    pub segment: u32,
}

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuditPackStatus {
    /// When the object was read back and found to be what was written. Before that nothing that is in
    /// it is deleted, and nobody reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_at: Option<Time>,
}
