//! The plugin on a real Kubernetes: evidence read and verified, requests answered, the
//! installation looked over.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::process::Command;

use anyhow::{Context, Result};
use chaperone_e2e::cluster::chaperone::{RAW, READ, Shop, assert_masked, operator_logs};
use chaperone_e2e::cluster::{Kubectl, Namespace, unavailable};
use chaperone_e2e::{clients, lab};
use serde_json::Value;
use xtask::process::Scratch;

/// The newest session of this shop's subject that `fits`.
fn session(shop: &Shop, fits: impl Fn(&Value) -> bool) -> Result<Value> {
    let subject = format!("{}/report-agent", shop.namespace.name());
    shop.namespace
        .until("a session in the log", || {
            let listed = Kubectl::admin().plugin_json(&["sessions", "--subject", &subject])?;
            let sessions = listed.as_array().cloned().unwrap_or_default();
            Ok(sessions.into_iter().rev().find(|session| fits(session)))
        })
        .with_context(operator_logs)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn every_command_works_on_a_cluster() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let admin = Kubectl::admin();
    let shop = Shop::new("plugin")?;
    let pod = shop.agent("report")?;
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    let denied = shop.psql(&pod, "DROP TABLE orders")?;
    assert!(denied.err.contains("NotCovered"), "{}", denied.all());

    let read = session(&shop, |s| s["denied"] == 0 && s["state"] == "Ended")?;
    assert_eq!(text(&read["connection"]), shop.connection_name());
    let refused = session(&shop, |s| s["denied"] == 1 && s["state"] == "Ended")?;
    let (read, refused) = (text(&read["id"]), text(&refused["id"]));
    let table = admin.plugin(&["sessions", "--decision", "deny"])?.ok()?;
    assert!(table.contains(&refused), "{table}");

    let shown = admin.plugin(&["show", &read[..12]])?.ok()?;
    assert!(
        shown.contains("SELECT name, email FROM customers"),
        "{shown}"
    );
    let view = admin.plugin_json(&["show", &refused])?;
    let entries = view["entries"].as_array().cloned().unwrap_or_default();
    let denial = entries
        .iter()
        .find(|entry| entry["decision"]["reason"] == "NotCovered")
        .with_context(|| format!("no denial in {view}"))?;
    let place = format!("{refused}/{}", denial["sequence"]);
    let why = admin.plugin(&["why", &place])?.ok()?;
    assert!(
        why.contains("The least that would have allowed it"),
        "{why}"
    );

    let replayed = admin.plugin(&["replay", &read])?.ok()?;
    assert!(replayed.contains("[masked"), "{replayed}");
    assert!(!replayed.contains(RAW), "{replayed}");
    let raw = admin.plugin(&["replay", &read, "--raw", "client"])?.ok()?;
    assert!(raw.contains(READ), "{raw:?}");

    // By the cluster's own word, by a fingerprint, and not by another's.
    let own = admin.plugin_json(&["verify", "--all"])?;
    assert_eq!(
        (&own["ok"], &own["keyGiven"]),
        (&true.into(), &false.into())
    );
    let fingerprint = text(&own["key"]);
    let told = shop.namespace.until("a checkpoint over all of it", || {
        let told = admin
            .plugin(&["verify", &read, "--key", &fingerprint])?
            .ok()?;
        Ok(told.contains("whole and unchanged").then_some(told))
    })?;
    assert!(told.contains("checkpoint"), "{told}");
    let log = &admin.plugin_json(&["verify"])?["log"];
    assert!(log["checkpoints"].as_u64() >= Some(1), "{log}");
    assert!(log["size"].as_u64() >= Some(1), "{log}");
    assert_eq!(text(&log["root"]).len(), 64, "{log}");
    let other = admin.plugin(&["verify", "--key", "SHA256:somebody-elses"])?;
    assert_eq!(other.code, Some(1), "{}", other.all());
    assert!(other.out.contains("KeyMismatch"), "{}", other.out);

    // What is handed on proves itself without the cluster, to a second reader too; cut, to nobody.
    let scratch = Scratch::new("bundle")?;
    let file = |name: &str| scratch.path().join(name).to_string_lossy().into_owned();
    let bundle = file("read.tar");
    admin.plugin(&["export", &read, "--to", &bundle])?.ok()?;
    let offline = |bundle: &str| -> Result<(bool, bool)> {
        let mut first = Command::new(&lab::binaries()?.plugin);
        first.args(["verify", "--bundle", bundle, "--key", &fingerprint]);
        let mut second = clients::verifier("verify.py")?;
        second.arg(bundle);
        let second: Value = serde_json::from_str(&clients::run(second, "")?.out)?;
        Ok((
            clients::run(first, "")?.code == Some(0),
            second["ok"] == true && second["key"] == fingerprint,
        ))
    };
    assert_eq!(offline(&bundle)?, (true, true));
    let mut bytes = std::fs::read(&bundle)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let changed = file("changed.tar");
    std::fs::write(&changed, bytes)?;
    assert_eq!(offline(&changed)?, (false, false));

    // An auditor may, a stranger may not.
    let stranger = Kubectl::admin().impersonating("mallory", &["system:authenticated"]);
    let refused = stranger.plugin(&["sessions"])?;
    assert_eq!(refused.code, Some(2), "{}", refused.all());
    assert!(refused.err.contains("chaperone-auditor"), "{}", refused.err);
    Ok(())
}

