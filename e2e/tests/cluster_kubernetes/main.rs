//! The Kubernetes API through the sidecar: unmodified kubectl in an agent's pod, against the real
//! API server and kubelet, with nothing in the pod but what the injector put there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod aggregated;
mod copies;
mod libraries;
mod terminal;

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use chaperone_e2e::clients::Transcript;
use chaperone_e2e::cluster::chaperone::{DATABASES, Shop, operator_logs};
use chaperone_e2e::cluster::{Kubectl, shared, unavailable};
use serde_json::Value;
use xtask::image::ready_made::AGENT;

/// What no agent may see.
const NEEDLE: &str = "hunter2-of-the-database";

/// `NS` is the test's namespace.
const RULES: &str = r#"
  - {name: read, action: Allow, kubernetes: {verbs: [get, list, watch], groups: ["*"], resources: ["*"], namespaces: [NS]}}
  - name: work
    action: Allow
    kubernetes:
      verbs: [create, update, patch, delete]
      groups: ["", apps]
      resources: [configmaps, deployments, deployments/scale, pods, services]
      namespaces: [NS]
  - name: no-host-network
    action: Deny
    when: "object != null && type(object) == map && has(object.spec) && has(object.spec.hostNetwork)"
    kubernetes: {verbs: [create, update, patch], resources: [pods]}
    message: Pods stay in their own network.
  - name: no-json-patches-of-containers
    action: Deny
    when: "request.patch == 'json' && object.exists(step, step.path.startsWith('/spec/template'))"
    kubernetes: {verbs: [patch], groups: [apps], resources: [deployments]}
  - {name: secrets, action: Allow, kubernetes: {verbs: [get, list, watch, create, patch, update, delete], resources: [secrets], namespaces: [NS]}}
  - name: commands
    action: Allow
    when: "size(request.command) > 0 && request.command[0] in ['echo', 'cat', 'sh', 'tar', 'touch']"
    kubernetes: {verbs: [create], resources: [pods/exec], namespaces: [NS]}
  - name: not-this-command
    action: Deny
    when: "request.command.exists(word, word.contains('never-created'))"
    kubernetes: {verbs: [create], resources: [pods/exec]}
  - name: without-input
    action: Deny
    when: "request.command == ['cat', '-n'] && 'stdin' in request.query"
    kubernetes: {verbs: [create], resources: [pods/exec]}
  - name: with-a-human
    action: RequireApproval
    when: "request.command == ['id', '-u']"
    kubernetes: {verbs: [create], resources: [pods/exec], namespaces: [NS]}
    approval: {approvers: {groups: [dba]}, quorum: 1, timeout: 0s, validFor: 15m}
  - {name: forward, action: Allow, kubernetes: {verbs: [create], resources: [pods/portforward], namespaces: [NS]}}"#;

/// A shop whose agent has kubectl, a Deployment and a Secret to work with.
struct Desk {
    shop: Shop,
    agent: String,
}

fn desk() -> Result<&'static Desk> {
    static DESK: OnceLock<Result<Desk, String>> = OnceLock::new();
    DESK.get_or_init(|| Desk::new("kube").map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("{error}"))
}

impl Desk {
    fn new(purpose: &str) -> Result<Desk> {
        let shop = Shop::new(purpose)?;
        let namespace = shop.namespace.name().to_owned();
        let name = format!("{namespace}-cluster");
        Kubectl::admin().in_namespace(DATABASES).apply(&format!(
            "apiVersion: chaperone.dev/v1alpha1\nkind: Connection\nmetadata: {{name: {name}}}\nspec:\n  \
             kubernetes: {{inCluster: true, credential: {{serviceAccount: Self}}}}\n  \
             consumers: {{namespaceSelector: {{matchLabels: {{team: shop}}}}}}\n",
        ))?;
        let rules = RULES.replace("NS", &namespace);
        shop.namespace.apply(&format!(
            "apiVersion: chaperone.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: cluster}}\nspec:\n  \
             subjects: [{{serviceAccount: report-agent}}]\n  connections: [{DATABASES}/{name}]\n  rules:{rules}\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {namespace}-all}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}\n\
             subjects: [{{kind: ServiceAccount, name: report-agent, namespace: {namespace}}}]\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: db}}\nstringData: {{password: {NEEDLE}}}\n"
        ))?;
        shop.namespace.apply(&shop.workload(
            "Deployment",
            "web",
            "[sh, -c, 'echo began; exec sleep infinity']",
        ))?;
        shop.namespace
            .apply(&shop.workload("Deployment", "agent", "[sleep, infinity]"))?;
        let annotation = format!("chaperone.dev/connections={DATABASES}/{name}");
        let kubectl = shop.namespace.kubectl();
        kubectl.ok(&["annotate", "deployment/agent", &annotation])?;
        for deployment in ["deployment/agent", "deployment/web"] {
            shop.namespace
                .wait_until_rolled_out(deployment)
                .with_context(operator_logs)?;
        }
        let agent = shop.pod("agent")?;
        let desk = Desk { shop, agent };
        desk.give_kubectl()?;
        Ok(desk)
    }

