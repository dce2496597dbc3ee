"""asyncpg, which speaks the extended protocol and binary wherever it can, and looks into pg_type."""

import asyncio
import io
import json
import sys

import asyncpg
from asyncpg.exceptions import PostgresError


async def failed(awaitable):
    try:
        return repr(await awaitable)
    except PostgresError as error:
        return f"{error.sqlstate} {type(error).__name__} {error}"


async def transcript():
    notices = []
    c = await asyncpg.connect(ssl="prefer", statement_cache_size=50, server_settings={"application_name": "driver", "jit": "off"})
    c.add_log_listener(lambda _, message: notices.append((message.sqlstate, str(message))))
    print("server", c.get_server_version(), c.get_settings().DateStyle, c.get_settings().client_encoding)
    statement = await c.prepare("SELECT * FROM kinds WHERE id >= $1 ORDER BY id")
    for a in statement.get_attributes():
        print("column", a)
    print("parameters", statement.get_parameters())
    for _ in range(2):
        for row in await statement.fetch(1):
            for name, value in row.items():
                print(name, type(value).__name__, repr(value))
    print(await statement.explain(1) is not None, statement.get_statusmsg())
    # Values of each type, decoded, encoded and decoded again.
    row = await c.fetchrow("SELECT * FROM kinds WHERE id = 1")
    for name, value in list(row.items())[1:]:
        print("sent", name, await c.fetch(f"INSERT INTO kinds (id, {name}) VALUES ($1, $2) RETURNING {name}", 1000, value))
        await c.execute("DELETE FROM kinds WHERE id = 1000")
    # Status, errors, savepoints.
    print(await c.execute("INSERT INTO notes VALUES (100, 'a'), (101, 'b')"))
    print(await c.execute("UPDATE notes SET body = $1 WHERE id >= 100", "Grüße"))
    print(await c.fetchval("SELECT body FROM notes WHERE id = $1", 100))
    try:
        async with c.transaction(isolation="serializable"):
            await c.execute("DELETE FROM notes WHERE id = 100")
            try:
                async with c.transaction():
                    await c.execute("INSERT INTO notes VALUES (1, 'again')")
            except asyncpg.UniqueViolationError as error:
                print("unique", error.sqlstate, error.constraint_name, error.detail, error.table_name)
            print("inside", await c.fetchval("SELECT count(*) FROM notes"))
            raise KeyError
    except KeyError:
        print("rolled back", await c.fetchval("SELECT count(*) FROM notes"), c.is_in_transaction())
    print("division", await failed(c.fetch("SELECT 1 / $1::int", 0)))
    print("column", await failed(c.fetch("SELECT nothing FROM notes")))
    print("syntax", await failed(c.fetch("SELECT 'x'::int")))
    await c.execute("CREATE TABLE IF NOT EXISTS notes (id int)")
    await c.execute("ROLLBACK")
    print("notices", notices)
    # Pipelined: one Parse, many Binds.
    await c.executemany("INSERT INTO notes VALUES ($1, $2)", [(n, f"n{n}") for n in range(1000, 3000)])
    print("many", await c.fetchrow("SELECT count(*), sum(id), max(body) FROM notes"))
    print("bad many", await failed(c.executemany("INSERT INTO notes VALUES ($1, $2)", [(5000, "x"), (1, "again"), (5001, "y")])))
    print("after", await c.fetchval("SELECT count(*) FROM notes WHERE id >= 5000"))
    print("many rows", await c.fetchmany("INSERT INTO notes VALUES ($1, $2) RETURNING id", [(6000, "x"), (6001, "y")]))
    await c.execute("DELETE FROM notes WHERE id >= 1000; DELETE FROM notes WHERE id >= 100")
    # Cursors.
    async with c.transaction():
        seen = [r[0] async for r in c.cursor("SELECT n FROM generate_series(1, $1) n", 2000, prefetch=150)]
        print("cursor", len(seen), sum(seen))
        cursor = await c.cursor("SELECT n, repeat('y', 50) FROM generate_series(1, 100) n")
        await cursor.forward(10)
        print("moved", (await cursor.fetchrow())[0], len(await cursor.fetch(200)))
    rows = await c.fetch("SELECT n, md5(n::text), n::numeric / 7 FROM generate_series(1, 50000) n")
    print("large", len(rows), rows[49999])
    # COPY.
    print(await c.copy_records_to_table("notes", records=[(n, f"c{n}") for n in range(300, 320)], columns=["id", "body"]))
    print(await c.copy_to_table("notes", source=io.BytesIO(b"400,x\n401,\"y,z\"\n"), format="csv"))
    for format in ("text", "csv", "binary"):
        out = io.BytesIO()
        print(await c.copy_from_query("SELECT id, nu, tstz FROM kinds WHERE id > $1 ORDER BY id", 0, output=out, format=format), out.getvalue())
    print("bad copy", await failed(c.copy_to_table("notes", source=io.BytesIO(b"x\ty\n"))))
    await c.execute("DELETE FROM notes WHERE id >= 300")
    # Notifications.
    heard = asyncio.Queue()
    await c.add_listener("jobs", lambda _, __, channel, payload: heard.put_nowait((channel, payload)))
    await c.execute("NOTIFY jobs, 'first'")
    await c.fetch("SELECT pg_notify('jobs', $1)", "second")
    print("notified", await heard.get(), await heard.get())
    # Cancellation, as asyncpg does it: by a timeout of the client's own.
    print("cancelled 57014", await cancelled(c), await c.fetchval("SELECT 'alive'"))
    await c.execute("SET statement_timeout = 2000")
    print("timeout", await failed(c.fetch("SELECT pg_sleep(60)")))
    await c.execute("RESET statement_timeout")
    print("locks", await c.fetchrow("SELECT pg_try_advisory_lock(7), pg_advisory_unlock(7)"))
    # Codecs, which read pg_type by themselves.
    await c.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    await c.set_type_codec("mood", encoder=str, decoder=str.upper, schema="public", format="text")
    print("codecs", await c.fetchrow("SELECT jb, en, $1::jsonb AS sent, $2::mood AS own FROM kinds WHERE id = 1", {"x": [1]}, "sad"))
    await c.reset()
    # A statement that was prepared before its table changed.
    await c.execute("CREATE TABLE changing (a int)")
    print(await c.fetch("SELECT * FROM changing"))
    await c.execute("ALTER TABLE changing ADD b text DEFAULT 'new'; INSERT INTO changing VALUES (1)")
    print("changed", await failed(c.fetch("SELECT * FROM changing")), await failed(c.fetch("SELECT * FROM changing")))
    await c.execute("DROP TABLE changing")
    await c.close()
    # A pool, which resets each connection that comes back.
    async with asyncpg.create_pool(min_size=2, max_size=4) as pool:
        async def one(n):
            async with pool.acquire() as c:
                await c.execute("SET application_name = 'changed'")
                return await c.fetchval("SELECT body FROM notes WHERE id = $1", 1 + n % 20)

        print("pooled", await asyncio.gather(*[one(n) for n in range(40)]))
        print("reset", await pool.fetchval("SHOW application_name"))


