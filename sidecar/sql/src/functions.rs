//! What the functions of pg_catalog may do, by a table generated from real servers
//! (`functions/generate.sh`).

mod generated;

/// What is known of a function of pg_catalog. All overloads of a name are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    /// Computes a value from its arguments, the clock or the schema; nothing else.
    Pure,
    /// Has effects of its own, or shows data that no relation is named for.
    Effectful,
    /// No supported server has a function of this name.
    Absent,
}

/// Looks a name of pg_catalog up.
pub(crate) fn builtin(name: &str) -> Builtin {
    let listed = |list: &[&str]| list.binary_search(&name).is_ok();
    if makes_any_type(name) {
        Builtin::Effectful
    } else if listed(generated::PURE) || listed(generated::HARMLESS) {
        Builtin::Pure
    } else if listed(generated::EFFECTFUL) {
        Builtin::Effectful
    } else {
        Builtin::Absent
    }
}

/// Makes a value of a type that an OID names: of a domain too, whose constraints may run any
/// function.
fn makes_any_type(name: &str) -> bool {
    matches!(
        name,
        "array_in"
            | "array_recv"
            | "domain_in"
            | "domain_recv"
            | "multirange_in"
            | "multirange_recv"
            | "range_in"
            | "range_recv"
            | "record_in"
            | "record_recv"
    )
}

/// Reads or writes files of the server.
pub(crate) fn is_unsafe_io(name: &str) -> bool {
    const PREFIXES: &[&str] = &["pg_read_", "pg_ls_", "pg_stat_file"];
    const NAMES: &[&str] = &[
        "lo_export",
        "lo_import",
        "pg_current_logfile",
        "pg_hba_file_rules",
        "pg_ident_file_mappings",
        "pg_show_all_file_settings",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Takes or gives back an advisory lock.
pub(crate) fn is_advisory_lock(name: &str) -> bool {
    name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_")
}

/// Runs a text as SQL, or reads relations that are named by a value: what it does cannot be seen.
pub(crate) fn runs_unseen_sql(name: &str) -> bool {
    name.contains("_to_xml") || matches!(name, "ts_stat" | "ts_rewrite")
}

/// Helpers of information_schema that drivers call when they introspect; each is immutable or
/// stable and reads only pg_catalog.
pub(crate) fn is_information_schema_helper(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "_pg_char_max_length",
        "_pg_char_octet_length",
        "_pg_datetime_precision",
        "_pg_expandarray",
        "_pg_index_position",
        "_pg_interval_type",
        "_pg_numeric_precision",
        "_pg_numeric_precision_radix",
        "_pg_numeric_scale",
        "_pg_truetypid",
        "_pg_truetypmod",
    ];
    NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_with_effects_of_their_own_are_never_pure() {
        for name in [
            "query_to_xml",
            "table_to_xml",
            "database_to_xmlschema",
            "pg_read_file",
            "pg_ls_dir",
            "lo_import",
            "lo_get",
            "pg_sleep",
            "pg_advisory_lock",
            "pg_try_advisory_xact_lock",
            "pg_advisory_unlock",
            "pg_terminate_backend",
            "pg_reload_conf",
            "pg_switch_wal",
            "set_config",
            "pg_notify",
            "nextval",
            "setval",
            "ts_stat",
            "ts_rewrite",
            "pg_stat_get_activity",
            "pg_logical_emit_message",
            "pg_replication_origin_create",
            "pg_export_snapshot",
            "pg_hba_file_rules",
            "pg_sequence_last_value",
            "pg_stat_get_backend_activity",
            "domain_in",
            "record_recv",
        ] {
            assert_eq!(builtin(name), Builtin::Effectful, "{name}");
        }
    }

    #[test]
    fn what_drivers_call_is_pure() {
        for name in [
            "version",
            "current_setting",
            "now",
            "random",
            "gen_random_uuid",
            "pg_get_viewdef",
            "has_table_privilege",
            "format_type",
            "pg_is_in_recovery",
            "pg_relation_size",
            "obj_description",
            "txid_current",
            "array_agg",
            "row_number",
            "pg_input_is_valid",
            "to_regclass",
            "timezone",
            "pg_advisory_unlock_all",
            "lastval",
        ] {
            assert_eq!(builtin(name), Builtin::Pure, "{name}");
        }
        assert_eq!(builtin("list_customers"), Builtin::Absent);
    }
}
