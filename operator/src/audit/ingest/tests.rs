//! What is gathered, and what is answered when the API server's answers get lost.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::http::{Method, Request, Response};
use chaperone_crds::AuditEntryKind;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use k8s_openapi::ByteString;
use kube::client::Body;
use prometheus::Registry;

use super::*;

type Answer = oneshot::Receiver<Result<String, IngestError>>;

fn waiting(bytes: usize, urgent: bool) -> (Waiting, Answer) {
    let (done, answer) = oneshot::channel();
    let entry = AuditEntry {
        kind: AuditEntryKind::Segment,
        namespace: "shop".to_owned(),
        pod: "report-1".to_owned(),
        uid: "u-1".to_owned(),
        store: "ab".repeat(32),
        number: 1,
        part: 0,
        parts: 1,
        digest: "ab".repeat(32),
        data: ByteString(vec![0; bytes]),
    };
    let waiting = Waiting {
        entry,
        urgent,
        done,
        _room: None,
    };
    (waiting, answer)
}

/// Gathers from these, of which the first is there and the others are queued.
async fn gathered(sizes: &[(usize, bool)]) -> (Vec<usize>, Option<usize>, Duration) {
    let (sender, mut queue) = mpsc::channel(MOST_WAITING);
    let mut answers = Vec::new();
    for (bytes, urgent) in sizes {
        let (waiting, answer) = waiting(*bytes, *urgent);
        sender.try_send(waiting).ok().unwrap();
        answers.push(answer);
    }
    let begun = Instant::now();
    let first = queue.recv().await.unwrap();
    let (batch, rest) = gather(&mut queue, first).await;
    let sizes = batch.waiting.iter().map(|one| one.entry.data.0.len());
    let rest = rest.map(|one| one.entry.data.0.len());
    (sizes.collect(), rest, begun.elapsed())
}

#[tokio::test]
async fn what_is_urgent_is_written_at_once_with_all_that_waits() {
    let (taken, rest, took) = gathered(&[(1, false), (2, true), (3, false)]).await;
    assert_eq!((taken, rest), (vec![1, 2, 3], None));
    assert!(took < GATHER / 2, "{took:?}");
}

#[tokio::test]
async fn what_is_not_waits_for_others_and_no_longer_than_it_may() {
    let (taken, rest, took) = gathered(&[(1, false), (2, false)]).await;
    assert_eq!((taken, rest), (vec![1, 2], None));
    assert!(took >= GATHER && took < GATHER * 3, "{took:?}");
}

#[tokio::test]
async fn a_segment_is_no_longer_than_it_may_be_and_loses_nothing() {
    let half = MOST_BYTES / 2;
    let (taken, rest, took) =
        gathered(&[(half, false), (half - 1, false), (2, false), (3, false)]).await;
    assert_eq!((taken, rest), (vec![half, half - 1], Some(2)));
    assert!(took < GATHER / 2, "{took:?}");
    // One alone may be longer than that.
    let (taken, rest, _) = gathered(&[(MOST_BYTES + 9, true), (1, true)]).await;
    assert_eq!((taken, rest), (vec![MOST_BYTES + 9], None));
    let many = vec![(1, true); MOST_ENTRIES + 1];
    let (taken, _, _) = gathered(&many).await;
    assert_eq!(taken.len(), MOST_ENTRIES);
}

#[tokio::test]
async fn who_gave_up_waiting_is_not_written() {
    let (first, answer) = waiting(1, true);
    drop(answer);
    let (sender, mut queue) = mpsc::channel(1);
    drop(sender);
    let (batch, _) = gather(&mut queue, first).await;
    assert!(batch.waiting.is_empty());
}

#[test]
fn two_segments_have_two_names_and_say_how_long_they_are() {
    let spec = AuditSegmentSpec {
        count: 1,
        bytes: 3,
        entries: vec![waiting(3, false).0.entry],
    };
    let (one, other) = (
        resource(spec.clone()).unwrap(),
        resource(spec.clone()).unwrap(),
    );
    assert_ne!(name(&one), name(&other));
    let expected = serde_json::to_vec(&spec).unwrap().len().to_string();
    let annotations = one.metadata.annotations.unwrap();
    assert_eq!(annotations.get(BYTES_ANNOTATION), Some(&expected));
}

