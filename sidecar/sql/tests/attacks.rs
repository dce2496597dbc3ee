//! What an attacker with psql tries: each line of the tables is a statement, and what must be
//! said of it. The masked columns are `customers.email`, `.card`, `.salary`, `.profile`, `.tags`
//! and `people.email`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use chaperone_policy::Effect;
use chaperone_sql::catalog_sql::CatalogQuery;
use chaperone_sql::{
    Catalog, CatalogBuilder, Classification, Context, MaskedColumns, Overlay, SearchPath, classify,
    parse, shape,
};

/// Name, relkind, columns with their types, parent or owning table.
const RELATIONS: &[(&str, &str, &str, &str)] = &[
    (
        "customers",
        "r",
        "id:23 name:25 email:25 card:25 salary:23 profile:3802 tags:1009 city:25",
        "",
    ),
    ("orders", "r", "id:23 customer_id:23 item:25 total:1700", ""),
    ("notes", "r", "id:23 body:25 n:23", ""),
    ("notes_id_seq", "S", "last_value:20", "notes"),
    ("other_seq", "S", "last_value:20", ""),
    ("people", "p", "id:23 email:25 region:25", ""),
    ("people_eu", "r", "id:23 email:25 region:25", "people"),
    ("base", "r", "id:23 note:25", ""),
    ("v_customers", "v", "id:23 name:25 email:25", ""),
];

struct Masks;

impl MaskedColumns for Masks {
    fn any(&self) -> bool {
        true
    }
    fn column(&self, schema: &str, relation: &str, column: &str) -> bool {
        let masked = match relation {
            "customers" => ["email", "card", "salary", "profile", "tags"].contains(&column),
            "people" | "people_eu" => column == "email",
            _ => false,
        };
        schema == "public" && masked
    }
    fn predicates_allowed(&self, _: &str, _: &str, _: &str) -> bool {
        false
    }
    fn function_unmasked(&self, _: &str, _: &str) -> bool {
        false
    }
}

fn catalog() -> Catalog {
    let mut builder = CatalogBuilder::new();
    let oid = |name: &str| {
        let place = RELATIONS
            .iter()
            .position(|(relation, ..)| *relation == name);
        (16384 + place.unwrap()).to_string()
    };
    for (name, kind, columns, other) in RELATIONS {
        let own = oid(name);
        let owner = (*kind == "S" && !other.is_empty()).then(|| oid(other));
        let row = [
            Some(own.as_str()),
            Some("public"),
            Some(name),
            Some(kind),
            owner.as_deref(),
        ];
        builder.add(CatalogQuery::Relations, &row).unwrap();
        for (place, column) in columns.split(' ').enumerate() {
            let (column, type_oid) = column.split_once(':').unwrap();
            let number = (place + 1).to_string();
            let row = [
                Some(own.as_str()),
                Some(&number),
                Some(column),
                Some(type_oid),
            ];
            builder.add(CatalogQuery::Columns, &row).unwrap();
        }
        if *kind == "r" && !other.is_empty() {
            let row = [Some(own), Some(oid(other))];
            let row: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
            builder.add(CatalogQuery::Parents, &row).unwrap();
        }
    }
    for (schema, name) in [
        ("public", "side"),
        ("public", "check_mail"),
        ("public", "to_pair"),
        ("public", "json_scalar"),
        ("public", "json_object"),
        ("public", "json_value"),
        ("public", "merge_action"),
        ("evil", "lower"),
    ] {
        let row = [Some("20000"), Some(schema), Some(name), Some("f")];
        builder.add(CatalogQuery::Functions, &row).unwrap();
    }
    for name in ["max", "split_part", "digest"] {
        let row = [Some("20001"), Some("public"), Some(name), Some("f")];
        builder.add(CatalogQuery::Functions, &row).unwrap();
        builder
            .add(CatalogQuery::ExtensionFunctions, &row[1..3])
            .unwrap();
    }
    for row in [
        ["public", "mail", "public", "check_mail"],
        ["public", "pair", "public", "to_pair"],
        ["public", "_odd", "public", "check_mail"],
    ] {
        builder.add(CatalogQuery::Types, &row.map(Some)).unwrap();
    }
    for row in [
        ["public", "work_mail", "public", "mail"],
        ["public", "letter", "public", "_work_mail"],
    ] {
        builder
            .add(CatalogQuery::TypeParts, &row.map(Some))
            .unwrap();
    }
    builder.build(1)
}

