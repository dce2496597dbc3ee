//! One digest for what was injected.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

/// The first 32 hex digits of SHA-256 over the values as JSON.
pub(crate) fn of(values: &[&Value]) -> String {
    let mut text = String::new();
    for value in values {
        text.push_str(&value.to_string());
        text.push('\n');
    }
    let mut hex = hex::encode(digest(&SHA256, text.as_bytes()));
    hex.truncate(32);
    hex
}
