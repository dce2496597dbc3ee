//! Tables of requests: each passes, or is refused with a sentence.

use std::path::Path;
use std::sync::OnceLock;

use chaperone_e2e::clients;
use chaperone_e2e::cluster::{self, Kubectl, Namespace};
use serde_json::Value;

pub(crate) const OPERATOR: &str = "system:serviceaccount:chaperone-system:chaperone-operator";

/// A pod as the webhook leaves it, and that nobody schedules, in a namespace that is held to Pod Security restricted.
pub(crate) const INJECTED: &str = r#"{
  "apiVersion": "v1", "kind": "Pod",
  "metadata": {
    "name": "agent",
    "annotations": {"chaperone.dev/connections": "databases/orders-db", "chaperone.dev/injected": "d1"}
  },
  "spec": {
    "automountServiceAccountToken": false, "schedulerName": "nobody",
    "terminationGracePeriodSeconds": 30,
    "hostAliases": [{"ip": "127.0.0.2", "hostnames": ["orders.db.svc.cluster.local"]}],
    "securityContext": {
      "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"},
      "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    },
    "initContainers": [
      {
        "name": "chaperone", "image": "chaperone-sidecar:0.1.0", "restartPolicy": "Always", "args": ["run"],
        "env": [
          {"name": "CHAPERONE_OPERATOR", "value": "https://chaperone-operator.chaperone-system.svc:8443"},
          {"name": "CHAPERONE_OPERATOR_CA", "value": "-----BEGIN CERTIFICATE-----"},
          {"name": "CHAPERONE_LISTEN", "value": "databases/orders-db=127.0.0.2:5432"}
        ],
        "startupProbe": {"httpGet": {"path": "/startz", "port": 15020}},
        "securityContext": {
          "runAsUser": 17337, "runAsGroup": 17337, "runAsNonRoot": true, "readOnlyRootFilesystem": true,
          "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}
        },
        "volumeMounts": [
          {"name": "chaperone-spool", "mountPath": "/var/lib/chaperone"},
          {"name": "chaperone-token", "mountPath": "/var/run/secrets/chaperone.dev", "readOnly": true},
          {"name": "chaperone-trust", "mountPath": "/etc/chaperone/trust"}
        ]
      },
      {
        "name": "setup", "image": "agent", "command": ["true"],
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}
      }
    ],
    "containers": [
      {
        "name": "agent", "image": "agent",
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "chaperone-trust", "mountPath": "/etc/chaperone/trust", "readOnly": true}]
      }
    ],
    "volumes": [
      {"name": "chaperone-spool", "emptyDir": {"sizeLimit": "96Mi"}},
      {"name": "chaperone-token", "projected": {"sources": [
        {"serviceAccountToken": {"audience": "chaperone.dev", "expirationSeconds": 3600, "path": "token"}}
      ]}},
      {"name": "chaperone-trust", "emptyDir": {}}
    ]
  }
}"#;

/// A pod of somebody who has never heard of us.
pub(crate) const ORDINARY: &str = r#"{
  "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ordinary"},
  "spec": {"schedulerName": "nobody", "containers": [{"name": "app", "image": "app"}]}
}"#;

pub(crate) const GOVERNED: [&str; 2] = [
    "chaperone.dev/governed=true",
    "pod-security.kubernetes.io/enforce=restricted",
];

/// Where in a manifest, and what as JSON: see [`edited`].
pub(crate) type Edits<'a> = &'a [(&'a str, &'a str)];
/// What it is, how the manifest is edited, and what the refusal says.
pub(crate) type Row<'a> = (&'a str, Edits<'a>, &'a str);

/// Runs every case before it fails, so that one run tells all.
pub(crate) struct Cases {
    wrong: Vec<String>,
    seen: usize,
    /// Deleted when the test ends.
    namespaces: Vec<Namespace>,
}

impl Cases {
    /// None where there can be no cluster, which was said then.
    pub(crate) fn new() -> Option<Self> {
        if cluster::unavailable() {
            return None;
        }
        static CHART: OnceLock<()> = OnceLock::new();
        CHART.get_or_init(install);
        Some(Self {
            wrong: Vec::new(),
            seen: 0,
            namespaces: Vec::new(),
        })
    }

    pub(crate) fn namespace(&mut self, purpose: &str, labels: &[&str]) -> String {
        let namespace = Namespace::labelled(purpose, labels).expect("a namespace");
        let name = namespace.name().to_owned();
        self.namespaces.push(namespace);
        name
    }

    pub(crate) fn passes(&mut self, case: &str, arguments: &[String], input: &str) {
        self.seen += 1;
        if let Err(message) = run(arguments, input) {
            self.wrong
                .push(format!("{case}: should pass, was refused: {message}"));
        }
    }

