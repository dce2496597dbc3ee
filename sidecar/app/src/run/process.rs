//! The process's life: listeners bound, attached, serving what the newest snapshot says, drained.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant as Moment};

use anyhow::Context;
use chaperone_approvals::{ApiError, Approvals, Remote};
use chaperone_control::{AttachAnswer, PodIdentity, SecretBytes, Snapshot};
use chaperone_enforce::{KeyRequests, Metrics, Notices};
use chaperone_identity::Providers;
use chaperone_policy::{Pod, Reason, Subject, Workload};
use chaperone_wire::AllowSpecial;
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::control::Client;
use super::feed::{self, Update};
use super::in_cluster::{self, Server};
use super::pod_ca::PodCa;
use super::settings::{Listen, Settings};
use super::snapshots::{Ready, Suspension, connection_of, providers, ready};
use super::{evidence, notices, shipping, volume};
use crate::admin::{Health, router};
use crate::cli::say;
use crate::listener::{Running, bind};
use crate::serving::{Parts, Plane, Policies, snapshot};
use crate::sinks::{Shared, Sink, SinkMetrics, Sinks};

/// How often time and the volume are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Looks between two measurements of the volume.
const LOOKS_A_MEASUREMENT: u32 = 4;
/// Updates that wait while one is taken up.
const UPDATES: usize = 8;

/// Bound, and not attached yet.
pub(crate) struct Starting {
    settings: Settings,
    data_plane: tokio::runtime::Handle,
    begun: Moment,
    health: Health,
    metrics: Metrics,
    admin: std::net::TcpListener,
    groups: Vec<Group>,
}

/// The Connections of one address: of one target, and told apart by the database that they pin.
struct Group {
    address: SocketAddr,
    /// Kept, so that the address stays ours while what is served there changes.
    listener: std::net::TcpListener,
    listens: Vec<Listen>,
    serving: Option<Serving>,
}

/// What a group serves now.
struct Serving {
    /// For each Connection.
    fingerprints: Vec<[u8; 32]>,
    policies: Vec<Policies>,
    running: Running,
}

struct Process {
    settings: Settings,
    health: Health,
    plane: Plane,
    ca: PodCa,
    pod: PodIdentity,
    /// As the operator said last.
    digest_key: SecretBytes,
    subject: Arc<Subject>,
    snapshot: Snapshot,
    providers: Arc<Providers>,
    generation: u64,
    suspension: Option<Suspension>,
    volume_full: bool,
    groups: Vec<Group>,
    /// The Kubernetes APIs that agents were told of.
    servers: Vec<Server>,
    shipping: Shipping,
    sinks: Sinks,
}

/// The evidence on its way.
struct Shipping {
    ended: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<()>>,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Starting {
    pub(crate) fn new(
        settings: Settings,
        data_plane: tokio::runtime::Handle,
    ) -> anyhow::Result<Starting> {
        let begun = Moment::now();
        let mut groups: Vec<Group> = Vec::new();
        for listen in &settings.listen {
            if let Some(group) = groups
                .iter_mut()
                .find(|group| group.address == listen.address)
            {
                group.listens.push(listen.clone());
                continue;
            }
            let address = listen.address;
            groups.push(Group {
                address,
                listener: listener(address, &listen.connection)?,
                listens: vec![listen.clone()],
                serving: None,
            });
        }
        let metrics = Metrics::new().context("the metrics cannot be registered")?;
        Ok(Starting {
            admin: listener(settings.admin, "the admin endpoint")?,
            health: Health::new(metrics.clone()),
            settings,
            data_plane,
            begun,
            metrics,
            groups,
        })
    }

    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut signals = Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        let admin = tokio::net::TcpListener::from_std(self.admin.try_clone()?)?;
        say(&format!("admin on http://{}", admin.local_addr()?));
        let router = router(self.health.clone());
        let mut tasks = JoinSet::new();
        let (key_requests, asked) = KeyRequests::new();
        tasks.spawn(async move {
            if let Err(error) = axum::serve(admin, router).await {
                tracing::error!(%error, "the admin endpoint ended");
            }
        });
        let client = Client::new(&self.settings)?;
        let said = Arc::new(Notices::default());
        tasks.spawn(notices::tell(client.clone(), Arc::clone(&said)));
        let begun = self.begun;
        let process = tokio::select! {
            () = signals.any() => return Ok(()),
            process = self.attach(&client, key_requests, said) => process?,
        };
        tasks.spawn(feed::ask_for_keys(client.clone(), asked));
        say(&format!("ready after {} ms", begun.elapsed().as_millis()));
        let (sender, updates) = mpsc::channel(UPDATES);
        tasks.spawn(feed::follow(client, process.snapshot.generation, sender));
        process.serve(updates, signals).await
    }

