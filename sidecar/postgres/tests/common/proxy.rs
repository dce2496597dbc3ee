//! A session server in this process, between a raw client and a throw-away PostgreSQL.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use chaperone_approvals::{Approvals, Folder, SystemClock, Verdict};
use chaperone_crds::{AccessPolicySpec, ConnectionSpec};
use chaperone_enforce::{Deviations, Enforcement, KeyRequests, Metrics, RateLimits, Snapshot};
use chaperone_evidence::{
    AttachIdentity, Record, Recorder, Selection, Sessions, Shown, SpoolOptions, Store, verify,
};
use chaperone_mask::{HashKey, Masker};
use chaperone_policy::{
    NamedConnection, NamedPolicy, NamespaceLabels, PolicySet, Subject, Workload,
};
use chaperone_postgres::server::{Credential, Proof, Target};
use chaperone_postgres::session::{
    Bounds, CancelRegistry, CatalogCache, Connection, Statements, serve,
};
use chaperone_wire::{AllowSpecial, Resolver, Secret, TlsClient, TlsMode, TlsSettings};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::raw::Client;
use super::{PASSWORD, Setup, TestServer, until};

/// Raw values that no agent and no record may see under [`MASKED`].
pub const RAW: [&str; 3] = ["ada@raw.example", "grace@raw.example", "4242424242424242"];

/// Guardrails that mask them.
pub const MASKED: &str = "
guardrails:
  masking:
  - {name: pii, columns: [public.customers.email], strategy: Redact}
  - {name: card, columns: [public.customers.card], strategy: Partial, partial: {keepLast: 4}}";

/// Reads and writes of everything in `public`.
pub const ALL: &str = "
rules:
- {name: all, action: Allow, sql: {effects: [Read, Write, Modify, Delete, BulkLoad, BulkExport, Notify], relations: ['public.*', 'other.*']}}";

const SEED: &str = "
CREATE TABLE customers (id int PRIMARY KEY, name text, email text, card text);
INSERT INTO customers VALUES
  (1, 'Ada', 'ada@raw.example', '4242424242424242'),
  (2, 'Grace', 'grace@raw.example', '5555555555554444');
CREATE TABLE orders (id int PRIMARY KEY, note text);
INSERT INTO orders SELECT n, 'note ' || n FROM generate_series(1, 10) AS n;
CREATE TABLE unlimited (body text);
CREATE TABLE secrets (id int, body text);
INSERT INTO secrets VALUES (1, 'hidden');
CREATE SCHEMA other;
CREATE TABLE other.customers (id int PRIMARY KEY, name text, email text, card text);
INSERT INTO other.customers VALUES (7, 'Other', 'other@plain.example', '1');
GRANT USAGE, CREATE ON SCHEMA public, other TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA public, other TO PUBLIC;";

static SERVER: Mutex<Weak<TestServer>> = Mutex::new(Weak::new());
static DATABASES: AtomicUsize = AtomicUsize::new(1);

/// The server that the tests which run now share; it goes with the last of them.
pub fn shared_server() -> Arc<TestServer> {
    let mut shared = SERVER.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(TestServer::start(&Setup::default()));
    *shared = Arc::downgrade(&server);
    server
}

/// What a test writes down to start one.
#[derive(Default)]
pub struct World<'a> {
    /// The connection's `guardrails`, and nothing else.
    pub guardrails: &'a str,
    /// One AccessPolicy each: everything but subjects and connections.
    pub policies: &'a [&'a str],
}

/// A connection under enforcement.
pub struct Proxy {
    pub port: u16,
    pub database: String,
    pub server: Arc<TestServer>,
    pub approvals: Arc<Folder>,
    pub connection: Arc<Connection>,
    state: TempDir,
    recorder: Arc<Recorder>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    generation: AtomicU64,
    runtime: tokio::runtime::Runtime,
    served: Arc<AtomicUsize>,
}

impl Proxy {
    pub fn start(world: &World<'_>) -> Proxy {
        Proxy::with(world, |_| {})
    }

