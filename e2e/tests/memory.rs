//! Memory is flat: in the size of a result, and in the number of sessions that came and went; and
//! what a container gets is enough, whatever agents and servers do.

use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use chaperone_e2e::memory_limit::MemoryLimit;
use chaperone_e2e::raw::{Client, bind, execute, extended, message, parse, query, startup, sync};
use chaperone_e2e::{Lab, Running};

const RULES: &str = "
  - {name: read, action: Allow, sql: {effects: [Read, BulkExport], relations: [public.notes, public.wide, public.columns]}}
  - {name: write, action: Allow, sql: {effects: [Write, BulkLoad], relations: [public.loaded]}}";

/// What may come on top of a warm sidecar, in KiB. Far below what is passed through it.
const ROOM: u64 = 24 * 1024;

/// The limit of the chart's sidecar, in bytes.
const CONTAINER: u64 = 64 << 20;

/// A storm takes the connections that the database has: the tests wait for each other.
static ALONE: Mutex<()> = Mutex::new(());

/// Everything, as large as the promise says; otherwise as much as shows the slope.
fn is_full() -> bool {
    std::env::var_os("CHAPERONE_FULL").is_some()
}

fn small_work(running: &Running<'_>) -> Result<()> {
    let mut client = running.client()?;
    client.query("SELECT body FROM notes WHERE id = 1")?.ok()?;
    client
        .query("SELECT amount FROM hidden.salaries")?
        .error()?;
    client.close()
}

/// 64 rows of 1 MiB. EXTERNAL, or they would be compressed.
fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.policy("read", RULES)?;
    let columns: Vec<String> = (0..1600).map(|number| format!("c{number} int2")).collect();
    lab.database.sql(&format!(
        "CREATE TABLE wide (id int, body text); ALTER TABLE wide ALTER body SET STORAGE EXTERNAL;
         INSERT INTO wide SELECT n, repeat(md5(n::text), 32768) FROM generate_series(1, 64) n;
         CREATE TABLE columns ({}); INSERT INTO columns SELECT FROM generate_series(1, 100);
         CREATE TABLE loaded (id int, body text);
         GRANT ALL ON wide, columns, loaded TO PUBLIC",
        columns.join(", ")
    ))?;
    Ok(lab)
}

#[test]
fn memory_is_flat() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mebibytes, sessions) = if is_full() { (1024, 2_000) } else { (256, 400) };
    let lab = lab()?;
    let mut running = lab.start()?;
    for _ in 0..50 {
        small_work(&running)?;
    }
    let warm = running.resident()?;

    let mut client = running.client()?;
    client.send(&large_result(mebibytes))?;
    let (mut bytes, mut highest) = (0_u64, warm);
    read_through(&mut client, |length| {
        let before = bytes / (32 << 20);
        bytes += length;
        if bytes / (32 << 20) > before {
            highest = highest.max(running.resident()?);
        }
        Ok(())
    })?;
    client.close()?;
    ensure!(bytes >= mebibytes << 20, "only {bytes} bytes of result");
    ensure!(
        highest - warm < ROOM,
        "{warm} KiB became {highest} KiB in a result of {mebibytes} MiB"
    );

    for number in 1..=sessions {
        small_work(&running)?;
        if number % 100 == 0 {
            let now = running.resident()?;
            ensure!(
                now.saturating_sub(warm) < ROOM,
                "{warm} KiB became {now} KiB after {number} sessions"
            );
        }
    }
    running.stop()?;
    lab.verify()
}

/// A query whose result is that large, in rows of 1 MiB.
fn large_result(mebibytes: u64) -> Vec<u8> {
    query(&format!(
        "SELECT body FROM wide, generate_series(1, {}) LIMIT {mebibytes}",
        mebibytes.div_ceil(64)
    ))
}

/// Reads a whole reply without keeping it.
fn read_through(client: &mut Client, mut seen: impl FnMut(u64) -> Result<()>) -> Result<()> {
    while let Some(message) = client.receive()? {
        ensure!(
            message.tag != b'E',
            "an error in the middle of the result: {}",
            String::from_utf8_lossy(&message.body)
        );
        seen(u64::try_from(message.body.len())?)?;
        if message.tag == b'Z' {
            return Ok(());
        }
    }
    bail!("the connection ended in the middle of the result")
}

/// What an agent or a server does to the memory of a sidecar.
type Attack = fn(&Running<'_>) -> Result<()>;

const ATTACKS: [(&str, Attack); 8] = [
    (
        "connections that say nothing, little, or only half of it",
        storm,
    ),
    ("readers that stop", slow_readers),
    ("large results", large_results),
    ("huge statements", huge_statements),
    ("huge parameters", huge_parameters),
    ("COPY both ways", copies),
    ("rows of 1600 columns", wide_rows),
    ("a value larger than the container", huge_values),
];

#[test]
fn sixty_four_megabytes_are_enough() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = lab()?;
    let limit = MemoryLimit::new(CONTAINER)?;
    let running = match &limit {
        Some(limit) => lab.start_within(limit)?,
        None => lab.start()?,
    };
    small_work(&running)?;
    for (what, attack) in ATTACKS {
        let said = attack(&running);
        if let Some(limit) = &limit {
            eprintln!("{what}: at most {} KiB", limit.highest()? >> 10);
            limit
                .ensure_nobody_was_killed()
                .with_context(|| what.to_owned())?;
        }
        said.with_context(|| format!("{what}; the sidecar said:\n{}", running.sidecar.output()))?;
        small_work(&running).with_context(|| format!("work after {what}"))?;
    }
    running.stop()?;
    lab.verify()
}

