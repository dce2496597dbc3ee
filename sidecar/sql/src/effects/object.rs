//! Names and objects as DDL gives them.

use chaperone_policy::{Effect, Object};
use pg_query::protobuf::{ObjectType, ObjectWithArgs, RoleSpec, RoleSpecType, TypeName};
use pg_query::{Node, NodeEnum};

use super::{Effects, dotted, function_object, relation_object};
use crate::resolve::{PG_CATALOG, PG_TEMP};

/// The strings of a name, in order; anything that is no string is passed over.
pub(super) fn strings(nodes: &[Node]) -> Vec<&str> {
    nodes
        .iter()
        .filter_map(|node| match node.node.as_ref()? {
            NodeEnum::String(string) => Some(string.sval.as_str()),
            _ => None,
        })
        .collect()
}

/// Schema and name of a name of one, two or three parts; the first of three is the database.
pub(super) fn split<'n>(parts: &[&'n str]) -> (&'n str, &'n str) {
    match parts {
        [] => ("", ""),
        [name] => ("", name),
        [.., schema, name] => (schema, name),
    }
}

/// The role that a specification names, with the word for those that have no name of their own.
pub(super) fn role(spec: &RoleSpec) -> String {
    match spec.roletype() {
        RoleSpecType::RolespecCstring => spec.rolename.clone(),
        RoleSpecType::RolespecPublic => "public".to_owned(),
        RoleSpecType::RolespecCurrentRole | RoleSpecType::RolespecCurrentUser => {
            "current_user".to_owned()
        }
        RoleSpecType::RolespecSessionUser => "session_user".to_owned(),
        RoleSpecType::Undefined => "*".to_owned(),
    }
}

/// What SQL calls this type of object, in lower case.
pub(super) fn kind(object_type: ObjectType) -> String {
    object_type
        .as_str_name()
        .trim_start_matches("OBJECT_")
        .to_lowercase()
        .replace('_', " ")
}

impl<'t> Effects<'t> {
    /// An effect on an object that a statement names by type and node.
    pub(super) fn object(
        &mut self,
        effect: Effect,
        object_type: ObjectType,
        node: Option<&'t Node>,
    ) {
        let Some(node) = node.and_then(|node| node.node.as_ref()) else {
            return self.unknown();
        };
        let list = match node {
            NodeEnum::List(list) => strings(&list.items),
            NodeEnum::String(string) => vec![string.sval.as_str()],
            NodeEnum::TypeName(name) => strings(&name.names),
            NodeEnum::ObjectWithArgs(object) => strings(&object.objname),
            _ => Vec::new(),
        };
        match object_type {
            ObjectType::ObjectTable
            | ObjectType::ObjectView
            | ObjectType::ObjectMatview
            | ObjectType::ObjectForeignTable
            | ObjectType::ObjectSequence
            | ObjectType::ObjectIndex => {
                let (schema, name) = split(&list);
                self.touch_named(schema, name, effect);
            }
            // The last part is the column, constraint, trigger, rule or policy of the relation.
            ObjectType::ObjectColumn
            | ObjectType::ObjectTabconstraint
            | ObjectType::ObjectTrigger
            | ObjectType::ObjectRule
            | ObjectType::ObjectPolicy => {
                let (schema, name) = split(list.split_last().map_or(&[], |(_, rest)| rest));
                self.touch_named(schema, name, effect);
            }
            ObjectType::ObjectFunction
            | ObjectType::ObjectProcedure
            | ObjectType::ObjectRoutine
            | ObjectType::ObjectAggregate => self.function_by_name(effect, &list),
            other => {
                let name = match node {
                    NodeEnum::List(list) if list.items.len() != strings(&list.items).len() => {
                        describe(&list.items)
                    }
                    NodeEnum::RoleSpec(spec) => role(spec),
                    _ => list.join("."),
                };
                self.named(effect, &kind(other), name);
            }
        }
    }

