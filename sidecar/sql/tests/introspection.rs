//! Against a real PostgreSQL: its catalog is read, and what psql and drivers ask of it when they
//! introspect is covered by the client baseline alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "support/postgres.rs"]
mod postgres;
mod support;

use chaperone_policy::{Effect, Object};
use chaperone_sql::catalog_sql::{OWN_TEMPORARY_SCHEMA, effective_search_path};
use chaperone_sql::{Catalog, Overlay, RelationKind, SearchPath, parse};

use postgres::Postgres;

const SCHEMA: &str = "
    CREATE SCHEMA app;
    CREATE TABLE app.orders (id serial PRIMARY KEY, gone int, note text);
    ALTER TABLE app.orders DROP COLUMN gone;
    CREATE TABLE app.events (id int, at date) PARTITION BY RANGE (at);
    CREATE TABLE app.events_2024 PARTITION OF app.events
        FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    CREATE TABLE app.identity (id int GENERATED ALWAYS AS IDENTITY);
    CREATE VIEW app.v AS SELECT id FROM app.orders;
    CREATE MATERIALIZED VIEW app.m AS SELECT 1 AS one;
    CREATE SEQUENCE app.free;
    CREATE FUNCTION app.refund(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
    CREATE FUNCTION app.refund(text) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE PROCEDURE app.close_month() LANGUAGE sql AS 'SELECT 1';
    CREATE OPERATOR app.~> (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
    CREATE TABLE \"Odd | name\" (\"a|b\" int);";

fn relation<'c>(catalog: &'c Catalog, schema: &str, name: &str) -> &'c chaperone_sql::Relation {
    let oid = catalog.by_name[&(schema.to_owned(), name.to_owned())];
    &catalog.relations[&oid]
}

/// Types whose values run a function, through one another, and the functions of an extension.
const TYPES: &str = "CREATE SCHEMA app;
    CREATE FUNCTION app.note(x text) RETURNS bool LANGUAGE sql VOLATILE AS 'SELECT true';
    CREATE DOMAIN app.mail AS text CHECK (app.note(VALUE));
    CREATE DOMAIN app.work_mail AS app.mail;
    CREATE DOMAIN app.plain AS text CHECK (VALUE <> '');
    CREATE TYPE app.pair AS (a int, b int);
    CREATE FUNCTION app.to_pair(text) RETURNS app.pair LANGUAGE sql AS 'SELECT ROW(1, 2)::app.pair';
    CREATE CAST (text AS app.pair) WITH FUNCTION app.to_pair(text);
    CREATE TABLE app.letters (id int, sent app.work_mail[]);
    CREATE EXTENSION pgcrypto SCHEMA app;
    CREATE FUNCTION app.digest(int) RETURNS int LANGUAGE sql AS 'SELECT 1';";

#[test]
fn what_making_a_value_runs_is_read_from_a_real_server() {
    let server = Postgres::start();
    server.psql(&["-q", "-c", TYPES]);
    let catalog = server.catalog();
    let app = |name: &str| ("app".to_owned(), name.to_owned());
    for name in ["mail", "work_mail", "letters"] {
        assert_eq!(catalog.types[&app(name)], [app("note")], "{name}");
    }
    assert_eq!(catalog.types[&app("pair")], [app("to_pair")]);
    assert_eq!(catalog.types.len(), 4, "{:?}", catalog.types);
    // One overload that is not the extension's makes the name a user's.
    assert!(catalog.functions.contains_key(&app("digest")));
    for (name, extension) in [
        ("digest", false),
        ("hmac", true),
        ("gen_random_uuid", true),
        ("gen_salt", false),
        ("note", false),
    ] {
        let listed = catalog.extension_functions.contains(&app(name));
        assert_eq!(listed, extension, "{name}");
        assert_eq!(catalog.functions.contains_key(&app(name)), !extension);
    }
}

