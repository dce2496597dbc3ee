//! What is done to the operator while agents work: killed at random, and upgraded. One after the
//! other, as each takes the ground from under the other's feet.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a missing field is a failed test"
)]

use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use chaperone_e2e::cluster::auditor::{sessions, until_sessions, verified};
use chaperone_e2e::cluster::chaperone::{
    HOST, READ, SYSTEM, Shop, assert_masked, operator_logs, upgrade,
};
use chaperone_e2e::cluster::{Kubectl, shared, unavailable};
use chaperone_e2e::lab;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Sessions that the agent opens while operators die.
const SESSIONS: usize = 60;

#[test]
fn operator_restart_and_leader_change_lose_nothing() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let _turn = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|held| held.into_inner());
    let shop = Shop::new("kills")?;
    // Its own command and not one that is executed in it: that would end with the connection to it.
    let script = format!(
        "for n in $(seq {SESSIONS}); do psql -XAt -h {HOST} -d orders -c \"SELECT 'did ' || $n\" \
         -c 'DROP TABLE orders' 2>&1; sleep 0.3; done; echo all done; sleep infinity"
    );
    let command = format!("[sh, -c, {}]", serde_json::to_string(&script)?);
    shop.namespace
        .apply(&shop.annotated("Deployment", "report", &command))?;
    let pod = shop.pod("report")?;
    let said = || -> Result<String> {
        let said = shop
            .namespace
            .kubectl()
            .run(&["logs", &pod, "-c", "agent"])?;
        Ok(said.out)
    };
    let until = |text: &str| {
        shop.namespace.until(text, || {
            let said = said()?;
            Ok(said.contains(text).then_some(said))
        })
    };
    until("did 3").with_context(operator_logs)?;
    let system = Kubectl::admin().in_namespace(SYSTEM);
    // The leader at every second time, whoever comes first at the others.
    for turn in 0..6 {
        let lease = system.json(&["lease", "chaperone-operator"])?;
        let leader = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        let pods = system.ok(&[
            "get",
            "pods",
            "-l",
            "app.kubernetes.io/name=chaperone",
            "-o",
            "name",
        ])?;
        let victim = pods
            .lines()
            .find(|pod| (turn % 2 == 0) == pod.ends_with(leader))
            .or(pods.lines().next())
            .map(str::to_owned);
        if let Some(victim) = victim {
            system.run(&[
                "delete",
                &victim,
                "--force",
                "--grace-period=0",
                "--wait=false",
            ])?;
        }
        sleep(Duration::from_secs(4));
    }
    let said = until("all done")?;
    let done = said.lines().filter(|line| line.starts_with("did ")).count();
    assert_eq!(done, SESSIONS, "{said}");
    system.ok(&[
        "rollout",
        "status",
        "deployment/chaperone-operator",
        "--timeout=120s",
    ])?;
    let found = until_sessions(&shop, SESSIONS, "Ended")?;
    let sum = |field: &str| -> u64 { found.iter().filter_map(|one| one[field].as_u64()).sum() };
    // Of each session: psql's own application_name, the SELECT, and the DROP.
    let counted = (sum("allowed"), sum("denied"));
    assert_eq!(counted, (2 * SESSIONS as u64, SESSIONS as u64));
    shop.namespace
        .until("every entry to have its checkpoint", || {
            let report = verified()?;
            Ok((report["log"]["pending"] == 0).then_some(()))
        })
        .with_context(operator_logs)
}

#[test]
fn helm_upgrade_keeps_sessions() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let _turn = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|held| held.into_inner());
    let shop = Shop::new("upgrade")?;
    let pod = shop.agent("report")?;
    let script = format!(
        "(for n in $(seq 600); do echo \"SELECT 'still ' || $n;\"; sleep 0.2; done) | \
         psql -XAt -h {HOST} -d orders -f - 2>&1"
    );
    let mut live = shop.in_background(&pod, &script)?;
    live.until("still 1")?;
    shared()?.load_program(
        "localhost/chaperone-sidecar:next",
        &lab::binaries()?.sidecar,
    )?;
    upgrade(&[
        "--set",
        "sidecar.image.tag=next,sidecar.acceptedImages={localhost/chaperone-sidecar:e2e}",
    ])?;
    let before = live.so_far()?.out.lines().count();
    shop.namespace.until("the same session to go on", || {
        let now = live.so_far()?;
        Ok((now.code.is_none() && now.out.lines().count() > before + 10).then_some(()))
    })?;
    // It is told of policies by the new operator.
    shop.policy(
        "- {name: nothing, action: Deny, sql: {effects: [Read], relations: ['public.*']}}",
    )?;
    shop.policy("- {name: read, action: Allow, sql: {effects: [Read], relations: ['public.*']}}")?;
    // A new pod has the new sidecar, and both are served.
    let second = shop.agent("second")?;
    let spec = shop.namespace.kubectl().json(&["pod", &second])?;
    assert_eq!(
        spec["spec"]["initContainers"][0]["image"],
        "localhost/chaperone-sidecar:next"
    );
    assert_masked(&shop.psql(&second, READ)?.ok()?);
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    assert!(!sessions(&shop)?.is_empty());
    upgrade(&[])?;
    Ok(())
}
