//! The log key, which certifies the stores of pods and signs checkpoints.

use std::sync::Arc;
use std::time::Duration;

use chaperone_crds::audit_store::NAMESPACE;
use chaperone_evidence::audit::LogKey;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use zeroize::Zeroizing;

use crate::cluster_secret::ClusterSecret;

/// Name of the Secret in the namespace of the evidence.
const NAME: &str = "chaperone-log-key";
/// Its only key: PEM (PKCS #8).
const ENTRY: &str = "log.key";
/// How long it is used without asking again.
const KEPT: Duration = Duration::from_secs(60);

/// Why there is no log key.
#[derive(Debug, thiserror::Error)]
pub enum LogKeyError {
    /// The API server failed us.
    #[error("secret {NAMESPACE}/{NAME} cannot be read or made: {0}")]
    Api(#[from] kube::Error),
    /// Somebody wrote something else into it.
    #[error(
        "secret {NAMESPACE}/{NAME} has no {ENTRY} that is an Ed25519 key; bring back the one that \
         signed the log so far, since no other can go on with it"
    )]
    Malformed,
    /// No randomness.
    #[error("the system gives no random bytes")]
    Random,
}

/// The key, read when it is needed.
pub struct LogKeys(ClusterSecret<Arc<LogKey>>);

impl std::fmt::Debug for LogKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogKeys(…)")
    }
}

impl LogKeys {
    /// The key in the namespace of the evidence.
    pub fn new(client: Client) -> Self {
        Self(ClusterSecret::new(client, NAMESPACE, NAME, ENTRY, KEPT))
    }

    /// The key; made if it is not there.
    ///
    /// # Errors
    /// [`LogKeyError`].
    pub async fn get(&self) -> Result<Arc<LogKey>, LogKeyError> {
        let make = || {
            let pem = LogKey::generate().map_err(|_| LogKeyError::Random)?;
            Ok(ByteString(pem.as_bytes().to_vec()))
        };
        self.0
            .get(make, |secret| key_of(secret).map(Arc::new))
            .await
    }
}

fn key_of(secret: Secret) -> Result<LogKey, LogKeyError> {
    let mut data = secret.data.unwrap_or_default();
    let pem = data.remove(ENTRY).map(|bytes| Zeroizing::new(bytes.0));
    pem.as_deref()
        .and_then(|pem| std::str::from_utf8(pem).ok())
        .and_then(LogKey::from_pem)
        .ok_or(LogKeyError::Malformed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::cluster_secret::secret;

    #[test]
    fn only_a_key_is_taken_for_one() {
        let pem = LogKey::generate().unwrap();
        let key = key_of(secret(ENTRY, pem.as_bytes())).unwrap();
        assert_eq!(key.public(), LogKey::from_pem(&pem).unwrap().public());
        let cut = pem.trim_end().as_bytes();
        for bad in [
            secret("key", pem.as_bytes()),
            secret(ENTRY, b""),
            secret(ENTRY, cut),
            Secret::default(),
        ] {
            assert!(matches!(key_of(bad), Err(LogKeyError::Malformed)));
        }
    }
}