    async fn attach(
        self,
        client: &Client,
        key_requests: KeyRequests,
        notices: Arc<Notices>,
    ) -> anyhow::Result<Process> {
        let settings = self.settings.clone();
        // Keys are made while the operator looks at the pod.
        let ca = tokio::task::spawn_blocking(move || PodCa::open(&settings));
        let health = self.health.clone();
        let answer = feed::attach(client, |error| health.set_unready(why(error))).await;
        let ca = ca.await.context("the pod's CA was not made")??;
        let key: [u8; 32] = answer
            .digest_key
            .expose()
            .try_into()
            .context("the operator's digest key is not of 32 bytes")?;
        let recipients = evidence::recipients(&answer.snapshot)?.context(
            "CannotRecord: nobody knows whom evidence is to be sealed for; see spec.seal of the AuditStore",
        )?;
        let opened = evidence::open(&self.settings.spool, &answer.pod, &key, &recipients).await?;
        say(&format!("evidence log {}", opened.fingerprint));
        self.health.set_recorder(Arc::clone(&opened.recorder));
        let exports = opened.recorder.exports();
        let (ended, over) = watch::channel(false);
        let shipping = Shipping {
            ended,
            task: tokio::spawn(shipping::follow(
                client.clone(),
                self.settings.spool.clone(),
                answer.pod.clone(),
                Arc::clone(&opened.recorder),
                over,
            )),
        };
        let approvals = Approvals::Operator {
            remote: Remote::new(Arc::new(client.clone())),
            namespace: answer.pod.namespace.clone(),
        };
        let plane = Plane::new(Parts {
            recorder: opened.recorder,
            approvals,
            metrics: self.metrics.clone(),
            allow_special: AllowSpecial::Nothing,
            tls: Some(ca.server()),
            max_sessions: self.settings.max_sessions,
            data_plane: self.data_plane,
            key_requests,
            notices: Arc::clone(&notices),
        });
        let sinks = Sinks::new(
            exports,
            Shared {
                metrics: SinkMetrics::new(self.metrics.registry())
                    .context("the metrics cannot be registered")?,
                notices,
                approvals: Arc::clone(&plane.approvals),
                allow: AllowSpecial::Nothing,
                subject: format!("{}/{}", answer.pod.namespace, answer.pod.service_account),
                instance: format!("{} {}", answer.pod.name, answer.pod.uid),
            },
        );
        let AttachAnswer {
            pod,
            digest_key,
            snapshot,
        } = answer;
        let mut process = Process {
            subject: Arc::new(subject(&pod, &snapshot)),
            settings: self.settings,
            health: self.health,
            plane,
            ca,
            pod,
            digest_key,
            snapshot,
            providers: Arc::default(),
            generation: 0,
            suspension: None,
            volume_full: false,
            groups: self.groups,
            servers: Vec::new(),
            shipping,
            sinks,
        };
        process.measure();
        process.take_up_sinks();
        process.suspension = process.why_suspended();
        process.apply().await?;
        Ok(process)
    }
}

/// What a pod's events and probes show of a failed attempt.
fn why(error: &ApiError) -> String {
    match error {
        ApiError::Refused(refusal) => format!("{}: {}", refusal.reason, refusal.message),
        ApiError::Unreachable(why) => format!("OperatorUnreachable: {why}"),
    }
}

fn listener(address: SocketAddr, what: &str) -> anyhow::Result<std::net::TcpListener> {
    bind(address.ip(), address.port()).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::AddrInUse => "AddressInUse",
            std::io::ErrorKind::PermissionDenied => "AddressDenied",
            _ => "AddressUnavailable",
        };
        anyhow::anyhow!("{reason}: {what} cannot listen on {address}: {error}")
    })
}

fn subject(pod: &PodIdentity, snapshot: &Snapshot) -> Subject {
    Subject {
        workload: Workload {
            namespace: pod.namespace.clone(),
            service_account: pod.service_account.clone(),
            pod: Some(Pod {
                name: pod.name.clone(),
                uid: pod.uid.clone(),
            }),
            labels: snapshot.labels.clone(),
        },
        delegate: None,
        purpose: pod.purpose.clone(),
    }
}

