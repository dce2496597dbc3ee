//! From an accepted connection to the agent's StartupMessage: encryption and cancel requests.
//!
//! ```text
//! TcpStream ─┬ first byte of TLS ─────────────► TLS, ALPN `postgresql` required ─┐
//!            ├ SSLRequest ─ S ────────────────► TLS ─────────────────────────────┼─► StartupMessage
//!            └ SSLRequest ─ N, GSSENCRequest ─ N ────────────────────────────────┘
//! ```

use chaperone_enforce::Denial;
use chaperone_policy::Reason;
use chaperone_wire::{ReadBuffer, Stream, TlsServer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::cancel::CancelRegistry;
use crate::codec::{Initial, Startup, startup};

/// The application protocol that direct TLS must name, and other TLS may (PostgreSQL, section
/// 55.2.11). Without it a request meant for another protocol's server could be replayed here.
pub const APPLICATION_PROTOCOL: &[u8] = b"postgresql";

/// First byte of a TLS record that holds a handshake (RFC 8446, section 5.1). No startup packet
/// begins so: it would be 369 MB long.
const TLS_HANDSHAKE: u8 = 0x16;
/// One refusal of each kind of encryption, then the packet itself.
const ENCRYPTION_ANSWERS: usize = 3;

/// How the beginning of a connection ended.
pub(super) enum Opened {
    /// The agent wants a session.
    Session(Stream, Startup),
    /// Nothing more is to be said: a cancel request, or the agent is gone.
    Closed,
    /// The agent is told why not.
    Refused(Stream, Denial),
}

/// Reads packets up to the StartupMessage. Whatever follows it stays in `buffer`.
pub(super) async fn open(
    tcp: TcpStream,
    buffer: &mut ReadBuffer,
    tls: Option<&TlsServer>,
    cancels: &CancelRegistry,
    deadline: Instant,
) -> Opened {
    let mut agent = Stream::from(tcp);
    if let (Some(server), Stream::Plain(tcp)) = (tls, &agent) {
        let mut first = [0_u8; 1];
        match tcp.peek(&mut first).await {
            Ok(count) if count > 0 => {}
            _ => return Opened::Closed,
        }
        if first == [TLS_HANDSHAKE] {
            agent = match encrypted(agent, server, deadline).await {
                Some(agent) if agent.application_protocol() == Some(APPLICATION_PROTOCOL) => agent,
                Some(agent) => {
                    return refused(agent, "direct TLS without the ALPN protocol postgresql");
                }
                None => return Opened::Closed,
            };
        }
    }
    for _ in 0..ENCRYPTION_ANSWERS {
        let initial = match packet(&mut agent, buffer).await {
            Ok(Some(initial)) => initial,
            Ok(None) => return Opened::Closed,
            Err(denial) => return Opened::Refused(agent, denial),
        };
        match initial {
            Initial::Startup(startup) => return Opened::Session(agent, startup),
            Initial::Cancel(request) => {
                cancels.cancel(request.pid, &request.key);
                return Opened::Closed;
            }
            Initial::SslRequest | Initial::GssEncRequest if agent.is_tls() => {
                return refused(agent, "encryption was asked for inside of TLS");
            }
            Initial::SslRequest => {
                let answer = if tls.is_some() { b"S" } else { b"N" };
                if agent.write_all(answer).await.is_err() {
                    return Opened::Closed;
                }
                let Some(server) = tls else { continue };
                // Nothing waits in `buffer`: the codec refuses an SSLRequest with bytes behind it,
                // so none that came in the clear can pass for encrypted ones (CVE-2021-23214).
                agent = match encrypted(agent, server, deadline).await {
                    Some(agent) => agent,
                    None => return Opened::Closed,
                };
            }
            Initial::GssEncRequest => {
                if agent.write_all(b"N").await.is_err() {
                    return Opened::Closed;
                }
            }
        }
    }
    refused(
        agent,
        "encryption was asked for again after it was answered",
    )
}

async fn packet(agent: &mut Stream, buffer: &mut ReadBuffer) -> Result<Option<Initial>, Denial> {
    loop {
        match startup::next(buffer.bytes_mut()) {
            Ok(Some(initial)) => return Ok(Some(initial)),
            Ok(None) => {}
            Err(error) => return Err(Denial::new(error.reason(), error.to_string())),
        }
        match buffer.fill(agent).await {
            Ok(count) if count > 0 => {}
            _ => return Ok(None),
        }
    }
}

/// The same connection, encrypted. `None`: TLS has told the agent what there is to tell.
async fn encrypted(agent: Stream, server: &TlsServer, deadline: Instant) -> Option<Stream> {
    let Stream::Plain(tcp) = agent else {
        return None;
    };
    match server.accept(tcp, deadline).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::info!(reason = %error.reason(), "{error}");
            None
        }
    }
}

