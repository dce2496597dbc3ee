//! Command line and settings. Every flag is also an environment variable `CHAPERONE_…`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use chaperone_crds::HumanDuration;
use clap::{Args, Parser, Subcommand};
use k8s_openapi::api::core::v1::ResourceRequirements;
use tracing_subscriber::EnvFilter;

/// Injects sidecars and tells them what applies.
#[derive(Debug, Parser)]
#[command(name = "chaperone-operator", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator.
    Run(Box<Config>),
    /// Delete the webhook configurations, so that nothing is refused once the operator is gone.
    Uninstall(Uninstall),
}

/// Settings of `run`, shared by every part.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// The operator's own namespace.
    #[arg(long, env = "CHAPERONE_NAMESPACE", default_value = "chaperone-system")]
    pub namespace: String,
    /// Name of the operator's Service, Lease, webhook configurations and service account.
    #[arg(long, env = "CHAPERONE_SERVICE", default_value = "chaperone-operator")]
    pub service: String,
    /// Image of the sidecar that is injected.
    #[arg(long, env = "CHAPERONE_SIDECAR_IMAGE")]
    pub sidecar_image: String,
    /// More images that a sidecar may have when it attaches: those of earlier releases.
    #[arg(long, env = "CHAPERONE_ACCEPTED_IMAGES", value_delimiter = ',')]
    pub accepted_images: Vec<String>,
    /// Namespaces whose Secrets the operator may read; empty if it may read those of all.
    #[arg(long, env = "CHAPERONE_CONNECTION_NAMESPACES", value_delimiter = ',')]
    pub connection_namespaces: Vec<String>,
    /// How long a sidecar works on without hearing from the operator, such as `1h`.
    #[arg(long, env = "CHAPERONE_SNAPSHOT_VALID_FOR", default_value = "1h", value_parser = duration)]
    pub snapshot_valid_for: Duration,
    /// Port of the webhooks.
    #[arg(long, env = "CHAPERONE_WEBHOOK_PORT", default_value_t = 9443)]
    pub webhook_port: u16,
    /// Port of the control API.
    #[arg(long, env = "CHAPERONE_CONTROL_PORT", default_value_t = chaperone_control::CONTROL_PORT)]
    pub control_port: u16,
    /// Port of `/metrics`, `/livez` and `/readyz`.
    #[arg(long, env = "CHAPERONE_ADMIN_PORT", default_value_t = 8080)]
    pub admin_port: u16,
    /// Allow Connections whose target is a loopback, link-local or metadata address.
    #[arg(long, env = "CHAPERONE_ALLOW_SPECIAL_TARGETS")]
    pub allow_special_targets: bool,
    /// Folder for packs of evidence, on a volume that only this replica has.
    #[arg(long, env = "CHAPERONE_PACKS_DIR")]
    pub packs_dir: Option<PathBuf>,
    /// `resources` of the sidecar's container, as JSON.
    #[arg(long, env = "CHAPERONE_SIDECAR_RESOURCES", value_parser = resources)]
    pub sidecar_resources: Option<ResourceRequirements>,
    /// Name of this replica, unique among them: the pod's.
    #[arg(long, env = "CHAPERONE_POD_NAME", default_value = "chaperone-operator")]
    pub pod_name: String,
}

/// Settings of `uninstall`.
#[derive(Debug, Clone, Args)]
pub struct Uninstall {
    /// Name of the webhook configurations.
    #[arg(long, env = "CHAPERONE_SERVICE", default_value = "chaperone-operator")]
    pub service: String,
}

/// Logs to standard error as `RUST_LOG` says, `info` without it; as JSON unless somebody watches.
pub fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second subscriber in one process is a test's; the first one stays.
    let _ = match std::io::stderr().is_terminal() {
        true => builder.try_init(),
        false => builder.json().try_init(),
    };
}

impl Config {
    /// Every image that a sidecar may have, the current one first.
    pub fn images(&self) -> Vec<String> {
        let mut images = vec![self.sidecar_image.clone()];
        let more = self.accepted_images.iter().map(|image| image.trim());
        images.extend(more.filter(|image| !image.is_empty()).map(str::to_owned));
        images
    }

    /// What sidecars dial: `https://SERVICE.NAMESPACE.svc:8443`.
    pub fn operator_url(&self) -> String {
        format!(
            "https://{}.{}.svc:{}",
            self.service,
            self.namespace,
            chaperone_control::CONTROL_PORT
        )
    }

    /// The operator as the API server's user info names it.
    pub fn username(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.service)
    }

    /// Whether the Secrets of this namespace may be read.
    pub fn may_read_secrets_of(&self, namespace: &str) -> bool {
        let mut named = self.connection_namespaces.iter().map(|name| name.trim());
        let all = named.clone().all(str::is_empty);
        all || named.any(|name| name == namespace)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<HumanDuration>()
        .map(Duration::from)
        .map_err(|error| error.to_string())
}

fn resources(text: &str) -> Result<ResourceRequirements, String> {
    serde_json::from_str(text).map_err(|error| format!("not ResourceRequirements: {error}"))
}
