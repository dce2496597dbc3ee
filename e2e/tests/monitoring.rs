//! The chart's alerts and dashboard: read by Prometheus' own tool, over metrics that there are.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use chaperone_e2e::{DEADLINE, Lab, Scratch, wait_for};
use xtask::needs::find_program;
use xtask::process::succeed;
use xtask::workspace;

fn monitoring(file: &str) -> Result<String> {
    let path = workspace::root()
        .join("charts/chaperone/monitoring")
        .join(file);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Every `chaperone_…` in a text; what follows a colon is the name of a recorded series.
fn metrics(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
        .filter(|word| word.starts_with("chaperone_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn alerts_fire_when_they_should_and_not_before() -> Result<()> {
    let promtool = find_program("promtool").context("no promtool: run `cargo e2e`")?;
    let scratch = Scratch::new("monitoring")?;
    let rules = scratch.path().join("rules.yaml");
    fs::write(&rules, monitoring("rules.yaml")?)?;
    let tests = scratch.path().join("alerts.yaml");
    fs::copy(workspace::root().join("e2e/monitoring/alerts.yaml"), &tests)?;
    succeed(Command::new(&promtool).args(["check", "rules"]).arg(&rules))?;
    succeed(Command::new(&promtool).args(["test", "rules"]).arg(&tests))?;
    Ok(())
}

#[test]
fn every_metric_of_alerts_and_dashboard_is_one() -> Result<()> {
    // A sidecar's are asked of one that has served; an operator's are read off its source.
    let lab = Lab::new()?;
    lab.policy(
        "notes",
        "  - {name: notes, action: Allow, sql: {effects: [Read], relations: [public.notes]}}
  masking: [{name: bodies, columns: [public.notes.body], strategy: Redact}]
  findings: {denialsPerMinute: 1}",
    )?;
    let running = lab.start()?;
    let mut client = running.client()?;
    client.query("SELECT body FROM notes WHERE id = 1")?.ok()?;
    for _ in 0..2 {
        client.query("DROP TABLE notes")?.error()?;
    }
    client.close()?;
    let mut there = wait_for("the session to have ended", DEADLINE, || {
        let there = metrics(&running.metrics()?);
        Ok(Some(there).filter(|there| there.contains("chaperone_sessions_ended_total")))
    })?;
    running.stop()?;
    for file in ["metrics.rs", "audit/metrics.rs", "control/mod.rs"] {
        let source = fs::read_to_string(workspace::root().join("operator/src").join(file))?;
        there.extend(metrics(&source));
    }
    for file in ["rules.yaml", "dashboard.json"] {
        let unknown: Vec<String> = metrics(&monitoring(file)?)
            .into_iter()
            .filter(|metric| !there.contains(metric))
            // None as long as no session has ended by a panic, and it is not to.
            .filter(|metric| metric != "chaperone_session_panics_total")
            .collect();
        ensure!(unknown.is_empty(), "{file} asks for {unknown:?}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&monitoring("dashboard.json")?)?;
    let panels = dashboard
        .pointer("/panels")
        .and_then(serde_json::Value::as_array)
        .context("no panels")?;
    let places: BTreeSet<String> = panels
        .iter()
        .filter_map(|panel| panel.pointer("/gridPos").map(ToString::to_string))
        .collect();
    ensure!(places.len() == panels.len(), "two panels at one place");
    Ok(())
}
