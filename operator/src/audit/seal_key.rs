//! The operator's own keys that evidence is sealed for, where the AuditStore names no recipients.
//!
//! One identity of age a line, the last of which is sealed for; the others open what was sealed for
//! them. With the auditors' own recipients none of them is used, and the operator reads nothing.

use std::sync::Arc;
use std::time::Duration;

use chaperone_crds::audit_store::NAMESPACE;
use chaperone_evidence::clock::SystemEntropy;
use chaperone_evidence::{Identity, Recipient};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use zeroize::Zeroizing;

use crate::cluster_secret::ClusterSecret;

/// Name of the Secret in the namespace of the evidence.
const NAME: &str = "chaperone-seal-key";
/// Its only key.
const ENTRY: &str = "seal.key";
/// How long they are used without asking again: a new one is sealed for that much later.
const KEPT: Duration = Duration::from_secs(10);
/// Most keys there are.
const MOST: usize = 64;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum SealKeyError {
    /// The API server failed us.
    #[error("secret {NAMESPACE}/{NAME} cannot be read or made: {0}")]
    Api(#[from] kube::Error),
    /// Somebody wrote something else into it.
    #[error(
        "secret {NAMESPACE}/{NAME} has no {ENTRY} with one identity of age a line; bring back the one \
         that was there, since nothing else opens what was sealed"
    )]
    Malformed,
    /// No randomness.
    #[error("the system gives no random bytes")]
    Random,
    /// More were asked for than there can be.
    #[error("there are {MOST} seal keys already, and no more are made")]
    TooMany,
}

/// The keys, read when they are needed.
pub struct SealKeys(ClusterSecret<Arc<Vec<Identity>>>);

impl std::fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKeys(…)")
    }
}

impl SealKeys {
    /// The keys in the namespace of the evidence.
    pub fn new(client: Client) -> Self {
        Self(ClusterSecret::new(client, NAMESPACE, NAME, ENTRY, KEPT).growing())
    }

    /// All of them, oldest first; the first is made if there is none.
    ///
    /// # Errors
    /// [`SealKeyError`].
    pub async fn get(&self) -> Result<Arc<Vec<Identity>>, SealKeyError> {
        let read = |secret| keys_of(&secret).map(Arc::new);
        self.0.get(|| one_more(&[]), read).await
    }

    /// Whom is sealed for.
    ///
    /// # Errors
    /// [`SealKeyError`].
    pub async fn recipient(&self) -> Result<Recipient, SealKeyError> {
        let keys = self.get().await?;
        let newest = keys.last().ok_or(SealKeyError::Malformed)?;
        Ok(newest.recipient())
    }

    /// Makes one more key, which is sealed for from now on.
    ///
    /// # Errors
    /// [`SealKeyError`], also where another replica was faster.
    pub async fn add(&self) -> Result<(), SealKeyError> {
        self.0.change(|secret| one_more(&keys_of(secret)?)).await
    }
}

/// The text of these keys and of a new one.
fn one_more(keys: &[Identity]) -> Result<ByteString, SealKeyError> {
    if keys.len() >= MOST {
        return Err(SealKeyError::TooMany);
    }
    let new = Identity::generate(&SystemEntropy).ok_or(SealKeyError::Random)?;
    let mut text = Zeroizing::new(String::new());
    for key in keys.iter().chain([&new]) {
        text.push_str(&key.to_text());
        text.push('\n');
    }
    Ok(ByteString(text.as_bytes().to_vec()))
}

fn keys_of(secret: &Secret) -> Result<Vec<Identity>, SealKeyError> {
    let text = secret.data.as_ref().and_then(|data| data.get(ENTRY));
    let text = text.and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
    let lines = text.unwrap_or_default().lines();
    let keys: Result<Vec<Identity>, _> = lines.map(Identity::parse).collect();
    keys.ok()
        .filter(|keys| (1..=MOST).contains(&keys.len()))
        .ok_or(SealKeyError::Malformed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::cluster_secret::secret;

    #[test]
    fn a_new_key_is_the_last_and_the_others_stay() {
        let first = one_more(&[]).unwrap();
        let one = keys_of(&secret(ENTRY, &first.0)).unwrap();
        let second = one_more(&one).unwrap();
        let two = keys_of(&secret(ENTRY, &second.0)).unwrap();
        assert_eq!(two.len(), 2);
        assert_eq!(two[0].recipient(), one[0].recipient());
        assert_ne!(two[1].recipient(), one[0].recipient());
        let many = vec![one[0].clone(); MOST];
        assert!(matches!(one_more(&many), Err(SealKeyError::TooMany)));
    }

    #[test]
    fn only_keys_are_taken_for_some() {
        let good = one_more(&[]).unwrap().0;
        for bad in [
            secret("key", &good),
            secret(ENTRY, b""),
            secret(ENTRY, b"\n"),
            secret(ENTRY, &good[1..]),
            secret(ENTRY, &[&good[..], b"age1nothing\n"].concat()),
            Secret::default(),
        ] {
            assert!(matches!(keys_of(&bad), Err(SealKeyError::Malformed)));
        }
    }
}
