//! `cargo bench-all --only cluster`: what only a cluster has, on a real one with the chart: starts,
//! memory, admission, evidence on its way into etcd, a command's output through the API server.

mod copies;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::machine;
use crate::cluster::{self, Cluster, chart};
use crate::image::ready_made::{AGENT, POSTGRES, ReadyMade};
use crate::needs::{self, Need};
use crate::options::Options;
use crate::process::{Process, Scratch, is_root, succeed};
use crate::wait::{wait_for, wait_in_steps};
use crate::workspace::{self, Binaries, Profile};

/// Sidecars that are started one after the other.
const STARTS: usize = 7;
/// Connections that are open at once while memory is looked at.
const CONNECTIONS: usize = 64;
/// Pods that are asked for with the annotation, and as many without, after the first few.
const REQUESTS: usize = 300;
const WARM_UP: usize = 20;
/// Clients of pgbench, and transactions of each.
const CLIENTS: usize = 8;
const TRANSACTIONS: usize = 1000;
/// Longest that anything here may take.
const DEADLINE: Duration = Duration::from_secs(90);
/// Between two looks, each of which is a process and a request.
const STEP: Duration = Duration::from_millis(100);

const NAMESPACE: &str = "bench";
const OPERATOR: &str = "deployment/chaperone-operator";

/// Prints the table, or says why there is none.
pub(super) fn run(options: &Options) -> Result<()> {
    if !is_root() {
        println!("NOT MEASURED: what only a cluster has, which takes root");
        return Ok(());
    }
    let wanted = [&cluster::NEEDS[..], &[Need::PostgreSql]].concat();
    needs::install(&wanted, options.yes)?;
    let sidecar = Binaries::build(Profile::Release)?.sidecar;
    let operator = workspace::operator(Profile::Release)?;
    let state = std::env::temp_dir().join(format!("chaperone-bench-{}", std::process::id()));
    let cluster = Cluster::up(&state)?;
    chart::prepare(&cluster, &operator, &sidecar)?;
    cluster.load(ReadyMade::Agent)?;
    cluster.load(ReadyMade::Postgres)?;
    succeed(&mut chart::helm(&cluster))?;
    let bench = Bench {
        scratch: Scratch::new("bench-cluster")?,
        cluster,
    };
    let head = machine()?;
    bench.prepare()?;
    let mut table = Table::default();
    bench.starts(&mut table)?;
    bench.memory(&mut table)?;
    bench.admission(&mut table)?;
    bench.evidence(&mut table)?;
    bench.copies(&mut table)?;
    println!("\n{head}; a whole Kubernetes on it\n\n{}", table.render());
    bench.cluster.down()
}

struct Bench {
    cluster: Cluster,
    scratch: Scratch,
}

