//! The system relations that describe the schema and hold no data: reading them is `Catalog`.

/// Whether reading this relation of pg_catalog or information_schema only tells of the schema.
///
/// Left out, and so covered only by a rule that names them: statistics and their samples, other
/// sessions, passwords, user mappings and the options of servers, large objects, sequence values,
/// locks, configuration files, replication.
pub(crate) fn describes_the_schema(schema: &str, name: &str) -> bool {
    match schema {
        "pg_catalog" => PG_CATALOG.binary_search(&name).is_ok(),
        "information_schema" => {
            !INFORMATION_SCHEMA_WITH_DATA.contains(&name) && !name.starts_with("_pg_")
        }
        _ => false,
    }
}

/// Whether this relation of pg_catalog, though it may hold secrets of the one who set it up, shows no
/// value of any column: beside masks it is like any other table.
pub(crate) fn holds_no_values(schema: &str, name: &str) -> bool {
    describes_the_schema(schema, name)
        || (schema == "pg_catalog" && OPTIONS.binary_search(&name).is_ok())
}

/// What was written in CREATE and ALTER statements for others than tables. Sorted.
const OPTIONS: &[&str] = &[
    "pg_db_role_setting",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_foreign_table",
];

/// Options of foreign servers, tables and user mappings hold passwords and file names.
const INFORMATION_SCHEMA_WITH_DATA: &[&str] = &[
    "column_options",
    "foreign_data_wrapper_options",
    "foreign_data_wrappers",
    "foreign_server_options",
    "foreign_servers",
    "foreign_table_options",
    "user_mapping_options",
    "user_mappings",
];

/// Sorted.
const PG_CATALOG: &[&str] = &[
    "pg_aggregate",
    "pg_am",
    "pg_amop",
    "pg_amproc",
    "pg_attrdef",
    "pg_attribute",
    "pg_auth_members",
    "pg_available_extension_versions",
    "pg_available_extensions",
    "pg_cast",
    "pg_class",
    "pg_collation",
    "pg_constraint",
    "pg_conversion",
    "pg_cursors",
    "pg_database",
    "pg_default_acl",
    "pg_depend",
    "pg_description",
    "pg_enum",
    "pg_event_trigger",
    "pg_extension",
    "pg_group",
    "pg_index",
    "pg_indexes",
    "pg_inherits",
    "pg_init_privs",
    "pg_language",
    "pg_largeobject_metadata",
    "pg_matviews",
    "pg_namespace",
    "pg_opclass",
    "pg_operator",
    "pg_opfamily",
    "pg_parameter_acl",
    "pg_partitioned_table",
    "pg_policies",
    "pg_policy",
    "pg_prepared_statements",
    "pg_proc",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_publication_tables",
    "pg_range",
    "pg_rewrite",
    "pg_roles",
    "pg_rules",
    "pg_seclabel",
    "pg_seclabels",
    "pg_sequence",
    "pg_settings",
    "pg_shdepend",
    "pg_shdescription",
    "pg_shseclabel",
    "pg_statistic_ext",
    "pg_tables",
    "pg_tablespace",
    "pg_timezone_abbrevs",
    "pg_timezone_names",
    "pg_transform",
    "pg_trigger",
    "pg_ts_config",
    "pg_ts_config_map",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
    "pg_type",
    "pg_user",
    "pg_views",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_no_schema_and_no_values_either() {
        assert!(OPTIONS.is_sorted());
        for name in OPTIONS {
            assert!(!describes_the_schema("pg_catalog", name), "{name}");
            assert!(holds_no_values("pg_catalog", name), "{name}");
            assert!(!holds_no_values("public", name), "{name}");
        }
        for name in [
            "pg_statistic",
            "pg_stats",
            "pg_largeobject",
            "pg_stat_activity",
        ] {
            assert!(!holds_no_values("pg_catalog", name), "{name}");
        }
    }

    #[test]
    fn the_list_is_sorted_and_holds_nothing_with_data() {
        assert!(PG_CATALOG.is_sorted());
        for name in [
            "pg_stats",
            "pg_statistic",
            "pg_statistic_ext_data",
            "pg_stats_ext",
            "pg_stat_activity",
            "pg_authid",
            "pg_shadow",
            "pg_largeobject",
            "pg_user_mapping",
            "pg_user_mappings",
            "pg_foreign_server",
            "pg_foreign_table",
            "pg_sequences",
            "pg_locks",
            "pg_subscription",
            "pg_hba_file_rules",
            "pg_file_settings",
            "pg_replication_slots",
            "pg_prepared_xacts",
        ] {
            assert!(!describes_the_schema("pg_catalog", name), "{name}");
        }
        assert!(!describes_the_schema("public", "pg_class"));
    }
}
