//! An issuer's keys, by OpenID Connect Discovery 1.0, section 4: its configuration, then the key
//! set that this names. Redirects are not followed, and nothing but https is spoken.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chaperone_crds::IdentityProviderSpec;
use chaperone_policy::Reason;
use chaperone_wire::{
    AllowSpecial, ConnectError, Resolver, TlsClient, TlsError, TlsMode, TlsSettings,
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{ACCEPT, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::{KeySet, KeysError, MAX_JWKS};

/// For both documents together.
const DEADLINE: Duration = Duration::from_secs(10);
/// The path below the issuer (OpenID Connect Discovery 1.0, section 4).
const CONFIGURATION: &str = "/.well-known/openid-configuration";
/// https (RFC 9110, section 4.2.2).
const HTTPS: u16 = 443;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No `https://host[:port]/path`.
    #[error("{url} is no https address")]
    NotHttps {
        /// What was to be fetched.
        url: String,
    },
    /// No connection.
    #[error("{url} cannot be reached: {source}")]
    Connect {
        /// What was to be fetched.
        url: String,
        /// Why.
        source: ConnectError,
    },
    /// TLS failed, or the provider's CA is none.
    #[error("{url}: {source}")]
    Tls {
        /// What was to be fetched.
        url: String,
        /// Why.
        source: TlsError,
    },
    /// An answer that is not the document, or none.
    #[error("{url} gave no usable answer: {why}")]
    Answer {
        /// What was to be fetched.
        url: String,
        /// Why not.
        why: String,
    },
    /// The configuration is another issuer's (OpenID Connect Discovery 1.0, section 4.3).
    #[error("{url} is the configuration of another issuer than spec.issuer")]
    AnotherIssuer {
        /// What was fetched.
        url: String,
    },
    /// The key set is none.
    #[error("{url}: {source}")]
    Keys {
        /// What was fetched.
        url: String,
        /// Why.
        source: KeysError,
    },
}

impl FetchError {
    /// The constant for this failure.
    pub fn reason(&self) -> Reason {
        match self {
            FetchError::Connect { source, .. } => source.reason(),
            FetchError::Tls { source, .. } => source.reason(),
            FetchError::NotHttps { .. }
            | FetchError::Answer { .. }
            | FetchError::AnotherIssuer { .. }
            | FetchError::Keys { .. } => Reason::TargetProtocol,
        }
    }
}

/// Fetches keys. Clones share the resolver.
#[derive(Debug, Clone)]
pub struct Fetcher {
    resolver: Arc<Resolver>,
    allow: AllowSpecial,
}

impl Fetcher {
    /// Which special addresses an issuer may have is as for targets.
    pub fn new(allow: AllowSpecial) -> Fetcher {
        Fetcher {
            resolver: Arc::new(Resolver::new()),
            allow,
        }
    }

    /// The text of the issuer's key set, which [`KeySet::parse`] takes.
    ///
    /// # Errors
    /// [`FetchError`], after 10 seconds at most.
    pub async fn keys(&self, spec: &IdentityProviderSpec) -> Result<String, FetchError> {
        let deadline = Instant::now() + DEADLINE;
        let url = configuration_of(&spec.issuer);
        let tls = tls_of(spec).map_err(|source| FetchError::Tls {
            url: url.clone(),
            source,
        })?;
        let text = self.get(&tls, &url, deadline).await?;
        let keys = key_set_of(&spec.issuer, &url, &text)?;
        let text = self.get(&tls, &keys, deadline).await?;
        match KeySet::parse(&text) {
            Ok(_) => Ok(text),
            Err(source) => Err(FetchError::Keys { url: keys, source }),
        }
    }

    async fn get(
        &self,
        tls: &TlsClient,
        url: &str,
        deadline: Instant,
    ) -> Result<String, FetchError> {
        let answer = |why: String| FetchError::Answer {
            url: url.to_owned(),
            why,
        };
        match timeout_at(deadline, self.answer(tls, url, deadline)).await {
            Ok(text) => text,
            Err(_) => Err(answer("it took too long".to_owned())),
        }
    }

    async fn answer(
        &self,
        tls: &TlsClient,
        url: &str,
        deadline: Instant,
    ) -> Result<String, FetchError> {
        let not_https = || FetchError::NotHttps {
            url: url.to_owned(),
        };
        let answer = |why: String| FetchError::Answer {
            url: url.to_owned(),
            why,
        };
        let uri: Uri = url.parse().map_err(|_| not_https())?;
        let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(not_https());
        };
        let (host, port) = (authority.host(), authority.port_u16().unwrap_or(HTTPS));
        // An IPv6 address has brackets in a URL and none where it is dialled.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let tcp = chaperone_wire::connect(&self.resolver, bare, port, self.allow, deadline)
            .await
            .map_err(|source| FetchError::Connect {
                url: url.to_owned(),
                source,
            })?;
        let stream =
            tls.handshake(tcp, bare, deadline)
                .await
                .map_err(|source| FetchError::Tls {
                    url: url.to_owned(),
                    source,
                })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| answer(error.to_string()))?;
        let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, authority.as_str())
            .header(ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(|error| answer(error.to_string()))?;
        let exchange = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| answer(error.to_string()))?;
            if response.status() != StatusCode::OK {
                return Err(answer(format!("HTTP status {}", response.status())));
            }
            let body = Limited::new(response.into_body(), MAX_JWKS);
            let body = body
                .collect()
                .await
                .map_err(|error| answer(error.to_string()))?;
            String::from_utf8(body.to_bytes().to_vec())
                .map_err(|_| answer("it is not text".to_owned()))
        };
        // The connection lives for this one exchange and ends with it.
        tokio::select! {
            text = exchange => text,
            Err(error) = connection => Err(answer(error.to_string())),
        }
    }
}