#[test]
fn the_catalog_of_a_real_server_is_read() {
    let server = Postgres::start();
    server.psql(&["-q", "-c", SCHEMA]);
    let catalog = server.catalog();
    assert_eq!(catalog.generation, 7);
    let orders = relation(&catalog, "app", "orders");
    let columns: Vec<(i16, &str)> = orders
        .columns
        .iter()
        .map(|column| (column.attnum, column.name.as_str()))
        .collect();
    assert_eq!(columns, [(1, "id"), (3, "note")]);
    assert_eq!(orders.kind, RelationKind::Table);
    let events = relation(&catalog, "app", "events");
    assert_eq!(events.kind, RelationKind::PartitionedTable);
    let child = relation(&catalog, "app", "events_2024");
    assert_eq!(child.parents, [events.oid]);
    let serial = relation(&catalog, "app", "orders_id_seq");
    assert_eq!(serial.owner_table, Some(orders.oid));
    let identity = relation(&catalog, "app", "identity_id_seq");
    let owner = relation(&catalog, "app", "identity").oid;
    assert_eq!(identity.owner_table, Some(owner));
    assert_eq!(relation(&catalog, "app", "free").owner_table, None);
    assert_eq!(relation(&catalog, "app", "v").kind, RelationKind::View);
    assert_eq!(
        relation(&catalog, "app", "m").kind,
        RelationKind::MaterializedView
    );
    assert_eq!(
        relation(&catalog, "public", "Odd | name").columns[0].name,
        "a|b"
    );
    assert!(relation(&catalog, "pg_catalog", "pg_class").columns.len() > 20);
    relation(&catalog, "information_schema", "tables");
    let refund = &catalog.functions[&("app".to_owned(), "refund".to_owned())];
    assert_eq!(refund.len(), 2);
    let procedure = &catalog.functions[&("app".to_owned(), "close_month".to_owned())];
    assert_eq!(procedure[0].kind, 'p');
    let operator = &catalog.operators[&("app".to_owned(), "~>".to_owned())];
    assert_eq!(
        operator[..],
        [("pg_catalog".to_owned(), "int4pl".to_owned())]
    );
    assert!(catalog.schemas.iter().any(|schema| schema == "app"));
}

#[test]
fn a_shown_search_path_is_what_the_server_searches() {
    let server = Postgres::start();
    server.psql(&["-q", "-c", SCHEMA]);
    for (set, temporary) in [
        ("SET search_path = app, missing, public", false),
        ("SET search_path = \"$user\", app", true),
        ("SET search_path = ''", true),
        ("SET search_path = app, pg_catalog", false),
        ("SET search_path = pg_temp, app", true),
    ] {
        let create = if temporary {
            "CREATE TEMP TABLE t ()"
        } else {
            "SELECT 1"
        };
        let output = server.psql(&[
            "-At",
            "-q",
            "-o",
            "/dev/null",
            "-c",
            create,
            "-c",
            set,
            "-o",
            "/dev/stdout",
            "-c",
            "SHOW search_path",
            "-c",
            "SELECT array_to_string(current_schemas(true), ',')",
            "-c",
            OWN_TEMPORARY_SCHEMA,
        ]);
        let lines: Vec<&str> = output.lines().filter(|line| *line != "1").collect();
        let [shown, searched, own @ ..] = lines.as_slice() else {
            panic!("{output}");
        };
        let catalog = server.catalog();
        let SearchPath::Known(effective) =
            effective_search_path(shown, "postgres", own.first().copied(), &catalog)
        else {
            panic!("{set}: not read");
        };
        assert_eq!(effective.join(","), *searched, "{set}");
    }
}

