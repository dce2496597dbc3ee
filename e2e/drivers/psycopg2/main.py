"""psycopg2, which speaks the simple protocol and text only."""

import io
import os
import sys
import threading

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import psycopg2.pool


def connect():
    return psycopg2.connect("application_name=driver")


def failed(cursor, text, arguments=None):
    try:
        cursor.execute(text, arguments)
        return "passed"
    except psycopg2.Error as error:
        return f"{error.pgcode} {type(error).__name__} {str(error).strip()!r}"


def transcript():
    c = connect()
    print("server", c.server_version, c.encoding, c.get_parameter_status("DateStyle"), c.protocol_version)
    k = c.cursor()
    for type_ in ("", "::text"):
        k.execute(f"SELECT k{type_} FROM kinds k ORDER BY id")
        print(k.fetchall())
    k.execute("SELECT * FROM kinds ORDER BY id")
    for d in k.description:
        print("column", d.name, d.type_code, d.internal_size, d.precision, d.scale, d.table_oid, d.table_column)
    for row in k:
        print([bytes(v) if isinstance(v, memoryview) else v for v in row])
    k.execute("INSERT INTO notes VALUES (%s, %s), (%s, %s) RETURNING id, body", [100, "ä'\\", 101, "b"])
    print("returning", k.fetchall(), k.rowcount, k.statusmessage)
    k.execute("UPDATE notes SET body = body || %s WHERE id >= 100", ["!"])
    print("update", k.rowcount, k.statusmessage)
    psycopg2.extras.execute_values(k, "INSERT INTO notes VALUES %s", [(n, str(n)) for n in range(200, 230)], page_size=10)
    psycopg2.extras.execute_batch(k, "UPDATE notes SET body = %s WHERE id = %s", [(f"v{n}", n) for n in range(200, 230)])
    k.executemany("DELETE FROM notes WHERE id = %s", [[200], [201], [999]])
    print("batches", k.rowcount)
    # Errors, savepoints.
    k.execute("SAVEPOINT a")
    print("unique", failed(k, "INSERT INTO notes VALUES (1, 'again')"))
    print("aborted", failed(k, "SELECT 1"), c.info.transaction_status)
    k.execute("ROLLBACK TO a")
    print("division", failed(k, "SELECT 1/0"))
    k.execute("ROLLBACK TO SAVEPOINT a")
    print("column", failed(k, "SELECT nothing FROM notes"))
    c.rollback()
    k.execute("SELECT count(*) FROM notes")
    print("rolled back", k.fetchone())
    # Notices.
    k.execute("CREATE TABLE IF NOT EXISTS notes (id int)")
    c.commit()
    c.autocommit = True
    k.execute("ROLLBACK")
    print("notices", c.notices)
    for level in ("SERIALIZABLE", "READ COMMITTED"):
        c.set_session(isolation_level=level, readonly=level == "SERIALIZABLE", autocommit=False)
        k.execute("SHOW transaction_isolation")
        print(k.fetchone(), failed(k, "DELETE FROM notes WHERE id = 1"))
        c.rollback()
    # COPY.
    k.copy_expert("COPY notes FROM STDIN WITH (FORMAT csv)", io.StringIO('300,"a,b"\n301,\\N\n'))
    print("copied in", k.rowcount, k.statusmessage)
    for how in ("text", "csv, HEADER", "binary"):
        out = io.BytesIO()
        k.copy_expert(f"COPY (SELECT id, nu, tstz, ba, jb, ia FROM kinds ORDER BY id) TO STDOUT (FORMAT {how})", out)
        print("copied out", k.rowcount, out.getvalue())
    try:
        k.copy_expert("COPY notes FROM STDIN", io.StringIO("not a number\tx\n"))
    except psycopg2.Error as error:
        print("bad copy", error.pgcode, str(error))
    c.rollback()
    # Server-side cursor, large result.
    with c.cursor(name="far", withhold=False, scrollable=True) as far:
        far.itersize = 700
        far.execute("SELECT n, repeat('x', 100) FROM generate_series(1, 5000) n")
        print("cursor", sum(row[0] for row in far))
        far.scroll(10, mode="absolute")
        print("scrolled", far.fetchmany(2)[1][0])
    k.execute("SELECT n, md5(n::text) FROM generate_series(1, 50000) n")
    print("large", hash_of(k.fetchall()))
    c.commit()
    # Notifications.
    c.autocommit = True
    k.execute("LISTEN jobs")
    k.execute("NOTIFY jobs, 'first'")
    k.execute("SELECT pg_notify('jobs', %s)", ["second"])
    k.execute("SELECT 1")
    print("notified", [(n.channel, n.payload) for n in c.notifies])
    k.execute("UNLISTEN *")
    # Advisory locks, prepared statements, two statements in one.
    k.execute("SELECT pg_try_advisory_lock(7), pg_advisory_unlock(7)")
    print("locks", k.fetchall())
    k.execute("PREPARE p(int) AS SELECT body FROM notes WHERE id = $1")
    for n in (1, 2):
        k.execute("EXECUTE p(%s)", [n])
        print("prepared", k.fetchall())
    k.execute("SELECT 1; SELECT 2 AS two")
    print("several", k.description[0].name, k.fetchall())
    # Cancellation: again and again, as nobody can know when the server has begun.
    done = threading.Event()

    def cancel():
        while not done.wait(0.05):
            c.cancel()

    worker = threading.Thread(target=cancel)
    worker.start()
    print("cancelled", failed(k, "SELECT pg_sleep(60)"))
    done.set()
    worker.join()
    # What was cancelled last may still reach the next statement.
    while "57014" in failed(k, "SELECT pg_sleep(0.2)"):
        pass
    k.execute("SET statement_timeout = 2000")
    print("timeout", failed(k, "SELECT pg_sleep(60)"))
    k.execute("RESET statement_timeout")
    # Types of their own.
    c.autocommit = False
    psycopg2.extras.register_uuid()
    print(psycopg2.extras.register_composite("pair", k).oid)
    print("hstore", psycopg2.extras.HstoreAdapter.get_oids(c))
    k.execute("SELECT co, uu, tr FROM kinds ORDER BY id")
    print(k.fetchall())
    c.commit()
    c.reset()
    c.close()
    # A pool.
    pool = psycopg2.pool.ThreadedConnectionPool(1, 3, "")
    for n in range(6):
        d = pool.getconn()
        with d, d.cursor() as k:
            k.execute("SELECT body FROM notes WHERE id = %s", [n + 1])
            print("pooled", k.fetchone())
        pool.putconn(d)
    d = pool.getconn()
    d.autocommit = True
    d.cursor().execute("DISCARD ALL")
    pool.putconn(d)
    pool.closeall()


