//! `run`: starts every part, and ends them in order.
//!
//! ```text
//! all replicas: stores, certificate follower, webhooks, control API, admin endpoints
//! the leader:   certificate Secret, caBundle, controllers, checkpoints of the audit log
//! ```
//!
//! Nothing here needs the API server to start: what is missing shows in `/readyz`, is tried again,
//! and never ends the process.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use kube::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Readiness};
use crate::certificates::{self, Resolver, ca_bundle};
use crate::cli::Config;
use crate::context::{Context, Stores};
use crate::leader::{elect, while_leading};
use crate::metrics::Metrics;
use crate::references::References;
use crate::server::{self, Bounds};
use crate::{audit, control, controllers, webhook};

/// The API server gives up on a webhook after 10 s; an answer after that is for nobody.
const WEBHOOKS: Bounds = Bounds {
    connections: 1024,
    answer: Duration::from_secs(9),
    drain: Duration::from_secs(10),
};
/// A sidecar may wait 30 s for an approval, and needs one stream and few requests.
const CONTROL: Bounds = Bounds {
    connections: 16 * 1024,
    answer: Duration::from_secs(60),
    drain: Duration::from_secs(5),
};
/// Probes and scrapes.
const ADMIN: Bounds = Bounds {
    connections: 64,
    answer: Duration::from_secs(10),
    drain: Duration::from_secs(1),
};
/// Between the end of readiness and of accepting: until no node sends us connections any more.
const LEAVING: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting: a port, no way to an API server; or a part that ended by itself.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let listeners = Listeners {
        webhook: server::bind(config.webhook_port)?,
        control: server::bind(config.control_port)?,
        admin: server::bind(config.admin_port)?,
    };
    let client = Client::try_default()
        .await
        .context("no API server is configured: run in a pod, or set KUBECONFIG")?;
    let mut tasks = JoinSet::new();
    let (authorities_sender, authorities) = watch::channel(Arc::default());
    let (leading_sender, leading) = watch::channel(false);
    let context = Context {
        stores: Stores::watch(&client, config.allow_special_targets, &mut tasks),
        client,
        config: Arc::new(config),
        metrics: Metrics::new()?,
        authorities,
        leading,
    };
    let readiness = Readiness::new(context.stores.trouble());
    let resolver = Arc::new(Resolver::default());
    tasks.spawn(certificates::follow(
        context.clone(),
        resolver.clone(),
        authorities_sender,
        readiness.clone(),
    ));
    let stop = CancellationToken::new();
    let mut servers = JoinSet::new();
    servers.spawn(elect(context.clone(), leading_sender, stop.clone()));
    let references = References::new(context.client.clone(), context.config.clone());
    start_leader(&context, &references, &mut tasks);
    let control = control::router(&context, references, &mut tasks)?;
    let webhooks = webhook::router(&context, &mut tasks);
    let endpoints = admin::router(context.metrics.clone(), readiness.clone());
    let tls = Some(resolver.server_config()?);
    for (listener, tls, router, bounds) in [
        (listeners.webhook, tls.clone(), webhooks, WEBHOOKS),
        (listeners.control, tls, control, CONTROL),
        (listeners.admin, None, endpoints, ADMIN),
    ] {
        servers.spawn(server::serve(listener, tls, router, bounds, stop.clone()));
    }
    let stores = context.stores.clone();
    let filled = readiness.clone();
    tasks.spawn(async move {
        stores.ready().await;
        filled.stores_filled();
        // Tasks never end by themselves; and an API server that is away must not hold up the end.
        std::future::pending().await
    });
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
    let ended = until_stopped(&mut tasks).await;
    readiness.stopping();
    tracing::info!("stopping");
    if ended.is_ok() {
        sleep(LEAVING).await;
    }
    stop.cancel();
    while servers.join_next().await.is_some() {}
    ended
}

struct Listeners {
    webhook: TcpListener,
    control: TcpListener,
    admin: TcpListener,
}

/// What only one replica does at a time.
fn start_leader(context: &Context, references: &References, tasks: &mut JoinSet<()>) {
    let leading = || context.leading.clone();
    let own = context.clone();
    tasks.spawn(while_leading(leading(), move || {
        certificates::maintain(own.clone())
    }));
    let own = context.clone();
    tasks.spawn(while_leading(leading(), move || {
        ca_bundle::keep(own.clone())
    }));
    let own = context.clone();
    tasks.spawn(while_leading(leading(), move || audit::lead(own.clone())));
    let controllers = controllers::run(context.clone(), references.clone());
    tasks.spawn(async move {
        if let Err(error) = controllers.await {
            tracing::error!(%error, "controllers cannot run");
        }
    });
}

/// Ends with a signal, or with an error when a part ends that never should.
async fn until_stopped(tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = tasks.join_next() => match ended {
            Some(Err(error)) => Err(anyhow!("a part of the operator failed: {error}")),
            _ => Err(anyhow!("a part of the operator ended by itself")),
        },
    }
}