/// How a provider's documents are fetched.
pub(crate) fn tls_of(spec: &IdentityProviderSpec) -> Result<TlsClient, TlsError> {
    let tls = TlsClient::new(&TlsSettings {
        mode: TlsMode::VerifyFull,
        ca_pem: spec.jwks.ca.as_ref().map(|pem| pem.clone().into_bytes()),
        identity: None,
    })?;
    Ok(tls.speaking(&[b"http/1.1"]))
}

/// Where an issuer's configuration is.
pub fn configuration_of(issuer: &str) -> String {
    format!("{}{CONFIGURATION}", issuer.trim_end_matches('/'))
}

/// Where a configuration says that the keys are.
fn key_set_of(issuer: &str, url: &str, text: &str) -> Result<String, FetchError> {
    let answer = |why: &str| FetchError::Answer {
        url: url.to_owned(),
        why: why.to_owned(),
    };
    let value: Value = serde_json::from_str(text).map_err(|_| answer("it is not JSON"))?;
    // Else whoever serves a path of a shared host could speak for another tenant of it.
    if value.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err(FetchError::AnotherIssuer {
            url: url.to_owned(),
        });
    }
    match value.get("jwks_uri").and_then(Value::as_str) {
        Some(keys) => Ok(keys.to_owned()),
        None => Err(answer("it names no jwks_uri")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_configuration_of_another_issuer_names_no_keys() {
        let ours = r#"{"issuer":"https://a.example/t1","jwks_uri":"https://k.example/keys"}"#;
        let keys = |issuer, text| key_set_of(issuer, "url", text);
        assert_eq!(
            keys("https://a.example/t1", ours).unwrap(),
            "https://k.example/keys"
        );
        for issuer in [
            "https://a.example",
            "https://a.example/t1/",
            "https://a.example/t2",
        ] {
            assert!(matches!(
                keys(issuer, ours),
                Err(FetchError::AnotherIssuer { .. })
            ));
        }
        for junk in ["", "[]", "{}", r#"{"issuer":1}"#] {
            assert!(keys("https://a.example", junk).is_err(), "{junk}");
        }
    }
}
