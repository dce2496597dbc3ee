//! From a token to an identity, or the reason why not.

use chaperone_crds::ClaimMapping;
use chaperone_evidence::DelegateRecord;
use chaperone_policy::Delegate;
use jiff::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation, dangerous, decode, decode_header};
use serde_json::{Map, Value};

use crate::provider::{Provider, Providers};

/// Longest token, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;
/// By how much the issuer's clock and ours may differ (RFC 7519, section 4.1.4: "no more than a
/// few minutes").
pub const SKEW_SECONDS: i64 = 30;
/// Longest user name; what an ApprovalRequest holds.
const MAX_USERNAME: usize = 512;
/// Most groups of one token.
const MAX_GROUPS: usize = 1024;

/// A token that holds. It has no other constructor than [`Providers::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    delegate: Delegate,
    expires: Timestamp,
    record: String,
    digest: [u8; 32],
}

/// Why a token is refused. No variant holds any of the token's text but names of claims.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than any that is taken.
    #[error("the token has {0} bytes; at most {MAX_TOKEN} are taken")]
    TooLong(usize),
    /// Not three parts of base64url with JSON in them (RFC 7515, section 3.1).
    #[error("what was presented is not a JSON Web Token")]
    Malformed,
    /// `none`, a symmetric algorithm, or one that the provider does not list.
    #[error("the token's algorithm is not among those of IdentityProvider {provider}")]
    Algorithm {
        /// The provider.
        provider: String,
    },
    /// It asks for an extension that is not understood (RFC 7515, section 4.1.11).
    #[error("the token needs an extension (`crit`) that is not understood here")]
    Critical,
    /// Its `iss` is no provider's that a policy of this connection names.
    #[error("no IdentityProvider that a policy names here has the token's issuer")]
    UnknownIssuer,
    /// The provider has no keys.
    #[error("tokens of IdentityProvider {provider} cannot be checked: {why}")]
    NoKeys {
        /// The provider.
        provider: String,
        /// Why there are none.
        why: String,
    },
    /// No key with its `kid`, or none for its algorithm.
    #[error("IdentityProvider {provider} has no key with the token's key id and algorithm")]
    UnknownKey {
        /// The provider.
        provider: String,
    },
    /// The signature is not by the key.
    #[error("the token's signature is not by a key of IdentityProvider {provider}")]
    Signature {
        /// The provider.
        provider: String,
    },
    /// For somebody else.
    #[error("the token is for none of the audiences of IdentityProvider {provider}")]
    Audience {
        /// The provider.
        provider: String,
    },
    /// A claim that must be there is not, or is not what it must be.
    #[error("the token's claim `{claim}` is missing or not {wanted}")]
    Claim {
        /// Which.
        claim: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is in the future.
    #[error("the token is not valid yet")]
    NotYet,
    /// The chain of actors does not fit into a record, and is never cut.
    #[error("the token's chain of actors (`act`) is longer than a record holds")]
    ActTooLong,
}

impl TokenError {
    /// The provider to ask for newer keys, where that may help.
    pub fn wants_keys_of(&self) -> Option<&str> {
        match self {
            TokenError::UnknownKey { provider } | TokenError::NoKeys { provider, .. } => {
                Some(provider)
            }
            _ => None,
        }
    }
}

impl Verified {
    /// Who it is.
    pub fn delegate(&self) -> &Delegate {
        &self.delegate
    }

    /// When sessions that began with it end: its `exp` and the clocks' difference.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The text of its [`DelegateRecord`].
    pub fn record(&self) -> &str {
        &self.record
    }

    /// Whether its provider is still there and says the same, keys apart: those that issuers
    /// rotate verify no new tokens, and `exp` ends the sessions of old ones.
    pub fn is_trusted_by(&self, providers: &Providers) -> bool {
        providers.holds(&self.delegate.provider, &self.digest)
    }
}

impl Providers {
    /// Verifies a token of one of the providers with these names.
    ///
    /// # Errors
    /// [`TokenError`]. Where several providers have the token's issuer, the last one's.
    pub fn verify(
        &self,
        names: &[&str],
        token: &str,
        now: Timestamp,
    ) -> Result<Verified, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLong(token.len()));
        }
        let named = self.named(names);
        // Only says whose keys are tried; nothing of it is believed before they fit.
        let issuer = claimed_issuer(token)?;
        let mut error = TokenError::UnknownIssuer;
        for provider in named.iter().filter(|provider| provider.issuer == issuer) {
            match provider.verify(token, now) {
                Ok(verified) => return Ok(verified),
                Err(refused) => error = refused,
            }
        }
        Err(error)
    }
}

fn claimed_issuer(token: &str) -> Result<String, TokenError> {
    let claims: Map<String, Value> =
        dangerous::insecure_decode_claims(token).map_err(|_| TokenError::Malformed)?;
    match claims.get("iss") {
        Some(Value::String(issuer)) => Ok(issuer.clone()),
        _ => Err(TokenError::Claim {
            claim: "iss".to_owned(),
            wanted: "a text",
        }),
    }
}

