//! The images that clusters and tests start from: made when they are wanted, of what the machine
//! has.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cluster::program;
use crate::image::{Image, Rootfs};
use crate::needs::find_program;
use crate::postgres;
use crate::process::succeed;

/// The sandbox of every pod.
pub const PAUSE: &str = "localhost/pause:e2e";
/// busybox and nothing else.
pub const BUSYBOX: &str = "localhost/busybox:e2e";
/// What an agent has: psql, pgbench, curl, python3 where the machine has it, and busybox. Does nothing
/// by itself.
pub const AGENT: &str = "localhost/agent:e2e";
/// PostgreSQL as uid 70; see `postgres-entrypoint.sh` for its variables.
pub const POSTGRES: &str = "localhost/postgres:e2e";

/// nginx, which reads `/etc/nginx/nginx.conf` and writes to `/tmp` alone.
pub const NGINX: &str = "localhost/nginx:e2e";

/// An image by its short name, for command lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadyMade {
    /// [`PAUSE`]
    Pause,
    /// [`BUSYBOX`]
    Busybox,
    /// [`AGENT`]
    Agent,
    /// [`POSTGRES`]
    Postgres,
    /// [`NGINX`]
    Nginx,
}

impl ReadyMade {
    /// The one called `name`.
    pub fn named(name: &str) -> Option<ReadyMade> {
        match name {
            "pause" => Some(ReadyMade::Pause),
            "busybox" => Some(ReadyMade::Busybox),
            "agent" => Some(ReadyMade::Agent),
            "postgres" => Some(ReadyMade::Postgres),
            "nginx" => Some(ReadyMade::Nginx),
            _ => None,
        }
    }

    /// Its name and tag.
    pub fn reference(self) -> &'static str {
        match self {
            ReadyMade::Pause => PAUSE,
            ReadyMade::Busybox => BUSYBOX,
            ReadyMade::Agent => AGENT,
            ReadyMade::Postgres => POSTGRES,
            ReadyMade::Nginx => NGINX,
        }
    }

    /// Makes it and writes it to `archive`.
    pub fn write(self, archive: &Path) -> Result<()> {
        let rootfs = Rootfs::new()?;
        let image = match self {
            ReadyMade::Pause => {
                rootfs.program(&program::folder()?.join("pause"), "/pause")?;
                Image::new(PAUSE, &["/pause"])
            }
            ReadyMade::Busybox => {
                add_busybox(&rootfs)?;
                Image::new(BUSYBOX, &["/bin/sh"])
            }
            ReadyMade::Agent => agent(&rootfs)?,
            ReadyMade::Postgres => server(&rootfs)?,
            ReadyMade::Nginx => {
                let nginx = find_program("nginx").context("no nginx on this machine")?;
                rootfs.program(&nginx, "/usr/sbin/nginx")?;
                Image::new(
                    NGINX,
                    &["/usr/sbin/nginx", "-e", "/dev/stderr", "-g", "daemon off;"],
                )
            }
        };
        image.write(&rootfs, archive)
    }
}

/// The applets that tests use, under their own names. Not wget: linked statically it cannot ask for
/// names.
fn add_busybox(rootfs: &Rootfs) -> Result<()> {
    let busybox = find_program("busybox").context("no busybox on this machine")?;
    rootfs.program(&busybox, "/bin/busybox")?;
    for applet in APPLETS {
        rootfs.link(&format!("/bin/{applet}"), "busybox")?;
    }
    Ok(())
}

fn agent(rootfs: &Rootfs) -> Result<Image> {
    add_busybox(rootfs)?;
    let bin = postgres::bin_dir().context("no PostgreSQL on this machine")?;
    for program in ["psql", "pgbench"] {
        rootfs.program(&bin.join(program), &format!("/usr/bin/{program}"))?;
    }
    let curl = find_program("curl").context("no curl on this machine")?;
    rootfs.program(&curl, "/usr/bin/curl")?;
    add_resolver(rootfs)?;
    add_python(rootfs)?;
    Ok(Image::new(AGENT, &[]))
}

