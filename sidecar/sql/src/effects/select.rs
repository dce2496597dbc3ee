//! SELECT, VALUES and TABLE, with what they lock and where SELECT INTO puts its rows.

use chaperone_policy::Effect;
use pg_query::protobuf::{LockingClause, RangeVar, SelectStmt};
use pg_query::{Node, NodeEnum, NodeRef};

use super::Effects;
use crate::resolve::Resolved;
use crate::walk::{Descend, walk};

impl<'t> Effects<'t> {
    pub(super) fn select(&mut self, select: &'t SelectStmt) {
        self.with(select.with_clause.as_ref(), |effects| {
            let own = effects.one_setting(select);
            let outer = std::mem::replace(&mut effects.setting, own);
            effects.visit_others(
                NodeRef::SelectStmt(select),
                &["with_clause", "into_clause", "locking_clause"],
            );
            effects.setting = outer;
            for node in &select.locking_clause {
                if let Some(NodeEnum::LockingClause(clause)) = node.node.as_ref() {
                    effects.lock_rows(clause, &select.from_clause);
                }
            }
        });
        if let Some(into) = select.into_clause.as_deref() {
            self.filled_relation(into);
        }
    }

    /// FOR UPDATE and its kin. A view or sub-select that is locked has all of its relations
    /// locked; WITH queries are not (PostgreSQL, SELECT, The Locking Clause).
    fn lock_rows(&mut self, clause: &'t LockingClause, from: &'t [Node]) {
        let mut locked = Vec::new();
        for node in &clause.locked_rels {
            let Some(NodeEnum::RangeVar(name)) = node.node.as_ref() else {
                continue;
            };
            let before = locked.len();
            for item in from {
                named_in(item, &name.relname, &mut locked);
            }
            if locked.len() == before {
                from.iter().for_each(|item| all_in(item, &mut locked));
            }
        }
        if clause.locked_rels.is_empty() {
            from.iter().for_each(|item| all_in(item, &mut locked));
        }
        for relation in locked {
            if !matches!(self.resolved.get(relation), Resolved::Cte(_)) {
                self.touch(relation, Effect::Lock);
            }
        }
    }
}

/// The relations of the FROM item that goes by `name`.
fn named_in<'t>(item: &'t Node, name: &str, found: &mut Vec<&'t RangeVar>) {
    match item.node.as_ref() {
        Some(NodeEnum::RangeVar(relation)) => {
            let alias = relation.alias.as_ref().map(|alias| &alias.aliasname);
            if alias.unwrap_or(&relation.relname) == name {
                found.push(relation);
            }
        }
        Some(NodeEnum::RangeSubselect(select))
            if select.alias.as_ref().is_some_and(|a| a.aliasname == name) =>
        {
            all_in(item, found);
        }
        Some(NodeEnum::RangeTableSample(sample)) => {
            if let Some(relation) = sample.relation.as_deref() {
                named_in(relation, name, found);
            }
        }
        Some(NodeEnum::JoinExpr(join)) => {
            if join.alias.as_ref().is_some_and(|a| a.aliasname == name) {
                return all_in(item, found);
            }
            for side in [join.larg.as_deref(), join.rarg.as_deref()]
                .into_iter()
                .flatten()
            {
                named_in(side, name, found);
            }
        }
        _ => {}
    }
}

fn all_in<'t>(item: &'t Node, found: &mut Vec<&'t RangeVar>) {
    if let Some(node) = item.node.as_ref() {
        walk(node.to_ref(), &mut |node| {
            if let NodeRef::RangeVar(relation) = node {
                found.push(relation);
            }
            Descend::Into
        });
    }
}