impl Bench {
    fn kubectl(&self, words: &[&str]) -> Result<String> {
        let output = succeed(self.cluster.kubectl().args(words))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn apply(&self, yaml: &str) -> Result<()> {
        let file = self.scratch.path().join("applied.yaml");
        fs::write(&file, yaml)?;
        let file = file.to_string_lossy().into_owned();
        self.kubectl(&["apply", "-f", &file]).map(|_| ())
    }

    fn wait(&self, namespace: &str, object: &str, condition: &str) -> Result<()> {
        let condition = format!("--for={condition}");
        let words = ["wait", "-n", namespace, object, &condition, "--timeout=90s"];
        self.kubectl(&words).map(|_| ())
    }

    fn prepare(&self) -> Result<()> {
        self.apply(&TARGET.replace("image: POSTGRES\n", &format!("image: {POSTGRES}\n")))?;
        self.wait(chart::DATABASES, "pod/postgres", "condition=Ready")?;
        self.apply(&pod("agent"))?;
        self.wait(NAMESPACE, "pod/agent", "condition=Ready")
    }

    /// By the sidecar's own word: from its first instruction to all that its probe asks for.
    fn starts(&self, table: &mut Table) -> Result<()> {
        let mut took = Vec::new();
        for number in 0..STARTS {
            let name = format!("start-{number}");
            self.apply(&pod(&name))?;
            self.wait(NAMESPACE, &format!("pod/{name}"), "condition=Ready")?;
            let log = self.kubectl(&["logs", "-n", NAMESPACE, &name, "-c", "chaperone"])?;
            let ready = log.lines().find_map(|line| {
                let rest = line.split_once("ready after ")?.1;
                rest.split(' ').next()?.parse::<f64>().ok()
            });
            took.push(ready.with_context(|| format!("{name} does not say when:\n{log}"))?);
            let words = ["delete", "pod", "-n", NAMESPACE, &name, "--wait=false"];
            self.kubectl(&words)?;
        }
        table.row("sidecar start to ready", "ms", &mut took, "≤ 150");
        Ok(())
    }

    fn memory(&self, table: &mut Table) -> Result<()> {
        self.apply(&pod("crowd"))?;
        self.wait(NAMESPACE, "pod/crowd", "condition=Ready")?;
        let (pss, rss) = self.resident("chaperone-sidecar run", Some("crowd"))?;
        table.figure("sidecar idle, PSS", "MB", pss, "≤ 12");
        table.figure("sidecar idle, RSS", "MB", rss, "");
        let script = format!(
            "for n in $(seq {CONNECTIONS}); do \
             (echo 'SELECT 1;'; sleep 60) | psql -XAtq & done; wait"
        );
        let mut exec = self.cluster.kubectl();
        exec.args(["exec", "-n", NAMESPACE, "crowd", "-c", "agent", "--"]);
        exec.args(["sh", "-c", &script]);
        let log = self.scratch.path().join("connections.log");
        let connected = Process::spawn(exec, &log, "KILL")?;
        wait_for("all connections", DEADLINE, || {
            let said = fs::read_to_string(&log)?;
            Ok((said.lines().filter(|line| *line == "1").count() == CONNECTIONS).then_some(()))
        })
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        let (pss, rss) = self.resident("chaperone-sidecar run", Some("crowd"))?;
        let what = |which| format!("sidecar at {CONNECTIONS} connections, {which}");
        table.figure(&what("PSS"), "MB", pss, "≤ 20");
        table.figure(&what("RSS"), "MB", rss, "");
        drop(connected);
        // With all that it has still to send.
        self.kubectl(&["delete", "pod", "-n", NAMESPACE, "crowd"])?;
        let (pss, _) = self.resident("chaperone-operator run", None)?;
        table.figure(
            "operator, a few pods, PSS",
            "MB",
            pss,
            "≤ 150 at 1 000 pods",
        );
        Ok(())
    }

    /// PSS and RSS in MB of the first process whose command line ends its program's name so, in
    /// the pod if one is named (proc(5), smaps_rollup).
    fn resident(&self, program: &str, pod: Option<&str>) -> Result<(f64, f64)> {
        let mut shell = self.cluster.on_node("sh");
        shell.args(["-c", RESIDENT, program, pod.unwrap_or_default()]);
        let output = succeed(&mut shell)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let kib = |name: &str| -> Option<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let both = kib("Pss:").zip(kib("Rss:"));
        let (pss, rss) = both.with_context(|| format!("no {program} on the node: {text}"))?;
        Ok((pss / 1000.0 * 1.024, rss / 1000.0 * 1.024))
    }

    /// Pods by dry run through the real API server, with the annotation and without, alternating
    /// on one connection.
    fn admission(&self, table: &mut Table) -> Result<()> {
        let request = self.requests()?;
        let mut command = self.cluster.command(Path::new("curl"));
        let output = succeed(
            command
                .args(["--silent", "--show-error", "--config"])
                .arg(request),
        )?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut times: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
        for line in text.lines().skip(2 * WARM_UP) {
            let mut words = line.split(' ');
            let (kind, code, seconds) = (words.next(), words.next(), words.next());
            ensure!(code == Some("201"), "a pod was refused: {line}");
            let seconds: f64 = seconds.unwrap_or_default().parse()?;
            let [plain, injected] = &mut times;
            match kind {
                Some("plain") => plain.push(seconds * 1000.0),
                _ => injected.push(seconds * 1000.0),
            }
        }
        let [mut plain, mut injected] = times;
        ensure!(injected.len() == REQUESTS, "{} answers", injected.len());
        let added = percentile(&mut injected, 0.5) - percentile(&mut plain, 0.5);
        let far = percentile(&mut injected, 0.99) - percentile(&mut plain, 0.99);
        table.row("pod create, not annotated", "ms", &mut plain, "");
        table.row("pod create, injected", "ms", &mut injected, "");
        let name = "added by injection: medians, p99s apart";
        table.line(name, "ms", REQUESTS, added, Some(far), "p99 ≤ 20");
        Ok(())
    }

    /// curl's configuration with all requests, one after the other.
    fn requests(&self) -> Result<PathBuf> {
        let folder = self.scratch.path();
        for (file, field) in [
            ("ca.crt", "clusters[0].cluster.certificate-authority-data"),
            ("admin.crt", "users[0].user.client-certificate-data"),
            ("admin.key", "users[0].user.client-key-data"),
        ] {
            let view = format!("jsonpath={{.{field}}}");
            let encoded = self.kubectl(&["config", "view", "--raw", "-o", &view])?;
            let path = folder.join(file);
            fs::write(&path, encoded)?;
            let decoded = succeed(Command::new("base64").arg("--decode").arg(&path))?;
            fs::write(&path, decoded.stdout)?;
        }
        let injected = pod("dry");
        let plain = injected.replace("chaperone.dev/connections", "example.com/connections");
        fs::write(folder.join("injected.yaml"), injected)?;
        fs::write(folder.join("plain.yaml"), plain)?;
        let one = |kind: &str| {
            let folder = folder.display();
            format!(
                "url = \"https://{}:6443/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All\"\n\
                 header = \"Content-Type: application/yaml\"\n\
                 data-binary = \"@{folder}/{kind}.yaml\"\n\
                 cacert = \"{folder}/ca.crt\"\ncert = \"{folder}/admin.crt\"\n\
                 key = \"{folder}/admin.key\"\noutput = \"/dev/null\"\n\
                 write-out = \"{kind} %{{http_code}} %{{time_total}}\\n\"\n",
                self.cluster.address()
            )
        };
        let pair = [one("plain"), one("injected")].join("next\n");
        let all = vec![pair; WARM_UP + REQUESTS].join("next\n");
        let path = folder.join("requests.curl");
        fs::write(&path, all)?;
        Ok(path)
    }

    /// What pgbench leaves in etcd as it goes on, and how fast a backlog of it gets there.
    fn evidence(&self, table: &mut Table) -> Result<()> {
        let before = self.arrived()?;
        self.pgbench()?;
        let live = self.all_arrived(&before)?;
        let records = live.records - before.records;
        let bytes = (live.bytes - before.bytes) / records;
        table.figure("etcd a record, pgbench -S live", "bytes", bytes, "≤ 150");

        // The backlog: nobody takes anything in while the agent works on.
        self.scale(0)?;
        self.pgbench()?;
        self.scale(1)?;
        let first = self.segments()?;
        wait_in_steps(DEADLINE, STEP, || {
            Ok((self.segments()? > first).then_some(()))
        })?
        .context("the backlog does not begin to arrive")?;
        let begun = Instant::now();
        let done = self.all_arrived(&live)?;
        let (took, records) = (begun.elapsed().as_secs_f64(), done.records - live.records);
        table.figure("backlog that was taken in", "records", records, "");
        table.figure(
            "ingest into AuditSegments",
            "records/s",
            records / took,
            "≥ 5 000",
        );
        let bytes = (done.bytes - live.bytes) / records;
        table.figure("etcd a record, of a backlog", "bytes", bytes, "≤ 150");
        Ok(())
    }

    fn pgbench(&self) -> Result<()> {
        let transactions = TRANSACTIONS.to_string();
        let clients = CLIENTS.to_string();
        let words = [
            "exec",
            "-n",
            NAMESPACE,
            "agent",
            "-c",
            "agent",
            "--",
            "pgbench",
            "-n",
            "-S",
            "-c",
            &clients,
            "-t",
            &transactions,
        ];
        let said = self.kubectl(&words)?;
        let whole = format!("{0}/{0}", CLIENTS * TRANSACTIONS);
        ensure!(said.contains(&whole), "pgbench did not do it all:\n{said}");
        Ok(())
    }

    fn scale(&self, replicas: usize) -> Result<()> {
        let replicas = format!("--replicas={replicas}");
        self.kubectl(&["scale", "-n", chart::SYSTEM, OPERATOR, &replicas])?;
        let labels = "--selector=app.kubernetes.io/component=operator";
        match replicas.ends_with("=0") {
            true => {
                let gone = ["wait", "pods", "-n", chart::SYSTEM, labels, "--for=delete"];
                self.kubectl(&[&gone[..], &["--timeout=60s"]].concat())?;
            }
            false => {
                let done = ["rollout", "status", "-n", chart::SYSTEM, OPERATOR];
                self.kubectl(&[&done[..], &["--timeout=60s"]].concat())?;
            }
        }
        Ok(())
    }

    /// Number of segments.
    fn segments(&self) -> Result<usize> {
        let words = ["get", "auditsegments", "-n", AUDIT, "-o", "name"];
        Ok(self.kubectl(&words)?.lines().count())
    }

    fn arrived(&self) -> Result<Arrived> {
        let path = format!("/apis/chaperone.dev/v1alpha1/namespaces/{AUDIT}/auditsegments");
        // Stored as it is shown: a custom resource lies in etcd as JSON.
        let bytes = self.kubectl(&["get", "--raw", &path])?.len();
        let (ended, records) = self.sessions()?;
        Ok(Arrived {
            ended,
            records,
            bytes: bytes as f64,
        })
    }

    /// pgbench's sessions that have ended, and their records.
    fn sessions(&self) -> Result<(usize, f64)> {
        let columns =
            "jsonpath={range .items[*]}{.spec.pod} {.spec.state} {.spec.records}{\"\\n\"}{end}";
        let words = [
            "get",
            "sessions.chaperone.dev",
            "-n",
            NAMESPACE,
            "-o",
            columns,
        ];
        let said = self.kubectl(&words)?;
        let records: Vec<f64> = said
            .lines()
            .filter_map(|line| line.strip_prefix("agent Ended ")?.parse().ok())
            .collect();
        Ok((records.len(), records.iter().sum()))
    }

    /// Waits for the sessions of one run of pgbench: each client's, and the one that it asks for
    /// the scale by.
    fn all_arrived(&self, before: &Arrived) -> Result<Arrived> {
        let expected = before.ended + CLIENTS + 1;
        wait_in_steps(DEADLINE, STEP, || {
            Ok((self.sessions()?.0 >= expected).then_some(()))
        })?
        .with_context(|| format!("{expected} sessions have not all arrived"))?;
        self.arrived()
    }
}

const AUDIT: &str = "chaperone-audit";

struct Arrived {
    ended: usize,
    records: f64,
    bytes: f64,
}

#[derive(Default)]
struct Table(Vec<String>);

impl Table {
    /// Median and 99th percentile of several.
    fn row(&mut self, name: &str, unit: &str, values: &mut [f64], goal: &str) {
        let middle = percentile(values, 0.5);
        let far = percentile(values, 0.99);
        self.line(name, unit, values.len(), middle, Some(far), goal);
    }

