//! `chaperone-operator`: injects sidecars, stamps approvals, reconciles the resources of
//! `chaperone.dev`, and tells sidecars what applies.
//!
//! ```text
//! API server ─watch─► context (stores) ─► controllers            (leader only)
//!            ─admission─► webhook ─► chaperone-inject            (all replicas)
//! sidecar    ─token─► control: attach, stream, approvals, audit  (all replicas)
//! audit: entries ─► AuditSegment ─► AuditCheckpoint              (the last by the leader)
//! ```
//!
//! What it does not do: see a byte between an agent and its target.

pub mod admin;
pub mod audit;
pub mod certificates;
pub mod cli;
mod cluster_secret;
pub mod context;
pub mod control;
pub mod controllers;
pub mod digest_key;
pub mod leader;
pub mod metrics;
pub mod references;
pub mod run;
pub mod server;
pub mod target;
pub mod uninstall;
pub mod webhook;
mod workload_events;

/// Whose fields the operator's writes are.
pub const FIELD_MANAGER: &str = "chaperone-operator";
