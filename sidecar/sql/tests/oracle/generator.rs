//! Statements by a seed: tables, WITH queries that shadow them, sub-selects in every place, and
//! what may stand around a query.

use std::fmt::Write as _;

use xtask::random::Random;

/// Tables and views of `e2e/corpus/ordinary.sql` and the seed that have a column `id`.
const TABLES: &[&str] = &[
    "notes",
    "orders",
    "products",
    "categories",
    "purchases",
    "jobs",
    "customers",
    "people",
    "cheap_products",
    "paid_purchases",
    "contacts",
    "contacts_vip",
    "notes_view",
];
/// Those with other columns.
const OTHERS: &[&str] = &[
    "lines",
    "measures",
    "measures_january",
    "sales",
    "daily",
    "two_texts",
];
/// Search paths: the last is another one for names without a schema.
const PATHS: &[&str] = &[
    "public",
    "public",
    "reporting, public",
    "other, public",
    "reporting",
];

/// How deep queries nest.
const DEPTH: usize = 3;

pub(crate) struct Generator {
    random: Random,
    /// WITH queries in scope, all with a column `id`.
    scope: Vec<String>,
    names: usize,
    qualify: bool,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Generator {
        Generator {
            random: Random::new(seed),
            scope: Vec::new(),
            names: 0,
            qualify: false,
        }
    }

    /// A search path and a script to run under it.
    pub(crate) fn script(&mut self) -> (String, String) {
        self.scope.clear();
        self.names = 0;
        let path = self.pick(PATHS).to_owned();
        self.qualify = path == "reporting";
        let script = match self.below(24) {
            0..=8 => self.query(DEPTH),
            9..=15 => self.write(DEPTH),
            16 => format!("EXPLAIN (ANALYZE, COSTS off) {}", self.write(2)),
            17 => format!("PREPARE p AS {};\nEXECUTE p", self.write(2)),
            18 => {
                let query = self.query(2);
                format!("DECLARE c CURSOR FOR {query};\nFETCH ALL FROM c")
            }
            19 => format!("COPY ({}) TO STDOUT", self.query(2)),
            20 => {
                let query = self.query(2);
                let what = self.pick(&["TABLE", "TEMP TABLE", "VIEW", "MATERIALIZED VIEW"]);
                let what = what.to_owned();
                format!("CREATE {what} made AS {query}")
            }
            21 => {
                let table = self.table();
                let what = self.pick(&[
                    "TABLE {t}",
                    "LOCK TABLE {t} IN SHARE MODE",
                    "TRUNCATE {t}",
                    "ANALYZE {t}",
                    "COPY {t} TO STDOUT",
                    "ALTER TABLE {t} ADD made int",
                    "DROP TABLE {t}",
                    "SELECT 1 FROM ONLY {t}",
                    "CREATE TABLE made (LIKE {t})",
                    "DELETE FROM {t}",
                    "COMMENT ON TABLE {t} IS 'x'",
                    "CREATE INDEX ON {t} (id)",
                ]);
                what.replace("{t}", &table)
            }
            22 => {
                let (one, other) = (self.write(2), self.query(2));
                format!("{one};\n{other}")
            }
            _ => {
                let query = self.query(1);
                format!("SELECT s.id INTO TEMP made FROM ({query}) s")
            }
        };
        (path, script)
    }

    /// A query with one column, `id`.
    fn query(&mut self, depth: usize) -> String {
        let before = self.scope.len();
        let mut text = self.with(depth);
        let body = self.body(depth);
        text.push_str(&body);
        self.scope.truncate(before);
        text
    }

