//! The cluster itself: what the harness says about pods, names, services and Pod Security is true
//! before anything of ours runs there.

use anyhow::{Context, Result, ensure};
use chaperone_e2e::cluster::{self, Kubectl, Namespace};
use serde_json::Value;
use xtask::image::ready_made::ReadyMade;

const PASSWORD: &str = "secret-of-the-cluster";

/// A pod with one container that waits to be told what to do.
fn waiting_pod(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers: [{{name: main, image: \"{image}\", command: [sleep, infinity]}}]\n"
    )
}

#[test]
fn node_is_ready_and_runs_what_it_says() -> Result<()> {
    if cluster::unavailable() {
        return Ok(());
    }
    let nodes = Kubectl::admin().json(&["nodes"])?;
    let text = |path: &str| nodes.pointer(path).and_then(Value::as_str);
    ensure!(text("/items/0/metadata/name") == Some("node1"), "{nodes}");
    ensure!(text("/items/0/status/nodeInfo/kubeletVersion") == Some("v1.34.4"));
    let ready = nodes
        .pointer("/items/0/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|condition| {
            condition.get("type").and_then(Value::as_str) == Some("Ready")
                && condition.get("status").and_then(Value::as_str) == Some("True")
        });
    ensure!(ready, "{nodes}");
    // Real helm, on the same cluster.
    let mut helm = cluster::shared()?.helm();
    helm.args(["list", "--all-namespaces", "-o", "json"]);
    let said = chaperone_e2e::clients::run(helm, "")?.ok()?;
    ensure!(said.trim() == "[]", "{said}");
    Ok(())
}

#[test]
fn pod_runs_a_command_and_tells_of_it() -> Result<()> {
    if cluster::unavailable() {
        return Ok(());
    }
    let namespace = Namespace::new("pod")?;
    let image = cluster::image(ReadyMade::Busybox)?;
    namespace.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: one}}\nspec:\n  restartPolicy: Never\n  \
         containers: [{{name: main, image: \"{image}\", args: [-c, \"echo said; exit 3\"]}}]\n"
    ))?;
    namespace.wait_for("pod/one", "jsonpath={.status.phase}=Failed")?;
    ensure!(namespace.logs("one", "main")?.trim() == "said");
    let pod = namespace.kubectl().json(&["pod", "one"])?;
    let code = pod.pointer("/status/containerStatuses/0/state/terminated/exitCode");
    ensure!(code.and_then(Value::as_i64) == Some(3), "{pod}");
    ensure!(namespace.events()?.contains("Started Pod/one"));

    namespace.apply(&waiting_pod("two", image))?;
    namespace.wait_until_ready("two")?;
    let said = namespace.exec("two", Some("main"), &["sh", "-c", "id -u; exit 4"])?;
    ensure!(
        said.code == Some(4) && said.out.trim() == "65532",
        "{}",
        said.all()
    );
    Ok(())
}

/// Across pods, by the service's name in its short and its full form, with a password.
#[test]
fn postgres_serves_an_agent_by_its_service_name() -> Result<()> {
    if cluster::unavailable() {
        return Ok(());
    }
    let databases = Namespace::restricted("databases")?;
    let shop = Namespace::new("shop")?;
    databases.apply(&postgres(cluster::image(ReadyMade::Postgres)?))?;
    shop.apply(&waiting_pod("agent", cluster::image(ReadyMade::Agent)?))?;
    databases.wait_until_rolled_out("deployment/orders")?;
    shop.wait_until_ready("agent")?;

    let short = format!("orders.{}", databases.name());
    let full = format!("{short}.svc.cluster.local");
    for host in [&short, &full] {
        let url = format!("postgres://agent:{PASSWORD}@{host}/orders");
        let psql = ["psql", "-XAt", &url, "-c", "SELECT body FROM notes"];
        let said = shop.exec("agent", None, &psql)?;
        ensure!(said.out.trim() == "from the seed", "{}", said.all());
    }
    let url = format!("postgres://agent:wrong@{short}/orders");
    let said = shop.exec("agent", None, &["psql", "-XAt", &url, "-c", "SELECT 1"])?;
    ensure!(
        said.code == Some(2) && said.err.contains("password authentication failed"),
        "{}",
        said.all()
    );
    // The server's own word, by the label as a test that knows no pod's name would ask.
    let pod = databases.pods("app=orders")?.pop().context("no pod")?;
    ensure!(
        databases
            .logs(&pod, "postgres")?
            .contains("SELECT body FROM notes")
    );
    // Python's names are glibc's, as those of most agents.
    let script = format!("import socket; print(socket.gethostbyname('{short}'))");
    let said = shop.exec("agent", None, &["python3", "-c", &script])?;
    ensure!(said.out.starts_with("10.96."), "{}", said.all());
    Ok(())
}

