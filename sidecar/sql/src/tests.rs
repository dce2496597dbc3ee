//! Promises about whole statements that the golden corpus cannot hold.

use chaperone_policy::Effect;
use pg_query::NodeRef;

use crate::walk::{Descend, KINDS, kind, one_of_every_kind, walk};
use crate::{
    Catalog, Context, Kind, MaskedColumns, Overlay, ParseError, SearchPath, SessionChange,
    Statement, classify, parse,
};

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

fn classified(statement: &Statement) -> crate::Classification {
    let context = Context {
        catalog: &Catalog::default(),
        search_path: &SearchPath::Known(vec!["pg_catalog".to_owned(), "public".to_owned()]),
        overlay: &Overlay::default(),
        masks: &NoMasks,
        prepared: &|_| None,
        cursor_touches_masked: &|_| None,
    };
    classify(statement, &context)
}

fn only(text: &str) -> Statement {
    let script = parse(text).unwrap();
    assert_eq!(script.statements.len(), 1);
    script.statements[0].clone()
}

fn of(text: &str) -> crate::Classification {
    classified(&only(text))
}

/// Statements that run nothing when nothing is in them.
const HARMLESS_WHEN_EMPTY: &[&str] = &[
    "SelectStmt",
    "ExplainStmt",
    "PrepareStmt",
    "DeclareCursorStmt",
];

#[test]
fn every_parse_node_is_decided_on() {
    let nodes = one_of_every_kind();
    assert_eq!(nodes.len(), KINDS.len());
    for (node, name) in nodes.into_iter().zip(KINDS) {
        assert_eq!(kind(node.to_ref()), *name);
        let accesses = classified(&Statement::from_node(node)).accesses;
        assert!(!accesses.is_empty(), "{name}");
        if name.ends_with("Stmt") && !HARMLESS_WHEN_EMPTY.contains(name) {
            let plain = accesses
                .iter()
                .all(|access| access.effect == Effect::Read && access.baseline);
            assert!(!plain, "{name} is taken for a harmless SELECT");
        }
    }
}

#[test]
fn a_node_that_the_grammar_never_makes_is_unknown() {
    for name in [
        "Query",
        "FuncExpr",
        "OpExpr",
        "Var",
        "RangeTblEntry",
        "PlassignStmt",
    ] {
        let node = one_of_every_kind()
            .into_iter()
            .find(|node| kind(node.to_ref()) == name)
            .unwrap();
        let accesses = classified(&Statement::from_node(node)).accesses;
        assert!(
            accesses.iter().any(|a| a.effect == Effect::Unknown),
            "{name}"
        );
    }
}

