//! `/v1/audit/packs/{name}/{digest}`: a pack's bytes, for the auditor's plugin.
//!
//! Whoever can name a pack's digest was let read its AuditPack: the digest is the credential, 256 bits
//! that nothing else tells. The plugin comes through the API server's proxy of our Service, which
//! authenticates and authorises it, and takes its own credential off.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chaperone_crds::ConditionReason;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::refused::Refused;
use super::{Shared, counted};
use crate::audit::packs::PlaceError;
use crate::audit::{PacksError, Shelf};
use crate::context::Context;

/// Packs that are read at once, each up to 48 MiB.
const AT_ONCE: usize = 2;
/// Longest wait for one's turn.
const TURN: Duration = Duration::from_secs(10);

/// Who is reading packs.
pub(super) struct Reading {
    shelf: Shelf,
    turns: Semaphore,
}

impl Reading {
    pub(super) fn new(context: &Context) -> Reading {
        Reading {
            shelf: Shelf::new(context),
            turns: Semaphore::new(AT_ONCE),
        }
    }
}

pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Path((name, digest)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let reading = &shared.reading;
    let answer = async {
        // Before anything is asked or read: anybody in the cluster may call here.
        let well_formed = name.len() <= 64
            && name.starts_with("pack-")
            && digest.len() == 64
            && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !well_formed {
            return Err(unknown());
        }
        let _turn = timeout(TURN, reading.turns.acquire())
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| {
                Refused::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    ConditionReason::LimitExceeded,
                    "others read packs already; ask again",
                )
            })?;
        match reading.shelf.bytes(&name, &digest).await {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(unknown()),
            Err(PacksError::Place(name, error @ PlaceError::Missing)) => Err(Refused::new(
                StatusCode::GONE,
                ConditionReason::PackingFailed,
                format!("AuditPack/{name}: {error}"),
            )),
            Err(error) => Err(Refused::new(
                StatusCode::SERVICE_UNAVAILABLE,
                ConditionReason::PackingFailed,
                error.to_string(),
            )),
        }
    };
    let bytes = counted(&shared, "audit_packs", answer).await?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, bytes).into_response())
}

fn unknown() -> Refused {
    Refused::new(
        StatusCode::NOT_FOUND,
        ConditionReason::RefNotFound,
        "there is no such pack",
    )
}
