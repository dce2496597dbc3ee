//! What was done can be proven, replayed, and not be altered unseen.
#![allow(
    clippy::indexing_slicing,
    reason = "a field that is not there fails the test"
)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chaperone_e2e::faults::Fault;
use chaperone_e2e::lab::{self, MASKING};
use chaperone_e2e::raw::{Reply, extended, query, sync};
use chaperone_e2e::relay::{Direction, find};
use chaperone_e2e::{DEADLINE, Database, Lab, Relay, clients, wait_for};
use xtask::process::succeed;
use xtask::search;
use xtask::workspace;

const RULES: &str = "  - {name: public, action: Allow, sql: {effects: [Read, Write, Modify, Delete], relations: [\"public.*\"]}}";

/// A lab that has run a few sessions and stopped.
fn recorded() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.policy("public", RULES)?;
    let running = lab.start()?;
    for number in 1..=3 {
        let mut client = running.client()?;
        client
            .query(&format!("SELECT body FROM notes WHERE id = {number}"))?
            .ok()?;
        client
            .query("SELECT person FROM hidden.salaries")?
            .error()?;
        client
            .query(&format!(
                "UPDATE notes SET body = 'changed' WHERE id = {number}"
            ))?
            .ok()?;
        client.close()?;
    }
    running.stop()?;
    lab.verify()?;
    Ok(lab)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// An auditor's file of identities, and his recipient.
fn auditor(lab: &Lab) -> Result<(String, String)> {
    let vectors = fs::read_to_string(workspace::root().join("evidence/vectors/age.txt"))?;
    let of = |word: &str| {
        let line = vectors.lines().find_map(|line| line.strip_prefix(word));
        line.map(str::to_owned).context("no such line")
    };
    let path = lab.folder().join("auditor.txt");
    fs::write(&path, format!("# of a test\n{}\n", of("identity ")?))?;
    Ok((path.to_string_lossy().into_owned(), of("recipient ")?))
}

/// `verify -o json` of a bundle, away from the state it was made of.
fn of_bundle(bundle: &Path, arguments: &[&str]) -> Result<serde_json::Value> {
    let mut command = Command::new(&lab::binaries()?.plugin);
    command
        .args(["verify", "-o", "json", "--bundle"])
        .arg(bundle)
        .args(arguments);
    Ok(serde_json::from_str(&clients::run(command, "")?.ok()?)?)
}

#[test]
fn the_operator_cannot_read_sealed_recordings() -> Result<()> {
    const SAID: &str = "SELECT body AS pqzjxkvw FROM notes WHERE id = 1";
    let lab = Lab::new()?;
    lab.policy("public", RULES)?;
    let (identity, recipient) = auditor(&lab)?;
    let running = lab.start_sealed_for(&[&recipient])?;
    for _ in 0..2 {
        let mut client = running.client()?;
        client.query(SAID)?.ok()?;
        client.close()?;
    }
    running.stop()?;
    ensure!(!lab.state().join("evidence/keys/seal.key").exists());

    // Whoever keeps the folder, its keys included, sees that it is whole, and nothing else.
    let whole = lab.plugin_json(&["verify", "--all"])?;
    ensure!(whole["ok"] == true && whole["level"] == "outer", "{whole}");
    ensure!(whole["sealed"] == 2, "{whole}");
    for command in ["show", "replay"] {
        let said = lab.plugin(&[command, "last"])?;
        ensure!(said.code == Some(2), "{}", said.all());
        ensure!(said.err.contains("sealed"), "{}", said.all());
        ensure!(!said.all().contains("pqzjxkvw"), "{}", said.all());
    }
    let listed = lab.plugin_json(&["sessions"])?;
    ensure!(
        listed[0]["sealed"] == true && listed[0]["subject"] == "",
        "{listed}"
    );
    for file in files(&lab.state())? {
        let bytes = fs::read(&file)?;
        ensure!(find(&bytes, b"pqzjxkvw").is_none(), "{}", file.display());
    }

    // The auditor reads all of it.
    let with = ["--identity", identity.as_str()];
    let shown = lab.plugin(&[&["show", "last"][..], &with].concat())?.ok()?;
    ensure!(shown.contains(SAID), "{shown}");
    let full = lab.plugin_json(&[&["verify", "--all"][..], &with].concat())?;
    ensure!(full["ok"] == true && full["level"] == "full", "{full}");

    // What he hands on opens one session, and for one reader only.
    let ids = session_ids(&lab)?;
    let [open, wrapped] = ["open.tar", "wrapped.tar"].map(|name| lab.folder().join(name));
    for (to, more) in [(&open, &[][..]), (&wrapped, &["--recipient", &recipient])] {
        let to = to.to_string_lossy();
        let export = ["export", ids[0].as_str(), "--to", &to];
        lab.plugin(&[&export[..], &with, more].concat())?.ok()?;
    }
    // The auditor's identity opens the other session too, from the seal itself.
    for (bundle, arguments, level, sealed) in [
        (&open, &[][..], "full", 1),
        (&wrapped, &[], "outer", 2),
        (&wrapped, &with, "full", 0),
    ] {
        let told = of_bundle(bundle, arguments)?;
        ensure!(told["ok"] == true && told["level"] == level, "{told}");
        ensure!(told["sessions"] == 2 && told["sealed"] == sealed, "{told}");
    }

    // From then on for the folder's own key: the new session needs no identity, the old ones do.
    let running = lab.start()?;
    let mut client = running.client()?;
    client.query(SAID)?.ok()?;
    client.close()?;
    running.stop()?;
    ensure!(lab.plugin(&["show", "last"])?.ok()?.contains(SAID));
    let old = lab.plugin(&["show", &ids[0]])?;
    ensure!(old.code == Some(2), "{}", old.all());
    let old = lab.plugin(&[&["show", &ids[0]][..], &with].concat())?;
    ensure!(old.ok()?.contains(SAID));
    Ok(())
}

