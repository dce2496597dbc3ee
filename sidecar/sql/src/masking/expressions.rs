//! What is done with a masked value inside one expression.

use pg_query::NodeRef;
use pg_query::protobuf::{
    AExpr, AExprKind, AlterTableType, BoolExpr, CaseExpr, ConstrType, FuncCall, JsonAggConstructor,
    SubLink, SubLinkType, TypeCast, XmlExprOp,
};

use super::MOST_EQUALITIES;
use super::relations::Level;
use super::safe;
use super::tree::{any, builtin_name, literal, many, names, one};
use super::uses::Uses;
use crate::walk::children;

/// Constants in one IN or ANY (policy.md, Inference).
const MOST_IN_LIST: usize = 20;

/// Calls within calls: each may double its argument for some values and not for others, and the
/// server refuses a text of a gigabyte.
const MOST_NESTED_CALLS: usize = 6;

/// Where an expression stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Its value is shown, and masked where it is derived.
    Output,
    /// It decides which rows there are: WHERE, HAVING, ON. Counted equalities are allowed.
    Condition,
    /// It is compared, or told about otherwise.
    Operand,
}

impl Place {
    /// Where the parts of something stand that only passes them on.
    fn within(self) -> Place {
        match self {
            Place::Output => Place::Output,
            Place::Condition | Place::Operand => Place::Operand,
        }
    }
}

impl<'t> Uses<'_, '_, 't> {
    /// Every use in an expression, or in whatever has expressions in it.
    pub(super) fn expression(&mut self, node: NodeRef<'t>, place: Place) {
        match node {
            NodeRef::ColumnRef(column) => {
                if place != Place::Output {
                    self.refuse(node, self.taint.column(column));
                }
            }
            NodeRef::SelectStmt(_)
            | NodeRef::InsertStmt(_)
            | NodeRef::UpdateStmt(_)
            | NodeRef::DeleteStmt(_)
            | NodeRef::MergeStmt(_) => self.query(node),
            NodeRef::SubLink(link) => self.sublink(link, place),
            NodeRef::NullTest(test) => match one(&test.arg) {
                Some(argument) if self.taint.is_bare_column(argument) => {}
                argument => self.optional(argument, Place::Operand),
            },
            NodeRef::BoolExpr(logic) => self.logic(logic, place),
            NodeRef::AExpr(operator) => self.operator(node, operator, place),
            NodeRef::TypeCast(cast) => self.cast(cast, place),
            NodeRef::FuncCall(call) => self.call(node, call, place),
            NodeRef::CaseExpr(case) => self.case(case, place),
            NodeRef::CoalesceExpr(_)
            | NodeRef::RowExpr(_)
            | NodeRef::AArrayExpr(_)
            | NodeRef::CollateClause(_)
            | NodeRef::NamedArgExpr(_)
            | NodeRef::MultiAssignRef(_)
            | NodeRef::List(_)
            | NodeRef::JsonKeyValue(_) => self.parts(node, place.within()),
            // Where a text is read as JSON, an error tells what is in it.
            NodeRef::JsonValueExpr(value) if !safe::parses_json(value) => {
                self.parts(node, place.within());
            }
            NodeRef::JsonArrayConstructor(array) if safe::returns_json(array.output.as_ref()) => {
                self.parts(node, place.within());
            }
            NodeRef::JsonScalarExpr(scalar) if safe::returns_json(scalar.output.as_ref()) => {
                self.parts(node, place.within());
            }
            NodeRef::JsonObjectConstructor(object)
                if !object.unique && safe::returns_json(object.output.as_ref()) =>
            {
                self.parts(node, place.within());
            }
            NodeRef::JsonObjectAgg(aggregate)
                if !aggregate.unique
                    && safe::returns_json(
                        aggregate
                            .constructor
                            .as_ref()
                            .and_then(|constructor| constructor.output.as_ref()),
                    ) =>
            {
                if let Some(pair) = aggregate.arg.as_deref() {
                    self.expression(NodeRef::JsonKeyValue(pair), place.within());
                }
                self.aggregate(aggregate.constructor.as_deref());
            }
            NodeRef::JsonArrayAgg(aggregate)
                if safe::returns_json(
                    aggregate
                        .constructor
                        .as_ref()
                        .and_then(|constructor| constructor.output.as_ref()),
                ) =>
            {
                if let Some(value) = aggregate.arg.as_deref() {
                    self.expression(NodeRef::JsonValueExpr(value), place.within());
                }
                self.aggregate(aggregate.constructor.as_deref());
            }
            NodeRef::XmlExpr(xml)
                if matches!(
                    xml.op(),
                    XmlExprOp::IsXmlconcat | XmlExprOp::IsXmlelement | XmlExprOp::IsXmlforest
                ) =>
            {
                self.parts(node, place.within());
            }
            NodeRef::ResTarget(target) => self.optional(one(&target.val), place.within()),
            NodeRef::AIndirection(path) => {
                self.optional(one(&path.arg), place.within());
                for step in many(&path.indirection) {
                    self.expression(step, Place::Operand);
                }
            }
            NodeRef::CopyStmt(copy) => {
                if copy.is_from {
                    self.written(copy.relation.as_ref(), &copy.attlist);
                }
                self.optional(one(&copy.query), Place::Operand);
                self.optional(one(&copy.where_clause), Place::Condition);
            }
            // Sorts the rows by an index; which one is not looked at.
            NodeRef::ClusterStmt(cluster) => self.compared_somewhere(cluster.relation.as_ref()),
            // What does not fit the new type fails.
            NodeRef::AlterTableCmd(command)
                if command.subtype() == AlterTableType::AtAlterColumnType =>
            {
                self.refuse_name(&command.name);
                self.parts(node, Place::Operand);
            }
            // Building an index, a key or a constraint compares what is there.
            NodeRef::IndexElem(element) => {
                self.refuse_name(&element.name);
                self.parts(node, Place::Operand);
            }
            NodeRef::Constraint(constraint) => {
                for name in names(&constraint.keys) {
                    self.refuse_name(name);
                }
                for name in names(&constraint.fk_attrs).chain(names(&constraint.pk_attrs)) {
                    self.refuse_name(name);
                }
                // The primary key, whichever columns it has.
                if constraint.contype() == ConstrType::ConstrForeign
                    && constraint.pk_attrs.is_empty()
                {
                    self.compared_somewhere(constraint.pktable.as_ref());
                }
                self.parts(node, Place::Operand);
            }
            _ => self.parts(node, Place::Operand),
        }
    }

