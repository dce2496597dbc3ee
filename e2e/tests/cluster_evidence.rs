//! Evidence on a real Kubernetes: it arrives as custom resources, nobody changes it unseen, and what
//! happens to a pod or an operator leaves nothing lost unmarked.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a missing field is a failed test"
)]

use anyhow::{Context, Result};
use chaperone_e2e::clients;
use chaperone_e2e::cluster::auditor::{AUDIT, plugin, sessions, until_sessions, verified};
use chaperone_e2e::cluster::chaperone::{HOST, READ, Shop, assert_masked, operator_logs};
use chaperone_e2e::cluster::{Kubectl, shared, unavailable};

/// A signal to a pod's sidecar, by the node's own hand: nobody in the cluster may exec into one.
fn signal_sidecar(pod: &str, signal: &str) -> Result<()> {
    let mut kill = shared()?.on_node("sh");
    kill.args([
        "-c",
        "kill \"-$1\" $(for p in /proc/[0-9]*; do \
         if tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q '^[^ ]*chaperone-sidecar run' && \
            tr '\\0' '\\n' <$p/environ 2>/dev/null | grep -q \"^HOSTNAME=$0$\"; \
         then echo ${p#/proc/}; fi; done)",
        pod,
        signal,
    ]);
    clients::run(kill, "")?.ok().map(|_| ())
}

#[test]
fn records_arrive_as_custom_resources() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("records")?;
    let pod = shop.agent("report")?;
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    let denied = shop.psql(&pod, "DROP TABLE orders")?;
    assert!(denied.err.contains("NotCovered"), "{}", denied.all());
    let found = until_sessions(&shop, 2, "Ended")?;
    // What kubectl shows, in the agent's own namespace.
    let listed = shop.namespace.until("views of both sessions", || {
        let list = shop.namespace.kubectl().json(&["sessions.chaperone.dev"])?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let ended = items.iter().all(|view| view["spec"]["state"] == "Ended");
        Ok((items.len() == 2 && ended).then_some(items))
    })?;
    let denied: u64 = listed
        .iter()
        .filter_map(|view| view["spec"]["denied"].as_u64())
        .sum();
    assert_eq!(denied, 1, "{listed:?}");
    assert!(listed.iter().all(|view| view["spec"]["pod"] == pod));
    // Segments, and within seconds a signed checkpoint over them.
    let audit = Kubectl::admin().in_namespace(AUDIT);
    shop.namespace.until("a checkpoint", || {
        let report = verified()?;
        Ok(
            (report["log"]["pending"] == 0 && report["log"]["checkpoints"].as_u64() > Some(0))
                .then_some(()),
        )
    })?;
    let first = audit.json(&["auditcheckpoint", "cp-1"])?;
    let note = first["spec"]["note"].as_str().unwrap();
    assert!(note.starts_with("chaperone.dev/log\n"), "{note}");
    // Nothing of it is readable to the agent, and no raw value is in it.
    let agent = format!(
        "system:serviceaccount:{}:report-agent",
        shop.namespace.name()
    );
    let as_agent = audit.clone().impersonating(&agent, &[]);
    assert_ne!(as_agent.run(&["get", "auditsegments"])?.code, Some(0));
    let refused = found.iter().find(|one| one["denied"] == 1).unwrap();
    let shown = plugin(&["show", refused["id"].as_str().unwrap()])?.ok()?;
    assert!(shown.contains("DROP TABLE orders"), "{shown}");
    Ok(())
}

#[test]
fn a_lost_pod_is_marked_interrupted() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("lost")?;
    let pod = shop.agent("report")?;
    let script = "(echo 'SELECT count(*) FROM orders;'; sleep 300) | \
                  psql -XAt -h HOST -d orders -f - 2>&1"
        .replace("HOST", HOST);
    let mut live = shop.in_background(&pod, &script)?;
    live.until("1000")?;
    let found = until_sessions(&shop, 1, "Open")?;
    let id = found[0]["id"].as_str().unwrap().to_owned();
    let view = || -> Result<Option<serde_json::Value>> {
        let views = shop.namespace.kubectl().json(&["sessions.chaperone.dev"])?;
        let views = views["items"].as_array().cloned().unwrap_or_default();
        Ok(views
            .into_iter()
            .find(|view| view["metadata"]["name"] == id.as_str()))
    };
    // It is told a moment after the record has arrived.
    shop.namespace.until("its view", view)?;
    // As a node that is gone would take it: its sidecar, told to end, has no last word.
    signal_sidecar(&pod, "STOP")?;
    shop.namespace
        .kubectl()
        .ok(&["delete", "pod", &pod, "--force", "--grace-period=0"])?;
    until_sessions(&shop, 1, "Interrupted")?;
    let report = verified()?;
    let notes = report["notes"].to_string();
    assert!(notes.contains("interrupted after record"), "{notes}");
    assert!(notes.contains(id.as_str()), "{notes}");
    shop.namespace.until("its view to say so", || {
        let view = view()?.filter(|view| view["spec"]["state"] == "Interrupted");
        Ok(view.map(|_| ()))
    })
}

