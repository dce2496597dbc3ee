//! What the README tells a stranger to type on a Kubernetes works, typed as it stands there.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a missing field is a failed test"
)]

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Context, Result, ensure};
use chaperone_e2e::clients::{self, Transcript};
use chaperone_e2e::cluster::chaperone::operator_logs;
use chaperone_e2e::cluster::{Kubectl, image, shared, unavailable};
use chaperone_e2e::{DEADLINE, Scratch, lab, wait_for};
use xtask::image::ours;
use xtask::image::ready_made::{POSTGRES, ReadyMade};
use xtask::workspace;

/// The image that the manifests name. The one that stands in takes the same variables.
const OFFICIAL: &str = "docker.io/library/postgres:17-alpine";

/// The commands of the README's part on Kubernetes, in order.
fn commands() -> Result<Vec<String>> {
    let readme = fs::read_to_string(workspace::root().join("README.md"))?;
    let (_, part) = readme
        .split_once("\n## On Kubernetes\n")
        .context("the README has no such part")?;
    let (part, _) = part.split_once("\n## ").context("it has no end")?;
    let blocks = part.split("```").skip(1).step_by(2);
    let shell: Vec<&str> = blocks
        .filter_map(|block| block.strip_prefix("sh\n"))
        .collect();
    let text = shell.concat().replace("\\\n", " ");
    Ok(text.lines().map(str::to_owned).collect())
}

/// A folder that looks like the checkout to commands, and takes what they write.
fn checkout() -> Result<Scratch> {
    let scratch = Scratch::new("stranger")?;
    for name in ["charts", "config"] {
        symlink(workspace::root().join(name), scratch.path().join(name))?;
    }
    Ok(scratch)
}

fn typed(command: &str, folder: &Scratch) -> Result<Transcript> {
    let plugin = &lab::binaries()?.plugin;
    let programs = plugin.parent().context("the plugin has a folder")?;
    let mut shell = shared()?.shell(command, programs);
    shell.current_dir(folder.path());
    clients::run(shell, "")
}

/// In place of `cargo image --load kind`: the same archives of the programs that are built already.
fn load_images() -> Result<()> {
    let scratch = Scratch::new("images")?;
    let programs = [lab::binaries()?.sidecar.clone(), lab::operator()?];
    for packed in ours::pack(&programs, scratch.path())? {
        shared()?.load_image(&packed.archive)?;
    }
    image(ReadyMade::Postgres)?;
    let mut ctr = shared()?.on_node("ctr");
    ctr.args(["-n", "k8s.io", "images", "tag", POSTGRES, OFFICIAL]);
    clients::run(ctr, "")?.ok().map(|_| ())
}

/// The name of the request that waits, once there is one.
fn waiting() -> Result<String> {
    let shop = Kubectl::admin().in_namespace("shop");
    wait_for("a request that waits", DEADLINE, || {
        let said = shop.ok(&["get", "approvalrequests", "-o", "name"])?;
        let name = said
            .lines()
            .next()
            .and_then(|line| line.split('/').next_back());
        Ok(name.map(str::to_owned))
    })
}

#[test]
fn the_readme_works_as_it_stands() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let folder = checkout()?;
    let mut delete = None;
    for command in commands()? {
        if command.starts_with("cargo image") {
            load_images()?;
            continue;
        }
        let command = match command.contains("ar-xxxxx") {
            true => command.replace("ar-xxxxx", &waiting()?),
            false => command,
        };
        let said = typed(&command, &folder)?;
        let refusal = match &command {
            drop if drop.contains("DROP TABLE") => Some("Schema changes go through migrations"),
            delete if delete.contains("DELETE FROM") => Some("ApprovalPending"),
            _ => None,
        };
        match refusal {
            Some(words) => ensure!(said.err.contains(words), "{command}: {}", said.all()),
            None => ensure!(
                said.code == Some(0),
                "{command}: {}\n{}",
                said.all(),
                operator_logs()
            ),
        }
        if command.contains("rollout status") {
            // One that still ends could be asked in the place of its successor.
            wait_for("the old pod to end", DEADLINE, || {
                let pods = ["get", "pods", "-l", "app=report-agent", "-o", "name"];
                let said = Kubectl::admin().in_namespace("shop").ok(&pods)?;
                Ok((said.lines().count() == 1).then_some(()))
            })?;
        }
        if command.contains("SELECT name, email") {
            let masked = said.out.contains("[masked") && !said.out.contains("@example.com");
            ensure!(masked, "{}", said.all());
        }
        if command.contains("DELETE FROM") {
            delete = Some(command);
        } else if command.contains("patch approvalrequest") {
            let delete = delete.take().context("nothing was to be deleted")?;
            wait_for("the one DELETE", DEADLINE, || {
                let said = typed(&delete, &folder)?;
                Ok(said.out.contains("DELETE 1").then_some(()))
            })?;
        } else if command.contains("get sessions") {
            ensure!(said.out.contains("orders-db"), "{}", said.all());
        }
    }
    ensure!(delete.is_none(), "the README approves nothing");
    Ok(())
}
