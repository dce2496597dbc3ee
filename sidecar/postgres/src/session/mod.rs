//! One agent's session with one server: the translator between PostgreSQL's protocol and the
//! authorisation flow of `chaperone-enforce`.
//!
//! ```text
//! agent ─frames─► frontend · extended ─classify─► enforce ─Permit─► target.forward ─► server
//! agent ◄─ masked ── backend ◄─ expect (what is owed: pass on, swallow, replace) ◄─── server
//! ```
//!
//! - `handshake`: encryption, cancel requests; `authenticate`: a token; `startup`: settings at connect, login to the server;
//! - `engine`: the loop that owns both sockets; everything else is called from it;
//! - `frontend`, `extended`, `bind`: what the agent asks for;
//! - `backend`, `results`: what the server says;
//! - `environment`: which names mean what: catalog facts, search path, masks;
//! - `hold`: a command that waits for a human; `copy`, `copy_in`: COPY data both ways;
//! - `large`: room for large messages, of all sessions together;
//! - `names`, `expect`: prepared statements, portals, cursors, and outstanding replies.
//!
//! It decides nothing, records only through `enforce`, and masks only by `chaperone-mask`.

mod authenticate;
mod backend;
mod bind;
mod cancel;
mod copy;
mod copy_in;
mod engine;
mod environment;
mod errors;
mod expect;
mod extended;
mod frontend;
mod handshake;
mod hold;
mod large;
mod masks;
mod names;
mod results;
mod staging;
mod startup;
mod statements;
mod target;
mod text;
mod values;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chaperone_enforce::Enforcement;
use chaperone_mask::Masker;
use chaperone_policy::Subject;
use chaperone_sql::Catalog;
use chaperone_wire::Drain;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::server;

pub use cancel::CancelRegistry;
#[doc(hidden)]
pub use copy::mask_copy;
pub use handshake::APPLICATION_PROTOCOL;
#[doc(hidden)]
pub use masks::Treatment as CopyTreatment;
pub use statements::Statements;

/// Bounds and deadlines of a session. The defaults are what the product ships with.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Longest message taken from an agent, in bytes.
    pub frontend_frame: usize,
    /// Longest message taken from a server, in bytes.
    pub backend_frame: usize,
    /// For the agent to send its startup packet.
    pub startup: Duration,
    /// For the server to be connected to and logged in to.
    pub connect: Duration,
    /// For the proxy's own questions to the server.
    pub originate: Duration,
    /// Catalog facts older than this are read again.
    pub catalog_age: Duration,
    /// Sessions at a time.
    pub sessions: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            frontend_frame: 16 * 1024 * 1024,
            backend_frame: 64 * 1024 * 1024,
            startup: Duration::from_secs(10),
            connect: Duration::from_secs(15),
            originate: Duration::from_secs(15),
            catalog_age: Duration::from_secs(60),
            sessions: 1000,
        }
    }
}

/// Everything that the sessions of one PostgreSQL connection share.
#[derive(Debug)]
pub struct Connection {
    /// The authorisation flow.
    pub enforcement: Arc<Enforcement>,
    /// Who every session here is.
    pub subject: Arc<Subject>,
    /// Where to.
    pub target: server::Target,
    /// As whom.
    pub credential: server::Credential,
    /// Names.
    pub resolver: Arc<chaperone_wire::Resolver>,
    /// Our certificate to agents; without one no encryption is offered to them.
    pub tls: Option<chaperone_wire::TlsServer>,
    /// Which special addresses may be a target.
    pub allow_special: chaperone_wire::AllowSpecial,
    /// Whether a server may ask for an md5 hash of the password.
    pub allow_md5: bool,
    /// Whether a server may ask for the password itself.
    pub allow_cleartext: bool,
    /// Replaces values.
    pub masker: Arc<Masker>,
    /// Our cancel keys, for all connections of the process.
    pub cancels: Arc<CancelRegistry>,
    /// Parsed and classified texts.
    pub statements: Statements,
    /// Catalog facts as one session last read them.
    pub facts: CatalogCache,
    /// Bounds and deadlines.
    pub bounds: Bounds,
    /// One permit a session.
    pub slots: Arc<Semaphore>,
    /// Catalogs read so far.
    pub catalogs: AtomicU64,
}

impl Connection {
    /// The next catalog's generation.
    fn next_catalog(&self) -> u64 {
        self.catalogs
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1)
    }
}

/// The newest catalog facts of a connection; each session starts from them.
#[derive(Debug, Default)]
pub struct CatalogCache {
    newest: Mutex<Option<Facts>>,
    altered: AtomicU64,
}

/// Catalog facts and when they were read.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) database: String,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) read: Instant,
    /// [`CatalogCache::altered`] before they were read.
    pub(crate) altered: u64,
}

impl CatalogCache {
    /// How often a session has altered or dropped relations: once when that is forwarded, and once
    /// more when it holds for everybody. What any session knows from before is doubtful: the table
    /// that it reads may have become the parent of one with masked columns.
    fn altered(&self) -> u64 {
        self.altered.load(Ordering::SeqCst)
    }

    fn alter(&self) -> u64 {
        self.altered
            .fetch_add(1, Ordering::SeqCst)
            .saturating_add(1)
    }

    fn newest(&self, database: &str, age: Duration) -> Option<Facts> {
        self.lock()
            .as_ref()
            .filter(|facts| facts.database == database && facts.read.elapsed() < age)
            .cloned()
    }

    fn store(&self, facts: Facts) {
        *self.lock() = Some(facts);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Facts>> {
        self.newest
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Serves one agent connection to its end. Never fails: what goes wrong is told to the agent in
/// its protocol, recorded and logged.
///
/// Several connections are of one target and differ in the database that they pin: the agent's
/// startup packet says which is meant. They share their certificate, cancel keys and bounds.
pub async fn serve(connections: Arc<[Arc<Connection>]>, agent: TcpStream, drain: Drain) {
    startup::serve(&connections, agent, drain).await;
}
