//! The harness of the promises in `tests/`: real PostgreSQL, real sidecar, real psql and psycopg.
//!
//! ```text
//! agent (psql, psycopg, raw::Client) ─► [Relay] ─► Sidecar ─► [Relay] ─► Database on the shared server
//!                                                     └─ manifests/, state/ of one Lab
//! ```
//!
//! A [`Lab`] is one test's world: a database and role of its own on a server that the test binary
//! shares, a folder of manifests, a state folder, and ports. A [`Relay`] records what crosses it.
//! A [`cluster::Namespace`] is the same on a real Kubernetes.
//! Nothing here knows the sidecar's insides: what it sees is sockets, files and exit codes.

pub mod clients;
pub mod cluster;
pub mod corpus;
pub mod drivers;
pub mod faults;
pub mod http;
pub mod issuer;
pub mod lab;
pub mod memory_limit;
pub mod needles;
pub mod raw;
pub mod receiver;
pub mod relay;
pub mod server;

pub use clients::Transcript;
pub use lab::{Lab, Running, World};
pub use relay::Relay;
pub use server::Database;
pub use xtask::process::Scratch;
pub use xtask::wait::wait_for;

/// How long anything here may take before a test says that it hangs.
pub const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);
