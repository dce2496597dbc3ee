//! Sinks: where events go while they happen.
//!
//! ```text
//! AuditStore.spec.sinks + Secret ─config─► Sink
//! evidence ─Feed─► deliver (a thread for each sink) ─┬ post ─ webhook: an array of events
//!                     ▲ done, once it has arrived    │        otlp: log records
//!                     └─────────────────────────────┴ file, stdout: lines
//! ```
//! Nothing of it is on the way of a command: what is sent was recorded, shipped and copied before
//! ([`chaperone_evidence::Feed`]), and every sink has its own thread, since a disk or a pipe may
//! block. Each event arrives at least once, through restarts of both ends; what a server refuses for
//! good is counted as a dead letter, logged, and told to the workload's people. Which events there
//! are, and what is in them, is the business of `chaperone_evidence::ocsf`: texts are as recorded,
//! masked.

mod config;
mod deliver;
mod file;
mod metrics;
mod otlp;
mod post;

use std::collections::BTreeMap;
use std::sync::Arc;

use chaperone_approvals::Approvals;
use chaperone_enforce::Notices;
use chaperone_evidence::disk::RealDisk;
use chaperone_evidence::{Exports, Feed};
use chaperone_wire::AllowSpecial;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

pub(crate) use config::{Sink, of_manifests, problems};
pub(crate) use metrics::SinkMetrics;

use deliver::Delivery;

/// What all sinks share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) metrics: SinkMetrics,
    pub(crate) notices: Arc<Notices>,
    /// Knows what to paste to approve.
    pub(crate) approvals: Arc<Approvals>,
    /// Which special addresses a sink may have.
    pub(crate) allow: AllowSpecial,
    /// Whose events they are: `namespace/serviceaccount`, and the pod.
    pub(crate) subject: String,
    pub(crate) instance: String,
}

/// How a sink is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Not at all.
    No,
    /// Once it has sent what is there.
    Finish,
    /// At once. What it has not sent, it sends in another life.
    Now,
}

/// The sinks that run.
pub(crate) struct Sinks {
    exports: Arc<Exports>,
    shared: Shared,
    running: BTreeMap<String, Running>,
}

struct Running {
    sink: Sink,
    ending: watch::Sender<Ending>,
    /// Closed once its thread is done.
    ended: watch::Receiver<()>,
}

impl Sinks {
    /// None yet.
    pub(crate) fn new(exports: Arc<Exports>, shared: Shared) -> Sinks {
        Sinks {
            exports,
            shared,
            running: BTreeMap::new(),
        }
    }

    /// These are the sinks from now on. One that cannot be set up is said so, and the others go on.
    pub(crate) fn configure(&mut self, sinks: Vec<Sink>) {
        let names: Vec<String> = sinks.iter().map(|sink| sink.name.clone()).collect();
        if let Err(error) = self.exports.configure(&RealDisk, &names) {
            tracing::error!(reason = %error.reason(), "sinks cannot be set up: {error}");
            return;
        }
        self.shared.metrics.watch(&names, Arc::clone(&self.exports));
        let mut before = std::mem::take(&mut self.running);
        for sink in sinks {
            let old = before.remove(&sink.name);
            let running = match old {
                Some(old) if old.sink == sink => old,
                old => self.start(sink, old),
            };
            self.running.insert(running.sink.name.clone(), running);
        }
        for gone in before.into_values() {
            gone.ending.send_replace(Ending::Now);
        }
    }

    /// Starts one; after its predecessor, which has the same place in what is told.
    fn start(&self, sink: Sink, old: Option<Running>) -> Running {
        let (ending, mut asked) = watch::channel(Ending::No);
        let (alive, ended) = watch::channel(());
        let (exports, shared, started) =
            (Arc::clone(&self.exports), self.shared.clone(), sink.clone());
        let spawned = std::thread::Builder::new()
            .name(format!("sink-{}", sink.name).chars().take(15).collect())
            .spawn(move || {
                let _alive = alive;
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        tracing::error!(sink = started.name, %error, "the sink cannot run");
                        return;
                    }
                };
                runtime.block_on(async {
                    if let Some(old) = old {
                        old.ending.send_replace(Ending::Now);
                        over(old.ended).await;
                    }
                    let feed = Feed::open(&exports, &started.name);
                    Delivery::new(started, shared, feed).run(&mut asked).await;
                });
            });
        if let Err(error) = spawned {
            tracing::error!(sink = sink.name, %error, "the sink cannot run");
        }
        Running {
            sink,
            ending,
            ended,
        }
    }

    /// Lets every sink send what is there, until `deadline`. What is left, the next life of this
    /// sidecar sends, if it has one.
    pub(crate) async fn finish(self, deadline: Instant) {
        for running in self.running.values() {
            running.ending.send_replace(Ending::Finish);
        }
        for running in self.running.into_values() {
            if timeout_at(deadline, over(running.ended)).await.is_err() {
                running.ending.send_replace(Ending::Now);
                tracing::warn!(
                    sink = running.sink.name,
                    unsent_bytes = self.exports.unsent_bytes(),
                    "not all events were sent; the evidence has them"
                );
            }
        }
    }
}

/// Returns once the thread is done.
async fn over(mut ended: watch::Receiver<()>) {
    while ended.changed().await.is_ok() {}
}
