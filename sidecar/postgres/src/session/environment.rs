//! Which names mean what at this moment: read from the server on the session's own connection,
//! never inferred (postgres.md, search_path is never inferred).

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use chaperone_policy::Reason;
use chaperone_sql::{CatalogBuilder, Overlay, SearchPath, catalog_sql};

use super::Facts;
use super::engine::{Engine, Fault};
use super::names::RESERVED;
use super::statements::Environment;
use super::target::Purpose;
use crate::codec::frontend::tag;
use crate::codec::{Backend, Part, TransactionStatus, encode};

/// Rows of a question of our own; columns in text format.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// SQLSTATE of a cancelled statement.
const QUERY_CANCELED: &str = "57014";
/// Prepared statements of this session, and all that was sent to prepare each
/// (PostgreSQL, pg_prepared_statements).
const PREPARED_STATEMENTS: &str = "SELECT name, statement FROM pg_catalog.pg_prepared_statements";
/// How often a cancelled question is asked again.
const ASKED_AGAIN: usize = 5;
/// Rows one question may answer with before it is an attack on our memory.
const MOST_ROWS: usize = 200_000;

/// Whether a message can be classified now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Yes, in `Engine::environment`.
    Ready,
    /// Replies are outstanding; once they have come the server can be asked.
    Wait,
}