    /// The real one, which is no part of the agent's image.
    fn give_kubectl(&self) -> Result<()> {
        let program = xtask::cluster::program::folder()?.join("cluster");
        self.give(&program, "kubectl")?;
        self.ok("mkdir -p /tmp/home").map(drop)
    }

    /// Puts a program, or what one takes, into the agent's `/tmp`.
    fn give(&self, file: &Path, name: &str) -> Result<()> {
        let mut command = self.raw_sh(&format!("cat >/tmp/{name} && chmod +x /tmp/{name}"))?;
        let status = command.stdin(File::open(file)?).status()?;
        ensure!(
            status.success(),
            "{name} did not get into the pod: {status}"
        );
        Ok(())
    }

    /// A shell's script in the agent's container, which reads this command's input.
    fn raw_sh(&self, script: &str) -> Result<Command> {
        let mut command = shared()?.kubectl();
        command
            .arg(format!("--namespace={}", self.namespace()))
            .args(["exec", "-i", &self.agent, "-c", "agent", "--"])
            .args(["sh", "-c", script]);
        Ok(command)
    }

    fn namespace(&self) -> &str {
        self.shop.namespace.name()
    }

    fn web(&self) -> Result<String> {
        self.shop.pod("web")
    }

    /// A shell's script in the agent's container, with kubectl on its path.
    fn sh(&self, script: &str) -> Result<Transcript> {
        let script = format!("export PATH=/tmp:$PATH HOME=/tmp/home; {script}");
        let shop = &self.shop.namespace;
        shop.exec(&self.agent, Some("agent"), &["sh", "-c", &script])
    }

    /// The same, which must succeed.
    fn ok(&self, script: &str) -> Result<String> {
        self.sh(script)?.ok().with_context(|| script.to_owned())
    }

    /// Refused with this in the words of the API, and printed as kubectl prints such words.
    fn refused(&self, script: &str, reason: &str) -> Result<String> {
        let said = self.sh(script)?;
        ensure!(said.code != Some(0), "{script} succeeded: {}", said.all());
        ensure!(
            said.err.contains(reason),
            "{script}: no {reason} in {}",
            said.all()
        );
        Ok(said.err)
    }

    /// The newest session with a command that has this in it, once it has ended, and its transcript.
    fn transcript(&self, what: &str) -> Result<(String, String)> {
        let admin = Kubectl::admin();
        let subject = format!("{}/report-agent", self.namespace());
        let search = ["search", what, "--subject", &subject, "-o", "json"];
        self.shop.namespace.until("a session in the log", || {
            let found = admin.plugin(&search)?;
            // Nothing was found yet, or an array.
            let hits: Value = serde_json::from_str(&found.out).unwrap_or_default();
            let hit = hits.as_array().and_then(|hits| hits.last());
            let Some(session) = hit.and_then(|hit| hit["session"].as_str()) else {
                return Ok(None);
            };
            let shown = admin.plugin(&["show", session])?.ok()?;
            let ended = !shown.lines().take(3).any(|line| line.ends_with(", Open"));
            Ok(ended.then(|| (session.to_owned(), shown)))
        })
    }
}

