//! Whether a pod's sidecar is exactly what the injector writes.
//!
//! The control API asks this of the pod that a token is bound to before it answers anything: a
//! pod that merely mounts such a token gets nothing.
//!
//! ```text
//! container `chaperone` ─read its own environment─► Blueprint ─build─► compare field by field
//! volumes ─► exactly ours      every other container ─► reaches for none of them
//! ```

use std::net::IpAddr;

use serde_json::Value;

use crate::builder::{self, Blueprint};
use crate::names::{
    CONTAINER, LISTEN_ENV, OPERATOR_CA_ENV, OPERATOR_ENV, PURPOSE_ANNOTATION, TOKEN_VOLUME,
    TRUST_VOLUME,
};
use crate::{Refusal, pod, tree};

pub use crate::builder::Listener;

/// What a sidecar may have.
#[derive(Debug, Clone, Copy)]
pub struct Accepted<'a> {
    /// Images, as written in a container.
    pub images: &'a [String],
    /// Single certificates, PEM: a sidecar may trust any of these and nobody else.
    pub authorities: &'a [String],
    /// `https://host:port` of the control API.
    pub operator: &'a str,
}

/// What a pod was injected with, as its sidecar cannot deny.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPlan {
    /// The Connections it may be served, in the order of its annotation.
    pub listeners: Vec<Listener>,
    /// Why the workload says it runs.
    pub purpose: Option<String>,
    /// The sidecar's image.
    pub image: String,
}

/// Checks a Pod as the API server has it: its JSON and not a typed struct, since a field that
/// this build does not know must not be overlooked.
///
/// # Errors
/// A [`Refusal`]; mostly [`Refusal::SidecarAltered`] naming what differs.
pub fn verify(pod: &Value, accepted: Accepted<'_>) -> Result<VerifiedPlan, Refusal> {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    pod::check(spec)?;
    let sidecar = find_sidecar(spec)?;
    let image = tree::text(sidecar, "image");
    if !accepted.images.iter().any(|accepted| accepted == image) {
        return Err(Refusal::ImageNotAccepted {
            image: image.to_owned(),
        });
    }
    let authorities = environment(sidecar, OPERATOR_CA_ENV)?;
    let trusted = certificates(authorities);
    let known: Vec<String> = accepted
        .authorities
        .iter()
        .flat_map(|pem| certificates(pem))
        .collect();
    if trusted.is_empty() || !trusted.iter().all(|one| known.contains(one)) {
        return Err(altered(format!(
            "{OPERATOR_CA_ENV} names a CA that is not the operator's"
        )));
    }
    let listeners = builder::parse_listen(environment(sidecar, LISTEN_ENV)?)
        .filter(|listeners| listeners.iter().all(is_assigned))
        .ok_or_else(|| altered(format!("{LISTEN_ENV} is not what the injector writes")))?;
    if environment(sidecar, OPERATOR_ENV)? != accepted.operator {
        return Err(altered(format!("{OPERATOR_ENV} is not this operator")));
    }
    let built = builder::build(&Blueprint {
        image: image.to_owned(),
        resources: None,
        operator: accepted.operator.to_owned(),
        authorities: authorities.to_owned(),
        listeners: listeners.clone(),
        api_token: has_api_token(spec),
    })?;
    compare_container(sidecar, &built.container)?;
    compare_volumes(spec, &built.volumes)?;
    check_others(spec)?;
    let purpose = pod
        .pointer("/metadata/annotations")
        .and_then(|annotations| annotations.get(PURPOSE_ANNOTATION))
        .and_then(Value::as_str);
    Ok(VerifiedPlan {
        listeners,
        purpose: purpose.map(str::to_owned),
        image: image.to_owned(),
    })
}

/// The certificates of a PEM text, each as the base64 inside it without white space.
pub fn certificates(pem: &str) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let body = |rest: &str| {
        let (body, _) = rest.split_once(END)?;
        Some(body.split_whitespace().collect::<String>())
    };
    pem.split(BEGIN).skip(1).filter_map(body).collect()
}

fn altered(difference: String) -> Refusal {
    Refusal::SidecarAltered { difference }
}

