//! A Connection that appears, or begins to admit a namespace: workloads whose pods were refused
//! for it are touched, so that their controllers try again at once instead of in minutes.
//!
//! ```text
//! dereference: what became usable since the last look ─► build: who is short of pods for it
//!   ─► apply: annotation chaperone.dev/retry
//! ```

mod apply;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chaperone_crds::{Connection, ConnectionSpec};
use k8s_openapi::api::apps::v1::{DaemonSet, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use tokio::time::sleep;

use super::{ReconcileError, Shared};

/// Pauses before the looks after a change: the webhooks of all replicas must have seen it too,
/// and a pod may have been refused between.
const LOOKS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// Pause after a look that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(15);

/// Looks that may fail before their workloads are left to their controllers' own back-off.
const ATTEMPTS: usize = 4;

/// What workloads may newly use.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Usable {
    /// Connections that appeared or changed, as (namespace, name).
    pub(crate) connections: BTreeSet<(String, String)>,
    /// Namespaces whose labels changed.
    pub(crate) namespaces: BTreeSet<String>,
}

impl Usable {
    fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.namespaces.is_empty()
    }
}

/// What was there at the last look.
#[derive(Default)]
struct Seen {
    connections: BTreeMap<(String, String), ConnectionSpec>,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

/// Runs the controller.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut changes = shared.context.stores.rules();
    let mut seen = Seen::default();
    loop {
        changes.borrow_and_update();
        let usable = seen.look(&shared);
        if !usable.is_empty() {
            for pause in LOOKS {
                sleep(pause).await;
                for _ in 0..ATTEMPTS {
                    let Err(error) = retry(&shared, &usable).await else {
                        break;
                    };
                    tracing::warn!(%error, "workloads cannot be tried again yet");
                    let labels = ["workload_retry", error.outcome()];
                    shared.reconciles.with_label_values(&labels).inc();
                    sleep(AFTER_FAILURE).await;
                }
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn retry(shared: &Shared, usable: &Usable) -> Result<(), ReconcileError> {
    let touched = apply::touch::<ReplicaSet>(shared, usable).await?
        + apply::touch::<StatefulSet>(shared, usable).await?
        + apply::touch::<DaemonSet>(shared, usable).await?
        + apply::touch::<Job>(shared, usable).await?;
    let counter = shared
        .reconciles
        .with_label_values(&["workload_retry", "Touched"]);
    counter.inc_by(touched);
    Ok(())
}

impl Seen {
    /// What became usable since the last look. Everything is new to a new leader: pods may have
    /// been refused while there was none.
    fn look(&mut self, shared: &Shared) -> Usable {
        let stores = &shared.context.stores;
        let connections = stores
            .connections()
            .into_iter()
            .filter_map(|found| {
                let connection: &Connection = found.0.as_ref().ok()?;
                let name = (connection.namespace()?, connection.name_any());
                Some((name, connection.spec.clone()))
            })
            .collect();
        let namespaces = stores
            .namespaces
            .state()
            .into_iter()
            .map(|namespace| (namespace.name_any(), namespace.labels().clone()))
            .collect();
        self.take(connections, namespaces)
    }

    fn take(
        &mut self,
        connections: BTreeMap<(String, String), ConnectionSpec>,
        namespaces: BTreeMap<String, BTreeMap<String, String>>,
    ) -> Usable {
        let usable = Usable {
            connections: connections
                .iter()
                .filter(|(name, spec)| self.connections.get(*name) != Some(*spec))
                .map(|(name, _)| name.clone())
                .collect(),
            // A namespace that is new has no pods that were refused.
            namespaces: namespaces
                .iter()
                .filter(|(name, labels)| {
                    let before = self.namespaces.get(*name);
                    before.is_some_and(|before| before != *labels)
                })
                .map(|(name, _)| name.clone())
                .collect(),
        };
        self.connections = connections;
        self.namespaces = namespaces;
        usable
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn spec(port: u16) -> ConnectionSpec {
        let text = format!(
            "{{postgres: {{host: db, port: {port}, credential: {{secret: {{name: s}}}}}}}}"
        );
        serde_saphyr::from_str(&text).unwrap()
    }

    #[test]
    fn what_appeared_or_changed_is_usable_once() {
        let name = ("databases".to_owned(), "orders-db".to_owned());
        let shop = |team: &str| {
            let labels = BTreeMap::from([("team".to_owned(), team.to_owned())]);
            BTreeMap::from([("shop".to_owned(), labels)])
        };
        let mut seen = Seen::default();
        let first = seen.take(BTreeMap::from([(name.clone(), spec(1))]), shop("a"));
        assert_eq!(first.connections, BTreeSet::from([name.clone()]));
        assert!(first.namespaces.is_empty());
        let same = seen.take(BTreeMap::from([(name.clone(), spec(1))]), shop("a"));
        assert!(same.is_empty());
        let changed = seen.take(BTreeMap::from([(name.clone(), spec(2))]), shop("b"));
        assert_eq!(changed.connections.len(), 1);
        assert_eq!(changed.namespaces, BTreeSet::from(["shop".to_owned()]));
        assert!(seen.take(BTreeMap::new(), shop("b")).is_empty());
        let back = seen.take(BTreeMap::from([(name, spec(2))]), shop("b"));
        assert_eq!(back.connections.len(), 1);
    }
}
