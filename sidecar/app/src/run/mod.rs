//! `run`: the injected sidecar. Told by an operator what to serve, in a pod that trusts it.
//!
//! ```text
//! environment ─settings─► listeners bound · pod_ca: CA, leaf, trust files
//! operator ─feed─► attach, then every newer Snapshot ─snapshots─► connections and policies
//!     ▲ control (HTTP/2, bearer)          │ evidence: store under the attach's digest key
//!     ├── approvals of live sessions      └─► serving ─► live sessions
//!     └── shipping: segments of the store, until they are acknowledged
//! ```
//!
//! Past a snapshot's `validUntil` everything is denied, live sessions too, until the operator is
//! heard of again. What a snapshot does not carry, or cannot be used, denies with its reason.

mod control;
mod evidence;
mod feed;
mod in_cluster;
mod notices;
mod pod_ca;
mod process;
mod settings;
mod shipping;
mod snapshots;
mod views;
mod volume;

use anyhow::Context;

use crate::cli::Run;
use crate::serving::runtimes;

/// Runs until a signal ends it.
///
/// # Errors
/// Whatever keeps it from starting: its environment, its volumes, an address in use.
pub fn run(options: &Run) -> anyhow::Result<()> {
    let settings = settings::Settings::new(options)?;
    crate::memory::provide_room();
    let (data_plane, control) = runtimes().context("the process's threads cannot be started")?;
    let handle = data_plane.handle().clone();
    let result = control.block_on(async {
        let starting = process::Starting::new(settings, handle)?;
        starting.run().await
    });
    data_plane.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}
