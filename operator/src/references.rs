//! What Connections refer to: Secrets and ConfigMaps, read by `get`, kept for a short while.
//!
//! The operator watches no Secret: it may only `get` those in the namespaces that the chart names.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chaperone_control::SecretBytes;
use chaperone_crds::{audit_sink, audit_store};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use tokio::time::timeout;

use crate::cli::Config;

/// How long what was read is used without asking again.
const KEPT: Duration = Duration::from_secs(20);
/// How long what was read is used while the API server gives no answer.
const KEPT_WITHOUT_ANSWER: Duration = Duration::from_secs(3600);
/// Most objects kept; past it all are forgotten.
const MOST_KEPT: usize = 8 * 1024;
/// Longest wait for one object.
const DEADLINE: Duration = Duration::from_secs(5);

/// A kind that can be referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

impl Kind {
    /// As Kubernetes calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Secret => "Secret",
            Kind::ConfigMap => "ConfigMap",
        }
    }
}

/// One object that is referred to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Reference {
    /// What sinks authenticate with: the one Secret outside the namespaces of Connections.
    pub fn sinks() -> Reference {
        Reference {
            kind: Kind::Secret,
            namespace: audit_store::NAMESPACE.to_owned(),
            name: audit_sink::SECRET.to_owned(),
        }
    }
}

/// The data of a Secret or ConfigMap.
pub type Data = BTreeMap<String, SecretBytes>;

/// Why there is no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// There is no such object.
    NotFound,
    /// The operator may not read it.
    NotPermitted,
    /// The API server gave no answer.
    Unavailable,
}

/// What was read.
pub type Read = Result<Arc<Data>, Missing>;

/// Reads objects, and keeps them for a short while. Clones share what is kept.
#[derive(Clone)]
pub struct References {
    client: Client,
    config: Arc<Config>,
    kept: Arc<Mutex<HashMap<Reference, (Instant, Read)>>>,
}

impl std::fmt::Debug for References {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("References").finish_non_exhaustive()
    }
}

impl References {
    /// A reader that knows nothing yet.
    pub fn new(client: Client, config: Arc<Config>) -> Self {
        Self {
            client,
            config,
            kept: Arc::default(),
        }
    }

    /// Reads all of these.
    pub async fn read(&self, wanted: Vec<Reference>) -> BTreeMap<Reference, Read> {
        let mut found = BTreeMap::new();
        for reference in wanted {
            if let Entry::Vacant(place) = found.entry(reference) {
                let read = self.read_one(place.key()).await;
                place.insert(read);
            }
        }
        found
    }

    async fn read_one(&self, reference: &Reference) -> Read {
        let known = *reference == Reference::sinks();
        if !known && !self.config.may_read_secrets_of(&reference.namespace) {
            return Err(Missing::NotPermitted);
        }
        let kept = self.remembered(reference);
        if let Some((age, read)) = &kept
            && *age < KEPT
        {
            return read.clone();
        }
        let read = match timeout(DEADLINE, self.get(reference)).await {
            Ok(Ok(Some(data))) => Ok(Arc::new(data)),
            Ok(Ok(None)) => Err(Missing::NotFound),
            Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
                Err(Missing::NotPermitted)
            }
            failed => {
                if let Ok(Err(error)) = failed {
                    tracing::warn!(?reference, %error, "a reference cannot be read");
                }
                // A pause of the API server must not cut sessions whose credential still holds.
                return match kept {
                    Some((age, read)) if age < KEPT_WITHOUT_ANSWER => read,
                    _ => Err(Missing::Unavailable),
                };
            }
        };
        self.remember(reference, &read);
        read
    }

    async fn get(&self, reference: &Reference) -> kube::Result<Option<Data>> {
        let (client, namespace, name) =
            (self.client.clone(), &reference.namespace, &reference.name);
        match reference.kind {
            Kind::Secret => {
                let api: Api<Secret> = Api::namespaced(client, namespace);
                let found = api.get_opt(name).await?;
                Ok(found.map(|secret| {
                    let data = secret.data.unwrap_or_default();
                    data.into_iter()
                        .map(|(key, value)| (key, SecretBytes::new(value.0)))
                        .collect()
                }))
            }
            Kind::ConfigMap => {
                let api: Api<ConfigMap> = Api::namespaced(client, namespace);
                let found = api.get_opt(name).await?;
                Ok(found.map(|map| {
                    let data = map.data.unwrap_or_default();
                    data.into_iter()
                        .map(|(key, value)| (key, SecretBytes::new(value.into_bytes())))
                        .collect()
                }))
            }
        }
    }

    fn remembered(&self, reference: &Reference) -> Option<(Duration, Read)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, read) = kept.get(reference)?;
        Some((at.elapsed(), read.clone()))
    }

    fn remember(&self, reference: &Reference, read: &Read) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.retain(|_, (at, _)| at.elapsed() < KEPT);
        }
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(reference.clone(), (Instant::now(), read.clone()));
    }
}
