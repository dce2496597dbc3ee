//! What is denied never reaches the server, and the session goes on as after a server's error.

use anyhow::{Result, ensure};
use chaperone_e2e::raw::{self, Client, bind, describe, execute, extended, parse, query, sync};
use chaperone_e2e::relay::Direction;
use chaperone_e2e::{Database, Lab, Relay, Running};

/// Reads and inserts on notes are allowed; deletes are denied by a rule, all else by nothing.
const NOTES: &str = "
  - {name: notes, action: Allow, sql: {effects: [Read, Write, Modify], relations: [public.notes]}}
  - {name: no-deletes, action: Deny, sql: {effects: [Delete]}, message: Rows are never deleted here.}";

/// The statement that must not arrive. Its comment is what is looked for.
const DENIED: &str = "DELETE FROM notes /* the-denied-one */";

struct Tapped {
    lab: Lab,
    upstream: Relay,
}

fn tapped() -> Result<Tapped> {
    let database = Database::new()?;
    let upstream = Relay::to(database.port)?;
    let lab = Lab::behind(database, upstream.port())?;
    lab.policy("notes", NOTES)?;
    Ok(Tapped { lab, upstream })
}

impl Tapped {
    fn nothing_arrived(&self) -> Result<()> {
        ensure!(
            !self.upstream.saw(Direction::ToServer, "the-denied-one"),
            "its bytes went to the server"
        );
        ensure!(
            !self.lab.database.saw("the-denied-one")?,
            "the server logged it"
        );
        let left = self.lab.database.sql("SELECT count(*) FROM notes")?;
        ensure!(left == "20", "the table has {left} rows");
        Ok(())
    }
}

fn is_our_denial(reply: &raw::Reply) -> Result<()> {
    let error = reply.error()?;
    ensure!(
        error.severity == "ERROR" && error.code == "42501",
        "{error:?}"
    );
    ensure!(
        error.text().contains("DeniedByRule"),
        "no reason in {error:?}"
    );
    ensure!(error.text().contains("no-deletes"), "no rule in {error:?}");
    Ok(())
}

fn still_works(client: &mut Client) -> Result<()> {
    let reply = client.query("SELECT body FROM notes WHERE id = 7")?.ok()?;
    ensure!(
        reply.value().as_deref() == Some("note 7"),
        "{:?}",
        reply.rows()
    );
    ensure!(reply.state() == Some('I'), "{:?}", reply.state());
    Ok(())
}

#[test]
fn denied_statement_never_reaches_the_target() -> Result<()> {
    let tapped = tapped()?;
    let running = tapped.lab.start()?;

    let said = running.psql(&format!("{DENIED};\nSELECT 'alive';\n"))?;
    ensure!(
        said.err.contains("42501") && said.err.contains("no-deletes"),
        "{}",
        said.all()
    );
    ensure!(said.out.contains("alive"), "{}", said.all());

    let said = running.python(&format!(
        "
import psycopg
with psycopg.connect(autocommit=True) as connection:
    for prepare in (False, True):
        try:
            connection.execute('{DENIED}', prepare=prepare)
        except psycopg.errors.InsufficientPrivilege as error:
            print('denied', error.diag.message_primary, error.diag.message_detail)
    print(connection.execute('SELECT count(*) FROM notes').fetchone())
"
    ))?;
    ensure!(
        said.out.matches("denied chaperone").count() == 2 && said.out.contains("(20,)"),
        "{}",
        said.all()
    );

    // Every way to have a statement run.
    let mut client = running.client()?;
    let prepared = format!("PREPARE p AS {DENIED}");
    let explained = format!("EXPLAIN ANALYZE {DENIED}");
    let nested = format!("WITH d AS ({DENIED} RETURNING id) SELECT id FROM d");
    let together = format!("SELECT 1; {DENIED}; SELECT 2");
    for sql in [
        DENIED,
        "TRUNCATE notes /* the-denied-one */",
        &prepared,
        &explained,
        &nested,
        &together,
    ] {
        is_our_denial(&client.query(sql)?)?;
        let reply = client.exchange(&[extended(sql, &[]), sync()].concat())?;
        // The extended protocol takes one statement at a time; that one is no denial.
        if sql == together {
            ensure!(reply.errors().len() == 1);
        } else {
            is_our_denial(&reply)?;
        }
    }
    still_works(&mut client)?;
    tapped.nothing_arrived()?;
    running.stop()?;
    tapped.lab.verify()
}