    fn parts(&mut self, node: NodeRef<'t>, place: Place) {
        children(node, &mut |_, child| self.expression(child, place));
    }

    fn logic(&mut self, logic: &'t BoolExpr, place: Place) {
        let place = if place == Place::Condition {
            place
        } else {
            Place::Operand
        };
        for argument in many(&logic.args) {
            self.expression(argument, place);
        }
    }

    fn sublink(&mut self, link: &'t SubLink, place: Place) {
        self.optional(one(&link.testexpr), Place::Operand);
        let Some(query) = one(&link.subselect) else {
            return;
        };
        self.query(query);
        let shown = match link.sub_link_type() {
            // The output of EXISTS is never computed.
            SubLinkType::ExistsSublink => true,
            SubLinkType::ExprSublink
            | SubLinkType::ArraySublink
            | SubLinkType::MultiexprSublink => place == Place::Output,
            _ => false,
        };
        if !shown {
            self.refuse(query, self.taint.output(query));
        }
    }

    // Operators.

    fn operator(&mut self, node: NodeRef<'t>, operator: &'t AExpr, place: Place) {
        if place == Place::Condition
            && let Some((column, constants)) = self.equality(operator)
        {
            let level = self.taint.level(column);
            if level > Level::Clean {
                self.equal(constants, level, self.taint.culprit(column, level));
            }
            return;
        }
        let total = operator.kind() == AExprKind::AexprOp
            && builtin_name(&operator.name).is_some_and(|name| {
                safe::is_total_operator(name)
                    && !self.taint.masks.is_user_operator(name)
                    && (!safe::is_json_reader(name) || self.has_fixed_keys(operator))
            });
        let place = if total && place == Place::Output {
            place
        } else {
            Place::Operand
        };
        self.parts(node, place);
    }

    /// Whether the keys of what is read from are none of a masked value: which of them are there
    /// shows in what is NULL.
    fn has_fixed_keys(&self, operator: &'t AExpr) -> bool {
        let taint = self.taint;
        let mut tainted = |node| taint.level(node) > Level::Clean;
        one(&operator.lexpr).is_none_or(|json| {
            !any(json, &mut |node| match node {
                NodeRef::ColumnRef(_) => {
                    taint.has_derived() && tainted(node) && !taint.is_bare_column(node)
                }
                _ => safe::makes_tainted_keys(node, &mut tainted),
            })
        })
    }

