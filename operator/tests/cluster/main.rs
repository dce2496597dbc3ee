//! The control API and the controllers against a real API server.
//!
//! They need one, with KUBECONFIG naming an administrator of it, and leave what they make in
//! namespaces of their own: `cargo cluster up`, then run this test's program with
//! `cargo cluster run PROGRAM --ignored`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    // Figures, for who runs it.
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]

mod approvals;
mod attach;
mod audit;
mod certificates;
mod controllers;
#[path = "../../../evidence/tests/support/mod.rs"]
mod evidence;
mod keeping;
mod packs;
mod stream;
mod support;
