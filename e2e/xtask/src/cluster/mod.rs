//! A real Kubernetes on this machine, without Docker and without a registry, up in seconds.
//!
//! ```text
//! program (Go, built once) ─► node (namespaces) ─► components: containerd, etcd, API server, …
//!                                                    └─ ready: node Ready, DNS answers over its service
//! Cluster: kubectl, helm, images in, any command in its network ─► down (one kill, by the kernel)
//! ```
//!
//! Takes root. Each cluster lives in a state folder and in namespaces of its own, so several may
//! run side by side. Nothing in it is emulated; what it lacks is a second node, a way out, and a
//! load balancer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::image::ours;
use crate::image::ready_made::ReadyMade;
use crate::janitor;
use crate::needs::Need;
use crate::process::{Scratch, is_root, succeed};
use crate::wait::wait_for;

pub mod chart;
pub mod command_line;
pub mod components;
mod config;
mod go;
pub mod node;
pub mod program;

pub use components::Component;
use components::Running;
pub use config::cni_plugins;
pub use go::{command as go, program as go_program};
use node::Node;

/// What a cluster takes, beyond what building it does.
pub const NEEDS: [Need; 10] = [
    Need::Go,
    Need::Containerd,
    Need::Runc,
    Need::CniPlugins,
    Need::Nftables,
    Need::Iptables,
    Need::Iproute,
    Need::Conntrack,
    Need::Busybox,
    Need::Curl,
];

/// What a state folder holds that we made, and no other folder.
const MARK: &str = "this-is-a-chaperone-cluster";

/// A running cluster. Dropping one that this process started ends it.
#[derive(Debug)]
pub struct Cluster {
    state: PathBuf,
    programs: PathBuf,
    node: Node,
    running: Mutex<Vec<Running>>,
    ours: bool,
}

impl Cluster {
    /// Starts one whose files are below `state`, an empty or a missing folder, and waits until
    /// its node is Ready and its DNS and services work. Builds the programs where need be.
    pub fn up(state: &Path) -> Result<Cluster> {
        Cluster::must_be_root()?;
        let programs = program::folder()?;
        let state = prepare(state)?;
        let node = Node::start(&state, &programs)?;
        let cluster = Cluster {
            state,
            programs,
            node,
            running: Mutex::new(Vec::new()),
            ours: true,
        };
        cluster.write_configuration()?;
        cluster.start_all()?;
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// Fails, saying why, unless we are root.
    pub fn must_be_root() -> Result<()> {
        if !is_root() {
            bail!("a cluster takes root: it makes namespaces and mounts");
        }
        Ok(())
    }

    /// The cluster that runs in `state`.
    pub fn open(state: &Path) -> Result<Cluster> {
        let state = state
            .canonicalize()
            .ok()
            .filter(|state| state.join(MARK).exists())
            .with_context(|| format!("there is no cluster in {}", state.display()))?;
        let node = Node::open(&state)
            .with_context(|| format!("the cluster in {} does not run", state.display()))?;
        Ok(Cluster {
            programs: program::folder()?,
            node,
            state,
            running: Mutex::new(Vec::new()),
            ours: false,
        })
    }

    /// Ends the cluster that is or was in `state`, also after a crash, and removes the folder.
    pub fn remove(state: &Path) -> Result<()> {
        let Ok(state) = state.canonicalize() else {
            return Ok(());
        };
        if fs::read_dir(&state)?.next().is_none() {
            return Ok(fs::remove_dir(&state)?);
        }
        if !state.join(MARK).exists() {
            bail!(
                "{} is no cluster's state folder: nothing was removed",
                state.display()
            );
        }
        if let Some(mut node) = Node::open(&state) {
            node.end()?;
        }
        node::remove_cgroups(&state);
        fs::remove_dir_all(&state).with_context(|| format!("removing {}", state.display()))
    }

    /// Ends it and removes its folder.
    pub fn down(mut self) -> Result<()> {
        self.ours = false;
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.node.end()?;
        // Removed while the last mounts go: what is gone need not be written to the disk.
        Cluster::remove(&self.state)?;
        self.node.reap()
    }

    /// Leaves it running after we are gone.
    pub fn leave_running(mut self) {
        self.ours = false;
        self.node.leave_running();
        janitor::keeps_folder(&self.state);
    }

    /// Its folder.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// A kubeconfig of the cluster's administrator, with the certificates in it. Its address is
    /// reached in the cluster's network only: [`Cluster::command`].
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("pki/admin.kubeconfig")
    }

