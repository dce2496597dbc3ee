//! What agents said is sealed on a real Kubernetes, and who reads it is in the log.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a missing field is a failed test"
)]

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use chaperone_e2e::cluster::auditor::{AUDIT, plugin, until_sessions, verified};
use chaperone_e2e::cluster::chaperone::{READ, Shop, assert_masked, operator_logs};
use chaperone_e2e::cluster::{Kubectl, shared, unavailable};
use chaperone_e2e::{DEADLINE, clients, lab, wait_for};
use serde_json::{Value, json};
use xtask::process::Scratch;

/// An identity of age, which is nobody's.
const IDENTITY: &str = "AGE-SECRET-KEY-1RY0Q0HU2G6Y3ZVNVWMJ3C2S6DGJNMNJXH52MRWC8QH4M2WV2KGUQRUD3LU";
/// Its recipient.
const RECIPIENT: &str = "age1u0nnqxhsmxlt9zedqlu3jn5ue6m7f46w9h5vqzqzwem9s5ka0d9slvj5dl";

/// A person of this name with these ClusterRoles.
fn person(name: &str, roles: &[&str]) -> Result<Kubectl> {
    for role in roles {
        Kubectl::admin().ok(&[
            "create",
            "clusterrolebinding",
            &format!("{name}-{role}"),
            &format!("--clusterrole={role}"),
            &format!("--user={name}"),
        ])?;
    }
    Ok(Kubectl::admin().impersonating(name, &["system:authenticated"]))
}

fn request(name: &str, session: &str, more: &str) -> String {
    format!(
        "apiVersion: chaperone.dev/v1alpha1\nkind: UnsealRequest\nmetadata: {{name: {name}}}\n\
         spec: {{sessions: ['{session}'], recipient: {RECIPIENT}{more}}}\n"
    )
}

/// The request once it is answered.
fn answered(name: &str) -> Result<Value> {
    wait_for("the answer", DEADLINE * 2, || {
        let found = Kubectl::admin().json(&["unsealrequest", name])?;
        Ok(found["status"]["answeredAt"].is_string().then_some(found))
    })
    .with_context(operator_logs)
}

/// What the log says of readings by somebody.
fn readings(user: &str) -> Result<Vec<Value>> {
    let report = verified()?;
    let all = report["log"]["unsealings"].as_array().cloned();
    let all = all.unwrap_or_default().into_iter();
    Ok(all.filter(|one| one["user"] == user).collect())
}

