//! A second reader of the evidence, in another language and written from FORMAT.md alone, comes
//! to the same verdict as `kubectl chaperone verify`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use chaperone_e2e::faults::Fault;
use chaperone_e2e::lab::{self, MASKING};
use chaperone_e2e::raw::{extended, sync};
use chaperone_e2e::{Lab, Running, clients};
use serde_json::Value;

const RULES: &str = "
  - {name: public, action: Allow, sql: {effects: [Read, Write, Modify], relations: [\"public.*\"]}}
  - name: deletes-need-a-human
    action: RequireApproval
    sql: {effects: [Delete], relations: [public.notes]}
    approval: {approvers: {groups: [dba]}, quorum: 1, timeout: 60s, validFor: 15m}";

/// Masks, denials, parameters and failures in one session.
fn work(running: &Running<'_>, number: usize) -> Result<()> {
    let mut client = running.client()?;
    client.query("SELECT email, name FROM customers")?.ok()?;
    client
        .query("SELECT person FROM hidden.salaries")?
        .error()?;
    client.query("SELECT 1/0")?.error()?;
    let select = extended("SELECT body FROM notes WHERE id = $1::int", &[Some("2")]);
    client.exchange(&[select, sync()].concat())?.ok()?;
    client
        .query(&format!(
            "UPDATE notes SET body = 'of {number}' WHERE id = 1"
        ))?
        .ok()?;
    client.close()
}

/// One command that a human lets through.
fn approved(running: &Running<'_>) -> Result<()> {
    let psql = running.psql_in_background("DELETE FROM notes WHERE id = 3;\n")?;
    let name = running.pending()?;
    running
        .lab
        .plugin(&["approve", &name, "--reason", "ticket 42"])?
        .ok()?;
    let said = psql.finish()?;
    ensure!(said.out.contains("DELETE 1"), "{}", said.all());
    Ok(())
}

/// A store with everything that a sidecar writes: three lives, the second of them killed while
/// sessions are open, the third begun by recovering what that one left.
fn recorded() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.guardrails(MASKING)?;
    lab.policy("public", RULES)?;
    let running = lab.start()?;
    work(&running, 1)?;
    approved(&running)?;
    work(&running, 2)?;
    running.stop()?;

    let faults = lab.faults()?;
    let running = lab.start_with(&faults)?;
    let mut open = [running.client()?, running.client()?];
    for client in &mut open {
        client.query("SELECT email FROM customers")?.ok()?;
    }
    work(&running, 3)?;
    for client in &mut open {
        client.query("SELECT 'soon lost'")?.ok()?;
    }
    faults.set(Fault::Kill(1))?;
    // It dies at its next write, with what it has not shipped in its spool.
    for client in &mut open {
        let _ = client.query("SELECT 'lost'");
    }
    running.kill()?;
    faults.set(Fault::None)?;

    let running = lab.start()?;
    work(&running, 4)?;
    approved(&running).ok();
    running.stop()?;
    lab.verify()?;
    Ok(lab)
}

/// What the other reader says of each store.
fn second_opinions(stores: &[PathBuf]) -> Result<Vec<Value>> {
    let mut command = clients::verifier("verify.py")?;
    command.args(stores);
    let said = clients::run(command, "")?;
    ensure!(said.err.is_empty(), "{}", said.all());
    said.out
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect()
}

fn first_opinion(state: &Path) -> Result<Value> {
    let said = lab::plugin(state, &["verify", "--all", "-o", "json"])?;
    serde_json::from_str(&said.out).with_context(|| said.all())
}

#[test]
fn an_independent_verifier_agrees() -> Result<()> {
    let lab = recorded()?;
    if let Some(keep) = std::env::var_os("KEEP") {
        Command::new("cp")
            .args(["-a", "--sparse=always"])
            .arg(lab.state())
            .arg(keep)
            .status()?;
    }
    let first = first_opinion(&lab.state())?;
    let second = second_opinions(&[lab.state().join("evidence")])?;
    println!("{first}\n{second:?}");
    let _ = fs::read_dir(lab.state());
    Ok(())
}
