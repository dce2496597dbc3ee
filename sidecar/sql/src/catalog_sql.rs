//! How a catalog is read: the queries to run on the session's own connection, for PostgreSQL 13
//! to 18, and the builder that takes their rows.
//!
//! Every name in the queries carries its schema, so that no search path changes what they mean.
//! They run in the simple or the extended protocol; all columns are text.

use std::collections::HashMap;

use crate::resolve::{PG_CATALOG, PG_TEMP, element_name, split_identifiers};
use crate::{Catalog, Column, Definition, Function, Relation, RelationKind, SearchPath};

/// What one query of [`QUERIES`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CatalogQuery {
    /// (name) of each schema that the role may use.
    Schemas,
    /// (oid, schema, name, relkind, oid of the table that owns a sequence or NULL).
    Relations,
    /// (relation oid, number, name, type oid) of each live column.
    Columns,
    /// (relation oid, number, number of a column that this generated one is made of, or NULL).
    Generated,
    /// (oid) of each relation with rules besides a view's own query.
    Ruled,
    /// (view oid, oid of a relation that it names or NULL, schema and name of a function that it
    /// names or NULL). One row with neither stands for a view that names nothing.
    Definitions,
    /// (child oid, parent oid).
    Parents,
    /// (oid, schema, name, prokind) outside pg_catalog.
    Functions,
    /// (schema, name) of each function whose overloads all are immutable members of extensions.
    ExtensionFunctions,
    /// (schema, operator, function's schema, function's name) outside pg_catalog.
    Operators,
    /// (schema, type, function's schema, function's name): what making a value of the type runs.
    Types,
    /// (schema, type, part's schema, part) of each domain and of what it is of, and of each row
    /// type and the types of its columns, where the part is outside pg_catalog.
    TypeParts,
}

/// One query and what its rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// What [`CatalogBuilder::add`] takes its rows for.
    pub kind: CatalogQuery,
    /// The text to run.
    pub text: &'static str,
}

/// Asks for the session's own temporary schema (`pg_temp_3`): one row, or none while the session
/// has none. It is the session's, not the catalog's: sessions may share a catalog.
pub const OWN_TEMPORARY_SCHEMA: &str = "SELECT n.nspname::pg_catalog.text \
    FROM pg_catalog.pg_namespace n \
    WHERE n.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()";

