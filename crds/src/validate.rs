//! Holds a resource to its CustomResourceDefinition where no API server does.
//!
//! ```text
//! value ─► structure: types, bounds, enums, unknown and missing fields ─► CEL rules ─► [Violation]
//! ```
//!
//! Every violation is found, not just the first. The schema is the very one that `crdgen` writes,
//! so a folder and a cluster cannot disagree; unlike an API server, which drops unknown fields
//! unless asked not to, this refuses them. Transition rules (`oldSelf`) need an API server and
//! are not looked at here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::cel::{CompiledSchema, ErrorKind, Validator, compile_schema};
use regex::Regex;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::connection::HOST_PATTERN;
use crate::{
    API_VERSION, AccessPolicy, ApprovalRequest, AuditStore, ByteSize, ConditionReason, Connection,
    FULL_NAME_PATTERN, HumanDuration, IdentityProvider, NAME_PATTERN, QUALIFIED_NAME_PATTERN,
    generate,
};

/// One thing that is wrong with a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Where, such as `spec.rules[2].sql.effects[0]`.
    pub path: String,
    /// What is wrong and what is allowed, as a lower-case phrase.
    pub message: String,
    /// The kind of mistake.
    pub reason: ConditionReason,
}

/// A resource type of this group that can be validated and parsed.
pub trait Resource: DeserializeOwned + kube::CustomResourceExt {
    /// Its `kind`.
    const KIND: &'static str;
    /// Whether it lives in a namespace.
    const NAMESPACED: bool;
    /// Its metadata.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    #[doc(hidden)]
    fn compiled() -> &'static Compiled;
}

macro_rules! resource {
    ($type:ty, $kind:literal, $namespaced:literal) => {
        impl Resource for $type {
            const KIND: &'static str = $kind;
            const NAMESPACED: bool = $namespaced;

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }

            fn compiled() -> &'static Compiled {
                static COMPILED: OnceLock<Compiled> = OnceLock::new();
                COMPILED.get_or_init(|| Compiled::new(&generate::definition::<$type>()))
            }
        }
    };
}

resource!(Connection, "Connection", true);
resource!(AccessPolicy, "AccessPolicy", true);
resource!(ApprovalRequest, "ApprovalRequest", true);
resource!(IdentityProvider, "IdentityProvider", false);
resource!(AuditStore, "AuditStore", false);

/// Validates a resource and parses it.
///
/// # Errors
/// Every violation, in the order of the document's paths; never an empty list.
pub fn parse<T: Resource>(object: &Value) -> Result<T, Vec<Violation>> {
    let violations = validate::<T>(object);
    if !violations.is_empty() {
        return Err(violations);
    }
    serde_json::from_value(object.clone()).map_err(|error| {
        vec![Violation {
            path: "spec".to_owned(),
            message: error.to_string(),
            reason: ConditionReason::Invalid,
        }]
    })
}

/// Everything that is wrong with a resource of this type.
pub fn validate<T: Resource>(object: &Value) -> Vec<Violation> {
    let compiled = T::compiled();
    let mut walk = Walk {
        patterns: &compiled.patterns,
        found: Vec::new(),
    };
    match object.as_object() {
        Some(fields) => walk.root::<T>(fields, &compiled.schema),
        None => walk.report("", ConditionReason::Invalid, "must be a mapping".to_owned()),
    }
    let mut found = walk.found;
    let broken: Vec<String> = found
        .iter()
        .map(|violation| violation.path.clone())
        .collect();
    if let Err(errors) = Validator::new().validate_compiled(&compiled.rules, object, None) {
        for error in errors {
            // A rule over a field that is itself wrong would only repeat that, or fail to evaluate.
            let repeats = broken.iter().any(|path| overlaps(path, &error.field_path));
            if repeats || (error.kind != ErrorKind::ValidationFailure && !broken.is_empty()) {
                continue;
            }
            found.push(Violation {
                path: error.field_path,
                message: error.message,
                reason: ConditionReason::Invalid,
            });
        }
    }
    found.sort();
    found.dedup();
    found
}

/// A definition's schema, ready to validate with.
pub struct Compiled {
    schema: Value,
    rules: CompiledSchema,
    patterns: BTreeMap<String, Regex>,
}

impl Compiled {
    fn new(crd: &CustomResourceDefinition) -> Self {
        let schema = crd
            .spec
            .versions
            .first()
            .and_then(|version| version.schema.as_ref())
            .and_then(|schema| serde_json::to_value(&schema.open_api_v3_schema).ok())
            .unwrap_or_default();
        let mut patterns = BTreeMap::new();
        collect_patterns(&schema, &mut patterns);
        Self {
            rules: compile_schema(&schema),
            schema,
            patterns,
        }
    }
}

