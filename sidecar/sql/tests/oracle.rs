//! The classification against the server's own account. Each statement runs on a real PostgreSQL
//! in a transaction that is rolled back; the relations that are locked then, the rows that were
//! counted as written, and the functions that were called must all be among what the statement
//! was found to do.
//!
//! Triggers, foreign keys and rules are off (`session_replication_role`): what they do is the
//! schema's, not the statement's. What a function or a view does is behind its name.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "oracle/generator.rs"]
mod generator;
#[path = "support/postgres.rs"]
mod postgres;
mod support;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use chaperone_policy::{Access, Effect, Object};
use chaperone_sql::{Catalog, Context, Kind, Overlay, RelationKind, Statement, classify, parse};

use generator::Generator;
use postgres::Postgres;
use support::NoMasks;

/// What is asked before and after a statement: relation, rows inserted, updated and deleted.
const COUNTERS: &str = "SELECT coalesce(string_agg(concat_ws('/', c.oid, \
    pg_stat_get_xact_tuples_inserted(c.oid), pg_stat_get_xact_tuples_updated(c.oid), \
    pg_stat_get_xact_tuples_deleted(c.oid)), ','), '') AS counted FROM pg_class c \
    WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'm')";

const CALLS: &str = "SELECT coalesce(string_agg(concat_ws('/', p.oid, \
    pg_stat_get_xact_function_calls(p.oid)), ','), '') AS called FROM pg_proc p \
    JOIN pg_language l ON l.oid = p.prolang WHERE p.oid >= 16384 AND l.lanname = 'plpgsql'";

const LOCKS: &str = "SELECT coalesce(string_agg(concat_ws('/', l.relation, l.mode), ','), '') \
    FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE l.pid = pg_backend_pid() \
    AND l.locktype = 'relation' AND l.relation >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')";

/// Functions that lock what they describe.
const DESCRIBING: &[&str] = &["pg_get_viewdef", "pg_get_serial_sequence", "currval"];

/// Fewer that ran, and nothing was compared.
const FEWEST: usize = 500;

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../e2e")
        .join(name)
}

/// The statements of the corpora of e2e, each entry a script.
fn written() -> Vec<String> {
    let mut scripts = Vec::new();
    for folder in ["corpus/masking", "corpus/ordinary"] {
        for file in std::fs::read_dir(corpus(folder)).unwrap() {
            for line in std::fs::read_to_string(file.unwrap().path())
                .unwrap()
                .lines()
            {
                let mut text = line.trim();
                for mark in ["infer: ", "masked: ", "refused: "] {
                    text = text.strip_prefix(mark).unwrap_or(text);
                }
                if !text.is_empty() && !text.starts_with(['#', '\\']) && !text.starts_with("auto: ")
                {
                    scripts.push(text.replace(" ;; ", ";\n"));
                }
            }
        }
    }
    scripts
}

fn server() -> Postgres {
    let server = Postgres::start();
    let folder = tempfile::tempdir().unwrap();
    let values = folder.path().join("values.sql");
    let text = std::fs::read_to_string(corpus("corpus/values.sql")).unwrap();
    let mut filled = String::new();
    for (place, piece) in text.split(['{', '}']).enumerate() {
        let name = piece.chars().all(|c| c.is_ascii_alphanumeric()) && place % 2 == 1;
        match (name, piece) {
            (true, piece) if piece.starts_with("salary") => filled.push('7'),
            (true, piece) => filled.push_str(piece),
            (false, piece) if place % 2 == 1 => write!(filled, "{{{piece}}}").unwrap(),
            (false, piece) => filled.push_str(piece),
        }
    }
    std::fs::write(&values, filled).unwrap();
    for file in [
        corpus("src/seed.sql"),
        corpus("corpus/schema.sql"),
        corpus("corpus/ordinary.sql"),
        values,
    ] {
        server.psql(&["-q", "-o", "/dev/null", "-f", file.to_str().unwrap()]);
    }
    // The function of this one's constraint is the schema's too, and what this view runs is unseen.
    server.psql(&[
        "-q",
        "-c",
        "DROP TABLE customers_checked; DROP VIEW xml_view",
    ]);
    server
}

