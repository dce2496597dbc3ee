//! CEL conditions (`when`): checked when loaded, asked only for rules that have one.
//!
//! Variables:
//!
//! ```text
//! subject    {namespace, serviceAccount, purpose, labels, delegate?: {username, groups, claims}}
//! operation  {command, parameters, effects, relations, verb}        rules on SQL
//! request    {method, host, path, query, headers, json?}             rules on HTTP
//! request    {verb, group, version, resource, subresource, namespace, name, path, query,
//!             command, patch}                                       rules on Kubernetes
//! object     what is written, or null                                rules on Kubernetes
//! ```
//!
//! `request.query` maps each name to the list of its values, `request.headers` each name in small
//! letters to its value, all of them joined by `, ` where it came several times. `request.json` is
//! absent where the body is not JSON.
//!
//! Of a request to Kubernetes, `object` is the object, or the patch as it is written: a map, or the
//! list of operations where `request.patch == 'json'`. `request.command` is the list of a command's
//! words where one is run.
//!
//! `delegate` is absent where the agent presented no token: `has(subject.delegate)` tells.
//! Only the fields an expression names are built; which those are is worked out when it loads.

mod check;
mod variables;

use std::sync::{Arc, LazyLock};

use cel::{Context, Env, ExecutionError, Program, Value};

use self::check::Walk;
use self::variables::{
    api_request_value, json_value, operation_value, request_value, subject_value,
};
use crate::{
    Access, ApiRequest, Delegate, Effect, Object, Operation, Protocol, Request, Subject, Workload,
};

/// Longest expression in bytes.
const MAX_LENGTH: usize = 1024;
/// A condition that reads the command is not asked about more bytes than this; it fails instead.
const MAX_COMMAND: usize = 1 << 20;
/// A condition that reads parameters or relations is not asked about more than this many.
const MAX_ITEMS: usize = 1024;
/// Brackets that may open, those in string literals counted too.
const MAX_BRACKETS: usize = 64;
/// How deep an expression may nest: it is walked, evaluated and dropped by recursion.
const MAX_DEPTH: usize = 24;
/// CEL's parser takes more than 100 KiB of stack a bracket in a debug build, so that 16 of them
/// end a process whose thread has 2 MiB. Within `MAX_LENGTH` and `MAX_BRACKETS` this is enough.
const PARSER_STACK: usize = 64 << 20;
/// Loops in loops cost a power of the list's length.
const MAX_LOOPS: usize = 2;

const SUBJECT_FIELDS: [&str; 5] = [
    "namespace",
    "serviceAccount",
    "purpose",
    "labels",
    "delegate",
];
const OPERATION_FIELDS: [&str; 5] = ["command", "parameters", "effects", "relations", "verb"];
const REQUEST_FIELDS: [&str; 6] = ["method", "host", "path", "query", "headers", "json"];
const API_REQUEST_FIELDS: [&str; 11] = [
    "verb",
    "group",
    "version",
    "resource",
    "subresource",
    "namespace",
    "name",
    "path",
    "query",
    "command",
    "patch",
];
const DELEGATE_FIELDS: [&str; 3] = ["username", "groups", "claims"];

/// Optional values are off: an absent field must be an error or tested with `has`.
static ENVIRONMENT: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// Why an expression was refused when it was loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConditionError {
    #[error("the condition is {0} bytes long; {MAX_LENGTH} are allowed")]
    TooLong(usize),
    #[error("the condition opens {0} brackets; {MAX_BRACKETS} are allowed, in texts too")]
    TooManyBrackets(usize),
    #[error("the condition nests more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error("the condition cannot be checked: {0}")]
    Unchecked(String),
    #[error("the condition does not parse: {0}")]
    Syntax(String),
    #[error("`{0}` is not declared; a condition may use `subject` and {1}")]
    UndeclaredVariable(String, &'static str),
    #[error("`{parent}` has no field `{field}`; it has {allowed}")]
    UndeclaredField {
        parent: &'static str,
        field: String,
        allowed: String,
    },
    #[error("no function `{0}` is declared")]
    UndeclaredFunction(String),
    #[error("loops nest more than {MAX_LOOPS} deep")]
    TooManyLoops,
    #[error("the condition must be true or false, but a sample operation gives {0}")]
    NotBool(String),
    #[error("the condition fails on a sample operation: {0}")]
    SampleFails(String),
}

/// Which variables an expression has besides `subject`: those of the rule's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `operation`.
    Sql,
    /// `request`.
    Http,
    /// `request` and `object`.
    Kubernetes,
}

