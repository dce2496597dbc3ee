//! TCP to a target.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::{AllowSpecial, ConnectError, Resolver};

/// A silent peer is asked whether it lives after this long …
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// … and again this often …
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// … and is given up after this many unanswered.
const KEEPALIVE_RETRIES: u32 = 4;

/// Resolves `host` and connects to the first of its addresses that takes the connection.
///
/// # Errors
/// [`ConnectError`]; where several addresses fail, the last one's error.
pub async fn connect(
    resolver: &Resolver,
    host: &str,
    port: u16,
    allow: AllowSpecial,
    deadline: Instant,
) -> Result<TcpStream, ConnectError> {
    let addresses = resolver.resolve(host, port, allow, deadline).await?;
    let mut last = ConnectError::Dns {
        host: host.to_owned(),
        message: "no address".to_owned(),
    };
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        // One unanswering address must not use up the time of those after it.
        let now = Instant::now();
        let share = deadline.saturating_duration_since(now) / left.max(1);
        left = left.saturating_sub(1);
        match connect_to(address, host, now + share).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects to one address that was resolved before. `host` only words the error.
///
/// # Errors
/// [`ConnectError::Io`] or [`ConnectError::TimedOut`].
pub async fn connect_to(
    address: SocketAddr,
    host: &str,
    deadline: Instant,
) -> Result<TcpStream, ConnectError> {
    let failed = |source| ConnectError::Io {
        target: format!("{host} ({address})"),
        source,
    };
    let stream = match timeout_at(deadline, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(failed)?,
        Err(_) => {
            return Err(ConnectError::TimedOut {
                target: format!("{host} ({address})"),
                stage: "connecting",
            });
        }
    };
    prepare(&stream).map_err(failed)?;
    Ok(stream)
}

/// Sets what every proxied socket has: no delay, and keep-alive so that a vanished peer is noticed.
///
/// # Errors
/// The socket's own.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
