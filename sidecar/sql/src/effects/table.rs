//! Relations: CREATE, ALTER, DROP, RENAME.

use std::collections::HashSet;

use chaperone_policy::{Effect, Object};
use pg_query::protobuf::{
    AlterObjectSchemaStmt, AlterTableCmd, AlterTableStmt, AlterTableType, CreateForeignTableStmt,
    CreateSeqStmt, CreateStmt, CreateTableAsStmt, DropBehavior, DropStmt, IntoClause, ObjectType,
    RangeVar, RenameStmt, ViewStmt,
};
use pg_query::{Node, NodeEnum, NodeRef};

use super::object::{kind, role, split, strings};
use super::{Effects, function_object};
use crate::SessionChange;
use crate::resolve::{PG_CATALOG, PG_TEMP};

impl<'t> Effects<'t> {
    pub(super) fn create_table(&mut self, create: &'t CreateStmt) {
        self.created(create.relation.as_ref());
        // A child's rows are its parents' rows.
        for node in &create.inh_relations {
            match node.node.as_ref() {
                Some(NodeEnum::RangeVar(parent)) => self.touch(parent, Effect::SchemaAlter),
                _ => self.unknown(),
            }
        }
        self.visit_others(NodeRef::CreateStmt(create), &["relation", "inh_relations"]);
    }

    /// The options of a foreign table can name files and programs.
    pub(super) fn create_foreign_table(&mut self, create: &'t CreateForeignTableStmt) {
        match &create.base_stmt {
            Some(base) => self.create_table(base),
            None => self.unknown(),
        }
        self.named(
            Effect::UnsafeIo,
            "foreign server",
            create.servername.clone(),
        );
    }

    pub(super) fn create_sequence(&mut self, create: &'t CreateSeqStmt) {
        self.created(create.sequence.as_ref());
        self.visit_others(NodeRef::CreateSeqStmt(create), &["sequence"]);
    }

    pub(super) fn create_view(&mut self, view: &'t ViewStmt) {
        if view.replace
            && let Some(name) = &view.view
            && self
                .names
                .relation(&name.schemaname, &name.relname)
                .is_some()
        {
            self.touch(name, Effect::SchemaAlter);
        }
        self.visit_others(NodeRef::ViewStmt(view), &["view"]);
        self.created(view.view.as_ref());
    }

    pub(super) fn create_table_as(&mut self, create: &'t CreateTableAsStmt) {
        self.visit_others(NodeRef::CreateTableAsStmt(create), &["into"]);
        match create.into.as_deref() {
            Some(into) => self.filled_relation(into),
            None => self.unknown(),
        }
    }

    pub(super) fn filled_relation(&mut self, into: &'t IntoClause) {
        self.created(into.rel.as_ref());
        self.visit_others(NodeRef::IntoClause(into), &["rel"]);
    }

    fn created(&mut self, relation: Option<&'t RangeVar>) {
        match relation {
            Some(relation) => self.create_relation(relation, Effect::SchemaCreate),
            None => self.unknown(),
        }
    }

    pub(super) fn alter_table(&mut self, alter: &'t AlterTableStmt) {
        let Some(relation) = &alter.relation else {
            return self.unknown();
        };
        if alter.objtype() == ObjectType::ObjectType {
            let name = super::dotted(&relation.schemaname, &relation.relname);
            self.named(Effect::SchemaAlter, "type", name);
        } else {
            self.touch(relation, Effect::SchemaAlter);
        }
        for node in &alter.cmds {
            match node.node.as_ref() {
                Some(NodeEnum::AlterTableCmd(command)) => {
                    self.alter_table_command(relation, command);
                }
                _ => self.unknown(),
            }
        }
        self.changed(SessionChange::Catalog);
    }