#[test]
fn unmodified_kubectl_works() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let desk = desk()?;
    // In-cluster configuration, and a kubeconfig beside it; the token is none.
    let token = desk.ok("cat /var/run/secrets/kubernetes.io/serviceaccount/token")?;
    assert!(!token.contains('.'), "{token}");
    desk.ok("kubectl version && kubectl api-resources >/dev/null")?;
    assert_eq!(desk.ok("kubectl auth can-i get pods")?.trim(), "yes");
    let web = desk.web()?;
    let listed = desk.ok("kubectl get pods -o wide && kubectl describe deployment web && KUBECONFIG= kubectl get pods")?;
    assert!(listed.contains(&web), "{listed}");
    let applied = desk.ok(
        "cat >/tmp/config.yaml <<'Y'\n{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: one}}\nY\n\
         kubectl apply -f /tmp/config.yaml\n\
         sed -i s/one/two/ /tmp/config.yaml && kubectl diff -f /tmp/config.yaml; kubectl apply -f /tmp/config.yaml\n\
         sed -i s/two/three/ /tmp/config.yaml\n\
         kubectl apply --server-side --force-conflicts -f /tmp/config.yaml\n\
         kubectl patch configmap a --type=merge -p '{\"data\":{\"y\":\"m\"}}'\n\
         kubectl patch configmap a --type=json -p '[{\"op\":\"add\",\"path\":\"/data/z\",\"value\":\"j\"}]'\n\
         kubectl patch deployment web -p '{\"metadata\":{\"labels\":{\"strategic\":\"yes\"}}}'\n\
         kubectl get configmap a -o jsonpath='{.data}'",
    )?;
    assert!(
        applied.contains(r#"{"x":"three","y":"m","z":"j"}"#),
        "{applied}"
    );
    let logs = desk.ok("timeout 20 kubectl logs -f deployment/web | head -1")?;
    assert_eq!(logs.trim(), "began");
    desk.ok("kubectl scale deployment web --replicas=1 && kubectl rollout status deployment/web --timeout=60s && \
             kubectl wait deployment/web --for=condition=Available --timeout=60s")?;
    let copied = desk.ok(&format!(
        "echo through >/tmp/up && kubectl cp /tmp/up {web}:/tmp/up && kubectl cp {web}:/tmp/up /tmp/down && cat /tmp/down"
    ))?;
    assert!(copied.ends_with("through\n"), "{copied}");
    desk.ok(&format!(
        "kubectl exec {web} -- sh -c 'cd /tmp; echo hello >index.html; python3 -m http.server 8099 >/dev/null 2>&1 & \\
         for i in $(seq 600); do curl -sf http://127.0.0.1:8099/ >/dev/null && exit 0; sleep 0.1; done; exit 1'"
    ))?;
    let forwarded = desk.ok(&format!(
        "kubectl port-forward pod/{web} 8098:8099 >/tmp/forward 2>&1 & \
         for i in $(seq 600); do curl -sf http://127.0.0.1:8098/index.html && break; sleep 0.1; done; \
         kill $!; cat /tmp/forward"
    ))?;
    assert!(forwarded.contains("hello"), "{forwarded}");
    desk.ok("kubectl delete configmap a --wait=true")?;
    let watched = desk.ok(
        "(sleep 1; kubectl create configmap seen-by-a-watch) & timeout 5 kubectl get configmaps --watch-only; \
         kubectl delete configmap seen-by-a-watch",
    )?;
    assert!(watched.contains("seen-by-a-watch"), "{watched}");
    Ok(())
}

#[test]
fn a_denied_request_never_reaches_the_api_server() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let desk = desk()?;
    let said = desk.refused("kubectl delete deployment web -n kube-system", "NotCovered")?;
    assert!(said.contains("Error from server (Forbidden)"), "{said}");
    let pod = "cat <<'Y' | kubectl apply -f -\n{apiVersion: v1, kind: Pod, metadata: {name: wide}, spec: {hostNetwork: true, \
               containers: [{name: c, image: x}]}}\nY";
    let said = desk.refused(pod, "DeniedByRule")?;
    assert!(said.contains("Pods stay in their own network."), "{said}");
    desk.refused(
        &pod.replace("apply -f -", "apply --server-side -f -"),
        "DeniedByRule",
    )?;
    let patch = "kubectl patch deployment web --type=json \
                 -p '[{\"op\":\"replace\",\"path\":\"/spec/template/spec/containers/0/image\",\"value\":\"evil\"}]'";
    desk.refused(patch, "DeniedByRule")?;
    desk.refused("kubectl get pods -A", "NotCovered")?;
    desk.refused("kubectl get --raw /metrics", "NotCovered")?;
    desk.refused("kubectl get --raw /logs/", "NotCovered")?;
    let pods = desk.shop.namespace.kubectl().json(&["pods"])?;
    let image = pods.to_string();
    assert!(
        !image.contains("evil") && !image.contains("\"wide\""),
        "{image}"
    );
    Ok(())
}

