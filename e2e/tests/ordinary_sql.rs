//! What applications, object mappers and BI tools send goes through the sidecar as if it were not
//! there; where columns are masked, only what shows or compares them is another answer.

use anyhow::{Context, Result, ensure};
use chaperone_e2e::corpus::{self, Entry};
use chaperone_e2e::raw::{Client, Reply, extended, query, sync};
use chaperone_e2e::{Database, Lab};

const MARKS: &[&str] = &["masked", "refused", "auto"];

/// Fewer would mean that the corpus was lost.
const FEWEST: usize = 300;

/// What an application is given: no functions, nothing that could not be understood.
const APPLICATION: &str = "
  - {name: rows, action: Allow, sql: {effects: [Read, Write, Modify, Delete, Lock, BulkExport],
     relations: [\"public.*\"]}}
  - {name: schema, action: Allow, sql: {effects: [SchemaCreate, SchemaAlter, SchemaDestroy, Maintenance],
     relations: [\"public.*\"]}}
  - {name: temporary, action: Allow, sql: {effects: [SchemaCreate, Read, Write], relations: [\"pg_temp.*\"]}}
  - {name: statistics, action: Allow, sql: {effects: [SchemaCreate]}}";

const MASKS: &str = "
    masking:
    - {name: accounts, columns: [\"public.accounts.email\", \"public.accounts.phone\"], strategy: Redact}";

/// One copy of the database and what is said about it, in simple and extended form.
fn answers(client: &mut Client, entries: &[Entry], simple: bool) -> Result<Vec<Reply>> {
    let mut answers = Vec::new();
    for entry in entries {
        let mut all = Reply::default();
        if !entry.is("auto") {
            client.query("BEGIN")?.ok()?;
        }
        for text in &entry.messages {
            let bytes = if simple {
                query(text)
            } else {
                [extended(text, &[]), sync()].concat()
            };
            let reply = client
                .exchange(&bytes)
                .with_context(|| format!("{} {text}", entry.place))?;
            all.0.extend(reply.0);
        }
        if !entry.is("auto") {
            client.query("ROLLBACK")?;
        }
        answers.push(all);
    }
    Ok(answers)
}

/// Everything but reports of settings, which come when the server likes, and the numbers that it
/// gives to relations which the entry has made.
fn told(entry: &Entry, reply: &Reply) -> Vec<(u8, Vec<u8>)> {
    let makes = entry.messages.iter().any(|text| text.contains("CREATE "));
    let messages = reply.0.iter().filter(|message| message.tag != b'S');
    messages
        .map(|message| match message.tag {
            b'T' if makes => (b'T', without_tables(&message.body)),
            tag => (tag, message.body.clone()),
        })
        .collect()
}

/// A RowDescription with zeros for the OIDs of tables: four of the 18 bytes behind each name.
fn without_tables(body: &[u8]) -> Vec<u8> {
    let mut plain = body.to_vec();
    let mut from = 2;
    while let Some(end) = body
        .get(from..)
        .and_then(|rest| rest.iter().position(|byte| *byte == 0))
    {
        let table = from + end + 1;
        if let Some(oid) = plain.get_mut(table..table + 4) {
            oid.fill(0);
        }
        from = table + 18;
    }
    plain
}

fn shown(reply: &Reply) -> String {
    let errors: Vec<String> = reply.errors().iter().map(|error| error.text()).collect();
    format!("{} {:?} {errors:?}", reply.tags(), reply.rows().first())
}

fn lab(database: &Database, masks: &str) -> Result<Lab> {
    database.make_superuser()?;
    let lab = Lab::behind(database.clone(), database.port)?;
    lab.guardrails(masks)?;
    lab.policy("application", APPLICATION)?;
    Ok(lab)
}

#[test]
fn ordinary_sql_is_not_disturbed() -> Result<()> {
    let entries = corpus::entries("ordinary", MARKS)?;
    ensure!(entries.len() >= FEWEST, "only {} statements", entries.len());
    let mut wrong = Vec::new();
    for simple in [true, false] {
        let mut note = |entry: &Entry, what: &str, reply: &Reply, direct: &Reply| {
            wrong.push(format!(
                "{} {what} ({}): {}\n    through: {}\n    direct:  {}",
                entry.place,
                if simple { "simple" } else { "extended" },
                entry.messages.join(" ;; "),
                shown(reply),
                shown(direct)
            ));
        };
        // Three copies, or sequences would tell them apart.
        let original = Database::new()?;
        original.sql(&corpus::text("ordinary.sql")?)?;
        let [unmasked, masked] = [original.copied()?, original.copied()?];
        let direct = answers(&mut original.direct()?, &entries, simple)?;
        let plain = lab(&unmasked, "")?;
        let running = plain.start()?;
        let through = answers(&mut running.client()?, &entries, simple)?;
        running.stop()?;
        for (entry, (through, direct)) in entries.iter().zip(through.iter().zip(&direct)) {
            if told(entry, through) != told(entry, direct) {
                note(
                    entry,
                    "another answer, though nothing is masked",
                    through,
                    direct,
                );
            }
        }
        let masking = lab(&masked, MASKS)?;
        let running = masking.start()?;
        let through = answers(&mut running.client()?, &entries, simple)?;
        running.stop()?;
        for (entry, (through, direct)) in entries.iter().zip(through.iter().zip(&direct)) {
            let refused = through
                .errors()
                .iter()
                .any(|error| error.code == "42501" && error.detail.contains("reason: Masked"));
            if entry.is("refused") {
                if !refused {
                    note(entry, "is not refused", through, direct);
                }
            } else if entry.is("masked") {
                if !through.errors().is_empty() || through.tags() != direct.tags() {
                    note(entry, "does not pass", through, direct);
                }
            } else if told(entry, through) != told(entry, direct) {
                note(
                    entry,
                    "another answer beside masked columns",
                    through,
                    direct,
                );
            }
        }
    }
    ensure!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}
