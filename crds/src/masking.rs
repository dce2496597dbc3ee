//! Masking: what of a result an agent gets to see changed, and how.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::string_enum::string_enum;

/// Hides the values of some columns or of some places in JSON, or whatever some detectors find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.columns), has(self.jsonPaths), has(self.detectors)].exists_one(m, m)")
    .message("name exactly one of columns, jsonPaths, detectors"))]
#[x_kube(validation = Rule::new("has(self.partial) == (self.strategy == 'Partial')")
    .message("partial belongs to strategy Partial, and that strategy needs it"))]
pub struct Masking {
    /// Name, unique among the masking entries of this resource.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::NAME_PATTERN))]
    pub name: String,
    /// Columns as `schema.relation.column`; `*` stands for any text inside a part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 5, max = 200)))]
    pub columns: Vec<String>,
    /// Values in JSON, as `$.customer.email`, `$.orders[*].card`, or `$..email` at any depth.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 3, max = 200)))]
    pub json_paths: Vec<String>,
    /// Detectors that look at the text of every value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub detectors: Vec<Detector>,
    /// What takes a value's place.
    pub strategy: Strategy,
    /// How much of a value strategy Partial keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<Partial>,
    /// How a statement may compare by these columns.
    #[serde(default)]
    pub predicates: Predicates,
    /// What takes the place of a value whose type has no room for a mark.
    #[serde(default)]
    pub typed: Typed,
}

/// How much of a value stays readable, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Partial {
    /// Characters kept at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", range(min = 0, max = 64))]
    pub keep_first: Option<u16>,
    /// Characters kept at the end.
    #[schemars(with = "i64", range(min = 0, max = 64))]
    pub keep_last: u16,
}

string_enum! {
    /// What takes a value's place.
    pub enum Strategy {
        /// `[masked]`.
        Redact = "Redact",
        /// Stars, and a few characters of the value.
        Partial = "Partial",
        /// A keyed digest: equal values stay equal.
        Hash = "Hash",
        /// NULL. Quote it in YAML: "Null".
        Null = "Null",
    }
}

string_enum! {
    /// How a statement may compare by a masked column.
    #[default = Equality]
    pub enum Predicates {
        /// Equality with few constants, which is counted.
        Equality = "Equality",
        /// Any comparison, from which values can be inferred.
        Allow = "Allow",
    }
}

string_enum! {
    /// What takes the place of a value whose type has no room for a mark, such as an integer or a date.
    #[default = Null]
    pub enum Typed {
        /// NULL. Quote it in YAML: "Null".
        Null = "Null",
        /// The type's zero, for drivers that scan into a plain value.
        Zero = "Zero",
    }
}

string_enum! {
    /// Finds one kind of sensitive value in text; each has a validator.
    pub enum Detector {
        /// Payment card numbers that pass Luhn.
        PaymentCard = "PaymentCard",
        /// International bank account numbers that pass mod 97.
        Iban = "Iban",
        /// E-mail addresses.
        EmailAddress = "EmailAddress",
        /// Phone numbers: `+` and an assigned country code; `(030) 1234567`; `212-555-0123`.
        PhoneNumber = "PhoneNumber",
        /// United States social security numbers in assigned ranges.
        UsSsn = "UsSsn",
        /// Signed or encrypted JSON Web Tokens.
        JsonWebToken = "JsonWebToken",
        /// Private keys in PEM, whatever their kind, over several lines or one.
        PrivateKey = "PrivateKey",
        /// AWS access key ids, and secret keys that stand beside one.
        AwsAccessKey = "AwsAccessKey",
    }
}
