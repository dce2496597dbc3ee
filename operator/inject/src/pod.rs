//! What no pod with a sidecar may have, whether it comes in or is already there.

use serde_json::Value;

use crate::names::{SPOOL_VOLUME, TOKEN_VOLUME, USER};
use crate::{Refusal, tree};

/// The lists of containers in a pod's spec.
pub(crate) const CONTAINER_LISTS: [&str; 3] =
    ["initContainers", "containers", "ephemeralContainers"];

/// Refuses a spec in which the sidecar could not work, or could be looked into.
pub(crate) fn check(spec: &Value) -> Result<(), Refusal> {
    let set = |field: &str| spec.get(field).and_then(Value::as_bool) == Some(true);
    if set("hostNetwork") {
        return Err(Refusal::HostNetwork);
    }
    for field in ["hostPID", "hostIPC", "shareProcessNamespace"] {
        if set(field) {
            return Err(Refusal::SharedProcesses { field });
        }
    }
    if spec.pointer("/os/name").and_then(Value::as_str) == Some("windows") {
        return Err(Refusal::Windows);
    }
    check_dns(spec)?;
    check_user(spec, "spec")?;
    check_audience(spec)
}

/// Whoever chooses the name servers chooses where the credential is sent.
fn check_dns(spec: &Value) -> Result<(), Refusal> {
    if !["", "ClusterFirst"].contains(&tree::text(spec, "dnsPolicy")) {
        return Err(Refusal::CustomDns {
            field: "spec.dnsPolicy",
        });
    }
    let config = spec.get("dnsConfig").unwrap_or(&Value::Null);
    if !tree::items(config, "nameservers").is_empty() {
        return Err(Refusal::CustomDns {
            field: "spec.dnsConfig.nameservers",
        });
    }
    if !tree::items(config, "searches").is_empty() {
        return Err(Refusal::CustomDns {
            field: "spec.dnsConfig.searches",
        });
    }
    Ok(())
}

/// The sidecar's user and group are its alone: same user, same files and processes.
fn check_user(holder: &Value, path: &str) -> Result<(), Refusal> {
    let security = holder.get("securityContext").unwrap_or(&Value::Null);
    let number = |field: &str| security.get(field).and_then(Value::as_i64);
    let single = ["runAsUser", "runAsGroup", "fsGroup"];
    let mut used = single.into_iter().find(|field| number(field) == Some(USER));
    let more = tree::items(security, "supplementalGroups");
    if more.iter().any(|group| group.as_i64() == Some(USER)) {
        used = Some("supplementalGroups");
    }
    match used {
        None => Ok(()),
        Some(field) => Err(Refusal::Reserved {
            what: format!("user and group {USER} ({path}.securityContext.{field})"),
            remedy: "choose another",
        }),
    }
}

fn check_audience(spec: &Value) -> Result<(), Refusal> {
    for volume in tree::items(spec, "volumes") {
        let ours = tree::text(volume, "name") == TOKEN_VOLUME;
        if !ours && tree::mentions(volume, chaperone_control::AUDIENCE) {
            return Err(Refusal::TokenExposed {
                volume: tree::text(volume, "name").to_owned(),
                audience: chaperone_control::AUDIENCE.to_owned(),
            });
        }
    }
    Ok(())
}

/// Refuses a container of the user's that reaches for what is the sidecar's.
///
/// Any mention of the volumes counts, not only a mount: a later Kubernetes may have more ways to
/// read a volume than this build knows.
pub(crate) fn check_container(container: &Value, path: &str) -> Result<(), Refusal> {
    for volume in [SPOOL_VOLUME, TOKEN_VOLUME] {
        if tree::mentions(container, volume) {
            return Err(Refusal::Reserved {
                what: format!("volume {volume}, which {path} names,"),
                remedy: "remove it from that container",
            });
        }
    }
    check_user(container, path)
}
