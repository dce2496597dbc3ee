//! What an attacker with psql and the manual would send to get a masked value out.
//!
//! Each attempt of `corpus/masking` runs four times: directly and through the sidecar, in two
//! worlds that differ in nothing but their masked values. Directly it must give the value away
//! (an `infer:` attempt must answer differently in the two worlds), or it is no attempt. Through
//! the sidecar no slice of a value may come back, and the two worlds must be told apart by
//! nothing at all.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, ensure};
use chaperone_e2e::corpus::{self, Entry};
use chaperone_e2e::needles::{self, Finder, Values, filled};
use chaperone_e2e::raw::{Client, Reply, bind, execute, message, parse, query, sync};
use chaperone_e2e::{Database, Lab};

const MARKS: &[&str] = &["infer", "auto"];

/// Fewer would mean that the corpus was lost.
const FEWEST: usize = 400;

/// Answers without an error that there are at least, in both worlds and all manners.
const FEWEST_ANSWERED: usize = 400;

/// The binary format and repeated execution are tried with one in so many, unless
/// `CHAPERONE_FULL` is set.
const PARTS: usize = 6;

/// Everything that a rule can allow short of roles, files and what nobody understands.
const EVERYTHING: &str = "
  - {name: everything, action: Allow, sql: {effects: [Catalog, Read, Write, Modify, Delete, BulkLoad,
     BulkExport, SchemaCreate, SchemaAlter, SchemaDestroy, Session, Transaction, Maintenance, Lock,
     Notify, Execute]}}";

