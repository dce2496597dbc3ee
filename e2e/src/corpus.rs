//! Statements kept as data: `corpus/`, one attempt or ordinary statement a line.
//!
//! ` ;; ` sets the messages of one session apart; `#` begins a comment line. Words before the
//! first colon say how the line is meant, and each test says which it knows.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// One line of a corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `flows.sql:12`.
    pub place: String,
    /// The words before the statement.
    pub marks: Vec<String>,
    /// What is sent, message by message.
    pub messages: Vec<String>,
}

impl Entry {
    /// Whether the line carries a word.
    pub fn is(&self, mark: &str) -> bool {
        self.marks.iter().any(|own| own == mark)
    }
}

/// A file or folder of `e2e/corpus`.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name)
}

/// The text of a file of `e2e/corpus`.
pub fn text(name: &str) -> Result<String> {
    let path = path(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Every entry of a folder, whose lines may be marked with the words of `marks`.
pub fn entries(folder: &str, marks: &[&str]) -> Result<Vec<Entry>> {
    let mut files: Vec<PathBuf> = fs::read_dir(path(folder))?
        .map(|file| Ok(file?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let mut entries = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        for (number, line) in fs::read_to_string(&file)?.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                entries.push(entry(&format!("{name}:{}", number + 1), line, marks));
            }
        }
    }
    ensure!(!entries.is_empty(), "nothing in {folder}");
    Ok(entries)
}

fn entry(place: &str, line: &str, known: &[&str]) -> Entry {
    let mut rest = line;
    let mut marks = Vec::new();
    while let Some((word, after)) = rest.split_once(": ")
        && known.contains(&word)
    {
        marks.push(word.to_owned());
        rest = after.trim_start();
    }
    Entry {
        place: place.to_owned(),
        marks,
        messages: rest.split(" ;; ").map(str::to_owned).collect(),
    }
}
