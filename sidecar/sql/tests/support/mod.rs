//! One small database for every test of this crate.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use chaperone_sql::catalog_sql::CatalogQuery;
use chaperone_sql::{
    Catalog, CatalogBuilder, Classification, Context, MaskedColumns, Overlay, SearchPath,
    Statement, classify, parse,
};

/// (schema, name, relkind, columns, parent or owning table)
const RELATIONS: &[(&str, &str, &str, &str, &str)] = &[
    ("app", "orders", "r", "id customer_id amount note", ""),
    ("app", "customers", "r", "id name email card ssn", ""),
    ("app", "events", "p", "id at kind", ""),
    ("app", "events_2024", "p", "id at kind", "app.events"),
    (
        "app",
        "events_2024_01",
        "r",
        "id at kind",
        "app.events_2024",
    ),
    ("app", "v_orders", "v", "id amount", ""),
    ("app", "m_totals", "m", "customer_id total", ""),
    ("app", "orders_id_seq", "S", "last_value", "app.orders"),
    ("app", "free_seq", "S", "last_value", ""),
    ("app", "orders_pkey", "i", "", ""),
    ("app", "pg_class", "r", "id", ""),
    ("private", "secrets", "r", "id value", ""),
    ("public", "scratch", "r", "id x", ""),
    ("public", "orders", "r", "id", ""),
    ("ext", "remote", "f", "id value", ""),
    ("pg_temp_3", "mine", "r", "id x", ""),
    ("pg_temp_4", "theirs", "r", "id", ""),
    ("pg_toast", "pg_toast_16384", "t", "chunk_id", ""),
    ("pg_catalog", "pg_class", "r", "oid relname", ""),
    ("pg_catalog", "pg_attribute", "r", "attrelid attname", ""),
    ("pg_catalog", "pg_namespace", "r", "oid nspname", ""),
    ("pg_catalog", "pg_type", "r", "oid typname", ""),
    ("pg_catalog", "pg_settings", "v", "name setting", ""),
    (
        "pg_catalog",
        "pg_stats",
        "v",
        "tablename most_common_vals",
        "",
    ),
    ("pg_catalog", "pg_statistic", "r", "starelid", ""),
    ("pg_catalog", "pg_authid", "r", "rolname rolpassword", ""),
    ("pg_catalog", "pg_stat_activity", "v", "pid query", ""),
    ("pg_catalog", "pg_largeobject", "r", "loid data", ""),
    ("pg_catalog", "pg_user_mapping", "r", "oid umoptions", ""),
    ("pg_catalog", "pg_sequences", "v", "last_value", ""),
    ("information_schema", "tables", "v", "table_name", ""),
    (
        "information_schema",
        "user_mapping_options",
        "v",
        "option_value",
        "",
    ),
];

const FUNCTIONS: &[(&str, &str, &str)] = &[
    ("app", "refund", "f"),
    ("app", "close_month", "p"),
    ("app", "amount", "f"),
    ("public", "upper", "f"),
    ("reporting", "vat", "f"),
];

const OPERATORS: &[(&str, &str, &str, &str)] = &[
    ("app", "~>", "app", "leads_to"),
    ("reporting", "+", "reporting", "plus"),
];

/// The search path of every test that names no other.
pub(crate) const PATH: &[&str] = &["pg_temp_3", "pg_catalog", "app", "public"];

pub(crate) fn catalog() -> Catalog {
    let mut builder = CatalogBuilder::new();
    let oid = |name: &str| {
        let place = RELATIONS
            .iter()
            .position(|(schema, relation, ..)| format!("{schema}.{relation}") == name);
        (16384 + place.unwrap()).to_string()
    };
    for (schema, name, kind, columns, other) in RELATIONS {
        let own = oid(&format!("{schema}.{name}"));
        let owner = (*kind == "S" && !other.is_empty()).then(|| oid(other));
        let row = [
            Some(own.as_str()),
            Some(schema),
            Some(name),
            Some(kind),
            owner.as_deref(),
        ];
        builder.add(CatalogQuery::Relations, &row).unwrap();
        for (place, column) in columns.split_whitespace().enumerate() {
            let number = (place + 1).to_string();
            let row = [Some(own.as_str()), Some(&number), Some(column), Some("25")];
            builder.add(CatalogQuery::Columns, &row).unwrap();
        }
        if *kind != "S" && !other.is_empty() {
            let row = [Some(own.as_str()), Some(&oid(other))];
            builder
                .add(CatalogQuery::Parents, &row.map(|v| v.map(|v| v as &str)))
                .unwrap();
        }
    }
    for (place, (schema, name, kind)) in FUNCTIONS.iter().enumerate() {
        let oid = (20000 + place).to_string();
        let row = [Some(oid.as_str()), Some(schema), Some(name), Some(kind)];
        builder.add(CatalogQuery::Functions, &row).unwrap();
    }
    for (schema, name, in_schema, function) in OPERATORS {
        let row = [
            Some(*schema),
            Some(*name),
            Some(*in_schema),
            Some(*function),
        ];
        builder.add(CatalogQuery::Operators, &row).unwrap();
    }
    for schema in ["app", "public", "private", "ext", "reporting", "pg_catalog"] {
        builder.add(CatalogQuery::Schemas, &[Some(schema)]).unwrap();
    }
    builder.build(1)
}

/// No column is masked.
pub(crate) struct NoMasks;

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

pub(crate) fn statement(text: &str) -> Statement {
    let script = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(script.statements.len(), 1, "{text}");
    script.statements[0].clone()
}

pub(crate) fn path(schemas: &[&str]) -> SearchPath {
    SearchPath::Known(schemas.iter().map(|schema| (*schema).to_owned()).collect())
}

/// The statements that the tests' sessions have prepared.
pub(crate) fn prepared(name: &str) -> Option<Statement> {
    match name {
        "by_id" => Some(statement("SELECT * FROM orders WHERE id = $1")),
        "wipe" => Some(statement("DELETE FROM customers")),
        "loop" => Some(statement("EXECUTE loop")),
        "sets" => Some(statement(
            "SELECT set_config('search_path', 'private', false)",
        )),
        _ => None,
    }
}

pub(crate) fn classify_in(
    statement: &Statement,
    catalog: &Catalog,
    search_path: &SearchPath,
    overlay: &Overlay,
) -> Classification {
    let context = Context {
        catalog,
        search_path,
        overlay,
        masks: &NoMasks,
        prepared: &prepared,
        cursor_touches_masked: &|_| None,
    };
    classify(statement, &context)
}

/// The accesses of every statement of a script, in order against an overlay, one a line; the
/// client baseline's are marked with `*`.
pub(crate) fn accesses(catalog: &Catalog, search_path: &SearchPath, text: &str) -> Vec<String> {
    let script = match parse(text) {
        Ok(script) => script,
        Err(error) => return vec![format!("refused {}", error.reason())],
    };
    let mut overlay = Overlay::default();
    let mut lines = Vec::new();
    for statement in script.statements.iter() {
        let classification = classify_in(statement, catalog, search_path, &overlay);
        overlay.apply(&classification.overlay);
        if !lines.is_empty() {
            lines.push(";".to_owned());
        }
        assert!(!classification.accesses.is_empty(), "{text}");
        for access in &classification.accesses {
            let mark = if access.baseline { " *" } else { "" };
            lines.push(format!("{access}{mark}"));
        }
    }
    lines
}