#[test]
fn approving_with_the_plugin() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("answered")?;
    let namespace = shop.namespace.name();
    Kubectl::admin().ok(&[
        "create",
        "clusterrolebinding",
        namespace,
        "--clusterrole=chaperone-approver",
        "--group=dba",
    ])?;
    let ada = Kubectl::admin().impersonating("ada", &["dba", "system:authenticated"]);
    let pod = shop.agent("report")?;
    let delete = "DELETE FROM orders WHERE id = 7";
    let held = shop.psql(&pod, delete)?;
    assert!(held.err.contains("ApprovalPending"), "{}", held.all());
    let name = shop.pending()?;
    let listed = ada.plugin_json(&["approvals"])?;
    let listed = listed.as_array().cloned().unwrap_or_default();
    let waiting = |request: &Value| {
        text(&request["name"]) == name
            && request["request"]["metadata"]["namespace"] == namespace
            && request["phase"] == "Pending"
    };
    assert!(listed.iter().any(waiting), "{listed:?}");

    let told = ada.plugin(&["approvals", &name])?.ok()?;
    assert!(told.contains(delete), "{told}");
    let command = format!("kubectl chaperone approve {name} -n {namespace}");
    assert!(told.contains(&command), "{told}");

    // No in one sentence: who may not is told what he lacks.
    let bob = Kubectl::admin()
        .in_namespace(namespace)
        .impersonating("bob", &["system:authenticated"]);
    Kubectl::admin().ok(&[
        "create",
        "clusterrolebinding",
        &format!("{namespace}-bob"),
        "--clusterrole=chaperone-approver",
        "--user=bob",
    ])?;
    let refused = bob.plugin(&["approve", &name])?;
    assert_eq!(refused.code, Some(1), "{}", refused.all());
    assert!(
        refused.err.contains("asks for a review by"),
        "{}",
        refused.err
    );
    assert_eq!(refused.err.trim().lines().count(), 1, "{}", refused.err);

    // The name is the only one of its kind, so its namespace need not be told.
    let approved = ada
        .plugin(&["approve", &name, "--reason", "ticket 42"])?
        .ok()?;
    assert!(approved.contains("runs once"), "{approved}");
    shop.namespace.until("the grant", || {
        let request = ada.plugin_json(&["approvals", &name])?;
        Ok((request["phase"] == "Approved").then_some(()))
    })?;
    let again = ada.plugin(&["approve", &name])?;
    assert_eq!(again.code, Some(1), "{}", again.all());
    assert!(again.err.contains("counts once"), "{}", again.err);
    let done = shop.psql(&pod, delete)?;
    assert_eq!(done.out.trim(), "DELETE 1", "{}", done.all());

    let other = "DELETE FROM orders WHERE id = 8";
    let held = shop.psql(&pod, other)?;
    assert!(held.err.contains("ApprovalPending"), "{}", held.all());
    let name = shop.pending()?;
    let denied = ada
        .plugin(&["deny", &name, "-n", namespace, "-o", "json"])?
        .ok()?;
    assert!(denied.contains("\"Denied\""), "{denied}");
    let nobody = ada.plugin(&["approve", "ar-zzzzz"])?;
    assert_eq!(nobody.code, Some(2), "{}", nobody.all());
    Ok(())
}