impl Provider {
    fn verify(&self, token: &str, now: Timestamp) -> Result<Verified, TokenError> {
        let provider = || self.name.clone();
        let not_listed = || TokenError::Algorithm {
            provider: provider(),
        };
        // `none` and whatever else is no algorithm of RFC 7518 does not even parse.
        let header = decode_header(token).map_err(|_| not_listed())?;
        if !self.algorithms.contains(&header.alg) {
            return Err(not_listed());
        }
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let keys = self.keys.as_ref().map_err(|why| TokenError::NoKeys {
            provider: provider(),
            why: why.clone(),
        })?;
        let claims = self.claims(token, &header, keys)?;
        let expires = self.times(&claims, now)?;
        let username = self.username(&claims)?;
        let groups = self.groups(&claims)?;
        let record = DelegateRecord {
            provider: provider(),
            issuer: self.issuer.clone(),
            username: username.clone(),
            groups: groups.clone(),
            more_groups: 0,
            expires: expires.as_second(),
            token: claims
                .get("jti")
                .and_then(Value::as_str)
                .filter(|id| id.len() <= MAX_USERNAME)
                .map(str::to_owned),
            act: claims.get("act").cloned(),
        };
        Ok(Verified {
            record: record.to_text().ok_or(TokenError::ActTooLong)?,
            delegate: Delegate {
                provider: provider(),
                username,
                groups,
                claims,
            },
            expires: expires
                .checked_add(jiff::SignedDuration::from_secs(SKEW_SECONDS))
                .unwrap_or(expires),
            digest: self.digest,
        })
    }

    /// The claims of a token whose signature, issuer and audience hold.
    fn claims(
        &self,
        token: &str,
        header: &Header,
        keys: &crate::KeySet,
    ) -> Result<Map<String, Value>, TokenError> {
        let validation = self.validation(header.alg);
        let provider = || self.name.clone();
        let mut error = TokenError::UnknownKey {
            provider: provider(),
        };
        for key in keys.candidates(header.kid.as_deref(), header.alg) {
            let refused = match decode::<Map<String, Value>>(token, key, &validation) {
                Ok(data) => return Ok(data.claims),
                Err(refused) => refused,
            };
            error = match refused.into_kind() {
                ErrorKind::InvalidAudience => TokenError::Audience {
                    provider: provider(),
                },
                ErrorKind::InvalidIssuer => TokenError::UnknownIssuer,
                ErrorKind::MissingRequiredClaim(claim) => TokenError::Claim {
                    claim,
                    wanted: "what RFC 7519 says",
                },
                // Another key may fit; what else is wrong with a token is wrong with any key.
                _ => {
                    error = TokenError::Signature {
                        provider: provider(),
                    };
                    continue;
                }
            };
            break;
        }
        Err(error)
    }

    /// Times are looked at afterwards, with the clock that we are given.
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&self.audiences);
        validation
    }

    /// `exp`, which must be there and not have passed, and `nbf`, if it is there.
    fn times(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, TokenError> {
        let now = now.as_second();
        let expires = seconds(claims, "exp")?.ok_or(TokenError::Claim {
            claim: "exp".to_owned(),
            wanted: DATE,
        })?;
        if now >= expires.as_second().saturating_add(SKEW_SECONDS) {
            return Err(TokenError::Expired);
        }
        match seconds(claims, "nbf")? {
            Some(begins) if now < begins.as_second().saturating_sub(SKEW_SECONDS) => {
                Err(TokenError::NotYet)
            }
            _ => Ok(expires),
        }
    }

    fn username(&self, claims: &Map<String, Value>) -> Result<String, TokenError> {
        let ClaimMapping { claim, prefix } = &self.username;
        let wanted = |wanted| TokenError::Claim {
            claim: claim.clone(),
            wanted,
        };
        let name = match claims.get(claim) {
            Some(Value::String(name)) if !name.is_empty() => format!("{prefix}{name}"),
            _ => return Err(wanted("a text")),
        };
        if name.len() > MAX_USERNAME {
            return Err(wanted("short enough for a user name"));
        }
        // As the API server has it: an address that its issuer did not verify is anybody's.
        let verified = claims.get("email_verified");
        if claim == "email" && !matches!(verified, None | Some(Value::Bool(true))) {
            return Err(TokenError::Claim {
                claim: "email_verified".to_owned(),
                wanted: "true",
            });
        }
        Ok(name)
    }

    fn groups(&self, claims: &Map<String, Value>) -> Result<Vec<String>, TokenError> {
        let Some(ClaimMapping { claim, prefix }) = &self.groups else {
            return Ok(Vec::new());
        };
        let wanted = || TokenError::Claim {
            claim: claim.clone(),
            wanted: "a text or a list of texts",
        };
        let values = match claims.get(claim) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::String(group)) => return Ok(vec![format!("{prefix}{group}")]),
            Some(Value::Array(values)) if values.len() <= MAX_GROUPS => values,
            Some(_) => return Err(wanted()),
        };
        values
            .iter()
            .map(|value| match value {
                Value::String(group) => Ok(format!("{prefix}{group}")),
                _ => Err(wanted()),
            })
            .collect()
    }
}

const DATE: &str = "a number of seconds";

/// A NumericDate (RFC 7519, section 2); parts of a second are left out.
fn seconds(claims: &Map<String, Value>, claim: &str) -> Result<Option<Timestamp>, TokenError> {
    let wanted = || TokenError::Claim {
        claim: claim.to_owned(),
        wanted: DATE,
    };
    let number = match claims.get(claim) {
        None => return Ok(None),
        Some(Value::Number(number)) => number,
        Some(_) => return Err(wanted()),
    };
    let whole = number.as_i64().or_else(|| {
        let seconds = number.as_f64()?.floor();
        // Exact in a double, and far beyond any date.
        (0.0..9.0e15).contains(&seconds).then_some(seconds as i64)
    });
    whole
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map(Some)
        .ok_or_else(wanted)
}