fn alone(client: &mut Client) -> Result<()> {
    let reply = client.query(DENIED)?;
    is_our_denial(&reply)?;
    ensure!(
        reply.tags() == "EZ" && reply.state() == Some('I'),
        "{}",
        reply.tags()
    );
    still_works(client)?;

    let reply = client.exchange(&[extended(DENIED, &[]), sync()].concat())?;
    is_our_denial(&reply)?;
    ensure!(
        reply.tags() == "EZ" && reply.state() == Some('I'),
        "{}",
        reply.tags()
    );
    still_works(client)
}

fn in_a_transaction(client: &mut Client) -> Result<()> {
    client.query("BEGIN")?.ok()?;
    client
        .query("INSERT INTO notes VALUES (100, 'uncommitted')")?
        .ok()?;
    let reply = client.query(DENIED)?;
    is_our_denial(&reply)?;
    ensure!(reply.state() == Some('E'), "{:?}", reply.state());
    let aborted = client.query("SELECT 1")?;
    ensure!(aborted.error()?.code == "25P02", "{:?}", aborted.errors());
    let end = client.query("COMMIT")?.ok()?;
    ensure!(end.commands() == ["ROLLBACK"], "{:?}", end.commands());
    let rows = client
        .query("SELECT id FROM notes WHERE id = 100")?
        .ok()?
        .rows();
    ensure!(rows.is_empty(), "the transaction was not rolled back");
    still_works(client)?;

    client.query("BEGIN")?.ok()?;
    let reply = client.exchange(&[extended(DENIED, &[]), sync()].concat())?;
    is_our_denial(&reply)?;
    ensure!(reply.state() == Some('E'), "{:?}", reply.state());
    client.query("ROLLBACK")?.ok()?;
    still_works(client)
}

fn after_a_savepoint(client: &mut Client) -> Result<()> {
    client.query("BEGIN")?.ok()?;
    client
        .query("INSERT INTO notes VALUES (101, 'kept')")?
        .ok()?;
    client.query("SAVEPOINT before")?.ok()?;
    client
        .query("INSERT INTO notes VALUES (102, 'dropped')")?
        .ok()?;
    let reply = client.query(DENIED)?;
    is_our_denial(&reply)?;
    ensure!(reply.state() == Some('E'), "{:?}", reply.state());
    let back = client.query("ROLLBACK TO before")?.ok()?;
    ensure!(back.state() == Some('T'), "{:?}", back.state());
    let rows = client
        .query("SELECT id FROM notes WHERE id > 100 ORDER BY id")?
        .ok()?
        .rows();
    ensure!(rows == [[Some("101".to_owned())]], "{rows:?}");
    client.query("ROLLBACK")?.ok()?;
    still_works(client)
}

fn in_a_pipeline(client: &mut Client) -> Result<()> {
    // Denied in the middle: what follows is skipped up to the Sync, as the server would.
    let good = |id: &str| extended("SELECT body FROM notes WHERE id = $1::int", &[Some(id)]);
    let reply = client.exchange(&[good("1"), extended(DENIED, &[]), good("2"), sync()].concat())?;
    is_our_denial(&reply)?;
    ensure!(
        reply.tags() == "12TDCEZ" && reply.state() == Some('I'),
        "{}",
        reply.tags()
    );
    still_works(client)?;

    // Two batches sent at once: the second is untouched by the first one's denial.
    client.send(&[extended(DENIED, &[]), good("3"), sync(), good("4"), sync()].concat())?;
    let first = client.until_ready()?;
    is_our_denial(&first)?;
    ensure!(first.tags() == "EZ", "{}", first.tags());
    let second = client.until_ready()?.ok()?;
    ensure!(
        second.value().as_deref() == Some("note 4"),
        "{}",
        second.tags()
    );

    // The client's own statements survive a denial beside them.
    client
        .exchange(
            &[
                parse("mine", "SELECT body FROM notes WHERE id = $1::int"),
                sync(),
            ]
            .concat(),
        )?
        .ok()?;
    is_our_denial(&client.exchange(&[parse("theirs", DENIED), sync()].concat())?)?;
    let mine = [
        bind("", "mine", &[Some("5")]),
        describe(b'P', ""),
        execute("", 0),
        sync(),
    ]
    .concat();
    ensure!(client.exchange(&mine)?.ok()?.value().as_deref() == Some("note 5"));
    // One that was denied is unknown, with the server's own error.
    let theirs = [bind("", "theirs", &[]), execute("", 0), sync()].concat();
    ensure!(client.exchange(&theirs)?.error()?.code == "26000");
    still_works(client)
}

