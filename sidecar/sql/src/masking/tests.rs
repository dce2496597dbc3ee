//! A golden table of statements, an attacker's first, and what masking says of each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;

use crate::{
    Catalog, Column, Context, Function, MaskedColumns, MaskingFacts, Overlay, Relation,
    RelationKind, SearchPath, Statement, classify, parse,
};

/// What is expected of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// Has nothing to do with masks.
    Untouched,
    /// May run; its derived outputs are masked.
    Touches,
    /// Denied `MaskedPredicate`.
    Predicate,
    /// Denied `MaskedFlow`, before anything else.
    Flow,
}

const INT4: u32 = 23;
const TEXT: u32 = 25;
const BOOL: u32 = 16;
const JSONB: u32 = 3802;

struct Masks;

impl MaskedColumns for Masks {
    fn any(&self) -> bool {
        true
    }

    fn column(&self, schema: &str, relation: &str, column: &str) -> bool {
        schema == "public"
            && matches!(
                (relation, column),
                (
                    "customers",
                    "email" | "salary" | "vip" | "profile" | "phone"
                ) | ("events_eu", "payload")
                    | ("Mixed", "EMAIL")
            )
    }

    fn predicates_allowed(&self, _schema: &str, _relation: &str, column: &str) -> bool {
        column == "phone"
    }

    fn function_unmasked(&self, schema: &str, function: &str) -> bool {
        (schema, function) == ("public", "vat")
    }
}

struct NoMasks;

impl MaskedColumns for NoMasks {
    fn any(&self) -> bool {
        false
    }

    fn column(&self, _: &str, _: &str, _: &str) -> bool {
        false
    }

    fn predicates_allowed(&self, _: &str, _: &str, _: &str) -> bool {
        false
    }

    fn function_unmasked(&self, _: &str, _: &str) -> bool {
        false
    }
}

/// Schema, name, kind, columns with their types, parents.
type RelationRow = (
    &'static str,
    &'static str,
    RelationKind,
    &'static [(&'static str, u32)],
    &'static [u32],
);

fn catalog() -> Catalog {
    use RelationKind::{ForeignTable, MaterializedView, PartitionedTable, Table, View};
    let customers: &'static [(&'static str, u32)] = &[
        ("id", INT4),
        ("name", TEXT),
        ("email", TEXT),
        ("phone", TEXT),
        ("salary", INT4),
        ("vip", BOOL),
        ("profile", JSONB),
    ];
    let events: &'static [(&'static str, u32)] = &[("id", INT4), ("payload", TEXT), ("kind", TEXT)];
    let orders: &'static [(&'static str, u32)] = &[
        ("id", INT4),
        ("customer_id", INT4),
        ("total", INT4),
        ("note", TEXT),
        ("email", TEXT),
    ];
    let plain: &'static [(&'static str, u32)] = &[("id", INT4), ("label", TEXT)];
    let view: &'static [(&'static str, u32)] = &[("id", INT4), ("mail", TEXT)];
    let relations: &[RelationRow] = &[
        ("public", "customers", Table, customers, &[]),
        ("public", "customers_old", Table, customers, &[100]),
        ("public", "orders", Table, orders, &[]),
        ("public", "events", PartitionedTable, events, &[]),
        ("public", "events_eu", Table, events, &[103]),
        ("public", "events_us", Table, events, &[103]),
        ("public", "plain", Table, plain, &[]),
        ("public", "customer_view", View, view, &[]),
        ("public", "customer_cache", MaterializedView, view, &[]),
        ("public", "customer_remote", ForeignTable, view, &[]),
        (
            "public",
            "Mixed",
            Table,
            &[("EMAIL", TEXT), ("email", TEXT)],
            &[],
        ),
        (
            "pg_catalog",
            "pg_class",
            Table,
            &[("oid", 26), ("relname", 19)],
            &[],
        ),
        (
            "pg_catalog",
            "pg_stats",
            View,
            &[("tablename", 19), ("most_common_vals", 2277)],
            &[],
        ),
        ("archive", "customers", Table, customers, &[]),
    ];
    let mut catalog = Catalog {
        generation: 1,
        ..Catalog::default()
    };
    for (index, (schema, name, kind, columns, parents)) in relations.iter().enumerate() {
        let oid = 100 + u32::try_from(index).unwrap();
        let column = |(at, (name, type_oid)): (usize, &(&str, u32))| Column {
            attnum: i16::try_from(at + 1).unwrap(),
            name: (*name).to_owned(),
            type_oid: *type_oid,
            made_of: None,
        };
        let relation = Relation {
            oid,
            schema: (*schema).to_owned(),
            name: (*name).to_owned(),
            kind: *kind,
            columns: columns.iter().enumerate().map(column).collect(),
            parents: parents.to_vec(),
            owner_table: None,
            has_rules: false,
            definition: None,
        };
        catalog
            .by_name
            .insert(((*schema).to_owned(), (*name).to_owned()), oid);
        catalog.relations.insert(oid, relation);
    }
    for (oid, name) in [(900, "list_customers"), (901, "vat"), (902, "secret_of")] {
        let key = ("public".to_owned(), name.to_owned());
        catalog
            .functions
            .insert(key, vec![Function { oid, kind: 'f' }]);
    }
    catalog.schemas = ["public", "archive", "pg_catalog"]
        .map(str::to_owned)
        .to_vec();
    catalog
}

