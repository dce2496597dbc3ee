//! `GET /v1/stream`: every newer snapshot as it comes, and heartbeats between.
//!
//! One stream is one future that is polled as its client reads: no task, no queue. It ends by
//! itself when the token does, when the pod is gone, or when the caller is no longer served.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use chaperone_control::{HEARTBEAT_SECONDS, StreamEvent};
use futures::stream;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use prometheus::IntGauge;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

use super::caller::Caller;
use super::places::Place;
use super::refused::Refused;
use super::token::bearer;
use super::{Shared, counted};

/// Changes that come together make one snapshot.
const TOGETHER: Duration = Duration::from_millis(100);

/// `?generation=N`: what the sidecar has; 0 for nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    #[serde(default)]
    generation: u64,
}

/// Counts a stream while it is open.
struct Open(IntGauge);

impl Open {
    fn new(gauge: &IntGauge) -> Open {
        gauge.inc();
        Open(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

pub(super) async fn stream(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    known: Result<Query<Known>, QueryRejection>,
) -> Response {
    let opened = async {
        let Query(Known { generation }) = known
            .map_err(|error| Refused::invalid(format!("the query is not understood: {error}")))?;
        let token = Zeroizing::new(bearer(&headers)?.to_owned());
        let caller = shared.authenticator.of_token(&token).await?;
        let place = shared.streams.take(&caller.pod.uid)?;
        Ok(Feed {
            changes: shared.context.stores.changes(),
            rules: shared.context.stores.rules(),
            _open: Open::new(&shared.metrics.streams),
            shared: shared.clone(),
            labels: caller.pod.labels.clone(),
            caller,
            token,
            known: generation,
            seen: false,
            first: true,
            _place: place,
        })
    };
    match counted(&shared, "stream", opened).await {
        Err(refused) => refused.into_response(),
        Ok(feed) => {
            let lines = stream::unfold(feed, |mut feed| async move {
                let line = feed.next().await?;
                Some((Ok::<Bytes, Infallible>(line), feed))
            });
            (
                [(header::CONTENT_TYPE, "application/x-ndjson")],
                Body::from_stream(lines),
            )
                .into_response()
        }
    }
}

/// One stream.
struct Feed {
    shared: Arc<Shared>,
    caller: Arc<Caller>,
    token: Zeroizing<String>,
    changes: watch::Receiver<u64>,
    /// Moves with what is told about, and not with every pod.
    rules: watch::Receiver<u64>,
    /// The pod's labels as they were seen last.
    labels: BTreeMap<String, String>,
    /// The generation that the sidecar has.
    known: u64,
    /// Whether the watch has shown the pod.
    seen: bool,
    first: bool,
    _place: Place,
    _open: Open,
}

impl Feed {
    /// The next line, or the end.
    async fn next(&mut self) -> Option<Bytes> {
        let heartbeat = Instant::now() + Duration::from_secs(HEARTBEAT_SECONDS);
        loop {
            let beat = if self.first {
                self.first = false;
                true
            } else {
                self.wait(heartbeat).await
            };
            let labels = self.labels.clone();
            if self.is_over() || (beat && !self.is_still_served().await) {
                return None;
            }
            let ruled = self.rules.has_changed().unwrap_or(true);
            if !beat && !ruled && self.labels == labels {
                continue;
            }
            self.rules.borrow_and_update();
            let content = self.shared.content(&self.caller, &self.labels).await;
            let uid = &self.caller.pod.uid;
            let (generation, content) =
                self.shared
                    .generations
                    .assign(uid, content, Some(self.known));
            let valid_until = self.shared.valid_until(self.caller.checked_at);
            if generation != self.known {
                self.known = generation;
                let snapshot = content.snapshot(generation, valid_until);
                return line(&StreamEvent::Snapshot(Box::new(snapshot)));
            }
            if beat {
                return line(&StreamEvent::Heartbeat {
                    generation,
                    valid_until,
                });
            }
        }
    }

    /// Waits for a change or the heartbeat; whether it is the heartbeat.
    async fn wait(&mut self, heartbeat: Instant) -> bool {
        let end = self.caller.expires_at.duration_since(Timestamp::now());
        let end = Instant::now() + Duration::try_from(end).unwrap_or_default();
        // Changes without a pause must not keep the heart from beating.
        if Instant::now() >= heartbeat {
            return true;
        }
        match timeout_at(heartbeat.min(end), self.changes.changed()).await {
            Ok(Ok(())) => {
                sleep(TOGETHER).await;
                self.changes.borrow_and_update();
                false
            }
            Ok(Err(_)) => {
                // The watches ended, and so will we.
                sleep(TOGETHER).await;
                true
            }
            Err(_) => true,
        }
    }

    /// Whether the token has ended or the pod is gone, and takes up the pod's labels.
    fn is_over(&mut self) -> bool {
        if self.caller.expires_at <= Timestamp::now() {
            return true;
        }
        let pod = &self.caller.pod;
        let at = ObjectRef::new(&pod.name).within(&pod.namespace);
        match self.shared.context.stores.pods.get(&at) {
            Some(found) if found.metadata.uid.as_deref() == Some(&pod.uid) => {
                self.seen = true;
                self.labels = found.labels().clone();
                false
            }
            // Its name is another pod's, or it was there and is no more.
            Some(_) => true,
            None => self.seen,
        }
    }

    /// Asks again who the caller is. Without an answer it is served what it has, and
    /// `validUntil` stays where it is.
    async fn is_still_served(&mut self) -> bool {
        match self.shared.authenticator.of_token(&self.token).await {
            Ok(caller) => {
                self.caller = caller;
                true
            }
            Err(refused) => refused.is_transient(),
        }
    }
}

fn line(event: &StreamEvent) -> Option<Bytes> {
    let mut bytes = serde_json::to_vec(event)
        .inspect_err(|error| tracing::error!(%error, "a line cannot be written"))
        .ok()?;
    bytes.push(b'\n');
    Some(Bytes::from(bytes))
}
