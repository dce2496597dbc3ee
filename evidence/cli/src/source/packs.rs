//! Packs: what is old, fetched through the operator and held against the digest that its AuditPack names.
//!
//! ```text
//! AuditPack ─digest─► API server ─proxy of the operator's Service─► bytes ─digest─► segments, checkpoints
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use chaperone_crds::audit_store::NAMESPACE;
use chaperone_crds::{AuditPack, AuditPackSpec};
use chaperone_evidence::audit::{MAX_PACK, PackError, pack_lines};
use chaperone_evidence::{Break, BreakReason};
use http_body_util::{BodyExt, Limited};
use hyper::{Request, StatusCode};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::client::Body;
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use tokio::time::sleep;

use super::convert::{self, fault};
use super::fetch::all;
use super::{Cluster, api_failure};
use crate::error::CliError;

/// How often a pack is asked for that cannot be had at the moment, and the pause between.
const ATTEMPTS: usize = 4;
const PAUSE: Duration = Duration::from_secs(2);
/// The operator's port for it, by its name in the Service.
const PORT: &str = "control";

/// What is in a pack: each as the API server had it.
pub(super) struct Unpacked {
    pub(super) segments: Vec<convert::Segment>,
    pub(super) checkpoints: Vec<convert::Numbered>,
}

/// The packs that may be read, by name.
pub(super) async fn listed(cluster: &Cluster) -> Result<BTreeMap<String, AuditPackSpec>, CliError> {
    let api: Api<AuditPack> = Api::namespaced(cluster.client(), NAMESPACE);
    let stored = |pack: AuditPack| {
        let stored = pack.status.as_ref()?.stored_at.as_ref().is_some();
        stored.then(|| (pack.name_any(), pack.spec))
    };
    match all(&api, &ListParams::default(), stored, |_| {}).await {
        Ok(packs) => Ok(packs.into_iter().flatten().collect()),
        // An operator from before there were any.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(BTreeMap::new()),
        Err(error) => Err(api_failure("list the AuditPacks", &error)),
    }
}

/// Fetches and unpacks one. What is wrong with it is a break; that it cannot be had now, an error; and
/// nothing, where it was removed meanwhile.
pub(super) async fn fetch(
    cluster: &Cluster,
    name: &str,
    pack: &AuditPackSpec,
) -> Result<Option<Result<Unpacked, Break>>, CliError> {
    let file = format!("AuditPack/{name}");
    let Some(bytes) = bytes(cluster, name, pack).await? else {
        let there = listed(cluster).await?;
        let gone = there
            .get(name)
            .is_none_or(|there| there.digest != pack.digest);
        return Ok((!gone).then(|| {
            let detail = format!(
                "the object of {} segments that it names is not there",
                pack.segments
            );
            Err(fault(&file, BreakReason::SegmentMissing, detail))
        }));
    };
    Ok(Some(unpacked(&bytes, &pack.digest).map_err(|error| {
        fault(&file, BreakReason::SegmentChanged, error.to_string())
    })))
}

fn unpacked(bytes: &[u8], named: &str) -> Result<Unpacked, PackError> {
    let mut digest = [0; 32];
    hex::decode_to_slice(named, &mut digest).map_err(|_| PackError::Digest)?;
    let mut found = Unpacked {
        segments: Vec::new(),
        checkpoints: Vec::new(),
    };
    for line in pack_lines(bytes, &digest)? {
        // What is none of ours was put there by whoever wrote the AuditPack, and proves nothing.
        let Ok(object) = serde_json::from_slice::<DynamicObject>(&line?) else {
            continue;
        };
        match object.types.as_ref().map(|types| types.kind.as_str()) {
            Some("AuditSegment") => found.segments.push(convert::segment(&object)),
            Some("AuditCheckpoint") => found.checkpoints.push(convert::checkpoint(&object)),
            _ => {}
        }
    }
    Ok(found)
}

/// The bytes as the operator has them; none where its place has no such object.
async fn bytes(
    cluster: &Cluster,
    name: &str,
    pack: &AuditPackSpec,
) -> Result<Option<Vec<u8>>, CliError> {
    let path = format!(
        "{}/v1/audit/packs/{name}/{}",
        proxied(cluster).await?,
        pack.digest
    );
    let mut attempt = 0;
    loop {
        attempt += 1;
        let (status, body) = get(cluster, &path).await?;
        let why = match status {
            StatusCode::OK => return Ok(Some(body)),
            StatusCode::GONE | StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let what = "you may not read packs through the operator's Service; ask for the ClusterRole chaperone-auditor by a ClusterRoleBinding";
                return Err(unread(name, what.to_owned()));
            }
            status => {
                let said: String = String::from_utf8_lossy(&body).chars().take(512).collect();
                format!("HTTP status {status}: {said}")
            }
        };
        if attempt >= ATTEMPTS {
            return Err(unread(name, why));
        }
        sleep(PAUSE).await;
    }
}

fn unread(name: &str, why: String) -> CliError {
    CliError::Cluster {
        what: format!("AuditPack/{name} cannot be read"),
        why,
    }
}

async fn get(cluster: &Cluster, path: &str) -> Result<(StatusCode, Vec<u8>), CliError> {
    let failed = |why: String| CliError::Cluster {
        what: "a pack cannot be read".to_owned(),
        why,
    };
    let request = Request::get(path)
        .body(Body::empty())
        .map_err(|error| failed(error.to_string()))?;
    let answer = cluster.client().send(request).await;
    let answer = answer.map_err(|error| failed(error.to_string()))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_PACK).collect().await;
    let body = body.map_err(|error| failed(error.to_string()))?;
    Ok((status, body.to_bytes().to_vec()))
}

/// The path of the operator's Service through the API server; asked for once, for all packs.
async fn proxied(cluster: &Cluster) -> Result<&str, CliError> {
    let path = cluster.operator.get_or_try_init(|| published(cluster));
    path.await.map(String::as_str)
}

/// The same, as the operator publishes its name.
async fn published(cluster: &Cluster) -> Result<String, CliError> {
    let api: Api<ConfigMap> = Api::namespaced(cluster.client(), NAMESPACE);
    let found = api.get_opt(super::log::KEY_CONFIG_MAP).await;
    let found = found.map_err(|error| api_failure("read where the operator is", &error))?;
    let data = found.and_then(|found| found.data).unwrap_or_default();
    // Names, and nothing that would be another path.
    let named = |key: &str| {
        let name = data.get(key).filter(|name| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
            !name.is_empty() && name.bytes().all(plain)
        });
        name.ok_or_else(|| CliError::Cluster {
            what: "packs cannot be read".to_owned(),
            why: format!("the ConfigMap chaperone-log in {NAMESPACE} names no {key}"),
        })
    };
    Ok(format!(
        "/api/v1/namespaces/{}/services/https:{}:{PORT}/proxy",
        named("namespace")?,
        named("service")?
    ))
}