fn collect_patterns(schema: &Value, patterns: &mut BTreeMap<String, Regex>) {
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && let Ok(regex) = Regex::new(pattern)
    {
        patterns.insert(pattern.to_owned(), regex);
    }
    match schema {
        Value::Object(fields) => fields
            .values()
            .for_each(|child| collect_patterns(child, patterns)),
        Value::Array(items) => items
            .iter()
            .for_each(|child| collect_patterns(child, patterns)),
        _ => {}
    }
}

/// Whether one path is the other, or lies under it.
fn overlaps(a: &str, b: &str) -> bool {
    let under = |outer: &str, inner: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    under(a, b) || under(b, a)
}

/// Checks a value against the structural schema, collecting what is wrong.
struct Walk<'a> {
    patterns: &'a BTreeMap<String, Regex>,
    found: Vec<Violation>,
}

impl Walk<'_> {
    fn report(&mut self, path: &str, reason: ConditionReason, message: String) {
        self.found.push(Violation {
            path: path.to_owned(),
            message,
            reason,
        });
    }

    fn root<T: Resource>(&mut self, fields: &Map<String, Value>, schema: &Value) {
        for (field, expected) in [("apiVersion", API_VERSION), ("kind", T::KIND)] {
            match fields.get(field).and_then(Value::as_str) {
                Some(value) if value == expected => {}
                Some(value) => self.report(
                    field,
                    ConditionReason::UnknownKind,
                    format!("{value:?} is not known here; write {expected}"),
                ),
                None => self.missing("", field),
            }
        }
        match fields.get("metadata") {
            Some(metadata) => self
                .found
                .extend(validate_metadata(metadata, T::NAMESPACED)),
            None => self.missing("", "metadata"),
        }
        let own = |field: &&String| !["apiVersion", "kind", "metadata"].contains(&field.as_str());
        let rest = fields.iter().filter(|(field, _)| own(field));
        self.object(
            "",
            &rest
                .map(|(field, value)| (field.clone(), value.clone()))
                .collect(),
            schema,
        );
    }

    fn value(&mut self, path: &str, value: &Value, schema: &Value) {
        let expected = schema
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        match (expected, value) {
            (_, Value::Null) => {
                if schema.get("nullable") != Some(&Value::Bool(true)) {
                    self.null(path, schema);
                }
            }
            ("object", Value::Object(fields)) => self.object(path, fields, schema),
            ("array", Value::Array(items)) => self.array(path, items, schema),
            ("string", Value::String(text)) => self.string(path, text, schema),
            ("integer", Value::Number(number)) => self.integer(path, number, schema),
            ("boolean", Value::Bool(_)) => {}
            _ => {
                let pattern = schema
                    .get("pattern")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let hint = match (expected, value) {
                    ("string", _) if help(pattern).is_some() => {
                        format!("; {}", help(pattern).unwrap_or_default())
                    }
                    ("string", Value::Bool(_) | Value::Number(_)) => {
                        "; put it in quotes".to_owned()
                    }
                    ("array", Value::String(_)) => "; write it as [value]".to_owned(),
                    _ => String::new(),
                };
                let message = format!(
                    "must be {}, not {}{hint}",
                    article(expected),
                    name_of(value)
                );
                self.report(path, ConditionReason::Invalid, message);
            }
        }
    }

    fn null(&mut self, path: &str, schema: &Value) {
        let names_null = enum_names(schema).any(|name| name == "Null");
        let message = if names_null {
            "has no value: Null without quotes is YAML's nothing; write \"Null\"".to_owned()
        } else {
            format!("has no value; leave it out, or write {}", describe(schema))
        };
        self.report(path, ConditionReason::Invalid, message);
    }

    fn object(&mut self, path: &str, fields: &Map<String, Value>, schema: &Value) {
        let none = Map::new();
        let known = schema
            .get("properties")
            .and_then(Value::as_object)
            .unwrap_or(&none);
        let other = schema.get("additionalProperties");
        for (field, value) in fields {
            let inner = join(path, field);
            match known.get(field).or(other) {
                Some(schema) => self.value(&inner, value, schema),
                None => self.unknown_field(&inner, known.keys()),
            }
        }
        for field in strings(schema.get("required")) {
            if !fields.contains_key(field) {
                self.missing(path, field);
            }
        }
        self.at_most(path, schema, "maxProperties", fields.len(), "entries");
    }

    fn array(&mut self, path: &str, items: &[Value], schema: &Value) {
        for (index, item) in items.iter().enumerate() {
            if let Some(schema) = schema.get("items") {
                self.value(&format!("{path}[{index}]"), item, schema);
            }
        }
        if bound(schema, "minItems").is_some_and(|least| (items.len() as u64) < least) {
            let message = "must have at least one entry".to_owned();
            self.report(path, ConditionReason::Invalid, message);
        }
        self.at_most(path, schema, "maxItems", items.len(), "entries");
        self.repeated(path, items, schema);
    }

    /// Entries of a set, or keys of a list-map, that stand there twice.
    fn repeated(&mut self, path: &str, items: &[Value], schema: &Value) {
        let keys: Vec<&str> = strings(schema.get("x-kubernetes-list-map-keys")).collect();
        let is_set = schema.get("x-kubernetes-list-type").and_then(Value::as_str) == Some("set");
        if keys.is_empty() && !is_set {
            return;
        }
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let identity: Vec<&Value> = match keys.as_slice() {
                [] => vec![item],
                keys => keys.iter().filter_map(|key| item.get(*key)).collect(),
            };
            if identity.len() != keys.len().max(1) {
                continue;
            }
            let text = identity
                .iter()
                .map(|value| value.to_string())
                .collect::<Vec<_>>()
                .join(", ");
            if !seen.insert(text.clone()) {
                let inner = match keys.as_slice() {
                    [key] => format!("{path}[{index}].{key}"),
                    _ => format!("{path}[{index}]"),
                };
                let message = format!("{text} is there already; each may stand here once");
                self.report(&inner, ConditionReason::Duplicate, message);
            }
        }
    }

    fn string(&mut self, path: &str, text: &str, schema: &Value) {
        if schema.get("enum").is_some() {
            if !enum_names(schema).any(|name| name == text) {
                let message = format!("{} is not allowed; write {}", quote(text), describe(schema));
                self.report(path, ConditionReason::Invalid, message);
            }
            return;
        }
        let length = text.chars().count();
        if bound(schema, "minLength").is_some_and(|least| (length as u64) < least) {
            let least = bound(schema, "minLength").unwrap_or(1);
            let message = match length {
                0 => "must not be empty".to_owned(),
                _ => format!("has {length} characters; at least {least} are needed"),
            };
            self.report(path, ConditionReason::Invalid, message);
            return;
        }
        self.at_most(path, schema, "maxLength", length, "characters");
        let pattern = schema
            .get("pattern")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if let Some(regex) = self.patterns.get(pattern)
            && !regex.is_match(text)
        {
            let message = match help(pattern) {
                Some(help) => format!("{} is not allowed; {help}", quote(text)),
                None => format!("{} does not match {pattern}", quote(text)),
            };
            self.report(path, ConditionReason::Invalid, message);
        }
    }

    fn integer(&mut self, path: &str, number: &serde_json::Number, schema: &Value) {
        let Some(value) = number.as_i64() else {
            let message = format!("{number} is not allowed; write a whole number");
            self.report(path, ConditionReason::Invalid, message);
            return;
        };
        let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
        let below = limit("minimum").is_some_and(|least| (value as f64) < least);
        let above = limit("maximum").is_some_and(|most| (value as f64) > most);
        if below || above {
            let message = match (limit("minimum"), limit("maximum")) {
                (Some(least), Some(most)) => format!("{value} is not from {least} to {most}"),
                (Some(least), None) => format!("{value} is less than {least}"),
                _ => format!(
                    "{value} is more than {}",
                    limit("maximum").unwrap_or_default()
                ),
            };
            self.report(path, ConditionReason::Invalid, message);
        }
    }

    fn at_most(&mut self, path: &str, schema: &Value, key: &str, count: usize, unit: &str) {
        if let Some(most) = bound(schema, key).filter(|most| count as u64 > *most) {
            let message = format!("has {count} {unit}; at most {most} are allowed");
            self.report(path, ConditionReason::Invalid, message);
        }
    }

    fn missing(&mut self, path: &str, field: &str) {
        self.report(
            &join(path, field),
            ConditionReason::MissingField,
            "is required".to_owned(),
        );
    }

    fn unknown_field<'s>(&mut self, path: &str, known: impl Iterator<Item = &'s String>) {
        let known: Vec<&str> = known.map(String::as_str).collect();
        let message = match known.as_slice() {
            [] => "unknown field; none is allowed here".to_owned(),
            _ => format!("unknown field; allowed here: {}", known.join(", ")),
        };
        self.report(path, ConditionReason::UnknownField, message);
    }
}

