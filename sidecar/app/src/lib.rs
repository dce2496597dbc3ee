//! The sidecar's process: its command line, its configuration, its listeners, its end.
//!
//! ```text
//! main ─► cli ─┬ check       manifests ─► problems by file and line
//!              └ standalone  manifests ─build─► connections ─► listeners (data plane runtime)
//!                                │ watched                     admin, watcher, signals (control runtime)
//!                                └─compile─► Snapshot ─watch─► live sessions
//!        run         the same, told by an operator
//! ```
//!
//! Two runtimes: one thread for control, the data plane on the rest; neither can starve the other.
//! No protocol and no decision is here.

pub mod admin;
pub mod build;
pub mod check;
pub mod cli;
pub mod listener;
mod memory;
mod pause;
pub mod run;
mod serving;
mod sinks;
pub mod standalone;
mod watcher;
