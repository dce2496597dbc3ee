//! SET, RESET, SHOW, DISCARD, LISTEN, NOTIFY, and settings that outlive the session.

use chaperone_policy::{Effect, Object};
use pg_query::protobuf::{
    AExprKind, DiscardMode, DiscardStmt, SelectStmt, VariableSetKind, VariableSetStmt, a_const,
};
use pg_query::{Node, NodeEnum, NodeRef};

use super::Effects;
use super::object::strings;
use crate::resolve::PG_CATALOG;
use crate::{Kind, SessionChange, setting_access};

impl<'t> Effects<'t> {
    pub(super) fn session(&mut self) {
        self.add(Effect::Session, Object::Session, true);
    }

    pub(super) fn set(&mut self, set: &'t VariableSetStmt) {
        self.visit_all(&set.args);
        match set.kind() {
            VariableSetKind::VarSetValue => {
                let value = text(set);
                self.accesses
                    .insert(setting_access(&set.name, value.as_deref()));
                self.setting_changed(&set.name);
            }
            VariableSetKind::VarSetDefault | VariableSetKind::VarReset => {
                let setting = Object::Setting(set.name.to_ascii_lowercase());
                self.add(Effect::Session, setting, true);
                self.setting_changed(&set.name);
            }
            VariableSetKind::VarResetAll => {
                self.session();
                self.setting_changed("search_path");
            }
            VariableSetKind::VarSetMulti => match set.name.as_str() {
                "TRANSACTION" => self.add(Effect::Transaction, Object::Session, true),
                "SESSION CHARACTERISTICS" => self.session(),
                _ => {
                    let setting = Object::Setting("transaction_snapshot".to_owned());
                    self.add(Effect::Session, setting, false);
                }
            },
            VariableSetKind::VarSetCurrent | VariableSetKind::Undefined => self.unknown(),
        }
    }

    /// The setting of a SELECT of the form `… FROM pg_settings WHERE name = 'x'` and nothing else:
    /// its target list is evaluated for that one row at most. pg_dump and its kin so set what older
    /// servers do not know (PostgreSQL, release notes of 12.20, CVE-2024-7348).
    pub(super) fn one_setting(&self, select: &'t SelectStmt) -> Option<&'t str> {
        let [from] = select.from_clause.as_slice() else {
            return None;
        };
        let Some(NodeEnum::RangeVar(relation)) = from.node.as_ref() else {
            return None;
        };
        if relation.relname != "pg_settings" || relation.alias.is_some() {
            return None;
        }
        // Everything else that a SELECT may have is absent. What only adds expressions that are
        // evaluated elsewhere, or rows, is not worth telling apart.
        let bare = SelectStmt {
            from_clause: select.from_clause.clone(),
            where_clause: select.where_clause.clone(),
            target_list: select.target_list.clone(),
            limit_option: select.limit_option,
            op: select.op,
            ..SelectStmt::default()
        };
        if *select != bare {
            return None;
        }
        // Neither a WITH query nor a temporary table of that name, where `name` may hold anything.
        let hidden = self
            .scope
            .get(relation.relname.as_str())
            .is_some_and(|queries| !queries.is_empty());
        let found = self
            .names
            .relation(&relation.schemaname, &relation.relname)?;
        if found.schema != PG_CATALOG || (relation.schemaname.is_empty() && hidden) {
            return None;
        }
        let Some(NodeEnum::AExpr(test)) = select.where_clause.as_deref()?.node.as_ref() else {
            return None;
        };
        let plain = test.kind() == AExprKind::AexprOp && strings(&test.name) == ["="];
        // Somebody's own operator may find any row equal.
        let own = !self.names.operators("=").is_empty() || self.names.function_is_pending("=");
        if !plain || own || !test.lexpr.as_deref().is_some_and(is_column_name) {
            return None;
        }
        let Some(NodeEnum::AConst(constant)) = test.rexpr.as_deref()?.node.as_ref() else {
            return None;
        };
        match constant.val.as_ref()? {
            a_const::Val::Sval(value) => Some(&value.sval),
            _ => None,
        }
    }

    pub(super) fn show(&mut self, name: &str) {
        let object = match name {
            "all" => Object::Session,
            name => Object::Setting(name.to_ascii_lowercase()),
        };
        self.add(Effect::Session, object, true);
    }

    pub(super) fn discard(&mut self, node: NodeRef<'t>, discard: &'t DiscardStmt) {
        self.session();
        let all = discard.target() == DiscardMode::DiscardAll;
        self.set_kind(node, Kind::Discard { all });
        if all {
            self.changed(SessionChange::SearchPath);
        }
        if all || discard.target() == DiscardMode::DiscardTemp {
            self.names_changed();
        }
    }

    pub(super) fn unlisten(&mut self, channel: &str) {
        if channel.is_empty() {
            self.session();
        } else {
            self.add(Effect::Notify, Object::Channel(channel.to_owned()), false);
        }
    }

    /// ALTER SYSTEM, ALTER ROLE … SET and ALTER DATABASE … SET reach other sessions.
    pub(super) fn lasting_setting(
        &mut self,
        kind: &str,
        name: &str,
        set: Option<&VariableSetStmt>,
    ) {
        self.named(Effect::Privilege, kind, name);
        let setting = match set {
            Some(set) if !set.name.is_empty() => set.name.to_ascii_lowercase(),
            _ => "*".to_owned(),
        };
        self.add(Effect::Privilege, Object::Setting(setting), false);
    }
}

/// Whether this is the column `name`, without the name of its relation.
pub(super) fn is_column_name(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(NodeEnum::ColumnRef(column)) => strings(&column.fields) == ["name"],
        _ => false,
    }
}

/// The value in the form that `set_config` takes; `None` where it is not a list of constants.
fn text(set: &VariableSetStmt) -> Option<String> {
    let quoted = set.name.eq_ignore_ascii_case("search_path");
    let mut parts = Vec::new();
    for node in &set.args {
        let NodeEnum::AConst(constant) = node.node.as_ref()? else {
            return None;
        };
        parts.push(match constant.val.as_ref()? {
            a_const::Val::Sval(value) if quoted => {
                format!("\"{}\"", value.sval.replace('"', "\"\""))
            }
            a_const::Val::Sval(value) => value.sval.clone(),
            a_const::Val::Ival(value) => value.ival.to_string(),
            a_const::Val::Fval(value) => value.fval.clone(),
            a_const::Val::Boolval(_) | a_const::Val::Bsval(_) => return None,
        });
    }
    Some(parts.join(", "))
}