impl Dialect {
    fn variables(self) -> &'static str {
        match self {
            Dialect::Sql => "`operation`",
            Dialect::Http => "`request`",
            Dialect::Kubernetes => "`request` and `object`",
        }
    }
}

/// A loaded expression.
#[derive(Debug)]
pub(crate) struct Condition {
    program: Program,
    needs: Needs,
    dialect: Dialect,
}

/// Which fields the expression reads: bit n is the nth of `SUBJECT_FIELDS`, `OPERATION_FIELDS`,
/// and of the protocol's fields of `request`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Needs {
    subject: u16,
    operation: u16,
    request: u16,
    object: bool,
}

impl Needs {
    fn has_subject(self, field: &str) -> bool {
        has(self.subject, &SUBJECT_FIELDS, field)
    }

    fn has_operation(self, field: &str) -> bool {
        has(self.operation, &OPERATION_FIELDS, field)
    }

    fn has_request(self, field: &str) -> bool {
        has(self.request, &REQUEST_FIELDS, field)
    }

    fn has_api_request(self, field: &str) -> bool {
        has(self.request, &API_REQUEST_FIELDS, field)
    }
}

fn has(bits: u16, fields: &[&str], field: &str) -> bool {
    fields
        .iter()
        .position(|known| *known == field)
        .is_some_and(|bit| bits & (1 << bit) != 0)
}

impl Condition {
    /// Loads an expression, checking everything that can be known before an operation is there.
    pub(crate) fn compile(text: &str, dialect: Dialect) -> Result<Condition, ConditionError> {
        if text.len() > MAX_LENGTH {
            return Err(ConditionError::TooLong(text.len()));
        }
        let brackets = text
            .chars()
            .filter(|c| matches!(c, '(' | '[' | '{'))
            .count();
        if brackets > MAX_BRACKETS {
            return Err(ConditionError::TooManyBrackets(brackets));
        }
        let owned = text.to_owned();
        let thread = std::thread::Builder::new().stack_size(PARSER_STACK);
        let parsing = thread
            .spawn(move || Condition::parse(&owned, dialect))
            .map_err(|error| ConditionError::Unchecked(error.to_string()))?;
        parsing
            .join()
            .map_err(|_| ConditionError::Unchecked("the parser failed".to_owned()))?
    }

    /// Recurses as deep as the text makes it; runs on a stack of its own.
    fn parse(text: &str, dialect: Dialect) -> Result<Condition, ConditionError> {
        let program = ENVIRONMENT.compile(text).map_err(|errors| {
            let first = errors.errors.first();
            ConditionError::Syntax(first.map_or_else(String::new, |error| {
                format!("{} at {}:{}", error.msg, error.pos.0, error.pos.1)
            }))
        })?;
        let mut walk = Walk::new(dialect);
        walk.expression(program.expression(), 0)?;
        let needs = walk.needs;
        let condition = Condition {
            program,
            needs,
            dialect,
        };
        condition.try_on_sample(dialect)?;
        Ok(condition)
    }

    /// Whether the body of a request has to be read before this can be asked.
    pub(crate) fn reads_json(&self) -> bool {
        match self.dialect {
            Dialect::Sql => false,
            Dialect::Http => self.needs.has_request("json"),
            Dialect::Kubernetes => self.needs.object,
        }
    }

    fn try_on_sample(&self, dialect: Dialect) -> Result<(), ConditionError> {
        let (subject, operation) = sample(dialect);
        match self.execute(&subject, &operation) {
            Ok(Value::Bool(_)) => Ok(()),
            Ok(other) => Err(ConditionError::NotBool(format!("{:?}", other.type_of()))),
            // What a real operation holds may differ in these, so they say nothing yet.
            Err(
                ExecutionError::NoSuchKey(_)
                | ExecutionError::IndexOutOfBounds(_)
                | ExecutionError::FunctionError { .. }
                | ExecutionError::DivisionByZero(_)
                | ExecutionError::RemainderByZero(_)
                | ExecutionError::Overflow(..),
            ) => Ok(()),
            Err(error) => Err(ConditionError::SampleFails(error.to_string())),
        }
    }

