//! Puts the sidecar into a pod.
//!
//! ```text
//! Pod ─check─► refusals ─► sidecar first, volumes, names, environment, no cluster token ─► Pod
//! ```
//!
//! Injecting twice is injecting once, and nothing but the fields named here is touched: another
//! webhook may have run before, between and after.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{HostAlias, Pod, Sysctl, VolumeMount};
use serde_json::{Map, Value};

use crate::builder::{self, Blueprint, Built, Listener};
use crate::hosts::{self, Host};
use crate::names::{
    CONTAINER, INJECTED_ANNOTATION, LISTEN_ENV, SERVICE_ACCOUNT_PATH, SPOOL_VOLUME, TOKEN_VOLUME,
    TRUST_BUNDLE, TRUST_CA, TRUST_KUBECONFIG, TRUST_PATH, TRUST_SERVICE_ACCOUNT, TRUST_VOLUME,
};
use crate::{Cluster, Plan, Protocol, Refusal, Target, digest, pod, tree};

/// Lets the sidecar listen on ports below 1024 without any privilege.
const SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";
/// A pod needs this long to flush its evidence, in seconds.
const GRACE: i64 = 30;
/// Where clients look for the certificates that they trust: OpenSSL, Go and what follows them; curl;
/// Python's requests; Node.js; Deno; git; the AWS tools; gRPC's C core, which has its own roots.
const TRUSTING: [&str; 8] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
];
/// How the ServiceAccount admission plugin names the volume of the pod's own token.
const OWN_TOKEN_PREFIX: &str = "kube-api-access-";

/// A pod with its sidecar.
#[derive(Debug, Clone, PartialEq)]
pub struct Injected {
    /// The pod.
    pub pod: Value,
    /// What its author should know.
    pub warnings: Vec<String>,
}

/// Puts the sidecar into `pod`, a Pod as admission has it.
///
/// # Errors
/// A [`Refusal`] where the sidecar would not work or could be got around.
pub fn inject(pod: &Value, plan: &Plan) -> Result<Injected, Refusal> {
    // Held to the types first, so that every later step finds lists where lists are.
    let typed: Pod = serde_json::from_value(pod.clone())
        .map_err(|error| Refusal::Malformed(error.to_string()))?;
    let original = pod.get("spec").unwrap_or(&Value::Null);
    let (hosts, addresses) = hosts::assign(&plan.targets, &plan.namespace)?;
    let listeners = plan.targets.iter().zip(&addresses);
    let built = builder::build(&Blueprint {
        image: plan.sidecar.image.clone(),
        resources: plan.sidecar.resources.clone(),
        operator: plan.operator.url.clone(),
        authorities: plan.operator.authorities.clone(),
        listeners: listeners
            .map(|(target, address)| Listener {
                reference: target.reference.clone(),
                address: SocketAddr::from((*address, target.port)),
            })
            .collect(),
        api_token: plan.targets.iter().any(
            |target| matches!(target.protocol, Protocol::Kubernetes(cluster) if cluster.as_pod),
        ),
    })?;
    let marked = pod
        .pointer("/metadata/annotations")
        .is_some_and(|annotations| annotations.get(INJECTED_ANNOTATION).is_some());
    let mounts = mounts(plan);
    check(original, marked, &mounts)?;

    let mut warnings = unnamed(plan, &hosts);
    let mut pod = pod.clone();
    let Some(root) = pod.as_object_mut() else {
        return Err(Refusal::Malformed("not a mapping".to_owned()));
    };
    let metadata = tree::object(root, "metadata")?;
    let annotations = tree::object(metadata, "annotations")?;
    annotations.insert(INJECTED_ANNOTATION.to_owned(), mark(&built, &hosts, plan)?);

    let spec = tree::object(root, "spec")?;
    remove_own_token(spec, &mut warnings)?;
    let stale = old_addresses(spec);
    put_sidecar(spec, &built)?;
    let volumes = tree::list(spec, "volumes")?;
    for volume in &built.volumes {
        tree::put(volumes, "name", volume.clone());
    }
    put_aliases(spec, &hosts, &stale)?;
    put_sysctl(spec, plan)?;
    let account = typed
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.as_deref());
    let variables = variables(plan, &hosts, account.unwrap_or("default"));
    for list in ["initContainers", "containers"] {
        if spec.get(list).is_none_or(Value::is_null) {
            continue;
        }
        for container in tree::list(spec, list)? {
            if tree::text(container, "name") != CONTAINER {
                put_into_agent(container, &variables, &mounts, &mut warnings)?;
            }
        }
    }
    let grace = spec
        .get("terminationGracePeriodSeconds")
        .and_then(Value::as_i64);
    if grace.is_some_and(|seconds| seconds < GRACE) {
        spec.insert("terminationGracePeriodSeconds".to_owned(), GRACE.into());
    }
    Ok(Injected { pod, warnings })
}