impl Process {
    async fn serve(
        mut self,
        mut updates: mpsc::Receiver<Update>,
        mut signals: Signals,
    ) -> anyhow::Result<()> {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = 0_u32;
        loop {
            let taken = tokio::select! {
                () = signals.any() => break,
                // Only the own disk ends it: what cannot be read cannot be sent, nor kept for long.
                ended = &mut self.shipping.task => {
                    ended.context("sending evidence did not go on")??;
                    anyhow::bail!("CannotRecord: sending evidence ended by itself");
                }
                Some(update) = updates.recv() => self.take(update),
                _ = look.tick() => {
                    looks = looks.wrapping_add(1);
                    if looks.is_multiple_of(LOOKS_A_MEASUREMENT) {
                        self.measure();
                    }
                    false
                }
            };
            let suspension = self.why_suspended();
            if taken {
                // A name that cannot be understood ends the sidecar, as it would at its start.
                if let Some(recipients) = evidence::recipients(&self.snapshot)? {
                    self.plane.recorder.seal_for(&recipients);
                }
                self.take_up_sinks();
            }
            if taken || suspension != self.suspension {
                self.suspension = suspension;
                self.apply().await?;
            }
        }
        self.drain(signals).await
    }

    /// Whether there is something new in it.
    fn take(&mut self, update: Update) -> bool {
        match update {
            Update::Valid(until) => {
                self.snapshot.valid_until = until;
                false
            }
            Update::Snapshot(snapshot) => {
                self.snapshot = *snapshot;
                true
            }
            Update::Attached(answer) => {
                let AttachAnswer {
                    pod,
                    digest_key,
                    snapshot,
                } = *answer;
                if digest_key != self.digest_key {
                    // A log has one key.
                    tracing::warn!(
                        "the operator has another digest key now; it is taken up when the sidecar starts again"
                    );
                    self.digest_key = digest_key;
                }
                self.pod = pod;
                self.snapshot = snapshot;
                true
            }
        }
    }

    /// Where events go, by the newest snapshot. What was said before goes on where nobody knows.
    fn take_up_sinks(&mut self) {
        let Some(said) = &self.snapshot.sinks else {
            return;
        };
        let sinks = said.iter().filter_map(|sink| {
            if sink.spec.file.is_some() {
                tracing::error!(
                    sink = sink.spec.name,
                    "Unsupported: a sidecar in a pod has no file for a sink"
                );
                return None;
            }
            let authorization = sink.authorization.as_ref();
            Sink::new(&sink.spec, authorization.map(SecretBytes::expose))
                .map_err(|(field, why)| {
                    tracing::error!(
                        sink = sink.spec.name,
                        field,
                        "the sink cannot be used: {why}"
                    );
                })
                .ok()
        });
        self.sinks.configure(sinks.collect());
    }

    fn measure(&mut self) {
        self.volume_full = volume::used(&self.settings.spool) > volume::MOST_BYTES;
    }

    fn why_suspended(&self) -> Option<Suspension> {
        if Timestamp::now() >= self.snapshot.valid_until {
            return Some(Suspension {
                reason: Reason::SnapshotExpired,
                message: "the operator was not heard of for as long as its last word is valid; nothing is allowed until it is back".to_owned(),
            });
        }
        self.volume_full.then(|| Suspension {
            reason: Reason::CannotRecord,
            message: "this pod's evidence fills its volume, because the operator does not take it in; see the AuditStore and the operator's log"
                .to_owned(),
        })
    }

