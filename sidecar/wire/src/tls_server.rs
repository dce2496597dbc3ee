//! TLS to an agent: the certificates of a whole process, replaced while connections go on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::tls::read_identity;
use crate::{Secret, Stream, TlsError};

/// Ready to do handshakes as a server. Clones share the certificates, also after they are replaced.
#[derive(Clone)]
pub struct TlsServer {
    certificates: Arc<Certificates>,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsServer(…)")
    }
}

/// What is shown to agents.
#[derive(Debug)]
struct Certificates(ArcSwap<ByName>);

#[derive(Debug)]
struct ByName {
    /// For who asks for no name, or for one that is not known.
    fallback: Arc<CertifiedKey>,
    /// By the name asked for (RFC 6066, section 3), in small letters.
    named: BTreeMap<String, Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let all = self.0.load();
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let named = name.and_then(|name| all.named.get(&name));
        Some(Arc::clone(named.unwrap_or(&all.fallback)))
    }
}

impl TlsServer {
    /// Takes a chain in PEM, own certificate first, its key in PEM (PKCS #8, PKCS #1 or SEC1), and
    /// the application protocols (RFC 7301) that are spoken. A client that asks for another one is
    /// refused; one that asks for none is served.
    ///
    /// # Errors
    /// [`TlsError::BadIdentity`] where the two do not work together.
    pub fn new(
        certificates_pem: &[u8],
        key_pem: &Secret,
        protocols: &[&[u8]],
    ) -> Result<TlsServer, TlsError> {
        let fallback = certified(certificates_pem, key_pem)?;
        let certificates = Arc::new(Certificates(ArcSwap::from_pointee(ByName {
            fallback,
            named: BTreeMap::new(),
        })));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Unavailable {
                message: error.to_string(),
            })?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>);
        let server = TlsServer {
            certificates,
            config: Arc::new(config),
        };
        Ok(server.speaking(protocols))
    }

    /// The same certificates, also after they are replaced, with other application protocols.
    #[must_use]
    pub fn speaking(&self, protocols: &[&[u8]]) -> TlsServer {
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        TlsServer {
            certificates: Arc::clone(&self.certificates),
            config: Arc::new(config),
        }
    }

    /// Handshakes from now on show these: chains in PEM, all of one key, by the name that a client
    /// asks for, and one for all others. On an error the old ones stay.
    ///
    /// # Errors
    /// As [`TlsServer::new`].
    pub fn replace(
        &self,
        fallback_pem: &[u8],
        named_pem: &BTreeMap<String, Vec<u8>>,
        key_pem: &Secret,
    ) -> Result<(), TlsError> {
        let mut named = BTreeMap::new();
        for (name, chain) in named_pem {
            named.insert(name.to_ascii_lowercase(), certified(chain, key_pem)?);
        }
        let fallback = certified(fallback_pem, key_pem)?;
        let all = ByName { fallback, named };
        self.certificates.0.store(Arc::new(all));
        Ok(())
    }

    /// Does the handshake on a connection of which nothing has been read that belongs to it: bytes
    /// that wait in a buffer of ours were never encrypted, and must not be taken for such.
    ///
    /// # Errors
    /// [`TlsError::Agent`] or [`TlsError::AgentTimedOut`].
    pub async fn accept(&self, tcp: TcpStream, deadline: Instant) -> Result<Stream, TlsError> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        match timeout_at(deadline, acceptor.accept(tcp)).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(TlsStream::Server(stream)))),
            Ok(Err(source)) => Err(TlsError::Agent { source }),
            Err(_) => Err(TlsError::AgentTimedOut),
        }
    }
}

fn certified(certificates_pem: &[u8], key_pem: &Secret) -> Result<Arc<CertifiedKey>, TlsError> {
    let (certificates, key) = read_identity(certificates_pem, key_pem)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(certificates, key, &provider)
        .map(Arc::new)
        .map_err(|error| TlsError::BadIdentity {
            message: error.to_string(),
        })
}
