//! The control API: what sidecars ask and are told (`chaperone-control` has its words).
//!
//! ```text
//! bearer ─caller─► TokenReview, Pod, verify ─► Caller
//! Caller + stores + references ─snapshot─► Content ─generations─► Snapshot ─attach, stream─►
//! Caller + body ─approvals─► Draft, Tuple ─requests─► ApprovalRequest (API server)
//! Caller + body ─audit─► checked entry ─► crate::audit
//! digest ─packs─► the bytes of a pack, for auditors
//! ```
//!
//! It runs on every replica. It serves no TLS itself: `main` hands the router to the listener
//! that has the serving certificate.

mod approval_feed;
mod approvals;
mod attach;
mod audit;
mod caller;
mod generations;
mod identity;
mod notices;
mod packs;
mod places;
mod refused;
mod requests;
mod snapshot;
mod stream;
mod token;
mod verify;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use chaperone_control::{LONGEST_WAIT_SECONDS, MOST_REQUEST_BYTES, MOST_STREAMS};
use chaperone_crds::{AuditSink, ConditionReason};
use jiff::{SignedDuration, Timestamp};
use prometheus::{IntCounterVec, IntGauge, Opts};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use refused::Refused;

use crate::audit::Audit;
use crate::context::Context;
use crate::digest_key::DigestKey;
use crate::references::{Reference, References};
use crate::target;
use crate::workload_events::Announcer;
use approval_feed::ApprovalFeed;
use caller::{Authenticator, Caller};
use generations::Generations;
use places::Places;
use requests::Requests;
use snapshot::{Content, Inputs};

/// Longest an answer may take, besides a wait that was asked for.
const DEADLINE: Duration = Duration::from_secs(20);

/// Questions about approvals that one pod may have open at once: one for each of its sessions.
const MOST_ASKING: usize = 256;

/// What all handlers share.
struct Shared {
    context: Context,
    authenticator: Authenticator,
    references: References,
    generations: Generations,
    streams: Places,
    asking: Places,
    waiters: approvals::Waiters,
    approvals: ApprovalFeed,
    requests: Requests,
    digest_key: Arc<DigestKey>,
    audit: Audit,
    handing_in: audit::HandingIn,
    reading: packs::Reading,
    announcer: Announcer,
    metrics: ControlMetrics,
}

/// What is counted here.
struct ControlMetrics {
    requests: IntCounterVec,
    streams: IntGauge,
}

impl ControlMetrics {
    fn new(context: &Context) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "chaperone_control_requests_total",
                    "Answers of the control API by route and reason",
                ),
                &["route", "reason"],
            )?,
            streams: IntGauge::new(
                "chaperone_control_streams",
                "Streams to sidecars that are open",
            )?,
        };
        let registry = context.metrics.registry();
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.streams.clone()))?;
        Ok(metrics)
    }
}

/// The routes of the control API. Its watch of ApprovalRequests and the ingest of evidence run in
/// `tasks`.
///
/// # Errors
/// Only if a metric of its names is there already.
pub fn router(
    context: &Context,
    references: References,
    tasks: &mut JoinSet<()>,
) -> Result<Router, prometheus::Error> {
    let client = context.client.clone();
    let digest_key = Arc::new(DigestKey::new(client.clone(), &context.config.namespace));
    let shared = Arc::new(Shared {
        authenticator: Authenticator::new(client.clone(), verify::by_injector(context)),
        references,
        generations: Generations::default(),
        streams: Places::new("streams", MOST_STREAMS),
        asking: Places::new("questions about approvals", MOST_ASKING),
        waiters: approvals::Waiters::default(),
        approvals: ApprovalFeed::watch(&client, tasks),
        requests: Requests::new(client, digest_key.clone()),
        digest_key,
        audit: Audit::start(context, tasks),
        handing_in: audit::HandingIn::default(),
        reading: packs::Reading::new(context),
        announcer: Announcer::start(context.client.clone(), &context.config.pod_name, tasks),
        metrics: ControlMetrics::new(context)?,
        context: context.clone(),
    });
    Ok(Router::new()
        .route("/v1/attach", post(attach::attach))
        .route("/v1/stream", get(stream::stream))
        .route("/v1/approvals", post(approvals::create))
        .route("/v1/approvals/{name}", get(approvals::get))
        .route("/v1/approvals/{name}/cancel", post(approvals::cancel))
        .route("/v1/approvals/{name}/redeem", post(approvals::redeem))
        .route("/v1/audit/certificate", post(audit::certificate))
        .route("/v1/audit", post(audit::append))
        .route("/v1/audit/sessions", post(audit::sessions))
        .route("/v1/audit/packs/{name}/{digest}", get(packs::get))
        .route("/v1/notices", post(notices::notices))
        .route("/v1/identity/keys", post(identity::keys))
        .fallback(async || {
            Refused::new(
                StatusCode::NOT_FOUND,
                ConditionReason::Unsupported,
                "there is no such path; is the operator older than the sidecar?",
            )
        })
        .layer(DefaultBodyLimit::max(MOST_REQUEST_BYTES))
        .with_state(shared))
}