/// What the server says of each script: locks, rows and calls; `None` where it failed.
fn run(server: &Postgres, scripts: &[(String, String)]) -> Vec<Option<Seen>> {
    let mut text = String::from(
        "\\set QUIET on\n\\pset tuples_only on\n\\pset format unaligned\n\\set VERBOSITY terse\n\
         SET session_replication_role = replica;\nSET track_functions = 'all';\n\
         SET client_min_messages = error;\n",
    );
    for (number, (path, script)) in scripts.iter().enumerate() {
        write!(
            text,
            "BEGIN;\nSET LOCAL search_path = {path};\n{COUNTERS} \\gset before_\n{CALLS} \\gset before_\n\
             \\o /dev/null\n{script}\n;\n\\o\nSET LOCAL search_path = public;\n\\echo @@{number}\n\\echo :before_counted\n\
             {COUNTERS};\n\\echo :before_called\n{CALLS};\n{LOCKS};\nROLLBACK;\nDEALLOCATE ALL;\n\\echo @@end\n"
        )
        .unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scripts.sql");
    std::fs::write(&file, text).unwrap();
    let output = server.psql_whatever(&["-f", file.to_str().unwrap()]);
    let mut seen: Vec<Option<Seen>> = scripts.iter().map(|_| None).collect();
    for block in output.split("@@").skip(1) {
        let lines: Vec<&str> = block.lines().collect();
        if let [number, before, after, calls, called, locks, ..] = lines.as_slice() {
            let number: usize = number.parse().unwrap();
            seen[number] = Some(Seen {
                rows: grown(before, after),
                calls: grown(calls, called).into_keys().collect(),
                locks: pairs(locks)
                    .map(|(oid, rest)| (oid, rest[0].to_owned()))
                    .collect(),
            });
        }
    }
    seen
}

/// One script as the server tells of it, by OID.
struct Seen {
    locks: Vec<(u32, String)>,
    rows: HashMap<u32, Vec<i64>>,
    calls: HashSet<u32>,
}

fn pairs(text: &str) -> impl Iterator<Item = (u32, Vec<&str>)> {
    text.split(',').filter(|part| !part.is_empty()).map(|part| {
        let mut words = part.split('/');
        let oid = words.next().unwrap().parse().unwrap();
        (oid, words.collect())
    })
}

/// The counters that have grown. Those of transactions before may not have been put away yet.
fn grown(before: &str, after: &str) -> HashMap<u32, Vec<i64>> {
    let number = |words: Vec<&str>| -> Vec<i64> {
        words.iter().map(|word| word.parse().unwrap_or(0)).collect()
    };
    let before: HashMap<u32, Vec<i64>> = pairs(before).map(|(oid, w)| (oid, number(w))).collect();
    pairs(after)
        .filter_map(|(oid, words)| {
            let mut now = number(words);
            for (now, then) in now.iter_mut().zip(before.get(&oid).into_iter().flatten()) {
                *now -= then;
            }
            now.iter().any(|count| *count > 0).then_some((oid, now))
        })
        .collect()
}

/// Everything that a script was found to do; `None` where it does not parse.
fn found(catalog: &Catalog, path: &str, script: &str) -> Option<Vec<Access>> {
    let parsed = parse(script).ok()?;
    let mut schemas = vec!["pg_catalog"];
    schemas.extend(path.split(", "));
    let path = support::path(&schemas);
    let mut overlay = Overlay::default();
    let mut prepared: HashMap<String, Statement> = HashMap::new();
    let mut accesses = Vec::new();
    for statement in parsed.statements.iter() {
        let lookup = |name: &str| prepared.get(name).cloned();
        let class = classify(
            statement,
            &Context {
                catalog,
                search_path: &path,
                overlay: &overlay,
                masks: &NoMasks,
                prepared: &lookup,
                cursor_touches_masked: &|_| None,
            },
        );
        overlay.apply(&class.overlay);
        accesses.extend(class.accesses);
        if let Kind::Prepare { name, inner } = class.kind {
            prepared.insert(name, inner);
        }
    }
    Some(accesses)
}

/// What each relation is also reached through: parents, views, and the table that owns a sequence.
fn covers(server: &Postgres, catalog: &Catalog) -> HashMap<u32, Vec<u32>> {
    let mut covers: HashMap<u32, Vec<u32>> = HashMap::new();
    for relation in catalog.relations.values() {
        let own = covers.entry(relation.oid).or_default();
        own.extend(&relation.parents);
        own.extend(relation.owner_table);
    }
    let views = server.psql(&[
        "-At",
        "-F",
        "/",
        "-c",
        "SELECT DISTINCT d.refobjid, r.ev_class FROM pg_rewrite r JOIN pg_depend d \
         ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid \
         AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class",
    ]);
    for line in views.lines() {
        let (base, view) = line.split_once('/').unwrap();
        let (base, view) = (base.parse().unwrap(), view.parse().unwrap());
        covers.entry(base).or_default().push(view);
    }
    covers
}

struct Oracle<'a> {
    catalog: &'a Catalog,
    covers: &'a HashMap<u32, Vec<u32>>,
    functions: HashMap<u32, (String, String)>,
}

