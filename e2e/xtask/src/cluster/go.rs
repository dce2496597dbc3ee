//! A Go that can build `e2e/cluster`: the machine's own, or one that it fetches.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::needs::find_program;
use crate::process::succeed;

/// Fetched where the machine's Go is older than the first that fetches what go.mod asks for.
const TOOLCHAIN: &str = "v0.0.1-go1.24.13";

/// `go`, such that it obeys go.mod.
pub fn command() -> Result<Command> {
    let found = program().context("no Go on this machine; `cargo cluster up` installs it")?;
    let said = succeed(Command::new(&found).arg("version"))?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    // From 1.21 on it fetches a newer one by itself where go.mod asks for that, unless told not to.
    let own = match minor_version(&said) {
        Some(minor) if minor >= 21 => found,
        Some(_) => fetched(&found)?,
        None => bail!("{} version says {said:?}", found.display()),
    };
    // It may go on beside tests that measure out seconds.
    let mut command = Command::new("nice");
    command.args(["-n", "15"]).arg(own);
    command.env("GOTOOLCHAIN", "auto").env("GOWORK", "off");
    // Flags of the user's own could leave out -trimpath or say where modules are.
    command.env_remove("GOOS").env_remove("GOARCH");
    Ok(command)
}

/// Where Go is, if anywhere.
pub fn program() -> Option<PathBuf> {
    find_program("go").or_else(|| {
        // Where its own installer puts it, which no PATH names by default.
        let path = PathBuf::from("/usr/local/go/bin/go");
        path.is_file().then_some(path)
    })
}

/// `go version go1.26.1 linux/amd64` → 26.
fn minor_version(said: &str) -> Option<u32> {
    let version = said.split_whitespace().nth(2)?;
    let minor = version.strip_prefix("go1.")?;
    let end = minor
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(minor.len());
    minor.get(..end)?.parse().ok()
}

/// Toolchains are modules like others (<https://go.dev/doc/toolchain>): any Go that knows modules
/// can fetch one, checked against the checksum database. Only their file modes get lost.
fn fetched(old: &PathBuf) -> Result<PathBuf> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("no Go toolchain is known for {other}: install Go 1.24 or newer"),
    };
    let module = format!("golang.org/toolchain@{TOOLCHAIN}.linux-{arch}");
    println!("$ go mod download {module}");
    succeed(
        Command::new(old)
            .args(["mod", "download", &module])
            .current_dir("/"),
    )
    .context("this machine's Go is older than 1.21 and could not fetch a newer one")?;
    let cache = succeed(Command::new(old).args(["env", "GOMODCACHE"]))?;
    let root = PathBuf::from(String::from_utf8_lossy(&cache.stdout).trim()).join(&module);
    succeed(
        Command::new("chmod")
            .args(["-R", "+x"])
            .args([root.join("bin"), root.join("pkg/tool")]),
    )?;
    Ok(root.join("bin/go"))
}

#[cfg(test)]
mod tests {
    use super::minor_version;

    #[test]
    fn versions_are_read_as_go_prints_them() {
        assert_eq!(minor_version("go version go1.19.8 linux/amd64"), Some(19));
        assert_eq!(minor_version("go version go1.27 linux/amd64"), Some(27));
        assert_eq!(minor_version("go version go1.25rc1 linux/amd64"), Some(25));
        assert_eq!(minor_version("gccgo"), None);
    }
}
