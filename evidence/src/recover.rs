//! What an earlier attach left: where the log stands, and the frames in its spool that no
//! segment has. They are checked here and shipped under the next attach's key.
//!
//! Only the log from the last head on is read: a head says where every open session stood, so a
//! start does not take longer the longer a sidecar has lived.

use std::collections::BTreeMap;
use std::path::Path;

use crate::codec::{self, Malformed};
use crate::entry::{Attach, Head, MAX_RUN, Run, Tail};
use crate::error::StoreError;
use crate::frame::{Hash, NO_HASH};
use crate::record::AttachId;
use crate::segment::{self, LATEST, RawEntry, relative_path};
use crate::shipper::OpenRun;
use crate::spool::{self, Found};
use crate::store::corrupt;

/// Where the log ends and what the spool still holds.
pub(crate) struct Left {
    /// Last segment's number and digest; 0 and zeros where there is none.
    pub(crate) segment: u64,
    pub(crate) digest: Hash,
    /// How many attaches there were, and the last one's id and last head.
    pub(crate) attaches: u64,
    pub(crate) attach: AttachId,
    pub(crate) head: Hash,
    /// What the spool has and the log has not, in order.
    pub(crate) runs: Vec<OpenRun>,
    /// Where the spool could not be read any further, in words: the next attach signs it.
    pub(crate) lost: String,
}

/// Reads the end of the log and the spool.
pub(crate) fn left(dir: &Path) -> Result<Left, StoreError> {
    let numbers = segment::list(dir)?;
    let latest = read_latest(dir, !numbers.is_empty())?;
    let mut scan = Scan::default();
    let from = match &latest {
        Some((attach, head)) => {
            scan.spooled = attach.id;
            scan.begin(attach);
            head.as_ref()
                .map_or(attach.segment, |(head, hash)| scan.resume(head, *hash))
        }
        None => 1,
    };
    let last = numbers.last().copied().unwrap_or(0);
    if latest.is_some() && last < from {
        return Err(corrupt(dir, LATEST, "it names a segment that is not there"));
    }
    let mut digest = NO_HASH;
    for number in from.max(1)..=last {
        let bytes = segment::load(dir, number)?;
        let bad = |e: Malformed| corrupt(dir, relative_path(number), e.0);
        let segment = segment::parse(&bytes).map_err(bad)?;
        if segment.number != number || (number > from && segment.previous != digest) {
            return Err(corrupt(
                dir,
                relative_path(number),
                "it does not follow the segment before it",
            ));
        }
        for entry in &segment.entries {
            scan.entry(entry).map_err(bad)?;
        }
        digest = segment.digest;
    }
    let runs = scan.spooled_runs(dir)?;
    Ok(Left {
        segment: last,
        digest,
        attaches: scan.attaches,
        attach: scan.attach,
        head: scan.head,
        runs,
        lost: scan.lost.join("; "),
    })
}

type Latest = (Attach, Option<(Head, Hash)>);

fn read_latest(dir: &Path, expected: bool) -> Result<Option<Latest>, StoreError> {
    let path = dir.join(LATEST);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        // The very first attach may have died between its segment and this file.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            if expected {
                tracing::warn!(path = %path.display(), "the copy of the newest head is missing; reading the whole log");
            }
            return Ok(None);
        }
        Err(e) => return Err(StoreError::io("read", &path, e)),
    };
    let bad = |e: Malformed| corrupt(dir, LATEST, e.0);
    let (attach, head) = segment::parse_latest(&bytes).map_err(bad)?;
    let attach = Attach::decode(attach.body).map_err(bad)?;
    let head = match head {
        Some(raw) => Some((Head::decode(raw.body).map_err(bad)?, Head::hash(raw.body))),
        None => None,
    };
    Ok(Some((attach, head)))
}

#[derive(Default)]
struct Scan {
    attaches: u64,
    attach: AttachId,
    head: Hash,
    /// The attach whose spool this is: `latest` is written after its predecessor's spool was
    /// shipped whole, and before its own exists.
    spooled: AttachId,
    tails: BTreeMap<u64, Tail>,
    highest: u64,
    lost: Vec<String>,
}

