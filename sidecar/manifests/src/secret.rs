//! Secrets and ConfigMaps: their values, which no message ever repeats.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Position;
use super::yaml::{Entry, Node, NodeValue};

/// A Secret's value: wiped when dropped, and opaque to `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes a value.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The value. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The value as text, if it is UTF-8.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes")
    }
}

/// A field, its place, and what is wrong with it; never its value.
pub(super) type Fault = (String, Position, String);

/// The values of a v1 Secret: `data` is base64, `stringData` is not and wins.
pub(super) fn secret(document: &Node, faults: &mut Vec<Fault>) -> BTreeMap<String, SecretBytes> {
    let mut values = BTreeMap::new();
    for (path, entry, text) in texts(document, "data", faults) {
        let compact: Zeroizing<String> =
            Zeroizing::new(text.chars().filter(|c| !c.is_ascii_whitespace()).collect());
        match STANDARD.decode(compact.as_bytes()) {
            Ok(bytes) => {
                values.insert(entry.key.clone(), SecretBytes::new(bytes));
            }
            Err(_) => {
                let message = "must be base64; write plain text under stringData".to_owned();
                faults.push((path, entry.position, message));
            }
        }
    }
    for (_, entry, text) in texts(document, "stringData", faults) {
        values.insert(
            entry.key.clone(),
            SecretBytes::new(text.as_bytes().to_vec()),
        );
    }
    let known = [
        "apiVersion",
        "kind",
        "metadata",
        "type",
        "immutable",
        "data",
        "stringData",
    ];
    unknown_fields(document, &known, faults);
    values
}

/// The texts of a v1 ConfigMap.
pub(super) fn config_map(document: &Node, faults: &mut Vec<Fault>) -> BTreeMap<String, String> {
    let texts = texts(document, "data", faults);
    let values = texts
        .into_iter()
        .map(|(_, entry, text)| (entry.key.clone(), text.to_owned()));
    let values = values.collect();
    let known = [
        "apiVersion",
        "kind",
        "metadata",
        "immutable",
        "data",
        "binaryData",
    ];
    unknown_fields(document, &known, faults);
    values
}

/// The entries of a mapping from key to text, with their paths.
fn texts<'n>(
    document: &'n Node,
    field: &str,
    faults: &mut Vec<Fault>,
) -> Vec<(String, &'n Entry, &'n str)> {
    let Some(outer) = document.get(field) else {
        return Vec::new();
    };
    let entries = match &outer.value.value {
        NodeValue::Mapping(entries) => entries.as_slice(),
        NodeValue::Null => &[],
        _ => {
            faults.push((
                field.to_owned(),
                outer.position,
                "must be a mapping".to_owned(),
            ));
            &[]
        }
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = format!("{field}[{}]", entry.key);
        match entry.value.as_text() {
            Some(text) => found.push((path, entry, text)),
            None => {
                let message = "must be a text; put it in quotes".to_owned();
                faults.push((path, entry.position, message));
            }
        }
    }
    found
}

fn unknown_fields(document: &Node, known: &[&str], faults: &mut Vec<Fault>) {
    let NodeValue::Mapping(entries) = &document.value else {
        return;
    };
    for entry in entries {
        if !known.contains(&entry.key.as_str()) {
            let message = format!("unknown field; allowed here: {}", known.join(", "));
            faults.push((entry.key.clone(), entry.position, message));
        }
    }
}