    /// The node's address, in the cluster's network.
    pub fn address(&self) -> &'static str {
        node::ADDRESS
    }

    /// `program` of this machine, in the cluster's network, with `KUBECONFIG` set.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = self.node.on_network(program);
        command.env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// kubectl as the administrator.
    pub fn kubectl(&self) -> Command {
        self.administering(&self.programs.join("kubectl"))
    }

    /// helm as the administrator.
    pub fn helm(&self) -> Command {
        self.administering(&self.programs.join("helm"))
    }

    /// A shell of the administrator's that runs `script`: with kubectl, helm and the programs of
    /// `folder` on its path.
    pub fn shell(&self, script: &str, folder: &Path) -> Command {
        let mut command = self.administering(Path::new("/bin/sh"));
        let path = std::env::var("PATH").unwrap_or_default();
        let (own, more) = (self.programs.display(), folder.display());
        command.env("PATH", format!("{own}:{more}:{path}"));
        command.args(["-c", script]);
        command
    }

    /// The user's own caches are for the user's own clusters.
    fn administering(&self, program: &Path) -> Command {
        let mut command = self.command(program);
        for (name, folder) in [
            ("KUBECACHEDIR", "cache/kubectl"),
            ("HELM_CACHE_HOME", "cache/helm"),
            ("HELM_CONFIG_HOME", "cache/helm-config"),
            ("HELM_DATA_HOME", "cache/helm-data"),
        ] {
            command.env(name, self.state.join(folder));
        }
        command
    }

    /// `program` on the node itself, among its daemons and with their files.
    pub fn on_node(&self, program: &str) -> Command {
        self.node.enter(program)
    }

    /// Makes the image in a docker-archive (as `docker save` writes it) available to pods; they
    /// need `imagePullPolicy: IfNotPresent` or `Never`.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        let file =
            fs::File::open(archive).with_context(|| format!("opening {}", archive.display()))?;
        let output = self
            .on_node("ctr")
            .args(["-n", "k8s.io", "images", "import", "--snapshotter"])
            .args([&self.snapshotter()?, "-"])
            .stdin(Stdio::from(file))
            .output()
            .context("starting ctr")?;
        if !output.status.success() {
            bail!(
                "importing {}: {}",
                archive.display(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    /// Makes one of our own images and loads it.
    pub fn load(&self, image: ReadyMade) -> Result<()> {
        self.load_made(|archive| image.write(archive))
    }

    /// Makes an image of one program, with its libraries, and loads it.
    pub fn load_program(&self, reference: &str, program: &Path) -> Result<()> {
        self.load_made(|archive| ours::write(reference, program, archive))
    }

    fn load_made(&self, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let scratch = Scratch::new("image")?;
        let archive = scratch.path().join("image.tar");
        make(&archive)?;
        self.load_image(&archive)
    }

    /// A name that the cluster's DNS answers with `address`, besides its own.
    pub fn add_host(&self, address: &str, name: &str) -> Result<()> {
        let path = self.state.join("config/hosts");
        let hosts = fs::read_to_string(&path)?;
        Ok(fs::write(path, format!("{hosts}{address} {name}\n"))?)
    }

    /// Ends one daemon by a signal. Only in the process that started the cluster.
    pub fn stop(&self, component: Component, signal: &str) -> Result<()> {
        self.take(component)?.end(signal)
    }

    /// Starts one daemon that was stopped, and waits until it is ready.
    pub fn start(&self, component: Component) -> Result<()> {
        self.launch(component)?;
        self.wait_for(component)
    }

    /// Sends a signal to one daemon that goes on: `STOP` and `CONT` make it hang for a while.
    pub fn signal(&self, component: Component, signal: &str) -> Result<()> {
        let running = self.take(component)?;
        let sent = running.signal(signal);
        self.lock().push(running);
        sent
    }

    /// What is wrong with the node itself: the daemons that have ended, each with its last words.
    pub fn faults(&self) -> Vec<String> {
        let mut all = self.lock();
        all.iter_mut()
            .filter_map(|running| running.must_run(&self.state).err())
            .map(|ended| format!("{ended:#}"))
            .collect()
    }

    fn launch(&self, component: Component) -> Result<()> {
        let running = component.start(&self.node, &self.state)?;
        self.lock().push(running);
        Ok(())
    }

    fn wait_for(&self, component: Component) -> Result<()> {
        let mut running = self.take(component)?;
        let ready = running.ready(&self.state, || self.is_ready(component));
        self.lock().push(running);
        ready
    }

    fn take(&self, component: Component) -> Result<Running> {
        let mut all = self.lock();
        let position = all
            .iter()
            .position(|running| running.component == component)
            .with_context(|| format!("{} was not started from here", component.program()))?;
        Ok(all.swap_remove(position))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A daemon's log.
    pub fn log(&self, component: Component) -> PathBuf {
        component.log(&self.state)
    }

    fn write_configuration(&self) -> Result<()> {
        let snapshotter = if self.overlay_works() {
            "overlayfs"
        } else {
            "native"
        };
        let plugins = config::cni_plugins().context("no CNI plugins on this machine")?;
        let files = [
            ("snapshotter", snapshotter.to_owned()),
            ("containerd.toml", config::containerd(snapshotter, plugins)),
            ("cni/10-pods.conflist", config::cni()),
            ("kubelet.yaml", config::kubelet()),
            ("kube-proxy.yaml", config::proxy()),
            ("Corefile", config::corefile()),
            ("nothing", config::EMPTY_ZONE.to_owned()),
            ("hosts", String::new()),
            ("resolv.conf", String::new()),
            ("objects.yaml", config::objects()),
        ];
        for (name, text) in files {
            fs::write(self.state.join("config").join(name), text)
                .with_context(|| format!("writing {name}"))?;
        }
        succeed(
            Command::new(self.programs.join("cluster-pki"))
                .arg(self.state.join("pki"))
                .arg(node::ADDRESS),
        )?;
        Ok(())
    }

    /// Not where the state folder itself lies on an overlay, as in most containers.
    fn overlay_works(&self) -> bool {
        succeed(self.on_node("sh").args(["-euc", TRY_OVERLAY, node::STATE])).is_ok()
    }

    fn snapshotter(&self) -> Result<String> {
        Ok(fs::read_to_string(self.state.join("config/snapshotter"))?)
    }

    fn start_all(&self) -> Result<()> {
        // Each is started when those that it would otherwise retry for are ready; the rest overlap.
        let [containerd, etcd, api_server, rest @ ..] = components::ALL;
        self.launch(containerd)?;
        self.start(etcd)?;
        self.start(api_server)?;
        for component in rest {
            self.launch(component)?;
        }
        // The others come up meanwhile.
        self.wait_for(containerd)?;
        self.load(ReadyMade::Pause)
    }

    fn wait_until_ready(&self) -> Result<()> {
        succeed(
            self.kubectl()
                .args(["apply", "-f"])
                .arg(self.state.join("config/objects.yaml")),
        )?;
        for component in components::ALL {
            self.wait_for(component)?;
        }
        wait_for(
            "the default service account",
            Duration::from_secs(60),
            || {
                // The API server refuses pods of a namespace that has none yet.
                let found = self
                    .kubectl()
                    .args(["get", "serviceaccount", "default"])
                    .stdin(Stdio::null())
                    .output()?;
                Ok(found.status.success().then_some(()))
            },
        )
    }

    fn is_ready(&self, component: Component) -> Result<bool> {
        let mut question = match component {
            Component::Containerd => {
                let mut ctr = self.on_node("ctr");
                ctr.arg("version");
                ctr
            }
            Component::Etcd => self.probe(&["http", "http://127.0.0.1:2379/readyz"]),
            Component::ApiServer => {
                let mut kubectl = self.kubectl();
                kubectl.args(["get", "--raw", "/readyz"]);
                kubectl
            }
            // Their health is served with certificates of their own making; the API server and the
            // node are what tells that they work.
            Component::ControllerManager | Component::Scheduler => return Ok(true),
            Component::Kubelet => {
                let mut kubectl = self.kubectl();
                kubectl.args(["wait", "--for=condition=Ready", "node/node1"]);
                kubectl.arg("--timeout=30s");
                kubectl
            }
            Component::Proxy => self.probe(&["http", "http://127.0.0.1:10249/healthz"]),
            Component::Dns => {
                // By its service's address: that kube-proxy works is seen too.
                self.probe(&["dns", config::DNS, "kubernetes.default.svc.cluster.local"])
            }
        };
        let output = question.stdin(Stdio::null()).output()?;
        Ok(output.status.success())
    }

    fn probe(&self, question: &[&str]) -> Command {
        let mut probe = self.command(&self.programs.join("cluster-probe"));
        probe.args(question);
        probe
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.ours {
            let _ = self.end();
        }
    }
}

/// Makes the state folder with all that the node mounts from it.
fn prepare(state: &Path) -> Result<PathBuf> {
    if state.join(MARK).exists() {
        let canonical = state.canonicalize()?;
        if Node::open(&canonical).is_some() {
            bail!("a cluster already runs in {}", state.display());
        }
        println!(
            "removing what a crashed cluster left in {}",
            state.display()
        );
        Cluster::remove(state)?;
    }
    fs::create_dir_all(state).with_context(|| format!("making {}", state.display()))?;
    let state = state.canonicalize()?;
    if fs::read_dir(&state)?.next().is_some() {
        bail!("{} is not empty, and no cluster's", state.display());
    }
    fs::write(state.join(MARK), "")?;
    janitor::owns_folder(&state);
    janitor::owns_containers(&node::containers(&state));
    for folder in [
        "bin",
        "cache",
        "config/cni",
        "containerd",
        "kubelet",
        "log",
        "pods",
        "serving",
    ] {
        fs::create_dir_all(state.join(folder))?;
    }
    Ok(state)
}

const TRY_OVERLAY: &str = r#"
cd "$0/containerd"
mkdir -p try/lower try/upper try/work try/merged
trap 'rm -rf try' EXIT
mount -t overlay -o lowerdir=try/lower,upperdir=try/upper,workdir=try/work overlay try/merged
umount try/merged
"#;
