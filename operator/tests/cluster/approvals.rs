//! Approved by a review, used once.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use chaperone_control::{AccessView, ApprovalState, AskingRule, Cancel, NewApproval, Redeem};
use chaperone_crds::{ApprovalPhase, ApprovalRequest, ApprovalVerdict, Approvers, Review};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{ObjectMeta, PartialObjectMetaExt, Patch, PatchParams};
use serde::Serialize;

use crate::support::{Lab, eventually};

fn rule() -> AskingRule {
    AskingRule {
        policy: "shop/report".to_owned(),
        rule: "deletes".to_owned(),
        generation: 1,
        digest: "ab".repeat(32),
        approvers: Approvers {
            users: Vec::new(),
            groups: vec!["dba".to_owned()],
        },
        quorum: 1,
        timeout_seconds: 20,
        valid_for_seconds: 900,
    }
}

fn new(connection: &str, command: u8) -> NewApproval {
    NewApproval {
        connection: connection.to_owned(),
        delegate: None,
        purpose: Some("nightly".to_owned()),
        command_digest: hex::encode([command; 32]),
        rules: vec![rule()],
        summary: "Delete on public.orders".to_owned(),
        command: "DELETE FROM orders\u{202e}".to_owned(),
        parameters: vec![Some("1".to_owned()), None],
        accesses: vec![AccessView {
            effect: "Delete".to_owned(),
            object: "public.orders".to_owned(),
        }],
        expires_in_seconds: 900,
    }
}

fn redeem(connection: &str, command: u8) -> Redeem {
    let asked = chaperone_policy::ApprovalRule {
        rule: chaperone_policy::RuleRef {
            policy: rule().policy,
            rule: rule().rule,
            generation: 1,
            digest: rule().digest,
        },
        users: Vec::new(),
        groups: vec!["dba".to_owned()],
        quorum: 1,
        timeout: Duration::from_secs(20),
        valid_for: Duration::from_secs(900),
    };
    Redeem {
        connection: connection.to_owned(),
        delegate: None,
        command_digest: hex::encode([command; 32]),
        rule_digest: chaperone_approvals::combined_rule_digest(&[asked]),
        session: "session-1".to_owned(),
    }
}

/// A merge patch of what the admission webhook makes of decisions.
#[derive(Debug, Serialize)]
struct Reviewed {
    spec: Reviews,
}

#[derive(Debug, Serialize)]
struct Reviews {
    reviews: Vec<Review>,
}