impl Scan {
    fn begin(&mut self, attach: &Attach) {
        self.attaches = attach.ordinal;
        self.attach = attach.id;
        self.head = NO_HASH;
    }

    /// Starts from a head; the segment it is in, which the scan begins with.
    fn resume(&mut self, head: &Head, hash: Hash) -> u64 {
        self.head = hash;
        self.highest = head.highest;
        self.tails = head.open.iter().map(|tail| (tail.ordinal, *tail)).collect();
        head.segment
    }

    fn entry(&mut self, entry: &RawEntry<'_>) -> Result<(), Malformed> {
        match entry.kind {
            segment::ATTACH => {
                let attach = Attach::decode(entry.body)?;
                if attach.id != self.attach {
                    self.begin(&attach);
                }
            }
            segment::RUN => self.run(&Run::decode(entry.body)?.run),
            segment::HEAD => self.head = Head::hash(entry.body),
            // What the attach before sealed with is not known any more.
            segment::SEAL => {}
            _ => return Err(Malformed("an unknown kind of entry")),
        }
        Ok(())
    }

    fn run(&mut self, run: &Run) {
        // Without `latest` there was one attach only, and its spool is the one that is left.
        if self.spooled == AttachId::default() {
            self.spooled = run.attach;
        }
        if run.attach != self.spooled {
            return;
        }
        self.highest = self.highest.max(run.ordinal);
        let newer = self
            .tails
            .get(&run.ordinal)
            .is_none_or(|tail| tail.sequence < run.last());
        if newer {
            let (sequence, hash) = (run.last(), run.last_hash);
            self.tails.insert(
                run.ordinal,
                Tail {
                    ordinal: run.ordinal,
                    session: run.session,
                    sequence,
                    hash,
                },
            );
        }
    }

    /// The spool's batches that follow the log, one run a session and MiB.
    fn spooled_runs(&mut self, dir: &Path) -> Result<Vec<OpenRun>, StoreError> {
        let mut runs: Vec<OpenRun> = Vec::new();
        let mut current: BTreeMap<u64, usize> = BTreeMap::new();
        for file in spool::snapshot(dir)? {
            if file.attach != self.spooled && self.spooled != AttachId::default() {
                continue;
            }
            let (batches, torn) = file.batches();
            if let Some((at, why)) = torn {
                let name = file.path.file_name().unwrap_or_default().to_string_lossy();
                let lost = format!("spool/{name} from byte {at} on: {why}");
                tracing::warn!(%lost, "the spool ends in a write that was cut short or changed");
                self.lost.push(lost);
            }
            for batch in batches {
                let Some(tail) = self.follow(&batch) else {
                    continue;
                };
                self.tails.insert(batch.ordinal, tail);
                let growing = current
                    .get(&batch.ordinal)
                    .and_then(|&index| runs.get_mut(index))
                    .filter(|run| run.frames.len() + batch.frames.len() <= MAX_RUN / 8);
                if let Some(run) = growing {
                    run.extend(&batch);
                } else {
                    current.insert(batch.ordinal, runs.len());
                    runs.push(OpenRun::new(tail.session, file.attach, &batch, None));
                }
            }
        }
        Ok(runs)
    }

    /// The session's tail after `batch`; none where the log has it already or it follows nothing.
    fn follow(&mut self, batch: &Found<'_>) -> Option<Tail> {
        let session = match self.tails.get(&batch.ordinal) {
            None if batch.first == 0 && batch.ordinal == self.highest + 1 => {
                self.highest = batch.ordinal;
                spool::session_id(batch)?
            }
            Some(tail) if batch.first == tail.sequence + 1 && batch.previous == tail.hash => {
                tail.session
            }
            _ => return None,
        };
        let last = spool::last_frame(batch)?;
        debug_assert!((codec::SESSION_START..=codec::SESSION_END).contains(&last.header.kind));
        Some(Tail {
            ordinal: batch.ordinal,
            session,
            sequence: last.header.sequence,
            hash: batch.last_hash,
        })
    }
}
