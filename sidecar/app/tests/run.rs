//! The promises of `chaperone-sidecar run`: the real program, a real PostgreSQL and psql, and a
//! control API that speaks the real types (`operator`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]

mod http;
mod operator;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use chaperone_control::{
    ConnectionSnapshot, Fault, PolicySnapshot, ProviderSnapshot, SecretBytes, SinkSnapshot,
};
use chaperone_crds::ApprovalPhase;
use chaperone_e2e::clients::{self, Background, Transcript};
use chaperone_e2e::issuer::{SigningKey, now};
use chaperone_e2e::raw::{self, Client};
use chaperone_e2e::receiver::Receiver;
use chaperone_e2e::server::{self, PASSWORD};
use chaperone_e2e::{DEADLINE, Database, Scratch, wait_for};
use operator::Operator;
use xtask::needs::{self, Need};
use xtask::process::{Process, free_port};
use xtask::releases::Release;

/// The target's name, as /etc/hosts of an injected pod has it.
const HOST: &str = "orders.databases.svc.cluster.local";
const ISSUER: &str = "https://id.example";
const TOKEN: &str = "first.token.of-the-pod";
/// What performance.md gives a change to reach a live session.
const SOON: Duration = Duration::from_secs(2);

const READS: &str = "
- {name: reads, action: Allow, sql: {effects: [Read], relations: [\"public.*\"]}}";
const DELETES: &str = "
- {name: reads, action: Allow, sql: {effects: [Read], relations: [\"public.*\"]}}
- name: deletes
  action: RequireApproval
  sql: {effects: [Delete], relations: [\"public.*\"]}
  approval: {approvers: {groups: [dba]}, quorum: 1, timeout: 30s, validFor: 5m}";

/// One test's world.
struct Pod {
    operator: Operator,
    database: Database,
    scratch: Scratch,
    port: u16,
    admin: u16,
    target: IpAddr,
    relay: u16,
}

impl Pod {
    fn new() -> Pod {
        let database = Database::new().unwrap();
        let target = outside_address();
        let pod = Pod {
            operator: Operator::start(TOKEN),
            relay: relay(target, database.port),
            database,
            scratch: Scratch::new("run").unwrap(),
            port: free_port().unwrap(),
            admin: free_port().unwrap(),
            target,
        };
        for folder in ["spool", "trust"] {
            fs::create_dir(pod.path(folder)).unwrap();
        }
        fs::write(pod.path("token"), TOKEN).unwrap();
        fs::write(
            pod.path("hosts"),
            format!("# as the kubelet writes it\n127.0.0.1\tlocalhost {HOST} orders.databases.svc\n10.9.9.9 other.host\n"),
        )
        .unwrap();
        pod.operator.tell(vec![pod.connection(READS)]);
        pod
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn connection(&self, rules: &str) -> ConnectionSnapshot {
        let spec = format!(
            "postgres: {{host: \"{}\", port: {}, database: {}, tls: {{mode: Disable}}, credential: {{secret: {{name: agent}}}}}}\n\
             consumers: {{namespaceSelector: {{matchLabels: {{team: shop}}}}}}\n",
            self.target, self.relay, self.database.name
        );
        let policy = format!(
            "subjects: [{{serviceAccount: report-agent}}]\nconnections: [databases/orders-db]\nrules: {rules}\n"
        );
        let secret = |text: &str| SecretBytes::new(text.as_bytes().to_vec());
        ConnectionSnapshot {
            namespace: "databases".to_owned(),
            name: "orders-db".to_owned(),
            generation: 1,
            spec: Some(serde_saphyr::from_str(&spec).unwrap()),
            credential: BTreeMap::from([
                ("username".to_owned(), secret(&self.database.name)),
                ("password".to_owned(), secret(PASSWORD)),
            ]),
            ca: None,
            namespace_labels: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
            policies: vec![PolicySnapshot {
                namespace: "shop".to_owned(),
                name: "report-agent".to_owned(),
                generation: 1,
                spec: serde_saphyr::from_str(&policy).unwrap(),
            }],
            fault: None,
        }
    }

    /// Who acts by a token of this key is an analyst of `corp`.
    fn present(&self, key: &SigningKey) -> Client {
        let claims = serde_json::json!({
            "iss": ISSUER, "aud": "chaperone", "sub": "alice", "exp": now() + 600,
        });
        let token = key.sign(&claims).unwrap();
        let mut client = Client::dial(self.port).unwrap();
        let own = [("user", "agent"), ("database", self.database.name.as_str())];
        client.send(&raw::startup(&own)).unwrap();
        assert_eq!(client.receive().unwrap().unwrap().body, [0, 0, 0, 3]);
        let password = [token.as_bytes(), &[0]].concat();
        client.send(&raw::message(b'p', &password)).unwrap();
        client.greeting = client.until_ready_or_end().unwrap();
        client
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chaperone-sidecar"));
        command
            .arg("run")
            .arg("--token")
            .arg(self.path("token"))
            .arg("--spool")
            .arg(self.path("spool"))
            .arg("--trust")
            .arg(self.path("trust"))
            .arg("--hosts")
            .arg(self.path("hosts"))
            .args(["--admin", &format!("127.0.0.1:{}", self.admin)])
            .env(
                "CHAPERONE_OPERATOR",
                format!("https://{}", self.operator.address),
            )
            .env("CHAPERONE_OPERATOR_CA", &self.operator.ca_pem)
            .env(
                "CHAPERONE_LISTEN",
                format!("databases/orders-db=127.0.0.1:{}", self.port),
            );
        command
    }

    fn spawn(&self) -> Process {
        Process::spawn(self.command(), &self.path("log"), "TERM").unwrap()
    }

    fn start(&self) -> Process {
        let mut process = self.spawn();
        let ready = wait_for("the sidecar to be ready", DEADLINE, || {
            if let Some(status) = process.ended()? {
                anyhow::bail!("it ended with {status}");
            }
            Ok((self.admin("/startz").0 == 200).then_some(()))
        });
        assert!(ready.is_ok(), "{ready:?}\n{}", self.log());
        process
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Status and body; 0 where nobody listens.
    fn admin(&self, path: &str) -> (u16, String) {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.admin)) else {
            return (0, String::new());
        };
        let request = format!("GET {path} HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n");
        let mut text = String::new();
        if stream.write_all(request.as_bytes()).is_err()
            || stream.read_to_string(&mut text).is_err()
        {
            return (0, String::new());
        }
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        (status.unwrap_or(0), text)
    }

    fn client(&self) -> Client {
        Client::connect(self.port, &self.database.name)
            .unwrap_or_else(|error| panic!("{error:?}\n{}", self.log()))
    }

    fn psql(&self, conninfo: &str, sql: &str) -> Transcript {
        self.psql_with(None, conninfo, sql)
    }

    /// psql with the libpq of another version.
    fn psql_with(&self, release: Option<Release>, conninfo: &str, sql: &str) -> Transcript {
        let mut command = Command::new(server::shared().unwrap().bin().join("psql"));
        xtask::postgres::without_pg_variables(&mut command);
        command.args(["-XAt", "-c", sql]).arg(format!(
            "port={} user=agent dbname={} {conninfo}",
            self.port, self.database.name
        ));
        if let Some(release) = release {
            command.env("LD_LIBRARY_PATH", release.folder().unwrap().join("lib"));
        }
        clients::run(command, "").unwrap()
    }

    /// Runs until the statement's only error has this reason, or it works where none is given.
    fn until(&self, client: &mut Client, sql: &str, reason: Option<&str>) -> Duration {
        let begun = Instant::now();
        let done = wait_for(&format!("{sql} to end in {reason:?}"), DEADLINE, || {
            let reply = client.query(sql)?;
            let errors = reply.errors();
            Ok(match (errors.first(), reason) {
                (None, None) => Some(()),
                (Some(error), Some(reason)) if error.text().contains(reason) => Some(()),
                _ => None,
            })
        });
        assert!(done.is_ok(), "{done:?}\n{}", self.log());
        begun.elapsed()
    }

    /// New sessions are refused with this reason and these words. One that came while the old
    /// listener went is told ShuttingDown.
    fn until_refused(&self, reason: &str, words: &str) {
        let mut last = String::new();
        let done = wait_for(reason, DEADLINE, || {
            last = self.refusal();
            let refused = last.contains(reason) && last.contains(words);
            Ok(refused.then_some(()))
        });
        assert!(done.is_ok(), "{last}\n{}", self.log());
    }

    /// What a new session is refused with.
    fn refusal(&self) -> String {
        let parameters = [("user", "agent"), ("database", self.database.name.as_str())];
        let client = Client::attempt(self.port, &parameters).unwrap();
        client
            .greeting
            .errors()
            .first()
            .map_or_else(String::new, |error| format!("{} {error:?}", error.text()))
    }

    fn stop(&self, mut process: Process) {
        process.signal("TERM").unwrap();
        let status = process.wait(DEADLINE).unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// All that the operator has of the pod.
    fn verified(&self) -> chaperone_evidence::Report {
        let report = self.operator.verified();
        assert!(report.ok(), "{report:?}");
        report
    }
}

/// An address of this machine that is no loopback: in a cluster loopback is never a target.
fn outside_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: the kernel only says from which address it would be (RFC 5737 address).
    socket
        .connect("198.51.100.1:9")
        .expect("this test needs a network interface with an address");
    socket.local_addr().unwrap().ip()
}

/// Passes connections to `address` on to the server on loopback.
fn relay(address: IpAddr, to: u16) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else {
                continue;
            };
            for (mut from, mut into) in [
                (near.try_clone().unwrap(), far.try_clone().unwrap()),
                (far, near),
            ] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    port
}

#[test]
fn what_clients_of_kubernetes_read_is_there_before_they_start() {
    let pod = Pod::new();
    let spec = "kubernetes: {inCluster: true, credential: {serviceAccount: Self}}\n\
                consumers: {namespaceSelector: {matchLabels: {team: shop}}}\n";
    pod.operator.tell(vec![ConnectionSnapshot {
        spec: Some(serde_saphyr::from_str(spec).unwrap()),
        credential: BTreeMap::new(),
        ..pod.connection("[]")
    }]);
    let _sidecar = pod.start();
    let read = |name: &str| fs::read_to_string(pod.path("trust").join(name)).unwrap();
    assert_eq!(read("serviceaccount/ca.crt"), read("ca.crt"));
    assert_eq!(read("serviceaccount/namespace"), "shop");
    let token = read("serviceaccount/token");
    assert!(!token.is_empty() && token != TOKEN, "{token}");
    let config: serde_json::Value = serde_json::from_str(&read("kubeconfig")).unwrap();
    let cluster = &config["clusters"][0]["cluster"];
    assert_eq!(cluster["server"], format!("https://127.0.0.1:{}", pod.port));
    assert_eq!(config["users"][0]["user"]["token"], token);
    assert_eq!(config["current-context"], "databases/orders-db");
    assert_eq!(config["contexts"][0]["context"]["namespace"], "shop");
}

#[test]
fn psql_reaches_the_database_by_its_own_name_with_verify_full() {
    let pod = Pod::new();
    let begun = Instant::now();
    let process = pod.start();
    println!("start to ready: {} ms", begun.elapsed().as_millis());
    for roots in ["ca.crt", "ca-bundle.crt"] {
        let roots = pod.path("trust").join(roots);
        for host in [HOST, "orders.databases.svc", "127.0.0.1"] {
            let conninfo = format!(
                "host={host} hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={}",
                roots.display()
            );
            let shown = pod.psql(&conninfo, "SELECT count(*) FROM customers").ok();
            assert_eq!(shown.unwrap().trim(), "3");
        }
        let conninfo = format!(
            "host=other.host hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={}",
            roots.display()
        );
        let other = pod.psql(&conninfo, "SELECT 1");
        assert!(other.err.contains("does not match host name"), "{other:?}");
    }
    // Others' roots do not certify it, plain goes on, and the key is the sidecar's alone.
    let plain = pod.psql("host=127.0.0.1 sslmode=disable", "SELECT 1");
    assert_eq!(plain.ok().unwrap().trim(), "1");
    let key = fs::metadata(pod.path("spool/ca/ca.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    assert!(!pod.path("trust/ca.key").exists());
    // Plaintext put behind the SSLRequest is refused (CVE-2021-23214).
    let mut raw = Client::dial(pod.port).unwrap();
    let mut bytes = vec![0, 0, 0, 8, 4, 210, 22, 47];
    bytes.extend(chaperone_e2e::raw::startup(&[("user", "agent")]));
    raw.send(&bytes).unwrap();
    let error = raw.to_end().unwrap().error().unwrap();
    assert!(error.text().contains("before encryption"), "{error:?}");

    for path in ["/startz", "/readyz", "/livez", "/metrics"] {
        assert_eq!(pod.admin(path).0, 200, "{path}");
    }
    for path in ["/", "/state", "/debug", "/metrics/x"] {
        assert_eq!(pod.admin(path).0, 404, "{path}");
    }
    assert!(!pod.log().contains(PASSWORD) && !pod.log().contains(TOKEN));
    pod.stop(process);
    pod.verified();
}

#[test]
fn a_change_reaches_a_live_session_within_two_seconds() {
    let pod = Pod::new();
    let process = pod.start();
    let mut client = pod.client();
    client
        .query("SELECT 1 FROM customers")
        .unwrap()
        .ok()
        .unwrap();
    pod.operator.tell(vec![pod.connection("[]")]);
    let took = pod.until(&mut client, "SELECT 1 FROM customers", Some("NotCovered"));
    println!("a policy reached a live session in {} ms", took.as_millis());
    assert!(took < SOON, "{took:?}");
    pod.operator.tell(vec![pod.connection(READS)]);
    pod.until(&mut client, "SELECT 1 FROM customers", None);

    // A fault ends its sessions and denies with its own words; its end lets sessions in again.
    let mut broken = pod.connection(READS);
    broken.fault = Some(Fault {
        reason: "RefNotFound".to_owned(),
        message: "there is no Secret agent in namespace databases".to_owned(),
    });
    pod.operator.tell(vec![broken]);
    let _ = client.to_end();
    pod.until_refused("RefNotFound", "no Secret agent");
    // So does a Connection that is gone, on a listener that stays.
    for gone in [
        Vec::new(),
        vec![ConnectionSnapshot {
            spec: None,
            policies: Vec::new(),
            ..pod.connection(READS)
        }],
    ] {
        pod.operator.tell(gone);
        pod.until_refused("ConnectionNotFound", "orders-db");
    }
    pod.operator.tell(vec![pod.connection(READS)]);
    wait_for("sessions to be let in again", DEADLINE, || {
        Ok(pod.refusal().is_empty().then_some(()))
    })
    .unwrap();

    // Another credential is another Connection: its sessions end, new ones log in anew.
    let mut client = pod.client();
    let mut changed = pod.connection(READS);
    let wrong = SecretBytes::new(b"wrong".to_vec());
    changed.credential.insert("password".to_owned(), wrong);
    pod.operator.tell(vec![changed]);
    assert!(client.to_end().unwrap().error().is_ok());
    pod.until_refused("TargetAuthentication", "");
    pod.stop(process);
    pod.verified();
}

#[test]
fn labels_of_the_pod_select_policies_as_they_change() {
    let pod = Pod::new();
    let mut connection = pod.connection(READS);
    connection.policies[0].spec = serde_saphyr::from_str(
        "subjects: [{podSelector: {matchLabels: {tier: gold}}}]\nconnections: [databases/orders-db]\n\
         rules:\n- {name: reads, action: Allow, sql: {effects: [Read], relations: [\"public.*\"]}}\n",
    )
    .unwrap();
    pod.operator.tell(vec![connection]);
    let process = pod.start();
    assert!(pod.refusal().contains("NoPolicy"));
    pod.operator.label(&[("tier", "gold")]);
    wait_for("the label to count", DEADLINE, || {
        Ok(pod.refusal().is_empty().then_some(()))
    })
    .unwrap();
    pod.stop(process);
}

#[test]
fn past_its_validity_everything_is_denied_and_it_recovers_by_itself() {
    let pod = Pod::new();
    pod.operator.valid_for(2);
    let process = pod.start();
    let mut client = pod.client();
    // Heartbeats carry the validity on.
    std::thread::scope(|_| {
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            client
                .query("SELECT 1 FROM customers")
                .unwrap()
                .ok()
                .unwrap();
        }
    });
    pod.operator.away(true);
    pod.until(
        &mut client,
        "SELECT 1 FROM customers",
        Some("SnapshotExpired"),
    );
    assert!(pod.refusal().contains("SnapshotExpired"));
    let (status, body) = pod.admin("/readyz");
    assert!(status == 503 && body.contains("SnapshotExpired"), "{body}");
    assert_eq!(pod.admin("/startz").0, 200);
    pod.operator.away(false);
    // The same session.
    let took = pod.until(&mut client, "SELECT 1 FROM customers", None);
    println!(
        "recovered {} ms after the operator was back",
        took.as_millis()
    );
    wait_for("readiness", DEADLINE, || {
        Ok((pod.admin("/readyz").0 == 200).then_some(()))
    })
    .unwrap();
    pod.stop(process);
    pod.verified();
}

#[test]
fn an_approval_is_waited_for_and_redeemed_once() {
    let pod = Pod::new();
    pod.operator.tell(vec![pod.connection(DELETES)]);
    let process = pod.start();
    let waiting = |pod: &Pod, count: usize| {
        wait_for("an approval request", DEADLINE, || {
            let asked = pod.operator.asked();
            Ok((asked.len() == count).then(|| asked.keys().last().unwrap().clone()))
        })
        .unwrap()
    };
    let delete = |id: u32| {
        let command = clients::psql(
            server::shared().unwrap().bin(),
            pod.port,
            &pod.database.name,
        );
        let script = format!("DELETE FROM notes WHERE id = {id};\n");
        Background::start(command, &script).unwrap()
    };
    let deleting = delete(1);
    let name = waiting(&pod, 1);
    assert_eq!(
        pod.database.sql("SELECT count(*) FROM notes").unwrap(),
        "20"
    );
    pod.operator.answer(&name, ApprovalPhase::Approved);
    let done = deleting.finish().unwrap();
    assert!(done.out.contains("DELETE 1"), "{done:?}");
    let how = format!(
        "kubectl patch approvalrequest {name} -n shop --type=merge -p '{{\"spec\":{{\"decision\":{{\"verdict\":\"Approve\"}}}}}}'"
    );
    assert!(done.err.contains(&how), "{done:?}");
    let asked = pod.operator.asked().remove(&name).unwrap();
    assert_eq!(asked.phase, ApprovalPhase::Consumed);
    assert_eq!(asked.new.connection, "databases/orders-db");
    assert_eq!(asked.new.command, "DELETE FROM notes WHERE id = 1;");
    assert_eq!(asked.new.purpose.as_deref(), Some("nightly-report"));
    assert_eq!(asked.new.rules[0].approvers.groups, ["dba"]);
    let redeemed = asked.redeemed.unwrap();
    assert_eq!(redeemed.command_digest, asked.new.command_digest);

    // The same again is asked for again; a denial and an operator that is away run nothing.
    let deleting = delete(2);
    let name = waiting(&pod, 2);
    pod.operator.answer(&name, ApprovalPhase::Denied);
    let denied = deleting.finish().unwrap();
    assert!(denied.err.contains("ApprovalDenied"), "{denied:?}");
    pod.operator.away(true);
    let refused = delete(3).finish().unwrap();
    assert!(refused.err.contains("ApprovalUnavailable"), "{refused:?}");
    assert_eq!(
        pod.database.sql("SELECT count(*) FROM notes").unwrap(),
        "19"
    );
    pod.operator.away(false);
    pod.stop(process);
    pod.verified();
}

#[test]
fn a_killed_sidecar_starts_again_with_its_ca_and_its_evidence() {
    let pod = Pod::new();
    let mut process = pod.start();
    let ca = fs::read(pod.path("trust/ca.crt")).unwrap();
    let mut client = pod.client();
    client
        .query("SELECT 1 FROM customers")
        .unwrap()
        .ok()
        .unwrap();
    process.kill().unwrap();
    let begun = Instant::now();
    let process = pod.start();
    println!("restart to ready: {} ms", begun.elapsed().as_millis());
    // It says so, also before anybody opens another session.
    wait_for("word of the life before", DEADLINE, || {
        Ok((pod.operator.recovered().len() == 1).then_some(()))
    })
    .unwrap();
    assert_eq!(fs::read(pod.path("trust/ca.crt")).unwrap(), ca);
    let conninfo = format!(
        "host={HOST} hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={}",
        pod.path("trust/ca.crt").display()
    );
    assert_eq!(pod.psql(&conninfo, "SELECT 1").ok().unwrap().trim(), "1");
    pod.stop(process);
    let report = pod.verified();
    assert!(report.sessions >= 2, "{report:?}");

    // An operator that was installed anew has another digest key: the store so far is put aside.
    pod.operator.digest_key([8; 32]);
    let process = pod.start();
    pod.client()
        .query("SELECT 1 FROM customers")
        .unwrap()
        .ok()
        .unwrap();
    pod.stop(process);
    assert_eq!(pod.verified().sessions, report.sessions + 1);
    assert!(!pod.path("spool/retired-1").exists());
}

#[test]
fn nothing_is_served_before_the_operator_has_attached_the_pod() {
    let pod = Pod::new();
    pod.operator.token("another");
    let process = pod.spawn();
    wait_for("the refusal", DEADLINE, || {
        let (status, body) = pod.admin("/startz");
        Ok((status == 503 && body.contains("TokenRefused")).then_some(()))
    })
    .unwrap();
    assert_eq!(pod.admin("/readyz").0, 503);
    // Bound, so that nobody else takes the address, and not served.
    let mut client = Client::dial(pod.port).unwrap();
    client.set_timeout(Duration::from_millis(300)).unwrap();
    client
        .send(&chaperone_e2e::raw::startup(&[("user", "agent")]))
        .unwrap();
    assert!(client.receive().is_err());
    pod.operator.token(TOKEN);
    wait_for("readiness", DEADLINE, || {
        Ok((pod.admin("/readyz").0 == 200).then_some(()))
    })
    .unwrap();
    // The kubelet replaces the token: the pod attaches again, and live sessions go on.
    let mut client = pod.client();
    let attaches = pod.operator.attaches();
    fs::write(pod.path("token"), "second.token.of-the-pod\n").unwrap();
    pod.operator.token("second.token.of-the-pod");
    wait_for("another attach", DEADLINE, || {
        Ok((pod.operator.attaches() > attaches).then_some(()))
    })
    .unwrap();
    client
        .query("SELECT 1 FROM customers")
        .unwrap()
        .ok()
        .unwrap();
    pod.stop(process);
}

/// So does a clock that is wrong by years look, on either side.
#[test]
fn an_expired_operator_is_named_and_waited_for() {
    let pod = Pod::new();
    pod.operator.expired(true);
    let mut process = pod.spawn();
    wait_for("the reason", DEADLINE, || {
        let (status, body) = pod.admin("/startz");
        let named = body.contains("OperatorUnreachable") && body.contains("xpired");
        Ok((status == 503 && named).then_some(()))
    })
    .unwrap();
    assert!(process.ended().unwrap().is_none(), "{}", pod.log());
    assert_eq!(pod.operator.attaches(), 0);
    pod.operator.expired(false);
    wait_for("readiness", DEADLINE, || {
        Ok((pod.admin("/readyz").0 == 200).then_some(()))
    })
    .unwrap();
    pod.stop(process);
}

#[test]
fn a_wrong_environment_is_told_and_ends_the_process() {
    let pod = Pod::new();
    for (name, value, told) in [
        (
            "CHAPERONE_OPERATOR",
            "http://operator:8443",
            "https://HOST:PORT",
        ),
        ("CHAPERONE_OPERATOR_CA", "no pem", "ca"),
        (
            "CHAPERONE_LISTEN",
            "databases/orders-db=0.0.0.0:5432",
            "SettingDenied",
        ),
        ("CHAPERONE_LISTEN", "orders-db", "NAMESPACE/NAME"),
    ] {
        let mut command = pod.command();
        command.env(name, value);
        let ended = clients::run(command, "").unwrap();
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.err.contains(told), "{ended:?}");
    }
}

#[test]
fn what_was_approved_runs_only_once_the_operator_has_its_record() {
    let pod = Pod::new();
    pod.operator.tell(vec![pod.connection(DELETES)]);
    let process = pod.start();
    let delete = |id: u32| {
        let command = clients::psql(
            server::shared().unwrap().bin(),
            pod.port,
            &pod.database.name,
        );
        let script = format!("DELETE FROM notes WHERE id = {id};\n");
        Background::start(command, &script).unwrap()
    };
    let left = || pod.database.sql("SELECT count(*) FROM notes").unwrap();
    let grant = |nth: usize| {
        let name = wait_for("an approval request", DEADLINE, || {
            let asked = pod.operator.asked();
            Ok((asked.len() == nth).then(|| asked.keys().last().unwrap().clone()))
        });
        pod.operator.answer(&name.unwrap(), ApprovalPhase::Approved);
    };
    // An operator that takes nothing in: approved, and still nothing runs.
    pod.operator.deaf(true);
    let deleting = delete(1);
    grant(1);
    let refused = deleting.finish().unwrap();
    assert!(refused.err.contains("CannotRecord"), "{refused:?}");
    assert_eq!(left(), "20");
    // What needs no approval goes on meanwhile.
    assert_eq!(
        pod.psql("host=127.0.0.1 sslmode=disable", "SELECT 1")
            .ok()
            .unwrap()
            .trim(),
        "1"
    );
    pod.operator.deaf(false);
    wait_for("the operator's acknowledgement", DEADLINE, || {
        Ok((pod.operator.verified().sessions >= 2).then_some(()))
    })
    .unwrap();
    let deleting = delete(1);
    grant(2);
    let done = deleting.finish().unwrap();
    assert!(done.out.contains("DELETE 1"), "{done:?}");
    assert_eq!(left(), "19");
    pod.stop(process);
    pod.verified();
    // And what kubectl shows of it.
    let views = pod.operator.views();
    assert!(views.len() >= 3, "{views:?}");
    assert!(
        views
            .values()
            .all(|view| view.state == chaperone_crds::SessionState::Ended
                && view.pod == "report-agent-0"
                && view.connection == "databases/orders-db"),
        "{views:?}"
    );
    assert!(views.values().any(|view| view.held > 0));
}

#[test]
fn a_pod_seals_for_whom_it_is_told_and_still_tells_of_its_sessions() {
    const AUDITOR: &str = "age1g25jpje2xd9dxjc9cek5uhwltg66j8e0al6xjc4n8rhpfqad3cdsx7g5ra";
    let pod = Pod::new();
    let ask = || {
        let said = pod.psql("host=127.0.0.1 sslmode=disable", "SELECT 1");
        assert_eq!(said.ok().unwrap().trim(), "1");
    };
    let process = pod.start();
    ask();
    pod.operator.seal_for(Some(&[AUDITOR]));
    // Told within a moment, and from then on every session begins sealed.
    wait_for("a sealed session", DEADLINE, || {
        ask();
        Ok((!pod.operator.verified().sealed.is_empty()).then_some(()))
    })
    .unwrap();
    pod.stop(process);
    let report = pod.operator.verified();
    assert!(report.ok(), "{:?}", report.breaks);
    assert_eq!(report.level, chaperone_evidence::Level::Outer);
    let sealed = report.sealed.len() as u64;
    assert!(sealed < report.sessions, "the first one was not");
    let views = pod.operator.views();
    assert_eq!(views.len() as u64, report.sessions, "{views:?}");
    assert!(
        views
            .values()
            .all(|view| view.rows == 1 && view.connection == "databases/orders-db"),
        "{views:?}"
    );

    // Where nobody knows, or what is said is nobody, nothing begins that everybody could read.
    for unknown in [None, Some(&["age1nobody"][..])] {
        pod.operator.seal_for(unknown);
        let mut process = pod.spawn();
        let ended = process.wait(DEADLINE).unwrap();
        assert!(!ended.success());
        assert!(pod.log().contains("CannotRecord"), "{}", pod.log());
    }
}

#[test]
fn a_pod_tells_its_sinks_of_what_nobody_here_can_read_back_through_a_kill() {
    const AUDITOR: &str = "age1g25jpje2xd9dxjc9cek5uhwltg66j8e0al6xjc4n8rhpfqad3cdsx7g5ra";
    let pod = Pod::new();
    let mut receiver = Receiver::at(outside_address()).unwrap();
    receiver.start().unwrap();
    pod.operator.seal_for(Some(&[AUDITOR]));
    let spec = serde_json::json!({
        "name": "siem",
        "webhook": {"url": receiver.url(), "ca": receiver.ca(), "authorizationKey": "siem"},
    });
    let sinks = vec![SinkSnapshot {
        spec: serde_json::from_value(spec).unwrap(),
        authorization: Some(SecretBytes::new(b"Bearer of-the-siem".to_vec())),
    }];
    pod.operator.sinks(Some(sinks.clone()));
    let ask = |n: usize| {
        let said = pod.psql("host=127.0.0.1 sslmode=disable", &format!("SELECT {n}"));
        assert_eq!(said.ok().unwrap().trim(), n.to_string());
    };
    let told = |receiver: &Receiver, wanted: &[usize]| {
        wait_for("the webhook", DEADLINE, || {
            let received = receiver.received()?;
            let commands: Vec<&str> = received
                .iter()
                .filter_map(|one| one["event"]["query_info"]["query_string"].as_str())
                .collect();
            let there = |n: &usize| commands.contains(&format!("SELECT {n}").as_str());
            Ok(wanted.iter().all(there).then_some(received))
        })
        .unwrap()
    };
    let mut process = pod.start();
    ask(11);
    told(&receiver, &[11]);
    // Taken in by the operator, sealed, and freed here; the receiver saw none of it.
    receiver.kill().unwrap();
    ask(12);
    process.kill().unwrap();
    // Nobody knows of sinks for a moment: those that were there go on.
    pod.operator.sinks(None);
    let process = pod.start();
    ask(13);
    receiver.start().unwrap();
    pod.operator.sinks(Some(sinks));
    for one in told(&receiver, &[11, 12, 13]) {
        assert_eq!(one["authorization"], "Bearer of-the-siem", "{one}");
    }
    pod.stop(process);
    let report = pod.operator.verified();
    assert_eq!(
        report.sealed.len() as u64,
        report.sessions,
        "all are sealed"
    );
    assert!(!pod.log().contains("of-the-siem"), "{}", pod.log());
}

#[test]
fn a_volume_does_not_fill_while_its_evidence_is_taken_in() {
    let pod = Pod::new();
    let process = pod.start();
    let mut client = pod.client();
    let segments = || {
        fs::read_dir(pod.path("spool/evidence/segments"))
            .unwrap()
            .count()
    };
    let begun = Instant::now();
    let mut rows = 0;
    while begun.elapsed() < Duration::from_secs(25) {
        client
            .query("SELECT 1 FROM customers")
            .unwrap()
            .ok()
            .unwrap();
        rows += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    // One a second was written, and all but those since the last head are gone.
    let left = segments();
    assert!(
        left < 16,
        "{left} segments are left after {rows} statements"
    );
    drop(client);
    pod.stop(process);
    pod.verified();
}

/// A provider whose issuer gave the operator these keys.
fn provider(keys: &[&SigningKey]) -> ProviderSnapshot {
    let spec = format!(
        "issuer: {ISSUER}\naudiences: [chaperone]\njwks: {{discovery: true}}\n\
         username: {{claim: sub, prefix: 'corp:'}}\n"
    );
    let keys: Vec<_> = keys.iter().map(|key| key.published()).collect();
    ProviderSnapshot {
        name: "corp".to_owned(),
        spec: serde_saphyr::from_str(&spec).unwrap(),
        keys: Some(serde_json::json!({ "keys": keys }).to_string()),
    }
}

#[test]
fn a_token_is_checked_with_the_keys_that_the_operator_hands_out() {
    let pod = Pod::new();
    let mut connection = pod.connection(READS);
    connection.policies[0].spec.subjects =
        vec![serde_saphyr::from_str("{identity: {provider: corp}}").unwrap()];
    pod.operator.tell(vec![connection.clone()]);
    let (old, new) = (SigningKey::ec("k1").unwrap(), SigningKey::ec("k2").unwrap());
    pod.operator.tell_providers(vec![provider(&[&old])]);
    let process = pod.start();
    let mut client = pod.present(&old);
    let count = client.query("SELECT count(*) FROM notes").unwrap();
    assert_eq!(count.value().as_deref(), Some("20"), "{}", pod.log());

    // A key that the sidecar lacks is asked for, and the session waits until it comes.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pod.present(&new).greeting.errors());
        let asked = wait_for("the operator to be asked", DEADLINE, || {
            Ok((pod.operator.keys_wanted() == ["corp"]).then_some(()))
        });
        assert!(asked.is_ok(), "{asked:?}\n{}", pod.log());
        pod.operator.tell_providers(vec![provider(&[&new])]);
        assert_eq!(waiting.join().unwrap(), []);
    });
    let refused = pod.present(&old).greeting.error().unwrap();
    assert!(refused.text().contains("TokenRefused"), "{refused:?}");
    client
        .query("SELECT count(*) FROM notes")
        .unwrap()
        .ok()
        .unwrap();

    // A provider that is gone takes its sessions with it.
    pod.operator.tell_providers(Vec::new());
    let end = client.to_end().unwrap().error().unwrap();
    assert!(end.text().contains("TokenRefused"), "{end:?}");
    pod.stop(process);
    pod.verified();
}

/// libpq 17 brought TLS without a question before it.
#[test]
fn newer_libpqs_begin_with_tls_at_once() {
    needs::install(&[Need::Maven, Need::Xz, Need::Releases], true).unwrap();
    let pod = Pod::new();
    let process = pod.start();
    for major in [17, 18] {
        let release = Release::of(major).unwrap();
        let conninfo = format!(
            "host={HOST} hostaddr=127.0.0.1 sslmode=verify-full sslnegotiation=direct sslrootcert={}",
            pod.path("trust/ca.crt").display()
        );
        let said = pod.psql_with(Some(release), &conninfo, "SELECT count(*) FROM notes");
        assert_eq!(said.ok().unwrap().trim(), "20", "libpq {major}");
        let other = conninfo.replace(HOST, "other.host");
        let said = pod.psql_with(Some(release), &other, "SELECT 1");
        assert_eq!(said.code, Some(2), "{said:?}");
    }
    pod.stop(process);
    pod.verified();
}
