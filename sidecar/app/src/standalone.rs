//! `standalone`: the sidecar on one machine, fed from a folder, keeping its evidence in another.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use chaperone_approvals::{Approvals, Folder, SystemClock};
use chaperone_crds::{Connection as Manifest, IdentityProvider};
use chaperone_enforce::{KeyRequests, Metrics, Snapshot};
use chaperone_evidence::seal::MAX_RECIPIENTS;
use chaperone_evidence::{AttachIdentity, Recorder, SpoolOptions, Store};
use chaperone_identity::{Fetcher, Keeper, Providers, Source};
use chaperone_manifests::{Located, Manifests, policies};
use chaperone_policy::{NamespaceLabels, Subject, Workload};
use chaperone_wire::AllowSpecial;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::admin::{Health, router};
use crate::build::{Endpoint, endpoint};
use crate::cli::{Standalone, say};
use crate::listener::{Running, bind};
use crate::serving::{Parts, Plane, Policies, runtimes};
use crate::sinks::{self, Shared, SinkMetrics, Sinks};
use crate::watcher::{FolderWatcher, folder_digest};

/// One connection that is served.
struct Served {
    endpoint: Endpoint,
    policies: Policies,
    running: Running,
}

/// Runs until a signal ends it.
///
/// # Errors
/// Whatever keeps it from starting: the state folder, the manifests, a port in use.
pub fn run(options: &Standalone) -> anyhow::Result<()> {
    if !options.listen.is_loopback() {
        bail!(
            "SettingDenied: listening on {} takes TLS to the agents, who have to prove with tokens who they are, and a standalone sidecar has no certificate; listen on a loopback address",
            options.listen
        );
    }
    crate::memory::provide_room();
    let (data_plane, control) = runtimes().context("the process's threads cannot be started")?;
    let handle = data_plane.handle().clone();
    let result = control.block_on(async { Process::start(options, handle)?.serve().await });
    data_plane.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

struct Process {
    options: Standalone,
    subject: Arc<Subject>,
    plane: Plane,
    keeper: Keeper,
    /// Providers whose keys sessions ask for.
    asked: mpsc::Receiver<String>,
    health: Health,
    admin: std::net::TcpListener,
    manifests: Manifests,
    providers: Arc<Providers>,
    served: BTreeMap<String, Served>,
    sinks: Sinks,
    generation: u64,
    /// Of the folder as it was read last.
    digest: [u8; 32],
}

impl Process {
    fn start(options: &Standalone, data_plane: tokio::runtime::Handle) -> anyhow::Result<Self> {
        let digest = folder_digest(&options.manifests);
        let manifests = Manifests::load(&options.manifests);
        report(&manifests);
        let (recorder, fingerprint) = recorder(options)?;
        let folder = Folder::open(&options.state.join("approvals"), Arc::new(SystemClock))
            .map_err(|error| anyhow::anyhow!("{}: {error}", error.reason()))?;
        let metrics = Metrics::new().context("the metrics cannot be registered")?;
        let health = Health::new(metrics.clone());
        health.set_recorder(Arc::clone(&recorder));
        let sink_metrics =
            SinkMetrics::new(metrics.registry()).context("the metrics cannot be registered")?;
        let exports = recorder.exports();
        let (key_requests, asked) = KeyRequests::new();
        let plane = Plane::new(Parts {
            recorder,
            approvals: Approvals::Folder {
                folder,
                state: options.state.clone(),
            },
            metrics,
            allow_special: AllowSpecial::LiteralLoopback,
            tls: None,
            max_sessions: options.max_sessions,
            data_plane,
            key_requests,
            // Metrics and records are all there is here.
            notices: Arc::default(),
        });
        let admin = std::net::TcpListener::bind(options.admin).with_context(|| {
            format!(
                "AddressInUse: the admin endpoint cannot listen on {}",
                options.admin
            )
        })?;
        admin.set_nonblocking(true)?;
        let sinks = Sinks::new(
            exports,
            Shared {
                metrics: sink_metrics,
                notices: Arc::default(),
                approvals: Arc::clone(&plane.approvals),
                allow: AllowSpecial::LiteralLoopback,
                subject: options.subject.to_string(),
                instance: host_name(),
            },
        );
        let mut process = Self {
            sinks,
            options: options.clone(),
            subject: Arc::new(subject(options)),
            health,
            plane,
            keeper: Keeper::start(Fetcher::new(AllowSpecial::LiteralLoopback)),
            asked,
            admin,
            manifests,
            providers: Arc::default(),
            served: BTreeMap::new(),
            generation: 1,
            digest,
        };
        say(&format!("evidence log {fingerprint}"));
        process.take_up_providers();
        process.take_up_sinks();
        process.open_all()?;
        Ok(process)
    }

    /// Whose tokens can be checked, by the manifests and the keys that are known now.
    fn take_up_providers(&mut self) {
        let found = &self.manifests.identity_providers;
        let spec = |provider: &Located<IdentityProvider>| provider.value.spec.clone();
        self.keeper.want(
            found
                .iter()
                .map(|provider| (provider.name.clone(), spec(provider)))
                .collect(),
        );
        let known = Arc::clone(&self.keeper.known().borrow());
        let sources: Vec<Source> = found
            .iter()
            .map(|provider| Source {
                name: provider.name.clone(),
                spec: spec(provider),
                fetched: known
                    .get(&provider.name)
                    .and_then(|known| known.keys.clone()),
            })
            .collect();
        self.providers = Arc::new(Providers::new(&sources));
    }

    /// Where events go, by the manifests.
    fn take_up_sinks(&mut self) {
        self.sinks.configure(sinks::of_manifests(&self.manifests));
    }

    fn open_all(&mut self) -> anyhow::Result<()> {
        let mut faults = Vec::new();
        for connection in self.manifests.connections.clone() {
            match endpoint(&connection, &self.manifests) {
                Ok(endpoint) => self.open(&connection, endpoint)?,
                Err(problem) => faults.push(format!("{}: {problem}", problem.reason)),
            }
        }
        let manifests = &self.manifests;
        if self.served.is_empty() {
            let folder = self.options.manifests.display();
            if faults.is_empty() {
                faults.extend(
                    manifests
                        .problems
                        .iter()
                        .map(|problem| format!("{}: {problem}", problem.reason)),
                );
            }
            if faults.is_empty() {
                bail!("NoConnections: {folder} holds no Connection; see config/quickstart for one");
            }
            bail!(
                "no Connection of {folder} can be served:\n  {}",
                faults.join("\n  ")
            );
        }
        Ok(())
    }

    fn open(&mut self, connection: &Located<Manifest>, endpoint: Endpoint) -> anyhow::Result<()> {
        let options = &self.options;
        let listener = bind(options.listen, endpoint.port).map_err(|error| {
            let reason = match error.kind() {
                std::io::ErrorKind::AddrInUse => "AddressInUse",
                std::io::ErrorKind::PermissionDenied => "AddressDenied",
                _ => "AddressUnavailable",
            };
            anyhow::anyhow!(
                "{reason}: Connection {} cannot listen on {}:{}: {error}; set another port in its annotation {}",
                endpoint.name,
                options.listen,
                endpoint.port,
                chaperone_crds::LISTEN_PORT_ANNOTATION,
            )
        })?;
        let address = listener.local_addr()?;
        let snapshot = self.snapshot(connection);
        let (served, policies) = self.plane.connection(&endpoint, &self.subject, snapshot);
        let running = self.plane.serve(listener, vec![served])?;
        say(&format!(
            "listening on {address} for {} ({}) as {}",
            endpoint.name,
            endpoint.upstream.authority(),
            self.subject.workload.qualified_name()
        ));
        let name = endpoint.name.clone();
        self.served.insert(
            name,
            Served {
                endpoint,
                policies,
                running,
            },
        );
        Ok(())
    }

    fn snapshot(&self, connection: &Located<Manifest>) -> Arc<Snapshot> {
        let compiled = policies::compile(connection, &self.manifests, &NamespaceLabels::new());
        crate::serving::snapshot(self.generation, compiled, &self.providers)
    }

    async fn serve(mut self) -> anyhow::Result<()> {
        let admin = tokio::net::TcpListener::from_std(self.admin.try_clone()?)?;
        say(&format!("admin on http://{}", admin.local_addr()?));
        let router = router(self.health.clone());
        let admin = tokio::spawn(async move { axum::serve(admin, router).await });
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut watcher = FolderWatcher::new(&self.options.manifests);
        let mut keys = self.keeper.known();
        keys.mark_changed();
        self.health.set_ready();
        say("ready");
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = watcher.changed() => self.reload().await,
                Ok(()) = keys.changed() => self.follow_keys(),
                Some(provider) = self.asked.recv() => self.keeper.ask(&provider),
            }
        }
        self.health.set_unready("ShuttingDown: it was asked to end");
        let deadline = Instant::now() + self.options.drain();
        for served in std::mem::take(&mut self.served).into_values() {
            served.running.stop(deadline).await;
        }
        let detached = self.plane.recorder.detach(self.options.drain()).await;
        self.sinks
            .finish(Instant::now() + self.options.drain())
            .await;
        admin.abort();
        detached.map_err(|error| {
            anyhow::anyhow!(
                "{}: the end of the log could not be written: {error}",
                error.reason()
            )
        })?;
        say("stopped");
        Ok(())
    }

    /// Keys came or went: sessions that wait for them look again.
    fn follow_keys(&mut self) {
        self.take_up_providers();
        self.generation = self.generation.saturating_add(1);
        for connection in &self.manifests.connections {
            if let Some(served) = self.served.get(&connection.qualified_name()) {
                served.policies.replace(self.snapshot(connection));
            }
        }
    }

    /// Takes up the manifests as they are now. Policies reach live sessions; a Connection that
    /// changed gets a new listener, and its sessions end.
    async fn reload(&mut self) {
        let digest = folder_digest(&self.options.manifests);
        if digest == self.digest {
            return;
        }
        self.digest = digest;
        self.manifests = Manifests::load(&self.options.manifests);
        report(&self.manifests);
        self.take_up_providers();
        self.take_up_sinks();
        self.generation = self.generation.saturating_add(1);
        let mut known: BTreeMap<String, (Located<Manifest>, Endpoint)> = BTreeMap::new();
        for connection in self.manifests.connections.clone() {
            match endpoint(&connection, &self.manifests) {
                Ok(endpoint) => {
                    known.insert(endpoint.name.clone(), (connection, endpoint));
                }
                Err(problem) => tracing::error!(reason = %problem.reason, "{problem}"),
            }
        }
        let gone: Vec<String> = self
            .served
            .iter()
            .filter(|(name, served)| {
                known
                    .get(*name)
                    .is_none_or(|(_, endpoint)| endpoint.fingerprint != served.endpoint.fingerprint)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some(served) = self.served.remove(&name) {
                tracing::info!(
                    connection = name,
                    "the Connection changed or is gone; its sessions end"
                );
                served.running.stop(Instant::now()).await;
            }
        }
        for (name, (connection, endpoint)) in known {
            match self.served.get(&name) {
                Some(served) => served.policies.replace(self.snapshot(&connection)),
                None => {
                    if let Err(error) = self.open(&connection, endpoint) {
                        tracing::error!("{error:#}");
                    }
                }
            }
        }
        tracing::info!(generation = self.generation, "manifests were loaded");
    }
}

