//! Functions that are called with a dot.
//!
//! `x.f` is the column `f` of `x` where there is one, and else the call `f(x)` (PostgreSQL,
//! Composite Types, functional notation). `(expression).f` is the same for a value of any type:
//! `('/etc/passwd').pg_read_file` reads a file.

use std::collections::HashMap;

use pg_query::protobuf::{AIndirection, Alias, ColumnRef, RangeVar, SelectStmt};
use pg_query::{NodeEnum, NodeRef};

use super::Effects;
use super::object::strings;
use crate::functions::{Builtin, builtin};
use crate::resolve::Resolved;
use crate::walk::{Descend, walk};

/// What the qualifiers of a statement's column references may stand for.
pub(super) type Qualifiers<'t> = HashMap<&'t str, Vec<Source<'t>>>;

/// One FROM item or target.
pub(super) enum Source<'t> {
    Relation(&'t RangeVar),
    Select(&'t SelectStmt, Option<&'t Alias>),
    Other(Option<&'t Alias>),
}

impl<'t> Effects<'t> {
    pub(super) fn column(&mut self, column: &'t ColumnRef) {
        let parts = strings(&column.fields);
        if let [.., qualifier, name] = parts.as_slice()
            && self.may_be_called(name)
            && !self.is_column_of(qualifier, name)
        {
            self.call_by_name("", name, None);
        }
    }

    pub(super) fn indirection(&mut self, indirection: &'t AIndirection) {
        let fields = strings(&indirection.indirection);
        for (place, name) in fields.iter().enumerate() {
            if !self.may_be_called(name) {
                continue;
            }
            let base = indirection.arg.as_deref().and_then(|arg| arg.node.as_ref());
            if let (0, Some(NodeEnum::ColumnRef(column))) = (place, base)
                && let Some(qualifier) = strings(&column.fields).last()
                && self.is_column_of(qualifier, name)
            {
                continue;
            }
            self.call_by_name("", name, None);
        }
    }

    /// A call by this name would be an effect, so it matters whether it is one.
    fn may_be_called(&self, name: &str) -> bool {
        builtin(name) == Builtin::Effectful
            || self.names.function_is_pending(name)
            || !self.names.function_schemas(name).is_empty()
    }

    /// Whether everything that `qualifier` may stand for has a column of this name.
    fn is_column_of(&mut self, qualifier: &str, name: &str) -> bool {
        let qualifiers = match self.qualifiers.take() {
            Some(qualifiers) => qualifiers,
            None => qualifiers(self.root),
        };
        let sources = qualifiers.get(qualifier).map(Vec::as_slice);
        let answer = sources.is_some_and(|sources| {
            !sources.is_empty() && sources.iter().all(|source| self.has_column(source, name))
        });
        self.qualifiers = Some(qualifiers);
        answer
    }

    fn has_column(&self, source: &Source<'t>, name: &str) -> bool {
        match source {
            Source::Relation(relation) => {
                if alias_names(relation.alias.as_ref(), name) {
                    return true;
                }
                // Looked up anew: the FROM clause may not have been visited yet.
                let found = self.names.relation(&relation.schemaname, &relation.relname);
                match found.map(|found| found.resolved) {
                    Some(Resolved::Relation(relation)) => {
                        !self.scope.contains_key(relation.name.as_str())
                            && relation.columns.iter().any(|column| column.name == name)
                    }
                    _ => false,
                }
            }
            Source::Select(select, alias) => alias_names(*alias, name) || gives(select, name),
            Source::Other(alias) => alias_names(*alias, name),
        }
    }
}

fn alias_names(alias: Option<&Alias>, name: &str) -> bool {
    alias.is_some_and(|alias| strings(&alias.colnames).contains(&name))
}

/// Whether a column of a query's result evidently goes by this name.
fn gives(select: &SelectStmt, name: &str) -> bool {
    let mut first = select;
    while let Some(left) = first.larg.as_deref() {
        first = left;
    }
    first.target_list.iter().any(|node| {
        let Some(NodeEnum::ResTarget(target)) = node.node.as_ref() else {
            return false;
        };
        if !target.name.is_empty() {
            return target.name == name;
        }
        let value = target.val.as_deref().and_then(|val| val.node.as_ref());
        match value {
            Some(NodeEnum::ColumnRef(column)) => strings(&column.fields).last() == Some(&name),
            _ => false,
        }
    })
}

fn qualifiers<'t>(root: NodeRef<'t>) -> Qualifiers<'t> {
    let mut found: Qualifiers<'t> = HashMap::new();
    let mut bind = |alias: Option<&'t Alias>, name: Option<&'t str>, source: Source<'t>| {
        let alias = alias.map(|alias| alias.aliasname.as_str());
        if let Some(name) = alias.or(name) {
            found.entry(name).or_default().push(source);
        }
    };
    walk(root, &mut |node| {
        match node {
            NodeRef::RangeVar(relation) => bind(
                relation.alias.as_ref(),
                Some(&relation.relname),
                Source::Relation(relation),
            ),
            NodeRef::RangeSubselect(item) => {
                let query = item.subquery.as_deref().and_then(|q| q.node.as_ref());
                let alias = item.alias.as_ref();
                let source = match query {
                    Some(NodeEnum::SelectStmt(select)) => Source::Select(select, alias),
                    _ => Source::Other(alias),
                };
                bind(alias, None, source);
            }
            NodeRef::CommonTableExpr(query) => {
                let body = query.ctequery.as_deref().and_then(|q| q.node.as_ref());
                let source = match body {
                    Some(NodeEnum::SelectStmt(select)) => Source::Select(select, None),
                    _ => Source::Other(None),
                };
                bind(None, Some(&query.ctename), source);
            }
            NodeRef::RangeFunction(item) => {
                bind(
                    item.alias.as_ref(),
                    None,
                    Source::Other(item.alias.as_ref()),
                );
            }
            NodeRef::RangeTableFunc(item) => {
                bind(
                    item.alias.as_ref(),
                    None,
                    Source::Other(item.alias.as_ref()),
                );
            }
            NodeRef::JsonTable(item) => {
                bind(
                    item.alias.as_ref(),
                    None,
                    Source::Other(item.alias.as_ref()),
                );
            }
            NodeRef::JoinExpr(item) => {
                bind(
                    item.alias.as_ref(),
                    None,
                    Source::Other(item.alias.as_ref()),
                );
            }
            _ => {}
        }
        Descend::Into
    });
    found
}