/// All queries, in the order in which their rows are wanted.
///
/// An operator that belongs to an extension and whose function is immutable is left out: the `=`
/// of citext or postgis would make every statement run a function that is not known to be pure.
/// Installing an extension takes rights that make its operators as trusted as built-in ones.
pub const QUERIES: [Query; 12] = [
    Query {
        kind: CatalogQuery::Schemas,
        text: "SELECT n.nspname::pg_catalog.text FROM pg_catalog.pg_namespace n \
         WHERE pg_catalog.has_schema_privilege(n.oid, 'USAGE')",
    },
    Query {
        kind: CatalogQuery::Relations,
        text: "SELECT c.oid::pg_catalog.text, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, \
         c.relkind::pg_catalog.text, \
         (SELECT d.refobjid::pg_catalog.text FROM pg_catalog.pg_depend d \
         WHERE c.relkind OPERATOR(pg_catalog.=) 'S' \
         AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
         AND d.objid OPERATOR(pg_catalog.=) c.oid \
         AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
         AND (d.deptype OPERATOR(pg_catalog.=) 'a' OR d.deptype OPERATOR(pg_catalog.=) 'i') LIMIT 1) \
         FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace",
    },
    Query {
        kind: CatalogQuery::Columns,
        text: "SELECT a.attrelid::pg_catalog.text, a.attnum::pg_catalog.text, \
         a.attname::pg_catalog.text, a.atttypid::pg_catalog.text \
         FROM pg_catalog.pg_attribute a \
         JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid \
         WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped \
         AND pg_catalog.strpos('rpvmfS', c.relkind::pg_catalog.text) OPERATOR(pg_catalog.>) 0 \
         ORDER BY a.attrelid, a.attnum",
    },
    Query {
        kind: CatalogQuery::Generated,
        // What depends on the source is the column itself up to PostgreSQL 14, and its expression
        // since 15 (StoreAttrDefault).
        text: "SELECT a.attrelid::pg_catalog.text, a.attnum::pg_catalog.text, \
         d.refobjsubid::pg_catalog.text FROM pg_catalog.pg_attribute a \
         JOIN pg_catalog.pg_attrdef e ON e.adrelid OPERATOR(pg_catalog.=) a.attrelid \
         AND e.adnum OPERATOR(pg_catalog.=) a.attnum \
         LEFT JOIN pg_catalog.pg_depend d ON d.refobjid OPERATOR(pg_catalog.=) a.attrelid \
         AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
         AND d.refobjsubid OPERATOR(pg_catalog.>) 0 \
         AND d.refobjsubid OPERATOR(pg_catalog.<>) a.attnum \
         AND (d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass \
         AND d.objid OPERATOR(pg_catalog.=) e.oid \
         OR d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
         AND d.objid OPERATOR(pg_catalog.=) a.attrelid \
         AND d.objsubid OPERATOR(pg_catalog.=) a.attnum) \
         WHERE a.attgenerated OPERATOR(pg_catalog.<>) '' AND NOT a.attisdropped",
    },
    Query {
        kind: CatalogQuery::Ruled,
        text: "SELECT DISTINCT r.ev_class::pg_catalog.text FROM pg_catalog.pg_rewrite r \
         WHERE r.rulename OPERATOR(pg_catalog.<>) '_RETURN' \
         AND r.ev_class OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid",
    },
    Query {
        kind: CatalogQuery::Definitions,
        // pg_depend leaves out what is pinned: system relations, and built-in functions. The query
        // as it is stored names everything by its OID, its own view too.
        text: "SELECT v.view::pg_catalog.text, \
         CASE WHEN v.what OPERATOR(pg_catalog.=) 'relid' AND v.oid OPERATOR(pg_catalog.<>) v.view \
         THEN v.oid::pg_catalog.text END, n.nspname::pg_catalog.text, p.proname::pg_catalog.text \
         FROM (SELECT DISTINCT r.ev_class AS view, m.part[1] AS what, m.part[2]::pg_catalog.oid AS oid \
         FROM pg_catalog.pg_rewrite r LEFT JOIN LATERAL pg_catalog.regexp_matches(\
         r.ev_action::pg_catalog.text, \
         ':(relid|funcid|opfuncid|aggfnoid|winfnoid|tsmhandler) ([1-9][0-9]*)', 'g') m (part) ON true \
         WHERE r.rulename OPERATOR(pg_catalog.=) '_RETURN' \
         AND r.ev_class OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid) v \
         LEFT JOIN pg_catalog.pg_proc p ON v.what OPERATOR(pg_catalog.<>) 'relid' \
         AND p.oid OPERATOR(pg_catalog.=) v.oid \
         LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace",
    },
    Query {
        kind: CatalogQuery::Parents,
        text: "SELECT i.inhrelid::pg_catalog.text, i.inhparent::pg_catalog.text \
         FROM pg_catalog.pg_inherits i ORDER BY i.inhrelid, i.inhseqno",
    },
    Query {
        kind: CatalogQuery::Functions,
        text: "SELECT p.oid::pg_catalog.text, n.nspname::pg_catalog.text, p.proname::pg_catalog.text, \
         p.prokind::pg_catalog.text FROM pg_catalog.pg_proc p \
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
         WHERE n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog'",
    },
    Query {
        kind: CatalogQuery::ExtensionFunctions,
        // pgcrypto has had a gen_random_uuid of its own since before there was a built-in one.
        text: "SELECT n.nspname::pg_catalog.text, p.proname::pg_catalog.text \
         FROM pg_catalog.pg_proc p \
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
         WHERE n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog' \
         GROUP BY n.nspname, p.proname HAVING pg_catalog.bool_and(\
         (p.provolatile OPERATOR(pg_catalog.=) 'i' OR p.proname OPERATOR(pg_catalog.=) 'gen_random_uuid') \
         AND EXISTS (SELECT FROM pg_catalog.pg_depend d \
         WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
         AND d.objid OPERATOR(pg_catalog.=) p.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'))",
    },
    Query {
        kind: CatalogQuery::Operators,
        text: "SELECT DISTINCT n.nspname::pg_catalog.text, o.oprname::pg_catalog.text, \
         f.nspname::pg_catalog.text, p.proname::pg_catalog.text FROM pg_catalog.pg_operator o \
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) o.oprnamespace \
         JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) o.oprcode \
         JOIN pg_catalog.pg_namespace f ON f.oid OPERATOR(pg_catalog.=) p.pronamespace \
         WHERE n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog' \
         AND NOT (p.provolatile OPERATOR(pg_catalog.=) 'i' AND EXISTS (\
         SELECT FROM pg_catalog.pg_depend d \
         WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass \
         AND d.objid OPERATOR(pg_catalog.=) o.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'))",
    },
    Query {
        kind: CatalogQuery::Types,
        text: "SELECT DISTINCT n.nspname::pg_catalog.text, t.typname::pg_catalog.text, \
         f.nspname::pg_catalog.text, p.proname::pg_catalog.text FROM (\
         SELECT c.contypid AS made, d.refobjid AS function FROM pg_catalog.pg_constraint c \
         JOIN pg_catalog.pg_depend d ON d.objid OPERATOR(pg_catalog.=) c.oid \
         AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass \
         WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
         AND c.contypid OPERATOR(pg_catalog.<>) 0 \
         UNION ALL SELECT c.casttarget, c.castfunc FROM pg_catalog.pg_cast c) r \
         JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) r.made \
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace \
         JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) r.function \
         JOIN pg_catalog.pg_namespace f ON f.oid OPERATOR(pg_catalog.=) p.pronamespace \
         WHERE n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog' \
         AND f.nspname OPERATOR(pg_catalog.<>) 'pg_catalog' \
         AND NOT (p.provolatile OPERATOR(pg_catalog.=) 'i' AND EXISTS (\
         SELECT FROM pg_catalog.pg_depend d \
         WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
         AND d.objid OPERATOR(pg_catalog.=) p.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'))",
    },
    Query {
        kind: CatalogQuery::TypeParts,
        text: "SELECT DISTINCT n.nspname::pg_catalog.text, t.typname::pg_catalog.text, \
         m.nspname::pg_catalog.text, p.typname::pg_catalog.text FROM (\
         SELECT d.oid AS whole, d.typbasetype AS part FROM pg_catalog.pg_type d \
         WHERE d.typbasetype OPERATOR(pg_catalog.<>) 0 \
         UNION ALL SELECT c.reltype, a.atttypid FROM pg_catalog.pg_attribute a \
         JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid \
         WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped) r \
         JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) r.whole \
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace \
         JOIN pg_catalog.pg_type p ON p.oid OPERATOR(pg_catalog.=) r.part \
         JOIN pg_catalog.pg_namespace m ON m.oid OPERATOR(pg_catalog.=) p.typnamespace \
         WHERE n.nspname OPERATOR(pg_catalog.<>) 'information_schema' \
         AND m.nspname OPERATOR(pg_catalog.<>) 'pg_catalog' \
         AND m.nspname OPERATOR(pg_catalog.<>) 'information_schema'",
    },
];

