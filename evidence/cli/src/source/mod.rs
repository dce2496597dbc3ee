//! Where a command's answer comes from: a standalone sidecar's state folder, or a cluster.
//!
//! ```text
//! --state DIR ─► StateFolder ─────────────────────────────────┐
//! kubeconfig ─► Cluster ─fetch─► convert ─► stores in Scratch ─┴─► Evidence ─► sessions, show, why, replay, verify
//!                   └──────────────────────── requests ─► Desk ◄─ folder      approvals, approve, deny
//! ```
//!
//! Commands see [`Evidence`] and [`Desk`] and do not ask which of the two it is.

mod cluster;
mod convert;
mod desk;
mod evidence;
mod fetch;
mod identities;
mod log;
mod requests;
mod scan;
mod scratch;
mod state;

pub(crate) use cluster::{Cluster, api_failure};
pub(crate) use desk::Desk;
pub(crate) use evidence::{Evidence, Found};
pub(crate) use fetch::all;
pub(crate) use identities::keyring;
pub(crate) use log::FetchedLog;
pub(crate) use scratch::Scratch;
pub(crate) use state::StateFolder;

use chaperone_evidence::{Keyring, Place};

use crate::cli::Cli;
use crate::error::CliError;

/// One or the other, and what opens what is sealed there.
pub(crate) enum Source {
    /// A standalone sidecar's folder.
    State(StateFolder, Keyring),
    /// A cluster.
    Cluster(Box<Cluster>, Keyring),
}

impl Source {
    /// The folder if one was given, else the cluster of the kubeconfig's context.
    pub(crate) fn of(cli: &Cli) -> Result<Source, CliError> {
        let keys = keyring(cli)?;
        match &cli.state {
            Some(root) => StateFolder::open(root).map(|found| Source::State(found, keys)),
            None => {
                Cluster::connect(&cli.cluster).map(|found| Source::Cluster(Box::new(found), keys))
            }
        }
    }

    /// All evidence there is.
    pub(crate) fn evidence(&self) -> Result<Evidence, CliError> {
        match self {
            Source::State(state, keys) => Ok(Evidence::folder(Place::new(&state.evidence(), keys))),
            Source::Cluster(cluster, keys) => Ok(Evidence::log(FetchedLog::fetch(cluster, keys)?)),
        }
    }

    /// Brings evidence up to date; for those who keep looking.
    pub(crate) fn refresh(&self, evidence: &mut Evidence) -> Result<(), CliError> {
        match self {
            // Read anew each time as it is.
            Source::State(..) => Ok(()),
            Source::Cluster(cluster, _) => evidence.refresh(cluster),
        }
    }

    /// Where requests for approval are answered.
    pub(crate) fn desk(&self) -> Result<Desk<'_>, CliError> {
        match self {
            Source::State(state, _) => Desk::folder(state),
            Source::Cluster(cluster, _) => Ok(Desk::cluster(cluster)),
        }
    }
}
