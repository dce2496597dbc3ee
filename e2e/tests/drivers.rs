//! Unmodified clients work under one Allow rule on one table, and nothing else.

use anyhow::{Result, ensure};
use chaperone_e2e::Lab;

fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.policy(
        "one",
        "  - {name: one, action: Allow, sql: {effects: [Read], relations: [public.notes]}}",
    )?;
    Ok(lab)
}

mod drivers_connect_under_one_single_table_rule {
    use super::*;

    #[test]
    fn psql_with_its_catalog_commands() -> Result<()> {
        let lab = lab()?;
        let running = lab.start()?;
        let script = "\\conninfo\n\\d\n\\dt\n\\dt+\n\\d notes\n\\d+ notes\n\\dn\n\\dn+\n\\du\n\\df\n\\dv\n\\di\n\\ds\n\\dT\n\\dx\n\\l\n\
                      \\d customers\n\\dp notes\n\\encoding\nSHOW server_version;\nSET search_path = public;\n\
                      SELECT current_user, current_database(), version() IS NOT NULL;\n\
                      SELECT body FROM notes WHERE id = 1;\n\\gdesc\n";
        let said = running.psql(script)?;
        ensure!(said.code == Some(0), "{}", said.all());
        ensure!(
            !said.err.contains("ERROR") && !said.err.contains("FATAL"),
            "{}",
            said.all()
        );
        for expected in ["notes|table", "body", "note 1", "reporting"] {
            ensure!(
                said.out.contains(expected),
                "no {expected:?} in {}",
                said.all()
            );
        }
        // What no rule covers is still denied.
        let said = running.psql("SELECT * FROM customers;\nSELECT 'alive';\n")?;
        ensure!(
            said.err.contains("42501")
                && said.err.contains("NotCovered")
                && said.out.contains("alive"),
            "{}",
            said.all()
        );
        Ok(())
    }

    /// Without LANG psql asks for SQL_ASCII.
    #[test]
    fn psql_with_lang_unset() -> Result<()> {
        let lab = lab()?;
        lab.database
            .sql("INSERT INTO notes VALUES (500, 'Grüße ✓')")?;
        let running = lab.start()?;
        for lang in [None, Some("C"), Some("C.UTF-8")] {
            let mut command = running.psql_command()?;
            for name in ["LANG", "LC_ALL", "LC_CTYPE", "LANGUAGE", "PGCLIENTENCODING"] {
                command.env_remove(name);
            }
            if let Some(lang) = lang {
                command.env("LANG", lang);
            }
            let said = chaperone_e2e::clients::run(
                command,
                "\\d notes\nSELECT body FROM notes WHERE id = 500;\n",
            )?;
            ensure!(
                said.code == Some(0) && said.out.contains("Grüße ✓"),
                "LANG {lang:?}: {}",
                said.all()
            );
        }
        Ok(())
    }

    #[test]
    fn psycopg_connects_reads_and_introspects() -> Result<()> {
        let lab = lab()?;
        let running = lab.start()?;
        let said = running.python(
            r#"
import psycopg
from psycopg.rows import dict_row
with psycopg.connect(application_name="promises", options="-c statement_timeout=30000", row_factory=dict_row) as c:
    assert c.info.server_version >= 130000, c.info.server_version
    assert c.info.encoding == "utf-8", c.info.encoding
    print("read", c.execute("SELECT id, body FROM notes WHERE id = %s", [2]).fetchone())
    for _ in range(12):
        c.execute("SELECT body FROM notes WHERE id = %s", [3], prepare=True).fetchone()
    print("many", len(c.execute("SELECT id FROM notes").fetchall()))
    with c.cursor(name="server_side") as cursor:
        cursor.itersize = 3
        cursor.execute("SELECT id FROM notes ORDER BY id")
        print("cursor", sum(row["id"] for row in cursor))
    with c.cursor(binary=True) as cursor:
        print("binary", cursor.execute("SELECT id, body FROM notes WHERE id = 4").fetchone())
    c.rollback()
    columns = c.execute("""SELECT column_name, data_type FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name = 'notes' ORDER BY ordinal_position""").fetchall()
    print("columns", [r["column_name"] for r in columns])
    tables = c.execute("SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
        "ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind = ANY(%s) ORDER BY 1", ["public", ["r", "v"]]).fetchall()
    print("tables", [r["relname"] for r in tables])
    types = c.execute("SELECT t.oid, typarray FROM pg_type t WHERE t.oid = to_regtype(%s)", ["numeric"]).fetchone()
    print("type", types["oid"])
    print("set", c.execute("SET TIME ZONE 'UTC'").statusmessage, c.execute("SHOW timezone").fetchone())
with psycopg.connect() as c:
    try:
        c.execute("SELECT * FROM customers")
    except psycopg.errors.InsufficientPrivilege as error:
        print("denied", error.sqlstate)
"#,
        )?;
        ensure!(said.code == Some(0), "{}", said.all());
        for expected in [
            "read {'id': 2, 'body': 'note 2'}",
            "many 20",
            "cursor 210",
            "binary {'id': 4, 'body': 'note 4'}",
            "columns ['id', 'body']",
            "'notes'",
            "type 1700",
            "set SET",
            "denied 42501",
        ] {
            ensure!(
                said.out.contains(expected),
                "no {expected:?} in {}",
                said.all()
            );
        }
        Ok(())
    }

    #[test]
    fn psycopg_pools_and_goes_asynchronous() -> Result<()> {
        let lab = lab()?;
        let running = lab.start()?;
        let said = running.python(
            r#"
import asyncio, psycopg
from concurrent.futures import ThreadPoolExecutor
from psycopg_pool import AsyncConnectionPool, ConnectionPool
with ConnectionPool("", min_size=2, max_size=4, check=ConnectionPool.check_connection,
                    reset=lambda c: c.execute("DISCARD ALL") if c.autocommit else None,
                    kwargs={"autocommit": True, "prepare_threshold": None}) as pool:
    pool.wait()
    def one(n):
        with pool.connection() as c:
            return c.execute("SELECT body FROM notes WHERE id = %s", [1 + n % 20]).fetchone()[0]
    with ThreadPoolExecutor(8) as workers:
        print("pooled", len(set(workers.map(one, range(60)))))
async def main():
    async with AsyncConnectionPool("", min_size=1, max_size=3) as pool:
        async def one(n):
            async with pool.connection() as c:
                return (await (await c.execute("SELECT %s::int", [n])).fetchone())[0]
        print("async", sum(await asyncio.gather(*[one(n) for n in range(20)])))
asyncio.run(main())
"#,
        )?;
        ensure!(
            said.out.contains("pooled 20") && said.out.contains("async 190"),
            "{}",
            said.all()
        );
        running.stop()?;
        lab.verify()
    }
}