#[test]
fn sidecar_killed_mid_session_recovers_its_spool() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("killed")?;
    let pod = shop.agent("report")?;
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    let script =
        "(for n in $(seq 1000); do echo 'SELECT count(*) FROM orders;'; sleep 0.1; done) | \
                  psql -XAt -h HOST -d orders -f - 2>&1"
            .replace("HOST", HOST);
    let mut live = shop.in_background(&pod, &script)?;
    live.until("1000")?;
    // All at one moment.
    let views = || -> Result<Vec<serde_json::Value>> {
        let views = shop.namespace.kubectl().json(&["sessions.chaperone.dev"])?;
        Ok(views["items"].as_array().cloned().unwrap_or_default())
    };
    let cut = shop.namespace.until("its view", || {
        let (mut open, ended): (Vec<_>, Vec<_>) = views()?
            .into_iter()
            .partition(|view| view["spec"]["state"] == "Open");
        let only = open.len() == 1 && ended.len() == 1;
        Ok(only.then(|| open.remove(0)))
    })?;
    signal_sidecar(&pod, "KILL")?;
    live.finish()?;
    shop.namespace
        .until("the sidecar to start again", || {
            let seen = shop.namespace.kubectl().json(&["pod", &pod])?;
            let status = &seen["status"]["initContainerStatuses"][0];
            Ok((status["restartCount"] == 1 && status["ready"] == true).then_some(()))
        })
        .with_context(operator_logs)?;
    // Though its pod lives, and before anybody opens another: what its view says is no longer that
    // it goes on.
    shop.namespace
        .until("its view to say what became of it", || {
            let views = views()?;
            let mut came_out = views.iter().filter(|view| {
                let state = &view["spec"]["state"];
                state == "Recovered" || state == "Interrupted"
            });
            let Some(found) = came_out.next() else {
                return Ok(None);
            };
            assert_eq!(found["metadata"]["name"], cut["metadata"]["name"]);
            let end = found["spec"]["end"].as_str().unwrap_or_default();
            assert!(end.contains("its sidecar ended"), "{found}");
            Ok(Some(()))
        })?;
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    shop.namespace.until("the recovered session", || {
        let found = sessions(&shop)?;
        let count = |state: &str| found.iter().filter(|one| one["state"] == state).count();
        let recovered = count("Recovered") + count("Interrupted");
        Ok((recovered == 1 && count("Ended") == 2).then_some(()))
    })?;
    verified().map(|_| ())
}

#[test]
fn sidecar_outlives_the_agent_and_flushes() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("flushes")?;
    let psql = format!(
        "psql -XAt -h {} -d orders -c 'SELECT count(*) FROM orders'",
        HOST
    );
    let manifest = shop.annotated("Job", "once", &format!("[sh, -c, \"{psql}\"]"));
    shop.namespace.apply(&manifest)?;
    shop.namespace
        .wait_for("job/once", "condition=Complete")
        .with_context(operator_logs)?;
    // Its last word, and that it is the last: the pod's end was not the end of its evidence.
    until_sessions(&shop, 1, "Ended")?;
    let report = verified()?;
    let notes = report["notes"].to_string();
    let pod = shop.namespace.kubectl().json(&["pods", "-l", "app=once"])?;
    let name = pod["items"][0]["metadata"]["name"].as_str().unwrap();
    let about: Vec<&str> = notes
        .split('}')
        .filter(|note| note.contains(name))
        .collect();
    assert!(
        !about.iter().any(|note| note.contains("did not detach")),
        "{about:?}"
    );
    Ok(())
}

#[test]
fn nobody_can_change_them() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("unchanged")?;
    let pod = shop.agent("report")?;
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    until_sessions(&shop, 1, "Ended")?;
    let audit = Kubectl::admin().in_namespace(AUDIT);
    shop.namespace.until("a checkpoint", || {
        let found = audit.run(&["get", "auditcheckpoint/cp-1"])?;
        Ok((found.code == Some(0)).then_some(()))
    })?;
    let segments = audit.ok(&["get", "auditsegments", "-o", "name"])?;
    let segment = segments.lines().next().unwrap();
    let mut copy = audit.json(&[segment])?;
    copy["metadata"] = serde_json::json!({"name": "as-copied", "namespace": AUDIT});
    let create = audit.run_with(&["create", "-f", "-"], &copy.to_string())?;
    assert_ne!(create.code, Some(0), "a segment was forged");
    for object in [segment, "auditcheckpoint/cp-1"] {
        for arguments in [
            &["delete", object][..],
            &["label", object, "a=b"],
            &["annotate", object, "a=b"],
            &[
                "patch",
                object,
                "--type=merge",
                "-p",
                r#"{"spec":{"count":1,"number":9}}"#,
            ],
        ] {
            let said = audit.run(arguments)?;
            assert_ne!(said.code, Some(0), "{arguments:?}: {}", said.all());
        }
    }
    for arguments in [
        &["delete", "auditsegments", "--all"][..],
        &["delete", "secret", "chaperone-log-key"],
        &[
            "patch",
            "secret",
            "chaperone-log-key",
            "-p",
            r#"{"data":{}}"#,
        ],
    ] {
        let said = audit.run(arguments)?;
        assert_ne!(said.code, Some(0), "{arguments:?}: {}", said.all());
    }
    // A view is the operator's as well: what it says is nobody else's word.
    let views = shop.namespace.until("the view", || {
        let text = shop
            .namespace
            .kubectl()
            .ok(&["get", "sessions.chaperone.dev", "-o", "name"])?;
        Ok((!text.is_empty()).then_some(text))
    })?;
    let view = views.lines().next().unwrap();
    let said = shop.namespace.kubectl().run(&[
        "patch",
        view,
        "--type=merge",
        "-p",
        r#"{"spec":{"denied":0,"allowed":9}}"#,
    ])?;
    assert_ne!(said.code, Some(0), "{}", said.all());
    verified().map(|_| ())
}