fn in_a_query_of_many(client: &mut Client) -> Result<()> {
    let reply = client.query(&format!(
        "INSERT INTO notes VALUES (200, 'no'); {DENIED}; SELECT 1"
    ))?;
    is_our_denial(&reply)?;
    ensure!(
        reply.tags() == "EZ" && reply.state() == Some('I'),
        "{}",
        reply.tags()
    );
    let rows = client
        .query("SELECT id FROM notes WHERE id = 200")?
        .ok()?
        .rows();
    ensure!(rows.is_empty(), "one denied means none runs");
    // A query sent right behind, before the answer is read.
    client.send(&[query(DENIED), query("SELECT body FROM notes WHERE id = 8")].concat())?;
    is_our_denial(&client.until_ready()?)?;
    ensure!(client.until_ready()?.ok()?.value().as_deref() == Some("note 8"));
    still_works(client)
}

fn under(case: fn(&mut Client) -> Result<()>) -> Result<()> {
    let tapped = tapped()?;
    let running: Running<'_> = tapped.lab.start()?;
    let mut client = running.client()?;
    case(&mut client)?;
    client.close()?;
    tapped.nothing_arrived()?;
    running.stop()?;
    tapped.lab.verify()
}

mod session_survives_a_denial {
    use super::*;

    #[test]
    fn alone() -> Result<()> {
        under(super::alone)
    }

    #[test]
    fn in_a_transaction() -> Result<()> {
        under(super::in_a_transaction)
    }

    #[test]
    fn after_a_savepoint() -> Result<()> {
        under(super::after_a_savepoint)
    }

    #[test]
    fn in_a_pipeline() -> Result<()> {
        under(super::in_a_pipeline)
    }

    #[test]
    fn in_a_query_of_many_statements() -> Result<()> {
        under(super::in_a_query_of_many)
    }

    #[test]
    fn in_the_pipeline_of_a_driver() -> Result<()> {
        let tapped = tapped()?;
        let running = tapped.lab.start()?;
        let said = running.python(&format!(
            "
import psycopg
with psycopg.connect(autocommit=True) as connection:
    try:
        with connection.pipeline():
            connection.execute('SELECT body FROM notes WHERE id = 1')
            connection.execute('{DENIED}')
            connection.execute('SELECT body FROM notes WHERE id = 2')
    except psycopg.errors.InsufficientPrivilege as error:
        print('denied', error.sqlstate)
    with connection.pipeline():
        print(connection.execute('SELECT body FROM notes WHERE id = %s', [3]).fetchone())
    with connection.transaction():
        try:
            with connection.transaction():
                connection.execute('{DENIED}')
        except psycopg.errors.InsufficientPrivilege as error:
            print('denied inside', error.sqlstate)
        print(connection.execute('SELECT body FROM notes WHERE id = 4').fetchone())
"
        ))?;
        for expected in [
            "denied 42501",
            "('note 3',)",
            "denied inside 42501",
            "('note 4',)",
        ] {
            ensure!(
                said.out.contains(expected),
                "no {expected:?} in {}",
                said.all()
            );
        }
        tapped.nothing_arrived()
    }
}
