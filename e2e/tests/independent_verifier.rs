//! A second reader of the evidence, in another language and written from FORMAT.md alone, comes
//! to the same verdict as `kubectl chaperone verify`.
#![allow(
    clippy::indexing_slicing,
    reason = "a field that is not there fails the test"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use chaperone_e2e::faults::Fault;
use chaperone_e2e::lab::{self, MASKING};
use chaperone_e2e::raw::{extended, sync};
use chaperone_e2e::{Lab, Running, Transcript, clients};
use serde_json::Value;
use xtask::process::succeed;
use xtask::workspace;

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
fn approved(running: &Running<'_>, id: u8) -> Result<()> {
    let psql = running.psql_in_background(&format!("DELETE FROM notes WHERE id = {id};\n"))?;
    let name = running.pending()?;
    running
        .lab
        .plugin(&["approve", &name, "--reason", "ticket 42"])?
        .ok()?;
    let said = psql.finish()?;
    ensure!(said.out.contains("DELETE 1"), "{}", said.all());
    Ok(())
}

/// Two stores with everything that a sidecar writes. The first was left by a sidecar that was
/// killed in its second life, while sessions were open: its spool holds what it has not shipped.
/// In the other a third life has recovered that, and detached.
fn recorded() -> Result<(Lab, PathBuf)> {
    let lab = Lab::new()?;
    lab.guardrails(MASKING)?;
    lab.policy("public", RULES)?;
    let running = lab.start()?;
    work(&running, 1)?;
    approved(&running, 3)?;
    work(&running, 2)?;
    running.stop()?;

    let faults = lab.faults()?;
    let running = lab.start_with(&faults)?;
    let mut open = [running.client()?, running.client()?];
    work(&running, 3)?;
    // From here on it cannot ship: what these two say is in the spool alone.
    for client in &mut open {
        client.query("SELECT email FROM customers")?.ok()?;
    }
    faults.set(Fault::Kill(1))?;
    for client in &mut open {
        let _ = client.query("SELECT 'it dies of writing this'");
    }
    running.kill()?;
    faults.set(Fault::None)?;
    let crashed = lab.folder().join("crashed");
    succeed(
        Command::new("cp")
            .args(["-a", "--sparse=always"])
            .arg(lab.state())
            .arg(&crashed),
    )?;

    let running = lab.start()?;
    work(&running, 4)?;
    approved(&running, 4)?;
    running.stop()?;
    lab.verify()?;
    Ok((lab, crashed))
}

/// What the other reader says of each store or bundle.
fn second_opinions(paths: &[PathBuf], kept: Option<Kept<'_>>) -> Result<Vec<Value>> {
    let mut command = clients::verifier("verify.py")?;
    if let Some(kept) = kept {
        kept.given_to(&mut command);
    }
    command.args(paths);
    let said = clients::run(command, "")?;
    ensure!(said.err.is_empty(), "{}", said.all());
    said.out
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect()
}

fn first_opinion(state: &Path) -> Result<Value> {
    verdict(&lab::plugin(state, &["verify", "--all", "-o", "json"])?)
}

/// Of a bundle, away from the state it was made of.
fn first_opinion_of_bundle(bundle: &Path, kept: Kept<'_>) -> Result<Value> {
    let mut command = Command::new(&lab::binaries()?.plugin);
    command
        .args(["verify", "-o", "json", "--bundle"])
        .arg(bundle);
    kept.given_to(&mut command);
    verdict(&clients::run(command, "")?)
}

fn verdict(said: &Transcript) -> Result<Value> {
    let verdict: Value = serde_json::from_str(&said.out).with_context(|| said.all())?;
    let code = if verdict["ok"] == true { 0 } else { 1 };
    ensure!(said.code == Some(code), "{}", said.all());
    Ok(verdict)
}

/// The first thing wrong, as (reason, session, sequence, file); none if nothing is.
fn place(found: &Value) -> Option<[&Value; 4]> {
    found.get("reason")?;
    Some(["reason", "session", "sequence", "file"].map(|name| &found[name]))
}

/// Fails unless both say the same of a store. Whether it is whole.
fn agreed(first: &Value, second: &Value) -> Result<bool> {
    let (one, other) = (place(&first["breaks"][0]), place(&second["break"]));
    ensure!(
        one == other,
        "the first break is {}, or is it {}",
        first["breaks"][0],
        second["break"]
    );
    for name in ["ok", "key"] {
        ensure!(first[name] == second[name], "{name}: {first}, {second}");
    }
    // The other reader stops at the first break, so it counts less where there is one.
    if one.is_none() {
        for name in [
            "level", "attaches", "sessions", "sealed", "records", "unproven", "bytes",
        ] {
            ensure!(first[name] == second[name], "{name}: {first}, {second}");
        }
    }
    Ok(one.is_none())
}

