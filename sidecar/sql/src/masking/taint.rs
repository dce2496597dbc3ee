//! Which names of a statement may carry a masked value.

mod collect;
mod derive;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use pg_query::NodeRef;
use pg_query::protobuf::{
    Alias, ColumnRef, CommonTableExpr, FuncCall, RangeVar, SelectStmt, SubLink, SubLinkType,
    WithClause,
};

use super::relations::{Level, RelationMask, RelationMasks};
use super::safe;
use super::tree::{any, is_star, last_name, many, names, one};
use crate::resolve::{Resolved, ResolvedRelations};
use crate::walk::{Descend, children, walk};

/// Passes until names that feed each other must have settled; more are not waited for.
const MOST_PASSES: usize = 32;

/// One relation, subquery or function that columns are asked of.
#[derive(Default)]
struct Range {
    /// What the whole row carries.
    level: Level,
    /// Every table that the name stands for, while it stands for tables alone.
    tables: Vec<Rc<RelationMask>>,
    /// Stands for something whose columns are not looked up: a subquery, a column alias list.
    opaque: bool,
}

/// The names of one statement.
pub(super) struct Taint<'m, 't> {
    pub(super) masks: &'m RelationMasks<'m>,
    resolved: &'m ResolvedRelations<'t>,
    /// Columns and aliases, unqualified.
    names: HashMap<String, Level>,
    /// Those of `names` that something else was given.
    aliases: HashSet<String>,
    /// Those of `names` that may stand for something computed from a masked column: comparing one
    /// for equality compares a part of the column (`left(email, 1) AS x … WHERE x = 'a'`).
    derived: HashSet<String>,
    /// The query whose outputs nothing else in the statement compares by name.
    outermost: Option<&'t SelectStmt>,
    /// Whatever may stand before the dot.
    ranges: HashMap<String, Range>,
    /// WITH queries.
    ctes: HashMap<String, Level>,
    /// What a name that is not known otherwise may carry.
    everything: Level,
    /// Some relation with masked columns, or not traced, is named.
    pub(super) touches: bool,
    /// A relation with masked columns, or not traced, that is read.
    pub(super) reads: Option<String>,
}

impl<'m, 't> Taint<'m, 't> {
    /// The names of the statement under `root`.
    pub(super) fn of(
        root: NodeRef<'t>,
        masks: &'m RelationMasks<'m>,
        resolved: &'m ResolvedRelations<'t>,
    ) -> Taint<'m, 't> {
        let mut taint = Taint {
            masks,
            resolved,
            names: HashMap::new(),
            aliases: HashSet::new(),
            derived: HashSet::new(),
            outermost: derive::outermost(root),
            ranges: HashMap::new(),
            ctes: HashMap::new(),
            everything: Level::Clean,
            touches: false,
            reads: None,
        };
        taint.collect(root);
        for _ in 0..MOST_PASSES {
            let before = taint.size();
            walk(root, &mut |node| {
                taint.derive(node);
                Descend::Into
            });
            if taint.size() == before {
                return taint;
            }
        }
        taint.everything = Level::Masked;
        taint
    }

    /// Grows with every change: levels only rise.
    fn size(&self) -> usize {
        let sum = |levels: &mut dyn Iterator<Item = Level>| {
            levels.map(|level| level as usize).sum::<usize>()
        };
        sum(&mut self.names.values().copied())
            + sum(&mut self.ctes.values().copied())
            + sum(&mut self.ranges.values().map(|range| range.level))
            + self.ranges.values().filter(|range| range.opaque).count()
            + self.derived.len()
            + self.everything as usize
    }

    fn name(&mut self, name: &str, level: Level) {
        if level > Level::Clean && self.names.get(name).is_none_or(|known| *known < level) {
            self.names.insert(name.to_owned(), level);
        }
    }

    /// A name that something else was given; `stored` where that is a column as it is stored.
    fn alias_name(&mut self, name: &str, level: Level, stored: bool) {
        self.name(name, level);
        if level > Level::Clean {
            self.aliases.insert(name.to_owned());
            if !stored {
                self.derived.insert(name.to_owned());
            }
        }
    }

    fn range(&mut self, name: &str, level: Level, opaque: bool) {
        if !self.ranges.contains_key(name) {
            self.ranges.insert(name.to_owned(), Range::default());
        }
        if let Some(range) = self.ranges.get_mut(name) {
            range.level = range.level.max(level);
            range.opaque |= opaque;
        }
    }

