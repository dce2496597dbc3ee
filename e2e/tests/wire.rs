//! The wire: however frames are cut, whatever lengths they claim, whoever asks to cancel.

use anyhow::{Context, Result, ensure};
use chaperone_e2e::raw::{
    self, Client, Reply, bind, describe, execute, extended, message, parse, query, startup, sync,
};
use chaperone_e2e::{DEADLINE, Database, Lab, Relay, wait_for};

const RULES: &str =
    "  - {name: notes, action: Allow, sql: {effects: [Read, Write, BulkExport, BulkLoad], relations: [public.notes]}}
  - {name: sleep, action: Allow, sql: {effects: [Execute], functions: [\"pg_catalog.pg_sleep\"]}}";

fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.policy("notes", RULES)?;
    Ok(lab)
}

/// A conversation with everything in it, sent at once: each part ends in one ReadyForQuery.
fn conversation() -> (Vec<u8>, usize) {
    let parts: Vec<Vec<u8>> = vec![
        query("SELECT body FROM notes WHERE id < 4 ORDER BY id"),
        query("SELECT 1; SELECT 'two'; SELECT NULL"),
        query(""),
        query("SELECT person FROM hidden.salaries"),
        query("DELETE FROM notes"),
        query("SELECT 1/0"),
        query("SELEC nonsense"),
        [
            extended("SELECT body FROM notes WHERE id = $1::int", &[Some("5")]),
            sync(),
        ]
        .concat(),
        [
            extended("DELETE FROM notes", &[]),
            extended("SELECT 1", &[]),
            sync(),
        ]
        .concat(),
        [
            parse("s", "SELECT id FROM notes ORDER BY id"),
            describe(b'S', "s"),
            sync(),
        ]
        .concat(),
        query("BEGIN"),
        [
            bind("p", "s", &[]),
            execute("p", 3),
            execute("p", 2),
            sync(),
        ]
        .concat(),
        query("DELETE FROM notes"),
        query("SELECT 1"),
        query("ROLLBACK"),
        [bind("", "s", &[Some("too many")]), execute("", 0), sync()].concat(),
        [message(b'C', b"Ss\0"), sync()].concat(),
        query("COPY (SELECT id FROM notes WHERE id < 4 ORDER BY id) TO STDOUT"),
        query("SHOW search_path"),
        query("SELECT body FROM notes WHERE id = 20"),
    ];
    let count = parts.len();
    (parts.concat(), count)
}

/// Everything the server said, but for what differs between any two sessions.
fn answers(port: u16, database: &str) -> Result<Vec<Reply>> {
    let (bytes, count) = conversation();
    let mut client = Client::connect(port, database)?;
    client.send(&bytes)?;
    let mut replies = Vec::new();
    for _ in 0..count {
        let mut reply = client.until_ready()?;
        for message in &mut reply.0 {
            if matches!(message.tag, b'E' | b'N') {
                // A denial names its session and sequence.
                let report = Reply(vec![message.clone()]);
                let report = [report.errors(), report.notices()].concat();
                message.body = report
                    .iter()
                    .flat_map(|r| format!("{} {}", r.severity, r.code).into_bytes())
                    .collect();
            }
        }
        replies.push(reply);
    }
    client.close()?;
    Ok(replies)
}

#[test]
fn frames_cut_anywhere_mean_the_same() -> Result<()> {
    let database = Database::new()?;
    let whole = {
        let lab = Lab::behind(database.clone(), database.port)?;
        lab.policy("notes", RULES)?;
        let running = lab.start()?;
        let whole = answers(lab.port(), &database.name)?;
        running.stop()?;
        lab.verify()?;
        whole
    };
    let errors: Vec<usize> = whole.iter().map(|reply| reply.errors().len()).collect();
    ensure!(
        errors == [0, 0, 0, 1, 1, 1, 1, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0],
        "{errors:?}: {whole:#?}"
    );
    // Cut on both sides of the sidecar: by single bytes, and by lengths that share no factor
    // with any frame's.
    let cuts: [&[usize]; 5] = [&[1], &[2, 3], &[7], &[1, 4, 1, 13], &[31, 1, 97]];
    for cut in cuts {
        let upstream = Relay::cutting(database.port, cut)?;
        let lab = Lab::behind(database.clone(), upstream.port())?;
        lab.policy("notes", RULES)?;
        let running = lab.start()?;
        let agent = Relay::cutting(lab.port(), cut)?;
        let got =
            answers(agent.port(), &database.name).with_context(|| format!("cut by {cut:?}"))?;
        ensure!(
            got == whole,
            "cut by {cut:?}:\n{got:#?}\nis not\n{whole:#?}"
        );
        running.stop()?;
        lab.verify()?;
    }
    Ok(())
}

/// Frames whose lengths lie; each must end the connection that sent it, and no other.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let with_length =
        |tag: u8, length: u32, body: &[u8]| [&[tag][..], &length.to_be_bytes(), body].concat();
    vec![
        ("a length of 0", with_length(b'Q', 0, b"")),
        ("a length of 3", with_length(b'Q', 3, b"")),
        ("2 GiB", with_length(b'Q', 0x7fff_ffff, b"SELECT 1\0")),
        ("4 GiB", with_length(b'Q', 0xffff_ffff, b"SELECT 1\0")),
        (
            "a length with the sign bit",
            with_length(b'P', 0x8000_0004, b"\0"),
        ),
        (
            "just over the cap",
            with_length(b'Q', 16 * 1024 * 1024 + 5, b"SELECT 1\0"),
        ),
        (
            "a Query without its end",
            with_length(b'Q', 12, b"SELECT 1"),
        ),
        (
            "a Query with two strings",
            message(b'Q', b"SELECT 1\0DELETE FROM notes\0"),
        ),
        (
            "a Parse whose types are missing",
            message(b'P', b"\0SELECT 1\0\xff\xff"),
        ),
        (
            "a Parse with a tail",
            message(b'P', b"\0SELECT 1\0\0\0tail"),
        ),
        (
            "a Bind that claims 65535 formats",
            message(b'B', b"\0\0\xff\xff\0\0\0\0"),
        ),
        (
            "a Bind that claims 65535 parameters",
            message(b'B', b"\0\0\0\0\xff\xff\0\0"),
        ),
        (
            "a Bind whose parameter is 2 GiB",
            message(b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0"),
        ),
        (
            "a Bind whose parameter is -2",
            message(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
        ),
        ("an Execute without its limit", message(b'E', b"\0")),
        ("a Describe of nothing", message(b'D', b"")),
        ("a Describe of X", message(b'D', b"X\0")),
        ("a Sync with a body", message(b'S', b"x")),
        ("an unknown type", message(b'@', b"")),
        ("COPY data without a COPY", message(b'c', b"x")),
    ]
}

#[test]
fn hostile_lengths_end_one_connection() -> Result<()> {
    let lab = lab()?;
    let mut running = lab.start()?;
    let mut bystander = running.client()?;
    bystander.query("SELECT 1")?.ok()?;
    let before = running.resident()?;
    for (what, bytes) in hostile() {
        let mut client = running.client()?;
        client.send(&bytes)?;
        // A frame that claims more than it has might be waited for; nothing more will come.
        client.finish_sending()?;
        let reply = client.to_end().with_context(|| what.to_owned())?;
        ensure!(
            reply.rows().is_empty() && reply.commands().is_empty(),
            "{what}: {}",
            reply.tags()
        );
        let codes = ["08P01", "53400"];
        let ended = reply
            .errors()
            .iter()
            .any(|error| codes.contains(&error.code.as_str()));
        let ended = ended || reply.0.is_empty();
        ensure!(ended, "{what}: {:?}", reply.errors());
        let alive = bystander
            .query("SELECT body FROM notes WHERE id = 1")
            .with_context(|| what.to_owned())?
            .ok()?;
        ensure!(alive.value().as_deref() == Some("note 1"));
    }
    // The same before login.
    for (what, bytes) in [
        ("a startup of 0 bytes", 0_u32.to_be_bytes().to_vec()),
        ("a startup of 7 bytes", 7_u32.to_be_bytes().to_vec()),
        (
            "a startup of 2 GiB",
            [
                &0x7fff_ffff_u32.to_be_bytes()[..],
                &196_608_u32.to_be_bytes(),
            ]
            .concat(),
        ),
        (
            "a startup of 4 GiB",
            [
                &0xffff_ffff_u32.to_be_bytes()[..],
                &196_608_u32.to_be_bytes(),
            ]
            .concat(),
        ),
        (
            "protocol 2.0",
            [&8_u32.to_be_bytes()[..], &131_072_u32.to_be_bytes()].concat(),
        ),
        (
            "a cancel with half a key",
            [
                &10_u32.to_be_bytes()[..],
                &80_877_102_u32.to_be_bytes(),
                b"xx",
            ]
            .concat(),
        ),
        (
            "replication",
            startup(&[
                ("user", "agent"),
                ("database", &lab.database.name),
                ("replication", "database"),
            ]),
        ),
        ("an HTTP request", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ] {
        let mut client = Client::dial(lab.port())?;
        client.send(&bytes)?;
        client.finish_sending()?;
        let reply = client.to_end().with_context(|| what.to_owned())?;
        ensure!(reply.state().is_none(), "{what} was let in");
        bystander
            .query("SELECT 1")
            .with_context(|| what.to_owned())?
            .ok()?;
    }
    let grown = running.resident()?.saturating_sub(before);
    ensure!(grown < 48 * 1024, "hostile lengths cost {grown} KiB");
    ensure!(
        !running.sidecar.output().contains("panicked"),
        "{}",
        running.sidecar.output()
    );
    ensure!(
        !lab.database.saw("DELETE FROM notes")?,
        "a smuggled statement arrived"
    );
    running.stop()?;
    lab.verify()
}

#[test]
fn one_cancel_key_cancels_one_session() -> Result<()> {
    let lab = lab()?;
    let running = lab.start()?;
    let mut first = running.client()?;
    let mut second = running.client()?;
    ensure!(
        first.key != second.key && first.key.len() >= 8,
        "keys are not a session's own"
    );
    // The server's own key is not what the agent was given.
    let server_pid = first.query("SELECT pg_backend_pid()")?;
    if let Some(pid) = server_pid.value() {
        let given = first
            .key
            .first_chunk::<4>()
            .map(|bytes| u32::from_be_bytes(*bytes).to_string());
        ensure!(
            given.as_deref() != Some(pid.as_str()),
            "the agent was given the server's process id"
        );
    }
    let asleep = |count: &str| {
        wait_for("statements to run on the server", DEADLINE, || {
            let running = lab.database.sql(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%' AND state = 'active'",
            )?;
            Ok((running == count).then_some(()))
        })
    };
    first.send(&query("SELECT pg_sleep(600)"))?;
    second.send(&query("SELECT pg_sleep(600) /* second */"))?;
    asleep("2")?;
    raw::cancel(lab.port(), &first.key)?;
    let error = first.until_ready()?.error()?;
    ensure!(error.code == "57014", "{error:?}");
    asleep("1")?;
    // The first one lives on; what it runs next is not hit by a late cancel.
    for _ in 0..20 {
        raw::cancel(lab.port(), &first.key)?;
        let reply = first.query("SELECT body FROM notes WHERE id = 1")?;
        let cancelled = reply.errors().iter().all(|error| error.code == "57014");
        ensure!(cancelled, "{:?}", reply.errors());
    }
    // Keys that are not anybody's, and one that is off by a bit, do nothing.
    let mut wrong = second.key.clone();
    if let Some(last) = wrong.last_mut() {
        *last ^= 1;
    }
    raw::cancel(lab.port(), &wrong)?;
    raw::cancel(lab.port(), &[0_u8; 8])?;
    asleep("1")?;
    raw::cancel(lab.port(), &second.key)?;
    ensure!(second.until_ready()?.error()?.code == "57014");
    ensure!(second.query("SELECT 1")?.ok()?.value().as_deref() == Some("1"));
    // A key outlives nothing: after the session's end it is nobody's.
    let key = first.key.clone();
    first.close()?;
    second.send(&query("SELECT pg_sleep(600)"))?;
    asleep("1")?;
    raw::cancel(lab.port(), &key)?;
    asleep("1")?;
    raw::cancel(lab.port(), &second.key)?;
    ensure!(second.until_ready()?.error()?.code == "57014");
    running.stop()?;
    lab.verify()
}

/// COPY in is recorded and obeys the same rules; a denied one leaves the session usable.
#[test]
fn copy_in_works_and_a_denied_one_leaves_the_session() -> Result<()> {
    let lab = lab()?;
    let running = lab.start()?;
    let said = running.psql("COPY notes FROM STDIN;\n700\tseven\n701\thundred\n\\.\nSELECT count(*) FROM notes WHERE id >= 700;\n")?;
    ensure!(
        said.out.contains("COPY 2") && said.out.trim().ends_with('2'),
        "{}",
        said.all()
    );
    let mut client = running.client()?;
    let reply = client.query("COPY orders FROM STDIN")?;
    ensure!(
        reply.error()?.code == "42501" && reply.tags() == "EZ",
        "{}",
        reply.tags()
    );
    ensure!(client.query("SELECT 1")?.ok()?.value().as_deref() == Some("1"));
    let called = client.exchange(&message(b'F', b"\0\0\0\x01\0\0\0\0\0\0"))?;
    ensure!(
        called.error()?.text().contains("UnsupportedMessage"),
        "{:?}",
        called.errors()
    );
    for unsafe_io in [
        "COPY notes TO '/tmp/chaperone-must-not-exist'",
        "COPY notes FROM PROGRAM 'id'",
    ] {
        ensure!(
            client.query(unsafe_io)?.error()?.code == "42501",
            "{unsafe_io}"
        );
    }
    running.stop()?;
    lab.verify()
}
