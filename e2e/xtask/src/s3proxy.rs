//! S3Proxy, a server that speaks S3 over files (Apache-2.0, from Maven Central): where packs go in
//! tests. It checks signatures, and each object is a file.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cluster::program::cache;
use crate::maven::Artifact;
use crate::process::{Process, Scratch, free_port, succeed};
use crate::wait::wait_for;

const JAR: Artifact = Artifact {
    group: "org.gaul",
    name: "s3proxy",
    version: "4.1.0",
    classifier: Some("jar-with-dependencies"),
    digest: "a4d025969aaf796616ed4b1e2491d87d455ce84bb28cb9db086b2e6aaa68b48d",
};
/// A loaded machine takes long to start a Java.
const START: Duration = Duration::from_secs(120);
/// Its keystore's, which protects nothing.
const PASSWORD: &str = "password";
/// The only bucket.
pub const BUCKET: &str = "evidence";
/// The id of the key that it takes.
pub const KEY_ID: &str = "packer";
/// The key.
pub const KEY: &str = "correct-horse-battery";

/// A server with one bucket, which can be stopped and started.
#[derive(Debug)]
pub struct S3Proxy {
    process: Option<Process>,
    scratch: Scratch,
    jar: PathBuf,
    address: SocketAddr,
    ca: String,
}

impl S3Proxy {
    /// One on loopback that is not running yet, with a certificate of its own.
    pub fn new() -> Result<S3Proxy> {
        S3Proxy::at(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// The same at another address.
    pub fn at(address: IpAddr) -> Result<S3Proxy> {
        let scratch = Scratch::new("s3")?;
        let (keys, data) = (scratch.path().join("keys.p12"), scratch.path().join("data"));
        fs::create_dir_all(data.join(BUCKET))?;
        let store = |command: &mut Command| {
            command
                .args(["-alias", "s3", "-storepass", PASSWORD, "-keystore"])
                .arg(&keys);
        };
        let mut generate = Command::new("keytool");
        generate
            .args(["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1"])
            .args(["-storetype", "PKCS12", "-validity", "30"])
            .arg("-dname")
            .arg(format!("CN={address}"))
            .arg("-ext")
            .arg(format!("SAN=IP:{address}"));
        store(&mut generate);
        succeed(&mut generate)?;
        let mut export = Command::new("keytool");
        export.args(["-exportcert", "-rfc"]);
        store(&mut export);
        let ca = String::from_utf8(succeed(&mut export)?.stdout)?;
        let address = SocketAddr::new(address, free_port()?);
        fs::write(
            scratch.path().join("settings"),
            format!(
                "s3proxy.secure-endpoint=https://{address}\ns3proxy.authorization=aws-v4\n\
                 s3proxy.identity={KEY_ID}\ns3proxy.credential={KEY}\n\
                 s3proxy.keystore-path={}\ns3proxy.keystore-password={PASSWORD}\n\
                 jclouds.provider=filesystem-nio2\njclouds.filesystem.basedir={}\n",
                keys.display(),
                data.display()
            ),
        )?;
        Ok(S3Proxy {
            process: None,
            jar: jar()?,
            address,
            ca,
            scratch,
        })
    }

    /// Starts it, on the same port as before.
    pub fn start(&mut self) -> Result<()> {
        self.start_by(Command::new("java"))
    }

    /// Starts it by another `java`, which may be one in another network, and waits until it serves.
    pub fn start_by(&mut self, mut java: Command) -> Result<()> {
        let log = self.log();
        java.args([
            // Quick to start, and small.
            "-XX:TieredStopAtLevel=1",
            "-Xmx256m",
            "-jar",
        ]);
        java.arg(&self.jar)
            .arg("--properties")
            .arg(self.scratch.path().join("settings"));
        let mut process = Process::spawn(java, &log, "KILL")?;
        wait_for("S3Proxy to listen", START, || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = process.ended()? {
                bail!("S3Proxy ended with {status}: {said}");
            }
            Ok(said.contains("ServerConnector").then_some(()))
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Its address: `https://…`.
    pub fn endpoint(&self) -> String {
        format!("https://{}", self.address)
    }

    /// PEM of its certificate.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// The files that are the bucket's objects.
    pub fn folder(&self) -> PathBuf {
        self.scratch.path().join("data").join(BUCKET)
    }

    fn log(&self) -> PathBuf {
        self.scratch.path().join("log")
    }
}

/// The jar, fetched where nobody has.
fn jar() -> Result<PathBuf> {
    let kept = cache()?.join(format!("s3proxy-{}.jar", JAR.version));
    if kept.is_file() {
        return Ok(kept);
    }
    let draft = Scratch::new("maven")?;
    let fetched = JAR.fetch(draft.path())?;
    fs::create_dir_all(cache()?)?;
    let beside = kept.with_extension(format!("draft-{}", std::process::id()));
    fs::copy(&fetched, &beside)?;
    fs::rename(&beside, &kept).with_context(|| format!("moving to {}", kept.display()))?;
    Ok(kept)
}