async def cancelled(c):
    try:
        await c.fetch("SELECT pg_sleep(60)", timeout=0.3)
        return "passed"
    except asyncio.TimeoutError:
        return "TimeoutError"


async def code(awaitable):
    try:
        await awaitable
        return "passed"
    except PostgresError as error:
        return f"{error.sqlstate} {type(error).__name__}"


async def denied():
    c = await asyncpg.connect()
    print("read", await code(c.fetch("SELECT * FROM forbidden WHERE id = $1", 1)))
    print("simple", await code(c.execute("DELETE FROM forbidden")))
    try:
        async with c.transaction():
            await c.execute("INSERT INTO notes VALUES (500, 'lost')")
            print("inside", await code(c.execute("INSERT INTO forbidden VALUES ($1, 'x')", 9)))
            print("then", await code(c.fetch("SELECT 1")))
            raise KeyError
    except KeyError:
        pass
    async with c.transaction():
        await c.execute("INSERT INTO notes VALUES (501, 'kept')")
        try:
            async with c.transaction():
                await c.fetch("SELECT * FROM forbidden")
        except PostgresError as error:
            print("savepoint", error.sqlstate)
    print("many", await code(c.executemany("INSERT INTO forbidden VALUES ($1, $2)", [(n, "x") for n in range(100)])))
    print("copy", await code(c.copy_records_to_table("forbidden", records=[(1, "x")])))
    print("two", await code(c.execute("INSERT INTO notes VALUES (502, 'lost'); DELETE FROM forbidden")))
    print("alive", await c.fetch("SELECT id, body FROM notes WHERE id >= 500"))


async def masked():
    c = await asyncpg.connect()
    async with c.transaction():
        show(await c.fetchrow("SELECT * FROM people WHERE id = $1", 1))
        show(await (await c.cursor("SELECT * FROM people")).fetchrow())
    statement = await c.prepare("SELECT * FROM people")
    show((await statement.fetch())[0])


def show(row):
    id_, email, profile, *rest = row
    born, score, tags = ["NULL" if v is None else repr(v) for v in rest]
    print(f"masked id={id_} email={email} profile={profile} born={born} score={score} tags={tags}")


asyncio.run({"transcript": transcript, "denied": denied, "masked": masked}[sys.argv[1]]())
if sys.argv[1] == "transcript":
    print("end")
