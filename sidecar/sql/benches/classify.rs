//! Parsing and classifying, and the cost of a cached answer.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::HashMap;

use chaperone_sql::{Overlay, parse};

fn main() {
    divan::main();
}

const STATEMENTS: &[&str] = &[
    "SELECT 1",
    "SELECT * FROM app.orders WHERE id = $1",
    "SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.amount > 10 ORDER BY 1 LIMIT 20",
    "WITH d AS (DELETE FROM orders WHERE id = $1 RETURNING *) INSERT INTO public.scratch SELECT id, note FROM d",
];

#[divan::bench(args = STATEMENTS)]
fn parse_and_classify(bencher: divan::Bencher, text: &str) {
    let catalog = support::catalog();
    let path = support::path(support::PATH);
    let overlay = Overlay::default();
    bencher.bench_local(|| {
        let script = parse(text).unwrap();
        support::classify_in(&script.statements[0], &catalog, &path, &overlay)
    });
}

#[divan::bench(args = STATEMENTS)]
fn classify_parsed(bencher: divan::Bencher, text: &str) {
    let catalog = support::catalog();
    let path = support::path(support::PATH);
    let overlay = Overlay::default();
    let statement = support::statement(text);
    bencher.bench_local(|| support::classify_in(&statement, &catalog, &path, &overlay));
}

/// What a hit of a cache by text, search path and generation costs its owner.
#[divan::bench(args = STATEMENTS)]
fn cached(bencher: divan::Bencher, text: &str) {
    let catalog = support::catalog();
    let path = support::path(support::PATH);
    let statement = support::statement(text);
    let overlay = Overlay::default();
    let classification = support::classify_in(&statement, &catalog, &path, &overlay);
    let key = (text.to_owned(), path, catalog.generation);
    let cache = HashMap::from([(key.clone(), std::sync::Arc::new(classification))]);
    bencher.bench_local(|| cache.get(&key).cloned());
}
