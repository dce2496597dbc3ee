//! The relations of a statement and the names they go by: where masked values come in.

use pg_query::NodeRef;
use pg_query::protobuf::{RangeVar, ReturningClause};

use super::super::relations::Level;
use super::super::tree::{many, reference_name};
use super::Taint;
use crate::Relation;
use crate::resolve::Resolved;
use crate::walk::children;

/// What part a relation plays where it is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Its rows are read: FROM, USING, the source of a MERGE, COPY … TO.
    Read,
    /// Its rows are written: INSERT, UPDATE, DELETE, MERGE, COPY … FROM.
    Target,
    /// Anything else: DDL, LOCK, GRANT.
    Named,
}

impl<'t> Taint<'_, 't> {
    /// Every relation of the statement, under every name that it goes by.
    pub(super) fn collect(&mut self, node: NodeRef<'t>) {
        match node {
            NodeRef::LockingClause(_) => return,
            NodeRef::InsertStmt(insert) => {
                self.target(insert.relation.as_ref(), &["excluded", "old", "new"]);
                self.returning_aliases(insert.relation.as_ref(), insert.returning_clause.as_ref());
            }
            NodeRef::UpdateStmt(update) => {
                self.target(update.relation.as_ref(), &["old", "new"]);
                self.returning_aliases(update.relation.as_ref(), update.returning_clause.as_ref());
            }
            NodeRef::DeleteStmt(delete) => {
                self.target(delete.relation.as_ref(), &["old", "new"]);
                self.returning_aliases(delete.relation.as_ref(), delete.returning_clause.as_ref());
            }
            NodeRef::MergeStmt(merge) => {
                self.target(merge.relation.as_ref(), &["old", "new"]);
                self.returning_aliases(merge.relation.as_ref(), merge.returning_clause.as_ref());
            }
            _ => {}
        }
        children(node, &mut |field, child| {
            if let NodeRef::RangeVar(range) = child {
                match role(node, field) {
                    Role::Target => {}
                    role => self.relation(range, reference_name(range), role),
                }
            }
            self.collect(child);
        });
    }

    fn target(&mut self, range: Option<&'t RangeVar>, also: &[&str]) {
        let Some(range) = range else { return };
        self.relation(range, reference_name(range), Role::Target);
        for name in also {
            self.relation(range, name, Role::Target);
        }
    }

    fn returning_aliases(
        &mut self,
        range: Option<&'t RangeVar>,
        returning: Option<&ReturningClause>,
    ) {
        let (Some(range), Some(returning)) = (range, returning) else {
            return;
        };
        for option in many(&returning.options) {
            if let NodeRef::ReturningOption(option) = option {
                self.relation(range, &option.value, Role::Target);
            }
        }
    }

    fn relation(&mut self, range: &RangeVar, refname: &str, role: Role) {
        match self.resolved.get(range) {
            Resolved::Relation(relation) => self.table(relation, range, refname, role),
            // Their levels are not known yet; `derive` sets them.
            Resolved::Cte(_) => self.range(refname, Level::Clean, true),
            Resolved::Pending | Resolved::Unresolved if role == Role::Named => {}
            Resolved::Pending | Resolved::Unresolved => {
                self.touches = true;
                self.everything = Level::Masked;
                self.range(refname, Level::Masked, true);
                if role == Role::Read {
                    self.reads.get_or_insert_with(|| range.relname.clone());
                }
            }
        }
    }

    fn table(&mut self, relation: &Relation, range: &RangeVar, refname: &str, role: Role) {
        let mask = self.masks.of(relation);
        if mask.row > Level::Clean {
            self.touches = true;
            if role == Role::Read {
                let name = || format!("{}.{}", relation.schema, relation.name);
                self.reads.get_or_insert_with(name);
            }
        }
        if mask.columns.is_empty() && mask.row > Level::Clean {
            self.everything = self.everything.max(mask.row);
        }
        for (column, level) in &mask.columns {
            self.name(column, *level);
        }
        let renamed = range
            .alias
            .as_ref()
            .is_some_and(|alias| !alias.colnames.is_empty());
        if renamed {
            self.alias(range.alias.as_ref(), mask.row, true);
        }
        let level = mask.row;
        self.range(refname, level, renamed);
        if let Some(known) = self.ranges.get_mut(refname) {
            known.tables.push(mask);
        }
    }
}

fn role(parent: NodeRef<'_>, field: &str) -> Role {
    match (parent, field) {
        (
            NodeRef::InsertStmt(_)
            | NodeRef::UpdateStmt(_)
            | NodeRef::DeleteStmt(_)
            | NodeRef::MergeStmt(_),
            "relation",
        ) => Role::Target,
        (NodeRef::SelectStmt(_) | NodeRef::UpdateStmt(_), "from_clause")
        | (NodeRef::DeleteStmt(_), "using_clause")
        | (NodeRef::MergeStmt(_), "source_relation")
        | (NodeRef::JoinExpr(_), _)
        | (NodeRef::RangeTableSample(_), _) => Role::Read,
        (NodeRef::CopyStmt(copy), "relation") if !copy.is_from => Role::Read,
        _ => Role::Named,
    }
}