/// Everything that is wrong with a `metadata` as a person writes it: what a server fills in
/// (uid, resourceVersion, managedFields …) is accepted unread.
pub fn validate_metadata(metadata: &Value, namespaced: bool) -> Vec<Violation> {
    let mut walk = Walk {
        patterns: metadata_patterns(),
        found: Vec::new(),
    };
    let Some(fields) = metadata.as_object() else {
        let message = format!("must be a mapping, not {}", name_of(metadata));
        walk.report("metadata", ConditionReason::Invalid, message);
        return walk.found;
    };
    let name = serde_json::json!({"type": "string", "minLength": 1, "maxLength": 253, "pattern": NAME_PATTERN});
    let label = serde_json::json!({"type": "string", "minLength": 1, "maxLength": 63, "pattern": NAMESPACE_PATTERN});
    let texts = serde_json::json!({"type": "object", "maxProperties": 256, "additionalProperties": {"type": "string", "maxLength": 262144}});
    match fields.get("name") {
        Some(value) => walk.value("metadata.name", value, &name),
        None => walk.missing("metadata", "name"),
    }
    for (field, value) in fields {
        let path = join("metadata", field);
        match field.as_str() {
            "name" => {}
            "namespace" if namespaced => walk.value(&path, value, &label),
            "namespace" => walk.report(
                &path,
                ConditionReason::UnknownField,
                "this kind has no namespace; leave it out".to_owned(),
            ),
            "labels" | "annotations" => walk.value(&path, value, &texts),
            _ if SERVER_FIELDS.contains(&field.as_str()) => {}
            _ => {
                let known = ["annotations", "labels", "name", "namespace"].map(str::to_owned);
                walk.unknown_field(&path, known.iter());
            }
        }
    }
    walk.found
}

