//! A stand-in for the operator's side of the control API: its real types, over real TLS and
//! HTTP/2. It decides nothing: a test says what it answers. The operator itself is tried on a
//! cluster.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use chaperone_control::{
    Append, Appended, ApprovalState, AttachAnswer, AttachRequest, Cancel, CertificateAnswer,
    CertificateRequest, ConnectionSnapshot, KeysWanted, NewApproval, PodIdentity, ProviderSnapshot,
    RecoveredSession, Redeem, Refusal, SecretBytes, SessionViews, SinkSnapshot, Snapshot,
    StreamEvent,
};
use chaperone_crds::{ApprovalPhase, ApprovalVerdict, Review, SessionSpec};
use chaperone_evidence::audit::{self, Collected, Entry, EntryKind, LogKey, StoreCertificate};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;

/// How often the stand-in says that nothing changed.
const HEARTBEAT: Duration = Duration::from_millis(100);

const NAMESPACE: &str = "shop";
const SERVICE_ACCOUNT: &str = "report-agent";
const POD: &str = "report-agent-0";
const UID: &str = "0d1c";

/// The stand-in. Dropping it ends its runtime.
pub struct Operator {
    pub address: SocketAddr,
    pub ca_pem: String,
    world: Arc<World>,
    _runtime: tokio::runtime::Runtime,
}

struct World {
    answers: Mutex<Answers>,
    changed: watch::Sender<u64>,
    away: AtomicBool,
    attaches: AtomicU64,
    approvals: Mutex<BTreeMap<String, Asked>>,
    key: LogKey,
    log: Mutex<Collected>,
    views: Mutex<BTreeMap<String, SessionSpec>>,
    recovered: Mutex<Vec<Vec<RecoveredSession>>>,
    deaf: AtomicBool,
    keys_wanted: Mutex<Vec<String>>,
    expired: AtomicBool,
}

struct Answers {
    token: String,
    digest_key: [u8; 32],
    valid_for: SignedDuration,
    labels: BTreeMap<String, String>,
    connections: Vec<ConnectionSnapshot>,
    identity_providers: Vec<ProviderSnapshot>,
    seal_for: Option<Vec<String>>,
    sinks: Option<Vec<SinkSnapshot>>,
}

#[derive(Clone)]
pub struct Asked {
    pub new: NewApproval,
    pub phase: ApprovalPhase,
    pub redeemed: Option<Redeem>,
}

