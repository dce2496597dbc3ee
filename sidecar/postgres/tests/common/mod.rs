//! A throw-away PostgreSQL on a loopback port, stopped and removed when dropped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod proxy;
pub mod raw;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chaperone_postgres::codec::encode;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

/// Debian's place for PostgreSQL 15.
const BIN: &str = "/usr/lib/postgresql/15/bin";

/// Roles made by [`TestServer::start`], each let in by the method of its name.
pub const PASSWORD: &str = "correct horse battery";

/// A running server.
pub struct TestServer {
    pub port: u16,
    pub directory: TempDir,
    child: Child,
}

/// What a server is started with.
#[derive(Default)]
pub struct Setup<'a> {
    /// The server certificate and its key, and the CA of client certificates, all PEM.
    pub tls: Option<(&'a str, &'a str, &'a str)>,
    /// Starts as a standby that admits nobody.
    pub not_ready: bool,
}

impl TestServer {
    /// Superuser `postgres` (trust), roles `scram_user`, `md5_user`, `clear_user`, `cert_user`,
    /// `nologin_user`.
    pub fn start(setup: &Setup<'_>) -> TestServer {
        let directory = TempDir::new().unwrap();
        let data = directory.path().join("data");
        give_away(directory.path());
        run(as_postgres("initdb")
            .args(["-D", data.to_str().unwrap()])
            .args([
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
                "-A",
                "trust",
            ]));
        let mut settings = Vec::new();
        if let Some((certificate, key, client_ca)) = setup.tls {
            for (name, pem) in [
                ("server.crt", certificate),
                ("server.key", key),
                ("ca.crt", client_ca),
            ] {
                let path = data.join(name);
                fs::write(&path, pem).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
                give_away(&path);
            }
            settings.extend(["ssl=on", "ssl_ca_file=ca.crt"]);
        }
        if setup.not_ready {
            fs::write(data.join("standby.signal"), "").unwrap();
            settings.push("hot_standby=off");
        }
        fs::write(
            data.join("pg_hba.conf"),
            "host all postgres all trust\n\
             host all scram_user all scram-sha-256\n\
             host all md5_user all md5\n\
             host all clear_user all password\n\
             host all gone_user all reject\n\
             hostssl all cert_user all cert\n",
        )
        .unwrap();
        let port = free_port();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let mut command = as_postgres("postgres");
        command.args(["-D", data.to_str().unwrap(), "-p", &port.to_string()]);
        command.args(["-h", "127.0.0.1", "-k", directory.path().to_str().unwrap()]);
        for setting in [
            "fsync=off",
            "log_statement=all",
            "max_connections=20",
            "shared_buffers=8MB",
        ]
        .into_iter()
        .chain(settings)
        {
            command.args(["-c", setting]);
        }
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let server = TestServer {
            port,
            directory,
            child,
        };
        server.wait_until_it_answers(if setup.not_ready { "57P03" } else { "" });
        if !setup.not_ready {
            server.psql(&format!(
                "SET password_encryption='scram-sha-256';
                 CREATE ROLE scram_user LOGIN PASSWORD '{PASSWORD}';
                 CREATE ROLE clear_user LOGIN PASSWORD '{PASSWORD}';
                 CREATE ROLE cert_user LOGIN; CREATE ROLE gone_user LOGIN;
                 CREATE ROLE nologin_user NOLOGIN;
                 SET password_encryption='md5';
                 CREATE ROLE md5_user LOGIN PASSWORD '{PASSWORD}';"
            ));
        }
        server
    }

    /// Runs a script as `postgres` and gives what it printed.
    pub fn psql(&self, sql: &str) -> String {
        self.psql_on(self.port, &["-qAtX", "-v", "ON_ERROR_STOP=1", "-c", sql])
    }

    /// The same in another database.
    pub fn psql_in(&self, database: &str, sql: &str) -> String {
        self.psql_on(
            self.port,
            &["-qAtX", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql],
        )
    }

    /// Runs psql against `port`, which may be a relay in front of this server.
    pub fn psql_on(&self, port: u16, arguments: &[&str]) -> String {
        let output = Command::new(Path::new(BIN).join("psql"))
            .args(["-h", "127.0.0.1", "-U", "postgres", "-d", "postgres"])
            .args(["-p", &port.to_string()])
            .args(arguments)
            .env_remove("PGOPTIONS")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Everything the server has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.path().join("log")).unwrap()).into_owned()
    }

    /// Waits until a startup packet is answered by something that holds `needle`, or by a login.
    fn wait_until_it_answers(&self, needle: &str) {
        use std::io::{Read, Write};
        let mut packet = bytes::BytesMut::new();
        encode::startup(
            &mut packet,
            [("user", "postgres"), ("database", "postgres")],
        );
        until(|| {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
                return false;
            };
            stream
                .set_read_timeout(Some(Duration::from_secs(1)))
                .unwrap();
            let mut answer = [0u8; 512];
            let Ok(length) = stream
                .write_all(&packet)
                .and_then(|()| stream.read(&mut answer))
            else {
                return false;
            };
            let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
            if needle.is_empty() {
                answer.starts_with('R')
            } else {
                answer.contains(needle)
            }
        });
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // SIGQUIT: at once, and without leaving children behind.
        let _ = Command::new("kill")
            .args(["-QUIT", &self.child.id().to_string()])
            .status();
        let _ = self.child.wait();
    }
}

/// A CA of one test, and what it signs.
pub struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl TestCa {
    pub fn new(name: &str) -> TestCa {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        TestCa {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate for a host or, by its common name, for a role; with its key.
    pub fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// Waits for a condition, for at most 60 seconds.
pub fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "the condition did not come true in time"
        );
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

pub fn bin(program: &str) -> PathBuf {
    Path::new(BIN).join(program)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// PostgreSQL refuses to run as root.
pub fn as_postgres(program: &str) -> Command {
    if is_root() {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
            .arg(bin(program));
        command
    } else {
        Command::new(bin(program))
    }
}

pub fn give_away(path: &Path) {
    if is_root() {
        run(Command::new("chown").arg("postgres:postgres").arg(path));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
