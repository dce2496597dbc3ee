//! A key that all replicas share: one Secret for the whole cluster, made once by whichever needs it
//! first.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

/// Where the key is, and what was read last.
pub(crate) struct ClusterSecret<K> {
    api: Api<Secret>,
    name: &'static str,
    entry: &'static str,
    /// How long it is used without asking again.
    kept_for: Duration,
    /// Whether it never changes once it is made.
    immutable: bool,
    kept: Mutex<Option<(Instant, K)>>,
}

impl<K: Clone> ClusterSecret<K> {
    /// The key under `entry` of the Secret `name`. Nothing is asked yet.
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        name: &'static str,
        entry: &'static str,
        kept_for: Duration,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name,
            entry,
            kept_for,
            immutable: true,
            kept: Mutex::new(None),
        }
    }

    /// The same where something may be added to it later.
    pub(crate) fn growing(self) -> Self {
        Self {
            immutable: false,
            ..self
        }
    }

    /// The key as `read` understands the Secret; where there is none, of what `make` gives. While the
    /// API server gives no answer, what it said last holds.
    ///
    /// # Errors
    /// Those of `make` and `read`, and the API server's where nothing was read before.
    pub(crate) async fn get<E: From<kube::Error>>(
        &self,
        make: impl FnOnce() -> Result<ByteString, E>,
        read: impl FnOnce(Secret) -> Result<K, E>,
    ) -> Result<K, E> {
        let kept = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((at, key)) = &kept
            && at.elapsed() < self.kept_for
        {
            return Ok(key.clone());
        }
        let key = match self.secret(make).await {
            Ok(secret) => read(secret?)?,
            Err(error) => return kept.map(|(_, key)| key).ok_or_else(|| error.into()),
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some((Instant::now(), key.clone()));
        Ok(key)
    }

    /// Writes what `next` makes of the Secret, unless somebody else wrote it meanwhile.
    ///
    /// # Errors
    /// Those of `next`, and the API server's.
    pub(crate) async fn change<E: From<kube::Error>>(
        &self,
        next: impl FnOnce(&Secret) -> Result<ByteString, E>,
    ) -> Result<(), E> {
        let mut secret = self.api.get(self.name).await?;
        let key = next(&secret)?;
        secret.data = Some(BTreeMap::from([(self.entry.to_owned(), key)]));
        let params = PostParams::default();
        self.api.replace(self.name, &params, &secret).await?;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// The Secret, or why none can be made; outside of that, the API server's error.
    async fn secret<E>(
        &self,
        make: impl FnOnce() -> Result<ByteString, E>,
    ) -> Result<Result<Secret, E>, kube::Error> {
        if let Some(secret) = self.api.get_opt(self.name).await? {
            return Ok(Ok(secret));
        }
        let key = match make() {
            Ok(key) => key,
            Err(error) => return Ok(Err(error)),
        };
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(self.name.to_owned()),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(self.entry.to_owned(), key)])),
            immutable: self.immutable.then_some(true),
            ..Secret::default()
        };
        match self.api.create(&PostParams::default(), &secret).await {
            // Another replica was faster: its key is the key.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                self.api.get(self.name).await.map(Ok)
            }
            made => made.map(Ok),
        }
    }
}

/// One with this entry.
#[cfg(test)]
pub(crate) fn secret(entry: &str, value: &[u8]) -> Secret {
    Secret {
        data: Some([(entry.to_owned(), ByteString(value.to_vec()))].into()),
        ..Secret::default()
    }
}
