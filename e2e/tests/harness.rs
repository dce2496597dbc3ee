//! The harness itself: what it says about a server is true without a sidecar in between.

use anyhow::{Result, ensure};
use chaperone_e2e::raw::{Client, extended, query, sync};
use chaperone_e2e::relay::Direction;
use chaperone_e2e::{Database, Relay, clients, server};
use xtask::pgbouncer::PgBouncer;

/// Without a sidecar the role may log in with its password only; through PgBouncer, which has the
/// password, anybody may, as with the sidecar.
#[test]
fn clients_log_and_relay_tell_the_same() -> Result<()> {
    let database = Database::new()?;
    // PgBouncer wants a startup packet in one piece; later ones may come in any.
    let pooler = PgBouncer::start(
        database.port,
        &database.name,
        &database.name,
        server::PASSWORD,
    )?;
    let relay = Relay::cutting(pooler.port(), &[3, 400])?;
    let mut client = Client::connect(relay.port(), &database.name)?;
    ensure!(
        client
            .query("SELECT body FROM notes WHERE id = 1")?
            .ok()?
            .value()
            .as_deref()
            == Some("note 1")
    );
    let bound = [extended("SELECT $1::int + 1", &[Some("41")]), sync()].concat();
    ensure!(client.exchange(&bound)?.ok()?.value().as_deref() == Some("42"));
    ensure!(client.exchange(&query("SELECT 1/0"))?.error()?.code == "22012");
    client.send(&raw_terminate())?;
    ensure!(
        relay.saw(Direction::ToServer, "FROM notes")
            && !relay.saw(Direction::ToClient, "FROM notes")
    );
    ensure!(
        database.saw("SELECT body FROM notes")?
            && database.saw("parse <unnamed>: SELECT $1::int")?
    );
    ensure!(!database.saw("never sent")?);

    let bin = server::shared()?.bin();
    let said = clients::run(
        clients::psql(bin, pooler.port(), &database.name),
        "SELECT count(*) FROM orders;\n",
    )?;
    ensure!(said.out.trim() == "100", "{}", said.all());
    let script = "import psycopg; print(psycopg.connect().execute('SELECT 1').fetchone())";
    let said = clients::run(clients::python(pooler.port(), &database.name, script)?, "")?;
    ensure!(said.out.trim() == "(1,)", "{}", said.all());
    Ok(())
}

fn raw_terminate() -> Vec<u8> {
    chaperone_e2e::raw::message(b'X', &[])
}