    fn alter_table_command(&mut self, relation: &'t RangeVar, command: &'t AlterTableCmd) {
        let def = command.def.as_deref().and_then(|def| def.node.as_ref());
        match command.subtype() {
            AlterTableType::AtChangeOwner => {
                self.touch(relation, Effect::Privilege);
                if let Some(owner) = &command.newowner {
                    self.named(Effect::Privilege, "role", role(owner));
                }
            }
            // Whether row security policies and triggers apply.
            AlterTableType::AtEnableRowSecurity
            | AlterTableType::AtDisableRowSecurity
            | AlterTableType::AtForceRowSecurity
            | AlterTableType::AtNoForceRowSecurity => self.touch(relation, Effect::Privilege),
            AlterTableType::AtGenericOptions | AlterTableType::AtAlterColumnGenericOptions => {
                self.named(Effect::UnsafeIo, "foreign table", relation.relname.clone());
            }
            AlterTableType::Undefined => self.unknown(),
            _ => {}
        }
        match (command.subtype(), def) {
            (AlterTableType::AtAddInherit, Some(NodeEnum::RangeVar(parent))) => {
                self.gains_rows(parent);
            }
            (AlterTableType::AtAttachPartition, _) => self.gains_rows(relation),
            _ => {}
        }
        // ATTACH and DETACH PARTITION, INHERIT and NO INHERIT change the other relation's rows.
        match def {
            Some(NodeEnum::RangeVar(other)) => self.touch(other, Effect::SchemaAlter),
            Some(NodeEnum::PartitionCmd(partition)) => {
                if let Some(other) = &partition.name {
                    self.touch(other, Effect::SchemaAlter);
                }
                self.visit_others(NodeRef::PartitionCmd(partition), &["name"]);
            }
            Some(def) => self.visit(def.to_ref()),
            None => {}
        }
    }

    /// Rows of another relation are read through this one and all that it is part of, from here on.
    /// Whose columns those are, the catalog that is known does not say.
    fn gains_rows(&mut self, relation: &RangeVar) {
        let Some(found) = self.names.relation(&relation.schemaname, &relation.relname) else {
            return;
        };
        let mut pending: Vec<u32> = found.catalogued.iter().map(|known| known.oid).collect();
        let mut seen = HashSet::new();
        while let Some(oid) = pending.pop() {
            let Some(known) = self.names.catalog().relations.get(&oid) else {
                continue;
            };
            if seen.insert(oid) {
                let schema = self.names.canonical(&known.schema).to_owned();
                let temporary = schema == PG_TEMP;
                self.overlay
                    .relations
                    .insert((schema, known.name.clone()), Some(temporary));
                pending.extend(&known.parents);
            }
        }
    }

    pub(super) fn drop_objects(&mut self, drop: &'t DropStmt) {
        for node in &drop.objects {
            match drop.remove_type() {
                ObjectType::ObjectTable
                | ObjectType::ObjectView
                | ObjectType::ObjectMatview
                | ObjectType::ObjectForeignTable
                | ObjectType::ObjectSequence
                | ObjectType::ObjectIndex => self.drop_relation(node, drop.missing_ok),
                other @ (ObjectType::ObjectTrigger | ObjectType::ObjectRule) => {
                    self.object(Effect::SchemaAlter, other, Some(node));
                    self.changed(SessionChange::Catalog);
                }
                ObjectType::ObjectPolicy => {
                    self.object(Effect::Privilege, ObjectType::ObjectPolicy, Some(node));
                }
                other @ (ObjectType::ObjectFunction
                | ObjectType::ObjectProcedure
                | ObjectType::ObjectRoutine
                | ObjectType::ObjectAggregate) => {
                    self.drop_function(other, node, drop.missing_ok);
                }
                ObjectType::ObjectOperator => {
                    self.object(
                        Effect::SchemaDestroy,
                        ObjectType::ObjectOperator,
                        Some(node),
                    );
                    self.changed(SessionChange::Catalog);
                }
                other => {
                    self.object(Effect::SchemaDestroy, other, Some(node));
                    self.names_changed();
                }
            }
        }
        // What depends on these goes too, and no name here tells what that is.
        if drop.behavior() == DropBehavior::DropCascade {
            self.add(Effect::SchemaDestroy, Object::Any, false);
            self.names_changed();
        }
    }