    /// A figure that is one.
    fn figure(&mut self, name: &str, unit: &str, value: f64, goal: &str) {
        self.line(name, unit, 1, value, None, goal);
    }

    fn line(
        &mut self,
        name: &str,
        unit: &str,
        of: usize,
        value: f64,
        far: Option<f64>,
        goal: &str,
    ) {
        let far = far.map(|far| format!("{far:.1}")).unwrap_or_default();
        let line = format!("| {name} | {unit} | {of} | {value:.1} | {far} | {goal} |");
        println!("{line}");
        self.0.push(line);
    }

    fn render(&self) -> String {
        let head = "| what | unit | n | median | p99 | goal |\n|---|---|---:|---:|---:|---|";
        format!("{head}\n{}", self.0.join("\n"))
    }
}

fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let at = (last as f64 * part).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

/// `$0` the program, `$1` the host name or nothing.
const RESIDENT: &str = r#"
for p in /proc/[0-9]*; do
  tr '\0' ' ' <$p/cmdline 2>/dev/null | grep -q "^[^ ]*$0" || continue
  [ -z "$1" ] || tr '\0' '\n' <$p/environ 2>/dev/null | grep -qx "HOSTNAME=$1" || continue
  cat $p/smaps_rollup
  exit
done
"#;

/// An annotated pod whose agent does nothing by itself.
fn pod(name: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {NAMESPACE}
  annotations: {{chaperone.dev/connections: {}/bench}}
spec:
  serviceAccountName: agent
  terminationGracePeriodSeconds: 1
  containers:
  - name: agent
    image: {AGENT}
    command: [sh, -c, \"trap exit TERM; while :; do sleep 1; done\"]
    securityContext: {{runAsUser: 65532, runAsNonRoot: true}}
",
        chart::DATABASES
    )
}

/// A database with pgbench's tables, its Connection with masking armed, and who may read it.
const TARGET: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: seed, namespace: databases}
data:
  seed.sql: |
    CREATE ROLE bench_agent LOGIN PASSWORD 'bench-password';
    CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88));
    INSERT INTO pgbench_branches VALUES (1, 0, '');
    CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
    INSERT INTO pgbench_accounts SELECT n, 1, 0, '' FROM generate_series(1, 100000) AS n;
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO bench_agent;
---
apiVersion: v1
kind: Secret
metadata: {name: bench, namespace: databases}
stringData: {username: bench_agent, password: bench-password}
---
apiVersion: v1
kind: Pod
metadata: {name: postgres, namespace: databases, labels: {app: postgres}}
spec:
  containers:
  - name: postgres
    image: POSTGRES
    args: [-c, max_connections=200]
    env: [{name: POSTGRES_PASSWORD, value: of-the-superuser}, {name: POSTGRES_DB, value: bench}]
    readinessProbe: {exec: {command: [pg_isready, -h, 127.0.0.1]}, periodSeconds: 1}
    volumeMounts: [{name: seed, mountPath: /docker-entrypoint-initdb.d}]
  volumes: [{name: seed, configMap: {name: seed}}]
---
apiVersion: v1
kind: Service
metadata: {name: bench, namespace: databases}
spec: {selector: {app: postgres}, ports: [{port: 5432}]}
---
apiVersion: chaperone.dev/v1alpha1
kind: Connection
metadata: {name: bench, namespace: databases}
spec:
  postgres:
    host: bench.databases.svc.cluster.local
    database: bench
    tls: {mode: Disable}
    credential: {secret: {name: bench}}
  consumers: {namespaceSelector: {matchLabels: {team: bench}}}
  guardrails:
    masking:
    - {name: filler, columns: [public.pgbench_accounts.filler], strategy: Redact}
---
apiVersion: v1
kind: Namespace
metadata: {name: bench, labels: {team: bench}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: agent, namespace: bench}
---
apiVersion: chaperone.dev/v1alpha1
kind: AccessPolicy
metadata: {name: bench, namespace: bench}
spec:
  subjects: [{serviceAccount: agent}]
  connections: [databases/bench]
  rules:
  - {name: read, action: Allow, sql: {effects: [Read], relations: ["public.*"]}}
"#;
