//! IdentityProviders, ready to verify.

use aws_lc_rs::digest::{SHA256, digest};
use chaperone_crds::{self as crds, ClaimMapping, IdentityProviderSpec};
use jsonwebtoken::Algorithm;

use crate::KeySet;

/// An IdentityProvider and the keys that were found for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// `metadata.name`.
    pub name: String,
    /// What it says.
    pub spec: IdentityProviderSpec,
    /// The key set that was fetched, as text; `None` while there is none. Inline keys are in the
    /// spec.
    pub fetched: Option<String>,
}

/// One IdentityProvider.
#[derive(Debug, Clone)]
pub struct Provider {
    pub(crate) name: String,
    pub(crate) issuer: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) username: ClaimMapping,
    pub(crate) groups: Option<ClaimMapping>,
    pub(crate) algorithms: Vec<Algorithm>,
    /// Or a sentence that says why there are none.
    pub(crate) keys: Result<KeySet, String>,
    /// Whether its keys can be asked for again.
    pub(crate) discovers: bool,
    /// Of the spec: a token is trusted for as long as this stays.
    pub(crate) digest: [u8; 32],
}

/// All IdentityProviders that are known.
#[derive(Debug, Clone, Default)]
pub struct Providers {
    all: Vec<Provider>,
}

impl Provider {
    /// Never fails: without keys every token is refused, and says why.
    pub fn new(source: &Source) -> Provider {
        let Source {
            name,
            spec,
            fetched,
        } = source;
        let IdentityProviderSpec {
            issuer,
            audiences,
            jwks,
            username,
            groups,
            algorithms,
        } = spec;
        let text = jwks.inline.as_ref().or(fetched.as_ref());
        let keys = match text {
            Some(text) => KeySet::parse(text).map_err(|error| error.to_string()),
            None => Err("its keys have not been fetched yet".to_owned()),
        };
        let spec = serde_json::to_vec(spec).unwrap_or_default();
        let mut of_spec = [0; 32];
        of_spec.copy_from_slice(digest(&SHA256, &spec).as_ref());
        Provider {
            name: name.clone(),
            issuer: issuer.clone(),
            audiences: audiences.clone(),
            username: username.clone(),
            groups: groups.clone(),
            algorithms: algorithms.iter().copied().map(algorithm).collect(),
            keys,
            discovers: jwks.discovery,
            digest: of_spec,
        }
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `iss` of its tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
}

impl Providers {
    /// All of these.
    pub fn new<'a>(sources: impl IntoIterator<Item = &'a Source>) -> Providers {
        Providers {
            all: sources.into_iter().map(Provider::new).collect(),
        }
    }

    /// Those with these names, in the order of their names in the list.
    pub fn named<'a>(&'a self, names: &[&str]) -> Vec<&'a Provider> {
        names
            .iter()
            .filter_map(|name| self.all.iter().find(|provider| provider.name == *name))
            .collect()
    }

    /// Whether keys of the provider of this name can be asked for again.
    pub fn discovers(&self, name: &str) -> bool {
        self.named(&[name])
            .iter()
            .any(|provider| provider.discovers)
    }

    /// Whether the provider of this name is still the one with this digest.
    pub(crate) fn holds(&self, name: &str, digest: &[u8; 32]) -> bool {
        self.all
            .iter()
            .any(|provider| provider.name == name && provider.digest == *digest)
    }
}

/// What is wrong with a provider besides its schema: fields and sentences.
pub fn problems(spec: &IdentityProviderSpec) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    if let Some(text) = &spec.jwks.inline
        && let Err(error) = KeySet::parse(text)
    {
        problems.push(("spec.jwks.inline", error.to_string()));
    }
    if spec.jwks.ca.is_some()
        && let Err(error) = crate::fetch::tls_of(spec)
    {
        problems.push(("spec.jwks.ca", error.to_string()));
    }
    problems
}

/// The CRD lists asymmetric algorithms only: there is no way to write `none` or `HS256`.
fn algorithm(named: crds::Algorithm) -> Algorithm {
    match named {
        crds::Algorithm::Rs256 => Algorithm::RS256,
        crds::Algorithm::Rs384 => Algorithm::RS384,
        crds::Algorithm::Rs512 => Algorithm::RS512,
        crds::Algorithm::Ps256 => Algorithm::PS256,
        crds::Algorithm::Ps384 => Algorithm::PS384,
        crds::Algorithm::Ps512 => Algorithm::PS512,
        crds::Algorithm::Es256 => Algorithm::ES256,
        crds::Algorithm::Es384 => Algorithm::ES384,
        crds::Algorithm::EdDsa => Algorithm::EdDSA,
    }
}
