//! Masked values exist nowhere but between the server and the mask.

use anyhow::{Context, Result, ensure};
use chaperone_e2e::lab::MASKING;
use chaperone_e2e::raw::{Client, bind, describe, execute, extended, message, parse, query, sync};
use chaperone_e2e::relay::find;
use chaperone_e2e::server::RAW;
use chaperone_e2e::{Lab, Relay};
use xtask::search;

const RULES: &str = "
  - {name: read, action: Allow, sql: {effects: [Read, BulkExport, Catalog], relations: [\"public.*\"]}}
  - {name: change, action: Allow, sql: {effects: [Write, Modify, SchemaCreate], relations: [\"public.*\"]}}
  - {name: hold, action: RequireApproval, sql: {effects: [Delete], relations: [public.customers]}, approval: {approvers: {groups: [dba]}, timeout: 0s}}";

/// Ways to a masked value that must not lead there. What each answers is not the point here.
const ATTEMPTS: &[&str] = &[
    "SELECT * FROM customers",
    "SELECT email, card_number FROM customers",
    "SELECT email AS e FROM customers c",
    "SELECT c FROM customers c",
    "SELECT c.* FROM customers c",
    "SELECT row_to_json(c) FROM customers c",
    "SELECT to_jsonb(c)::text FROM customers c",
    "SELECT json_agg(c) FROM customers c",
    "SELECT array_agg(email) FROM customers",
    "SELECT string_agg(email, ',') FROM customers",
    "SELECT 'x' || email FROM customers",
    "SELECT concat(card_number, '') FROM customers",
    "SELECT email::bytea FROM customers",
    "SELECT convert_to(email, 'UTF8') FROM customers",
    "SELECT upper(email), reverse(reverse(email)), left(card_number, 4) FROM customers",
    "SELECT substr(card_number, 1, 12) FROM customers",
    "SELECT card_number::numeric FROM customers",
    "SELECT card_number::bigint + 0 FROM customers",
    "SELECT CASE WHEN id > 0 THEN email END FROM customers",
    "SELECT coalesce(email, '') FROM customers",
    "SELECT min(email), max(email) FROM customers",
    "WITH w AS (SELECT email AS z FROM customers) SELECT z FROM w",
    "WITH w AS MATERIALIZED (SELECT email AS z FROM customers) SELECT z || '' FROM w",
    "SELECT (SELECT email FROM customers WHERE id = 1)",
    "SELECT x FROM (SELECT email FROM customers) AS s(x)",
    "SELECT l.e FROM customers c, LATERAL (SELECT c.email AS e) l",
    "SELECT email FROM customers UNION ALL SELECT item FROM orders",
    "SELECT o.id, c.email FROM orders o JOIN customers c ON c.id = o.customer_id",
    "SELECT first_value(email) OVER (ORDER BY id) FROM customers",
    "SELECT * FROM customers_view",
    "SELECT mail FROM customers_view",
    "SELECT * FROM customers_materialized",
    "SELECT * FROM list_customers()",
    "SELECT leak(1)",
    "COPY customers TO STDOUT",
    "COPY (SELECT email FROM customers) TO STDOUT WITH CSV",
    "COPY (SELECT upper(email) || '' FROM customers) TO STDOUT",
    "COPY customers TO STDOUT WITH BINARY",
    "DECLARE c CURSOR WITH HOLD FOR SELECT email FROM customers; FETCH ALL FROM c",
    "PREPARE p AS SELECT email FROM customers; EXECUTE p",
    "TABLE customers",
    "VALUES ((SELECT email FROM customers LIMIT 1))",
    "SELECT email::int FROM customers",
    "SELECT card_number::date FROM customers",
    "SELECT 1 / (CASE WHEN email LIKE 'ada%' THEN 0 ELSE 1 END) FROM customers",
    "EXPLAIN ANALYZE SELECT * FROM customers WHERE email = 'ada.lovelace@raw-mail.example'",
    "EXPLAIN (VERBOSE, FORMAT JSON) SELECT email FROM customers",
    "INSERT INTO notes SELECT 900, email FROM customers LIMIT 1",
    "CREATE TEMP TABLE t AS SELECT email FROM customers; SELECT * FROM t",
    "CREATE TABLE copy_of AS SELECT * FROM customers",
    "UPDATE notes SET body = (SELECT email FROM customers LIMIT 1) RETURNING body",
    "UPDATE customers SET name = email RETURNING name",
    "UPDATE customers SET credit = credit RETURNING *",
    "INSERT INTO customers (id, name, email, card_number, credit) SELECT 1, '', '', '', 0 RETURNING *",
    "INSERT INTO customers VALUES (1, 'x', 'y', 'z', 0)",
    "DO $$ BEGIN RAISE NOTICE '%', (SELECT email FROM customers LIMIT 1); END $$",
    "SELECT set_config('application_name', email, false) FROM customers",
    "SELECT pg_notify('x', email) FROM customers",
    "SELECT query_to_xml('SELECT email FROM customers', true, true, '')",
    "SELECT most_common_vals FROM pg_stats WHERE tablename = 'customers'",
    "SELECT xmlelement(name x, email) FROM customers",
    "SELECT format('%s', c) FROM customers c",
    "SELECT ts.* FROM ts_stat('SELECT to_tsvector(email) FROM customers') ts",
    "SELECT unnest(regexp_matches(email, '.*')) FROM customers",
    "SELECT encode(email::bytea, 'hex') FROM customers",
    "SELECT GREATEST(email, '') FROM customers",
    "SELECT DISTINCT email FROM customers",
    "SELECT email FROM customers GROUP BY email",
    "SELECT jsonb_each_text(to_jsonb(c)) FROM customers c",
    "SELECT ROW(email, id) FROM customers",
    "SELECT ARRAY(SELECT email FROM customers)",
    "SELECT array(SELECT email FROM customers)::text",
];

fn lab(upstream: Option<&Relay>, database: chaperone_e2e::Database) -> Result<Lab> {
    database.sql(
        "CREATE VIEW customers_view AS SELECT id, email AS mail, card_number || '' AS card FROM customers;
         CREATE MATERIALIZED VIEW customers_materialized AS SELECT * FROM customers;
         CREATE FUNCTION list_customers() RETURNS SETOF customers LANGUAGE sql AS 'SELECT * FROM customers';
         CREATE FUNCTION leak(n int) RETURNS text LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'leak %', (SELECT email FROM customers WHERE id = n); END $$;
         GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC; ANALYZE",
    )?;
    let lab = match upstream {
        Some(relay) => Lab::behind(database, relay.port())?,
        None => {
            let port = database.port;
            Lab::behind(database, port)?
        }
    };
    lab.guardrails(MASKING)?;
    lab.policy(
        "all",
        &format!("{RULES}\n  - {{name: functions, action: Allow, sql: {{effects: [Execute], functions: [\"public.*\"]}}}}"),
    )?;
    Ok(lab)
}

/// Raw values, whole and in the encodings that a careless layer would write them in.
fn needles() -> Vec<(String, String)> {
    let mut needles = Vec::new();
    for raw in RAW {
        let hex: String = raw.bytes().map(|byte| format!("{byte:02x}")).collect();
        for form in [
            raw.to_owned(),
            raw.to_uppercase(),
            raw.chars().rev().collect(),
            hex.to_uppercase(),
            hex,
        ] {
            needles.push((raw.to_owned(), form));
        }
    }
    needles
}

fn contains_raw(bytes: &[u8]) -> Option<String> {
    needles()
        .into_iter()
        .find(|(_, form)| find(bytes, form.as_bytes()).is_some())
        .map(|(raw, _)| raw)
}

#[test]
fn masked_values_are_nowhere() -> Result<()> {
    let database = chaperone_e2e::Database::new()?;
    let lab = lab(None, database)?;
    let running = lab.start()?;
    let agent = Relay::to(lab.port())?;

    // The whole list in simple and extended form, each in a session of its own. Whether it is
    // masked, denied or ends the session is not the point here.
    for sql in ATTEMPTS {
        // Without a Describe, in binary format; and twice from one Parse.
        let binary = message(b'B', b"\0\0\0\0\0\0\0\x01\0\x01");
        let again = [bind("", "twice", &[]), describe(b'P', ""), execute("", 0)].concat();
        for bytes in [
            query(sql),
            [extended(sql, &[]), sync()].concat(),
            [parse("", sql), binary, execute("", 0), sync()].concat(),
            [parse("twice", sql), again.clone(), again, sync()].concat(),
        ] {
            let mut client = Client::connect(agent.port(), &lab.database.name)?;
            client.send(&bytes)?;
            client
                .until_ready_or_end()
                .with_context(|| (*sql).to_owned())?;
        }
    }
    // A literal of the agent's own that is a masked value: it may know it, the record may not.
    let mut client = Client::connect(lab.port(), &lab.database.name)?;
    client
        .query("SELECT id FROM customers WHERE email = 'ada.lovelace@raw-mail.example'")?
        .ok()?;
    let by_parameter = extended(
        "SELECT id FROM customers WHERE card_number = $1",
        &[Some(RAW[3])],
    );
    client.exchange(&[by_parameter, sync()].concat())?.ok()?;
    client.query("UPDATE customers SET email = 'ada.lovelace@raw-mail.example' WHERE id = 1")?;
    client.query("DELETE FROM customers WHERE email = 'ada.lovelace@raw-mail.example'")?;
    client.query("DELETE FROM customers WHERE id = 12345")?;
    client.close()?;

    // Masked, not withheld: the ordinary read works and shows the mask.
    let said =
        running.psql("SELECT id, name, email, card_number FROM customers WHERE id = 1;\n")?;
    ensure!(
        said.out.trim() == "1|Ada|[masked]|****4242",
        "{}",
        said.all()
    );

    for (number, connection) in agent.connections().iter().enumerate() {
        if let Some(raw) = contains_raw(&connection.to_client) {
            let sql = ATTEMPTS.get(number / 4);
            anyhow::bail!("the agent was sent {raw} after {sql:?}");
        }
    }
    let metrics = running.metrics()?;
    ensure!(
        contains_raw(metrics.as_bytes()).is_none(),
        "a raw value among the metrics"
    );
    for arguments in [
        &["sessions"][..],
        &["approvals"],
        &["show", "last"],
        &["replay", "last"],
    ] {
        let said = lab.plugin(arguments)?;
        ensure!(
            contains_raw(said.all().as_bytes()).is_none(),
            "{arguments:?} printed a raw value"
        );
    }
    running.stop()?;
    for (raw, form) in needles() {
        for place in [lab.state(), lab.folder().join("sidecar.log")] {
            let found = search::files_with(&place, &form)?;
            ensure!(found.is_empty(), "{raw}, as {form}, is in {found:?}");
        }
    }
    let written = search::files_with(&lab.state(), "FROM customers")?;
    ensure!(
        !written.is_empty(),
        "the statements are in no file: nothing was looked at"
    );
    // Files may be compressed: what they decode to is looked at too.
    let sessions = lab.plugin_json(&["sessions"])?;
    let mut decoded = 0;
    for id in ids(&sessions) {
        for arguments in [
            ["show", id.as_str(), "--all"],
            ["replay", id.as_str(), "--raw=server"],
            ["replay", id.as_str(), "--raw=client"],
        ] {
            let said = lab.plugin(&arguments)?;
            decoded += said.out.len();
            if let Some(raw) = contains_raw(said.out.as_bytes()) {
                anyhow::bail!("{arguments:?} holds {raw}:\n{}", said.out);
            }
        }
    }
    ensure!(
        decoded > 10_000,
        "only {decoded} decoded bytes were looked at"
    );
    lab.verify()
}

/// Every session id in what `sessions -o json` prints.
fn ids(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::Array(items) => items.iter().flat_map(ids).collect(),
        serde_json::Value::Object(fields) => {
            match fields
                .get("session")
                .or_else(|| fields.get("id"))
                .and_then(|id| id.as_str())
            {
                Some(id) => vec![id.to_owned()],
                None => fields.values().flat_map(ids).collect(),
            }
        }
        _ => Vec::new(),
    }
}

/// What an application can still do with masked columns.
#[test]
fn masked_columns_stay_usable() -> Result<()> {
    let database = chaperone_e2e::Database::new()?;
    let lab = lab(None, database)?;
    let running = lab.start()?;
    let mut client = running.client()?;
    let all = client
        .query("SELECT id, name, email FROM customers WHERE email IS NOT NULL")?
        .ok()?;
    ensure!(
        all.rows().len() == 3 && all.value().as_deref() == Some("1"),
        "{:?}",
        all.rows()
    );
    client.query("BEGIN")?.ok()?;
    client
        .query("DECLARE first CURSOR FOR SELECT name, email FROM customers ORDER BY id")?
        .ok()?;
    let fetched = client.query("FETCH 1 FROM first")?.ok()?.rows();
    ensure!(
        fetched == [[Some("Ada".to_owned()), Some("[masked]".to_owned())]],
        "{fetched:?}"
    );
    client.query("COMMIT")?.ok()?;
    let together =
        "DECLARE held CURSOR WITH HOLD FOR SELECT name, email FROM customers; FETCH ALL FROM held";
    let fetched = client.query(together)?.ok()?.rows();
    ensure!(fetched.len() == 3, "{fetched:?}");
    let found = client
        .query("SELECT id FROM customers WHERE email = 'grace.hopper@raw-mail.example'")?
        .ok()?;
    ensure!(found.value().as_deref() == Some("2"));
    let renamed = client
        .query("UPDATE customers SET name = 'Augusta' WHERE id = 1")?
        .ok()?;
    ensure!(renamed.commands() == ["UPDATE 1"]);
    Ok(())
}

/// A mask that is written back would destroy what it stands for.
#[test]
fn a_mask_is_never_written_back() -> Result<()> {
    let database = chaperone_e2e::Database::new()?;
    let lab = lab(None, database)?;
    let running = lab.start()?;
    let mut client = running.client()?;
    let row = client
        .query("SELECT email, card_number FROM customers WHERE id = 2")?
        .ok()?
        .rows();
    ensure!(
        row == [[Some("[masked]".to_owned()), Some("****4444".to_owned())]],
        "{row:?}"
    );
    for sql in [
        "UPDATE customers SET email = '[masked]' WHERE id = 2",
        "UPDATE notes SET body = '****4444' WHERE id = 1",
    ] {
        let error = client.query(sql)?.error()?;
        ensure!(
            error.code == "42501" && error.text().contains("MaskedWriteBack"),
            "{error:?}"
        );
    }
    let bound = extended(
        "UPDATE customers SET card_number = $1 WHERE id = 2",
        &[Some("****4444")],
    );
    let error = client.exchange(&[bound, sync()].concat())?.error()?;
    ensure!(error.text().contains("MaskedWriteBack"), "{error:?}");
    let kept = lab
        .database
        .sql("SELECT card_number FROM customers WHERE id = 2")?;
    ensure!(kept == "5555555555554444");
    for (sql, reason) in [
        (
            "INSERT INTO notes SELECT 900, email FROM customers",
            "MaskedFlow",
        ),
        (
            "SELECT id FROM customers WHERE email LIKE 'a%'",
            "MaskedPredicate",
        ),
        (
            "SELECT id FROM customers ORDER BY card_number",
            "MaskedPredicate",
        ),
    ] {
        let error = client.query(sql)?.error()?;
        ensure!(
            error.code == "42501" && error.text().contains(reason),
            "{sql}: {error:?}"
        );
    }
    Ok(())
}
