//! The only two ways bytes get to the server: [`TargetWriter::forward`] and
//! [`TargetWriter::originate`] (architecture.md, invariant 1).

use bytes::{Bytes, BytesMut};
use chaperone_evidence::{Permit, PermitClass, RecordError, SessionRecorder};

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
}

impl TargetWriter {
    pub(crate) fn new(session: String) -> Self {
        Self {
            session,
            out: BytesMut::with_capacity(8 * 1024),
        }
    }

    /// Forwards one frame exactly as the agent sent it.
    pub(crate) fn forward(&mut self, permit: Permit, frame: &Bytes) -> Result<(), WrongPermit> {
        let Some(&kind) = frame.first() else {
            return Err(WrongPermit);
        };
        let class = match kind {
            tag::QUERY | tag::PARSE | tag::BIND | tag::EXECUTE => PermitClass::Command,
            tag::SYNC
            | tag::FLUSH
            | tag::DESCRIBE
            | tag::CLOSE
            | tag::COPY_DATA
            | tag::COPY_DONE
            | tag::COPY_FAIL
            | tag::TERMINATE => PermitClass::Control,
            _ => return Err(WrongPermit),
        };
        if permit.class() != class || permit.session() != self.session {
            return Err(WrongPermit);
        }
        self.out.extend_from_slice(frame);
        Ok(())
    }

    /// Sends what the proxy itself needs; recorded as such.
    pub(crate) fn originate(
        &mut self,
        purpose: Purpose,
        bytes: &[u8],
        record: &mut SessionRecorder,
    ) -> Result<(), RecordError> {
        record.proxy(purpose.as_str(), bytes)?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// What waits to be written.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// The same, for whoever writes it.
    pub(crate) fn pending(&mut self) -> &mut BytesMut {
        &mut self.out
    }
}
