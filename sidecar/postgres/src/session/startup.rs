//! The beginning of a session: slot, cancel key, settings, login, catalog.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use chaperone_enforce::{Command, Denial, Phase, Session as Flow, Start};
use chaperone_evidence::{Outcome, OutcomeStatus};
use chaperone_mask::Detectors;
use chaperone_policy::{Access, Masking, Operation, Policy, Protocol, Reason, Verdict};
use chaperone_sql::SearchPath;
use chaperone_wire::{Drain, ReadBuffer, Stream};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{timeout, timeout_at};

use super::authenticate::{self, Unproven};
use super::cancel::CancelKey;
use super::engine::{Engine, Fault, Parts};
use super::errors::error_response;
use super::handshake::{self, Opened};
use super::values::Masks;
use super::{Connection, Facts};
use crate::codec::{Severity, Startup, TransactionStatus, encode};
use crate::server::{self, ConnectOptions, ServerConnection};

pub(super) async fn serve(connections: &[Arc<Connection>], tcp: TcpStream, drain: Drain) {
    let Some(first) = connections.first() else {
        return;
    };
    if chaperone_wire::prepare(&tcp).is_err() {
        return;
    }
    let cancels = &first.cancels;
    let mut buffer = ReadBuffer::new(first.bounds.frontend_frame.saturating_add(8));
    let deadline = tokio::time::Instant::now() + first.bounds.startup;
    let tls = first.tls.as_ref();
    let opening = handshake::open(tcp, &mut buffer, tls, cancels, deadline);
    let (mut agent, startup) = match timeout_at(deadline, opening).await {
        Ok(Opened::Session(agent, startup)) => (agent, startup),
        Ok(Opened::Closed) | Err(_) => return,
        Ok(Opened::Refused(mut agent, denial)) => return refuse(&mut agent, &denial).await,
    };
    let connection = meant(connections, &startup).unwrap_or(first);
    let Ok(_slot) = Arc::clone(&connection.slots).try_acquire_owned() else {
        let denial = Denial::new(Reason::TooManySessions, "too many sessions are open")
            .with_hint("close some, or raise the limit of sessions");
        return refuse(&mut agent, &denial).await;
    };
    let (signal, cancelled) = mpsc::channel(1);
    let length = if startup.version.long_cancel_keys() {
        32
    } else {
        4
    };
    let Ok(key) = cancels.register(length, signal) else {
        let denial = Denial::new(Reason::Internal, "no random numbers for a cancel key");
        return refuse(&mut agent, &denial).await;
    };
    let mut start = Start {
        claims: claims(&startup),
        purpose: startup
            .settings
            .iter()
            .rev()
            .find(|(name, _)| name == "application_name")
            .map(|(_, value)| value.clone()),
        token: None,
    };
    let (enforcement, subject) = (&connection.enforcement, &connection.subject);
    if let Some(accepting) = enforcement.accepting(subject) {
        let until = tokio::time::Instant::now() + connection.bounds.startup;
        match authenticate::token(&mut agent, &mut buffer, &startup, accepting, until).await {
            Ok(verified) => start.token = Some(verified),
            Err(Unproven::Gone) => return,
            Err(Unproven::Refused(denial)) => {
                let denial = enforcement.refuse_token(subject, start, denial).await;
                return refuse(&mut agent, &denial).await;
            }
        }
    }
    // What has to come before authentication has come if there was one.
    let negotiated = start.token.is_some();
    let mut flow = match enforcement.open(Arc::clone(subject), start).await {
        Ok(flow) => flow,
        Err(denial) => return refuse(&mut agent, &denial).await,
    };
    match log_in(connection, &mut flow, &startup).await {
        Err(Fault(denial)) => {
            refuse(&mut agent, &denial).await;
            if let Err(error) = flow.end(Some(&denial)).await {
                tracing::error!(%error, "the end of a session could not be recorded");
            }
        }
        Ok(LoggedIn {
            mut server,
            facts,
            path,
            masks,
            record_masks,
        }) => {
            let greeting = greeting(&startup, negotiated, &mut server, &key);
            let role = connection.credential.username.clone();
            let cancel_handle = server.cancel_handle();
            let (server_reader, server_writer) = server.stream.into_split();
            let (agent_reader, agent_writer) = agent.into_split();
            Engine::new(Parts {
                shared: connection,
                flow,
                masks,
                record_masks,
                role,
                agent: (agent_reader, agent_writer, buffer),
                server: (server_reader, server_writer, server.buffer),
                facts,
                path,
                cancel_handle,
                cancels: cancelled,
                drain,
                greeting,
            })
            .run()
            .await;
        }
    }
}

