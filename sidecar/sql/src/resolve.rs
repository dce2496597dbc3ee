//! Which relation, function or operator each name of a statement means.
//!
//! PostgreSQL looks up an unqualified name first among the WITH queries in scope, then in the
//! schemas of the search path in order (PostgreSQL, Schemas, The Schema Search Path). Temporary
//! objects come first unless the path says where they come.

use std::collections::HashMap;

use pg_query::protobuf::{CommonTableExpr, RangeVar};

use crate::{Catalog, Overlay, Relation, SearchPath};

/// The schema that every session calls its own temporary schema by.
pub(crate) const PG_TEMP: &str = "pg_temp";
/// The schema of built-in objects.
pub(crate) const PG_CATALOG: &str = "pg_catalog";

/// What one name means.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Resolved<'t> {
    /// A relation of the catalog.
    Relation(&'t Relation),
    /// A WITH query in scope.
    Cte(&'t CommonTableExpr),
    /// Created or renamed earlier in the same batch: its columns are not known.
    Pending,
    /// Nothing that is known.
    Unresolved,
}

/// What every `RangeVar` of one statement's tree means, targets included.
#[derive(Debug, Default)]
pub(crate) struct ResolvedRelations<'t> {
    by_node: HashMap<usize, Resolved<'t>>,
}

impl<'t> ResolvedRelations<'t> {
    /// What this node of the tree means; [`Resolved::Unresolved`] if it was never looked up.
    pub(crate) fn get(&self, node: &RangeVar) -> Resolved<'t> {
        self.by_node
            .get(&address(node))
            .copied()
            .unwrap_or(Resolved::Unresolved)
    }

    /// Records what a node means.
    pub(crate) fn insert(&mut self, node: &RangeVar, resolved: Resolved<'t>) {
        self.by_node.insert(address(node), resolved);
    }
}

// A node is identified by its place in a tree that is not moved while it is classified.
fn address(node: &RangeVar) -> usize {
    std::ptr::from_ref(node).addr()
}

/// A relation that a name means: where it is and what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct Found<'t> {
    /// Its schema; the session's own temporary schema is `pg_temp`.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Never a WITH query.
    pub resolved: Resolved<'t>,
    /// What the catalog has under this name, for what it is part of: it may still be that one
    /// where the batch says `IF NOT EXISTS`.
    pub catalogued: Option<&'t Relation>,
}

/// Looks names up under one catalog, search path and overlay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names<'t> {
    catalog: &'t Catalog,
    overlay: &'t Overlay,
    /// The search path, if it is known at this point of the batch.
    path: Option<&'t [String]>,
    own_temp: Option<&'t str>,
}

