//! How full the spool volume is. Kubernetes evicts a pod whose emptyDir outgrows its limit, and
//! with it the evidence: before that happens everything is denied.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Of the 96 MiB that the volume may hold (`SPOOL_LIMIT`): what is left is for closing sessions,
/// and for what is recorded until the next look.
pub(crate) const MOST_BYTES: u64 = 80 * 1024 * 1024;
/// Folders below the volume that are looked into.
const DEPTH: usize = 4;

/// Bytes on disk of everything below `folder`. What cannot be read counts nothing.
pub(crate) fn used(folder: &Path) -> u64 {
    below(folder, DEPTH)
}

fn below(folder: &Path, depth: usize) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() && depth > 0 => {
                below(&entry.path(), depth.saturating_sub(1))
            }
            // st_blocks counts units of 512 bytes (stat(2)).
            Ok(metadata) => metadata.blocks().saturating_mul(512),
            Err(_) => 0,
        })
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn everything_below_the_volume_counts() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("evidence/segments");
        fs::create_dir_all(&inner).unwrap();
        let before = used(folder.path());
        fs::write(inner.join("1.seg"), vec![1_u8; 1024 * 1024]).unwrap();
        assert!(used(folder.path()) >= before + 1024 * 1024);
        assert_eq!(used(Path::new("/nowhere/at/all")), 0);
    }
}
