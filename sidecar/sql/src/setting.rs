//! What setting a configuration parameter is: one answer for SET, set_config() and the parameters
//! of the startup packet (policy.md, Client baseline).

use chaperone_policy::{Access, Effect, Object};

use crate::resolve::{PG_CATALOG, PG_TEMP, split_identifiers};

/// Judges one setting. `value` is the text as `set_config` takes it, and `None` where it is not
/// known before the statement runs; then only parameters whose every value is harmless are in the
/// baseline.
pub fn setting_access(name: &str, value: Option<&str>) -> Access {
    let name = name.to_ascii_lowercase();
    if matches!(name.as_str(), "role" | "session_authorization") {
        return Access {
            effect: Effect::Privilege,
            object: Object::Named {
                kind: "role".to_owned(),
                name: value.unwrap_or("*").to_owned(),
            },
            baseline: false,
        };
    }
    let baseline = is_harmless(&name, value);
    Access {
        effect: Effect::Session,
        object: Object::Setting(name),
        baseline,
    }
}

fn is_harmless(name: &str, value: Option<&str>) -> bool {
    const ANY_VALUE: &[&str] = &[
        "application_name",
        "bytea_output",
        "client_min_messages",
        "datestyle",
        "extra_float_digits",
        "intervalstyle",
        "jit",
        "quote_all_identifiers",
        "restrict_nonsystem_relation_kind",
        "synchronize_seqscans",
        "timezone",
    ];
    if ANY_VALUE.contains(&name) {
        return true;
    }
    // A name with a dot belongs to an extension, which may do anything with it.
    if !name.contains('.')
        && (name.ends_with("_timeout")
            || name.starts_with("transaction_")
            || name.starts_with("default_transaction_"))
    {
        return name != "transaction_snapshot";
    }
    let Some(value) = value else {
        return false;
    };
    match name {
        "row_security" => is_boolean(value, false),
        "standard_conforming_strings" => is_boolean(value, true),
        "client_encoding" => is_harmless_encoding(value),
        "search_path" => is_literal_path(value),
        _ => false,
    }
}

/// PostgreSQL takes unambiguous prefixes of these words for a boolean; only whole ones are taken
/// here.
fn is_boolean(value: &str, wanted: bool) -> bool {
    let words: &[&str] = if wanted {
        &["on", "true", "yes", "1"]
    } else {
        &["off", "false", "no", "0"]
    };
    words.contains(&value.trim().to_ascii_lowercase().as_str())
}

/// UTF-8 under the names that PostgreSQL knows it by, or SQL_ASCII, which is answered as UTF-8.
fn is_harmless_encoding(value: &str) -> bool {
    let letters: String = value
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    matches!(letters.as_str(), "utf8" | "unicode" | "sqlascii")
}

/// Schemas by their names, with pg_catalog absent or first, and pg_temp absent or last: a later
/// pg_catalog, or an earlier pg_temp, lets another object take a built-in one's name.
fn is_literal_path(value: &str) -> bool {
    let Some(schemas) = split_identifiers(value, ',') else {
        return false;
    };
    let last = schemas.len().saturating_sub(1);
    schemas
        .iter()
        .enumerate()
        .all(|(place, schema)| match schema.as_str() {
            PG_CATALOG => place == 0,
            PG_TEMP => place == last && place > 0,
            schema => !schema.starts_with('$') && !schema.starts_with("pg_"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(name: &str, value: Option<&str>) -> bool {
        setting_access(name, value).baseline
    }

    #[test]
    fn what_drivers_set_is_in_the_baseline() {
        for (name, value) in [
            ("DateStyle", "ISO, MDY"),
            ("TimeZone", "Europe/Berlin"),
            ("application_name", "psql"),
            ("statement_timeout", "0"),
            ("default_transaction_isolation", "serializable"),
            ("transaction_read_only", "on"),
            ("row_security", "off"),
            ("client_encoding", "UTF8"),
            ("client_encoding", "utf-8"),
            ("client_encoding", "SQL_ASCII"),
            ("standard_conforming_strings", "on"),
            ("search_path", ""),
            ("search_path", "\"\""),
            ("search_path", "app, public"),
            ("search_path", "pg_catalog, app"),
            ("search_path", "app, pg_temp"),
        ] {
            assert!(baseline(name, Some(value)), "{name} = {value}");
        }
        assert!(baseline("extra_float_digits", None));
    }

    #[test]
    fn what_changes_meaning_is_not_in_the_baseline() {
        for (name, value) in [
            ("standard_conforming_strings", Some("off")),
            ("backslash_quote", Some("on")),
            ("client_encoding", Some("SJIS")),
            ("client_encoding", None),
            ("search_path", None),
            ("search_path", Some("\"$user\", public")),
            ("search_path", Some("app, pg_catalog")),
            ("search_path", Some("pg_temp, app")),
            ("search_path", Some("pg_temp_3")),
            ("search_path", Some("app,,public")),
            ("row_security", Some("on")),
            ("row_security", Some("of")),
            ("work_mem", Some("1GB")),
            ("session_replication_role", Some("replica")),
            ("myext.x_timeout", Some("1")),
            ("transaction_snapshot", Some("00000003-0000001B-1")),
        ] {
            assert!(!baseline(name, value), "{name} = {value:?}");
        }
    }

    #[test]
    fn becoming_another_role_is_a_privilege() {
        let access = setting_access("ROLE", Some("admin"));
        assert_eq!(access.effect, Effect::Privilege);
        assert!(!access.baseline);
        assert_eq!(
            setting_access("session_authorization", Some("x")).effect,
            Effect::Privilege
        );
    }
}