fn refused(agent: Stream, message: &str) -> Opened {
    Opened::Refused(agent, Denial::new(Reason::ProtocolViolation, message))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]
    use std::collections::BTreeMap;
    use std::time::Duration;

    use bytes::BytesMut;
    use chaperone_wire::{Secret, TlsServer};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::codec::encode;

    /// SSLRequest and GSSENCRequest (PostgreSQL, Message Formats).
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

    struct Pod {
        server: TlsServer,
        roots: RootCertStore,
    }

    fn pod() -> Pod {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["db.test".to_owned()]).unwrap();
        let own = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).unwrap();
        let server = TlsServer::new(
            own.pem().as_bytes(),
            &Secret::from(key.serialize_pem()),
            &[APPLICATION_PROTOCOL],
        )
        .unwrap();
        Pod { server, roots }
    }

    fn connector(roots: &RootCertStore, protocol: Option<&[u8]>) -> TlsConnector {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols.extend(protocol.map(<[u8]>::to_vec));
        TlsConnector::from(Arc::new(config))
    }

    /// An agent's socket, and what the handshake at the other end comes to.
    async fn agent(tls: Option<TlsServer>) -> (TcpStream, tokio::task::JoinHandle<Opened>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        let opened = tokio::spawn(async move {
            let mut buffer = ReadBuffer::new(64 * 1024);
            let deadline = Instant::now() + Duration::from_secs(20);
            let registry = CancelRegistry::default();
            open(tcp, &mut buffer, tls.as_ref(), &registry, deadline).await
        });
        (client, opened)
    }

    fn startup_packet() -> BytesMut {
        let mut packet = BytesMut::new();
        encode::startup(&mut packet, [("user", "agent")]);
        packet
    }

    async fn answer(client: &mut TcpStream) -> u8 {
        client.read_u8().await.unwrap()
    }

    fn name() -> ServerName<'static> {
        ServerName::try_from("db.test").unwrap()
    }

    fn is_session(opened: &Opened, encrypted: bool) -> bool {
        matches!(opened, Opened::Session(stream, startup)
            if stream.is_tls() == encrypted && startup.user == "agent")
    }

    fn refusal(opened: Opened) -> String {
        match opened {
            Opened::Refused(_, denial) => {
                assert_eq!(denial.reason, Reason::ProtocolViolation);
                denial.message
            }
            _ => panic!("not refused"),
        }
    }

    #[tokio::test]
    async fn tls_is_served_after_an_ssl_request_and_directly() {
        let pod = pod();
        for (direct, protocol) in [
            (false, None),
            (false, Some(APPLICATION_PROTOCOL)),
            (true, Some(APPLICATION_PROTOCOL)),
        ] {
            let (mut client, opened) = agent(Some(pod.server.clone())).await;
            if !direct {
                // GSSAPI is asked for first, as libpq does where it has it.
                client.write_all(&GSSENC_REQUEST).await.unwrap();
                assert_eq!(answer(&mut client).await, b'N');
                client.write_all(&SSL_REQUEST).await.unwrap();
                assert_eq!(answer(&mut client).await, b'S');
            }
            let mut tls = connector(&pod.roots, protocol)
                .connect(name(), client)
                .await
                .unwrap();
            tls.write_all(&startup_packet()).await.unwrap();
            tls.flush().await.unwrap();
            assert!(is_session(&opened.await.unwrap(), true));
        }
    }

    #[tokio::test]
    async fn without_a_certificate_encryption_is_declined_and_plain_goes_on() {
        let (mut client, opened) = agent(None).await;
        client.write_all(&SSL_REQUEST).await.unwrap();
        assert_eq!(answer(&mut client).await, b'N');
        client.write_all(&startup_packet()).await.unwrap();
        assert!(is_session(&opened.await.unwrap(), false));
        // With one, plain is served too.
        let (mut client, opened) = agent(Some(pod().server)).await;
        client.write_all(&startup_packet()).await.unwrap();
        assert!(is_session(&opened.await.unwrap(), false));
    }

    #[tokio::test]
    async fn bytes_put_before_the_tls_handshake_end_the_connection() {
        let (mut client, opened) = agent(Some(pod().server)).await;
        let injected = [&SSL_REQUEST[..], &startup_packet()].concat();
        client.write_all(&injected).await.unwrap();
        let message = refusal(opened.await.unwrap());
        assert!(message.contains("before encryption"), "{message}");

        // Sent after the answer they are no TLS, and the agent gets no session either.
        let (mut client, opened) = agent(Some(pod().server)).await;
        client.write_all(&SSL_REQUEST).await.unwrap();
        assert_eq!(answer(&mut client).await, b'S');
        client.write_all(&startup_packet()).await.unwrap();
        assert!(matches!(opened.await.unwrap(), Opened::Closed));
    }

    #[tokio::test]
    async fn direct_tls_needs_the_protocols_name_and_tls_is_not_nested() {
        let pod = pod();
        let (client, opened) = agent(Some(pod.server.clone())).await;
        let _tls = connector(&pod.roots, None)
            .connect(name(), client)
            .await
            .unwrap();
        assert!(refusal(opened.await.unwrap()).contains("ALPN"));

        let (client, opened) = agent(Some(pod.server.clone())).await;
        let other = connector(&pod.roots, Some(b"http/1.1"));
        assert!(other.connect(name(), client).await.is_err());
        assert!(matches!(opened.await.unwrap(), Opened::Closed));

        for request in [SSL_REQUEST, GSSENC_REQUEST] {
            let (client, opened) = agent(Some(pod.server.clone())).await;
            let mut tls = connector(&pod.roots, Some(APPLICATION_PROTOCOL))
                .connect(name(), client)
                .await
                .unwrap();
            tls.write_all(&request).await.unwrap();
            tls.flush().await.unwrap();
            assert!(refusal(opened.await.unwrap()).contains("inside of TLS"));
        }
    }

    #[tokio::test]
    async fn a_replaced_certificate_is_shown_from_then_on() {
        let (old, new) = (pod(), pod());
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["db.test".to_owned()]).unwrap();
        let own = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).unwrap();
        let bad = Secret::from(rcgen::KeyPair::generate().unwrap().serialize_pem());
        assert!(
            old.server
                .replace(own.pem().as_bytes(), &BTreeMap::new(), &bad)
                .is_err()
        );
        old.server
            .replace(
                own.pem().as_bytes(),
                &BTreeMap::new(),
                &Secret::from(key.serialize_pem()),
            )
            .unwrap();
        for (trusted, good) in [(&roots, true), (&old.roots, false), (&new.roots, false)] {
            let (client, opened) = agent(Some(old.server.clone())).await;
            let tls = connector(trusted, Some(APPLICATION_PROTOCOL))
                .connect(name(), client)
                .await;
            assert_eq!(tls.is_ok(), good);
            drop(tls);
            let _ = opened.await.unwrap();
        }
    }
}
