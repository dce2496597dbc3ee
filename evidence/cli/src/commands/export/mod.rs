//! `export`: evidence as a file that can be handed on.
//!
//! A bundle proves itself; the other forms are for reading, playing and searching, and prove
//! nothing: whoever doubts them asks for the bundle.

mod asciicast;
mod bundle;
mod lines;
mod page;

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::Answer;
use super::select::{Selection, opened};
use crate::cli::{ExportArgs, ExportFormat};
use crate::error::CliError;
use crate::output::{Output, counted, note};
use crate::source::{Evidence, Source};

/// Writes what is asked for, of the sessions that are asked for.
pub(crate) fn run(
    source: &Source,
    args: &ExportArgs,
    namespace: Option<&str>,
    output: &mut Output,
) -> Result<Answer, CliError> {
    if args.format == ExportFormat::Bundle {
        return bundle::run(source, args, namespace, output);
    }
    let evidence = opened(source, &args.sessions, &args.filter, namespace)?;
    let selection = Selection::of(&evidence, &args.sessions, &args.filter, namespace)?;
    if selection.len() == 0 {
        note("no session matches");
        return Ok(Answer::No);
    }
    match &args.to {
        None => write(args.format, &evidence, &selection, output.writer())?,
        Some(path) => {
            save(path, |to| write(args.format, &evidence, &selection, to))?;
            let count = counted(selection.len() as u64, "session", "sessions");
            output.line(&format!("{} holds {count}", path.display()))?;
        }
    }
    Ok(Answer::Yes)
}

fn write(
    format: ExportFormat,
    evidence: &Evidence,
    selection: &Selection,
    to: &mut dyn Write,
) -> Result<(), CliError> {
    match format {
        ExportFormat::Ndjson => lines::ndjson(evidence, selection, to),
        ExportFormat::Ocsf => lines::ocsf(evidence, selection, to),
        ExportFormat::Asciicast => asciicast::write(evidence, selection, to),
        ExportFormat::Html => page::write(evidence, selection, to),
        // Written elsewhere: it is made whole before a byte of it is.
        ExportFormat::Bundle => Ok(()),
    }
}

/// Writes the file whole or not at all, for nobody else to read; never over another.
fn save(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let failed = |error: std::io::Error| {
        CliError::Usage(format!("cannot write {}: {error}", path.display()))
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(failed)?;
    let mut buffered = BufWriter::new(file);
    let written = content(&mut buffered).and_then(|()| buffered.flush().map_err(failed));
    written.map_err(|error| {
        let _ = std::fs::remove_file(path);
        match error {
            CliError::Output(error) => failed(error),
            other => other,
        }
    })
}
