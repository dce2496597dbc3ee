//! What the server says: matched with what it owes, then passed on, swallowed or replaced.
//! Rows and COPY data are in `results`.

use std::borrow::Cow;
use std::time::Instant;

use bytes::BytesMut;
use chaperone_enforce::Denial;
use chaperone_evidence::{Outcome, OutcomeStatus};
use chaperone_mask::MARK;
use chaperone_policy::{Access, Effect, Object, Reason};
use chaperone_sql::{Kind, SearchPath, SessionChange};

use super::engine::{Engine, Fault, RECORD_PIECE};
use super::errors::{detected, error_response, sanitized};
use super::expect::{CopyRun, Expect, Running};
use super::frontend::touches;
use super::statements::Batch;
use super::values::Masks;
use crate::codec::backend::tag;
use crate::codec::error_response::field;
use crate::codec::{
    Backend, ErrorFields, Frame, Severity, TransactionStatus, command_rows, encode,
};

/// SQLSTATE of a cancelled statement.
const QUERY_CANCELED: &str = "57014";

impl Engine<'_> {
    /// Handles the messages that are there.
    pub(crate) async fn backend_messages(&mut self) -> Result<(), Fault> {
        let before = self.out.len();
        loop {
            if !self.pass_run() {
                let Some(frame) = self.next_backend()? else {
                    break;
                };
                self.backend(&frame)?;
            }
            // A record of many messages costs little more than one of one.
            if self.out.len().saturating_sub(self.recorded) >= RECORD_PIECE {
                self.record_all_output().await?;
            }
        }
        self.record_all_output().await?;
        let passed = self.out.len().saturating_sub(before) as u64;
        let limit = self.flow.policy().limits().bytes_per_minute;
        if passed > 0 && !self.flow.shared().rates.bytes(passed, limit) && self.running().is_some()
        {
            self.withhold(Denial::new(
                Reason::LimitExceeded,
                "more bytes in this minute than the policy allows",
            ));
        }
        Ok(())
    }

    fn backend(&mut self, frame: &Frame) -> Result<(), Fault> {
        match frame.tag {
            tag::DATA_ROW => self.data_row(frame),
            tag::COPY_DATA => self.copy_data_out(frame),
            tag::READY_FOR_QUERY => self.ready(frame),
            tag::ERROR_RESPONSE => self.error(frame),
            tag::NOTICE_RESPONSE | tag::NOTIFICATION_RESPONSE | tag::PARAMETER_STATUS => {
                self.asynchronous(frame)
            }
            tag::ROW_DESCRIPTION | tag::NO_DATA | tag::PARAMETER_DESCRIPTION => {
                self.description(frame)
            }
            tag::COMMAND_COMPLETE | tag::EMPTY_QUERY_RESPONSE | tag::PORTAL_SUSPENDED => {
                self.completed(frame)
            }
            tag::COPY_IN_RESPONSE => self.copy_in_begins(frame),
            tag::COPY_OUT_RESPONSE => self.copy_out_begins(frame),
            tag::COPY_DONE => {
                if self.running().is_none() {
                    return Err(unexpected(frame));
                }
                self.emit(&frame.raw);
                Ok(())
            }
            tag::PARSE_COMPLETE | tag::BIND_COMPLETE | tag::CLOSE_COMPLETE => {
                let owed = matches!(
                    (frame.tag, self.expected.front()),
                    (tag::PARSE_COMPLETE, Some(Expect::Parse { .. }))
                        | (tag::BIND_COMPLETE, Some(Expect::Bind { .. }))
                        | (tag::CLOSE_COMPLETE, Some(Expect::Close))
                );
                if !owed {
                    return Err(unexpected(frame));
                }
                let answered = self.expected.pop();
                self.names
                    .confirm(answered.as_ref().map_or(0, Expect::undecided));
                self.emit(&frame.raw);
                Ok(())
            }
            _ => Err(unexpected(frame)),
        }
    }

    /// Sends bytes to the agent, unless the rest of a withheld result is being swallowed.
    pub(crate) fn emit(&mut self, bytes: &[u8]) {
        if !self.swallowing {
            self.out.extend_from_slice(bytes);
        }
    }

    /// Messages that may come at any time.
    pub(crate) fn asynchronous(&mut self, frame: &Frame) -> Result<(), Fault> {
        match Backend::parse(frame.as_ref()).map_err(|error| Fault::target_protocol(&error))? {
            Backend::NoticeResponse(fields) => {
                let touches = self.quotes_values();
                self.pass_report(&fields, frame.tag, touches);
            }
            Backend::NotificationResponse {
                pid,
                channel,
                payload,
            } => {
                let from = self.out.len();
                let policy = self.flow.policy();
                let [hidden, unrecorded] = [policy.masking(), policy.record_masking()]
                    .map(chaperone_policy::Masking::has_columns);
                let shown = payload_shown(payload, hidden, &self.masks);
                notification(pid, channel, &shown, &mut self.out);
                if self.observes() {
                    let recorded = payload_shown(payload, unrecorded, &self.record_masks);
                    let mut instead = BytesMut::new();
                    notification(pid, channel, &recorded, &mut instead);
                    self.substitute(from, instead.freeze());
                }
            }
            Backend::ParameterStatus { name, value } => {
                let understood = match name {
                    "client_encoding" => matches!(value, "UTF8" | "UNICODE"),
                    "standard_conforming_strings" => value == "on",
                    _ => true,
                };
                if !understood {
                    return Err(Fault::new(
                        Reason::SettingDenied,
                        format!(
                            "the session's {name} became {value}, under which commands cannot be understood"
                        ),
                    ));
                }
                self.out.extend_from_slice(&frame.raw);
            }
            _ => return Err(unexpected(frame)),
        }
        Ok(())
    }

    fn description(&mut self, frame: &Frame) -> Result<(), Fault> {
        let own = match self.expected.front() {
            Some(Expect::OwnDescribe(prepared, described)) => Some((
                std::sync::Arc::clone(prepared),
                std::sync::Arc::clone(described),
            )),
            Some(Expect::Describe) => None,
            Some(Expect::Query(_)) if frame.tag == tag::ROW_DESCRIPTION => {
                return self.result_begins(frame);
            }
            _ => return Err(unexpected(frame)),
        };
        let ends = frame.tag != tag::PARAMETER_DESCRIPTION;
        match own {
            None => self.emit(&frame.raw),
            Some((prepared, described)) => {
                match Backend::parse(frame.as_ref())
                    .map_err(|error| Fault::target_protocol(&error))?
                {
                    Backend::ParameterDescription(types) => {
                        let _ = prepared.parameter_types.set(types);
                    }
                    Backend::RowDescription(description) => {
                        let fields = super::masks::fields_of(&description);
                        let _ = described.fields.set(Some(fields.into()));
                    }
                    _ => {
                        let _ = described.fields.set(None);
                    }
                }
            }
        }
        if ends {
            self.expected.pop();
        }
        Ok(())
    }

    fn completed(&mut self, frame: &Frame) -> Result<(), Fault> {
        let parsed =
            Backend::parse(frame.as_ref()).map_err(|error| Fault::target_protocol(&error))?;
        let (label, done) = match parsed {
            Backend::CommandComplete { tag } => (tag, true),
            Backend::PortalSuspended => ("SUSPENDED", false),
            _ => ("", true),
        };
        let Some(running) = self.expected.running() else {
            return Err(unexpected(frame));
        };
        label.clone_into(&mut running.tag);
        if running.rows == 0
            && let Some(rows) = command_rows(label)
            && !label.starts_with("SELECT")
        {
            running.rows = rows;
        }
        let mut confirmed = std::mem::take(&mut running.at_once);
        if done
            && let Some((statement, count)) = running.changes.front().copied()
            && statement == running.statement
        {
            running.changes.pop_front();
            confirmed = confirmed.saturating_add(count);
        }
        self.names.confirm(confirmed);
        let Some(running) = self.expected.running() else {
            return Ok(());
        };
        running.statement = running.statement.saturating_add(1);
        running.plan = None;
        running.record_plan = None;
        running.fields = None;
        running.copy = None;
        let refused = running.refused.take();
        let extended = running.portal.is_some();
        match refused {
            // The COPY ended before our refusal reached it: the agent must not believe it failed
            // when it did not, so the session cannot go on.
            Some(denial) => return Err(Fault(*denial)),
            None => self.emit(&frame.raw),
        }
        if extended && let Some(Expect::Execute(running)) = self.expected.pop() {
            // A portal that was suspended has not done what it would do at its end.
            self.names.discard(running.undecided());
            self.finish(*running, None)?;
        }
        Ok(())
    }

    fn ready(&mut self, frame: &Frame) -> Result<(), Fault> {
        let Backend::ReadyForQuery(status) =
            Backend::parse(frame.as_ref()).map_err(|error| Fault::target_protocol(&error))?
        else {
            return Err(unexpected(frame));
        };
        match self.expected.pop() {
            Some(Expect::Query(running)) => {
                self.names.confirm(running.at_once);
                let rest = running.undecided().saturating_sub(running.at_once);
                self.names.discard(rest);
                self.finish(*running, None)?;
            }
            Some(
                Expect::Sync
                | Expect::Abort {
                    simple: true,
                    answered: true,
                    ..
                },
            ) => {}
            _ => return Err(unexpected(frame)),
        }
        if status == TransactionStatus::Idle {
            // One that the server opened for a pipeline has ended too.
            self.names.transaction_ended();
            self.touched = self
                .expected
                .all_running()
                .any(|running| touches(&running.batch));
        }
        if self.transaction != TransactionStatus::Idle && status == TransactionStatus::Idle {
            if self.path_in_transaction {
                self.path = SearchPath::Dirty;
            }
            if self.catalog_in_transaction {
                self.names_stale = true;
            }
        }
        if status == TransactionStatus::Idle && self.alters_in_transaction {
            self.alters();
        }
        if status == TransactionStatus::Idle && self.expected.is_empty() {
            self.alters_in_transaction = false;
            self.path_in_transaction = false;
            self.catalog_in_transaction = false;
        }
        self.transaction = status;
        self.swallowing = false;
        self.emit(&frame.raw);
        Ok(())
    }

    fn error(&mut self, frame: &Frame) -> Result<(), Fault> {
        let Backend::ErrorResponse(fields) =
            Backend::parse(frame.as_ref()).map_err(|error| Fault::target_protocol(&error))?
        else {
            return Err(unexpected(frame));
        };
        let code = fields.code().into_owned();
        let fatal = fields.is_fatal();
        let quotes = self.quotes_values();
        match self.expected.front() {
            None => {
                self.pass_error(&fields, frame.tag, quotes);
                return Ok(());
            }
            Some(Expect::Query(running)) => {
                running.failed = Some(code);
                // What was to come at once has come; what the rest of the text would have done
                // has not.
                let (at_once, rest) = (running.at_once, running.undecided());
                running.at_once = 0;
                running.changes.clear();
                let refused = running.refused.take();
                if let Some(denial) = &refused {
                    running.failed = Some(denial.reason.as_str().to_owned());
                }
                self.names.confirm(at_once);
                self.names.discard(rest.saturating_sub(at_once));
                match refused {
                    Some(denial) => self.refused(&denial),
                    None => self.pass_error(&fields, frame.tag, quotes),
                }
                return Ok(());
            }
            Some(Expect::Abort {
                denial,
                simple,
                answered,
            }) if !fatal => {
                let denial = denial.clone();
                *answered = true;
                let simple = *simple;
                self.refused(&denial);
                if simple {
                    return Ok(());
                }
            }
            Some(_) => {
                let refused = self
                    .expected
                    .running()
                    .and_then(|running| running.refused.take());
                match refused {
                    Some(denial) => {
                        self.refused(&denial);
                        return self.server_skips(denial.reason.as_str());
                    }
                    None => self.pass_error(&fields, frame.tag, quotes),
                }
            }
        }
        self.server_skips(&code)
    }

    /// Whether what the server says now may quote values of a masked column.
    fn quotes_values(&mut self) -> bool {
        if !self.flow.policy().masking().has_columns() {
            return self.expected.running().is_some_and(|r| touches(&r.batch));
        }
        match self.expected.front() {
            Some(Expect::Query(running) | Expect::Execute(running)) => {
                self.touched || touches(&running.batch)
            }
            // These evaluate constants of their own statement, and may quote them.
            Some(Expect::Parse { touches } | Expect::Bind { touches, .. }) => {
                self.touched || *touches
            }
            // Sync checks deferred constraints.
            _ => true,
        }
    }

    /// Only DryRun policies select: the agent gets what the server says, the record does not.
    pub(crate) fn observes(&self) -> bool {
        self.flow.policy().is_observing()
    }

    /// After an error in the extended protocol the server skips to the next Sync.
    fn server_skips(&mut self, code: &str) -> Result<(), Fault> {
        let (skipped, sync_is_out) = self.expected.skip_to_sync();
        if !sync_is_out {
            self.skipping = true;
        }
        for (position, expect) in skipped.into_iter().enumerate() {
            // The first one is the one that failed; the server never looked at the rest.
            let failed = position == 0;
            self.names.discard(expect.undecided());
            match expect {
                Expect::Bind { intent, .. } => {
                    let status = if failed {
                        OutcomeStatus::Failed
                    } else {
                        OutcomeStatus::NotForwarded
                    };
                    self.outcome(intent, status, code, Instant::now(), 0, 0)?;
                }
                Expect::Execute(mut running) if failed => {
                    running.failed = Some(code.to_owned());
                    self.finish(*running, None)?;
                }
                Expect::Query(running) | Expect::Execute(running) => {
                    self.finish(*running, Some(OutcomeStatus::NotForwarded))?;
                }
                Expect::Parse { .. }
                | Expect::Close
                | Expect::OwnDescribe(..)
                | Expect::Describe
                | Expect::Sync
                | Expect::Abort { .. } => {}
            }
        }
        Ok(())
    }

    fn pass_error(&mut self, fields: &ErrorFields<'_>, tag: u8, touches: bool) {
        if !self.swallowing {
            self.pass_report(fields, tag, touches);
        }
    }

    /// An error or a notice, for the agent and for the record.
    fn pass_report(&mut self, fields: &ErrorFields<'_>, tag: u8, touches: bool) {
        let from = self.out.len();
        let touches = touches || self.is_about_masked(fields) || self.is_from_beneath(fields);
        sanitized(tag, fields, touches, &self.masks, &mut self.out);
        if self.observes() {
            let touches = self.flow.policy().record_masking().has_columns();
            let mut instead = BytesMut::new();
            sanitized(tag, fields, touches, &self.record_masks, &mut instead);
            self.substitute(from, instead.freeze());
        }
    }

    /// Whether an error names a table with masked columns: what a foreign key cascades to fails
    /// in a statement that never named it, and quotes the row.
    fn is_about_masked(&mut self, fields: &ErrorFields<'_>) -> bool {
        let (Some(schema), Some(table)) = (fields.get(field::SCHEMA), fields.get(field::TABLE))
        else {
            return false;
        };
        match (std::str::from_utf8(schema), std::str::from_utf8(table)) {
            (Ok(schema), Ok(table)) => self.current_environment().masks.relation(schema, table),
            _ => true,
        }
    }

    /// Whether something that the statement did not name has spoken: a trigger or a function, whose
    /// CONTEXT says where. What values it quotes is not known. The one line that COPY gives for
    /// its own data is no such thing.
    fn is_from_beneath(&mut self, fields: &ErrorFields<'_>) -> bool {
        let Some(context) = fields.get(field::WHERE) else {
            return false;
        };
        if !self.flow.policy().masking().has_columns() {
            return false;
        }
        let copies = self
            .expected
            .running()
            .is_some_and(|running| matches!(running.copy, Some(CopyRun::In { .. })));
        !copies || !context.starts_with(b"COPY ") || context.contains(&b'\n')
    }

    fn refused(&mut self, denial: &Denial) {
        if !self.swallowing {
            error_response(denial, Severity::Error).encode(&mut self.out);
        }
    }

    /// Stops the result that runs: the agent gets an error, the rest is swallowed and the server
    /// told to stop.
    pub(crate) fn withhold(&mut self, denial: Denial) {
        if self.swallowing {
            return;
        }
        tracing::info!(session = self.flow.id(), reason = %denial.reason, "a result was withheld");
        error_response(&denial, Severity::Error).encode(&mut self.out);
        self.swallowing = true;
        let extended = matches!(self.expected.front(), Some(Expect::Execute(_)));
        if extended && !self.expected.has_sync() {
            self.skipping = true;
        }
        let handle = self.cancel_handle.clone();
        let deadline = tokio::time::Instant::now() + self.shared.bounds.connect;
        let task = tokio::spawn(async move {
            if let Err(error) = crate::server::cancel(&handle, deadline).await {
                tracing::warn!(%error, "a withheld result could not be cancelled at the server");
            }
        });
        self.stopping = Some(task);
    }

    /// What a forwarded batch may have changed, so that nothing later relies on it. True when
    /// there is anything.
    pub(crate) fn expect_changes(&mut self, batch: &Batch) -> bool {
        let mut any = false;
        if batch.operation.accesses.iter().any(alters_a_relation) {
            self.alters_in_transaction = true;
            self.alters();
        }
        for statement in &batch.statements {
            if matches!(statement.class.kind, Kind::Transaction) && !self.changed_in_transaction() {
                // Its end sets nothing back.
                continue;
            }
            for change in &statement.class.changes {
                any = true;
                if matches!(
                    change,
                    SessionChange::SearchPath | SessionChange::Everything
                ) {
                    self.path = SearchPath::Dirty;
                    self.path_in_transaction = true;
                }
                if matches!(change, SessionChange::Catalog | SessionChange::Everything) {
                    self.names_stale = true;
                    self.catalog_in_transaction = true;
                }
            }
        }
        any
    }

    fn changed_in_transaction(&self) -> bool {
        self.path_in_transaction || self.catalog_in_transaction
    }

    /// Closes a command in the record.
    fn finish(&mut self, running: Running, status: Option<OutcomeStatus>) -> Result<(), Fault> {
        let status = status.unwrap_or(match running.failed.as_deref() {
            None => OutcomeStatus::Completed,
            Some(QUERY_CANCELED) => OutcomeStatus::Cancelled,
            Some(_) => OutcomeStatus::Failed,
        });
        let detail = running.failed.clone().unwrap_or(running.tag);
        self.flow.passed(running.rows, running.masked);
        if running.masked > 0 {
            self.flow
                .record()
                .masked(chaperone_evidence::Masked {
                    by: running.masked_by.join(", "),
                    count: running.masked,
                })
                .map_err(|error| Fault::cannot_record(&error))?;
        }
        self.outcome(
            running.intent,
            status,
            &detail,
            running.started,
            running.rows,
            running.bytes,
        )
    }

    fn outcome(
        &mut self,
        intent: u64,
        status: OutcomeStatus,
        detail: &str,
        started: Instant,
        rows: u64,
        bytes: u64,
    ) -> Result<(), Fault> {
        // The answer stands in the record before its outcome.
        self.record_output()?;
        self.flow
            .record()
            .outcome(Outcome {
                intent,
                status,
                detail: detail.to_owned(),
                rows,
                bytes,
                duration: started.elapsed(),
            })
            .map_err(|error| Fault::cannot_record(&error))
    }
}

