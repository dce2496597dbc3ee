//! Why a request is refused: an HTTP status, a constant, and a sentence that says what to do.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chaperone_approvals::ApprovalError;
use chaperone_control::Refusal;
use chaperone_crds::ConditionReason;
use chaperone_policy::Reason;

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refused {
    /// Of the answer.
    pub status: StatusCode,
    /// The constant.
    pub reason: &'static str,
    /// What to do.
    pub message: String,
}

impl Refused {
    /// A refusal with a reason of a condition.
    pub fn new(status: StatusCode, reason: ConditionReason, message: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.as_str(),
            message: message.into(),
        }
    }

    /// The caller is not who may ask.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            ConditionReason::TokenRefused,
            message,
        )
    }

    /// What was sent makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ConditionReason::Invalid, message)
    }

    /// The API server failed us. Its words are for our log: they may quote an object.
    pub fn unavailable(what: &str, error: &kube::Error) -> Self {
        tracing::warn!(what, %error, "the API server gave no answer");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ConditionReason::ApiUnavailable,
            format!("{what}: the API server gave no usable answer; it is tried again"),
        )
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
            || self.status == StatusCode::GATEWAY_TIMEOUT
            || self.status == StatusCode::TOO_MANY_REQUESTS
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = Refusal {
            reason: self.reason.to_owned(),
            message: self.message,
        };
        (self.status, Json(body)).into_response()
    }
}

impl From<ApprovalError> for Refused {
    fn from(error: ApprovalError) -> Self {
        let status = match &error {
            ApprovalError::TooManyPending { .. } => StatusCode::TOO_MANY_REQUESTS,
            ApprovalError::TooLargeToApprove { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            ApprovalError::Invalid(_) => StatusCode::BAD_REQUEST,
            ApprovalError::NotFound(_) => StatusCode::NOT_FOUND,
            ApprovalError::NotApproved { .. }
            | ApprovalError::AlreadyRedeemed(_)
            | ApprovalError::TupleMismatch { .. } => StatusCode::CONFLICT,
            ApprovalError::ReviewRefused { .. } => StatusCode::FORBIDDEN,
            ApprovalError::Malformed { .. }
            | ApprovalError::Locked { .. }
            | ApprovalError::Io { .. }
            | ApprovalError::Worker(_)
            // Of a sidecar that asks us; never ours.
            | ApprovalError::Refused { .. }
            | ApprovalError::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let reason: Reason = error.reason();
        Self {
            status,
            reason: reason.as_str(),
            message: error.to_string(),
        }
    }
}
