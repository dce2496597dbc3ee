//! The store in the spool volume: opened under the digest key that all pods share.
//!
//! ```text
//! SPOOL/evidence              the store, as standalone keeps it
//! SPOOL/retired-<n>/evidence  stores under earlier digest keys: whole, verified by themselves
//! ```
//!
//! An operator that was installed anew has another key. Digests under two keys cannot stand in
//! one log without its verifier taking the key file for a forged one, and a pod must not be kept
//! from starting by that: the old store is ended as its key says, and put aside until it is sent.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chaperone_control::{PodIdentity, Snapshot};
use chaperone_evidence::{AttachIdentity, Recipient, Recorder, SpoolOptions, Store, StoreError};

/// The spool's part of the volume; the rest is the log's.
fn spool_options(recipients: &[Recipient]) -> SpoolOptions {
    SpoolOptions {
        recipients: recipients.to_vec(),
        file_bytes: 8 * 1024 * 1024,
        files: 3,
        reserve: 2 * 1024 * 1024,
        replicate: true,
        export_bytes: EXPORT_BYTES,
        ..SpoolOptions::default()
    }
}

/// What is left of the volume for what sinks have not been told: about 50 000 events.
const EXPORT_BYTES: u64 = 8 * 1024 * 1024;
/// The store's folder in the volume, and in what was put aside.
pub(crate) const FOLDER: &str = "evidence";
/// For the records of a retired store to be shipped.
const RETIRING: Duration = Duration::from_secs(20);
/// Stores that may be put aside. The volume is full long before.
const MOST_RETIRED: usize = 64;

/// A recorder that is attached, and the log's fingerprint.
pub(crate) struct Opened {
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) fingerprint: String,
}

/// Opens the store below `spool`, recovers what a crash left and attaches.
pub(crate) async fn open(
    spool: &Path,
    pod: &PodIdentity,
    digest_key: &[u8; 32],
    recipients: &[Recipient],
) -> anyhow::Result<Opened> {
    let folder = spool.join(FOLDER);
    let store = match Store::open_with_digest_key(&folder, digest_key) {
        Err(StoreError::OtherDigestKey(_)) => {
            retire(spool, &folder, pod, recipients).await?;
            Store::open_with_digest_key(&folder, digest_key)
        }
        opened => opened,
    }
    .map_err(worded)?;
    let fingerprint = store.log_fingerprint();
    let recorder = store
        .attach(identity(pod), spool_options(recipients))
        .map_err(worded)?;
    Ok(Opened {
        recorder,
        fingerprint,
    })
}

fn asides(spool: &Path) -> impl Iterator<Item = PathBuf> {
    (1..=MOST_RETIRED).map(|number| spool.join(format!("retired-{number}")))
}

/// The stores that were put aside and not sent yet, oldest first.
pub(crate) fn retired(spool: &Path) -> Vec<PathBuf> {
    asides(spool).filter(|path| path.exists()).collect()
}

/// Ends a store under its own key: what a crash left in its spool goes into its log first.
async fn retire(
    spool: &Path,
    folder: &Path,
    pod: &PodIdentity,
    recipients: &[Recipient],
) -> anyhow::Result<()> {
    let store = Store::open(folder).map_err(worded)?;
    let recorder = store
        .attach(identity(pod), spool_options(recipients))
        .map_err(worded)?;
    recorder
        .detach(RETIRING)
        .await
        .map_err(|error| anyhow::anyhow!("{}: {error}", error.reason()))?;
    drop(recorder);
    let aside = asides(spool)
        .find(|path| !path.exists())
        .context("CannotRecord: too many stores were put aside; delete the pod")?;
    fs::create_dir(&aside).with_context(|| format!("cannot create {}", aside.display()))?;
    fs::rename(folder, aside.join(FOLDER))
        .with_context(|| format!("cannot move {} to {}", folder.display(), aside.display()))?;
    // Everything in it has been shipped; the room is the next store's.
    for file in fs::read_dir(aside.join(FOLDER).join("spool"))
        .into_iter()
        .flatten()
        .flatten()
    {
        fs::remove_file(file.path())
            .with_context(|| format!("cannot remove {}", file.path().display()))?;
    }
    tracing::warn!(
        folder = %aside.display(),
        "the operator has another digest key than this pod's evidence: the evidence so far was put aside"
    );
    Ok(())
}

/// Whom the snapshot has evidence sealed for; `None` where nobody knows.
///
/// # Errors
/// Where a name cannot be understood: nothing may be recorded then that everybody could read.
pub(crate) fn recipients(snapshot: &Snapshot) -> anyhow::Result<Option<Vec<Recipient>>> {
    let parsed = |text: &String| {
        Recipient::parse(text).with_context(|| format!("CannotRecord: to be sealed for {text}"))
    };
    let names = snapshot.seal_for.as_ref();
    names
        .map(|names| names.iter().map(parsed).collect())
        .transpose()
}

fn identity(pod: &PodIdentity) -> AttachIdentity {
    AttachIdentity {
        subject: format!("{}/{}", pod.namespace, pod.service_account),
        host: format!("{} {}", pod.name, pod.uid),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn worded(error: StoreError) -> anyhow::Error {
    anyhow::anyhow!("{}: {error}", error.reason())
}