fn classify_one(catalog: &Catalog, text: &str) -> Classification {
    let script = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(script.statements.len(), 1, "{text}");
    let path = ["pg_catalog", "public"].map(str::to_owned);
    let context = Context {
        catalog,
        search_path: &SearchPath::Known(path.into()),
        overlay: &Overlay::default(),
        masks: &Masks,
        prepared: &|_| None,
        cursor_touches_masked: &|_| None,
    };
    classify(&script.statements[0], &context)
}

/// Each line of `table` that `wrong` finds something to say about, said.
fn holds(table: &str, wrong: impl Fn(&Classification) -> Option<String>) {
    let catalog = catalog();
    let found: Vec<String> = table
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|text| {
            Some(format!(
                "{text}\n    {}",
                wrong(&classify_one(&catalog, text))?
            ))
        })
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn comparing_a_part_of_a_masked_column_is_refused() {
    let table = "
        # the name of something computed is no bare column
        SELECT name FROM (SELECT name, left(email, 1) AS x FROM customers) s WHERE x = 'a'
        SELECT name FROM (SELECT name, left(email, 1) AS x FROM customers) s WHERE s.x = 'a'
        SELECT name FROM (SELECT name, left(email, 1) AS email FROM customers) s WHERE email = 'a'
        SELECT name FROM (SELECT name, email::varchar(1) FROM customers) s WHERE email = 'a'
        SELECT name FROM (SELECT name, left(email, 1) FROM customers) s WHERE \"left\" = 'a'
        SELECT name FROM (SELECT name, left(email, 1) FROM customers) s (n, x) WHERE x IN ('a', 'b')
        WITH s (n, x) AS (SELECT name, left(email, 1) FROM customers) SELECT n FROM s WHERE x = 'a'
        WITH s AS (SELECT left(email, 1) AS x FROM customers), t (y) AS (SELECT * FROM s) SELECT 1 FROM t WHERE y = 'a'
        WITH s AS (SELECT left(email, 1) AS x FROM customers), t AS (SELECT x AS y FROM s) SELECT 1 FROM t WHERE y = 'a'
        SELECT 1 FROM (SELECT item FROM orders UNION ALL SELECT left(email, 1) FROM customers) s WHERE item = 'a'
        SELECT 1 FROM (VALUES ((SELECT left(email, 1) FROM customers LIMIT 1))) v WHERE column1 = 'a'
        SELECT 1 FROM (SELECT max(email) AS m FROM customers) s WHERE m = 'a'
        SELECT 1 FROM ((SELECT left(email, 1) AS x FROM customers) s CROSS JOIN notes) AS j (x) WHERE x = 'a'
        WITH d AS (DELETE FROM customers RETURNING left(email, 1) AS x) SELECT 1 FROM d WHERE x = 'a'
        DELETE FROM notes USING (SELECT left(email, 1) AS x FROM customers) s WHERE x = 'a'
        # whether it is NULL tells of it too
        SELECT 1 FROM (SELECT json_build_object(left(email, 1), 1)->>'a' AS x FROM customers) s WHERE x IS NOT NULL
        SELECT 1 FROM (SELECT tags[2] AS x FROM customers) s WHERE x IS NULL
        SELECT json_build_object(left(email, 1), 1)->>'a' FROM customers
        SELECT json_build_object('a', json_build_object(left(email, 1), 1))->'a'->>'x' FROM customers
        SELECT jsonb_build_object(email, 1)->'a' FROM customers
        SELECT json_object_agg(left(email, 1), 1)->>'a' FROM customers
        SELECT json_object(left(email, 1): 1)->>'a' FROM customers
        SELECT json_objectagg(left(email, 1): 1)->>'a' FROM customers
        SELECT x->>'a' FROM (SELECT json_build_object(left(email, 1), 1) AS x FROM customers) s
        SELECT to_json(s)->'x'->>'a' FROM (SELECT json_build_object(left(email, 1), 1) AS x FROM customers) s
        # a list in brackets holds numbers of columns
        SELECT name, email FROM customers GROUP BY (1, 2)
        SELECT count(*), email FROM customers GROUP BY (2, 2)
        SELECT count(*), email FROM customers GROUP BY ROLLUP ((1, 2))
        SELECT count(*), email FROM customers GROUP BY GROUPING SETS ((2, 2))
        # a function of an extension may fail or not
        SELECT digest(email, 'md5') FROM customers
        SELECT name FROM customers WHERE public.digest(email, 'md5') = 'x'
        SELECT 1 FROM (SELECT * FROM customers) s WHERE s.digest = 'x'
        # how long a list is, is known
        SELECT name FROM customers WHERE card = ANY($1)
        SELECT name FROM customers WHERE card = ANY($1::text[])
        INSERT INTO customers (id, email) SELECT n, 'x' || n FROM generate_series(1, 9999) n ON CONFLICT (email) DO NOTHING RETURNING id
        INSERT INTO customers (id, email) SELECT n, 'x' || n FROM generate_series(1, 9999) n ON CONFLICT DO NOTHING RETURNING id
        INSERT INTO customers (id, email) SELECT generate_series(1, 99), 'x' ON CONFLICT ON CONSTRAINT k DO NOTHING RETURNING id
        # rows in the order of an index; what fits a type; who else has the value
        CLUSTER customers USING customers_email_key
        ALTER TABLE customers ALTER COLUMN email TYPE varchar(10)
        CREATE TABLE guesses (e text REFERENCES customers (email))
        CREATE TABLE guesses (e text REFERENCES customers)
        ALTER TABLE notes ADD FOREIGN KEY (body) REFERENCES customers
        # a text that is read as JSON or XML fails or does not
        SELECT json_serialize(email) FROM customers
        SELECT json_array(email FORMAT JSON) FROM customers
        SELECT json_object('a': email FORMAT JSON) FROM customers
        SELECT json_array(email RETURNING varchar(3)) FROM customers
        SELECT json_arrayagg(email FORMAT JSON) FROM customers
        SELECT json_arrayagg(email RETURNING varchar(3)) FROM customers
        SELECT xmlserialize(DOCUMENT email AS text) FROM customers
    ";
    holds(table, |class| {
        let masking = &class.masking;
        (masking.predicate.is_none() && masking.flow.is_none()).then(|| "is let through".to_owned())
    });
}

