//! Whose token a session must begin with, and the check of the one that was presented.

use std::sync::Arc;
use std::time::Duration;

use chaperone_identity::{TokenError, Verified};
use chaperone_policy::{Reason, Subject};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::{Denial, Enforcement, Snapshot};

/// Longest that a session waits for keys which its token needs.
const KEYS: Duration = Duration::from_secs(8);

/// Where keys of a provider are asked for by its name. Asking never waits, and where there is
/// nobody to ask it does nothing.
#[derive(Debug, Clone, Default)]
pub struct KeyRequests(Option<mpsc::Sender<String>>);

impl KeyRequests {
    /// Requests, and who is to see to them.
    pub fn new() -> (KeyRequests, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel(16);
        (KeyRequests(Some(sender)), receiver)
    }

    fn ask(&self, provider: &str) {
        if let Some(sender) = &self.0 {
            // Full: as many are asked for already, and whoever sees to them is slow for a reason.
            let _ = sender.try_send(provider.to_owned());
        }
    }
}

/// A session that has to begin with a token.
#[derive(Debug)]
pub struct Accepting {
    names: Vec<String>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    requests: KeyRequests,
}

impl Enforcement {
    /// What a session of this workload has to begin with; `None` where no policy selects it by
    /// identity, and nothing is asked for.
    pub fn accepting(&self, workload: &Subject) -> Option<Accepting> {
        let mut snapshot = self.snapshot.clone();
        let current = Arc::clone(&snapshot.borrow_and_update());
        let names = current.policies.identity_providers(workload);
        if names.is_empty() {
            return None;
        }
        Some(Accepting {
            names: names.into_iter().map(str::to_owned).collect(),
            snapshot,
            requests: self.key_requests.clone(),
        })
    }
}

impl Accepting {
    /// The issuer whose tokens are accepted first of all, if its provider is there: what a client
    /// without a token is told (RFC 7628, section 3.2.2).
    pub fn issuer(&self) -> Option<String> {
        let current = self.snapshot.borrow();
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let first = current.providers.named(&names);
        first.first().map(|provider| provider.issuer().to_owned())
    }

    /// Checks a token. One of a key that is not known waits a little for the issuer's newest.
    ///
    /// # Errors
    /// `TokenRequired` for an empty one, else `TokenRefused`, with a sentence that says why and
    /// holds nothing of the token.
    pub async fn verify(mut self, token: &str) -> Result<Verified, Denial> {
        if token.is_empty() {
            let denial = Denial::new(Reason::TokenRequired, "no token was presented");
            return Err(denial.with_hint(TOKEN_HINT));
        }
        let deadline = Instant::now() + KEYS;
        let mut asked = false;
        loop {
            let current = Arc::clone(&self.snapshot.borrow_and_update());
            let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
            let error = match current.providers.verify(&names, token, Timestamp::now()) {
                Ok(verified) => return Ok(verified),
                Err(error) => error,
            };
            let provider = error.wants_keys_of();
            let Some(provider) = provider.filter(|name| current.providers.discovers(name)) else {
                return Err(refused(&error));
            };
            if !asked {
                self.requests.ask(provider);
                asked = true;
            }
            match timeout_at(deadline, self.snapshot.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(refused(&error)),
            }
        }
    }
}

/// What to do.
pub(crate) const TOKEN_HINT: &str =
    "give a token of an IdentityProvider that a policy names here as the password";

fn refused(error: &TokenError) -> Denial {
    Denial::new(Reason::TokenRefused, error.to_string()).with_hint(TOKEN_HINT)
}
