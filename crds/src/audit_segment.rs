//! AuditSegment: evidence as it arrived, many pods' in one write. Made by the operator's ingest,
//! never changed; the log of `AuditCheckpoint` says what belongs here. That nobody changes it is an
//! admission policy's business: a rule of the schema that compares so much data costs more than an
//! API server lets a rule cost.

use k8s_openapi::ByteString;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::string_enum::string_enum;

/// Most entries of one segment.
pub const MOST_ENTRIES: usize = 1024;

/// Evidence as it arrived. Each entry is one leaf of the log, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "chaperone.dev",
    version = "v1alpha1",
    kind = "AuditSegment",
    namespaced,
    derive = "PartialEq",
    doc = "Evidence as it arrived, in one write. Never changed.",
    category = "chaperone-audit",
    shortname = "aseg",
    printcolumn(name = "Entries", type_ = "integer", json_path = ".spec.count"),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".spec.bytes"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuditSegmentSpec {
    /// How many entries.
    #[schemars(with = "i64", range(min = 1, max = 1024))]
    pub count: u32,
    /// Bytes of their data.
    #[schemars(with = "i64", range(min = 0, max = 2097152))]
    pub bytes: u32,
    /// The entries.
    #[schemars(length(min = 1, max = 1024))]
    pub entries: Vec<AuditEntry>,
}

/// One thing a pod's store wrote, or the operator wrote about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuditEntry {
    /// What it is.
    pub kind: AuditEntryKind,
    /// Namespace of the pod.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Name of the pod.
    #[schemars(length(min = 1, max = 253))]
    pub pod: String,
    /// UID of the pod; of an unsealing, of its UnsealRequest.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
    /// Hex of the public key of the pod's store, which the certificate names.
    #[schemars(length(min = 64, max = 64))]
    pub store: String,
    /// Number of the store's segment, from 1; 0 for a certificate and an unsealing; a
    /// tombstone's own.
    #[schemars(with = "i64", range(min = 0))]
    pub number: u64,
    /// Which part of it, from 0: a segment that is too long for one resource comes in parts.
    #[schemars(with = "i64", range(min = 0, max = 63))]
    pub part: u32,
    /// How many parts it has.
    #[schemars(with = "i64", range(min = 1, max = 64))]
    pub parts: u32,
    /// Hex SHA-256 of `data`.
    #[schemars(length(min = 64, max = 64))]
    pub digest: String,
    /// The bytes.
    #[schemars(with = "String", length(max = 1398104))]
    pub data: ByteString,
}

string_enum! {
    /// What an entry is.
    pub enum AuditEntryKind {
        /// The operator's certificate for a pod's store.
        Certificate = "Certificate",
        /// A part of a segment of a pod's store.
        Segment = "Segment",
        /// What was removed, and what the rest is verified from.
        Tombstone = "Tombstone",
        /// Who was given the keys of which sealed sessions.
        Unseal = "Unseal",
    }
}