#[test]
fn exec_is_recorded_and_replays() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let desk = desk()?;
    let web = desk.web()?;
    let said = desk.sh(&format!(
        "printf 'from-stdin\\n' | kubectl exec -i {web} -- sh -c 'cat; echo to-stderr >&2; exit 3'"
    ))?;
    assert_eq!(
        (said.out.as_str(), said.code),
        ("from-stdin\n", Some(3)),
        "{}",
        said.all()
    );
    assert!(said.err.contains("to-stderr"), "{}", said.err);
    // Denied, it does not start: neither over WebSocket nor over what kubectl falls back to.
    let denied = format!("kubectl exec {web} -- touch /tmp/never-created");
    desk.refused(&denied, "DeniedByRule")?;
    let spdy =
        format!("KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false kubectl exec {web} -- echo over-spdy");
    let told = desk.refused(&spdy, "UnsupportedMessage")?;
    assert!(
        told.contains("KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true"),
        "{told}"
    );
    let found = desk.ok(&format!("kubectl exec {web} -- sh -c 'ls /tmp'"))?;
    assert!(!found.contains("never-created"), "{found}");
    // What is typed is judged by no rule; whether anything may be typed, is.
    desk.ok(&format!("kubectl exec {web} -- cat -n"))?;
    let typed = format!("echo typed | kubectl exec -i {web} -- cat -n");
    desk.refused(&typed, "DeniedByRule")?;
    // Held, it starts once a human approved it.
    desk.shop.let_dba_approve()?;
    let held = format!("kubectl exec {web} -- id -u");
    let told = desk.refused(&held, "ApprovalPending")?;
    let request = desk.shop.pending()?;
    assert!(told.contains(&request), "{told}");
    let patch = r#"{"spec":{"decision":{"verdict":"Approve"}}}"#;
    desk.shop.approver("dora").ok(&[
        "patch",
        "approvalrequest",
        &request,
        "--type=merge",
        "-p",
        patch,
    ])?;
    let ran = desk
        .shop
        .namespace
        .until("the approved command to run", || {
            let said = desk.sh(&held)?;
            Ok((said.code == Some(0)).then_some(said.out))
        })?;
    assert_eq!(ran, "65532\n");

    let (session, shown) = desk.transcript("to-stderr >&2; exit 3")?;
    assert!(shown.contains("exit 3"), "{shown}");
    let admin = Kubectl::admin();
    let replayed = admin.plugin(&["replay", &session])?.ok()?;
    for line in [
        "stdin: from-stdin",
        "stdout: from-stdin",
        "stderr: to-stderr",
    ] {
        assert!(replayed.contains(line), "no {line} in {replayed}");
    }
    let cast = admin
        .plugin(&["export", &session, "--format", "asciicast"])?
        .ok()?;
    let events: Vec<Value> = cast
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let output: String = events[1..]
        .iter()
        .filter(|event| event[1] == "o")
        .filter_map(|event| event[2].as_str())
        .collect();
    assert!(
        output.contains("from-stdin") && output.contains("to-stderr"),
        "{cast}"
    );
    let verified = admin.plugin(&["verify", &session])?;
    assert_eq!(verified.code, Some(0), "{}", verified.all());
    Ok(())
}