impl Operator {
    pub fn start(token: &str) -> Operator {
        let (ca_pem, [valid, expired]) = certificates();
        let world = Arc::new(World {
            answers: Mutex::new(Answers {
                token: token.to_owned(),
                digest_key: [7; 32],
                valid_for: SignedDuration::from_hours(1),
                labels: BTreeMap::new(),
                connections: Vec::new(),
                identity_providers: Vec::new(),
                seal_for: Some(Vec::new()),
                sinks: Some(Vec::new()),
            }),
            changed: watch::channel(1).0,
            away: AtomicBool::new(false),
            attaches: AtomicU64::new(0),
            approvals: Mutex::default(),
            key: LogKey::from_pem(&LogKey::generate().unwrap()).unwrap(),
            log: Mutex::default(),
            views: Mutex::default(),
            recovered: Mutex::default(),
            deaf: AtomicBool::new(false),
            keys_wanted: Mutex::default(),
            expired: AtomicBool::new(false),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(Arc::clone(&world));
        let served = Arc::clone(&world);
        runtime.spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let acceptor = match served.expired.load(Ordering::SeqCst) {
                    true => expired.clone(),
                    false => valid.clone(),
                };
                let router = router.clone();
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else {
                        return;
                    };
                    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                    let service = TowerToHyperService::new(router);
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(tls), service)
                        .await;
                });
            }
        });
        Operator {
            address,
            ca_pem,
            world,
            _runtime: runtime,
        }
    }

    /// Changes what the pod is told, and tells it.
    pub fn tell(&self, connections: Vec<ConnectionSnapshot>) {
        self.world.answers.lock().unwrap().connections = connections;
        self.changed();
    }

    /// Changes whose tokens can be checked.
    pub fn tell_providers(&self, providers: Vec<ProviderSnapshot>) {
        self.world.answers.lock().unwrap().identity_providers = providers;
        self.changed();
    }

    /// Changes whom evidence is sealed for.
    pub fn seal_for(&self, recipients: Option<&[&str]>) {
        self.world.answers.lock().unwrap().seal_for =
            recipients.map(|some| some.iter().map(|one| (*one).to_owned()).collect());
        self.changed();
    }

    /// Has events sent there; `None`: nobody knows.
    pub fn sinks(&self, sinks: Option<Vec<SinkSnapshot>>) {
        self.world.answers.lock().unwrap().sinks = sinks;
        self.changed();
    }

    /// The providers whose keys were asked for.
    pub fn keys_wanted(&self) -> Vec<String> {
        self.world.keys_wanted.lock().unwrap().clone()
    }

    pub fn label(&self, labels: &[(&str, &str)]) {
        self.world.answers.lock().unwrap().labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        self.changed();
    }

    pub fn valid_for(&self, seconds: i64) {
        self.world.answers.lock().unwrap().valid_for = SignedDuration::from_secs(seconds);
        self.changed();
    }

    pub fn digest_key(&self, key: [u8; 32]) {
        self.world.answers.lock().unwrap().digest_key = key;
    }

    /// From now on only this token is known.
    pub fn token(&self, token: &str) {
        token.clone_into(&mut self.world.answers.lock().unwrap().token);
    }

    /// Answers nothing but 503, and ends its streams.
    pub fn away(&self, away: bool) {
        self.world.away.store(away, Ordering::SeqCst);
        self.changed();
    }

    /// Takes no evidence in, and answers all else.
    pub fn deaf(&self, deaf: bool) {
        self.world.deaf.store(deaf, Ordering::SeqCst);
    }

    /// Proves itself by a certificate that has expired, to those that connect from now on.
    pub fn expired(&self, expired: bool) {
        self.world.expired.store(expired, Ordering::SeqCst);
    }

    /// All evidence that arrived, verified.
    pub fn verified(&self) -> chaperone_evidence::Report {
        let folder = tempfile::tempdir().unwrap();
        let log = self.world.log.lock().unwrap();
        let public = self.world.key.public();
        audit::verify::verify_into(&log, public, folder.path())
            .unwrap()
            .report
    }

    /// The views of sessions that were told.
    pub fn views(&self) -> BTreeMap<String, SessionSpec> {
        self.world.views.lock().unwrap().clone()
    }

    /// What was told of sessions of earlier lives, each time.
    pub fn recovered(&self) -> Vec<Vec<RecoveredSession>> {
        self.world.recovered.lock().unwrap().clone()
    }

    pub fn attaches(&self) -> u64 {
        self.world.attaches.load(Ordering::SeqCst)
    }

    /// What was asked for, by name.
    pub fn asked(&self) -> BTreeMap<String, Asked> {
        self.world.approvals.lock().unwrap().clone()
    }

    pub fn answer(&self, name: &str, phase: ApprovalPhase) {
        let mut approvals = self.world.approvals.lock().unwrap();
        approvals.get_mut(name).unwrap().phase = phase;
        drop(approvals);
        self.world.changed.send_modify(|_| {});
    }

    fn changed(&self) {
        self.world
            .changed
            .send_modify(|generation| *generation += 1);
    }
}

/// A CA, and servers that prove themselves by a leaf of its: one that is valid, and one that has
/// expired.
fn certificates() -> (String, [TlsAcceptor; 2]) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let mut valid = CertificateParams::new(Vec::new()).unwrap();
    let own_address = SanType::IpAddress("127.0.0.1".parse().unwrap());
    valid.subject_alt_names.push(own_address);
    let mut expired = valid.clone();
    expired.not_after = date_time_ymd(2020, 1, 1);
    (
        pem,
        [valid, expired].map(|params| acceptor(&params, &issuer)),
    )
}

fn acceptor(params: &CertificateParams, issuer: &Issuer<'_, KeyPair>) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let own = params.signed_by(&key, issuer).unwrap().der().clone();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![own],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn router(world: Arc<World>) -> Router {
    Router::new()
        .route("/v1/attach", post(attach))
        .route("/v1/stream", get(stream))
        .route("/v1/approvals", post(create))
        .route("/v1/approvals/{name}", get(state))
        .route("/v1/approvals/{name}/cancel", post(cancel))
        .route("/v1/approvals/{name}/redeem", post(redeem))
        .route("/v1/audit", post(append))
        .route("/v1/audit/certificate", post(certificate))
        .route("/v1/audit/sessions", post(sessions))
        .route("/v1/identity/keys", post(keys))
        .layer(from_fn_with_state(Arc::clone(&world), admit))
        .with_state(world)
}