/// APIs that no name leads to: PGHOST has no equal there.
fn unnamed(plan: &Plan, hosts: &[Host]) -> Vec<String> {
    let mut warnings = Vec::new();
    for target in plan
        .targets
        .iter()
        .filter(|target| target.protocol == Protocol::Http)
    {
        let forms = hosts::forms(&target.host, &plan.namespace);
        let host = hosts.iter().find(|host| host.is(&forms));
        if let Some(host) = host.filter(|host| host.names.is_empty()) {
            warnings.push(format!(
                "Connection {} is for {}, which no entry of /etc/hosts can lead to; the agent reaches \
                 it at {}:{}, or by a name in spec.http.hosts",
                target.reference, target.host, host.address, target.port
            ));
        }
    }
    warnings
}

/// A pod that is already marked may have what is ours: it is written anew.
fn check(spec: &Value, marked: bool, mounts: &[VolumeMount]) -> Result<(), Refusal> {
    pod::check(spec)?;
    for list in pod::CONTAINER_LISTS {
        for (position, container) in tree::items(spec, list).iter().enumerate() {
            let path = format!("spec.{list}[{position}]");
            if tree::text(container, "name") == CONTAINER {
                if list != "initContainers" || !marked {
                    return Err(Refusal::Reserved {
                        what: format!("the container name {CONTAINER} ({path})"),
                        remedy: "rename that container",
                    });
                }
                continue;
            }
            pod::check_container(container, &path)?;
            check_mounts(container, &path, mounts)?;
        }
    }
    let reserved = [SPOOL_VOLUME, TOKEN_VOLUME, TRUST_VOLUME];
    for (position, volume) in tree::items(spec, "volumes").iter().enumerate() {
        if !marked && reserved.contains(&tree::text(volume, "name")) {
            return Err(Refusal::Reserved {
                what: format!("the name of spec.volumes[{position}]"),
                remedy: "rename that volume",
            });
        }
    }
    Ok(())
}