const MASKS: &str = "
    masking:
    - {name: customers, strategy: Redact, columns: [\"public.customers.email\", \"public.customers.salary\",
       \"public.customers.profile\", \"public.customers.tags\", \"public.customers.photo\", \"public.customers.doc\"]}
    - {name: cards, columns: [\"public.customers.card_number\", \"public.pins.pin\"], strategy: Partial,
       partial: {keepLast: 4}}
    - {name: others, strategy: Redact, columns: [\"public.people.email\", \"public.contacts.phone\",
       \"hidden.salaries.person\", \"public.many.secret\", \"public.moved.phone\", \"public.people_new.email\"]}";

/// One set of values, with the ways to it.
struct World {
    values: Values,
    finder: Finder,
    lab: Lab,
    database: Database,
}

fn worlds() -> Result<Vec<World>> {
    let database = Database::new()?;
    database.sql(&corpus::text("schema.sql")?)?;
    let copy = database.copied()?;
    let mut worlds = Vec::new();
    for (database, values) in [database, copy].into_iter().zip(needles::two_worlds()?) {
        database.sql(&filled(&corpus::text("values.sql")?, &values))?;
        database.sql("ANALYZE")?;
        database.make_superuser()?;
        let port = database.port;
        let lab = Lab::behind(database.clone(), port)?;
        lab.guardrails(MASKS)?;
        lab.policy("everything", EVERYTHING)?;
        let finder = Finder::new(&values, &digests(&database)?);
        worlds.push(World {
            values,
            finder,
            lab,
            database,
        });
    }
    Ok(worlds)
}

/// What the server's own digests make of the values.
fn digests(database: &Database) -> Result<Vec<String>> {
    let rows = database.sql(
        "SELECT unnest(ARRAY[md5(email), encode(sha256(email::bytea), 'hex'), md5(photo),
           encode(hmac(email, '', 'sha256'), 'hex'), md5(card_number)]) FROM customers",
    )?;
    Ok(rows.lines().map(str::to_owned).collect())
}

/// How the messages of an attempt are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Simple,
    /// Parse, Bind, Execute; all values in binary, and nothing that describes them.
    Binary,
    /// Parsed once, and executed twice, row by row.
    Twice,
}

/// Sends an attempt, and gives all that came back.
///
/// Like psql with ON_ERROR_ROLLBACK: what fails does not keep the rest from being tried.
fn attempt(client: &mut Client, entry: &Entry, values: &Values, manner: Manner) -> Result<Reply> {
    let own_transaction = !entry.is("auto");
    let several = entry.messages.len() > 1;
    let mut all = Reply::default();
    if own_transaction {
        client.query("BEGIN")?.ok()?;
    }
    for text in &entry.messages {
        let text = filled(text, values);
        if own_transaction && several {
            client.query("SAVEPOINT attempt")?;
        }
        let reply = client.exchange(&sent(&text, manner))?;
        if own_transaction && several && reply.state() == Some('E') {
            client.query("ROLLBACK TO attempt")?.ok()?;
        }
        all.0.extend(reply.0);
    }
    if own_transaction {
        client.query("ROLLBACK")?.ok()?;
    }
    let leaves_something = [
        "SET",
        "PREPARE",
        "LISTEN",
        "set_config",
        "DECLARE",
        "take_path",
    ];
    let text = entry.messages.concat();
    if leaves_something.iter().any(|word| text.contains(word)) || text.contains("prepare_mails") {
        client.query("DISCARD ALL")?.ok()?;
    }
    Ok(all)
}

fn sent(text: &str, manner: Manner) -> Vec<u8> {
    match manner {
        Manner::Simple => query(text),
        Manner::Binary => {
            let binary = message(b'B', b"\0\0\0\0\0\0\0\x01\0\x01");
            [parse("", text), binary, execute("", 0), sync()].concat()
        }
        Manner::Twice => {
            let again = [bind("", "", &[]), execute("", 1), execute("", 0)].concat();
            [parse("", text), again.clone(), again, sync()].concat()
        }
    }
}

fn bytes(reply: &Reply) -> Vec<u8> {
    let bodies: Vec<&[u8]> = reply.0.iter().map(|message| &message.body[..]).collect();
    bodies.join(&b'\n')
}

/// What tells two worlds apart: everything but reports of settings, which come when the server
/// likes, and the numbers that it gives to new tables. The order of rows counts where that is
/// what the attempt is about; without ORDER BY it is that of the pages, which earlier attempts
/// have left in disorder.
fn told(entry: &Entry, reply: &Reply) -> Vec<String> {
    let mut told = messages_told(reply);
    if !entry.is("infer") {
        told.sort();
    }
    told
}

fn messages_told(reply: &Reply) -> Vec<String> {
    reply
        .0
        .iter()
        .filter(|message| message.tag != b'S')
        .map(|message| {
            let body = match message.tag {
                // The server's process has a number of its own.
                b'A' => {
                    String::from_utf8_lossy(message.body.get(4..).unwrap_or_default()).into_owned()
                }
                b'T' => columns(&message.body).join(", "),
                _ => String::from_utf8_lossy(&message.body).into_owned(),
            };
            // A refusal names its session and how many records there are before it.
            let body = body
                .split("kubectl chaperone why")
                .next()
                .unwrap_or_default();
            let body = body.split("(OID ").next().unwrap_or_default();
            format!("{} {body}", char::from(message.tag))
        })
        .collect()
}

/// The names of a RowDescription's columns; 18 bytes follow each.
fn columns(mut body: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    body = body.get(2..).unwrap_or_default();
    while let Some(end) = body.iter().position(|byte| *byte == 0) {
        let (name, rest) = body.split_at(end);
        names.push(String::from_utf8_lossy(name).into_owned());
        body = rest.get(19..).unwrap_or_default();
    }
    names
}

#[test]
fn masked_column_never_leaves() -> Result<()> {
    let entries = corpus::entries("masking", MARKS)?;
    ensure!(entries.len() >= FEWEST, "only {} attempts", entries.len());
    let worlds = worlds()?;
    let mut wrong: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut answered = 0;
    {
        let mut replies: Vec<Vec<Reply>> = Vec::new();
        for world in &worlds {
            let mut client = world.database.direct()?;
            let run = |entry| attempt(&mut client, entry, &world.values, Manner::Simple);
            replies.push(entries.iter().map(run).collect::<Result<_>>()?);
        }
        for (at, entry) in entries.iter().enumerate() {
            let each: Vec<&Reply> = replies.iter().filter_map(|world| world.get(at)).collect();
            let works = if entry.is("infer") {
                each.windows(2)
                    .all(|pair| matches!(pair, [a, b] if told(entry, a) != told(entry, b)))
            } else {
                worlds
                    .iter()
                    .zip(&each)
                    .all(|(world, reply)| world.finder.find(&bytes(reply)).is_some())
            };
            if !works {
                let errors: Vec<String> = each
                    .iter()
                    .flat_map(|reply| reply.errors())
                    .map(|error| error.text())
                    .collect();
                note(
                    &mut wrong,
                    "no attempt: nothing is told without the sidecar",
                    entry,
                    &errors.join(" | "),
                );
            }
        }
    }
    let whole = std::env::var_os("CHAPERONE_FULL").is_some();
    for (turn, manner) in [Manner::Simple, Manner::Binary, Manner::Twice]
        .into_iter()
        .enumerate()
    {
        // The first manner takes all, each of the others another part.
        let all = whole || manner == Manner::Simple;
        let part = turn % PARTS;
        let entries: Vec<&Entry> = entries
            .iter()
            .enumerate()
            .filter(|(at, _)| all || at % PARTS == part)
            .map(|(_, entry)| entry)
            .collect();
        let replies = std::thread::scope(|scope| {
            let entries = &entries;
            let run = |world| scope.spawn(move || through(world, entries, manner));
            let running: Vec<_> = worlds.iter().map(run).collect();
            let ended = running.into_iter().map(|one| one.join());
            ended.collect::<Result<Vec<_>, _>>()
        });
        let replies = replies.map_err(|_| anyhow!("a thread panicked"))?;
        let replies: Vec<Through> = replies.into_iter().collect::<Result<_>>()?;
        for one in &replies {
            answered += one.answered;
            for (what, entry, why) in &one.wrong {
                note(&mut wrong, &format!("{what} ({manner:?})"), entry, why);
            }
        }
        let replies: Vec<Vec<Reply>> = replies.into_iter().map(|one| one.answers).collect();
        let [one, other] = replies.as_slice() else {
            continue;
        };
        for (entry, (one, other)) in entries.iter().zip(one.iter().zip(other)) {
            let (one, other) = (told(entry, one), told(entry, other));
            if one != other {
                let first = one.iter().zip(&other).find(|(one, other)| one != other);
                note(
                    &mut wrong,
                    &format!("told apart ({manner:?})"),
                    entry,
                    &format!("{first:?}"),
                );
            }
        }
    }
    ensure!(
        answered >= FEWEST_ANSWERED,
        "only {answered} attempts were answered: masks are worth nothing if all is refused"
    );
    let text: Vec<String> = wrong
        .iter()
        .map(|(what, lines)| format!("{what}: {}\n  {}", lines.len(), lines.join("\n  ")))
        .collect();
    ensure!(wrong.is_empty(), "{}", text.join("\n"));
    Ok(())
}

/// What came through the sidecar in one world.
struct Through<'e> {
    answers: Vec<Reply>,
    /// How many were answered without any error.
    answered: usize,
    /// What is wrong, with which entry, and why.
    wrong: Vec<(&'static str, &'e Entry, String)>,
}

fn through<'e>(world: &World, entries: &[&'e Entry], manner: Manner) -> Result<Through<'e>> {
    let running = world.lab.start()?;
    let mut client = running.client()?;
    let mut seen = Through {
        answers: Vec::new(),
        answered: 0,
        wrong: Vec::new(),
    };
    for entry in entries {
        let reply = match attempt(&mut client, entry, &world.values, manner) {
            Ok(reply) => reply,
            Err(error) => {
                let why = format!("{error:#}");
                seen.wrong.push(("the session ended", entry, why));
                client = running.client()?;
                Reply::default()
            }
        };
        if let Some(found) = world.finder.find(&bytes(&reply)) {
            seen.wrong.push(("LEAK", entry, found.to_owned()));
        }
        seen.answered += usize::from(reply.errors().is_empty());
        seen.answers.push(reply);
    }
    running.stop()?;
    Ok(seen)
}

fn note(wrong: &mut BTreeMap<String, Vec<String>>, what: &str, entry: &Entry, why: &str) {
    let line = format!(
        "{} {}\n      {why}",
        entry.place,
        entry.messages.join(" ;; ")
    );
    wrong.entry(what.to_owned()).or_default().push(line);
}
