//! An agent's TLS ends in the sidecar, which shows it a certificate of the host it asked for.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use chaperone_control::{ConnectionSnapshot, PolicySnapshot, SecretBytes};
use chaperone_e2e::clients;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use xtask::nginx::Nginx;
use xtask::process::Process;

use super::{HOST, Pod, relay};

/// A name that stands for the API.
const API: &str = "api.pay.example";
const OTHER: &str = "pay.test";

struct World {
    pod: Pod,
    _sidecar: Process,
    _nginx: Nginx,
}

impl World {
    /// A sidecar before an API that is spoken to with TLS or without.
    fn new(secure: bool) -> World {
        let pod = Pod::new();
        let (ca, certificate, key) = certificates(&pod);
        for (name, text) in [("api.crt", &certificate), ("api.key", &key)] {
            fs::write(pod.path(name), text).unwrap();
        }
        let listen = match secure {
            true => format!(
                "listen 127.0.0.1:{{port}} ssl http2; ssl_certificate {}; ssl_certificate_key {};",
                pod.path("api.crt").display(),
                pod.path("api.key").display()
            ),
            false => "listen 127.0.0.1:{port};".to_owned(),
        };
        let nginx = Nginx::start(&format!(
            "  server {{\n    {listen}\n    location / {{ return 200 '{{\"proto\": \"$server_protocol\", \
             \"token\": \"$http_x_token\"}}'; }}\n  }}"
        ))
        .unwrap();
        let port = relay(pod.target, nginx.port());
        let (scheme, tls) = match secure {
            true => ("https", "{ca: {configMap: {name: ca, key: ca.crt}}}"),
            false => ("http", "{mode: Disable}"),
        };
        let spec = format!(
            "http: {{url: '{scheme}://{}:{port}', hosts: [{API}, {OTHER}], tls: {tls}, \
             credential: {{header: X-Token, secret: {{name: api, key: token}}}}}}\n\
             consumers: {{namespaceSelector: {{matchLabels: {{team: shop}}}}}}\n",
            pod.target
        );
        let policy = "subjects: [{serviceAccount: report-agent}]\nconnections: [databases/orders-db]\n\
                      rules: [{name: open, action: Allow, http: {methods: [GET], paths: [/open]}}]\n";
        pod.operator.tell(vec![ConnectionSnapshot {
            spec: Some(serde_saphyr::from_str(&spec).unwrap()),
            credential: BTreeMap::from([("token".to_owned(), SecretBytes::new(b"real".to_vec()))]),
            ca: secure.then_some(ca),
            policies: vec![PolicySnapshot {
                namespace: "shop".to_owned(),
                name: "report-agent".to_owned(),
                generation: 1,
                spec: serde_saphyr::from_str(policy).unwrap(),
            }],
            ..pod.connection("[]")
        }]);
        World {
            _sidecar: pod.start(),
            pod,
            _nginx: nginx,
        }
    }

    /// curl to the listener, whatever host the URL names, trusting what agents trust.
    fn curl(&self, words: &[&str], url: &str) -> String {
        let mut command = Command::new("curl");
        command
            .args(["-q", "-sS", "--max-time", "20"])
            .args(["-w", "\n%{http_code} %{http_version}"])
            .args(["--connect-to", &format!("::127.0.0.1:{}", self.pod.port)])
            .arg("--cacert")
            .arg(self.pod.path("trust").join("ca-bundle.crt"))
            .args(words)
            .arg(url.replace("PORT", &self.pod.port.to_string()));
        let said = clients::run(command, "").unwrap();
        format!("{}\n{}", said.all(), self.pod.log())
    }
}

/// A CA, a certificate of the target's by it, and its key.
fn certificates(pod: &Pod) -> (String, String, String) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut own = CertificateParams::new(Vec::new()).unwrap();
    own.subject_alt_names = vec![SanType::IpAddress(pod.target)];
    let own = own.signed_by(&key, &ca).unwrap();
    (ca.pem(), own.pem(), key.serialize_pem())
}

#[test]
fn each_version_of_http_is_spoken_by_every_name_with_a_leaf_of_its_own() {
    let world = World::new(true);
    for (word, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for name in [API, OTHER] {
            let said = world.curl(&[word], &format!("https://{name}:PORT/open"));
            assert!(said.contains(&format!("200 {version}")), "{name}: {said}");
            // The target offers HTTP/2 whatever the agent speaks.
            assert!(said.contains(r#""token": "real""#), "{said}");
        }
    }
    for (name, others) in [(API, [OTHER, HOST]), (OTHER, [API, HOST])] {
        let shown = leaf(&world, name);
        assert!(shown.contains(name), "{shown}");
        assert!(!others.iter().any(|other| shown.contains(other)), "{shown}");
    }
    // Who asks for no name, as for an address, sees all of them.
    let shown = leaf(&world, "127.0.0.1");
    assert!(
        [API, OTHER, HOST].iter().all(|name| shown.contains(name)),
        "{shown}"
    );
    let said = world.curl(&[], "https://127.0.0.1:PORT/open");
    assert!(said.contains("200 2"), "{said}");
}

/// The names in the certificate that a client is shown.
fn leaf(world: &World, name: &str) -> String {
    let mut command = Command::new("curl");
    command
        .args([
            "-q",
            "-sS",
            "--max-time",
            "20",
            "-o",
            "/dev/null",
            "-w",
            "%{certs}",
        ])
        .args(["--connect-to", &format!("::127.0.0.1:{}", world.pod.port)])
        .arg("--cacert")
        .arg(world.pod.path("trust").join("ca-bundle.crt"))
        .arg(format!("https://{name}:{}/open", world.pod.port));
    let said = clients::run(command, "").unwrap().ok().unwrap();
    let line = said.lines().find(|line| line.contains("Alternative Name"));
    line.unwrap_or(&said).to_owned()
}

#[test]
fn what_is_not_for_the_target_is_denied_in_so_many_words() {
    let world = World::new(true);
    let host = format!("Host: {OTHER}");
    for (words, url, why) in [
        (
            &["-k"][..],
            "https://other.test:PORT/open".to_owned(),
            "the request is for other.test",
        ),
        (
            &["-k", "-H", &host],
            format!("https://{API}:PORT/open"),
            "its TLS handshake was for api.pay.example",
        ),
        (
            &[],
            format!("http://{API}:PORT/open"),
            "and the request came unencrypted",
        ),
        (
            &["--http2-prior-knowledge"],
            format!("http://{API}:PORT/open"),
            "and the request came unencrypted",
        ),
    ] {
        let said = world.curl(words, &url);
        assert!(said.contains("421 ") && said.contains(why), "{url}: {said}");
        assert!(said.contains("HostDenied"), "{url}: {said}");
    }
    // Without -k the client itself sees that it is not whom it asked for.
    let said = world.curl(&[], "https://other.test:PORT/open");
    assert!(said.contains("000 0"), "{said}");
    // A target without TLS is no target with it.
    let world = World::new(false);
    let said = world.curl(&[], &format!("http://{API}:PORT/open"));
    assert!(said.contains("200 1.1"), "{said}");
    let said = world.curl(&[], &format!("https://{API}:PORT/open"));
    assert!(
        said.contains("421 ") && said.contains("the request came encrypted"),
        "{said}"
    );
}
