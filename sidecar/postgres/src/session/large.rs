//! Room for one side's large message: a session collects one only while the process has memory for
//! it, and until then does not read on, so that its peer waits too.

use chaperone_policy::Reason;
use chaperone_sql::Room;

use super::engine::Fault;
use crate::codec::frame;

/// Longer messages are accounted for, in bytes; how many sessions there are bounds the others.
pub(crate) const LARGE: usize = 256 * 1024;
/// Times that the bytes of a message are there, measured on rows of 1 MiB: as it came, as it goes on,
/// in the record, and what buffers that double have too much.
const COPIES: usize = 5;

/// The room that one side's messages have, or wait for.
#[derive(Debug, Default)]
pub(crate) struct LargeMessage {
    room: Option<Room>,
    waits: bool,
}

impl LargeMessage {
    /// Whether the message at the front of `buffered` may be collected and taken. What is wrong with
    /// its length is for [`frame::next`] to say.
    pub(crate) fn is_there(&mut self, buffered: &[u8], limit: usize) -> Result<bool, Fault> {
        let total = match frame::header(buffered) {
            Ok(Some(header)) if header.length <= limit => header.total(),
            _ => return Ok(true),
        };
        let wanted = total.saturating_mul(COPIES);
        if total <= LARGE
            || self
                .room
                .as_ref()
                .is_some_and(|room| room.bytes() >= wanted)
        {
            return Ok(true);
        }
        // What it has is too little: two that wait for more while they hold some would wait for ever.
        self.room = None;
        self.room = Room::take(wanted);
        self.waits = self.room.is_none();
        if wanted <= Room::most() {
            return Ok(!self.waits);
        }
        Err(Fault::new(
            Reason::LimitExceeded,
            format!(
                "a message of {total} bytes is more than there is room for; at most {} can be passed on",
                Room::most() / COPIES
            ),
        ))
    }

    /// Nothing is read meanwhile.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// What was taken has gone on; `buffered` is what has come since.
    pub(crate) fn give_back(&mut self, buffered: &[u8]) {
        let next = matches!(frame::header(buffered), Ok(Some(header)) if header.total() > LARGE);
        if !next {
            self.room = None;
        }
    }
}