/// Hundreds of connections at every stage before a session, while others are served.
fn storm(running: &Running<'_>) -> Result<()> {
    let port = running.lab.port();
    let packet = startup(&[("user", "agent"), ("database", &running.lab.database.name)]);
    let mut held = Vec::new();
    for number in 0..300_usize {
        let mut client = Client::dial(port)?;
        // Nothing, a part of the packet, or all but its last byte.
        let part = match number % 3 {
            0 => 0,
            1 => 5,
            _ => packet.len() - 1,
        };
        client.send(packet.get(..part).unwrap_or_default())?;
        // Every fourth hangs up at once.
        if number % 4 != 0 {
            held.push(client);
        }
        if number % 100 == 0 {
            small_work(running)?;
        }
    }
    // Those that go on are let in, if slowly.
    let mut late = held.pop().context("nobody is left")?;
    late.send(packet.get(packet.len() - 1..).unwrap_or_default())?;
    drop(held);
    // Logins that are dropped before the answer, and sessions until somebody says no.
    for _ in 0..20 {
        Client::dial(port)?.send(&packet)?;
    }
    let mut open = Vec::new();
    let refused = loop {
        let parameters = [("user", "agent"), ("database", &running.lab.database.name)];
        let client = Client::attempt(port, &parameters)?;
        if let Some(error) = client.greeting.errors().first() {
            break error.clone();
        }
        open.push(client);
        ensure!(open.len() < 1100, "nobody said no");
    };
    let reasons = ["TooManySessions", "TargetRefused", "TargetUnreachable"];
    ensure!(
        reasons.iter().any(|reason| refused.text().contains(reason)),
        "{refused:?}"
    );
    Ok(())
}

/// Clients that ask for much and read none of it, while another goes on.
fn slow_readers(running: &Running<'_>) -> Result<()> {
    let mut readers = Vec::new();
    for _ in 0..64 {
        let mut client = running.client()?;
        client.send(&large_result(16))?;
        readers.push(client);
    }
    for _ in 0..5 {
        small_work(running)?;
    }
    // One of them is left, and gets all of it.
    let mut patient = readers.pop().context("nobody is left")?;
    drop(readers);
    let mut bytes = 0;
    read_through(&mut patient, |length| {
        bytes += length;
        Ok(())
    })?;
    ensure!(bytes >= 16 << 20, "only {bytes} bytes");
    Ok(())
}

fn large_results(running: &Running<'_>) -> Result<()> {
    let mebibytes = if is_full() { 1024 } else { 96 };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(move || {
                    let mut client = running.client()?;
                    client.send(&large_result(mebibytes))?;
                    read_through(&mut client, |_| Ok(()))
                })
            })
            .collect();
        readers
            .into_iter()
            .try_for_each(|reader| reader.join().unwrap_or_else(|_| bail!("a reader panicked")))
    })
}

/// The statement's own answer, or a refusal with a reason: never silence.
fn answered(running: &Running<'_>, what: &str, bytes: &[u8]) -> Result<()> {
    let mut client = running.client()?;
    // The session may be closed in the middle of a message that is too long.
    let _ = client.send(bytes);
    let reply = client
        .until_ready_or_end()
        .with_context(|| what.to_owned())?;
    match reply.errors().first() {
        None => ensure!(reply.state().is_some(), "{what}: {}", reply.tags()),
        Some(error) => ensure!(
            [
                "LimitExceeded",
                "TooComplex",
                "Unparsable",
                "NoRuleAllows",
                "ProtocolViolation"
            ]
            .iter()
            .any(|reason| error.text().contains(reason)),
            "{what}: {error:?}"
        ),
    }
    Ok(())
}

