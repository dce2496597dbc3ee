//! `/metrics`, `/livez`, `/readyz`, `/startz`, and nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use chaperone_enforce::Metrics;
use chaperone_evidence::Recorder;
use prometheus::{Encoder, TextEncoder};

/// What the endpoints answer from.
#[derive(Clone)]
pub struct Health {
    metrics: Metrics,
    recorder: Arc<OnceLock<Arc<Recorder>>>,
    started: Arc<AtomicBool>,
    /// Why not, where it is not ready.
    unready: Arc<Mutex<Option<String>>>,
}

impl Health {
    /// Not started, not ready, and without a recorder.
    pub fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            recorder: Arc::default(),
            started: Arc::default(),
            unready: Arc::new(Mutex::new(Some("starting".to_owned()))),
        }
    }

    /// What is recorded with; once.
    pub fn set_recorder(&self, recorder: Arc<Recorder>) {
        let _ = self.recorder.set(recorder);
    }

    /// Listeners are bound and policies are loaded.
    pub fn set_ready(&self) {
        self.started.store(true, Ordering::Release);
        *self.unready() = None;
    }

    /// Nothing is to be had for now, and why: a reason constant and a sentence.
    pub fn set_unready(&self, why: impl Into<String>) {
        *self.unready() = Some(why.into());
    }

    fn unready(&self) -> MutexGuard<'_, Option<String>> {
        self.unready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").finish_non_exhaustive()
    }
}

/// The endpoints.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/startz", get(startz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn startz(State(health): State<Health>) -> impl IntoResponse {
    let why = match health.started.load(Ordering::Acquire) {
        true => None,
        false => health.unready().clone(),
    };
    answer(why)
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let recording = health.recorder.get().map(|recorder| recorder.healthy());
    if recording == Some(false) {
        let why = "CannotRecord: the evidence spool takes no more records";
        return answer(Some(why.to_owned()));
    }
    answer(health.unready().clone())
}

fn answer(otherwise: Option<String>) -> (StatusCode, String) {
    match otherwise {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    let mut text = Vec::new();
    let families = health.metrics.registry().gather();
    if TextEncoder::new().encode(&families, &mut text).is_err() {
        return (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(CONTENT_TYPE, "text/plain; version=0.0.4")],
            Vec::new(),
        );
    }
    let stats = health
        .recorder
        .get()
        .map(|recorder| recorder.stats())
        .unwrap_or_default();
    let evidence = [
        (
            "chaperone_evidence_sessions_total",
            "counter",
            stats.sessions,
        ),
        (
            "chaperone_evidence_open_sessions",
            "gauge",
            stats.open_sessions,
        ),
        (
            "chaperone_evidence_appended_bytes_total",
            "counter",
            stats.appended_bytes,
        ),
        (
            "chaperone_evidence_shipped_bytes_total",
            "counter",
            stats.shipped_bytes,
        ),
        ("chaperone_evidence_syncs_total", "counter", stats.syncs),
        (
            "chaperone_evidence_synced_intents_total",
            "counter",
            stats.synced_intents,
        ),
        (
            "chaperone_evidence_segments_total",
            "counter",
            stats.segments,
        ),
        (
            "chaperone_evidence_ship_failures_total",
            "counter",
            stats.ship_failures,
        ),
        (
            "chaperone_evidence_spool_free_bytes",
            "gauge",
            stats.spool_free,
        ),
    ];
    for (name, kind, value) in evidence {
        text.extend_from_slice(format!("# TYPE {name} {kind}\n{name} {value}\n").as_bytes());
    }
    (
        StatusCode::OK,
        [(CONTENT_TYPE, "text/plain; version=0.0.4")],
        text,
    )
}
