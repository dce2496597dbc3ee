//! What every part of the operator shares: the client, the stores that watches fill, settings.
//!
//! ```text
//! watches ─► Stores ─► webhook, controllers, control API     `changes` grows with every event
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use chaperone_control::ProviderSnapshot;
use chaperone_crds::{
    AccessPolicy, AuditSink, AuditStore, Connection, IdentityProvider, audit_store,
};
use chaperone_evidence::Recipient;
use chaperone_identity::{Fetcher, Keeper, Known};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, PartialObjectMeta};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cli::Config;
use crate::metrics::Metrics;
use crate::target;

/// Shared by every part; cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Settings.
    pub config: Arc<Config>,
    /// What the watches saw last.
    pub stores: Stores,
    /// What is counted.
    pub metrics: Metrics,
    /// PEM of every CA that the control API may be certified by, the newest first; empty until
    /// the serving certificates are there. A sidecar may have been given any subset of them.
    pub authorities: watch::Receiver<Arc<Vec<String>>>,
    /// Whether this replica leads. Stays what it was when its sender is gone: check on change.
    pub leading: watch::Receiver<bool>,
}

/// What the watches saw last.
#[derive(Clone)]
pub struct Stores {
    connections: Store<DeserializeGuard<Connection>>,
    policies: Store<DeserializeGuard<AccessPolicy>>,
    audit_stores: Store<DeserializeGuard<AuditStore>>,
    providers: Store<DeserializeGuard<IdentityProvider>>,
    /// Keys of issuers; every replica fetches them, since every replica hands them out.
    pub keys: Keeper,
    /// Metadata of all Namespaces.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Metadata of all Pods.
    pub pods: Store<PartialObjectMeta<Pod>>,
    changes: watch::Receiver<u64>,
    rules: watch::Receiver<u64>,
    filled: watch::Receiver<bool>,
    trouble: watch::Receiver<String>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stores").finish_non_exhaustive()
    }
}

impl Stores {
    /// Starts the watches; they run in `tasks` for as long as those are kept.
    pub fn watch(client: &Client, allow_special: bool, tasks: &mut JoinSet<()>) -> Stores {
        let (changed, changes) = watch::channel(0);
        let (ruled, rules) = watch::channel(0);
        let (failed, trouble) = watch::channel(String::new());
        // Pods change all the time, and what they are told rarely does.
        let (pod, rule) = (vec![changed.clone()], vec![changed, ruled]);
        let keys = Keeper::start(Fetcher::new(target::special(allow_special)));
        let config = watcher::Config::default;
        let (connections, writer) = reflector::store();
        let stream = watcher(Api::all(client.clone()), config());
        tasks.spawn(fill(writer, stream, rule.clone(), failed.clone()));
        let (policies, writer) = reflector::store();
        let stream = watcher(Api::all(client.clone()), config());
        tasks.spawn(fill(writer, stream, rule.clone(), failed.clone()));
        let (providers, writer) = reflector::store();
        let stream = watcher(Api::all(client.clone()), config());
        tasks.spawn(fill(writer, stream, rule.clone(), failed.clone()));
        tasks.spawn(keep_keys(
            providers.clone(),
            keys.clone(),
            rules.clone(),
            rule.clone(),
        ));
        let (namespaces, writer) = reflector::store();
        let stream = watcher(Api::all(client.clone()), config());
        tasks.spawn(fill(writer, stream, rule, failed.clone()));
        let (pods, writer) = reflector::store();
        let stream = watcher(Api::all(client.clone()), config());
        tasks.spawn(fill(writer, stream, pod.clone(), failed.clone()));
        let (audit_stores, writer) = reflector::store();
        let stream = watcher(Api::all(client.clone()), config());
        tasks.spawn(fill(writer, stream, pod, failed.clone()));
        let (sender, filled) = watch::channel(false);
        let stores = Stores {
            connections,
            policies,
            audit_stores,
            providers,
            keys,
            namespaces,
            pods,
            changes,
            rules,
            filled,
            trouble,
        };
        let (connections, policies) = (stores.connections.clone(), stores.policies.clone());
        let providers = stores.providers.clone();
        let (namespaces, pods) = (stores.namespaces.clone(), stores.pods.clone());
        let audit_stores = stores.audit_stores.clone();
        // A store wakes only the last that waits for it, so one waits for all.
        tasks.spawn(async move {
            // A writer is dropped only when the operator ends.
            let _ = connections.wait_until_ready().await;
            let _ = policies.wait_until_ready().await;
            let _ = providers.wait_until_ready().await;
            let _ = namespaces.wait_until_ready().await;
            let _ = pods.wait_until_ready().await;
            // Until it is known nobody can say whom evidence is to be sealed for.
            let _ = audit_stores.wait_until_ready().await;
            sender.send_replace(true);
            std::future::pending().await
        });
        stores
    }

    /// Returns once every store has been filled for the first time.
    pub async fn ready(&self) {
        let _ = self.filled.clone().wait_for(|filled| *filled).await;
    }

