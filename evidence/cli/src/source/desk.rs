//! Where requests for approval are read and answered.

use std::sync::Arc;

use chaperone_approvals::{Entry, Folder, SystemClock, Verdict, local_reviewer};

use super::{Cluster, StateFolder, requests};
use crate::error::CliError;
use crate::output::shell_word;

/// A folder's requests, or a cluster's.
pub(crate) enum Desk<'a> {
    /// Of a standalone sidecar.
    Folder {
        /// The requests.
        folder: Folder,
        /// The state folder, as the user may paste it.
        state: String,
    },
    /// Of a cluster.
    Cluster(&'a Cluster),
}

impl<'a> Desk<'a> {
    /// The folder of requests, which a sidecar makes.
    pub(super) fn folder(state: &StateFolder) -> Result<Desk<'a>, CliError> {
        let dir = state.approvals();
        if !dir.is_dir() {
            return Err(CliError::Usage(format!(
                "{} is missing; {} is not the state folder of a standalone sidecar, or none has started there yet",
                dir.display(),
                state.display()
            )));
        }
        Ok(Desk::Folder {
            folder: Folder::open_existing(&dir, Arc::new(SystemClock))?,
            state: state.display(),
        })
    }

    /// A cluster's.
    pub(super) fn cluster(cluster: &'a Cluster) -> Desk<'a> {
        Desk::Cluster(cluster)
    }

    /// All requests, newest first, and what cannot be read.
    pub(crate) fn list(&self) -> Result<(Vec<Entry>, Vec<CliError>), CliError> {
        let listed: Vec<Result<Entry, CliError>> = match self {
            Desk::Folder { folder, .. } => {
                let listed = folder.list()?.into_iter();
                listed.map(|read| read.map_err(CliError::from)).collect()
            }
            Desk::Cluster(cluster) => requests::list(cluster)?,
        };
        let mut entries = Vec::with_capacity(listed.len());
        let mut damaged = Vec::new();
        for read in listed {
            match read {
                Ok(entry) => entries.push(entry),
                Err(error) => damaged.push(error),
            }
        }
        Ok((entries, damaged))
    }

    /// One request.
    pub(crate) fn get(&self, name: &str) -> Result<Entry, CliError> {
        match self {
            Desk::Folder { folder, .. } => Ok(folder.get(name)?),
            Desk::Cluster(cluster) => requests::get(cluster, name),
        }
    }

    /// Answers one: in a folder as `local:<uid>`, in a cluster as whom its API server knows.
    pub(crate) fn review(
        &self,
        name: &str,
        verdict: Verdict,
        reason: &str,
    ) -> Result<Entry, CliError> {
        match self {
            Desk::Folder { folder, .. } => {
                folder.review(name, &local_reviewer(), verdict, reason)?;
                self.get(name)
            }
            Desk::Cluster(cluster) => requests::review(cluster, name, verdict, reason),
        }
    }

    /// The command that approves a request.
    pub(crate) fn approve_command(&self, entry: &Entry) -> String {
        match self {
            Desk::Folder { state, .. } => format!(
                "kubectl-chaperone approve {} --state {}",
                entry.name,
                shell_word(state)
            ),
            Desk::Cluster(_) => format!(
                "kubectl chaperone approve {} -n {}",
                entry.name,
                shell_word(
                    entry
                        .request
                        .metadata
                        .namespace
                        .as_deref()
                        .unwrap_or_default()
                )
            ),
        }
    }
}