impl Engine<'_> {
    /// Brings names up to date before a message is classified.
    pub(crate) async fn ready_environment(&mut self) -> Result<Readiness, Fault> {
        let age = self.shared.bounds.catalog_age;
        let stale = self.names_stale
            || self.is_altered_elsewhere()
            || (self.facts.read.elapsed() >= age && self.transaction == TransactionStatus::Idle);
        let dirty = self.path == SearchPath::Dirty;
        let doubtful = self.names.must_compare() && self.flow.policy().masking().has_columns();
        if stale || dirty || doubtful {
            if self.expected.is_empty() && !self.pipeline_open {
                // In a failed transaction nothing can be asked; nothing but ROLLBACK can run either.
                if self.transaction != TransactionStatus::Failed {
                    let refreshed = self.refresh_names(stale).await;
                    // A cancel that hit our question failed the agent's transaction with it, as it
                    // would have the agent's own statement; the server says so to what comes next.
                    if self.transaction != TransactionStatus::Failed {
                        refreshed?;
                    }
                }
            } else if self.expected.ends_ready() && !self.pipeline_open {
                return Ok(Readiness::Wait);
            }
        }
        let current = self.environment.as_ref().is_some_and(|environment| {
            Arc::ptr_eq(&environment.catalog, &self.facts.catalog)
                && environment.path == self.path
                && environment.policy == self.flow.policy().digest()
        });
        if !current {
            self.environment = Some(self.shared.statements.environment(
                &self.facts.catalog,
                &self.path,
                self.flow.policy(),
            ));
        }
        Ok(Readiness::Ready)
    }

    /// The environment that [`Engine::ready_environment`] made.
    pub(crate) fn current_environment(&mut self) -> Arc<Environment> {
        match &self.environment {
            Some(environment) => Arc::clone(environment),
            None => self.shared.statements.environment(
                &self.facts.catalog,
                &self.path,
                self.flow.policy(),
            ),
        }
    }

    /// Whether another session has altered relations since this one's catalog was read.
    pub(crate) fn is_altered_elsewhere(&self) -> bool {
        self.facts.altered != self.shared.facts.altered()
    }

    /// This session alters relations, or what it altered now holds: every other one has to read
    /// the catalog again, and this one does anyway.
    pub(crate) fn alters(&mut self) {
        let now = self.shared.facts.alter();
        if self.facts.altered.saturating_add(1) == now {
            self.facts.altered = now;
        }
    }

    async fn refresh_names(&mut self, catalog: bool) -> Result<(), Fault> {
        if catalog {
            let altered = self.shared.facts.altered();
            let mut builder = CatalogBuilder::new();
            let queries = &catalog_sql::QUERIES;
            let texts: Vec<&str> = queries
                .iter()
                .map(|query| query.text)
                .chain([catalog_sql::OWN_TEMPORARY_SCHEMA])
                .collect();
            let mut answers = self.ask(&texts).await?;
            self.own_temp = first_cell(answers.pop());
            for (query, rows) in queries.iter().zip(answers) {
                for row in rows {
                    let row: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
                    builder
                        .add(query.kind, &row)
                        .map_err(|error| Fault::new(Reason::TargetProtocol, error.to_string()))?;
                }
            }
            let facts = Facts {
                database: self.facts.database.clone(),
                catalog: Arc::new(builder.build(self.shared.next_catalog())),
                read: Instant::now(),
                altered,
            };
            // What a transaction has not committed is nobody else's.
            if self.transaction == TransactionStatus::Idle {
                self.shared.facts.store(facts.clone());
            }
            self.facts = facts;
            self.names_stale = false;
        }
        if self.names.must_compare() {
            self.compare_statements().await?;
        }
        // Everything that was pending has been read back.
        self.overlay = Overlay::default();
        // SHOW takes no snapshot, so a transaction may still set its isolation level afterwards.
        let shown = first_cell(self.ask(&["SHOW search_path"]).await?.pop());
        self.path = catalog_sql::effective_search_path(
            &shown.unwrap_or_default(),
            &self.role,
            self.own_temp.as_deref(),
            &self.facts.catalog,
        );
        Ok(())
    }

    /// Functions can PREPARE and DEALLOCATE: what the server no longer lists as it was sent is
    /// forgotten.
    async fn compare_statements(&mut self) -> Result<(), Fault> {
        let rows = self.ask(&[PREPARED_STATEMENTS]).await?.pop();
        let there = rows
            .into_iter()
            .flatten()
            .filter_map(|row| {
                let mut cells = row.into_iter();
                Some((cells.next()??, cells.next()??))
            })
            .collect();
        self.names.compare(&there);
        Ok(())
    }

    /// Asks the server questions of our own and waits for the answers. Only while nothing is
    /// outstanding, and in the extended protocol with names of our own, so that the agent's
    /// unnamed statement and portal live on.
    ///
    /// A cancel of the agent's that comes late hits the question instead: it is asked again, as
    /// long as the question's failure is nobody's transaction.
    async fn ask(&mut self, questions: &[&str]) -> Result<Vec<Rows>, Fault> {
        if let Some(cancel) = self.cancelling.take() {
            // Its own deadline bounds it; a panic in it has been counted.
            let _ = cancel.await;
        }
        for _ in 0..ASKED_AGAIN {
            if let Some(answers) = self.ask_once(questions).await? {
                return Ok(answers);
            }
            if self.transaction != TransactionStatus::Idle {
                break;
            }
        }
        Err(Fault::new(
            Reason::Cancelled,
            "the catalog could not be read because statements were cancelled all the time",
        ))
    }

    /// The answers; `None` when the question was cancelled.
    async fn ask_once(&mut self, questions: &[&str]) -> Result<Option<Vec<Rows>>, Fault> {
        let mut bytes = BytesMut::new();
        for question in questions {
            encode::parse(&mut bytes, RESERVED, question);
            bind_and_execute(&mut bytes);
            encode::close(&mut bytes, Part::Portal, RESERVED);
            encode::close(&mut bytes, Part::Statement, RESERVED);
        }
        encode::sync(&mut bytes);
        self.target
            .originate(Purpose::Catalog, &bytes, self.flow.record())
            .map_err(|error| Fault::cannot_record(&error))?;
        let deadline = self.shared.bounds.originate;
        match tokio::time::timeout(deadline, self.answers(questions.len())).await {
            Ok(answers) => answers,
            Err(_) => Err(Fault::new(
                Reason::TargetProtocol,
                "the server did not answer a question about its catalog in time",
            )),
        }
    }

    async fn answers(&mut self, questions: usize) -> Result<Option<Vec<Rows>>, Fault> {
        self.write_target().await?;
        let mut answers: Vec<Rows> = vec![Vec::new(); questions];
        let mut current = 0_usize;
        let mut total = 0_usize;
        let mut failed: Option<(String, String)> = None;
        loop {
            while let Some(frame) = self.next_backend()? {
                let message = Backend::parse(frame.as_ref())
                    .map_err(|error| Fault::target_protocol(&error))?;
                match message {
                    Backend::DataRow(row) => {
                        total = total.saturating_add(1);
                        if total > MOST_ROWS {
                            return Err(Fault::new(
                                Reason::TargetProtocol,
                                "the catalog has more relations than can be kept",
                            ));
                        }
                        if let Some(rows) = answers.get_mut(current) {
                            rows.push(
                                row.cells()
                                    .map(|cell| {
                                        cell.map(|bytes| {
                                            String::from_utf8_lossy(bytes).into_owned()
                                        })
                                    })
                                    .collect(),
                            );
                        }
                    }
                    Backend::CommandComplete { .. } | Backend::EmptyQueryResponse => {
                        current = current.saturating_add(1);
                    }
                    Backend::ParseComplete | Backend::BindComplete | Backend::CloseComplete => {}
                    Backend::ErrorResponse(fields) => {
                        failed = Some((fields.code().into_owned(), fields.message().into_owned()));
                        if fields.is_fatal() {
                            return Err(Fault::new(Reason::TargetRefused, fields.message()));
                        }
                    }
                    Backend::ReadyForQuery(status) => {
                        self.transaction = status;
                        return match failed {
                            None => Ok(Some(answers)),
                            Some((code, _)) if code == QUERY_CANCELED => Ok(None),
                            Some((_, message)) => Err(Fault::new(
                                Reason::TargetProtocol,
                                format!("the catalog cannot be read: {message}"),
                            )),
                        };
                    }
                    Backend::NoticeResponse(_)
                    | Backend::NotificationResponse { .. }
                    | Backend::ParameterStatus { .. } => self.asynchronous(&frame)?,
                    _ => {
                        return Err(Fault::new(
                            Reason::TargetProtocol,
                            "the server answered a question with something else",
                        ));
                    }
                }
            }
            self.read_target().await?;
        }
    }
}

fn first_cell(rows: Option<Rows>) -> Option<String> {
    rows?.into_iter().next()?.into_iter().next()?
}

/// Bind without parameters and with text results, and Execute for all rows, under our own name
/// (PostgreSQL, Message Formats, Bind and Execute).
fn bind_and_execute(out: &mut BytesMut) {
    encode::message(out, tag::BIND, |out| {
        encode::cstr(out, RESERVED.as_bytes());
        encode::cstr(out, RESERVED.as_bytes());
        out.extend_from_slice(&[0; 6]);
    });
    encode::message(out, tag::EXECUTE, |out| {
        encode::cstr(out, RESERVED.as_bytes());
        out.extend_from_slice(&[0; 4]);
    });
}
