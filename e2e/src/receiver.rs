//! A process that sinks post to, which can be killed: `e2e/sinks/receiver.py`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use xtask::process::{Process, Scratch, free_port};
use xtask::wait::wait_for;
use xtask::workspace;

use crate::clients;

/// A webhook and an OTLP receiver on one port, over TLS.
pub struct Receiver {
    scratch: Scratch,
    process: Option<Process>,
    port: u16,
    ca: String,
    address: IpAddr,
}

impl Receiver {
    /// One on 127.0.0.1 that is not running yet, with a certificate of its own.
    pub fn new() -> Result<Receiver> {
        Receiver::at(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// The same at another address of this machine.
    pub fn at(address: IpAddr) -> Result<Receiver> {
        let scratch = Scratch::new("receiver")?;
        let pair = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![address.to_string()])?
            .self_signed(&pair)
            .context("a certificate for 127.0.0.1")?;
        let receiver = Receiver {
            process: None,
            address,
            port: free_port()?,
            ca: certificate.pem(),
            scratch,
        };
        fs::write(receiver.path("certificate"), &receiver.ca)?;
        fs::write(receiver.path("key"), pair.serialize_pem())?;
        receiver.behave("ok")?;
        Ok(receiver)
    }

    /// Starts it, on the same port as before.
    pub fn start(&mut self) -> Result<()> {
        let mut command = clients::interpreter()?;
        command
            .arg("-B")
            .arg(workspace::root().join("e2e/sinks/receiver.py"))
            .args([self.address.to_string(), self.port.to_string()])
            .args([self.path("certificate"), self.path("key")])
            .arg(self.scratch.path());
        let log = self.path("log");
        let mut process = Process::spawn(command, &log, "KILL")?;
        let at = (self.address, self.port);
        wait_for("the receiver to listen", Duration::from_secs(60), || {
            if let Some(status) = process.ended()? {
                bail!("it ended with {status}: {}", fs::read_to_string(&log)?);
            }
            Ok(TcpStream::connect(at).ok())
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().map(drop),
            None => Ok(()),
        }
    }

    /// What it does from now on, in the receiver's words.
    pub fn behave(&self, how: &str) -> Result<()> {
        let draft = self.path("draft");
        fs::write(&draft, how)?;
        Ok(fs::rename(draft, self.path("behaviour"))?)
    }

    /// `https://ADDRESS:PORT`.
    pub fn url(&self) -> String {
        format!("https://{}:{}", self.address, self.port)
    }

    /// PEM of what certifies it.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// All that it has taken: path, authorization and event, in the order of arrival.
    pub fn received(&self) -> Result<Vec<Value>> {
        lines(&self.path("received"))
    }

    /// All requests that it was sent, those it refused too.
    pub fn attempts(&self) -> Result<Vec<Value>> {
        lines(&self.path("attempts"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

/// The whole lines of a file of JSON; none where there is no file yet.
pub fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.into()),
    };
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
        .collect()
}
