//! `/metrics`, `/livez`, `/readyz`, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Encoder, TextEncoder};

use crate::metrics::Metrics;

/// What this replica still waits for before it may be asked anything.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    stores: Arc<AtomicBool>,
    certificate: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
}

impl Readiness {
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

    /// What is missing, in the order in which it usually comes.
    fn missing(&self) -> Option<&'static str> {
        if self.stopping.load(Ordering::Acquire) {
            Some("stopping\n")
        } else if !self.stores.load(Ordering::Acquire) {
            Some("watches are not filled: is the API server reachable?\n")
        } else if !self.certificate.load(Ordering::Acquire) {
            Some("no serving certificate yet: the leader makes it\n")
        } else {
            None
        }
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
        None => (StatusCode::OK, "ok\n"),
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
