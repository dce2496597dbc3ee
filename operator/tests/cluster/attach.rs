//! Who is let in.

use axum::http::StatusCode;
use chaperone_control::{AttachAnswer, AttachRequest};
use k8s_openapi::api::core::v1::Pod;

use crate::support::{Lab, yaml};

fn hello() -> AttachRequest {
    AttachRequest {
        version: "0.1.0".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn only_a_verified_pods_own_token_attaches() {
    let lab = Lab::start().await;
    let (shop, databases) = (
        lab.namespace("shop").await,
        lab.namespace("databases").await,
    );
    let connection = lab
        .connection(&databases, "orders-db", "orders.db.svc.cluster.local")
        .await;
    let to = format!("{databases}/orders-db");
    lab.policy(
        &shop,
        "read",
        &to,
        "[{name: r, action: Allow, sql: {effects: [Read]}}]",
    )
    .await;
    let pod = lab.pod(&shop, "report-1", &connection).await;
    let token = lab.token(&shop, Some(&pod), "chaperone.dev").await;
    let attach = async |token: &str| {
        lab.ask::<AttachAnswer>("POST", "/v1/attach", token, &hello())
            .await
    };

    let answer = attach(&token).await.unwrap();
    assert_eq!(answer.pod.namespace, shop);
    assert_eq!(answer.pod.service_account, "report");
    assert_eq!(answer.pod.name, "report-1");
    assert_eq!(Some(answer.pod.uid), pod.metadata.uid);
    assert_eq!(answer.digest_key.expose().len(), 32);
    let [only] = answer.snapshot.connections.as_slice() else {
        panic!("one Connection");
    };
    assert_eq!(only.fault, None);
    assert_eq!(only.credential["password"].expose(), b"hunter2");

    let refused = async |token: &str| {
        let (status, refusal) = attach(token).await.unwrap_err();
        (status, refusal.reason)
    };
    let token_refused = (StatusCode::UNAUTHORIZED, "TokenRefused".to_owned());
    let unbound = lab.token(&shop, None, "chaperone.dev").await;
    assert_eq!(refused(&unbound).await, token_refused);
    let elsewhere = lab
        .token(&shop, Some(&pod), "https://kubernetes.default.svc")
        .await;
    assert_eq!(refused(&elsewhere).await, token_refused);
    assert_eq!(refused("x.y.z").await, token_refused);
    // Signed by nobody: everything else in it is right.
    let mut parts: Vec<&str> = token.split('.').collect();
    parts[2] = "c2lnbmF0dXJl";
    assert_eq!(refused(&parts.join(".")).await, token_refused);

    let imitation: Pod = yaml(&format!(
        "
metadata:
  name: imitation
  namespace: {shop}
  annotations: {{chaperone.dev/connections: '{to}'}}
spec:
  serviceAccountName: report
  schedulingGates: [{{name: example.com/never}}]
  containers:
  - {{name: chaperone, image: 'registry.example/chaperone-sidecar:0.1.0', args: [run]}}
"
    ));
    let imitation = lab.create_pod(&shop, &imitation).await;
    let token = lab.token(&shop, Some(&imitation), "chaperone.dev").await;
    assert_eq!(
        refused(&token).await,
        (StatusCode::FORBIDDEN, "SidecarAltered".to_owned())
    );
}
