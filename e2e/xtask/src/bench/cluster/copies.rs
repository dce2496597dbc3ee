//! A command that prints much, by kubectl in a pod: straight to the API server, and through the
//! sidecar, which decides on it and records every byte.

use std::fs::File;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{Bench, NAMESPACE, Table, pod};
use crate::cluster::{chart, program};

/// MiB that the command prints, how often in one measurement, and measurements of each way.
const PRINTED: u32 = 32;
const TIMES: u32 = 2;
const ROUNDS: usize = 3;

/// What the agent may do, and has a right to.
const ACCESS: &str = r#"
apiVersion: chaperone.dev/v1alpha1
kind: Connection
metadata: {name: cluster, namespace: databases}
spec:
  kubernetes: {inCluster: true, credential: {serviceAccount: Self}}
  consumers: {namespaceSelector: {matchLabels: {team: bench}}}
---
apiVersion: chaperone.dev/v1alpha1
kind: AccessPolicy
metadata: {name: cluster, namespace: bench}
spec:
  subjects: [{serviceAccount: agent}]
  connections: [databases/cluster]
  rules:
  - {name: read, action: Allow, kubernetes: {verbs: [get, list], resources: [pods], namespaces: [bench]}}
  - {name: run, action: Allow, kubernetes: {verbs: [create], resources: [pods/exec], namespaces: [bench]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: bench-agent}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: agent, namespace: bench}]
"#;

impl Bench {
    pub(super) fn copies(&self, table: &mut Table) -> Result<()> {
        self.apply(ACCESS)?;
        let database = format!("{}/bench", chart::DATABASES);
        let through = pod("through").replace(&database, &format!("{}/cluster", chart::DATABASES));
        let straight = pod("straight").replace("chaperone.dev/connections", "example.com/none");
        for (name, yaml) in [("through", through), ("straight", straight)] {
            self.apply(&yaml)?;
            self.wait(NAMESPACE, &format!("pod/{name}"), "condition=Ready")?;
            self.give_kubectl(name)?;
        }
        self.inside(
            "straight",
            &format!(
                "seq -w 1 99999999 | head -c {}k >/tmp/large",
                PRINTED * 1024
            ),
        )?;
        let mut rates: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (name, rates) in ["straight", "through"].into_iter().zip(&mut rates) {
                let began = Instant::now();
                for _ in 0..TIMES {
                    let script = "/tmp/kubectl exec straight -c agent -- cat /tmp/large | wc -c";
                    let said = self.inside(name, script)?;
                    let all = u64::from(PRINTED) * 1024 * 1024;
                    ensure!(said.trim() == all.to_string(), "{name}: {said}");
                }
                let seconds = began.elapsed().as_secs_f64();
                rates.push(f64::from(PRINTED * TIMES) * 1.048_576 / seconds);
            }
        }
        let [mut straight, mut through] = rates;
        let part = super::percentile(&mut through, 0.5) / super::percentile(&mut straight, 0.5);
        let percent = part * 100.0;
        table.row(
            "exec that prints 32 MiB, straight",
            "MB/s",
            &mut straight,
            "",
        );
        table.row("the same through the sidecar", "MB/s", &mut through, "");
        table.line("of straight", "%", ROUNDS, percent, None, "≥ 60");
        Ok(())
    }

    fn inside(&self, name: &str, script: &str) -> Result<String> {
        let script = format!("export HOME=/tmp; {script}");
        let words = ["exec", "-n", NAMESPACE, name, "-c", "agent", "--"];
        self.kubectl(&[&words[..], &["sh", "-c", &script]].concat())
    }

    fn give_kubectl(&self, name: &str) -> Result<()> {
        let program = File::open(program::folder()?.join("cluster")).context("no kubectl")?;
        let mut exec = self.cluster.kubectl();
        exec.args(["exec", "-i", "-n", NAMESPACE, name, "-c", "agent", "--"]);
        exec.args(["sh", "-c", "cat >/tmp/kubectl && chmod +x /tmp/kubectl"]);
        let status = exec.stdin(program).status()?;
        ensure!(status.success(), "kubectl did not get into {name}");
        Ok(())
    }
}