/// Every string of the tree, by the library's own serialisation, is one the walk comes by.
#[test]
fn the_walk_comes_by_every_string_of_a_tree() {
    fn collect(value: &serde_json::Value, key: &str, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => fields.iter().for_each(|(key, value)| {
                collect(value, key, found);
            }),
            serde_json::Value::Array(items) => {
                items.iter().for_each(|item| collect(item, key, found));
            }
            serde_json::Value::String(text) if key == "sval" => found.push(text.clone()),
            _ => {}
        }
    }
    for text in [
        "WITH a AS (SELECT 'x1') INSERT INTO t (a) SELECT ('x2')::text FROM f('x3') LIMIT 1",
        "CREATE TABLE t (a text DEFAULT 'x4' CHECK (a <> 'x5')) PARTITION BY RANGE ((a || 'x6'))",
        "MERGE INTO t USING u ON t.a = 'x7' WHEN MATCHED THEN UPDATE SET a = 'x8'",
        "SELECT JSON_OBJECT('x9': 'y1' FORMAT JSON), XMLFOREST('y2' AS z), 'y3' LIKE 'y4' ESCAPE 'y5'",
        "COPY (SELECT 'y6') TO STDOUT WITH (DELIMITER 'y', NULL 'y7')",
        "SELECT count(*) FILTER (WHERE a = 'y8') OVER (PARTITION BY 'y9' ORDER BY 'z1' ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)",
        "CREATE POLICY p ON t USING (a = 'z2') WITH CHECK (a = 'z3')",
        "ALTER TABLE t ALTER a TYPE text USING 'z4', ADD CONSTRAINT c EXCLUDE (a WITH =) WHERE (a = 'z5')",
    ] {
        let script = parse(text).unwrap();
        let node = script.statements[0].node().unwrap();
        let mut expected = Vec::new();
        collect(&serde_json::to_value(node).unwrap(), "", &mut expected);
        let mut found = Vec::new();
        walk(node.to_ref(), &mut |node| {
            match node {
                NodeRef::String(string) => found.push(string.sval.clone()),
                NodeRef::AConst(_) => {}
                _ => {}
            }
            Descend::Into
        });
        expected.sort();
        found.sort();
        assert!(!expected.is_empty());
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn a_tree_too_deep_is_refused_and_never_crashes() {
    let nested = |open: &str, inner: &str, close: &str, depth: usize| {
        format!(
            "SELECT {}{inner}{}",
            open.repeat(depth),
            close.repeat(depth)
        )
    };
    let refused = [
        nested("(", "1", ")", 10_000),
        format!("SELECT 'x'{}", " || 'x'".repeat(5_000)),
        format!("SELECT 1{}", "+1".repeat(100_000)),
        format!("SELECT {} true", "NOT ".repeat(50_000)),
        nested("(SELECT ", "1", ")", 5_000),
        nested("CASE WHEN true THEN ", "1", " END", 2_000),
        nested("f(", "1", ")", 5_000),
        nested("ARRAY[", "1", "]", 5_000),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(20_000)),
        format!("SELECT * FROM t{}", " JOIN t USING (a)".repeat(20_000)),
        format!("SELECT 1{}", "::int".repeat(50_000)),
        format!("SELECT 1{}", " IS NULL".repeat(20_000)),
        format!("{}SELECT 1", "EXPLAIN ".repeat(10_000)),
        "x".repeat(16 * 1024 * 1024 + 1),
        format!("SELECT {}", "- ".repeat(100_000) + "1"),
        "WITH a AS (".repeat(3_000),
    ];
    for text in refused {
        let start: String = text.chars().take(40).collect();
        match parse(&text) {
            Err(ParseError::TooComplex) => {}
            Err(error) => assert!(
                start.starts_with("WITH") || start.starts_with("EXPLAIN"),
                "{start}: {error}"
            ),
            Ok(_) => panic!("taken: {start}"),
        }
    }
}

#[test]
fn what_postgres_md_promises_to_take_is_taken() {
    // The flat ones as large as what a sidecar of 64 MiB takes.
    let joins = format!("SELECT 1 FROM t{}", " JOIN t USING (a)".repeat(40));
    let concatenations = format!("SELECT 'x'{}", " || 'x'".repeat(40));
    let flat = format!("SELECT 1 WHERE {} true", "a = 1 AND ".repeat(12_000));
    let list = format!("SELECT 1 WHERE a IN (1{})", ", 1".repeat(24_000));
    for text in [joins, concatenations, flat, list] {
        let accesses = of(&text).accesses;
        assert!(
            accesses
                .iter()
                .all(|access| access.effect != Effect::Unknown)
        );
    }
}

#[test]
fn a_statement_has_its_own_piece_of_the_text() {
    let text = "  SELECT 'é;' ;\n-- c\nDELETE FROM t  ; ";
    let script = parse(text).unwrap();
    let pieces: Vec<&str> = script.statements.iter().map(|s| &*s.text).collect();
    assert_eq!(pieces, ["SELECT 'é;'", "DELETE FROM t"]);
    for statement in script.statements.iter() {
        assert!(text[statement.offset..].starts_with(&*statement.text));
    }
    assert!(parse("").unwrap().statements.is_empty());
    assert!(parse(" ; -- nothing").unwrap().statements.is_empty());
    assert!(matches!(
        parse("SELECT 1\0; DROP TABLE t"),
        Err(ParseError::Unparsable {
            position: Some(8),
            ..
        })
    ));
}