impl<'t> Names<'t> {
    pub(crate) fn new(
        catalog: &'t Catalog,
        search_path: &'t SearchPath,
        overlay: &'t Overlay,
    ) -> Names<'t> {
        let known = match search_path {
            SearchPath::Known(schemas) => Some(schemas.as_slice()),
            SearchPath::Dirty => None,
        };
        Names {
            catalog,
            overlay,
            path: known.filter(|_| !overlay.unknown),
            own_temp: known
                .unwrap_or_default()
                .iter()
                .find(|schema| schema.starts_with("pg_temp_"))
                .map(String::as_str),
        }
    }

    /// Whether unqualified names can be resolved.
    pub(crate) fn path_is_known(&self) -> bool {
        self.path.is_some()
    }

    pub(crate) fn catalog(&self) -> &'t Catalog {
        self.catalog
    }

    /// The name a schema goes by in accesses: the session's own temporary schema is `pg_temp`.
    pub(crate) fn canonical<'s>(&self, schema: &'s str) -> &'s str {
        if self.own_temp == Some(schema) {
            PG_TEMP
        } else {
            schema
        }
    }

    /// The relation of this name, if it is known to exist. An empty schema is none named.
    pub(crate) fn relation(&self, schema: &str, name: &str) -> Option<Found<'t>> {
        if !schema.is_empty() {
            return self.relation_in(self.canonical(schema), name);
        }
        if self.overlay.relations.contains_key(&key("", name)) {
            return None;
        }
        self.searched()?
            .into_iter()
            .find_map(|schema| self.relation_in(schema, name))
    }

    /// Whether a permanent relation of this name could be hidden by a temporary one.
    pub(crate) fn shadows_permanent(&self, name: &str) -> bool {
        match self.searched() {
            Some(schemas) => schemas
                .into_iter()
                .filter(|schema| *schema != PG_TEMP)
                .any(|schema| self.relation_in(schema, name).is_some()),
            None => {
                self.catalog
                    .by_name
                    .keys()
                    .any(|(schema, other)| other == name && self.canonical(schema) != PG_TEMP)
                    || self
                        .overlay
                        .relations
                        .iter()
                        .any(|((_, other), temporary)| other == name && *temporary == Some(false))
            }
        }
    }

    /// Where an unqualified new object goes; `None` when that cannot be told.
    pub(crate) fn creation_schema(&self) -> Option<&'t str> {
        self.path?
            .iter()
            .map(String::as_str)
            .find(|schema| *schema != PG_CATALOG && self.canonical(schema) != PG_TEMP)
    }

    /// The search path names the temporary schema first, so that an unqualified new object may be
    /// temporary; where it comes before pg_catalog it is there by itself.
    pub(crate) fn creates_temporary(&self) -> bool {
        let Some(path) = self.path else {
            return false;
        };
        let first = path.iter().find(|schema| *schema != PG_CATALOG);
        match first {
            None => true,
            Some(first) if self.canonical(first) == PG_TEMP => {
                path.first() != Some(first) || self.creation_schema().is_none()
            }
            Some(_) => false,
        }
    }

    /// The schemas that an unqualified name is searched in, temporary and built-in ones included.
    pub(crate) fn searched(&self) -> Option<Vec<&'t str>> {
        let path = self.path?;
        let mut schemas: Vec<&'t str> = path.iter().map(|s| self.canonical(s.as_str())).collect();
        if !schemas.contains(&PG_CATALOG) {
            schemas.insert(0, PG_CATALOG);
        }
        if !schemas.contains(&PG_TEMP) {
            schemas.insert(0, PG_TEMP);
        }
        Some(schemas)
    }

    /// The schemas outside pg_catalog in which a call by this name may find a function.
    pub(crate) fn function_schemas(&self, name: &str) -> Vec<&'t str> {
        visible(self.path, &self.catalog.functions, name)
    }

    /// Whether a call by this name finds a function of an extension that is as good as built in.
    /// An empty schema is none named.
    pub(crate) fn is_extension_function(&self, schema: &str, name: &str) -> bool {
        let functions = &self.catalog.extension_functions;
        if !schema.is_empty() {
            return functions.contains(&key(schema, name));
        }
        match self.path {
            Some(path) => path
                .iter()
                .any(|schema| functions.contains(&key(schema, name))),
            None => functions.iter().any(|(_, other)| other == name),
        }
    }

    /// The functions behind the operators of this name that are visible without a schema.
    pub(crate) fn operators(&self, name: &str) -> Vec<&'t (String, String)> {
        visible(self.path, &self.catalog.operators, name)
            .into_iter()
            .filter_map(|schema| self.catalog.operators.get(&key(schema, name)))
            .flatten()
            .collect()
    }

    /// The functions that making a value of this type runs. An empty schema is none named: every
    /// type of the search path that goes by the name may be meant.
    pub(crate) fn type_functions(&self, schema: &str, name: &str) -> Vec<&'t (String, String)> {
        let types = &self.catalog.types;
        if types.is_empty() {
            return Vec::new();
        }
        let name = element_name(name);
        let schemas = match schema {
            // Unlike functions, types are looked for in the temporary schema too.
            "" => types
                .keys()
                .filter(|(schema, other)| {
                    other == name
                        && self
                            .path
                            .is_none_or(|path| path.contains(schema) || schema.starts_with(PG_TEMP))
                })
                .map(|(schema, _)| schema.as_str())
                .collect(),
            PG_TEMP => self.own_temp.into_iter().collect(),
            schema => vec![schema],
        };
        schemas
            .into_iter()
            .filter_map(|schema| types.get(&key(schema, name)))
            .flatten()
            .collect()
    }

    /// The functions behind one schema's operators of this name.
    pub(crate) fn operators_in(&self, schema: &str, name: &str) -> &'t [(String, String)] {
        self.catalog
            .operators
            .get(&key(schema, name))
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// A function or operator of this name was created earlier in the batch.
    pub(crate) fn function_is_pending(&self, name: &str) -> bool {
        self.overlay.functions.contains(name)
    }

    fn relation_in(&self, schema: &str, name: &str) -> Option<Found<'t>> {
        let stored = match (schema, self.own_temp) {
            (PG_TEMP, Some(own)) => own,
            _ => schema,
        };
        let catalogued = self
            .catalog
            .by_name
            .get(&key(stored, name))
            .and_then(|oid| self.catalog.relations.get(oid));
        let resolved = match self.overlay.relations.get(&key(schema, name)) {
            Some(Some(_)) => Resolved::Pending,
            Some(None) => return None,
            None => Resolved::Relation(catalogued?),
        };
        Some(Found {
            schema: schema.to_owned(),
            name: name.to_owned(),
            resolved,
            catalogued,
        })
    }
}

