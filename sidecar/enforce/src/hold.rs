//! A command that waits for a human.

use std::time::Duration;

use chaperone_approvals::{ApprovalError, NewRequest, Phase as RequestPhase, Tuple};
use chaperone_evidence::{Approval, ApprovalEvent, Permit};
use chaperone_policy::{ApprovalRule, Decision, Reason, Verdict};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::session::{REMINDER, cannot_record};
use crate::{Command, Denial, NoticeKind, Session};

/// A request has been made, or was there already.
#[derive(Debug)]
pub struct Asked {
    /// The ApprovalRequest's name.
    pub name: String,
    /// How long the client waits.
    pub timeout: Duration,
    /// The sequence of the record that says it was held.
    pub sequence: u64,
    /// There is a grant already: no human is asked.
    pub granted: bool,
}

/// The wait for an answer, in a task of its own so that the session goes on serving its sockets.
#[derive(Debug)]
pub struct Waiting {
    /// Answers once.
    pub answer: oneshot::Receiver<Result<RequestPhase, ApprovalError>>,
    /// When the client should be told again that it waits.
    pub remind_every: Duration,
}

impl Session {
    /// Asks for approval of a command that a decision holds; the same command asked for again
    /// finds its own request, or its grant.
    ///
    /// # Errors
    /// A [`Denial`] when the request cannot be made.
    pub async fn ask(
        &mut self,
        decision: &Decision,
        command: &Command<'_>,
    ) -> Result<Asked, Denial> {
        let digest = self.shared.recorder.digest(command.exact);
        let tuple = Tuple::new(
            &self.subject,
            &self.shared.connection,
            digest,
            &decision.approvals,
        );
        let timeout = decision
            .approvals
            .iter()
            .map(|rule| rule.timeout)
            .min()
            .unwrap_or_default();
        let made = self
            .shared
            .approvals
            .request(NewRequest {
                tuple,
                purpose: self.purpose.clone(),
                rules: decision.approvals.clone(),
                summary: format!("{} over {}", command.verb, self.shared.connection),
                command: command.text.to_owned(),
                parameters: command.parameters.to_vec(),
                accesses: command.operation.accesses.clone(),
                expires_in: expires_in(decision),
            })
            .await;
        let ticket = match made {
            Ok(ticket) => ticket,
            Err(error) => {
                let mut denied = decision.clone();
                denied.verdict = Verdict::Deny;
                denied.reason = error.reason();
                denied.message = Some(error.to_string());
                return Err(self.refuse(&denied, command).await);
            }
        };
        self.shared
            .metrics
            .decided(&self.shared.connection, decision);
        self.notice(
            NoticeKind::Held,
            decision.reason.as_str(),
            ticket.name.clone(),
        );
        let intent = self.intent(decision, command, None);
        // Held, not yet allowed: recorded like a refusal, without a permit. The frames are
        // recorded with the intent that lets them go.
        let sequence = self
            .record
            .refusal(&intent, &[])
            .await
            .map_err(|error| cannot_record(&error))?;
        self.record
            .approval(step(&ticket.name, decision, ApprovalEvent::Requested))
            .map_err(|error| cannot_record(&error))?;
        Ok(Asked {
            name: ticket.name,
            timeout,
            sequence,
            granted: ticket.phase == RequestPhase::Approved,
        })
    }

    /// Starts the wait for an answer.
    pub fn wait(&self, asked: &Asked) -> Waiting {
        let (sender, answer) = oneshot::channel();
        let approvals = std::sync::Arc::clone(&self.shared.approvals);
        let name = asked.name.clone();
        let until = Instant::now() + asked.timeout;
        tokio::spawn(async move {
            let mut sender = sender;
            tokio::select! {
                phase = approvals.wait(&name, until) => { let _ = sender.send(phase); }
                // The session went away and took its interest with it.
                () = sender.closed() => {}
            }
        });
        Waiting {
            answer,
            remind_every: REMINDER,
        }
    }

    /// The client went away or cancelled while it waited.
    pub async fn withdraw(&mut self, asked: &Asked, why: &str) {
        if let Err(error) = self.shared.approvals.cancel(&asked.name, why).await {
            tracing::warn!(request = %asked.name, %error, "an approval request could not be cancelled");
        }
    }