#[test]
fn what_no_key_opens_is_no_identity_or_recipient() -> Result<()> {
    let lab = Lab::new()?;
    let path = lab.folder().join("none.txt");
    fs::write(&path, "age1notanidentity\n")?;
    let path = path.to_string_lossy();
    fs::create_dir_all(lab.state())?;
    let said = lab.plugin(&["sessions", "--identity", &path])?;
    ensure!(
        said.code == Some(2) && said.err.contains("AGE-SECRET-KEY-1"),
        "{}",
        said.all()
    );
    let mut command = Command::new(&lab::binaries()?.sidecar);
    command.args([
        "standalone",
        "--manifests",
        ".",
        "--state",
        ".",
        "--subject",
        "a/b",
    ]);
    command.args(["--seal-for", "age1notarecipient"]);
    let said = clients::run(command, "")?;
    ensure!(
        said.code == Some(2) && said.err.contains("age1"),
        "{}",
        said.all()
    );
    Ok(())
}

/// Every session's id.
fn session_ids(lab: &Lab) -> Result<Vec<String>> {
    let listed = lab.plugin_json(&["sessions"])?;
    let list = listed
        .as_array()
        .or_else(|| listed.get("sessions")?.as_array())
        .context("a list of sessions")?;
    let id = |one: &serde_json::Value| {
        one.get("id")
            .or_else(|| one.get("session"))?
            .as_str()
            .map(str::to_owned)
    };
    list.iter()
        .map(|one| id(one).context("a session without an id"))
        .collect()
}

fn copy_of(lab: &Lab, name: &str) -> Result<PathBuf> {
    let copy = lab.folder().join(name);
    succeed(Command::new("cp").arg("-a").arg(lab.state()).arg(&copy))?;
    Ok(copy)
}

#[test]
fn a_changed_byte_is_named_by_verify() -> Result<()> {
    let lab = recorded()?;
    let state = copy_of(&lab, "forged")?;
    let evidence = files(&state.join("evidence"))?;
    ensure!(!evidence.is_empty());
    let ids = session_ids(&lab)?;
    let (mut forged, mut named) = (0, false);
    for path in &evidence {
        let file = fs::File::options().read(true).write(true).open(path)?;
        let written = written(&file)?;
        // In 24 places of each file at least.
        for at in (0..written).step_by(usize::try_from(written / 24)?.max(1)) {
            let mut byte = [0_u8];
            file.read_exact_at(&mut byte, at)?;
            file.write_all_at(&byte.map(|byte| byte ^ 1), at)?;
            let said = lab::plugin(&state, &["verify", "--all"])?;
            ensure!(
                said.code == Some(1) || (said.code == Some(2) && !said.err.is_empty()),
                "byte {at} of {} changed, and verify said {}",
                path.display(),
                said.all()
            );
            ensure!(!said.all().contains("panicked"), "{}", said.all());
            file.write_all_at(&byte, at)?;
            forged += 1;
            named |= ids.iter().any(|id| said.out.contains(id.as_str()));
        }
    }
    ensure!(forged > 20, "only {forged} bytes were changed");
    ensure!(
        lab::plugin(&state, &["verify", "--all"])?.code == Some(0),
        "the copy was not put back"
    );

    ensure!(named, "no changed byte made verify name a session");
    Ok(())
}

