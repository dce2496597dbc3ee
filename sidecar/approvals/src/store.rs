//! The files under the folder: one YAML file a request, one lock for all.
//!
//! A change is: take the lock, read, check, write a temporary file, fsync it, rename it over the
//! old one, fsync the folder, let the lock go. So a reader needs no lock and never sees half a
//! file, and no two processes lose each other's change. All calls block.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use chaperone_crds::ApprovalRequest;

use crate::error::ApprovalError;
use crate::name::{is_name, random_name};
use crate::resource::{self, Sealing, Stored};

/// The lock file; a dot keeps it out of the listing.
const LOCK_FILE: &str = ".lock";
/// Longest wait for the lock. What holds it does a few milliseconds of file work.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest file read: 32 KiB of command, escaped (at most tenfold), and the rest.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// One file as it was parsed, with what tells whether it changed since.
#[derive(Debug)]
struct Cached {
    stamp: (u64, u64, i64, i64, i64, i64),
    parsed: Result<Arc<Stored>, String>,
}

/// The files of one folder.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    /// Threads of this process queue here before they compete for the file lock.
    queue: Mutex<()>,
    cache: Mutex<HashMap<String, Cached>>,
}

/// Holds the folder's lock. The file lock goes with the file.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    _file: File,
    _queue: MutexGuard<'a, ()>,
}

impl Store {
    /// The store on `dir`, made with mode 0700 if `create` and missing; narrowed to 0700 if
    /// others could read it.
    pub(crate) fn open(dir: &Path, create: bool) -> Result<Store, ApprovalError> {
        if create {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(|e| ApprovalError::io("make", dir, e))?;
        }
        let metadata = fs::metadata(dir).map_err(|e| ApprovalError::io("open", dir, e))?;
        if !metadata.is_dir() {
            return Err(ApprovalError::io(
                "open",
                dir,
                ErrorKind::NotADirectory.into(),
            ));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
                .map_err(|e| ApprovalError::io("narrow the mode of", dir, e))?;
        }
        Ok(Store {
            dir: dir.to_owned(),
            queue: Mutex::new(()),
            cache: Mutex::new(HashMap::new()),
        })
    }

