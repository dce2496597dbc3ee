//! What standalone and `run` have in common once they know what to serve: connections behind
//! listeners, and policies that follow.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chaperone_approvals::Approvals;
use chaperone_enforce::{
    Deviations, Enforcement, KeyRequests, Metrics, Notices, RateLimits, Snapshot,
};
use chaperone_evidence::Recorder;
use chaperone_http::api::{Api, Plain};
use chaperone_http::server::Target;
use chaperone_http::session as http;
use chaperone_identity::Providers;
use chaperone_kube::KubernetesApi;
use chaperone_mask::{HashKey, Masker};
use chaperone_policy::{PolicySet, Subject};
use chaperone_postgres::session as postgres;
use chaperone_postgres::session::{CancelRegistry, CatalogCache, Statements};
use chaperone_wire::{AllowSpecial, Resolver, TlsServer};
use tokio::sync::{Semaphore, watch};

use crate::build::{Endpoint, Upstream};
use crate::listener::{Running, Services};

/// What all connections of the process share.
pub(crate) struct Plane {
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) approvals: Arc<Approvals>,
    pub(crate) metrics: Metrics,
    pub(crate) allow_special: AllowSpecial,
    pub(crate) tls: Option<TlsServer>,
    /// For each connection.
    pub(crate) max_sessions: usize,
    /// The runtime that sessions run on.
    pub(crate) data_plane: tokio::runtime::Handle,
    key_requests: KeyRequests,
    notices: Arc<Notices>,
    masker: Arc<Masker>,
    cancels: Arc<CancelRegistry>,
    resolver: Arc<Resolver>,
}

/// What a [`Plane`] is made of.
pub(crate) struct Parts {
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) approvals: Approvals,
    pub(crate) metrics: Metrics,
    pub(crate) allow_special: AllowSpecial,
    pub(crate) tls: Option<TlsServer>,
    pub(crate) max_sessions: usize,
    pub(crate) data_plane: tokio::runtime::Handle,
    /// Where sessions ask for keys that their tokens need.
    pub(crate) key_requests: KeyRequests,
    /// Where they say what the workload's people should hear of.
    pub(crate) notices: Arc<Notices>,
}

/// The policies of one connection that is served. Dropping it leaves its sessions with the last.
#[derive(Debug)]
pub(crate) struct Policies(watch::Sender<Arc<Snapshot>>);

impl Policies {
    /// Live sessions take these up at once.
    pub(crate) fn replace(&self, policies: Arc<Snapshot>) {
        self.0.send_replace(policies);
    }
}

/// Compiled policies of a generation, and whose tokens can be checked.
pub(crate) fn snapshot(
    generation: u64,
    policies: PolicySet,
    providers: &Arc<Providers>,
) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        generation,
        policies,
        providers: Arc::clone(providers),
    })
}

impl Plane {
    pub(crate) fn new(parts: Parts) -> Plane {
        let hash_key = HashKey::new(parts.recorder.digest(&[b"masked values"]));
        Plane {
            recorder: parts.recorder,
            approvals: Arc::new(parts.approvals),
            metrics: parts.metrics,
            allow_special: parts.allow_special,
            tls: parts.tls,
            max_sessions: parts.max_sessions,
            data_plane: parts.data_plane,
            key_requests: parts.key_requests,
            notices: parts.notices,
            masker: Arc::new(Masker::new(hash_key)),
            cancels: Arc::default(),
            resolver: Arc::new(Resolver::new()),
        }
    }

