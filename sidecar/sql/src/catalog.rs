//! The facts of one database that names are resolved with.

use std::collections::{HashMap, HashSet};

use crate::functions::{Builtin, builtin};
use crate::resolve::PG_CATALOG;
use crate::system::holds_no_values;

/// Views upon views beyond which nothing is looked at.
const MOST_NESTED_VIEWS: usize = 16;

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
    /// Rules besides a view's own query (`pg_rewrite`): what it is asked for is not all that runs,
    /// and its rows may be those of anything.
    pub has_rules: bool,
    /// For a view: all that its query names. `None` where that is not known.
    pub definition: Option<Definition>,
}

/// What the query of a view or materialised view names, anywhere in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definition {
    /// OIDs of relations.
    pub relations: Vec<u32>,
    /// Schema and name of each function, those behind its operators and casts too.
    pub functions: Vec<(String, String)>,
}

impl Relation {
    /// Whether its values are its own: a table without rules, and none of the system's that keeps
    /// what others are made of (`pg_statistic` shows values of any column, `pg_largeobject` the
    /// bytes of any value that was put there).
    pub fn is_traced(&self) -> bool {
        let system = matches!(self.schema.as_str(), "pg_catalog" | "information_schema")
            || self.schema.starts_with("pg_toast");
        if system {
            return holds_no_values(&self.schema, &self.name);
        }
        !self.has_rules
            && matches!(
                self.kind,
                RelationKind::Table | RelationKind::PartitionedTable | RelationKind::Sequence
            )
    }
}

impl Catalog {
    /// Whether a view shows nothing but values of relations that `masked` does not hold for, and
    /// what pure functions make of them.
    pub fn is_clean_view(&self, relation: &Relation, masked: &dyn Fn(&Relation) -> bool) -> bool {
        self.is_clean(relation, masked, MOST_NESTED_VIEWS)
    }

    fn is_clean(&self, view: &Relation, masked: &dyn Fn(&Relation) -> bool, depth: usize) -> bool {
        let Some(depth) = depth.checked_sub(1) else {
            return false;
        };
        let Some(definition) = view.definition.as_ref().filter(|_| !view.has_rules) else {
            return false;
        };
        let pure = |name: &(String, String)| match name.0.as_str() {
            PG_CATALOG => builtin(&name.1) == Builtin::Pure,
            _ => self.extension_functions.contains(name),
        };
        let clean = |oid: &u32| {
            self.relations.get(oid).is_some_and(|part| {
                !masked(part) && (part.is_traced() || self.is_clean(part, masked, depth))
            })
        };
        definition.functions.iter().all(pure) && definition.relations.iter().all(clean)
    }
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
    /// For a generated column: the columns of the same relation that it is made of.
    pub made_of: Option<Vec<i16>>,
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
