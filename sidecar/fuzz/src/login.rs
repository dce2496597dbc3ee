//! A hostile server while the sidecar logs in to it.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use chaperone_postgres::server::{
    AuthenticationMethod, ConnectError, ConnectOptions, Credential, Proof, Target, connect,
};
use chaperone_wire::{AllowSpecial, Resolver, Secret, TlsClient};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::values::holds;

const PASSWORD: &str = "the-agent-never-gets-this";
/// Generous: a login that hangs is a fault, a busy machine is none.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a server sends after the startup packet, at once and to the end.
pub fn login(data: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        panic!("no runtime");
    };
    let (result, said) = runtime.block_on(async {
        let Ok(listener) = TcpListener::bind(next_address()).await else {
            panic!("no listener");
        };
        let Ok(address) = listener.local_addr() else {
            panic!("no address");
        };
        tokio::join!(attempt(address), server(listener, data))
    });
    assert!(
        !holds(&said, PASSWORD.as_bytes()),
        "the server got the password"
    );
    match result {
        // Whoever gets in by a proof had one, which no fixed bytes can hold: the nonce is ours.
        Ok(method) => {
            assert_eq!(method, AuthenticationMethod::None);
            assert!(
                holds(data, b"R\0\0\0\x08\0\0\0\0"),
                "a login that nothing allowed"
            );
        }
        Err(error) => {
            let words = format!("{error} {error:?}");
            assert!(!words.contains(PASSWORD), "{words}");
        }
    }
}

/// Ports in TIME_WAIT belong to a pair of addresses: a new one each time never runs out of them.
fn next_address() -> SocketAddr {
    thread_local! {
        static NEXT: Cell<u16> = const { Cell::new(1) };
    }
    let [high, low] = NEXT.replace(NEXT.get().wrapping_add(1)).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, 7, high, low.max(1)), 0))
}

/// How the session that came about was let in; it is over then, or the server would wait for more.
async fn attempt(address: SocketAddr) -> Result<AuthenticationMethod, ConnectError> {
    let target = Target {
        host: address.ip().to_string(),
        port: address.port(),
        database: "orders".to_owned(),
        tls: TlsClient::disabled(),
    };
    let credential = Credential {
        username: "agent".to_owned(),
        proof: Proof::Password(Secret::from(PASSWORD.to_owned())),
    };
    let options = ConnectOptions {
        allow_special: AllowSpecial::LiteralLoopback,
        allow_md5: false,
        allow_cleartext: false,
        deadline: tokio::time::Instant::now() + DEADLINE,
    };
    let connection = connect(&Resolver::new(), &target, &credential, &[], &options).await?;
    Ok(connection.authentication)
}

/// Says `data`, and returns what it was told.
async fn server(listener: TcpListener, data: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    if let Ok((mut stream, _)) = listener.accept().await {
        // The client may hang up in the middle; that is its answer.
        let _ = stream.write_all(data).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut said).await;
    }
    said
}