    /// A bare column compared for equality with constants, and how many of them.
    fn equality(&self, operator: &'t AExpr) -> Option<(NodeRef<'t>, u32)> {
        if builtin_name(&operator.name) != Some("=") || self.taint.masks.is_user_operator("=") {
            return None;
        }
        let (left, right) = (one(&operator.lexpr)?, one(&operator.rexpr)?);
        let bare = |node| self.taint.is_bare_column(node);
        let (column, constants) = match operator.kind() {
            AExprKind::AexprOp if bare(left) && self.is_constant(right) => (left, 1),
            AExprKind::AexprOp if bare(right) && self.is_constant(left) => (right, 1),
            AExprKind::AexprIn if bare(left) && self.is_constant(right) => {
                let NodeRef::List(list) = right else {
                    return None;
                };
                (left, list.items.len())
            }
            AExprKind::AexprOpAny if bare(left) && self.is_constant(right) => {
                (left, array_length(right))
            }
            _ => return None,
        };
        (constants <= MOST_IN_LIST).then_some((column, u32::try_from(constants).ok()?))
    }

    /// Without columns, sub-selects, collations of its own, and functions not known pure.
    fn is_constant(&self, node: NodeRef<'t>) -> bool {
        !self.taint.calls_impure(node)
            && !any(node, &mut |node| {
                matches!(
                    node,
                    NodeRef::ColumnRef(_) | NodeRef::SubLink(_) | NodeRef::CollateClause(_)
                )
            })
    }

    /// Counts comparisons; a long chain of single ones is no better than a long list.
    pub(super) fn equal(&mut self, constants: u32, level: Level, column: String) {
        self.sensitive = true;
        self.equality = self.equality.saturating_add(constants);
        if self.equality > MOST_EQUALITIES && level == Level::Masked {
            self.predicate.get_or_insert(column);
        }
    }

    fn cast(&mut self, cast: &'t TypeCast, place: Place) {
        let Some(argument) = one(&cast.arg) else {
            return;
        };
        let total = self.taint.level(argument) == Level::Clean
            || safe::is_total_cast(cast)
            || self.taint.is_widened(argument, cast);
        self.expression(
            argument,
            if total {
                place.within()
            } else {
                Place::Operand
            },
        );
    }

    fn case(&mut self, case: &'t CaseExpr, place: Place) {
        self.optional(one(&case.arg), Place::Operand);
        for branch in many(&case.args) {
            if let NodeRef::CaseWhen(branch) = branch {
                self.optional(one(&branch.expr), Place::Operand);
                self.optional(one(&branch.result), place.within());
            }
        }
        self.optional(one(&case.defresult), place.within());
    }

    // Functions.

    fn call(&mut self, node: NodeRef<'t>, call: &'t FuncCall, place: Place) {
        if place != Place::Output && self.taint.masks.is_untraced(call) {
            self.refuse(node, Level::Masked);
        }
        self.arguments(call, place);
    }

    /// The arguments of a call, and what belongs to it as an aggregate or window function.
    pub(super) fn arguments(&mut self, call: &'t FuncCall, place: Place) {
        let taint = self.taint;
        let mut tainted = |node| taint.level(node) > Level::Clean;
        let pure = taint.is_pure(call);
        if !pure && many(&call.args).any(&mut tainted) {
            self.flows(NodeRef::FuncCall(call));
        }
        let total = pure
            && self.nested_calls < MOST_NESTED_CALLS
            && safe::is_total_call(call, &mut tainted);
        let within = if total {
            place.within()
        } else {
            Place::Operand
        };
        self.nested_calls += 1;
        for argument in many(&call.args) {
            self.expression(argument, within);
        }
        self.nested_calls -= 1;
        for key in many(&call.agg_order) {
            self.key(key, None);
        }
        self.optional(one(&call.agg_filter), Place::Operand);
        if let Some(window) = call.over.as_deref() {
            self.expression(NodeRef::WindowDef(window), Place::Operand);
        }
    }

    fn aggregate(&mut self, aggregate: Option<&'t JsonAggConstructor>) {
        if let Some(aggregate) = aggregate {
            self.parts(NodeRef::JsonAggConstructor(aggregate), Place::Operand);
        }
    }
}

/// How many elements a constant array has. A parameter's cannot be told from the text.
fn array_length(node: NodeRef<'_>) -> usize {
    match node {
        NodeRef::AArrayExpr(array) => array.elements.len(),
        NodeRef::AConst(_) => literal(node).map_or(1, |text| text.matches(',').count() + 1),
        NodeRef::TypeCast(cast) => one(&cast.arg).map_or(1, array_length),
        // Nothing else says how long it is.
        _ => usize::MAX,
    }
}