    pub fn with(world: &World<'_>, adapt: impl FnOnce(&mut Connection)) -> Proxy {
        let server = shared_server();
        let database = format!("t{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        server.psql(&format!("CREATE DATABASE {database}"));
        server.psql_in(&database, SEED);
        let state = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let recorder = {
            let _on = runtime.enter();
            Store::open(&state.path().join("evidence"))
                .unwrap()
                .attach(
                    AttachIdentity {
                        subject: "shop/report-agent".to_owned(),
                        host: "test".to_owned(),
                        version: "0".to_owned(),
                    },
                    SpoolOptions::default(),
                )
                .unwrap()
        };
        let approvals =
            Arc::new(Folder::open(&state.path().join("approvals"), Arc::new(SystemClock)).unwrap());
        let (snapshot, receiver) = watch::channel(compile(world, 1));
        let mut connection = Connection {
            enforcement: Arc::new(Enforcement {
                connection: "databases/orders-db".to_owned(),
                target: format!("127.0.0.1:{}/{database}", server.port),
                protocol: "postgres",
                snapshot: receiver,
                recorder: Arc::clone(&recorder),
                approvals: Arc::new(Approvals::Folder {
                    folder: Folder::clone(&approvals),
                    state: PathBuf::from("state"),
                }),
                metrics: Metrics::new().unwrap(),
                rates: RateLimits::new(),
                deviations: Deviations::default(),
                notices: Arc::default(),
                key_requests: KeyRequests::default(),
            }),
            subject: Arc::new(Subject {
                workload: Workload {
                    namespace: "shop".to_owned(),
                    service_account: "report-agent".to_owned(),
                    pod: None,
                    labels: BTreeMap::new(),
                },
                delegate: None,
                purpose: Some("nightly".to_owned()),
            }),
            target: Target {
                host: "127.0.0.1".to_owned(),
                port: server.port,
                database: database.clone(),
                tls: TlsClient::new(&TlsSettings {
                    mode: TlsMode::Disable,
                    ca_pem: None,
                    identity: None,
                })
                .unwrap(),
            },
            credential: Credential {
                username: "scram_user".to_owned(),
                proof: Proof::Password(Secret::from(PASSWORD.to_owned())),
            },
            resolver: Arc::new(Resolver::new()),
            tls: None,
            allow_special: AllowSpecial::LiteralLoopback,
            allow_md5: false,
            allow_cleartext: false,
            masker: Arc::new(Masker::new(HashKey::new([7; 32]))),
            cancels: Arc::new(CancelRegistry::default()),
            statements: Statements::new(),
            facts: CatalogCache::default(),
            bounds: Bounds::default(),
            slots: Arc::new(Semaphore::new(100)),
            catalogs: AtomicU64::new(0),
        };
        adapt(&mut connection);
        let connection = Arc::new(connection);
        let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = Arc::new(AtomicUsize::new(0));
        let (accepting, counting) = (Arc::clone(&connection), Arc::clone(&served));
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (agent, _) = listener.accept().await.unwrap();
                let counting = Arc::clone(&counting);
                let connections: Arc<[Arc<Connection>]> = Arc::new([Arc::clone(&accepting)]);
                counting.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let session =
                        tokio::spawn(serve(connections, agent, chaperone_wire::Drain::never()));
                    session.await.unwrap();
                    counting.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Proxy {
            port,
            database,
            server,
            approvals,
            connection,
            state,
            recorder,
            snapshot,
            generation: AtomicU64::new(1),
            runtime,
            served,
        }
    }

    /// A session through the proxy.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.port, "agent", &self.database)
    }

    /// A session past it, as the same role.
    #[track_caller]
    pub fn direct(&self) -> Client {
        Client::connect(self.server.port, "postgres", &self.database)
    }

    /// Runs a script as the superuser.
    pub fn sql(&self, sql: &str) -> String {
        self.server.psql_in(&self.database, sql).trim().to_owned()
    }

    /// Puts other policies in force.
    pub fn change(&self, world: &World<'_>) {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        self.snapshot.send_replace(compile(world, generation));
    }

    /// Waits until a request stands and answers it.
    pub fn answer(&self, verdict: Verdict) -> String {
        let name = self.pending();
        self.approvals
            .review(&name, "local:1000", verdict, "because")
            .unwrap();
        name
    }

