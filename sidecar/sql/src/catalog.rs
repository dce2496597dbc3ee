//! The facts of one database that names are resolved with.

use std::collections::{HashMap, HashSet};

/// A snapshot of the catalog, as one role sees it. Built by the translator from
/// `pg_class`, `pg_attribute`, `pg_inherits`, `pg_proc` …; immutable once built.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Grows with every reload, so that a cached classification is never used past it.
    pub generation: u64,
    /// All relations by OID, those of pg_catalog and information_schema included.
    pub relations: HashMap<u32, Relation>,
    /// Functions, procedures and aggregates outside pg_catalog, by (schema, name).
    pub functions: HashMap<(String, String), Vec<Function>>,
    /// Those of them that are not in `functions`: immutable members of extensions, all overloads.
    /// Installing an extension takes rights that make them as trusted as built-in ones.
    pub extension_functions: HashSet<(String, String)>,
    /// (schema, name) → OID.
    pub by_name: HashMap<(String, String), u32>,
    /// Operators outside pg_catalog: (schema, operator name) → the functions behind them.
    pub operators: HashMap<(String, String), Vec<(String, String)>>,
    /// Types outside pg_catalog whose values run functions when they are made: (schema, type
    /// name) → the functions of casts to it, and of its CHECK constraints where it is a domain
    /// or holds one. Underscores before the name are left out: arrays are found by their elements.
    pub types: HashMap<(String, String), Vec<(String, String)>>,
    /// All schemas.
    pub schemas: Vec<String>,
}

/// One relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema name.
    pub schema: String,
    /// Relation name.
    pub name: String,
    /// `pg_class.relkind`.
    pub kind: RelationKind,
    /// Live columns, by attribute number.
    pub columns: Vec<Column>,
    /// Direct parents: partition or inheritance (`pg_inherits`).
    pub parents: Vec<u32>,
    /// For a sequence: the table that owns it (`pg_depend`).
    pub owner_table: Option<u32>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// `pg_attribute.attnum`; system columns are negative.
    pub attnum: i16,
    /// Column name.
    pub name: String,
    /// `pg_attribute.atttypid`.
    pub type_oid: u32,
}

/// `pg_class.relkind` (PostgreSQL, System Catalogs, pg_class).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RelationKind {
    /// `r`
    Table,
    /// `p`
    PartitionedTable,
    /// `v`
    View,
    /// `m`
    MaterializedView,
    /// `f`
    ForeignTable,
    /// `S`
    Sequence,
    /// `i`, `I`, `t`, `c` and whatever comes later.
    Other,
}

/// One overload of a function outside pg_catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// `pg_proc.oid`.
    pub oid: u32,
    /// `f`, `p`, `a` or `w` (`pg_proc.prokind`).
    pub kind: char,
}
