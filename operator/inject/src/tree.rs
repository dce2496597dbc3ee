//! Careful steps through an object's JSON.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::Refusal;

/// A typed struct as JSON.
pub(crate) fn json(item: &impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(item).map_err(|error| Refusal::Malformed(error.to_string()))
}

/// The mapping under `key`, made if absent.
pub(crate) fn object<'a>(
    parent: &'a mut Map<String, Value>,
    key: &str,
) -> Result<&'a mut Map<String, Value>, Refusal> {
    let slot = parent.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut()
        .ok_or_else(|| Refusal::Malformed(format!("{key} is not a mapping")))
}

/// The list under `key`, made if absent.
pub(crate) fn list<'a>(
    parent: &'a mut Map<String, Value>,
    key: &str,
) -> Result<&'a mut Vec<Value>, Refusal> {
    let slot = parent.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut()
        .ok_or_else(|| Refusal::Malformed(format!("{key} is not a list")))
}

/// The items under `key`; none if absent.
pub(crate) fn items<'a>(parent: &'a Value, key: &str) -> &'a [Value] {
    parent
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Text under `key`; empty if absent.
pub(crate) fn text<'a>(parent: &'a Value, key: &str) -> &'a str {
    parent.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Puts an item where one with the same text under `key` is, or at the end.
pub(crate) fn put(items: &mut Vec<Value>, key: &str, item: Value) {
    let same = items
        .iter_mut()
        .find(|old| text(old, key) == text(&item, key));
    match same {
        Some(old) => *old = item,
        None => items.push(item),
    }
}

/// Whether any text in the value is this one.
pub(crate) fn mentions(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Array(items) => items.iter().any(|item| mentions(item, wanted)),
        Value::Object(fields) => fields.values().any(|field| mentions(field, wanted)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
