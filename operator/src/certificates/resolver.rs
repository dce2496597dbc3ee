//! The certificate that new handshakes are answered with, whichever it is by then.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::material::Material;

/// Why the material of the Secret cannot be served with.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// No PEM.
    #[error("secret {name} holds no PEM: {0:?}", name = super::SECRET)]
    Pem(rustls::pki_types::pem::Error),
    /// Not a pair, or of an unknown kind.
    #[error("secret {name} cannot be served with: {0}", name = super::SECRET)]
    Tls(#[from] rustls::Error),
}

/// Holds the current certificate; shared by all servers.
#[derive(Debug, Default)]
pub struct Resolver {
    current: ArcSwapOption<CertifiedKey>,
}

impl Resolver {
    /// Serves with this from the next handshake on.
    ///
    /// # Errors
    /// [`ResolverError`]; what was there stays.
    pub fn load(&self, material: &Material) -> Result<(), ResolverError> {
        let chain = CertificateDer::pem_slice_iter(material.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(ResolverError::Pem)?;
        let key =
            PrivateKeyDer::from_pem_slice(material.key.as_bytes()).map_err(ResolverError::Pem)?;
        let certified = CertifiedKey::from_der(chain, key, &provider())?;
        self.current.store(Some(Arc::new(certified)));
        Ok(())
    }

    /// A server's settings: TLS 1.2 or 1.3, HTTP/2 or 1.1, this resolver.
    ///
    /// # Errors
    /// None with the built-in provider.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}
