//! The operator goes away and comes back. On a cluster of its own: others would notice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::sync::Mutex;

use anyhow::Result;
use chaperone_e2e::cluster::chaperone::{READ, SYSTEM, Shop, assert_masked, upgrade};
use chaperone_e2e::cluster::{Kubectl, unavailable};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn leave() -> Result<()> {
    let system = Kubectl::admin().in_namespace(SYSTEM);
    system.ok(&["scale", "deployment/chaperone-operator", "--replicas=0"])?;
    system
        .ok(&[
            "wait",
            "pod",
            "-l",
            "app.kubernetes.io/name=chaperone",
            "--for=delete",
            "--timeout=60s",
        ])
        .map(|_| ())
}

fn come_back() -> Result<()> {
    let system = Kubectl::admin().in_namespace(SYSTEM);
    system.ok(&["scale", "deployment/chaperone-operator", "--replicas=2"])?;
    system
        .ok(&[
            "rollout",
            "status",
            "deployment/chaperone-operator",
            "--timeout=90s",
        ])
        .map(|_| ())
}

#[test]
fn past_its_validity_a_pod_denies_and_recovers_by_itself() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let _turn = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|held| held.into_inner());
    let shop = Shop::new("validity")?;
    upgrade(&["--set", "snapshotValidFor=40s"])?;
    let pod = shop.agent("report")?;
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    leave()?;
    shop.namespace.until("everything to be denied", || {
        let said = shop.psql(&pod, READ)?;
        Ok(said.err.contains("SnapshotExpired").then_some(()))
    })?;
    come_back()?;
    shop.namespace
        .until("the same pod to be served again", || {
            Ok((shop.psql(&pod, READ)?.code == Some(0)).then_some(()))
        })?;
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    upgrade(&[])
}

#[test]
fn live_sessions_outlast_the_operator() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let _turn = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|held| held.into_inner());
    let shop = Shop::governed("outage")?;
    let pod = shop.agent("report")?;
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    leave()?;
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    // Nothing starts ungoverned meanwhile.
    let bare = shop.workload("Pod", "unseen", "[sleep, infinity]");
    shop.namespace.kubectl().refused(&bare)?;
    come_back()?;
    assert_masked(&shop.psql(&shop.agent("second")?, READ)?.ok()?);
    Ok(())
}
