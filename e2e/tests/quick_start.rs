//! What the README tells a stranger to type works in a fresh clone.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chaperone_e2e::clients::Background;
use xtask::process::succeed;
use xtask::workspace::{self, Profile};

/// The demo builds two programs, with fewer features than all tests together have.
const COMPILING: Duration = Duration::from_secs(1200);

/// The clone shares our target folder, so that this tests the quick start and not the compiler,
/// and always lies at the same place, so that what it builds is built once.
#[test]
fn quick_start_works_from_a_clean_clone() -> Result<()> {
    let readme = fs::read_to_string(workspace::root().join("README.md"))?;
    let command = readme
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("cargo demo"))
        .context("the README names no cargo demo")?;
    let command = command.split('#').next().unwrap_or(command).trim();

    let clone = workspace::target().join("e2e").join("clone");
    if clone.exists() {
        fs::remove_dir_all(&clone)?;
    }
    succeed(
        Command::new("git")
            .args(["clone", "--quiet", "--no-local"])
            .arg(workspace::root())
            .arg(&clone),
    )?;

    // The programs under target/ will be the clone's; those of this checkout are kept for other tests.
    let mut own = Vec::new();
    for name in ["chaperone-sidecar", "kubectl-chaperone"] {
        let program = workspace::folder(Profile::Dev).join(name);
        if program.is_file() {
            let kept = program.with_extension("kept");
            fs::copy(&program, &kept)?;
            own.push((program, kept));
        }
    }
    let mut words = command.split_whitespace();
    let mut demo = Command::new(words.next().context("a command")?);
    demo.args(words)
        .arg("--yes")
        .current_dir(&clone)
        .env("CARGO_TARGET_DIR", workspace::target())
        .env_remove(workspace::BINARIES_VARIABLE);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().into_owned();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            demo.env_remove(name);
        }
    }
    let said = Background::start(demo, "")?.finish_within(COMPILING)?;
    ensure!(
        said.code == Some(0),
        "{command} in a clean clone: {}",
        said.all()
    );
    for shown in [
        "DELETE 1",
        "Schema changes go through migrations",
        "All of it happened as said",
    ] {
        ensure!(said.out.contains(shown), "no {shown:?} in {}", said.all());
    }
    // It cleans up after itself.
    let left = succeed(
        Command::new("git")
            .args(["status", "--porcelain"])
            .current_dir(&clone),
    )?;
    ensure!(
        left.stdout.is_empty(),
        "the demo left {}",
        String::from_utf8_lossy(&left.stdout)
    );
    fs::remove_dir_all(&clone)?;
    for (program, kept) in own {
        // Removed first: cargo's own copy of the clone's program is the same file.
        fs::remove_file(&program)?;
        fs::rename(kept, program)?;
    }
    Ok(())
}