async fn review(lab: &Lab, namespace: &str, name: &str, who: &str, verdict: ApprovalVerdict) {
    let mut reviews = lab.approval(namespace, name).await.spec.reviews;
    reviews.push(Review {
        reviewer: who.to_owned(),
        groups: vec!["dba".to_owned()],
        verdict,
        reason: Some("ticket 42".to_owned()),
        at: Time(Timestamp::now()),
    });
    let patch = Patch::Merge(Reviewed {
        spec: Reviews { reviews },
    });
    let api: Api<ApprovalRequest> = lab.api(namespace);
    api.patch(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

struct Case {
    lab: Lab,
    shop: String,
    connection: String,
    token: String,
}

impl Case {
    async fn start() -> Case {
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
        Case {
            lab,
            shop,
            connection: format!("{databases}/orders-db"),
            token,
        }
    }

    async fn ask(&self, command: u8) -> Result<ApprovalState, (StatusCode, String)> {
        let new = new(&self.connection, command);
        self.lab
            .ask("POST", "/v1/approvals", &self.token, &new)
            .await
            .map_err(|(status, refusal)| (status, refusal.reason))
    }

    async fn get(&self, name: &str, wait: u64) -> ApprovalState {
        let path = format!("/v1/approvals/{name}?wait={wait}");
        self.lab.ask("GET", &path, &self.token, &()).await.unwrap()
    }

    async fn redeem(&self, name: &str, command: u8) -> Result<ApprovalState, (StatusCode, String)> {
        let path = format!("/v1/approvals/{name}/redeem");
        let redeem = redeem(&self.connection, command);
        self.lab
            .ask("POST", &path, &self.token, &redeem)
            .await
            .map_err(|(status, refusal)| (status, refusal.message))
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn an_approval_is_waited_for_and_used_exactly_once() {
    let case = Case::start().await;
    let asked = case.ask(1).await.unwrap();
    assert_eq!((asked.phase, asked.created), (ApprovalPhase::Pending, true));
    let again = case.ask(1).await.unwrap();
    assert_eq!(
        (again.name.as_str(), again.created),
        (asked.name.as_str(), false)
    );
    let request = case.lab.approval(&case.shop, &asked.name).await;
    assert_eq!(request.spec.subject.namespace, case.shop);
    assert_eq!(request.spec.subject.service_account, "report");
    assert_eq!(request.spec.subject.pod.as_deref(), Some("report-1"));
    assert_eq!(
        request.spec.operation.command,
        "DELETE FROM orders\\u{202e}"
    );

    let begun = Instant::now();
    assert_eq!(case.get(&asked.name, 1).await.phase, ApprovalPhase::Pending);
    assert!(begun.elapsed() >= Duration::from_millis(900), "it waited");
    assert!(
        case.redeem(&asked.name, 1).await.is_err(),
        "nobody approved yet"
    );

    let begun = Instant::now();
    let (state, ()) = tokio::join!(case.get(&asked.name, 30), async {
        // The subject itself counts for nothing, whatever groups it says it is in.
        let own = format!("system:serviceaccount:{}:report", case.shop);
        review(
            &case.lab,
            &case.shop,
            &asked.name,
            &own,
            ApprovalVerdict::Approve,
        )
        .await;
        review(
            &case.lab,
            &case.shop,
            &asked.name,
            "jane",
            ApprovalVerdict::Approve,
        )
        .await;
    });
    assert_eq!(state.phase, ApprovalPhase::Approved);
    assert!(begun.elapsed() < Duration::from_secs(4), "a watch said so");
    let reviewers: Vec<&str> = state.reviews.iter().map(|r| r.reviewer.as_str()).collect();
    assert_eq!(reviewers, ["jane"]);

    let found = case.ask(1).await.unwrap();
    assert_eq!(
        (found.name.as_str(), found.phase),
        (asked.name.as_str(), ApprovalPhase::Approved)
    );
    let other = case.redeem(&asked.name, 2).await.unwrap_err();
    assert!(other.1.contains("another command"), "{}", other.1);

    let race = futures::future::join_all((0..8).map(|_| case.redeem(&asked.name, 1))).await;
    let (won, lost): (Vec<_>, Vec<_>) = race.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    let won = won.into_iter().next().unwrap().unwrap();
    assert_eq!(won.phase, ApprovalPhase::Consumed);
    assert_eq!(won.reviews.len(), 1);
    assert!(won.approved_at.is_some());
    for lost in lost {
        let (status, message) = lost.unwrap_err();
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(message.contains("used already"), "{message}");
    }
    let status = case
        .lab
        .approval(&case.shop, &asked.name)
        .await
        .status
        .unwrap();
    assert_eq!(status.consumed_by.as_deref(), Some("session-1"));

    // The next time is a new request.
    let next = case.ask(1).await.unwrap();
    assert!(next.created && next.name != asked.name);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn requests_are_bounded_cancelled_and_nobody_elses() {
    let case = Case::start().await;
    // All at once and each twice: one request a tuple.
    let asked = (0..10_u8).chain(0..10).map(|command| case.ask(command));
    let asked = futures::future::join_all(asked).await;
    let mut names: Vec<String> = asked.into_iter().map(|state| state.unwrap().name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 10);
    let (status, reason) = case.ask(99).await.unwrap_err();
    assert_eq!(
        (status, reason.as_str()),
        (StatusCode::TOO_MANY_REQUESTS, "TooManyPending")
    );

    let path = format!("/v1/approvals/{}/cancel", names[0]);
    let why = Cancel {
        why: "gone".to_owned(),
    };
    let cancelled: ApprovalState = case
        .lab
        .ask("POST", &path, &case.token, &why)
        .await
        .unwrap();
    assert_eq!(cancelled.phase, ApprovalPhase::Cancelled);
    case.ask(99).await.unwrap();

    // Denied: not redeemable whatever else is said.
    review(
        &case.lab,
        &case.shop,
        &names[1],
        "jane",
        ApprovalVerdict::Approve,
    )
    .await;
    review(
        &case.lab,
        &case.shop,
        &names[1],
        "joe",
        ApprovalVerdict::Deny,
    )
    .await;
    // An answer that waits for nothing is as old as the watch.
    eventually("the denial counts", Duration::from_secs(10), || async {
        let phase = case.get(&names[1], 0).await.phase;
        (phase == ApprovalPhase::Denied).then_some(())
    })
    .await;

    // Another subject's pod sees none of it.
    let stranger = case.lab.namespace("stranger").await;
    let (namespace, name) = case.connection.split_once('/').unwrap();
    let connection = case.lab.api(namespace).get(name).await.unwrap();
    let pod = case.lab.pod(&stranger, "report-1", &connection).await;
    let token = case.lab.token(&stranger, Some(&pod), "chaperone.dev").await;
    let path = format!("/v1/approvals/{}", names[2]);
    let refused = case
        .lab
        .ask::<ApprovalState>("GET", &path, &token, &())
        .await;
    assert_eq!(refused.unwrap_err().0, StatusCode::NOT_FOUND);
    let path = "/v1/approvals/..%2f..%2fsecrets";
    let refused = case
        .lab
        .ask::<ApprovalState>("GET", path, &case.token, &())
        .await;
    assert_eq!(refused.unwrap_err().0, StatusCode::NOT_FOUND);

    // A request that somebody rewrote grants nothing.
    let api: Api<ApprovalRequest> = case.lab.api(&case.shop);
    let metadata = ObjectMeta {
        annotations: Some([("chaperone.dev/more-rules".to_owned(), "[]".to_owned())].into()),
        ..ObjectMeta::default()
    };
    let patch = Patch::Merge(metadata.into_request_partial::<ApprovalRequest>());
    api.patch_metadata(&names[3], &PatchParams::default(), &patch)
        .await
        .unwrap();
    review(
        &case.lab,
        &case.shop,
        &names[3],
        "jane",
        ApprovalVerdict::Approve,
    )
    .await;
    let path = format!("/v1/approvals/{}", names[3]);
    let refused = case
        .lab
        .ask::<ApprovalState>("GET", &path, &case.token, &())
        .await;
    assert_eq!(refused.unwrap_err().0, StatusCode::BAD_REQUEST);
}

/// A request of command 1; its name.
pub async fn asked(lab: &Lab, token: &str, connection: &str) -> String {
    let asked: ApprovalState = lab
        .ask("POST", "/v1/approvals", token, &new(connection, 1))
        .await
        .unwrap();
    asked.name
}

/// Jane says yes.
pub async fn approve(lab: &Lab, namespace: &str, name: &str) {
    review(lab, namespace, name, "jane", ApprovalVerdict::Approve).await;
}

/// Redeems command 1.
pub async fn use_grant(lab: &Lab, token: &str, connection: &str, name: &str) {
    let path = format!("/v1/approvals/{name}/redeem");
    let used: ApprovalState = lab
        .ask("POST", &path, token, &redeem(connection, 1))
        .await
        .unwrap();
    assert_eq!(used.phase, ApprovalPhase::Consumed);
}
