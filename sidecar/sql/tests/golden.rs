//! The golden corpus: statements with every effect on every object that they must be found to
//! have. `CHAPERONE_REGENERATE=1` writes what the classifier says now, to be read as a diff.
//!
//! Entries of `tests/golden/*.txt` are set apart by empty lines. `--` begins a comment, `@path`
//! gives another search path, `@dirty` none; the text ends at `=>`, the accesses follow, with `*`
//! for the client baseline and `;` between the statements of a script.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::path::{Path, PathBuf};

use chaperone_sql::SearchPath;

struct Entry {
    comments: String,
    path: Option<SearchPath>,
    text: String,
    expected: Vec<String>,
}

fn entries(content: &str) -> Vec<Entry> {
    content
        .split("\n\n")
        .filter(|block| !block.trim().is_empty())
        .map(|block| {
            let mut entry = Entry {
                comments: String::new(),
                path: None,
                text: String::new(),
                expected: Vec::new(),
            };
            let mut after = false;
            for line in block.lines().filter(|line| !line.is_empty()) {
                if line == "=>" {
                    after = true;
                } else if after {
                    entry.expected.push(line.to_owned());
                } else if line.starts_with("--") || line.starts_with('@') {
                    entry.comments.push_str(line);
                    entry.comments.push('\n');
                    if line == "@dirty" {
                        entry.path = Some(SearchPath::Dirty);
                    } else if let Some(schemas) = line.strip_prefix("@path ") {
                        let schemas: Vec<&str> = schemas.split_whitespace().collect();
                        entry.path = Some(support::path(&schemas));
                    }
                } else {
                    entry.text.push_str(line);
                    entry.text.push('\n');
                }
            }
            entry
        })
        .collect()
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_effect_on_every_object_is_found() {
    let catalog = support::catalog();
    let default_path = support::path(support::PATH);
    let regenerate = std::env::var_os("CHAPERONE_REGENERATE").is_some();
    let mut count = 0;
    let mut wrong = Vec::new();
    for file in files() {
        let mut rewritten = String::new();
        for entry in entries(&std::fs::read_to_string(&file).unwrap()) {
            count += 1;
            let path = entry.path.as_ref().unwrap_or(&default_path);
            let found = support::accesses(&catalog, path, &entry.text);
            if found != entry.expected {
                wrong.push(format!(
                    "{}\n  expected {:?}\n  found    {:?}",
                    entry.text.trim(),
                    entry.expected,
                    found
                ));
            }
            rewritten.push_str(&entry.comments);
            rewritten.push_str(&entry.text);
            rewritten.push_str("=>\n");
            for line in found {
                rewritten.push_str(&line);
                rewritten.push('\n');
            }
            rewritten.push('\n');
        }
        if regenerate {
            std::fs::write(&file, rewritten).unwrap();
        }
    }
    assert!(count >= 250, "the corpus has shrunk to {count} statements");
    assert!(regenerate || wrong.is_empty(), "{}", wrong.join("\n\n"));
}