    /// One connection, and the way to change its policies.
    pub(crate) fn connection(
        &self,
        endpoint: &Endpoint,
        subject: &Arc<Subject>,
        policies: Arc<Snapshot>,
    ) -> (Service, Policies) {
        let (sender, snapshot) = watch::channel(policies);
        let enforcement = |protocol: &'static str| {
            Arc::new(Enforcement {
                connection: endpoint.name.clone(),
                target: endpoint.upstream.to_string(),
                protocol,
                snapshot: snapshot.clone(),
                recorder: Arc::clone(&self.recorder),
                approvals: Arc::clone(&self.approvals),
                metrics: self.metrics.clone(),
                rates: RateLimits::new(),
                deviations: Deviations::default(),
                notices: Arc::clone(&self.notices),
                key_requests: self.key_requests.clone(),
            })
        };
        let slots = Arc::new(Semaphore::new(self.max_sessions));
        let http = |protocol, api: Arc<dyn Api>, target: &Target, credential: &Option<_>| {
            Service::Http(Arc::new(http::Connection {
                enforcement: enforcement(protocol),
                subject: Arc::clone(subject),
                api,
                target: target.clone(),
                credential: credential.clone(),
                resolver: Arc::clone(&self.resolver),
                tls: self.tls_for(&http::APPLICATION_PROTOCOLS),
                allow_special: self.allow_special,
                masker: Arc::clone(&self.masker),
                bounds: http::Bounds {
                    sessions: self.max_sessions,
                    ..http::Bounds::default()
                },
                slots: Arc::clone(&slots),
            }))
        };
        let service = match &endpoint.upstream {
            Upstream::Postgres { target, credential } => {
                Service::Postgres(Arc::new(postgres::Connection {
                    enforcement: enforcement("postgres"),
                    subject: Arc::clone(subject),
                    target: target.clone(),
                    credential: credential.clone(),
                    resolver: Arc::clone(&self.resolver),
                    tls: self.tls_for(&[postgres::APPLICATION_PROTOCOL]),
                    allow_special: self.allow_special,
                    allow_md5: false,
                    allow_cleartext: false,
                    masker: Arc::clone(&self.masker),
                    cancels: Arc::clone(&self.cancels),
                    statements: Statements::new(),
                    facts: CatalogCache::default(),
                    bounds: postgres::Bounds {
                        sessions: self.max_sessions,
                        ..postgres::Bounds::default()
                    },
                    slots: Arc::clone(&slots),
                    catalogs: AtomicU64::new(0),
                }))
            }
            Upstream::Http { target, credential } => {
                http("http", Arc::new(Plain), target, credential)
            }
            Upstream::Kubernetes { target, credential } => {
                let api = Arc::new(KubernetesApi::default());
                http("kubernetes", api, target, credential)
            }
        };
        (service, Policies(sender))
    }

    fn tls_for(&self, protocols: &[&[u8]]) -> Option<TlsServer> {
        Some(self.tls.as_ref()?.speaking(protocols))
    }

    /// Starts to accept on the data plane. Of several connections on one listener all are of one
    /// protocol: the first one's.
    ///
    /// # Errors
    /// The socket cannot be registered with the runtime.
    pub(crate) fn serve(
        &self,
        listener: std::net::TcpListener,
        services: Vec<Service>,
    ) -> io::Result<Running> {
        let mut http = None;
        let mut postgres = Vec::new();
        for service in services {
            match service {
                Service::Postgres(connection) => postgres.push(connection),
                Service::Http(connection) => http = http.or(Some(connection)),
            }
        }
        let services = match http {
            Some(connection) if postgres.is_empty() => Services::Http(connection),
            _ => Services::Postgres(postgres.into()),
        };
        let _on = self.data_plane.enter();
        Running::start(listener, services, self.metrics.clone())
    }
}

/// One connection that is served.
#[derive(Debug)]
pub(crate) enum Service {
    Postgres(Arc<postgres::Connection>),
    Http(Arc<http::Connection>),
}

/// Two runtimes, so that neither can starve the other: the data plane, and one thread for control.
///
/// # Errors
/// Threads cannot be started.
pub(crate) fn runtimes() -> io::Result<(tokio::runtime::Runtime, tokio::runtime::Runtime)> {
    // Two at least: a write that a disk holds up takes one thread with it.
    let workers = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .max(2);
    let data_plane = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("data-plane")
        .enable_all()
        .build()?;
    let control = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    control.spawn(keep_awake(data_plane.handle().clone()));
    Ok((data_plane, control))
}

/// How long a thread that a disk holds up may keep the others from hearing of anything.
const AWAKE_EVERY: Duration = Duration::from_millis(250);

/// Wakes a thread of the data plane now and then. The one that waits for sockets and time on behalf
/// of all goes on to run what it was woken for, and wakes another in its place only if there is more
/// to run: when a disk holds it up then, the others sleep on.
async fn keep_awake(data_plane: tokio::runtime::Handle) {
    loop {
        tokio::time::sleep(AWAKE_EVERY).await;
        // One at a time: where all threads are held up, nothing piles up. It is gone with its runtime.
        if data_plane.spawn(async {}).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A session that a disk holds up keeps no other from its answer.
    #[test]
    fn a_held_up_thread_leaves_the_others_awake() {
        let (data_plane, control) = runtimes().unwrap();
        let listener = data_plane
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        data_plane.spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while let Ok(byte) = socket.read_u8().await {
                        if byte == b'!' {
                            std::thread::sleep(Duration::from_secs(3));
                        }
                        let _ = socket.write_u8(byte).await;
                    }
                });
            }
        });
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let ticking = std::thread::spawn(move || {
            control.block_on(async {
                while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        });
        let mut answer = [0];
        let mut held_up = TcpStream::connect(address).unwrap();
        let mut other = TcpStream::connect(address).unwrap();
        for socket in [&mut held_up, &mut other] {
            socket.write_all(b"a").unwrap();
            socket.read_exact(&mut answer).unwrap();
        }
        // All threads have gone to sleep by then.
        std::thread::sleep(Duration::from_millis(600));
        held_up.write_all(b"!").unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let asked = Instant::now();
        other.write_all(b"b").unwrap();
        other.read_exact(&mut answer).unwrap();
        assert!(asked.elapsed() < Duration::from_secs(2));
        drop(stop);
        ticking.join().unwrap();
        data_plane.shutdown_timeout(Duration::from_secs(5));
    }
}
