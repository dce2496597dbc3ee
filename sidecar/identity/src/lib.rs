//! Whose token it is: OIDC tokens (JWT, RFC 7519) checked against the keys of IdentityProviders.
//!
//! ```text
//! IdentityProvider + JWK set ─► Provider ─┐
//! token, now ──────────── Providers::verify ─► Verified {delegate, expires, record}
//! issuer ─https─► fetch ─► Keeper ─► JWK sets by name: standalone's control thread, the operator
//! ```
//!
//! What is not verified here is nobody's identity: the claims of a token are matched by policies
//! only as part of a [`Verified`], which has no other constructor.

pub mod fetch;
mod keeper;
mod keys;
mod provider;
mod verify;

pub use fetch::{FetchError, Fetcher};
pub use keeper::{Keeper, KeySets, Known, Wanted};
pub use keys::{KeySet, KeysError, MAX_JWKS};
pub use provider::{Provider, Providers, Source, problems};
pub use verify::{MAX_TOKEN, SKEW_SECONDS, TokenError, Verified};