fn check_mounts(container: &Value, path: &str, ours: &[VolumeMount]) -> Result<(), Refusal> {
    for mount in tree::items(container, "volumeMounts") {
        let name = tree::text(mount, "name");
        if name == TRUST_VOLUME {
            continue;
        }
        let at = tree::text(mount, "mountPath").trim_end_matches('/');
        let over = ours.iter().find(|our| {
            // The pod's own token, which goes.
            if our.mount_path == SERVICE_ACCOUNT_PATH && name.starts_with(OWN_TOKEN_PREFIX) {
                return false;
            }
            let rest = at.strip_prefix(our.mount_path.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if let Some(over) = over {
            return Err(Refusal::Reserved {
                what: format!("the path {}, which {path} mounts over,", over.mount_path),
                remedy: "mount that volume elsewhere",
            });
        }
    }
    Ok(())
}

/// What agents read of the trust volume.
fn mounts(plan: &Plan) -> Vec<VolumeMount> {
    let mut mounts = vec![builder::mount(TRUST_VOLUME, TRUST_PATH, true)];
    if clusters(plan).next().is_some() {
        mounts.push(VolumeMount {
            sub_path: Some(TRUST_SERVICE_ACCOUNT.to_owned()),
            ..builder::mount(TRUST_VOLUME, SERVICE_ACCOUNT_PATH, true)
        });
    }
    mounts
}

fn clusters(plan: &Plan) -> impl Iterator<Item = (&Target, Cluster)> {
    plan.targets
        .iter()
        .filter_map(|target| match target.protocol {
            Protocol::Kubernetes(cluster) => Some((target, cluster)),
            _ => None,
        })
}

/// Digest of all that was injected.
fn mark(built: &Built, hosts: &[Host], plan: &Plan) -> Result<Value, Refusal> {
    let names: Vec<&Vec<String>> = hosts.iter().map(|host| &host.names).collect();
    let mut parts: Vec<Value> = vec![
        builder::comparable(&built.container),
        tree::json(&names)?,
        tree::json(&plan.purpose)?,
    ];
    parts.extend(built.volumes.iter().cloned());
    Ok(digest::of(&parts.iter().collect::<Vec<_>>()).into())
}

/// The agent gets no token of the cluster's API. Tokens for others are its own affair.
fn remove_own_token(
    spec: &mut Map<String, Value>,
    warnings: &mut Vec<String>,
) -> Result<(), Refusal> {
    spec.insert("automountServiceAccountToken".to_owned(), false.into());
    if spec.get("volumes").is_none_or(Value::is_null) {
        return Ok(());
    }
    let volumes = tree::list(spec, "volumes")?;
    let mut removed: Vec<String> = Vec::new();
    for volume in volumes.iter() {
        let name = tree::text(volume, "name");
        if name == TOKEN_VOLUME {
            continue;
        }
        let sources = volume.get("projected").unwrap_or(&Value::Null);
        for source in tree::items(sources, "sources") {
            let Some(token) = source.get("serviceAccountToken").filter(|t| !t.is_null()) else {
                continue;
            };
            let audience = tree::text(token, "audience");
            let cluster = audience.is_empty()
                || audience.starts_with("https://kubernetes.default.svc")
                || audience == "https://kubernetes.default";
            if cluster && name.starts_with(OWN_TOKEN_PREFIX) {
                removed.push(name.to_owned());
            } else if cluster {
                return Err(Refusal::TokenExposed {
                    volume: name.to_owned(),
                    audience: "the cluster's API".to_owned(),
                });
            } else {
                warnings.push(format!(
                    "volume {name} gives the agent a token for {audience}; what it reaches with \
                     that is not on the sidecar's path"
                ));
            }
        }
    }
    volumes.retain(|volume| {
        !removed
            .iter()
            .any(|name| name == tree::text(volume, "name"))
    });
    for list in ["initContainers", "containers"] {
        if spec.get(list).is_none_or(Value::is_null) {
            continue;
        }
        for container in tree::list(spec, list)? {
            let Some(fields) = container.as_object_mut() else {
                continue;
            };
            if fields.get("volumeMounts").is_none_or(Value::is_null) {
                continue;
            }
            let mounts = tree::list(fields, "volumeMounts")?;
            mounts.retain(|mount| !removed.iter().any(|name| name == tree::text(mount, "name")));
            if mounts.is_empty() {
                fields.remove("volumeMounts");
            }
        }
    }
    Ok(())
}

/// Addresses of a sidecar that is already there, whose host aliases are ours to replace.
fn old_addresses(spec: &Map<String, Value>) -> Vec<String> {
    let containers = spec.get("initContainers").and_then(Value::as_array);
    let old = containers
        .into_iter()
        .flatten()
        .find(|container| tree::text(container, "name") == CONTAINER);
    let listen = old.and_then(|old| {
        tree::items(old, "env")
            .iter()
            .find(|variable| tree::text(variable, "name") == LISTEN_ENV)
            .map(|variable| tree::text(variable, "value"))
    });
    builder::parse_listen(listen.unwrap_or_default())
        .unwrap_or_default()
        .iter()
        .map(|listener| listener.address.ip().to_string())
        .collect()
}

/// First of all init containers, so that nothing of the user's runs before it is ready.
fn put_sidecar(spec: &mut Map<String, Value>, built: &Built) -> Result<(), Refusal> {
    let containers = tree::list(spec, "initContainers")?;
    let position = containers
        .iter()
        .position(|container| tree::text(container, "name") == CONTAINER);
    let old = position.map(|position| containers.remove(position));
    // One that comes to the same stays as it is: a LimitRange may have given it resources.
    let same = old.filter(|old| builder::comparable(old) == builder::comparable(&built.container));
    containers.insert(0, same.unwrap_or_else(|| built.container.clone()));
    Ok(())
}

fn put_aliases(
    spec: &mut Map<String, Value>,
    hosts: &[Host],
    stale: &[String],
) -> Result<(), Refusal> {
    let ours: Vec<HostAlias> = hosts
        .iter()
        .filter(|host| !host.names.is_empty())
        .map(|host| HostAlias {
            ip: host.address.to_string(),
            hostnames: Some(host.names.clone()),
        })
        .collect();
    if ours.is_empty() && stale.is_empty() {
        return Ok(());
    }
    let aliases = tree::list(spec, "hostAliases")?;
    aliases.retain(|alias| {
        let ip = tree::text(alias, "ip");
        !stale.iter().any(|old| old == ip) || ours.iter().any(|our| our.ip == ip)
    });
    for alias in aliases.iter() {
        let ip = tree::text(alias, "ip");
        let replaced = stale.iter().any(|old| old == ip);
        let taken = ours.iter().any(|our| {
            let names = our.hostnames.iter().flatten();
            !replaced
                && (our.ip == ip || names.clone().any(|name| tree::mentions(alias, name)))
                && tree::json(our).ok().as_ref() != Some(alias)
        });
        if taken {
            return Err(Refusal::Reserved {
                what: format!("the host alias for {ip}, or a target's name in it,"),
                remedy: "remove it from spec.hostAliases",
            });
        }
    }
    for our in &ours {
        tree::put(aliases, "ip", tree::json(our)?);
    }
    if aliases.is_empty() {
        spec.remove("hostAliases");
    }
    Ok(())
}

fn put_sysctl(spec: &mut Map<String, Value>, plan: &Plan) -> Result<(), Refusal> {
    let lowest = plan.targets.iter().map(|target| target.port).min();
    let security = tree::object(spec, "securityContext")?;
    let sysctls = tree::list(security, "sysctls")?;
    let old = sysctls
        .iter()
        .find(|sysctl| tree::text(sysctl, "name") == SYSCTL);
    let Some(old) = old else {
        sysctls.push(tree::json(&Sysctl {
            name: SYSCTL.to_owned(),
            value: "0".to_owned(),
        })?);
        return Ok(());
    };
    let start = tree::text(old, "value").parse::<u16>().ok();
    match (start, lowest) {
        (Some(start), Some(lowest)) if start <= lowest => Ok(()),
        (Some(_), None) => Ok(()),
        _ => Err(Refusal::Reserved {
            what: format!("the sysctl {SYSCTL}"),
            remedy: "remove it from spec.securityContext.sysctls",
        }),
    }
}

/// What an agent's environment says, if its author does not say otherwise.
fn variables(plan: &Plan, hosts: &[Host], account: &str) -> Vec<(&'static str, String)> {
    let mut variables = Vec::new();
    let mut databases = plan
        .targets
        .iter()
        .filter(|target| target.protocol == Protocol::Postgres);
    if let (Some(target), None) = (databases.next(), databases.next()) {
        let forms = hosts::forms(&target.host, &plan.namespace);
        if let Some(host) = hosts.iter().find(|host| host.is(&forms)) {
            let named = forms.first().filter(|form| host.names.contains(form));
            let address = host.address.to_string();
            variables.push(("PGHOST", named.cloned().unwrap_or(address)));
        }
        variables.push(("PGPORT", target.port.to_string()));
        // The sidecar logs in as its own user; libpq needs a name where the image has none.
        variables.push(("PGUSER", account.to_owned()));
        if let Some(database) = &target.database {
            variables.push(("PGDATABASE", database.clone()));
        }
        variables.push(("PGSSLROOTCERT", format!("{TRUST_PATH}/{TRUST_CA}")));
    }
    if clusters(plan).next().is_some() {
        variables.push(("KUBECONFIG", format!("{TRUST_PATH}/{TRUST_KUBECONFIG}")));
    }
    if let Some(target) = in_cluster(plan) {
        let forms = hosts::forms(&target.host, &plan.namespace);
        if let Some(host) = hosts.iter().find(|host| host.is(&forms)) {
            variables.push(("KUBERNETES_SERVICE_HOST", host.address.to_string()));
        }
        for name in ["KUBERNETES_SERVICE_PORT", "KUBERNETES_SERVICE_PORT_HTTPS"] {
            variables.push((name, target.port.to_string()));
        }
    }
    for name in TRUSTING {
        variables.push((name, format!("{TRUST_PATH}/{TRUST_BUNDLE}")));
    }
    variables
}

/// The API that in-cluster configuration leads to: that of the pod's own cluster, else the only one.
fn in_cluster(plan: &Plan) -> Option<&Target> {
    let own = clusters(plan).any(|(_, cluster)| cluster.own);
    let mut found = clusters(plan).filter(|(_, cluster)| cluster.own == own);
    let (first, _) = found.next()?;
    found.next().is_none().then_some(first)
}

fn put_into_agent(
    container: &mut Value,
    variables: &[(&'static str, String)],
    wanted: &[VolumeMount],
    warnings: &mut Vec<String>,
) -> Result<(), Refusal> {
    let name = tree::text(container, "name").to_owned();
    let shadows = !tree::items(container, "envFrom").is_empty();
    let Some(fields) = container.as_object_mut() else {
        return Err(Refusal::Malformed(
            "a container is not a mapping".to_owned(),
        ));
    };
    let environment = tree::list(fields, "env")?;
    let mut added = false;
    for (variable, value) in variables {
        let set = environment
            .iter()
            .any(|old| tree::text(old, "name") == *variable);
        if !set {
            added = true;
            environment.push(tree::json(&builder::variable(variable, value))?);
        }
    }
    if added && shadows {
        let names: Vec<&str> = variables.iter().map(|(name, _)| *name).collect();
        warnings.push(format!(
            "container {name} uses envFrom: of {}, those that its env does not set come from \
             Chaperone and win over keys of the same name there",
            names.join(", ")
        ));
    }
    let wanted: Vec<Value> = wanted.iter().map(tree::json).collect::<Result<_, _>>()?;
    let mounts = tree::list(fields, "volumeMounts")?;
    let mut there: Vec<Value> = Vec::new();
    mounts.retain(|mount| {
        if tree::text(mount, "name") != TRUST_VOLUME {
            return true;
        }
        let keep = wanted.contains(mount) && !there.contains(mount);
        if keep {
            there.push(mount.clone());
        }
        keep
    });
    mounts.extend(wanted.into_iter().filter(|mount| !there.contains(mount)));
    Ok(())
}
