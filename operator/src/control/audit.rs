//! `/v1/audit…`: evidence of the caller's own store, checked and taken in, and views of its
//! sessions.
//!
//! ```text
//! append:  who calls ─► room ─► body ─► bounds ─► check (signatures) ─► group commit ─► Appended
//! ```
//!
//! A body is read only once its sender is known and there is room for it: a part has up to
//! 640 KiB, and all pods together must not fill our memory.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode};
use chaperone_control::{
    Append, Appended, Bytes, CertificateAnswer, CertificateRequest, MOST_PART_BYTES, MOST_PARTS,
    MOST_RECOVERED, MOST_VIEWS, SessionViews,
};
use chaperone_crds::{AuditEntry, AuditEntryKind, ConditionReason};
use chaperone_evidence::audit::{LogKey, Pod, StoreCertificate, check};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::caller::Caller;
use super::places::Places;
use super::refused::Refused;
use super::{Shared, body, counted};
use crate::audit::sessions::{self, ViewError};
use crate::audit::{Audit, IngestError, Place, made};

/// Bodies that are read and checked at once, each up to 1 MiB and what is made of it.
const MOST_BODIES: usize = 16;
/// Requests of one pod at once.
const MOST_OF_A_POD: usize = 4;
/// Longest that the body may take, and the wait for room.
const READ: Duration = Duration::from_secs(10);
/// Views that are written at once for one request.
const VIEWS_AT_ONCE: usize = 8;

/// Who is handing in.
pub(super) struct HandingIn {
    pods: Places,
    bodies: Semaphore,
}

impl Default for HandingIn {
    fn default() -> Self {
        Self {
            pods: Places::new("requests with evidence", MOST_OF_A_POD),
            bodies: Semaphore::new(MOST_BODIES),
        }
    }
}

pub(super) async fn certificate(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    request: Result<Json<CertificateRequest>, JsonRejection>,
) -> Result<Json<CertificateAnswer>, Refused> {
    let answer = async {
        let caller = shared.authenticator.caller(&headers).await?;
        let _place = shared.handing_in.pods.take(&caller.pod.uid)?;
        let CertificateRequest { store } = body(request)?;
        let store = store_key(&store)?;
        refuse_if_full(&shared)?;
        let key = log_key(&shared).await?;
        let certificate = certified(&caller, store, &key)?;
        let place = Place {
            kind: AuditEntryKind::Certificate,
            store,
            number: 0,
            part: 0,
            parts: 1,
        };
        let entry = made(&caller.pod, place, certificate.clone());
        // A store without its certificate in the log proves nothing: so it is there first.
        let segment = shared.audit.ingest.put(entry, true).await?;
        tracing::info!(
            namespace = %caller.pod.namespace,
            pod = %caller.pod.name,
            segment,
            "the store of a pod is certified"
        );
        Ok(CertificateAnswer {
            certificate: Bytes(certificate),
        })
    };
    taken_in(&shared, "audit_certificate", answer).await
}

