//! Calls, operators and constants, in whatever position they stand.

use chaperone_policy::{Effect, Object};
use pg_query::protobuf::{AExpr, AExprKind, FuncCall, a_const};
use pg_query::{Node, NodeEnum};

use super::Effects;
use super::object::{split, strings};
use super::session::is_column_name;
use crate::functions::{
    Builtin, builtin, is_advisory_lock, is_information_schema_helper, is_unsafe_io, runs_unseen_sql,
};
use crate::resolve::{PG_CATALOG, Resolved, parse_qualified_name};
use crate::{SessionChange, setting_access};

impl<'t> Effects<'t> {
    pub(super) fn call(&mut self, call: &'t FuncCall) {
        let parts = strings(&call.funcname);
        let (schema, name) = split(&parts);
        self.call_by_name(schema, name, Some(&call.args));
    }

    /// A call. Without a schema, every function of the search path that goes by the name may be
    /// meant, whatever its schema's place: the one whose arguments fit best is
    /// (PostgreSQL, Function Type Resolution).
    pub(super) fn call_by_name(&mut self, schema: &str, name: &str, args: Option<&'t [Node]>) {
        match schema {
            PG_CATALOG => self.builtin_call(name, args),
            "information_schema" if is_information_schema_helper(name) => {}
            "" => {
                let schemas = self.names.function_schemas(name);
                let pending = self.names.function_is_pending(name);
                for schema in &schemas {
                    self.execute(schema, name);
                }
                if pending {
                    self.execute("", name);
                }
                match builtin(name) {
                    Builtin::Absent
                        if schemas.is_empty()
                            && !pending
                            && !self.names.is_extension_function("", name) =>
                    {
                        self.execute("", name);
                    }
                    Builtin::Absent => {}
                    Builtin::Pure | Builtin::Effectful => self.builtin_call(name, args),
                }
            }
            schema if self.names.is_extension_function(schema, name) => {
                if self.names.function_is_pending(name) {
                    self.execute(schema, name);
                }
            }
            schema => self.execute(schema, name),
        }
    }

    fn builtin_call(&mut self, name: &str, args: Option<&'t [Node]>) {
        let text = |place: usize| args.and_then(|args| constant_text(args.get(place)?));
        // A value of the type that the second argument names is made.
        if matches!(name, "pg_input_is_valid" | "pg_input_error_info") {
            return match text(1).as_deref().and_then(type_name_in) {
                Some((schema, name)) => self.made_type(&schema, &name),
                None => self.unknown(),
            };
        }
        if builtin(name) == Builtin::Pure {
            // `json_object(…)` is the built-in one to the newest grammar alone.
            if name.starts_with("json_") {
                self.word(name);
            }
            return;
        }
        match name {
            "nextval" => self.sequence(text(0), Effect::Write),
            "setval" => self.sequence(text(0), Effect::Modify),
            "pg_notify" => match text(0) {
                Some(channel) => self.add(Effect::Notify, Object::Channel(channel), false),
                None => self.unknown(),
            },
            "set_config" => {
                let column = args.and_then(|args| args.first());
                let row = self.setting.filter(|_| column.is_some_and(is_column_name));
                let Some(setting) = text(0).or(row.map(str::to_owned)) else {
                    return self.unknown();
                };
                self.accesses
                    .insert(setting_access(&setting, text(1).as_deref()));
                self.setting_changed(&setting);
            }
            name if is_advisory_lock(name) => {
                let object = super::function_object(PG_CATALOG, name);
                self.add(Effect::Lock, object, false);
            }
            name => {
                self.execute(PG_CATALOG, name);
                if is_unsafe_io(name) {
                    let object = super::function_object(PG_CATALOG, name);
                    self.add(Effect::UnsafeIo, object, false);
                }
                if runs_unseen_sql(name) {
                    self.unknown();
                }
            }
        }
    }

    /// A sequence that a regclass constant names: an access on the table that owns it, or on the
    /// sequence itself.
    fn sequence(&mut self, name: Option<String>, effect: Effect) {
        let Some(text) = name else {
            return self.unknown();
        };
        let relations = &self.names.catalog().relations;
        if let Ok(oid) = text.trim().parse::<u32>() {
            return match relations.get(&oid) {
                Some(sequence) => {
                    let (schema, name) = (sequence.schema.clone(), sequence.name.clone());
                    self.sequence_named(&schema, &name, effect);
                }
                None => self.unknown(),
            };
        }
        match parse_qualified_name(&text) {
            Some(parts) => {
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                let (schema, name) = split(&parts);
                self.sequence_named(schema, name, effect);
            }
            None => self.unknown(),
        }
    }

