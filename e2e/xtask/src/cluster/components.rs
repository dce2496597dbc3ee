//! The daemons of the node: how each is started, seen to be ready, and ended on its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cluster::config::SERVICES;
use crate::cluster::node::{ADDRESS, Node, STATE, child_running};
use crate::process::succeed;
use crate::wait::wait_for;

/// How long a daemon may take to be ready, on a machine that is busy with other things too.
const DEADLINE: Duration = Duration::from_secs(120);

/// One daemon of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The store, without fsync: a throw-away cluster need not survive a power cut.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// containerd, the distribution's.
    Containerd,
    /// The kubelet.
    Kubelet,
    /// kube-proxy, by nftables.
    Proxy,
    /// CoreDNS, as a process and not as a pod.
    Dns,
}

/// In the order in which they start.
pub const ALL: [Component; 8] = [
    Component::Containerd,
    Component::Etcd,
    Component::ApiServer,
    Component::ControllerManager,
    Component::Scheduler,
    Component::Kubelet,
    Component::Proxy,
    Component::Dns,
];

/// A daemon that was started: nsenter out here, whose child is the daemon.
#[derive(Debug)]
pub struct Running {
    /// Which.
    pub component: Component,
    entrance: Child,
}

impl Component {
    /// Its program's name.
    pub fn program(self) -> &'static str {
        match self {
            Component::Etcd => "etcd",
            Component::ApiServer => "kube-apiserver",
            Component::ControllerManager => "kube-controller-manager",
            Component::Scheduler => "kube-scheduler",
            Component::Containerd => "containerd",
            Component::Kubelet => "kubelet",
            Component::Proxy => "kube-proxy",
            Component::Dns => "coredns",
        }
    }

    /// Where its output goes.
    pub fn log(self, state: &Path) -> PathBuf {
        state.join(format!("log/{}.log", self.program()))
    }

    fn path(self) -> String {
        match self {
            Component::Containerd => self.program().to_owned(),
            _ => format!("{STATE}/bin/{}", self.program()),
        }
    }

    fn arguments(self) -> Vec<String> {
        let client = |name: &str| format!("{STATE}/pki/{name}.kubeconfig");
        match self {
            Component::Etcd => vec![
                format!("--data-dir={STATE}/etcd"),
                "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
                "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
                "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
                "--unsafe-no-fsync".to_owned(),
                "--log-level=warn".to_owned(),
            ],
            Component::ApiServer => api_server(),
            Component::ControllerManager => vec![
                format!("--kubeconfig={}", client("controller-manager")),
                format!(
                    "--authentication-kubeconfig={}",
                    client("controller-manager")
                ),
                format!(
                    "--authorization-kubeconfig={}",
                    client("controller-manager")
                ),
                format!("--service-account-private-key-file={STATE}/pki/service-accounts.key"),
                format!("--root-ca-file={STATE}/pki/ca.crt"),
                "--use-service-account-credentials=true".to_owned(),
                "--leader-elect=false".to_owned(),
                format!("--cert-dir={STATE}/serving/controller-manager"),
            ],
            Component::Scheduler => vec![
                format!("--kubeconfig={}", client("scheduler")),
                format!("--authentication-kubeconfig={}", client("scheduler")),
                format!("--authorization-kubeconfig={}", client("scheduler")),
                "--leader-elect=false".to_owned(),
                format!("--cert-dir={STATE}/serving/scheduler"),
            ],
            Component::Containerd => vec![format!("--config={STATE}/config/containerd.toml")],
            Component::Kubelet => vec![
                format!("--kubeconfig={}", client("kubelet")),
                format!("--config={STATE}/config/kubelet.yaml"),
                "--hostname-override=node1".to_owned(),
                format!("--node-ip={ADDRESS}"),
            ],
            Component::Proxy => vec![format!("--config={STATE}/config/kube-proxy.yaml")],
            Component::Dns => vec![format!("-conf={STATE}/config/Corefile")],
        }
    }

    /// Whether it is started again when it fails. The kubelet exits where it does not know how to go
    /// on, and counts on whoever started it.
    fn is_watched(self) -> bool {
        self == Component::Kubelet
    }

    /// Starts it in `node`.
    pub fn start(self, node: &Node, state: &Path) -> Result<Running> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(state))?;
        let mut command = node.enter("setsid");
        if self.is_watched() {
            command.args(["sh", "-c", WATCH, self.program()]);
        }
        let entrance = command
            .arg(self.path())
            .args(self.arguments())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.program()))?;
        Ok(Running {
            component: self,
            entrance,
        })
    }
}

