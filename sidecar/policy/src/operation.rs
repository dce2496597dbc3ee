//! What is asked for: a set of effects on objects, plus what CEL may look at.

use std::fmt;
use std::sync::Arc;

use crate::ApiObject;

/// The protocol an operation was translated from. A rule names exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// PostgreSQL; effects and objects of SQL.
    Postgres,
    /// HTTP; the request as conditions see it.
    Http(Arc<Request>),
    /// The Kubernetes API; the request as conditions see it.
    Kubernetes(Arc<ApiRequest>),
}

/// A request to the Kubernetes API, for CEL (`request`, `object`). Its fields are those that the
/// API server's own authorisation knows (Kubernetes, Authorization: Request attributes).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApiRequest {
    /// In small letters.
    pub verb: String,
    /// Empty for the core group, and for what is no resource.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// In the plural.
    pub resource: String,
    /// `exec`; empty for none.
    pub subresource: String,
    /// Empty: none, or all.
    pub namespace: String,
    /// Empty: none, or all.
    pub name: String,
    /// Decoded.
    pub path: String,
    /// Names and values of the query, decoded, in order.
    pub query: Vec<(String, String)>,
    /// The program and its arguments, of what runs a command.
    pub command: Vec<String>,
    /// How a patch is written: `apply`, `json`, `merge`, `strategic`; empty for what is none.
    pub patch: String,
    /// The body, where a rule asked for it: the object, or the patch as it is written.
    pub object: Option<serde_json::Value>,
}

/// An HTTP request in its one normal form, for CEL (`request`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// In capitals.
    pub method: String,
    /// The target's host, in small letters, without a port.
    pub host: String,
    /// Decoded, from the first slash on, without the query.
    pub path: String,
    /// Names and values of the query, decoded, in order.
    pub query: Vec<(String, String)>,
    /// Fields by name in small letters; one that came several times is joined by `, `
    /// (RFC 9110, section 5.3), so that a rule sees the whole.
    pub headers: Vec<(String, String)>,
    /// The body, where a rule asked for it and it is JSON.
    pub json: Option<serde_json::Value>,
}

impl Request {
    /// The effect of a method by its meaning (RFC 9110, section 9): how durable its record is.
    fn effect(method: &str) -> Effect {
        match method {
            "GET" | "HEAD" | "OPTIONS" => Effect::Read,
            "POST" => Effect::Write,
            "DELETE" => Effect::Delete,
            UPGRADE => Effect::Execute,
            _ => Effect::Modify,
        }
    }
}

/// What stands for a method where a request wants to leave HTTP (RFC 9110, section 7.8). No
/// method of a request looks like it: those are in capitals.
pub const UPGRADE: &str = "Upgrade";

/// What a statement does, in rising order of risk (policy.md, Decision).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Reads schema information.
    Catalog,
    /// Reads rows.
    Read,
    /// Inserts rows.
    Write,
    /// Updates rows.
    Modify,
    /// Removes rows; TRUNCATE too.
    Delete,
    /// COPY … FROM STDIN.
    BulkLoad,
    /// COPY … TO STDOUT.
    BulkExport,
    /// CREATE.
    SchemaCreate,
    /// ALTER, COMMENT.
    SchemaAlter,
    /// DROP.
    SchemaDestroy,
    /// GRANT, REVOKE, roles, ownership.
    Privilege,
    /// SET and its kin.
    Session,
    /// BEGIN, COMMIT, savepoints, two-phase commit.
    Transaction,
    /// VACUUM, ANALYZE, REINDEX, CLUSTER, CHECKPOINT.
    Maintenance,
    /// LOCK, FOR UPDATE, advisory locks.
    Lock,
    /// LISTEN, NOTIFY.
    Notify,
    /// Runs a function or procedure that is not known to be pure.
    Execute,
    /// Files, programs, network, server-side large-object files.
    UnsafeIo,
    /// Could not be fully understood.
    Unknown,
}

impl Effect {
    /// All effects, in order of risk.
    pub const ALL: [Effect; 19] = [
        Effect::Catalog,
        Effect::Read,
        Effect::Write,
        Effect::Modify,
        Effect::Delete,
        Effect::BulkLoad,
        Effect::BulkExport,
        Effect::SchemaCreate,
        Effect::SchemaAlter,
        Effect::SchemaDestroy,
        Effect::Privilege,
        Effect::Session,
        Effect::Transaction,
        Effect::Maintenance,
        Effect::Lock,
        Effect::Notify,
        Effect::Execute,
        Effect::UnsafeIo,
        Effect::Unknown,
    ];

