//! INSERT, UPDATE, DELETE, MERGE and TRUNCATE.
//!
//! What the WHERE or SET of an UPDATE or DELETE reads of its own target is part of that effect;
//! RETURNING reads it, and so does every further mention of it as a source.

use chaperone_policy::{Effect, Object};
use pg_query::protobuf::{
    CmdType, DeleteStmt, DropBehavior, InsertStmt, MergeStmt, OnConflictAction, RangeVar,
    ReturningClause, TruncateStmt, UpdateStmt,
};
use pg_query::{NodeEnum, NodeRef};

use super::Effects;

const TARGET: &[&str] = &["relation", "with_clause"];

impl<'t> Effects<'t> {
    pub(super) fn insert(&mut self, insert: &'t InsertStmt) {
        self.with(insert.with_clause.as_ref(), |effects| {
            effects.target(insert.relation.as_ref(), Effect::Write);
            if let Some(conflict) = insert.on_conflict_clause.as_deref()
                && conflict.action() != OnConflictAction::OnconflictNothing
            {
                effects.target(insert.relation.as_ref(), Effect::Modify);
            }
            effects.returning(insert.relation.as_ref(), insert.returning_clause.as_ref());
            effects.visit_others(NodeRef::InsertStmt(insert), TARGET);
        });
    }

    pub(super) fn update(&mut self, update: &'t UpdateStmt) {
        self.with(update.with_clause.as_ref(), |effects| {
            effects.target(update.relation.as_ref(), Effect::Modify);
            effects.returning(update.relation.as_ref(), update.returning_clause.as_ref());
            effects.visit_others(NodeRef::UpdateStmt(update), TARGET);
        });
    }

    pub(super) fn delete(&mut self, delete: &'t DeleteStmt) {
        self.with(delete.with_clause.as_ref(), |effects| {
            effects.target(delete.relation.as_ref(), Effect::Delete);
            effects.returning(delete.relation.as_ref(), delete.returning_clause.as_ref());
            effects.visit_others(NodeRef::DeleteStmt(delete), TARGET);
        });
    }

    /// MERGE does to its target what its actions do. The join with the target reads it, unless
    /// an UPDATE or DELETE makes that part of itself.
    pub(super) fn merge(&mut self, merge: &'t MergeStmt) {
        self.with(merge.with_clause.as_ref(), |effects| {
            let target = merge.relation.as_ref();
            let mut changes_rows = false;
            for node in &merge.merge_when_clauses {
                let Some(NodeEnum::MergeWhenClause(clause)) = node.node.as_ref() else {
                    effects.unknown();
                    continue;
                };
                match clause.command_type() {
                    CmdType::CmdInsert => effects.target(target, Effect::Write),
                    CmdType::CmdUpdate => {
                        effects.target(target, Effect::Modify);
                        changes_rows = true;
                    }
                    CmdType::CmdDelete => {
                        effects.target(target, Effect::Delete);
                        changes_rows = true;
                    }
                    CmdType::CmdNothing => {}
                    _ => effects.unknown(),
                }
            }
            if !changes_rows {
                effects.target(target, Effect::Read);
            }
            effects.returning(target, merge.returning_clause.as_ref());
            effects.visit_others(NodeRef::MergeStmt(merge), TARGET);
        });
    }

    /// CASCADE empties every table that refers to these, which no name here tells.
    pub(super) fn truncate(&mut self, truncate: &'t TruncateStmt) {
        for node in &truncate.relations {
            match node.node.as_ref() {
                Some(NodeEnum::RangeVar(relation)) => self.touch(relation, Effect::Delete),
                _ => self.unknown(),
            }
        }
        if truncate.behavior() == DropBehavior::DropCascade {
            self.add(Effect::Delete, Object::Any, false);
        }
    }

    /// The target of a statement is never a WITH query.
    fn target(&mut self, relation: Option<&'t RangeVar>, effect: Effect) {
        match relation {
            Some(relation) => self.touch(relation, effect),
            None => self.unknown(),
        }
    }

    fn returning(&mut self, relation: Option<&'t RangeVar>, clause: Option<&'t ReturningClause>) {
        if clause.is_some() {
            self.target(relation, Effect::Read);
        }
    }
}