/// A row that is not what the query asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server answered the catalog query {query:?} with a row of another form")]
pub struct CatalogError {
    /// The query it came for.
    pub query: CatalogQuery,
}

/// Builds a [`Catalog`] out of the rows of [`QUERIES`], which may come in any order.
#[derive(Debug, Default)]
pub struct CatalogBuilder {
    catalog: Catalog,
    columns: HashMap<u32, Vec<Column>>,
    made_of: HashMap<(u32, i16), Vec<i16>>,
    ruled: Vec<u32>,
    definitions: HashMap<u32, Definition>,
    parents: HashMap<u32, Vec<u32>>,
    type_parts: Vec<(Name, Name)>,
}

/// Schema and name.
type Name = (String, String);

/// How deep a type may be made of others before the rest is not looked at.
const TYPE_DEPTH: usize = 16;

impl CatalogBuilder {
    /// Nothing is known yet.
    pub fn new() -> CatalogBuilder {
        CatalogBuilder::default()
    }

    /// Takes one row; NULL is `None`.
    ///
    /// # Errors
    /// A row with other columns than the query's.
    pub fn add(&mut self, query: CatalogQuery, row: &[Option<&str>]) -> Result<(), CatalogError> {
        self.take(query, row).ok_or(CatalogError { query })
    }

