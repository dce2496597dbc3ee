//! Sinks: what leaves the sidecar while it happens, to receivers that are slow, gone, killed, and say no.

#![allow(clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chaperone_e2e::lab::MASKING;
use chaperone_e2e::receiver::{Receiver, lines};
use chaperone_e2e::{Lab, Running};
use serde_json::Value;
use xtask::wait::wait_for;

/// A sink that was down is tried again within its longest pause.
const PATIENCE: Duration = Duration::from_secs(120);

const RULES: &str = "
  - {name: public, action: Allow, sql: {effects: [Read], relations: [\"public.*\"]}}
  - name: deletes-need-a-human
    action: RequireApproval
    sql: {effects: [Delete], relations: [public.notes]}
    approval: {approvers: {groups: [dba]}, quorum: 1, timeout: 60s, validFor: 15m}";

const SECRET: &str = "Bearer of-the-siem";

fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.guardrails(MASKING)?;
    lab.policy("public", RULES)?;
    lab.manifest(
        "sinks-secret.yaml",
        &format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: chaperone-sinks, namespace: chaperone-audit}}\n\
             stringData: {{siem: {SECRET}}}\n"
        ),
    )?;
    Ok(lab)
}

/// (Re)writes the AuditStore with these sinks, a YAML list indented by two.
fn sinks(lab: &Lab, list: &str) -> Result<()> {
    lab.manifest(
        "audit.yaml",
        &format!(
            "apiVersion: chaperone.dev/v1alpha1\nkind: AuditStore\nmetadata: {{name: default}}\nspec:\n  sinks:\n{list}"
        ),
    )
}

fn to_server(name: &str, kind: &str, url: &str, ca: &str, more: &str) -> String {
    let ca = ca.trim().replace('\n', "\n        ");
    format!("  - name: {name}\n    {kind}:\n      url: {url}\n      ca: |\n        {ca}\n{more}")
}

const WITH_SECRET: &str = "      authorizationKey: siem\n";

/// The events that arrived at this path, in order, each with what authorised it.
fn at(receiver: &Receiver, path: &str) -> Result<Vec<Value>> {
    let all = receiver.received()?.into_iter();
    Ok(all.filter(|one| one["path"] == path).collect())
}

fn events(received: &[Value]) -> Vec<Value> {
    received.iter().map(|one| one["event"].clone()).collect()
}

/// `metadata.uid` and `metadata.sequence` of all.
fn named(events: &[Value]) -> BTreeMap<String, u64> {
    let place = |event: &Value| {
        let metadata = &event["metadata"];
        let uid = metadata["uid"].as_str()?.to_owned();
        Some((uid, metadata["sequence"].as_u64()?))
    };
    events.iter().filter_map(place).collect()
}

/// What the evidence has, which is what every sink must have been told.
fn exported(lab: &Lab) -> Result<BTreeMap<String, u64>> {
    let text = lab.plugin(&["export", "--format", "ocsf"])?.ok()?;
    let events: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
    Ok(named(&events?))
}

/// Waits until everything that the evidence has was told.
fn told(what: &str, lab: &Lab, told: impl Fn() -> Result<Vec<Value>>) -> Result<Vec<Value>> {
    let expected = exported(lab)?;
    let got = wait_for(&format!("every event at {what}"), PATIENCE, || {
        let events = told()?;
        let named = named(&events);
        Ok(expected
            .keys()
            .all(|uid| named.contains_key(uid))
            .then_some(events))
    })?;
    let named = named(&got);
    ensure!(
        named == expected,
        "{what} was told of other events, or in other places"
    );
    Ok(got)
}

