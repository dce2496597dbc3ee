//! The folders of a standalone sidecar.

use std::path::{Path, PathBuf};

use crate::error::CliError;

/// The folders of a standalone sidecar.
#[derive(Debug, Clone)]
pub(crate) struct StateFolder {
    root: PathBuf,
}

impl StateFolder {
    /// The folder the user gave.
    pub(crate) fn open(root: &Path) -> Result<StateFolder, CliError> {
        if !root.is_dir() {
            return Err(CliError::Usage(format!(
                "{} is no folder; give the one that `chaperone-sidecar standalone --state` has",
                root.display()
            )));
        }
        Ok(StateFolder {
            root: root.to_path_buf(),
        })
    }

    /// Where the evidence is.
    pub(crate) fn evidence(&self) -> PathBuf {
        self.root.join("evidence")
    }

    /// Where the approval requests are.
    pub(crate) fn approvals(&self) -> PathBuf {
        self.root.join("approvals")
    }

    /// The folder as the user may paste it.
    pub(crate) fn display(&self) -> String {
        self.root.display().to_string()
    }
}