    /// An alias of something that carries `level`: it stands for the row, and its column
    /// aliases for any of the columns, `stored` where all of these are.
    fn alias(&mut self, alias: Option<&Alias>, level: Level, stored: bool) {
        let Some(alias) = alias else { return };
        self.range(&alias.aliasname, level, true);
        for column in names(&alias.colnames) {
            self.alias_name(column, level, stored);
        }
    }

    fn cte(&self, name: &str) -> Level {
        self.ctes.get(name).copied().unwrap_or_default()
    }

    /// What the output columns of a query may carry.
    pub(super) fn output(&self, query: NodeRef<'t>) -> Level {
        match query {
            NodeRef::SelectStmt(select) => self.select_output(select),
            NodeRef::InsertStmt(insert) => self.returned(query, insert.returning_clause.as_ref()),
            NodeRef::UpdateStmt(update) => self.returned(query, update.returning_clause.as_ref()),
            NodeRef::DeleteStmt(delete) => self.returned(query, delete.returning_clause.as_ref()),
            NodeRef::MergeStmt(merge) => self.returned(query, merge.returning_clause.as_ref()),
            _ => Level::Masked,
        }
    }

    pub(super) fn select_output(&self, select: &'t SelectStmt) -> Level {
        let arms = [select.larg.as_deref(), select.rarg.as_deref()];
        let arms = arms
            .into_iter()
            .flatten()
            .map(|arm| self.select_output(arm));
        let values = many(&select.values_lists).map(|value| self.level(value));
        let targets = many(&select.target_list).map(|target| self.target_level(target, select));
        arms.chain(values).chain(targets).max().unwrap_or_default()
    }

    /// What one entry of a SELECT list may carry; `*` is the rows of its own FROM list.
    pub(super) fn target_level(&self, target: NodeRef<'t>, select: &'t SelectStmt) -> Level {
        let NodeRef::ResTarget(target) = target else {
            return Level::Clean;
        };
        match one(&target.val) {
            Some(NodeRef::ColumnRef(column)) if column.fields.len() == 1 && is_star(column) => {
                self.from(&select.from_clause)
            }
            Some(value) => self.level(value),
            None => Level::Clean,
        }
    }

    fn returned(
        &self,
        statement: NodeRef<'t>,
        returning: Option<&'t pg_query::protobuf::ReturningClause>,
    ) -> Level {
        let mut level = Level::Clean;
        for target in returning
            .into_iter()
            .flat_map(|returning| many(&returning.exprs))
        {
            let NodeRef::ResTarget(target) = target else {
                continue;
            };
            let Some(value) = one(&target.val) else {
                continue;
            };
            level = level.max(self.level(value));
            if expands(value) {
                // The target's columns, and the sources'.
                children(statement, &mut |_, child| {
                    level = level.max(self.source_level(child));
                });
            }
        }
        level
    }

    /// What the rows of a FROM list may carry.
    pub(super) fn from(&self, items: &'t [pg_query::Node]) -> Level {
        many(items)
            .map(|item| self.source_level(item))
            .max()
            .unwrap_or_default()
    }

    /// What the rows of one item of a FROM list may carry; nothing for what is none.
    pub(super) fn source_level(&self, item: NodeRef<'t>) -> Level {
        let side =
            |node: Option<NodeRef<'t>>| node.map_or(Level::Clean, |node| self.source_level(node));
        match item {
            NodeRef::RangeVar(range) => match self.resolved.get(range) {
                Resolved::Relation(relation) => self.masks.of(relation).row,
                Resolved::Cte(cte) => self.cte(&cte.ctename),
                Resolved::Pending | Resolved::Unresolved => Level::Masked,
            },
            NodeRef::RangeSubselect(range) => {
                one(&range.subquery).map_or(Level::Clean, |query| self.output(query))
            }
            NodeRef::JoinExpr(join) => side(one(&join.larg)).max(side(one(&join.rarg))),
            NodeRef::RangeTableSample(sample) => side(one(&sample.relation)),
            NodeRef::RangeFunction(_) | NodeRef::RangeTableFunc(_) | NodeRef::JsonTable(_) => {
                self.children_level(item)
            }
            _ => Level::Clean,
        }
    }

