//! The machine within the machine: a process tree with its own network, mounts, process numbers
//! and host name, as `kind` has it but without an engine.
//!
//! Process 1 in there is our `pause`. Ending it ends, by the kernel's hand, every process of the
//! cluster, its containers too; the network namespace and all mounts go with the last of them. So
//! nothing can be left behind, also after a crash, and clusters run side by side with the same
//! addresses and paths inside. The host's interfaces and firewall rules are not touched.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::janitor;
use crate::process::succeed;
use crate::wait::wait_for;

/// The node's address; the same in every cluster, as each has a network of its own.
pub const ADDRESS: &str = "10.99.0.1";

/// Where the node finds its state folder, and below it `bin`, the cluster's programs.
pub const STATE: &str = "/mnt";

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// Process 1 in there, by its number out here.
    init: Pid,
    /// unshare, whose child it is, if we started it; kept to be reaped.
    parent: Option<Child>,
}

/// A process number with the time it was given out, so that a number's next owner is not taken
/// for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pid {
    number: u32,
    since: String,
}

impl Node {
    /// Starts process 1 and makes mounts and network, with `state` at [`STATE`] and `programs`
    /// below it.
    pub fn start(state: &Path, programs: &Path) -> Result<Node> {
        let log = File::create(state.join("log/node.log"))?;
        let mut parent = Command::new("setsid")
            .args(["unshare", "--mount", "--net", "--pid", "--uts", "--ipc"])
            .args(["--fork", "--mount-proc", "--kill-child=KILL"])
            // What the host mounts later appears inside, nothing from inside outside.
            .args(["--propagation", "slave"])
            .arg(programs.join("pause"))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting unshare")?;
        let number = wait_for("the node's first process", Duration::from_secs(10), || {
            if let Some(status) = parent.try_wait()? {
                let said = fs::read_to_string(state.join("log/node.log")).unwrap_or_default();
                bail!("no namespaces: unshare ended with {status}: {said}");
            }
            Ok(child_running(parent.id(), "pause"))
        })?;
        let init = Pid::now(number).context("the node's first process has ended")?;
        // KILL: process 1 of a namespace takes all others with it.
        janitor::owns_process(number, "KILL");
        let node = Node {
            init,
            parent: Some(parent),
        };
        node.furnish(state, programs)?;
        fs::write(state.join("node"), node.to_line())?;
        Ok(node)
    }

    /// The node that runs in `state`, if one does.
    pub fn open(state: &Path) -> Option<Node> {
        let line = fs::read_to_string(state.join("node")).ok()?;
        let (number, since) = line.trim().split_once(' ')?;
        let number = number.parse().ok()?;
        let init = Pid::now(number).filter(|pid| pid.since == since)?;
        Some(Node { init, parent: None })
    }

    fn to_line(&self) -> String {
        format!("{} {}\n", self.init.number, self.init.since)
    }

    fn furnish(&self, state: &Path, programs: &Path) -> Result<()> {
        let mut shell = self.enter("sh");
        shell.args(["-euc", FURNISH, "furnish"]);
        shell.arg(state).arg(programs).arg(ADDRESS).arg(STATE);
        succeed(&mut shell).context("making the node's mounts and network")?;
        Ok(())
    }

    /// `program` with everything of the node's: what runs there belongs to it and ends with it.
    pub fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.number.to_string()])
            .args(["--mount", "--net", "--pid", "--uts", "--ipc", "--"])
            .arg(program)
            .current_dir("/");
        command
    }

    /// `program` of the host's, with the host's files, in the node's network.
    pub fn on_network(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.number.to_string(), "--net", "--"])
            .arg(program);
        command
    }

    /// Nobody ends it when this process goes.
    pub fn leave_running(&self) {
        janitor::process_is_gone(self.init.number);
    }

    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        Pid::now(self.init.number).is_some_and(|pid| pid == self.init)
    }

    /// Ends all that runs in it and waits for the last to be gone.
    pub fn end(&mut self) -> Result<()> {
        if self.runs() {
            let number = self.init.number.to_string();
            succeed(Command::new("sh").args(["-c", "kill -KILL \"$0\"", &number]))?;
        }
        // The kernel lets process 1 be seen as ended only after all others have.
        wait_for(
            "the node's processes to end",
            Duration::from_secs(60),
            || Ok((!self.runs()).then_some(())),
        )?;
        janitor::process_is_gone(self.init.number);
        Ok(())
    }

    /// Waits for its mounts to be gone too, after [`Node::end`].
    pub fn reap(&mut self) -> Result<()> {
        if let Some(mut parent) = self.parent.take() {
            parent.wait()?;
        }
        Ok(())
    }
}

impl Pid {
    fn now(number: u32) -> Option<Pid> {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        // The second field, in parentheses, may hold anything; the third is the state, the 22nd
        // the start in ticks since boot (proc(5)).
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?;
        // A first thread that is done is shown as a zombie while others still end the process,
        // which is when process 1 waits for all the rest of its namespace.
        let threads = fs::read_dir(format!("/proc/{number}/task")).map_or(0, Iterator::count);
        if matches!(state, "Z" | "X") && threads <= 1 {
            return None;
        }
        let since = fields.nth(18)?.to_owned();
        Some(Pid { number, since })
    }
}

/// The child of `parent` that runs `program`. unshare's child is for a moment a copy of itself.
pub fn child_running(parent: u32, program: &str) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().find_map(|child| {
        let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        // The kernel keeps the first fifteen bytes of a name.
        let cut = program.get(..15).unwrap_or(program);
        (name.trim() == cut).then(|| child.parse().ok()).flatten()
    })
}

/// Where containerd keeps a folder for each container of the cluster in `state`, also after a crash.
pub fn containers(state: &Path) -> PathBuf {
    state.join("containerd/io.containerd.runtime.v2.task/k8s.io")
}

/// Removes the control groups that containers leave behind when they end by process 1's end. All
/// clusters' lie in one group, so each is known by its container's name.
pub fn remove_cgroups(state: &Path) {
    let entries = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut controllers = entries(Path::new("/sys/fs/cgroup"));
    controllers.push(PathBuf::from("/sys/fs/cgroup"));
    let mut groups: Vec<PathBuf> = Vec::new();
    for container in entries(&containers(state)) {
        let name = container.file_name().unwrap_or_default();
        groups.extend(
            controllers
                .iter()
                .map(|controller| controller.join("k8s.io").join(name)),
        );
    }
    // The kernel takes a group for used until it has seen the last process off.
    let _ = wait_for("control groups to be empty", Duration::from_secs(5), || {
        groups.retain(|group| fs::remove_dir(group).is_err() && group.exists());
        Ok(groups.is_empty().then_some(()))
    });
}

/// `/run`, `/var/lib` and `/var/log` are the node's own, so that daemons with fixed paths there
/// do not meet the host's. A bridge stands in for a network card: some kernels have no dummy
/// device. The default route leads nowhere: kubelet and API server want one, and nothing gets out.
const FURNISH: &str = r#"
state=$1 programs=$2 address=$3 inside=$4
mount --make-rshared /
mount --bind "$state" "$inside"
mount --bind "$programs" "$inside/bin"
for folder in /run /var/lib /var/log; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
for name in containerd kubelet; do
  mkdir "/var/lib/$name"
  mount --bind "$inside/$name" "/var/lib/$name"
done
mkdir -p /run/lock /var/log/pods /var/log/containers
mount --bind "$inside/pods" /var/log/pods
hostname node1
ip link set lo up
ip link add node0 type bridge
ip addr add "$address/24" dev node0
ip link set node0 up
ip route add default via 10.99.0.254 dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward
"#;