/// How an API server takes a create.
#[derive(Clone, Copy)]
enum Takes {
    AndSays,
    /// It has it, and the answer is lost.
    AndLoses,
    /// It fails, and has it not.
    Not,
    /// It refuses.
    Never,
    /// Somebody else has that name.
    Taken,
}

/// An API server whose answers get lost; those of a real one do not when a test wants it.
#[derive(Clone, Default)]
struct Unreliable(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    takes: Vec<Takes>,
    asked: usize,
    has: BTreeMap<String, Vec<u8>>,
}

impl Unreliable {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, method: &Method, path: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let mut state = self.state();
        let failed = |code: u16, reason: &str| {
            let status = format!(
                r#"{{"kind":"Status","status":"Failure","code":{code},"reason":"{reason}","message":"m"}}"#
            );
            (code, status.into_bytes())
        };
        if method == Method::GET {
            let name = path.rsplit('/').next().unwrap();
            return match state.has.get(name) {
                Some(found) => (200, found.clone()),
                None => failed(404, "NotFound"),
            };
        }
        let made: AuditSegment = serde_json::from_slice(&body).unwrap();
        let takes = state.takes.get(state.asked).copied();
        state.asked += 1;
        if state.has.contains_key(&name(&made)) {
            return failed(409, "AlreadyExists");
        }
        match takes.unwrap_or(Takes::AndSays) {
            Takes::Not => failed(500, "InternalError"),
            Takes::Never => failed(403, "Forbidden"),
            Takes::Taken => failed(409, "AlreadyExists"),
            Takes::AndSays => {
                state.has.insert(name(&made), body.clone());
                (201, body)
            }
            Takes::AndLoses => {
                state.has.insert(name(&made), body);
                failed(504, "Timeout")
            }
        }
    }
}

impl tower::Service<Request<Body>> for Unreliable {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes().to_vec();
            let (code, answer) = server.answer(&parts.method, parts.uri.path(), body);
            let answer = Response::builder().status(code).body(Body::from(answer));
            Ok(answer.unwrap())
        })
    }
}

/// What becomes of one entry, in how many creates, and which segments are there then.
async fn put(takes: &[Takes]) -> (Result<String, IngestError>, usize, Vec<String>) {
    let server = Unreliable::default();
    server.state().takes = takes.to_vec();
    let client = Client::new(server.clone(), NAMESPACE);
    let metrics = AuditMetrics::new(&Registry::new()).unwrap();
    let mut tasks = JoinSet::new();
    let ingest = Ingest::start(&client, &metrics, &mut tasks);
    let put = ingest.put(waiting(9, true).0.entry, true).await;
    assert_eq!(metrics.segments.get(), u64::from(put.is_ok()));
    let state = server.state();
    (put, state.asked, state.has.keys().cloned().collect())
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_segment() {
    let (answer, asked, has) = put(&[Takes::AndLoses]).await;
    assert_eq!((answer, asked), (Ok(has[0].clone()), 2));
    assert_eq!(has.len(), 1);
}

#[tokio::test]
async fn nothing_is_acknowledged_that_the_api_server_has_not() {
    let (answer, asked, has) = put(&[Takes::Not, Takes::Not]).await;
    assert_eq!((answer, asked), (Ok(has[0].clone()), 3));
    for (takes, expected) in [
        (&[Takes::Not; 9][..], 3),
        (&[Takes::Never], 1),
        (&[Takes::Taken; 9], 3),
    ] {
        let (answer, asked, has) = put(takes).await;
        assert_eq!((answer, asked), (Err(IngestError::Unavailable), expected));
        assert!(has.is_empty());
    }
    // A name that somebody has is not ours, whatever is behind it.
    let (answer, asked, has) = put(&[Takes::Taken]).await;
    assert_eq!((answer, asked), (Ok(has[0].clone()), 2));
}
