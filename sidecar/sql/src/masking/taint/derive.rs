//! The names that a statement gives to what it computes: how masked values go on.

use pg_query::NodeRef;
use pg_query::protobuf::{CommonTableExpr, ResTarget, ReturningClause, SelectStmt};

use super::super::relations::Level;
use super::super::tree::{is_set_operation, is_star, last_name, many, names, one, reference_name};
use super::{Taint, expands};
use crate::resolve::Resolved;

/// Output names that PostgreSQL makes up for expressions (FigureColname).
const MADE_UP_NAMES: &[&str] = &[
    "?column?",
    "array",
    "case",
    "coalesce",
    "exists",
    "greatest",
    "grouping",
    "json",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_value",
    "least",
    "nullif",
    "row",
    "xmlconcat",
    "xmlelement",
    "xmlforest",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
];

impl<'t> Taint<'_, 't> {
    /// What the names under one node are given: one step of a pass.
    pub(super) fn derive(&mut self, node: NodeRef<'t>) {
        match node {
            NodeRef::SelectStmt(select) => self.derive_select(select),
            NodeRef::InsertStmt(insert) => self.derive_returning(insert.returning_clause.as_ref()),
            NodeRef::UpdateStmt(update) => self.derive_returning(update.returning_clause.as_ref()),
            NodeRef::DeleteStmt(delete) => self.derive_returning(delete.returning_clause.as_ref()),
            NodeRef::MergeStmt(merge) => self.derive_returning(merge.returning_clause.as_ref()),
            NodeRef::RangeSubselect(range) => {
                let query = one(&range.subquery);
                let level = query.map_or(Level::Clean, |query| self.output(query));
                let stored = query.is_some_and(|query| self.is_stored_query(query));
                self.alias(range.alias.as_ref(), level, stored);
            }
            NodeRef::CommonTableExpr(cte) => self.derive_cte(cte),
            NodeRef::RangeVar(range) => {
                if let Resolved::Cte(cte) = self.resolved.get(range) {
                    let level = self.cte(&cte.ctename);
                    let stored =
                        one(&cte.ctequery).is_some_and(|query| self.is_stored_query(query));
                    self.range(reference_name(range), level, true);
                    self.alias(range.alias.as_ref(), level, stored);
                }
            }
            NodeRef::JoinExpr(join) => {
                let level = self.source_level(node);
                let stored = self.is_stored_source(node);
                self.alias(join.alias.as_ref(), level, stored);
                self.alias(join.join_using_alias.as_ref(), level, stored);
            }
            NodeRef::RangeFunction(range) => {
                let level = self.source_level(node);
                self.alias(range.alias.as_ref(), level, false);
                self.row_source(level);
            }
            NodeRef::RangeTableFunc(range) => {
                let level = self.source_level(node);
                self.alias(range.alias.as_ref(), level, false);
                self.row_source(level);
            }
            NodeRef::JsonTable(range) => {
                let level = self.source_level(node);
                self.alias(range.alias.as_ref(), level, false);
                self.row_source(level);
            }
            _ => {}
        }
    }

    /// Rows whose columns have names that are not written here: of functions, XMLTABLE,
    /// JSON_TABLE.
    fn row_source(&mut self, level: Level) {
        self.everything = self.everything.max(level);
        if level > Level::Clean {
            self.touches = true;
        }
    }

    fn derive_select(&mut self, select: &'t SelectStmt) {
        let outermost = self
            .outermost
            .is_some_and(|query| std::ptr::eq(query, select));
        for target in many(&select.target_list) {
            self.derive_target(target, outermost);
        }
        let output = self.select_output(select);
        if output == Level::Clean {
            return;
        }
        self.name_values(select, output);
        // Arms are matched by position: a masked value may come out under any name of the others.
        if is_set_operation(select) {
            let arms = [select.larg.as_deref(), select.rarg.as_deref()];
            let stored = self.is_stored_select(select);
            for arm in arms.into_iter().flatten() {
                self.derive_arm(arm, output, stored);
            }
        }
    }

    fn derive_arm(&mut self, arm: &'t SelectStmt, level: Level, stored: bool) {
        for target in many(&arm.target_list) {
            let NodeRef::ResTarget(target) = target else {
                continue;
            };
            match one(&target.val) {
                Some(value) if expands(value) => self.everything = self.everything.max(level),
                Some(value) => self.name_target(target, value, level, stored),
                None => {}
            }
        }
        self.name_values(arm, level);
        for arm in [arm.larg.as_deref(), arm.rarg.as_deref()]
            .into_iter()
            .flatten()
        {
            self.derive_arm(arm, level, stored);
        }
    }

    /// The columns of VALUES are called `column1`, `column2` …
    fn name_values(&mut self, select: &SelectStmt, level: Level) {
        if let Some(NodeRef::List(list)) = many(&select.values_lists).next() {
            for index in 1..=list.items.len() {
                self.alias_name(&format!("column{index}"), level, false);
            }
        }
    }

    fn derive_returning(&mut self, returning: Option<&'t ReturningClause>) {
        for target in returning
            .into_iter()
            .flat_map(|returning| many(&returning.exprs))
        {
            self.derive_target(target, false);
        }
    }

    /// What one entry of an output list makes of its name. How the `outermost` query calls its
    /// outputs does not matter to what is compared inside.
    fn derive_target(&mut self, target: NodeRef<'t>, outermost: bool) {
        let NodeRef::ResTarget(target) = target else {
            return;
        };
        let Some(value) = one(&target.val) else {
            return;
        };
        let level = self.level(value);
        if level == Level::Clean {
            return;
        }
        if expands(value) {
            // `(f()).*`: columns of a composite type, under names that are not written here.
            if !matches!(value, NodeRef::ColumnRef(_)) {
                self.everything = self.everything.max(level);
            }
        } else {
            let stored = outermost || self.is_stored_value(value);
            self.name_target(target, value, level, stored);
        }
    }

    fn name_target(&mut self, target: &ResTarget, value: NodeRef<'t>, level: Level, stored: bool) {
        // A column under its own name, cast or not, is no other name for it.
        let column = match value {
            NodeRef::TypeCast(cast) => one(&cast.arg).unwrap_or(value),
            _ => value,
        };
        if let NodeRef::ColumnRef(column) = column {
            let own = last_name(&column.fields);
            if target.name.is_empty() || target.name == own {
                if level > Level::Clean && !stored {
                    self.derived.insert(own.to_owned());
                }
                return self.name(own, level);
            }
        }
        if !target.name.is_empty() {
            return self.alias_name(&target.name, level, stored);
        }
        for name in MADE_UP_NAMES {
            self.alias_name(name, level, stored);
        }
        let mut figured: Vec<&str> = Vec::new();
        figure_names(value, &mut figured);
        for name in figured {
            self.alias_name(name, level, stored);
        }
    }

    fn derive_cte(&mut self, cte: &'t CommonTableExpr) {
        let Some(query) = one(&cte.ctequery) else {
            return;
        };
        let level = self.output(query).max(self.cte(&cte.ctename));
        if level == Level::Clean {
            return;
        }
        self.ctes.insert(cte.ctename.clone(), level);
        let stored = self.is_stored_query(query);
        for column in names(&cte.aliascolnames) {
            self.alias_name(column, level, stored);
        }
        if let Some(search) = &cte.search_clause {
            self.alias_name(&search.search_seq_column, level, false);
        }
        if let Some(cycle) = &cte.cycle_clause {
            self.alias_name(&cycle.cycle_mark_column, level, false);
            self.alias_name(&cycle.cycle_path_column, level, false);
        }
    }

    // What is stored, and not computed.

    /// Whether a value is a column as it is stored, or nothing masked at all.
    fn is_stored_value(&self, value: NodeRef<'t>) -> bool {
        self.level(value) == Level::Clean
            || self.is_bare_column(value)
            // Which of the names `*` brings along is not looked at.
            || self.derived.is_empty()
                && matches!(value, NodeRef::ColumnRef(column) if is_star(column))
    }

    /// The same for all outputs of a query, whatever other names they go by.
    fn is_stored_query(&self, query: NodeRef<'t>) -> bool {
        match query {
            NodeRef::SelectStmt(select) => self.is_stored_select(select),
            _ => self.output(query) == Level::Clean,
        }
    }

    fn is_stored_select(&self, select: &'t SelectStmt) -> bool {
        if self.select_output(select) == Level::Clean {
            return true;
        }
        let arms = [select.larg.as_deref(), select.rarg.as_deref()];
        let mut arms = arms.into_iter().flatten();
        select.values_lists.is_empty()
            && arms.all(|arm| self.is_stored_select(arm))
            && many(&select.target_list).all(|target| match target {
                NodeRef::ResTarget(target) => {
                    one(&target.val).is_some_and(|value| self.is_stored_value(value))
                }
                _ => false,
            })
    }

    fn is_stored_source(&self, item: NodeRef<'t>) -> bool {
        match item {
            NodeRef::RangeVar(range) => match self.resolved.get(range) {
                Resolved::Cte(cte) => {
                    one(&cte.ctequery).is_some_and(|query| self.is_stored_query(query))
                }
                _ => true,
            },
            NodeRef::RangeSubselect(range) => {
                one(&range.subquery).is_some_and(|query| self.is_stored_query(query))
            }
            NodeRef::JoinExpr(join) => {
                let sides = [one(&join.larg), one(&join.rarg)];
                sides
                    .into_iter()
                    .flatten()
                    .all(|side| self.is_stored_source(side))
            }
            _ => self.source_level(item) == Level::Clean,
        }
    }
}