#[test]
fn cutting_a_masked_column_in_place_is_refused() {
    let table = "
        UPDATE customers SET card = left(card, 12)
        UPDATE customers SET card = left(card, 12) RETURNING card
        UPDATE customers c SET card = substr(c.card, 5, 4) WHERE id = 1
        UPDATE customers SET card = right(card, 8), email = email
        UPDATE customers SET card = reverse(card)
        UPDATE customers SET card = card::varchar(4)
        UPDATE customers SET card = btrim(card, '0123456789')
        UPDATE customers SET card = md5(card)
        # what is too short to be shown in part is made longer
        UPDATE customers SET card = 'xxxxxxxx' || card
        UPDATE customers SET card = card || 'xxxxxxxx'
        UPDATE customers SET card = coalesce('xxxxxxxx' || card, '')
        UPDATE customers SET card = coalesce(left(card, 4), '')
        UPDATE customers SET card = CASE WHEN id = 1 THEN left(card, 4) ELSE card END
        UPDATE customers SET tags[1] = tags
        UPDATE customers SET card = (SELECT c.card FROM customers c WHERE c.id = 2)
        INSERT INTO customers (id, card) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET card = right(customers.card, 8)
        MERGE INTO customers c USING notes n ON n.id = c.id WHEN MATCHED THEN UPDATE SET card = left(c.card, 12)
    ";
    holds(table, |class| {
        class
            .masking
            .flow
            .is_none()
            .then(|| "is let through".to_owned())
    });
}