/// The connection whose pinned database the agent names. Where none is, the first one words why.
fn meant<'a>(connections: &'a [Arc<Connection>], startup: &Startup) -> Option<&'a Arc<Connection>> {
    let database = startup.database.as_deref()?;
    connections
        .iter()
        .find(|connection| connection.target.database == database)
}

/// What the client says of itself: recorded, matched by no rule.
fn claims(startup: &Startup) -> BTreeMap<String, String> {
    let mut claims = BTreeMap::from([("user".to_owned(), startup.user.clone())]);
    if let Some(database) = &startup.database {
        claims.insert("database".to_owned(), database.clone());
    }
    for (name, value) in &startup.settings {
        if name == "application_name" {
            claims.insert(name.clone(), value.clone());
        }
    }
    claims
}

struct LoggedIn {
    server: ServerConnection,
    facts: Facts,
    path: SearchPath,
    masks: Masks,
    record_masks: Masks,
}

async fn log_in(
    connection: &Connection,
    flow: &mut Flow,
    startup: &Startup,
) -> Result<LoggedIn, Fault> {
    // Nothing is to be had here; the target is not troubled for it.
    if let Some((reason, message)) = flow.policy().unavailable() {
        return Err(Fault::new(reason, message));
    }
    let database = database(connection, startup)?;
    let settings = settings(flow, startup).await?;
    let (masks, record_masks) = masks(connection, flow.policy());
    let mut target = connection.target.clone();
    target.database.clone_from(&database);
    let deadline = tokio::time::Instant::now() + connection.bounds.connect;
    // Recorded without its bytes: they hold the credential's proof.
    flow.record()
        .proxy("Login", &[])
        .map_err(|error| Fault::cannot_record(&error))?;
    let options = ConnectOptions {
        allow_special: connection.allow_special,
        allow_md5: connection.allow_md5,
        allow_cleartext: connection.allow_cleartext,
        deadline,
    };
    let mut server = server::connect(
        &connection.resolver,
        &target,
        &connection.credential,
        &settings,
        &options,
    )
    .await
    .map_err(|error| Fault::new(error.reason(), error.to_string()))?;
    let altered = connection.facts.altered();
    let (facts, path) = match connection
        .facts
        .newest(&database, connection.bounds.catalog_age)
    {
        Some(facts) => {
            let names = server::load_search_path(&mut server, deadline)
                .await
                .map_err(|error| Fault::new(error.reason(), error.to_string()))?;
            (facts, SearchPath::Known(names))
        }
        None => {
            flow.record()
                .proxy("Catalog", &[])
                .map_err(|error| Fault::cannot_record(&error))?;
            let mut snapshot = server::load_catalog(&mut server, deadline)
                .await
                .map_err(|error| Fault::new(error.reason(), error.to_string()))?;
            snapshot.catalog.generation = connection.next_catalog();
            let facts = Facts {
                database,
                catalog: Arc::new(snapshot.catalog),
                read: Instant::now(),
                altered,
            };
            connection.facts.store(facts.clone());
            (facts, SearchPath::Known(snapshot.search_path))
        }
    };
    Ok(LoggedIn {
        server,
        facts,
        path,
        masks,
        record_masks,
    })
}

/// The database: the Connection's where it pins one, else the client's.
fn database(connection: &Connection, startup: &Startup) -> Result<String, Fault> {
    let asked = startup.database.as_deref().unwrap_or(&startup.user);
    let pinned = &connection.target.database;
    if pinned.is_empty() {
        return Ok(asked.to_owned());
    }
    // A client that names none means its user's: it gets the Connection's.
    match &startup.database {
        Some(database) if database != pinned => Err(Fault(
            Denial::new(
                Reason::DatabaseDenied,
                format!("this connection is to database \"{pinned}\", not \"{database}\""),
            )
            .with_hint("leave the database out, or name that one"),
        )),
        _ => Ok(pinned.clone()),
    }
}

