//! The bytes of a record's body: encoding version 1 (FORMAT.md, Bodies).
//!
//! Integers are big endian, texts are a u32 length and UTF-8. Decoding is strict: what this
//! module reads it would write byte for byte, so a record has one encoding only. It never
//! allocates more than the body is long.

mod bytes;
mod decode;
mod encode;

#[cfg(test)]
mod tests;

use chaperone_policy::{Durability, Verdict};

use crate::record::{ApprovalEvent, ClientClass, EndCause, OutcomeStatus, Phase};

pub(crate) use bytes::{Malformed, Put, Reader, patch_u32};
pub(crate) use decode::decode;
pub(crate) use encode::{Piece, encode, kind_of, put_client, put_intent, put_proxy, put_stream};

pub(crate) const SESSION_START: u8 = 1;
pub(crate) const INTENT: u8 = 2;
pub(crate) const CLIENT: u8 = 3;
pub(crate) const SERVER: u8 = 4;
pub(crate) const PROXY: u8 = 5;
pub(crate) const OUTCOME: u8 = 6;
pub(crate) const APPROVAL: u8 = 7;
pub(crate) const POLICY_CHANGED: u8 = 8;
pub(crate) const MASKED: u8 = 9;
pub(crate) const FINDING: u8 = 10;
pub(crate) const GAP: u8 = 11;
pub(crate) const SESSION_END: u8 = 12;

macro_rules! coded {
    ($type:ty, $write:ident, $read:ident, $what:literal, $($value:path = $code:literal),+ $(,)?) => {
        fn $write(value: $type) -> u8 { match value { $($value => $code),+ } }
        fn $read(code: u8) -> Result<$type, Malformed> {
            match code { $($code => Ok($value),)+ _ => Err(Malformed($what)) }
        }
    };
}

coded!(
    Phase,
    phase_code,
    phase,
    "an unknown phase",
    Phase::Command = 1,
    Phase::Prepare = 2,
    Phase::Bind = 3,
    Phase::Execute = 4
);
coded!(
    Verdict,
    verdict_code,
    verdict,
    "an unknown verdict",
    Verdict::Allow = 1,
    Verdict::Deny = 2,
    Verdict::Hold = 3,
    Verdict::Observe = 4
);
coded!(
    Durability,
    durability_code,
    durability,
    "an unknown durability",
    Durability::Written = 1,
    Durability::Synced = 2,
    Durability::Replicated = 3
);
coded!(
    ClientClass,
    class_code,
    class,
    "an unknown class of client bytes",
    ClientClass::Command = 1,
    ClientClass::Control = 2,
    ClientClass::Refused = 3
);
coded!(
    OutcomeStatus,
    status_code,
    status,
    "an unknown outcome",
    OutcomeStatus::Completed = 1,
    OutcomeStatus::Failed = 2,
    OutcomeStatus::Cancelled = 3,
    OutcomeStatus::NotForwarded = 4,
    OutcomeStatus::Unknown = 5
);
coded!(
    ApprovalEvent,
    event_code,
    event,
    "an unknown step of an approval",
    ApprovalEvent::Requested = 1,
    ApprovalEvent::ReviewedApprove = 2,
    ApprovalEvent::ReviewedDeny = 3,
    ApprovalEvent::Granted = 4,
    ApprovalEvent::Denied = 5,
    ApprovalEvent::Expired = 6,
    ApprovalEvent::Cancelled = 7
);
coded!(
    EndCause,
    cause_code,
    cause,
    "an unknown cause of an end",
    EndCause::ClientClosed = 1,
    EndCause::TargetClosed = 2,
    EndCause::Terminated = 3,
    EndCause::Aborted = 4
);
