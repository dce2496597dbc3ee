//! What is done with each name that may carry a masked value: queries and their clauses.
//! `expressions` has what is done inside one expression.

use pg_query::protobuf::{
    InferClause, InsertStmt, JoinExpr, MergeStmt, RangeVar, ResTarget, ReturningClause, SelectStmt,
    SetOperation, UpdateStmt, WithClause,
};
use pg_query::{Node, NodeRef};

use super::expressions::Place;
use super::relations::Level;
use super::safe;
use super::taint::{Taint, with_queries};
use super::tree::{any, is_set_operation, many, names, one, ordinal, reference_name};
use crate::walk::children;

/// What was found.
pub(super) struct Uses<'a, 'm, 't> {
    pub(super) taint: &'a Taint<'m, 't>,
    /// The first masked column that is compared or ordered by, though it may not be.
    pub(super) predicate: Option<String>,
    /// The first masked column that is written somewhere, or handed to a function with effects.
    pub(super) flow: Option<String>,
    /// Constants that masked columns are compared with for equality.
    pub(super) equality: u32,
    /// A masked column is compared or written.
    pub(super) sensitive: bool,
    /// Function calls around the expression that is looked at.
    pub(super) nested_calls: usize,
}

impl<'a, 'm, 't> Uses<'a, 'm, 't> {
    /// All uses in the statement under `root`.
    pub(super) fn of(root: NodeRef<'t>, taint: &'a Taint<'m, 't>) -> Uses<'a, 'm, 't> {
        let mut uses = Uses {
            taint,
            predicate: None,
            flow: None,
            equality: 0,
            sensitive: false,
            nested_calls: 0,
        };
        uses.expression(root, Place::Operand);
        uses
    }

    /// The node's value is compared, or is told about by an error or by how long it takes.
    pub(super) fn refuse(&mut self, node: NodeRef<'t>, level: Level) {
        if level > Level::Clean {
            self.sensitive = true;
        }
        if level == Level::Masked && self.predicate.is_none() {
            self.predicate = Some(self.taint.culprit(node, Level::Masked));
        }
    }

    /// The node's value is written somewhere.
    pub(super) fn flows(&mut self, node: NodeRef<'t>) {
        if self.flow.is_none() {
            self.flow = Some(self.taint.culprit(node, Level::Comparable));
        }
    }

    /// A query, or any other statement that names columns.
    pub(super) fn query(&mut self, node: NodeRef<'t>) {
        match node {
            NodeRef::SelectStmt(select) => self.select(select),
            NodeRef::InsertStmt(insert) => self.insert(insert),
            NodeRef::UpdateStmt(update) => self.update(update),
            NodeRef::DeleteStmt(delete) => {
                self.with(delete.with_clause.as_ref());
                self.from(&delete.using_clause);
                self.optional(one(&delete.where_clause), Place::Condition);
                self.returning(delete.returning_clause.as_ref());
            }
            NodeRef::MergeStmt(merge) => self.merge(merge),
            _ => self.expression(node, Place::Operand),
        }
    }

    pub(super) fn optional(&mut self, node: Option<NodeRef<'t>>, place: Place) {
        if let Some(node) = node {
            self.expression(node, place);
        }
    }

    fn with(&mut self, with: Option<&'t WithClause>) {
        for cte in with_queries(with) {
            if let Some(query) = one(&cte.ctequery) {
                self.query(query);
            }
            // Both order or compare the rows by these columns.
            let search = cte
                .search_clause
                .iter()
                .flat_map(|search| &search.search_col_list);
            let cycle = cte
                .cycle_clause
                .iter()
                .flat_map(|cycle| &cycle.cycle_col_list);
            for column in search.chain(cycle) {
                self.named_column(column);
            }
            if let Some(cycle) = &cte.cycle_clause {
                self.optional(one(&cycle.cycle_mark_value), Place::Operand);
                self.optional(one(&cycle.cycle_mark_default), Place::Operand);
            }
        }
    }

    fn named_column(&mut self, column: &'t Node) {
        for name in names(std::slice::from_ref(column)) {
            self.refuse_name(name);
        }
    }

    /// A column that is compared is named by a string of the grammar.
    pub(super) fn refuse_name(&mut self, name: &str) {
        let level = self.taint.name_level(name);
        self.sensitive |= level > Level::Clean;
        if level == Level::Masked && self.predicate.is_none() {
            self.predicate = Some(name.to_owned());
        }
    }

    // SELECT.

    fn select(&mut self, select: &'t SelectStmt) {
        self.with(select.with_clause.as_ref());
        for arm in [select.larg.as_deref(), select.rarg.as_deref()]
            .into_iter()
            .flatten()
        {
            self.select(arm);
        }
        for list in many(&select.values_lists) {
            children(list, &mut |_, value| self.expression(value, Place::Output));
        }
        self.targets(&select.target_list);
        self.from(&select.from_clause);
        self.optional(one(&select.where_clause), Place::Condition);
        self.optional(one(&select.having_clause), Place::Condition);
        self.duplicates(select);
        for key in many(&select.group_clause) {
            self.key(key, Some(select));
        }
        for window in many(&select.window_clause) {
            self.expression(window, Place::Operand);
        }
        for key in many(&select.sort_clause) {
            self.key(key, Some(select));
        }
        self.optional(one(&select.limit_count), Place::Operand);
        self.optional(one(&select.limit_offset), Place::Operand);
    }

    /// DISTINCT, and set operations but for UNION ALL, compare whole outputs.
    fn duplicates(&mut self, select: &'t SelectStmt) {
        let concatenates = select.op() == SetOperation::SetopUnion && select.all;
        let set_operation = is_set_operation(select) && !concatenates;
        let mut keys = many(&select.distinct_clause).peekable();
        let whole = !select.distinct_clause.is_empty() && keys.peek().is_none();
        if set_operation || whole {
            self.refuse(
                NodeRef::SelectStmt(select),
                self.taint.select_output(select),
            );
        }
        for key in keys {
            self.key(key, Some(select));
        }
    }

    fn targets(&mut self, targets: &'t [Node]) {
        for target in many(targets) {
            if let NodeRef::ResTarget(target) = target {
                self.optional(one(&target.val), Place::Output);
            }
        }
    }

    /// An entry of GROUP BY, ORDER BY or DISTINCT ON; integers are ordinals of the output.
    pub(super) fn key(&mut self, node: NodeRef<'t>, select: Option<&'t SelectStmt>) {
        match (node, select) {
            (NodeRef::SortBy(sort), _) => {
                if let Some(inner) = one(&sort.node) {
                    self.key(inner, select);
                }
            }
            (NodeRef::GroupingSet(set), _) => {
                for inner in many(&set.content) {
                    self.key(inner, select);
                }
            }
            // `GROUP BY (1, 2)` is `GROUP BY 1, 2`.
            (NodeRef::RowExpr(row), Some(_)) => {
                for inner in many(&row.args) {
                    self.key(inner, select);
                }
            }
            (_, Some(select)) if ordinal(node).is_some() => {
                let level = ordinal(node).map_or(Level::Clean, |at| self.output_at(select, at));
                self.refuse(NodeRef::SelectStmt(select), level);
            }
            _ => self.expression(node, Place::Operand),
        }
    }

    /// What output column number `at`, counted from 1, may carry.
    fn output_at(&self, select: &'t SelectStmt, at: usize) -> Level {
        let star = any(NodeRef::SelectStmt(select), &mut |node| {
            matches!(node, NodeRef::AStar(_))
        });
        let target = at
            .checked_sub(1)
            .and_then(|at| many(&select.target_list).nth(at));
        match target {
            Some(target) if !star => self.taint.target_level(target, select),
            _ => self.taint.select_output(select),
        }
    }

    // FROM.

    pub(super) fn from(&mut self, items: &'t [Node]) {
        for item in many(items) {
            self.source(item);
        }
    }

    fn source(&mut self, item: NodeRef<'t>) {
        match item {
            NodeRef::RangeVar(_) => {}
            NodeRef::RangeSubselect(range) => {
                if let Some(query) = one(&range.subquery) {
                    self.query(query);
                }
            }
            NodeRef::JoinExpr(join) => self.join(join),
            NodeRef::RangeTableSample(sample) => {
                if let Some(relation) = one(&sample.relation) {
                    self.source(relation);
                }
                for argument in many(&sample.args) {
                    self.expression(argument, Place::Operand);
                }
                self.optional(one(&sample.repeatable), Place::Operand);
            }
            // Rows made of a value: how many there are tells about it. A function whose own
            // output is not known is an output as any other.
            NodeRef::RangeFunction(range) => {
                for function in many(&range.functions) {
                    self.row_function(function);
                }
            }
            _ => children(item, &mut |_, child| self.expression(child, Place::Operand)),
        }
    }

    fn row_function(&mut self, function: NodeRef<'t>) {
        match function {
            NodeRef::List(list) => {
                for item in many(&list.items) {
                    self.row_function(item);
                }
            }
            NodeRef::FuncCall(call) => self.arguments(call, Place::Operand),
            _ => self.expression(function, Place::Operand),
        }
    }

    fn join(&mut self, join: &'t JoinExpr) {
        let (left, right) = (one(&join.larg), one(&join.rarg));
        for side in [left, right].into_iter().flatten() {
            self.source(side);
        }
        self.optional(one(&join.quals), Place::Condition);
        for name in names(&join.using_clause) {
            self.refuse_name(name);
        }
        if let (true, Some(left), Some(right)) = (join.is_natural, left, right) {
            self.natural(left, right);
        }
    }

    /// NATURAL compares the columns that both sides have by name.
    fn natural(&mut self, left: NodeRef<'t>, right: NodeRef<'t>) {
        let level = match (self.taint.columns_of(left), self.taint.columns_of(right)) {
            (Some(left), Some(right)) => {
                let common = left
                    .iter()
                    .filter_map(|(name, level)| right.get(name).map(|other| (*level).max(*other)));
                common.max().unwrap_or_default()
            }
            _ => self
                .taint
                .source_level(left)
                .max(self.taint.source_level(right)),
        };
        self.refuse(left, level);
    }

    // Statements that write.

    fn insert(&mut self, insert: &'t InsertStmt) {
        self.with(insert.with_clause.as_ref());
        self.written(insert.relation.as_ref(), &insert.cols);
        if let Some(source) = one(&insert.select_stmt) {
            self.query(source);
            if self.taint.output(source) > Level::Clean {
                self.flows(source);
            }
        }
        if let Some(conflict) = insert.on_conflict_clause.as_deref() {
            let rows = rows_written(insert);
            match conflict.infer.as_deref() {
                Some(infer) if infer.conname.is_empty() => {
                    for element in many(&infer.index_elems) {
                        self.conflict_element(element, rows);
                    }
                    self.optional(one(&infer.where_clause), Place::Operand);
                }
                infer => self.conflict_anywhere(insert, infer, rows),
            }
            self.assignments(insert.relation.as_ref(), &conflict.target_list);
            self.optional(one(&conflict.where_clause), Place::Condition);
        }
        self.returning(insert.returning_clause.as_ref());
    }

    /// ON CONFLICT ON CONSTRAINT, or on any at all: which columns it has is not known.
    fn conflict_anywhere(
        &mut self,
        insert: &'t InsertStmt,
        infer: Option<&'t InferClause>,
        rows: u32,
    ) {
        let mask = insert
            .relation
            .as_ref()
            .and_then(|target| self.taint.relation_mask(target));
        let level = mask.map_or(Level::Clean, |mask| mask.row);
        if level > Level::Clean {
            let constraint = infer.map_or("ON CONFLICT", |infer| infer.conname.as_str());
            self.equal(rows, level, constraint.to_owned());
        }
    }

    /// ON CONFLICT (column): each row's value is compared with all others for equality, and what
    /// is returned tells which were there.
    fn conflict_element(&mut self, element: NodeRef<'t>, rows: u32) {
        match element {
            NodeRef::IndexElem(element) if element.expr.is_none() => {
                let level = self.taint.name_level(&element.name);
                if level > Level::Clean {
                    self.equal(rows, level, element.name.clone());
                }
            }
            _ => self.expression(element, Place::Operand),
        }
    }

    fn update(&mut self, update: &'t UpdateStmt) {
        self.with(update.with_clause.as_ref());
        self.from(&update.from_clause);
        self.assignments(update.relation.as_ref(), &update.target_list);
        self.optional(one(&update.where_clause), Place::Condition);
        self.returning(update.returning_clause.as_ref());
    }

    fn merge(&mut self, merge: &'t MergeStmt) {
        self.with(merge.with_clause.as_ref());
        if let Some(source) = one(&merge.source_relation) {
            self.source(source);
        }
        self.optional(one(&merge.join_condition), Place::Condition);
        for clause in many(&merge.merge_when_clauses) {
            let NodeRef::MergeWhenClause(clause) = clause else {
                continue;
            };
            self.optional(one(&clause.condition), Place::Condition);
            if clause.values.is_empty() {
                self.assignments(merge.relation.as_ref(), &clause.target_list);
            } else {
                self.written(merge.relation.as_ref(), &clause.target_list);
            }
            for value in many(&clause.values) {
                self.expression(value, Place::Output);
                if self.taint.level(value) > Level::Clean {
                    self.flows(value);
                }
            }
        }
        self.returning(merge.returning_clause.as_ref());
    }

    fn returning(&mut self, returning: Option<&'t ReturningClause>) {
        if let Some(returning) = returning {
            self.targets(&returning.exprs);
        }
    }

    /// The columns that an INSERT or COPY gives values to: all, where none is named.
    pub(super) fn written(&mut self, relation: Option<&'t RangeVar>, columns: &'t [Node]) {
        let mask = relation.and_then(|relation| self.taint.relation_mask(relation));
        let Some(mask) = mask else { return };
        let level = |name: &str| mask.columns.get(name).copied().unwrap_or(mask.row);
        let named = many(columns).filter_map(|column| match column {
            NodeRef::ResTarget(target) => Some(target.name.as_str()),
            NodeRef::String(name) => Some(name.sval.as_str()),
            _ => None,
        });
        let written = if columns.is_empty() {
            mask.row
        } else {
            named.map(level).max().unwrap_or_default()
        };
        self.sensitive |= written > Level::Clean;
    }

    /// SET column = value: a masked value flows, but for a column's own.
    fn assignments(&mut self, relation: Option<&'t RangeVar>, targets: &'t [Node]) {
        self.written(relation, targets);
        for target in many(targets) {
            let NodeRef::ResTarget(target) = target else {
                continue;
            };
            for subscript in many(&target.indirection) {
                self.expression(subscript, Place::Operand);
            }
            let Some(value) = one(&target.val) else {
                continue;
            };
            self.expression(value, Place::Output);
            if self.taint.level(value) > Level::Clean && !self.is_own(relation, target, value) {
                self.flows(value);
            }
        }
    }

    /// Some column is compared, and which one is not told: CLUSTER stores the rows in the order of
    /// an index, REFERENCES looks keys up.
    pub(super) fn compared_somewhere(&mut self, relation: Option<&'t RangeVar>) {
        let mask = relation.and_then(|relation| self.taint.relation_mask(relation));
        if let (Some(relation), Some(mask)) = (relation, mask)
            && mask.row == Level::Masked
        {
            self.predicate
                .get_or_insert_with(|| relation.relname.clone());
        }
    }

    /// Whether the value is the column that is assigned, whole: what a part of it leaves behind
    /// would be shown by a partial mask, told by a hash, or found by comparing. Nothing may be
    /// added either: a partial mask shows the end of a value only if that is long enough.
    fn is_own(&self, relation: Option<&RangeVar>, target: &ResTarget, value: NodeRef<'t>) -> bool {
        if self.taint.level(value) == Level::Clean {
            return true;
        }
        let whole =
            |part: Option<NodeRef<'t>>| part.is_none_or(|part| self.is_own(relation, target, part));
        match value {
            NodeRef::ColumnRef(column) => {
                let own = relation.map(reference_name).unwrap_or_default();
                let path: Vec<&str> = names(&column.fields).collect();
                let same = match path.as_slice() {
                    [name] => *name == target.name,
                    [qualifier, name] => {
                        *name == target.name && (*qualifier == own || *qualifier == "excluded")
                    }
                    _ => false,
                };
                same && target.indirection.is_empty() && self.taint.is_bare_column(value)
            }
            NodeRef::CoalesceExpr(either) => many(&either.args).all(|part| whole(Some(part))),
            NodeRef::CaseExpr(case) => {
                let clean = |part: Option<NodeRef<'t>>| {
                    part.is_none_or(|part| self.taint.level(part) == Level::Clean)
                };
                clean(one(&case.arg))
                    && whole(one(&case.defresult))
                    && many(&case.args).all(|branch| match branch {
                        NodeRef::CaseWhen(branch) => {
                            clean(one(&branch.expr)) && whole(one(&branch.result))
                        }
                        _ => false,
                    })
            }
            NodeRef::TypeCast(cast) => safe::keeps_whole(cast) && whole(one(&cast.arg)),
            NodeRef::FuncCall(call) => {
                self.taint.is_pure(call)
                    && safe::is_normalisation(call)
                    && many(&call.args).all(|part| whole(Some(part)))
            }
            _ => false,
        }
    }
}

/// The rows that an INSERT has written in it; what a query makes is not known.
fn rows_written(insert: &InsertStmt) -> u32 {
    let rows = match one(&insert.select_stmt) {
        Some(NodeRef::SelectStmt(select)) if !select.values_lists.is_empty() => {
            select.values_lists.len()
        }
        None => 1,
        Some(_) => usize::MAX,
    };
    u32::try_from(rows).unwrap_or(u32::MAX)
}
