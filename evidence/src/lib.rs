//! Evidence: what an agent did, that it was decided on before it ran, that nothing was changed,
//! and whether anything is missing.
//!
//! ```text
//! SessionRecorder ─frames, chained─► spool ─runs, signed─► segments ─► verify · show · replay
//!        └─ Permit, once the intent is durable          └─ heads, signed at least every 10 s
//! ```
//!
//! - [`record`]: what is recorded; [`recorder`]: how the sidecar records it;
//! - [`seal`]: for whom it is sealed, and what opens it;
//! - [`audit`]: many stores in one cluster's log; [`outbox`]: a store's way there;
//! - [`store`]: the standalone folder; [`mod@verify`]: whether it is whole; [`read`]: reading it
//!   back, [`mod@scan`]: all of it in one pass; [`ocsf`]: as security events, [`Feed`]: those that a
//!   sink was not told yet.
//!
//! The bytes are described in FORMAT.md. Here is no policy, no masking and no network: texts and
//! streams arrive masked, decisions arrive made.

pub mod audit;
mod base;
pub mod clock;
mod codec;
mod delegate;
pub mod disk;
mod engine;
mod entry;
pub mod error;
mod export;
mod frame;
mod keys;
mod log;
pub mod ocsf;
pub mod outbox;
pub mod read;
pub mod record;
pub mod recorder;
mod recover;
mod replication;
pub mod scan;
pub mod seal;
mod segment;
mod session;
mod shipper;
mod spool;
pub mod store;
pub mod verify;

pub use keys::{fingerprint, parse_public_pem, public_pem};

pub use delegate::DelegateRecord;
pub use error::{RecordError, StoreError};
pub use export::{Exports, Feed};
pub use outbox::{Outbox, Outgoing};
pub use read::{
    Direction, RecoveredTail, Replayed, SessionSummary, Sessions, Shown, State, Tally, Told,
    replay, show,
};
pub use record::{
    Approval, ApprovalEvent, AsIntent, AttachId, ClientClass, DecisionRecord, DecisionView,
    EndCause, Finding, Gap, Intent, IntentRecord, IntentView, Masked, Outcome, OutcomeStatus,
    Phase, PolicyChanged, Record, SessionEnd, SessionId, SessionStart, SessionStarted, Stream,
    Totals, WouldBe,
};
pub use recorder::{Part, Permit, PermitClass, Recorder, SessionRecorder, Staged, Stats};
pub use scan::{Origin, Scan, Scanned, Summaries, recent, scan, summaries};
pub use seal::{Identity, Keyring, Place, Recipient};
pub use store::{AttachIdentity, DigestKey, SpoolOptions, Store};
pub use verify::{Break, BreakReason, Level, Note, Report, Selection, TrustedKey, verify};

#[cfg(test)]
extern crate self as chaperone_evidence;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
