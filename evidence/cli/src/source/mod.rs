//! Where a command's answer comes from: a standalone sidecar's state folder, or a cluster.
//!
//! ```text
//! --state DIR ─► StateFolder ─────────────────────────────────┐
//! kubeconfig ─► Cluster ─fetch, packs─► convert ─► stores in Scratch ─┴─► Evidence ─► sessions, show, why, replay, verify
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
mod packs;
mod requests;
mod scan;
mod scratch;
mod state;
mod unseal;
mod views;

pub(crate) use cluster::{Cluster, api_failure};
pub(crate) use desk::Desk;
pub(crate) use evidence::{Evidence, Found};
pub(crate) use fetch::all;
pub(crate) use identities::keyring;
pub(crate) use log::FetchedLog;
pub(crate) use scratch::Scratch;
pub(crate) use state::StateFolder;
pub(crate) use unseal::Reading;

use chaperone_evidence::{Keyring, Place, SessionId};

use crate::cli::Cli;
use crate::error::CliError;

/// One or the other, and what opens what is sealed there.
pub(crate) enum Source {
    /// A standalone sidecar's folder.
    State(StateFolder, Keyring),
    /// A cluster.
    Cluster(Box<Cluster>, Keyring, Reading),
}

impl Source {
    /// The folder if one was given, else the cluster of the kubeconfig's context.
    pub(crate) fn of(cli: &Cli) -> Result<Source, CliError> {
        let keys = keyring(cli)?;
        match &cli.state {
            Some(root) => StateFolder::open(root).map(|found| Source::State(found, keys)),
            None => {
                let reading = Reading {
                    because: cli.because.clone(),
                    leave_sealed: cli.leave_sealed,
                };
                let found = Cluster::connect(&cli.cluster)?;
                Ok(Source::Cluster(Box::new(found), keys, reading))
            }
        }
    }

    /// All evidence there is.
    pub(crate) fn evidence(&self) -> Result<Evidence, CliError> {
        match self {
            Source::State(state, keys) => Ok(Evidence::folder(Place::new(&state.evidence(), keys))),
            Source::Cluster(_, keys, _) => self.evidence_with(keys),
        }
    }

    /// The same as it is now, opened by these keys where it is a cluster's.
    pub(crate) fn evidence_with(&self, keys: &Keyring) -> Result<Evidence, CliError> {
        match self {
            Source::State(..) => self.evidence(),
            Source::Cluster(cluster, ..) => Ok(Evidence::log(FetchedLog::fetch(cluster, keys)?)),
        }
    }

    /// Brings evidence up to date; for those who keep looking.
    pub(crate) fn refresh(&self, evidence: &mut Evidence) -> Result<(), CliError> {
        match self {
            // Read anew each time as it is.
            Source::State(..) => Ok(()),
            Source::Cluster(cluster, ..) => evidence.refresh(cluster),
        }
    }

    /// Whether there is anybody to ask for keys, and he is to be asked: not of a folder, nor where the
    /// user gave keys of his own or wants none.
    pub(crate) fn opens(&self) -> bool {
        match self {
            Source::State(..) => false,
            Source::Cluster(_, own, reading) => {
                own.identities().is_empty() && !reading.leave_sealed
            }
        }
    }

    /// Opens what is sealed of these sessions with keys that the operator hands out, which the log
    /// then says. Nothing where it does not open.
    pub(crate) fn open(
        &self,
        evidence: &mut Evidence,
        sessions: &[SessionId],
    ) -> Result<(), CliError> {
        match self {
            Source::Cluster(cluster, _, reading) if self.opens() && !sessions.is_empty() => {
                evidence.take(&unseal::keys(cluster, reading, sessions)?);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The session that is named, opened if it is sealed.
    pub(crate) fn session(&self, evidence: &mut Evidence, wanted: &str) -> Result<Found, CliError> {
        let found = evidence.session(wanted)?;
        if !found.session.sealed {
            return Ok(found);
        }
        let id = found.session.id;
        self.open(evidence, &[id])?;
        evidence.session(&id.to_string())
    }

    /// Where requests for approval are answered.
    pub(crate) fn desk(&self) -> Result<Desk<'_>, CliError> {
        match self {
            Source::State(state, _) => Desk::folder(state),
            Source::Cluster(cluster, ..) => Ok(Desk::cluster(cluster)),
        }
    }
}
