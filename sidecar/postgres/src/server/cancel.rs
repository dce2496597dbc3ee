//! Cancelling what a session of ours runs (PostgreSQL documentation, section 55.2.8).

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::connect::{ServerConnection, Target, encrypt};
use super::error::ConnectError;
use crate::codec::encode;

/// What it takes to cancel one session's statement, wherever that session is now.
#[derive(Debug, Clone)]
pub struct CancelHandle {
    target: Target,
    // The session's own address: another one of the same name may be another server.
    address: SocketAddr,
    pid: i32,
    key: Bytes,
}

impl ServerConnection {
    /// The handle of this session.
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle {
            target: self.target.clone(),
            address: self.address,
            pid: self.backend_pid,
            key: self.cancel_key.clone(),
        }
    }

    /// The address the session is connected to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Asks the server to cancel and returns once the server has closed the cancel connection: by then
/// the signal has been sent, so that what is forwarded after that session's next ReadyForQuery
/// cannot be hit by it.
///
/// # Errors
/// [`ConnectError`]; the statement may run on.
pub async fn cancel(handle: &CancelHandle, deadline: Instant) -> Result<(), ConnectError> {
    let target = &handle.target;
    let tcp = chaperone_wire::connect_to(handle.address, &target.host, deadline).await?;
    let mut stream = encrypt(tcp, target, deadline).await?;
    let exchange = async {
        stream
            .write_all(&encode::cancel_request(handle.pid, &handle.key))
            .await?;
        stream.flush().await?;
        // The server answers nothing; whatever comes is not for us.
        let mut ignored = [0u8; 256];
        while stream.read(&mut ignored).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    match timeout_at(deadline, exchange).await {
        Ok(Ok(())) => Ok(()),
        // A server that just exits ends TCP without ending TLS first.
        Ok(Err(error)) if is_end(&error) => Ok(()),
        Ok(Err(source)) => Err(ConnectError::Io {
            stage: "a cancel request",
            source,
        }),
        Err(_) => Err(ConnectError::TimedOut),
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    )
}
