//! What every protocol needs below its own bytes: bounded buffers, streams, names, TLS, drain.
//!
//! ```text
//! host, port ─Resolver→ addresses (special ones refused) ─connect→ TcpStream ─TlsClient→ Stream
//! agent's TcpStream ─TlsServer→ Stream
//! Stream ─ReadBuffer::fill→ bytes (never more than the cap) ─codec of the protocol→ frames
//! ```
//!
//! Nothing here knows a protocol, a policy, or what a byte means.

mod buffer;
mod drain;
mod end_point;
mod error;
mod resolve;
mod secret;
mod special;
mod stream;
mod tcp;
mod tls;
mod tls_server;

pub use buffer::ReadBuffer;
pub use drain::{Drain, DrainController, drain};
pub use end_point::server_end_point;
pub use error::{ConnectError, TlsError};
pub use resolve::Resolver;
pub use secret::Secret;
pub use special::{AllowSpecial, SpecialAddress};
pub use stream::{Stream, StreamReader, StreamWriter};
pub use tcp::{connect, connect_to, prepare};
pub use tls::{ClientIdentity, TlsClient, TlsMode, TlsSettings};
pub use tls_server::TlsServer;
