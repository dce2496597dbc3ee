//! Agents on a real Kubernetes, through the installed chart: annotated, injected, held, released.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod http;

use anyhow::{Context, Result, ensure};
use chaperone_e2e::clients;
use chaperone_e2e::cluster::chaperone::{
    HOST, READ, SYSTEM, Shop, assert_masked, operator_logs, upgrade,
};
use chaperone_e2e::cluster::{Kubectl, shared, unavailable};
use serde_json::Value;

fn containers(pod: &Value, of: &str) -> Vec<String> {
    let list = pod
        .pointer(&format!("/spec/{of}"))
        .and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|container| container["name"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn annotating_a_deployment_puts_the_sidecar_on_the_path() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("annotated")?;
    let manifest = shop.workload("Deployment", "report", "[sleep, infinity]");
    shop.namespace.apply(&manifest)?;
    shop.namespace.wait_until_rolled_out("deployment/report")?;
    let bare = shop.pod("report")?;
    // Without the sidecar there is nothing to log in with.
    let refused = shop.psql(&bare, READ)?;
    ensure!(refused.code != Some(0), "{}", refused.all());

    shop.annotate("deployment/report")?;
    shop.namespace
        .wait_until_rolled_out("deployment/report")
        .with_context(operator_logs)?;
    let pod = shop.pod("report")?;
    let spec = shop.namespace.kubectl().json(&["pod", &pod])?;
    assert_eq!(containers(&spec, "initContainers"), ["chaperone"]);
    assert_eq!(containers(&spec, "containers"), ["agent"]);
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    let denied = shop.psql(&pod, "DROP TABLE orders")?;
    assert!(denied.err.contains("NotCovered"), "{}", denied.all());
    // Whoever looks at the Deployment sees it, without what the command said.
    let note = shop.event("report", "NotCovered")?;
    assert!(
        note.contains("a command denied: SchemaDestroy") && note.contains(&pod),
        "{note}"
    );
    // Encrypted to the sidecar as well, if the client asks: its own variables say whom to trust.
    let verified = shop.namespace.exec(
        &pod,
        Some("agent"),
        &[
            "psql",
            "-XAt",
            &format!("host={HOST} dbname=orders sslmode=verify-full"),
            "-c",
            READ,
        ],
    )?;
    assert_masked(&verified.ok()?);
    // Neither a password nor a token of the cluster.
    let environment = shop.namespace.exec(&pod, Some("agent"), &["env"])?.ok()?;
    assert!(
        !environment.contains("only the sidecar knows"),
        "{environment}"
    );
    let token = shop.namespace.exec(
        &pod,
        Some("agent"),
        &["cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"],
    )?;
    assert_ne!(token.code, Some(0), "{}", token.all());

    // Applied again and upgraded it stays.
    shop.namespace.apply(&manifest)?;
    upgrade(&[])?;
    shop.namespace.wait_until_rolled_out("deployment/report")?;
    assert_masked(&shop.psql(&shop.pod("report")?, READ)?.ok()?);

    shop.namespace.kubectl().ok(&[
        "annotate",
        "deployment/report",
        "chaperone.dev/connections-",
    ])?;
    shop.namespace.wait_until_rolled_out("deployment/report")?;
    let spec = shop
        .namespace
        .kubectl()
        .json(&["pod", &shop.pod("report")?])?;
    assert!(containers(&spec, "initContainers").is_empty());
    Ok(())
}

#[test]
fn a_daemon_set_is_injected_too() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("daemon")?;
    shop.namespace
        .apply(&shop.workload("DaemonSet", "report", "[sleep, infinity]"))?;
    shop.annotate("daemonset/report")?;
    shop.namespace
        .wait_until_rolled_out("daemonset/report")
        .with_context(operator_logs)?;
    assert_masked(&shop.psql(&shop.pod("report")?, READ)?.ok()?);
    Ok(())
}

