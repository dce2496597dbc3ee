//! Whether evidence is taken in and signed for.

use std::collections::BTreeSet;
use std::time::Duration;

use chaperone_crds::audit_store::NAME;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::gather::{Facts, seen};
use super::{Checked, Finding};
use crate::output::counted;
use crate::time::{between, short};

/// Longest that a segment waits for its checkpoint: six times what a leader takes.
const FRESH: Duration = Duration::from_secs(60);
/// Percent of the quota from which there is little room.
const NEARLY_FULL: u64 = 80;

/// The store takes evidence in, and has room.
pub(super) fn store(facts: &Facts) -> Checked {
    let stores = seen(&facts.stores)?;
    let Some(store) = stores.iter().find(|store| store.name_any() == NAME) else {
        let message =
            "is not there, so no evidence is taken in; the operator makes it, see its log";
        return Ok((String::new(), vec![Finding::fail(NAME, message)]));
    };
    let mut findings = Vec::new();
    let status = store.status.clone().unwrap_or_default();
    match ready(&status.conditions) {
        Some(condition) if condition.status == "True" => {}
        Some(condition) => findings.push(Finding::fail(
            NAME,
            format!("is not ready: {}: {}", condition.reason, condition.message),
        )),
        None => findings.push(Finding::fail(
            NAME,
            "has not been looked at by the operator; see its log",
        )),
    }
    let quota = store.spec.quota.get();
    let percent = status.used_bytes.saturating_mul(100) / quota.max(1);
    if status.used_bytes >= quota {
        findings.push(Finding::fail(
            NAME,
            "is full: nothing is taken in, and sidecars deny once their spools are full; raise spec.quota",
        ));
    } else if percent >= NEARLY_FULL {
        findings.push(Finding::warn(
            NAME,
            format!(
                "{percent} % of its quota is used; raise spec.quota, or let retention remove more"
            ),
        ));
    }
    Ok((format!("{percent} % of its quota is used"), findings))
}

/// What arrives is signed for.
pub(super) fn checkpoints(facts: &Facts) -> Checked {
    let named: BTreeSet<&str> = seen(&facts.checkpoints)?
        .iter()
        .flat_map(|checkpoint| &checkpoint.spec.segments)
        .map(|segment| segment.name.as_str())
        .collect();
    let segments = seen(&facts.segments)?;
    let waiting = segments
        .iter()
        .filter(|segment| !named.contains(segment.name_any().as_str()));
    let waits: Vec<Duration> = waiting
        .filter_map(|segment| segment.creation_timestamp())
        .map(|made| between(made.0, facts.now))
        .collect();
    let mut findings = Vec::new();
    let longest = waits.iter().max().copied().unwrap_or_default();
    if longest > FRESH {
        findings.push(Finding::fail(
            "",
            format!(
                "{} for a checkpoint, one for {}: nothing is signed for; see whether one replica of the operator leads, in its log",
                counted(waits.len() as u64, "segment waits", "segments wait"),
                short(longest)
            ),
        ));
    }
    let all = counted(segments.len() as u64, "segment", "segments");
    Ok((
        format!("{all}, {} of them wait for one", waits.len()),
        findings,
    ))
}

/// The condition Ready.
pub(super) fn ready(conditions: &[Condition]) -> Option<&Condition> {
    conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")
}
