//! GRANT, REVOKE, roles, ownership and row security policies.

use chaperone_policy::{Effect, Object};
use pg_query::protobuf::{
    AlterDefaultPrivilegesStmt, AlterOwnerStmt, GrantRoleStmt, GrantStmt, GrantTargetType,
    ObjectType,
};
use pg_query::{Node, NodeEnum};

use super::Effects;
use super::object::role;

impl<'t> Effects<'t> {
    pub(super) fn grant(&mut self, grant: &'t GrantStmt) {
        if grant.objects.is_empty() {
            return self.unknown();
        }
        for node in &grant.objects {
            match (grant.targtype(), node.node.as_ref()) {
                (GrantTargetType::AclTargetAllInSchema, Some(NodeEnum::String(schema))) => {
                    self.named(Effect::Privilege, "schema", schema.sval.clone());
                }
                (_, Some(NodeEnum::RangeVar(relation))) => self.touch(relation, Effect::Privilege),
                _ => self.object(Effect::Privilege, grant.objtype(), Some(node)),
            }
        }
    }

    pub(super) fn grant_role(&mut self, grant: &'t GrantRoleStmt) {
        for node in &grant.granted_roles {
            match node.node.as_ref() {
                Some(NodeEnum::AccessPriv(granted)) => {
                    self.named(Effect::Privilege, "role", granted.priv_name.clone());
                }
                _ => self.unknown(),
            }
        }
        self.roles(&grant.grantee_roles);
    }

    pub(super) fn roles(&mut self, roles: &'t [Node]) {
        for node in roles {
            match node.node.as_ref() {
                Some(NodeEnum::RoleSpec(spec)) => self.named(Effect::Privilege, "role", role(spec)),
                _ => self.unknown(),
            }
        }
    }

    /// Reaches every object that will be created, in some schemas or in all.
    pub(super) fn default_privileges(&mut self, alter: &'t AlterDefaultPrivilegesStmt) {
        let mut schemas = Vec::new();
        for node in &alter.options {
            if let Some(NodeEnum::DefElem(option)) = node.node.as_ref()
                && option.defname == "schemas"
                && let Some(NodeEnum::List(list)) =
                    option.arg.as_deref().and_then(|arg| arg.node.as_ref())
            {
                schemas.extend(super::object::strings(&list.items));
            }
        }
        if schemas.is_empty() {
            self.add(Effect::Privilege, Object::Any, false);
        }
        for schema in schemas {
            self.named(Effect::Privilege, "schema", schema);
        }
    }

    pub(super) fn alter_owner(&mut self, alter: &'t AlterOwnerStmt) {
        match &alter.relation {
            Some(relation) => self.touch(relation, Effect::Privilege),
            None => self.object(
                Effect::Privilege,
                alter.object_type(),
                alter.object.as_deref(),
            ),
        }
        if let Some(owner) = &alter.newowner {
            self.named(Effect::Privilege, "role", role(owner));
        }
    }

    /// DROP OWNED takes away objects that no name here tells.
    pub(super) fn drop_owned(&mut self, roles: &'t [Node]) {
        self.roles(roles);
        self.add(Effect::SchemaDestroy, Object::Any, false);
        self.names_changed();
    }

    pub(super) fn security_label(&mut self, object_type: ObjectType, object: Option<&'t Node>) {
        self.object(Effect::Privilege, object_type, object);
    }
}
