//! One POST: its outcome is that it arrived, that it may later, or that it never will.

use std::time::Duration;

use bytes::Bytes;
use chaperone_wire::{AllowSpecial, Resolver};
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use tokio::time::{Instant, timeout_at};

use super::config::Server;

/// For the connection and the answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest pause that a server may ask for.
const LONGEST_AFTER: Duration = Duration::from_secs(300);
/// Most bytes of an answer that are read.
const MOST_ANSWER: usize = 64 * 1024;

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Posted {
    /// It arrived; the answer's body.
    Arrived(Bytes),
    /// It did not, or nobody knows: it is to be sent again, not before so long.
    Later {
        why: String,
        after: Option<Duration>,
    },
    /// The server will never take it.
    Refused(String),
}

/// Posts JSON to a server.
pub(super) async fn post(
    server: &Server,
    resolver: &Resolver,
    allow: AllowSpecial,
    body: Vec<u8>,
) -> Posted {
    let deadline = Instant::now() + DEADLINE;
    match timeout_at(deadline, exchange(server, resolver, allow, body, deadline)).await {
        Ok(Ok(posted)) => posted,
        Ok(Err(why)) => later(why),
        Err(_) => later(format!("no answer within {} s", DEADLINE.as_secs())),
    }
}

fn later(why: String) -> Posted {
    Posted::Later { why, after: None }
}

async fn exchange(
    server: &Server,
    resolver: &Resolver,
    allow: AllowSpecial,
    body: Vec<u8>,
    deadline: Instant,
) -> Result<Posted, String> {
    let host = server.host.as_str();
    let tcp = chaperone_wire::connect(resolver, host, server.port, allow, deadline)
        .await
        .map_err(|error| error.to_string())?;
    let stream = server
        .tls
        .handshake(tcp, host, deadline)
        .await
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let mut request = Request::post(&server.path)
        .header(HOST, server.authority.as_str())
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("chaperone/", env!("CARGO_PKG_VERSION")));
    if let Some(value) = &server.authorization {
        request = request.header(AUTHORIZATION, value.clone());
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MOST_ANSWER).collect().await;
        match judge(head.status, &head.headers) {
            // What was taken was taken, however the answer goes on.
            None => Ok(Posted::Arrived(
                body.map(|body| body.to_bytes()).unwrap_or_default(),
            )),
            Some(posted) => Ok(posted),
        }
    };
    // The connection lives for this one exchange and ends with it.
    tokio::pin!(exchange);
    tokio::select! {
        posted = &mut exchange => posted,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

/// What a status says of the events; `None` where they were taken.
///
/// The OTLP specification (1.x, "OTLP/HTTP Response", Failures) has 429, 502, 503 and 504 tried again
/// and everything else not. Besides these, tried again is what says nothing about the events but that
/// this sidecar is not let in, or that nobody is at home: a wrong token must not cost a day's
/// events. The pause between attempts is then a minute.
fn judge(status: StatusCode, headers: &HeaderMap) -> Option<Posted> {
    if status.is_success() {
        return None;
    }
    let why = format!("HTTP status {status}");
    let again = status.is_server_error()
        || status.is_redirection()
        || status.is_informational()
        || matches!(
            status.as_u16(),
            401 | 403 | 404 | 405 | 407 | 408 | 421 | 425 | 429
        );
    Some(if again {
        Posted::Later {
            why,
            after: retry_after(headers, Timestamp::now()),
        }
    } else {
        Posted::Refused(why)
    })
}

/// `Retry-After`: seconds or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let after = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            // The date of HTTP is one of RFC 2822 whose zone is spelt GMT.
            let at = rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(at.duration_since(now)).unwrap_or_default()
        }
    };
    Some(after.min(LONGEST_AFTER))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn judged(status: u16) -> Option<Posted> {
        judge(StatusCode::from_u16(status).unwrap(), &HeaderMap::new())
    }

    #[test]
    fn only_what_is_said_of_the_events_is_for_good() {
        for status in [200, 202, 204] {
            assert_eq!(judged(status), None, "{status}");
        }
        for status in [400, 409, 413, 415, 422] {
            assert!(
                matches!(judged(status), Some(Posted::Refused(_))),
                "{status}"
            );
        }
        for status in [301, 307, 401, 403, 404, 408, 429, 500, 501, 502, 503, 504] {
            assert!(
                matches!(judged(status), Some(Posted::Later { .. })),
                "{status}"
            );
        }
    }

    #[test]
    fn a_server_says_when_to_come_back_within_bounds() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for (text, after) in [
            ("7", Some(7)),
            ("Fri, 02 Jan 2026 03:04:35 GMT", Some(30)),
            ("Fri, 02 Jan 2026 03:00:00 GMT", Some(0)),
            ("999999999", Some(300)),
            ("-1", None),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            let found = retry_after(&headers, now).map(|after| after.as_secs());
            assert_eq!(found, after, "{text}");
        }
    }
}