    fn with(&mut self, depth: usize) -> String {
        if depth == 0 || !self.chance(3) {
            return String::new();
        }
        let recursive = self.chance(4);
        let mut text = String::from(if recursive {
            "WITH RECURSIVE "
        } else {
            "WITH "
        });
        for number in 0..=self.below(2) {
            // Often the name of a table, which it hides from here on.
            let name = match self.below(3) {
                0 => format!("w{}", self.name()),
                _ => self.pick(TABLES).to_owned(),
            };
            if self.scope.contains(&name) || text.contains(&format!("{name} AS")) {
                continue;
            }
            if number > 0 && text.ends_with(") ") {
                text.insert(text.len() - 1, ',');
            }
            let how = self
                .pick(&["", "MATERIALIZED ", "NOT MATERIALIZED "])
                .to_owned();
            let inner = if depth == DEPTH && self.chance(4) {
                self.returning(depth - 1)
            } else {
                self.query(depth - 1)
            };
            let how = if inner.starts_with("SELECT") {
                how
            } else {
                String::new()
            };
            write!(text, "{name} AS {how}({inner}) ").unwrap();
            self.scope.push(name);
        }
        if text.ends_with("WITH ") || text.ends_with("RECURSIVE ") {
            text.clear();
        }
        text
    }

    fn body(&mut self, depth: usize) -> String {
        if depth > 0 && self.chance(6) {
            let operator = self
                .pick(&["UNION", "UNION ALL", "INTERSECT", "EXCEPT"])
                .to_owned();
            let (one, other) = (self.query(depth - 1), self.query(depth - 1));
            return format!(
                "SELECT * FROM ((({one})) {operator} ({other})) u{}",
                self.name()
            );
        }
        let (from, name, lockable) = self.from(depth);
        let condition = self.condition(depth);
        let output = self.output(&name, depth);
        let mut text = format!("SELECT {output} AS id FROM {from} WHERE {condition}");
        match self.below(8) {
            0 if lockable => {
                let lock = self.pick(&[" FOR UPDATE", " FOR SHARE", " FOR NO KEY UPDATE"]);
                text.push_str(lock);
            }
            1 => text.push_str(" LIMIT 3"),
            2 => {
                let order = self.scalar(depth);
                write!(text, " ORDER BY ({order}) LIMIT 2").unwrap();
            }
            _ => {}
        }
        text
    }

    fn output(&mut self, name: &str, depth: usize) -> String {
        match self.below(5) {
            0 if depth > 0 => self.scalar(depth),
            1 => "1".to_owned(),
            2 if depth > 0 => {
                let (condition, value) = (self.condition(depth - 1), self.scalar(depth - 1));
                format!("CASE WHEN {condition} THEN {value} END")
            }
            _ => format!("({name}.id IS NULL)::int"),
        }
    }

    /// A value of type int.
    fn scalar(&mut self, depth: usize) -> String {
        if depth == 0 {
            return "1".to_owned();
        }
        let query = self.query(depth - 1);
        match self.below(4) {
            0 => format!("(SELECT max(s.id) FROM ({query}) s)"),
            1 => format!("coalesce((SELECT s.id FROM ({query}) s LIMIT 1), 0)"),
            2 => format!("cardinality(ARRAY({query}))"),
            _ => format!("(SELECT count(*) FILTER (WHERE s.id > 0)::int FROM ({query}) s)"),
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.pick(&["true", "1 = 1", "NOT false"]).to_owned();
        }
        match self.below(7) {
            0 => format!("EXISTS ({})", self.query(depth - 1)),
            1 => format!("1 IN ({})", self.query(depth - 1)),
            2 => format!("1 >= ALL ({})", self.query(depth - 1)),
            3 => {
                let (one, other) = (self.condition(depth - 1), self.condition(depth - 1));
                format!("({one} OR {other})")
            }
            4 => format!("{} >= 0", self.scalar(depth)),
            _ => "true".to_owned(),
        }
    }

    /// A FROM list, the name of something in it with a column `id`, and whether it can be locked.
    fn from(&mut self, depth: usize) -> (String, String, bool) {
        let (one, name, lockable) = self.source(depth);
        if depth == 0 || !self.chance(3) {
            return (one, name, lockable);
        }
        let (other, _, _) = self.source(depth - 1);
        let text = match self.below(5) {
            0 => format!("{one}, {other}"),
            1 => format!("{one} CROSS JOIN {other}"),
            2 => format!("{one} LEFT JOIN {other} ON {}", self.condition(depth - 1)),
            3 => format!("{one} JOIN {other} ON true"),
            _ => {
                let query = self.query(depth - 1);
                format!("{one}, LATERAL ({query}) l{}", self.name())
            }
        };
        (text, name, false)
    }

