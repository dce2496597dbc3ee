//! Approval requests that an operator keeps: the same life, asked for over the control API.
//!
//! ```text
//! NewRequest ─► NewApproval ─► operator ─► ApprovalRequest ◄─ people, by kubectl
//! wait: one question at a time, each answered at the next change or after 30 s
//! redeem: asked once. An answer that is lost is a grant that is lost: it may have been used.
//! ```
//!
//! The operator counts the reviews, by the rules of [`crate::rules`]; here nothing is counted
//! again. How the bytes get there is [`ApprovalApi`]'s.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chaperone_control::{
    AccessView, ApprovalState, AskingRule, Cancel, LONGEST_WAIT_SECONDS, NewApproval, Redeem,
    Refusal,
};
use chaperone_crds::{ApprovalPhase, Approvers, DelegateRef};
use chaperone_policy::Reason;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::ApprovalError;
use crate::request::{Draft, Grant, NewRequest, Ticket};
use crate::resource::counted;
use crate::rules::Phase;
use crate::tuple::Tuple;
use crate::waiters::Waiters;

/// Between two questions that were answered at once.
const PAUSE: Duration = Duration::from_millis(250);
/// How long an answer may be late before the wait ends without it.
const LATE: Duration = Duration::from_secs(2);

/// What [`ApprovalApi`]'s calls give.
pub type ApiFuture<'a> = Pin<Box<dyn Future<Output = Result<ApprovalState, ApiError>> + Send + 'a>>;

/// The approval calls of the control API. Each makes one attempt.
pub trait ApprovalApi: Send + Sync + fmt::Debug {
    /// Makes a request, or finds the one that is there for the same thing.
    fn create(&self, new: NewApproval) -> ApiFuture<'_>;
    /// How far it is, at its next change or after `wait`.
    fn state(&self, name: String, wait: Duration) -> ApiFuture<'_>;
    /// Gives it up.
    fn cancel(&self, name: String, cancel: Cancel) -> ApiFuture<'_>;
    /// Uses its grant, once.
    fn redeem(&self, name: String, redeem: Redeem) -> ApiFuture<'_>;
}

/// Why a call got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The operator said no.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// There was no answer to be had, or none that can be understood.
    #[error("the operator cannot be reached: {0}")]
    Unreachable(String),
}

impl From<ApiError> for ApprovalError {
    fn from(error: ApiError) -> ApprovalError {
        match error {
            ApiError::Refused(refusal) => ApprovalError::Refused {
                reason: Reason::parse(&refusal.reason).unwrap_or(Reason::ApprovalUnavailable),
                message: refusal.message,
            },
            ApiError::Unreachable(why) => ApprovalError::Unreachable(why),
        }
    }
}

/// Requests at an operator. Clones share who waits.
#[derive(Debug, Clone)]
pub struct Remote {
    api: Arc<dyn ApprovalApi>,
    waiters: Arc<Waiters>,
}

impl Remote {
    /// Asks by `api`.
    pub fn new(api: Arc<dyn ApprovalApi>) -> Remote {
        Remote {
            api,
            waiters: Arc::default(),
        }
    }

    pub(crate) async fn request(&self, new: NewRequest) -> Result<Ticket, ApprovalError> {
        Draft::from(&new).check()?;
        let state = self.api.create(new_approval(&new)).await?;
        Ok(Ticket {
            phase: phase(state.phase),
            name: state.name,
            open_until: state.open_until,
            created: state.created,
        })
    }

    pub(crate) async fn wait(&self, name: &str, until: Instant) -> Result<Phase, ApprovalError> {
        let _waiting = self.waiters.enter(name);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Whole seconds: that is what can be asked for.
            let wait = Duration::from_secs(left.as_secs().min(LONGEST_WAIT_SECONDS));
            let asked = timeout_at(until + LATE, self.api.state(name.to_owned(), wait)).await;
            let over = Instant::now() + PAUSE >= until;
            match asked {
                Ok(Ok(state)) => {
                    let phase = phase(state.phase);
                    if phase != Phase::Pending || over {
                        return Ok(phase);
                    }
                }
                Ok(Err(ApiError::Unreachable(_))) if !over => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(ApprovalError::Unreachable("no answer in time".to_owned())),
            }
            sleep(PAUSE).await;
        }
    }

    pub(crate) async fn redeem(
        &self,
        name: &str,
        tuple: &Tuple,
        session: &str,
    ) -> Result<Grant, ApprovalError> {
        let redeem = Redeem {
            connection: tuple.connection.clone(),
            delegate: tuple.delegate.clone(),
            command_digest: hex::encode(tuple.command_digest),
            rule_digest: tuple.rule_digest.clone(),
            session: session.to_owned(),
        };
        let state = self.api.redeem(name.to_owned(), redeem).await?;
        let not_used = |phase| ApprovalError::NotApproved {
            name: name.to_owned(),
            phase,
        };
        match (phase(state.phase), state.approved_at) {
            (Phase::Consumed, Some(approved_at)) if state.name == name => Ok(Grant {
                name: state.name,
                // The API server's user info stands behind each review of a cluster.
                reviews: state
                    .reviews
                    .iter()
                    .map(|review| counted(review, true))
                    .collect(),
                approved_at,
            }),
            // An answer that says neither that it was granted nor when is no grant.
            (phase, _) => Err(not_used(phase)),
        }
    }

    pub(crate) async fn cancel(&self, name: &str, why: &str) -> Result<bool, ApprovalError> {
        if !self.waiters.leave(name).await {
            return Ok(false);
        }
        let cancel = Cancel {
            why: why.to_owned(),
        };
        let state = self.api.cancel(name.to_owned(), cancel).await?;
        Ok(phase(state.phase) == Phase::Cancelled)
    }
}

fn new_approval(new: &NewRequest) -> NewApproval {
    NewApproval {
        connection: new.tuple.connection.clone(),
        delegate: new.tuple.delegate.as_ref().map(|delegate| DelegateRef {
            provider: delegate.provider.clone(),
            username: delegate.username.clone(),
        }),
        purpose: new.purpose.clone(),
        command_digest: hex::encode(new.tuple.command_digest),
        rules: new
            .rules
            .iter()
            .map(|asked| AskingRule {
                policy: asked.rule.policy.clone(),
                rule: asked.rule.rule.clone(),
                generation: asked.rule.generation,
                digest: asked.rule.digest.clone(),
                approvers: Approvers {
                    users: asked.users.clone(),
                    groups: asked.groups.clone(),
                },
                quorum: asked.quorum,
                timeout_seconds: asked.timeout.as_secs(),
                valid_for_seconds: asked.valid_for.as_secs(),
            })
            .collect(),
        summary: new.summary.clone(),
        command: new.command.clone(),
        parameters: new.parameters.clone(),
        accesses: new
            .accesses
            .iter()
            .map(|access| AccessView {
                effect: access.effect.as_str().to_owned(),
                object: access.object.to_string(),
            })
            .collect(),
        expires_in_seconds: new.expires_in.as_secs(),
    }
}

fn phase(phase: ApprovalPhase) -> Phase {
    match phase {
        ApprovalPhase::Pending => Phase::Pending,
        ApprovalPhase::Approved => Phase::Approved,
        ApprovalPhase::Denied => Phase::Denied,
        ApprovalPhase::Expired => Phase::Expired,
        ApprovalPhase::Cancelled => Phase::Cancelled,
        ApprovalPhase::Consumed => Phase::Consumed,
    }
}
