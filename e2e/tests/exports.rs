//! What is exported of a real session holds to the schemas of those who will read it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use chaperone_e2e::clients::{self, Transcript};
use chaperone_e2e::lab::MASKING;
use chaperone_e2e::{Lab, Running};
use serde_json::Value;

const RULES: &str = "
  - {name: public, action: Allow, sql: {effects: [Read, Write, Modify], relations: [\"public.*\"]}}
  - name: deletes-need-a-human
    action: RequireApproval
    sql: {effects: [Delete], relations: [public.notes]}
    approval: {approvers: {groups: [dba]}, quorum: 1, timeout: 60s, validFor: 15m}";

const FRAMEWORKS: [&str; 6] = ["soc2", "pci", "iso27001", "hipaa", "nist80053", "eu-ai-act"];

/// A masked read, a denial, a failure, and a DELETE that a human let through.
fn work(running: &Running<'_>) -> Result<()> {
    let psql = running.psql_in_background(
        "SELECT email, name FROM customers;\nSELECT person FROM hidden.salaries;\nSELECT 1/0;\n\
         DELETE FROM notes WHERE id = 3;\n",
    )?;
    let name = running.pending()?;
    running
        .lab
        .plugin(&["approve", &name, "--reason", "ticket 42"])?
        .ok()?;
    let said = psql.finish()?;
    ensure!(said.out.contains("DELETE 1"), "{}", said.all());
    Ok(())
}

fn checked(kind: &str, file: &PathBuf) -> Result<Transcript> {
    let mut checker = clients::verifier("schemas.py")?;
    checker.arg(kind).arg(file);
    clients::run(checker, "")
}

#[test]
fn exports_hold_to_the_schemas_of_their_readers() -> Result<()> {
    let lab = Lab::new()?;
    lab.guardrails(MASKING)?;
    lab.policy("public", RULES)?;
    let running = lab.start()?;
    work(&running)?;
    running.stop()?;

    let file = lab.folder().join("events.ndjson");
    let events = lab.plugin(&["export", "--format", "ocsf"])?.ok()?;
    fs::write(&file, &events)?;
    let counts = checked("ocsf", &file)?.ok()?;
    let counts: Value = serde_json::from_str(&counts)?;
    for (class, least) in [("3003", 1), ("3005", 2), ("6005", 5)] {
        let count = counts
            .get(class)
            .and_then(Value::as_u64)
            .unwrap_or_default();
        ensure!(
            count >= least,
            "{count} events of class {class} in {events}"
        );
    }
    // The schema is not one that lets anything pass.
    let first = events.lines().next().context("an event")?;
    for (from, to) in [
        ("\"severity_id\":1", "\"severity_id\":77"),
        ("\"time\":", "\"tine\":"),
        ("\"type_id\":4", "\"type_id\":\"4\""),
    ] {
        ensure!(first.contains(from), "no {from} in {first}");
        fs::write(&file, first.replace(from, to))?;
        let found = checked("ocsf", &file)?;
        ensure!(found.code == Some(1), "{to} passes: {}", found.all());
    }

    let key = lab.state().join("evidence/keys/log.pub");
    let key = key.to_string_lossy();
    for framework in FRAMEWORKS {
        let report = [
            "report",
            "--framework",
            framework,
            "--key",
            &key,
            "-o",
            "oscal",
        ];
        let report = lab.plugin(&report)?.out;
        let file = lab.folder().join(format!("{framework}.json"));
        fs::write(&file, &report)?;
        checked("oscal", &file)?.ok()?;
        if framework == "soc2" {
            fs::write(&file, report.replace("\"methods\"", "\"method\""))?;
            let found = checked("oscal", &file)?;
            ensure!(found.code == Some(1), "{}", found.all());
        }
    }
    Ok(())
}
