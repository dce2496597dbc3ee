//! What resources say about themselves.

use std::time::Duration;

use chaperone_crds::{AccessPolicy, ApprovalPhase, Connection, IdentityProvider};
use chaperone_operator::controllers;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, Secret};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{ListParams, ResourceExt};

use crate::support::{Lab, apply, eventually, yaml};

const SOON: Duration = Duration::from_secs(60);

async fn start() -> Lab {
    let mut lab = Lab::start().await;
    let (context, references) = (lab.context.clone(), lab.references.clone());
    lab.tasks.spawn(async move {
        controllers::run(context, references).await.unwrap();
    });
    lab.leading.send_replace(true);
    lab
}

fn reason(conditions: Vec<Condition>, type_: &str) -> Option<(bool, String, String)> {
    let found = conditions
        .into_iter()
        .find(|condition| condition.type_ == type_)?;
    Some((found.status == "True", found.reason, found.message))
}

/// A PostgreSQL in the cluster; its address.
async fn postgres(lab: &Lab, namespace: &str) -> String {
    let pods: Api<Pod> = lab.api(namespace);
    let pod: Pod = yaml(
        "
metadata: {name: db, labels: {app: db}}
spec:
  containers:
  - name: postgres
    image: localhost/postgres:e2e
    imagePullPolicy: Never
    env: [{name: POSTGRES_PASSWORD, value: hunter2}]
    readinessProbe: {exec: {command: [pg_isready, -h, 127.0.0.1]}, periodSeconds: 1}
",
    );
    apply(&pods, &pod).await;
    eventually("the database is ready", SOON, || async {
        let status = pods.get("db").await.unwrap().status?;
        let ready = status
            .conditions?
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        status.pod_ip.filter(|_| ready)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn a_connection_proves_itself() {
    let lab = start().await;
    let namespace = lab.namespace("databases").await;
    let address = postgres(&lab, &namespace).await;
    lab.connection(&namespace, "orders-db", &address).await;
    let connections: Api<Connection> = lab.api(&namespace);
    let ready = async |expected: &str| {
        eventually(expected, SOON, || async {
            let status = connections.get("orders-db").await.unwrap().status?;
            let found = reason(status.conditions, "Ready")?;
            (found.1 == expected).then_some(found)
        })
        .await
    };
    // The role of the Secret does not exist.
    assert!(!ready("TargetAuthentication").await.0);
    let secrets: Api<Secret> = lab.api(&namespace);
    let superuser =
        "{metadata: {name: agent}, stringData: {username: postgres, password: hunter2}}";
    apply(&secrets, &yaml(superuser)).await;
    let (good, _, message) = ready("PrivilegesWide").await;
    assert!(good && message.contains("is superuser"), "{message}");
    let status = connections.get("orders-db").await.unwrap().status.unwrap();
    assert_eq!(status.target.unwrap(), format!("{address}:5432"));
    assert_eq!(status.workloads, Some(0));

    secrets.delete("agent", &Default::default()).await.unwrap();
    let (good, _, message) = ready("RefNotFound").await;
    assert!(!good && message.contains("agent"), "{message}");
    let events: Api<Event> = lab.api(&namespace);
    eventually("an Event says so", SOON, || async {
        let events = events.list(&ListParams::default()).await.unwrap();
        events
            .into_iter()
            .find(|event| event.reason.as_deref() == Some("RefNotFound"))
    })
    .await;

    // Settled: one more look may still find what the deletion did, and then no write follows another.
    let version = async || {
        connections
            .get("orders-db")
            .await
            .unwrap()
            .resource_version()
    };
    let mut before = version().await;
    let mut writes = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(12)).await;
        let now = version().await;
        if now == before {
            break;
        }
        writes += 1;
        assert!(writes < 3, "a status that is right is left alone");
        before = now;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn special_addresses_are_refused_with_a_condition() {
    let lab = start().await;
    let namespace = lab.namespace("databases").await;
    lab.connection(&namespace, "metadata", "169.254.169.254")
        .await;
    let connections: Api<Connection> = lab.api(&namespace);
    eventually("TargetNotAllowed", SOON, || async {
        let status = connections.get("metadata").await.unwrap().status?;
        reason(status.conditions, "Ready").filter(|found| found.1 == "TargetNotAllowed")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn a_policy_says_what_is_wrong_with_it_and_what_it_misses() {
    let lab = start().await;
    let (shop, databases) = (
        lab.namespace("shop").await,
        lab.namespace("databases").await,
    );
    let to = format!("{databases}/orders-db");
    let rules = "[{name: r, action: Allow, when: 'nonsense(', sql: {effects: [Read]}}]";
    lab.policy(&shop, "broken", &to, rules).await;
    lab.policy(
        &shop,
        "good",
        &to,
        "[{name: r, action: Allow, sql: {effects: [Read]}}]",
    )
    .await;
    let policies: Api<AccessPolicy> = lab.api(&shop);
    let ready = async |name: &str, expected: &str| {
        eventually(expected, SOON, || async {
            let status = policies.get(name).await.unwrap().status?;
            let found = reason(status.conditions, "Ready")?;
            (found.1 == expected).then_some(found.2)
        })
        .await
    };
    let message = ready("broken", "PolicyInvalid").await;
    assert!(message.contains("spec.rules[0].when"), "{message}");
    ready("good", "ConnectionNotFound").await;
    lab.connection(&databases, "orders-db", "10.0.0.1").await;
    ready("good", "Ready").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn policies_and_connections_count_the_workloads_they_are_for() {
    let lab = start().await;
    let (shop, databases) = (
        lab.namespace("shop").await,
        lab.namespace("databases").await,
    );
    let connection = lab.connection(&databases, "orders-db", "10.0.0.1").await;
    let other = lab.connection(&databases, "other-db", "10.0.0.2").await;
    for (name, subject, to) in [
        ("by-account", "serviceAccount: report", "orders-db"),
        (
            "by-label",
            "podSelector: {matchLabels: {app: report}}",
            "orders-db",
        ),
        ("no-such-account", "serviceAccount: nobody", "orders-db"),
        (
            "no-such-label",
            "podSelector: {matchLabels: {app: other}}",
            "orders-db",
        ),
        ("over-another", "serviceAccount: report", "other-db"),
    ] {
        let policy: AccessPolicy = yaml(&format!(
            "
metadata: {{name: {name}}}
spec:
  subjects: [{{{subject}}}]
  connections: ['{databases}/{to}']
"
        ));
        apply(&lab.api(&shop), &policy).await;
    }
    let policies: Api<AccessPolicy> = lab.api(&shop);
    let counted = async |expected: [u32; 5]| {
        let names = [
            "by-account",
            "by-label",
            "no-such-account",
            "no-such-label",
            "over-another",
        ];
        eventually("every policy to say how many", SOON, || async {
            let mut found = [0; 5];
            for (name, found) in names.iter().zip(&mut found) {
                *found = policies.get(name).await.unwrap().status?.workloads?;
            }
            (found == expected).then_some(())
        })
        .await
    };
    counted([0; 5]).await;
    lab.pod(&shop, "report-1", &connection).await;
    lab.pod(&shop, "report-2", &connection).await;
    // Named but not injected: it is on no path of ours.
    let bare: Pod = yaml(&format!(
        "
metadata:
  name: bare
  labels: {{app: report}}
  annotations: {{chaperone.dev/connections: '{databases}/orders-db'}}
spec:
  serviceAccountName: report
  schedulingGates: [{{name: example.com/never}}]
  containers: [{{name: agent, image: 'registry.example/agent:1'}}]
"
    ));
    lab.create_pod(&shop, &bare).await;
    counted([2, 2, 0, 0, 0]).await;
    lab.pod(&shop, "report-3", &other).await;
    counted([2, 2, 0, 0, 1]).await;
    let connections: Api<Connection> = lab.api(&databases);
    eventually("the Connection to say how many", SOON, || async {
        let status = connections.get("orders-db").await.unwrap().status?;
        (status.workloads == Some(2)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn a_workload_short_of_pods_is_tried_again_when_its_connection_appears() {
    let lab = start().await;
    let (shop, databases) = (
        lab.namespace("shop").await,
        lab.namespace("databases").await,
    );
    let quota: Api<ResourceQuota> = lab.api(&shop);
    // Refused by another admission here: what counts is that pods are missing.
    apply(
        &quota,
        &yaml("{metadata: {name: none}, spec: {hard: {pods: '0'}}}"),
    )
    .await;
    let sets: Api<ReplicaSet> = lab.api(&shop);
    let set: ReplicaSet = yaml(&format!(
        "
metadata: {{name: report}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: report}}}}
  template:
    metadata:
      labels: {{app: report}}
      annotations: {{chaperone.dev/connections: '{databases}/orders-db'}}
    spec: {{containers: [{{name: agent, image: 'registry.example/agent:1'}}]}}
"
    ));
    apply(&sets, &set).await;
    let touched = async || {
        let set = sets.get("report").await.unwrap();
        set.annotations().get("chaperone.dev/retry").cloned()
    };
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(touched().await, None);
    lab.connection(&databases, "orders-db", "10.0.0.1").await;
    eventually("the ReplicaSet is touched", SOON, touched).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn the_phase_of_a_request_is_shown_and_never_takes_a_mark_away() {
    let lab = start().await;
    let (shop, databases) = (
        lab.namespace("shop").await,
        lab.namespace("databases").await,
    );
    let connection = lab.connection(&databases, "orders-db", "10.0.0.1").await;
    let pod = lab.pod(&shop, "report-1", &connection).await;
    let token = lab.token(&shop, Some(&pod), "chaperone.dev").await;
    let to = format!("{databases}/orders-db");
    let asked = crate::approvals::asked(&lab, &token, &to).await;
    let phase = async |expected: ApprovalPhase| {
        eventually(expected.as_str(), SOON, || async {
            let status = lab.approval(&shop, &asked).await.status?;
            (status.phase == Some(expected)).then_some(status)
        })
        .await
    };
    let status = phase(ApprovalPhase::Pending).await;
    let waits = reason(status.conditions, "Ready").unwrap();
    assert_eq!((waits.0, waits.1.as_str()), (false, "ApprovalPending"));
    crate::approvals::approve(&lab, &shop, &asked).await;
    phase(ApprovalPhase::Approved).await;
    crate::approvals::use_grant(&lab, &token, &to, &asked).await;
    phase(ApprovalPhase::Consumed).await;
    eventually("Ready is written beside the mark", SOON, || async {
        let status = lab.approval(&shop, &asked).await.status?;
        let ready = reason(status.conditions.clone(), "Ready")?;
        let mark = reason(status.conditions, "Consumed")?;
        (ready.0 && mark.0 && status.consumed_by.is_some()).then_some(())
    })
    .await;
}

/// A P-256 key of nobody (RFC 7517, appendix A.1).
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn an_identity_provider_says_whether_its_keys_are_there() {
    let lab = start().await;
    // Cluster-scoped: named as no other test's.
    let name = lab.namespace("corp").await;
    let providers: Api<IdentityProvider> = Api::all(lab.client.clone());
    let provider = |jwks: &str| -> IdentityProvider {
        yaml(&format!(
            "
apiVersion: chaperone.dev/v1alpha1
kind: IdentityProvider
metadata: {{name: {name}}}
spec:
  issuer: https://id.example.invalid
  audiences: [chaperone]
  jwks: {jwks}
  username: {{claim: sub, prefix: 'corp:'}}
"
        ))
    };
    let ready = async |expected: &str| {
        eventually(expected, SOON, || async {
            let status = providers.get(&name).await.unwrap().status?;
            let found = reason(status.conditions, "Ready")?;
            (found.1 == expected).then_some(found)
        })
        .await
    };
    apply(&providers, &provider("{discovery: true}")).await;
    let (good, _, message) = ready("TargetUnreachable").await;
    assert!(!good && message.contains("tokens are refused"), "{message}");
    apply(&providers, &provider("{inline: '{\"keys\":[]}'}")).await;
    let (good, _, message) = ready("Invalid").await;
    assert!(!good && message.contains("spec.jwks.inline"), "{message}");
    apply(&providers, &provider(&format!("{{inline: '{KEYS}'}}"))).await;
    assert!(ready("Ready").await.0);
    let found = lab.context.stores.provider(&name).unwrap();
    assert_eq!(found.spec.jwks.inline.as_deref(), Some(KEYS));
    providers.delete(&name, &Default::default()).await.unwrap();
}