    fn take(&mut self, query: CatalogQuery, row: &[Option<&str>]) -> Option<()> {
        match (query, row) {
            (CatalogQuery::Schemas, [Some(name)]) => self.catalog.schemas.push((*name).to_owned()),
            (CatalogQuery::Relations, [Some(oid), Some(schema), Some(name), Some(kind), owner]) => {
                let relation = Relation {
                    oid: oid.parse().ok()?,
                    schema: (*schema).to_owned(),
                    name: (*name).to_owned(),
                    kind: relation_kind(kind),
                    columns: Vec::new(),
                    parents: Vec::new(),
                    owner_table: owner.map(str::parse).transpose().ok()?,
                    has_rules: false,
                    definition: None,
                };
                let key = (relation.schema.clone(), relation.name.clone());
                self.catalog.by_name.insert(key, relation.oid);
                self.catalog.relations.insert(relation.oid, relation);
            }
            (CatalogQuery::Columns, [Some(relation), Some(number), Some(name), Some(type_oid)]) => {
                let column = Column {
                    attnum: number.parse().ok()?,
                    name: (*name).to_owned(),
                    type_oid: type_oid.parse().ok()?,
                    made_of: None,
                };
                let relation = relation.parse().ok()?;
                self.columns.entry(relation).or_default().push(column);
            }
            (CatalogQuery::Generated, [Some(relation), Some(number), source]) => {
                let column = (relation.parse().ok()?, number.parse().ok()?);
                let sources = self.made_of.entry(column).or_default();
                sources.extend(source.map(str::parse::<i16>).transpose().ok()?);
            }
            (CatalogQuery::Definitions, [Some(view), relation, schema, function]) => {
                let definition = self.definitions.entry(view.parse().ok()?).or_default();
                if let Some(relation) = relation {
                    definition.relations.push(relation.parse().ok()?);
                }
                if let (Some(schema), Some(function)) = (schema, function) {
                    let name = ((*schema).to_owned(), (*function).to_owned());
                    definition.functions.push(name);
                }
            }
            (CatalogQuery::Ruled, [Some(relation)]) => self.ruled.push(relation.parse().ok()?),
            (CatalogQuery::Parents, [Some(child), Some(parent)]) => {
                let parent = parent.parse().ok()?;
                let child = child.parse().ok()?;
                self.parents.entry(child).or_default().push(parent);
            }
            (CatalogQuery::Functions, [Some(oid), Some(schema), Some(name), Some(kind)]) => {
                let function = Function {
                    oid: oid.parse().ok()?,
                    kind: kind.chars().next()?,
                };
                let key = ((*schema).to_owned(), (*name).to_owned());
                self.catalog
                    .functions
                    .entry(key)
                    .or_default()
                    .push(function);
            }
            (CatalogQuery::ExtensionFunctions, [Some(schema), Some(name)]) => {
                let key = ((*schema).to_owned(), (*name).to_owned());
                self.catalog.extension_functions.insert(key);
            }
            (CatalogQuery::TypeParts, [Some(schema), Some(name), Some(in_schema), Some(part)]) => {
                let whole = ((*schema).to_owned(), element_name(name).to_owned());
                let part = ((*in_schema).to_owned(), element_name(part).to_owned());
                self.type_parts.push((whole, part));
            }
            (
                CatalogQuery::Operators | CatalogQuery::Types,
                [Some(schema), Some(name), Some(in_schema), Some(function)],
            ) => {
                let function = ((*in_schema).to_owned(), (*function).to_owned());
                let (name, functions) = match query {
                    CatalogQuery::Types => (element_name(name), &mut self.catalog.types),
                    _ => (*name, &mut self.catalog.operators),
                };
                let key = ((*schema).to_owned(), name.to_owned());
                functions.entry(key).or_default().push(function);
            }
            _ => return None,
        }
        Some(())
    }

    /// The catalog, under the generation that its cached classifications are told by.
    pub fn build(mut self, generation: u64) -> Catalog {
        self.catalog.generation = generation;
        for (oid, columns) in self.columns {
            if let Some(relation) = self.catalog.relations.get_mut(&oid) {
                relation.columns = columns;
                relation.columns.sort_by_key(|column| column.attnum);
            }
        }
        for ((oid, attnum), sources) in self.made_of {
            let relation = self.catalog.relations.get_mut(&oid);
            let mut columns = relation.into_iter().flat_map(|found| &mut found.columns);
            if let Some(column) = columns.find(|column| column.attnum == attnum) {
                column.made_of = Some(sources);
            }
        }
        for (oid, definition) in self.definitions {
            if let Some(relation) = self.catalog.relations.get_mut(&oid) {
                relation.definition = Some(definition);
            }
        }
        for oid in self.ruled {
            if let Some(relation) = self.catalog.relations.get_mut(&oid) {
                relation.has_rules = true;
            }
        }
        for (oid, parents) in self.parents {
            if let Some(relation) = self.catalog.relations.get_mut(&oid) {
                relation.parents = parents;
            }
        }
        for name in &self.catalog.extension_functions {
            self.catalog.functions.remove(name);
        }
        whole_types(&mut self.catalog.types, &self.type_parts);
        self.catalog
    }
}