/// The query whose rows are the statement's result.
pub(super) fn outermost(root: NodeRef<'_>) -> Option<&SelectStmt> {
    match root {
        NodeRef::SelectStmt(select) => Some(select),
        NodeRef::ExplainStmt(explain) => outermost(one(&explain.query)?),
        NodeRef::PrepareStmt(prepare) => outermost(one(&prepare.query)?),
        NodeRef::DeclareCursorStmt(declare) => outermost(one(&declare.query)?),
        NodeRef::CopyStmt(copy) => outermost(one(&copy.query)?),
        _ => None,
    }
}

/// The names that an expression without AS may go by (FigureColname), but for made-up ones.
fn figure_names<'t>(value: NodeRef<'t>, figured: &mut Vec<&'t str>) {
    let part = match value {
        NodeRef::ColumnRef(column) => {
            figured.push(last_name(&column.fields));
            None
        }
        NodeRef::FuncCall(call) => {
            figured.push(last_name(&call.funcname));
            None
        }
        NodeRef::AIndirection(path) => {
            figured.extend(names(&path.indirection));
            one(&path.arg)
        }
        NodeRef::TypeCast(cast) => {
            figured.extend(cast.type_name.iter().map(|target| last_name(&target.names)));
            one(&cast.arg)
        }
        NodeRef::CollateClause(collate) => one(&collate.arg),
        NodeRef::CaseExpr(case) => one(&case.defresult),
        NodeRef::SubLink(link) => one(&link.subselect),
        NodeRef::SelectStmt(select) => match (&select.larg, many(&select.target_list).next()) {
            (Some(arm), _) => Some(NodeRef::SelectStmt(arm)),
            (None, Some(NodeRef::ResTarget(target))) if !target.name.is_empty() => {
                figured.push(&target.name);
                None
            }
            (None, Some(NodeRef::ResTarget(target))) => one(&target.val),
            (None, _) => None,
        },
        _ => None,
    };
    if let Some(part) = part {
        figure_names(part, figured);
    }
}
