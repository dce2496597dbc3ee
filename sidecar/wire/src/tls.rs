//! TLS to a target: one configuration a Connection, built once.

use std::io;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{TlsConnector, TlsStream};

use crate::{Secret, Stream, TlsError};

/// How much TLS a target must show: the Connection's `tls.mode` (api.md). There is deliberately
/// nothing between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// No TLS at all.
    Disable,
    /// Encrypted, with a certificate that leads to the CA and names the host (the meaning of
    /// libpq's `verify-full`; PostgreSQL documentation, section 34.19).
    VerifyFull,
}

impl TlsMode {
    /// The name used in manifests and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            TlsMode::Disable => "Disable",
            TlsMode::VerifyFull => "VerifyFull",
        }
    }
}

/// A client certificate with its chain, and its key.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    /// PEM, own certificate first.
    pub certificates_pem: Vec<u8>,
    /// PEM: PKCS #8, PKCS #1 or SEC1.
    pub key_pem: Secret,
}

/// What a Connection says about TLS, with its references read.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// How much is asked for.
    pub mode: TlsMode,
    /// PEM certificates that are trusted, and no others; without it, the public roots (Mozilla's).
    pub ca_pem: Option<Vec<u8>>,
    /// What we show when the target asks.
    pub identity: Option<ClientIdentity>,
}

/// Ready to do handshakes with one target. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TlsClient {
    mode: TlsMode,
    config: Option<Arc<ClientConfig>>,
    has_identity: bool,
}

impl TlsClient {
    /// No TLS.
    pub fn disabled() -> TlsClient {
        TlsClient {
            mode: TlsMode::Disable,
            config: None,
            has_identity: false,
        }
    }

    /// Checks the settings once, so that a handshake can only fail on the target's side.
    ///
    /// # Errors
    /// [`TlsError`] with the reason `RefNotFound` for a CA or client certificate that is missing
    /// or unusable.
    pub fn new(settings: &TlsSettings) -> Result<TlsClient, TlsError> {
        if settings.mode == TlsMode::Disable {
            return Ok(TlsClient::disabled());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let unavailable = |error: rustls::Error| TlsError::Unavailable {
            message: error.to_string(),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unavailable)?
            .with_root_certificates(roots(settings)?);
        let config = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (certificates, key) =
                    read_identity(&identity.certificates_pem, &identity.key_pem)?;
                builder
                    .with_client_auth_cert(certificates, key)
                    .map_err(|error| TlsError::BadIdentity {
                        message: error.to_string(),
                    })?
            }
        };
        Ok(TlsClient {
            mode: settings.mode,
            config: Some(Arc::new(config)),
            has_identity: settings.identity.is_some(),
        })
    }

    /// The same, asking for the first of these application protocols that the target speaks
    /// (RFC 7301).
    #[must_use]
    pub fn speaking(mut self, protocols: &[&[u8]]) -> TlsClient {
        if let Some(config) = &mut self.config {
            let config = Arc::make_mut(config);
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        }
        self
    }

    /// How much is asked for.
    pub fn mode(&self) -> TlsMode {
        self.mode
    }

    /// Whether a client certificate would be shown.
    pub fn has_identity(&self) -> bool {
        self.has_identity
    }

    /// Does the handshake on a fresh connection; with [`TlsMode::Disable`] hands it back as it is.
    ///
    /// # Errors
    /// [`TlsError`] with the reason `TargetTls`.
    pub async fn handshake(
        &self,
        tcp: TcpStream,
        host: &str,
        deadline: Instant,
    ) -> Result<Stream, TlsError> {
        let Some(config) = &self.config else {
            return Ok(Stream::Plain(tcp));
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.trim_end_matches('.').to_owned()).map_err(|_| {
            TlsError::NotAName {
                host: host.to_owned(),
            }
        })?;
        let connector = TlsConnector::from(config.clone());
        match timeout_at(deadline, connector.connect(name, tcp)).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(TlsStream::Client(stream)))),
            Ok(Err(source)) => Err(TlsError::Handshake {
                host: host.to_owned(),
                source: plain_words(source),
            }),
            Err(_) => Err(TlsError::TimedOut {
                host: host.to_owned(),
            }),
        }
    }
}

/// rustls' words for the two refusals people meet most are for programmers; these say what to do.
fn plain_words(error: io::Error) -> io::Error {
    use rustls::CertificateError as Certificate;
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let words = match cause {
        Some(rustls::Error::InvalidCertificate(Certificate::UnknownIssuer)) => {
            "its certificate was not issued by the given ca"
        }
        Some(rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        )) => "its certificate is for another host name",
        Some(rustls::Error::InvalidCertificate(
            Certificate::Expired | Certificate::ExpiredContext { .. },
        )) => "its certificate has expired",
        _ => return error,
    };
    io::Error::new(error.kind(), words)
}

fn roots(settings: &TlsSettings) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let Some(pem) = settings.ca_pem.as_deref() else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    let bad = |message: String| TlsError::BadCa { message };
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("there is no CERTIFICATE block in it".to_owned()));
    }
    Ok(roots)
}

pub(crate) fn read_identity(
    certificates_pem: &[u8],
    key_pem: &Secret,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let bad = |message: &str| TlsError::BadIdentity {
        message: message.to_owned(),
    };
    let certificates = CertificateDer::pem_slice_iter(certificates_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| bad("tls.crt is not PEM"))?;
    if certificates.is_empty() {
        return Err(bad("tls.crt has no CERTIFICATE block"));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem.expose())
        .map_err(|_| bad("tls.key has no private key in PEM"))?;
    Ok((certificates, key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use chaperone_policy::Reason;

    fn settings(ca: &str, identity: Option<(&str, &str)>) -> TlsSettings {
        TlsSettings {
            mode: TlsMode::VerifyFull,
            ca_pem: Some(ca.as_bytes().to_vec()),
            identity: identity.map(|(certificates, key)| ClientIdentity {
                certificates_pem: certificates.as_bytes().to_vec(),
                key_pem: Secret::from(key.to_owned()),
            }),
        }
    }

    #[test]
    fn unusable_tls_material_is_refused_before_any_handshake_and_shows_no_key() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["ca.test".to_owned()]).unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let good_key = key.serialize_pem();
        assert!(TlsClient::new(&settings(&ca, Some((&ca, &good_key)))).is_ok());
        for bad in [
            settings("", None),
            settings(
                "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
                None,
            ),
            settings(
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                None,
            ),
            settings(&ca, Some(("", &good_key))),
            settings(&ca, Some((&ca, ""))),
            settings(&ca, Some((&ca, &other))),
            settings(
                &ca,
                Some((
                    &ca,
                    "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                )),
            ),
        ] {
            let error = TlsClient::new(&bad).unwrap_err();
            assert_eq!(error.reason(), Reason::RefNotFound, "{error}");
            assert!(!error.to_string().contains("AAAA"), "{error}");
        }
        // Without a CA the public roots hold.
        assert!(
            TlsClient::new(&TlsSettings {
                ca_pem: None,
                ..settings("", None)
            })
            .is_ok()
        );
    }
}