    /// What the value of an expression may carry.
    pub(super) fn level(&self, node: NodeRef<'t>) -> Level {
        match node {
            NodeRef::ColumnRef(column) => self.column(column),
            NodeRef::SubLink(link) => self.sublink(link),
            NodeRef::SelectStmt(select) => self.select_output(select),
            NodeRef::NullTest(test) => match one(&test.arg) {
                Some(argument) if self.is_bare_column(argument) => Level::Clean,
                Some(argument) => self.level(argument),
                None => Level::Clean,
            },
            NodeRef::FuncCall(call) if self.masks.is_untraced(call) => Level::Masked,
            NodeRef::AExpr(operator) if self.masks.is_user_operator(last_name(&operator.name)) => {
                match self.masks.untraced_function_runs() {
                    true => Level::Masked,
                    false => self.children_level(node),
                }
            }
            _ => self.children_level(node),
        }
    }

    fn children_level(&self, node: NodeRef<'t>) -> Level {
        let mut level = Level::Clean;
        children(node, &mut |_, child| level = level.max(self.level(child)));
        level
    }

    fn sublink(&self, link: &'t SubLink) -> Level {
        if link.sub_link_type() == SubLinkType::ExistsSublink {
            return Level::Clean;
        }
        let output = one(&link.subselect).map_or(Level::Clean, |query| self.output(query));
        one(&link.testexpr).map_or(output, |test| self.level(test).max(output))
    }

    /// What a column reference may carry (transformColumnRef: `c`, `t.c`, `s.t.c`, `d.s.t.c`, a
    /// star in place of the column, a whole row `t`, or a function of the row as `t.f`).
    pub(super) fn column(&self, column: &ColumnRef) -> Level {
        let path: Vec<&str> = names(&column.fields).collect();
        let qualifier = |back: usize| {
            path.len()
                .checked_sub(back)
                .and_then(|at| path.get(at))
                .copied()
                .unwrap_or_default()
        };
        if is_star(column) {
            return match path.last() {
                Some(range) => self.row(range),
                None => self
                    .ranges
                    .values()
                    .map(|range| range.level)
                    .max()
                    .unwrap_or_default(),
            };
        }
        match path.as_slice() {
            [] => Level::Masked,
            [name] => self
                .named(name)
                .max(self.ranges.get(*name).map_or(Level::Clean, |r| r.level)),
            _ => self.qualified(qualifier(2), qualifier(1)),
        }
    }

    /// What a column may carry that the grammar names by a string.
    pub(super) fn name_level(&self, name: &str) -> Level {
        if name.is_empty() {
            Level::Clean
        } else {
            self.named(name)
        }
    }

    fn named(&self, name: &str) -> Level {
        self.names
            .get(name)
            .copied()
            .unwrap_or_default()
            .max(self.everything)
    }

    fn row(&self, range: &str) -> Level {
        self.ranges
            .get(range)
            .map_or(self.everything, |range| range.level)
    }

    fn qualified(&self, qualifier: &str, name: &str) -> Level {
        let Some(range) = self.ranges.get(qualifier) else {
            return self.named(name);
        };
        if range.opaque || range.tables.is_empty() {
            let on_row = safe::is_on_rows(name) || self.masks.is_user_function(name);
            return self
                .named(name)
                .max(if on_row { range.level } else { Level::Clean });
        }
        let mut level = Level::Clean;
        for table in &range.tables {
            level = level.max(match table.columns.get(name) {
                Some(column) => *column,
                None if self.masks.is_user_function(name) => Level::Masked,
                None => table.row,
            });
        }
        level
    }

    /// A reference to one column as it is stored: not a row, not a function of a row, not a name
    /// of something computed.
    pub(super) fn is_bare_column(&self, node: NodeRef<'t>) -> bool {
        let NodeRef::ColumnRef(column) = node else {
            return false;
        };
        let path: Vec<&str> = names(&column.fields).collect();
        match path.as_slice() {
            _ if is_star(column) => false,
            [.., name] if self.derived.contains(*name) => false,
            [name] => !self.ranges.contains_key(*name),
            [.., qualifier, name] => match self.ranges.get(*qualifier) {
                Some(range) if !range.opaque && !range.tables.is_empty() => range
                    .tables
                    .iter()
                    .all(|table| table.columns.contains_key(*name)),
                _ => !safe::is_on_rows(name) && !self.masks.is_user_function(name),
            },
            [] => false,
        }
    }