    /// Waits until a request stands.
    pub fn pending(&self) -> String {
        let mut name = None;
        until(|| {
            name = self
                .approvals
                .list()
                .unwrap()
                .into_iter()
                .flatten()
                .find(|entry| entry.evaluation.phase == chaperone_approvals::Phase::Pending)
                .map(|entry| entry.name);
            name.is_some()
        });
        name.unwrap()
    }

    /// Whether every session has ended.
    pub fn idle(&self) -> bool {
        self.served.load(Ordering::SeqCst) == 0
    }

    /// Waits for all sessions to end, and gives the records of each after checking that the
    /// evidence verifies.
    pub fn finish(self) -> Evidence {
        until(|| self.idle());
        self.runtime
            .block_on(self.recorder.detach(Duration::from_secs(20)))
            .unwrap();
        let dir = self.state.path().join("evidence");
        let report = verify(&dir, &Selection::All, None).unwrap();
        assert!(report.ok(), "{:?}", report.breaks);
        let sessions = Sessions::list(&dir)
            .unwrap()
            .into_iter()
            .map(|session| {
                chaperone_evidence::show(&dir, &session.id)
                    .unwrap()
                    .collect::<Result<Vec<Shown>, _>>()
                    .unwrap()
            })
            .collect();
        Evidence {
            sessions,
            server_log: self.server.log(),
            state: self.state,
        }
    }
}

/// What is left when all is over.
pub struct Evidence {
    pub sessions: Vec<Vec<Shown>>,
    pub server_log: String,
    state: TempDir,
}

impl Evidence {
    /// Whether this text is in a record, in the approvals, or in the bytes of either direction.
    pub fn holds(&self, needle: &str) -> Option<String> {
        for shown in self.sessions.iter().flatten() {
            let bytes = match &shown.record {
                Record::Client { stream, .. } | Record::Server(stream) => stream.bytes.clone(),
                Record::Proxy { bytes, .. } => bytes.clone(),
                other => format!("{other:?}").into_bytes(),
            };
            if bytes.windows(needle.len()).any(|w| w == needle.as_bytes()) {
                return Some(format!(
                    "{needle} in {} {}: {}",
                    shown.record.kind(),
                    shown.sequence,
                    String::from_utf8_lossy(&bytes)
                ));
            }
        }
        let approvals = self.state.path().join("approvals");
        for entry in std::fs::read_dir(approvals).into_iter().flatten() {
            let path = entry.unwrap().path();
            let text = std::fs::read(&path).unwrap_or_default();
            if text.windows(needle.len()).any(|w| w == needle.as_bytes()) {
                return Some(format!("{needle} in {}", path.display()));
            }
        }
        None
    }

    /// No raw value anywhere.
    #[track_caller]
    pub fn hides_raw(&self) {
        for needle in RAW {
            assert_eq!(self.holds(needle), None);
        }
    }

    /// All records of the only session.
    #[track_caller]
    pub fn only(&self) -> &[Shown] {
        assert_eq!(self.sessions.len(), 1);
        &self.sessions[0]
    }
}

fn compile(world: &World<'_>, generation: u64) -> Arc<Snapshot> {
    let connection: ConnectionSpec = serde_saphyr::from_str(&format!(
        "postgres: {{host: db, credential: {{secret: {{name: db}}}}}}\n\
         consumers: {{namespaceSelector: {{}}}}\n{}",
        world.guardrails
    ))
    .unwrap();
    let specs: Vec<(String, AccessPolicySpec)> = world
        .policies
        .iter()
        .enumerate()
        .map(|(number, body)| {
            let text = format!(
                "subjects: [{{serviceAccount: report-agent}}]\nconnections: [databases/orders-db]\n{body}"
            );
            let spec =
                serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            (format!("p{number}"), spec)
        })
        .collect();
    let policies: Vec<NamedPolicy<'_>> = specs
        .iter()
        .map(|(name, spec)| NamedPolicy {
            namespace: "shop",
            name,
            generation: i64::try_from(generation).unwrap(),
            spec,
        })
        .collect();
    let namespaces = NamespaceLabels::new();
    let named = NamedConnection {
        namespace: "databases",
        name: "orders-db",
        generation: i64::try_from(generation).unwrap(),
        spec: &connection,
        namespaces: &namespaces,
    };
    Arc::new(Snapshot {
        generation,
        providers: Arc::default(),
        policies: PolicySet::compile(&named, &policies),
    })
}
