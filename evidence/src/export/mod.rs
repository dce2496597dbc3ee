//! What sinks are told: a clear copy of the records that make events, kept until each sink has them.
//!
//! ```text
//! shipper ─records─► export/<n>.frames, durable before their segment ─► Feed ─► ocsf::Event ─► a sink
//!                          ▲ removed once every sink is past it          └─ done ─► export/<sink>.cursor
//! ```
//! Segments may be sealed for somebody else, and go away once they are kept elsewhere: neither can a
//! sink be fed from that. So what it will be told is copied beside them, and a [`Feed`] keeps its own
//! place in it, together with what it takes to go on from there: which sessions are open, how many
//! events of each were told, which commands wait for their outcome. What was read and not said to be
//! [`Feed::done`] is read again, by the next life of the sidecar too, and makes the same events with
//! the same `metadata.uid` and `metadata.sequence`: **at least once**.
//!
//! **Bounded, and never in the way.** Past [`crate::SpoolOptions::export_bytes`] nothing more is
//! copied until a sink has caught up, and a copy that cannot be written is left out: evidence goes on.
//! A feed finds the records that are missing by their sequence, tells of them by an event in their
//! session's place, and counts on.
//!
//! Streams are not copied; what is, is as recorded: masked. A store that is copied nowhere has no
//! folder `export`.

mod copy;
mod cursor;
mod feed;

#[cfg(test)]
mod tests;

pub use copy::Exports;
pub use feed::Feed;

/// Folder of it within the store.
const FOLDER: &str = "export";