    /// Serves what applies now. Policies reach live sessions; where a Connection or the subject
    /// has become another, its sessions end and new ones get the new.
    async fn apply(&mut self) -> anyhow::Result<()> {
        self.generation = self.generation.saturating_add(1);
        let specs = self.snapshot.connections.iter();
        let hosts = specs.filter_map(|connection| connection.spec.as_ref());
        if let Err(error) = self
            .ca
            .cover(hosts.flat_map(chaperone_crds::ConnectionSpec::hosts))
        {
            // Names of /etc/hosts are covered by the leaf that stays.
            tracing::warn!("a certificate for the targets' names could not be made: {error:#}");
        }
        self.tell_of_servers()?;
        self.providers = providers(&self.snapshot);
        let subject = subject(&self.pod, &self.snapshot);
        let another = subject != *self.subject;
        if another {
            self.subject = Arc::new(subject);
        }
        // All live sessions first: ending some of them may take a while.
        let mut groups = std::mem::take(&mut self.groups);
        let mut changed = Vec::new();
        for group in &mut groups {
            let all = self.ready(group);
            let fingerprints = all.iter().map(|ready| ready.endpoint.fingerprint);
            let same = group.serving.as_ref().is_some_and(|serving| {
                !another && fingerprints.eq(serving.fingerprints.iter().copied())
            });
            if let Some(serving) = &group.serving {
                for (policies, ready) in serving.policies.iter().zip(all) {
                    policies.replace(snapshot(self.generation, ready.policies, &self.providers));
                }
            }
            if !same {
                changed.push(group);
            }
        }
        for group in changed {
            self.restart(group).await?;
        }
        self.groups = groups;
        match &self.suspension {
            None => self.health.set_ready(),
            Some(suspension) => {
                tracing::error!(reason = %suspension.reason, "{}", suspension.message);
                let why = format!("{}: {}", suspension.reason, suspension.message);
                self.health.set_unready(why);
            }
        }
        tracing::info!(
            generation = self.snapshot.generation,
            "what the operator says was taken up"
        );
        Ok(())
    }

    /// Writes what clients of Kubernetes read, where they are to find another than before.
    fn tell_of_servers(&mut self) -> anyhow::Result<()> {
        let serves = |listen: &&Listen| {
            let found = connection_of(&self.snapshot, listen);
            found
                .and_then(|connection| connection.spec.as_ref())
                .is_some_and(|spec| spec.kubernetes.is_some())
        };
        let servers: Vec<Server> = self
            .settings
            .listen
            .iter()
            .filter(serves)
            .map(|listen| Server {
                connection: listen.connection.clone(),
                address: listen.address,
            })
            .collect();
        if !servers.is_empty() && servers != self.servers {
            let namespace = &self.pod.namespace;
            in_cluster::write(&self.settings, self.ca.pem(), namespace, &servers)?;
            self.servers = servers;
        }
        Ok(())
    }

    fn ready(&self, group: &Group) -> Vec<Ready> {
        let (namespace, suspension) = (&self.pod.namespace, self.suspension.as_ref());
        group
            .listens
            .iter()
            .map(|listen| ready(listen, namespace, &self.snapshot, suspension))
            .collect()
    }

    /// Ends the group's sessions and serves what it has become, on the listener that stays.
    async fn restart(&self, group: &mut Group) -> anyhow::Result<()> {
        if let Some(serving) = group.serving.take() {
            tracing::info!(
                address = %group.address,
                "a Connection or the pod's labels changed; its sessions end"
            );
            serving.running.stop(Instant::now()).await;
        }
        let all = self.ready(group);
        let fingerprints = all.iter().map(|ready| ready.endpoint.fingerprint).collect();
        let (connections, policies) = all
            .into_iter()
            .map(|ready| {
                let policies = snapshot(self.generation, ready.policies, &self.providers);
                self.plane
                    .connection(&ready.endpoint, &self.subject, policies)
            })
            .unzip();
        let listener = group.listener.try_clone()?;
        group.serving = Some(Serving {
            fingerprints,
            policies,
            running: self.plane.serve(listener, connections)?,
        });
        Ok(())
    }

    async fn drain(mut self, mut signals: Signals) -> anyhow::Result<()> {
        self.health.set_unready("ShuttingDown: it was asked to end");
        let drain = self.settings.drain;
        let deadline = Instant::now() + drain;
        let mut stopping = JoinSet::new();
        for group in std::mem::take(&mut self.groups) {
            drop(group.listener);
            if let Some(serving) = group.serving {
                stopping.spawn(serving.running.stop(deadline));
            }
        }
        stopping.join_all().await;
        self.plane.recorder.detach(drain).await.map_err(|error| {
            anyhow::anyhow!(
                "{}: the end of the log could not be written: {error}",
                error.reason()
            )
        })?;
        self.shipping.ended.send_replace(true);
        let sinks = tokio::spawn(self.sinks.finish(Instant::now() + drain));
        // What does not arrive goes with the pod: nothing but the kubelet's patience limits it.
        tokio::select! {
            ended = &mut self.shipping.task => ended.context("sending evidence did not end")??,
            () = signals.any() => anyhow::bail!("CannotRecord: the last evidence was not sent"),
        }
        sinks.await.context("sinks did not end")?;
        say("stopped");
        Ok(())
    }
}
