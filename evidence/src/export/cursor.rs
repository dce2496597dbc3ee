//! Where a feed stands: its place in the copies, and the sessions that are open there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::codec::{self, Malformed, Put, Reader};
use crate::ocsf::Events;
use crate::read::Key;
use crate::record::{AttachId, Record};
use crate::scan::Origin;

const MAGIC: &[u8; 8] = b"CHCURSR1";
const EXTENSION: &str = "cursor";
/// Largest cursor that is read.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// Up to where a sink was told.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The file it is in.
    pub(super) file: u64,
    /// Runs and records of that file that it is past.
    pub(super) steps: u64,
    /// The sessions that are open there.
    pub(super) sessions: BTreeMap<Key, Following>,
}

/// A session that is told of.
#[derive(Debug)]
pub(super) struct Following {
    started_ns: u64,
    /// Body of its SessionStart.
    start: Vec<u8>,
    /// The sequence that its next record has.
    pub(super) next: u64,
    pub(super) events: Events,
}

impl Following {
    /// The session that begins with this body.
    pub(super) fn begin(key: Key, started_ns: u64, start: &[u8]) -> Result<Following, Malformed> {
        Ok(Following {
            started_ns,
            start: start.to_vec(),
            next: 0,
            events: Events::new(Arc::new(origin(key, started_ns, start)?)),
        })
    }
}

fn origin(key: Key, started_ns: u64, start: &[u8]) -> Result<Origin, Malformed> {
    let Record::SessionStart(started) = codec::decode(codec::SESSION_START, start)? else {
        return Err(Malformed("a session that does not begin"));
    };
    Ok(Origin {
        id: started.id,
        attach: key.0,
        ordinal: key.1,
        start: started.start,
        started_ns,
    })
}

impl Cursor {
    /// Before the first record of `file`.
    pub(super) fn begin(file: u64) -> Cursor {
        Cursor {
            file,
            steps: 0,
            sessions: BTreeMap::new(),
        }
    }

    /// Reads it; `None` where it cannot be.
    pub(super) fn read(path: &Path) -> Option<Cursor> {
        let size = std::fs::metadata(path).ok()?.len();
        let bytes = std::fs::read(path).ok().filter(|_| size <= MOST_BYTES)?;
        Cursor::parse(&bytes).ok()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.put(MAGIC);
        out.put_u64(self.file);
        out.put_u64(self.steps);
        out.put_len(self.sessions.len());
        for ((attach, ordinal), following) in &self.sessions {
            out.put(&attach.0);
            out.put_u64(*ordinal);
            out.put_u64(following.started_ns);
            out.put_len(following.start.len());
            out.put(&following.start);
            out.put_u64(following.next);
            following.events.save(&mut out);
        }
        out
    }

    fn parse(bytes: &[u8]) -> Result<Cursor, Malformed> {
        let r = &mut Reader::new(bytes);
        if &r.array::<8>()? != MAGIC {
            return Err(Malformed("it is no cursor"));
        }
        let mut cursor = Cursor::begin(r.u64()?);
        cursor.steps = r.u64()?;
        for _ in 0..r.count(64)? {
            let key = (AttachId(r.array()?), r.u64()?);
            let started_ns = r.u64()?;
            let start = r.bytes()?.to_vec();
            let next = r.u64()?;
            let origin = Arc::new(origin(key, started_ns, &start)?);
            let following = Following {
                started_ns,
                next,
                events: Events::resume(origin, r)?,
                start,
            };
            cursor.sessions.insert(key, following);
        }
        r.end()?;
        Ok(cursor)
    }
}

/// `<sink>.cursor`. Names of sinks are names of Kubernetes, so they are names of files.
pub(super) fn file_name(sink: &str) -> String {
    format!("{sink}.{EXTENSION}")
}

/// The sink whose cursor this is.
pub(super) fn sink_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let sink = name.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    (!sink.is_empty()).then(|| sink.to_owned())
}
