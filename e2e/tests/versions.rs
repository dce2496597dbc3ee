//! Every supported version of the server is served alike.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use chaperone_e2e::lab::MASKING;
use chaperone_e2e::raw::{self, Client, bind, execute, extended, message, parse, query, sync};
use chaperone_e2e::server::{self, RAW};
use chaperone_e2e::{DEADLINE, Database, Lab, Running, wait_for};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use xtask::needs::{self, Need};
use xtask::postgres::Settings;
use xtask::releases::Release;

const RULES: &str = "  - {name: read, action: Allow, sql: {effects: [Read, BulkExport], relations: [public.customers, public.orders, public.notes]}}
  - {name: notes, action: Allow, sql: {effects: [Write, Modify, BulkLoad], relations: [public.notes]}}
  - {name: totals, action: Allow, sql: {effects: [Read], relations: [reporting.totals]}}
  - {name: sleep, action: Allow, sql: {effects: [Execute], functions: [pg_catalog.pg_sleep]}}";

/// One part of the conversation.
type Check = fn(&Running<'_>) -> Result<()>;

const CHECKS: [(&str, Check); 9] = [
    ("masked reads", masked_reads),
    ("a denial in a transaction", a_denial_in_a_transaction),
    ("a denial in a pipeline", a_denial_in_a_pipeline),
    ("cursors", cursors),
    ("COPY", copy),
    ("catalog facts", catalog_facts),
    ("search_path", search_path),
    ("protocol 3.2", protocol_3_2),
    ("cancel", cancel),
];

fn the_whole_conversation_works_on(major: u32) -> Result<()> {
    needs::install(&[Need::Maven, Need::Xz, Need::Releases], true)?;
    let mut settings = Settings::for_tests();
    settings.release = Some(Release::of(major)?);
    let server = Arc::new(server::seeded(settings)?);
    let database = Database::on(&server)?;
    let said = database.sql("SHOW server_version_num")?;
    ensure!(said.starts_with(&major.to_string()), "it is {said}");
    let port = database.port;
    let lab = Lab::behind(database, port)?;
    lab.guardrails(MASKING)?;
    lab.policy("all", RULES)?;
    make_objects(&lab)?;
    let running = lab.start()?;
    for (what, check) in CHECKS {
        check(&running).with_context(|| format!("{what} on PostgreSQL {major}"))?;
    }
    running.stop()?;
    lab.verify()
}

#[test]
fn the_whole_conversation_works_on_postgresql_13() -> Result<()> {
    the_whole_conversation_works_on(13)
}

#[test]
fn the_whole_conversation_works_on_postgresql_14() -> Result<()> {
    the_whole_conversation_works_on(14)
}

#[test]
fn the_whole_conversation_works_on_postgresql_16() -> Result<()> {
    the_whole_conversation_works_on(16)
}

#[test]
fn the_whole_conversation_works_on_postgresql_17() -> Result<()> {
    the_whole_conversation_works_on(17)
}

#[test]
fn the_whole_conversation_works_on_postgresql_18() -> Result<()> {
    the_whole_conversation_works_on(18)
}

fn without_raw(text: &str) -> Result<()> {
    for raw in RAW {
        ensure!(!text.contains(raw), "{raw} in {text}");
    }
    Ok(())
}

fn masked_reads(running: &Running<'_>) -> Result<()> {
    // Unmodified psql, simple protocol.
    let said = running.psql("SELECT email, card_number, name FROM customers ORDER BY id;\n")?;
    without_raw(&said.all())?;
    ensure!(
        said.out.contains("[masked]") && said.out.contains("4242|Ada"),
        "{}",
        said.all()
    );
    // Extended protocol, through a view-like derived column, and a whole row.
    let mut client = running.client()?;
    for sql in [
        "SELECT upper(email), c FROM customers c WHERE id = $1::int",
        "SELECT row_to_json(c), card_number || '' FROM customers c WHERE id = $1::int",
    ] {
        let reply = client.exchange(&[extended(sql, &[Some("1")]), sync()].concat())?;
        let rows = reply.ok()?.rows();
        ensure!(rows.len() == 1, "{rows:?}");
        without_raw(&format!("{rows:?}"))?;
    }
    let error = client
        .query("SELECT name FROM customers WHERE email LIKE 'ada%'")?
        .error()?;
    ensure!(error.text().contains("MaskedPredicate"), "{error:?}");
    client.close()
}

fn a_denial_in_a_transaction(running: &Running<'_>) -> Result<()> {
    let mut client = running.client()?;
    client.query("BEGIN")?.ok()?;
    client
        .query("INSERT INTO notes VALUES (900, 'kept')")?
        .ok()?;
    client.query("SAVEPOINT before")?.ok()?;
    let denied = client.query("DELETE FROM orders")?;
    ensure!(denied.error()?.code == "42501" && denied.state() == Some('E'));
    let aborted = client.query("SELECT 1")?.error()?;
    ensure!(aborted.code == "25P02", "{aborted:?}");
    client.query("ROLLBACK TO before")?.ok()?;
    let kept = client.query("SELECT body FROM notes WHERE id = 900")?;
    ensure!(kept.ok()?.value().as_deref() == Some("kept"));
    client.query("ROLLBACK")?.ok()?;
    ensure!(!running.lab.database.saw("DELETE FROM orders")?);
    client.close()
}

fn a_denial_in_a_pipeline(running: &Running<'_>) -> Result<()> {
    let mut client = running.client()?;
    let reply = client.exchange(
        &[
            extended("SELECT 1", &[]),
            extended("DELETE FROM customers", &[]),
            extended("SELECT 2", &[]),
            sync(),
        ]
        .concat(),
    )?;
    ensure!(reply.error()?.code == "42501", "{:?}", reply.errors());
    ensure!(reply.rows().len() == 1 && reply.state() == Some('I'));
    let alive = client.query("SELECT 3")?.ok()?;
    ensure!(alive.value().as_deref() == Some("3"));
    ensure!(!running.lab.database.saw("DELETE FROM customers")?);
    client.close()
}

fn cursors(running: &Running<'_>) -> Result<()> {
    let mut client = running.client()?;
    client.query("BEGIN")?.ok()?;
    client
        .query("DECLARE c CURSOR FOR SELECT email, id FROM customers ORDER BY id")?
        .ok()?;
    for expected in [2, 1] {
        let rows = client.query("FETCH 2 FROM c")?.ok()?.rows();
        ensure!(rows.len() == expected, "{rows:?}");
        without_raw(&format!("{rows:?}"))?;
    }
    client.query("COMMIT")?.ok()?;
    // A portal that is read in pieces, of a statement that is prepared once.
    client
        .exchange(&[parse("s", "SELECT id FROM notes ORDER BY id"), sync()].concat())?
        .ok()?;
    client.query("BEGIN")?.ok()?;
    let pieces = [
        bind("p", "s", &[]),
        execute("p", 3),
        execute("p", 4),
        sync(),
    ];
    let reply = client.exchange(&pieces.concat())?.ok()?;
    ensure!(reply.rows().len() == 7, "{:?}", reply.rows());
    client.query("COMMIT")?.ok()?;
    client.close()
}

fn copy(running: &Running<'_>) -> Result<()> {
    let mut client = running.client()?;
    let out = client.query("COPY (SELECT id, email, card_number FROM customers) TO STDOUT")?;
    let lines: Vec<String> = out
        .0
        .iter()
        .filter(|message| message.tag == b'd')
        .map(|message| String::from_utf8_lossy(&message.body).into_owned())
        .collect();
    ensure!(lines.len() == 3, "{lines:?}");
    without_raw(&lines.concat())?;
    client.send(&query("COPY notes FROM STDIN"))?;
    client.until(b'G')?;
    client.send(&message(b'd', b"901\tcopied\n"))?;
    client.send(&message(b'c', b""))?;
    ensure!(client.until_ready()?.ok()?.commands() == ["COPY 1"]);
    client
        .query("UPDATE notes SET body = 'changed' WHERE id = 901")?
        .ok()?;
    let denied = client.query("COPY orders FROM STDIN")?.error()?;
    ensure!(denied.code == "42501", "{denied:?}");
    client.close()
}

/// What a catalog has to tell about: made before the sidecar first reads it.
fn make_objects(lab: &Lab) -> Result<()> {
    lab.database.sql(
        "CREATE VIEW contacts AS SELECT id, email AS reach FROM customers;
         CREATE MATERIALIZED VIEW kept AS SELECT email FROM customers;
         CREATE FUNCTION mails() RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT email FROM customers';
         CREATE TABLE parted (id int, body text) PARTITION BY RANGE (id);
         CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
         INSERT INTO parted VALUES (1, 'one');
         GRANT SELECT ON contacts, kept, parted, parted_1 TO PUBLIC",
    )?;
    lab.policy(
        "objects",
        "  - {name: objects, action: Allow, sql: {effects: [Read], relations: [public.contacts, public.kept, public.parted]}}
  - {name: mails, action: Allow, sql: {effects: [Execute], functions: [public.mails]}}",
    )
}

/// Views, functions and partitions are found in the catalog of every version.
fn catalog_facts(running: &Running<'_>) -> Result<()> {
    let mut client = running.client()?;
    let mut read = |sql: &str| -> Result<String> {
        let rows = format!("{:?}", client.query(sql)?.ok()?.rows());
        without_raw(&rows)?;
        Ok(rows)
    };
    ensure!(read("SELECT reach FROM contacts")?.contains("[masked]"));
    read("SELECT email FROM kept")?;
    read("SELECT mails()")?;
    ensure!(read("SELECT body FROM parted")?.contains("one"));
    read("SELECT c.relkind FROM pg_catalog.pg_class c WHERE relname = 'orders'")?;
    // What psql asks of a catalog when somebody looks around.
    let said = running.psql("\\d customers\n\\dt\n\\df\n\\dn\n")?;
    ensure!(
        said.out.contains("card_number") && said.out.contains("reporting"),
        "{}",
        said.all()
    );
    Ok(())
}

/// Names mean what the server's search_path says, whether it reports it (18) or is asked.
fn search_path(running: &Running<'_>) -> Result<()> {
    let mut client = running.client()?;
    let denied = client.query("SELECT amount FROM totals")?.error()?;
    ensure!(
        ["42501", "42P01"].contains(&denied.code.as_str()),
        "{denied:?}"
    );
    client.query("SET search_path = reporting, public")?.ok()?;
    ensure!(
        client
            .query("SELECT amount FROM totals")?
            .ok()?
            .rows()
            .len()
            == 2
    );
    client.query("BEGIN")?.ok()?;
    client.query("SET LOCAL search_path = hidden")?.ok()?;
    let error = client.query("SELECT amount FROM salaries")?.error()?;
    ensure!(error.code == "42501", "{error:?}");
    client.query("ROLLBACK")?.ok()?;
    // Back to what it was before the transaction.
    ensure!(
        client
            .query("SELECT amount FROM totals")?
            .ok()?
            .rows()
            .len()
            == 2
    );
    let error = client.query("SELECT amount FROM salaries")?.error()?;
    ensure!(["42501", "42P01"].contains(&error.code.as_str()));
    // The same text, prepared once, reads what the path says when it runs.
    client
        .exchange(&[parse("n", "SELECT amount FROM totals"), sync()].concat())?
        .ok()?;
    client.query("RESET search_path")?.ok()?;
    let after = client.exchange(&[bind("", "n", &[]), execute("", 0), sync()].concat())?;
    ensure!(after.errors().len() == 1, "{:?}", after.rows());
    client.close()
}

/// A client of PostgreSQL 18 asks for 3.2 and gets a key as long as it may be.
fn protocol_3_2(running: &Running<'_>) -> Result<()> {
    let database = running.lab.database.name.as_str();
    let mut client = Client::dial(running.lab.port())?;
    let mut startup = raw::startup(&[("user", "agent"), ("database", database)]);
    startup
        .get_mut(4..8)
        .context("a startup packet has a version")?
        .copy_from_slice(&196_610_u32.to_be_bytes());
    client.send(&startup)?;
    let greeting = client.until_ready()?.ok()?;
    let key = greeting.0.iter().find(|message| message.tag == b'K');
    let key = key.context("no BackendKeyData")?;
    ensure!(key.body.len() > 8, "a key of {} bytes", key.body.len());
    ensure!(client.query("SELECT 1")?.ok()?.value().as_deref() == Some("1"));
    cancelled(running, &mut client, &key.body.clone())?;
    client.close()
}

fn cancel(running: &Running<'_>) -> Result<()> {
    let mut client = running.client()?;
    let key = client.key.clone();
    cancelled(running, &mut client, &key)?;
    client.close()
}

fn cancelled(running: &Running<'_>, client: &mut Client, key: &[u8]) -> Result<()> {
    let database = &running.lab.database;
    client.send(&query("SELECT pg_sleep(600)"))?;
    wait_for("the statement to run", DEADLINE, || {
        let running = database.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(600)%'",
        )?;
        Ok((running == "1").then_some(()))
    })?;
    raw::cancel(running.lab.port(), key)?;
    let error = client.until_ready()?.error()?;
    ensure!(error.code == "57014", "{error:?}");
    ensure!(client.query("SELECT 1")?.ok()?.value().as_deref() == Some("1"));
    Ok(())
}

