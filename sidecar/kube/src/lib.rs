//! The Kubernetes API: what its requests mean, on top of the translator for HTTP.
//!
//! ```text
//! request in normal form ─ attributes ─► verb on resource ─► Operation      (chaperone-http ─► enforce)
//! a refusal ─ status ─► metav1.Status, which kubectl prints as the API server's own
//! answers ─ masks ─► data of Secrets, and places in objects, lists, tables and watches
//! after a 101 ─ channels ─► what a command reads and writes, and how it ended
//! ```
//!
//! - [`attributes`]: a request as the API server's own authorisation sees it;
//! - [`accept`]: nothing is asked for that could not be masked;
//! - [`masks`]: where in an answer the objects are;
//! - [`channels`]: the streams of exec and attach, masked where detectors are on;
//! - [`status`]: a refusal in the API's words;
//! - [`api`]: all of it, as `chaperone-http` asks for it.
//!
//! It decides nothing and sends nothing.

pub mod accept;
pub mod api;
pub mod attributes;
pub mod channels;
mod masked_channels;
pub mod masks;
pub mod status;

pub use api::KubernetesApi;