fn refused(status: StatusCode, reason: &str, message: &str) -> Response {
    let refusal = Refusal {
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    (status, Json(refusal)).into_response()
}

async fn admit(State(world): State<Arc<World>>, request: Request, next: Next) -> Response {
    if world.away.load(Ordering::SeqCst) {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "ApiUnavailable", "away");
    }
    let expected = format!("Bearer {}", world.answers.lock().unwrap().token);
    let given = request.headers().get(AUTHORIZATION);
    if given.is_none_or(|given| given.as_bytes() != expected.as_bytes()) {
        return refused(StatusCode::UNAUTHORIZED, "TokenRefused", "not this token");
    }
    next.run(request).await
}

async fn keys(State(world): State<Arc<World>>, Json(wanted): Json<KeysWanted>) -> StatusCode {
    world.keys_wanted.lock().unwrap().push(wanted.provider);
    StatusCode::NO_CONTENT
}

impl World {
    fn snapshot(&self) -> Snapshot {
        let answers = self.answers.lock().unwrap();
        Snapshot {
            generation: *self.changed.borrow(),
            valid_until: Timestamp::now() + answers.valid_for,
            labels: answers.labels.clone(),
            connections: answers.connections.clone(),
            identity_providers: answers.identity_providers.clone(),
            seal_for: answers.seal_for.clone(),
            sinks: answers.sinks.clone(),
        }
    }

    fn approval(&self, name: &str, created: bool) -> ApprovalState {
        let approvals = self.approvals.lock().unwrap();
        let asked = approvals.get(name).unwrap();
        let now = Timestamp::now();
        let answered = matches!(
            asked.phase,
            ApprovalPhase::Approved | ApprovalPhase::Consumed
        );
        ApprovalState {
            name: name.to_owned(),
            phase: asked.phase,
            open_until: now + SignedDuration::from_mins(5),
            created,
            approved_at: answered.then_some(now),
            reviews: answered
                .then(|| Review {
                    reviewer: "maria".to_owned(),
                    groups: vec!["dba".to_owned()],
                    verdict: ApprovalVerdict::Approve,
                    reason: Some("ticket 42".to_owned()),
                    at: Time(now),
                })
                .into_iter()
                .collect(),
        }
    }
}

async fn attach(State(world): State<Arc<World>>, Json(_): Json<AttachRequest>) -> Response {
    world.attaches.fetch_add(1, Ordering::SeqCst);
    let snapshot = world.snapshot();
    let answers = world.answers.lock().unwrap();
    Json(AttachAnswer {
        pod: PodIdentity {
            namespace: NAMESPACE.to_owned(),
            service_account: SERVICE_ACCOUNT.to_owned(),
            name: POD.to_owned(),
            uid: UID.to_owned(),
            labels: answers.labels.clone(),
            purpose: Some("nightly-report".to_owned()),
        },
        digest_key: SecretBytes::new(answers.digest_key.to_vec()),
        snapshot,
    })
    .into_response()
}

async fn stream(
    State(world): State<Arc<World>>,
    Query(query): Query<BTreeMap<String, u64>>,
) -> Response {
    let known = query["generation"];
    let events = futures::stream::unfold(
        (world.changed.subscribe(), known, world),
        |(mut changed, known, world)| async move {
            let event = loop {
                if world.away.load(Ordering::SeqCst) {
                    return None;
                }
                let snapshot = world.snapshot();
                if snapshot.generation != known {
                    break StreamEvent::Snapshot(Box::new(snapshot));
                }
                if tokio::time::timeout(HEARTBEAT, changed.changed())
                    .await
                    .is_err()
                {
                    break StreamEvent::Heartbeat {
                        generation: known,
                        valid_until: snapshot.valid_until,
                    };
                }
            };
            let known = match &event {
                StreamEvent::Snapshot(snapshot) => snapshot.generation,
                StreamEvent::Heartbeat { generation, .. } => *generation,
            };
            let mut line = serde_json::to_vec(&event).unwrap();
            line.push(b'\n');
            Some((
                Ok::<_, Infallible>(Bytes::from(line)),
                (changed, known, world),
            ))
        },
    );
    Body::from_stream(events).into_response()
}

