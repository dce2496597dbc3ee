//! Chaperone on the shared cluster, installed by helm, and a shop whose agents use it.
//!
//! ```text
//! namespace databases: PostgreSQL `orders`, its Secret, one Connection a test
//! namespace of a test: ServiceAccount report-agent, an AccessPolicy, the agents
//! ```

use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use xtask::cluster::chart;
use xtask::image::ready_made::{AGENT, POSTGRES, ReadyMade};

pub use xtask::cluster::chart::{DATABASES, SYSTEM};

use crate::clients::{Background, Transcript};
use crate::cluster::{Kubectl, Namespace, image, shared};
use crate::lab;

/// The database's own name, as an agent would write it into its configuration.
pub const HOST: &str = "orders.databases.svc.cluster.local";
/// A value that no agent may see.
pub const RAW: &str = "ada@raw.example";
/// The rules of a shop: reads are allowed, deletes need a human of group `dba`.
pub const RULES: &str =
    "- {name: read, action: Allow, sql: {effects: [Read], relations: ['public.*']}}
  - name: deletes
    action: RequireApproval
    sql: {effects: [Delete], relations: [public.orders]}
    approval: {approvers: {groups: [dba]}, quorum: 1, timeout: 0s, validFor: 15m}";
/// Rows of `customers`, the second column masked.
pub const READ: &str = "SELECT name, email FROM customers ORDER BY id";

/// Fails unless this is what [`READ`] gives an agent.
///
/// # Panics
/// If a raw value is in it, or no masked one.
#[track_caller]
pub fn assert_masked(out: &str) {
    assert!(out.contains("Ada|[masked"), "{out}");
    assert!(!out.contains(RAW), "{out}");
}

const DATABASE: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: seed}
data:
  seed.sql: |
    CREATE ROLE orders_agent LOGIN PASSWORD 'only the sidecar knows';
    CREATE TABLE customers (id int PRIMARY KEY, name text, email text);
    INSERT INTO customers VALUES (1, 'Ada', 'ada@raw.example'), (2, 'Grace', 'grace@raw.example');
    CREATE TABLE orders (id int PRIMARY KEY, customer int, note text);
    INSERT INTO orders SELECT n, 1, 'note ' || n FROM generate_series(1, 1000) AS n;
    GRANT ALL ON ALL TABLES IN SCHEMA public TO orders_agent;
---
apiVersion: v1
kind: Secret
metadata: {name: orders-agent}
stringData: {username: orders_agent, password: only the sidecar knows}
---
apiVersion: v1
kind: Pod
metadata: {name: postgres, labels: {app: postgres}}
spec:
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: postgres
    image: POSTGRES
    args: ["-c", "log_statement=all"]
    env: [{name: POSTGRES_PASSWORD, value: of-the-superuser}, {name: POSTGRES_DB, value: orders}]
    readinessProbe: {exec: {command: [pg_isready, -h, 127.0.0.1]}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 30}
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: seed, mountPath: /docker-entrypoint-initdb.d}]
  volumes: [{name: seed, configMap: {name: seed}}]
---
apiVersion: v1
kind: Service
metadata: {name: orders}
spec: {selector: {app: postgres}, ports: [{port: 5432}]}
"#;

/// The release on the shared cluster, with the database; made on first use.
pub fn installed() -> Result<()> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    INSTALLED
        .get_or_init(|| install().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow!("{error}"))
}

fn install() -> Result<()> {
    let cluster = shared()?;
    chart::prepare(cluster, &lab::operator()?, &lab::binaries()?.sidecar)?;
    image(ReadyMade::Agent)?;
    image(ReadyMade::Postgres)?;
    let databases = Kubectl::admin().in_namespace(DATABASES);
    databases.apply(&DATABASE.replace("POSTGRES\n", &format!("{POSTGRES}\n")))?;
    upgrade(&[])?;
    databases
        .ok(&[
            "wait",
            "pod/postgres",
            "--for=condition=Ready",
            "--timeout=90s",
        ])
        .map(|_| ())
}

/// `helm upgrade`, with what a test sets besides.
pub fn upgrade(more: &[&str]) -> Result<()> {
    let mut command = chart::helm(shared()?);
    command.args(more);
    let said = crate::clients::run(command, "")?;
    ensure!(
        said.code == Some(0),
        "helm: {}\n{}",
        said.all(),
        operator_logs()
    );
    Ok(())
}