/// getent asks for names as every other program linked with glibc does; busybox has no say in that.
fn add_resolver(rootfs: &Rootfs) -> Result<()> {
    let getent = find_program("getent").context("no getent on this machine")?;
    rootfs.program(&getent, "/usr/bin/getent")
}

/// The distribution's Python, if there is one, without its tests.
fn add_python(rootfs: &Rootfs) -> Result<()> {
    let Ok(program) = fs::canonicalize("/usr/bin/python3") else {
        return Ok(());
    };
    let name = program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let library = PathBuf::from("/usr/lib").join(&name);
    if !library.is_dir() {
        return Ok(());
    }
    rootfs.program(&program, &format!("/usr/bin/{name}"))?;
    rootfs.link("/usr/bin/python3", &name)?;
    let unneeded = [
        "__pycache__",
        "test",
        "idlelib",
        "lib2to3",
        "config-*",
        "pydoc_data",
    ];
    rootfs.folder(&library, &unneeded)?;
    rootfs.libraries(&shared_objects(&library.join("lib-dynload"))?)
}

/// The server with everything that it opens by itself later, but for its compiler, which is large.
fn server(rootfs: &Rootfs) -> Result<Image> {
    add_busybox(rootfs)?;
    add_resolver(rootfs)?;
    let bin = postgres::bin_dir().context("no PostgreSQL on this machine")?;
    for program in ["postgres", "initdb", "pg_ctl", "psql", "pg_isready"] {
        let path = bin.join(program);
        let path = path.to_str().context("PostgreSQL's folder is not UTF-8")?;
        rootfs.program(Path::new(path), path)?;
    }
    let modules = pg_config(&bin, "--pkglibdir")?;
    rootfs.folder(&modules, &["bitcode", "pgxs", "llvmjit*"])?;
    let mut loaded = shared_objects(&modules)?;
    loaded.retain(|path| !path.to_string_lossy().contains("llvmjit"));
    rootfs.libraries(&loaded)?;
    rootfs.folder(&pg_config(&bin, "--sharedir")?, &["man", "contrib"])?;
    // Debian's PostgreSQL has no time zones of its own.
    let zones = Path::new("/usr/share/zoneinfo");
    if zones.is_dir() {
        rootfs.folder(zones, &["posix", "right"])?;
    }
    for folder in ["/var/lib/postgresql", "/var/run/postgresql"] {
        rootfs.shared_folder(folder)?;
    }
    rootfs.script(
        "/usr/local/bin/postgres-entrypoint",
        include_str!("postgres-entrypoint.sh"),
    )?;
    let mut image = Image::new(POSTGRES, &["/usr/local/bin/postgres-entrypoint"]);
    image.user = "70:70".to_owned();
    image.environment = vec![
        format!("PATH={}:/usr/local/bin:/usr/bin:/bin", bin.display()),
        "PGDATA=/var/lib/postgresql/data".to_owned(),
    ];
    Ok(image)
}

fn pg_config(bin: &Path, what: &str) -> Result<PathBuf> {
    let output = succeed(std::process::Command::new(bin.join("pg_config")).arg(what))?;
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

fn shared_objects(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "so") {
            found.push(path);
        }
    }
    Ok(found)
}

const APPLETS: [&str; 48] = [
    "base64", "cat", "chmod", "cp", "cut", "date", "dd", "echo", "env", "expr", "false", "find",
    "grep", "gunzip", "head", "hostname", "id", "kill", "ls", "md5sum", "mkdir", "mktemp", "mv",
    "nc", "nslookup", "printf", "ps", "pwd", "rm", "sed", "seq", "sh", "sleep", "sort", "stat",
    "tail", "tar", "test", "timeout", "touch", "tr", "true", "uname", "wc", "wget", "which",
    "xargs", "yes",
];
