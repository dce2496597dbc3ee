//! What real drivers are told is the same, byte for byte, whether the sidecar stands between or not;
//! what is masked they can decode, and what is denied is to them an ordinary refusal.

/// Each driver with what shows how far its program came, and how many masked rows it reads.
macro_rules! drivers {
    ($($test:ident: $name:literal in $language:ident, $marks:expr, $masked:literal;)*) => {
        mod ordinary_sql_is_not_disturbed { $(
            #[test]
            fn $test() -> anyhow::Result<()> { super::$test::DRIVER.is_not_disturbed(&$marks) }
        )* }
        mod denials_are_ordinary_refusals { $(
            #[test]
            fn $test() -> anyhow::Result<()> { super::$test::DRIVER.is_denied_as_by_the_server() }
        )* }
        mod masked_values_can_be_decoded { $(
            #[test]
            fn $test() -> anyhow::Result<()> { super::$test::DRIVER.reads_masked_values($masked) }
        )* }
        $(mod $test {
            use chaperone_e2e::drivers::{Driver, Language};
            pub(super) const DRIVER: Driver = Driver { name: $name, language: Language::$language };
        })*
    };
}

drivers! {
    psycopg2: "psycopg2" in Python, ["cancelled 57014", "notified"], 2;
    asyncpg: "asyncpg" in Python, ["cancelled 57014", "notified"], 2;
    pgjdbc: "pgjdbc" in Java, ["cancelled 57014", "notified"], 3;
    node_postgres: "node-postgres" in JavaScript, ["notified"], 2;
    pgx: "pgx" in Go, ["cancelled 57014", "notified"], 3;
    sqlalchemy: "sqlalchemy" in Python, ["columns"], 2;
    django: "django" in Python, ["inspectdb"], 2;
    rails: "rails" in Ruby, ["create_table"], 2;
    psql_and_pg_dump: "clients" in Shell, ["CREATE TABLE", "Asynchronous notification"], 2;
    prisma: "prisma" in JavaScript, ["rolled back"], 2;
}
