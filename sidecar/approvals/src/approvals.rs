//! Where approvals are asked for: a folder of this machine, or an operator.

use std::path::PathBuf;

use tokio::time::Instant;

use crate::error::ApprovalError;
use crate::folder::Folder;
use crate::remote::Remote;
use crate::request::{Grant, NewRequest, Ticket};
use crate::rules::Phase;
use crate::tuple::Tuple;

/// The one way to humans. Clones share it.
#[derive(Debug, Clone)]
pub enum Approvals {
    /// Standalone.
    Folder {
        /// The requests.
        folder: Folder,
        /// The state folder, as people are told to name it.
        state: PathBuf,
    },
    /// In a cluster.
    Operator {
        /// The requests.
        remote: Remote,
        /// Namespace that they are made in.
        namespace: String,
    },
}

impl Approvals {
    /// Asks for approval. The same tuple pending gives the same request; the same tuple with an
    /// unredeemed valid grant gives a ticket that is Approved already.
    ///
    /// # Errors
    /// [`ApprovalError`]: nothing was asked for.
    pub async fn request(&self, new: NewRequest) -> Result<Ticket, ApprovalError> {
        match self {
            Approvals::Folder { folder, .. } => folder.request(new).await,
            Approvals::Operator { remote, .. } => remote.request(new).await,
        }
    }

    /// Waits until the request is no longer Pending, or `until`, and returns its phase then.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`ApprovalError`]: nothing is known of the request.
    pub async fn wait(&self, name: &str, until: Instant) -> Result<Phase, ApprovalError> {
        match self {
            Approvals::Folder { folder, .. } => folder.wait(name, until).await,
            Approvals::Operator { remote, .. } => remote.wait(name, until).await,
        }
    }

    /// Takes the grant for a command of `session`: Approved → Consumed, exactly once. Whoever
    /// calls evaluates the current policy before it forwards anything.
    ///
    /// # Errors
    /// [`ApprovalError`]: there is no grant to use.
    pub async fn redeem(
        &self,
        name: &str,
        tuple: &Tuple,
        session: &str,
    ) -> Result<Grant, ApprovalError> {
        match self {
            Approvals::Folder { folder, .. } => folder.redeem(name, tuple).await,
            Approvals::Operator { remote, .. } => remote.redeem(name, tuple, session).await,
        }
    }

    /// The client went away: Pending → Cancelled, unless another session of this process goes on
    /// waiting for it. Whether it was cancelled.
    ///
    /// # Errors
    /// [`ApprovalError`]: the request stays until it expires.
    pub async fn cancel(&self, name: &str, why: &str) -> Result<bool, ApprovalError> {
        match self {
            Approvals::Folder { folder, .. } => folder.cancel(name, why).await,
            Approvals::Operator { remote, .. } => remote.cancel(name, why).await,
        }
    }

    /// What to tell a person who can approve.
    pub fn how_to_approve(&self, name: &str) -> String {
        let command = self.command(name);
        format!("approve it with: {command}; then run the same command again")
    }

    /// The command line that approves.
    pub fn command(&self, name: &str) -> String {
        match self {
            Approvals::Folder { state, .. } => {
                format!(
                    "kubectl-chaperone approve {name} --state {}",
                    state.display()
                )
            }
            Approvals::Operator { namespace, .. } => format!(
                "kubectl patch approvalrequest {name} -n {namespace} --type=merge -p '{{\"spec\":{{\"decision\":{{\"verdict\":\"Approve\"}}}}}}'"
            ),
        }
    }
}
