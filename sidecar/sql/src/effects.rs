//! Every effect of one statement, by a walk over its whole tree.
//!
//! [`dispatch`] decides on each kind of node; the modules beside it hold the handlers. A relation
//! that no handler speaks for is read.

mod attribute;
mod copy;
mod cursor;
mod ddl;
mod dispatch;
mod dml;
mod expression;
mod maintenance;
mod object;
mod privilege;
mod routine;
mod select;
mod session;
mod table;
mod transaction;

use std::collections::{BTreeSet, HashMap, HashSet};

use chaperone_policy::{Access, Effect, Object};
use pg_query::NodeRef;
use pg_query::protobuf::{CommonTableExpr, RangeVar, WithClause};

use crate::classification::{Classification, Context, Kind, Overlay, SessionChange};
use crate::resolve::{Found, Names, PG_TEMP, Resolved, ResolvedRelations};
use crate::system::describes_the_schema;
use crate::walk::children;

/// How deep an EXECUTE may lead into another EXECUTE before it is refused.
const MAX_EXECUTE: usize = 8;

/// Collects what one statement does.
pub(crate) struct Effects<'t> {
    context: &'t Context<'t>,
    names: Names<'t>,
    root: NodeRef<'t>,
    accesses: BTreeSet<Access>,
    pub(crate) resolved: ResolvedRelations<'t>,
    /// The WITH queries in scope, innermost last.
    scope: HashMap<&'t str, Vec<&'t CommonTableExpr>>,
    pub(crate) kind: Kind,
    changes: Vec<SessionChange>,
    overlay: Overlay,
    pub(crate) strings: Vec<String>,
    /// What the statements behind an EXECUTE are; their masking facts count too.
    pub(crate) executed: Vec<Classification>,
    executes: usize,
    qualifiers: Option<attribute::Qualifiers<'t>>,
    /// The setting that the column `name` holds wherever the SELECT being visited evaluates it.
    setting: Option<&'t str>,
}

