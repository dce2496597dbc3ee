//! Label selectors, as Kubernetes has them, with bounds.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::string_enum::string_enum;

/// Selects by labels; every requirement must hold. An empty selector selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that must have exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements beyond equality.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<LabelRequirement>,
}

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)")
    .message("In and NotIn need values; Exists and DoesNotExist take none"))]
pub struct LabelRequirement {
    /// The label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How its value is compared.
    pub operator: LabelOperator,
    /// What In and NotIn compare with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

string_enum! {
    /// How a label's value is compared.
    pub enum LabelOperator {
        /// The value is one of these.
        In = "In",
        /// The label is absent or its value is none of these.
        NotIn = "NotIn",
        /// The label is present.
        Exists = "Exists",
        /// The label is absent.
        DoesNotExist = "DoesNotExist",
    }
}

impl LabelSelector {
    /// Whether these labels meet every requirement.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let equal = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        self.match_labels.iter().all(equal)
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.matches(labels))
    }
}

impl LabelRequirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            LabelOperator::In => value.is_some_and(|value| self.values.contains(value)),
            LabelOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "Labels that must have exactly these values.",
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 63},
    })
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use super::*;

    fn selector(json: &str) -> LabelSelector {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_requirement_must_hold() {
        let shop = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
        let none = BTreeMap::new();
        for (json, with, without) in [
            ("{}", true, true),
            (r#"{"matchLabels":{"team":"shop"}}"#, true, false),
            (r#"{"matchLabels":{"team":"ops"}}"#, false, false),
            (
                r#"{"matchLabels":{"team":"shop","tier":"1"}}"#,
                false,
                false,
            ),
            (
                r#"{"matchExpressions":[{"key":"team","operator":"In","values":["shop"]}]}"#,
                true,
                false,
            ),
            (
                r#"{"matchExpressions":[{"key":"team","operator":"NotIn","values":["shop"]}]}"#,
                false,
                true,
            ),
            (
                r#"{"matchExpressions":[{"key":"team","operator":"Exists"}]}"#,
                true,
                false,
            ),
            (
                r#"{"matchExpressions":[{"key":"team","operator":"DoesNotExist"}]}"#,
                false,
                true,
            ),
        ] {
            assert_eq!(selector(json).matches(&shop), with, "{json} on shop");
            assert_eq!(selector(json).matches(&none), without, "{json} on nothing");
        }
    }
}
