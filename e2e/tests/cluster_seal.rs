//! Evidence that a cluster keeps and cannot read. The AuditStore is one for the whole cluster: so
//! this is a program of its own, with one test.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a missing field is a failed test"
)]

use anyhow::{Context, Result};
use chaperone_e2e::cluster::chaperone::{READ, Shop, operator_logs};
use chaperone_e2e::cluster::{Kubectl, unavailable};
use serde_json::{Value, json};
use xtask::process::Scratch;
use xtask::workspace;

/// Whom the AuditStore has sessions sealed for, until this drops.
struct SealedFor;

impl SealedFor {
    fn these(recipients: &[&str]) -> Result<SealedFor> {
        set(&json!({"recipients": recipients}))?;
        Ok(SealedFor)
    }
}

impl Drop for SealedFor {
    fn drop(&mut self) {
        let _ = set(&Value::Null);
    }
}

fn set(seal: &Value) -> Result<()> {
    let patch = json!({"spec": {"seal": seal}}).to_string();
    Kubectl::admin().ok(&[
        "patch",
        "auditstore",
        "default",
        "--type=merge",
        "-p",
        &patch,
    ])?;
    Ok(())
}

#[test]
fn the_operator_cannot_read_sealed_recordings() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let vectors = std::fs::read_to_string(workspace::root().join("evidence/vectors/age.txt"))?;
    let of = |word: &str| vectors.lines().find_map(|line| line.strip_prefix(word));
    let (identity, auditor) = (of("identity ").unwrap(), of("recipient ").unwrap());
    let scratch = Scratch::new("auditor")?;
    let key = scratch.path().join("key.txt");
    std::fs::write(&key, format!("{identity}\n"))?;
    let key = key.to_string_lossy();
    let admin = Kubectl::admin();
    let refused = admin.run(&[
        "patch",
        "auditstore",
        "default",
        "--type=merge",
        "-p",
        r#"{"spec":{"seal":{"recipients":["ssh-ed25519 AAAA"]}}}"#,
    ])?;
    assert_ne!(refused.code, Some(0), "{}", refused.all());

    let shop = Shop::new("seal")?;
    let sealed = SealedFor::these(&[auditor])?;
    let pod = shop.agent("report")?;
    shop.psql(&pod, READ)?.ok()?;
    // What people look at says what the sidecar told of it; what is kept says nothing.
    let views = shop.namespace.until("a session that has ended", || {
        let views = shop.namespace.kubectl().json(&["sessions.chaperone.dev"])?;
        let ended = |one: &&Value| one["spec"]["state"] == "Ended";
        Ok(views["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(ended)
            .cloned())
    });
    let view = views.with_context(operator_logs)?;
    assert_eq!(
        view["spec"]["subject"],
        format!("{}/report-agent", shop.namespace.name())
    );
    assert_eq!(view["spec"]["allowed"], 1);
    let id = view["metadata"]["name"].as_str().unwrap().to_owned();
    let listed = shop.namespace.until("the session in the log", || {
        let listed = admin.plugin_json(&["sessions"])?;
        let listed = listed.as_array().cloned().unwrap_or_default();
        Ok(listed
            .into_iter()
            .find(|one| id.contains(one["id"].as_str().unwrap())))
    })?;
    assert_eq!(
        (&listed["sealed"], &listed["subject"]),
        (&json!(true), &json!(""))
    );
    let id = listed["id"].as_str().unwrap();
    let shown = admin.plugin(&["show", id])?;
    assert_eq!(shown.code, Some(2), "{}", shown.all());
    assert!(shown.err.contains("is sealed"), "{}", shown.all());
    let whole = admin.plugin_json(&["verify", id])?;
    assert_eq!(
        (&whole["ok"], &whole["level"]),
        (&json!(true), &json!("outer")),
        "{whole}"
    );

    let shown = admin.plugin(&["show", id, "--identity", &key])?.ok()?;
    assert!(shown.contains(READ), "{shown}");
    let whole = admin.plugin_json(&["verify", id, "--identity", &key])?;
    assert_eq!(
        (&whole["ok"], &whole["level"]),
        (&json!(true), &json!("full")),
        "{whole}"
    );

    // A recipient that is none, and looks like one: nothing is recorded that everybody could read.
    let wrong = format!(
        "{}{}",
        &auditor[..61],
        if auditor.ends_with('a') { 'c' } else { 'a' }
    );
    let also = SealedFor::these(&[&wrong])?;
    shop.namespace.until("the refusal", || {
        let said = shop.psql(&pod, READ)?;
        Ok((said.code != Some(0) && said.all().contains("seal.recipients")).then_some(()))
    })?;
    drop(also);
    drop(sealed);
    shop.namespace.until("the way back", || {
        Ok((shop.psql(&pod, READ)?.code == Some(0)).then_some(()))
    })?;
    Ok(())
}
