//! Small readings of pg_query's tree.

use pg_query::protobuf::{ColumnRef, RangeVar, SelectStmt, a_const};
use pg_query::{Node, NodeRef};

use crate::walk::{Descend, walk};

/// The node in an optional field.
pub(super) fn one(node: &Option<Box<Node>>) -> Option<NodeRef<'_>> {
    node.as_ref()?.node.as_ref().map(pg_query::NodeEnum::to_ref)
}

/// The nodes of a list; the grammar's NULL entries are passed over.
pub(super) fn many(nodes: &[Node]) -> impl Iterator<Item = NodeRef<'_>> {
    nodes
        .iter()
        .filter_map(|node| node.node.as_ref())
        .map(pg_query::NodeEnum::to_ref)
}

/// The names of a list of String nodes.
pub(super) fn names(nodes: &[Node]) -> impl Iterator<Item = &str> {
    many(nodes).filter_map(|node| match node {
        NodeRef::String(name) => Some(name.sval.as_str()),
        _ => None,
    })
}

/// The last part of a possibly qualified name.
pub(super) fn last_name(nodes: &[Node]) -> &str {
    names(nodes).last().unwrap_or_default()
}

/// The name, if it is unqualified or in pg_catalog.
pub(super) fn builtin_name(nodes: &[Node]) -> Option<&str> {
    let mut parts = names(nodes);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) | (Some("pg_catalog"), Some(name), None) => Some(name),
        _ => None,
    }
}

/// Whether `test` holds for a node of the tree.
pub(super) fn any<'t>(root: NodeRef<'t>, test: &mut dyn FnMut(NodeRef<'t>) -> bool) -> bool {
    let mut found = false;
    walk(root, &mut |node| {
        found = found || test(node);
        if found { Descend::Past } else { Descend::Into }
    });
    found
}

/// `*` or `t.*`.
pub(super) fn is_star(column: &ColumnRef) -> bool {
    matches!(many(&column.fields).last(), Some(NodeRef::AStar(_)))
}

/// The name that a relation of a FROM list is referred to by.
pub(super) fn reference_name(range: &RangeVar) -> &str {
    range
        .alias
        .as_ref()
        .map_or(range.relname.as_str(), |alias| alias.aliasname.as_str())
}

/// UNION, INTERSECT or EXCEPT.
pub(super) fn is_set_operation(select: &SelectStmt) -> bool {
    select.larg.is_some() || select.rarg.is_some()
}

/// The number of an integer constant: an ordinal in ORDER BY and GROUP BY.
pub(super) fn ordinal(node: NodeRef<'_>) -> Option<usize> {
    match node {
        NodeRef::AConst(constant) => match constant.val.as_ref()? {
            a_const::Val::Ival(number) => usize::try_from(number.ival).ok(),
            _ => None,
        },
        _ => None,
    }
}

/// The text of a string constant.
pub(super) fn literal(node: NodeRef<'_>) -> Option<&str> {
    match node {
        NodeRef::AConst(constant) => match constant.val.as_ref()? {
            a_const::Val::Sval(text) => Some(&text.sval),
            _ => None,
        },
        _ => None,
    }
}
