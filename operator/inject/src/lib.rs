//! What an injected pod looks like: pure, idempotent, no I/O.
//!
//! ```text
//! Workload ─copy─► its pod template has the annotation
//! Pod + Plan (Connections of its annotation) ─inject─► Pod with the sidecar
//! Pod as the API server has it ─verify─► is its sidecar exactly ours?
//! ```
//!
//! Objects are read as the typed structs of Kubernetes and changed as the JSON they came in, so
//! that a field which this build does not know is neither lost nor overlooked.

mod annotation;
mod builder;
mod digest;
mod hosts;
mod inject;
pub mod names;
mod plan;
mod pod;
mod refusal;
mod tree;
mod verify;
mod workload;

pub use annotation::{Reference, Wanted};
pub use hosts::forms;
pub use inject::{Injected, inject};
pub use plan::{Cluster, Operator, Plan, Protocol, Sidecar, Target};
pub use refusal::Refusal;
pub use verify::{Accepted, Listener, VerifiedPlan, certificates, verify};
pub use workload::{Copied, WorkloadKind, copy};
