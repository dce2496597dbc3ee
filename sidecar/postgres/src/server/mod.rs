//! The side towards the real server: connect, encrypt, log in, load the catalog, cancel.
//!
//! ```text
//! Target + Credential ─connect→ ServerConnection ─load_catalog→ Catalog, search path
//!                                └ cancel_handle ─cancel→ the server ends what runs
//! ```
//!
//! What is written here are the closed purposes Login, Catalog and Cancel of `originate`
//! (architecture.md, invariant 1). A credential leaves this module for the target only: no error,
//! log line or record carries any of it.

mod cancel;
mod catalog;
mod connect;
mod error;
mod examine;
mod login;
mod query;
mod scram;

pub use cancel::{CancelHandle, cancel};
pub use catalog::{CatalogSnapshot, load_catalog, load_search_path};
pub use connect::{
    AuthenticationMethod, ConnectOptions, Credential, MAX_COLLECTED_FRAME, Proof, ServerConnection,
    Target, connect,
};
pub use error::{ConnectError, QueryError};
pub use examine::{Examination, Privileges, share_process};