/// 127.0.0.2 and up: no listener may face anything but the pod itself.
fn is_assigned(listener: &Listener) -> bool {
    match listener.address.ip() {
        IpAddr::V4(address) => matches!(address.octets(), [127, 0, 0, last] if last >= 2),
        IpAddr::V6(_) => false,
    }
}

fn find_sidecar(spec: &Value) -> Result<&Value, Refusal> {
    let mut found = None;
    for list in pod::CONTAINER_LISTS {
        for container in tree::items(spec, list) {
            if tree::text(container, "name") != CONTAINER {
                continue;
            }
            if list != "initContainers" || found.is_some() {
                return Err(altered(format!("spec.{list} has a {CONTAINER} of its own")));
            }
            found = Some(container);
        }
    }
    found.ok_or_else(|| altered(format!("it has no init container {CONTAINER}")))
}

fn environment<'a>(sidecar: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    tree::items(sidecar, "env")
        .iter()
        .find(|variable| tree::text(variable, "name") == name)
        .map(|variable| tree::text(variable, "value"))
        .ok_or_else(|| altered(format!("{name} is missing")))
}

/// Whether the token volume has a second token; what that is, the comparison says. A sidecar that has
/// one and no Connection to use it on keeps it from the agents all the same.
fn has_api_token(spec: &Value) -> bool {
    tree::items(spec, "volumes")
        .iter()
        .filter(|volume| tree::text(volume, "name") == TOKEN_VOLUME)
        .filter_map(|volume| volume.get("projected"))
        .any(|projected| tree::items(projected, "sources").len() > 1)
}

fn compare_container(actual: &Value, expected: &Value) -> Result<(), Refusal> {
    let (actual, expected) = (builder::comparable(actual), builder::comparable(expected));
    if actual == expected {
        return Ok(());
    }
    let empty = serde_json::Map::new();
    let actual = actual.as_object().unwrap_or(&empty);
    let expected = expected.as_object().unwrap_or(&empty);
    let field = actual
        .keys()
        .chain(expected.keys())
        .find(|field| actual.get(*field) != expected.get(*field));
    Err(altered(format!(
        "field {} of its container differs",
        field.map_or("?", String::as_str)
    )))
}

fn compare_volumes(spec: &Value, expected: &[Value]) -> Result<(), Refusal> {
    let volumes = tree::items(spec, "volumes");
    for wanted in expected {
        let name = tree::text(wanted, "name");
        let mut named = volumes
            .iter()
            .filter(|volume| tree::text(volume, "name") == name);
        if named.next() != Some(wanted) || named.next().is_some() {
            return Err(altered(format!("volume {name} differs")));
        }
    }
    Ok(())
}

fn check_others(spec: &Value) -> Result<(), Refusal> {
    for list in pod::CONTAINER_LISTS {
        for (position, container) in tree::items(spec, list).iter().enumerate() {
            let path = format!("spec.{list}[{position}]");
            if list == "initContainers" && tree::text(container, "name") == CONTAINER {
                continue;
            }
            pod::check_container(container, &path)?;
            check_trust(container, &path)?;
            // Such a container is in the sidecar's process namespace.
            if tree::text(container, "targetContainerName") == CONTAINER {
                return Err(altered(format!("{path} targets the sidecar")));
            }
        }
    }
    Ok(())
}

/// Whoever may write the trust volume may make the agents trust another sidecar.
fn check_trust(container: &Value, path: &str) -> Result<(), Refusal> {
    let Some(fields) = container.as_object() else {
        return Err(altered(format!("{path} cannot be read")));
    };
    for (field, value) in fields {
        if !tree::mentions(value, TRUST_VOLUME) {
            continue;
        }
        let read_only = field == "volumeMounts"
            && value.as_array().is_some_and(|mounts| {
                mounts.iter().all(|mount| {
                    !tree::mentions(mount, TRUST_VOLUME)
                        || mount.get("readOnly").and_then(Value::as_bool) == Some(true)
                })
            });
        if !read_only {
            return Err(altered(format!("{path} may write volume {TRUST_VOLUME}")));
        }
    }
    Ok(())
}
