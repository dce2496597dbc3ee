//! PostgreSQL's wire format, both directions: bytes to messages and back
//! (PostgreSQL documentation, chapter 55, Frontend/Backend Protocol).
//!
//! ```text
//! bytes ─startup::next→ Initial            (before login, from the client)
//! bytes ─frame::next→ Frame ─Frontend::parse→ what the client asks for
//!                           └Backend::parse→  what the server says; DataRow::rewrite masks a row
//! ErrorResponse, encode::* → bytes we send ourselves
//! ```
//!
//! A message whose body is not exactly what its fields add up to is an error, never a guess.
//! Nothing is allocated because a length field says so: a count is checked against the bytes that
//! are there first. Frames share the read buffer's memory and keep the bytes as received, so that
//! what is forwarded is what was decided on.

pub mod backend;
pub mod data_row;
pub mod encode;
mod error;
pub mod error_response;
pub mod frame;
pub mod frontend;
pub(crate) mod reader;
pub mod row_description;
pub mod startup;
pub mod startup_options;

pub use backend::{Authentication, Backend, CopyResponse, TransactionStatus, command_rows};
pub use data_row::{Cell, DataRow, rewrite};
pub use error::{FrameError, ProtocolError};
pub use error_response::{ErrorFields, ErrorResponse, Severity};
pub use frame::{Frame, FrameHeader, FrameRef, PassThrough};
pub use frontend::{Bind, Format, Frontend, Parameter, Part};
pub use row_description::{Field, RowDescription};
pub use startup::{CancelRequest, Initial, ProtocolVersion, Startup, StartupError};