/// Whom evidence is sealed for is one setting of the cluster that all tests here share.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn reading_evidence_leaves_evidence() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let shop = Shop::new("sealed")?;
    let pod = shop.agent("report")?;
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    let found = until_sessions(&shop, 1, "Ended")?;
    let other = shop.psql(&pod, "SELECT count(*) FROM orders")?.ok()?;
    assert!(other.contains("1000"), "{other}");
    let both = until_sessions(&shop, 2, "Ended")?;
    // Sealed, and listed nevertheless, by whom and how it went; nothing was asked for.
    assert!(both.iter().all(|one| one["sealed"] == true), "{both:?}");
    let id = found[0]["id"].as_str().unwrap().to_owned();
    let second = both.iter().find(|one| one["id"] != id.as_str()).unwrap();
    let second = second["id"].as_str().unwrap().to_owned();
    assert_eq!(verified()?["level"], "outer");
    let segments = Kubectl::admin().in_namespace(AUDIT).ok(&[
        "get",
        "auditsegments",
        "-o",
        "jsonpath={.items[*].spec.entries[*].data}",
    ])?;
    let (stranger, auditor, reader) = (
        person("mallory", &[])?,
        person("olga", &["chaperone-auditor"])?,
        person("ada", &["chaperone-auditor", "chaperone-evidence-reader"])?,
    );
    let shut = plugin(&["show", &id, "--leave-sealed"])?;
    assert_eq!(shut.code, Some(2), "{}", shut.all());
    assert!(shut.err.contains("is sealed"), "{}", shut.err);
    assert!(!segments.is_empty());

    // Who may look but not read is told what it takes, by the API server itself.
    let refused = auditor.plugin(&["show", &id])?;
    assert_eq!(refused.code, Some(2), "{}", refused.all());
    assert!(
        refused.err.contains("chaperone-evidence-reader"),
        "{}",
        refused.err
    );
    assert!(!refused.out.contains("SELECT"), "{}", refused.out);
    Kubectl::admin().ok(&[
        "create",
        "clusterrole",
        "asks",
        "--verb=create,get,update,patch",
        "--resource=unsealrequests.chaperone.dev,unsealrequests.chaperone.dev/status",
    ])?;
    Kubectl::admin().ok(&[
        "create",
        "clusterrolebinding",
        "mallory-asks",
        "--clusterrole=asks",
        "--user=mallory",
    ])?;
    let said = stranger.refused(&request("theft", &id, ""))?;
    assert!(said.contains("You need the verb unseal"), "{said}");
    // Nobody asks in another's name, and an answer is the operator's.
    let forged = ", requester: {user: olga}";
    let said = reader.refused(&request("forged", &id, forged))?;
    assert!(said.contains("leave spec.requester out"), "{said}");
    assert!(readings("ada")?.is_empty() && readings("mallory")?.is_empty());

    // Who may, reads, and is told that it is known.
    let shown = reader.plugin(&["show", &id, "--because", "case 17"])?;
    assert_eq!(shown.code, Some(0), "{}\n{}", shown.all(), operator_logs());
    assert!(shown.out.contains(READ), "{}", shown.out);
    assert!(shown.err.contains("is in the log"), "{}", shown.err);
    let of_ada = readings("ada")?;
    assert_eq!(of_ada.len(), 1, "{of_ada:?}");
    assert_eq!(of_ada[0]["sessions"], json!([id]));
    assert_eq!(of_ada[0]["reason"], "case 17");
    let again = reader.plugin(&["show", &id])?.ok()?;
    assert!(again.contains("read by ada at"), "{again}");

    // By hand: the keys open the session that was named, and no other.
    reader.apply(&request("by-hand", &id, ", reason: by hand"))?;
    let answer = answered("by-hand")?;
    assert_eq!(answer["spec"]["requester"]["user"], "ada", "{answer}");
    assert_eq!(answer["status"]["opened"], 1, "{answer}");
    let leaf = answer["status"]["evidence"].as_str().unwrap();
    Kubectl::admin()
        .in_namespace(AUDIT)
        .ok(&["get", "auditsegment", leaf])?;
    let keys = opened("by-hand")?;
    assert!(keys.contains(&id) && !keys.contains(&second), "{keys}");
    // Nothing of it is changed afterwards, by whoever may patch.
    for (resource, patch) in [
        (
            "spec",
            format!("{{\"spec\":{{\"sessions\":[\"{second}\"]}}}}"),
        ),
        (
            "spec",
            "{\"spec\":{\"requester\":{\"user\":\"olga\"}}}".to_owned(),
        ),
        ("status", "{\"status\":{\"opened\":9}}".to_owned()),
    ] {
        let mut words = vec![
            "patch",
            "unsealrequest",
            "by-hand",
            "--type=merge",
            "-p",
            &patch,
        ];
        if resource == "status" {
            words.push("--subresource=status");
        }
        for who in [&Kubectl::admin(), &stranger] {
            let said = who.run(&words)?;
            assert_ne!(said.code, Some(0), "{patch}: {}", said.all());
        }
    }
    // What is handed on opens what it was made for, offline, and tells who had read it.
    let scratch = Scratch::new("bundle")?;
    let bundle = scratch.path().join("read.tar");
    let bundle = bundle.to_str().context("a path of text")?;
    shop.namespace.until("the leaves' checkpoint", || {
        Ok((verified()?["log"]["pending"] == 0).then_some(()))
    })?;
    reader.plugin(&["export", &id, "--to", bundle])?.ok()?;
    let mut offline = std::process::Command::new(&lab::binaries()?.plugin);
    offline.args(["verify", "--bundle", bundle, "-o", "json"]);
    let told: Value = serde_json::from_str(&clients::run(offline, "")?.ok()?)?;
    assert_eq!(
        (&told["ok"], &told["level"]),
        (&json!(true), &json!("full"))
    );
    let read = told["log"]["unsealings"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert!(
        read.len() >= 3 && read.iter().all(|one| one["user"] == "ada"),
        "{read:?}"
    );
    let mut second_reader = clients::verifier("verify.py")?;
    second_reader.arg(bundle);
    let agreed: Value = serde_json::from_str(&clients::run(second_reader, "")?.out)?;
    assert_eq!(agreed["ok"], true, "{agreed}");
    assert_eq!(
        agreed["unsealings"].as_array().map(Vec::len),
        Some(read.len())
    );
    verified().map(|_| ())
}