    /// Asks the condition. The error is for the record; it names no values of the operation.
    pub(crate) fn holds(&self, subject: &Subject, operation: &Operation) -> Result<bool, String> {
        let reads_command = self.needs.has_operation("command") || self.needs.has_operation("verb");
        if reads_command && operation.command.len() > MAX_COMMAND {
            return Err("the command is too long for a condition to judge".to_owned());
        }
        let items = operation.parameters.len().max(operation.accesses.len());
        if self.needs.operation != 0 && items > MAX_ITEMS {
            return Err("the command has too many parts for a condition to judge".to_owned());
        }
        match self.execute(subject, operation) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(_) => Err("the condition is neither true nor false".to_owned()),
            Err(error) => Err(describe(&error)),
        }
    }

    fn execute(&self, subject: &Subject, operation: &Operation) -> Result<Value, ExecutionError> {
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        if self.needs.subject != 0 {
            context.add_variable_from_value("subject", subject_value(subject, self.needs));
        }
        if self.needs.operation != 0 {
            context.add_variable_from_value("operation", operation_value(operation, self.needs));
        }
        match &operation.protocol {
            Protocol::Postgres => {}
            Protocol::Http(request) => {
                if self.needs.request != 0 {
                    context.add_variable_from_value("request", request_value(request, self.needs));
                }
            }
            Protocol::Kubernetes(request) => {
                if self.needs.request != 0 {
                    let value = api_request_value(request, self.needs);
                    context.add_variable_from_value("request", value);
                }
                if self.needs.object {
                    let object = request.object.as_ref().map(json_value);
                    let object = object.unwrap_or(Value::Null);
                    context.add_variable_from_value("object", object);
                }
            }
        }
        self.program.execute(&context)
    }
}

/// What went wrong, without the values CEL's own messages print: they may be masked columns'.
fn describe(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(_) => "a key or field is missing".to_owned(),
        ExecutionError::NoSuchOverload(overload) => {
            format!("`{}` does not take what it was given", overload.function())
        }
        ExecutionError::IndexOutOfBounds(_) => "an index is out of bounds".to_owned(),
        ExecutionError::FunctionError { function, .. } => format!("`{function}` failed"),
        ExecutionError::UndeclaredReference(name) => format!("`{name}` is not declared"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "a division by zero".to_owned()
        }
        ExecutionError::Overflow(..) => "a number is too large".to_owned(),
        _ => "the types do not fit".to_owned(),
    }
}

fn sample(dialect: Dialect) -> (Subject, Operation) {
    let subject = Subject {
        workload: Workload {
            namespace: "sample".to_owned(),
            service_account: "sample".to_owned(),
            pod: None,
            labels: [("app".to_owned(), "sample".to_owned())].into(),
        },
        delegate: Some(Delegate {
            provider: "sample".to_owned(),
            username: "sample".to_owned(),
            groups: vec!["sample".to_owned()],
            claims: serde_json::Map::new(),
        }),
        purpose: Some("sample".to_owned()),
    };
    if dialect == Dialect::Http {
        let request = Request {
            method: "POST".to_owned(),
            host: "sample".to_owned(),
            path: "/sample".to_owned(),
            query: vec![("sample".to_owned(), "1".to_owned())],
            headers: vec![("accept".to_owned(), "*/*".to_owned())],
            json: Some(serde_json::Value::Object(serde_json::Map::new())),
        };
        let operation = Operation::http(Arc::new(request), false, "POST /sample".to_owned());
        return (subject, operation);
    }
    if dialect == Dialect::Kubernetes {
        let request = ApiRequest {
            verb: "create".to_owned(),
            version: "v1".to_owned(),
            resource: "pods".to_owned(),
            namespace: "sample".to_owned(),
            name: "sample".to_owned(),
            path: "/api/v1/namespaces/sample/pods".to_owned(),
            query: vec![("sample".to_owned(), "1".to_owned())],
            command: vec!["sample".to_owned()],
            object: Some(serde_json::Value::Object(serde_json::Map::new())),
            ..ApiRequest::default()
        };
        let operation = Operation {
            protocol: Protocol::Kubernetes(Arc::new(request)),
            accesses: Vec::new(),
            command: "create pods in sample".to_owned(),
            parameters: Vec::new(),
        };
        return (subject, operation);
    }
    let relation = Object::Relation {
        schema: "public".to_owned(),
        name: "sample".to_owned(),
    };
    let operation = Operation {
        protocol: Protocol::Postgres,
        accesses: vec![Access {
            effect: Effect::Read,
            object: relation,
            baseline: false,
        }],
        command: "SELECT * FROM sample WHERE id = $1".to_owned(),
        parameters: vec![Some("1".to_owned())],
    };
    (subject, operation)
}
