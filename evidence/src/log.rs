//! Reading a store that may be in use: what is read in which order, so that nothing falls
//! between spool and segments while a sidecar ships.
//!
//! The copy of the newest head is read first, then the spool, then the list of segments. What is
//! shipped in between is then seen twice, never not at all.

use std::path::{Path, PathBuf};

use crate::error::StoreError;
use crate::segment::{self, LATEST};
use crate::spool::{self, Snapshot};
use crate::store::in_use;

/// In a store that was written out from a cluster's log: its pod still runs.
pub(crate) const LIVE: &str = "live";

/// A consistent view of a store.
pub(crate) struct Log {
    pub(crate) dir: PathBuf,
    /// Whether a sidecar records here now.
    pub(crate) live: bool,
    /// The bytes of `latest`, where it is.
    pub(crate) latest: Option<Vec<u8>>,
    pub(crate) spool: Vec<Snapshot>,
    /// Spool files that cannot be read as such.
    pub(crate) spool_error: Option<StoreError>,
    /// Numbers of the segments, ascending.
    pub(crate) segments: Vec<u64>,
}

impl Log {
    pub(crate) fn open(dir: &Path) -> Result<Log, StoreError> {
        if !dir.join(segment::FOLDER).is_dir() {
            return Err(StoreError::NotFound(dir.to_path_buf()));
        }
        let live = in_use(dir) || dir.join(LIVE).exists();
        let path = dir.join(LATEST);
        let latest = match std::fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(StoreError::io("read", &path, e)),
        };
        let (spool, spool_error) = match spool::snapshot(dir) {
            Ok(files) => (files, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let segments = segment::list(dir)?;
        Ok(Log {
            dir: dir.to_path_buf(),
            live,
            latest,
            spool,
            spool_error,
            segments,
        })
    }

    /// A path within the store, for messages.
    pub(crate) fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.dir).unwrap_or(path).to_path_buf()
    }
}