/// The length without the preallocated zeros at the end, which are not evidence.
fn written(file: &fs::File) -> Result<u64> {
    const BLOCK: usize = 4096;
    let length = file.metadata()?.len();
    let mut end = 0;
    for start in (0..length).step_by(BLOCK) {
        let mut block = [0_u8; BLOCK];
        let read = file.read_at(&mut block, start)?;
        if block != [0_u8; BLOCK] {
            let last = block.iter().rposition(|byte| *byte != 0).unwrap_or(read);
            end = start + u64::try_from(last)? + 1;
        }
    }
    Ok(end)
}

#[test]
fn a_missing_session_is_named_by_verify() -> Result<()> {
    let lab = recorded()?;
    let evidence = files(&lab.state().join("evidence"))?;
    // Whichever file is taken away, its loss is seen; also the last one's and the log's.
    for file in &evidence {
        let relative = file.strip_prefix(lab.state())?;
        let state = copy_of(&lab, "cut")?;
        fs::remove_file(state.join(relative))?;
        let said = lab::plugin(&state, &["verify", "--all"])?;
        let name = relative.to_string_lossy();
        // An empty lock file proves nothing and holds nothing; a key is no evidence.
        if written(&fs::File::open(file)?)? > 0 && !name.contains("keys/") {
            ensure!(
                said.code != Some(0),
                "{name} is gone, and verify said {}",
                said.all()
            );
            ensure!(!said.all().contains("panicked"), "{}", said.all());
        }
        fs::remove_dir_all(&state)?;
    }
    Ok(())
}

/// Whoever keeps the store takes one session out of it and makes every digest anew; it changes
/// nothing that he has the log's key too, as long as he leaves the heads that name it.
#[test]
fn a_deleted_session_is_missed() -> Result<()> {
    let lab = recorded()?;
    let ids = session_ids(&lab)?;
    for name in ["drop_a_session", "reseal_without_a_session"] {
        let out = lab.folder().join(name);
        let mut command = clients::verifier("damage.py")?;
        command.arg(lab.state().join("evidence")).arg(&out);
        command.args(["12", "1", name]);
        let listed = clients::run(command, "")?.ok()?;
        let mut deleted = std::collections::BTreeSet::new();
        for (number, line) in listed.lines().enumerate() {
            let (_, id) = line.rsplit_once(' ').context("no session named")?;
            let said = lab::plugin(&out.join(number.to_string()), &["verify", "--all"])?;
            ensure!(
                said.code == Some(1) && said.out.contains("first break: SessionMissing"),
                "{name} {id}: {}",
                said.all()
            );
            ensure!(
                said.out.contains(&format!("SessionMissing session {id}")),
                "{id} is gone and not named: {}",
                said.all()
            );
            deleted.insert(id.to_owned());
        }
        ensure!(deleted.len() == ids.len(), "of {ids:?} only {deleted:?}");
    }
    Ok(())
}

/// A whole life of the sidecar taken away: the next one names it.
#[test]
fn a_missing_life_is_named_by_verify() -> Result<()> {
    let lab = recorded()?;
    let before = files(&lab.state().join("evidence"))?;
    let running = lab.start()?;
    running.client()?.query("SELECT 1")?.ok()?;
    running.stop()?;
    lab.verify()?;
    let state = copy_of(&lab, "cut")?;
    let mut removed = 0;
    for file in &before {
        let relative = file.strip_prefix(lab.state())?;
        // What the second life wrote to as well stays.
        if fs::read(file)? == fs::read(state.join(relative))?
            && !relative.to_string_lossy().contains("key")
        {
            fs::remove_file(state.join(relative))?;
            removed += 1;
        }
    }
    if removed > 0 {
        let said = lab::plugin(&state, &["verify", "--all"])?;
        ensure!(
            said.code != Some(0),
            "{removed} files gone, and verify said {}",
            said.all()
        );
    }
    Ok(())
}

/// The bytes after the startup packet.
fn after_startup(to_server: &[u8]) -> Result<&[u8]> {
    let length = to_server.first_chunk::<4>().context("no startup packet")?;
    to_server
        .get(usize::try_from(u32::from_be_bytes(*length))?..)
        .context("a short startup packet")
}

