// node-postgres: text through the simple and extended protocol, binary where it is asked for, named
// statements, cursors and COPY streams.

import { once } from "node:events";
import { createHash } from "node:crypto";
import { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { inspect } from "node:util";
import pg from "pg";
import Cursor from "pg-cursor";
import copy from "pg-copy-streams";

const say = (...words) =>
  console.log(words.map((word) => (typeof word === "string" ? word : inspect(word, { depth: 9, breakLength: Infinity, maxArrayLength: null }))).join(" "));

async function connect(settings = {}) {
  const client = new pg.Client({ application_name: "driver", ...settings });
  client.notices = [];
  client.on("notice", (notice) => client.notices.push(`${notice.code} ${notice.severity} ${notice.message}`));
  client.on("error", () => {});
  await client.connect();
  return client;
}

function rows(what, result) {
  for (const one of Array.isArray(result) ? result : [result]) {
    say(what, one.command, one.rowCount, one.oid);
    for (const field of one.fields) say("  column", { ...field });
    for (const row of one.rows) say("  ", row);
  }
}

async function failed(promise) {
  try {
    await promise;
    return "passed";
  } catch (error) {
    const { code, severity, message, detail, hint, position, where, table, column, constraint } = error;
    return inspect({ code, severity, message, detail, hint, position, where, table, column, constraint }, { breakLength: Infinity });
  }
}

async function transcript() {
  const c = await connect();
  rows("simple", await c.query("SELECT * FROM kinds ORDER BY id"));
  rows("array", await c.query({ text: "SELECT * FROM kinds WHERE id > $1 ORDER BY id", values: [0], rowMode: "array" }));
  rows("binary", await c.query({ text: "SELECT id, bo, i2, i4, f4, f8, te, ts, tstz, ia FROM kinds WHERE id > $1 ORDER BY id", values: [0], binary: true }));
  for (let n = 1; n < 4; n++) rows("named", await c.query({ name: "one", text: "SELECT body FROM notes WHERE id = $1", values: [n] }));
  rows("several", await c.query("SELECT 1 AS a; UPDATE notes SET body = body WHERE id < 3; SELECT 'x' AS b WHERE false"));
  rows("sent", await c.query("SELECT $1::int[] a, $2::text b, $3::timestamptz c, $4::bytea d, $5::jsonb e, $6::mood f, $7::bool g", [[1, null], "ä'\\", new Date(0), Buffer.from([0, 255]), { a: 1 }, "ok", true]));
  rows("inserted", await c.query("INSERT INTO notes VALUES ($1, $2) RETURNING *", [100, "x"]));
  // Errors, transactions, savepoints.
  await c.query("BEGIN ISOLATION LEVEL SERIALIZABLE");
  await c.query("SAVEPOINT a");
  say("unique", await failed(c.query("INSERT INTO notes VALUES (1, 'again')")));
  say("aborted", await failed(c.query("SELECT $1::int", [1])));
  await c.query("ROLLBACK TO a");
  say("column", await failed(c.query("SELECT nothing FROM notes WHERE id = $1", [1])));
  await c.query("ROLLBACK");
  say("division", await failed(c.query("SELECT 1 / $1::int", [0])));
  say("bad value", await failed(c.query("SELECT $1::int", ["x"])));
  await c.query("CREATE TABLE IF NOT EXISTS notes (id int)");
  await c.query("ROLLBACK");
  say("notices", c.notices);
  // Queued all at once, one of them wrong.
  const queued = [1, 2, 0, 3].map((n) => failed(c.query("SELECT 6 / $1::int AS n", [n])));
  say("queued", await Promise.all(queued));
  // Cursors, COPY, large results.
  const cursor = c.query(new Cursor("SELECT n FROM generate_series(1, $1) n", [1000]));
  let sum = 0;
  for (let part = await cursor.read(150); part.length > 0; part = await cursor.read(150)) for (const row of part) sum += row.n;
  await cursor.close();
  say("cursor", sum);
  const into = c.query(copy.from("COPY notes FROM STDIN WITH (FORMAT csv)"));
  await pipeline(Readable.from(["300,x\n301,\"y", ",z\"\n"]), into);
  say("copied in", into.rowCount);
  say("bad copy", await failed(pipeline(Readable.from(["x\ty\n"]), c.query(copy.from("COPY notes FROM STDIN")))));
  for (const format of ["text", "csv", "binary"]) {
    const parts = [];
    const collect = new Writable({ write: (part, _, next) => (parts.push(part), next()) });
    await pipeline(c.query(copy.to(`COPY (SELECT id, nu, tstz FROM kinds ORDER BY id) TO STDOUT (FORMAT ${format})`)), collect);
    say("copied out", Buffer.concat(parts).toString("latin1"));
  }
  await c.query("DELETE FROM notes WHERE id >= 100");
  const large = await c.query("SELECT n, md5(n::text) FROM generate_series(1, $1) n", [40000]);
  say("large", large.rowCount, createHash("sha256").update(JSON.stringify(large.rows)).digest("hex"));
  // Notifications.
  await c.query("LISTEN jobs");
  const heard = once(c, "notification");
  await c.query("SELECT pg_notify('jobs', $1)", ["first"]);
  const [{ channel, payload }] = await heard;
  say("notified", channel, payload);
  await c.query("UNLISTEN *");
  rows("locks", await c.query("SELECT pg_try_advisory_lock($1), pg_advisory_unlock($1)", [7]));
  await c.query("SET statement_timeout = 2000");
  say("timeout", await failed(c.query("SELECT pg_sleep(60)")));
  rows("reset", await c.query("DISCARD ALL"));
  await c.end();
  // Startup options.
  const strict = await connect({ statement_timeout: 2000, options: "-c default_transaction_read_only=on" });
  say("strict", await failed(strict.query("SELECT pg_sleep(60)")), await failed(strict.query("DELETE FROM notes")));
  await strict.end();
  // A pool.
  const pool = new pg.Pool({ max: 4 });
  const all = await Promise.all(Array.from({ length: 30 }, (_, n) => pool.query("SELECT body FROM notes WHERE id = $1", [1 + (n % 20)])));
  say("pooled", all.map((result) => result.rows[0].body));
  await pool.end();
}

const code = async (promise) => {
  try {
    await promise;
    return "passed";
  } catch (error) {
    return `${error.code} ${error.name}`;
  }
};

async function denied() {
  const c = await connect();
  say("read", await code(c.query("SELECT * FROM forbidden")), await code(c.query("SELECT * FROM forbidden WHERE id = $1", [1])));
  say("named", await code(c.query({ name: "bad", text: "DELETE FROM forbidden WHERE id = $1", values: [1] })));
  say("again", await code(c.query({ name: "bad", text: "DELETE FROM forbidden WHERE id = $1", values: [1] })));
  await c.query("BEGIN");
  await c.query("INSERT INTO notes VALUES (500, 'kept')");
  await c.query("SAVEPOINT a");
  say("inside", await code(c.query("INSERT INTO forbidden VALUES ($1, 'x')", [9])), await code(c.query("SELECT 1")));
  await c.query("ROLLBACK TO a");
  await c.query("COMMIT");
  const texts = ["INSERT INTO notes VALUES ($1, 'x')", "INSERT INTO forbidden VALUES ($1, 'x')", "DELETE FROM notes WHERE id = $1"];
  say("queued", await Promise.all(texts.map((text) => code(c.query(text, [600])))));
  say("two", await code(c.query("INSERT INTO notes VALUES (601, 'lost'); DELETE FROM forbidden")));
  say("cursor", await code(c.query(new Cursor("SELECT * FROM forbidden")).read(1)));
  say("copy in", await code(pipeline(Readable.from(["1\tx\n"]), c.query(copy.from("COPY forbidden FROM STDIN")))));
  say("copy out", await code(pipeline(c.query(copy.to("COPY forbidden TO STDOUT")), new Writable({ write: (_, __, next) => next() }))));
  rows("alive", await c.query("SELECT * FROM notes WHERE id >= 500"));
  await c.end();
}

async function masked() {
  const c = await connect();
  const text = "SELECT * FROM people";
  for (const query of [{ text }, { text: `${text} WHERE id = $1`, values: [1] }]) {
    const [{ id, email, profile, born, score, tags }] = (await c.query(query)).rows;
    const [a, b, d] = [born, score, tags].map((value) => (value === null ? "NULL" : inspect(value)));
    say(`masked id=${id} email=${email} profile=${JSON.stringify(profile)} born=${a} score=${b} tags=${d}`);
  }
  await c.end();
}

await { transcript, denied, masked }[process.argv[2]]();
if (process.argv[2] === "transcript") say("end");
