//! Servers on real sockets: which certificate, which deadlines, which end.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use chaperone_operator::certificates::{Material, Resolver, renew};
use chaperone_operator::server::{Bounds, serve};
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

const NAME: &str = "chaperone-operator.chaperone-system.svc";

fn material() -> Material {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    renew(None, &[NAME.to_owned()], Timestamp::now())
        .unwrap()
        .unwrap()
}

struct Server {
    address: SocketAddr,
    resolver: Arc<Resolver>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

async fn start(router: Router, answer: Duration) -> Server {
    let resolver = Arc::new(Resolver::default());
    let tls = resolver.server_config().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let bounds = Bounds {
        connections: 8,
        answer,
        drain: Duration::from_secs(5),
    };
    let task = tokio::spawn(serve(listener, Some(tls), router, bounds, stop.clone()));
    Server {
        address,
        resolver,
        stop,
        task,
    }
}

async fn dial(
    server: &Server,
    trusted: &Material,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for authority in trusted.authorities() {
        roots
            .add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap())
            .unwrap();
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_rotated_certificate_serves_the_next_handshake() {
    let server = start(
        Router::new().route("/", get(|| async { "here" })),
        Duration::from_secs(5),
    )
    .await;
    let first = material();
    assert!(
        dial(&server, &first, NAME).await.is_err(),
        "no certificate yet"
    );
    server.resolver.load(&first).unwrap();
    let mut stream = dial(&server, &first, NAME).await.unwrap();
    assert!(ask(&mut stream, "/").await.ends_with("here"));
    assert!(dial(&server, &first, "elsewhere.svc").await.is_err());

    let stranger = material();
    assert!(dial(&server, &stranger, NAME).await.is_err());
    server.resolver.load(&stranger).unwrap();
    assert!(dial(&server, &stranger, NAME).await.is_ok());

    // The same authority's next leaf, as a rotation makes it.
    let later = Timestamp::now() + jiff::SignedDuration::from_hours(24 * 61);
    let renewed = renew(Some(&first), &[NAME.to_owned()], later)
        .unwrap()
        .unwrap();
    assert_eq!(renewed.authorities(), first.authorities());
    assert!(server.resolver.load(&renewed).is_ok());
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up() {
    let never = || async { std::future::pending::<&str>().await };
    let server = start(
        Router::new().route("/never", get(never)),
        Duration::from_millis(50),
    )
    .await;
    let material = material();
    server.resolver.load(&material).unwrap();
    let mut stream = dial(&server, &material, NAME).await.unwrap();
    let answer = ask(&mut stream, "/never").await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
}

#[tokio::test]
async fn open_requests_end_before_the_server_does() {
    let (asked, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (seen, go) = (asked.clone(), release.clone());
    let handler = move || {
        let (asked, release) = (asked.clone(), release.clone());
        async move {
            asked.notify_one();
            release.notified().await;
            "done"
        }
    };
    let server = start(
        Router::new().route("/", get(handler)),
        Duration::from_secs(5),
    )
    .await;
    let material = material();
    server.resolver.load(&material).unwrap();
    let mut stream = dial(&server, &material, NAME).await.unwrap();
    let answer = tokio::spawn(async move { ask(&mut stream, "/").await });
    seen.notified().await;
    server.stop.cancel();
    go.notify_one();
    assert!(answer.await.unwrap().ends_with("done"));
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn what_is_not_tls_gets_no_answer() {
    let server = start(Router::new(), Duration::from_secs(5)).await;
    server.resolver.load(&material()).unwrap();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An alert and the end, or a reset.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
}