/// Damages a store or bundle `count` times below `out`, and says how.
fn damaged(what: &Path, out: &Path, count: usize, seed: u64) -> Result<Vec<String>> {
    let mut command = clients::verifier("damage.py")?;
    command
        .arg(what)
        .arg(out)
        .args([count.to_string(), seed.to_string()]);
    let list = clients::run(command, "")?.ok()?;
    let names: Vec<String> = list.lines().map(str::to_owned).collect();
    ensure!(names.len() == count, "{list}");
    Ok(names)
}

/// Both judge damaged copies of a store, every other one without the key to what is sealed in it:
/// where they may differ is nowhere.
fn agreed_on_damage(state: &Path, out: &Path, count: usize, seed: u64) -> Result<()> {
    let names = damaged(&state.join("evidence"), out, count, seed)?;
    let copies: Vec<PathBuf> = (0..count).map(|at| out.join(at.to_string())).collect();
    let stores: Vec<PathBuf> = copies.iter().map(|copy| copy.join("evidence")).collect();
    for store in stores.iter().skip(1).step_by(2) {
        std::fs::remove_file(store.join("keys/seal.key"))?;
    }
    let opinions = second_opinions(&stores, None)?;
    ensure!(opinions.len() == count);
    let mut reasons = BTreeSet::new();
    for ((copy, name), second) in copies.iter().zip(names).zip(&opinions) {
        let whole = agreed(&first_opinion(copy)?, second).context(name.clone())?;
        // What no segment has yet is signed by nobody, and what whoever has the log's key has
        // sealed anew shows in the records alone.
        let outer = second["level"] == "outer" && name.starts_with("reseal");
        ensure!(
            !whole || outer || name.starts_with("spool"),
            "nobody noticed: {name}"
        );
        reasons.insert(second["break"]["reason"].to_string());
    }
    ensure!(reasons.len() > 8, "the damages are all alike: {reasons:?}");
    Ok(())
}

/// 200 in all; without a fixed seed, and more of them, where there is time.
fn factor_and_seed() -> (usize, u64) {
    match std::env::var_os("CHAPERONE_FULL") {
        Some(_) => {
            let seed = u64::from(std::process::id());
            eprintln!("seed {seed}");
            (10, seed)
        }
        None => (1, 6),
    }
}

#[test]
fn an_independent_verifier_agrees() -> Result<()> {
    let (lab, crashed) = recorded()?;
    let state = lab.state();
    let stores = [state.join("evidence"), crashed.join("evidence")];
    let opinions = second_opinions(&stores, None)?;
    for (store, second) in [&state, &crashed].into_iter().zip(&opinions) {
        let first = first_opinion(store)?;
        ensure!(agreed(&first, second)?, "{first}");
        ensure!(first["level"] == "full", "{first}");
    }
    let [_, second] = opinions.as_slice() else {
        bail!("{opinions:?}");
    };
    ensure!(
        second["unproven"].as_u64() > Some(0),
        "nothing was only in the spool: {second}"
    );
    let (factor, seed) = factor_and_seed();
    agreed_on_damage(&state, &lab.folder().join("damaged"), 160 * factor, seed)?;
    agreed_on_damage(&crashed, &lab.folder().join("torn"), 40 * factor, seed)?;
    agreed_on_bundles(&lab, 24 * factor, seed)?;
    agreed_on_a_clusters_bundle(&lab, 36 * factor, seed)
}

/// A bundle of one session proves it with the log's key alone, to both, and so does one of all;
/// what was done to one is named by both.
fn agreed_on_bundles(lab: &Lab, count: usize, seed: u64) -> Result<()> {
    let key = lab.folder().join("log.pub");
    std::fs::copy(lab.state().join("evidence/keys/log.pub"), &key)?;
    let [one, all, again] = ["one.tar", "all.tar", "again.tar"].map(|name| lab.folder().join(name));
    for (path, session) in [(&one, &["last"][..]), (&all, &[]), (&again, &[])] {
        let path = path.to_string_lossy();
        let arguments = [&["export", "--format", "bundle", "--to", &path], session].concat();
        lab.plugin(&arguments)?.ok()?;
    }
    ensure!(
        std::fs::read(&all)? == std::fs::read(&again)?,
        "two bundles of the same sessions differ"
    );
    let kept = Kept {
        key: &key,
        note: None,
    };
    for bundle in [&one, &all] {
        let first = first_opinion_of_bundle(bundle, kept)?;
        let opinions = second_opinions(std::slice::from_ref(bundle), Some(kept))?;
        let second = opinions.first().context("no opinion")?;
        ensure!(agreed(&first, second)?, "{first}");
        ensure!(first["keyGiven"] == true, "{first}");
        ensure!(first["level"] == "full", "{first}");
    }
    let refused = lab.plugin(&["export", "--to", &one.to_string_lossy()])?;
    ensure!(refused.code == Some(2), "it wrote over a file");

    agreed_on_damaged_bundles(&all, &lab.folder().join("bundles"), kept, count, seed)
}

