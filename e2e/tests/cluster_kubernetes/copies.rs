//! What `kubectl cp` copies, and a pipe through exec: whole, and never collected in the sidecar.

use anyhow::{Context, Result, ensure};
use chaperone_e2e::cluster::{shared, unavailable};
use xtask::process::succeed;

use super::Desk;

/// What the largest of the node's sidecars has ever held, in KiB (proc(5), status).
const PEAK: &str = r#"
for p in /proc/[0-9]*; do
  tr '\0' ' ' <$p/cmdline 2>/dev/null | grep -q '^[^ ]*chaperone-sidecar run' || continue
  sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB$/\1/p' $p/status
done | sort -n | tail -1
"#;
/// The limit of a sidecar's memory, in KiB.
const LIMIT: u64 = 64 * 1024;

/// KiB. More takes longer than five seconds where nothing is optimised, and then a ping of kubectl's may
/// meet an API server that has said all and closed: its kernel drops what was not taken yet.
fn copied_size() -> u64 {
    match std::env::var_os("CHAPERONE_FULL") {
        Some(_) => 32 * 1024,
        None => 4 * 1024,
    }
}

fn peak() -> Result<u64> {
    let mut shell = shared()?.on_node("sh");
    shell.args(["-c", PEAK]);
    let said = String::from_utf8(succeed(&mut shell)?.stdout)?;
    said.trim().parse().context("no sidecar on the node")
}

fn sum(desk: &Desk, of: &str) -> Result<String> {
    let said = desk.ok(of)?;
    // tar has something to say before.
    let line = said.lines().last().unwrap_or_default();
    let sum = line.split_whitespace().next().unwrap_or_default();
    ensure!(sum.len() == 32, "{of}: {said}");
    Ok(sum.to_owned())
}

#[test]
fn large_copies_are_whole_and_not_collected() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    // Much evidence, which that of others of its pod would wait for.
    let desk = Desk::new("copies")?;
    copied(&desk).with_context(|| {
        let logs = desk.shop.namespace.logs(&desk.agent, "chaperone");
        format!("the sidecar said:\n{}", logs.unwrap_or_default())
    })
}

fn copied(desk: &Desk) -> Result<()> {
    let web = desk.web()?;
    let size = copied_size();
    // No part of it is like another, and the record of it is small.
    let made = format!("seq -w 1 99999999 | head -c {size}k >/tmp/large; md5sum /tmp/large");
    let made = sum(desk, &made)?;
    desk.ok(&format!("kubectl cp /tmp/large {web}:/tmp/large"))?;
    let there = format!("kubectl exec {web} -- sh -c 'md5sum /tmp/large'");
    let back = format!("kubectl cp {web}:/tmp/large /tmp/back && md5sum /tmp/back");
    let piped = format!("kubectl exec {web} -- cat /tmp/large >/tmp/piped && md5sum /tmp/piped");
    for copy in [there, back, piped] {
        let found = sum(desk, &copy)?;
        ensure!(found == made, "{copy}: {found} instead of {made}");
    }
    let peak = peak()?;
    ensure!(peak < LIMIT, "a sidecar held {peak} KiB");
    desk.ok(&format!(
        "rm /tmp/large /tmp/back /tmp/piped; kubectl exec {web} -- sh -c 'rm /tmp/large'"
    ))?;
    Ok(())
}
