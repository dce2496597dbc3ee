//! Statements that both write and read a relation with masked columns, and DDL that would take a
//! mask off a column.

use pg_query::NodeRef;
use pg_query::protobuf::{AlterTableType, ObjectType, RangeVar, RenameStmt};

use super::relations::Level;
use super::taint::Taint;
use super::tree::{any, last_name, many, one};

/// The relation or column that would flow, if the statement as a whole lets one.
pub(super) fn of<'t>(root: NodeRef<'t>, taint: &Taint<'_, 't>) -> Option<String> {
    if any(root, &mut writes_rows)
        && let Some(relation) = &taint.reads
    {
        return Some(relation.clone());
    }
    // What a function returns is nobody's column, and the new relation's column is unmasked.
    if any(root, &mut makes_a_relation) && taint.masks.untraced_function_runs() {
        return Some("what a function returns".to_owned());
    }
    let mut unmasked = None;
    any(root, &mut |node| {
        unmasked = evades_masks(node, taint);
        unmasked.is_some()
    });
    unmasked
}

/// Makes a relation of the rows of a query, under columns of its own.
fn makes_a_relation(node: NodeRef<'_>) -> bool {
    match node {
        NodeRef::CreateTableAsStmt(_) | NodeRef::ViewStmt(_) => true,
        NodeRef::SelectStmt(select) => select.into_clause.is_some(),
        _ => false,
    }
}

/// Puts rows somewhere where they are not masked the same way.
fn writes_rows(node: NodeRef<'_>) -> bool {
    match node {
        NodeRef::InsertStmt(_)
        | NodeRef::UpdateStmt(_)
        | NodeRef::MergeStmt(_)
        | NodeRef::RuleStmt(_) => true,
        node if makes_a_relation(node) => true,
        NodeRef::CopyStmt(copy) => !copy.is_from && (copy.is_program || !copy.filename.is_empty()),
        _ => false,
    }
}

/// Masks are by name and inheritance: renaming, moving or detaching leaves them behind. What
/// triggers, rules and functions do later is not seen when it happens.
fn evades_masks(node: NodeRef<'_>, taint: &Taint<'_, '_>) -> Option<String> {
    let masked = |range: Option<&RangeVar>| {
        let range = range?;
        taint
            .relation_mask(range)?
            .named
            .then(|| range.relname.clone())
    };
    match node {
        // Whatever happens to a row goes on to happen elsewhere too, OLD and NEW in hand.
        NodeRef::RuleStmt(rule) => masked(rule.relation.as_ref()),
        NodeRef::CreateTrigStmt(trigger) => masked(trigger.relation.as_ref()),
        // A body that is a text may copy any value; whoever wrote it can then call it.
        NodeRef::CreateFunctionStmt(create) => {
            let unseen = many(&create.options)
                .any(|option| matches!(option, NodeRef::DefElem(option) if option.defname == "as"));
            unseen.then(|| format!("{}()", last_name(&create.funcname)))
        }
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
            // A generated column that becomes a plain one keeps the values, and loses their origin.
            let detaches = matches!(
                command.subtype(),
                AlterTableType::AtDropExpression
                    | AlterTableType::AtDropInherit
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
