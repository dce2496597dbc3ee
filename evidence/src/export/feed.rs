//! One sink's way through the copies.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::copy::{self, Exports, HEADER, MOST_BLOCK};
use super::cursor::{Cursor, Following};
use crate::codec::{self, Malformed, Reader};
use crate::disk::{Disk, RealDisk};
use crate::error::StoreError;
use crate::frame::{self, Frame};
use crate::ocsf::Event;
use crate::read::{Key, Shown};
use crate::record::AttachId;
use crate::shipper::publish;

/// Bytes of records that are made events of together, and one record more.
const MOST_BYTES: usize = 512 * 1024;

/// What a sink is told, from where it was told last.
pub struct Feed {
    exports: Arc<Exports>,
    sink: String,
    published: watch::Receiver<u64>,
    at: Cursor,
    /// The file that is kept on the disk.
    kept: (u64, u64),
    open: Option<Open>,
    missing: u64,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed")
            .field("sink", &self.sink)
            .field("file", &self.at.file)
            .finish_non_exhaustive()
    }
}

/// A file that is being read.
struct Open {
    attach: AttachId,
    bytes: Vec<u8>,
    at: usize,
    runs: VecDeque<Run>,
}

/// A run of it.
struct Run {
    key: Key,
    first: u64,
    next: u64,
    frames: Vec<u8>,
    at: usize,
    /// Records before this one were told already; `None` until it was looked at.
    told: Option<u64>,
}

impl Feed {
    /// The feed of a sink that [`Exports::configure`] knows.
    pub fn open(exports: &Arc<Exports>, sink: &str) -> Feed {
        let path = exports.cursor(sink);
        let at = Cursor::read(&path).unwrap_or_else(|| {
            tracing::warn!(path = %path.display(), "it is damaged; the sink is told what begins from now on");
            Cursor::begin(exports.newest() + 1)
        });
        Feed {
            published: exports.published(),
            exports: Arc::clone(exports),
            sink: sink.to_owned(),
            kept: (at.file, at.steps),
            at,
            open: None,
            missing: 0,
        }
    }

    /// The next events, about as many as `most`; none where there are none yet. The same ones come
    /// again after a restart, unless they are [`Feed::done`].
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn next(&mut self, most: usize) -> Result<Vec<Event>, StoreError> {
        let mut events = Vec::new();
        let mut bytes = 0;
        while events.len() < most && bytes < MOST_BYTES {
            match self.step(&mut events)? {
                Some(len) => bytes += len,
                None => break,
            }
        }
        // Of what makes no events nobody else would say that it is done.
        if events.is_empty() && self.kept.0 != self.at.file {
            self.done()?;
        }
        Ok(events)
    }

    /// What [`Feed::next`] gave has arrived.
    ///
    /// # Errors
    /// Where that cannot be written down.
    pub fn done(&mut self) -> Result<(), StoreError> {
        let path = self.exports.cursor(&self.sink);
        let disk: &dyn Disk = &RealDisk;
        publish(disk, &path, &self.at.to_bytes())
            .map_err(|error| StoreError::io("write", &path, error))?;
        self.kept = (self.at.file, self.at.steps);
        self.exports.reached(&self.sink, self.at.file);
        Ok(())
    }

    /// Returns when there may be more. Cancel-safe.
    pub async fn more(&mut self) {
        let next = self.at.file;
        // The sender lives as long as the exports do.
        let _ = self.published.wait_for(|newest| *newest >= next).await;
    }

    /// Copies that were not there so far.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Goes one step on, and says how many bytes that was.
    fn step(&mut self, events: &mut Vec<Event>) -> Result<Option<usize>, StoreError> {
        if self.open.is_none() && !self.open_next(events)? {
            return Ok(None);
        }
        let Some(open) = &mut self.open else {
            return Ok(Some(0));
        };
        match open.step(&mut self.at, events) {
            Ok(Some(len)) => {
                self.at.steps += 1;
                Ok(Some(len))
            }
            Ok(None) => {
                let attach = open.attach;
                self.pass(Some(attach), events);
                Ok(Some(0))
            }
            Err(error) => {
                self.damaged(&error, events);
                Ok(Some(0))
            }
        }
    }