    /// DROP … IF EXISTS of what is not there can only reach the places where it might have come
    /// to be since the catalog was read.
    fn drop_relation(&mut self, node: &'t Node, missing_ok: bool) {
        let Some(NodeEnum::List(list)) = node.node.as_ref() else {
            return self.unknown();
        };
        let parts = strings(&list.items);
        let (schema, name) = split(&parts);
        self.changed(SessionChange::Catalog);
        if let Some(found) = self.names.relation(schema, name) {
            self.touch_found(&found, Effect::SchemaDestroy);
            let key = (found.schema, found.name);
            self.overlay.relations.insert(key, None);
            return;
        }
        let places = if schema.is_empty() {
            self.names.searched()
        } else {
            Some(vec![self.names.canonical(schema)])
        };
        match places.filter(|_| missing_ok) {
            Some(places) => {
                // In its own temporary schema nobody but this session makes anything, so what is
                // not known there is not there.
                let elsewhere = |place: &&str| ![PG_CATALOG, PG_TEMP].contains(place);
                for place in places.into_iter().filter(elsewhere) {
                    self.relation_access(place, name, Effect::SchemaDestroy);
                }
            }
            None => self.unresolved(schema, name, Effect::SchemaDestroy),
        }
    }

    fn drop_function(&mut self, object_type: ObjectType, node: &'t Node, missing_ok: bool) {
        self.changed(SessionChange::Catalog);
        if let Some(NodeEnum::ObjectWithArgs(function)) = node.node.as_ref()
            && missing_ok
            && let [name] = strings(&function.objname).as_slice()
            && self.names.function_schemas(name).is_empty()
            && let Some(places) = self.names.searched()
        {
            for place in places.into_iter().filter(|place| *place != PG_CATALOG) {
                self.add(Effect::SchemaDestroy, function_object(place, name), false);
            }
            return;
        }
        self.object(Effect::SchemaDestroy, object_type, Some(node));
    }

    pub(super) fn rename(&mut self, rename: &'t RenameStmt) {
        self.changed(SessionChange::Catalog);
        let is_role = rename.rename_type() == ObjectType::ObjectRole;
        let effect = if is_role {
            Effect::Privilege
        } else {
            Effect::SchemaAlter
        };
        match (&rename.relation, rename.rename_type()) {
            // An attribute of a composite type.
            (Some(relation), ObjectType::ObjectAttribute) => {
                let name = super::dotted(&relation.schemaname, &relation.relname);
                self.named(effect, "type", name);
            }
            (Some(relation), renamed) => {
                self.touch(relation, effect);
                if matches!(
                    renamed,
                    ObjectType::ObjectTable
                        | ObjectType::ObjectView
                        | ObjectType::ObjectMatview
                        | ObjectType::ObjectForeignTable
                        | ObjectType::ObjectSequence
                        | ObjectType::ObjectIndex
                ) {
                    self.relation_moved(
                        (&relation.schemaname, &relation.relname),
                        ("", &rename.newname),
                        effect,
                    );
                }
            }
            (None, ObjectType::ObjectRole | ObjectType::ObjectDatabase) => {
                let kind = kind(rename.rename_type());
                self.named(effect, &kind, rename.subname.clone());
                self.named(effect, &kind, rename.newname.clone());
            }
            (None, ObjectType::ObjectSchema) => {
                self.named(effect, "schema", rename.subname.clone());
                self.named(effect, "schema", rename.newname.clone());
                self.names_changed();
            }
            (None, ObjectType::ObjectTablespace) => {
                self.named(effect, "tablespace", rename.subname.clone());
            }
            (None, renamed) => {
                self.object(effect, renamed, rename.object.as_deref());
                self.pending_function(rename.newname.clone());
                self.names_changed();
            }
        }
    }

    pub(super) fn alter_schema(&mut self, alter: &'t AlterObjectSchemaStmt) {
        self.changed(SessionChange::Catalog);
        match &alter.relation {
            Some(relation) => {
                self.touch(relation, Effect::SchemaAlter);
                self.relation_moved(
                    (&relation.schemaname, &relation.relname),
                    (&alter.newschema, &relation.relname),
                    Effect::SchemaAlter,
                );
            }
            None => {
                self.object(
                    Effect::SchemaAlter,
                    alter.object_type(),
                    alter.object.as_deref(),
                );
                self.named(Effect::SchemaAlter, "schema", alter.newschema.clone());
                self.names_changed();
            }
        }
    }
}