impl World {
    fn put(&self, kind: EntryKind, store: [u8; 32], number: u64, part: (u32, u32), data: Vec<u8>) {
        let entry = Entry {
            kind,
            namespace: NAMESPACE.to_owned(),
            pod: POD.to_owned(),
            uid: UID.to_owned(),
            store,
            number,
            part: part.0,
            parts: part.1,
            digest: audit::digest(&data),
        };
        let mut log = self.log.lock().unwrap();
        let name = format!("as-{:05}", log.segments.len());
        log.segments.insert(name, vec![(entry, data)]);
    }
}

async fn certificate(
    State(world): State<Arc<World>>,
    Json(request): Json<CertificateRequest>,
) -> Response {
    let store: [u8; 32] = hex::decode(request.store).unwrap().try_into().unwrap();
    let certificate = StoreCertificate {
        store,
        pod: audit::Pod {
            namespace: NAMESPACE.to_owned(),
            name: POD.to_owned(),
            uid: UID.to_owned(),
            service_account: SERVICE_ACCOUNT.to_owned(),
        },
        wall_ns: 1,
    };
    let bytes = certificate.sign(&world.key).unwrap();
    world.put(EntryKind::Certificate, store, 0, (0, 1), bytes.clone());
    Json(CertificateAnswer {
        certificate: chaperone_control::Bytes(bytes),
    })
    .into_response()
}

async fn append(State(world): State<Arc<World>>, Json(append): Json<Append>) -> Response {
    if world.deaf.load(Ordering::SeqCst) {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "QuotaExceeded", "full");
    }
    let checked = audit::check(
        &append.certificate.0,
        world.key.public(),
        UID,
        &append.attach.0,
        append.number,
        append.parts,
        &append.data.0,
    );
    match checked {
        Ok(checked) => {
            let part = (append.part, append.parts);
            let store = checked.certificate.store;
            world.put(
                EntryKind::Segment,
                store,
                append.number,
                part,
                append.data.0,
            );
            let segment = "as".to_owned();
            Json(Appended { segment }).into_response()
        }
        Err(error) => refused(StatusCode::FORBIDDEN, "EvidenceRefused", &error.to_string()),
    }
}

async fn sessions(State(world): State<Arc<World>>, Json(views): Json<SessionViews>) -> Response {
    if let Some(recovered) = views.recovered {
        world.recovered.lock().unwrap().push(recovered);
    }
    let told = views.sessions.into_iter().map(|view| (view.id, view.spec));
    world.views.lock().unwrap().extend(told);
    StatusCode::NO_CONTENT.into_response()
}

async fn create(State(world): State<Arc<World>>, Json(new): Json<NewApproval>) -> Response {
    let mut approvals = world.approvals.lock().unwrap();
    let name = format!("ar-{:05}", approvals.len() + 1);
    let asked = Asked {
        new,
        phase: ApprovalPhase::Pending,
        redeemed: None,
    };
    approvals.insert(name.clone(), asked);
    drop(approvals);
    Json(world.approval(&name, true)).into_response()
}

async fn state(
    State(world): State<Arc<World>>,
    Path(name): Path<String>,
    Query(query): Query<BTreeMap<String, u64>>,
) -> Response {
    let mut changed = world.changed.subscribe();
    let wait = tokio::time::sleep(Duration::from_secs(query["wait"]));
    tokio::pin!(wait);
    loop {
        let state = world.approval(&name, false);
        if state.phase != ApprovalPhase::Pending {
            return Json(state).into_response();
        }
        tokio::select! {
            () = &mut wait => return Json(state).into_response(),
            _ = changed.changed() => {}
        }
    }
}

async fn cancel(
    State(world): State<Arc<World>>,
    Path(name): Path<String>,
    Json(_): Json<Cancel>,
) -> Response {
    let mut approvals = world.approvals.lock().unwrap();
    approvals.get_mut(&name).unwrap().phase = ApprovalPhase::Cancelled;
    drop(approvals);
    Json(world.approval(&name, false)).into_response()
}

async fn redeem(
    State(world): State<Arc<World>>,
    Path(name): Path<String>,
    Json(redeem): Json<Redeem>,
) -> Response {
    let mut approvals = world.approvals.lock().unwrap();
    let asked = approvals.get_mut(&name).unwrap();
    let same = asked.new.command_digest == redeem.command_digest;
    if asked.phase != ApprovalPhase::Approved || !same {
        return refused(StatusCode::CONFLICT, "ApprovalUnavailable", "no such grant");
    }
    asked.phase = ApprovalPhase::Consumed;
    asked.redeemed = Some(redeem);
    drop(approvals);
    Json(world.approval(&name, false)).into_response()
}
