//! Objects that are neither relations nor functions.

use chaperone_policy::Effect;
use pg_query::protobuf::{
    AlterExtensionContentsStmt, AlterObjectDependsStmt, AlterPublicationStmt, CommentStmt,
    CompositeTypeStmt, CreateDomainStmt, CreatePublicationStmt, CreateSchemaStmt, CreateStatsStmt,
    ImportForeignSchemaStmt, IndexStmt, ObjectType, RangeVar,
};
use pg_query::{Node, NodeEnum, NodeRef};

use super::Effects;
use super::object::strings;
use crate::SessionChange;

impl<'t> Effects<'t> {
    /// An object whose name is all that an access tells. Expressions in the statement are judged,
    /// relations in it are read.
    pub(super) fn plain_ddl(
        &mut self,
        effect: Effect,
        kind: &str,
        name: impl Into<String>,
        node: NodeRef<'t>,
    ) {
        self.named(effect, kind, name);
        self.visit_children(node);
        self.names_changed();
    }

    /// The same for a name of several parts.
    pub(super) fn dotted_ddl(
        &mut self,
        effect: Effect,
        kind: &str,
        name: &'t [Node],
        node: NodeRef<'t>,
    ) {
        self.plain_ddl(effect, kind, strings(name).join("."), node);
    }

    /// The same for what connects the server to elsewhere or loads code into it.
    pub(super) fn outward_ddl(
        &mut self,
        effect: Effect,
        kind: &str,
        name: impl Into<String>,
        node: NodeRef<'t>,
    ) {
        let name = name.into();
        self.named(Effect::UnsafeIo, kind, name.clone());
        self.plain_ddl(effect, kind, name, node);
    }

    /// What stands inside is created in the new schema, whose names are not known here.
    pub(super) fn create_schema(&mut self, create: &'t CreateSchemaStmt) {
        let name = match (&create.schemaname, &create.authrole) {
            (name, Some(owner)) if name.is_empty() => super::object::role(owner),
            (name, _) => name.clone(),
        };
        self.named(Effect::SchemaCreate, "schema", name);
        if let Some(owner) = &create.authrole {
            self.named(Effect::Privilege, "role", super::object::role(owner));
        }
        if !create.schema_elts.is_empty() {
            self.unknown();
        }
        self.names_changed();
    }

    pub(super) fn create_index(&mut self, index: &'t IndexStmt) {
        self.altered(index.relation.as_ref());
        self.visit_others(NodeRef::IndexStmt(index), &["relation"]);
        self.changed(SessionChange::Catalog);
    }

    pub(super) fn create_statistics(&mut self, create: &'t CreateStatsStmt) {
        for node in &create.relations {
            match node.node.as_ref() {
                Some(NodeEnum::RangeVar(relation)) => self.touch(relation, Effect::SchemaAlter),
                _ => self.unknown(),
            }
        }
        self.new_named("statistics", &create.defnames);
        self.visit_all(&create.exprs);
    }

    pub(super) fn altered(&mut self, relation: Option<&'t RangeVar>) {
        match relation {
            Some(relation) => self.touch(relation, Effect::SchemaAlter),
            None => self.unknown(),
        }
    }

    /// A row security policy says who sees which rows.
    pub(super) fn row_policy(&mut self, table: Option<&'t RangeVar>, node: NodeRef<'t>) {
        match table {
            Some(table) => self.touch(table, Effect::Privilege),
            None => self.unknown(),
        }
        self.visit_others(node, &["table"]);
    }

    pub(super) fn create_domain(&mut self, create: &'t CreateDomainStmt) {
        self.new_named("domain", &create.domainname);
        self.visit_children(NodeRef::CreateDomainStmt(create));
        self.names_changed();
    }

    pub(super) fn create_composite_type(&mut self, create: &'t CompositeTypeStmt) {
        match &create.typevar {
            Some(name) => {
                let name = super::dotted(&name.schemaname, &name.relname);
                self.named(Effect::SchemaCreate, "type", name);
            }
            None => self.unknown(),
        }
        self.visit_others(NodeRef::CompositeTypeStmt(create), &["typevar"]);
        self.names_changed();
    }

    pub(super) fn comment(&mut self, comment: &'t CommentStmt) {
        let effect = match comment.objtype() {
            ObjectType::ObjectRole => Effect::Privilege,
            _ => Effect::SchemaAlter,
        };
        self.object(effect, comment.objtype(), comment.object.as_deref());
    }

    pub(super) fn extension_contents(&mut self, alter: &'t AlterExtensionContentsStmt) {
        self.named(Effect::SchemaAlter, "extension", alter.extname.clone());
        self.object(
            Effect::SchemaAlter,
            alter.objtype(),
            alter.object.as_deref(),
        );
        self.names_changed();
    }

    pub(super) fn alter_depends(&mut self, alter: &'t AlterObjectDependsStmt) {
        match &alter.relation {
            Some(relation) => self.touch(relation, Effect::SchemaAlter),
            None => self.object(
                Effect::SchemaAlter,
                alter.object_type(),
                alter.object.as_deref(),
            ),
        }
    }

    /// What is published leaves the server row by row.
    pub(super) fn create_publication(&mut self, create: &'t CreatePublicationStmt) {
        self.publication(
            Effect::SchemaCreate,
            &create.pubname,
            create.for_all_tables,
            &create.pubobjects,
        );
    }

    pub(super) fn alter_publication(&mut self, alter: &'t AlterPublicationStmt) {
        self.publication(
            Effect::SchemaAlter,
            &alter.pubname,
            alter.for_all_tables,
            &alter.pubobjects,
        );
    }

    fn publication(&mut self, effect: Effect, name: &str, all: bool, objects: &'t [Node]) {
        self.named(effect, "publication", name);
        if all {
            self.add(Effect::Read, chaperone_policy::Object::Any, false);
        }
        for node in objects {
            let Some(NodeEnum::PublicationObjSpec(object)) = node.node.as_ref() else {
                self.unknown();
                continue;
            };
            match object.pubtable.as_deref() {
                Some(table) => self.visit_children(NodeRef::PublicationTable(table)),
                None if object.name.is_empty() => {
                    self.add(Effect::Read, chaperone_policy::Object::Any, false);
                }
                None => self.named(Effect::Read, "schema", object.name.clone()),
            }
        }
    }

    pub(super) fn import_foreign_schema(&mut self, import: &'t ImportForeignSchemaStmt) {
        self.named(
            Effect::UnsafeIo,
            "foreign server",
            import.server_name.clone(),
        );
        self.named(Effect::SchemaCreate, "schema", import.local_schema.clone());
        self.names_changed();
    }
}