/// The bytes after the first ReadyForQuery.
fn after_login(to_client: &[u8]) -> Result<&[u8]> {
    let mut rest = to_client;
    loop {
        let tag = *rest.first().context("no ReadyForQuery")?;
        let length = rest
            .get(1..5)
            .and_then(|bytes| bytes.first_chunk::<4>())
            .context("a short message")?;
        let next = usize::try_from(u32::from_be_bytes(*length))? + 1;
        rest = rest.get(next..).context("a short message")?;
        if tag == b'Z' {
            return Ok(rest);
        }
    }
}

fn replayed(lab: &Lab, side: &str) -> Result<Vec<u8>> {
    let mut command = Command::new(&lab::binaries()?.plugin);
    command
        .args(["replay", "last", "--raw", side, "--state"])
        .arg(lab.state());
    Ok(succeed(&mut command)?.stdout)
}

#[test]
fn replay_is_byte_exact() -> Result<()> {
    let lab = Lab::new()?;
    lab.guardrails(MASKING)?;
    lab.policy("public", RULES)?;
    let running = lab.start()?;
    let agent = Relay::to(lab.port())?;
    let mut command = clients::psql(
        chaperone_e2e::server::shared()?.bin(),
        agent.port(),
        &lab.database.name,
    );
    command
        .env("PGCLIENTENCODING", "UTF8")
        .env("PGSSLMODE", "disable");
    let script = "SELECT 1;\nSELECT email, name FROM customers;\nSELECT person FROM hidden.salaries;\n\
                  BEGIN;\nUPDATE notes SET body = 'ü → ✓' WHERE id = 1;\nSELECT 1/0;\nROLLBACK;\n\\d notes\n\
                  SELECT count(*) FROM orders; SELECT 2;\n";
    clients::run(command, script)?;
    let connection = agent.connections().pop().context("no connection")?;
    wait_for("the session's end", DEADLINE, || {
        Ok(lab
            .plugin(&["verify", "last"])?
            .code
            .filter(|code| *code == 0))
    })?;
    let client = replayed(&lab, "client")?;
    let server = replayed(&lab, "server")?;
    ensure!(
        client == after_startup(&connection.to_server)?,
        "the agent's bytes differ:\n{:?}",
        String::from_utf8_lossy(&client)
    );
    ensure!(
        server == after_login(&connection.to_client)?,
        "the server's bytes differ:\n{:?}",
        String::from_utf8_lossy(&server)
    );

    // The extended protocol, with a parameter that is compared with a masked column: that span
    // is masked and keeps its place and length, all else is as sent.
    let mut client = chaperone_e2e::raw::Client::connect(agent.port(), &lab.database.name)?;
    let known = chaperone_e2e::server::RAW[0];
    client
        .exchange(
            &[
                extended("SELECT body FROM notes WHERE id = $1::int", &[Some("2")]),
                sync(),
            ]
            .concat(),
        )?
        .ok()?;
    client
        .exchange(
            &[
                extended("SELECT id FROM customers WHERE email = $1", &[Some(known)]),
                sync(),
            ]
            .concat(),
        )?
        .ok()?;
    client.close()?;
    let connection = agent.connections().pop().context("no connection")?;
    running.stop()?;
    let sent = after_startup(&connection.to_server)?;
    let recorded = replayed(&lab, "client")?;
    ensure!(
        replayed(&lab, "server")? == after_login(&connection.to_client)?,
        "the server's bytes differ"
    );
    ensure!(
        recorded.len() == sent.len(),
        "{} bytes were sent, {} recorded",
        sent.len(),
        recorded.len()
    );
    let at = find(sent, known.as_bytes()).context("it was sent")?;
    ensure!(
        find(&recorded, known.as_bytes()).is_none(),
        "the raw value is in the record"
    );
    let outside = |bytes: &[u8]| {
        [
            bytes.get(..at).unwrap_or_default(),
            bytes.get(at + known.len()..).unwrap_or_default(),
        ]
        .concat()
    };
    ensure!(
        outside(&recorded) == outside(sent),
        "bytes outside the masked span differ"
    );
    lab.verify()
}

