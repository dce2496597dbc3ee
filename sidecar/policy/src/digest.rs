//! Digests of resources and of what they add up to.

use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};
use serde::Serialize;
use serde_json::Value;

/// Hex SHA-256 of texts, each preceded by its length so that no two lists collide.
pub(crate) fn of_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut context = Context::new(&SHA256);
    for text in texts {
        context.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(text.as_bytes());
    }
    hex::encode(context.finish())
}

/// Hex SHA-256 of the canonical form of a spec: JSON without white space, keys sorted.
pub(crate) fn of_spec(spec: &impl Serialize) -> String {
    let text = match serde_json::to_value(spec) {
        Ok(value) => {
            let mut text = String::new();
            write_canonical(&value, &mut text);
            text
        }
        // Not reached with the spec types; a digest that matches nothing is the safe answer.
        Err(error) => format!("unserialisable: {error}"),
    };
    of_texts([text.as_str()])
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (position, (key, value)) in entries.into_iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                let _ = write!(out, "{}:", Value::from(key.as_str()));
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => {
            let _ = write!(out, "{scalar}");
        }
    }
}
