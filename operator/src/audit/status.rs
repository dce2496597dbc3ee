//! What people see of the log: the AuditStore's status, and the public key that proves it.

use std::time::Duration;

use chaperone_crds::audit_store::{NAME, NAMESPACE};
use chaperone_crds::{
    AuditStore, AuditStoreSpec, AuditStoreStatus, ConditionReason, ConditionType,
};
use chaperone_evidence::{Identity, fingerprint, public_pem};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use tokio::sync::watch;
use tokio::time::sleep;

use super::log_key::LogKeys;
use super::quota::{Level, level, words};
use super::retention::{Removal, Stuck};
use super::seal_key::{SealKeyError, SealKeys};
use super::sequencer::Progress;
use super::{CONFIG_MAP, LogKeyError};
use crate::FIELD_MANAGER;
use crate::context::Context;
use crate::controllers::conditions::{Finding, conditions};
use crate::controllers::events::Events;
use crate::controllers::{ReconcileError, status};

/// How often the status is written at most.
const LOOK: Duration = Duration::from_secs(3);
/// How often it is looked whether the public key is still there.
const PUBLISH: Duration = Duration::from_secs(60);
/// Most recipients of the operator's own keys that the status names.
const MOST_SEAL_KEYS: usize = 64;
/// Pause after a fault.
const PAUSE: Duration = Duration::from_secs(5);

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
enum StatusError {
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Write(#[from] ReconcileError),
    #[error(transparent)]
    Key(#[from] LogKeyError),
    #[error(transparent)]
    SealKey(#[from] SealKeyError),
}

/// Keeps the public key in its ConfigMap, until it is dropped.
pub(super) async fn publish_key(context: &Context, keys: &LogKeys) {
    loop {
        let pause = match publish(context, keys).await {
            Ok(()) => PUBLISH,
            Err(error) => {
                tracing::warn!(%error, "the log's public key is not published, trying again");
                PAUSE
            }
        };
        sleep(pause).await;
    }
}

async fn publish(context: &Context, keys: &LogKeys) -> Result<(), StatusError> {
    let key = keys.get().await?;
    let data = [
        ("log.pub".to_owned(), public_pem(key.public())),
        ("fingerprint".to_owned(), fingerprint(key.public())),
        // Through whose Service packs are read.
        ("namespace".to_owned(), context.config.namespace.clone()),
        ("service".to_owned(), context.config.service.clone()),
    ];
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(CONFIG_MAP.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(data.into()),
        ..ConfigMap::default()
    };
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), NAMESPACE);
    let found = api.get_opt(CONFIG_MAP).await?;
    if found.is_some_and(|found| found.data == map.data) {
        return Ok(());
    }
    let ours = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(CONFIG_MAP, &ours, &Patch::Apply(&map)).await?;
    Ok(())
}

/// Makes the AuditStore and keeps its status, until it is dropped.
pub(super) async fn keep(
    context: &Context,
    keys: &LogKeys,
    seal_keys: &SealKeys,
    progress: watch::Receiver<Option<Progress>>,
    removal: watch::Receiver<Option<Removal>>,
) {
    let events = Events::new(context.client.clone(), &context.config.pod_name);
    loop {
        let now = progress.borrow().clone();
        let removal = removal.borrow().clone().unwrap_or_default();
        let pause = match write(context, keys, seal_keys, &events, now, removal).await {
            Ok(()) => LOOK,
            Err(error) => {
                tracing::warn!(%error, "the AuditStore's status is not written, trying again");
                PAUSE
            }
        };
        // The quota may change without the log.
        sleep(pause).await;
    }
}

async fn write(
    context: &Context,
    keys: &LogKeys,
    seal_keys: &SealKeys,
    events: &Events,
    progress: Option<Progress>,
    removal: Removal,
) -> Result<(), StatusError> {
    let api: Api<AuditStore> = Api::all(context.client.clone());
    let store = match api.get_opt(NAME).await? {
        Some(store) => store,
        None => {
            let store = AuditStore::new(NAME, AuditStoreSpec::default());
            match api.create(&PostParams::default(), &store).await {
                Ok(made) => made,
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    api.get(NAME).await?
                }
                Err(error) => return Err(error.into()),
            }
        }
    };
    // What is not known yet is not written down as nothing.
    let Some(progress) = progress else {
        return Ok(());
    };
    let key = keys.get().await?;
    let old = store.status.clone().unwrap_or_default();
    let quota = store.spec.quota.get();
    let generation = store.metadata.generation;
    let gauge = &context.metrics.audit.quota;
    gauge.set(i64::try_from(quota).unwrap_or(i64::MAX));
    let sealing = sealing(seal_keys, &store.spec, &old.seal_keys).await;
    let mut finding = finding(
        progress.used_bytes,
        quota,
        progress.problem.as_deref(),
        &removal,
    );
    if let Some(worse) = sealing.finding.filter(|_| finding.good) {
        finding = worse;
    }
    let log_key = fingerprint(key.public());
    let mut status = status_of(&old, &progress, removal, &finding, log_key, generation);
    status.seal_keys = sealing.keys;
    if status == old {
        return Ok(());
    }
    status::apply_cluster_scoped::<AuditStore, _>(&context.client, NAME, &status).await?;
    // That a new store is ready is no news.
    let is_first = old.conditions.is_empty() && finding.message.is_empty();
    if finding.is_news(&old.conditions) && !is_first {
        let about = store.object_ref(&());
        let (good, reason) = (finding.good, &finding.reason);
        events
            .publish(&about, good, reason, "Keep", &finding.message)
            .await;
    }
    Ok(())
}