fn postgres(image: &str) -> String {
    format!(
        r#"apiVersion: v1
kind: ConfigMap
metadata: {{name: seed}}
data:
  seed.sql: |
    CREATE TABLE notes (body text);
    INSERT INTO notes VALUES ('from the seed');
    CREATE ROLE agent LOGIN PASSWORD '{PASSWORD}';
    GRANT SELECT ON notes TO agent;
---
apiVersion: v1
kind: Service
metadata: {{name: orders}}
spec: {{selector: {{app: orders}}, ports: [{{port: 5432}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: orders}}
spec:
  selector: {{matchLabels: {{app: orders}}}}
  template:
    metadata: {{labels: {{app: orders}}}}
    spec:
      securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: postgres
        image: "{image}"
        args: [-c, log_statement=all]
        env:
        - {{name: POSTGRES_PASSWORD, value: secret-of-the-superuser}}
        - {{name: POSTGRES_DB, value: orders}}
        readinessProbe: {{exec: {{command: [pg_isready, -h, 127.0.0.1]}}, periodSeconds: 1}}
        securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
        volumeMounts: [{{name: seed, mountPath: /docker-entrypoint-initdb.d}}]
      volumes: [{{name: seed, configMap: {{name: seed}}}}]
"#
    )
}

/// What the injected sidecar relies on: a name of the target's that leads to loopback, where an
/// unprivileged process listens on a privileged port.
#[test]
fn restricted_admits_host_aliases_and_unprivileged_low_ports() -> Result<()> {
    if cluster::unavailable() {
        return Ok(());
    }
    let namespace = Namespace::restricted("restricted")?;
    let image = cluster::image(ReadyMade::Agent)?;
    let refusal = namespace.kubectl().refused(&waiting_pod("lax", image))?;
    ensure!(refusal.contains("violates PodSecurity"), "{refusal}");
    namespace.apply(&format!(
        r#"apiVersion: v1
kind: Pod
metadata: {{name: agent}}
spec:
  terminationGracePeriodSeconds: 0
  hostAliases: [{{ip: 127.0.0.2, hostnames: [orders.example]}}]
  securityContext:
    runAsNonRoot: true
    seccompProfile: {{type: RuntimeDefault}}
    sysctls: [{{name: net.ipv4.ip_unprivileged_port_start, value: "0"}}]
  containers:
  - name: main
    image: "{image}"
    command: [python3, -m, http.server, --bind, 127.0.0.2, --directory, /etc, "80"]
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
    readinessProbe: {{exec: {{command: [nc, -w, "1", 127.0.0.2, "80"]}}, periodSeconds: 1}}
"#
    ))?;
    namespace.wait_until_ready("agent")?;
    let script = "import urllib.request as u; print(u.urlopen('http://orders.example/nsswitch.conf').status)";
    let said = namespace.exec("agent", None, &["python3", "-c", script])?;
    ensure!(said.out.trim() == "200", "{}", said.all());
    Ok(())
}

/// An init container that stays, with a startup probe: nothing else starts before it has passed.
#[test]
fn native_sidecar_starts_before_the_main_container() -> Result<()> {
    if cluster::unavailable() {
        return Ok(());
    }
    let namespace = Namespace::new("sidecar")?;
    let image = cluster::image(ReadyMade::Busybox)?;
    namespace.apply(&format!(
        r#"apiVersion: v1
kind: Pod
metadata: {{name: pair}}
spec:
  terminationGracePeriodSeconds: 0
  restartPolicy: Never
  volumes: [{{name: shared, emptyDir: {{}}}}]
  initContainers:
  - name: sidecar
    image: "{image}"
    restartPolicy: Always
    args: [-c, "sleep 2; touch /shared/up; sleep infinity"]
    startupProbe: {{exec: {{command: [test, -e, /shared/up]}}, periodSeconds: 1, failureThreshold: 30}}
    volumeMounts: [{{name: shared, mountPath: /shared}}]
  containers:
  - name: main
    image: "{image}"
    args: [-c, "test -e /shared/up && echo after the sidecar"]
    volumeMounts: [{{name: shared, mountPath: /shared}}]
"#
    ))?;
    // The pod is done when its main container is: the sidecar is ended for it.
    namespace.wait_for("pod/pair", "jsonpath={.status.phase}=Succeeded")?;
    ensure!(namespace.logs("pair", "main")?.trim() == "after the sidecar");
    Ok(())
}

#[test]
fn rights_are_those_of_the_impersonated_user() -> Result<()> {
    if cluster::unavailable() {
        return Ok(());
    }
    let namespace = Namespace::new("rights")?;
    namespace.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: viewers}\n\
         roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}\n\
         subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: viewers}]\n",
    )?;
    let viewer = namespace.kubectl().impersonating("jane", &["viewers"]);
    viewer.ok(&["get", "pods"])?;
    let refusal = viewer.refused("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: made}\n")?;
    ensure!(refusal.contains("forbidden"), "{refusal}");
    let nobody = namespace.kubectl().impersonating("joe", &[]);
    let said = nobody.run(&["get", "pods"])?;
    ensure!(
        said.code == Some(1) && said.err.contains("forbidden"),
        "{}",
        said.all()
    );
    Ok(())
}
