//! What detectors know leaves the database in no form of answer, and the record does not hold it.

use anyhow::{Result, bail, ensure};
use chaperone_e2e::raw::{describe, execute, extended, message, parse, sync};
use chaperone_e2e::relay::find;
use chaperone_e2e::{Lab, Relay};
use xtask::search;

const DETECTORS: &str = "
    masking:
    - {name: secrets, detectors: [PaymentCard, Iban, EmailAddress, PhoneNumber, UsSsn, JsonWebToken, PrivateKey, AwsAccessKey], strategy: Redact}";

const RULES: &str = "
  - {name: read, action: Allow, sql: {effects: [Read, BulkExport, Catalog], relations: [\"public.*\"]}}
  - {name: write, action: Allow, sql: {effects: [Write], relations: [public.notes]}}
  - {name: notify, action: Allow, sql: {effects: [Notify], channels: [\"*\"]}}
  - {name: functions, action: Allow, sql: {effects: [Execute], functions: [\"public.*\"], returns: Unmasked}}";

/// One of each kind, and a part of it that appears nowhere else. Those that scanners of
/// repositories look for are in pieces.
const SECRETS: [(&str, &str); 10] = [
    ("4111 1111 1111 1111", "1111 1111"),
    ("DE89 3704 0044 0532 0130 00", "0044 0532"),
    ("ann.detected@example.com", "ann.detected"),
    ("+49 30 7654321", "7654321"),
    ("(030) 6543210", "6543210"),
    ("536-90-4399", "90-4399"),
    (
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl",
        "c2lnbmF0dXJl",
    ),
    (
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLs\nLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----",
        "LMREScVpezJp",
    ),
    (
        concat!("AKIA", "IOSFODNN7EXAMPLE"),
        concat!("OSFODNN7", "EXAMPLE"),
    ),
    // Beside an id only.
    (
        concat!(
            "ASIA",
            "IOSFODNN7EXAMPL2 wJalrXUtnFEMI/K7MDENG/",
            "bPxRfiCYEXAMPLEKEY"
        ),
        concat!("K7MDENG/", "bPxRfi"),
    ),
];

/// What has to arrive as it is.
const LOOK_ALIKE: &str =
    "550e8400-e29b-41d4-a716-446655440000 2024-01-15 10:22:03+05:30 192.168.100.200 48.8577";

/// Every form in which a value can be in a result.
const FORMS: [&str; 13] = [
    "SELECT body FROM notes WHERE id >= 1000 ORDER BY id",
    "SELECT id, body || '' FROM notes WHERE id >= 1000 ORDER BY id",
    "SELECT to_json(body) FROM notes WHERE id >= 1000",
    "SELECT jsonb_build_object('k', jsonb_build_array(body)) FROM notes WHERE id >= 1000",
    "SELECT json_build_object('text', json_build_object('k', body)::text) FROM notes WHERE id >= 1000",
    "SELECT json_agg(n) FROM notes n WHERE id >= 1000",
    "SELECT array_agg(body) FROM notes WHERE id >= 1000",
    "SELECT n FROM notes n WHERE id >= 1000",
    "SELECT xmlelement(name x, body) FROM notes WHERE id >= 1000",
    "SELECT ROW(1, body, NULL) FROM notes WHERE id >= 1000",
    "SELECT string_agg(body, E'\\n') FROM notes WHERE id >= 1000",
    "COPY (SELECT id, body FROM notes WHERE id >= 1000 ORDER BY id) TO STDOUT",
    "COPY (SELECT id, body FROM notes WHERE id >= 1000 ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)",
];

fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    let mut rows: Vec<String> = SECRETS
        .iter()
        .map(|(secret, _)| (*secret).to_owned())
        .collect();
    rows.push(LOOK_ALIKE.to_owned());
    rows.push(format!(
        "{{\"key\": \"{}\"}}",
        SECRETS
            .map(|(secret, _)| secret.replace('\n', "\\n"))
            .join("\", \"")
    ));
    for (number, text) in rows.iter().enumerate() {
        lab.database.sql(&format!(
            "INSERT INTO notes VALUES ({}, $x${text}$x$)",
            1000 + number
        ))?;
    }
    lab.database.sql(
        "CREATE FUNCTION warn(n int) RETURNS int LANGUAGE plpgsql AS
           $$ BEGIN RAISE NOTICE 'seen: %', (SELECT body FROM notes WHERE id = n)
                USING DETAIL = (SELECT body FROM notes WHERE id = n); RETURN n; END $$;
         CREATE FUNCTION fail(n int) RETURNS int LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'failed: %', (SELECT body FROM notes WHERE id = n)
                USING HINT = (SELECT body FROM notes WHERE id = n); END $$;
         GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC",
    )?;
    lab.guardrails(DETECTORS)?;
    lab.policy("all", RULES)?;
    Ok(lab)
}

fn leaked(bytes: &[u8]) -> Option<&'static str> {
    let mut parts = SECRETS.iter().map(|(_, part)| *part);
    parts.find(|part| find(bytes, part.as_bytes()).is_some())
}

#[test]
fn what_detectors_know_is_in_no_answer_and_no_record() -> Result<()> {
    let lab = lab()?;
    let running = lab.start()?;
    let agent = Relay::to(lab.port())?;
    let mut client = chaperone_e2e::raw::Client::connect(agent.port(), &lab.database.name)?;

    let mut look_alikes = 0;
    for sql in FORMS {
        let text = client.query(sql)?.ok()?;
        ensure!(text.tags().contains(['D', 'd']), "{sql} answered nothing");
        if !sql.starts_with("COPY") {
            let binary = message(b'B', b"\0\0\0\0\0\0\0\x01\0\x01");
            let exchange = [
                parse("", sql),
                binary,
                describe(b'P', ""),
                execute("", 0),
                sync(),
            ]
            .concat();
            client.exchange(&exchange)?.ok()?;
        }
        let sent = agent.connections().remove(0).to_client;
        if let Some(part) = leaked(&sent) {
            bail!("{part} was sent after {sql}");
        }
        let now = count(&sent, LOOK_ALIKE);
        ensure!(
            now > look_alikes,
            "what is no secret did not arrive after {sql}"
        );
        look_alikes = now;
    }

    for number in 1000..1000 + SECRETS.len() {
        let warned = client.query(&format!("SELECT warn({number})"))?.ok()?;
        let failed = client.query(&format!("SELECT fail({number})"))?.error()?;
        ensure!(
            format!("{:?}", warned.notices()).contains("[masked]")
                && failed.text().contains("[masked]"),
            "{number}: {:?} {failed:?}",
            warned.notices()
        );
    }
    client.query("LISTEN told")?.ok()?;
    for (secret, part) in SECRETS {
        // Its own literal and parameter may come back to the agent in no form either.
        let quoted = format!("$x${secret}$x$");
        client.query(&format!("SELECT {quoted}::text"))?.ok()?;
        client
            .query(&format!("SELECT {quoted}::text::int"))?
            .error()?;
        client
            .query(&format!("SELECT pg_notify('told', {quoted})"))?
            .ok()?;
        client
            .exchange(&[extended("SELECT $1::text", &[Some(secret)]), sync()].concat())?
            .ok()?;
        let sent = agent.connections().remove(0).to_client;
        ensure!(leaked(&sent).is_none(), "{part} came back");
    }
    client.close()?;
    running.stop()?;

    for (_, part) in SECRETS {
        let found = search::files_with(&lab.state(), part)?;
        ensure!(found.is_empty(), "{part} is in {found:?}");
    }
    for arguments in [
        ["show", "last", "--all"],
        ["replay", "last", "--raw=server"],
        ["replay", "last", "--raw=client"],
    ] {
        let said = lab.plugin(&arguments)?;
        ensure!(said.out.len() > 1000, "{arguments:?} says nothing");
        if let Some(part) = leaked(said.out.as_bytes()) {
            bail!("{arguments:?} holds {part}");
        }
    }
    lab.verify()
}

fn count(bytes: &[u8], text: &str) -> usize {
    let windows = bytes.windows(text.len());
    windows.filter(|window| *window == text.as_bytes()).count()
}