/// Startup settings go the way of SET: each is an access, decided on together.
async fn settings(flow: &mut Flow, startup: &Startup) -> Result<Vec<(String, String)>, Fault> {
    let mut passed = Vec::new();
    let mut accesses: Vec<Access> = Vec::new();
    for (name, value) in &startup.settings {
        // Says how a token is brought, and means nothing to the server.
        if authenticate::is_ours(name) {
            continue;
        }
        // psql without LANG asks for SQL_ASCII; it is logged in and answered as UTF8.
        if name == "client_encoding" {
            let normal: String = value
                .chars()
                .filter(|c| c.is_ascii_alphanumeric())
                .map(|c| c.to_ascii_uppercase())
                .collect();
            if !matches!(normal.as_str(), "UTF8" | "UNICODE" | "SQLASCII") {
                return Err(Fault::new(
                    Reason::SettingDenied,
                    format!("client_encoding {value} is not offered; use UTF8"),
                ));
            }
            continue;
        }
        accesses.push(chaperone_sql::setting_access(name, Some(value)));
        passed.push((name.clone(), value.clone()));
    }
    if accesses.is_empty() {
        return Ok(passed);
    }
    let operation = Operation {
        protocol: Protocol::Postgres,
        accesses,
        command: String::new(),
        parameters: Vec::new(),
    };
    let decision = flow.decide_again(&operation);
    let shown = startup
        .settings
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(" ");
    let command = Command {
        phase: Phase::Command,
        verb: "STARTUP",
        operation: &operation,
        text: &shown,
        parameters: &[],
        exact: &[],
        client: &[],
        refers_to: None,
    };
    if matches!(decision.verdict, Verdict::Allow | Verdict::Observe) {
        // They go out with our own login, which needs no permit; the decision is recorded all the
        // same, before it.
        let permit = flow.permit(&decision, &command).await.map_err(Fault)?;
        let outcome = Outcome {
            intent: permit.sequence(),
            status: OutcomeStatus::Completed,
            detail: "STARTUP".to_owned(),
            rows: 0,
            bytes: 0,
            duration: std::time::Duration::ZERO,
        };
        flow.record()
            .outcome(outcome)
            .map_err(|error| Fault::cannot_record(&error))?;
        return Ok(passed);
    }
    let mut denied = decision;
    denied.verdict = Verdict::Deny;
    denied.approvals.clear();
    denied.reason = Reason::SettingDenied;
    let what = denied
        .access
        .as_ref()
        .map_or_else(String::new, ToString::to_string);
    denied.message = Some(format!("a startup option is not allowed: {what}"));
    Err(Fault(flow.refuse(&denied, &command).await))
}

/// What masks values under this policy: for the agent, and for the record.
pub(super) fn masks(connection: &Connection, policy: &Policy) -> (Masks, Masks) {
    let of = |masking: &Masking| {
        let rules: Vec<_> = masking
            .detectors()
            .iter()
            .map(|rule| (rule.detector, rule.strategy))
            .collect();
        let detectors = (!rules.is_empty()).then(|| Arc::new(Detectors::new(&rules)));
        Masks {
            masker: Arc::clone(&connection.masker),
            detectors,
        }
    };
    let agent = of(policy.masking());
    let record = if policy.is_observing() {
        of(policy.record_masking())
    } else {
        agent.clone()
    };
    (agent, record)
}

/// What the agent is told once the server has let us in.
fn greeting(
    startup: &Startup,
    negotiated: bool,
    server: &mut ServerConnection,
    key: &CancelKey,
) -> BytesMut {
    let mut out = BytesMut::new();
    if !negotiated {
        negotiate(startup, &mut out);
    }
    encode::authentication_ok(&mut out);
    for (name, value) in &server.parameters {
        encode::parameter_status(&mut out, name, value);
    }
    encode::backend_key_data(&mut out, key.pid, &key.key);
    encode::ready_for_query(&mut out, TransactionStatus::Idle);
    // Parameter changes seen while we logged in are in `parameters`; notices are ours to drop.
    server.deferred.clear();
    out
}

/// Answers an unknown minor version and unknown options; comes before authentication.
pub(super) fn negotiate(startup: &Startup, out: &mut BytesMut) {
    if startup.needs_negotiation() {
        encode::negotiate_protocol_version(
            out,
            startup.version.negotiated().minor,
            &startup.protocol_options,
        );
    }
}

async fn refuse(agent: &mut Stream, denial: &Denial) {
    tracing::info!(reason = %denial.reason, "a session was refused: {}", denial.message);
    let mut out = BytesMut::new();
    error_response(denial, Severity::Fatal).encode(&mut out);
    // The agent may be gone; there is nobody else to tell.
    let _ = timeout(std::time::Duration::from_secs(2), async {
        agent.write_all(&out).await?;
        agent.shutdown().await
    })
    .await;
}
