//! The key of command digests and of the seals of approval requests.

use std::time::Duration;

use chaperone_control::SecretBytes;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;

use crate::cluster_secret::ClusterSecret;

/// Name of the Secret in the operator's namespace.
pub const NAME: &str = "chaperone-digest-key";
/// Its only key.
const ENTRY: &str = "key";
/// Bytes of the key (RFC 2104 advises the hash's length).
const LENGTH: usize = 32;
/// How long it is used without asking again: whoever replaces it voids all grants.
const KEPT: Duration = Duration::from_secs(30);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum DigestKeyError {
    /// The API server failed us.
    #[error("secret {NAME} cannot be read or made: {0}")]
    Api(#[from] kube::Error),
    /// Somebody wrote something else into it.
    #[error(
        "secret {NAME} has no {ENTRY} of {LENGTH} bytes; delete it, which voids all approvals that \
         were not used, and a new one is made"
    )]
    Malformed,
    /// No randomness.
    #[error("the system gives no random bytes")]
    Random,
}

/// The key, read when it is needed.
pub struct DigestKey(ClusterSecret<SecretBytes>);

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DigestKey(…)")
    }
}

impl DigestKey {
    /// The key in the operator's own namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self(ClusterSecret::new(client, namespace, NAME, ENTRY, KEPT))
    }

    /// The key; made if it is not there.
    ///
    /// # Errors
    /// [`DigestKeyError`].
    pub async fn get(&self) -> Result<SecretBytes, DigestKeyError> {
        let make = || {
            let mut key = vec![0; LENGTH];
            aws_lc_rs::rand::fill(&mut key).map_err(|_| DigestKeyError::Random)?;
            Ok(ByteString(key))
        };
        self.0.get(make, key_of).await
    }
}

fn key_of(secret: Secret) -> Result<SecretBytes, DigestKeyError> {
    let mut data = secret.data.unwrap_or_default();
    let key = data.remove(ENTRY).map(|bytes| SecretBytes::new(bytes.0));
    key.filter(|key| key.expose().len() == LENGTH)
        .ok_or(DigestKeyError::Malformed)
}
