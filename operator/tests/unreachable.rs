//! The real program with an API server that is not there, or that nobody may believe: it says why, and
//! waits.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;

const DEADLINE: Duration = Duration::from_secs(60);

/// The program, which is ended with its test.
struct Operator {
    child: Child,
    admin: u16,
    _kubeconfig: tempfile::TempDir,
}

impl Operator {
    /// Told to find its API server at this port, by this CA.
    fn start(api_server: u16, ca: &str) -> Operator {
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.crt");
        std::fs::write(&ca_file, ca).unwrap();
        let kubeconfig = folder.path().join("config");
        std::fs::write(&kubeconfig, kubeconfig_of(api_server, &ca_file)).unwrap();
        let ports: Vec<u16> = {
            let held: Vec<TcpListener> = (0..3).map(|_| listener()).collect();
            held.iter().map(port).collect()
        };
        let child = Command::new(env!("CARGO_BIN_EXE_chaperone-operator"))
            .args(["run", "--sidecar-image", "registry.example/sidecar:1"])
            .args(["--webhook-port", &ports[0].to_string()])
            .args(["--control-port", &ports[1].to_string()])
            .args(["--admin-port", &ports[2].to_string()])
            .env("KUBECONFIG", &kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Operator {
            child,
            admin: ports[2],
            _kubeconfig: folder,
        }
    }

    fn ask(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Waits until it is not ready for this reason, in these words, and lives.
    fn waits_because(&mut self, words: &str) {
        let begun = Instant::now();
        let mut said = String::new();
        while !(said.contains("ApiUnavailable") && said.contains(words)) {
            assert!(begun.elapsed() < DEADLINE, "{words:?} is not in {said}");
            assert_eq!(self.child.try_wait().unwrap(), None, "it ended");
            std::thread::sleep(Duration::from_millis(50));
            said = self.ask("/readyz").unwrap_or_default();
        }
        assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
        // Restarting it would help nobody.
        let lives = self.ask("/livez").unwrap();
        assert!(lives.starts_with("HTTP/1.1 200 "), "{lives}");
    }

    /// It ends when it is told to, as one that works does.
    fn ends_in_order(mut self) {
        let pid = self.child.id().to_string();
        let kill = Command::new("sh")
            .args(["-c", "kill -TERM \"$0\"", &pid])
            .status();
        assert!(kill.unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().unwrap().port()
}

fn kubeconfig_of(port: u16, ca: &Path) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: c
clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority: '{}'}}}}]
users: [{{name: u, user: {{token: nobody}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
",
        ca.display()
    )
}

/// A CA, and an API server's certificate of its that has expired; or that is not valid yet, as one
/// looks to a clock that is behind.
fn expired(from: i32, until: i32) -> (String, Arc<rustls::ServerConfig>) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let own = params.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![own.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (pem, Arc::new(config))
}

#[test]
fn an_api_server_that_is_away_is_waited_for() {
    let (ca, _) = expired(2020, 2021);
    // Nobody listens there any more.
    let nowhere = port(&listener());
    let mut operator = Operator::start(nowhere, &ca);
    operator.waits_because("refused");
    operator.ends_in_order();
}

#[test]
fn an_api_server_outside_its_validity_is_named_and_waited_for() {
    for (from, until, words) in [(2020, 2021, "xpired"), (2900, 2901, "not valid yet")] {
        let (ca, config) = expired(from, until);
        let listener = listener();
        let mut operator = Operator::start(port(&listener), &ca);
        std::thread::spawn(move || {
            // Every handshake fails at the other side; this one has no more to do.
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let Ok(mut tls) = rustls::ServerConnection::new(config.clone()) else {
                    continue;
                };
                let _ = tls.complete_io(&mut stream);
            }
        });
        operator.waits_because(words);
        operator.ends_in_order();
    }
}
