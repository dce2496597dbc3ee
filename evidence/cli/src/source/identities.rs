//! The identities of `--identity`.

use std::io::Read;
use std::path::Path;

use chaperone_evidence::{Identity, Keyring};

use crate::cli::Cli;
use crate::error::CliError;

/// Most of such a file that is read.
const MAX_FILE: u64 = 64 * 1024;

/// What the user gave to open sealed sessions with.
///
/// # Errors
/// Where a file cannot be read, or holds anything but identities.
pub(crate) fn keyring(cli: &Cli) -> Result<Keyring, CliError> {
    let mut identities = Vec::new();
    for path in &cli.identity {
        identities.extend(read(path)?);
    }
    Ok(Keyring::new(identities))
}

fn read(path: &Path) -> Result<Vec<Identity>, CliError> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
        .map_err(|error| {
            CliError::Usage(format!(
                "cannot read the identity {}: {error}",
                path.display()
            ))
        })?;
    Identity::parse_file(&text)
        .map_err(|error| CliError::Usage(format!("--identity {}: {error}", path.display())))
}
