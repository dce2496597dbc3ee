//! `/metrics`, `/livez`, `/readyz`, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use chaperone_crds::ConditionReason;
use prometheus::{Encoder, TextEncoder};
use tokio::sync::watch;

use crate::metrics::Metrics;

/// What this replica still waits for before it may be asked anything.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    stores: Arc<AtomicBool>,
    certificate: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
    trouble: Option<watch::Receiver<String>>,
}

impl Readiness {
    /// Of a replica whose watches say there what keeps them from being filled.
    pub fn new(trouble: watch::Receiver<String>) -> Readiness {
        Readiness {
            trouble: Some(trouble),
            ..Readiness::default()
        }
    }

    /// Every store has been filled once.
    pub fn stores_filled(&self) {
        self.stores.store(true, Ordering::Release);
    }

    /// There is a certificate to serve with.
    pub fn certificate_loaded(&self) {
        self.certificate.store(true, Ordering::Release);
    }

    /// No new questions, please.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// What is missing, in the order in which it usually comes: a reason and a sentence.
    fn missing(&self) -> Option<String> {
        if self.stopping.load(Ordering::Acquire) {
            return Some("ShuttingDown: it was asked to end\n".to_owned());
        }
        if !self.stores.load(Ordering::Acquire) {
            let trouble = self
                .trouble
                .as_ref()
                .map(|trouble| trouble.borrow().clone());
            let trouble = trouble.filter(|trouble| !trouble.is_empty());
            let why = trouble.unwrap_or_else(|| "it has not answered yet".to_owned());
            let reason = ConditionReason::ApiUnavailable.as_str();
            return Some(format!(
                "{reason}: the API server cannot be watched: {why}\n"
            ));
        }
        if !self.certificate.load(Ordering::Acquire) {
            let reason = ConditionReason::Pending.as_str();
            return Some(format!(
                "{reason}: no serving certificate yet: the leader makes it\n"
            ));
        }
        None
    }
}

/// The endpoints.
pub fn router(metrics: Metrics, readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(readiness)
        .route("/metrics", get(scrape).with_state(metrics))
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    match readiness.missing() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(missing) => (StatusCode::SERVICE_UNAVAILABLE, missing),
    }
}

async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    let mut text = Vec::new();
    let families = metrics.registry().gather();
    let status = match TextEncoder::new().encode(&families, &mut text) {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, [(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
