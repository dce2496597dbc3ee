//! What an attacker tries over the wire, where it takes the running programs to see that it leads
//! nowhere. What the text alone shows is in the corpus of `sidecar/sql/tests/attacks.rs`.

use anyhow::{Context, Result, ensure};
use chaperone_e2e::lab::MASKING;
use chaperone_e2e::raw::Client;
use chaperone_e2e::{Database, Lab};

const RULES: &str = "
  - {name: read, action: Allow, sql: {effects: [Read, BulkExport], relations: [\"public.*\"]}}
  - {name: change, action: Allow, sql: {effects: [Write, Modify, Delete], relations: [public.customers, public.cities, public.orders]}}";

const SCHEMA: &str = "
    CREATE TABLE cities (id int PRIMARY KEY);
    INSERT INTO cities VALUES (1);
    ALTER TABLE customers ADD city int NOT NULL DEFAULT 1 REFERENCES cities ON DELETE SET NULL;
    ALTER TABLE customers ADD UNIQUE (card_number) DEFERRABLE;
    ALTER TABLE customers ADD profile jsonb;
    UPDATE customers SET profile = '{\"ssn\": \"1\"}' WHERE id = 1;
    CREATE SEQUENCE hidden.tickets;
    GRANT ALL ON SEQUENCE hidden.tickets TO PUBLIC;
    CREATE SEQUENCE numbers OWNED BY orders.id;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC;
    CREATE FUNCTION wipe(x text) RETURNS bool LANGUAGE plpgsql SECURITY DEFINER AS
      $$ BEGIN DELETE FROM public.notes; RETURN true; END $$;
    CREATE DOMAIN harmless AS text CHECK (public.wipe(VALUE));
    GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC";

fn lab() -> Result<Lab> {
    let database = Database::new()?;
    database.sql(SCHEMA)?;
    let port = database.port;
    let lab = Lab::behind(database, port)?;
    lab.guardrails(&format!(
        "{MASKING}\n    - {{name: profiles, columns: [\"public.customers.profile\"], strategy: Redact}}"
    ))?;
    lab.policy("all", RULES)?;
    Ok(lab)
}

/// Whether a text holds anything of the first customer's masked values.
fn tells(text: &str) -> bool {
    ["ada.lovelace", "ada.", "42424242"]
        .iter()
        .any(|raw| text.contains(raw))
}

#[test]
fn a_masked_value_cannot_be_cut_and_then_shown() -> Result<()> {
    let lab = lab()?;
    let running = lab.start()?;
    let mut client = Client::connect(lab.port(), &lab.database.name)?;
    client.query("BEGIN")?.ok()?;
    let cut = client
        .query("UPDATE customers SET card_number = left(card_number, 13) RETURNING card_number")?;
    ensure!(cut.error()?.detail.contains("MaskedFlow"), "{}", cut.text());
    client.query("ROLLBACK")?.ok()?;
    let shown = client.query("SELECT card_number FROM customers WHERE id = 1")?;
    ensure!(
        shown.value().as_deref() == Some("****4242"),
        "{}",
        shown.text()
    );
    running.stop()
}

#[test]
fn a_late_error_quotes_no_masked_row() -> Result<()> {
    let lab = lab()?;
    let running = lab.start()?;
    let mut client = Client::connect(lab.port(), &lab.database.name)?;
    for sql in [
        "BEGIN",
        "SET CONSTRAINTS ALL DEFERRED",
        "UPDATE customers SET card_number = lower(card_number)",
        "INSERT INTO customers (id, name, email, card_number, credit) VALUES (9, 'x', 'x', '4242424242424242', 0)",
    ] {
        client.query(sql)?.ok().with_context(|| sql.to_owned())?;
    }
    let late = client.query("COMMIT")?;
    ensure!(late.error()?.code == "23505", "{}", late.text());
    ensure!(!tells(&late.text()), "{}", late.text());
    running.stop()
}

#[test]
fn a_number_for_another_sequence_is_decided_on_its_own() -> Result<()> {
    let lab = lab()?;
    let oid = |name: &str| lab.database.sql(&format!("SELECT '{name}'::regclass::oid"));
    let (allowed, hidden) = (oid("numbers")?, oid("hidden.tickets")?);
    let running = lab.start()?;
    let mut client = Client::connect(lab.port(), &lab.database.name)?;
    client
        .query(&format!("SELECT nextval({})", allowed.trim()))?
        .ok()?;
    let other = client.query(&format!("SELECT nextval({})", hidden.trim()))?;
    ensure!(other.error()?.code == "42501", "{}", other.text());
    running.stop()
}

#[test]
fn the_constraint_of_a_domain_does_not_run() -> Result<()> {
    let lab = lab()?;
    let running = lab.start()?;
    let mut client = Client::connect(lab.port(), &lab.database.name)?;
    for sql in [
        "SELECT 'x'::harmless",
        "SELECT '{x}'::_harmless",
        "SELECT * FROM json_to_record('{\"a\": \"x\"}') AS r (a harmless)",
        "SELECT array_in('{x}', 'harmless'::regtype, -1)",
    ] {
        let answer = client.query(sql)?;
        ensure!(answer.error()?.code == "42501", "{sql}: {}", answer.text());
    }
    let left = lab.database.sql("SELECT count(*) FROM notes")?;
    ensure!(left.trim() == "20", "{left} notes are left");
    running.stop()
}

#[test]
fn fields_of_a_copy_cannot_be_shifted_by_an_encoding() -> Result<()> {
    let lab = lab()?;
    // The second byte of this letter is a backslash in Shift JIS.
    lab.database
        .sql("UPDATE customers SET name = '表,x' WHERE id = 1")?;
    let running = lab.start()?;
    let mut client = Client::connect(lab.port(), &lab.database.name)?;
    for encoding in ["SJIS", "UTF8"] {
        let copy = client.query(&format!(
            "COPY customers (name, email, credit) TO STDOUT (ENCODING '{encoding}', DELIMITER ',')"
        ))?;
        ensure!(!tells(&copy.text()), "{}", copy.text());
        ensure!(
            copy.errors().is_empty() == (encoding == "UTF8"),
            "{}",
            copy.text()
        );
    }
    running.stop()
}
