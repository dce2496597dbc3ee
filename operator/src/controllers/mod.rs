//! Controllers: what the resources of `chaperone.dev` say about themselves. Only the leader runs
//! them; nothing that a sidecar is told depends on their status.
//!
//! Each folder has the same steps where they are more than a line:
//!
//! ```text
//! dereference ─► validate ─► build ─► apply ─► status
//! ```

pub mod access_policy;
pub mod approval_request;
mod backoff;
pub(crate) mod conditions;
pub mod connection;
mod error;
pub(crate) mod events;
pub mod identity_provider;
pub(crate) mod status;
pub mod unseal_request;
pub mod workload_retry;
mod workloads;

use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config as ControllerConfig};
use kube::runtime::{Controller, watcher};
use kube::{Api, Resource};
use prometheus::{IntCounterVec, Opts};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::sleep;

pub use error::ReconcileError;

use crate::audit::Unsealer;
use crate::context::Context;
use crate::digest_key::DigestKey;
use crate::references::References;
use backoff::Backoff;
use events::Events;
use workloads::Accounts;

/// Objects of one kind that are looked at at once.
const AT_ONCE: u16 = 8;
/// Changes of other resources that come together make one look.
const TOGETHER: Duration = Duration::from_millis(500);
/// The same for changes of pods, which come all the time and move a count at most.
const PODS_TOGETHER: Duration = Duration::from_secs(5);
/// Longest that one object may be looked at.
const DEADLINE: Duration = Duration::from_secs(60);

/// What all controllers share.
pub(crate) struct Shared {
    context: Context,
    references: References,
    digest_key: DigestKey,
    unsealer: Unsealer,
    events: Events,
    backoff: Backoff,
    accounts: Accounts,
    reconciles: IntCounterVec,
}

/// Runs the controllers while this replica leads; returns when the leader's channel is closed.
///
/// # Errors
/// Only if a metric of its names is there already.
pub async fn run(context: Context, references: References) -> Result<(), prometheus::Error> {
    let reconciles = IntCounterVec::new(
        Opts::new(
            "chaperone_reconciles_total",
            "Objects looked at, by controller and outcome",
        ),
        &["controller", "outcome"],
    )?;
    let registry = context.metrics.registry();
    registry.register(Box::new(reconciles.clone()))?;
    let mut leading = context.leading.clone();
    let shared = Arc::new(Shared {
        digest_key: DigestKey::new(context.client.clone(), &context.config.namespace),
        unsealer: Unsealer::new(&context),
        events: Events::new(context.client.clone(), &context.config.pod_name),
        backoff: Backoff::default(),
        accounts: Accounts::default(),
        references,
        reconciles,
        context,
    });
    while leading.wait_for(|leads| *leads).await.is_ok() {
        shared.context.stores.ready().await;
        tracing::info!("controllers start");
        let all = async {
            tokio::join!(
                connection::run(shared.clone()),
                access_policy::run(shared.clone()),
                approval_request::run(shared.clone()),
                identity_provider::run(shared.clone()),
                unseal_request::run(shared.clone()),
                workload_retry::run(shared.clone()),
            )
        };
        tokio::select! {
            // What is under way ends with the futures: whoever leads now is not raced.
            lost = leading.wait_for(|leads| !*leads) => if lost.is_err() {
                break;
            },
            _ = all => {}
        }
        tracing::info!("controllers stop");
    }
    Ok(())
}

/// Runs one controller over all objects of a kind. One that cannot be read is handed over as an
/// error and keeps none of the others from being seen.
async fn control<K, Reconcile, Answer>(
    name: &'static str,
    shared: Arc<Shared>,
    changes: impl Stream<Item = ()> + Send + 'static,
    reconcile: Reconcile,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Unpin,
    Reconcile: Fn(Arc<DeserializeGuard<K>>, Arc<Shared>) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Result<(Action, &'static str), ReconcileError>> + Send + 'static,
{
    let api: Api<DeserializeGuard<K>> = Api::all(shared.context.client.clone());
    Controller::new(api, watcher::Config::default())
        .with_config(
            ControllerConfig::default()
                .concurrency(AT_ONCE)
                .debounce(Duration::from_millis(50)),
        )
        .reconcile_all_on(changes)
        .run(
            move |object, shared| {
                let answer = reconcile(object.clone(), shared.clone());
                async move {
                    let answered = tokio::time::timeout(DEADLINE, answer)
                        .await
                        .unwrap_or(Err(ReconcileError::TimedOut));
                    let outcome = match &answered {
                        Ok((_, outcome)) => *outcome,
                        Err(error) => error.outcome(),
                    };
                    let counter = &shared.reconciles;
                    counter.with_label_values(&[name, outcome]).inc();
                    if answered.is_ok() {
                        shared.backoff.reset(name, object.meta());
                    }
                    answered.map(|(action, _)| action)
                }
            },
            move |object, error, shared| {
                let pause = shared.backoff.next(name, object.meta());
                let meta = object.meta();
                tracing::warn!(
                    controller = name,
                    namespace = meta.namespace.as_deref().unwrap_or_default(),
                    name = meta.name.as_deref().unwrap_or_default(),
                    %error,
                    ?pause,
                    "an object is tried again later"
                );
                Action::requeue(pause)
            },
            shared,
        )
        .for_each(|answered| async move {
            if let Err(error) = answered {
                tracing::debug!(controller = name, %error, "reconcile");
            }
        })
        .await;
}

/// One item for every burst of changes of what policies and Connections depend on, and one now
/// and then for those of pods.
fn changes(shared: &Shared) -> impl Stream<Item = ()> + Send + 'static + use<> {
    let stores = &shared.context.stores;
    stream::select(
        bursts(stores.rules(), TOGETHER),
        bursts(stores.changes(), PODS_TOGETHER),
    )
}

fn bursts(
    receiver: watch::Receiver<u64>,
    together: Duration,
) -> impl Stream<Item = ()> + Send + 'static {
    stream::unfold(receiver, move |mut receiver| async move {
        receiver.changed().await.ok()?;
        sleep(together).await;
        receiver.borrow_and_update();
        Some(((), receiver))
    })
}
