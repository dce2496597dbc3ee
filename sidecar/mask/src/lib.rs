//! What a masked value looks like, and which values look like secrets.
//!
//! Pure: no I/O, no clock. Two independent halves that the translators put together:
//!
//! ```text
//! column mask:  (type, format, value, strategy) ─ Masker::mask_value ─► Null | bytes
//! detector:     (type, format, value)           ─ Detectors::mask_value ─► Clean | Null | bytes
//! text:         errors, notices, payloads       ─ Detectors::mask_text, sanitize_message ─► text
//! body:         pieces of JSON, events, text   ─ StreamMask ─► pieces
//! write-back:   values on their way in          ─ carries_mark ─► bool
//! ```
//!
//! Which columns are masked is policy (`chaperone-policy`); which results are touched by them is
//! lineage (`chaperone-sql`); nothing here decides either.

mod detect;
mod mark;
mod masker;
mod message;
mod stream;
mod types;

pub use detect::{Counts, Detectors, Match, Scanned};
pub use mark::{HASH_PREFIX, MARK, carries_mark};
pub use masker::{HashKey, Masker, Outcome, Wire};
pub use message::sanitize_message;
pub use stream::{Kind, StreamMask, Unmaskable};
pub use types::detectable;