/// Fields of ObjectMeta that an API server or a controller fills in.
const SERVER_FIELDS: [&str; 10] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "uid",
];

const NAMESPACE_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

fn metadata_patterns() -> &'static BTreeMap<String, Regex> {
    static PATTERNS: OnceLock<BTreeMap<String, Regex>> = OnceLock::new();
    PATTERNS.get_or_init(|| {
        [NAME_PATTERN, NAMESPACE_PATTERN]
            .into_iter()
            .filter_map(|pattern| Some((pattern.to_owned(), Regex::new(pattern).ok()?)))
            .collect()
    })
}

fn join(path: &str, field: &str) -> String {
    let plain = field
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    match (path, plain && !field.is_empty()) {
        ("", true) => field.to_owned(),
        (_, true) => format!("{path}.{field}"),
        // A key with a dot or a slash would read as two.
        (_, false) => format!("{path}[{field}]"),
    }
}

fn bound(schema: &Value, key: &str) -> Option<u64> {
    schema.get(key).and_then(Value::as_u64)
}

fn strings(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn enum_names(schema: &Value) -> impl Iterator<Item = &str> {
    strings(schema.get("enum"))
}

/// What to write where a pattern applies, in words.
fn help(pattern: &str) -> Option<&'static str> {
    Some(match pattern {
        HumanDuration::PATTERN => "write a whole number and s, m or h, such as 20s, 15m, 8h",
        ByteSize::PATTERN => {
            "write a whole number of bytes, with Ki, Mi, Gi or Ti if wanted, such as 256Mi"
        }
        NAME_PATTERN => "write lower-case letters, digits, - and . only, not first or last - or .",
        NAMESPACE_PATTERN => "write lower-case letters, digits and - only, not first or last -",
        QUALIFIED_NAME_PATTERN => "write namespace/name, or name for one in this namespace",
        FULL_NAME_PATTERN => "write namespace/name",
        HOST_PATTERN => "write a host name or an IP address, without port",
        _ => return None,
    })
}

/// What may stand where a schema applies.
fn describe(schema: &Value) -> String {
    let names: Vec<&str> = enum_names(schema).collect();
    match names.as_slice() {
        [] => article(
            schema
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or_default(),
        )
        .to_owned(),
        [only] => (*only).to_owned(),
        names => format!("one of {}", names.join(", ")),
    }
}

fn article(kind: &str) -> &'static str {
    match kind {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "a text",
        "integer" => "a whole number",
        "boolean" => "true or false",
        _ => "a value",
    }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// A value as an error may show it: escaped, and no longer than a line.
fn quote(text: &str) -> String {
    const SHOWN: usize = 64;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests;
