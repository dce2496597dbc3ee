//! Policy is what decides, from one moment to the next, and nothing is allowed without one.

use anyhow::{Result, ensure};
use chaperone_e2e::raw::{Client, bind, execute, extended, parse, sync};
use chaperone_e2e::{DEADLINE, Lab, wait_for};

const READ_NOTES: &str =
    "  - {name: notes, action: Allow, sql: {effects: [Read], relations: [public.notes]}}";

const NO_NOTES: &str =
    "  - {name: no-notes, action: Deny, sql: {effects: [Read], relations: [public.notes]}}";

#[test]
fn no_policy_means_no_access() -> Result<()> {
    let lab = Lab::new()?;
    let running = lab.start()?;
    let mut refused = Client::attempt(
        lab.port(),
        &[("user", "agent"), ("database", &lab.database.name)],
    )?;
    let error = refused.greeting.error()?;
    ensure!(
        error.code == "28000" && error.severity == "FATAL",
        "{error:?}"
    );
    for needed in ["NoPolicy", "shop/report-agent", "databases/orders-db"] {
        ensure!(error.text().contains(needed), "no {needed} in {error:?}");
    }
    ensure!(refused.to_end()?.0.is_empty(), "the connection stayed open");
    let said = running.psql("SELECT 1;")?;
    ensure!(
        said.code == Some(2) && said.err.contains("NoPolicy"),
        "{}",
        said.all()
    );

    // A policy of somebody else changes nothing.
    lab.manifest(
        "others.yaml",
        "apiVersion: chaperone.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: others, namespace: shop}\n\
         spec:\n  subjects: [{serviceAccount: somebody-else}]\n  connections: [databases/orders-db]\n  rules:\n  \
         - {name: all, action: Allow, sql: {effects: [Read], relations: [\"public.*\"]}}\n",
    )?;
    lab.policy("mine", READ_NOTES)?;
    wait_for("the policy to arrive", DEADLINE, || {
        Ok(Client::connect(lab.port(), &lab.database.name).ok())
    })?;
    lab.remove("mine.yaml")?;
    wait_for("the policy to go", DEADLINE, || {
        Ok(Client::connect(lab.port(), &lab.database.name)
            .is_err()
            .then_some(()))
    })?;
    Ok(())
}

#[test]
fn policy_change_reaches_live_sessions() -> Result<()> {
    let lab = Lab::new()?;
    lab.policy("notes", READ_NOTES)?;
    let running = lab.start()?;
    let mut live = running.client()?;
    let mut cursor = running.client()?;
    live.query("SELECT count(*) FROM notes")?.ok()?;
    live.exchange(
        &[
            parse("kept", "SELECT body FROM notes WHERE id = $1::int"),
            sync(),
        ]
        .concat(),
    )?
    .ok()?;
    let kept = [bind("", "kept", &[Some("1")]), execute("", 0), sync()].concat();
    live.exchange(&kept)?.ok()?;
    cursor.query("BEGIN")?.ok()?;
    cursor
        .query("DECLARE rows CURSOR FOR SELECT id FROM notes")?
        .ok()?;
    cursor.query("FETCH 2 FROM rows")?.ok()?;

    lab.policy("tighter", NO_NOTES)?;
    let error = wait_for("the change to reach a live session", DEADLINE, || {
        Ok(live.query("SELECT count(*) FROM notes")?.errors().pop())
    })?;
    ensure!(
        error.text().contains("no-notes") && error.code == "42501",
        "{error:?}"
    );
    // No cached decision survives: neither a prepared statement's nor a cursor's.
    let error = live.exchange(&kept)?.error()?;
    ensure!(error.text().contains("no-notes"), "{error:?}");
    let error = live
        .exchange(&[extended("SELECT body FROM notes", &[]), sync()].concat())?
        .error()?;
    ensure!(error.text().contains("no-notes"), "{error:?}");
    let fetched = cursor.send(&chaperone_e2e::raw::query("FETCH 2 FROM rows"));
    if fetched.is_ok() {
        let reply = cursor.until_ready_or_end()?;
        ensure!(
            reply.rows().is_empty(),
            "a cursor gave rows that are now denied"
        );
    }

    lab.remove("tighter.yaml")?;
    wait_for("the change back", DEADLINE, || {
        Ok(live
            .query("SELECT count(*) FROM notes")?
            .errors()
            .is_empty()
            .then_some(()))
    })?;
    live.close()?;
    drop(cursor);
    running.stop()?;
    lab.verify()
}

