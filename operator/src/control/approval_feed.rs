//! Every ApprovalRequest as the API server last showed it, for waiters. What is decided on is
//! always read anew.

use std::sync::Arc;

use chaperone_crds::ApprovalRequest;
use futures::StreamExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A watched copy.
#[derive(Clone)]
pub(super) struct ApprovalFeed {
    store: Store<DeserializeGuard<ApprovalRequest>>,
    changes: watch::Receiver<u64>,
}

impl ApprovalFeed {
    /// Starts the watch; it runs in `tasks` for as long as those are kept.
    pub(super) fn watch(client: &Client, tasks: &mut JoinSet<()>) -> Self {
        let (store, writer) = reflector::store();
        let (sender, changes) = watch::channel(0_u64);
        // One object that is not understood must not keep the others from being seen.
        let api: Api<DeserializeGuard<ApprovalRequest>> = Api::all(client.clone());
        let stream = watcher(api, watcher::Config::default())
            .default_backoff()
            .modify(|object| object.meta_mut().managed_fields = None)
            .reflect(writer);
        tasks.spawn(async move {
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                match event {
                    Ok(_) => sender.send_modify(|count| *count = count.wrapping_add(1)),
                    Err(error) => {
                        tracing::warn!(%error, "watching ApprovalRequests failed, trying again");
                    }
                }
            }
        });
        Self { store, changes }
    }

    /// The request as it was seen last; `None` if it is not there, not yet, or not understood.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<ApprovalRequest> {
        let found: Arc<DeserializeGuard<ApprovalRequest>> =
            self.store.get(&ObjectRef::new(name).within(namespace))?;
        found.0.as_ref().ok().cloned()
    }

    /// Moves with every event.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}