    /// Opens the file that is next, at the place that was kept. False where there is none yet.
    fn open_next(&mut self, events: &mut Vec<Event>) -> Result<bool, StoreError> {
        if self.at.file > self.exports.newest() {
            return Ok(false);
        }
        let path = self.exports.path(self.at.file);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.missing += 1;
                self.pass(None, events);
                return Ok(true);
            }
            Err(error) => return Err(StoreError::io("read", &path, error)),
        };
        let opened = copy::header(&bytes).and_then(|(attach, _)| {
            let mut open = Open {
                attach,
                bytes,
                at: HEADER,
                runs: VecDeque::new(),
            };
            for _ in 0..self.at.steps {
                open.skip()?;
            }
            Ok(open)
        });
        match opened {
            Ok(open) => self.open = Some(open),
            Err(error) => self.damaged(&error, events),
        }
        Ok(true)
    }

    /// On to the next file. Sessions of an earlier attach are over once all that was recovered of
    /// them has been read: it is in the first file of the next.
    fn pass(&mut self, attach: Option<AttachId>, events: &mut Vec<Event>) {
        if let Some(attach) = attach {
            let sessions = std::mem::take(&mut self.at.sessions);
            for (key, mut following) in sessions {
                if key.0 == attach {
                    self.at.sessions.insert(key, following);
                } else {
                    events.extend(following.events.finish());
                }
            }
        }
        self.open = None;
        self.at.file += 1;
        self.at.steps = 0;
    }

    fn damaged(&mut self, error: &Malformed, events: &mut Vec<Event>) {
        let path = self.exports.path(self.at.file);
        tracing::warn!(path = %path.display(), "what the sink is told is damaged and left out: {}", error.0);
        self.missing += 1;
        self.pass(None, events);
    }
}

impl Open {
    /// Takes the next run or record. `None` at the end.
    fn step(
        &mut self,
        at: &mut Cursor,
        events: &mut Vec<Event>,
    ) -> Result<Option<usize>, Malformed> {
        let Some(run) = self.run()? else {
            return Ok(None);
        };
        let (key, first, next) = (run.key, run.first, run.next);
        let following = at.sessions.get_mut(&key);
        let Some(told) = run.told else {
            run.told = Some(following.as_ref().map_or(0, |following| following.next));
            if let Some(following) = following {
                if following.next < first {
                    events.push(following.events.missing(following.next, first));
                }
                following.next = following.next.max(next);
            }
            return Ok(Some(0));
        };
        let Some(frame) = run.frame()? else {
            self.runs.pop_front();
            return Ok(Some(0));
        };
        let header = frame.header;
        let len = frame.bytes.len();
        if header.sequence < told {
            return Ok(Some(len));
        }
        if header.kind == codec::SESSION_START && following.is_none() {
            let mut begun = Following::begin(key, header.wall_ns, frame.body)?;
            begun.next = next;
            at.sessions.insert(key, begun);
        }
        // One that began before the sink was there is not told of.
        if let Some(following) = at.sessions.get_mut(&key) {
            let record = codec::decode(header.kind, frame.body)?;
            events.extend(following.events.take(&Shown {
                sequence: header.sequence,
                wall_ns: header.wall_ns,
                offset: Duration::from_nanos(header.offset_ns),
                record,
            }));
        }
        if header.kind == codec::SESSION_END {
            at.sessions.remove(&key);
        }
        Ok(Some(len))
    }

    /// Passes over what a step would take.
    fn skip(&mut self) -> Result<(), Malformed> {
        let Some(run) = self.run()? else {
            return Err(Malformed("it is shorter than it was"));
        };
        if run.told.is_none() {
            // What is told of it was looked at when it was begun: nothing before is left in it.
            run.told = Some(0);
        } else if run.frame()?.is_none() {
            self.runs.pop_front();
        }
        Ok(())
    }

    fn run(&mut self) -> Result<Option<&mut Run>, Malformed> {
        if self.runs.is_empty() && self.at < self.bytes.len() {
            let r = &mut Reader::new(self.bytes.get(self.at..).unwrap_or_default());
            let before = r.remaining();
            let (packed, raw) = (r.u32()?, r.u32()?);
            let (packed, raw) = (
                usize::try_from(packed).unwrap_or(usize::MAX),
                usize::try_from(raw).unwrap_or(usize::MAX),
            );
            if raw > MOST_BLOCK {
                return Err(Malformed("a block too long"));
            }
            let block = zstd::bulk::decompress(r.take(packed)?, raw)
                .map_err(|_| Malformed("a block that does not unpack"))?;
            self.at += before - r.remaining();
            let r = &mut Reader::new(&block);
            while r.remaining() > 0 {
                self.runs.push_back(Run {
                    key: (AttachId(r.array()?), r.u64()?),
                    first: r.u64()?,
                    next: r.u64()?,
                    frames: r.bytes()?.to_vec(),
                    at: 0,
                    told: None,
                });
            }
        }
        Ok(self.runs.front_mut())
    }
}

impl Run {
    fn frame(&mut self) -> Result<Option<Frame<'_>>, Malformed> {
        let rest = self.frames.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let (frame, _) = frame::read(rest)?;
        self.at += frame.bytes.len();
        Ok(Some(frame))
    }
}
