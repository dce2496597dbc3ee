//! Time and randomness, injected so that tests decide both.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;

/// Where times in records come from.
pub trait Clock: Send + Sync {
    /// Nanoseconds since the Unix epoch. May step either way.
    fn wall_ns(&self) -> u64;
    /// Nanoseconds since some fixed point. Never steps back.
    fn monotonic_ns(&self) -> u64;
}

/// Where ids and keys come from.
pub trait Entropy: Send + Sync {
    /// Fills `out`; false where no randomness is to be had.
    fn fill(&self, out: &mut [u8]) -> bool;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock {
            origin: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn wall_ns(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The random number generator of aws-lc.
#[derive(Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, out: &mut [u8]) -> bool {
        rand::fill(out).is_ok()
    }
}

/// Everything a recorder takes from outside.
#[derive(Clone)]
pub struct Environment {
    /// Times.
    pub clock: Arc<dyn Clock>,
    /// Ids and keys.
    pub entropy: Arc<dyn Entropy>,
    /// Files.
    pub disk: Arc<dyn crate::disk::Disk>,
}

impl Environment {
    /// The machine's own.
    pub fn system() -> Environment {
        Environment {
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::new(SystemEntropy),
            disk: Arc::new(crate::disk::RealDisk),
        }
    }
}
