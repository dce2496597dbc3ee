//! Which replica leads: a Lease (coordination.k8s.io/v1), as client-go's leaderelection uses it.
//!
//! A lease is taken only once nobody was *seen* to renew it for its duration, measured by the own
//! monotonic clock: clocks of other machines don't matter. A leader that can't renew stops leading
//! before others may take over, and every write is a compare-and-swap on the resource version.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// How long a lease holds without being renewed.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long leads no more: well before [`DURATION`].
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between two looks at the lease.
const RETRY: Duration = Duration::from_secs(2);

/// Takes part in the election until `stop`, then gives the lease back.
pub async fn elect(context: Context, leading: watch::Sender<bool>, stop: CancellationToken) {
    let mut candidate = Candidate {
        api: Api::namespaced(context.client.clone(), &context.config.namespace),
        lease: context.config.service.clone(),
        identity: context.config.pod_name.clone(),
        seen: None,
    };
    let mut renewed = Instant::now();
    loop {
        let asked = Instant::now();
        let won = tokio::select! {
            () = stop.cancelled() => break,
            // An answer that comes later than this is one that nobody waits for any more.
            won = timeout(RENEW_DEADLINE / 2, candidate.step(Timestamp::now(), asked)) => won,
        };
        let lead = match won {
            Ok(Ok(lead)) => {
                if lead {
                    renewed = asked;
                }
                lead
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease cannot be read or written");
                *leading.borrow()
            }
            Err(_) => {
                tracing::warn!("the lease cannot be read or written in time");
                *leading.borrow()
            }
        };
        let lead = lead && renewed.elapsed() < RENEW_DEADLINE;
        announce(&context, &leading, lead);
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(RETRY) => {}
        }
    }
    let led = *leading.borrow();
    announce(&context, &leading, false);
    if led && let Ok(Err(error)) = timeout(RETRY, candidate.release()).await {
        tracing::debug!(%error, "the lease was not given back");
    }
}

fn announce(context: &Context, leading: &watch::Sender<bool>, lead: bool) {
    let changed = leading.send_if_modified(|now| std::mem::replace(now, lead) != lead);
    if changed {
        context.metrics.leading.set(i64::from(lead));
        tracing::info!(lead, "leadership changed");
    }
}

/// Runs `work` whenever this replica leads, and drops it when it no longer does.
pub async fn while_leading<F>(mut leading: watch::Receiver<bool>, mut work: impl FnMut() -> F)
where
    F: Future<Output = ()>,
{
    while leading.wait_for(|lead| *lead).await.is_ok() {
        let lost = leading.wait_for(|lead| !*lead);
        tokio::select! {
            // Work that ends by itself is done for this term.
            () = async { work().await; std::future::pending().await } => {}
            lost = lost => if lost.is_err() { return },
        }
    }
}

/// One replica's view of the lease.
struct Candidate {
    api: Api<Lease>,
    lease: String,
    identity: String,
    /// The lease as it last changed, and when that was seen.
    seen: Option<(Lease, Instant)>,
}

impl Candidate {
    /// Renews or takes the lease if that may be; whether it is ours now.
    async fn step(&mut self, now: Timestamp, seen_at: Instant) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.lease).await? else {
            let lease = self.claimed(None, now);
            return settled(self.api.create(&PostParams::default(), &lease).await);
        };
        let version = &lease.metadata.resource_version;
        let known = self
            .seen
            .as_ref()
            .is_some_and(|(known, _)| known.metadata.resource_version == *version);
        if !known {
            self.seen = Some((lease.clone(), seen_at));
        }
        let since = self.seen.as_ref().map_or(seen_at, |(_, since)| *since);
        if !may_take(&lease, &self.identity, seen_at.duration_since(since)) {
            return Ok(false);
        }
        let claimed = self.claimed(Some(lease), now);
        let params = PostParams::default();
        settled(self.api.replace(&self.lease, &params, &claimed).await)
    }

    /// The lease as ours; the resource version of `old` stays, so that only one can write it.
    fn claimed(&self, old: Option<Lease>, now: Timestamp) -> Lease {
        let (metadata, spec) = match old {
            Some(old) => (old.metadata, old.spec.unwrap_or_default()),
            None => {
                let metadata = ObjectMeta {
                    name: Some(self.lease.clone()),
                    ..ObjectMeta::default()
                };
                (metadata, LeaseSpec::default())
            }
        };
        let ours = spec.holder_identity.as_deref() == Some(&self.identity);
        let terms = spec.lease_transitions.unwrap_or(0);
        Lease {
            metadata,
            spec: Some(LeaseSpec {
                acquire_time: match ours {
                    true => spec.acquire_time,
                    false => Some(MicroTime(now)),
                },
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                lease_transitions: Some(terms.saturating_add(i32::from(!ours))),
                renew_time: Some(MicroTime(now)),
                ..spec
            }),
        }
    }

    async fn release(&self) -> Result<(), kube::Error> {
        let mut lease = self.api.get(&self.lease).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        self.api
            .replace(&self.lease, &PostParams::default(), &lease)
            .await
            .map(|_| ())
    }
}

/// Somebody else's write in between is a lost race and no error.
fn settled(written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the lease is ours, nobody's, or was not renewed for as long as its holder said.
fn may_take(lease: &Lease, identity: &str, unchanged: Duration) -> bool {
    let spec = lease.spec.as_ref();
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref());
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    let duration = seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(DURATION, Duration::from_secs);
    match holder {
        None | Some("") => true,
        Some(holder) => holder == identity || unchanged >= duration,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: Option<&str>) -> Lease {
        Lease {
            spec: Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds: Some(15),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn a_lease_is_taken_only_when_its_holder_was_not_seen_to_renew() {
        let seconds = Duration::from_secs;
        assert!(may_take(&lease(None), "a", seconds(0)));
        assert!(may_take(&lease(Some("")), "a", seconds(0)));
        assert!(may_take(&lease(Some("a")), "a", seconds(0)));
        assert!(!may_take(&lease(Some("b")), "a", seconds(14)));
        assert!(may_take(&lease(Some("b")), "a", seconds(15)));
    }

    #[test]
    fn a_leader_stops_before_another_may_start() {
        assert!(RENEW_DEADLINE + RETRY < DURATION);
    }

    #[tokio::test]
    async fn work_runs_only_while_leading() {
        let (sender, receiver) = watch::channel(false);
        let (ran, mut runs) = watch::channel(0);
        let work = tokio::spawn(while_leading(receiver, move || {
            ran.send_modify(|count| *count += 1);
            std::future::pending()
        }));
        for term in 1..=3 {
            sender.send_replace(true);
            assert!(runs.wait_for(|count| *count == term).await.is_ok());
            sender.send_replace(false);
            tokio::task::yield_now().await;
        }
        drop(sender);
        assert!(work.await.is_ok());
    }
}
