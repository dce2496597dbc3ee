#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

const DUMP: &str = r"
\restrict abc
SET statement_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE SCHEMA reporting;
CREATE TABLE public.customers (id bigserial PRIMARY KEY, name text, email text);
CREATE TABLE public.events (id int, at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE public.events_1 (id int, at timestamptz);
ALTER TABLE ONLY public.events ATTACH PARTITION public.events_1 FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE VIEW reporting.totals AS SELECT c.name, count(*) AS n FROM public.customers c GROUP BY c.name;
CREATE MATERIALIZED VIEW reporting.cached AS SELECT 1 AS one WITH NO DATA;
CREATE SEQUENCE public.free_seq;
ALTER SEQUENCE public.free_seq OWNED BY public.events.id;
CREATE FUNCTION reporting.vat(numeric) RETURNS numeric LANGUAGE sql AS 'SELECT $1';
COPY public.customers (id, name) FROM stdin;
1	DROP TABLE x; 'unclosed
\.
ALTER TABLE public.customers ADD COLUMN card text;
";

fn named<'c>(catalog: &'c Catalog, schema: &str, name: &str) -> &'c Relation {
    let oid = catalog.by_name[&(schema.to_owned(), name.to_owned())];
    &catalog.relations[&oid]
}

fn columns(relation: &Relation) -> Vec<&str> {
    relation.columns.iter().map(|c| c.name.as_str()).collect()
}

#[test]
fn a_dump_is_read_with_its_columns_parents_and_owners() {
    let catalog = catalog_of_schema(DUMP).unwrap();
    let customers = named(&catalog, "public", "customers");
    assert_eq!(columns(customers), ["id", "name", "email", "card"]);
    let events = named(&catalog, "public", "events");
    assert_eq!(events.kind, RelationKind::PartitionedTable);
    assert_eq!(named(&catalog, "public", "events_1").parents, [events.oid]);
    let view = named(&catalog, "reporting", "totals");
    assert_eq!(
        (view.kind, columns(view)),
        (RelationKind::View, vec!["name", "n"])
    );
    let cached = named(&catalog, "reporting", "cached");
    assert_eq!(cached.kind, RelationKind::MaterializedView);
    let sequence = named(&catalog, "public", "free_seq");
    assert_eq!(sequence.owner_table, Some(events.oid));
    let serial = named(&catalog, "public", "customers_id_seq");
    assert_eq!(serial.owner_table, Some(customers.oid));
    let function = ("reporting".to_owned(), "vat".to_owned());
    assert_eq!(catalog.functions[&function].len(), 1);
    assert_eq!(catalog.schemas, ["public", "reporting"]);
}

#[test]
fn unqualified_names_go_where_the_search_path_says() {
    let catalog = catalog_of_schema(
        "CREATE TABLE a (x int); SET search_path = app, public; CREATE TABLE b (y int);",
    )
    .unwrap();
    named(&catalog, "public", "a");
    named(&catalog, "app", "b");
}

#[test]
fn what_is_no_sql_is_refused() {
    assert!(catalog_of_schema("CREATE TABEL x ();").is_err());
}
