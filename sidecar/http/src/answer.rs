//! A refusal in HTTP's words: problem details (RFC 9457), or a status of gRPC.

use chaperone_enforce::Denial;
use chaperone_policy::Reason;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;

use crate::body::Body;

/// After how many seconds to ask again while a human has not answered.
const RETRY: HeaderValue = HeaderValue::from_static("5");

/// What a refusal says besides its words.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The evidence's session.
    pub session: Option<String>,
    /// The ApprovalRequest that is waited for.
    pub request: Option<String>,
    /// `namespace/name` of the policy, and its rule.
    pub rule: Option<(String, String)>,
    /// The agent speaks gRPC.
    pub grpc: bool,
    /// The connection ends with it.
    pub close: bool,
}

#[derive(Serialize)]
struct Problem<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// The status that fits a reason.
pub fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::ProtocolViolation => StatusCode::BAD_REQUEST,
        Reason::TokenRequired | Reason::TokenRefused | Reason::TokenExpired => {
            StatusCode::UNAUTHORIZED
        }
        Reason::ApprovalPending => StatusCode::CONFLICT,
        Reason::HostDenied => StatusCode::MISDIRECTED_REQUEST,
        Reason::LimitExceeded | Reason::TooManyPending => StatusCode::TOO_MANY_REQUESTS,
        Reason::TargetUnreachable
        | Reason::TargetTls
        | Reason::TargetRefused
        | Reason::TargetProtocol => StatusCode::BAD_GATEWAY,
        Reason::CannotRecord
        | Reason::TooManySessions
        | Reason::ShuttingDown
        | Reason::ApprovalUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::FORBIDDEN,
    }
}

/// The answer.
pub fn answer(denial: &Denial, about: &About) -> Response<Body> {
    let mut response = match about.grpc {
        true => grpc(denial),
        false => problem(denial, about),
    };
    if about.close {
        let fields = response.headers_mut();
        fields.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn problem(denial: &Denial, about: &About) -> Response<Body> {
    let status = status(denial.reason);
    let problem = Problem {
        title: status.canonical_reason().unwrap_or("Refused"),
        status: status.as_u16(),
        detail: &denial.message,
        reason: denial.reason.as_str(),
        policy: about.rule.as_ref().map(|(policy, _)| policy.as_str()),
        rule: about
            .rule
            .as_ref()
            .map(|(_, rule)| rule.as_str())
            .filter(|rule| !rule.is_empty()),
        session: about.session.as_deref(),
        request: about.request.as_deref(),
        hint: denial.hint.as_deref(),
    };
    let text = serde_json::to_vec_pretty(&problem).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    if status == StatusCode::UNAUTHORIZED {
        fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if denial.reason == Reason::ApprovalPending {
        fields.insert(RETRY_AFTER, RETRY);
    }
    response
}

/// What `grpc-message` must not hold unescaped (gRPC over HTTP2, Responses).
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// Trailers-Only: all of it in the head (gRPC over HTTP2, Responses).
fn grpc(denial: &Denial) -> Response<Body> {
    // PERMISSION_DENIED, UNAUTHENTICATED, RESOURCE_EXHAUSTED, UNAVAILABLE (gRPC, Status codes).
    let code = match status(denial.reason) {
        StatusCode::UNAUTHORIZED => "16",
        StatusCode::TOO_MANY_REQUESTS => "8",
        status if status.is_server_error() && status != StatusCode::INTERNAL_SERVER_ERROR => "14",
        _ => "7",
    };
    let text = format!("{}: {}", denial.reason, denial.message);
    let text = utf8_percent_encode(&text, ESCAPED).to_string();
    let mut response = Response::new(Body::default());
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields.insert("grpc-status", HeaderValue::from_static(code));
    if let Ok(text) = HeaderValue::from_str(&text) {
        fields.insert("grpc-message", text);
    }
    response
}
