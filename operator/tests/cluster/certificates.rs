//! Serving certificates as the Secret has them.

use std::sync::Arc;
use std::time::Duration;

use chaperone_operator::admin::Readiness;
use chaperone_operator::certificates::{self, Resolver, SECRET, renew, to_secret};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;

use crate::support::{Lab, eventually};

/// As after months in which no operator ran, or under a clock that was set.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn an_expired_certificate_is_replaced_and_its_authority_stays() {
    let mut lab = Lab::start().await;
    let names = ["chaperone-operator.chaperone-system.svc".to_owned()];
    let long_ago = Timestamp::now() - SignedDuration::from_hours(24 * 200);
    let old = renew(None, &names, long_ago).unwrap().unwrap();
    assert!(old.ends < Timestamp::now());
    let secrets: Api<Secret> = lab.api("chaperone-system");
    let _ = secrets.delete(SECRET, &Default::default()).await;
    let made = to_secret(&old, None);
    secrets.create(&PostParams::default(), &made).await.unwrap();

    let (authorities, trusted) = watch::channel(Arc::default());
    let resolver = Arc::new(Resolver::default());
    let readiness = Readiness::default();
    let (context, end) = (lab.context.clone(), &lab.context.metrics.certificate_end);
    lab.tasks.spawn(certificates::follow(
        context.clone(),
        resolver,
        authorities,
        readiness,
    ));
    let within = Duration::from_secs(20);
    eventually(
        "the expired one is served, for want of another",
        within,
        || async { (end.get() == old.ends.as_second()).then_some(()) },
    )
    .await;
    lab.tasks.spawn(certificates::maintain(context));
    eventually("a valid one is served", within, || async {
        (end.get() > Timestamp::now().as_second()).then_some(())
    })
    .await;
    // Sidecars that were given the authority months ago still take its word.
    assert_eq!(**trusted.borrow(), old.authorities());
}