/// The statements that psql itself sends, as `-E` shows them.
fn hidden_queries(output: &str) -> Vec<String> {
    output
        .split("********* QUERY **********\n")
        .skip(1)
        .filter_map(|rest| rest.split("\n**************************").next())
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn assert_baseline_only(catalog: &Catalog, text: &str) {
    let path = support::path(&["pg_catalog", "public"]);
    for statement in parse(text).unwrap().statements.iter() {
        let accesses =
            support::classify_in(statement, catalog, &path, &Overlay::default()).accesses;
        for access in accesses {
            assert!(access.baseline, "{access} is not in the baseline: {text}");
        }
    }
}

#[test]
fn what_psql_asks_is_covered_by_the_baseline() {
    let server = Postgres::start();
    server.psql(&["-q", "-c", SCHEMA]);
    let catalog = server.catalog();
    let mut count = 0;
    for command in [
        "\\d",
        "\\d+",
        "\\dt",
        "\\dt+",
        "\\d app.orders",
        "\\d+ app.orders",
        "\\d app.events",
        "\\d+ app.events",
        "\\d app.events_2024",
        "\\d app.v",
        "\\d+ app.m",
        "\\d app.free",
        "\\d app.orders_pkey",
        "\\df",
        "\\df+",
        "\\dn",
        "\\dn+",
        "\\du",
        "\\dg+",
        "\\l",
        "\\l+",
        "\\di",
        "\\dv",
        "\\ds",
        "\\dm",
        "\\dx",
        "\\dT",
        "\\dT+",
        "\\dp",
        "\\do",
        "\\dC",
        "\\dD",
        "\\da",
        "\\db",
        "\\dc",
        "\\dd",
        "\\dE",
        "\\dL",
        "\\dO",
        "\\dP",
        "\\dRp",
        "\\dX",
        "\\dy",
        "\\sf app.close_month",
        "\\sv app.v",
        "\\z",
        "\\dA",
        "\\dF",
        "\\dconfig",
    ] {
        let queries = hidden_queries(&server.psql(&["-E", "-c", command]));
        count += queries.len();
        for query in queries {
            assert_baseline_only(&catalog, &query);
        }
    }
    assert!(count > 60, "psql showed only {count} of its queries");
}

#[test]
fn what_drivers_ask_is_covered_by_the_baseline() {
    let server = Postgres::start();
    let catalog = server.catalog();
    for text in [
        "SELECT pg_catalog.version()",
        "select current_schema()",
        "show transaction isolation level",
        "show standard_conforming_strings",
        "SET extra_float_digits = 3",
        "SET application_name = 'PostgreSQL JDBC Driver'",
        "SET client_encoding TO 'UTF8'",
        "SET TIME ZONE 'UTC'",
        "BEGIN; SELECT 1; ROLLBACK",
        "SELECT typname AS name, oid, typarray AS array_oid, oid::regtype::text AS regtype, \
         typdelim AS delimiter FROM pg_type t WHERE t.oid = to_regtype($1) ORDER BY t.oid",
        "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
        "SELECT t.oid, t.typname, t.typelem, t.typdelim FROM pg_type as t \
         LEFT JOIN pg_range as r ON oid = rngtypid WHERE t.typtype IN ('r', 'e', 'd')",
        "SELECT c.oid, n.nspname, c.relname, c.relkind FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE pg_catalog.pg_table_is_visible(c.oid) AND c.relkind = ANY (ARRAY['r', 'p'])",
        "SELECT result.TABLE_CAT, result.COLUMN_NAME, result.KEY_SEQ FROM (SELECT NULL AS TABLE_CAT, \
         a.attname AS COLUMN_NAME, (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, \
         information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM \
         FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON ct.oid = a.attrelid \
         JOIN pg_catalog.pg_index i ON a.attrelid = i.indrelid WHERE i.indisprimary) result \
         WHERE result.A_ATTNUM = (result.KEYS).x",
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'app'",
        "SELECT c.conname, array(SELECT attname FROM unnest(c.conkey) WITH ORDINALITY cols(colid, arridx) \
         JOIN pg_attribute AS ca ON cols.colid = ca.attnum WHERE ca.attrelid = c.conrelid) \
         FROM pg_constraint AS c JOIN pg_class AS cl ON c.conrelid = cl.oid",
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), \
         col_description(a.attrelid, a.attnum) FROM pg_attribute a \
         LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum",
        "SELECT current_database(), pg_is_in_recovery(), current_setting('server_version_num')",
    ] {
        assert_baseline_only(&catalog, text);
    }
}

#[test]
fn system_relations_with_other_peoples_data_are_not_in_the_baseline() {
    let server = Postgres::start();
    let catalog = server.catalog();
    let path = support::path(&["pg_catalog", "public"]);
    for name in [
        "pg_stats",
        "pg_statistic",
        "pg_stat_activity",
        "pg_authid",
        "pg_shadow",
        "pg_largeobject",
        "pg_user_mapping",
        "pg_user_mappings",
        "pg_locks",
        "pg_sequences",
        "pg_hba_file_rules",
        "pg_stat_replication",
        "pg_prepared_xacts",
        "pg_subscription",
        "pg_foreign_server",
    ] {
        let statement = support::statement(&format!("SELECT * FROM {name}"));
        let accesses =
            support::classify_in(&statement, &catalog, &path, &Overlay::default()).accesses;
        let object = Object::Relation {
            schema: "pg_catalog".to_owned(),
            name: name.to_owned(),
        };
        assert_eq!(accesses.len(), 1, "{name}");
        assert_eq!(accesses[0].object, object);
        assert_eq!(accesses[0].effect, Effect::Read);
        assert!(!accesses[0].baseline, "{name}");
    }
}
