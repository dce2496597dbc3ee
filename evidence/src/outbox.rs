//! A store's segments on their way to whoever keeps them elsewhere.
//!
//! ```text
//! segments/<n>.seg ─unsent─► sent ─acknowledge─► `sent` (how far), and what is no longer needed here goes
//! ```
//! What is sent is sent again until it is acknowledged. A segment stays as long as the next attach
//! reads it: from the newest head on.

use std::path::{Path, PathBuf};

use crate::codec::{Malformed, Put, Reader};
use crate::disk::{Disk, RealDisk};
use crate::entry::{Attach, Head};
use crate::error::StoreError;
use crate::segment::{self, LATEST, relative_path};
use crate::shipper::publish;
use crate::store::corrupt;

/// How far the segments were acknowledged, and the attach that signs the next.
const SENT: &str = "sent";

/// A store's outbox. The recorder may be at work on the same folder.
#[derive(Debug)]
pub struct Outbox {
    dir: PathBuf,
    acknowledged: u64,
    attach: Vec<u8>,
}

/// A segment to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its number.
    pub number: u64,
    /// Body of the attach that signs what is in it.
    pub attach: Vec<u8>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Outbox {
    /// The outbox of the store in `dir`.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn open(dir: &Path) -> Result<Outbox, StoreError> {
        let path = dir.join(SENT);
        let (acknowledged, attach) = match std::fs::read(&path) {
            Ok(bytes) => parse(&bytes).unwrap_or_else(|_| {
                // Sending again does no harm.
                tracing::warn!(path = %path.display(), "it is damaged; every segment is sent again");
                Default::default()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Default::default(),
            Err(error) => return Err(StoreError::io("read", &path, error)),
        };
        Ok(Outbox {
            dir: dir.to_path_buf(),
            acknowledged,
            attach,
        })
    }

    /// The next segment to send; none if all were acknowledged.
    ///
    /// # Errors
    /// Where it cannot be read, or is not sound.
    pub fn unsent(&mut self) -> Result<Option<Outgoing>, StoreError> {
        let next = segment::list(&self.dir)?
            .into_iter()
            .find(|number| *number > self.acknowledged);
        let Some(number) = next else {
            return Ok(None);
        };
        let bytes = segment::load(&self.dir, number)?;
        let parsed = segment::parse(&bytes)
            .map_err(|error| corrupt(&self.dir, relative_path(number), error.0))?;
        if let Some(first) = parsed.entries.first()
            && first.kind == segment::ATTACH
        {
            self.attach = first.body.to_vec();
        }
        if self.attach.is_empty() {
            self.attach = self.latest()?.1;
        }
        Ok(Some(Outgoing {
            number,
            attach: self.attach.clone(),
            bytes,
        }))
    }

    /// Segment `number`, which [`Outbox::unsent`] gave, is kept elsewhere.
    ///
    /// # Errors
    /// Where that cannot be written down.
    pub fn acknowledge(&mut self, number: u64) -> Result<(), StoreError> {
        self.acknowledged = self.acknowledged.max(number);
        let mut bytes = Vec::with_capacity(self.attach.len() + 16);
        bytes.put_u64(self.acknowledged);
        bytes.put_len(self.attach.len());
        bytes.put(&self.attach);
        let path = self.dir.join(SENT);
        let disk: &dyn Disk = &RealDisk;
        publish(disk, &path, &bytes).map_err(|error| StoreError::io("write", &path, error))?;
        self.trim()
    }

    /// Removes what was acknowledged and no attach needs any more.
    fn trim(&self) -> Result<(), StoreError> {
        let (needed, _) = self.latest()?;
        for number in segment::list(&self.dir)? {
            if number > self.acknowledged || number >= needed {
                break;
            }
            let path = self.dir.join(relative_path(number));
            std::fs::remove_file(&path).map_err(|error| StoreError::io("remove", &path, error))?;
        }
        Ok(())
    }

    /// The first segment that the next attach reads, and the body of the newest attach. Nothing is
    /// removed where `latest` does not say: 0.
    fn latest(&self) -> Result<(u64, Vec<u8>), StoreError> {
        let path = self.dir.join(LATEST);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((0, vec![])),
            Err(error) => return Err(StoreError::io("read", &path, error)),
        };
        let bad = |error: Malformed| corrupt(&self.dir, LATEST, error.0);
        let (attach, head) = segment::parse_latest(&bytes).map_err(bad)?;
        let from = match head {
            Some(head) => Head::decode(head.body).map_err(bad)?.segment,
            None => Attach::decode(attach.body).map_err(bad)?.segment,
        };
        Ok((from, attach.body.to_vec()))
    }
}

fn parse(bytes: &[u8]) -> Result<(u64, Vec<u8>), Malformed> {
    let r = &mut Reader::new(bytes);
    let acknowledged = r.u64()?;
    let attach = r.bytes()?.to_vec();
    r.end()?;
    Ok((acknowledged, attach))
}
