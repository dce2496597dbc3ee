//! `config/deny.toml` held against the locked dependencies: banned crates, licences, sources.
//!
//! cargo-deny does this where it is installed. Building it takes longer than our own tests, so
//! without it the same lists are checked from `cargo tree` and `Cargo.lock`. Advisories need
//! cargo-deny and the internet; where they are not checked a line says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail};

use crate::process::succeed;
use crate::{needs, workspace};

/// Checks the lists; with `full`, installs cargo-deny and checks advisories too.
pub fn check(full: bool) -> Result<()> {
    if full && needs::find_program("cargo-deny").is_none() {
        println!("$ cargo install cargo-deny --locked");
        succeed(workspace::cargo().args(["install", "cargo-deny", "--locked", "--quiet"]))?;
    }
    if needs::find_program("cargo-deny").is_some() {
        return with_cargo_deny(full);
    }
    let config = fs::read_to_string(workspace::root().join("config/deny.toml"))?;
    let lists = Lists::read(&config)?;
    let lock = fs::read_to_string(workspace::root().join("Cargo.lock"))?;
    let tree = succeed(workspace::cargo().args([
        "tree",
        "--workspace",
        "--locked",
        "--edges",
        "normal,build,dev",
        "--prefix",
        "none",
        "--format",
        "{p}|{l}",
    ]))?;
    let mut faults = lists.foreign_sources(&lock);
    let packages = packages(&String::from_utf8_lossy(&tree.stdout));
    for (package, license) in &packages {
        faults.extend(lists.fault_of(package, license));
    }
    if !faults.is_empty() {
        bail!("config/deny.toml refuses:\n  {}", faults.join("\n  "));
    }
    println!(
        "{} packages: none banned, licences and sources fine; advisories NOT checked (`cargo e2e --full` does, online)",
        packages.len()
    );
    Ok(())
}

fn with_cargo_deny(full: bool) -> Result<()> {
    let mut checks = vec!["bans", "licenses", "sources"];
    if full {
        checks.push("advisories");
    } else {
        println!("advisories NOT checked (`cargo e2e --full` does, online)");
    }
    let mut command = workspace::cargo();
    command
        .args(["deny", "--config", "config/deny.toml", "check"])
        .args(&checks);
    let status = command.status().context("starting cargo deny")?;
    if !status.success() {
        bail!("cargo deny check {} failed", checks.join(" "));
    }
    Ok(())
}

/// `name v1.2.3` → its licence expression. Workspace members are left out: they are ours.
fn packages(tree: &str) -> BTreeMap<String, String> {
    tree.lines()
        .filter_map(|line| line.split_once('|'))
        .filter(|(package, _)| !package.contains("(/"))
        .map(|(package, license)| {
            let package: Vec<&str> = package.split_whitespace().take(2).collect();
            (
                package.join(" "),
                license.trim_end_matches("(*)").trim().to_owned(),
            )
        })
        .collect()
}

struct Lists {
    banned: BTreeSet<String>,
    allowed: BTreeSet<String>,
    exceptions: BTreeMap<String, BTreeSet<String>>,
}

impl Lists {
    /// Reads the three lists out of deny.toml, whose layout is ours: one entry a line.
    fn read(config: &str) -> Result<Lists> {
        let mut lists = Lists {
            banned: BTreeSet::new(),
            allowed: BTreeSet::new(),
            exceptions: BTreeMap::new(),
        };
        let (mut section, mut list) = (String::new(), String::new());
        for line in config.lines().map(str::trim) {
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
            {
                section = name.to_owned();
            } else if let Some((name, "[")) = line.split_once(" = ") {
                list = format!("{section}.{name}");
            } else if line == "]" {
                list.clear();
            } else {
                lists.entry(&list, &quoted(line));
            }
        }
        if lists.banned.is_empty() || lists.allowed.is_empty() {
            bail!("config/deny.toml has no bans.deny or no licenses.allow list, one entry a line");
        }
        Ok(lists)
    }

