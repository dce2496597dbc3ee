//! The sidecar's container and volumes, every field that the API server would default written out.
//!
//! Injector and verifier both call [`build`], so that they cannot disagree.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, HTTPGetAction, Probe,
    ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecurityContext,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::names::{
    ADMIN_PORT, API_TOKEN, CONTAINER, LISTEN_ENV, OPERATOR_CA_ENV, OPERATOR_ENV, SPOOL_LIMIT,
    SPOOL_PATH, SPOOL_VOLUME, TOKEN_PATH, TOKEN_SECONDS, TOKEN_VOLUME, TRUST_LIMIT, TRUST_PATH,
    TRUST_VOLUME, USER,
};
use crate::{Reference, Refusal, tree};

/// Everything that one sidecar's container depends on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Blueprint {
    pub(crate) image: String,
    pub(crate) resources: Option<ResourceRequirements>,
    pub(crate) operator: String,
    pub(crate) authorities: String,
    pub(crate) listeners: Vec<Listener>,
    /// Whether the sidecar gets a token of the pod's own service account.
    pub(crate) api_token: bool,
}

/// Where the sidecar listens for one Connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The Connection.
    pub reference: Reference,
    /// A loopback address of the pod, with the target's own port.
    pub address: SocketAddr,
}

/// What the blueprint comes to.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) container: Value,
    /// Spool, token, trust.
    pub(crate) volumes: Vec<Value>,
}

pub(crate) fn build(blueprint: &Blueprint) -> Result<Built, Refusal> {
    let volumes = [
        spool_volume(),
        token_volume(blueprint.api_token),
        trust_volume(),
    ];
    Ok(Built {
        container: tree::json(&container(blueprint))?,
        volumes: volumes.iter().map(tree::json).collect::<Result<_, _>>()?,
    })
}

/// `namespace/name=address:port`, separated by commas.
pub(crate) fn listen_text(listeners: &[Listener]) -> String {
    let parts: Vec<String> = listeners
        .iter()
        .map(|listener| format!("{}={}", listener.reference, listener.address))
        .collect();
    parts.join(",")
}

/// The inverse of [`listen_text`]; `None` for any other text.
pub(crate) fn parse_listen(text: &str) -> Option<Vec<Listener>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let parse = |part: &str| {
        let (reference, address) = part.split_once('=')?;
        Some(Listener {
            reference: Reference::parse_full(reference)?,
            address: address.parse().ok()?,
        })
    };
    text.split(',').map(parse).collect()
}

fn container(blueprint: &Blueprint) -> Container {
    Container {
        name: CONTAINER.to_owned(),
        image: Some(blueprint.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(vec!["run".to_owned()]),
        env: Some(vec![
            variable(OPERATOR_ENV, &blueprint.operator),
            variable(OPERATOR_CA_ENV, &blueprint.authorities),
            variable(LISTEN_ENV, &listen_text(&blueprint.listeners)),
        ]),
        ports: Some(vec![ContainerPort {
            name: Some("chaperone-admin".to_owned()),
            container_port: i32::from(ADMIN_PORT),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: blueprint.resources.clone(),
        // A native sidecar: it is up before any agent process, and outlives them all.
        restart_policy: Some("Always".to_owned()),
        // Two minutes for a first attach on a busy cluster, yet seen within a second.
        startup_probe: Some(probe("/startz", 1, 120)),
        readiness_probe: Some(probe("/readyz", 5, 2)),
        liveness_probe: Some(probe("/livez", 10, 6)),
        security_context: Some(security()),
        termination_message_path: Some("/dev/termination-log".to_owned()),
        termination_message_policy: Some("File".to_owned()),
        volume_mounts: Some(vec![
            mount(SPOOL_VOLUME, SPOOL_PATH, false),
            mount(TOKEN_VOLUME, TOKEN_PATH, true),
            mount(TRUST_VOLUME, TRUST_PATH, false),
        ]),
        ..Container::default()
    }
}

/// Pod Security *restricted*, and nothing that can be written but the volumes.
fn security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        read_only_root_filesystem: Some(true),
        run_as_group: Some(USER),
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..SecurityContext::default()
    }
}

/// An empty value is left out, as the API server does.
pub(crate) fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()).filter(|value| !value.is_empty()),
        ..EnvVar::default()
    }
}

pub(crate) fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(ADMIN_PORT)),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(3),
        success_threshold: Some(1),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn empty_dir(name: &str, limit: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(limit.to_owned())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn spool_volume() -> Volume {
    empty_dir(SPOOL_VOLUME, SPOOL_LIMIT)
}

fn trust_volume() -> Volume {
    empty_dir(TRUST_VOLUME, TRUST_LIMIT)
}

fn token_volume(api_token: bool) -> Volume {
    // Without an audience it is for the API server (core/v1, ServiceAccountTokenProjection).
    let api = api_token.then(|| token_source(None, API_TOKEN));
    let ours = token_source(Some(chaperone_control::AUDIENCE), "token");
    Volume {
        name: TOKEN_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            // What the API server's default is: 0644, narrowed by the kubelet.
            default_mode: Some(0o644),
            sources: Some(std::iter::once(ours).chain(api).collect()),
        }),
        ..Volume::default()
    }
}

fn token_source(audience: Option<&str>, path: &str) -> VolumeProjection {
    VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            audience: audience.map(str::to_owned),
            expiration_seconds: Some(TOKEN_SECONDS),
            path: path.to_owned(),
        }),
        ..VolumeProjection::default()
    }
}

/// A container without what may differ: resources, and what the API server may have added that
/// comes to the same.
pub(crate) fn comparable(container: &Value) -> Value {
    let mut container = container.clone();
    let Some(fields) = container.as_object_mut() else {
        return container;
    };
    fields.remove("resources");
    // The API server derives it from the resources.
    fields.remove("resizePolicy");
    // The admission plugin AlwaysPullImages sets it; the image stays the same.
    if fields.get("imagePullPolicy").and_then(Value::as_str) == Some("Always") {
        fields.insert("imagePullPolicy".to_owned(), "IfNotPresent".into());
    }
    if let Some(security) = fields
        .get_mut("securityContext")
        .and_then(Value::as_object_mut)
    {
        let defaults: BTreeMap<&str, Value> = BTreeMap::from([
            ("procMount", "Default".into()),
            ("privileged", false.into()),
        ]);
        security.retain(|field, value| defaults.get(field.as_str()) != Some(value));
    }
    container
}