    fn sequence_named(&mut self, schema: &str, name: &str, effect: Effect) {
        let Some(found) = self.names.relation(schema, name) else {
            return self.unresolved(schema, name, effect);
        };
        let owner = match found.resolved {
            Resolved::Relation(sequence) => sequence
                .owner_table
                .and_then(|oid| self.names.catalog().relations.get(&oid)),
            _ => None,
        };
        match owner {
            Some(table) => self.touch_named(&table.schema, &table.name, effect),
            None => self.touch_found(&found, effect),
        }
    }

    /// What reads a setting may have changed.
    pub(super) fn setting_changed(&mut self, name: &str) {
        match name.to_ascii_lowercase().as_str() {
            "search_path" => self.changed(SessionChange::SearchPath),
            // "$user" in the path, and what the role may see.
            "role" | "session_authorization" => {
                self.changed(SessionChange::SearchPath);
                self.changed(SessionChange::Catalog);
            }
            _ => {}
        }
    }

    pub(super) fn operator_expression(&mut self, expression: &'t AExpr) {
        let names: &[&str] = match expression.kind() {
            AExprKind::AexprBetween | AExprKind::AexprBetweenSym => &[">=", "<="],
            AExprKind::AexprNotBetween | AExprKind::AexprNotBetweenSym => &["<", ">"],
            _ => return self.operator(&expression.name),
        };
        names.iter().for_each(|name| self.operator_named("", name));
    }

    /// An operator runs the functions behind it; those of pg_catalog are pure.
    pub(super) fn operator(&mut self, name: &'t [Node]) {
        let parts = strings(name);
        let (schema, name) = split(&parts);
        if !name.is_empty() {
            self.operator_named(schema, name);
        }
    }

    pub(super) fn operator_named(&mut self, schema: &str, name: &str) {
        match schema {
            PG_CATALOG => {}
            "" => {
                for (schema, function) in self.names.operators(name) {
                    self.execute(schema, function);
                }
                if self.names.function_is_pending(name) {
                    self.execute("", name);
                }
            }
            schema => {
                let functions = self.names.operators_in(schema, name);
                for (schema, function) in functions {
                    self.execute(schema, function);
                }
                if functions.is_empty() || self.names.function_is_pending(name) {
                    self.execute(schema, name);
                }
            }
        }
    }

    /// A value of a domain runs the functions of its constraints, one that is cast may run the
    /// function of the cast.
    pub(super) fn made_type(&mut self, schema: &str, name: &str) {
        for (schema, function) in self.names.type_functions(schema, name) {
            self.execute(schema, function);
        }
    }

    /// What SQL/JSON made words of the grammar are names of functions to an older server.
    pub(super) fn word(&mut self, name: &str) {
        for schema in self.names.function_schemas(name) {
            self.execute(schema, name);
        }
        if self.names.function_is_pending(name) {
            self.execute("", name);
        }
    }

    /// TABLESAMPLE runs a function that says which rows.
    pub(super) fn sample_method(&mut self, method: &'t [Node]) {
        let parts = strings(method);
        let (schema, name) = split(&parts);
        if !matches!(schema, "" | PG_CATALOG) || !matches!(name, "bernoulli" | "system") {
            self.execute(schema, name);
        }
        for schema in self.names.function_schemas(name) {
            self.execute(schema, name);
        }
    }
}

/// The type that a text like `app.mail[]` or `numeric(5, 2)` names, without what says more of it.
fn type_name_in(text: &str) -> Option<(String, String)> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " _.,()[]".contains(c);
    let name = text.trim().split([' ', '(', '[']).next()?;
    if !text.chars().all(plain) {
        return None;
    }
    let parts = parse_qualified_name(name)?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (schema, name) = split(&parts);
    Some((schema.to_owned(), name.to_owned()))
}

/// A constant in text form, cast to nothing but a type that keeps its text.
pub(super) fn constant_text(node: &Node) -> Option<String> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            a_const::Val::Sval(text) => Some(text.sval.clone()),
            a_const::Val::Ival(number) => Some(number.ival.to_string()),
            _ => None,
        },
        NodeEnum::TypeCast(cast) => {
            let names = &cast.type_name.as_ref()?.names;
            let parts = strings(names);
            let (schema, name) = split(&parts);
            let keeps = matches!(name, "text" | "regclass") && matches!(schema, "" | PG_CATALOG);
            if keeps {
                constant_text(cast.arg.as_deref()?)
            } else {
                None
            }
        }
        _ => None,
    }
}
