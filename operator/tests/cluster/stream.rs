//! Changes arrive, and streams end.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use chaperone_control::{MOST_STREAMS, Snapshot, StreamEvent};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};

use crate::support::{Lab, apply, next, yaml};

const SOON: Duration = Duration::from_secs(2);

async fn snapshot(body: &mut axum::body::Body, within: Duration) -> Snapshot {
    let until = Instant::now() + within;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match next(body, left).await.expect("the stream goes on") {
            StreamEvent::Snapshot(snapshot) => return *snapshot,
            StreamEvent::Heartbeat { .. } => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn a_change_is_at_the_sidecar_within_two_seconds() {
    let lab = Lab::start().await;
    let (shop, databases) = (
        lab.namespace("shop").await,
        lab.namespace("databases").await,
    );
    let connection = lab
        .connection(&databases, "orders-db", "orders.db.svc.cluster.local")
        .await;
    let pod = lab.pod(&shop, "report-1", &connection).await;
    let token = lab.token(&shop, Some(&pod), "chaperone.dev").await;
    let response = lab.request("GET", "/v1/stream", &token, &()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body();
    let first = snapshot(&mut body, SOON).await;
    assert!(first.connections[0].policies.is_empty());

    let to = format!("{databases}/orders-db");
    lab.policy(
        &shop,
        "read",
        &to,
        "[{name: r, action: Allow, sql: {effects: [Read]}}]",
    )
    .await;
    let second = snapshot(&mut body, SOON).await;
    assert_eq!(second.connections[0].policies.len(), 1);
    assert!(second.generation > first.generation);

    let pods: Api<Pod> = lab.api(&shop);
    let label: Pod = yaml("{metadata: {labels: {tier: gold}}}");
    let merge = PatchParams::default();
    pods.patch("report-1", &merge, &Patch::Merge(&label))
        .await
        .unwrap();
    let third = snapshot(&mut body, SOON).await;
    assert_eq!(third.labels["tier"], "gold");

    // Another replica, or this one after a restart, does not know what the sidecar has.
    let known = format!("/v1/stream?generation={}", third.generation);
    let other = Lab::start().await;
    let response = other.request("GET", &known, &token, &()).await;
    let fourth = snapshot(&mut response.into_body(), SOON).await;
    assert!(fourth.generation > third.generation);
    // This one does, and says so by a heartbeat at most.
    let response = lab.request("GET", &known, &token, &()).await;
    let line = next(&mut response.into_body(), SOON).await.unwrap();
    assert!(
        matches!(line, StreamEvent::Heartbeat { generation, .. } if generation == third.generation)
    );

    let secrets: Api<Secret> = lab.api(&databases);
    let rotated = "{metadata: {name: agent}, stringData: {username: agent, password: rotated}}";
    apply(&secrets, &yaml(rotated)).await;
    let fifth = snapshot(&mut body, Duration::from_secs(45)).await;
    let credential = &fifth.connections[0].credential;
    assert_eq!(credential["password"].expose(), b"rotated");

    secrets
        .delete("agent", &DeleteParams::default())
        .await
        .unwrap();
    let sixth = snapshot(&mut body, Duration::from_secs(45)).await;
    assert_eq!(
        sixth.connections[0].fault.as_ref().unwrap().reason,
        "RefNotFound"
    );
    assert!(sixth.connections[0].credential.is_empty());

    pods.delete("report-1", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    let until = Instant::now() + SOON;
    while next(&mut body, SOON).await.is_some() {
        assert!(
            Instant::now() < until,
            "the stream of a pod that is gone goes on"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn streams_of_a_pod_are_bounded_and_given_back() {
    let lab = Lab::start().await;
    let (shop, databases) = (
        lab.namespace("shop").await,
        lab.namespace("databases").await,
    );
    let connection = lab
        .connection(&databases, "orders-db", "orders.db.svc.cluster.local")
        .await;
    let pod = lab.pod(&shop, "report-1", &connection).await;
    let token = lab.token(&shop, Some(&pod), "chaperone.dev").await;
    let open = async || lab.request("GET", "/v1/stream", &token, &()).await;
    let mut streams = Vec::new();
    for _ in 0..MOST_STREAMS {
        streams.push(open().await);
    }
    assert!(
        streams
            .iter()
            .all(|stream| stream.status() == StatusCode::OK)
    );
    assert_eq!(open().await.status(), StatusCode::TOO_MANY_REQUESTS);
    streams.pop();
    assert_eq!(open().await.status(), StatusCode::OK);
}