    /// The columns of a FROM item and what they carry, where all of it is tables under their own
    /// column names.
    pub(super) fn columns_of(&self, item: NodeRef<'t>) -> Option<HashMap<String, Level>> {
        match item {
            NodeRef::RangeVar(range) => {
                let renamed = range
                    .alias
                    .as_ref()
                    .is_some_and(|alias| !alias.colnames.is_empty());
                match self.resolved.get(range) {
                    Resolved::Relation(relation) if !renamed => {
                        let mask = self.masks.of(relation);
                        let own = relation.columns.iter();
                        let level =
                            |name: &str| mask.columns.get(name).copied().unwrap_or(mask.row);
                        Some(
                            own.map(|own| (own.name.clone(), level(&own.name)))
                                .collect(),
                        )
                    }
                    _ => None,
                }
            }
            NodeRef::JoinExpr(join) if join.alias.is_none() => {
                let mut columns = self.columns_of(one(&join.larg)?)?;
                for (name, level) in self.columns_of(one(&join.rarg)?)? {
                    let known = columns.entry(name).or_default();
                    *known = level.max(*known);
                }
                Some(columns)
            }
            _ => None,
        }
    }

    /// The mask of the relation that a node names, if it is a known one.
    pub(super) fn relation_mask(&self, range: &RangeVar) -> Option<Rc<RelationMask>> {
        match self.resolved.get(range) {
            Resolved::Relation(relation) => Some(self.masks.of(relation)),
            _ => None,
        }
    }

    /// Whether a cast of this column only widens it, in every relation that has a column of this
    /// name here. Aliases are not followed.
    pub(super) fn is_widened(
        &self,
        node: NodeRef<'t>,
        cast: &pg_query::protobuf::TypeCast,
    ) -> bool {
        let NodeRef::ColumnRef(column) = node else {
            return false;
        };
        let name = last_name(&column.fields);
        self.is_bare_column(node)
            && self.column_types(name).is_some_and(|types| {
                types
                    .into_iter()
                    .all(|type_oid| safe::is_widening_cast(cast, type_oid))
            })
    }

    fn column_types(&self, name: &str) -> Option<Vec<u32>> {
        if self.everything > Level::Clean || self.aliases.contains(name) {
            return None;
        }
        let tables = self.ranges.values().flat_map(|range| &range.tables);
        let types: Vec<u32> = tables
            .filter_map(|table| table.types.get(name).copied())
            .collect();
        (!types.is_empty()).then_some(types)
    }

    /// The name by which a refusal says what it is about: the first one in the node that carries
    /// as much as `least`.
    pub(super) fn culprit(&self, node: NodeRef<'t>, least: Level) -> String {
        let mut name = None;
        any(node, &mut |node| {
            name = match node {
                NodeRef::ColumnRef(column) if self.column(column) >= least => {
                    let path: Vec<&str> = names(&column.fields).collect();
                    match path.is_empty() {
                        true => Some("*".to_owned()),
                        false => Some(path.join(".")),
                    }
                }
                NodeRef::FuncCall(call) if self.masks.is_untraced(call) => {
                    Some(format!("{}()", last_name(&call.funcname)))
                }
                _ => None,
            };
            name.is_some()
        });
        name.unwrap_or_else(|| "*".to_owned())
    }

    /// Whether some name stands for something computed from a masked column.
    pub(super) fn has_derived(&self) -> bool {
        !self.derived.is_empty()
    }

    /// Whether a function that is not known pure is called anywhere below.
    pub(super) fn calls_impure(&self, node: NodeRef<'t>) -> bool {
        any(
            node,
            &mut |node| matches!(node, NodeRef::FuncCall(call) if !self.is_pure(call)),
        )
    }

    pub(super) fn is_pure(&self, call: &FuncCall) -> bool {
        self.masks.is_pure(call)
    }
}

/// `*`, `t.*` or `(expression).*`.
fn expands(value: NodeRef<'_>) -> bool {
    match value {
        NodeRef::ColumnRef(column) => is_star(column),
        NodeRef::AIndirection(path) => {
            matches!(many(&path.indirection).last(), Some(NodeRef::AStar(_)))
        }
        _ => false,
    }
}

/// The WITH queries of a statement.
pub(super) fn with_queries(with: Option<&WithClause>) -> impl Iterator<Item = &CommonTableExpr> {
    with.into_iter()
        .flat_map(|with| many(&with.ctes))
        .filter_map(|cte| match cte {
            NodeRef::CommonTableExpr(cte) => Some(cte),
            _ => None,
        })
}