/// Nobody gets a token of the sidecar's audience for another pod: not the cluster's administrator, not
/// the node for a pod that has no such volume, and no pod may have such a volume of its own. What has
/// none gets nothing from the operator.
#[test]
fn a_pod_that_imitates_the_sidecar_gets_nothing() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("imitates")?;
    let injected = shop.agent("report")?;
    let plain = shop.workload("Pod", "plain", "[sleep, infinity]");
    shop.namespace.apply(&plain)?;
    shop.namespace.wait_until_ready("plain")?;
    let token = |who: &Kubectl, pod: Option<&str>| {
        let bound = match pod {
            Some(pod) => {
                let found = shop.namespace.kubectl().json(&["pod", pod])?;
                let uid = found["metadata"]["uid"].as_str().unwrap_or_default();
                vec![
                    "--bound-object-kind=Pod".to_owned(),
                    format!("--bound-object-name={pod}"),
                    format!("--bound-object-uid={uid}"),
                ]
            }
            None => Vec::new(),
        };
        let mut words = vec![
            "create",
            "token",
            "report-agent",
            "--audience=chaperone.dev",
        ];
        words.extend(bound.iter().map(String::as_str));
        who.run(&words)
    };
    let admin = shop.namespace.kubectl();
    let node = shop.namespace.kubectl().impersonating(
        "system:node:node1",
        &["system:nodes", "system:authenticated"],
    );
    for (who, pod) in [
        (&admin, Some(injected.as_str())),
        (&admin, Some("plain")),
        (&admin, None),
        (&node, Some("plain")),
        (&node, None),
    ] {
        let said = token(who, pod)?;
        ensure!(
            said.code != Some(0) && said.err.contains("forbidden"),
            "a token for {pod:?}: {}",
            said.all()
        );
    }
    let own = plain
        .replace("name: plain", "name: own")
        .replace("app: plain", "app: own")
        .replace(
            "spec: {",
            "spec: {volumes: [{name: t, projected: {sources: [{serviceAccountToken: \
             {audience: chaperone.dev, path: token}}]}}], ",
        );
    shop.namespace.kubectl().refused(&own)?;

    let service = Kubectl::admin()
        .in_namespace(SYSTEM)
        .json(&["service", "chaperone-operator"])?;
    let address = service["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let ask = |token: &str, path: &str, body: &str| -> Result<String> {
        let mut curl = shared()?.on_node("sh");
        curl.args([
            "-c",
            "printf 'header = \"authorization: Bearer %s\"\\n' \"$0\" | \
             curl -sk --http2 -m 20 -K - -H 'content-type: application/json' -d \"$1\" \"$2\"",
            token.trim(),
            body,
            &format!("https://{address}:8443{path}"),
        ]);
        Ok(clients::run(curl, "")?.all())
    };
    // The kubelet's own request, for the pod that is as it should be: the question is the right one.
    let honest = token(&node, Some(&injected))?.ok()?;
    let attach = r#"{"version":"0.1.0"}"#;
    let attached = ask(&honest, "/v1/attach", attach)?;
    ensure!(attached.contains("digestKey"), "{attached}");
    let other = shop
        .namespace
        .kubectl()
        .ok(&["create", "token", "report-agent"])?;
    let certificate = format!(r#"{{"store":"{}"}}"#, "ab".repeat(32));
    for (who, token) in [
        ("a token for the API server", other.as_str()),
        ("a stranger", "e30.e30.e30"),
    ] {
        for (path, body) in [
            ("/v1/attach", attach),
            ("/v1/audit/certificate", certificate.as_str()),
            ("/v1/approvals", "{}"),
            ("/v1/audit/sessions", r#"{"sessions":[]}"#),
        ] {
            let said = ask(token, path, body)?;
            ensure!(
                said.contains("\"reason\"") && !said.contains("digestKey"),
                "{who} at {path}: {said}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_stateful_set_is_injected_too() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("stateful")?;
    shop.namespace
        .apply(&shop.workload("StatefulSet", "report", "[sleep, infinity]"))?;
    shop.annotate("statefulset/report")?;
    shop.namespace
        .wait_until_rolled_out("statefulset/report")
        .with_context(operator_logs)?;
    assert_masked(&shop.psql("report-0", READ)?.ok()?);
    Ok(())
}

/// The agent's first act is its query: no retry, no wait.
fn at_once() -> String {
    format!("[psql, -X, -A, -t, -h, {HOST}, -d, orders, -c, '{READ}']")
}

fn annotated(shop: &Shop, manifest: &str) -> String {
    manifest.replacen(
        "metadata: {",
        &format!(
            "metadata: {{annotations: {{chaperone.dev/connections: {}}}, ",
            shop.connection_name()
        ),
        1,
    )
}

#[test]
fn jobs_complete() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("jobs")?;
    let job = shop.workload("Job", "report", &at_once());
    shop.namespace.apply(&annotated(&shop, &job))?;
    shop.namespace
        .wait_for("job/report", "condition=Complete")
        .with_context(operator_logs)?;
    assert_masked(
        &shop
            .namespace
            .kubectl()
            .ok(&["logs", "job/report", "-c", "agent"])?,
    );

    // A CronJob's Jobs too.
    let cron = shop.workload("CronJob", "nightly", &at_once());
    shop.namespace.apply(&cron)?;
    shop.annotate("cronjob/nightly")?;
    shop.namespace
        .kubectl()
        .ok(&["create", "job", "now", "--from=cronjob/nightly"])?;
    shop.namespace.wait_for("job/now", "condition=Complete")?;
    assert_masked(
        &shop
            .namespace
            .kubectl()
            .ok(&["logs", "job/now", "-c", "agent"])?,
    );

    // What runs already cannot change.
    let plain = shop.workload("Job", "later", "[sleep, '3']");
    shop.namespace.apply(&plain)?;
    let annotation = format!("chaperone.dev/connections={}", shop.connection_name());
    let refused = shop
        .namespace
        .kubectl()
        .run(&["annotate", "job/later", &annotation])?;
    assert_ne!(refused.code, Some(0));
    assert!(
        refused.err.contains("delete and recreate the Job"),
        "{}",
        refused.err
    );
    Ok(())
}

#[test]
fn agent_starts_only_after_the_sidecar_is_ready() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("order")?;
    let pod = shop
        .workload("Pod", "bare", &at_once())
        .replace("restartPolicy: Always", "restartPolicy: Never");
    shop.namespace.apply(&annotated(&shop, &pod))?;
    // One try, without a retry: it works only if the sidecar was there first.
    shop.namespace
        .wait_for("pod/bare", "jsonpath={.status.phase}=Succeeded")
        .with_context(operator_logs)?;
    assert_masked(&shop.namespace.logs("bare", "agent")?);
    Ok(())
}

#[test]
fn a_policy_change_reaches_live_sessions_of_a_pod() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("changes")?;
    let pod = shop.agent("report")?;
    assert_masked(&shop.psql(&pod, READ)?.ok()?);
    let script =
        "for n in $(seq 200); do echo \"SELECT count(*) FROM orders;\"; sleep 0.2; done | \
                  psql -XAt -h HOST -d orders -f - 2>&1"
            .replace("HOST", HOST);
    let mut live = shop.in_background(&pod, &script)?;
    live.until("1000")?;
    shop.policy(
        "- {name: read, action: Allow, sql: {effects: [Read], relations: [public.customers]}}",
    )?;
    live.until("NotCovered")?;
    Ok(())
}
