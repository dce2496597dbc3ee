//! What can be said of an expression before there is an operation.

use std::sync::Arc;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::{Context, ExecutionError, Value};

use super::{
    API_REQUEST_FIELDS, ConditionError, DELEGATE_FIELDS, Dialect, ENVIRONMENT, MAX_DEPTH,
    MAX_LOOPS, Needs, OPERATION_FIELDS, REQUEST_FIELDS, SUBJECT_FIELDS,
};

/// Walks an expression once: undeclared names, fields that do not exist, and what it needs.
pub(super) struct Walk<'e> {
    pub needs: Needs,
    dialect: Dialect,
    depth: usize,
    /// Variables of the loops around this place.
    bound: Vec<&'e str>,
}

impl<'e> Walk<'e> {
    pub(super) fn new(dialect: Dialect) -> Walk<'e> {
        Walk {
            needs: Needs::default(),
            dialect,
            depth: 0,
            bound: Vec::new(),
        }
    }

    pub(super) fn expression(
        &mut self,
        node: &'e IdedExpr,
        loops: usize,
    ) -> Result<(), ConditionError> {
        if self.depth >= MAX_DEPTH {
            return Err(ConditionError::TooDeep);
        }
        self.depth = self.depth.saturating_add(1);
        let result = self.node(node, loops);
        self.depth = self.depth.saturating_sub(1);
        result
    }

    fn node(&mut self, node: &'e IdedExpr, loops: usize) -> Result<(), ConditionError> {
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.identifier(name, None),
            Expr::Select(select) => {
                if let Expr::Ident(root) = &select.operand.expr {
                    return self.identifier(root, Some(&select.field));
                }
                if self.is_delegate(&select.operand)
                    && !DELEGATE_FIELDS.contains(&select.field.as_str())
                {
                    return Err(undeclared_field(
                        "delegate",
                        &select.field,
                        &DELEGATE_FIELDS,
                    ));
                }
                self.expression(&select.operand, loops)
            }
            Expr::Call(call) => {
                let arguments = call.args.len();
                if !is_declared(&call.func_name, call.target.is_some(), arguments) {
                    return Err(ConditionError::UndeclaredFunction(call.func_name.clone()));
                }
                if let Some(target) = &call.target {
                    self.expression(target, loops)?;
                }
                call.args
                    .iter()
                    .try_for_each(|argument| self.expression(argument, loops))
            }
            Expr::List(list) => list
                .elements
                .iter()
                .try_for_each(|element| self.expression(element, loops)),
            Expr::Map(map) => map
                .entries
                .iter()
                .try_for_each(|e| self.entry(&e.expr, loops)),
            Expr::Struct(structure) => structure
                .entries
                .iter()
                .try_for_each(|e| self.entry(&e.expr, loops)),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, loops),
        }
    }

    fn entry(&mut self, entry: &'e EntryExpr, loops: usize) -> Result<(), ConditionError> {
        match entry {
            EntryExpr::StructField(field) => self.expression(&field.value, loops),
            EntryExpr::MapEntry(entry) => {
                self.expression(&entry.key, loops)?;
                self.expression(&entry.value, loops)
            }
        }
    }

    fn comprehension(
        &mut self,
        comprehension: &'e ComprehensionExpr,
        loops: usize,
    ) -> Result<(), ConditionError> {
        let loops = loops.saturating_add(1);
        if loops > MAX_LOOPS {
            return Err(ConditionError::TooManyLoops);
        }
        self.expression(&comprehension.iter_range, loops)?;
        self.expression(&comprehension.accu_init, loops)?;
        let outer = self.bound.len();
        self.bound.push(&comprehension.iter_var);
        self.bound.push(&comprehension.accu_var);
        self.bound.extend(comprehension.iter_var2.as_deref());
        let inner = [
            &comprehension.loop_cond,
            &comprehension.loop_step,
            &comprehension.result,
        ];
        let result = inner
            .into_iter()
            .try_for_each(|part| self.expression(part, loops));
        self.bound.truncate(outer);
        result
    }

    fn is_delegate(&self, node: &IdedExpr) -> bool {
        let Expr::Select(select) = &node.expr else {
            return false;
        };
        let Expr::Ident(root) = &select.operand.expr else {
            return false;
        };
        select.field == "delegate" && root == "subject" && !self.bound.contains(&root.as_str())
    }

    fn identifier(&mut self, name: &str, field: Option<&str>) -> Result<(), ConditionError> {
        if self.bound.contains(&name) {
            return Ok(());
        }
        if name.trim_start_matches('.') == "object" && self.dialect == Dialect::Kubernetes {
            self.needs.object = true;
            return Ok(());
        }
        let needs = &mut self.needs;
        let (parent, bits, fields): (_, _, &[&str]) =
            match (name.trim_start_matches('.'), self.dialect) {
                ("subject", _) => ("subject", &mut needs.subject, &SUBJECT_FIELDS),
                ("operation", Dialect::Sql) => {
                    ("operation", &mut needs.operation, &OPERATION_FIELDS)
                }
                ("request", Dialect::Http) => ("request", &mut needs.request, &REQUEST_FIELDS),
                ("request", Dialect::Kubernetes) => {
                    ("request", &mut needs.request, &API_REQUEST_FIELDS)
                }
                _ if is_type(name) => return Ok(()),
                (_, dialect) => {
                    let variables = dialect.variables();
                    return Err(ConditionError::UndeclaredVariable(
                        name.to_owned(),
                        variables,
                    ));
                }
            };
        match field {
            None => *bits = u16::MAX,
            Some(field) => match fields.iter().position(|known| *known == field) {
                Some(bit) => *bits |= 1 << bit,
                None => return Err(undeclared_field(parent, field, fields)),
            },
        }
        Ok(())
    }
}

fn undeclared_field(parent: &'static str, field: &str, allowed: &[&str]) -> ConditionError {
    ConditionError::UndeclaredField {
        parent,
        field: field.to_owned(),
        allowed: allowed.join(", "),
    }
}

/// The names of types are values: `type(x) == string`.
fn is_type(name: &str) -> bool {
    let node = IdedExpr {
        id: 1,
        expr: Expr::Ident(name.to_owned()),
    };
    Value::resolve(&node, &Context::with_env(Arc::clone(&ENVIRONMENT))).is_ok()
}

/// Asks the interpreter itself whether it knows a function, by calling it with nothing useful.
fn is_declared(name: &str, member: bool, arguments: usize) -> bool {
    let null = || IdedExpr {
        id: 1,
        expr: Expr::Literal(LiteralValue::Null),
    };
    let call = CallExpr {
        func_name: name.to_owned(),
        target: member.then(|| Box::new(null())),
        args: (0..arguments).map(|_| null()).collect(),
    };
    let node = IdedExpr {
        id: 1,
        expr: Expr::Call(call),
    };
    !matches!(
        Value::resolve(&node, &Context::with_env(Arc::clone(&ENVIRONMENT))),
        Err(ExecutionError::UndeclaredReference(_))
    )
}
