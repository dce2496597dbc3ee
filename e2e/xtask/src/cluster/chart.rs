//! Chaperone itself on a test cluster: our two programs as images, the chart by real helm.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::process::succeed;
use crate::workspace;

/// Where the operator runs.
pub const SYSTEM: &str = "chaperone-system";
/// Where Connections and their Secrets live.
pub const DATABASES: &str = "databases";

const OPERATOR: &str = "localhost/chaperone-operator";
const SIDECAR: &str = "localhost/chaperone-sidecar";
const TAG: &str = "e2e";

/// Loads both programs, and makes the namespace that the chart's values name.
pub fn prepare(cluster: &Cluster, operator: &Path, sidecar: &Path) -> Result<()> {
    cluster.load_program(&format!("{OPERATOR}:{TAG}"), operator)?;
    cluster.load_program(&format!("{SIDECAR}:{TAG}"), sidecar)?;
    succeed(cluster.kubectl().args(["create", "namespace", DATABASES])).map(|_| ())
}

/// `helm upgrade --install … --wait`, to which more values can be added.
pub fn helm(cluster: &Cluster) -> Command {
    let mut command = cluster.helm();
    command
        .args(["upgrade", "--install", "chaperone"])
        .arg(workspace::root().join("charts/chaperone"))
        .args(["--namespace", SYSTEM, "--create-namespace"])
        .args(["--wait", "--timeout", "120s"])
        .args(["--set", &format!("connectionNamespaces={{{DATABASES}}}")])
        .args([
            "--set",
            &format!("image.repository={OPERATOR},image.tag={TAG}"),
        ])
        .args([
            "--set",
            &format!("sidecar.image.repository={SIDECAR},sidecar.image.tag={TAG}"),
        ]);
    command
}
