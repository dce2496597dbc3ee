//! HTTP APIs: the translator between requests and the authorisation flow of `chaperone-enforce`.
//!
//! ```text
//! agent ─bytes─► guard (one framing, or 400) ─hyper─► normal (one meaning, or 400) ─► Operation
//! Operation ─ enforce ─► Permit ─ server::forward ─► target
//! agent ◄─ masked, recorded ── session::relay ◄── target
//! ```
//!
//! - [`guard`]: HTTP/1.1 framing checked on the raw bytes, before any parser is asked;
//! - [`normal`]: the one form of a request's target and fields: decided on, and sent;
//! - [`record`]: what of it all stands in the evidence;
//! - [`answer`]: a refusal in HTTP's words;
//! - [`api`]: what kind of API it is, for those that are more than methods on paths;
//! - [`body`]: bodies that flow, are collected within a bound, or are decompressed;
//! - [`server`]: the way to the target, which only a permit opens;
//! - [`session`]: connections of agents, and one exchange after another on them;
//! - [`websocket`]: frames after an upgrade, for the record.
//!
//! It decides nothing, records only through `enforce`, and masks only by `chaperone-mask`.
//!
//! What evidence calls a session is one sequence of exchanges: an HTTP/1.1 connection is one; an
//! HTTP/2 connection has as many as it has requests at a time.

pub mod answer;
pub mod api;
pub mod body;
pub mod guard;
pub mod normal;
pub mod record;
pub mod server;
pub mod session;
pub mod websocket;
