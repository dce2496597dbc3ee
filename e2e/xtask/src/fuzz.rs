//! The coverage-guided half of `sidecar/fuzz`, for `cargo e2e --full`: the targets of `fuzz/`, built
//! with the flags that `cargo fuzz --sanitizer none` builds them with (which stable takes: no crate
//! of ours has unsafe code for a sanitizer to watch), and each run for a while.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::workspace;

/// Seconds for each target.
const SECONDS: u32 = 120;
/// What a target may allocate at once, and hold, in MiB: far more than its largest input makes it.
const LIMITS: [&str; 2] = ["-malloc_limit_mb=256", "-rss_limit_mb=1024"];
/// Coverage as libFuzzer reads it (LLVM, SanitizerCoverage).
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1";
/// Named, so that build scripts are built without those flags.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Builds and runs every target; the first input that breaks a property ends the run and is kept in
/// `fuzz/artifacts`.
///
/// # Errors
/// A property does not hold, or something cannot be built.
pub fn run() -> Result<()> {
    let folder = workspace::root().join("fuzz");
    let status = workspace::cargo()
        .current_dir(&folder)
        .args([
            "build",
            "--locked",
            "--release",
            "--bins",
            "--target",
            PLATFORM,
        ])
        .env("RUSTFLAGS", FLAGS)
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .context("starting cargo")?;
    ensure!(
        status.success(),
        "building the fuzz targets ended with {status}"
    );
    let mut targets: Vec<String> = fs::read_dir(folder.join("fuzz_targets"))?
        .map(|file| Ok(file?.path()))
        .filter_map(|path: Result<_>| match path {
            Ok(path) => Some(Ok(path.file_stem()?.to_str()?.to_owned())),
            Err(error) => Some(Err(error)),
        })
        .collect::<Result<_>>()?;
    targets.sort();
    targets.iter().try_for_each(|target| one(&folder, target))
}

fn one(folder: &Path, target: &str) -> Result<()> {
    println!("{target}: {SECONDS} s");
    let program = folder
        .join("target")
        .join(PLATFORM)
        .join("release")
        .join(target);
    // What it finds goes into the first; the repository's is only read.
    let found = folder.join("corpus").join(target);
    let artifacts = folder.join("artifacts").join(target);
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&artifacts)?;
    let status = std::process::Command::new(&program)
        .args(LIMITS)
        .arg(format!("-max_total_time={SECONDS}"))
        .arg("-print_final_stats=1")
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(&found)
        .arg(workspace::root().join("sidecar/fuzz/corpus").join(target))
        .status()
        .with_context(|| format!("starting {}", program.display()))?;
    if !status.success() {
        bail!(
            "{target} ended with {status}; the input is in {}",
            artifacts.display()
        );
    }
    Ok(())
}
