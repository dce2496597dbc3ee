//! A request that waits for a human.

use chaperone_approvals::Phase;
use chaperone_enforce::{Command, Denial};
use chaperone_evidence::Permit;
use chaperone_policy::{Decision, Operation};
use hyper::Response;
use tokio::sync::oneshot;

use super::{Agent, Lane};
use crate::body::Body;

/// Asks, waits as long as the rule says, and redeems. The name of the request is given with the
/// refusal.
///
/// # Errors
/// Why it may not run now.
pub(super) async fn hold(
    agent: &Agent,
    lane: &mut Lane,
    decision: &Decision,
    operation: &Operation,
    command: &Command<'_>,
    answer: &mut oneshot::Sender<Response<Body>>,
) -> Result<Permit, (Denial, Option<String>)> {
    let asked = match lane.flow.ask(decision, command).await {
        Ok(asked) => asked,
        Err(denial) => return Err((denial, None)),
    };
    let mut waiting = lane.flow.wait(&asked);
    let mut drain = agent.drain.clone();
    let phase = tokio::select! {
        phase = &mut waiting.answer => Some(phase.unwrap_or(Ok(Phase::Cancelled))),
        () = answer.closed() => None,
        () = drain.expired() => None,
    };
    drop(waiting);
    let phase = match phase {
        Some(phase) => phase,
        None => {
            lane.flow.withdraw(&asked, "the client went away").await;
            Ok(Phase::Cancelled)
        }
    };
    let name = Some(asked.name.clone());
    if let Err(denial) = lane.flow.refresh() {
        return Err((denial, name));
    }
    let current = lane.flow.decide_again(operation);
    let redeemed = lane.flow.redeem(&asked, phase, current, command).await;
    redeemed.map_err(|denial| (denial, name))
}