/// Whether what is known of a relation holds no longer. One that is new is nobody's yet, and one
/// that is temporary is nobody else's.
fn alters_a_relation(access: &Access) -> bool {
    matches!(access.effect, Effect::SchemaAlter | Effect::SchemaDestroy)
        && match &access.object {
            Object::Relation { schema, .. } => schema != "pg_temp",
            Object::Named { kind, .. } => kind == "schema",
            Object::Any | Object::Unresolved(_) => true,
            _ => false,
        }
}

/// The payload of a notification. Nobody can tell whose values another session, or a trigger, has
/// put into it.
fn payload_shown<'a>(payload: &'a str, hidden: bool, masks: &Masks) -> Cow<'a, [u8]> {
    if hidden && !payload.is_empty() {
        return Cow::Borrowed(MARK.as_bytes());
    }
    detected(payload.as_bytes(), masks)
}

fn notification(pid: i32, channel: &str, payload: &[u8], out: &mut BytesMut) {
    encode::message(out, tag::NOTIFICATION_RESPONSE, |out| {
        out.extend_from_slice(&pid.to_be_bytes());
        encode::cstr(out, channel.as_bytes());
        encode::cstr(out, payload);
    });
}

fn unexpected(frame: &Frame) -> Fault {
    Fault::new(
        Reason::TargetProtocol,
        format!(
            "the server sent a message of type {:?} that nothing asked for",
            char::from(frame.tag)
        ),
    )
}
