//! What the leader's work shares: answers of the API server in time, and names with a number.

use std::time::Duration;

use tokio::time::timeout;

/// Longest wait for one answer of the API server.
const DEADLINE: Duration = Duration::from_secs(15);

/// Why the API server gave no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// It failed us.
    #[error("the API server: {0}")]
    Failed(#[from] kube::Error),
    /// It gave no answer in time.
    #[error("the API server gave no answer in time")]
    TimedOut,
}

pub(super) async fn in_time<T>(
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiError> {
    match timeout(DEADLINE, answer).await {
        Ok(answered) => Ok(answered?),
        Err(_) => Err(ApiError::TimedOut),
    }
}

/// The number after `prefix` in an object's name, if it is one, written as we write it.
pub(super) fn numbered(prefix: &str, name: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    let number: u64 = digits.parse().ok()?;
    (number > 0 && number.to_string() == digits).then_some(number)
}
