//! Connections of agents, and one exchange after another on them.
//!
//! ```text
//! handshake (TLS, version) ─► hyper ─► exchange: understand ─ decide ─ hold? ─ permit ─ forward ─► relay
//! ```
//!
//! - `handshake`: encryption and the version of HTTP;
//! - `exchange`: one request to its permit or its refusal;
//! - `understand`: what a request means, in its normal form;
//! - `hold`: a request that waits for a human;
//! - `relay`: both bodies of an exchange, recorded and masked as they flow;
//! - `masks`: what of an answer is masked, and whether it can be;
//! - `tunnel`: bytes both ways after a 101.
//!
//! A *lane* is a session of the evidence with its way to the target; an exchange takes one and
//! gives it back. An agent in HTTP/1.1 has one lane, in HTTP/2 as many as it has requests at a time.

mod exchange;
mod handshake;
mod hold;
mod masks;
mod relay;
mod tunnel;
mod understand;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chaperone_enforce::{Denial, Enforcement, Session as Flow};
use chaperone_mask::Masker;
use chaperone_policy::{Reason, Subject};
use chaperone_wire::{AllowSpecial, Drain, Resolver, TlsServer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::api::Api;
use crate::guard::Refused;
use crate::server::{Credential, Shared, Target, Way};

pub use self::handshake::APPLICATION_PROTOCOLS;

/// Bounds and deadlines. The defaults are what the product ships with.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// For the agent to encrypt and to send its first byte.
    pub startup: Duration,
    /// For the agent to send a head, and between two requests.
    pub head: Duration,
    /// For the target to be connected to.
    pub connect: Duration,
    /// For the target to begin its answer once the request was sent, and between two pieces of a
    /// body: who waits for news waits long.
    pub quiet: Duration,
    /// For the agent to send a body that is collected.
    pub collect: Duration,
    /// Longest body that is collected for a rule or a record, compressed and not, in bytes.
    pub collected: usize,
    /// Longest body that a human is asked about, in bytes (policy.md, Approvals).
    pub approvable: usize,
    /// Connections of agents at a time.
    pub sessions: usize,
    /// Requests at a time on one connection in HTTP/2.
    pub streams: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            startup: Duration::from_secs(10),
            head: Duration::from_secs(75),
            connect: Duration::from_secs(15),
            quiet: Duration::from_secs(60 * 60),
            collect: Duration::from_secs(60),
            collected: 1024 * 1024,
            approvable: 32 * 1024,
            sessions: 1000,
            streams: 64,
        }
    }
}

/// Everything that the sessions of one HTTP connection share.
#[derive(Debug)]
pub struct Connection {
    /// The authorisation flow.
    pub enforcement: Arc<Enforcement>,
    /// Who every session here is.
    pub subject: Arc<Subject>,
    /// What kind of API it is.
    pub api: Arc<dyn Api>,
    /// Where to.
    pub target: Target,
    /// As whom.
    pub credential: Option<Credential>,
    /// Names.
    pub resolver: Arc<Resolver>,
    /// Our certificate to agents; without one no encryption is offered to them.
    pub tls: Option<TlsServer>,
    /// Which special addresses may be a target.
    pub allow_special: AllowSpecial,
    /// Replaces values.
    pub masker: Arc<Masker>,
    /// Bounds and deadlines.
    pub bounds: Bounds,
    /// One permit a connection of an agent.
    pub slots: Arc<Semaphore>,
}

/// One connection of an agent.
struct Agent {
    connection: Arc<Connection>,
    /// It speaks HTTP/2.
    two: bool,
    /// What the guard refused, in HTTP/1.1.
    refused: Option<Refused>,
    /// Our address on it, which agents may name as the host.
    listener: SocketAddr,
    /// It came with TLS.
    encrypted: bool,
    /// The host it asked for in its TLS handshake.
    server_name: Option<String>,
    /// Free lanes.
    lanes: Mutex<Vec<Lane>>,
    /// Its exchanges, and what its connection takes beside itself.
    tasks: TaskTracker,
    /// What drives connections to the target; it lasts as long as a lane holds one.
    drivers: TaskTracker,
    shared: Shared,
    drain: Drain,
}

/// A session of the evidence and its way to the target.
struct Lane {
    flow: Flow,
    /// Digest of the token it began with.
    token: Option<[u8; 32]>,
    way: Way,
}

impl Agent {
    fn lanes(&self) -> std::sync::MutexGuard<'_, Vec<Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A free lane that began with this token, or with none.
    fn free_lane(&self, token: Option<[u8; 32]>) -> Option<Lane> {
        let mut lanes = self.lanes();
        let position = lanes.iter().position(|lane| lane.token == token)?;
        Some(lanes.swap_remove(position))
    }
}

impl Lane {
    async fn end(self, denial: Option<&Denial>) {
        if let Err(error) = self.flow.end(denial).await {
            tracing::error!(%error, "the end of a session could not be recorded");
        }
    }
}

/// Serves one agent connection to its end. Never fails: what goes wrong is told to the agent in
/// its protocol, recorded and logged.
pub async fn serve(connection: Arc<Connection>, tcp: TcpStream, drain: Drain) {
    if chaperone_wire::prepare(&tcp).is_err() {
        return;
    }
    let Ok(_slot) = Arc::clone(&connection.slots).try_acquire_owned() else {
        return handshake::turn_away(tcp).await;
    };
    let opening = handshake::open(&connection, tcp);
    let Ok(Some(opened)) = tokio::time::timeout(connection.bounds.startup, opening).await else {
        return;
    };
    let Ok(listener) = opened.stream.local_addr() else {
        return;
    };
    let encrypted = opened.stream.is_tls();
    let server_name = opened.stream.server_name().map(str::to_ascii_lowercase);
    let agent = |refused| {
        Arc::new(Agent {
            connection: Arc::clone(&connection),
            two: opened.two,
            refused,
            listener,
            encrypted,
            server_name,
            lanes: Mutex::default(),
            tasks: TaskTracker::new(),
            drivers: TaskTracker::new(),
            shared: Shared::default(),
            drain: drain.clone(),
        })
    };
    let agent = match opened.two {
        true => {
            let agent = agent(None);
            handshake::run_two(&agent, opened.stream, opened.read).await;
            agent
        }
        false => {
            let (guard, refused) = crate::guard::Guard::new(opened.stream, opened.read);
            let agent = agent(Some(refused));
            handshake::run_one(&agent, guard).await;
            agent
        }
    };
    // Its exchanges have lost their reader by now, or go on as tunnels.
    agent.tasks.close();
    agent.tasks.wait().await;
    let draining = drain.is_draining();
    let denial =
        draining.then(|| Denial::new(Reason::ShuttingDown, "the sidecar is shutting down"));
    let lanes = std::mem::take(&mut *agent.lanes());
    for lane in lanes {
        lane.end(denial.as_ref()).await;
    }
    // Without a lane nothing holds a connection to the target any more.
    agent.shared.clear();
    agent.drivers.close();
    agent.drivers.wait().await;
}