impl<'t> Effects<'t> {
    /// Walks the tree at `root`. `executes` is how many EXECUTEs have led here.
    pub(crate) fn collect(
        root: NodeRef<'t>,
        context: &'t Context<'t>,
        executes: usize,
    ) -> Effects<'t> {
        let mut effects = Effects {
            context,
            names: Names::new(context.catalog, context.search_path, context.overlay),
            root,
            accesses: BTreeSet::new(),
            resolved: ResolvedRelations::default(),
            scope: HashMap::new(),
            kind: Kind::Plain,
            changes: Vec::new(),
            overlay: Overlay::default(),
            strings: Vec::new(),
            executed: Vec::new(),
            executes,
            qualifiers: None,
            setting: None,
        };
        effects.visit(root);
        if effects.accesses.is_empty() {
            match root {
                NodeRef::SelectStmt(_)
                | NodeRef::ExplainStmt(_)
                | NodeRef::PrepareStmt(_)
                | NodeRef::ExecuteStmt(_)
                | NodeRef::DeclareCursorStmt(_) => {
                    effects.add(Effect::Read, Object::Session, true);
                }
                // Every other statement does something.
                _ => effects.unknown(),
            }
        }
        effects
    }

    /// The accesses in their stable order.
    pub(crate) fn accesses(&self) -> Vec<Access> {
        self.accesses.iter().cloned().collect()
    }

    /// What holds no longer, and what the batch must know.
    pub(crate) fn after(&self) -> (Vec<SessionChange>, Overlay) {
        let mut overlay = self.overlay.clone();
        overlay.unknown |= self.changes.iter().any(|change| {
            matches!(
                change,
                SessionChange::Everything | SessionChange::SearchPath
            )
        });
        (self.changes.clone(), overlay)
    }

    fn add(&mut self, effect: Effect, object: Object, baseline: bool) {
        self.accesses.insert(Access {
            effect,
            object,
            baseline,
        });
    }

    /// Something that cannot be followed.
    fn unknown(&mut self) {
        self.add(Effect::Unknown, Object::Any, false);
        self.changed(SessionChange::Everything);
    }

    fn named(&mut self, effect: Effect, kind: &str, name: impl Into<String>) {
        let object = Object::Named {
            kind: kind.to_owned(),
            name: name.into(),
        };
        self.add(effect, object, false);
    }

    /// A function or procedure that is not known to be pure runs.
    fn execute(&mut self, schema: &str, name: &str) {
        let object = function_object(self.names.canonical(schema), name);
        self.add(Effect::Execute, object, false);
        self.changed(SessionChange::Everything);
    }

    fn changed(&mut self, change: SessionChange) {
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }

    /// Names change in a way that the overlay cannot follow.
    fn names_changed(&mut self) {
        self.changed(SessionChange::Catalog);
        self.overlay.unknown = true;
    }

    /// Whether the walk stands at the statement itself, not at one inside it.
    fn is_root(&self, node: NodeRef<'t>) -> bool {
        match (self.root, node) {
            (NodeRef::PrepareStmt(a), NodeRef::PrepareStmt(b)) => std::ptr::eq(a, b),
            (NodeRef::ExecuteStmt(a), NodeRef::ExecuteStmt(b)) => std::ptr::eq(a, b),
            (NodeRef::DeallocateStmt(a), NodeRef::DeallocateStmt(b)) => std::ptr::eq(a, b),
            (NodeRef::DeclareCursorStmt(a), NodeRef::DeclareCursorStmt(b)) => std::ptr::eq(a, b),
            (NodeRef::FetchStmt(a), NodeRef::FetchStmt(b)) => std::ptr::eq(a, b),
            (NodeRef::ClosePortalStmt(a), NodeRef::ClosePortalStmt(b)) => std::ptr::eq(a, b),
            (NodeRef::CopyStmt(a), NodeRef::CopyStmt(b)) => std::ptr::eq(a, b),
            (NodeRef::DiscardStmt(a), NodeRef::DiscardStmt(b)) => std::ptr::eq(a, b),
            (NodeRef::TransactionStmt(a), NodeRef::TransactionStmt(b)) => std::ptr::eq(a, b),
            _ => false,
        }
    }

    fn set_kind(&mut self, node: NodeRef<'t>, kind: Kind) {
        if self.is_root(node) {
            self.kind = kind;
        }
    }

    fn visit_children(&mut self, node: NodeRef<'t>) {
        children(node, &mut |_, child| self.visit(child));
    }

    /// Visits all children but those in the named fields, which the caller deals with.
    fn visit_others(&mut self, node: NodeRef<'t>, handled: &[&str]) {
        children(node, &mut |field, child| {
            if !handled.contains(&field) {
                self.visit(child);
            }
        });
    }

    fn visit_all(&mut self, nodes: &'t [pg_query::Node]) {
        for node in nodes.iter().filter_map(|node| node.node.as_ref()) {
            self.visit(node.to_ref());
        }
    }

    fn visit_one(&mut self, node: Option<&'t pg_query::Node>) {
        if let Some(node) = node.and_then(|node| node.node.as_ref()) {
            self.visit(node.to_ref());
        }
    }

    /// Runs `body` with the queries of a WITH in scope, after visiting each of them. Without
    /// RECURSIVE a query sees only those before it, so its own name means a relation there.
    fn with(&mut self, clause: Option<&'t WithClause>, body: impl FnOnce(&mut Self)) {
        let Some(clause) = clause else {
            return body(self);
        };
        let queries: Vec<&'t CommonTableExpr> = clause
            .ctes
            .iter()
            .filter_map(|node| match node.node.as_ref() {
                Some(pg_query::NodeEnum::CommonTableExpr(query)) => Some(&**query),
                _ => None,
            })
            .collect();
        if clause.recursive {
            queries.iter().for_each(|query| self.enter(query));
        }
        for query in &queries {
            self.visit_children(NodeRef::CommonTableExpr(query));
            if !clause.recursive {
                self.enter(query);
            }
        }
        body(self);
        for query in queries {
            if let Some(stack) = self.scope.get_mut(query.ctename.as_str()) {
                stack.pop();
            }
        }
    }

    fn enter(&mut self, query: &'t CommonTableExpr) {
        self.scope.entry(&query.ctename).or_default().push(query);
    }

    /// A relation in a position where WITH queries are looked up first: it is read.
    fn read(&mut self, relation: &'t RangeVar) {
        if relation.schemaname.is_empty()
            && let Some(query) = self
                .scope
                .get(relation.relname.as_str())
                .and_then(|stack| stack.last())
        {
            self.resolved.insert(relation, Resolved::Cte(query));
            return;
        }
        self.touch(relation, Effect::Read);
    }

    /// A relation in a position where only relations are looked up.
    fn touch(&mut self, relation: &'t RangeVar, effect: Effect) {
        let found = self.names.relation(&relation.schemaname, &relation.relname);
        let resolved = found
            .as_ref()
            .map_or(Resolved::Unresolved, |found| found.resolved);
        self.resolved.insert(relation, resolved);
        match found {
            Some(found) => self.touch_found(&found, effect),
            None => self.unresolved(&relation.schemaname, &relation.relname, effect),
        }
    }

    fn touch_named(&mut self, schema: &str, name: &str, effect: Effect) {
        match self.names.relation(schema, name) {
            Some(found) => self.touch_found(&found, effect),
            None => self.unresolved(schema, name, effect),
        }
    }

    fn unresolved(&mut self, schema: &str, name: &str, effect: Effect) {
        let name = dotted(schema, name);
        self.add(effect, Object::Unresolved(name), false);
    }

    /// Adds the access for a relation and, where it is a partition or an inheritance child, for
    /// everything it is part of.
    fn touch_found(&mut self, found: &Found<'t>, effect: Effect) {
        self.relation_access(&found.schema, &found.name, effect);
        let Some(relation) = found.catalogued else {
            return;
        };
        let mut seen = HashSet::from([relation.oid]);
        let mut pending = relation.parents.clone();
        while let Some(oid) = pending.pop() {
            if !seen.insert(oid) {
                continue;
            }
            match self.names.catalog().relations.get(&oid) {
                Some(parent) => {
                    let schema = self.names.canonical(&parent.schema).to_owned();
                    self.relation_access(&schema, &parent.name, effect);
                    pending.extend(&parent.parents);
                }
                None => self.unknown(),
            }
        }
    }

    fn relation_access(&mut self, schema: &str, name: &str, effect: Effect) {
        let object = relation_object(schema, name);
        if effect == Effect::Read && describes_the_schema(schema, name) {
            return self.add(Effect::Catalog, object, true);
        }
        self.add(effect, object, false);
        // The rows of some table that the name does not tell.
        if schema == "pg_toast" || schema.starts_with("pg_toast_temp") {
            self.unknown();
        }
    }

    /// A relation comes to be under this name, and hides others where it is temporary.
    fn create_relation(&mut self, relation: &'t RangeVar, effect: Effect) {
        let temporary = relation.relpersistence == "t"
            || self.names.canonical(&relation.schemaname) == PG_TEMP
            || (relation.schemaname.is_empty() && self.names.creates_temporary());
        if temporary && self.names.shadows_permanent(&relation.relname) {
            self.unknown();
        }
        let schema = if temporary {
            Some(PG_TEMP)
        } else if relation.schemaname.is_empty() {
            self.names.creation_schema()
        } else {
            Some(self.names.canonical(&relation.schemaname))
        };
        let name = relation.relname.clone();
        self.resolved.insert(relation, Resolved::Pending);
        match schema {
            Some(schema) => {
                let schema = schema.to_owned();
                self.relation_access(&schema, &name, effect);
                self.overlay
                    .relations
                    .insert((schema, name), Some(temporary));
            }
            None => {
                self.unresolved("", &name, effect);
                self.overlay
                    .relations
                    .insert((String::new(), name), Some(temporary));
            }
        }
        self.changed(SessionChange::Catalog);
    }
}

fn relation_object(schema: &str, name: &str) -> Object {
    Object::Relation {
        schema: schema.to_owned(),
        name: name.to_owned(),
    }
}

fn function_object(schema: &str, name: &str) -> Object {
    Object::Function {
        schema: schema.to_owned(),
        name: name.to_owned(),
    }
}

fn dotted(schema: &str, name: &str) -> String {
    if schema.is_empty() {
        name.to_owned()
    } else {
        format!("{schema}.{name}")
    }
}