    /// What kept a watch from going on last; empty while nothing has.
    pub fn trouble(&self) -> watch::Receiver<String> {
        self.trouble.clone()
    }

    /// A number that grows with every event of any store.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// The same without the events of Pods.
    pub fn rules(&self) -> watch::Receiver<u64> {
        self.rules.clone()
    }

    /// The Connection of that name, if it can be read.
    pub fn connection(&self, namespace: &str, name: &str) -> Option<Arc<Connection>> {
        let found = self
            .connections
            .get(&ObjectRef::new(name).within(namespace))?;
        found.0.as_ref().ok().cloned().map(Arc::new)
    }

    /// All Connections. One that this build cannot read is there as an error, and keeps none of
    /// the others from being seen.
    pub fn connections(&self) -> Vec<Arc<DeserializeGuard<Connection>>> {
        self.connections.state()
    }

    /// All AccessPolicies, likewise.
    pub fn policies(&self) -> Vec<Arc<DeserializeGuard<AccessPolicy>>> {
        self.policies.state()
    }

    /// The IdentityProvider of that name, if it can be read, with the keys that are known.
    pub fn provider(&self, name: &str) -> Option<ProviderSnapshot> {
        let found = self.providers.get(&ObjectRef::new(name))?;
        let spec = found.0.as_ref().ok()?.spec.clone();
        let keys = match spec.jwks.discovery {
            true => self.known_keys(name).and_then(|known| known.keys),
            false => None,
        };
        Some(ProviderSnapshot {
            name: name.to_owned(),
            spec,
            keys,
        })
    }

    /// What is known of the keys of this IdentityProvider; `None` until they were tried.
    pub fn known_keys(&self, name: &str) -> Option<Known> {
        self.keys.known().borrow().get(name).cloned()
    }

    /// The AuditStore, if it is there and can be read.
    pub fn audit_store(&self) -> Option<AuditStore> {
        let found = self.audit_stores.get(&ObjectRef::new(audit_store::NAME))?;
        found.0.as_ref().ok().cloned()
    }

    /// Whom the AuditStore has evidence sealed for: nobody where it is not there yet, or names none.
    ///
    /// # Errors
    /// In words, where it cannot be understood.
    pub fn seal_for(&self) -> Result<Vec<Recipient>, String> {
        let Some(found) = self.audit_stores.get(&ObjectRef::new(audit_store::NAME)) else {
            return Ok(Vec::new());
        };
        let store = found
            .0
            .as_ref()
            .map_err(|error| format!("the AuditStore cannot be read: {}", error.error))?;
        let recipients = store.spec.seal.iter().flat_map(|seal| &seal.recipients);
        recipients
            .map(|text| {
                Recipient::parse(text).map_err(|error| {
                    format!("spec.seal.recipients of the AuditStore has {text}, and {error}")
                })
            })
            .collect()
    }

    /// Where events go: nowhere where there is no AuditStore yet; `None` where it cannot be read.
    pub fn sinks(&self) -> Option<Vec<AuditSink>> {
        let Some(found) = self.audit_stores.get(&ObjectRef::new(audit_store::NAME)) else {
            return Some(Vec::new());
        };
        Some(found.0.as_ref().ok()?.spec.sinks.clone())
    }

    /// The Namespace's labels; `None` if it is not known.
    pub fn namespace_labels(&self, name: &str) -> Option<BTreeMap<String, String>> {
        self.namespaces
            .get(&ObjectRef::new(name))
            .map(|namespace| namespace.labels().clone())
    }
}

/// Tells the keeper which providers there are, and everybody else when keys come.
async fn keep_keys(
    providers: Store<DeserializeGuard<IdentityProvider>>,
    keeper: Keeper,
    mut rules: watch::Receiver<u64>,
    changes: Vec<watch::Sender<u64>>,
) {
    let mut known = keeper.known();
    loop {
        let wanted = providers.state().into_iter().filter_map(|found| {
            let provider = found.0.as_ref().ok()?;
            Some((provider.name_any(), provider.spec.clone()))
        });
        keeper.want(wanted.collect());
        tokio::select! {
            changed = rules.changed() => if changed.is_err() {
                return;
            },
            changed = known.changed() => {
                if changed.is_err() {
                    return;
                }
                for change in &changes {
                    change.send_modify(|count| *count = count.wrapping_add(1));
                }
            }
        }
    }
}

/// An error with what it comes from: the outermost alone says little of a certificate.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// Keeps one store like the API server has it. Errors are retried with a growing pause.
async fn fill<K>(
    writer: reflector::store::Writer<K>,
    stream: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    changes: Vec<watch::Sender<u64>>,
    failed: watch::Sender<String>,
) where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let stream = stream
        .default_backoff()
        .modify(|object| object.meta_mut().managed_fields = None)
        .reflect(writer);
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            // Pages of a list become visible together, when it is done.
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
            Ok(_) => {
                for changed in &changes {
                    changed.send_modify(|count| *count = count.wrapping_add(1));
                }
            }
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), %error, "watch failed, trying again");
                failed.send_replace(causes(&error));
            }
        }
    }
}
