//! Simple queries of our own, on a connection that nobody else is using.

use std::io;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use super::connect::{MAX_COLLECTED_FRAME, ServerConnection};
use super::error::QueryError;
use crate::codec::{Backend, DataRow, encode, frame};

/// Messages for the client that may pile up during one query of ours.
const MAX_DEFERRED: usize = 1024;

impl ServerConnection {
    /// Runs `sql` as one simple Query and hands each row to `on_row` with the number of its
    /// statement, counted from 0. What the server says meanwhile to the client is kept in
    /// [`ServerConnection::deferred`].
    ///
    /// # Errors
    /// [`QueryError`]; only after [`QueryError::Server`] can the connection be used again. An error
    /// of `on_row` is returned once the server is ready again.
    pub(super) async fn query(
        &mut self,
        sql: &str,
        deadline: Instant,
        on_row: impl FnMut(usize, DataRow<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        timeout_at(deadline, self.query_untimed(sql, on_row))
            .await
            .map_err(|_| QueryError::TimedOut)?
    }

    async fn query_untimed(
        &mut self,
        sql: &str,
        mut on_row: impl FnMut(usize, DataRow<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let mut out = BytesMut::new();
        encode::query(&mut out, sql);
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        let mut statement = 0;
        let mut outcome = Ok(());
        loop {
            let Some(frame) = frame::next(self.buffer.bytes_mut(), MAX_COLLECTED_FRAME)? else {
                if self.buffer.fill(&mut self.stream).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                continue;
            };
            match Backend::parse(frame.as_ref())? {
                Backend::DataRow(row) => {
                    if outcome.is_ok() {
                        outcome = on_row(statement, row);
                    }
                }
                Backend::CommandComplete { .. } => statement += 1,
                Backend::ErrorResponse(fields) => {
                    outcome = Err(QueryError::Server {
                        code: fields.code().into_owned(),
                        message: fields.message().into_owned(),
                    });
                }
                Backend::ReadyForQuery(status) => {
                    self.status = status;
                    return outcome;
                }
                Backend::RowDescription(_) | Backend::EmptyQueryResponse => {}
                Backend::ParameterStatus { name, value } => {
                    self.parameters.insert(name.to_owned(), value.to_owned());
                    self.defer(frame)?;
                }
                Backend::NoticeResponse(_) | Backend::NotificationResponse { .. } => {
                    self.defer(frame)?;
                }
                _ => {
                    return Err(QueryError::Protocol {
                        message: "it answered a query with a message that has no place there"
                            .to_owned(),
                    });
                }
            }
        }
    }

    fn defer(&mut self, frame: frame::Frame) -> Result<(), QueryError> {
        if self.deferred.len() >= MAX_DEFERRED {
            return Err(QueryError::Protocol {
                message: "it sends too many messages between results".to_owned(),
            });
        }
        self.deferred.push_back(frame);
        Ok(())
    }
}