    /// The name used in rules, records and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::Catalog => "Catalog",
            Effect::Read => "Read",
            Effect::Write => "Write",
            Effect::Modify => "Modify",
            Effect::Delete => "Delete",
            Effect::BulkLoad => "BulkLoad",
            Effect::BulkExport => "BulkExport",
            Effect::SchemaCreate => "SchemaCreate",
            Effect::SchemaAlter => "SchemaAlter",
            Effect::SchemaDestroy => "SchemaDestroy",
            Effect::Privilege => "Privilege",
            Effect::Session => "Session",
            Effect::Transaction => "Transaction",
            Effect::Maintenance => "Maintenance",
            Effect::Lock => "Lock",
            Effect::Notify => "Notify",
            Effect::Execute => "Execute",
            Effect::UnsafeIo => "UnsafeIo",
            Effect::Unknown => "Unknown",
        }
    }
}

/// What an effect is on. Patterns of a rule match the kind they are written for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// The session itself: transaction control, statements without objects.
    Session,
    /// Table, view, materialised view, foreign table, sequence.
    Relation {
        /// Resolved schema.
        schema: String,
        /// Name as stored in the catalog.
        name: String,
    },
    /// Function, procedure or aggregate.
    Function {
        /// Resolved schema.
        schema: String,
        /// Name as stored in the catalog.
        name: String,
    },
    /// A configuration parameter, lower case.
    Setting(String),
    /// A LISTEN/NOTIFY channel.
    Channel(String),
    /// Anything else that has a name: schema, role, type, extension …
    Named {
        /// What kind of thing, lower case, as SQL calls it: `schema`, `role`, `type`.
        kind: String,
        /// Its name.
        name: String,
    },
    /// What an HTTP request is for.
    Request {
        /// In capitals, or [`UPGRADE`].
        method: String,
        /// In small letters, without a port.
        host: String,
        /// Decoded.
        path: String,
    },
    /// What a request to the Kubernetes API is for.
    Api {
        /// In small letters.
        verb: String,
        /// A resource or a path.
        object: ApiObject,
    },
    /// A name that could not be resolved. No Allow matches it.
    Unresolved(String),
    /// Everything: what `Unknown` is on.
    Any,
}

impl fmt::Display for Object {
    // Piece by piece: this is done for each access of each command.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = |pieces: [&str; 3]| pieces.into_iter().try_for_each(|one| f.write_str(one));
        match self {
            Object::Session => all(["session", "", ""]),
            Object::Relation { schema, name } => all([schema, ".", name]),
            Object::Function { schema, name } => {
                all([schema, ".", name])?;
                f.write_str("()")
            }
            Object::Setting(name) => all(["setting ", name, ""]),
            Object::Channel(name) => all(["channel ", name, ""]),
            Object::Named { kind, name } => all([kind, " ", name]),
            Object::Request { host, path, .. } => all([host, path, ""]),
            Object::Api { object, .. } => write!(f, "{object}"),
            Object::Unresolved(name) => all([name, " (unresolved)", ""]),
            Object::Any => f.write_str("*"),
        }
    }
}

/// One effect on one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Access {
    /// What is done.
    pub effect: Effect,
    /// To what.
    pub object: Object,
    /// The protocol's client baseline covers it: what drivers need to connect, pool and
    /// introspect (policy.md, Client baseline). Holds only with an Allow or RequireApproval
    /// on the connection, never against a Deny, and for `Catalog` only while `catalog: Allow`.
    pub baseline: bool,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object {
            Object::Request { method, .. } => write!(f, "{method} on {}", self.object),
            Object::Api { verb, object } => write!(f, "{verb} on {object}"),
            object => {
                f.write_str(self.effect.as_str())?;
                f.write_str(" on ")?;
                object.fmt(f)
            }
        }
    }
}

/// One command of an agent, as the decision sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Where it came from.
    pub protocol: Protocol,
    /// Everything it does. A statement that touches nothing is one `Read` on
    /// [`Object::Session`] with `baseline` set, so the set is never empty.
    pub accesses: Vec<Access>,
    /// The command's exact text, for CEL (`operation.command`).
    pub command: String,
    /// Bound parameters in text form where known; `None` is NULL or not text.
    pub parameters: Vec<Option<String>>,
}

impl Operation {
    /// An HTTP request, and whether it wants to leave HTTP. `command` is its first line.
    pub fn http(request: Arc<Request>, upgrade: bool, command: String) -> Operation {
        let access = |method: &str| Access {
            effect: Request::effect(method),
            object: Object::Request {
                method: method.to_owned(),
                host: request.host.clone(),
                path: request.path.clone(),
            },
            baseline: false,
        };
        let mut accesses = vec![access(&request.method)];
        if upgrade {
            accesses.push(access(UPGRADE));
        }
        Operation {
            protocol: Protocol::Http(request),
            accesses,
            command,
            parameters: Vec::new(),
        }
    }

    /// A text of SQL with all that it does, its parameters not known yet.
    pub fn sql(text: &str, mut accesses: Vec<Access>) -> Operation {
        if accesses.is_empty() {
            accesses.push(Access {
                effect: Effect::Read,
                object: Object::Session,
                baseline: true,
            });
        }
        Operation {
            protocol: Protocol::Postgres,
            accesses,
            command: text.to_owned(),
            parameters: Vec::new(),
        }
    }
}
