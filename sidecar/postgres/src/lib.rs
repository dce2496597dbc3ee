//! PostgreSQL: bytes to operations, decisions to PostgreSQL's own answers.
//!
//! ```text
//! codec    bytes ↔ messages, cut anywhere, every length checked
//! server   the side towards the real server: connect, encrypt, log in, catalog, cancel
//! session  one agent's session: the two sides, the authorisation flow between them
//! ```
//!
//! The protocol is translated here and nothing else: decisions come from `chaperone-enforce`,
//! classifications from `chaperone-sql`, replacements from `chaperone-mask`.

pub mod codec;
pub mod server;
pub mod session;