/// At the moment the first byte of a command reaches the server's socket, its intent is on the
/// disk already: the hook looks before it passes the bytes on.
fn intent_comes_first() -> Result<()> {
    let database = Database::new()?;
    let state: Arc<Mutex<Option<PathBuf>>> = Arc::default();
    let seen: Arc<Mutex<Vec<(String, bool)>>> = Arc::default();
    let upstream = {
        let (state, seen) = (Arc::clone(&state), Arc::clone(&seen));
        Relay::hooked(database.port, move |direction, piece| {
            if direction != Direction::ToServer {
                return;
            }
            let Some(at) = find(piece, b"marker-") else {
                return;
            };
            let marker =
                String::from_utf8_lossy(piece.get(at..at + 9).unwrap_or_default()).into_owned();
            let folder = state
                .lock()
                .ok()
                .and_then(|state| state.clone())
                .unwrap_or_default();
            let there = search::files_with(&folder, &marker).is_ok_and(|files| !files.is_empty());
            if let Ok(mut seen) = seen.lock() {
                seen.push((marker, there));
            }
        })?
    };
    let lab = Lab::behind(database, upstream.port())?;
    if let Ok(mut state) = state.lock() {
        *state = Some(lab.state().join("evidence"));
    }
    lab.policy("public", RULES)?;
    let running = lab.start()?;
    let mut client = running.client()?;
    client.query("SELECT 1 /* marker-01 */")?.ok()?;
    client
        .query("UPDATE notes SET body = 'marker-02' WHERE id = 1")?
        .ok()?;
    client
        .exchange(&[extended("SELECT 'marker-03'", &[]), sync()].concat())?
        .ok()?;
    client
        .exchange(&[extended("SELECT $1::text", &[Some("marker-04")]), sync()].concat())?
        .ok()?;
    client.query("SELECT 1; SELECT 2 /* marker-05 */")?.ok()?;
    let seen = seen.lock().map(|seen| seen.clone()).unwrap_or_default();
    for number in 1..=5 {
        let marker = format!("marker-0{number}");
        let first = seen
            .iter()
            .find(|(name, _)| *name == marker)
            .with_context(|| format!("{marker} did not cross"))?;
        ensure!(
            first.1,
            "{marker} was forwarded before its intent was in the spool"
        );
    }
    client.close()?;
    running.stop()?;
    lab.verify()
}

/// With a spool that errs, fills or stalls, nothing reaches the server.
fn nothing_without_a_record(fault: Fault) -> Result<()> {
    let lab = Lab::new()?;
    lab.policy("public", RULES)?;
    let faults = lab.faults()?;
    let running = lab.start_with(&faults)?;
    let mut client = running.client()?;
    client
        .query("UPDATE notes SET body = 'recorded' WHERE id = 1")?
        .ok()?;
    let mut pipelining = running.client()?;
    faults.set(fault)?;
    // An error with its reason, or the connection's end; no answer within the deadline is neither.
    client.send(&chaperone_e2e::raw::query(
        "UPDATE notes SET body = 'unrecorded' WHERE id = 2",
    ))?;
    let reply = client
        .until_ready_or_end()
        .with_context(|| format!("{fault:?}"))?;
    let told = |error: &chaperone_e2e::raw::Report| {
        error.text().contains("CannotRecord") && error.code == "58030"
    };
    let refused = reply.0.is_empty() || reply.errors().iter().any(told);
    // The commands of a pipeline are recorded together: none of them runs without the others' record.
    let update = |id: u8| {
        let text = format!("UPDATE notes SET body = 'unrecorded' WHERE id = {id}");
        extended(&text, &[])
    };
    pipelining.send(&[extended("SELECT 1", &[]), update(4), update(5), sync()].concat())?;
    let pipelined = pipelining
        .until_ready_or_end()
        .with_context(|| format!("{fault:?}, pipelined"))?;
    let refused = refused && (pipelined.0.is_empty() || pipelined.errors().iter().any(told));
    let ran = lab
        .database
        .sql("SELECT count(*) FROM notes WHERE body = 'unrecorded'")?;
    ensure!(
        !lab.database.saw("unrecorded")? && ran == "0",
        "{fault:?}: it ran unrecorded"
    );
    ensure!(
        refused,
        "{fault:?}: answered {reply:?}, in a pipeline {pipelined:?}"
    );
    faults.set(Fault::None)?;
    running.kill()?;
    // What was recorded before verifies, and a new life goes on.
    lab.verify()?;
    let running = lab.start()?;
    running
        .client()?
        .query("UPDATE notes SET body = 'recorded' WHERE id = 3")?
        .ok()?;
    running.stop()?;
    lab.verify()
}

