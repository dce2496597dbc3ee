//! What a statement means can change under it: by the search path, or by another session.

use anyhow::{Context, Result, ensure};
use chaperone_e2e::raw::{Client, Reply, bind, execute, extended, parse, query, sync};
use chaperone_e2e::{Database, Lab};

const RULES: &str = "
  - {name: read, action: Allow, sql: {effects: [Read, BulkExport], relations: [\"public.*\", \"open.*\"]}}
  - {name: delete, action: Allow, sql: {effects: [Delete], relations: [public.notes]}}
  - {name: schema, action: Allow, sql: {effects: [SchemaAlter], relations: [\"public.*\"]}}";

const MASKS: &str = "
    masking:
    - {name: emails, columns: [\"public.customers.email\", \"public.contacts.phone\"], strategy: Redact}";

const SECRET: &str = "secret of the other schema";
const PHONE: &str = "+49 30 901820";
const MAIL: &str = "ada.lovelace@raw-mail.example";

fn lab() -> Result<Lab> {
    let database = Database::new()?;
    database.sql(&format!(
        "CREATE TABLE reporting.notes (id int, body text); INSERT INTO reporting.notes VALUES (1, '{SECRET}');
         CREATE SCHEMA open; GRANT USAGE ON SCHEMA open TO PUBLIC;
         CREATE TABLE open.customers (id int, email text); INSERT INTO open.customers VALUES (1, 'harmless');
         CREATE TABLE contacts (id int, phone text); INSERT INTO contacts VALUES (1, '{PHONE}');
         CREATE TABLE plain (phone text); CREATE TABLE plain_too (phone text);
         GRANT ALL ON ALL TABLES IN SCHEMA public, reporting, open TO PUBLIC;
         ALTER TABLE contacts OWNER TO {name}; ALTER TABLE plain OWNER TO {name};
         ALTER TABLE plain_too OWNER TO {name}",
        name = database.name
    ))?;
    let port = database.port;
    let lab = Lab::behind(database, port)?;
    lab.guardrails(MASKS)?;
    lab.policy("all", RULES)?;
    Ok(lab)
}

fn refused(reply: &Reply, how: &str) -> Result<()> {
    let errors = reply.errors();
    ensure!(
        errors.iter().any(|error| error.code == "42501") && !reply.text().contains(SECRET),
        "{how}: {errors:?} {:?}",
        reply.rows()
    );
    Ok(())
}

#[test]
fn re_execution_under_another_search_path_is_decided_again() -> Result<()> {
    let lab = lab()?;
    let running = lab.start()?;
    let run = [bind("", "read", &[]), execute("", 0), sync()].concat();
    let remove = [bind("", "remove", &[]), execute("", 0), sync()].concat();
    let prepare = |client: &mut Client| -> Result<()> {
        for bytes in [
            [parse("read", "SELECT body FROM notes WHERE id = 1"), sync()].concat(),
            [parse("remove", "DELETE FROM notes WHERE id = 1"), sync()].concat(),
            query("PREPARE p AS SELECT body FROM notes WHERE id = 1"),
            query("PREPARE d AS DELETE FROM notes WHERE id = 1"),
        ] {
            client.exchange(&bytes)?.ok()?;
        }
        let allowed = client.exchange(&run)?.ok()?;
        ensure!(allowed.value().as_deref() == Some("note 1"));
        Ok(())
    };
    // What is set, and what takes it back where something does.
    for (set, back) in [
        (
            &["SET search_path = reporting"][..],
            &["SET search_path = public"][..],
        ),
        (
            &["SET search_path = reporting, public"],
            &["RESET search_path"],
        ),
        (
            &["SELECT set_config('search_path', 'reporting', false)"],
            &["DISCARD PLANS", "SET search_path = public"],
        ),
        (
            &["BEGIN", "SET LOCAL search_path = reporting"],
            &["ROLLBACK"],
        ),
        (
            &["BEGIN", "SAVEPOINT s", "SET search_path = reporting"],
            &["ROLLBACK TO s", "ROLLBACK"],
        ),
    ] {
        let mut client = running.client()?;
        prepare(&mut client)?;
        for bytes in [
            run.clone(),
            remove.clone(),
            query("EXECUTE p"),
            query("EXECUTE d"),
            query("DECLARE c CURSOR WITH HOLD FOR SELECT body FROM notes; FETCH ALL FROM c"),
        ] {
            for sql in set {
                client.query(sql)?.ok().with_context(|| (*sql).to_owned())?;
            }
            refused(&client.exchange(&bytes)?, &format!("after {set:?}"))?;
            client.query("ROLLBACK")?;
            client.query("SET search_path = public")?.ok()?;
        }
        for sql in set.iter().chain(back) {
            client.query(sql)?.ok().with_context(|| (*sql).to_owned())?;
        }
        let again = client.exchange(&run)?.ok()?;
        ensure!(
            again.value().as_deref() == Some("note 1"),
            "after {back:?}: {again:?}"
        );
    }
    // In one pipeline, where nobody can ask the server in between.
    let mut client = running.client()?;
    prepare(&mut client)?;
    let pipeline = [extended("SET search_path = reporting", &[]), run.clone()].concat();
    refused(&client.exchange(&pipeline)?, "in one pipeline")?;
    // The table that is not masked, and then the one that is.
    let mut client = running.client()?;
    client.query("SET search_path = open")?.ok()?;
    client
        .exchange(
            &[
                parse("read", "SELECT email FROM customers WHERE id = 1"),
                sync(),
            ]
            .concat(),
        )?
        .ok()?;
    client
        .query("PREPARE p AS SELECT email FROM customers WHERE id = 1")?
        .ok()?;
    let harmless = client.exchange(&run)?.ok()?;
    ensure!(
        harmless.value().as_deref() == Some("harmless"),
        "{harmless:?}"
    );
    client.query("SET search_path = public")?.ok()?;
    for bytes in [run, query("EXECUTE p")] {
        let masked = client.exchange(&bytes)?.ok()?;
        ensure!(
            masked.value().as_deref() == Some("[masked]") && !masked.text().contains(MAIL),
            "{masked:?}"
        );
    }
    let left = lab.database.sql("SELECT count(*) FROM reporting.notes")?;
    ensure!(left.trim() == "1", "the other table was written");
    running.stop()
}

#[test]
fn what_another_session_alters_is_masked_at_once() -> Result<()> {
    let lab = lab()?;
    let running = lab.start()?;
    let (mut reader, mut other) = (running.client()?, running.client()?);
    let read = [bind("", "s", &[]), execute("", 0), sync()].concat();
    reader
        .exchange(&[parse("s", "SELECT phone FROM plain"), sync()].concat())?
        .ok()?;
    reader.query("SELECT phone FROM plain")?.ok()?;
    // The table becomes the parent of one with masked columns.
    other.query("BEGIN")?.ok()?;
    other.query("ALTER TABLE contacts INHERIT plain")?.ok()?;
    reader.query("SELECT phone FROM plain")?;
    other.query("COMMIT")?.ok()?;
    for bytes in [
        query("SELECT phone FROM plain"),
        read,
        query("COPY plain TO STDOUT"),
        query("SELECT max(phone) FROM plain"),
    ] {
        let reply = reader.exchange(&bytes)?;
        ensure!(!reply.text().contains(PHONE), "{:?}", reply.rows());
    }
    let shown = reader.query("SELECT phone FROM plain")?.ok()?;
    ensure!(shown.value().as_deref() == Some("[masked]"), "{shown:?}");
    // In one pipeline of the session that alters, too.
    let mut own = running.client()?;
    own.exchange(&[parse("s", "SELECT phone FROM plain_too"), sync()].concat())?
        .ok()?;
    let pipeline = [
        extended("BEGIN", &[]),
        extended("ALTER TABLE contacts INHERIT plain_too", &[]),
        bind("", "s", &[]),
        execute("", 0),
        extended("SELECT phone FROM plain_too", &[]),
        extended("ROLLBACK", &[]),
        sync(),
    ];
    let reply = own.exchange(&pipeline.concat())?;
    ensure!(!reply.text().contains(PHONE), "{:?}", reply.rows());
    // A column takes the place of another in the rows of a COPY.
    let before = reader.query("COPY contacts TO STDOUT")?.ok()?;
    ensure!(before.text().contains("1\t[masked]"), "{}", before.text());
    other
        .query("ALTER TABLE contacts DROP COLUMN id; ALTER TABLE contacts ADD COLUMN note text")?
        .ok()?;
    for sql in ["COPY contacts TO STDOUT", "SELECT * FROM contacts"] {
        let reply = reader.query(sql)?;
        ensure!(!reply.text().contains(PHONE), "{sql}: {}", reply.text());
    }
    running.stop()
}

#[test]
fn a_temporary_table_can_be_read_by_whoever_made_it() -> Result<()> {
    let lab = lab()?;
    lab.policy(
        "temporary",
        "  - {name: own, action: Allow, sql: {effects: [SchemaCreate, Read, Write], relations: [\"pg_temp.*\"]}}",
    )?;
    let running = lab.start()?;
    let mut client = running.client()?;
    client
        .query("CREATE TEMP TABLE mine AS SELECT id, body FROM notes WHERE id < 3")?
        .ok()?;
    for sql in [
        "SELECT body FROM mine ORDER BY id",
        "SELECT body FROM pg_temp.mine ORDER BY id",
    ] {
        let rows = client.query(sql)?.ok()?.rows();
        ensure!(
            rows == [[Some("note 1".to_owned())], [Some("note 2".to_owned())]],
            "{rows:?}"
        );
    }
    let rows = client
        .exchange(&[extended("SELECT m.* FROM mine m", &[]), sync()].concat())?
        .ok()?
        .rows();
    ensure!(rows.len() == 2, "{rows:?}");
    running.stop()
}
