//! What the leader's work shares: answers of the API server in time, and names with a number.

use std::collections::HashMap;
use std::time::Duration;

use kube::api::{DeleteParams, ListParams};
use kube::{Api, Resource, ResourceExt};
use tokio::time::timeout;

use super::ledger::Seen;
use super::sequencer::seen;

/// Objects of one page of metadata.
const PAGE: u32 = 500;
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

/// What is known of all objects of a kind without reading any.
pub(super) async fn metadata<K>(api: &Api<K>) -> Result<HashMap<String, Seen>, ApiError>
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let mut found = HashMap::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = in_time(api.list_metadata(&page)).await?;
        for object in list.items {
            found.insert(object.name_any(), seen(object.meta()));
        }
        match list.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            _ => return Ok(found),
        }
    }
}

/// Deletes an object; that it is gone already is no fault.
pub(super) async fn delete<K>(api: &Api<K>, name: &str) -> Result<(), ApiError>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    match in_time(api.delete(name, &DeleteParams::default())).await {
        Ok(_) => Ok(()),
        Err(ApiError::Failed(kube::Error::Api(status))) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// The number after `prefix` in an object's name, if it is one, written as we write it.
pub(super) fn numbered(prefix: &str, name: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    let number: u64 = digits.parse().ok()?;
    (number > 0 && number.to_string() == digits).then_some(number)
}