/// The sidecar shows a certificate where a password would be, and the agent notices nothing.
#[test]
fn a_client_certificate_logs_in_to_the_newest_servers() -> Result<()> {
    needs::install(&[Need::Maven, Need::Xz, Need::Releases], true)?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let signed = |name: &str| -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        // The server takes the role's name from here.
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &authority)?;
        Ok((certificate.pem(), key.serialize_pem()))
    };
    let (certificate, key) = signed("certificate_user")?;
    let block = |pem: &str| {
        let lines = pem.lines().map(|line| format!("    {line}\n"));
        format!("|\n{}", lines.collect::<String>())
    };
    for major in [17, 18] {
        let mut settings = Settings::for_tests();
        settings.release = Some(Release::of(major)?);
        settings.tls = Some(signed("server")?);
        settings.client_ca = Some(authority.pem());
        let server = Arc::new(server::seeded(settings)?);
        server.sql("postgres", "CREATE ROLE certificate_user LOGIN")?;
        let database = Database::on(&server)?;
        let (port, name) = (database.port, database.name.clone());
        let lab = Lab::behind(database, port)?;
        lab.policy("all", RULES)?;
        lab.manifest(
            "ca.yaml",
            &format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca, namespace: databases}}\n\
                 data:\n  ca.crt: {}",
                block(&authority.pem())
            ),
        )?;
        lab.manifest(
            "secret.yaml",
            &format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: agent, namespace: databases}}\n\
                 stringData:\n  username: certificate_user\n  tls.crt: {}  tls.key: {}",
                block(&certificate),
                block(&key)
            ),
        )?;
        lab.connection(&format!(
            "  postgres:\n    host: 127.0.0.1\n    port: {port}\n    database: {name}\n    \
             tls: {{mode: VerifyFull, ca: {{configMap: {{name: ca, key: ca.crt}}}}}}\n    \
             credential: {{secret: {{name: agent}}}}\n  consumers: {{namespaceSelector: {{}}}}\n"
        ))?;
        let running = lab.start()?;
        let said = running.psql("SELECT current_user, count(*) FROM notes;\n")?;
        ensure!(said.out.trim() == "certificate_user|20", "{}", said.all());
        running.stop()?;
        lab.verify()?;
    }
    Ok(())
}