/// A running COPY that is no longer allowed is closed, not finished.
#[test]
fn policy_change_closes_a_running_copy() -> Result<()> {
    let lab = Lab::new()?;
    lab.policy(
        "copy",
        "  - {name: out, action: Allow, sql: {effects: [Read, BulkExport], relations: [public.notes]}}",
    )?;
    lab.database
        .sql("INSERT INTO notes SELECT n, repeat('x', 1000) FROM generate_series(100, 40000) n")?;
    let running = lab.start()?;
    let mut client = running.client()?;
    // Not read on: the stream stands with the sockets' buffers full.
    client.send(&chaperone_e2e::raw::query("COPY notes TO STDOUT"))?;
    client.until(b'd')?;
    lab.policy("tighter", NO_NOTES)?;
    wait_for("the tighter policy", DEADLINE, || {
        Ok((!running
            .client()?
            .query("SELECT id FROM notes")?
            .errors()
            .is_empty())
        .then_some(()))
    })?;
    let rest = client.until_ready_or_end()?;
    let rows = rest.0.iter().filter(|message| message.tag == b'd').count();
    ensure!(
        rest.commands().is_empty(),
        "the COPY ran to its end: {:?}",
        rest.commands()
    );
    ensure!(rows < 39_000, "{rows} rows came after the change");
    ensure!(
        rest.errors()
            .iter()
            .any(|error| error.text().contains("PolicyChanged")),
        "{:?}",
        rest.errors()
    );
    running.stop()?;
    lab.verify()
}

#[test]
fn broken_policy_denies_all_and_says_where() -> Result<()> {
    let lab = Lab::new()?;
    lab.policy("notes", READ_NOTES)?;
    let running = lab.start()?;
    let mut live = running.client()?;
    live.query("SELECT id FROM notes")?.ok()?;

    lab.policy(
        "broken",
        "  - {name: typo, action: Allow, sql: {effects: [Raed], relations: [public.orders]}}",
    )?;
    let error = wait_for("the broken policy to deny", DEADLINE, || {
        Ok(live.query("SELECT id FROM notes")?.errors().pop())
    })?;
    ensure!(error.text().contains("PolicyInvalid"), "{error:?}");
    // A new session is not let in, or may do nothing.
    let parameters = [("user", "agent"), ("database", lab.database.name.as_str())];
    let mut fresh = Client::attempt(lab.port(), &parameters)?;
    let denied = match fresh.greeting.errors().pop() {
        Some(error) => error,
        None => fresh.query("SELECT 1")?.error()?,
    };
    ensure!(denied.text().contains("PolicyInvalid"), "{denied:?}");
    ensure!(
        running.sidecar.output().contains("broken.yaml"),
        "the log does not say where: {}",
        running.sidecar.output()
    );

    let said = lab.check()?;
    ensure!(said.code == Some(1), "{}", said.all());
    let all = said.all();
    for needed in ["broken.yaml:", "effects", "Raed", "Read"] {
        ensure!(all.contains(needed), "no {needed} in {all}");
    }

    lab.remove("broken.yaml")?;
    wait_for("access after the repair", DEADLINE, || {
        Ok(Client::connect(lab.port(), &lab.database.name).ok())
    })?;
    ensure!(lab.check()?.code == Some(0));
    Ok(())
}

#[test]
fn order_of_rules_never_matters() -> Result<()> {
    let rules = [
        "  - {name: a-allow, action: Allow, sql: {effects: [Read, Write], relations: [\"public.*\"]}}\n",
        "  - {name: b-deny, action: Deny, sql: {effects: [Read], relations: [public.orders]}}\n",
        "  - {name: c-hold, action: RequireApproval, sql: {effects: [Write], relations: [public.notes]}, approval: {approvers: {groups: [dba]}, timeout: 0s}}\n",
    ];
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let statements = [
        "SELECT id FROM notes",
        "SELECT id FROM orders",
        "SELECT n.id FROM notes n JOIN orders o ON n.id = o.id",
        "INSERT INTO notes VALUES (77, 'x')",
        "INSERT INTO notes SELECT id, item FROM orders",
        "DELETE FROM notes",
    ];
    let lab = Lab::new()?;
    let mut all = Vec::new();
    for order in orders {
        let text: String = order
            .iter()
            .filter_map(|index| rules.get(*index).copied())
            .collect();
        lab.policy("ordered", &text)?;
        let running = lab.start()?;
        let mut client = running.client()?;
        let mut outcome = Vec::new();
        for statement in statements {
            let reply = client.query(statement)?;
            let reasons = [
                "DeniedByRule",
                "NotCovered",
                "ApprovalPending",
                "b-deny",
                "c-hold",
            ];
            outcome.push((
                statement,
                reply
                    .errors()
                    .iter()
                    .flat_map(|error| reasons.iter().filter(|r| error.text().contains(**r)))
                    .count(),
                reply
                    .errors()
                    .iter()
                    .map(|error| error.code.clone())
                    .collect::<Vec<_>>(),
                reasons.map(|reason| {
                    reply
                        .errors()
                        .iter()
                        .any(|error| error.text().contains(reason))
                }),
            ));
        }
        client.close()?;
        running.stop()?;
        all.push(outcome);
    }
    let first = all.first().cloned().unwrap_or_default();
    ensure!(first.len() == statements.len());
    for other in &all {
        ensure!(*other == first, "{other:#?}\nis not\n{first:#?}");
    }
    let codes: Vec<usize> = first.iter().map(|(_, _, codes, _)| codes.len()).collect();
    ensure!(codes == [0, 1, 1, 1, 1, 1], "{first:#?}");
    Ok(())
}