/// What happens to a row later, or what a function does, is not seen when it happens.
#[test]
fn what_would_copy_a_masked_value_later_is_refused() {
    let table = "
        CREATE RULE r AS ON UPDATE TO customers DO ALSO INSERT INTO notes SELECT OLD.*
        CREATE RULE r AS ON DELETE TO customers DO ALSO INSERT INTO notes VALUES (OLD.id, OLD.email)
        CREATE RULE r AS ON UPDATE TO customers DO INSTEAD NOTHING
        CREATE TRIGGER t AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION side()
        CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'INSERT INTO notes SELECT 1, email FROM customers'
        CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS 'BEGIN END'
        CREATE PROCEDURE f() LANGUAGE sql AS 'SELECT 1'
        CREATE FUNCTION f() RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO notes SELECT 1, email FROM customers; END
        CREATE TABLE copied AS SELECT side()
        CREATE TABLE copied AS SELECT * FROM side()
        CREATE VIEW copied AS SELECT side() AS s
        SELECT side() INTO copied
        ALTER TABLE customers ALTER card DROP EXPRESSION
    ";
    holds(table, |class| {
        class
            .masking
            .flow
            .is_none()
            .then(|| "is let through".to_owned())
    });
}

/// Rows of a table that another becomes part of are that one's, whatever the catalog still says.
#[test]
fn a_table_that_gains_rows_is_not_what_it_was() {
    let catalog = catalog();
    let altered = classify_one(&catalog, "ALTER TABLE customers INHERIT base");
    assert_eq!(
        altered.overlay.relations,
        [(("public".to_owned(), "base".to_owned()), Some(false))].into()
    );
    let path = ["pg_catalog", "public"].map(str::to_owned);
    let script = parse("SELECT note FROM base").unwrap();
    let read = classify(
        &script.statements[0],
        &Context {
            catalog: &catalog,
            search_path: &SearchPath::Known(path.into()),
            overlay: &altered.overlay,
            masks: &Masks,
            prepared: &|_| None,
            cursor_touches_masked: &|_| None,
        },
    );
    assert!(read.masking.touches_masked);
}

#[test]
fn errors_that_come_late_lose_what_they_quote() {
    let table = "
        COMMIT
        END
        COMMIT AND CHAIN
        PREPARE TRANSACTION 'x'
        SET CONSTRAINTS ALL IMMEDIATE
    ";
    holds(table, |class| {
        (!class.masking.touches_masked).then(|| "its errors are passed on".to_owned())
    });
}

/// A policy that allows reading and writing tables, and nothing else, must not cover these.
#[test]
fn an_effect_that_hides_in_a_value_is_found() {
    let table = "
        # the constraint of a domain, the function of a cast
        SELECT 'x'::mail
        SELECT CAST('x' AS public.mail)
        SELECT mail 'x'
        SELECT ARRAY['x']::mail[]
        SELECT '{x}'::_mail
        SELECT 'x'::work_mail
        SELECT '(x)'::letter
        SELECT 'x'::_odd
        SELECT 'x'::text::pair
        SELECT pg_typeof('x'::mail)
        SELECT * FROM json_to_record('{\"a\": \"x\"}') AS r (a mail)
        SELECT json_populate_record(NULL::letter, '{}')
        SELECT * FROM XMLTABLE('/a' PASSING '<a/>' COLUMNS x mail)
        SELECT xmlserialize(CONTENT '<a/>' AS mail)
        INSERT INTO notes (body) VALUES ('x'::mail)
        CREATE TEMP TABLE t (m mail)
        PREPARE p (mail) AS SELECT $1
        SELECT domain_in('x', 'mail'::regtype, -1)::text
        SELECT array_in('{x}', 'mail'::regtype, -1)
        SELECT pg_catalog.record_recv('', 'letter'::regtype, -1)
        SELECT pg_input_is_valid('x', 'mail')
        SELECT pg_input_is_valid('x', 'public.mail[]')
        SELECT pg_input_is_valid('x', '/**/mail')
        SELECT pg_input_is_valid('x', 'MAIL array')
        SELECT pg_input_is_valid('x', body) FROM notes
        SELECT * FROM pg_input_error_info('x', 'mail')
        # words of the newest grammar are functions to an older server
        SELECT json_scalar('x')
        SELECT json_object('a': 1)
        SELECT json_object('{a}')
        SELECT json_value('{}', '$.a')
        # rows in an encoding in which a delimiter can be half a letter
        COPY customers (name, email) TO STDOUT (ENCODING 'SJIS')
        COPY (SELECT name FROM customers) TO STDOUT (FORMAT csv, ENCODING 'GBK')
        COPY notes FROM STDIN (ENCODING 'BIG5')
    ";
    holds(table, |class| {
        let hidden = class
            .accesses
            .iter()
            .any(|access| matches!(access.effect, Effect::Execute | Effect::Unknown));
        (!hidden).then(|| format!("{:?}", class.accesses))
    });
}

