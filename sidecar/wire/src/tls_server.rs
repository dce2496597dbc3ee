//! TLS to an agent: one certificate for a whole process, replaced while connections go on.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::tls::read_identity;
use crate::{Secret, Stream, TlsError};

/// Ready to do handshakes as a server. Clones share the certificate, also after it is replaced.
#[derive(Clone)]
pub struct TlsServer {
    config: Arc<ArcSwap<ServerConfig>>,
    protocols: Vec<Vec<u8>>,
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsServer(…)")
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
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.to_vec()).collect();
        let config = configuration(certificates_pem, key_pem, &protocols)?;
        Ok(TlsServer {
            config: Arc::new(ArcSwap::from_pointee(config)),
            protocols,
        })
    }

    /// Handshakes from now on show this certificate. On an error the old one stays.
    ///
    /// # Errors
    /// As [`TlsServer::new`].
    pub fn replace(&self, certificates_pem: &[u8], key_pem: &Secret) -> Result<(), TlsError> {
        let config = configuration(certificates_pem, key_pem, &self.protocols)?;
        self.config.store(Arc::new(config));
        Ok(())
    }

    /// Does the handshake on a connection of which nothing has been read that belongs to it: bytes
    /// that wait in a buffer of ours were never encrypted, and must not be taken for such.
    ///
    /// # Errors
    /// [`TlsError::Agent`] or [`TlsError::AgentTimedOut`].
    pub async fn accept(&self, tcp: TcpStream, deadline: Instant) -> Result<Stream, TlsError> {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        match timeout_at(deadline, acceptor.accept(tcp)).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(TlsStream::Server(stream)))),
            Ok(Err(source)) => Err(TlsError::Agent { source }),
            Err(_) => Err(TlsError::AgentTimedOut),
        }
    }
}

fn configuration(
    certificates_pem: &[u8],
    key_pem: &Secret,
    protocols: &[Vec<u8>],
) -> Result<ServerConfig, TlsError> {
    let (certificates, key) = read_identity(certificates_pem, key_pem)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Unavailable {
            message: error.to_string(),
        })?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|error| TlsError::BadIdentity {
            message: error.to_string(),
        })?;
    config.alpn_protocols = protocols.to_vec();
    Ok(config)
}