fn huge_statements(running: &Running<'_>) -> Result<()> {
    const CAP: usize = 16 << 20;
    let literal = |length: usize| query(&format!("SELECT '{}'::text IS NULL", "x".repeat(length)));
    let list = |count: usize| {
        let values: Vec<String> = (0..count).map(|number| format!("({number},'x')")).collect();
        query(&format!("INSERT INTO loaded VALUES {}", values.join(",")))
    };
    for (what, bytes) in [
        ("a statement just below the cap", literal(CAP - 100)),
        ("a statement over the cap", literal(CAP + 100)),
        (
            "a comment up to the cap",
            query(&format!("SELECT 1 /*{}*/", "x".repeat(CAP - 100))),
        ),
        ("many values", list(1_000)),
        ("very many values", list(400_000)),
        (
            "a deep nest",
            query(&format!(
                "SELECT {}1{}",
                "(".repeat(100_000),
                ")".repeat(100_000)
            )),
        ),
        (
            "a long chain",
            query(&format!("SELECT 1{}", "+1".repeat(1_000_000))),
        ),
        ("many statements", query(&"SELECT 1;".repeat(500_000))),
        ("a text that is none", query(&"x ".repeat(4_000_000))),
    ] {
        answered(running, what, &bytes)?;
        ensure!(running.client().is_ok(), "nobody is let in after {what}");
    }
    // Several at once.
    let bytes = literal(CAP - 100);
    thread::scope(|scope| {
        let senders: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| answered(running, "one of four huge statements", &bytes)))
            .collect();
        senders
            .into_iter()
            .try_for_each(|sender| sender.join().unwrap_or_else(|_| bail!("a sender panicked")))
    })
}

fn huge_parameters(running: &Running<'_>) -> Result<()> {
    let mut types = b"\0SELECT 1\0\xff\xff".to_vec();
    types.extend(std::iter::repeat_n([0, 0, 0, 23], 65_535).flatten());
    let large = "y".repeat(15 << 20);
    let many: Vec<Option<&str>> = vec![Some("1"); 65_535];
    let names: Vec<String> = (1..=65_535).map(|number| format!("${number}")).collect();
    let all = format!("SELECT 1 WHERE 1 IN ({})", names.join(","));
    for (what, bytes) in [
        ("65535 types", [message(b'P', &types), sync()].concat()),
        (
            "a large parameter",
            [extended("SELECT $1::text IS NULL", &[Some(&large)]), sync()].concat(),
        ),
        (
            "65535 parameters of none",
            [
                parse("", "SELECT 1"),
                bind("", "", &many),
                execute("", 0),
                sync(),
            ]
            .concat(),
        ),
        ("65535 parameters", [extended(&all, &many), sync()].concat()),
    ] {
        let mut client = running.client()?;
        let _ = client.send(&bytes);
        let reply = client
            .until_ready_or_end()
            .with_context(|| what.to_owned())?;
        ensure!(!reply.tags().is_empty(), "silence after {what}");
    }
    Ok(())
}

/// Rows of 1 MiB that a message takes, where the largest is of 7 MiB.
const LARGE_ROWS: usize = 6;

fn copies(running: &Running<'_>) -> Result<()> {
    let rows = if is_full() { 1024 } else { 96 };
    let mut client = running.client()?;
    client.send(&query("COPY wide TO STDOUT"))?;
    read_through(&mut client, |_| Ok(()))?;
    client.send(&query("COPY loaded FROM STDIN"))?;
    ensure!(client.until(b'G')?.errors().is_empty());
    // In one message a row.
    let row = format!("1\t{}\n", "z".repeat(1 << 20));
    for _ in 0..rows {
        client.send(&message(b'd', row.as_bytes()))?;
    }
    // And as many in one as there is room for.
    client.send(&message(b'd', row.repeat(LARGE_ROWS).as_bytes()))?;
    let rows = rows + LARGE_ROWS;
    let done = client.exchange(&message(b'c', b""))?.ok()?;
    ensure!(
        done.commands() == [format!("COPY {rows}")],
        "{:?}",
        done.commands()
    );
    Ok(())
}

fn wide_rows(running: &Running<'_>) -> Result<()> {
    let mut client = running.client()?;
    client.send(&query("SELECT c.* FROM columns c, generate_series(1, 50)"))?;
    let mut rows = 0;
    read_through(&mut client, |_| {
        rows += 1;
        Ok(())
    })?;
    ensure!(rows >= 5000, "only {rows} rows");
    client.send(&query(
        "COPY (SELECT c.* FROM columns c, generate_series(1, 50)) TO STDOUT WITH (FORMAT csv)",
    ))?;
    read_through(&mut client, |_| Ok(()))
}

/// Refused with a reason or passed on in pieces; not collected.
fn huge_values(running: &Running<'_>) -> Result<()> {
    for sql in [
        "SELECT string_agg(body, '') FROM wide WHERE id <= 30",
        "SELECT string_agg(body, '') FROM wide",
        "SELECT string_agg(body, '')::bytea FROM wide",
        "COPY (SELECT string_agg(body, '') FROM wide) TO STDOUT",
    ] {
        let mut client = running.client()?;
        client.send(&query(sql))?;
        let mut seen = 0;
        while let Some(message) = client.receive().with_context(|| sql.to_owned())? {
            if message.tag == b'E' {
                let text = String::from_utf8_lossy(&message.body).into_owned();
                ensure!(text.contains("LimitExceeded"), "{sql}: {text}");
            }
            seen += message.body.len();
            if message.tag == b'Z' {
                break;
            }
        }
        ensure!(seen > 0, "silence after {sql}");
    }
    Ok(())
}