def hash_of(rows):
    import hashlib

    return hashlib.sha256(repr(rows).encode()).hexdigest()


def code(action):
    try:
        action()
        return "passed"
    except psycopg2.Error as error:
        return f"{error.pgcode} {type(error).__name__}"


def denied():
    c = connect()
    k = c.cursor()
    print("read", code(lambda: k.execute("SELECT * FROM forbidden")))
    print("then", code(lambda: k.execute("SELECT 1")), c.info.transaction_status)
    c.rollback()
    k.execute("INSERT INTO notes VALUES (500, 'kept')")
    k.execute("SAVEPOINT s")
    print("write", code(lambda: k.execute("INSERT INTO forbidden VALUES (%s, 'x')", [9])))
    k.execute("ROLLBACK TO s")
    c.commit()
    k.execute("SELECT body FROM notes WHERE id = 500")
    print("kept", k.fetchall())
    c.commit()
    c.autocommit = True
    print("two", code(lambda: k.execute("INSERT INTO notes VALUES (501, 'lost'); DELETE FROM forbidden")))
    rows = [(n, "x") for n in range(502, 800)]
    print("batch", code(lambda: psycopg2.extras.execute_batch(k, "INSERT INTO forbidden VALUES (%s, %s)", rows)))
    print("values", code(lambda: psycopg2.extras.execute_values(k, "INSERT INTO forbidden VALUES %s", rows)))
    print("copy", code(lambda: k.copy_expert("COPY forbidden FROM STDIN", io.StringIO("7\tx\n"))))
    k.execute("SELECT count(*), max(id) FROM notes")
    print("alive", k.fetchall())


def masked():
    c = connect()
    for cursor in (c.cursor(), c.cursor(name="far")):
        cursor.execute("SELECT * FROM people")
        show(cursor.fetchone())


def show(row):
    import json

    id_, email, profile, born, score, tags = row
    words = [json.dumps(profile)] + ["NULL" if v is None else repr(v) for v in (born, score, tags)]
    print(f"masked id={id_} email={email} profile={words[0]} born={words[1]} score={words[2]} tags={words[3]}")


{"transcript": transcript, "denied": denied, "masked": masked}[sys.argv[1]]()
if sys.argv[1] == "transcript":
    print("end")
