//! The bearer token: what can be said of it before anybody is asked, and what its review says.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chaperone_control::AUDIENCE;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use serde::Deserialize;

use super::refused::Refused;

/// Longest token that is looked at, in bytes; a projected one has about 1 200.
const LONGEST: usize = 16 * 1024;
/// `extra` of the user that a token bound to a pod authenticates (KEP-1205).
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// How a service account's user name begins.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// The pod that a token is bound to, as the API server proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BoundPod {
    pub(super) namespace: String,
    pub(super) service_account: String,
    pub(super) name: String,
    pub(super) uid: String,
}

/// The token of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, Refused> {
    let missing = || Refused::unauthorized("send the pod's projected token as bearer");
    let value = headers.get(AUTHORIZATION).ok_or_else(missing)?;
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.len() > LONGEST {
        return Err(missing());
    }
    Ok(token)
}

/// When the token ends, by its own word. Nothing is believed before the review; what cannot
/// pass it is refused here, so that strangers cannot make us flood the API server.
pub(super) fn expiry(token: &str, now: Timestamp) -> Result<Timestamp, Refused> {
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
        aud: Audiences,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audiences {
        One(String),
        Many(Vec<String>),
    }
    let not_a_token = || Refused::unauthorized("the bearer is no service account token");
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(not_a_token());
    };
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| not_a_token())?;
    let claims: Claims = serde_json::from_slice(&payload).map_err(|_| not_a_token())?;
    let ours = match &claims.aud {
        Audiences::One(audience) => audience == AUDIENCE,
        Audiences::Many(audiences) => audiences.iter().any(|audience| audience == AUDIENCE),
    };
    if !ours {
        return Err(wrong_audience());
    }
    let expires_at = Timestamp::from_second(claims.exp).map_err(|_| not_a_token())?;
    if expires_at <= now {
        return Err(Refused::unauthorized(
            "the token has expired; read it again",
        ));
    }
    Ok(expires_at)
}

/// Who the token is, from its review and nowhere else.
pub(super) fn bound_pod(review: &TokenReviewStatus) -> Result<BoundPod, Refused> {
    if review.authenticated != Some(true) {
        return Err(Refused::unauthorized(
            "the API server does not accept the token",
        ));
    }
    // An authenticator that knows no audiences answers without them: then it did not check ours.
    let audiences = review.audiences.as_deref().unwrap_or_default();
    if !audiences.iter().any(|audience| audience == AUDIENCE) {
        return Err(wrong_audience());
    }
    let not_a_pod =
        || Refused::unauthorized("the token is not bound to a pod; only a sidecar's own is served");
    let user = review.user.as_ref().ok_or_else(not_a_pod)?;
    let (namespace, service_account) = user
        .username
        .as_deref()
        .and_then(|name| name.strip_prefix(SERVICE_ACCOUNT))
        .and_then(|rest| rest.split_once(':'))
        .ok_or_else(not_a_pod)?;
    let extra = |key: &str| {
        let values = user.extra.as_ref()?.get(key)?;
        match values.as_slice() {
            [value] if !value.is_empty() => Some(value.clone()),
            _ => None,
        }
    };
    Ok(BoundPod {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        name: extra(POD_NAME).ok_or_else(not_a_pod)?,
        uid: extra(POD_UID).ok_or_else(not_a_pod)?,
    })
}

fn wrong_audience() -> Refused {
    Refused::unauthorized(format!("the token is not for the audience {AUDIENCE}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::collections::BTreeMap;

    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_000).unwrap()
    }

    fn reviewed() -> TokenReviewStatus {
        let extra = BTreeMap::from([
            (POD_NAME.to_owned(), vec!["report-1".to_owned()]),
            (POD_UID.to_owned(), vec!["u-1".to_owned()]),
        ]);
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![AUDIENCE.to_owned()]),
            user: Some(UserInfo {
                username: Some("system:serviceaccount:shop:report".to_owned()),
                extra: Some(extra),
                ..UserInfo::default()
            }),
            error: None,
        }
    }

    #[test]
    fn what_cannot_pass_a_review_is_refused_before_it() {
        for bad in [
            "",
            "a.b",
            "a.b.c",
            "e30.e30.e30",
            &token(r#"{"exp":2000,"aud":"https://kubernetes.default.svc"}"#),
            &token(r#"{"exp":2000,"aud":[]}"#),
            &token(r#"{"exp":1000,"aud":["chaperone.dev"]}"#),
            &token(r#"{"exp":99999999999999999,"aud":["chaperone.dev"]}"#),
            &format!("{}.x", token(r#"{"exp":2000,"aud":["chaperone.dev"]}"#)),
        ] {
            expiry(bad, now()).expect_err(bad);
        }
        let good = token(r#"{"exp":2000,"aud":["x","chaperone.dev"]}"#);
        assert_eq!(expiry(&good, now()).unwrap().as_second(), 2_000);
    }

    #[test]
    fn identity_comes_from_a_review_of_a_token_bound_to_a_pod() {
        let pod = bound_pod(&reviewed()).unwrap();
        assert_eq!(
            (pod.namespace.as_str(), pod.service_account.as_str()),
            ("shop", "report")
        );
        assert_eq!((pod.name.as_str(), pod.uid.as_str()), ("report-1", "u-1"));
        let break_it: [fn(&mut TokenReviewStatus); 7] = [
            |review| review.authenticated = Some(false),
            |review| review.authenticated = None,
            |review| review.audiences = None,
            |review| review.audiences = Some(vec!["other".to_owned()]),
            |review| review.user = None,
            |review| review.user.as_mut().unwrap().extra = None,
            |review| review.user.as_mut().unwrap().username = Some("alice".to_owned()),
        ];
        for break_it in break_it {
            let mut review = reviewed();
            break_it(&mut review);
            bound_pod(&review).expect_err("not a pod's token");
        }
    }

    #[test]
    fn only_a_bearer_is_a_bearer() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(with("Bearer abc").unwrap(), "abc");
        for bad in [
            "abc",
            "Basic abc",
            "Bearer ",
            &format!("Bearer {}", "x".repeat(LONGEST + 1)),
        ] {
            with(bad).expect_err("no bearer");
        }
        bearer(&HeaderMap::new()).expect_err("no header");
    }
}
