//! Printing: colours only for a terminal, tables, JSON and YAML.
//!
//! Text that an agent chose goes through [`escape_line`] or [`escape_for_display`] before it gets
//! here, or a recorded statement could drive the auditor's terminal.

use std::io::{self, BufWriter, IsTerminal, Write};

use serde::Serialize;

use crate::cli::Format;
use crate::error::CliError;

pub(crate) use chaperone_approvals::escape::{escape_for_display, escape_line};

/// How text stands out on a terminal (ECMA-48 SGR).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it is.
    Plain,
    /// Headings.
    Bold,
    /// What may be skipped.
    Dim,
    /// Allowed, whole.
    Good,
    /// Denied, broken.
    Bad,
    /// Waiting, not proven.
    Warn,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Bold => "1",
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Warn => "33",
        }
    }
}

/// Standard output, and whether it takes colours.
pub(crate) struct Output {
    out: Box<dyn Write>,
    colours: bool,
    terminal: bool,
}

impl Output {
    /// The process's standard output.
    pub(crate) fn stdout() -> Output {
        let terminal = io::stdout().is_terminal();
        Output {
            out: Box::new(BufWriter::new(io::stdout().lock())),
            colours: terminal && colours_wanted(),
            terminal,
        }
    }

    /// Whether somebody is looking.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// `text` in a tone, if colours are on.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        paint(self.colours, tone, text)
    }

    /// One line.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), CliError> {
        writeln!(self.out, "{text}")?;
        Ok(())
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.out.write_all(bytes)?;
        Ok(())
    }

    /// To write to where text is made piece by piece.
    pub(crate) fn writer(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    /// Sends on what is buffered.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        self.out.flush()?;
        Ok(())
    }

    /// One document as JSON or YAML.
    pub(crate) fn document<T: Serialize>(
        &mut self,
        format: Format,
        value: &T,
    ) -> Result<(), CliError> {
        let text = match format {
            Format::Yaml => to_yaml(value)?,
            Format::Ndjson => to_json_line(value)?,
            Format::Json | Format::Table => {
                serde_json::to_string_pretty(value).map_err(|e| CliError::Encode {
                    format: "JSON",
                    why: e.to_string(),
                })?
            }
        };
        self.line(text.trim_end())
    }

    /// One of a stream of documents: a line of JSON, or a YAML document.
    pub(crate) fn event<T: Serialize>(
        &mut self,
        format: Format,
        value: &T,
    ) -> Result<(), CliError> {
        if format == Format::Yaml {
            self.line("---")?;
            self.document(format, value)?;
        } else {
            self.line(&to_json_line(value)?)?;
        }
        self.flush()
    }

    /// A list of documents: one list, or with ndjson a line for each.
    pub(crate) fn documents<T: Serialize>(
        &mut self,
        format: Format,
        values: &[T],
    ) -> Result<(), CliError> {
        if format != Format::Ndjson {
            return self.document(format, &values);
        }
        values
            .iter()
            .try_for_each(|value| self.line(&to_json_line(value)?))
    }

    /// A table with columns as wide as they need to be.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), CliError> {
        let widths = table.widths();
        if table.with_header {
            let header: Vec<Cell> = table.header.iter().map(|name| Cell::new(name)).collect();
            self.row(&header, &widths)?;
        }
        for row in &table.rows {
            self.row(row, &widths)?;
        }
        Ok(())
    }

    fn row(&mut self, row: &[Cell], widths: &[usize]) -> Result<(), CliError> {
        let mut line = String::new();
        for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
            line.push_str(&self.paint(cell.tone, &cell.text));
            if i + 1 < row.len() {
                let pad = width.saturating_sub(cell.text.chars().count()) + 3;
                line.extend(std::iter::repeat_n(' ', pad));
            }
        }
        self.line(line.trim_end())
    }
}

/// One place of a table.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Plain text, made safe to print.
    pub(crate) fn new(text: &str) -> Cell {
        Cell::toned(Tone::Plain, text)
    }

    /// Text in a tone, made safe to print.
    pub(crate) fn toned(tone: Tone, text: &str) -> Cell {
        let text = if text.is_empty() {
            "-".to_owned()
        } else {
            escape_line(text)
        };
        Cell { text, tone }
    }
}

/// Rows under a header.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    header: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
    with_header: bool,
    /// Columns never get narrower than before, so that the lines of a watch stay aligned.
    least: Vec<usize>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(header: &'static [&'static str]) -> Table {
        Table {
            header,
            rows: Vec::new(),
            with_header: true,
            least: vec![0; header.len()],
        }
    }

    /// Adds a row of as many cells as the header has.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// The same table for more rows, without its header and those printed.
    pub(crate) fn go_on(&mut self) {
        self.least = self.widths();
        self.rows.clear();
        self.with_header = false;
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .header
            .iter()
            .zip(&self.least)
            .map(|(name, least)| name.chars().count().max(*least))
            .collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        widths
    }
}

/// A value as YAML.
pub(crate) fn to_yaml<T: Serialize>(value: &T) -> Result<String, CliError> {
    serde_saphyr::to_string(value).map_err(|e| CliError::Encode {
        format: "YAML",
        why: e.to_string(),
    })
}

/// A value as one line of JSON.
pub(crate) fn to_json_line<T: Serialize>(value: &T) -> Result<String, CliError> {
    serde_json::to_string(value).map_err(|e| CliError::Encode {
        format: "JSON",
        why: e.to_string(),
    })
}

/// `text`, each line after `indent` spaces.
pub(crate) fn indented(text: &str, indent: usize) -> String {
    let pad = " ".repeat(indent);
    text.lines()
        .map(|line| format!("{pad}{line}").trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// `1 row`, `2 rows`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// `text` as one word of a POSIX shell (XCU 2.2, Quoting).
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Says on standard error what went wrong.
pub(crate) fn complain(error: &CliError) {
    let mut stderr = io::stderr().lock();
    let colours = stderr.is_terminal() && colours_wanted();
    let label = paint(colours, Tone::Bad, "error");
    let text = escape_for_display(&error.to_string());
    // Nobody is left to tell if even this cannot be written.
    let _ = match error.reason() {
        Some(reason) => writeln!(stderr, "{label} ({reason}): {text}"),
        None => writeln!(stderr, "{label}: {text}"),
    };
}

/// Says something on standard error that is not the result.
pub(crate) fn note(text: &str) {
    // As above.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether the user has not asked for plain text (no-color.org: set and not empty).
fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// `text` in a tone whatever standard output is: for recordings of a terminal.
pub(crate) fn always_painted(tone: Tone, text: &str) -> String {
    paint(true, tone, text)
}

fn paint(colours: bool, tone: Tone, text: &str) -> String {
    if colours && tone != Tone::Plain {
        format!("\u{1b}[{}m{text}\u{1b}[0m", tone.code())
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_may_be_pasted_into_a_shell() {
        assert_eq!(
            shell_word("/var/lib/chaperone-1.0"),
            "/var/lib/chaperone-1.0"
        );
        assert_eq!(shell_word("/tmp/my state"), "'/tmp/my state'");
        assert_eq!(shell_word("it's; rm"), "'it'\\''s; rm'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn colours_are_only_for_those_who_take_them() {
        assert_eq!(paint(false, Tone::Bad, "no"), "no");
        assert_eq!(paint(true, Tone::Bad, "no"), "\u{1b}[31mno\u{1b}[0m");
        assert_eq!(paint(true, Tone::Plain, "no"), "no");
    }
}
