// Prisma's client, which needs no engine of its own since version 7, over its adapter for pg.

import { inspect } from "node:util";
import { PrismaPg } from "@prisma/adapter-pg";
import { Prisma, PrismaClient } from "@prisma/client";

const say = (...words) =>
  console.log(words.map((word) => (typeof word === "string" ? word : inspect(word, { depth: 9, breakLength: Infinity, maxArrayLength: null }))).join(" "));

const { PGUSER, PGPASSWORD, PGHOST, PGPORT, PGDATABASE } = process.env;
const connectionString = `postgresql://${PGUSER}:${PGPASSWORD}@${PGHOST}:${PGPORT}/${PGDATABASE}`;
const db = new PrismaClient({ adapter: new PrismaPg({ connectionString, max: 3 }) });

async function failed(promise) {
  try {
    await promise;
    return "passed";
  } catch (error) {
    return `${error.name} ${error.code} ${error.message.split("\n").at(-1)} ${inspect(error.meta, { depth: 9, breakLength: Infinity })}`;
  }
}

async function transcript() {
  say("kinds", await db.kinds.findMany({ where: { id: { lt: 3 } }, orderBy: { id: "asc" } }));
  say(await db.books.findMany({ include: { shelf: true }, orderBy: [{ price: "desc" }, { id: "asc" }], take: 5, skip: 1 }));
  say(await db.shelves.findMany({ select: { label: true, _count: { select: { books: true } }, books: { where: { price: { gt: 5 } }, select: { title: true, mood: true }, orderBy: { id: "asc" } } }, orderBy: { id: "asc" } }));
  say(await db.books.groupBy({ by: ["shelf_id"], _sum: { price: true }, _count: true, orderBy: { shelf_id: "asc" } }));
  say(await db.books.aggregate({ _avg: { price: true }, _max: { title: true } }));
  const shelf = await db.shelves.create({ data: { label: "west", books: { create: [{ title: "a", tags: ["x", "y"] }, { title: "b", mood: "sad" }] } }, include: { books: { orderBy: { title: "asc" } } } });
  say(shelf.label, shelf.books.map(({ title, tags, mood, price }) => ({ title, tags, mood, price })));
  say(await db.notes.createMany({ data: Array.from({ length: 300 }, (_, n) => ({ id: 1000 + n, body: `n${n}` })) }));
  say(await db.notes.createMany({ data: [{ id: 1, body: "x" }], skipDuplicates: true }));
  say(await db.notes.updateMany({ where: { id: { gte: 1000 } }, data: { body: "changed" } }));
  say(await db.notes.upsert({ where: { id: 1 }, update: { body: { set: "up" } }, create: { id: 1, body: "new" } }));
  say("unique", await failed(db.notes.create({ data: { id: 1, body: "again" } })));
  say("missing", await failed(db.notes.findUniqueOrThrow({ where: { id: -1 } })));
  say("foreign", await failed(db.books.create({ data: { title: "x", shelf_id: 999 } })));
  say(await db.$transaction([db.notes.count(), db.notes.deleteMany({ where: { id: { gte: 1200 } } }), db.notes.count()]));
  const undone = db.$transaction(async (tx) => {
    await tx.notes.deleteMany({ where: { id: { gte: 1000 } } });
    say("inside", await tx.notes.count());
    throw new Error("undone");
  }, { isolationLevel: Prisma.TransactionIsolationLevel.Serializable });
  say("rolled back", await failed(undone), await db.notes.count());
  say(await db.$queryRaw`SELECT n, n::numeric / 3 AS third, ${"ä"}::text AS sent, now() IS NULL AS no FROM generate_series(1, ${3}::int) n`);
  say(await db.$executeRaw`DELETE FROM notes WHERE id >= ${1000}`, await failed(db.$queryRawUnsafe("SELECT nothing FROM notes")));
  await db.shelves.delete({ where: { id: shelf.id } });
  say(await Promise.all(Array.from({ length: 20 }, (_, n) => db.notes.findUnique({ where: { id: n + 1 } }))));
}

const code = async (promise) => {
  try {
    await promise;
    return "passed";
  } catch (error) {
    // Prisma has a word of its own for 42501.
    const cause = error.meta?.driverAdapterError?.cause;
    return `${error.name} ${error.code} ${cause?.originalCode ?? cause?.code ?? error.meta?.code}`;
  }
};

async function denied() {
  say("read", await code(db.forbidden.findMany()));
  say("write", await code(db.forbidden.create({ data: { id: 9, body: "x" } })));
  say("many", await code(db.forbidden.createMany({ data: [1, 2, 3].map((id) => ({ id, body: "x" })) })));
  say("batch", await code(db.$transaction([db.notes.create({ data: { id: 500, body: "lost" } }), db.forbidden.deleteMany(), db.notes.create({ data: { id: 501, body: "lost" } })])));
  say("inside", await code(db.$transaction(async (tx) => {
    await tx.notes.create({ data: { id: 502, body: "lost" } });
    await tx.forbidden.findMany();
  })));
  say("raw", await code(db.$executeRaw`DELETE FROM forbidden`));
  say("alive", await db.notes.findMany({ where: { id: { gte: 500 } } }));
}

async function masked() {
  for (const p of [await db.people.findUnique({ where: { id: 1 } }), (await db.people.findMany())[0]]) {
    const [born, score, tags] = [p.born, p.score, p.tags.length === 0 ? null : p.tags].map((value) => (value === null ? "NULL" : inspect(value)));
    say(`masked id=${p.id} email=${p.email} profile=${JSON.stringify(p.profile)} born=${born} score=${score} tags=${tags}`);
  }
}

await { transcript, denied, masked }[process.argv[2]]();
if (process.argv[2] === "transcript") say("end");
await db.$disconnect();