/// The ends of the operators' logs.
pub fn operator_logs() -> String {
    let system = Kubectl::admin().in_namespace(SYSTEM);
    let mut text = String::new();
    for arguments in [
        &["get", "pods", "-o", "wide"][..],
        &["get", "events"],
        &[
            "logs",
            "-l",
            "app.kubernetes.io/name=chaperone",
            "--prefix",
            "--tail=60",
        ],
    ] {
        if let Ok(said) = system.run(arguments) {
            text.push_str(&said.all());
        }
    }
    text
}

/// One test's namespace with a Connection, and a policy for its service account `report-agent`.
#[derive(Debug)]
pub struct Shop {
    /// Where its agents run; Pod Security *restricted*.
    pub namespace: Namespace,
}

impl Shop {
    /// Makes one. Reads are allowed, e-mail addresses masked, deletes need a human of group `dba`.
    pub fn new(purpose: &str) -> Result<Shop> {
        Shop::labelled(purpose, &[])
    }

    /// The same in a namespace whose every pod is governed; tests may exec into agents.
    pub fn governed(purpose: &str) -> Result<Shop> {
        Shop::labelled(
            purpose,
            &[
                "chaperone.dev/governed=true",
                "chaperone.dev/allow-exec=true",
            ],
        )
    }

    fn labelled(purpose: &str, labels: &[&str]) -> Result<Shop> {
        installed()?;
        let namespace = Namespace::restricted(purpose)?;
        let mut arguments = vec!["label", "namespace", namespace.name(), "team=shop"];
        arguments.extend(labels);
        Kubectl::admin().ok(&arguments)?;
        let shop = Shop { namespace };
        shop.connection("")?;
        shop.namespace
            .apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: report-agent}\n")?;
        shop.policy(RULES)?;
        Ok(shop)
    }

    /// `namespace/name` of its Connection.
    pub fn connection_name(&self) -> String {
        format!("{DATABASES}/{}", self.namespace.name())
    }

    /// (Re)writes its Connection, with more of its spec indented by two.
    pub fn connection(&self, more: &str) -> Result<()> {
        let yaml = format!(
            "apiVersion: chaperone.dev/v1alpha1\nkind: Connection\nmetadata: {{name: {}}}\nspec:\n  \
             postgres:\n    host: {HOST}\n    database: orders\n    tls: {{mode: Disable}}\n    \
             credential: {{secret: {{name: orders-agent}}}}\n  \
             consumers: {{namespaceSelector: {{matchLabels: {{team: shop}}}}}}\n  guardrails:\n    \
             masking:\n    - {{name: pii, columns: [public.customers.email], strategy: Redact}}\n{more}",
            self.namespace.name()
        );
        Kubectl::admin()
            .in_namespace(DATABASES)
            .apply(&yaml)
            .map(|_| ())
    }

    /// (Re)writes its policy with `rules`, a YAML list indented by two.
    pub fn policy(&self, rules: &str) -> Result<()> {
        self.policy_of("{serviceAccount: report-agent}", rules)
    }

    /// The same for another subject, a YAML mapping.
    pub fn policy_of(&self, subject: &str, rules: &str) -> Result<()> {
        self.namespace.apply(&format!(
            "apiVersion: chaperone.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: report-agent}}\nspec:\n  \
             subjects: [{subject}]\n  connections: [{}]\n  rules:\n  {rules}\n",
            self.connection_name()
        ))
    }

    /// A workload's manifest without anything of ours: `kind` is Deployment, DaemonSet, StatefulSet,
    /// Job, CronJob or Pod, and its one container runs `command`, a YAML list.
    pub fn workload(&self, kind: &str, name: &str, command: &str) -> String {
        let restart = match kind {
            "Job" | "CronJob" => "Never",
            _ => "Always",
        };
        let pod = format!(
            "{{serviceAccountName: report-agent, terminationGracePeriodSeconds: 1, restartPolicy: {restart}, \
             securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}, \
             containers: [{{name: agent, image: '{AGENT}', command: {command}, \
             securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}}}]}}"
        );
        let template = format!("{{metadata: {{labels: {{app: {name}}}}}, spec: {pod}}}");
        let selector = format!("selector: {{matchLabels: {{app: {name}}}}}");
        let (version, spec) = match kind {
            "Pod" => ("v1", pod),
            "Job" => (
                "batch/v1",
                format!("{{backoffLimit: 0, template: {template}}}"),
            ),
            "CronJob" => (
                "batch/v1",
                format!(
                    "{{schedule: '0 0 1 1 *', jobTemplate: {{spec: {{backoffLimit: 0, template: {template}}}}}}}"
                ),
            ),
            "StatefulSet" => (
                "apps/v1",
                format!("{{serviceName: none, {selector}, template: {template}}}"),
            ),
            _ => ("apps/v1", format!("{{{selector}, template: {template}}}")),
        };
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec: {spec}\n"
        )
    }

    /// The same, annotated from the beginning.
    pub fn annotated(&self, kind: &str, name: &str, command: &str) -> String {
        let plain = format!("metadata: {{name: {name},");
        let annotation = format!("chaperone.dev/connections: {}", self.connection_name());
        self.workload(kind, name, command)
            .replace(&plain, &format!("{plain} annotations: {{{annotation}}},"))
    }

    /// Annotates a workload as a platform engineer would.
    pub fn annotate(&self, object: &str) -> Result<()> {
        let annotation = format!("chaperone.dev/connections={}", self.connection_name());
        self.namespace
            .kubectl()
            .ok(&["annotate", "--overwrite", object, &annotation])
            .map(|_| ())
    }

    /// The one pod with the label `app=NAME`.
    pub fn pod(&self, app: &str) -> Result<String> {
        self.namespace.until("one pod", || {
            let mut pods = self.namespace.pods(&format!("app={app}"))?;
            Ok((pods.len() == 1).then(|| pods.remove(0)))
        })
    }

    /// A Deployment of this name whose agent sleeps, annotated, with its pod Ready; the pod's name.
    pub fn agent(&self, name: &str) -> Result<String> {
        self.namespace
            .apply(&self.workload("Deployment", name, "[sleep, infinity]"))?;
        let deployment = format!("deployment/{name}");
        self.annotate(&deployment)?;
        self.namespace
            .wait_until_rolled_out(&deployment)
            .with_context(operator_logs)?;
        self.pod(name)
    }

    /// The name of the one request in here that waits for a human, once there is one.
    pub fn pending(&self) -> Result<String> {
        self.namespace.until("a request that waits", || {
            let list = self.namespace.kubectl().json(&["approvalrequests"])?;
            let requests = list.get("items").and_then(Value::as_array);
            let mut waiting = requests.into_iter().flatten().filter(|request| {
                request.pointer("/status/phase").and_then(Value::as_str) == Some("Pending")
            });
            let name = waiting.next().and_then(|one| one.pointer("/metadata/name"));
            Ok(name.and_then(Value::as_str).map(str::to_owned))
        })
    }

    /// What an Event with this reason on a Deployment says, once there is one.
    pub fn event(&self, deployment: &str, reason: &str) -> Result<String> {
        let field = format!(
            "involvedObject.kind=Deployment,involvedObject.name={deployment},reason={reason}"
        );
        self.namespace.until("an Event on the Deployment", || {
            let words = ["events", "--field-selector", &field];
            let events = self.namespace.kubectl().json(&words)?;
            let message = events.pointer("/items/0/message").and_then(Value::as_str);
            Ok(message.map(str::to_owned))
        })
    }

    /// A person of group `dba`, who may approve.
    pub fn approver(&self, name: &str) -> Kubectl {
        Kubectl::admin()
            .in_namespace(self.namespace.name())
            .impersonating(name, &["dba", "system:authenticated"])
    }

    /// Lets the group `dba` approve what waits for this shop's Connections.
    pub fn let_dba_approve(&self) -> Result<()> {
        Kubectl::admin().ok(&[
            "create",
            "clusterrolebinding",
            self.namespace.name(),
            "--clusterrole=chaperone-approver",
            "--group=dba",
        ])?;
        Ok(())
    }

    /// Starts a shell's script in an agent's pod, and goes on.
    pub fn in_background(&self, pod: &str, script: &str) -> Result<Background> {
        self.namespace
            .kubectl()
            .in_background(&["exec", pod, "-c", "agent", "--", "sh", "-c", script])
    }

    /// psql in an agent's pod, by the database's own name, with no password.
    pub fn psql(&self, pod: &str, sql: &str) -> Result<Transcript> {
        self.psql_with(pod, "", sql)
    }

    /// The same with a password, which is a token; empty for none.
    pub fn psql_with(&self, pod: &str, password: &str, sql: &str) -> Result<Transcript> {
        let password = format!("PGPASSWORD={password}");
        let words = [
            "env", &password, "psql", "-X", "-A", "-t", "-w", "-h", HOST, "-d", "orders", "-c", sql,
        ];
        self.namespace.exec(pod, Some("agent"), &words)
    }
}