fn printed(running: &Running<'_>) -> Vec<Value> {
    let output = running.sidecar.output();
    let lines = output.lines().filter(|line| line.starts_with('{'));
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn query(running: &Running<'_>, n: usize) -> Result<()> {
    let said = running.psql(&format!(
        "SELECT email, {n} FROM customers;\nSELECT person FROM hidden.salaries;\n"
    ))?;
    ensure!(said.all().contains("42501"), "{}", said.all());
    Ok(())
}

#[test]
fn every_sink_gets_every_record_at_least_once() -> Result<()> {
    let lab = lab()?;
    let mut receiver = Receiver::new()?;
    let file = lab.folder().join("events.ndjson");
    let list = [
        to_server(
            "siem",
            "webhook",
            &format!("{}/siem", receiver.url()),
            receiver.ca(),
            WITH_SECRET,
        ),
        to_server(
            "otel",
            "otlp",
            &format!("{}/v1/logs", receiver.url()),
            receiver.ca(),
            "",
        ),
        format!("  - {{name: file, file: {{path: {}}}}}\n", file.display()),
        "  - {name: out, stdout: {}}\n".to_owned(),
    ];
    sinks(&lab, &list.concat())?;
    let mut out = Vec::new();
    // Both ends die, one or the other or both, with the receiver in every mood.
    let moods = [
        "ok",
        "drop",
        "status 503",
        "status 429 1",
        "slow 0.5",
        "status 401",
        "status 307",
        "drop",
    ];
    for (round, mood) in moods.into_iter().enumerate() {
        receiver.behave(mood)?;
        let before = receiver.attempts()?.len();
        // In the first rounds nobody is there yet when the sidecar starts.
        if round % 3 != 1 {
            receiver.start()?;
        }
        let running = lab.start()?;
        query(&running, round)?;
        if round % 3 == 1 {
            receiver.start()?;
        }
        // A session that the kill cuts.
        let open = running.psql_in_background("SELECT pg_sleep(60) FROM customers;\n")?;
        query(&running, round + 100)?;
        // What is dropped must have come at both servers: each is asked below for what came twice.
        let awaited: &[&str] = if mood == "drop" {
            &["/siem", "/v1/logs"]
        } else {
            &[]
        };
        wait_for("an attempt", PATIENCE, || {
            let attempts = receiver.attempts()?;
            let since = attempts.get(before..).unwrap_or_default();
            let came = |path: &&str| since.iter().any(|one| one["path"] == **path);
            Ok((!since.is_empty() && awaited.iter().all(came)).then_some(()))
        })?;
        if round % 2 == 0 {
            receiver.kill()?;
            query(&running, round + 200)?;
        }
        out.extend(printed(&running));
        running.kill()?;
        receiver.kill()?;
        drop(open);
    }
    receiver.behave("ok")?;
    receiver.start()?;
    let running = lab.start()?;
    query(&running, 300)?;
    let at_siem = told("the webhook", &lab, || Ok(events(&at(&receiver, "/siem")?)))?;
    let at_otel = told("the collector", &lab, || {
        Ok(events(&at(&receiver, "/v1/logs")?))
    })?;
    let in_file = told("the file", &lab, || lines(&file))?;
    told("standard output", &lab, || {
        Ok([out.clone(), printed(&running)].concat())
    })?;
    let metrics = running.metrics()?;
    running.stop()?;

    for attempt in receiver.attempts()? {
        ensure!(attempt.get("broken").is_none(), "{attempt}");
    }
    // Whoever has them all sees that he has: of each session 1, 2, 3 …
    let mut sequences: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for event in &at_siem {
        let metadata = &event["metadata"];
        let session = metadata["correlation_uid"].as_str().context("a session")?;
        let sequence = metadata["sequence"].as_u64().context("a sequence")?;
        sequences
            .entry(session.to_owned())
            .or_default()
            .insert(sequence);
    }
    ensure!(sequences.len() > 20, "{} sessions", sequences.len());
    for (session, sequences) in sequences {
        let whole: BTreeSet<u64> = (1..=sequences.len() as u64).collect();
        ensure!(sequences == whole, "{session}: {sequences:?}");
    }
    // The connection that was closed without an answer: it came twice, under the same name.
    for events in [&at_siem, &at_otel] {
        ensure!(events.len() > named(events).len(), "nothing came twice");
    }
    for one in at(&receiver, "/siem")? {
        ensure!(one["authorization"] == SECRET, "{one}");
    }
    for one in at(&receiver, "/v1/logs")? {
        ensure!(
            one["authorization"].is_null(),
            "the secret of another sink: {one}"
        );
    }
    // Nothing that is masked leaves by a sink, and no secret stands in the log.
    for all in [at_siem, at_otel, in_file] {
        let text = serde_json::to_string(&all)?;
        ensure!(!text.contains("@example"), "{text}");
    }
    for sink in ["siem", "otel", "file", "out"] {
        let dead =
            format!("chaperone_sink_events_total{{outcome=\"dead_letter\",sink=\"{sink}\"}} 0");
        ensure!(metrics.contains(&dead), "{metrics}");
    }
    // What every sink has is kept no longer.
    let left: Vec<_> = fs::read_dir(lab.state().join("evidence/export"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    ensure!(left.len() <= 5, "{left:?}");
    lab.verify()
}

#[test]
fn what_a_sink_refuses_for_good_is_counted_and_holds_up_nothing_else() -> Result<()> {
    let lab = lab()?;
    let mut receiver = Receiver::new()?;
    receiver.behave("poison poisoned")?;
    receiver.start()?;
    let list = [
        to_server(
            "siem",
            "webhook",
            &format!("{}/siem", receiver.url()),
            receiver.ca(),
            "",
        ),
        to_server(
            "otel",
            "otlp",
            &format!("{}/v1/logs", receiver.url()),
            receiver.ca(),
            "",
        ),
    ];
    sinks(&lab, &list.concat())?;
    let running = lab.start()?;
    running.psql("SELECT 1 FROM notes;\nSELECT 'poisoned' FROM notes;\nSELECT 2 FROM notes;\n")?;
    let counted = |sink: &str, outcome: &str| {
        let wanted =
            format!("chaperone_sink_events_total{{outcome=\"{outcome}\",sink=\"{sink}\"}} ");
        let metrics = running.metrics()?;
        let line = metrics.lines().find_map(|line| line.strip_prefix(&wanted));
        Ok::<u64, anyhow::Error>(line.context("no such counter")?.parse()?)
    };
    let all = || Ok::<u64, anyhow::Error>(exported(&lab)?.len() as u64);
    for sink in ["siem", "otel"] {
        wait_for("all but one to arrive", PATIENCE, || {
            Ok((counted(sink, "sent")? + 1 == all()?).then_some(()))
        })?;
        ensure!(counted(sink, "dead_letter")? == 1, "{}", running.metrics()?);
    }
    // The same by OTLP's partial success, which must not be sent again.
    receiver.behave("partial poisoned")?;
    running.psql("SELECT 'poisoned' FROM notes;\n")?;
    wait_for("the rejected record to be counted", PATIENCE, || {
        let sent = counted("otel", "sent")?;
        Ok((counted("otel", "dead_letter")? == 2 && sent + 2 == all()?).then_some(()))
    })?;
    let output = running.sidecar.output();
    ensure!(output.contains("refused for good"), "{output}");
    Ok(())
}

#[test]
fn nothing_is_sent_to_a_server_that_the_ca_does_not_certify() -> Result<()> {
    let lab = lab()?;
    let (mut receiver, other) = (Receiver::new()?, Receiver::new()?);
    receiver.start()?;
    let to = |ca: &str| {
        sinks(
            &lab,
            &to_server(
                "siem",
                "webhook",
                &format!("{}/siem", receiver.url()),
                ca,
                WITH_SECRET,
            ),
        )
    };
    to(other.ca())?;
    let running = lab.start()?;
    query(&running, 1)?;
    wait_for("attempts that fail", PATIENCE, || {
        let metrics = running.metrics()?;
        let failures = metrics
            .lines()
            .find_map(|line| line.strip_prefix("chaperone_sink_failures_total{sink=\"siem\"} "));
        Ok(failures.filter(|failures| *failures >= "2").map(drop))
    })?;
    ensure!(receiver.attempts()?.is_empty(), "something was sent");
    // The right one takes effect while it runs, and nothing was lost meanwhile.
    to(receiver.ca())?;
    told("the webhook", &lab, || Ok(events(&at(&receiver, "/siem")?)))?;
    ensure!(
        !running.sidecar.output().contains(SECRET),
        "the secret stands in the log"
    );
    Ok(())
}

#[test]
fn a_webhook_is_told_of_a_new_approval_with_the_command_to_paste() -> Result<()> {
    let lab = lab()?;
    let mut receiver = Receiver::new()?;
    receiver.start()?;
    let only = to_server(
        "on-call",
        "webhook",
        &format!("{}/approvals", receiver.url()),
        receiver.ca(),
        "    only: [Approvals]\n",
    );
    sinks(&lab, &only)?;
    let running = lab.start()?;
    let psql = running.psql_in_background("DELETE FROM notes WHERE id = 3;\n")?;
    let asked = wait_for("the webhook", PATIENCE, || {
        Ok(at(&receiver, "/approvals")?.into_iter().next())
    })?;
    let event = &asked["event"];
    ensure!(event["class_uid"] == 3005, "{event}");
    ensure!(
        event["unmapped"]["command"] == "DELETE FROM notes WHERE id = 3;",
        "{event}"
    );
    // Pasted as it stands, by a shell that has the plugin on its path.
    let paste = event["unmapped"]["approve"].as_str().context("a command")?;
    let plugin = &chaperone_e2e::lab::binaries()?.plugin;
    let folder = plugin.parent().context("a folder")?;
    let path = std::env::var("PATH")?;
    let status = std::process::Command::new("sh")
        .args(["-c", paste])
        .env("PATH", format!("{}:{path}", folder.display()))
        .status()?;
    ensure!(status.success(), "{paste}: {status}");
    let said = psql.finish()?;
    ensure!(said.out.contains("DELETE 1"), "{}", said.all());
    wait_for("what became of it", PATIENCE, || {
        let codes = events(&at(&receiver, "/approvals")?);
        let granted = |event: &Value| event["metadata"]["event_code"] == "ApprovalGranted";
        Ok(codes.iter().any(granted).then_some(()))
    })?;
    for event in events(&receiver.received()?) {
        ensure!(event["class_uid"] == 3005, "{event}");
    }
    Ok(())
}