/// A stalled disk holds up the write that met it and whatever needs it: other sessions are told
/// within the deadline, that one is answered when the disk lets go, and while it lasts nothing
/// reaches the server.
fn nothing_through_a_stall() -> Result<()> {
    let lab = Lab::new()?;
    lab.policy("public", RULES)?;
    let faults = lab.faults()?;
    let running = lab.start_with(&faults)?;
    let update = |id: u8| {
        query(&format!(
            "UPDATE notes SET body = 'unrecorded' WHERE id = {id}"
        ))
    };
    let mut first = running.client()?;
    let mut second = running.client()?;
    faults.set(Fault::Stall)?;
    first.send(&update(1))?;
    second.send(&update(2))?;
    let told = |reply: &Reply| {
        reply
            .errors()
            .iter()
            .any(|error| error.text().contains("CannotRecord") && error.code == "58030")
    };
    // Whichever of the two met the stall first, the other one is answered while it lasts.
    first.set_timeout(Duration::from_secs(10))?;
    second.set_timeout(Duration::from_secs(10))?;
    let answers = [first.until_ready_or_end(), second.until_ready_or_end()];
    ensure!(
        answers.iter().flatten().any(told),
        "nobody was told: {answers:?}"
    );
    let ran = lab
        .database
        .sql("SELECT count(*) FROM notes WHERE body = 'unrecorded'")?;
    ensure!(
        !lab.database.saw("unrecorded")? && ran == "0",
        "it ran unrecorded"
    );
    faults.set(Fault::None)?;
    for (client, answer) in [&mut first, &mut second].into_iter().zip(answers) {
        // A session whose earlier records the disk held up meets its command only now, when it
        // can be recorded: then it runs. Otherwise it is too late.
        match answer {
            Ok(reply) => ensure!(told(&reply), "answered {reply:?}"),
            Err(_) => {
                let reply = client.until_ready_or_end()?;
                ensure!(
                    told(&reply) || reply.errors().is_empty(),
                    "answered {reply:?}"
                );
            }
        }
    }
    drop((first, second));
    running.stop()?;
    lab.verify()
}

/// kill -9 at the n-th write or sync of the evidence, for every n until a whole script passes.
fn killed_at_every_step() -> Result<()> {
    let lab = Lab::new()?;
    lab.policy("public", RULES)?;
    let faults = lab.faults()?;
    let mut survived = false;
    let mut steps = 0;
    while !survived {
        steps += 1;
        ensure!(steps < 200, "200 kills and the script still does not pass");
        let marker = format!("killed-at-{steps}-");
        let running = lab.start_with(&faults)?;
        faults.set(Fault::Kill(steps))?;
        let script = || -> Result<()> {
            let mut client = running.client()?;
            client.query(&format!("SELECT '{marker}a'"))?.ok()?;
            client
                .query(&format!("UPDATE notes SET body = '{marker}b' WHERE id = 1"))?
                .ok()?;
            client
                .exchange(&[extended(&format!("SELECT '{marker}c'"), &[]), sync()].concat())?
                .ok()?;
            client.close()
        };
        survived = script().is_ok();
        faults.set(Fault::None)?;
        running.kill()?;
        lab.verify()
            .with_context(|| format!("after a kill at step {steps}"))?;
        // Nothing ran that has no intent.
        for part in ["a", "b", "c"] {
            let text = format!("{marker}{part}");
            if lab.database.saw(&text)? {
                let recorded =
                    !search::files_with(&lab.state().join("evidence"), &text)?.is_empty();
                ensure!(recorded, "{text} ran and no intent is left of it");
            }
        }
    }
    ensure!(steps > 3, "only {steps} steps: the faults do not bite");
    Ok(())
}

mod intent_is_durable_before_the_first_byte_is_forwarded {
    use super::*;

    #[test]
    fn by_the_bytes() -> Result<()> {
        intent_comes_first()
    }

    #[test]
    fn when_the_spool_errs() -> Result<()> {
        nothing_without_a_record(Fault::Io)
    }

    #[test]
    fn when_a_sync_fails() -> Result<()> {
        nothing_without_a_record(Fault::Sync)
    }

    #[test]
    fn when_the_spool_is_full() -> Result<()> {
        nothing_without_a_record(Fault::Full)
    }

    #[test]
    fn when_the_spool_stalls() -> Result<()> {
        nothing_through_a_stall()
    }

    #[test]
    fn when_killed_at_every_step() -> Result<()> {
        killed_at_every_step()
    }
}
