//! The few file operations a recorder depends on, so that tests can make each of them fail,
//! stall, fill up or forget what was not synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// A spool file: written at offsets, synced, never truncated.
pub trait SpoolFile: Send + Sync {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Fills `out` from `offset`.
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<()>;
    /// fdatasync.
    fn sync_data(&self) -> io::Result<()>;
}

/// A file that appears under its name only when it is whole and synced.
pub trait NewFile: Send {
    /// Appends.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Syncs the file, gives it its name and syncs the folder.
    fn publish(self: Box<Self>) -> io::Result<()>;
}

/// Where files are.
pub trait Disk: Send + Sync {
    /// Makes a spool file whose `len` bytes are allocated and read as zeros.
    fn create_spool(&self, path: &Path, len: u64) -> io::Result<Arc<dyn SpoolFile>>;
    /// Begins a file that will be named `path`, mode 0600.
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;
}

/// The machine's own file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealDisk;

struct RealSpool(File);

impl SpoolFile for RealSpool {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// What is collected before it is written.
const BUFFER: usize = 64 * 1024;

struct RealNewFile {
    file: BufWriter<File>,
    temporary: std::path::PathBuf,
    path: std::path::PathBuf,
}

impl NewFile for RealNewFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn publish(mut self: Box<Self>) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        sync_parent(&self.path)
    }
}

impl Disk for RealDisk {
    fn create_spool(&self, path: &Path, len: u64) -> io::Result<Arc<dyn SpoolFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        allocate(&file, len)?;
        file.sync_all()?;
        Ok(Arc::new(RealSpool(file)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".tmp");
        let temporary = path.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        Ok(Box::new(RealNewFile {
            // Entries are written in parts of a few bytes.
            file: BufWriter::with_capacity(BUFFER, file),
            temporary,
            path: path.to_path_buf(),
        }))
    }
}

/// Blocks for the whole file now, so that a full disk is met at start and not at an intent.
fn allocate(file: &File, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        // File systems without fallocate (NFS before 4.2, some FUSE) get real zeros.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => write_zeros(file, len),
        Err(errno) => Err(errno.into()),
    }
}

fn write_zeros(file: &File, len: u64) -> io::Result<()> {
    let zeros = vec![0u8; 256 * 1024];
    let mut offset = 0;
    while offset < len {
        let take = usize::try_from(len - offset)
            .unwrap_or(usize::MAX)
            .min(zeros.len());
        file.write_all_at(zeros.get(..take).unwrap_or_default(), offset)?;
        offset += take as u64;
    }
    Ok(())
}

pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
