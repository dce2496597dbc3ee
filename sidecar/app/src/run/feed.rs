//! Keeps the sidecar told: attaches, follows the stream, and begins again when either is lost.
//!
//! ```text
//! attach ─► stream ─┬ Snapshot, Heartbeat ─► updates
//!   ▲               ├ silence, end, error ─► stream again, after a pause that grows
//!   └───────────────┴ refused, or the token was replaced
//! ```

use std::time::Duration;

use chaperone_approvals::ApiError;
use chaperone_control::{AttachAnswer, HEARTBEAT_SECONDS, Snapshot, StreamEvent};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::control::{Client, Lines};
use crate::pause::Pause;

/// Silence longer than this is a stream that is gone.
const SILENCE: Duration = Duration::from_secs(2 * HEARTBEAT_SECONDS);
/// How often the token file is looked at.
const TOKEN_LOOK: Duration = Duration::from_secs(5);
/// Longest pause before another attempt.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Between two questions for keys.
const KEYS_PAUSE: Duration = Duration::from_secs(1);

/// What the operator says.
#[derive(Debug)]
pub(crate) enum Update {
    /// Attached anew.
    Attached(Box<AttachAnswer>),
    /// What applies from now on.
    Snapshot(Box<Snapshot>),
    /// What applies does so until then.
    Valid(Timestamp),
}

/// Attaches, however often it takes. Cancel-safe.
pub(crate) async fn attach(client: &Client, mut refused: impl FnMut(&ApiError)) -> AttachAnswer {
    let mut pause = Pause::up_to(LONGEST_PAUSE);
    loop {
        match client.attach().await {
            Ok(answer) => return answer,
            Err(error) => {
                tracing::warn!("attaching to the operator: {error}");
                refused(&error);
            }
        }
        pause.wait().await;
    }
}

/// Follows the operator until nobody takes its updates any more.
pub(crate) async fn follow(client: Client, mut generation: u64, updates: mpsc::Sender<Update>) {
    let mut pause = Pause::up_to(LONGEST_PAUSE);
    loop {
        let begun = Instant::now();
        match once(&client, &mut generation, &updates).await {
            Ended::Closed => return,
            Ended::Rotated => {
                tracing::info!("the token was replaced; attaching again");
                if !attach_again(&client, &mut generation, &updates).await {
                    return;
                }
            }
            Ended::Failed(ApiError::Refused(refusal)) => {
                let (reason, message) = (refusal.reason, refusal.message);
                tracing::warn!(reason, "the operator's stream was refused: {message}");
                pause.wait().await;
                if !attach_again(&client, &mut generation, &updates).await {
                    return;
                }
            }
            Ended::Failed(error) => {
                tracing::warn!("the operator's stream ended: {error}");
                if begun.elapsed() > SILENCE {
                    pause = Pause::up_to(LONGEST_PAUSE);
                }
                pause.wait().await;
            }
        }
    }
}

/// Asks the operator for keys that tokens need, one provider after another and not in a rush. They
/// come by the stream; a question that fails is asked again by the next such token.
pub(crate) async fn ask_for_keys(client: Client, mut asked: mpsc::Receiver<String>) {
    while let Some(provider) = asked.recv().await {
        if let Err(error) = client.want_keys(&provider).await {
            tracing::warn!("keys of IdentityProvider {provider} were not asked for: {error}");
        }
        sleep(KEYS_PAUSE).await;
    }
}

async fn attach_again(
    client: &Client,
    generation: &mut u64,
    updates: &mpsc::Sender<Update>,
) -> bool {
    let answer = tokio::select! {
        answer = attach(client, |_| {}) => answer,
        () = updates.closed() => return false,
    };
    *generation = answer.snapshot.generation;
    let update = Update::Attached(Box::new(answer));
    updates.send(update).await.is_ok()
}

/// Why one stream is over.
enum Ended {
    Closed,
    Rotated,
    Failed(ApiError),
}

async fn once(client: &Client, generation: &mut u64, updates: &mpsc::Sender<Update>) -> Ended {
    let token = match client.token() {
        Ok(token) => token,
        Err(error) => return Ended::Failed(error),
    };
    let mut lines = match client.stream(*generation).await {
        Ok(lines) => lines,
        Err(error) => return Ended::Failed(error),
    };
    let mut look = tokio::time::interval(TOKEN_LOOK);
    let mut heard = Instant::now();
    loop {
        let event = tokio::select! {
            () = updates.closed() => return Ended::Closed,
            _ = look.tick() => {
                // A file that cannot be read for a moment is no new token.
                if client.token().is_ok_and(|now| !now.is(&token)) {
                    return Ended::Rotated;
                }
                continue;
            }
            event = next(&mut lines, heard) => event,
        };
        heard = Instant::now();
        let update = match event {
            Err(error) => return Ended::Failed(error),
            Ok(StreamEvent::Snapshot(snapshot)) => {
                *generation = snapshot.generation;
                Update::Snapshot(snapshot)
            }
            Ok(StreamEvent::Heartbeat {
                generation: theirs,
                valid_until,
            }) if theirs == *generation => Update::Valid(valid_until),
            Ok(StreamEvent::Heartbeat { .. }) => {
                // It believes that we have another one: asked again, it sends what we lack.
                let why = "it counts on a snapshot that did not arrive";
                return Ended::Failed(ApiError::Unreachable(why.to_owned()));
            }
        };
        if updates.send(update).await.is_err() {
            return Ended::Closed;
        }
    }
}

/// The next event. `Lines::next` keeps what it has read of a line when it is dropped.
async fn next(lines: &mut Lines, heard: Instant) -> Result<StreamEvent, ApiError> {
    let left = SILENCE.saturating_sub(heard.elapsed());
    match timeout(left, lines.next()).await {
        Ok(Ok(Some(event))) => Ok(event),
        Ok(Ok(None)) => Err(ApiError::Unreachable("it closed the stream".to_owned())),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ApiError::Unreachable(format!(
            "it was silent for {} s",
            SILENCE.as_secs()
        ))),
    }
}
