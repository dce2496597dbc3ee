//! The command line of `chaperone-sidecar`.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use chaperone_evidence::Recipient;
use chaperone_inject::names;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

/// The only authenticated way from an agent to databases and APIs.
#[derive(Debug, Parser)]
#[command(name = "chaperone-sidecar", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How log lines look on standard error; what is logged is set by RUST_LOG.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "CHAPERONE_LOG_FORMAT")]
    pub log_format: LogFormat,
}

/// What the sidecar can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve what an operator says, as an injected sidecar; configured by its environment.
    Run(Box<Run>),
    /// Serve the connections of a folder of manifests on this machine, without a cluster.
    Standalone(Standalone),
    /// Compile a folder of manifests and say what is wrong, by file and line.
    Check(Check),
}

/// Options of `run`. The injector sets the environment; the rest is as an injected pod has it.
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// Where the operator's control API is: https://HOST:PORT.
    #[arg(long, value_name = "URL", env = names::OPERATOR_ENV)]
    pub operator: String,
    /// PEM of the CAs that may certify it.
    #[arg(long, value_name = "PEM", env = names::OPERATOR_CA_ENV, hide_env_values = true)]
    pub operator_ca: String,
    /// Where each Connection is served: NAMESPACE/NAME=ADDRESS:PORT, separated by commas.
    #[arg(long, value_name = "LIST", env = names::LISTEN_ENV)]
    pub listen: String,
    /// File of the pod's token for the operator; read anew for each request.
    #[arg(long, value_name = "FILE", default_value_os_t = Path::new(names::TOKEN_PATH).join("token"))]
    pub token: PathBuf,
    /// Folder that keeps evidence and the pod's CA.
    #[arg(long, value_name = "DIR", default_value = names::SPOOL_PATH)]
    pub spool: PathBuf,
    /// Folder that agents read CA files from.
    #[arg(long, value_name = "DIR", default_value = names::TRUST_PATH)]
    pub trust: PathBuf,
    /// Hosts file that says under which names agents know the listeners.
    #[arg(long, value_name = "FILE", default_value = "/etc/hosts")]
    pub hosts: PathBuf,
    /// Address of /metrics, /livez, /readyz and /startz.
    #[arg(long, value_name = "ADDR:PORT", default_value_t = SocketAddr::from(([0, 0, 0, 0], names::ADMIN_PORT)))]
    pub admin: SocketAddr,
    /// How long open sessions may go on after SIGTERM, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub drain_seconds: u64,
    /// Sessions that may be open at a time, for each Connection.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub max_sessions: usize,
}

/// Options of `standalone`.
#[derive(Debug, Clone, Args)]
pub struct Standalone {
    /// Folder of Connection, AccessPolicy, IdentityProvider, AuditStore, Secret and ConfigMap
    /// manifests; watched.
    #[arg(long, value_name = "DIR")]
    pub manifests: PathBuf,
    /// Folder that keeps evidence and approvals; made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Who every session is: the agent's namespace and service account.
    #[arg(long, value_name = "NAMESPACE/SERVICEACCOUNT")]
    pub subject: SubjectName,
    /// Why the agent runs; recorded with every session.
    #[arg(long, value_name = "TEXT")]
    pub purpose: Option<String>,
    /// Recipient of age (age1…) whom sessions are sealed for, who alone can read them then; may be
    /// given several times. By default a key that is kept with the evidence, keys/seal.key.
    #[arg(long, value_name = "RECIPIENT", value_parser = parse_recipient)]
    pub seal_for: Vec<Recipient>,
    /// Address to listen on; each Connection's port is its annotation chaperone.dev/listen-port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    pub listen: IpAddr,
    /// Address of /metrics, /livez, /readyz and /startz; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    pub admin: SocketAddr,
    /// How long open sessions may go on after SIGTERM, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub drain_seconds: u64,
    /// Sessions that may be open at a time, for each Connection.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub max_sessions: usize,
}

impl Standalone {
    /// The drain as a duration.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

fn parse_recipient(text: &str) -> Result<Recipient, String> {
    Recipient::parse(text).map_err(|error| error.to_string())
}

/// Options of `check`.
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// Folder of manifests.
    #[arg(long, value_name = "DIR")]
    pub manifests: PathBuf,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `NAMESPACE/SERVICEACCOUNT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectName {
    /// Namespace.
    pub namespace: String,
    /// Service account.
    pub service_account: String,
}

impl std::fmt::Display for SubjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service_account)
    }
}

impl FromStr for SubjectName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let valid = |part: &str| {
            !part.is_empty()
                && part.len() <= 253
                && part.bytes().all(|byte| {
                    byte.is_ascii_lowercase()
                        || byte.is_ascii_digit()
                        || matches!(byte, b'-' | b'.')
                })
        };
        match text.split_once('/') {
            Some((namespace, service_account)) if valid(namespace) && valid(service_account) => {
                Ok(Self {
                    namespace: namespace.to_owned(),
                    service_account: service_account.to_owned(),
                })
            }
            _ => Err(
                "write NAMESPACE/SERVICEACCOUNT in lower case, such as shop/report-agent"
                    .to_owned(),
            ),
        }
    }
}

/// Logs go to standard error; `RUST_LOG` says what, `info` by default.
pub fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    // A second subscriber in one process is a test's; the first one stays.
    let _ = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// One line for whoever started the process.
pub fn say(line: &str) {
    // A reader that closed our output is no reason to stop serving.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// What went wrong, on standard error.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "error: {line}");
}
