//! The one authorisation flow. Every protocol's translator goes through it and only words it.
//!
//! ```text
//! Operation ─ decide ─► Decision ─┬ Deny ─► refuse ─► Denial                     (recorded)
//!                                 ├ Allow/Observe ─► permit ─► Permit            (intent durable first)
//!                                 └ Hold ─► ask ─► wait ─► redeem ─► decide again ─► Permit
//! ```
//!
//! Where a policy selects by identity, [`Enforcement::accepting`] says whose token a session must
//! begin with, and checks it.
//!
//! A [`Session`] holds the policy that applies to its subject right now, the recorder of its
//! evidence and the way to ask a human. It writes nothing to a target: that takes the
//! [`Permit`](chaperone_evidence::Permit) which only the recorder mints.

mod command;
mod denial;
mod findings;
mod hold;
mod identity;
mod limits;
mod metrics;
mod notices;
mod session;

pub use command::{Command, Phase};
pub use denial::Denial;
pub use findings::Deviations;
pub use hold::{Asked, Waiting};
pub use identity::{Accepting, KeyRequests};
pub use limits::RateLimits;
pub use metrics::Metrics;
pub use notices::{Notice, NoticeKind, Notices};
pub use session::{Enforcement, Session, Snapshot, Start};
