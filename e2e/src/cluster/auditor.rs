//! What an auditor sees of the shared cluster: the plugin, without `--state`.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::clients::Transcript;
use crate::cluster::Kubectl;
use crate::cluster::chaperone::{Shop, operator_logs};

/// Where the evidence is.
pub const AUDIT: &str = "chaperone-audit";

/// The plugin on the cluster, however it ends.
pub fn plugin(words: &[&str]) -> Result<Transcript> {
    Kubectl::admin().plugin(words)
}

/// The report of a log in which nothing is wrong.
pub fn verified() -> Result<Value> {
    let said = plugin(&["verify", "--all", "-o", "json"])?;
    ensure!(said.code == Some(0), "{}\n{}", said.all(), operator_logs());
    serde_json::from_str(&said.out).with_context(|| said.all())
}

/// The sessions of a shop's agents.
pub fn sessions(shop: &Shop) -> Result<Vec<Value>> {
    let subject = format!("{}/report-agent", shop.namespace.name());
    let said = plugin(&["sessions", "--subject", &subject, "-o", "json"])?;
    let text = said.ok()?;
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
}

/// Waits until the log has so many sessions of the shop's agents, all in one state.
pub fn until_sessions(shop: &Shop, count: usize, state: &str) -> Result<Vec<Value>> {
    shop.namespace
        .until(&format!("{count} sessions, {state}"), || {
            let found = sessions(shop)?;
            let there = found.len() == count && found.iter().all(|one| one["state"] == state);
            Ok(there.then_some(found))
        })
        .with_context(operator_logs)
}
