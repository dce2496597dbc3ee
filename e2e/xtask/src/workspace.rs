//! Where things are: the checkout, cargo's target folder, our binaries.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The checkout's top folder: the one we are run in, as cargo says or by the current folder. The one
/// we were built in comes last: checkouts that share a target folder share the program too.
pub fn root() -> PathBuf {
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let told = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let current = std::env::current_dir().ok();
    [told, current, Some(built.clone())]
        .into_iter()
        .flatten()
        .find_map(|folder| {
            let mut above = folder.ancestors();
            let top = above.find(|above| above.join("e2e/xtask/Cargo.toml").is_file());
            top.map(Path::to_path_buf)
        })
        .unwrap_or(built)
}

/// Cargo's target folder, as the environment says or in the checkout.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(path) => root().join(path),
        None => root().join("target"),
    }
}

/// Which build of ours to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build.
    Dev,
    /// Optimised, for measuring.
    Release,
}

/// The programs that a user runs.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// The proxy.
    pub sidecar: PathBuf,
    /// The plugin.
    pub plugin: PathBuf,
}

/// A folder that holds both programs already, in place of building them.
pub const BINARIES_VARIABLE: &str = "CHAPERONE_BINARIES";

impl Binaries {
    /// Builds both, or only names them where cargo has nothing to do or
    /// [`BINARIES_VARIABLE`] says where they are.
    pub fn build(profile: Profile) -> Result<Binaries> {
        if let Some(folder) = std::env::var_os(BINARIES_VARIABLE) {
            return Binaries::in_folder(&root().join(folder));
        }
        compile(&["chaperone-sidecar", "kubectl-chaperone"], profile)?;
        Binaries::in_folder(&folder(profile))
    }

    fn in_folder(folder: &Path) -> Result<Binaries> {
        let binaries = Binaries {
            sidecar: folder.join("chaperone-sidecar"),
            plugin: folder.join("kubectl-chaperone"),
        };
        for path in [&binaries.sidecar, &binaries.plugin] {
            if !path.is_file() {
                bail!("{} is not there", path.display());
            }
        }
        Ok(binaries)
    }
}

/// The operator, which only a cluster takes: built, or where [`BINARIES_VARIABLE`] says it is.
pub fn operator(profile: Profile) -> Result<PathBuf> {
    let folder = match std::env::var_os(BINARIES_VARIABLE) {
        Some(there) => root().join(there),
        None => {
            compile(&["chaperone-operator"], profile)?;
            folder(profile)
        }
    };
    let path = folder.join("chaperone-operator");
    if !path.is_file() {
        bail!("{} is not there", path.display());
    }
    Ok(path)
}

fn compile(packages: &[&str], profile: Profile) -> Result<()> {
    let mut command = cargo();
    command.args(["build", "--quiet", "--bins"]);
    command.args(packages.iter().flat_map(|package| ["-p", package]));
    if profile == Profile::Release {
        command.arg("--release");
    }
    let status = command.status().context("starting cargo")?;
    if !status.success() {
        bail!("cargo build of {} failed", packages.join(" and "));
    }
    Ok(())
}

/// Where cargo puts programs of `profile`.
pub fn folder(profile: Profile) -> PathBuf {
    target().join(match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    })
}

/// Cargo, in the checkout, free of what an outer cargo told us about itself.
pub fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let ours = name.to_string_lossy().into_owned();
        if ours.starts_with("CARGO_PKG_") || ours.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}
