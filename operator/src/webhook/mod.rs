//! Admission webhooks, on every replica.
//!
//! ```text
//! AdmissionReview ─► pods, workloads, approval_requests, unseal_requests, resources ─► Answer ─► patch | denial, warnings
//!                                                                                         └► counter, Event on the owner
//! ```
//!
//! Nothing here writes: what is admitted changes by the patch alone. Events are sent afterwards,
//! and never for a dry run.

mod answer;
mod approval_requests;
mod caller;
mod events;
mod pods;
mod resolve;
mod resources;
mod unseal_requests;
mod workloads;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionReview};
use tokio::task::JoinSet;

use crate::context::Context;
use crate::workload_events::Announcer;
use answer::Answer;

/// Most bytes of a review: two objects of etcd's limit (1.5 MiB each), and room.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// What the handlers share.
struct Shared {
    context: Context,
    announcer: Announcer,
}

/// What admission is asked about.
type Request = AdmissionRequest<DynamicObject>;

/// The webhooks. Their Events are sent from `tasks`.
pub fn router(context: &Context, tasks: &mut JoinSet<()>) -> Router {
    let shared = Arc::new(Shared {
        context: context.clone(),
        announcer: Announcer::start(context.client.clone(), &context.config.pod_name, tasks),
    });
    Router::new()
        .route("/mutate/pods", post(pods))
        .route("/mutate/workloads", post(workloads))
        .route("/mutate/approvalrequests", post(approval_requests))
        .route("/mutate/unsealrequests", post(unseal_requests))
        .route("/validate/resources", post(resources))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .with_state(shared)
}

async fn pods(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    reviewed(&shared, "pods", &body, async |request| {
        let answer = pods::admit(&shared.context, request).await;
        if let Some(announcement) = events::announcement(request, &answer) {
            shared.announcer.announce(announcement);
        }
        answer
    })
    .await
}

async fn workloads(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    reviewed(&shared, "workloads", &body, async |request| {
        workloads::admit(&shared.context, request).await
    })
    .await
}

async fn approval_requests(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let now = jiff::Timestamp::now();
    reviewed(&shared, "approvalrequests", &body, async |request| {
        approval_requests::admit(request, now)
    })
    .await
}

async fn unseal_requests(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    reviewed(&shared, "unsealrequests", &body, async |request| {
        unseal_requests::admit(request)
    })
    .await
}

async fn resources(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    reviewed(&shared, "resources", &body, async |request| {
        resources::admit(&shared.context, request)
    })
    .await
}

/// Reads the review, asks for an answer, counts it.
async fn reviewed(
    shared: &Shared,
    webhook: &str,
    body: &[u8],
    admit: impl AsyncFnOnce(&Request) -> Answer,
) -> Response {
    let review: Result<AdmissionReview<DynamicObject>, _> = serde_json::from_slice(body);
    let request: Option<Request> = review.ok().and_then(|review| review.try_into().ok());
    let Some(request) = request else {
        return (StatusCode::BAD_REQUEST, "not an AdmissionReview of v1\n").into_response();
    };
    let answer = admit(&request).await;
    let reason = answer.reason();
    shared
        .context
        .metrics
        .admissions
        .with_label_values(&[webhook, reason])
        .inc();
    if let Some((_, message)) = answer.denial() {
        tracing::info!(webhook, reason, message, namespace = ?request.namespace, "refused");
    }
    Json(answer.into_review(&request)).into_response()
}
