//! Whatever text comes, it is classified or refused; nothing panics, and nothing that was found
//! disappears by writing the same statement in another way.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::path::Path;

use chaperone_sql::Catalog;
use proptest::prelude::*;

fn corpus() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let content = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for block in content.split("\n\n") {
            let text: Vec<&str> = block
                .lines()
                .take_while(|line| *line != "=>")
                .filter(|line| !line.starts_with("--") && !line.starts_with('@'))
                .collect();
            if !text.is_empty() {
                texts.push(text.join("\n"));
            }
        }
    }
    texts.sort();
    texts
}

thread_local! {
    static CORPUS: Vec<String> = corpus();
    static CATALOG: Catalog = support::catalog();
}

fn accesses(text: &str) -> Vec<String> {
    CATALOG.with(|catalog| support::accesses(catalog, &support::path(support::PATH), text))
}

fn pick(index: prop::sample::Index) -> String {
    CORPUS.with(|corpus| corpus[index.index(corpus.len())].clone())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_sql_is_classified_or_refused(
        first in any::<prop::sample::Index>(),
        second in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
        insert in "[ -~]{0,4}|\\PC{0,3}",
        delete in 0usize..6,
    ) {
        let (first, second) = (pick(first), pick(second));
        let mut chars: Vec<char> = first.chars().collect();
        let at = cut.index(chars.len() + 1);
        let end = (at + delete).min(chars.len());
        chars.splice(at..end, insert.chars());
        let mutated: String = chars.into_iter().collect();
        accesses(&mutated);
        let half: String = first.chars().take(at).collect();
        accesses(&format!("{half}{second}"));
        accesses(&format!("{second} {half}"));
    }

    #[test]
    fn any_text_is_classified_or_refused(text in "\\PC{0,64}") {
        accesses(&text);
    }

    #[test]
    fn a_statement_inside_another_keeps_all_of_its_effects(index in any::<prop::sample::Index>()) {
        let text = pick(index);
        let alone = accesses(&text);
        let Ok(script) = chaperone_sql::parse(&text) else { return Ok(()); };
        if script.statements.len() != 1 {
            return Ok(());
        }
        let inner = text.trim().trim_end_matches(';');
        for outer in [
            format!("EXPLAIN ANALYZE {inner}"),
            format!("PREPARE p AS {inner}"),
            format!("WITH w AS ({inner}) SELECT 1"),
            format!("SELECT * FROM ({inner}) w"),
            format!("COPY ({inner}) TO STDOUT"),
            format!("DECLARE c CURSOR FOR {inner}"),
            format!("CREATE TABLE brand_new AS {inner}"),
            format!("CREATE VIEW brand_new AS {inner}"),
            format!("SELECT 1 WHERE EXISTS ({inner})"),
            format!("INSERT INTO scratch {inner}"),
        ] {
            let found = accesses(&outer);
            if found.first().is_some_and(|line| line.starts_with("refused")) {
                continue;
            }
            for line in alone.iter().filter(|line| *line != "Read on session *") {
                prop_assert!(found.contains(line), "{line} is lost in {outer}: {found:?}");
            }
        }
    }
}
