//! The tasks behind `cargo demo`, `cargo e2e` and `cargo bench-all`, and the pieces of them that
//! the end-to-end tests share: throw-away servers, processes that cannot outlive their owner,
//! scratch folders, ports.
//!
//! ```text
//! main ─► needs (what is missing, install it) ─► demo | checks | bench
//!                                                  └─► postgres, process, janitor, workspace
//! ```
//!
//! Depends on no crate of ours and on no C, so that it builds on a machine that has nothing yet.

#![allow(
    clippy::print_stdout,
    reason = "a task runner talks to the one who runs it"
)]

pub mod bench;
pub mod checks;
pub mod cluster;
pub mod demo;
pub mod digest;
pub mod drivers;
pub mod failures;
pub mod fuzz;
pub mod image;
pub mod janitor;
pub mod licenses;
pub mod maven;
pub mod needs;
pub mod nginx;
pub mod options;
pub mod pgbouncer;
pub mod postgres;
pub mod process;
pub mod random;
pub mod releases;
pub mod s3proxy;
pub mod search;
pub mod sidecar;
pub mod wait;
pub mod workspace;