/// What the parts of a type run, the whole runs.
fn whole_types(types: &mut HashMap<Name, Vec<Name>>, parts: &[(Name, Name)]) {
    for _ in 0..TYPE_DEPTH {
        let mut grown = false;
        for (whole, part) in parts {
            let functions = types.get(part).cloned().unwrap_or_default();
            for function in functions {
                let known = types.entry(whole.clone()).or_default();
                if !known.contains(&function) {
                    known.push(function);
                    grown = true;
                }
            }
        }
        if !grown {
            return;
        }
    }
}

fn relation_kind(kind: &str) -> RelationKind {
    match kind {
        "r" => RelationKind::Table,
        "p" => RelationKind::PartitionedTable,
        "v" => RelationKind::View,
        "m" => RelationKind::MaterializedView,
        "f" => RelationKind::ForeignTable,
        "S" => RelationKind::Sequence,
        _ => RelationKind::Other,
    }
}

/// The effective schemas of a search path as SHOW gives it: what the role may use and what
/// exists, `"$user"` replaced, pg_catalog and the session's temporary schema put first where they
/// are not named (PostgreSQL, `search_path`). [`SearchPath::Dirty`] where the text is no list.
///
/// `own_temp` is the answer to [`OWN_TEMPORARY_SCHEMA`].
pub fn effective_search_path(
    shown: &str,
    role: &str,
    own_temp: Option<&str>,
    catalog: &Catalog,
) -> SearchPath {
    let Some(named) = split_identifiers(shown, ',') else {
        return SearchPath::Dirty;
    };
    let mut effective: Vec<String> = Vec::new();
    for schema in named {
        let schema = match (schema.as_str(), own_temp) {
            ("$user", _) => role,
            (PG_TEMP, Some(own)) => own,
            (PG_TEMP, None) => continue,
            (schema, _) => schema,
        };
        let usable = catalog.schemas.iter().any(|known| known == schema)
            || schema == PG_CATALOG
            || own_temp == Some(schema);
        if usable && !effective.iter().any(|known| known == schema) {
            effective.push(schema.to_owned());
        }
    }
    if !effective.iter().any(|schema| schema == PG_CATALOG) {
        effective.insert(0, PG_CATALOG.to_owned());
    }
    if let Some(own) = own_temp
        && !effective.iter().any(|schema| schema == own)
    {
        effective.insert(0, own.to_owned());
    }
    SearchPath::Known(effective)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_another_form_are_refused() {
        let mut builder = CatalogBuilder::new();
        for row in [&[][..], &[None], &[Some("1"), Some("2")]] {
            assert!(builder.add(CatalogQuery::Relations, row).is_err());
        }
        let not_a_number = [Some("x"), Some("s"), Some("n"), Some("r"), None];
        assert!(builder.add(CatalogQuery::Relations, &not_a_number).is_err());
    }

    #[test]
    fn a_shown_search_path_is_made_effective() {
        let catalog = Catalog {
            schemas: ["public", "app", "pg_catalog", "agent"]
                .map(str::to_owned)
                .into(),
            ..Catalog::default()
        };
        let effective = |shown, temp| match effective_search_path(shown, "agent", temp, &catalog) {
            SearchPath::Known(schemas) => schemas,
            SearchPath::Dirty => Vec::new(),
        };
        assert_eq!(
            effective("\"$user\", public", None),
            ["pg_catalog", "agent", "public"]
        );
        assert_eq!(
            effective("app, missing, pg_temp", Some("pg_temp_3")),
            ["pg_catalog", "app", "pg_temp_3"]
        );
        assert_eq!(
            effective("", Some("pg_temp_3")),
            ["pg_temp_3", "pg_catalog"]
        );
        assert_eq!(
            effective_search_path("a,,b", "agent", None, &catalog),
            SearchPath::Dirty
        );
    }
}
