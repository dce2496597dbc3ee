//! A real Kubernetes for the tests of one binary, a namespace in it for each test, and what a test
//! does there: as kubectl's user would, and looking at the same things.
//!
//! ```text
//! shared() ─► xtask::cluster (up once, gone when the process is, however it ends)
//! Namespace ─► apply, refused, exec, logs, get, wait_until_*      Kubectl ─► anybody, by impersonation
//! ```

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Result, anyhow};
use xtask::checks::CLUSTER_VARIABLE;
use xtask::cluster::Cluster;
use xtask::image::ready_made::ReadyMade;
use xtask::process::is_root;
use xtask::{cluster, needs};

pub mod auditor;
pub mod chaperone;
mod kubectl;
mod namespace;

pub use kubectl::Kubectl;
pub use namespace::Namespace;

static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();

/// Whether a test has to do without, having said why. A cluster takes root.
pub fn unavailable() -> bool {
    let reason = if std::env::var_os(CLUSTER_VARIABLE).is_some_and(|value| value == "0") {
        "these tests were left out by CHAPERONE_CLUSTER=0"
    } else if !is_root() {
        "a Kubernetes takes root"
    } else {
        return false;
    };
    eprintln!("NOT TESTED: {reason}");
    true
}

/// The cluster that all tests of this binary share, started on first use.
pub fn shared() -> Result<&'static Cluster> {
    CLUSTER
        .get_or_init(|| start().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("{error}"))
}

fn start() -> Result<Cluster> {
    needs::install(&cluster::NEEDS, true)?;
    let state = std::env::temp_dir().join(format!("chaperone-cluster-{}", std::process::id()));
    // An earlier process with our number may have left one behind.
    Cluster::remove(&state)?;
    Cluster::up(&state)
}

/// Makes an image available on the shared cluster, once, and gives its name.
pub fn image(image: ReadyMade) -> Result<&'static str> {
    static LOADED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if !loaded.contains(image.reference()) {
        shared()?.load(image)?;
        loaded.insert(image.reference());
    }
    Ok(image.reference())
}