#[test]
fn prepare_names_the_statement_that_will_run() {
    let Kind::Prepare { name, inner } = of("PREPARE q (int, text) AS\n SELECT $1 AS a").kind else {
        panic!("not a PREPARE");
    };
    assert_eq!(name, "q");
    assert_eq!(&*inner.text, "SELECT $1 AS a");
    assert!(matches!(classified(&inner).kind, Kind::Plain));
    assert_eq!(classified(&inner).verb, "SELECT");
}

#[test]
fn passwords_are_secret_wherever_they_stand() {
    for text in [
        "CREATE ROLE a LOGIN PASSWORD 'hunter2' VALID UNTIL 'tomorrow'",
        "CREATE USER a WITH ENCRYPTED PASSWORD 'hunter2'",
        "ALTER ROLE a PASSWORD /* here */ 'hunter2'",
        "ALTER USER a WITH PASSWORD $$hunter2$$",
        "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'u', password 'hunter2')",
        "ALTER SERVER s OPTIONS (SET password 'hunter2')",
        "CREATE SUBSCRIPTION s CONNECTION 'host=h password=hunter2' PUBLICATION p",
        "ALTER SYSTEM SET primary_conninfo = 'password=hunter2'",
    ] {
        let statement = only(text);
        let mut shown = statement.text.to_string();
        for span in classified(&statement).secret_spans.iter().rev() {
            shown.replace_range(span.clone(), "***");
        }
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(of("SELECT 'x'").secret_spans.is_empty());
}

#[test]
fn what_no_longer_holds_is_said() {
    for (text, change) in [
        ("SET search_path = app", SessionChange::SearchPath),
        ("SET LOCAL search_path = app", SessionChange::SearchPath),
        ("RESET ALL", SessionChange::SearchPath),
        ("DISCARD ALL", SessionChange::SearchPath),
        ("ROLLBACK", SessionChange::SearchPath),
        ("ROLLBACK TO a", SessionChange::SearchPath),
        ("COMMIT", SessionChange::SearchPath),
        ("SET ROLE a", SessionChange::SearchPath),
        (
            "SELECT set_config('search_path', 'a', false)",
            SessionChange::SearchPath,
        ),
        ("SELECT unheard_of()", SessionChange::Everything),
        ("DO 'x'", SessionChange::Everything),
        ("CALL p()", SessionChange::Everything),
        ("CREATE TABLE t ()", SessionChange::Catalog),
        ("DROP TABLE IF EXISTS t", SessionChange::Catalog),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS ''",
            SessionChange::Catalog,
        ),
        ("DISCARD TEMP", SessionChange::Catalog),
        ("ROLLBACK", SessionChange::Catalog),
    ] {
        assert!(of(text).changes.contains(&change), "{text}");
    }
    for text in [
        "SELECT 1",
        "BEGIN",
        "SET application_name = 'x'",
        "PREPARE p AS SELECT f()",
    ] {
        assert_eq!(of(text).changes, [], "{text}");
    }
}

#[test]
fn string_constants_are_collected() {
    let strings = of("INSERT INTO t VALUES ('a', E'b\\n', $$c$$, U&'d', 1) RETURNING 'e'").strings;
    let mut strings = strings;
    strings.sort();
    assert_eq!(strings, ["a", "b\n", "c", "d", "e"]);
}

#[test]
fn copy_says_how_its_data_reads() {
    let text = "COPY t (a, b) TO STDOUT WITH (FORMAT csv, DELIMITER '|', NULL 'n', HEADER)";
    let Kind::Copy {
        direction,
        format,
        relation,
        columns,
        options,
    } = of(text).kind
    else {
        panic!("not a COPY");
    };
    assert_eq!(direction, crate::CopyDirection::Out);
    assert_eq!(format, crate::CopyFormat::Csv);
    assert_eq!(relation, Some((String::new(), "t".to_owned())));
    assert_eq!(columns, ["a", "b"]);
    assert_eq!(options.get("delimiter").map(String::as_str), Some("|"));
    assert_eq!(options.get("null").map(String::as_str), Some("n"));
    let old = of("COPY t FROM STDIN BINARY").kind;
    assert!(matches!(
        old,
        Kind::Copy {
            format: crate::CopyFormat::Binary,
            ..
        }
    ));
    assert!(matches!(of("COPY t TO '/tmp/x'").kind, Kind::Plain));
}
