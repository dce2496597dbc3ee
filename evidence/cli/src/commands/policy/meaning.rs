//! What a text does, where no database says what its names mean.

use std::collections::BTreeSet;

use chaperone_policy::{Access, Object, Operation, Policy};
use chaperone_sql::{
    Catalog, Classification, Context, MaskIndex, Overlay, Script, SearchPath, classify,
};

/// Times a text is classified, each time with more relations taken to be there.
const ROUNDS: usize = 16;
/// Columns that a table may have (PostgreSQL, Appendix K, Limits).
const MAX_COLUMNS: usize = 1_600;

/// Every statement's meaning, and the relations that were taken to be there. What `given` does not
/// have is assumed until nothing more can be; where it is `whole`, only what is built in.
pub(super) fn classified(
    script: &Script,
    given: &Catalog,
    whole: bool,
    policy: Option<&Policy>,
) -> (Vec<Classification>, Vec<String>) {
    let mut catalog = given.clone();
    let mut assumed = BTreeSet::new();
    let columns = identifiers(script);
    let mut classes = classify_all(script, &catalog, policy);
    for _ in 0..ROUNDS {
        let mut grown = false;
        let accesses = classes.iter().flat_map(|class| &class.accesses);
        for name in accesses.filter_map(unresolved) {
            let (schema, relation) = placed(name);
            let built_in = ["pg_catalog", "information_schema"].contains(&schema);
            let key = (schema.to_owned(), relation.to_owned());
            // A dump has nothing that is built in.
            if (whole && !built_in) || catalog.by_name.contains_key(&key) {
                continue;
            }
            catalog.assume_relation(schema, relation, &columns);
            grown = true;
            if !built_in {
                assumed.insert(format!("{schema}.{relation}"));
            }
        }
        if !grown {
            break;
        }
        classes = classify_all(script, &catalog, policy);
    }
    (classes, assumed.into_iter().collect())
}

/// Every word of a text that may be a column's name: what is taken to be a table is taken to have
/// them all, or a masked column would go unseen where no schema tells of it.
fn identifiers(script: &Script) -> Vec<String> {
    let mut found = BTreeSet::new();
    for statement in script.statements.iter() {
        for (index, piece) in statement.text.split('"').enumerate() {
            // Between double quotes a name is as it stands.
            if index % 2 == 1 {
                found.insert(piece.to_owned());
                continue;
            }
            let words = piece.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$');
            let names =
                words.filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'));
            found.extend(names.map(str::to_lowercase));
        }
    }
    found.into_iter().take(MAX_COLUMNS).collect()
}

fn classify_all(
    script: &Script,
    catalog: &Catalog,
    policy: Option<&Policy>,
) -> Vec<Classification> {
    let masks = match policy {
        Some(policy) => MaskIndex::new(policy.masking(), catalog),
        None => MaskIndex::new(&chaperone_policy::Masking::default(), catalog),
    };
    // What a server without settings of its own gives a role without a schema of its name.
    let path = SearchPath::Known(vec!["pg_catalog".to_owned(), "public".to_owned()]);
    let mut overlay = Overlay::default();
    let mut classes = Vec::with_capacity(script.statements.len());
    for statement in script.statements.iter() {
        let class = classify(
            statement,
            &Context {
                catalog,
                search_path: &path,
                overlay: &overlay,
                masks: &masks,
                prepared: &|_| None,
                cursor_touches_masked: &|_| None,
            },
        );
        overlay.apply(&class.overlay);
        classes.push(class);
    }
    classes
}

/// All that a text does, as one operation: a sidecar decides on a message at a time.
pub(super) fn operation(sql: &str, classes: &[Classification]) -> Operation {
    let mut accesses: Vec<Access> = Vec::new();
    for access in classes.iter().flat_map(|class| &class.accesses) {
        if !accesses.contains(access) {
            accesses.push(access.clone());
        }
    }
    Operation::sql(sql, accesses)
}

fn unresolved(access: &Access) -> Option<&str> {
    match &access.object {
        Object::Unresolved(name) => Some(name),
        _ => None,
    }
}

/// Where a name is taken to be that names no schema.
fn placed(name: &str) -> (&str, &str) {
    match name.split_once('.') {
        Some(qualified) => qualified,
        None if name.starts_with("pg_") => ("pg_catalog", name),
        None => ("public", name),
    }
}