    /// An effect on a function that exists: every one that the name can mean.
    pub(super) fn function_by_name(&mut self, effect: Effect, parts: &[&str]) {
        let (schema, name) = split(parts);
        if !schema.is_empty() {
            let object = function_object(self.names.canonical(schema), name);
            return self.add(effect, object, false);
        }
        let schemas = self.names.function_schemas(name);
        if schemas.is_empty() || !self.names.path_is_known() {
            self.add(effect, Object::Unresolved(name.to_owned()), false);
        }
        for schema in schemas {
            self.add(effect, function_object(schema, name), false);
        }
    }

    pub(super) fn function_with_args(
        &mut self,
        effect: Effect,
        object: Option<&'t ObjectWithArgs>,
    ) {
        if let Some(object) = object {
            self.function_by_name(effect, &strings(&object.objname));
        }
    }

    /// A new object that is neither a relation nor a function goes by its name as given, or by
    /// the schema where it comes to be.
    pub(super) fn new_named(&mut self, kind: &str, nodes: &[Node]) {
        let (schema, name) = self.placed(&strings(nodes));
        self.named(Effect::SchemaCreate, kind, dotted(&schema, &name));
    }

    /// Where a new object of this name comes to be.
    pub(super) fn placed(&self, parts: &[&str]) -> (String, String) {
        let (schema, name) = split(parts);
        let schema = match schema {
            "" => self.names.creation_schema().unwrap_or_default(),
            schema => self.names.canonical(schema),
        };
        (schema.to_owned(), name.to_owned())
    }

    /// A function or operator whose new definition later calls of the batch may mean.
    pub(super) fn new_function(&mut self, effect: Effect, parts: &[&str]) {
        let (schema, name) = self.placed(parts);
        if schema == PG_CATALOG {
            self.unknown();
        }
        self.add(effect, function_object(&schema, &name), false);
        self.pending_function(name);
    }

    pub(super) fn pending_function(&mut self, name: String) {
        self.overlay.functions.insert(name);
        self.changed(crate::SessionChange::Catalog);
    }

    /// A relation that has got another name or schema. A partition stays part of what it was part
    /// of, which the overlay cannot say: its new name means nothing for the rest of the batch.
    pub(super) fn relation_moved(&mut self, from: (&str, &str), to: (&str, &str), effect: Effect) {
        let found = self.names.relation(from.0, from.1);
        let is_part = found
            .as_ref()
            .and_then(|found| found.catalogued)
            .is_some_and(|relation| !relation.parents.is_empty());
        let from_schema = found.map_or_else(|| from.0.to_owned(), |found| found.schema);
        let to_schema = match to.0 {
            "" => from_schema.clone(),
            schema => self.names.canonical(schema).to_owned(),
        };
        self.add(effect, relation_object(&to_schema, to.1), false);
        let temporary = from_schema == PG_TEMP;
        if temporary && self.names.shadows_permanent(to.1) {
            self.unknown();
        }
        let relations = &mut self.overlay.relations;
        relations.insert((from_schema, from.1.to_owned()), None);
        let becomes = (!is_part).then_some(temporary);
        relations.insert((to_schema, to.1.to_owned()), becomes);
        if is_part {
            relations.insert((String::new(), to.1.to_owned()), None);
        }
        self.changed(crate::SessionChange::Catalog);
    }
}

/// A name for an object that is written with types or operator arguments in it.
fn describe(items: &[Node]) -> String {
    let parts: Vec<String> = items
        .iter()
        .filter_map(|node| match node.node.as_ref()? {
            NodeEnum::String(string) => Some(string.sval.clone()),
            NodeEnum::TypeName(name) => Some(type_name(name)),
            NodeEnum::ObjectWithArgs(object) => Some(strings(&object.objname).join(".")),
            NodeEnum::List(list) => Some(strings(&list.items).join(".")),
            _ => None,
        })
        .collect();
    parts.join(" ")
}

/// A type's name as written.
pub(super) fn type_name(name: &TypeName) -> String {
    strings(&name.names).join(".")
}