/// What an auditor has kept of a log.
#[derive(Clone, Copy)]
struct Kept<'a> {
    key: &'a Path,
    note: Option<&'a Path>,
}

impl Kept<'_> {
    fn given_to(self, command: &mut Command) {
        command.arg("--key").arg(self.key);
        if let Some(note) = self.note {
            command.arg("--note").arg(note);
        }
    }
}

fn agreed_on_damaged_bundles(
    bundle: &Path,
    out: &Path,
    kept: Kept<'_>,
    count: usize,
    seed: u64,
) -> Result<()> {
    let names = damaged(bundle, out, count, seed)?;
    let copies: Vec<PathBuf> = (0..count).map(|at| out.join(format!("{at}.tar"))).collect();
    let opinions = second_opinions(&copies, Some(kept))?;
    ensure!(opinions.len() == count);
    for ((copy, name), second) in copies.iter().zip(names).zip(&opinions) {
        let whole = agreed(&first_opinion_of_bundle(copy, kept)?, second).context(name.clone())?;
        // A key that became one of nothing opens nothing.
        let shut = second["level"] == "outer" && name.contains("data.keys");
        ensure!(!whole || shut, "nobody noticed: {name}");
    }
    Ok(())
}

/// The same of a bundle of a cluster's log, with proofs of inclusion and growth. The other side
/// has written it, with the store of a real sidecar in it.
fn agreed_on_a_clusters_bundle(lab: &Lab, count: usize, seed: u64) -> Result<()> {
    let made = lab.folder().join("cluster");
    let mut make = clients::verifier("damage.py")?;
    make.arg("--cluster")
        .arg(lab.state().join("evidence"))
        .arg(&made);
    clients::run(make, "")?.ok()?;
    let [bundle, key, note] = ["bundle.tar", "log.pub", "note"].map(|name| made.join(name));
    let judged = |note: &Path| -> Result<(bool, Value)> {
        let kept = Kept {
            key: &key,
            note: Some(note),
        };
        let first = first_opinion_of_bundle(&bundle, kept)?;
        let opinions = second_opinions(std::slice::from_ref(&bundle), Some(kept))?;
        let whole = agreed(&first, opinions.first().context("no opinion")?)?;
        Ok((whole, first))
    };
    let (whole, first) = judged(&note)?;
    ensure!(whole, "{first}");
    // A note of another log.
    let forged = made.join("forged");
    let text =
        std::fs::read_to_string(&note)?.replacen("chaperone.dev/log\n", "other.dev/log\n", 1);
    std::fs::write(&forged, text)?;
    let (whole, first) = judged(&forged)?;
    ensure!(!whole, "{first}");
    let kept = Kept {
        key: &key,
        note: Some(&note),
    };
    let out = lab.folder().join("cluster-damaged");
    agreed_on_damaged_bundles(&bundle, &out, kept, count, seed)
}

#[test]
fn an_independent_reader_reads_the_vectors() -> Result<()> {
    let vectors = workspace::root().join("evidence/vectors/frames.txt");
    let mut command = clients::verifier("verify.py")?;
    command.arg("--vectors").arg(&vectors);
    let read: Vec<String> = serde_json::from_str(&clients::run(command, "")?.ok()?)?;
    let sealed = workspace::root().join("evidence/vectors/seal.txt");
    let mut command = clients::verifier("verify.py")?;
    command.arg("--vectors").arg(&sealed);
    let followed: Vec<String> = serde_json::from_str(&clients::run(command, "")?.ok()?)?;
    let whole = [
        "commitment",
        "secret",
        "key",
        "compressed",
        "frames",
        "run",
        "signatures",
    ];
    ensure!(followed == whole, "{followed:?}");
    let unsealing = workspace::root().join("evidence/vectors/unseal.txt");
    let mut command = clients::verifier("verify.py")?;
    command.arg("--vectors").arg(&unsealing);
    let read_back: Vec<String> = serde_json::from_str(&clients::run(command, "")?.ok()?)?;
    let whole = [
        "wall",
        "request",
        "uid",
        "user",
        "groups",
        "recipient",
        "reason",
        "keys",
    ];
    ensure!(read_back == whole, "{read_back:?}");
    let text = std::fs::read_to_string(&vectors)?;
    let there = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(' ').next());
    ensure!(there.eq(read.iter().map(String::as_str)), "{read:?}");
    ensure!(read.len() == 12, "{read:?}");
    Ok(())
}