/// What `doctor` says of one thing.
fn finding<'v>(view: &'v Value, check: &str, about: &str) -> Option<&'v Value> {
    let checks = view["checks"].as_array()?;
    checks
        .iter()
        .find(|line| line["check"] == check && text(&line["about"]).starts_with(about))
}

fn doctor() -> Result<(Option<i32>, Value)> {
    let said = Kubectl::admin().plugin(&["doctor", "-o", "json"])?;
    let view = serde_json::from_str(&said.out).with_context(|| said.all())?;
    Ok((said.code, view))
}

#[test]
fn doctor_finds_what_is_wrong() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::governed("patient")?;
    shop.agent("report")?;
    let (_, view) = doctor()?;
    for check in ["operator", "webhooks", "admission", "resources", "store"] {
        assert_eq!(finding(&view, check, "").unwrap()["result"], "OK", "{view}");
    }
    let healthy = format!("{}/", shop.namespace.name());
    assert_eq!(finding(&view, "governed pods", &healthy), None, "{view}");
    let open = finding(&view, "tls", &shop.connection_name()).unwrap();
    assert_eq!(open["result"], "WARN", "{view}");

    // A pod from before its namespace was governed; a policy that only watches; a Connection
    // that leads nowhere, with its Secret beside agents.
    let late = Namespace::restricted("late")?;
    late.apply(
        &shop.workload("Pod", "before", "[sleep, infinity]").replace(
            "serviceAccountName: report-agent, ",
            "automountServiceAccountToken: false, ",
        ),
    )?;
    Kubectl::admin().ok(&[
        "label",
        "namespace",
        late.name(),
        "chaperone.dev/governed=true",
    ])?;
    late.apply(
        "apiVersion: chaperone.dev/v1alpha1\nkind: Connection\nmetadata: {name: lost}\nspec:\n  \
         postgres: {host: nowhere.example, credential: {secret: {name: absent}}}\n",
    )?;
    Kubectl::admin().in_namespace(shop.namespace.name()).ok(&[
        "patch",
        "accesspolicy/report-agent",
        "--type=merge",
        "-p",
        r#"{"spec":{"enforcement":"DryRun"}}"#,
    ])?;
    let (code, view) = doctor()?;
    assert_eq!(code, Some(1), "{view}");
    let pod = finding(&view, "governed pods", &format!("{}/before", late.name())).unwrap();
    assert_eq!(pod["result"], "FAIL", "{view}");
    assert!(text(&pod["message"]).contains("without a sidecar"), "{pod}");
    let policy = format!("{}/report-agent", shop.namespace.name());
    assert_eq!(
        finding(&view, "dry runs", &policy).unwrap()["result"],
        "WARN"
    );
    let lost = format!("{}/lost", late.name());
    assert_eq!(finding(&view, "secrets", &lost).unwrap()["result"], "WARN");
    assert_ne!(
        finding(&view, "connections", &lost).unwrap()["result"],
        "OK"
    );
    let table = Kubectl::admin().plugin(&["doctor"])?;
    assert_eq!(table.code, Some(1), "{}", table.all());
    assert!(table.out.contains("FAIL"), "{}", table.out);

    // What may not be seen is not said to be fine.
    let stranger = Kubectl::admin().impersonating("mallory", &["system:authenticated"]);
    let blind = stranger.plugin(&["doctor"])?;
    assert_eq!(blind.code, Some(1), "{}", blind.all());
    assert!(blind.out.contains("cannot be checked"), "{}", blind.out);
    Ok(())
}
