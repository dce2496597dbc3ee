//! The only ways bytes get to the server: [`TargetWriter::forward`], for a pipeline of commands
//! [`TargetWriter::stage`] and [`TargetWriter::release`], and [`TargetWriter::originate`]
//! (architecture.md, invariant 1).

use bytes::{Buf, Bytes, BytesMut};
use chaperone_evidence::{Permit, PermitClass, RecordError, SessionRecorder, Staged};

use crate::codec::frontend::tag;

/// What the proxy itself may send, and nothing else (postgres.md, Wire).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reads the catalog or a setting.
    Catalog,
    /// Asks for a prepared statement's result columns.
    Describe,
    /// Puts the server's transaction into the state a refused command leaves.
    Abort,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Purpose::Catalog => "Catalog",
            Purpose::Describe => "Describe",
            Purpose::Abort => "Abort",
        }
    }
}

/// A frame and a permit that do not belong together: a fault of ours, so nothing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a permit of this class does not cover this message")]
pub(crate) struct WrongPermit;

/// Bytes on their way to the server.
#[derive(Debug)]
pub(crate) struct TargetWriter {
    session: String,
    out: BytesMut,
    /// How much of `out` may be written; behind it stand commands whose record is not durable yet,
    /// and what came after them.
    released: usize,
    staged: Vec<Staged>,
    /// The intents of all that is not released, in their order.
    held: Vec<u64>,
}

impl TargetWriter {
    pub(crate) fn new(session: String) -> Self {
        Self {
            session,
            out: BytesMut::with_capacity(8 * 1024),
            released: 0,
            staged: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Forwards one frame exactly as the agent sent it.
    pub(crate) fn forward(&mut self, permit: Permit, frame: &Bytes) -> Result<(), WrongPermit> {
        let command = permit.class() == PermitClass::Command;
        // A permit of its own lets nothing else through: what is staged is settled before.
        if (command && self.is_staging())
            || class(frame) != Some(permit.class())
            || permit.session() != self.session
        {
            return Err(WrongPermit);
        }
        self.append(frame);
        Ok(())
    }

    /// Puts a frame where it goes out once [`TargetWriter::release`] is given its permit.
    pub(crate) fn stage(&mut self, staged: Staged, frame: &Bytes) -> Result<(), WrongPermit> {
        if class(frame) != Some(PermitClass::Command) {
            return Err(WrongPermit);
        }
        self.out.extend_from_slice(frame);
        self.held.push(staged.sequence());
        self.staged.push(staged);
        Ok(())
    }

    /// Whether anything waits for its permit.
    pub(crate) fn is_staging(&self) -> bool {
        !self.held.is_empty()
    }

    /// What waits for its permit, for the recorder to make them.
    pub(crate) fn take_staged(&mut self) -> Vec<Staged> {
        std::mem::take(&mut self.staged)
    }

    /// Lets through what was staged: a permit for each frame of it.
    pub(crate) fn release(&mut self, permits: Vec<Permit>) -> Result<(), WrongPermit> {
        let ours = permits.iter().all(|permit| {
            permit.class() == PermitClass::Command && permit.session() == self.session
        });
        let each = permits
            .iter()
            .map(Permit::sequence)
            .eq(self.held.iter().copied());
        if !ours || !each {
            return Err(WrongPermit);
        }
        self.held.clear();
        self.released = self.out.len();
        Ok(())
    }

    /// Drops what was staged, and all behind it.
    pub(crate) fn withdraw(&mut self) {
        self.staged.clear();
        self.held.clear();
        self.out.truncate(self.released);
    }

    fn append(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        if !self.is_staging() {
            self.released = self.out.len();
        }
    }

    /// Sends what the proxy itself needs; recorded as such.
    pub(crate) fn originate(
        &mut self,
        purpose: Purpose,
        bytes: &[u8],
        record: &mut SessionRecorder,
    ) -> Result<(), RecordError> {
        record.proxy(purpose.as_str(), bytes)?;
        self.append(bytes);
        Ok(())
    }

    /// What may be written.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.out.get(..self.released).unwrap_or_default()
    }

    /// `count` bytes of it have been.
    pub(crate) fn written(&mut self, count: usize) {
        let count = count.min(self.released);
        self.out.advance(count);
        self.released = self.released.saturating_sub(count);
    }

    /// How much waits, for its permit or to be written.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }
}

/// What a frame of the agent needs a permit of.
fn class(frame: &[u8]) -> Option<PermitClass> {
    match *frame.first()? {
        tag::QUERY | tag::PARSE | tag::BIND | tag::EXECUTE => Some(PermitClass::Command),
        tag::SYNC
        | tag::FLUSH
        | tag::DESCRIBE
        | tag::CLOSE
        | tag::COPY_DATA
        | tag::COPY_DONE
        | tag::COPY_FAIL
        | tag::TERMINATE => Some(PermitClass::Control),
        _ => None,
    }
}