/// The schemas of `path`, or all of them, that hold `name`, the built-in one aside.
fn visible<'t, V>(
    path: Option<&'t [String]>,
    map: &'t HashMap<(String, String), V>,
    name: &str,
) -> Vec<&'t str> {
    match path {
        // Functions and operators are never looked for in the temporary schema.
        Some(path) => path
            .iter()
            .map(String::as_str)
            .filter(|schema| *schema != PG_CATALOG && !schema.starts_with(PG_TEMP))
            .filter(|schema| map.contains_key(&key(schema, name)))
            .collect(),
        None => map
            .keys()
            .filter(|(schema, other)| other == name && schema != PG_CATALOG)
            .map(|(schema, _)| schema.as_str())
            .collect(),
    }
}

/// The name that a type and the arrays of it are known by here: `_mail` is an array of `mail`.
pub(crate) fn element_name(name: &str) -> &str {
    name.trim_start_matches('_')
}

fn key(schema: &str, name: &str) -> (String, String) {
    (schema.to_owned(), name.to_owned())
}

/// The parts of a name in text form, as `regclass` reads it: dots separate, double quotes keep,
/// everything else is folded to lower case (PostgreSQL, Identifiers and Key Words).
pub(crate) fn parse_qualified_name(text: &str) -> Option<Vec<String>> {
    split_identifiers(text, '.').filter(|parts| !parts.is_empty())
}

/// The identifiers of a list: quoted ones verbatim, others folded to lower case. `None` where the
/// text is no such list.
pub(crate) fn split_identifiers(text: &str, separator: char) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        return Some(parts);
    }
    loop {
        let part;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut tail = quoted;
            loop {
                let (before, after) = tail.split_once('"')?;
                name.push_str(before);
                match after.strip_prefix('"') {
                    Some(after) => {
                        name.push('"');
                        tail = after;
                    }
                    None => {
                        tail = after;
                        break;
                    }
                }
            }
            part = name;
            rest = tail.trim_start();
        } else {
            let end = rest
                .find(|c: char| c == separator || c.is_whitespace())
                .unwrap_or(rest.len());
            let (name, tail) = rest.split_at_checked(end)?;
            if name.is_empty() || name.contains('"') {
                return None;
            }
            part = name.to_ascii_lowercase();
            rest = tail.trim_start();
        }
        parts.push(part);
        if rest.is_empty() {
            return Some(parts);
        }
        rest = rest.strip_prefix(separator)?.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_text_form_are_read_as_the_server_reads_them() {
        let parts = |text| parse_qualified_name(text).unwrap_or_default();
        assert_eq!(parts("app.Orders_Seq"), ["app", "orders_seq"]);
        assert_eq!(parts("\"App\" . \"a.\"\"b\""), ["App", "a.\"b"]);
        assert_eq!(parts("orders"), ["orders"]);
        for bad in ["", "\"open", "a..b", "a b", ".a", "a."] {
            assert_eq!(parse_qualified_name(bad), None, "{bad}");
        }
    }
}