pub(super) async fn append(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Json<Appended>, Refused> {
    let answer = async {
        let caller = shared.authenticator.caller(request.headers()).await?;
        let _place = shared.handing_in.pods.take(&caller.pod.uid)?;
        refuse_if_full(&shared)?;
        let (entry, urgent) = {
            let _room = room(&shared.handing_in.bodies).await?;
            let read = timeout(READ, Json::<Append>::from_request(request, &())).await;
            let append = body(read.map_err(|_| slow("the body takes too long"))?)?;
            let urgent = append.urgent;
            (checked(&shared, &caller, append).await?, urgent)
        };
        let segment = shared.audit.ingest.put(entry, urgent).await?;
        Ok(Appended { segment })
    };
    taken_in(&shared, "audit", answer).await
}

pub(super) async fn sessions(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    request: Result<Json<SessionViews>, JsonRejection>,
) -> Result<StatusCode, Refused> {
    let answer = async {
        let caller = shared.authenticator.caller(&headers).await?;
        let _place = shared.handing_in.pods.take(&caller.pod.uid)?;
        let SessionViews {
            sessions,
            recovered,
        } = body(request)?;
        let tails = recovered.as_ref().map_or(0, Vec::len);
        if sessions.len() > MOST_VIEWS || tails > MOST_RECOVERED {
            return Err(Refused::invalid(format!(
                "send at most {MOST_VIEWS} sessions and {MOST_RECOVERED} recovered ones at once"
            )));
        }
        let client = &shared.context.client;
        let pod = &caller.pod;
        if let Some(recovered) = recovered {
            sessions::end_earlier(client, pod, &recovered).await?;
        }
        let written = stream::iter(sessions)
            .map(|view| sessions::write(client, pod, view))
            .buffer_unordered(VIEWS_AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        // One that cannot be written keeps none of the others from being seen.
        match written.into_iter().find_map(Result::err) {
            Some(error) => Err(error.into()),
            None => Ok(StatusCode::NO_CONTENT),
        }
    };
    counted(&shared, "audit_sessions", answer).await
}

/// The entry of a part, once all that can be said of it now has been said.
async fn checked(
    shared: &Shared,
    caller: &Arc<Caller>,
    append: Append,
) -> Result<AuditEntry, Refused> {
    bounds(&append)?;
    let key = log_key(shared).await?;
    let caller = caller.clone();
    // Signatures of a whole segment take a while.
    let checked = tokio::task::spawn_blocking(move || {
        let Append {
            certificate,
            attach,
            number,
            part,
            parts,
            data,
            urgent: _,
        } = append;
        let (public, uid) = (key.public(), &caller.pod.uid);
        let found = check(
            &certificate.0,
            public,
            uid,
            &attach.0,
            number,
            parts,
            &data.0,
        );
        found.map(|checked| {
            let place = Place {
                kind: AuditEntryKind::Segment,
                store: checked.certificate.store,
                number,
                part,
                parts,
            };
            made(&caller.pod, place, data.0)
        })
    })
    .await
    .map_err(|error| {
        tracing::error!(%error, "a check failed");
        Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ConditionReason::Internal,
            "the evidence could not be checked; send it again",
        )
    })?;
    checked.map_err(|error| {
        Refused::new(
            StatusCode::FORBIDDEN,
            ConditionReason::EvidenceRefused,
            format!("the evidence is not taken in: {error}"),
        )
    })
}

fn bounds(append: &Append) -> Result<(), Refused> {
    let Append {
        certificate: _,
        attach: _,
        number,
        part,
        parts,
        data,
        urgent: _,
    } = append;
    let refused = |why: String| Err(Refused::invalid(why));
    if data.0.len() > MOST_PART_BYTES {
        return refused(format!("a part has at most {MOST_PART_BYTES} bytes"));
    }
    if *parts == 0 || *parts > MOST_PARTS || part >= parts {
        return refused(format!("a segment has parts 0 to {MOST_PARTS} at most"));
    }
    if *number == 0 || i64::try_from(*number).is_err() {
        return refused("segments are numbered from 1".to_owned());
    }
    Ok(())
}

fn store_key(text: &str) -> Result<[u8; 32], Refused> {
    let mut key = [0; 32];
    hex::decode_to_slice(text, &mut key)
        .map_err(|_| Refused::invalid("store is the hex of an Ed25519 public key"))?;
    Ok(key)
}

fn certified(caller: &Caller, store: [u8; 32], key: &LogKey) -> Result<Vec<u8>, Refused> {
    let pod = &caller.pod;
    let now = u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default();
    let certificate = StoreCertificate {
        store,
        pod: Pod {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            service_account: pod.service_account.clone(),
        },
        wall_ns: now,
    };
    certificate.sign(key).ok_or_else(|| {
        tracing::error!("the log key signed nothing");
        Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ConditionReason::Internal,
            "the certificate could not be signed; ask again",
        )
    })
}

