//! The operator goes away and comes back. On a cluster of its own: others would notice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::sync::Mutex;

use anyhow::Result;
use chaperone_e2e::cluster::auditor::{AUDIT, sessions, verified};
use chaperone_e2e::cluster::chaperone::{READ, RULES, SYSTEM, Shop, assert_masked, upgrade};
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

/// Has the API server refuse every AuditSegment.
const NO_SEGMENTS: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-segments}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [chaperone.dev], apiVersions: ['*'], resources: [auditsegments], operations: [CREATE]}
  validations: [{expression: 'false', message: no more segments}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-segments}
spec: {policyName: no-segments, validationActions: [Deny]}
";

#[test]
fn an_api_server_that_refuses_evidence_loses_none_and_nothing_runs_unrecorded() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let _turn = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|held| held.into_inner());
    let shop = Shop::new("refused")?;
    // What is to be in the log before it runs, besides what is not.
    let strict = format!(
        "{RULES}\n  - name: strict\n    action: Allow\n    durability: Replicated\n    \
         sql: {{effects: [Modify], relations: [public.orders]}}"
    );
    shop.policy(&strict)?;
    let pod = shop.agent("report")?;
    let change = "UPDATE orders SET note = 'changed' WHERE id = 7";
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    shop.namespace.until("the policy to be there", || {
        Ok((shop.psql(&pod, change)?.code == Some(0)).then_some(()))
    })?;
    let before = until_ended(&shop, 2)?;
    let admin = Kubectl::admin();
    let segments = || -> Result<usize> {
        let names = admin.clone().in_namespace(AUDIT);
        Ok(names
            .ok(&["get", "auditsegments", "-o", "name"])?
            .lines()
            .count())
    };
    admin.apply(NO_SEGMENTS)?;
    let lift = || {
        admin.ok(&[
            "delete",
            "validatingadmissionpolicybinding/no-segments",
            "validatingadmissionpolicy/no-segments",
        ])
    };
    let refused = (|| -> Result<()> {
        // What must be in the log first cannot be, and does not reach the database.
        let denied = shop.namespace.until("the API server to refuse", || {
            let said = shop.psql(&pod, change)?;
            Ok((said.code != Some(0)).then_some(said))
        })?;
        assert!(denied.err.contains("CannotRecord"), "{}", denied.all());
        let unrecorded = "UPDATE orders SET note = 'unrecorded' WHERE id = 8";
        let denied = shop.psql(&pod, unrecorded)?;
        assert!(denied.err.contains("CannotRecord"), "{}", denied.all());
        let count = segments()?;
        // What need not goes on, and is kept where the sidecar is.
        for _ in 0..3 {
            assert_masked(&shop.psql(&pod, READ)?.ok()?);
        }
        assert_eq!(segments()?, count, "nothing is taken in");
        Ok(())
    })();
    lift()?;
    refused?;
    // Once it takes them again all of it is there, in the same chain.
    until_ended(&shop, before + 5)?;
    shop.namespace.until("all to have a checkpoint", || {
        Ok((verified()?["log"]["pending"] == 0).then_some(()))
    })?;
    shop.namespace
        .until("what must be in the log to run again", || {
            Ok((shop.psql(&pod, change)?.code == Some(0)).then_some(()))
        })?;
    let kept = shop
        .psql(&pod, "SELECT note FROM orders WHERE id = 8")?
        .ok()?;
    assert!(kept.contains("note 8"), "{kept}");
    Ok(())
}

/// How many sessions ended, once so many have.
fn until_ended(shop: &Shop, least: usize) -> Result<usize> {
    shop.namespace.until("sessions that ended", || {
        let found = sessions(shop)?;
        let ended = found.iter().filter(|one| one["state"] == "Ended").count();
        Ok((ended >= least && ended == found.len()).then_some(ended))
    })
}
