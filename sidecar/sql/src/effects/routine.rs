//! Functions, procedures, triggers, rules, and what binds functions to other things.

use chaperone_policy::Effect;
use pg_query::protobuf::{
    AlterFunctionStmt, CreateCastStmt, CreateFunctionStmt, CreateTrigStmt, DefineStmt, ObjectType,
    RuleStmt,
};
use pg_query::{Node, NodeEnum, NodeRef};

use super::Effects;
use super::object::{kind, split, strings, type_name};

impl<'t> Effects<'t> {
    /// What the body does is judged when the function is called: as `Execute`. A body in SQL's
    /// own syntax is in the tree, and judged now too.
    pub(super) fn create_function(&mut self, create: &'t CreateFunctionStmt) {
        self.new_function(Effect::SchemaCreate, &strings(&create.funcname));
        self.visit_all(&create.parameters);
        self.visit_one(create.sql_body.as_deref());
        for node in &create.options {
            let Some(NodeEnum::DefElem(option)) = node.node.as_ref() else {
                continue;
            };
            if let ("language", Some(NodeEnum::String(language))) = (
                option.defname.as_str(),
                option.arg.as_deref().and_then(|arg| arg.node.as_ref()),
            ) && matches!(language.sval.as_str(), "c" | "internal")
            {
                self.named(Effect::UnsafeIo, "library", language.sval.clone());
            }
        }
    }

    pub(super) fn alter_function(&mut self, alter: &'t AlterFunctionStmt) {
        self.function_with_args(Effect::SchemaAlter, alter.func.as_ref());
        self.changed(crate::SessionChange::Catalog);
    }

    /// CREATE AGGREGATE, OPERATOR, TYPE, COLLATION and the parts of text search.
    pub(super) fn define(&mut self, define: &'t DefineStmt) {
        let names = strings(&define.defnames);
        match define.kind() {
            ObjectType::ObjectAggregate => self.new_function(Effect::SchemaCreate, &names),
            ObjectType::ObjectOperator => {
                self.new_named("operator", &define.defnames);
                let (_, name) = split(&names);
                self.pending_function(name.to_owned());
            }
            other => {
                self.new_named(&kind(other), &define.defnames);
                self.names_changed();
            }
        }
    }

    /// The trigger's function will run whenever the relation changes.
    pub(super) fn create_trigger(&mut self, trigger: &'t CreateTrigStmt) {
        match &trigger.relation {
            Some(relation) => self.touch(relation, Effect::SchemaAlter),
            None => self.unknown(),
        }
        self.bind_function(&trigger.funcname);
        self.visit_others(
            NodeRef::CreateTrigStmt(trigger),
            &["relation", "funcname", "transition_rels"],
        );
    }

    /// A rule's actions are judged as if they ran now.
    pub(super) fn create_rule(&mut self, rule: &'t RuleStmt) {
        match &rule.relation {
            Some(relation) => self.touch(relation, Effect::SchemaAlter),
            None => self.unknown(),
        }
        self.visit_others(NodeRef::RuleStmt(rule), &["relation"]);
        self.changed(crate::SessionChange::Catalog);
    }

    pub(super) fn create_cast(&mut self, cast: &'t CreateCastStmt) {
        let part =
            |name: Option<&pg_query::protobuf::TypeName>| name.map(type_name).unwrap_or_default();
        let name = format!(
            "{} as {}",
            part(cast.sourcetype.as_ref()),
            part(cast.targettype.as_ref())
        );
        self.named(Effect::SchemaCreate, "cast", name);
        if let Some(function) = &cast.func {
            self.bind_function(&function.objname);
        }
        self.names_changed();
    }

    /// Somebody's later statement will run this function.
    pub(super) fn bind_function(&mut self, name: &'t [Node]) {
        let parts = strings(name);
        let (schema, name) = split(&parts);
        self.call_by_name(schema, name, None);
        self.changed(crate::SessionChange::Catalog);
    }
}

/// What an entry of CREATE OPERATOR CLASS names (PostgreSQL, parsenodes.h, OPCLASS_ITEM_*).
pub(super) enum OpClassItem {
    Operator,
    Function,
    Other,
}

impl OpClassItem {
    pub(super) fn of(item_type: i32) -> OpClassItem {
        match item_type {
            1 => OpClassItem::Operator,
            2 => OpClassItem::Function,
            _ => OpClassItem::Other,
        }
    }
}
