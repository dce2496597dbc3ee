//! AuditCheckpoint: the log's next stretch. Its fixed name `cp-<n>` is the fence between two
//! leaders: the one whose create succeeds goes on, the other reads it and goes on from it.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most segments that one checkpoint names.
pub const MOST_SEGMENTS: usize = 1000;

/// The log's next stretch: which segments come next, and the Merkle tree over all so far (RFC 6962).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "chaperone.dev",
    version = "v1alpha1",
    kind = "AuditCheckpoint",
    namespaced,
    derive = "PartialEq",
    doc = "The log's next stretch, signed. Never changed.",
    category = "chaperone-audit",
    shortname = "acp",
    printcolumn(name = "Size", type_ = "integer", json_path = ".spec.size"),
    printcolumn(name = "Root", type_ = "string", json_path = ".spec.root"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuditCheckpointSpec {
    /// Its number, from 1 without gaps; its name is `cp-<number>`.
    #[schemars(with = "i64", range(min = 1))]
    pub number: u64,
    /// Hex SHA-256 of the note of the checkpoint before; zeros for the first.
    #[schemars(length(min = 64, max = 64))]
    pub previous: String,
    /// The segments that come next, in the order of the log.
    #[schemars(length(min = 1, max = 1000))]
    pub segments: Vec<CheckpointedSegment>,
    /// Leaves of the log up to here.
    #[schemars(with = "i64", range(min = 1))]
    pub size: u64,
    /// Hex of the tree's root over them (RFC 6962, section 2.1).
    #[schemars(length(min = 64, max = 64))]
    pub root: String,
    /// Hex of the roots of its full subtrees, largest first: what the next checkpoint grows from.
    #[schemars(length(min = 1, max = 64), inner(length(min = 64, max = 64)))]
    pub subtrees: Vec<String>,
    /// The signed note (C2SP tlog-checkpoint) that says so.
    #[schemars(length(min = 1, max = 2048))]
    pub note: String,
}

/// A segment's place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CheckpointedSegment {
    /// Name of the AuditSegment.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Hex of the leaf hash of each of its entries, in order.
    #[schemars(length(min = 1, max = 1024), inner(length(min = 64, max = 64)))]
    pub leaves: Vec<String>,
}
