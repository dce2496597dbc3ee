//! One listening socket and the sessions behind it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chaperone_enforce::Metrics;
use chaperone_http::session as http;
use chaperone_postgres::session as postgres;
use chaperone_wire::{Drain, DrainController};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Binds before anything is served, so that a port in use is told at once.
///
/// # Errors
/// What the system said.
pub fn bind(address: IpAddr, port: u16) -> io::Result<std::net::TcpListener> {
    let address = SocketAddr::new(address, port);
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What one listener serves.
#[derive(Debug, Clone)]
pub enum Services {
    /// PostgreSQL connections of one target, told apart by the database that they pin.
    Postgres(Arc<[Arc<postgres::Connection>]>),
    /// An HTTP connection.
    Http(Arc<http::Connection>),
}

impl Services {
    async fn serve(self, agent: tokio::net::TcpStream, drain: Drain) {
        match self {
            Services::Postgres(connections) => postgres::serve(connections, agent, drain).await,
            Services::Http(connection) => http::serve(connection, agent, drain).await,
        }
    }
}

/// A listener that runs.
#[derive(Debug)]
pub struct Running {
    stop: DrainController,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Starts to accept on the runtime this is called from.
    ///
    /// # Errors
    /// The socket cannot be registered with the runtime.
    pub fn start(
        listener: std::net::TcpListener,
        services: Services,
        metrics: Metrics,
    ) -> io::Result<Self> {
        let listener = TcpListener::from_std(listener)?;
        let (stop, drain) = chaperone_wire::drain();
        let task = tokio::spawn(accept(listener, services, metrics, drain));
        Ok(Self { stop, task })
    }

    /// Stops accepting; sessions may go on until `deadline`. Returns when all have ended.
    pub async fn stop(self, deadline: Instant) {
        self.stop.start(deadline);
        // A session's goodbye has a deadline of its own.
        let limit = deadline + Duration::from_secs(5);
        if tokio::time::timeout_at(limit, self.task).await.is_err() {
            tracing::warn!("sessions were still ending when the listener was closed");
        }
    }
}

async fn accept(listener: TcpListener, services: Services, metrics: Metrics, drain: Drain) {
    let mut sessions = JoinSet::new();
    let mut stopping = drain.clone();
    loop {
        tokio::select! {
            biased;
            _ = stopping.started() => break,
            Some(ended) = sessions.join_next() => count(ended, &metrics),
            accepted = listener.accept() => match accepted {
                Ok((agent, _)) => {
                    sessions.spawn(services.clone().serve(agent, drain.clone()));
                }
                Err(error) => {
                    // Out of descriptors: the sessions that end will free some.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
    drop(listener);
    while let Some(ended) = sessions.join_next().await {
        count(ended, &metrics);
    }
}

fn count(ended: Result<(), tokio::task::JoinError>, metrics: &Metrics) {
    if let Err(error) = ended
        && error.is_panic()
    {
        metrics.panicked();
        tracing::error!("a session ended by a fault of ours; others go on");
    }
}