fn status_of(
    old: &AuditStoreStatus,
    progress: &Progress,
    removal: Removal,
    finding: &Finding,
    log_key: String,
    generation: Option<i64>,
) -> AuditStoreStatus {
    let Progress {
        tip,
        used_bytes,
        problem: _,
    } = progress;
    let (checkpoint, size) = tip.unwrap_or((old.checkpoint, old.size));
    let findings = std::slice::from_ref(finding);
    let conditions: Vec<Condition> =
        conditions(&old.conditions, findings, generation, Timestamp::now());
    AuditStoreStatus {
        conditions,
        used_bytes: *used_bytes,
        checkpoint,
        size,
        log_key,
        seal_keys: old.seal_keys.clone(),
        packed: removal.packed.or_else(|| old.packed.clone()),
        removed: removal.removed.or_else(|| old.removed.clone()),
    }
}

/// How it stands with the operator's own keys.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sealing {
    /// The recipients of all there have been, oldest first.
    keys: Vec<String>,
    /// What is wrong with them.
    finding: Option<Finding>,
}

/// Makes the next key where the spec asks for one. Where the auditors' own recipients are named, the
/// operator's are not looked at.
async fn sealing(seal_keys: &SealKeys, spec: &AuditStoreSpec, known: &[String]) -> Sealing {
    if spec.seal.is_some() {
        return Sealing {
            keys: known.to_vec(),
            finding: None,
        };
    }
    let read = async {
        let there = seal_keys.get().await?;
        // Those that are lost count: their numbers are not given again.
        let wanted = usize::try_from(spec.seal_key).unwrap_or(usize::MAX);
        if history(known, &recipients(&there)).len() < wanted {
            seal_keys.add().await?;
            return seal_keys.get().await;
        }
        Ok(there)
    };
    match read.await {
        Ok(there) => {
            let there = recipients(&there);
            Sealing {
                finding: lost(known, &there),
                keys: history(known, &there),
            }
        }
        Err(error) => Sealing {
            keys: known.to_vec(),
            finding: Some(Finding::bad(
                ConditionType::Ready,
                ConditionReason::SealKeyLost,
                format!("{error}; until then everything is denied, since nothing can be sealed"),
            )),
        },
    }
}

fn recipients(keys: &[Identity]) -> Vec<String> {
    keys.iter().map(|key| key.recipient().to_string()).collect()
}

/// What is known, and after it what is new; the newest are kept.
fn history(known: &[String], there: &[String]) -> Vec<String> {
    let mut all: Vec<String> = known.to_vec();
    all.extend(there.iter().filter(|key| !known.contains(key)).cloned());
    let more = all.len().saturating_sub(MOST_SEAL_KEYS);
    all.split_off(more)
}