/// Runs a program again for as long as it fails by itself: not when it is done, nor when a signal
/// ended it.
const WATCH: &str = r#"
while "$@"; code=$?; [ $code -ne 0 ] && [ $code -lt 128 ]; do
  echo "$0 ended with $code and is started again"
  sleep 1
done
exit $code
"#;

fn api_server() -> Vec<String> {
    let pki = |name: &str| format!("{STATE}/pki/{name}");
    [
        ("etcd-servers", "http://127.0.0.1:2379".to_owned()),
        ("secure-port", "6443".to_owned()),
        ("advertise-address", ADDRESS.to_owned()),
        ("tls-cert-file", pki("apiserver.crt")),
        ("tls-private-key-file", pki("apiserver.key")),
        ("client-ca-file", pki("ca.crt")),
        ("kubelet-client-certificate", pki("kubelet-client.crt")),
        ("kubelet-client-key", pki("kubelet-client.key")),
        ("kubelet-certificate-authority", pki("ca.crt")),
        ("kubelet-preferred-address-types", "InternalIP".to_owned()),
        (
            "service-account-issuer",
            "https://kubernetes.default.svc.cluster.local".to_owned(),
        ),
        ("service-account-key-file", pki("service-accounts.pub")),
        (
            "service-account-signing-key-file",
            pki("service-accounts.key"),
        ),
        ("service-cluster-ip-range", SERVICES.to_owned()),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("enable-admission-plugins", "NodeRestriction".to_owned()),
        ("allow-privileged", "true".to_owned()),
        ("cert-dir", format!("{STATE}/serving/apiserver")),
        // Ending it must not take the minute that a load balancer would need.
        ("shutdown-delay-duration", "0s".to_owned()),
    ]
    .map(|(name, value)| format!("--{name}={value}"))
    .to_vec()
}

impl Running {
    /// Fails with the end of its log if it has ended.
    pub fn must_run(&mut self, state: &Path) -> Result<()> {
        if let Some(status) = self.entrance.try_wait()? {
            bail!(
                "{} ended with {status}:\n{}",
                self.component.program(),
                last_words(&self.component.log(state))
            );
        }
        Ok(())
    }

    /// Waits until `is_ready`, as long as it runs.
    pub fn ready(
        &mut self,
        state: &Path,
        mut is_ready: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let name = self.component.program();
        wait_for(&format!("{name} to be ready"), DEADLINE, || {
            self.must_run(state)?;
            Ok(is_ready()?.then_some(()))
        })
        .with_context(|| format!("its log ends:\n{}", tail(&self.component.log(state), 10)))
    }

    /// Sends it a signal by name, such as `KILL`, `STOP` or `CONT`.
    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self
            .pid()
            .with_context(|| format!("{} does not run", self.component.program()))?;
        succeed(std::process::Command::new("sh").args([
            "-c",
            "kill \"-$0\" \"$1\"",
            name,
            &pid.to_string(),
        ]))?;
        Ok(())
    }

    /// Its process number out here.
    pub fn pid(&self) -> Option<u32> {
        let mut parent = self.entrance.id();
        if self.component.is_watched() {
            parent = child_running(parent, "sh")?;
        }
        child_running(parent, self.component.program())
    }

    /// Sends it a signal and waits for its end.
    pub fn end(&mut self, signal: &str) -> Result<()> {
        self.signal(signal)?;
        wait_for(
            &format!("{} to end", self.component.program()),
            DEADLINE,
            || Ok(self.entrance.try_wait()?.map(|_| ())),
        )
    }
}

/// Why a daemon ended: from where a Go program says that it panics, its first stack, or the last lines.
fn last_words(log: &Path) -> String {
    let text = read(log);
    let mut panic = text
        .lines()
        .skip_while(|line| !line.starts_with("panic: ") && !line.starts_with("fatal error: "))
        .take(30)
        .peekable();
    if panic.peek().is_some() {
        return panic.collect::<Vec<_>>().join("\n");
    }
    tail(log, 20)
}

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

/// The last `lines` of a log.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = read(log);
    let all: Vec<&str> = text.lines().collect();
    let start = all.len().saturating_sub(lines);
    all.get(start..).unwrap_or_default().join("\n")
}
