//! What is out of the ordinary is recorded and counted as it happens, and has the consequence that
//! the policy names, however often the agent connects anew.

use anyhow::{Context, Result, ensure};
use chaperone_e2e::lab::{Lab, Running};
use chaperone_e2e::raw::Reply;

/// Three denials a minute, and what follows.
fn lab(findings: &str) -> Result<Lab> {
    let lab = Lab::new()?;
    let rules = format!(
        "  - {{name: notes, action: Allow, sql: {{effects: [Read, Modify], relations: [public.notes]}}}}
  findings: {findings}"
    );
    lab.policy("notes", &rules)?;
    Ok(lab)
}

/// Is refused `count` times, each in a session of its own.
fn refused(running: &Running<'_>, count: usize) -> Result<()> {
    for _ in 0..count {
        let mut client = running.client()?;
        let error = client.query("DROP TABLE notes")?.error()?;
        ensure!(error.text().contains("NotCovered"), "{error:?}");
        client.close()?;
    }
    Ok(())
}

fn says(reply: &Reply, reason: &str) -> Result<()> {
    ensure!(
        reply
            .errors()
            .iter()
            .any(|error| error.text().contains(reason)),
        "no {reason} in {reply:?}"
    );
    Ok(())
}

#[test]
fn a_burst_over_many_sessions_is_one_finding() -> Result<()> {
    let lab = lab("{denialsPerMinute: 3}")?;
    let running = lab.start()?;
    refused(&running, 3)?;
    running.client()?.query("SELECT 1")?.ok()?;
    let found = || -> Result<usize> {
        let sessions = lab.plugin_json(&["sessions"])?;
        let sessions = sessions.as_array().context("no sessions")?;
        let mut found = 0;
        for session in sessions {
            let id = session
                .pointer("/id")
                .and_then(serde_json::Value::as_str)
                .context("no id")?;
            let shown = lab.plugin(&["show", id])?.ok()?;
            found += shown.matches("DenialBurst").count();
        }
        Ok(found)
    };
    ensure!(found()? == 0, "three are not too many");
    refused(&running, 3)?;
    ensure!(found()? == 1, "told {} times", found()?);
    // It is worth an alert and no more.
    running
        .client()?
        .query("SELECT body FROM notes WHERE id = 1")?
        .ok()?;
    let metrics = running.metrics()?;
    ensure!(
        metrics
            .lines()
            .any(|line| line.starts_with("chaperone_findings_total{")
                && line.contains("kind=\"DenialBurst\"")
                && line.ends_with(" 1")),
        "{metrics}"
    );
    running.stop()?;
    lab.verify()
}

#[test]
fn the_next_command_waits_for_a_human_in_whichever_session() -> Result<()> {
    let lab = lab(
        "{denialsPerMinute: 3, onFinding: HoldNext, approval: {approvers: {groups: [dba]}, timeout: 0s, validFor: 15m}}",
    )?;
    let running = lab.start()?;
    let mut open = running.client()?;
    open.query("SELECT body FROM notes WHERE id = 1")?.ok()?;
    refused(&running, 4)?;
    let update = "UPDATE notes SET body = 'held' WHERE id = 2";
    for client in [&mut open, &mut running.client()?] {
        says(&client.query(update)?, "ApprovalPending")?;
        says(
            &client.query("SELECT body FROM notes WHERE id = 2")?,
            "ApprovalPending",
        )?;
        // What begins and ends transactions is not in question.
        client.query("BEGIN")?.ok()?;
        client.query("ROLLBACK")?.ok()?;
    }
    let untouched = "SELECT count(*) FROM notes WHERE body = 'held'";
    ensure!(lab.database.sql(untouched)? == "0");
    let asked = open.query(update)?.error()?.text();
    let name = asked
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .find(|word| word.starts_with("ar-"))
        .context("no request is named")?;
    lab.plugin(&["approve", name, "--reason", "it is well"])?
        .ok()?;
    open.query(update)?.ok()?;
    ensure!(lab.database.sql(untouched)? == "1");
    // One was asked for, one was let through; from then on it is as before.
    open.query("SELECT body FROM notes WHERE id = 3")?.ok()?;
    drop(open);
    running.stop()?;
    lab.verify()
}

#[test]
fn a_session_is_closed_and_so_is_the_next_that_goes_on_with_it() -> Result<()> {
    let lab = lab("{denialsPerMinute: 3, onFinding: Close}")?;
    let running = lab.start()?;
    let mut bystander = running.client()?;
    refused(&running, 3)?;
    for _ in 0..2 {
        let mut client = running.client()?;
        client.send(&chaperone_e2e::raw::query("DROP TABLE notes"))?;
        let reply = client.to_end()?;
        says(&reply, "ClosedByFinding")?;
    }
    // Nothing of a closed session's pipeline runs.
    let mut client = running.client()?;
    let update = chaperone_e2e::raw::query("UPDATE notes SET body = 'late' WHERE id = 1");
    client.send(&[chaperone_e2e::raw::query("DROP TABLE notes"), update].concat())?;
    says(&client.to_end()?, "ClosedByFinding")?;
    ensure!(
        lab.database
            .sql("SELECT count(*) FROM notes WHERE body = 'late'")?
            == "0"
    );
    bystander
        .query("SELECT body FROM notes WHERE id = 1")?
        .ok()?;
    drop(bystander);
    running.stop()?;
    lab.verify()
}