async fn log_key(shared: &Shared) -> Result<Arc<LogKey>, Refused> {
    shared.audit.keys.get().await.map_err(|error| {
        tracing::warn!(%error, "no evidence can be taken in");
        Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ConditionReason::ApiUnavailable,
            "the operator's log key is not there; its log says why",
        )
    })
}

fn refuse_if_full(shared: &Shared) -> Result<(), Refused> {
    match Audit::full(&shared.context) {
        // Worth another try: somebody may make room.
        Some(why) => Err(Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ConditionReason::QuotaExceeded,
            why,
        )),
        None => Ok(()),
    }
}

async fn room(bodies: &Semaphore) -> Result<tokio::sync::SemaphorePermit<'_>, Refused> {
    match timeout(READ, bodies.acquire()).await {
        Ok(Ok(room)) => Ok(room),
        Ok(Err(_)) | Err(_) => Err(Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ConditionReason::LimitExceeded,
            "too many pods hand in evidence at once; send it again after a pause",
        )),
    }
}

fn slow(why: &str) -> Refused {
    Refused::new(
        StatusCode::SERVICE_UNAVAILABLE,
        ConditionReason::LimitExceeded,
        why,
    )
}

/// An answer to who hands in evidence, counted as a request and by how it was taken.
async fn taken_in<T>(
    shared: &Shared,
    route: &str,
    answer: impl Future<Output = Result<T, Refused>>,
) -> Result<Json<T>, Refused> {
    let answer = counted(shared, route, answer).await;
    let reason = answer.as_ref().err().map_or("Served", |error| error.reason);
    let appends = &shared.context.metrics.audit.appends;
    appends.with_label_values(&[reason]).inc();
    answer.map(Json)
}

impl From<IngestError> for Refused {
    fn from(error: IngestError) -> Self {
        let reason = match error {
            IngestError::Full => ConditionReason::LimitExceeded,
            IngestError::Unavailable | IngestError::Stopped => ConditionReason::ApiUnavailable,
        };
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, reason, error.to_string())
    }
}

impl From<ViewError> for Refused {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Id => Refused::invalid(error.to_string()),
            ViewError::OtherPod(_) => Refused::new(
                StatusCode::FORBIDDEN,
                ConditionReason::EvidenceRefused,
                error.to_string(),
            ),
            ViewError::Api(error) => Refused::unavailable("writing a session's view", &error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn append() -> Append {
        Append {
            certificate: Bytes(Vec::new()),
            attach: Bytes(Vec::new()),
            number: 1,
            part: 0,
            parts: 1,
            data: Bytes(vec![0; MOST_PART_BYTES]),
            urgent: false,
        }
    }

    #[test]
    fn a_part_is_within_its_bounds() {
        bounds(&append()).unwrap();
        let break_it: [fn(&mut Append); 7] = [
            |append| append.data.0.push(0),
            |append| append.parts = 0,
            |append| append.parts = MOST_PARTS + 1,
            |append| append.part = 1,
            |append| append.number = 0,
            |append| append.number = u64::MAX,
            |append| append.part = u32::MAX,
        ];
        for break_it in break_it {
            let mut append = append();
            break_it(&mut append);
            let refused = bounds(&append).expect_err("out of bounds");
            assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn only_the_hex_of_a_key_is_a_store() {
        assert_eq!(store_key(&"0a".repeat(32)).unwrap(), [10; 32]);
        for bad in ["", "0a", &"0a".repeat(33), &"zz".repeat(32)] {
            store_key(bad).expect_err(bad);
        }
    }

    #[test]
    fn what_may_pass_is_worth_another_try() {
        for error in [
            IngestError::Full,
            IngestError::Unavailable,
            IngestError::Stopped,
        ] {
            assert!(Refused::from(error).is_transient(), "{error}");
        }
    }
}
