//! Plain and encrypted streams behave alike, whole and in halves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chaperone_policy::Reason;
use chaperone_wire::{
    ReadBuffer, Stream, TlsClient, TlsMode, TlsSettings, connect_to, server_end_point,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsStream};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// A CA in PEM, and a server configuration for `localhost` signed by it.
fn certificates() -> (String, CertificateDer<'static>, TlsAcceptor) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let own = params.signed_by(&key, &issuer).unwrap().der().clone();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![own.clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (pem, own, TlsAcceptor::from(Arc::new(config)))
}

fn client(ca: Option<String>) -> TlsClient {
    TlsClient::new(&TlsSettings {
        mode: TlsMode::VerifyFull,
        ca_pem: ca.map(String::into_bytes),
        identity: None,
    })
    .unwrap()
}

/// Sends back all it gets, in halves, until the other side is done.
async fn echo(acceptor: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let stream = match &acceptor {
                None => Stream::from(tcp),
                Some(acceptor) => match acceptor.accept(tcp).await {
                    Ok(tls) => Stream::Tls(Box::new(TlsStream::Server(tls))),
                    Err(_) => continue,
                },
            };
            let (mut reader, mut writer) = stream.into_split();
            tokio::spawn(async move {
                let mut buffer = ReadBuffer::new(1 << 20);
                while buffer.fill(&mut reader).await.unwrap() > 0 {
                    let bytes = buffer.bytes_mut().split().freeze();
                    writer.write_all(&bytes).await.unwrap();
                    writer.flush().await.unwrap();
                }
                writer.shutdown().await.unwrap();
            });
        }
    });
    address
}

async fn round_trip(mut stream: Stream) {
    let data: Vec<u8> = (0..300_000u32).map(|n| n.to_be_bytes()[3]).collect();
    let slices = [IoSlice::new(b"ab"), IoSlice::new(b"cd")];
    let first = stream.write_vectored(&slices).await.unwrap();
    assert!(first > 0);
    let expected = [&b"abcd"[..first], &data].concat();
    let (mut reader, mut writer) = stream.into_split();
    let sending = tokio::spawn(async move {
        writer.write_all(&data).await.unwrap();
        writer.shutdown().await.unwrap();
        writer
    });
    let mut back = Vec::new();
    reader.read_to_end(&mut back).await.unwrap();
    assert!(
        back == expected,
        "{} bytes of {}",
        back.len(),
        expected.len()
    );
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn plain_and_encrypted_streams_carry_the_same_bytes() {
    let address = echo(None).await;
    let tcp = connect_to(address, "localhost", soon()).await.unwrap();
    let stream = TlsClient::disabled()
        .handshake(tcp, "localhost", soon())
        .await
        .unwrap();
    assert!(!stream.is_tls() && stream.peer_certificate().is_none());
    assert_eq!(stream.peer_addr().unwrap(), address);
    round_trip(stream).await;

    let (ca, own, acceptor) = certificates();
    let address = echo(Some(acceptor)).await;
    let tcp = connect_to(address, "localhost", soon()).await.unwrap();
    let stream = client(Some(ca))
        .handshake(tcp, "localhost.", soon())
        .await
        .unwrap();
    assert!(stream.is_tls());
    assert_eq!(stream.peer_certificate(), Some(&own));
    assert!(server_end_point(&own).is_some());
    assert_eq!(stream.peer_addr().unwrap(), address);
    round_trip(stream).await;
}

#[tokio::test]
async fn a_target_that_does_not_prove_its_name_gets_no_session() {
    let (ca, _, acceptor) = certificates();
    let address = echo(Some(acceptor)).await;
    // The public roots did not sign it; another name is not in it; and a name must be one.
    for (tls, host) in [
        (client(None), "localhost"),
        (client(Some(ca.clone())), "elsewhere.test"),
        (client(Some(ca.clone())), "127.0.0.1"),
        (client(Some(ca)), "not a name"),
    ] {
        let tcp = connect_to(address, host, soon()).await.unwrap();
        let error = tls.handshake(tcp, host, soon()).await.unwrap_err();
        assert_eq!(error.reason(), Reason::TargetTls, "{host}: {error}");
    }
    // A server that takes the connection and never answers the handshake.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = connect_to(silent.local_addr().unwrap(), "localhost", soon())
        .await
        .unwrap();
    let deadline = Instant::now() + Duration::from_millis(200);
    let error = client(None)
        .handshake(tcp, "localhost", deadline)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Reason::TargetTls);
    assert!(error.to_string().contains("in time"), "{error}");
}
