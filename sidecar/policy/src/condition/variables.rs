//! What a condition sees of a subject and an operation.

use std::collections::HashMap;

use cel::Value;

use super::Needs;
use crate::{ApiRequest, Delegate, Effect, Object, Operation, Request, Subject};

pub(super) fn subject_value(subject: &Subject, needs: Needs) -> Value {
    let workload = &subject.workload;
    let mut fields: HashMap<String, Value> = HashMap::new();
    let mut put = |name: &str, value: &dyn Fn() -> Value| {
        if needs.has_subject(name) {
            fields.insert(name.to_owned(), value());
        }
    };
    put("namespace", &|| workload.namespace.as_str().into());
    put("serviceAccount", &|| {
        workload.service_account.as_str().into()
    });
    put("purpose", &|| {
        subject.purpose.as_deref().unwrap_or_default().into()
    });
    put("labels", &|| {
        let labels: HashMap<String, Value> = workload
            .labels
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().into()))
            .collect();
        labels.into()
    });
    if let Some(delegate) = &subject.delegate {
        put("delegate", &|| delegate_value(delegate));
    }
    fields.into()
}

fn delegate_value(delegate: &Delegate) -> Value {
    let groups: Vec<Value> = delegate
        .groups
        .iter()
        .map(|group| group.as_str().into())
        .collect();
    let claims: HashMap<String, Value> = delegate
        .claims
        .iter()
        .map(|(key, value)| (key.clone(), json_value(value)))
        .collect();
    HashMap::from([
        (
            "username".to_owned(),
            Value::from(delegate.username.as_str()),
        ),
        ("groups".to_owned(), groups.into()),
        ("claims".to_owned(), claims.into()),
    ])
    .into()
}

pub(super) fn json_value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => number.as_i64().map_or_else(
            || Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            Value::Int,
        ),
        serde_json::Value::String(text) => text.as_str().into(),
        serde_json::Value::Array(items) => {
            items.iter().map(json_value).collect::<Vec<Value>>().into()
        }
        serde_json::Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), json_value(value)))
            .collect::<HashMap<String, Value>>()
            .into(),
    }
}

pub(super) fn operation_value(operation: &Operation, needs: Needs) -> Value {
    let mut fields: HashMap<String, Value> = HashMap::new();
    let mut put = |name: &str, value: &dyn Fn() -> Value| {
        if needs.has_operation(name) {
            fields.insert(name.to_owned(), value());
        }
    };
    put("command", &|| operation.command.as_str().into());
    put("parameters", &|| {
        let values = operation.parameters.iter();
        values
            .map(|text| text.as_deref().map_or(Value::Null, Value::from))
            .collect::<Vec<_>>()
            .into()
    });
    put("effects", &|| {
        let mut effects: Vec<Effect> = operation.accesses.iter().map(|a| a.effect).collect();
        effects.sort_unstable();
        effects.dedup();
        effects
            .into_iter()
            .map(|e| Value::from(e.as_str()))
            .collect::<Vec<_>>()
            .into()
    });
    put("relations", &|| {
        let mut names: Vec<String> = operation
            .accesses
            .iter()
            .filter(|access| matches!(access.object, Object::Relation { .. }))
            .map(|access| access.object.to_string())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
            .into_iter()
            .map(Value::from)
            .collect::<Vec<_>>()
            .into()
    });
    put("verb", &|| verb(&operation.command).into());
    fields.into()
}

pub(super) fn request_value(request: &Request, needs: Needs) -> Value {
    let mut fields: HashMap<String, Value> = HashMap::new();
    let mut put = |name: &str, value: &dyn Fn() -> Value| {
        if needs.has_request(name) {
            fields.insert(name.to_owned(), value());
        }
    };
    put("method", &|| request.method.as_str().into());
    put("host", &|| request.host.as_str().into());
    put("path", &|| request.path.as_str().into());
    put("query", &|| query_value(&request.query));
    put("headers", &|| {
        let headers = request.headers.iter();
        headers
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect::<HashMap<String, Value>>()
            .into()
    });
    if let Some(json) = &request.json {
        put("json", &|| json_value(json));
    }
    fields.into()
}

/// Always lists: of a name that is there twice one server takes the first, another the last.
fn query_value(query: &[(String, String)]) -> Value {
    let mut values: HashMap<String, Vec<Value>> = HashMap::new();
    for (name, value) in query {
        let list = values.entry(name.clone()).or_default();
        list.push(value.as_str().into());
    }
    let lists = values.into_iter();
    lists
        .map(|(name, values)| (name, Value::from(values)))
        .collect::<HashMap<String, Value>>()
        .into()
}

pub(super) fn api_request_value(request: &ApiRequest, needs: Needs) -> Value {
    let mut fields: HashMap<String, Value> = HashMap::new();
    for (name, value) in [
        ("verb", &request.verb),
        ("group", &request.group),
        ("version", &request.version),
        ("resource", &request.resource),
        ("subresource", &request.subresource),
        ("namespace", &request.namespace),
        ("name", &request.name),
        ("path", &request.path),
        ("patch", &request.patch),
    ] {
        if needs.has_api_request(name) {
            fields.insert(name.to_owned(), value.as_str().into());
        }
    }
    if needs.has_api_request("query") {
        fields.insert("query".to_owned(), query_value(&request.query));
    }
    if needs.has_api_request("command") {
        let words = request.command.iter();
        let words: Vec<Value> = words.map(|word| word.as_str().into()).collect();
        fields.insert("command".to_owned(), words.into());
    }
    fields.into()
}

/// The command's first keyword in upper case, past white space and comments; empty if there is
/// none. A convenience for conditions: what a command does is in `effects`.
fn verb(command: &str) -> String {
    let mut rest = command;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(' || c == ';');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = past_block_comment(comment);
        } else {
            break;
        }
    }
    rest.chars()
        .take_while(char::is_ascii_alphabetic)
        .take(32)
        .collect::<String>()
        .to_ascii_uppercase()
}

/// Block comments nest in PostgreSQL (SQL Syntax, Comments). One pass, however they nest.
fn past_block_comment(rest: &str) -> &str {
    let mut depth = 1_u32;
    let mut skip = false;
    for (at, pair) in rest.as_bytes().windows(2).enumerate() {
        if std::mem::take(&mut skip) {
            continue;
        }
        match pair {
            b"/*" => depth = depth.saturating_add(1),
            b"*/" => depth = depth.saturating_sub(1),
            _ => continue,
        }
        skip = true;
        if depth == 0 {
            return rest.get(at.saturating_add(2)..).unwrap_or_default();
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::verb;

    #[test]
    fn verb_is_the_first_keyword_past_comments() {
        assert_eq!(verb("select 1"), "SELECT");
        assert_eq!(verb(" ; ((values (1)))"), "VALUES");
        assert_eq!(verb("-- DROP\n/* a /* b */ DELETE */ UPDATE x"), "UPDATE");
        assert_eq!(verb("/*/ DROP */ insert"), "INSERT");
        assert_eq!(verb("/* open"), "");
        assert_eq!(verb("-- only"), "");
        assert_eq!(verb(""), "");
    }
}