fn facts_under(statement: &str, masks: &dyn MaskedColumns) -> MaskingFacts {
    let catalog = catalog();
    let path = SearchPath::Known(vec!["pg_catalog".to_owned(), "public".to_owned()]);
    let overlay = Overlay::default();
    let prepared = |name: &str| -> Option<Statement> {
        let text = match name {
            "mails" => "SELECT email FROM customers",
            "plain" => "SELECT label FROM plain",
            _ => return None,
        };
        Some(parse(text).unwrap().statements[0].clone())
    };
    let cursor = |name: &str| match name {
        "clean" => Some(false),
        "dirty" => Some(true),
        _ => None,
    };
    let context = Context {
        catalog: &catalog,
        search_path: &path,
        overlay: &overlay,
        masks,
        prepared: &prepared,
        cursor_touches_masked: &cursor,
    };
    let script = parse(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    classify(&script.statements[0], &context).masking
}

fn facts(statement: &str) -> MaskingFacts {
    facts_under(statement, &Masks)
}

fn found(facts: &MaskingFacts) -> Expect {
    match facts {
        MaskingFacts { flow: Some(_), .. } => Expect::Flow,
        MaskingFacts {
            predicate: Some(_), ..
        } => Expect::Predicate,
        MaskingFacts {
            touches_masked: true,
            ..
        } => Expect::Touches,
        _ => Expect::Untouched,
    }
}

#[test]
fn every_statement_of_the_golden_table_is_judged_as_it_says() {
    let mut wrong = String::new();
    let mut statements = 0;
    for line in include_str!("golden.txt").lines() {
        let Some((expected, statement)) = line.split_once(" | ") else {
            assert!(line.is_empty() || line.starts_with('#'), "{line}");
            continue;
        };
        let expected = match expected.trim() {
            "untouched" => Expect::Untouched,
            "touches" => Expect::Touches,
            "predicate" => Expect::Predicate,
            "flow" => Expect::Flow,
            other => panic!("{other}"),
        };
        let facts = facts(statement);
        statements += 1;
        if found(&facts) != expected {
            wrong.push_str(&format!("{expected:?}: {statement}\n  {facts:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(
        statements > 250,
        "the table has lost statements: {statements}"
    );
}

#[test]
fn equality_with_few_constants_is_counted() {
    for (statement, count) in [
        ("SELECT id FROM customers WHERE email = 'x'", 1),
        ("SELECT id FROM customers WHERE 'x' = customers.email", 1),
        (
            "SELECT id FROM customers c WHERE c.email = $1 AND name LIKE 'a%'",
            1,
        ),
        ("SELECT id FROM customers WHERE email = lower('X') || $1", 1),
        (
            "SELECT id FROM customers WHERE NOT (email = 'x' OR salary = -5)",
            2,
        ),
        ("SELECT id FROM customers WHERE email IN ('a', 'b', $1)", 3),
        (
            "SELECT id FROM customers WHERE email = ANY (ARRAY['a', 'b'])",
            2,
        ),
        (
            "SELECT id FROM customers WHERE email = ANY ('{a,b,c}'::text[])",
            3,
        ),
        (
            "SELECT o.id FROM orders o JOIN customers c ON c.email = 'x'",
            1,
        ),
        (
            "SELECT x FROM (SELECT email AS x FROM customers) s WHERE x = 'a'",
            1,
        ),
        ("DELETE FROM customers WHERE email = 'x'", 1),
        ("UPDATE customers SET name = 'y' WHERE email = 'x'", 1),
        (
            "INSERT INTO customers (id, email) VALUES (1, 'x') ON CONFLICT (email) DO NOTHING",
            1,
        ),
    ] {
        let facts = facts(statement);
        assert_eq!(
            (found(&facts), facts.equality),
            (Expect::Touches, count),
            "{statement}: {facts:?}"
        );
        assert!(facts.sensitive_literals, "{statement}");
    }
    let list = vec!["'a'"; 21].join(",");
    let chain = vec!["email = 'a'"; 21].join(" OR ");
    for condition in [
        // How many an array from outside holds is not known.
        "email = ANY ($1)".to_owned(),
        format!("email IN ({list})"),
        format!("email = ANY (ARRAY[{list}])"),
        format!("email = ANY ('{{{}}}')", vec!["a"; 21].join(",")),
        chain,
    ] {
        let statement = format!("SELECT id FROM customers WHERE {condition}");
        assert_eq!(found(&facts(&statement)), Expect::Predicate, "{statement}");
    }
}

#[test]
fn literals_next_to_masked_columns_are_sensitive() {
    let expected = BTreeMap::from([
        ("INSERT INTO customers (id, email) VALUES (1, 'x')", true),
        ("INSERT INTO customers VALUES (1, 'x')", true),
        ("INSERT INTO customers (id, name) VALUES (1, 'x')", false),
        ("UPDATE customers SET email = 'x' WHERE id = 1", true),
        ("UPDATE customers SET name = 'x' WHERE id = 1", false),
        ("UPDATE customers SET name = 'x' WHERE email = 'y'", true),
        ("SELECT id FROM customers WHERE phone LIKE 'x'", true),
        ("SELECT id FROM customers WHERE email LIKE 'x'", true),
        ("SELECT email FROM customers WHERE name = 'x'", false),
        ("COPY customers (id, email) FROM STDIN", true),
        ("COPY customers (id, name) FROM STDIN", false),
        (
            "MERGE INTO customers c USING plain v ON c.id = v.id WHEN NOT MATCHED THEN INSERT (email) VALUES ('x')",
            true,
        ),
    ]);
    for (statement, sensitive) in expected {
        assert_eq!(
            facts(statement).sensitive_literals,
            sensitive,
            "{statement}"
        );
    }
}

#[test]
fn statements_that_take_values_are_told_apart() {
    for (statement, writes) in [
        ("INSERT INTO plain VALUES (1, 'x')", true),
        (
            "WITH i AS (INSERT INTO plain VALUES (1, 'x')) SELECT 1",
            true,
        ),
        ("UPDATE plain SET label = 'x'", true),
        (
            "MERGE INTO plain p USING orders o ON p.id = o.id WHEN MATCHED THEN DELETE",
            true,
        ),
        ("COPY plain FROM STDIN", true),
        ("COPY plain TO STDOUT", false),
        ("DELETE FROM plain", false),
        ("SELECT 1", false),
    ] {
        assert_eq!(facts(statement).writes, writes, "{statement}");
    }
}

#[test]
fn a_refusal_names_the_column() {
    let predicate = |statement| facts(statement).predicate.unwrap();
    assert_eq!(
        predicate("SELECT id FROM customers WHERE email LIKE 'a%'"),
        "email"
    );
    assert_eq!(
        predicate("SELECT id FROM customers c ORDER BY c.email"),
        "c.email"
    );
    assert_eq!(
        predicate("SELECT 1 FROM customers JOIN orders USING (email)"),
        "email"
    );
    assert_eq!(
        predicate("SELECT 1 FROM orders WHERE secret_of(id) = 'x'"),
        "secret_of()"
    );
    let flow = |statement| facts(statement).flow.unwrap();
    assert_eq!(flow("UPDATE customers SET name = email"), "email");
    assert_eq!(
        flow("CREATE TABLE t AS SELECT id FROM customers"),
        "public.customers"
    );
}

#[test]
fn without_masks_there_is_nothing_to_say() {
    for statement in [
        "SELECT email FROM customers ORDER BY email",
        "INSERT INTO orders (note) SELECT email FROM customers",
        "SELECT * FROM list_customers()",
    ] {
        assert_eq!(facts_under(statement, &NoMasks), MaskingFacts::default());
    }
}