/// What is to be said of keys that were there and are not.
fn lost(known: &[String], there: &[String]) -> Option<Finding> {
    let gone: Vec<&str> = known
        .iter()
        .filter(|key| !there.contains(key))
        .map(String::as_str)
        .collect();
    (!gone.is_empty()).then(|| {
        let note = format!(
            "Secret {NAMESPACE}/chaperone-seal-key has lost the key of {}: what was sealed for it stays \
             shut until it is brought back",
            gone.join(", ")
        );
        Finding::good(ConditionType::Ready, ConditionReason::SealKeyLost, note)
    })
}

fn finding(used: u64, quota: u64, problem: Option<&str>, removal: &Removal) -> Finding {
    let ready = ConditionType::Ready;
    let full = ConditionReason::QuotaExceeded;
    let words = words(used, quota);
    if let Some(problem) = problem {
        return Finding::bad(ready, ConditionReason::EvidenceRefused, problem);
    }
    let (stuck, full) = match &removal.stuck {
        Some(Stuck::Packing(why)) => (Some(why.as_str()), ConditionReason::PackingFailed),
        Some(Stuck::Nothing(why)) => (Some(why.as_str()), full),
        None => (None, full),
    };
    match level(used, quota) {
        Level::Full => {
            let why = stuck.unwrap_or("the oldest evidence is on its way out");
            Finding::bad(
                ready,
                full,
                format!("{words}; nothing more is taken in: {why}"),
            )
        }
        Level::NearlyFull => {
            let what = stuck.unwrap_or(match removal.packs {
                true => "the oldest evidence goes into packs",
                false => "the oldest evidence goes, under a tombstone",
            });
            Finding::good(ready, full, format!("{words}; {what}"))
        }
        // Of what was begun and is not whole nothing is deleted, and it is tried again.
        Level::Fine if full == ConditionReason::PackingFailed => {
            let why = stuck.unwrap_or_default();
            Finding::good(ready, full, format!("{words}; nothing is packed: {why}"))
        }
        Level::Fine => Finding::good(ready, ConditionReason::Ready, ""),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn status(used_bytes: u64, problem: Option<&str>) -> (String, String) {
        let progress = Progress {
            tip: Some((2, 9)),
            used_bytes,
            problem: problem.map(str::to_owned),
        };
        let old = AuditStoreStatus::default();
        let removal = Removal {
            stuck: Some(Stuck::Nothing("nothing is old enough".to_owned())),
            ..Removal::default()
        };
        let finding = finding(used_bytes, 100, problem, &removal);
        let key = || "SHA256:x".to_owned();
        let status = status_of(
            &old,
            &progress,
            Removal::default(),
            &finding,
            key(),
            Some(1),
        );
        let unknown = Progress {
            tip: None,
            ..progress
        };
        let again = status_of(
            &status,
            &unknown,
            Removal::default(),
            &finding,
            key(),
            Some(1),
        );
        assert_eq!(status, again, "what is not known stays");
        let condition = status.conditions[0].clone();
        (condition.status, condition.reason)
    }

    #[test]
    fn a_lost_seal_key_is_named_until_it_is_back() {
        let texts = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let known = texts(&["age1a", "age1b"]);
        assert_eq!(lost(&known, &known), None);
        let there = texts(&["age1b", "age1c"]);
        let found = lost(&known, &there).unwrap();
        assert!(
            found.good && found.message.contains("the key of age1a:"),
            "{found:?}"
        );
        assert_eq!(history(&known, &there), texts(&["age1a", "age1b", "age1c"]));
    }

    #[test]
    fn a_full_store_is_not_ready_and_a_nearly_full_one_says_so() {
        let said = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
        assert_eq!(status(79, None), said("True", "Ready"));
        assert_eq!(status(80, None), said("True", "QuotaExceeded"));
        assert_eq!(status(100, None), said("False", "QuotaExceeded"));
        assert_eq!(status(5, Some("altered")), said("False", "EvidenceRefused"));
    }
}