    /// Where the files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of `name`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.yaml"))
    }

    /// Takes the lock, waiting at most [`LOCK_TIMEOUT`] for other processes.
    pub(crate) fn lock(&self) -> Result<Locked<'_>, ApprovalError> {
        let path = self.dir.join(LOCK_FILE);
        // Poisoned only means that another thread died; its file change is whole or absent.
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| ApprovalError::io("open", &path, e))?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        let mut pause = Duration::from_micros(200);
        loop {
            match file.try_lock() {
                Ok(()) => {
                    return Ok(Locked {
                        _file: file,
                        _queue: queue,
                    });
                }
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(ApprovalError::Locked {
                        path,
                        seconds: LOCK_TIMEOUT.as_secs(),
                    });
                }
                Err(TryLockError::Error(e)) => return Err(ApprovalError::io("lock", &path, e)),
            }
        }
    }

    /// Reads one request afresh.
    pub(crate) fn read(&self, name: &str) -> Result<Stored, ApprovalError> {
        if !is_name(name) {
            return Err(ApprovalError::NotFound(name.to_owned()));
        }
        let path = self.path(name);
        let text = self.read_text(name)?;
        parse(name, &text).map_err(|why| ApprovalError::Malformed { path, why })
    }

    fn read_text(&self, name: &str) -> Result<String, ApprovalError> {
        let path = self.path(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(ApprovalError::NotFound(name.to_owned()));
            }
            Err(e) => return Err(ApprovalError::io("read", &path, e)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| ApprovalError::io("read", &path, e))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            let why = format!("it is larger than {MAX_FILE_BYTES} bytes");
            return Err(ApprovalError::Malformed { path, why });
        }
        String::from_utf8(bytes).map_err(|e| ApprovalError::Malformed {
            path,
            why: e.to_string(),
        })
    }

    /// Every request by name, parsed anew only where its file changed.
    pub(crate) fn scan(
        &self,
    ) -> Result<BTreeMap<String, Result<Arc<Stored>, ApprovalError>>, ApprovalError> {
        let mut found = BTreeMap::new();
        let entries =
            fs::read_dir(&self.dir).map_err(|e| ApprovalError::io("read", &self.dir, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| ApprovalError::io("read", &self.dir, e))?;
            let file_name = entry.file_name();
            let Some(name) = file_name
                .to_str()
                .and_then(|file| file.strip_suffix(".yaml"))
                .filter(|name| is_name(name))
            else {
                continue;
            };
            match self.read_cached(name) {
                // Deleted since the folder was listed.
                Err(ApprovalError::NotFound(_)) => {}
                read => {
                    found.insert(name.to_owned(), read);
                }
            }
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.retain(|name, _| found.contains_key(name));
        Ok(found)
    }

    fn read_cached(&self, name: &str) -> Result<Arc<Stored>, ApprovalError> {
        let path = self.path(name);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(ApprovalError::NotFound(name.to_owned()));
            }
            Err(e) => return Err(ApprovalError::io("read", &path, e)),
        };
        let stamp = (
            metadata.ino(),
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        );
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let parsed = match cache.get(name).filter(|cached| cached.stamp == stamp) {
            Some(cached) => cached.parsed.clone(),
            None => {
                let parsed = match self.read_text(name) {
                    Ok(text) => parse(name, &text).map(Arc::new),
                    Err(ApprovalError::Malformed { why, .. }) => Err(why),
                    Err(other) => return Err(other),
                };
                if let Err(why) = &parsed {
                    tracing::warn!(request = name, why, "approval request file is ignored");
                }
                cache.insert(
                    name.to_owned(),
                    Cached {
                        stamp,
                        parsed: parsed.clone(),
                    },
                );
                parsed
            }
        };
        parsed.map_err(|why| ApprovalError::Malformed { path, why })
    }

    /// A name that no file has. The lock must be held.
    pub(crate) fn new_name(&self) -> Result<String, ApprovalError> {
        for _ in 0..64 {
            let name = random_name()?;
            if !self.path(&name).exists() {
                return Ok(name);
            }
        }
        Err(ApprovalError::Worker("no free name was found".to_owned()))
    }

    /// Writes a request atomically and durably. The lock must be held.
    pub(crate) fn write(
        &self,
        _lock: &Locked<'_>,
        name: &str,
        request: &ApprovalRequest,
    ) -> Result<(), ApprovalError> {
        let path = self.path(name);
        let text = serde_saphyr::to_string(request)
            .map_err(|e| ApprovalError::Invalid(format!("it cannot be written as YAML: {e}")))?;
        // Belt and braces for a file that a grant hangs on: what is read back must be equal.
        parse(name, &text).map_err(|why| ApprovalError::Malformed {
            path: path.clone(),
            why,
        })?;
        let temporary = self.dir.join(format!(".{name}.tmp"));
        let written = write_durably(&temporary, text.as_bytes())
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| File::open(&self.dir)?.sync_all());
        written.map_err(|e| {
            // Best effort: the error that matters is the one reported.
            let _ = fs::remove_file(&temporary);
            ApprovalError::io("write", &path, e)
        })
    }

    /// Deletes a request's file. The lock must be held.
    pub(crate) fn remove(&self, _lock: &Locked<'_>, name: &str) -> Result<(), ApprovalError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(ApprovalError::io("delete", &path, e)),
            _ => Ok(()),
        }
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn parse(name: &str, text: &str) -> Result<Stored, String> {
    let request: ApprovalRequest =
        serde_saphyr::from_str(text).map_err(|e| e.without_snippet().to_string())?;
    resource::read(name, request, Sealing::Folder)
}
