//! What is left when the release is gone: the evidence, which can still be verified, and which nobody
//! can alter unseen though no admission policy keeps him from it any more.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a missing field is a failed test"
)]

use anyhow::{Result, ensure};
use chaperone_e2e::clients;
use chaperone_e2e::cluster::auditor::{AUDIT, plugin, until_sessions, verified};
use chaperone_e2e::cluster::chaperone::{READ, SYSTEM, Shop, assert_masked};
use chaperone_e2e::cluster::{Kubectl, shared, unavailable};
use serde_json::Value;

#[test]
fn uninstall_leaves_only_the_evidence() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("leaves")?;
    let pod = shop.agent("report")?;
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    until_sessions(&shop, 1, "Ended")?;
    shop.namespace.until("a checkpoint over all", || {
        Ok((verified()?["log"]["pending"] == 0).then_some(()))
    })?;
    let mut helm = shared()?.helm();
    helm.args(["uninstall", "chaperone", "--namespace", SYSTEM, "--wait"]);
    clients::run(helm, "")?.ok()?;

    for kind in [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "clusterroles",
        "clusterrolebindings",
    ] {
        let left = Kubectl::admin().ok(&["get", kind, "-o", "name"])?;
        assert!(!left.contains("chaperone"), "{kind}: {left}");
    }
    let system = Kubectl::admin().in_namespace(SYSTEM);
    shop.namespace.until("its pods to be gone", || {
        let left = system.ok(&["get", "deployments,services,pods", "-o", "name"])?;
        Ok(left.is_empty().then_some(()))
    })?;
    // New pods start as if we had never been there, and the evidence is whole.
    let plain = shop.workload("Pod", "plain", "[sleep, infinity]");
    shop.namespace.apply(&plain)?;
    shop.namespace.wait_until_ready("plain")?;
    let report = verified()?;
    ensure!(report["log"]["size"].as_u64() > Some(1), "{report}");
    a_segment_altered_by_a_cluster_admin_is_named_by_verify()
}

/// Nothing is in his way now; the log still is.
fn a_segment_altered_by_a_cluster_admin_is_named_by_verify() -> Result<()> {
    let audit = Kubectl::admin().in_namespace(AUDIT);
    let list = audit.json(&["auditsegments"])?;
    let segments = list["items"].as_array().unwrap();
    let altered = segments
        .iter()
        .find(|segment| segment["spec"]["entries"][0]["kind"] == "Segment")
        .unwrap();
    let name = altered["metadata"]["name"].as_str().unwrap();
    let named = |what: &str| -> Result<Value> {
        let said = plugin(&["verify", "--all", "-o", "json"])?;
        ensure!(said.code == Some(1), "{what}: {}", said.all());
        let report: Value = serde_json::from_str(&said.out)?;
        let first = report["breaks"][0].clone();
        ensure!(
            first["file"]
                .as_str()
                .is_some_and(|file| file.contains(name)),
            "{what}: {first}"
        );
        Ok(first)
    };
    // Somebody who hides a statement: other bytes, everything beside them as it was.
    let mut forged = altered.clone();
    let data = forged["spec"]["entries"][0]["data"].as_str().unwrap();
    let middle = data.len() / 2;
    let other = if data.as_bytes()[middle] == b'A' {
        "B"
    } else {
        "A"
    };
    let data = format!("{}{other}{}", &data[..middle], &data[middle + 1..]);
    forged["spec"]["entries"][0]["data"] = data.into();
    audit
        .run_with(&["replace", "-f", "-"], &forged.to_string())?
        .ok()?;
    assert_eq!(named("altered")?["reason"], "SegmentChanged");
    // And who takes it out.
    audit.ok(&["delete", "auditsegment", name])?;
    assert_eq!(named("deleted")?["reason"], "SegmentMissing");
    // Put back as it was, all is well: nothing but the bytes was wrong.
    let mut back = altered.clone();
    back["metadata"] = serde_json::json!({"name": name, "namespace": AUDIT});
    audit
        .run_with(&["create", "-f", "-"], &back.to_string())?
        .ok()?;
    verified().map(|_| ())
}