    fn entry(&mut self, list: &str, values: &[String]) {
        match (list, values) {
            ("bans.deny", [name, ..]) => {
                self.banned.insert(name.clone());
            }
            ("licenses.allow", [license, ..]) => {
                self.allowed.insert(license.clone());
            }
            ("licenses.exceptions", [name, licenses @ ..]) => {
                self.exceptions
                    .insert(name.clone(), licenses.iter().cloned().collect());
            }
            _ => {}
        }
    }

    fn fault_of(&self, package: &str, license: &str) -> Option<String> {
        let name = package.split_whitespace().next().unwrap_or(package);
        if self.banned.contains(name) {
            return Some(format!("{package} is banned"));
        }
        let allowed = |license: &str| {
            self.allowed.contains(license)
                || self
                    .exceptions
                    .get(name)
                    .is_some_and(|extra| extra.contains(license))
        };
        (!satisfied(license, &allowed)).then(|| format!("{package} has the licence {license:?}"))
    }

    fn foreign_sources(&self, lock: &str) -> Vec<String> {
        const CRATES_IO: &str =
            "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
        lock.lines()
            .filter(|line| line.starts_with("source = ") && *line != CRATES_IO)
            .map(|line| format!("a package from elsewhere than crates.io: {line}"))
            .collect()
    }
}

fn quoted(line: &str) -> Vec<String> {
    let code = line.split('#').next().unwrap_or(line);
    code.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Whether an SPDX expression can be met by allowed licences: OR is a choice, AND is both.
/// `A/B` is the old spelling of `A OR B`.
fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let expression = expression.replace('/', " OR ");
    let mut tokens: Vec<String> = Vec::new();
    for word in expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .split_whitespace()
    {
        match tokens.last_mut() {
            Some(last) if word == "WITH" || last.ends_with("WITH") => {
                *last = format!("{last} {word}");
            }
            _ => tokens.push(word.to_owned()),
        }
    }
    let mut tokens = tokens.into_iter().peekable();
    let result = any_of(&mut tokens, allowed);
    result && tokens.next().is_none()
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<String>>;

fn any_of(tokens: &mut Tokens, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut result = all_of(tokens, allowed);
    while tokens.next_if(|token| token == "OR").is_some() {
        let next = all_of(tokens, allowed);
        result |= next;
    }
    result
}

fn all_of(tokens: &mut Tokens, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut result = one(tokens, allowed);
    while tokens.next_if(|token| token == "AND").is_some() {
        let next = one(tokens, allowed);
        result &= next;
    }
    result
}

fn one(tokens: &mut Tokens, allowed: &dyn Fn(&str) -> bool) -> bool {
    match tokens.next() {
        Some(token) if token == "(" => {
            let result = any_of(tokens, allowed);
            tokens.next().is_some_and(|token| token == ")") && result
        }
        Some(token) => allowed(&token),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Lists, satisfied};

    #[test]
    fn an_expression_is_met_only_by_allowed_licences() {
        let allowed = |license: &str| {
            ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].contains(&license)
        };
        for met in [
            "MIT",
            "MIT OR GPL-3.0",
            "MIT/Apache-2.0",
            "(MIT OR GPL-3.0) AND Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(satisfied(met, &allowed), "{met}");
        }
        for unmet in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT MIT"] {
            assert!(!satisfied(unmet, &allowed), "{unmet}");
        }
    }

    #[test]
    fn a_banned_crate_and_a_foreign_source_are_named() {
        let config = "[bans]\ndeny = [\n  { crate = \"ring\" },\n]\n[licenses]\nallow = [\n  \"MIT\", # why\n]\n";
        let Ok(lists) = Lists::read(config) else {
            unreachable!()
        };
        assert_eq!(
            lists.fault_of("ring v0.17.0", "MIT").as_deref(),
            Some("ring v0.17.0 is banned")
        );
        assert_eq!(lists.fault_of("serde v1.0.0", "MIT"), None);
        assert!(lists.fault_of("x v1.0.0", "GPL-3.0").is_some());
        assert_eq!(
            lists
                .foreign_sources("source = \"git+https://example.com/x\"\n")
                .len(),
            1
        );
    }
}
