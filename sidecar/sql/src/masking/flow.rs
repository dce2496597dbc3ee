//! Statements that both write and read a relation with masked columns, and DDL that would take a
//! mask off a column.

use pg_query::NodeRef;
use pg_query::protobuf::{AlterTableType, ObjectType, RangeVar, RenameStmt};

use super::relations::Level;
use super::taint::Taint;
use super::tree::{any, many, one};

/// The relation or column that would flow, if the statement as a whole lets one.
pub(super) fn of<'t>(root: NodeRef<'t>, taint: &Taint<'_, 't>) -> Option<String> {
    if any(root, &mut writes_rows)
        && let Some(relation) = &taint.reads
    {
        return Some(relation.clone());
    }
    let mut unmasked = None;
    any(root, &mut |node| {
        unmasked = evades_masks(node, taint);
        unmasked.is_some()
    });
    unmasked
}

/// Puts rows somewhere where they are not masked the same way.
fn writes_rows(node: NodeRef<'_>) -> bool {
    match node {
        NodeRef::InsertStmt(_)
        | NodeRef::UpdateStmt(_)
        | NodeRef::MergeStmt(_)
        | NodeRef::CreateTableAsStmt(_)
        | NodeRef::ViewStmt(_)
        | NodeRef::RuleStmt(_) => true,
        NodeRef::SelectStmt(select) => select.into_clause.is_some(),
        NodeRef::CopyStmt(copy) => !copy.is_from && (copy.is_program || !copy.filename.is_empty()),
        _ => false,
    }
}

/// Masks are by name and inheritance: renaming, moving or detaching leaves them behind.
fn evades_masks(node: NodeRef<'_>, taint: &Taint<'_, '_>) -> Option<String> {
    let masked = |range: Option<&RangeVar>| {
        let range = range?;
        taint
            .relation_mask(range)?
            .named
            .then(|| range.relname.clone())
    };
    match node {
        // What the prepared statement reads is not known here.
        NodeRef::CreateTableAsStmt(create) => match one(&create.query)? {
            NodeRef::ExecuteStmt(execute) => Some(execute.name.clone()),
            _ => None,
        },
        NodeRef::RenameStmt(rename) => renames(rename, taint),
        NodeRef::AlterObjectSchemaStmt(alter) => masked(alter.relation.as_ref()),
        NodeRef::AlterTableStmt(alter) => many(&alter.cmds).find_map(|command| {
            let NodeRef::AlterTableCmd(command) = command else {
                return None;
            };
            let detaches = matches!(
                command.subtype(),
                AlterTableType::AtDropInherit
                    | AlterTableType::AtDetachPartition
                    | AlterTableType::AtDetachPartitionFinalize
            );
            if detaches {
                masked(alter.relation.as_ref())
            } else {
                None
            }
        }),
        _ => None,
    }
}

fn renames(rename: &RenameStmt, taint: &Taint<'_, '_>) -> Option<String> {
    if rename.rename_type() == ObjectType::ObjectSchema {
        let schema = &rename.subname;
        return taint.masks.schema_has_masks(schema).then(|| schema.clone());
    }
    let range = rename.relation.as_ref()?;
    let mask = taint.relation_mask(range).filter(|mask| mask.named)?;
    match rename.rename_type() {
        ObjectType::ObjectColumn | ObjectType::ObjectAttribute => {
            let level = mask
                .columns
                .get(&rename.subname)
                .copied()
                .unwrap_or_default();
            (level > Level::Clean).then(|| rename.subname.clone())
        }
        ObjectType::ObjectTabconstraint
        | ObjectType::ObjectTrigger
        | ObjectType::ObjectPolicy
        | ObjectType::ObjectRule => None,
        _ => Some(range.relname.clone()),
    }
}