#[test]
fn secrets_stay_masked() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let desk = desk()?;
    let encoded = desk.shop.namespace.kubectl().ok(&[
        "get",
        "secret",
        "db",
        "-o",
        "jsonpath={.data.password}",
    ])?;
    let api = "https://kubernetes.default.svc";
    let secrets = format!("{api}/api/v1/namespaces/{}/secrets", desk.namespace());
    let curl = "curl -sS --max-time 3 -H 'Accept:";
    let patch = |kind: &str, body: &str| {
        format!(
            "{curl} application/json' -X PATCH -H 'Content-Type: application/{kind}+json' -d '{body}' '{secrets}/db'"
        )
    };
    for script in [
        "kubectl get secret db -o json".to_owned(),
        "kubectl get secret db -o yaml".to_owned(),
        "kubectl get secrets".to_owned(),
        "kubectl get secrets -o json".to_owned(),
        "kubectl describe secret db".to_owned(),
        "kubectl get secret db -o jsonpath='{.data.password}' | base64 -d".to_owned(),
        "kubectl get secret db -o go-template='{{.data.password}}'".to_owned(),
        "timeout 3 kubectl get secrets --watch -o yaml || true".to_owned(),
        "timeout 3 kubectl get secrets --watch || true".to_owned(),
        "kubectl get secret db -v=9 2>&1".to_owned(),
        "kubectl annotate secret db seen=yes --overwrite -o yaml".to_owned(),
        "kubectl label secret db again=yes --overwrite --server-side 2>&1 || true; kubectl get events -o yaml".to_owned(),
        format!("{curl} application/json;as=Table;v=v1;g=meta.k8s.io' '{secrets}?includeObject=Object'"),
        format!("{curl} application/vnd.kubernetes.protobuf' '{secrets}/db'"),
        format!("{curl} application/cbor' '{secrets}/db'"),
        format!("{curl} application/yaml' '{secrets}/db'"),
        format!("{curl} application/json' -H 'Accept-Encoding: gzip' '{secrets}' | (gunzip 2>/dev/null || cat)"),
        format!("{curl} application/json' '{secrets}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true' || true"),
        format!("{curl} application/json' '{api}/api/v1/watch/namespaces/{}/secrets' || true", desk.namespace()),
        patch("merge-patch", r#"{"data":null,"immutable":"no"}"#),
        patch("merge-patch", r#"{"immutable":"no"}"#),
        patch("strategic-merge-patch", r#"{"immutable":"no"}"#),
        patch("json-patch", r#"[{"op":"add","path":"/immutable","value":"no"}]"#),
        patch("json-patch", r#"[{"op":"move","from":"/data/password","path":"/type"}]"#),
        patch("json-patch", r#"[{"op":"copy","from":"/data/password","path":"/metadata/labels/x"}]"#),
        patch("json-patch", r#"[{"op":"copy","from":"/data/password","path":"/metadata/annotations/x"}]"#),
        format!("{curl} application/json' -X DELETE '{secrets}/db?dryRun=All'"),
    ] {
        let said = desk.sh(&script)?;
        let all = said.all();
        assert!(!all.contains(NEEDLE) && !all.contains(encoded.trim()), "{script}: {all}");
    }
    // Nor does it get to where nothing masks it.
    for step in [
        r#"{"op":"copy","from":"/data/password","path":"/metadata/annotations/x"}"#,
        r#"{"op":"move","from":"/metadata/annotations","path":"/metadata/labels"}"#,
    ] {
        let patch = format!("kubectl patch secret db --type=json -p '[{step}]'");
        desk.refused(&patch, "MaskedFlow")?;
    }
    let absent = desk.refused("kubectl get secret absent", "NotFound")?;
    assert!(absent.contains("secrets \"absent\" not found"), "{absent}");
    let read = desk.ok("kubectl get secret db -o jsonpath='{.data.password}' | base64 -d")?;
    assert_eq!(read, "[masked]");
    // What the agent itself writes comes back masked, and is in no record.
    let own = "the-agents-own-secret";
    desk.ok(&format!(
        "kubectl create secret generic mine --from-literal=p={own} -o yaml"
    ))?;
    let created = desk.ok(&format!(
        "kubectl create secret generic yours --from-literal=p={own} --dry-run=client -o yaml | kubectl apply -f - -o yaml"
    ))?;
    assert!(created.contains("W21hc2tlZF0="), "{created}");
    // Applied again, what kubectl keeps of it is nothing to it, and no fault.
    let again = desk.ok(
        "kubectl create secret generic yours --from-literal=p=another --dry-run=client -o yaml | kubectl apply -f -",
    )?;
    assert_eq!(again, "secret/yours configured\n");
    // A masked value is never written over the real one.
    let said = desk.refused(
        "kubectl get secret db -o yaml | kubectl replace -f -",
        "MaskedWriteBack",
    )?;
    assert!(said.contains("Forbidden"), "{said}");
    let still = desk.shop.namespace.kubectl().ok(&[
        "get",
        "secret",
        "db",
        "-o",
        "jsonpath={.data.password}",
    ])?;
    assert_eq!(still, encoded);
    let (session, _) = desk.transcript("create secrets")?;
    for side in ["client", "server"] {
        let raw = Kubectl::admin()
            .plugin(&["replay", &session, "--raw", side])?
            .ok()?;
        let hidden = ["dGhlLWFnZW50cy1vd24tc2VjcmV0", own, NEEDLE, encoded.trim()];
        assert!(
            hidden.iter().all(|text| !raw.contains(text)),
            "{side}: {raw}"
        );
    }
    Ok(())
}

#[test]
fn sensitive_verbs_need_their_name() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let desk = desk()?;
    let web = desk.web()?;
    let namespace = desk.namespace();
    let api = format!("https://kubernetes.default.svc/api/v1/namespaces/{namespace}");
    let curl = "curl -sS --http1.1 --max-time 5 -w ' %{http_code}'";
    let bare = "-H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
                -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='";
    let upgrade = format!("{bare} -H 'Sec-WebSocket-Protocol: v5.channel.k8s.io'");
    for script in [
        // Without a channel protocol nobody could tell its streams apart.
        format!(
            "{curl} {bare} '{api}/pods/{web}/exec?command=touch&command=/tmp/never-created&stdout=true'"
        ),
        format!(
            "{curl} {upgrade} '{api}/pods/{web}/exec?command=touch&command=/tmp/never-created&stdout=true'"
        ),
        format!("{curl} {upgrade} '{api}/pods/{web}/attach?stdout=true'"),
        format!("{curl} {upgrade} '{api}/pods?watch=true'"),
        format!("{curl} '{api}/pods/{web}/proxy/'"),
        format!("{curl} '{api}/services/web/proxy/'"),
        format!("{curl} 'https://kubernetes.default.svc/api/v1/nodes/node/proxy/pods'"),
        format!(
            "{curl} -X POST -H 'Content-Type: application/json' -d '{{}}' '{api}/serviceaccounts/report-agent/token'"
        ),
        format!(
            "{curl} -X PATCH -H 'Content-Type: application/merge-patch+json' -d '{{}}' '{api}/pods/{web}/ephemeralcontainers'"
        ),
        format!(
            "{curl} -X POST -H 'Content-Type: application/json' -d '{{}}' '{api}/pods/{web}/eviction'"
        ),
        format!("{curl} -H 'Impersonate-User: system:admin' '{api}/pods'"),
        format!(
            "{curl} -H 'Impersonate-User: a' -H 'Impersonate-Group: system:masters' '{api}/pods'"
        ),
        "kubectl get pods --as=system:admin 2>&1; echo ' 403'".to_owned(),
        "kubectl create role r --verb=get --resource=pods 2>&1; echo ' 403'".to_owned(),
        "kubectl create rolebinding b --clusterrole=admin --user=ann 2>&1; echo ' 403'".to_owned(),
        "kubectl create token default 2>&1; echo ' 403'".to_owned(),
        format!("kubectl debug {web} --image={AGENT} 2>&1; echo ' 403'"),
        "kubectl get accesspolicies 2>&1; echo ' 403'".to_owned(),
    ] {
        let said = desk.sh(&script)?;
        assert!(
            said.out.trim_end().ends_with("403"),
            "{script}: {}",
            said.all()
        );
        let told = ["NotCovered", "DeniedByRule", "UnsupportedMessage"];
        assert!(
            told.iter().any(|reason| said.out.contains(reason)),
            "{script}: {}",
            said.all()
        );
    }
    let roles = desk
        .shop
        .namespace
        .kubectl()
        .ok(&["get", "roles,rolebindings", "-o", "name"])?;
    assert!(
        !roles.contains("/r\n") && !roles.contains("/b\n"),
        "{roles}"
    );
    Ok(())
}
