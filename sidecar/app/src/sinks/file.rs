//! Lines of JSON in a file that is turned over, or on standard output.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file of lines.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    max_bytes: u64,
    keep: u8,
    open: Option<File>,
}

impl Lines {
    pub(super) fn new(path: &Path, max_bytes: u64, keep: u8) -> Lines {
        Lines {
            path: path.to_path_buf(),
            max_bytes,
            keep,
            open: None,
        }
    }

    /// Appends whole lines; they are on the disk when it returns.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let appended = self.try_append(lines);
        if appended.is_err() {
            // What was written of them is cut off when it is opened again.
            self.open = None;
        }
        appended
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        let size = self.file()?.metadata()?.len();
        if size > 0 && size.saturating_add(lines.len() as u64) > self.max_bytes {
            self.open = None;
            self.turn_over()?;
        }
        let file = self.file()?;
        file.write_all(lines)?;
        file.sync_data()
    }

    fn file(&mut self) -> io::Result<&mut File> {
        if self.open.is_none() {
            let file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&self.path)?;
            cut_torn(&file)?;
            return Ok(self.open.insert(file));
        }
        self.open.as_mut().ok_or_else(|| io::Error::other("closed"))
    }

    /// `path` becomes `path.1`, that one `path.2` and so on; the last is removed.
    fn turn_over(&self) -> io::Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        for number in (1..self.keep).rev() {
            gone(std::fs::rename(
                self.numbered(number),
                self.numbered(number + 1),
            ))?;
        }
        match self.keep {
            0 => gone(std::fs::remove_file(&self.path)),
            _ => gone(std::fs::rename(&self.path, self.numbered(1))),
        }
    }

    fn numbered(&self, number: u8) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}

/// Cuts a line off that a crash left unfinished: it is written again.
fn cut_torn(mut file: &File) -> io::Result<()> {
    const STEP: u64 = 64 * 1024;
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(STEP);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        file.take(end - start).read_to_end(&mut bytes)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            end = start.saturating_add(at as u64).saturating_add(1);
            break;
        }
        end = start;
    }
    if end < file.metadata()?.len() {
        file.set_len(end)?;
    }
    Ok(())
}

/// Writes whole lines to standard output.
pub(super) fn print(lines: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(lines)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_bounded_and_begins_with_a_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        fs::write(&path, "{\"whole\":1}\n{\"to").unwrap();
        let mut lines = Lines::new(&path, 40, 2);
        for n in 0..20 {
            lines.append(format!("{{\"n\":{n}}}\n").as_bytes()).unwrap();
            if n == 2 {
                // Another life.
                lines = Lines::new(&path, 40, 2);
            }
        }
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["events", "events.1", "events.2"]);
        let mut all = String::new();
        for name in ["events.2", "events.1", "events"] {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(text.len() <= 40, "{text}");
            all.push_str(&text);
        }
        let numbers: Vec<u64> = all
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["n"]
                    .as_u64()
                    .unwrap()
            })
            .collect();
        assert!(numbers.len() >= 8);
        assert!(
            numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "{numbers:?}"
        );
        assert_eq!(numbers.last(), Some(&19));
    }
}
