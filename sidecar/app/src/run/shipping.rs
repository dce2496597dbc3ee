//! The pod's evidence on its way into the cluster's log.
//!
//! ```text
//! recorder ─segments─► outbox ─append─► operator ─acknowledged─► recorder (Replicated), outbox (frees)
//!                        └─ tally ─► views of live sessions
//! ```
//! What is sent is sent again until it is acknowledged; a store that was put aside goes first, and is
//! removed once all of it is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chaperone_approvals::ApiError;
use chaperone_control::{
    Append, Bytes, CertificateRequest, MOST_PART_BYTES, MOST_PARTS, MOST_RECOVERED, MOST_VIEWS,
    PodIdentity, RecoveredSession, SessionView, SessionViews,
};
use chaperone_evidence::seal::ShippedKeys;
use chaperone_evidence::{Outbox, Outgoing, Recorder, Tally, parse_public_pem};
use tokio::sync::watch;
use tokio::time::Instant;

use super::control::Client;
use super::evidence::{FOLDER, retired};
use super::feed::LONGEST_PAUSE;
use super::views::{recovered, spec_of};
use crate::pause::Pause;

/// The certificate of a store, beside its keys.
const CERTIFICATE: &str = "certificate";
/// Views of sessions are told at most this often …
const VIEWS_EVERY: Duration = Duration::from_secs(1);
/// … and so many that were not told yet are kept: a view is disposable.
const MOST_UNTOLD: usize = 4096;
/// The operator's word for a certificate, or bytes, that do not hold.
const REFUSED: &str = "EvidenceRefused";

/// Sends what the recorder has until `ended`, then what is left.
pub(crate) async fn follow(
    client: Client,
    spool: PathBuf,
    pod: PodIdentity,
    recorder: Arc<Recorder>,
    mut ended: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let asides = retired(&spool);
    let mut views = Views::new(&client, &pod, recorder.shipped_keys());
    if !asides.is_empty() {
        // Its sessions ended with it; this store knows none of them.
        views.recovered = Some(Vec::new());
    }
    for folder in asides {
        Store::open(&client, folder.join(FOLDER))?
            .send_all(None)
            .await?;
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
        tracing::info!(folder = %folder.display(), "evidence that was put aside has arrived");
    }
    let mut store = Store::open(&client, spool.join(FOLDER))?;
    let mut segments = recorder.segments();
    loop {
        // Looked at before what is there is sent: what ends it has shipped its last segment by then.
        let last = *ended.borrow_and_update();
        segments.mark_unchanged();
        store.send_all(Some((&recorder, &mut views))).await?;
        views.tell(last).await;
        if last {
            return Ok(());
        }
        tokio::select! {
            _ = segments.changed() => {}
            _ = ended.changed() => {}
            () = views.due() => {}
        }
    }
}

/// A store that is sent.
struct Store<'a> {
    client: &'a Client,
    folder: PathBuf,
    /// Taken out while a thread that may block works on it.
    outbox: Option<Outbox>,
    certificate: Option<Vec<u8>>,
}