/// The other side: what applications do every day is neither refused nor an effect of its own.
#[test]
fn ordinary_statements_are_let_through() {
    let table = "
        SELECT email FROM customers WHERE email = 'x'
        SELECT lower(email) AS email FROM customers WHERE email = 'x'
        SELECT id, email::text FROM customers WHERE email = 'x'
        SELECT source.email FROM (SELECT id, email FROM customers) source WHERE source.email = 'x'
        SELECT * FROM (SELECT id, email AS mail FROM customers) s WHERE mail IN ('x', 'y')
        WITH s (i, e) AS (SELECT id, email FROM customers) SELECT i FROM s WHERE e = $1
        SELECT c.id FROM customers AS c (i, n, e) WHERE e = 'x' AND e IS NOT NULL
        SELECT name FROM customers WHERE card = ANY('{1,2}') OR email = ANY(ARRAY['a', 'b'])
        SELECT 1 FROM v_customers WHERE email = 'x'
        SELECT name, count(*) FROM customers GROUP BY (1, 1)
        SELECT to_json(c)->>'email', row_to_json(c)->'email' FROM customers c
        SELECT profile->>'city', profile#>>'{a,b}' FROM customers
        SELECT json_build_object('mail', email)->>'mail' FROM customers
        SELECT json_array(email), json_arrayagg(email) FROM customers
        UPDATE customers SET email = 'x' WHERE id = 1
        UPDATE customers SET email = email, name = 'x' WHERE id = 1
        UPDATE customers SET email = lower(btrim(email))
        UPDATE customers SET email = coalesce(email, 'none')
        UPDATE customers SET email = CASE id WHEN 1 THEN 'a' WHEN 2 THEN 'b' ELSE email END WHERE id IN (1, 2)
        UPDATE customers SET email = CAST(email AS text)
        INSERT INTO customers (id, email) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET email = excluded.email
        INSERT INTO customers (id, email) VALUES (1, 'x'), (2, 'y') ON CONFLICT DO NOTHING
        INSERT INTO customers (id, email) SELECT n, 'x' FROM notes ON CONFLICT (id) DO NOTHING
        INSERT INTO notes (id) SELECT id FROM orders ON CONFLICT DO NOTHING
        SELECT '1'::int, '{}'::jsonb, 'a'::varchar(3), now()::date, 'notes'::regclass
        SELECT pg_input_is_valid('1', 'timestamp with time zone')
        SELECT nextval('notes_id_seq')
        # citext and pgcrypto have functions by the names of built-in ones
        SELECT max(total), split_part(item, 'a', 1) FROM orders
        SELECT max(email), split_part(email, '@', 2) FROM customers
        SELECT digest('x', 'md5'), public.digest(item, 'md5') FROM orders
        CLUSTER notes
        ALTER TABLE customers ALTER COLUMN name TYPE text
        COPY notes TO STDOUT (FORMAT csv, HEADER, ENCODING 'UTF8')
    ";
    holds(table, |class| {
        if let Some(what) = class
            .masking
            .predicate
            .as_ref()
            .or(class.masking.flow.as_ref())
        {
            return Some(format!("{what} is refused"));
        }
        let hidden = class
            .accesses
            .iter()
            .find(|access| matches!(access.effect, Effect::Execute | Effect::Unknown));
        hidden.map(|access| access.to_string())
    });
}

#[test]
fn a_number_that_names_an_object_is_not_interchangeable() {
    for text in [
        "SELECT nextval(16387)",
        "SELECT setval(16387, 1)",
        "SELECT nextval(CAST(16387 AS regclass)), id FROM notes WHERE id = 5",
    ] {
        assert_eq!(shape(text), None, "{text}");
    }
    let catalog = catalog();
    let own = classify_one(&catalog, "SELECT nextval(16387)");
    let other = classify_one(&catalog, "SELECT nextval(16388)");
    assert_ne!(own.accesses, other.accesses);
}
