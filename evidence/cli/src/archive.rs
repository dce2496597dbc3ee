//! A bundle's files as one tar file: the same files always make the same bytes.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use chaperone_evidence::audit::bundle::Files;

use crate::error::CliError;

/// Bytes of evidence that are read at most, as from a cluster.
const MOST_BYTES: u64 = 4 << 30;
/// Files of a bundle that are read at most.
const MOST_FILES: usize = 1 << 20;

/// Writes the files in the order of their names, as POSIX ustar with no owners or times: every
/// field as FORMAT.md says.
pub(crate) fn write(files: &Files, to: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(to);
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_size(u64::try_from(bytes.len()).map_err(io::Error::other)?);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        tar.append(&header, bytes.as_slice())?;
    }
    tar.finish()
}

/// Reads a bundle; within, why it is none. It must be what [`write()`] makes of its files, byte for
/// byte: nothing is hidden in what readers pass over.
///
/// # Errors
/// Where the file cannot be read.
pub(crate) fn read(path: &Path) -> Result<Result<Files, String>, CliError> {
    let failed = |error: io::Error| {
        CliError::Usage(format!(
            "cannot read the bundle {}: {error}",
            path.display()
        ))
    };
    let open = || File::open(path).map(BufReader::new);
    let files = match files(open().map_err(failed)?) {
        Ok(files) => files,
        Err(error) => return Ok(Err(format!("it is no bundle: {error}"))),
    };
    let mut same = Same {
        original: open().map_err(failed)?,
    };
    let whole = write(&files, &mut same).and_then(|()| same.end());
    Ok(match whole {
        Ok(()) => Ok(files),
        Err(error) => Err(format!("it is not written as a bundle is: {error}")),
    })
}

fn files(from: impl Read) -> io::Result<Files> {
    let mut files = Files::new();
    let mut left = MOST_BYTES;
    for entry in tar::Archive::new(from.take(MOST_BYTES))
        .entries()?
        .raw(true)
    {
        let mut entry = entry?;
        let name = String::from_utf8(entry.path_bytes().into_owned()).map_err(io::Error::other)?;
        left = left
            .checked_sub(entry.size())
            .filter(|_| files.len() < MOST_FILES)
            .ok_or_else(|| io::Error::other("it is larger than any that is written"))?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        files.insert(name, bytes);
    }
    Ok(files)
}

/// A writer that takes what is in `original` and nothing else.
struct Same<R> {
    original: R,
}

impl<R: Read> Same<R> {
    fn end(mut self) -> io::Result<()> {
        match self.original.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(io::Error::other("bytes after its end")),
        }
    }
}

impl<R: Read> Write for &mut Same<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut theirs = vec![0; bytes.len()];
        self.original.read_exact(&mut theirs)?;
        if theirs == bytes {
            Ok(bytes.len())
        } else {
            Err(io::Error::other("other bytes than those of its files"))
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn a_bundle_is_the_same_bytes_each_time_and_every_changed_one_shows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.tar");
        let files: Files = [
            ("a/b".to_owned(), b"1".to_vec()),
            ("empty".to_owned(), Vec::new()),
            ("z".to_owned(), vec![7; 1500]),
        ]
        .into();
        let mut bytes = Vec::new();
        write(&files, &mut bytes).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), files);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            assert_ne!(read(&path).unwrap(), Ok(files.clone()), "byte {at}");
        }
        bytes.push(0);
        std::fs::write(&path, &bytes).unwrap();
        assert!(read(&path).unwrap().is_err());
    }
}
