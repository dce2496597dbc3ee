//! The life of an approval request, and the folder that keeps requests standalone.
//!
//! ```text
//! Decision::Hold ─► Folder::request ─► ar-xxxxx.yaml, Pending ─► Folder::wait ─► Approved ─► Folder::redeem ─► Grant
//!                                         ▲                                                     (exactly once)
//!                     Folder::review ─────┘  (kubectl-chaperone approve | deny, another process)
//! ```
//!
//! - [`rules`] is pure: it counts a request's phase from its reviews and never from its status.
//!   The operator applies the same rules to the same resource in a cluster.
//! - [`Folder`] keeps `ApprovalRequest` YAML files under one lock, so that the sidecar and the
//!   command line never lose each other's change.
//! - [`Remote`] asks an operator for the same; [`Approvals`] is one or the other.
//! - [`escape`] makes what an approver reads the same as what would run: no character that hides,
//!   reorders or moves text gets through.
//!
//! What this crate does not do: decide. Whoever redeems evaluates the current policy again.

mod approvals;
mod changes;
mod clock;
mod error;
pub mod escape;
mod folder;
mod name;
mod remote;
mod request;
pub mod resource;
pub mod rules;
mod store;
mod tuple;
mod waiters;

pub use approvals::Approvals;
pub use clock::{Clock, SystemClock};
pub use error::ApprovalError;
pub use escape::escape_for_display;
pub use folder::{Entry, Folder, local_reviewer};
pub use name::{derived_name, is_name};
pub use remote::{ApiError, ApiFuture, ApprovalApi, Remote};
pub use request::{Draft, Grant, MAX_PENDING, NewRequest, Ticket};
pub use rules::{Counted, Evaluation, Phase, ReviewerProof, Verdict};
pub use tuple::{Tuple, combined_rule_digest};