    fn source(&mut self, depth: usize) -> (String, String, bool) {
        let alias = format!("a{}", self.name());
        match self.below(10) {
            0 if depth > 0 => (format!("({}) {alias}", self.query(depth - 1)), alias, false),
            1 => (
                format!("generate_series(1, 2) AS {alias} (id)"),
                alias,
                false,
            ),
            2 => {
                let table = self.pick(OTHERS).to_owned();
                let table = self.qualified(&table);
                (
                    format!("(SELECT 1 AS id FROM {table}) {alias}"),
                    alias,
                    false,
                )
            }
            3 => (
                format!("notes TABLESAMPLE system (50) AS {alias}")
                    .replace("notes", &self.qualified("notes")),
                alias,
                false,
            ),
            4 if !self.qualify => (format!("other.customers {alias}"), alias, false),
            5 => (
                format!("(SELECT 1 AS id FROM reporting.totals) {alias}"),
                alias,
                false,
            ),
            6 | 7 if !self.scope.is_empty() => {
                let at = self.below(self.scope.len());
                (format!("{} {alias}", self.scope[at]), alias, false)
            }
            _ => {
                let table = self.table();
                let only = self.pick(&["", "ONLY ", ""]).to_owned();
                let plain = ["notes", "orders", "products"]
                    .iter()
                    .any(|name| table.ends_with(name));
                (format!("{only}{table} {alias}"), alias, plain)
            }
        }
    }

    fn table(&mut self) -> String {
        let name = self.pick(TABLES).to_owned();
        self.qualified(&name)
    }

    fn qualified(&mut self, name: &str) -> String {
        match self.below(4) {
            0 => format!("public.{name}"),
            1 => format!("\"public\" . \"{name}\""),
            _ if self.qualify => format!("public.{name}"),
            _ => name.to_owned(),
        }
    }

    fn write(&mut self, depth: usize) -> String {
        let before = self.scope.len();
        let mut text = self.with(depth);
        let body = self.change(depth);
        text.push_str(&body);
        self.scope.truncate(before);
        text
    }

    fn returning(&mut self, depth: usize) -> String {
        let mut text = self.change(depth);
        if !text.contains("RETURNING") {
            text.push_str(" RETURNING 1 AS id");
        }
        text
    }

    fn change(&mut self, depth: usize) -> String {
        let notes = self.qualified("notes");
        let products = self.qualified("products");
        let inner = depth.saturating_sub(1);
        match self.below(8) {
            0 => {
                let first = 10_000 + 100 * self.name();
                let query = self.query(inner);
                format!(
                    "INSERT INTO {notes} SELECT {first} + row_number() OVER (), 'x' FROM ({query}) s"
                )
            }
            1 => {
                let value = self.scalar(depth);
                format!(
                    "INSERT INTO {notes} (id, body) VALUES (1, 'x' || {value}) ON CONFLICT (id) DO UPDATE SET body = excluded.body"
                )
            }
            2 => {
                let condition = self.condition(depth);
                format!("UPDATE {notes} AS t SET body = 'x' WHERE t.id < 5 AND {condition}")
            }
            3 => {
                let (from, _, _) = self.from(inner);
                format!("UPDATE {products} AS t SET stock = 1 FROM {from} WHERE t.id = 1")
            }
            4 => {
                let condition = self.condition(depth);
                format!("DELETE FROM {notes} AS t WHERE t.id = 3 AND {condition}")
            }
            5 => {
                let (from, _, _) = self.from(inner);
                let jobs = self.qualified("jobs");
                format!("DELETE FROM {jobs} AS t USING {from} WHERE t.id = 1")
            }
            6 => {
                let measures = self.qualified("measures");
                let set = self
                    .pick(&["value = 1", "at = at + interval '31 days'"])
                    .to_owned();
                format!("UPDATE {measures} AS t SET {set} WHERE t.at < '2026-01-03'")
            }
            _ => {
                let value = self.scalar(inner);
                let table = self.qualified("cheap_products");
                format!("UPDATE {table} AS t SET price = {value} WHERE t.id < 3")
            }
        }
    }

    fn name(&mut self) -> usize {
        self.names += 1;
        self.names
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.index(bound)
    }
}
