//! Who calls: a token, its review, its pod, and whether that pod's sidecar is ours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderMap, StatusCode};
use chaperone_control::{AUDIENCE, PodIdentity};
use chaperone_crds::ConditionReason;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{GetParams, PostParams};
use kube::core::Request;
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::refused::Refused;
use super::token::{BoundPod, bearer, bound_pod, expiry};

/// How long a positive answer is kept. A deleted pod's token works on for no longer.
const KEPT: Duration = Duration::from_secs(30);
/// Most answers kept; past it all are forgotten and asked for again.
const MOST_KEPT: usize = 8 * 1024;
/// Reviews that run at once, so that a storm of attaches does not become one at the API server.
const AT_ONCE: usize = 16;
/// Longest wait for a review and the pod.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a pod's sidecar was injected for, once it has been found to be ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verified {
    /// The Connections it may be served, as (namespace, name), in order.
    pub(super) connections: Vec<(String, String)>,
    /// Why the workload says it runs.
    pub(super) purpose: Option<String>,
}

/// Whether the sidecar of a pod, as the API server has it, is exactly ours. Takes JSON, since a
/// field that this build does not know must not be overlooked.
pub(super) type Verify = Arc<dyn Fn(&Value) -> Result<Verified, Refused> + Send + Sync + 'static>;

/// An authenticated sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) pod: PodIdentity,
    /// The Connections its sidecar was injected for, in order.
    pub(super) connections: Vec<(String, String)>,
    /// When its token ends.
    pub(super) expires_at: Timestamp,
    /// When the API server said all this.
    pub(super) checked_at: Timestamp,
}

/// Answers by the token's hash.
type Kept = HashMap<[u8; 32], (Instant, Arc<Caller>)>;

/// Authenticates sidecars.
pub(super) struct Authenticator {
    client: Client,
    verify: Verify,
    kept: Mutex<Kept>,
    slots: Semaphore,
}

impl Authenticator {
    pub(super) fn new(client: Client, verify: Verify) -> Self {
        Self {
            client,
            verify,
            kept: Mutex::default(),
            slots: Semaphore::new(AT_ONCE),
        }
    }

    /// The caller of a request; an answer that is not older than [`KEPT`] may be used again.
    pub(super) async fn caller(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Refused> {
        self.of_token(bearer(headers)?).await
    }

    /// The caller with this token.
    pub(super) async fn of_token(&self, token: &str) -> Result<Arc<Caller>, Refused> {
        let expires_at = expiry(token, Timestamp::now())?;
        let key = hash(token);
        if let Some(caller) = self.remembered(&key) {
            return Ok(caller);
        }
        let late = || {
            Refused::new(
                StatusCode::GATEWAY_TIMEOUT,
                ConditionReason::ApiUnavailable,
                "the token's review takes too long; it is tried again",
            )
        };
        let asked = async {
            let _slot = self.slots.acquire().await.map_err(|_| late())?;
            let checked_at = Timestamp::now();
            let bound = self.review(token).await?;
            let pod = self.pod(&bound).await?;
            let verified = (self.verify)(&pod)?;
            Ok::<_, Refused>(Arc::new(Caller {
                pod: identity(bound, &pod, verified.purpose),
                connections: verified.connections,
                expires_at,
                checked_at,
            }))
        };
        let caller = timeout(DEADLINE, asked).await.map_err(|_| late())??;
        self.remember(key, &caller);
        Ok(caller)
    }

    async fn review(&self, token: &str) -> Result<BoundPod, Refused> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![AUDIENCE.to_owned()]),
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let reviewed = api
            .create(&PostParams::default(), &review)
            .await
            .map_err(|error| Refused::unavailable("reviewing the token", &error))?;
        bound_pod(&reviewed.status.unwrap_or_default())
    }

    /// The pod's JSON, whose metadata is the token's.
    async fn pod(&self, bound: &BoundPod) -> Result<Value, Refused> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &bound.namespace);
        let gone = || {
            Refused::new(
                StatusCode::UNAUTHORIZED,
                ConditionReason::PodNotFound,
                "the token's pod is gone, or another one has its name",
            )
        };
        let request = Request::new(api.resource_url())
            .get(&bound.name, &GetParams::default())
            .map_err(|_| gone())?;
        let pod: Value = match self.client.request(request).await {
            Ok(pod) => pod,
            Err(kube::Error::Api(status)) if status.is_not_found() => return Err(gone()),
            Err(error) => return Err(Refused::unavailable("reading the pod", &error)),
        };
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str);
        // The API server bound the token to this pod; a pod of another account is not it.
        let account = text("/spec/serviceAccountName").unwrap_or("default");
        if text("/metadata/uid") != Some(&bound.uid) || account != bound.service_account {
            return Err(gone());
        }
        Ok(pod)
    }

    fn remembered(&self, key: &[u8; 32]) -> Option<Arc<Caller>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, caller) = kept.get(key)?;
        (at.elapsed() < KEPT).then(|| caller.clone())
    }

    fn remember(&self, key: [u8; 32], caller: &Arc<Caller>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.retain(|_, (at, _)| at.elapsed() < KEPT);
        }
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(key, (Instant::now(), caller.clone()));
    }
}

fn identity(bound: BoundPod, pod: &Value, purpose: Option<String>) -> PodIdentity {
    let labels = pod.pointer("/metadata/labels").and_then(Value::as_object);
    let labels = labels.into_iter().flatten().filter_map(|(key, value)| {
        let value = value.as_str()?;
        Some((key.clone(), value.to_owned()))
    });
    PodIdentity {
        namespace: bound.namespace,
        service_account: bound.service_account,
        name: bound.name,
        uid: bound.uid,
        labels: labels.collect(),
        purpose,
    }
}

/// Tokens are never kept, only what tells them apart.
fn hash(token: &str) -> [u8; 32] {
    let mut key = [0; 32];
    for (to, from) in key
        .iter_mut()
        .zip(digest(&SHA256, token.as_bytes()).as_ref())
    {
        *to = *from;
    }
    key
}