fn subject(options: &Standalone) -> Subject {
    Subject {
        workload: Workload {
            namespace: options.subject.namespace.clone(),
            service_account: options.subject.service_account.clone(),
            pod: None,
            labels: BTreeMap::new(),
        },
        delegate: None,
        purpose: options.purpose.clone(),
    }
}

fn recorder(options: &Standalone) -> anyhow::Result<(Arc<Recorder>, String)> {
    let folder = options.state.join("evidence");
    let failed =
        |error: chaperone_evidence::StoreError| anyhow::anyhow!("{}: {error}", error.reason());
    let store = Store::open(&folder).map_err(failed)?;
    let fingerprint = store.log_fingerprint();
    let identity = AttachIdentity {
        subject: options.subject.to_string(),
        host: host_name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let recipients = match options.seal_for.as_slice() {
        [] => vec![store.own_recipient().map_err(failed)?],
        given if given.len() > MAX_RECIPIENTS => {
            bail!("LimitExceeded: --seal-for may be given {MAX_RECIPIENTS} times at most")
        }
        given => given.to_vec(),
    };
    let spool = SpoolOptions {
        recipients,
        ..SpoolOptions::default()
    };
    let recorder = store.attach(identity, spool).map_err(failed)?;
    Ok((recorder, fingerprint))
}

fn host_name() -> String {
    std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname"))
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

/// Logs what is wrong. What is broken denies; nothing is left out in silence.
fn report(manifests: &Manifests) {
    let compiled = policies::problems(manifests);
    let providers = crate::build::provider_problems(manifests);
    let sinks = sinks::problems(manifests);
    let all = manifests.problems.iter().chain(&compiled);
    for problem in all.chain(&providers).chain(&sinks) {
        tracing::error!(reason = %problem.reason, "{problem}");
    }
}
