//! A refusal in the API's words: `metav1.Status`, which kubectl prints as it prints the API
//! server's own (Kubernetes API, Status; k8s.io/apimachinery, pkg/apis/meta/v1/types.go).

use chaperone_enforce::Denial;
use chaperone_http::answer::{self, About};
use chaperone_http::body::Body;
use chaperone_policy::{ApiRequest, Reason};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// The status that fits a reason. All that a human or a rule refused is Forbidden, what waits for
/// a human too: clients take a Conflict for one that they should settle by trying again at once.
fn code(reason: Reason) -> StatusCode {
    match reason {
        Reason::ApprovalPending | Reason::HostDenied => StatusCode::FORBIDDEN,
        reason => answer::status(reason),
    }
}

/// `reason` of a Status of this code, as the API server has it.
fn word(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
        _ => "ServiceUnavailable",
    }
}

/// What is said of a denial, and what to do about it.
pub(crate) fn words(denial: &Denial) -> String {
    match &denial.hint {
        Some(hint) => format!("{}; {hint}", denial.message),
        None => denial.message.clone(),
    }
}

/// The Status, and its code. The product's own reason is the first of the causes.
pub(crate) fn of(
    denial: &Denial,
    about: &About,
    request: Option<&ApiRequest>,
) -> (StatusCode, Value) {
    let status = code(denial.reason);
    let message = format!("{}: {}", denial.reason, words(denial));
    let cause = |reason: &str, message: &str| json!({"reason": reason, "message": message});
    let mut causes = vec![cause(denial.reason.as_str(), &denial.message)];
    if let Some(session) = &about.session {
        causes.push(cause("Session", session));
    }
    if let Some((policy, rule)) = &about.rule {
        causes.push(cause("Rule", &format!("{policy} {rule}")));
    }
    if let Some(approval) = &about.request {
        causes.push(cause("ApprovalRequest", approval));
    }
    let mut details = json!({"causes": causes});
    if let (Some(request), Some(fields)) = (request, details.as_object_mut()) {
        for (name, value) in [
            ("name", &request.name),
            ("group", &request.group),
            ("kind", &request.resource),
        ] {
            if !value.is_empty() {
                fields.insert(name.to_owned(), value.as_str().into());
            }
        }
    }
    let text = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": word(status),
        "details": details,
        "code": status.as_u16(),
    });
    (status, text)
}

/// The answer.
pub fn answer(denial: &Denial, about: &About, request: Option<&ApiRequest>) -> Response<Body> {
    let (status, text) = of(denial, about, request);
    let mut response = Response::new(Body::from(text.to_string().into_bytes()));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if about.close {
        fields.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