impl Oracle<'_> {
    /// What the server did that the statement was not found to do.
    fn missing(&self, seen: &Seen, accesses: &[Access]) -> Vec<String> {
        let opaque = accesses.iter().any(|access| {
            matches!(
                access.effect,
                Effect::Execute | Effect::Unknown | Effect::UnsafeIo
            ) || matches!(access.object, Object::Any | Object::Unresolved(_))
        });
        let through_view = accesses.iter().any(|access| {
            self.oid(&access.object).is_some_and(|oid| {
                let kind = self.catalog.relations[&oid].kind;
                matches!(kind, RelationKind::View | RelationKind::MaterializedView)
            })
        });
        let mut missing = Vec::new();
        if opaque {
            return missing;
        }
        for (oid, mode) in &seen.locks {
            let wanted: &[Effect] = match mode.as_str() {
                "RowExclusiveLock" => &[
                    Effect::Write,
                    Effect::Modify,
                    Effect::Delete,
                    Effect::BulkLoad,
                    Effect::SchemaAlter,
                ],
                _ => &Effect::ALL,
            };
            self.want(*oid, wanted, accesses, mode, &mut missing);
        }
        for (oid, counts) in &seen.rows {
            // Whoever may alter a relation may change any of its rows (`ALTER COLUMN … TYPE … USING`),
            // also by making it the child of another that the same script writes to.
            let kinds: [(&str, &[Effect]); 3] = [
                (
                    "inserted",
                    &[Effect::Write, Effect::Modify, Effect::SchemaAlter],
                ),
                ("updated", &[Effect::Modify, Effect::SchemaAlter]),
                (
                    "deleted",
                    &[Effect::Delete, Effect::Modify, Effect::SchemaAlter],
                ),
            ];
            for ((what, wanted), count) in kinds.iter().zip(counts) {
                if *count > 0 {
                    self.want(*oid, wanted, accesses, what, &mut missing);
                }
            }
        }
        for oid in &seen.calls {
            if !through_view {
                missing.push(format!("{:?} was called", self.functions.get(oid)));
            }
        }
        missing
    }

    fn oid(&self, object: &Object) -> Option<u32> {
        let Object::Relation { schema, name } = object else {
            return None;
        };
        self.catalog
            .by_name
            .get(&(schema.clone(), name.clone()))
            .copied()
    }

    /// Something that reaches the relation must have one of these effects. A relation that the
    /// script made is nobody's.
    fn want(
        &self,
        oid: u32,
        effects: &[Effect],
        accesses: &[Access],
        what: &str,
        missing: &mut Vec<String>,
    ) {
        let Some(relation) = self.catalog.relations.get(&oid) else {
            return;
        };
        let mut reached = HashSet::from([oid]);
        let mut pending = vec![oid];
        while let Some(next) = pending.pop() {
            for other in self.covers.get(&next).into_iter().flatten() {
                if reached.insert(*other) {
                    pending.push(*other);
                }
            }
        }
        let is_found = accesses.iter().any(|access| {
            effects.contains(&access.effect)
                && self
                    .oid(&access.object)
                    .is_some_and(|oid| reached.contains(&oid))
        });
        if !is_found {
            missing.push(format!("{}.{}: {what}", relation.schema, relation.name));
        }
    }
}

#[test]
fn classification_covers_what_the_server_touched() {
    let server = server();
    let catalog = server.catalog();
    let covers = covers(&server, &catalog);
    let functions = catalog.functions.iter().flat_map(|(name, overloads)| {
        let name = name.clone();
        overloads.iter().map(move |one| (one.oid, name.clone()))
    });
    let oracle = Oracle {
        catalog: &catalog,
        covers: &covers,
        functions: functions.collect(),
    };
    let whole = std::env::var_os("CHAPERONE_FULL").is_some();
    // The same statements in each run, and other and more ones now and then.
    let seed = if whole {
        u64::from(std::process::id())
    } else {
        1
    };
    let mut generator = Generator::new(seed);
    let generated = if whole { 6_000 } else { 700 };
    let mut scripts: Vec<(String, String)> = written()
        .into_iter()
        .map(|script| ("public".to_owned(), script))
        .collect();
    scripts.extend((0..generated).map(|_| generator.script()));
    let seen = run(&server, &scripts);
    let (mut compared, mut of_generated, mut wrong) = (0, 0, Vec::new());
    let handwritten = scripts.len() - generated;
    for (number, ((path, script), seen)) in scripts.iter().zip(&seen).enumerate() {
        let (Some(seen), Some(accesses)) = (seen, found(&catalog, path, script)) else {
            continue;
        };
        if DESCRIBING.iter().any(|name| script.contains(name)) {
            continue;
        }
        compared += 1;
        of_generated += usize::from(number >= handwritten);
        let missing = oracle.missing(seen, &accesses);
        if !missing.is_empty() {
            let accesses: Vec<String> = accesses.iter().map(ToString::to_string).collect();
            wrong.push(format!(
                "[{path}] {script}\n    server: {missing:?}\n    found: {accesses:?}"
            ));
        }
    }
    assert!(
        compared >= FEWEST,
        "only {compared} of {} ran",
        scripts.len()
    );
    assert!(
        of_generated * 3 > generated,
        "only {of_generated} of {generated} generated ones ran"
    );
    assert!(
        wrong.is_empty(),
        "seed {seed}, {}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