impl Shared {
    /// What this caller may know now.
    async fn content(&self, caller: &Caller, labels: &BTreeMap<String, String>) -> Content {
        let stores = &self.context.stores;
        let allow_special = self.context.config.allow_special_targets;
        let namespace = &caller.pod.namespace;
        let namespace_labels = stores.namespace_labels(namespace);
        let connections: Vec<_> = caller
            .connections
            .iter()
            .map(|(namespace, name)| {
                let found = stores.connection(namespace, name);
                (namespace.clone(), name.clone(), found)
            })
            .collect();
        // Nothing is read for whom it could not be handed to.
        let mut wanted = Vec::new();
        for (namespace, _, found) in &connections {
            let Some(found) = found else { continue };
            let labels = namespace_labels.as_ref();
            if target::admits(found, &caller.pod.namespace, labels)
                && let Ok(target) = target::served(&found.spec, allow_special)
            {
                wanted.extend(target.references(namespace));
            }
        }
        let store = stores.sinks();
        let keys = store
            .iter()
            .flatten()
            .filter_map(AuditSink::authorization_key);
        if keys.count() > 0 {
            wanted.push(Reference::sinks());
        }
        let references = self.references.read(wanted).await;
        let policies = stores.policies();
        let seal_for = self.audit.seal_for(&self.context).await;
        snapshot::content(&Inputs {
            namespace,
            labels,
            namespace_labels: namespace_labels.as_ref(),
            connections: &connections,
            policies: &policies,
            references: &references,
            provider: &|name| stores.provider(name),
            seal_for,
            sinks: store.as_deref(),
            allow_special,
        })
    }

    /// Until when something that the API server confirmed at `checked_at` holds.
    fn valid_until(&self, checked_at: Timestamp) -> Timestamp {
        SignedDuration::try_from(self.context.config.snapshot_valid_for)
            .ok()
            .and_then(|valid_for| checked_at.checked_add(valid_for).ok())
            .unwrap_or(checked_at)
    }
}

/// An answer within its deadline, counted by its reason.
async fn counted<T>(
    shared: &Shared,
    route: &str,
    answer: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Refused> {
    let longest = DEADLINE + Duration::from_secs(LONGEST_WAIT_SECONDS);
    let answer = timeout(longest, answer).await.unwrap_or_else(|_| {
        Err(Refused::new(
            StatusCode::GATEWAY_TIMEOUT,
            ConditionReason::ApiUnavailable,
            "the answer takes too long; try again",
        ))
    });
    let reason = answer.as_ref().err().map_or("Served", |error| error.reason);
    shared
        .metrics
        .requests
        .with_label_values(&[route, reason])
        .inc();
    answer
}

/// A body, or why it is none.
fn body<T>(read: Result<Json<T>, JsonRejection>) -> Result<T, Refused> {
    match read {
        Ok(Json(value)) => Ok(value),
        Err(error) => Err(Refused {
            status: error.status(),
            ..Refused::invalid(format!("the body is not understood: {error}"))
        }),
    }
}
