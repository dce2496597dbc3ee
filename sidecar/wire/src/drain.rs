//! The one signal that tells every connection to finish, and until when.

use tokio::sync::watch;
use tokio::time::Instant;

/// Starts a drain. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DrainController(watch::Sender<Option<Instant>>);

/// Hears of a drain. Cheap to clone, one a connection.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<Option<Instant>>);

/// A controller and its first listener.
pub fn drain() -> (DrainController, Drain) {
    let (sender, receiver) = watch::channel(None);
    (DrainController(sender), Drain(receiver))
}

impl DrainController {
    /// Asks everyone to finish by `deadline`. A second call can only bring the deadline forward.
    pub fn start(&self, deadline: Instant) {
        self.0.send_if_modified(|current| match current {
            Some(earlier) if *earlier <= deadline => false,
            _ => {
                *current = Some(deadline);
                true
            }
        });
    }

    /// One more listener.
    pub fn subscribe(&self) -> Drain {
        Drain(self.0.subscribe())
    }
}

impl Drain {
    /// A drain that never starts, for callers that have none.
    pub fn never() -> Drain {
        drain().1
    }

    /// The deadline, once a drain has started.
    pub fn deadline(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Whether a drain has started.
    pub fn is_draining(&self) -> bool {
        self.deadline().is_some()
    }

    /// Waits for a drain to start and gives its deadline. Cancel-safe; waits for ever when the
    /// controller is gone without having started one.
    pub async fn started(&mut self) -> Instant {
        loop {
            if let Some(deadline) = *self.0.borrow_and_update() {
                return deadline;
            }
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until a drain's deadline has passed, following it when it is brought forward.
    /// Cancel-safe.
    pub async fn expired(&mut self) {
        loop {
            let deadline = self.started().await;
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                changed = self.0.changed() => {
                    if changed.is_err() {
                        tokio::time::sleep_until(deadline).await;
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_drain_reaches_everyone_and_only_comes_forward() {
        let (controller, mut first) = drain();
        let mut second = controller.subscribe();
        assert!(!first.is_draining());
        let now = Instant::now();
        controller.start(now + Duration::from_secs(60));
        assert_eq!(first.started().await, now + Duration::from_secs(60));
        let waiting = tokio::spawn(async move {
            second.expired().await;
            Instant::now()
        });
        tokio::task::yield_now().await;
        controller.start(now + Duration::from_secs(5));
        controller.start(now + Duration::from_secs(90));
        assert_eq!(first.deadline(), Some(now + Duration::from_secs(5)));
        assert_eq!(waiting.await.ok(), Some(now + Duration::from_secs(5)));
    }
}