impl<'a> Store<'a> {
    fn open(client: &'a Client, folder: PathBuf) -> anyhow::Result<Store<'a>> {
        let outbox = Outbox::open(&folder)?;
        Ok(Store {
            client,
            certificate: fs::read(folder.join(CERTIFICATE)).ok(),
            outbox: Some(outbox),
            folder,
        })
    }

    /// Sends every segment that is there, however often it takes. An error is one of the own disk.
    async fn send_all(
        &mut self,
        mut live: Option<(&Recorder, &mut Views<'_>)>,
    ) -> anyhow::Result<()> {
        let mut pause = Pause::up_to(LONGEST_PAUSE);
        while let Some(next) = self.work(Outbox::unsent).await? {
            loop {
                let urgent = live
                    .as_ref()
                    .is_some_and(|(recorder, _)| recorder.is_awaited());
                match self.send(&next, urgent).await {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::warn!(segment = next.number, "sending evidence: {error}");
                        if let ApiError::Refused(refusal) = &error
                            && refusal.reason == REFUSED
                        {
                            // The log may have another key than the one that certified this store.
                            self.certificate = None;
                        }
                        pause.wait().await;
                    }
                }
            }
            pause = Pause::up_to(LONGEST_PAUSE);
            let number = next.number;
            if let Some((recorder, _)) = &live {
                recorder.acknowledged(number);
            }
            self.work(move |outbox| outbox.acknowledge(number)).await?;
            if let Some((_, views)) = &mut live {
                views.take(number, &next.bytes);
                // Here and not only when all is sent: of a busy pod that never is.
                views.tell(false).await;
            }
        }
        Ok(())
    }

    async fn send(&mut self, next: &Outgoing, urgent: bool) -> Result<(), ApiError> {
        let certificate = self.certified().await?;
        let chunks: Vec<&[u8]> = next.bytes.chunks(MOST_PART_BYTES).collect();
        let parts = u32::try_from(chunks.len())
            .ok()
            .filter(|parts| *parts <= MOST_PARTS)
            .ok_or_else(|| {
                ApiError::Unreachable(format!("segment {} is too long to be sent", next.number))
            })?;
        for (part, data) in (0..parts).zip(chunks) {
            let append = Append {
                certificate: Bytes(certificate.clone()),
                attach: Bytes(next.attach.clone()),
                number: next.number,
                part,
                parts,
                data: Bytes(data.to_vec()),
                urgent,
            };
            self.client.append(&append).await?;
        }
        Ok(())
    }

    /// The store's certificate, asked for where it is not there.
    async fn certified(&mut self) -> Result<Vec<u8>, ApiError> {
        if let Some(certificate) = &self.certificate {
            return Ok(certificate.clone());
        }
        let own = |error: &dyn std::fmt::Display| {
            ApiError::Unreachable(format!("this store's own files: {error}"))
        };
        let text = fs::read_to_string(self.folder.join("keys/log.pub"));
        let text = text.map_err(|error| own(&error))?;
        let public = parse_public_pem(&text).ok_or_else(|| own(&"its key is none"))?;
        let request = CertificateRequest {
            store: hex::encode(public),
        };
        let certificate = self.client.certificate(&request).await?.certificate.0;
        // Without the file it is asked for again after the next start.
        if let Err(error) = fs::write(self.folder.join(CERTIFICATE), &certificate) {
            tracing::warn!(%error, "the store's certificate cannot be kept");
        }
        self.certificate = Some(certificate.clone());
        Ok(certificate)
    }

    /// Work on the disk, where it may block.
    async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Outbox) -> Result<T, chaperone_evidence::StoreError> + Send + 'static,
    ) -> anyhow::Result<T> {
        let mut outbox = match self.outbox.take() {
            Some(outbox) => outbox,
            None => Outbox::open(&self.folder)?,
        };
        let worked = tokio::task::spawn_blocking(move || {
            let result = work(&mut outbox);
            (outbox, result)
        });
        let (outbox, result) = worked.await.context("work on the outbox did not end")?;
        self.outbox = Some(outbox);
        Ok(result?)
    }
}

/// What is shown of the pod's sessions.
struct Views<'a> {
    client: &'a Client,
    pod: &'a PodIdentity,
    tally: Tally,
    keys: ShippedKeys,
    /// How sessions of earlier lives came out, until it has been told.
    recovered: Option<Vec<RecoveredSession>>,
    untold: BTreeMap<String, SessionView>,
    told: Instant,
}

impl<'a> Views<'a> {
    fn new(client: &'a Client, pod: &'a PodIdentity, keys: ShippedKeys) -> Views<'a> {
        Views {
            client,
            pod,
            tally: Tally::with(keys.clone()),
            keys,
            recovered: None,
            untold: BTreeMap::new(),
            told: Instant::now(),
        }
    }

    fn take(&mut self, number: u64, segment: &[u8]) {
        let told = self.tally.take(segment);
        self.keys.forget(number);
        if let Some(tails) = told.recovered {
            let recovered = tails.iter().map(recovered).take(MOST_RECOVERED);
            self.recovered = Some(recovered.collect());
        }
        // Of what an earlier life sealed, only who it was sealed for can tell.
        for session in told.sessions.into_iter().filter(|told| !told.sealed) {
            let id = session.id.to_string();
            if self.untold.len() >= MOST_UNTOLD && !self.untold.contains_key(&id) {
                continue;
            }
            let spec = spec_of(&session, &self.pod.name);
            self.untold.insert(id.clone(), SessionView { id, spec });
        }
    }

    /// When there is something to tell and it is time to.
    async fn due(&self) {
        if self.untold.is_empty() && self.recovered.is_none() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep_until(self.told + VIEWS_EVERY).await;
    }

    /// Tells what is new. What could not be told is told with the next.
    async fn tell(&mut self, now: bool) {
        let nothing = self.untold.is_empty() && self.recovered.is_none();
        if nothing || (!now && self.told.elapsed() < VIEWS_EVERY) {
            return;
        }
        self.told = Instant::now();
        // First: what it does not name and is open there has been cut.
        if self.recovered.is_some() {
            let recovered = self.recovered.clone();
            if !self.say(Vec::new(), recovered).await {
                return;
            }
            self.recovered = None;
        }
        let ids: Vec<String> = self.untold.keys().cloned().collect();
        for ids in ids.chunks(MOST_VIEWS) {
            let sessions = ids
                .iter()
                .filter_map(|id| self.untold.get(id).cloned())
                .collect();
            if !self.say(sessions, None).await {
                return;
            }
            self.untold.retain(|id, _| !ids.contains(id));
        }
    }

    /// Whether it was taken.
    async fn say(
        &self,
        sessions: Vec<SessionView>,
        recovered: Option<Vec<RecoveredSession>>,
    ) -> bool {
        let views = SessionViews {
            sessions,
            recovered,
        };
        let said = self.client.sessions(&views).await;
        if let Err(error) = &said {
            tracing::debug!("telling of sessions: {error}");
        }
        said.is_ok()
    }
}
