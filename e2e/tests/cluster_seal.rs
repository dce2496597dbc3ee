//! What agents said is sealed on a real Kubernetes, and who reads it is in the log.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a missing field is a failed test"
)]

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use chaperone_e2e::cluster::auditor::{AUDIT, plugin, sessions, until_sessions, verified};
use chaperone_e2e::cluster::chaperone::{READ, Shop, assert_masked, operator_logs};
use chaperone_e2e::cluster::{Kubectl, shared, unavailable};
use chaperone_e2e::{DEADLINE, clients, lab, wait_for};
use serde_json::{Value, json};
use xtask::process::Scratch;
use xtask::s3proxy::{BUCKET, KEY, KEY_ID, S3Proxy};

/// The node, for its pods.
const NODE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 99, 0, 1);

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
    keys_are_added_and_not_lost_unseen(&reader, &id)?;
    verified().map(|_| ())
}

/// The last thing that a test does with the operator's keys.
fn keys_are_added_and_not_lost_unseen(reader: &Kubectl, id: &str) -> Result<()> {
    let (admin, audit) = (Kubectl::admin(), Kubectl::admin().in_namespace(AUDIT));
    let status = |what: &str, fits: &dyn Fn(&Value) -> bool| {
        wait_for(what, DEADLINE * 2, || {
            let status = admin.json(&["auditstore", "default"])?["status"].take();
            Ok(fits(&status).then_some(status))
        })
        .with_context(operator_logs)
    };
    let reason = |status: &Value| status["conditions"][0]["reason"].clone();
    let count = |status: &Value| status["sealKeys"].as_array().map_or(0, Vec::len);
    status("the first key", &|status| count(status) == 1)?;
    let more = r#"{"spec":{"sealKey":2}}"#;
    admin.ok(&["patch", "auditstore", "default", "--type=merge", "-p", more])?;
    let two = status("another key", &|status| count(status) == 2)?;
    assert_eq!(reason(&two), "Ready", "{two}");
    let old = reader.plugin(&["show", id])?.ok()?;
    assert!(old.contains(READ), "{old}");
    // Nobody puts his own key there, or takes one away.
    let secret = "secret/chaperone-seal-key";
    for words in [
        &["delete", secret][..],
        &["patch", secret, "-p", r#"{"data":{"seal.key":""}}"#],
    ] {
        let said = audit.run(words)?;
        assert_ne!(said.code, Some(0), "{words:?}: {}", said.all());
    }
    // Lost nevertheless: what was sealed stays shut, and that is said, until it is back.
    let policy = "validatingadmissionpolicybinding/chaperone-seal-key";
    let (binding, kept) = (admin.json(&[policy])?, audit.json(&[secret])?);
    admin.ok(&["delete", policy])?;
    wait_for("the policy to be gone", DEADLINE, || {
        let said = audit.run(&["delete", secret])?;
        Ok((said.code == Some(0)).then_some(()))
    })?;
    let lost = status("the loss to be told", &|status| {
        reason(status) == "SealKeyLost"
    })?;
    let gone = two["sealKeys"][0].as_str().unwrap();
    let said = lost["conditions"][0]["message"]
        .as_str()
        .unwrap_or_default();
    assert!(said.contains(gone), "{lost}");
    wait_for("nothing to be opened", DEADLINE, || {
        let said = reader.plugin(&["show", id])?;
        Ok(said.err.contains("SealedForOthers").then_some(()))
    })?;
    let mut back = audit.json(&[secret])?;
    let text = |secret: &Value| -> Result<String> {
        let data = "go-template={{index .data \"seal.key\" | base64decode}}";
        audit
            .run_with(
                &["create", "--dry-run=client", "-f", "-", "-o", data],
                &secret.to_string(),
            )?
            .ok()
    };
    let whole = format!("{}{}", text(&kept)?, text(&back)?);
    back["stringData"] = json!({"seal.key": whole});
    audit
        .run_with(&["replace", "-f", "-"], &back.to_string())?
        .ok()?;
    let mut binding = binding;
    binding["metadata"] = json!({"name": "chaperone-seal-key"});
    admin.apply(&binding.to_string())?;
    status("all to be well again", &|status| reason(status) == "Ready")?;
    wait_for("it to be opened again", DEADLINE, || {
        let said = reader.plugin(&["show", id])?;
        Ok(said.out.contains(READ).then_some(()))
    })
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

/// The packs that may be read.
fn packs() -> Result<Vec<Value>> {
    let list = Kubectl::admin().in_namespace(AUDIT).json(&["auditpacks"])?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let stored = items.into_iter();
    Ok(stored
        .filter(|pack| pack["status"]["storedAt"].is_string())
        .collect())
}

fn keep(spec: &Value) -> Result<()> {
    let patch = json!({ "spec": spec }).to_string();
    let words = [
        "patch",
        "auditstore",
        "default",
        "--type=merge",
        "-p",
        &patch,
    ];
    Kubectl::admin().ok(&words).map(|_| ())
}

/// What verify says where something is wrong: the first of it.
fn first_break() -> Result<Value> {
    let said = plugin(&["verify", "--all", "-o", "json"])?;
    assert_eq!(said.code, Some(1), "{}", said.all());
    let mut report: Value = serde_json::from_str(&said.out)?;
    Ok(report["breaks"][0].take())
}

#[test]
fn what_is_packed_is_found_again_and_what_is_removed_is_told() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let shop = Shop::new("packed")?;
    let pod = shop.agent("report")?;
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    let found = until_sessions(&shop, 1, "Ended")?;
    let id = found[0]["id"].as_str().unwrap().to_owned();
    let whole = shop.namespace.until("a checkpoint over it", || {
        let report = verified()?;
        Ok((report["log"]["pending"] == 0).then_some(report))
    })?;
    let used = || -> Result<u64> {
        let store = Kubectl::admin().json(&["auditstore", "default"])?;
        Ok(store["status"]["usedBytes"].as_u64().unwrap_or_default())
    };
    // A bucket on the node, and a quota of which most is used.
    let mut server = S3Proxy::at(NODE.into())?;
    server.start_by(shared()?.on_node("java"))?;
    let audit = Kubectl::admin().in_namespace(AUDIT);
    let literal = |key: &str, value: &str| format!("--from-literal={key}={value}");
    audit.ok(&[
        "create",
        "secret",
        "generic",
        "chaperone-object-store",
        &literal("accessKeyId", KEY_ID),
        &literal("secretAccessKey", KEY),
    ])?;
    let quota = used()? * 10 / 9;
    let bucket = json!({"endpoint": server.endpoint(), "bucket": BUCKET, "ca": server.ca()});
    keep(&json!({"quota": quota.to_string(), "backend": {"objectStore": bucket}}))?;
    shop.namespace
        .until("old evidence to be packed", || {
            Ok((!packs()?.is_empty() && used()? < quota * 7 / 10).then_some(()))
        })
        .with_context(operator_logs)?;
    let report = verified()?;
    assert!(
        report["sessions"].as_u64() >= whole["sessions"].as_u64(),
        "{report}"
    );
    let shown = plugin(&["show", &id])?.ok()?;
    assert!(shown.contains(READ), "{shown}");
    // Nobody changes a pack; who may not look does not get one either.
    let pack = packs()?.remove(0);
    let name = format!("auditpack/{}", pack["metadata"]["name"].as_str().unwrap());
    for words in [&["delete", &name][..], &["annotate", &name, "a=b"]] {
        let said = audit.run(words)?;
        assert_ne!(said.code, Some(0), "{words:?}: {}", said.all());
    }
    let said = person("nobody", &[])?.plugin(&["verify", "--all"])?;
    assert_eq!(said.code, Some(2), "{}", said.all());
    person("pat", &["chaperone-auditor"])?
        .plugin(&["verify", "--all"])?
        .ok()?;
    // Altered or taken away where it lies, it is what verify names first.
    let digest = pack["spec"]["digest"].as_str().unwrap();
    let file = server.folder().join(format!("{digest}.pack"));
    let bytes = std::fs::read(&file)?;
    let mut altered = bytes.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    for (left, reason) in [(Some(&altered), "SegmentChanged"), (None, "SegmentMissing")] {
        match left {
            Some(left) => std::fs::write(&file, left)?,
            None => std::fs::remove_file(&file)?,
        }
        let broken = first_break()?;
        let place = format!("AuditPack/{}", pack["metadata"]["name"].as_str().unwrap());
        assert_eq!(
            (&broken["reason"], &broken["file"]),
            (&json!(reason), &json!(place))
        );
    }
    std::fs::write(&file, &bytes)?;
    verified()?;

    // Past its time it goes, and what comes after proves itself without it.
    keep(&json!({"quota": "512Mi", "retention": {"atLeast": "1s", "packed": "1s"}}))?;
    shop.namespace
        .until("packs to be removed", || {
            // Whatever waits behind them makes them go whole.
            shop.psql(&pod, READ)?.ok()?;
            Ok(packs()?.is_empty().then_some(()))
        })
        .with_context(operator_logs)?;
    keep(&json!({"backend": null, "retention": null}))?;
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    let last = shop
        .namespace
        .until("it to have its place in the log", || {
            let listed = sessions(&shop)?;
            let mut ended = listed.iter().filter(|one| one["state"] == "Ended");
            let newest = ended.next().and_then(|one| one["id"].as_str());
            let pending = &verified()?["log"]["pending"];
            Ok((pending == 0).then(|| newest.map(str::to_owned)).flatten())
        })?;
    let scratch = Scratch::new("behind")?;
    let bundle = scratch.path().join("behind.tar");
    let bundle = bundle.to_str().context("a path of text")?;
    plugin(&["export", &last, "--to", bundle])?.ok()?;
    let mut offline = std::process::Command::new(&lab::binaries()?.plugin);
    offline.args(["verify", "--bundle", bundle, "-o", "json"]);
    let told: Value = serde_json::from_str(&clients::run(offline, "")?.ok()?)?;
    assert_eq!(told["ok"], true, "{told}");
    assert!(
        told["log"]["removed"]["entries"].as_u64() > Some(0),
        "{told}"
    );
    assert!(
        told["notes"].to_string().contains("were removed on"),
        "{told}"
    );
    let mut second_reader = clients::verifier("verify.py")?;
    second_reader.arg(bundle);
    let agreed: Value = serde_json::from_str(&clients::run(second_reader, "")?.out)?;
    assert_eq!(agreed["ok"], true, "{agreed}");
    assert_eq!(
        agreed["removed"]["entries"],
        told["log"]["removed"]["entries"]
    );
    // What went is not there to be shown, and that something is gone is said.
    let said = plugin(&["export", &id, "--to", bundle])?;
    assert_ne!(said.code, Some(0), "{}", said.all());
    assert!(said.err.contains("tombstone"), "{}", said.err);
    Ok(())
}
