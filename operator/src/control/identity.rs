//! `POST /v1/identity/keys`: a token needs a key that a sidecar does not have.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode};
use chaperone_control::KeysWanted;

use super::refused::Refused;
use super::{Shared, body, counted};

/// Has the issuer's keys fetched again, as soon as the keeper's pace allows: what many sidecars ask
/// for is fetched once. A name that is none is nothing to fetch.
pub(super) async fn keys(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    request: Result<Json<KeysWanted>, JsonRejection>,
) -> Result<StatusCode, Refused> {
    let answer = async {
        shared.authenticator.caller(&headers).await?;
        let KeysWanted { provider } = body(request)?;
        shared.context.stores.keys.ask(&provider);
        Ok(StatusCode::NO_CONTENT)
    };
    counted(&shared, "identity_keys", answer).await
}
