//! The `options` startup parameter: a command line for the server, of which only settings are
//! taken (PostgreSQL documentation, section 34.1.2, options; `pg_split_opts` and
//! `process_postgres_switches` of the server).

use super::startup::StartupError;

/// The settings in an `options` string, in order, names in lower case with dashes as underscores:
/// `-c name=value`, `-cname=value` and `--name=value`. White space separates, a backslash makes the
/// next character ordinary.
///
/// # Errors
/// [`StartupError::Option`] for every other switch, [`StartupError::Name`] for an impossible name.
pub fn parse(options: &str) -> Result<Vec<(String, String)>, StartupError> {
    let mut settings = Vec::new();
    let mut words = split(options).into_iter();
    while let Some(word) = words.next() {
        let refused = |option: &str| StartupError::Option {
            option: option.to_owned(),
        };
        let assignment = if let Some(long) = word.strip_prefix("--") {
            long.to_owned()
        } else if let Some(rest) = word.strip_prefix("-c") {
            if rest.is_empty() {
                words.next().ok_or_else(|| refused(&word))?
            } else {
                rest.to_owned()
            }
        } else {
            return Err(refused(&word));
        };
        let (name, value) = assignment.split_once('=').ok_or_else(|| refused(&word))?;
        settings.push((setting_name(&name.replace('-', "_"))?, value.to_owned()));
    }
    Ok(settings)
}

/// What a startup packet names the protocol's own options by (PostgreSQL documentation, Message
/// Formats, StartupMessage): in small letters only.
pub(crate) const PROTOCOL_OPTION: &str = "_pq_.";

/// A setting's name in lower case; the server compares names so.
///
/// # Errors
/// [`StartupError::Name`] unless it is letters, digits, `_`, `$`, `.` and anything beyond ASCII; and
/// for what the server, once it is sent as a parameter in lower case, would take for an option of
/// the protocol.
pub fn setting_name(name: &str) -> Result<String, StartupError> {
    let plausible = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.') || !c.is_ascii());
    let folded = name.to_ascii_lowercase();
    if plausible && !folded.starts_with(PROTOCOL_OPTION) {
        Ok(folded)
    } else {
        Err(StartupError::Name {
            name: name.to_owned(),
        })
    }
}

fn split(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            // What C's isspace() takes for white space.
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => words.extend(word.take()),
            // A backslash at the very end is dropped, as the server does.
            '\\' => word.get_or_insert_default().extend(characters.next()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}
