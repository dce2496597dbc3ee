//! Whether a pod's sidecar is ours: the injector's own judgement of the pod as it is now.

use std::sync::Arc;

use axum::http::StatusCode;
use chaperone_inject::Accepted;
use serde_json::Value;

use super::caller::{Verified, Verify};
use super::refused::Refused;
use crate::context::Context;

/// Compares with what the injector writes, with the images and authorities of now.
pub(super) fn by_injector(context: &Context) -> Verify {
    let config = context.config.clone();
    let authorities = context.authorities.clone();
    let images = config.images();
    let operator = config.operator_url();
    Arc::new(move |pod: &Value| {
        let authorities = authorities.borrow().clone();
        let plan = chaperone_inject::verify(
            pod,
            Accepted {
                images: &images,
                authorities: &authorities,
                operator: &operator,
            },
        )
        .map_err(|refusal| {
            Refused::new(StatusCode::FORBIDDEN, refusal.reason(), refusal.to_string())
        })?;
        let connections = plan.listeners.into_iter().map(|listener| {
            let reference = listener.reference;
            (reference.namespace, reference.name)
        });
        Ok(Verified {
            connections: connections.collect(),
            purpose: plan.purpose,
        })
    })
}
