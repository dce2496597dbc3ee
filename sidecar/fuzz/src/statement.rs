//! SQL texts: what they do, and whether they touch what is masked.

use std::sync::OnceLock;

use chaperone_sql::{
    Catalog, Classification, Context, MaskedColumns, Overlay, SearchPath, Statement,
    catalog_of_schema, classify as classify_statement, parse,
};

/// The world that the repository's statements are about.
const SCHEMA: &str = "
CREATE TABLE public.customers (id int, name text, email text, card_number text, credit numeric, salary bigint);
CREATE TABLE public.orders (id int, customer_id int, item text, amount numeric);
CREATE TABLE public.notes (id int, body text);
CREATE TABLE app.customers (id int, name text, email text, card text, ssn text);
CREATE TABLE app.orders (id int, customer_id int, amount numeric, note text);
CREATE TABLE public.scratch (id int, x text);";

/// Statements that hold another one whole, which must not lose what that one touches.
const OUTER: [(&str, &str); 6] = [
    ("EXPLAIN ANALYZE ", ""),
    ("PREPARE p AS ", ""),
    ("SELECT * FROM (", ") w"),
    ("WITH w AS MATERIALIZED (", ") SELECT * FROM w"),
    ("SELECT 1 WHERE EXISTS (", ")"),
    ("COPY (", ") TO STDOUT"),
];

/// Any text is refused or classified, every time the same.
pub fn classify(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let first = parse(text);
    assert_eq!(parse(text), first);
    let Ok(script) = first else {
        return;
    };
    let mut overlay = Overlay::default();
    for statement in script.statements.iter() {
        let end = statement.offset + statement.text.len();
        assert_eq!(text.get(statement.offset..end), Some(&*statement.text));
        let known = classified(statement, &overlay, &path(), Masks::Some);
        assert_eq!(classified(statement, &overlay, &path(), Masks::Some), known);
        assert!(!known.accesses.is_empty(), "a statement without an effect");
        for span in &known.secret_spans {
            assert!(
                statement.text.get(span.clone()).is_some(),
                "{span:?} of {statement:?}"
            );
        }
        let dirty = classified(statement, &overlay, &SearchPath::Dirty, Masks::Some);
        assert!(!dirty.accesses.is_empty());
        overlay.apply(&known.overlay);
    }
}

/// What touches a masked column is found to, however it is wrapped.
pub fn lineage(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some((statement, known)) = only(text, Masks::Some) else {
        return;
    };
    let everything = classified(&statement, &Overlay::default(), &path(), Masks::All);
    assert!(
        everything.masking.touches_masked || !known.masking.touches_masked,
        "more masks hide less: {text}"
    );
    assert!(
        everything.masking.flow.is_some() || known.masking.flow.is_none(),
        "more masks, fewer flows: {text}"
    );
    if let Some((_, commented)) = only(&format!("/* */ {} -- x", statement.text), Masks::Some) {
        assert_eq!(
            (&commented.accesses, &commented.masking),
            (&known.accesses, &known.masking),
            "a comment changes what it does: {text}"
        );
    }
    if !known.masking.touches_masked {
        return;
    }
    for (before, after) in OUTER {
        let outer = format!("{before}{}\n{after}", statement.text);
        if let Some((_, outside)) = only(&outer, Masks::Some) {
            assert!(outside.masking.touches_masked, "masks are lost in {outer}");
        }
    }
}

/// The single statement of a text.
fn only(text: &str, masks: Masks) -> Option<(Statement, Classification)> {
    let script = parse(text).ok()?;
    let [statement] = &*script.statements else {
        return None;
    };
    let known = classified(statement, &Overlay::default(), &path(), masks);
    Some((statement.clone(), known))
}

fn classified(
    statement: &Statement,
    overlay: &Overlay,
    search_path: &SearchPath,
    masks: Masks,
) -> Classification {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    let catalog = CATALOG.get_or_init(|| match catalog_of_schema(SCHEMA) {
        Ok(catalog) => catalog,
        Err(error) => panic!("the schema: {error}"),
    });
    let context = Context {
        catalog,
        search_path,
        overlay,
        masks: &masks,
        prepared: &|_| None,
        cursor_touches_masked: &|_| None,
    };
    classify_statement(statement, &context)
}

fn path() -> SearchPath {
    SearchPath::Known(vec![
        "pg_catalog".to_owned(),
        "public".to_owned(),
        "app".to_owned(),
    ])
}

/// Which columns are masked.
#[derive(Debug, Clone, Copy)]
enum Masks {
    Some,
    All,
}

impl MaskedColumns for Masks {
    fn any(&self) -> bool {
        true
    }

    fn column(&self, _: &str, relation: &str, column: &str) -> bool {
        let masked =
            relation == "customers" && matches!(column, "email" | "card_number" | "card" | "ssn");
        masked || matches!(self, Masks::All)
    }

    fn predicates_allowed(&self, _: &str, _: &str, _: &str) -> bool {
        false
    }

    fn function_unmasked(&self, _: &str, _: &str) -> bool {
        false
    }
}
