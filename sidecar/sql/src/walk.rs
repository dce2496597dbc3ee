//! Walks a whole parse tree. The children of every node kind are generated from pg_query's own
//! message definitions (`tests/walker.rs`), so no part of a statement can be passed over.
//!
//! The depth of a tree is bounded where it is decoded (100 nested messages), so recursion here is
//! bounded too.

mod children;

pub(crate) use children::children;
#[cfg(test)]
pub(crate) use children::{KINDS, kind, one_of_every_kind};

use pg_query::{Node, NodeRef};

/// Whether a walk goes on below a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Descend {
    /// Into the node's children.
    Into,
    /// Past them: the caller has dealt with the whole node.
    Past,
}

/// Calls `visit` with `node` and everything below it, parents before children.
pub(crate) fn walk<'a>(node: NodeRef<'a>, visit: &mut dyn FnMut(NodeRef<'a>) -> Descend) {
    if visit(node) == Descend::Into {
        children(node, &mut |_, child| walk(child, visit));
    }
}

/// A field that holds a node or nothing.
fn one<'a, N: Borrowed>(
    field: &'static str,
    node: &'a Option<N>,
    visit: &mut dyn FnMut(&'static str, NodeRef<'a>),
) {
    if let Some(node) = node.as_ref().and_then(|node| node.node().node.as_ref()) {
        visit(field, node.to_ref());
    }
}

/// A field that holds a list of nodes; an absent entry is a NULL of the grammar.
fn many<'a>(
    field: &'static str,
    nodes: &'a [Node],
    visit: &mut dyn FnMut(&'static str, NodeRef<'a>),
) {
    for node in nodes.iter().filter_map(|node| node.node.as_ref()) {
        visit(field, node.to_ref());
    }
}

/// A node, boxed or not: the decoder boxes only what would be infinitely large.
trait Borrowed {
    fn node(&self) -> &Node;
}

impl Borrowed for Node {
    fn node(&self) -> &Node {
        self
    }
}

impl Borrowed for Box<Node> {
    fn node(&self) -> &Node {
        self
    }
}
