//! IdentityProvider: whose tokens are believed, and how their claims become a user and groups.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::string_enum::string_enum;

/// Whose tokens are believed. The mapping must be the API server's own, or a delegate could
/// approve himself under another spelling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "chaperone.dev",
    version = "v1alpha1",
    kind = "IdentityProvider",
    status = "IdentityProviderStatus",
    derive = "PartialEq",
    cel,
    doc = "Whose tokens are believed, and how their claims become a user and groups.",
    category = "chaperone",
    shortname = "idp",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Issuer", type_ = "string", json_path = ".spec.issuer"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IdentityProviderSpec {
    /// The `iss` claim, exactly.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https://[^?#]+$"))]
    pub issuer: String,
    /// The `aud` claims, of which a token must have one.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub audiences: Vec<String>,
    /// Where its keys come from.
    pub jwks: Jwks,
    /// The claim that is the user name.
    pub username: ClaimMapping,
    /// The claim that lists groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<ClaimMapping>,
    /// Signature algorithms that are believed.
    #[serde(default = "default_algorithms")]
    #[schemars(length(min = 1, max = 9))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub algorithms: Vec<Algorithm>,
}

/// Where a provider's keys come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.inline) != (has(self.discovery) && self.discovery)")
    .message("name exactly one of discovery: true, inline"))]
pub struct Jwks {
    /// From the issuer's OpenID configuration.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discovery: bool,
    /// A JSON Web Key Set (RFC 7517, section 5) as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 65536))]
    pub inline: Option<String>,
    /// PEM of the CAs that certify the issuer; without it, the public ones do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub ca: Option<String>,
}

/// A claim, and what is put before its values so that two providers cannot mean one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClaimMapping {
    /// The claim.
    #[schemars(length(min = 1, max = 253))]
    pub claim: String,
    /// What is put before its values; may be empty, but must be written.
    #[schemars(length(max = 253))]
    pub prefix: String,
}

string_enum! {
    /// An asymmetric signature algorithm of RFC 7518, section 3.1, or RFC 8037.
    pub enum Algorithm {
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        Rs256 = "RS256",
        /// RSASSA-PKCS1-v1_5 with SHA-384.
        Rs384 = "RS384",
        /// RSASSA-PKCS1-v1_5 with SHA-512.
        Rs512 = "RS512",
        /// RSASSA-PSS with SHA-256.
        Ps256 = "PS256",
        /// RSASSA-PSS with SHA-384.
        Ps384 = "PS384",
        /// RSASSA-PSS with SHA-512.
        Ps512 = "PS512",
        /// ECDSA on P-256.
        Es256 = "ES256",
        /// ECDSA on P-384.
        Es384 = "ES384",
        /// Ed25519.
        EdDsa = "EdDSA",
    }
}

/// What the operator found out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IdentityProviderStatus {
    /// Accepted, Reachable, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

fn default_algorithms() -> Vec<Algorithm> {
    vec![Algorithm::Rs256, Algorithm::Es256]
}
