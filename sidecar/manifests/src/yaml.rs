//! YAML documents that remember where each value stands.
//!
//! Typed deserialization stops at the first mistake and keeps no places. So a document is read
//! into [`Node`]s, checked as plain data, and every field path can be turned back into a line.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};
use zeroize::Zeroizing;

use super::Position;

/// One value of a document.
pub(super) struct Node {
    pub position: Position,
    pub value: NodeValue,
}

pub(super) enum NodeValue {
    Null,
    Bool(bool),
    Number(Number),
    /// May belong to a Secret.
    Text(Zeroizing<String>),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// One key of a mapping. Keys may repeat: see [`Node::repeated_keys`].
pub(super) struct Entry {
    pub key: String,
    pub position: Position,
    pub value: Node,
}

/// Why a document cannot be read.
pub(super) struct SyntaxError {
    pub position: Position,
    pub message: String,
}

/// How deep values may nest. The resources need half; the reader recurses, and each level costs
/// tens of KiB of stack in a debug build.
const MAX_DEPTH: usize = 24;

/// Values in one document. A file of 1 MiB cannot hold a useful policy of more.
const MAX_NODES: usize = 65_536;

/// Reads every document of a text, going on at the next document where that is possible.
pub(super) fn documents(text: &str) -> Vec<Result<Node, SyntaxError>> {
    let options = serde_saphyr::options! {
        // Found by repeated_keys, all of them and without hiding the rest of the document.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        // A snippet would copy lines of a Secret into the error.
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            // An alias counts as often as it is used.
            max_nodes: MAX_NODES,
            max_documents: 256,
        },
    };
    let mut bytes = text.as_bytes();
    serde_saphyr::read_with_options::<_, Node>(&mut bytes, options)
        .map(|document| document.map_err(|error| SyntaxError::new(&error)))
        .collect()
}

impl SyntaxError {
    fn new(error: &serde_saphyr::Error) -> Self {
        let position = error.location().map(Position::from).unwrap_or_default();
        let text = error.to_string();
        // The position is said once, by the Problem.
        let end = [" at line ", ": line ", " (defined at "]
            .iter()
            .filter_map(|mark| text.find(mark))
            .min()
            .unwrap_or(text.len());
        let message = text.get(..end).unwrap_or_default().to_owned();
        SyntaxError { position, message }
    }
}

impl From<Location> for Position {
    fn from(location: Location) -> Self {
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Position {
            line: narrow(location.line()),
            column: narrow(location.column()),
        }
    }
}

impl Node {
    /// A mapping's entry.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            NodeValue::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// A mapping's entry, if it is text.
    pub(super) fn get_text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(|entry| entry.value.as_text())
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.value {
            NodeValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The same as plain data. Of keys that repeat the last one counts.
    pub(super) fn to_json(&self) -> Value {
        match &self.value {
            NodeValue::Null => Value::Null,
            NodeValue::Bool(value) => Value::Bool(*value),
            NodeValue::Number(number) => Value::Number(number.clone()),
            NodeValue::Text(text) => Value::String(text.to_string()),
            NodeValue::Sequence(items) => items.iter().map(Node::to_json).collect(),
            NodeValue::Mapping(entries) => {
                let fields = entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.to_json()));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }

    /// Where a path such as `spec.rules[2].sql` or `metadata.annotations[a/b]` leads. Of a field
    /// that is its key. Where the path leads nowhere, it is the last place it did lead to.
    pub(super) fn locate(&self, path: &str) -> Position {
        let (mut node, mut position) = (self, self.position);
        for segment in segments(path) {
            match (&node.value, segment.parse::<usize>()) {
                (NodeValue::Sequence(items), Ok(index)) => match items.get(index) {
                    Some(item) => (node, position) = (item, item.position),
                    None => break,
                },
                _ => match node.get(segment) {
                    Some(entry) => (node, position) = (&entry.value, entry.position),
                    None => break,
                },
            }
        }
        position
    }

    /// Paths and places of keys that stand in a mapping already.
    pub(super) fn repeated_keys(&self) -> Vec<(String, Position)> {
        let mut found = Vec::new();
        self.collect_repeated("", &mut found);
        found
    }

    fn collect_repeated(&self, path: &str, found: &mut Vec<(String, Position)>) {
        match &self.value {
            NodeValue::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.collect_repeated(&format!("{path}[{index}]"), found);
                }
            }
            NodeValue::Mapping(entries) => {
                let mut seen = std::collections::BTreeSet::new();
                for entry in entries {
                    let inner = match path {
                        "" => entry.key.clone(),
                        _ => format!("{path}.{}", entry.key),
                    };
                    if !seen.insert(entry.key.as_str()) {
                        found.push((inner.clone(), entry.position));
                    }
                    entry.value.collect_repeated(&inner, found);
                }
            }
            _ => {}
        }
    }
}

/// Never the values: a document may be a Secret.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({}:{})", self.position.line, self.position.column)
    }
}

/// The steps of a path: fields between dots, and indexes or odd keys in brackets.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches('.');
        if rest.is_empty() {
            return None;
        }
        let (segment, after) = match rest.strip_prefix('[') {
            Some(inside) => inside.split_once(']').unwrap_or((inside, "")),
            None => rest.split_at_checked(rest.find(['.', '[']).unwrap_or(rest.len()))?,
        };
        rest = after;
        Some(segment)
    })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<NodeValue>::deserialize(deserializer)?;
        Ok(Node {
            position: spanned.referenced.into(),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for NodeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = NodeValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<NodeValue, E> {
        Ok(NodeValue::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<NodeValue, E> {
        Ok(NodeValue::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<NodeValue, E> {
        Ok(NodeValue::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<NodeValue, E> {
        Ok(NodeValue::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<NodeValue, E> {
        Ok(NodeValue::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<NodeValue, E> {
        let number = Number::from_f64(value);
        number
            .map(NodeValue::Number)
            .ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<NodeValue, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<NodeValue, E> {
        Ok(NodeValue::Text(Zeroizing::new(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<NodeValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(NodeValue::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<NodeValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let position = key.referenced.into();
            entries.push(Entry {
                key: key.value,
                position,
                value: access.next_value()?,
            });
        }
        Ok(NodeValue::Mapping(entries))
    }
}
