//! The decision: what a [`Subject`] may do with an [`Operation`] under a [`Policy`].
//!
//! Pure: no I/O, no clock, no randomness. Resources come in as the spec types of
//! `chaperone-crds`, are compiled once, and every later call is a lookup.
//!
//! ```text
//! Connection.guardrails ┐
//!                       ├─ compile ─► PolicySet ─ select(subject) ─► Policy ─ decide(subject, operation) ─► Decision
//! AccessPolicy …        ┘
//! ```
//!
//! Nothing here knows a protocol's bytes: a translator (`chaperone-sql`, `chaperone-http`, `chaperone-kube`)
//! turns bytes into an [`Operation`]; this crate only matches its accesses against rules.

mod compile;
mod condition;
mod decide;
mod decision;
mod digest;
mod explain;
mod http;
mod index;
mod json_path;
mod kubernetes;
mod limits;
mod masking;
mod operation;
mod pattern;
mod policy;
mod reason;
mod rule;
mod selector;
mod set;
mod subject;

pub use compile::Invalid;
pub use decide::decide;
pub use decision::{ApprovalRule, Decision, Durability, RuleRef, Verdict};
pub use explain::{AccessExplanation, ConditionOutcome, Explanation, RuleMatch};
pub use json_path::{JsonPath, Place};
pub use kubernetes::{ApiObject, api_access};
pub use limits::{Findings, Limits, OnFinding};
pub use masking::{ColumnMask, Detector, DetectorRule, Masking, Predicates, Strategy, Typed};
pub use operation::{Access, ApiRequest, Effect, Object, Operation, Protocol, Request, UPGRADE};
pub use policy::Policy;
pub use reason::Reason;
pub use rule::Action;
pub use set::{NamedConnection, NamedPolicy, NamespaceLabels, PolicySet, check};
pub use subject::{Delegate, Pod, Subject, Workload};
