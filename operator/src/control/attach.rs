//! `POST /v1/attach`: who the pod is, and what applies now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode};
use chaperone_control::{AttachAnswer, AttachRequest};
use chaperone_crds::ConditionReason;

use super::refused::Refused;
use super::{Shared, body, counted};

pub(super) async fn attach(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    request: Result<Json<AttachRequest>, JsonRejection>,
) -> Result<Json<AttachAnswer>, Refused> {
    let answer = async {
        let caller = shared.authenticator.caller(&headers).await?;
        let AttachRequest { version } = body(request)?;
        let digest_key = shared.digest_key.get().await.map_err(|error| {
            tracing::warn!(%error, "no sidecar can attach");
            Refused::new(
                StatusCode::SERVICE_UNAVAILABLE,
                ConditionReason::ApiUnavailable,
                "the operator's digest key is not there; its log says why",
            )
        })?;
        let content = shared.content(&caller, &caller.pod.labels).await;
        let (generation, content) = shared.generations.assign(&caller.pod.uid, content, None);
        tracing::info!(
            namespace = %caller.pod.namespace,
            pod = %caller.pod.name,
            version = %version.escape_debug(),
            generation,
            "a sidecar attaches"
        );
        Ok(AttachAnswer {
            pod: caller.pod.clone(),
            digest_key,
            snapshot: content.snapshot(generation, shared.valid_until(caller.checked_at)),
        })
    };
    counted(&shared, "attach", answer).await.map(Json)
}