    pub(crate) fn refuses(
        &mut self,
        case: &str,
        arguments: &[String],
        input: &str,
        expected: &str,
    ) {
        self.seen += 1;
        match run(arguments, input) {
            Ok(_) => self
                .wrong
                .push(format!("{case}: should be refused, passed")),
            Err(message) if !message.contains(expected) => {
                self.wrong.push(format!(
                    "{case}: refused, but not with '{expected}': {message}"
                ));
            }
            Err(_) => {}
        }
    }

    pub(crate) fn done(self) {
        assert!(
            self.wrong.is_empty(),
            "{} of {} cases:\n{}",
            self.wrong.len(),
            self.seen,
            self.wrong.join("\n")
        );
    }
}

pub(crate) fn create(namespace: &str) -> Vec<String> {
    ["-n", namespace, "create", "--dry-run=server", "-f", "-"]
        .map(str::to_owned)
        .into()
}

pub(crate) fn with(mut arguments: Vec<String>, more: &[&str]) -> Vec<String> {
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    arguments
}

pub(crate) fn node(name: &str) -> String {
    format!(r#"{{"apiVersion": "v1", "kind": "Node", "metadata": {{"name": "{name}"}}}}"#)
}

/// A Role with rules of the form `verb,verb resources --resource-name=…`, bound to a user.
pub(crate) fn role(namespace: &str, name: &str, user: &str, rules: &[&str]) {
    for (i, rule) in rules.iter().enumerate() {
        let name = format!("{name}-{i}");
        let mut words = rule.split(' ');
        let verb = format!("--verb={}", words.next().unwrap());
        let resource = format!("--resource={}", words.next().unwrap());
        let mut arguments = vec!["-n", namespace, "create", "role", &name, &verb, &resource];
        arguments.extend(words);
        kubectl(&arguments, "").expect("a role");
        kubectl(
            &[
                "-n",
                namespace,
                "create",
                "rolebinding",
                &name,
                &format!("--role={name}"),
                &format!("--user={user}"),
            ],
            "",
        )
        .expect("a binding");
    }
}

/// The manifest with fields set; a value of nothing takes the field out, `-` appends to a list.
pub(crate) fn edited(manifest: &str, edits: Edits) -> String {
    let mut object: Value = serde_json::from_str(manifest).unwrap();
    for (at, value) in edits {
        let (parent, key) = at.rsplit_once('/').unwrap();
        let parent = object
            .pointer_mut(parent)
            .unwrap_or_else(|| panic!("no {parent}"));
        match parent {
            Value::Object(fields) if value.is_empty() => {
                fields.remove(key);
            }
            Value::Object(fields) => {
                fields.insert(key.to_owned(), serde_json::from_str(value).unwrap());
            }
            Value::Array(items) if key == "-" => items.push(serde_json::from_str(value).unwrap()),
            Value::Array(items) => {
                items[key.parse::<usize>().unwrap()] = serde_json::from_str(value).unwrap()
            }
            other => panic!("{at} is in {other}"),
        }
    }
    object.to_string()
}

pub(crate) fn run(arguments: &[String], input: &str) -> Result<String, String> {
    kubectl(
        &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
        input,
    )
}

/// What it printed, or what it complained of.
pub(crate) fn kubectl(arguments: &[&str], input: &str) -> Result<String, String> {
    let said = Kubectl::admin()
        .run_with(arguments, input)
        .expect("kubectl runs");
    match said.code {
        Some(0) => Ok(said.out),
        _ => Err(said.err.trim().to_owned()),
    }
}

/// The chart without an operator and without its webhooks.
fn install() {
    kubectl(&["create", "namespace", "databases"], "").expect("a namespace for Connections");
    let mut helm = cluster::shared().expect("a cluster").helm();
    helm.args(["install", "chaperone"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/chaperone"))
        .args(["--namespace", "chaperone-system", "--create-namespace"])
        .args(["--set", "replicas=0,webhooks.enabled=false"])
        .args(["--set", "connectionNamespaces={databases}"]);
    clients::run(helm, "")
        .and_then(|said| said.ok())
        .expect("helm install");
    settle();
}

/// The API server takes a moment to know of policies; the last ones by name are known last.
fn settle() {
    let namespace = Namespace::new("settle").expect("a namespace");
    let pod = edited(INJECTED, &[("/spec/hostPID", "true")]);
    namespace
        .until("the admission policies", || {
            let policies = ["chaperone-sidecar", "chaperone-tokens", "chaperone-reviews"];
            let checked = policies.iter().all(|policy| {
                kubectl(
                    &[
                        "get",
                        "validatingadmissionpolicy",
                        policy,
                        "-o",
                        "jsonpath={.status.observedGeneration}",
                    ],
                    "",
                )
                .is_ok_and(|generation| generation == "1")
            });
            let refused = run(&create(namespace.name()), &pod).is_err();
            Ok((checked && refused).then_some(()))
        })
        .expect("policies in effect");
}
