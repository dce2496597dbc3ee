//! Pauses between attempts.

use std::time::Duration;

use tokio::time::sleep;

/// The first of them.
const FIRST: Duration = Duration::from_millis(200);

/// Pauses that grow, each between half of its length and the whole: many that lost the same server do
/// not come back as one.
#[derive(Debug)]
pub(crate) struct Pause {
    next: Duration,
    longest: Duration,
}

impl Pause {
    /// The first of pauses that grow up to this.
    pub(crate) fn up_to(longest: Duration) -> Pause {
        Pause {
            next: FIRST.min(longest),
            longest,
        }
    }

    /// Waits. Cancel-safe.
    pub(crate) async fn wait(&mut self) {
        let mut random = [0_u8; 1];
        // Without randomness the pause is whole, which is as good for one.
        let part = match aws_lc_rs::rand::fill(&mut random) {
            Ok(()) => u32::from(random.first().copied().unwrap_or_default()),
            Err(_) => 255,
        };
        let half = self.next / 2;
        sleep(half + half * part / 255).await;
        self.next = (self.next * 2).min(self.longest);
    }
}