    /// Uses an answer: decides again under the policy of now and redeems the grant, once.
    ///
    /// # Errors
    /// A [`Denial`] naming the request, and what to do, when there is no grant to use.
    pub async fn redeem(
        &mut self,
        asked: &Asked,
        phase: Result<RequestPhase, ApprovalError>,
        current: Decision,
        command: &Command<'_>,
    ) -> Result<Permit, Denial> {
        let refused = |reason, message: String| (reason, message);
        let (reason, message) = match phase {
            Ok(RequestPhase::Approved) => match current.verdict {
                // The policy was loosened meanwhile: no grant is needed, none is used.
                Verdict::Allow | Verdict::Observe => return self.permit(&current, command).await,
                Verdict::Deny => return Err(self.refuse(&current, command).await),
                Verdict::Hold => {
                    // Bound to what is about to run, not to what was asked for.
                    let digest = self.shared.recorder.digest(command.exact);
                    let now = Tuple::new(
                        &self.subject,
                        &self.shared.connection,
                        digest,
                        &current.approvals,
                    );
                    let session = self.record.id().to_owned();
                    let approvals = &self.shared.approvals;
                    match approvals.redeem(&asked.name, &now, &session).await {
                        Ok(grant) => return self.permit_granted(&grant, current, command).await,
                        Err(error) => refused(error.reason(), error.to_string()),
                    }
                }
            },
            Ok(RequestPhase::Pending) => refused(
                Reason::ApprovalPending,
                format!("waits for approval as {}", asked.name),
            ),
            Ok(RequestPhase::Denied) => refused(
                Reason::ApprovalDenied,
                format!("approval {} was denied", asked.name),
            ),
            Ok(RequestPhase::Expired) => refused(
                Reason::ApprovalExpired,
                format!("approval {} expired before anyone answered", asked.name),
            ),
            Ok(RequestPhase::Cancelled) => refused(
                Reason::ApprovalCancelled,
                format!("approval {} was cancelled", asked.name),
            ),
            Ok(RequestPhase::Consumed) => refused(
                Reason::ApprovalExpired,
                format!("approval {} has been used already", asked.name),
            ),
            Err(error) => refused(error.reason(), error.to_string()),
        };
        let mut denied = current;
        denied.verdict = Verdict::Deny;
        denied.reason = reason;
        denied.message = Some(message);
        let mut denial = self.refuse(&denied, command).await;
        if reason == Reason::ApprovalPending {
            denial.hint = Some(self.how_to_approve(&asked.name));
        }
        Err(denial)
    }

    /// What to tell a person who can approve.
    pub fn how_to_approve(&self, name: &str) -> String {
        self.shared.approvals.how_to_approve(name)
    }

    async fn permit_granted(
        &mut self,
        grant: &chaperone_approvals::Grant,
        held: Decision,
        command: &Command<'_>,
    ) -> Result<Permit, Denial> {
        // Who approved, when and why stands in the evidence before the command.
        for review in &grant.reviews {
            let words = &review.reason;
            self.record
                .approval(Approval {
                    reviewer: Some(review.reviewer.clone()),
                    authenticated: review.authenticated,
                    reason: format!("{words} ({})", review.at),
                    ..step(&grant.name, &held, ApprovalEvent::ReviewedApprove)
                })
                .map_err(|error| cannot_record(&error))?;
        }
        self.record
            .approval(step(&grant.name, &held, ApprovalEvent::Granted))
            .map_err(|error| cannot_record(&error))?;
        let mut granted = held;
        granted.verdict = Verdict::Allow;
        granted.reason = Reason::Approved;
        let permit = self.permit_as(&granted, command, Some(&grant.name)).await?;
        let asked = |rule: &ApprovalRule| granted.approvals.contains(rule);
        if self.policy().findings().approvals.iter().any(asked) {
            self.shared.deviations.release();
        }
        Ok(permit)
    }
}

/// An unanswered request stays open as long as the client waits, and at least as long as a grant
/// would be valid: an approver who comes a little late still finds it.
fn expires_in(decision: &Decision) -> Duration {
    decision
        .approvals
        .iter()
        .map(|rule| rule.timeout.max(rule.valid_for))
        .min()
        .unwrap_or_default()
}

/// One step in the life of a request, under the first of the rules that ask.
fn step(request: &str, decision: &Decision, event: ApprovalEvent) -> Approval {
    let rule = decision.approvals.first().map(|asked| &asked.rule);
    let text = |of: fn(&chaperone_policy::RuleRef) -> &String| {
        rule.map_or_else(String::new, |rule| of(rule).clone())
    };
    Approval {
        request: request.to_owned(),
        event,
        reviewer: None,
        authenticated: false,
        reason: String::new(),
        policy: text(|rule| &rule.policy),
        rule: text(|rule| &rule.rule),
        rule_digest: text(|rule| &rule.digest),
    }
}
