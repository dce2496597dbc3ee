//! Connections and policies: what does not work, and what is weaker than it looks.

use std::collections::BTreeSet;

use chaperone_crds::{Connection, Enforcement, TlsMode};
use chaperone_inject::names::{GOVERNED_LABEL, INJECTED_ANNOTATION};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::core::DeserializeGuard;

use super::evidence::ready;
use super::gather::{Facts, seen};
use super::{Checked, Finding};
use crate::output::counted;

/// A name for people.
fn about(object: &impl ResourceExt) -> String {
    let namespace = object.namespace().unwrap_or_default();
    format!("{namespace}/{}", object.name_any())
}

/// What can be read; what cannot is found.
fn readable<'a, T>(listed: &'a [DeserializeGuard<T>], findings: &mut Vec<Finding>) -> Vec<&'a T> {
    let mut read = Vec::with_capacity(listed.len());
    for object in listed {
        match &object.0 {
            Ok(object) => read.push(object),
            Err(invalid) => {
                let metadata = &invalid.metadata;
                let namespace = metadata.namespace.clone().unwrap_or_default();
                let name = metadata.name.clone().unwrap_or_default();
                findings.push(Finding::fail(
                    format!("{namespace}/{name}"),
                    format!("cannot be read by this version: {}", invalid.error),
                ));
            }
        }
    }
    read
}

/// What the operator says of one resource.
fn standing(about: String, conditions: &[Condition], generation: Option<i64>) -> Option<Finding> {
    let Some(condition) = ready(conditions) else {
        return Some(Finding::warn(
            about,
            "has not been looked at by the operator yet; see whether that runs",
        ));
    };
    let stale =
        condition.observed_generation.is_some() && condition.observed_generation != generation;
    match condition.status.as_str() {
        _ if stale => Some(Finding::warn(
            about,
            "was changed, and the operator has not looked at it since",
        )),
        "True" => None,
        "False" => Some(Finding::fail(
            about,
            format!("{}: {}", condition.reason, condition.message),
        )),
        _ => Some(Finding::warn(
            about,
            format!("{}: {}", condition.reason, condition.message),
        )),
    }
}

/// Every Connection leads somewhere.
pub(super) fn connections(facts: &Facts) -> Checked {
    let listed = seen(&facts.connections)?;
    let mut findings = Vec::new();
    for connection in readable(listed, &mut findings) {
        let conditions = connection
            .status
            .as_ref()
            .map(|status| status.conditions.as_slice());
        findings.extend(standing(
            about(connection),
            conditions.unwrap_or_default(),
            connection.metadata.generation,
        ));
    }
    Ok((
        counted(listed.len() as u64, "is ready", "are ready"),
        findings,
    ))
}

/// No credential lies where agents run: whoever may make pods there could mount it.
pub(super) fn secrets(facts: &Facts) -> Checked {
    let governed = seen(&facts.namespaces)?.iter().filter(|namespace| {
        namespace
            .labels()
            .get(GOVERNED_LABEL)
            .is_some_and(|value| value == "true")
    });
    let agents = seen(&facts.pods)?
        .iter()
        .filter(|pod| pod.annotations().contains_key(INJECTED_ANNOTATION));
    let homes: BTreeSet<String> = governed
        .map(ResourceExt::name_any)
        .chain(agents.filter_map(ResourceExt::namespace))
        .collect();
    let exposed = well_formed(facts)?.filter(|connection| {
        let namespace = connection.namespace().unwrap_or_default();
        homes.contains(&namespace) && secret_of(connection).is_some()
    });
    let findings = exposed.map(|connection| {
        Finding::warn(
            about(connection),
            format!(
                "its Secret {} lies in a namespace where agents run, and whoever may create pods there can mount it; move both to a namespace of their own",
                secret_of(connection).unwrap_or_default()
            ),
        )
    });
    Ok((
        "no credential lies where agents run".to_owned(),
        findings.collect(),
    ))
}

fn secret_of(connection: &Connection) -> Option<&str> {
    Some(connection.spec.secret()?.0)
}

fn well_formed(facts: &Facts) -> Result<impl Iterator<Item = &Connection>, String> {
    let listed = seen(&facts.connections)?.iter();
    Ok(listed.filter_map(|connection| connection.0.as_ref().ok()))
}

/// Every target has to prove who it is.
pub(super) fn tls(facts: &Facts) -> Checked {
    let open = well_formed(facts)?
        .filter(|connection| matches!(connection.spec.tls(), Some((TlsMode::Disable, _))));
    let findings = open.map(|connection| {
        Finding::warn(
            about(connection),
            "tls.mode is Disable: whoever is on the way reads the data and can pose as the target; give it a certificate and set VerifyFull",
        )
    });
    Ok((
        "every target proves who it is".to_owned(),
        findings.collect(),
    ))
}

/// Every policy compiles.
pub(super) fn policies(facts: &Facts) -> Checked {
    let listed = seen(&facts.policies)?;
    let mut findings = Vec::new();
    for policy in readable(listed, &mut findings) {
        let conditions = policy
            .status
            .as_ref()
            .map(|status| status.conditions.as_slice());
        findings.extend(standing(
            about(policy),
            conditions.unwrap_or_default(),
            policy.metadata.generation,
        ));
    }
    Ok((
        counted(listed.len() as u64, "is ready", "are ready"),
        findings,
    ))
}

/// No policy only watches.
pub(super) fn dry_runs(facts: &Facts) -> Checked {
    let policies = seen(&facts.policies)?.iter();
    let watching = policies
        .filter_map(|policy| policy.0.as_ref().ok())
        .filter(|policy| policy.spec.enforcement == Enforcement::DryRun);
    let findings = watching.map(|policy| {
        Finding::warn(
            about(policy),
            "enforcement is DryRun: where no other policy selects, everything that guardrails leave is forwarded; set Enforce",
        )
    });
    Ok(("every policy is enforced".to_owned(), findings.collect()))
}