/// The keys in an answer, as somebody else's reader of age opens them with [`IDENTITY`].
fn opened(name: &str) -> Result<String> {
    let keys = "go-template={{.status.keys | base64decode}}";
    let mut get = shared()?.kubectl();
    get.args(["get", "unsealrequest", name, "-o", keys]);
    let file = get.output()?.stdout;
    let scratch = Scratch::new("keys")?;
    let (identity, keys) = (
        scratch.path().join("key.txt"),
        scratch.path().join("keys.age"),
    );
    std::fs::write(&identity, format!("{IDENTITY}\n"))?;
    std::fs::write(&keys, file)?;
    let mut reader = clients::verifier("verify.py")?;
    reader
        .arg("--identity")
        .arg(&identity)
        .arg("--unwrap")
        .arg(&keys);
    clients::run(reader, "")?.ok()
}

#[test]
fn the_operator_cannot_read_sealed_recordings() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let shop = Shop::new("theirs")?;
    let pod = shop.agent("report")?;
    let recipients = format!(r#"{{"spec":{{"seal":{{"recipients":["{RECIPIENT}"]}}}}}}"#);
    let patched = |patch: &str| {
        Kubectl::admin().ok(&[
            "patch",
            "auditstore",
            "default",
            "--type=merge",
            "-p",
            patch,
        ])
    };
    patched(&recipients)?;
    let scratch = Scratch::new("identity")?;
    let file = scratch.path().join("key.txt");
    std::fs::write(&file, format!("{IDENTITY}\n"))?;
    let file = file.to_str().context("a path of text")?;
    let subject = format!("{}/report-agent", shop.namespace.name());
    // It reaches the sidecar within a heartbeat; what began before it is sealed as it began.
    let theirs = shop.namespace.until("a session sealed for them", || {
        assert_masked(&shop.psql(&pod, READ)?.ok()?);
        let listed = plugin(&[
            "sessions",
            "--subject",
            &subject,
            "--identity",
            file,
            "-o",
            "json",
        ])?;
        let listed: Vec<Value> = serde_json::from_str(&listed.ok()?)?;
        let open = listed
            .iter()
            .find(|one| one["sealed"] == false && one["state"] == "Ended");
        Ok(open.and_then(|one| one["id"].as_str()).map(str::to_owned))
    });
    let restored = patched(r#"{"spec":{"seal":null}}"#);
    let id = theirs?;
    restored?;
    let shown = plugin(&["show", &id, "--identity", file])?.ok()?;
    assert!(shown.contains(READ), "{shown}");
    // The operator has no key to it, so nobody is given one, and nothing is written of it.
    let refused = plugin(&["show", &id])?;
    assert_ne!(refused.code, Some(0), "{}", refused.all());
    assert!(refused.err.contains("SealedForOthers"), "{}", refused.err);
    assert!(!refused.out.contains("SELECT"), "{}", refused.out);
    let report = verified()?;
    let written = report["log"]["unsealings"].to_string();
    assert!(!written.contains(&id), "{written}");
    Ok(())
}
