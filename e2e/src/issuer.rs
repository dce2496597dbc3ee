//! A small issuer of tokens: real keys, real https on loopback, and the two documents by which
//! OpenID Connect Discovery 1.0 finds keys. Tests sign with it what no real issuer would.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// Longest request that is read.
const MAX_REQUEST: usize = 8 * 1024;

/// Who this sidecar is to issuers.
pub const AUDIENCE: &str = "chaperone";

/// A running issuer. Its thread ends with the process.
pub struct Issuer {
    /// Its `iss`.
    pub url: String,
    /// PEM of the certificate that it shows.
    ca: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    url: String,
    keys: Vec<Value>,
    fetched: usize,
}

/// A key that signs.
pub struct SigningKey {
    /// Its key id.
    pub id: String,
    algorithm: Algorithm,
    key: EncodingKey,
    jwk: Value,
}

impl SigningKey {
    /// An RSA key of 2048 bits, for RS256.
    pub fn rsa(id: &str) -> Result<SigningKey> {
        let pair = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?;
        let pkcs8 = pair.serialize_der();
        // RFC 5208: version, algorithm and the head of the octet string, as long for every key of
        // 2048 bits; the key of RFC 8017 is what follows.
        let pkcs1 = pkcs8.get(26..).context("an RSA key is longer")?;
        SigningKey::new(id, Algorithm::RS256, EncodingKey::from_rsa_der(pkcs1))
    }

    /// An EC key on P-256, for ES256.
    pub fn ec(id: &str) -> Result<SigningKey> {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        SigningKey::new(id, Algorithm::ES256, key)
    }

    fn new(id: &str, algorithm: Algorithm, key: EncodingKey) -> Result<SigningKey> {
        let mut jwk = Jwk::from_encoding_key(&key, algorithm)?;
        jwk.common.key_id = Some(id.to_owned());
        Ok(SigningKey {
            id: id.to_owned(),
            algorithm,
            key,
            jwk: serde_json::to_value(jwk)?,
        })
    }

    /// The public key as its issuer publishes it.
    pub fn published(&self) -> &Value {
        &self.jwk
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.clone());
        self.sign_as(&header, claims)
    }

    /// The same with a header of the test's own.
    pub fn sign_as(&self, header: &Header, claims: &Value) -> Result<String> {
        Ok(encode(header, claims, &self.key)?)
    }
}

impl Issuer {
    /// Starts one that publishes these keys.
    pub fn start(keys: &[&SigningKey]) -> Result<Issuer> {
        let pair = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?
            .self_signed(&pair)
            .context("a certificate for 127.0.0.1")?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let url = format!("https://{}", listener.local_addr()?);
        let state = Arc::new(Mutex::new(State {
            url: url.clone(),
            ..State::default()
        }));
        let issuer = Issuer {
            url,
            ca: certificate.pem(),
            state: Arc::clone(&state),
        };
        issuer.publish(keys);
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that breaks off is not the next one's trouble.
                let _ = answer(stream, &config, &state);
            }
        });
        Ok(issuer)
    }

    /// From now on it has these keys and no others.
    pub fn publish(&self, keys: &[&SigningKey]) {
        lock(&self.state).keys = keys.iter().map(|key| key.jwk.clone()).collect();
    }

    /// How often its keys were asked for.
    pub fn fetched(&self) -> usize {
        lock(&self.state).fetched
    }

    /// The IdentityProvider of this name, which believes it.
    pub fn manifest(&self, name: &str) -> String {
        let ca = self.ca.trim().replace('\n', "\n      ");
        format!(
            "apiVersion: chaperone.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {{name: {name}}}\nspec:\n  \
             issuer: {}\n  audiences: [{AUDIENCE}]\n  jwks:\n    discovery: true\n    ca: |\n      {ca}\n  \
             username: {{claim: sub, prefix: \"{name}:\"}}\n  groups: {{claim: groups, prefix: \"{name}:\"}}\n",
            self.url
        )
    }

    /// Claims that hold, of `subject` in `groups`, for ten minutes.
    pub fn claims(&self, subject: &str, groups: &[&str]) -> Value {
        json!({
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": subject,
            "groups": groups,
            "iat": now(),
            "exp": now() + 600,
        })
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(stream: TcpStream, config: &Arc<ServerConfig>, state: &Mutex<State>) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(config))?, stream);
    let mut request = Vec::new();
    let mut chunk = [0_u8; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = tls.read(&mut chunk)?;
        request.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if count == 0 || request.len() > MAX_REQUEST {
            return Err(anyhow!("no request"));
        }
    }
    let text = String::from_utf8_lossy(&request);
    let path = text.split(' ').nth(1).unwrap_or_default();
    let (status, body) = {
        let mut state = lock(state);
        match path {
            "/.well-known/openid-configuration" => {
                let keys = format!("{}/keys", state.url);
                ("200 OK", json!({"issuer": state.url, "jwks_uri": keys}))
            }
            "/keys" => {
                state.fetched += 1;
                ("200 OK", json!({"keys": state.keys}))
            }
            _ => ("404 Not Found", Value::Null),
        }
    };
    let body = body.to_string();
    write!(
        tls,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    tls.conn.send_close_notify();
    Ok(tls.flush()?)
}
