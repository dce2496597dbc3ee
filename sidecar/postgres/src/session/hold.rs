//! A command that waits for a human while the session goes on serving its sockets.

use chaperone_approvals::{ApprovalError, Phase};
use chaperone_enforce::{Asked, Command, Denial, Waiting};
use chaperone_policy::{Decision, Verdict};
use tokio::time::Instant;

use super::engine::{Blocked, Engine, Fault};
use super::staging::Pass;
use crate::codec::{ErrorResponse, Frame, Severity};

/// What a wait ends with.
pub(crate) type Answer = Result<Phase, ApprovalError>;

/// One held message.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) asked: Asked,
    pub(crate) waiting: Waiting,
    pub(crate) remind_at: Instant,
    pub(crate) answer: Option<Answer>,
    /// Handled again, from its bytes, once there is an answer.
    frame: Frame,
}

/// What a message may do now.
#[derive(Debug)]
pub(crate) enum Authorised {
    /// Be forwarded, once.
    Pass(Pass),
    /// Nothing; the agent is told why.
    Denied(Denial),
    /// Wait: the session is blocked on a human.
    Held,
}

/// The waiting task is gone: nothing was granted.
pub(crate) fn no_answer() -> Answer {
    Ok(Phase::Cancelled)
}

impl Engine<'_> {
    /// Takes a decision to its permit, its refusal, or a human.
    pub(crate) async fn authorise(
        &mut self,
        decision: &Decision,
        command: &Command<'_>,
        frame: &Frame,
    ) -> Authorised {
        if let Some((asked, answer)) = self.granted.take() {
            return match self
                .flow
                .redeem(&asked, answer, decision.clone(), command)
                .await
            {
                Ok(permit) => Authorised::Pass(Pass::Now(permit)),
                Err(denial) => Authorised::Denied(denial),
            };
        }
        match decision.verdict {
            Verdict::Deny => Authorised::Denied(self.flow.refuse(decision, command).await),
            Verdict::Allow | Verdict::Observe => {
                let pass = if Self::joins_staged(frame) {
                    self.flow.stage(decision, command).map(Pass::Staged)
                } else {
                    self.flow.permit(decision, command).await.map(Pass::Now)
                };
                match pass {
                    Ok(pass) => Authorised::Pass(pass),
                    Err(denial) => Authorised::Denied(denial),
                }
            }
            Verdict::Hold => match self.flow.ask(decision, command).await {
                Ok(asked) => {
                    if !asked.granted && !asked.timeout.is_zero() {
                        self.notice(&format!(
                            "{} waits for approval as {}; {}",
                            command.verb,
                            asked.name,
                            self.flow.how_to_approve(&asked.name)
                        ));
                    }
                    let waiting = self.flow.wait(&asked);
                    self.blocked = Some(Blocked::Held(Box::new(Held {
                        remind_at: Instant::now() + waiting.remind_every,
                        asked,
                        waiting,
                        answer: None,
                        frame: frame.clone(),
                    })));
                    Authorised::Held
                }
                Err(denial) => Authorised::Denied(denial),
            },
        }
    }

    /// The wait is over: the held message is decided on again, from its bytes.
    pub(crate) async fn answered(&mut self) -> Result<(), Fault> {
        let Some(Blocked::Held(held)) = self.blocked.take() else {
            return Ok(());
        };
        let held = *held;
        self.policy_changed().await?;
        self.granted = Some((held.asked, held.answer.unwrap_or_else(no_answer)));
        self.pending = Some(held.frame);
        Ok(())
    }

    /// Tells the agent that it still waits, which also keeps its connection alive.
    pub(crate) fn remind(&mut self) {
        let text = match &mut self.blocked {
            Some(Blocked::Held(held)) => {
                held.remind_at = Instant::now() + held.waiting.remind_every;
                format!("still waits for approval as {}", held.asked.name)
            }
            _ => return,
        };
        self.notice(&text);
    }

    /// The agent cancelled. What waits for a human is withdrawn; what runs is cancelled at the
    /// server, as the agent would have done itself.
    pub(crate) async fn cancelled(&mut self) -> Result<(), Fault> {
        match self.blocked.take() {
            Some(Blocked::Held(held)) => {
                let (asked, frame) = self.withdraw(*held, "the client cancelled").await;
                self.granted = Some((asked, Ok(Phase::Cancelled)));
                self.pending = Some(frame);
                Ok(())
            }
            other => {
                self.blocked = other;
                if self.expected.is_empty() {
                    // Nothing of the agent's runs, so there is nothing to cancel.
                    return Ok(());
                }
                let handle = self.cancel_handle.clone();
                let deadline = Instant::now() + self.shared.bounds.connect;
                let cancel = tokio::spawn(async move {
                    if let Err(error) = crate::server::cancel(&handle, deadline).await {
                        tracing::warn!(%error, "a cancel request did not reach the server");
                    }
                });
                self.cancelling = Some(cancel);
                Ok(())
            }
        }
    }

    /// Takes a request back. A request is only cancelled when nobody waits for it, so our own
    /// wait ends first.
    pub(crate) async fn withdraw(&mut self, held: Held, why: &str) -> (Asked, Frame) {
        let Held {
            asked,
            waiting,
            frame,
            ..
        } = held;
        drop(waiting);
        self.flow.withdraw(&asked, why).await;
        (asked, frame)
    }

    fn notice(&mut self, text: &str) {
        ErrorResponse::new(Severity::Notice, "00000", format!("chaperone: {text}"))
            .encode(&mut self.out);
    }

    /// A policy change reached this session.
    pub(crate) async fn policy_changed(&mut self) -> Result<(), Fault> {
        if !self.flow.refresh().map_err(Fault)? {
            return Ok(());
        }
        let (masks, record_masks) = super::startup::masks(self.shared, self.flow.policy());
        self.masks = masks;
        self.record_masks = record_masks;
        // Results that come are planned under the policy of now, whatever was classified before.
        self.environment = None;
        self.recheck_running().await
    }
}
