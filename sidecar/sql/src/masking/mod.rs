//! What a statement does with masked columns (policy.md, Masking; postgres.md, Lineage).
//!
//! A sound over-approximation by names. It never resolves which column a name means in which
//! scope; a name that may carry a masked value somewhere in the statement carries one everywhere.
//!
//! ```text
//! relations of the statement ─RelationMasks→ masked columns, by level
//!        └─Taint::of→ names and ranges that may carry one (fixpoint over aliases, CTEs, set operations)
//!              └─Uses::of→ each occurrence: an output, IS NULL, an equality, or MaskedPredicate / MaskedFlow
//! ```
//!
//! What is not traced (views, materialised views and foreign tables, system relations that hold
//! data, functions not known pure, relations of the same batch) is masked in all its columns.
//! An output may be any expression that can neither compare nor fail on a masked value: an error
//! that depends on the value tells about it what a WHERE would (`1 / (salary - 50000)`).

mod expressions;
mod flow;
mod relations;
mod safe;
mod taint;
#[cfg(test)]
mod tests;
mod tree;
mod uses;

use chaperone_policy::Access;
use pg_query::NodeRef;
use pg_query::protobuf::TransactionStmtKind;

use crate::classification::{Context, MaskingFacts};
use crate::resolve::ResolvedRelations;

use relations::RelationMasks;
use taint::Taint;
use uses::Uses;

/// Constants that one statement may compare masked columns with (policy.md, Inference).
const MOST_EQUALITIES: u32 = 20;

/// The facts of one statement. `root` is its tree, `resolved` what each of its `RangeVar`s
/// means, `accesses` everything it does.
///
/// The caller merges the facts of the prepared statement into those of an EXECUTE; one below
/// EXPLAIN counts as touching, one below CREATE TABLE AS as flowing.
pub(crate) fn facts<'t>(
    root: NodeRef<'t>,
    context: &Context<'_>,
    resolved: &ResolvedRelations<'t>,
    accesses: &[Access],
) -> MaskingFacts {
    if !context.masks.any() {
        return MaskingFacts::default();
    }
    let masks = RelationMasks::new(context, accesses);
    let taint = Taint::of(root, &masks, resolved);
    let uses = Uses::of(root, &taint);
    MaskingFacts {
        touches_masked: taint.touches
            || masks.untraced_function_runs()
            || tree::any(root, &mut |node| match node {
                NodeRef::FetchStmt(fetch) => {
                    (context.cursor_touches_masked)(&fetch.portalname) != Some(false)
                }
                NodeRef::ExecuteStmt(_) => !matches!(root, NodeRef::ExecuteStmt(_)),
                NodeRef::FuncCall(call) => masks.is_untraced(call),
                // Constraints that were put off are checked now, and may quote any row.
                NodeRef::ConstraintsSetStmt(_) => true,
                NodeRef::TransactionStmt(statement) => matches!(
                    statement.kind(),
                    TransactionStmtKind::TransStmtCommit | TransactionStmtKind::TransStmtPrepare
                ),
                _ => false,
            }),
        sensitive_literals: uses.sensitive,
        flow: uses.flow.or_else(|| flow::of(root, &taint)),
        predicate: uses.predicate,
        equality: uses.equality,
        writes: tree::any(root, &mut |node| match node {
            NodeRef::InsertStmt(_) | NodeRef::UpdateStmt(_) | NodeRef::MergeStmt(_) => true,
            NodeRef::CopyStmt(copy) => copy.is_from,
            _ => false,
        }),
    }
}
