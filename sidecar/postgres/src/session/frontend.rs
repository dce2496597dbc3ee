//! What the agent asks for: simple Query, COPY data, and everything without a name.
//! The extended protocol is in `extended`.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;

use chaperone_enforce::{Command, Denial, Phase};
use chaperone_evidence::Part as Recorded;
use chaperone_mask::carries_mark;
use chaperone_policy::{Decision, Effect, Object, Operation, Reason, Verdict};
use chaperone_sql::{MaskedColumns, ParseError, SearchPath, Statement};

use super::engine::{Blocked, Engine, Fault, GOODBYE};
use super::environment::Readiness;
use super::errors::error_response;
use super::expect::{Expect, Running};
use super::hold::Authorised;
use super::names::{Meaning, is_usable_in_sql};
use super::statements::{Batch, Lookup};
use super::target::Purpose;
use super::text::{RecordedFrame, recorded_frame, redact, redact_unparsed};
use crate::codec::frontend::tag;
use crate::codec::{Frame, Frontend, Severity, TransactionStatus, encode};

/// Bytes before the text of a Query frame: type byte and length.
pub(crate) const QUERY_HEADER: usize = 5;
/// Why a mask may not come back.
const WRITE_BACK: &str =
    "a value of this statement carries a mask; writing it would destroy the real one";

/// Whether a decision counts against the rate of statements. Each command counts once, however
/// often it is decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    Now,
    Later,
}

impl Engine<'_> {
    /// Handles the messages that are there. True when the agent said goodbye.
    pub(crate) async fn frontend_messages(&mut self) -> Result<bool, Fault> {
        let goodbye = self.handle_frontend_messages().await?;
        self.settle().await?;
        Ok(goodbye)
    }

    async fn handle_frontend_messages(&mut self) -> Result<bool, Fault> {
        while self.blocked.is_none() && self.stopping.is_none() {
            let Some(frame) = self.next_frontend()? else {
                return Ok(false);
            };
            self.relieve_record().await?;
            if !Self::joins_staged(&frame) {
                self.settle().await?;
            }
            if self.skipping && !matches!(frame.tag, tag::SYNC | tag::TERMINATE) {
                self.skip(&frame)?;
                self.granted = None;
                continue;
            }
            if self.must_wait_for_copy(&frame)? {
                self.wait_for(Blocked::UntilCopy, frame)?;
                continue;
            }
            match frame.tag {
                tag::QUERY => self.query(frame).await?,
                tag::PARSE => self.parse(frame).await?,
                tag::BIND => self.bind(frame).await?,
                tag::EXECUTE => self.execute(frame).await?,
                tag::DESCRIBE => self.describe(&frame).await?,
                tag::CLOSE => self.close(&frame).await?,
                tag::SYNC => self.sync(&frame)?,
                tag::FLUSH => {
                    Frontend::parse(&frame).map_err(|error| Fault::protocol(&error))?;
                    self.forward_control(&frame)?;
                }
                tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => self.copy_in(frame).await?,
                tag::TERMINATE => {
                    Frontend::parse(&frame).map_err(|error| Fault::protocol(&error))?;
                    self.forward_control(&frame)?;
                    // The server ends its side on its own; waiting for it would gain nothing, and it
                    // may itself be waiting for an agent that does not read.
                    let _ = tokio::time::timeout(GOODBYE, self.write_target()).await;
                    return Ok(true);
                }
                tag::FUNCTION_CALL => {
                    let denial = Denial::new(
                        Reason::UnsupportedMessage,
                        "the function call message is not passed on",
                    )
                    .with_hint("call the function in a SELECT");
                    let denial = self.refuse_message(&frame, "FUNCTION CALL", denial).await;
                    self.deny_simple(denial)?;
                }
                other => {
                    return Err(Fault::new(
                        Reason::ProtocolViolation,
                        format!(
                            "a message of type {:?} has no place here",
                            char::from(other)
                        ),
                    ));
                }
            }
            if self.pending.is_none() {
                // An answer is for the message that was held, never for a later one.
                self.granted = None;
            }
        }
        Ok(false)
    }

    /// A message that the server would skip too: recorded, not forwarded.
    pub(crate) fn skip(&mut self, frame: &Frame) -> Result<(), Fault> {
        let parsed = Frontend::parse(frame).map_err(|error| Fault::protocol(&error))?;
        // A command that was never decided on is not in the record with its literals.
        let body = match parsed {
            Frontend::Sync | Frontend::Flush => None,
            _ => recorded_frame(&frame.raw, std::iter::once(QUERY_HEADER..frame.raw.len())),
        };
        let part = recorded_part(&frame.raw, body.as_ref());
        self.flow
            .record()
            .control(&[part])
            .map(drop)
            .map_err(|error| Fault::cannot_record(&error))
    }

    /// Records the refusal of a message that has no operation to decide on. What it says is
    /// masked: nobody has looked at it.
    pub(crate) async fn refuse_message(
        &mut self,
        frame: &Frame,
        verb: &str,
        denial: Denial,
    ) -> Denial {
        let body = recorded_frame(&frame.raw, std::iter::once(QUERY_HEADER..frame.raw.len()));
        let operation = Operation {
            protocol: chaperone_policy::Protocol::Postgres,
            accesses: Vec::new(),
            command: String::new(),
            parameters: Vec::new(),
        };
        let decision = self.flow.deny(denial.reason, None, &denial.message);
        let command = Command {
            phase: Phase::Command,
            verb,
            operation: &operation,
            text: "",
            parameters: &[],
            exact: &[frame.raw.as_ref()],
            client: &[recorded_part(&frame.raw, body.as_ref())],
            refers_to: None,
        };
        let mut refused = self.flow.refuse(&decision, &command).await;
        if denial.hint.is_some() && refused.reason == denial.reason {
            refused.hint = denial.hint;
        }
        refused
    }

    async fn query(&mut self, frame: Frame) -> Result<(), Fault> {
        if self.ready_environment().await? == Readiness::Wait {
            return self.wait_for(Blocked::UntilIdle, frame);
        }
        let Frontend::Query { text } =
            Frontend::parse(&frame).map_err(|error| Fault::protocol(&error))?
        else {
            return Ok(());
        };
        let batch = match self.classify(text) {
            Ok(Some(batch)) => batch,
            Ok(None) => return self.wait_until_settled(frame),
            Err(error) => {
                let denial = self
                    .refuse_unparsed(&error, text, &frame, Phase::Command, QUERY_HEADER)
                    .await;
                return self.deny_simple(denial);
            }
        };
        if let Some(name) = &batch.unknown {
            let denial = self.not_to_be_executed(name);
            let denial = self.refuse_message(&frame, &batch.verb, denial).await;
            return self.deny_simple(denial);
        }
        let decision = self.judge(&batch, &batch.operation, &[], Counted::Now);
        let redacted = redact(text, Some(&batch), &self.record_masks);
        let executed = self.executed(&batch);
        let shown = executed.shown(&redacted.text);
        let mut exact = vec![text.as_bytes()];
        exact.extend(executed.texts.iter().map(|text| text.as_bytes()));
        let recorded = recorded_frame(
            &frame.raw,
            redacted.spans.iter().map(|span| {
                span.start.saturating_add(QUERY_HEADER)..span.end.saturating_add(QUERY_HEADER)
            }),
        );
        let command = Command {
            phase: Phase::Command,
            verb: &batch.verb,
            operation: &batch.operation,
            text: &shown,
            parameters: &[],
            exact: &exact,
            client: &[recorded_part(&frame.raw, recorded.as_ref())],
            refers_to: None,
        };
        match self.authorise(&decision, &command, &frame).await {
            Authorised::Held => Ok(()),
            Authorised::Denied(denial) => self.deny_simple(denial),
            Authorised::Pass(pass) => {
                let generation = self.flow.generation();
                let mut running = Running::new(pass.intent(), Arc::clone(&batch), generation);
                self.pass(pass, &frame)?;
                running.at_once = self.names.expect_simple_query();
                self.forwarded(&batch, &mut running);
                self.expected.push(Expect::Query(Box::new(running)));
                self.names.next_section();
                Ok(())
            }
        }
    }

    /// What the EXECUTEs of a batch run: an approval is bound to that, not to a name that can
    /// mean something else in the next session, and the approver reads it.
    pub(crate) fn executed(&self, batch: &Batch) -> Executed {
        let mut executed = Executed::default();
        for name in &batch.executes {
            if let Meaning::Is(prepared) = self.names.statement(name) {
                let shown = redact(&prepared.text, Some(&prepared.batch), &self.record_masks);
                executed.texts.push(Arc::clone(&prepared.text));
                executed.shown.push(shown.text);
            }
        }
        executed
    }

    /// Classifies a text under the environment of now. `None`: it depends on a name that an
    /// earlier section is changing.
    pub(crate) fn classify(&mut self, text: &str) -> Result<Option<Arc<Batch>>, ParseError> {
        let environment = self.current_environment();
        let names = &self.names;
        let masked = environment.masks.any();
        let unsettled = Cell::new(false);
        let prepared = |name: &str| -> Option<Statement> {
            match names.statement(name) {
                Meaning::Is(prepared) if masked && names.is_statement_doubtful(name, &prepared) => {
                    None
                }
                Meaning::Is(prepared) => prepared
                    .batch
                    .statements
                    .first()
                    .map(|classified| classified.statement.clone()),
                Meaning::Nothing => None,
                Meaning::Unsettled => {
                    unsettled.set(true);
                    None
                }
            }
        };
        let cursor = |name: &str| -> Option<bool> {
            match names.open(name) {
                Meaning::Is(open) if names.is_doubtful(&open) => None,
                Meaning::Is(open) => Some(touches(open.batch())),
                Meaning::Nothing => None,
                Meaning::Unsettled => {
                    unsettled.set(true);
                    None
                }
            }
        };
        let batch = self.shared.statements.batch(
            text,
            &environment,
            &self.overlay,
            &Lookup {
                prepared: &prepared,
                cursor_touches_masked: &cursor,
            },
        )?;
        let fetches_unsettled = batch.statements.iter().any(|statement| {
            matches!(&statement.class.kind, chaperone_sql::Kind::Fetch { name }
                if matches!(names.open(name), Meaning::Unsettled))
        });
        Ok((!unsettled.get() && !fetches_unsettled).then_some(batch))
    }

    /// The whole decision on a batch: rules first, then what masking forbids.
    pub(crate) fn judge(
        &mut self,
        batch: &Batch,
        operation: &Operation,
        parameters: &[Option<String>],
        counted: Counted,
    ) -> Decision {
        // What was held is counted already.
        let counts = counted == Counted::Now && self.granted.is_none();
        let mut decision = if counts {
            self.flow.decide(operation)
        } else {
            self.flow.decide_again(operation)
        };
        if decision.verdict == Verdict::Deny {
            let unresolved = decision.reason == Reason::NotCovered
                && (self.path == SearchPath::Dirty || batch.leaves_names_open())
                && decision
                    .access
                    .as_ref()
                    .is_some_and(|access| matches!(access.object, Object::Unresolved(_)));
            if unresolved {
                decision.reason = Reason::SearchPathUnknown;
                decision.message = Some(
                    "the search path is not known behind what comes before this; name the schema, or send it on its own"
                        .to_owned(),
                );
            }
            return decision;
        }
        if let Some(denied) = self.stale_cursor(batch).or_else(|| self.unusable(batch)) {
            return denied;
        }
        let refused = self.masking_refusal(batch, parameters);
        let equality: u64 = batch
            .statements
            .iter()
            .map(|statement| u64::from(statement.class.masking.equality))
            .sum();
        if refused.is_none() && counts {
            self.flow.equality(equality);
        }
        match refused {
            None => decision,
            Some((reason, message)) => {
                let durability = decision.durability;
                decision = self.flow.deny(reason, None, &message);
                decision.durability = durability;
                decision
            }
        }
    }

    /// FETCH reads what its cursor was opened for: under another policy that is decided again.
    /// Running work is never held, so what would need approval now is denied.
    fn stale_cursor(&mut self, batch: &Batch) -> Option<Decision> {
        for statement in &batch.statements {
            let chaperone_sql::Kind::Fetch { name } = &statement.class.kind else {
                continue;
            };
            let Meaning::Is(open) = self.names.open(name) else {
                continue;
            };
            if open.generation() == self.flow.generation() {
                continue;
            }
            let mut decision = self.flow.decide_again(&open.batch().operation);
            if matches!(decision.verdict, Verdict::Deny | Verdict::Hold) {
                decision.verdict = Verdict::Deny;
                decision.reason = Reason::PolicyChanged;
                decision.approvals.clear();
                decision.message = Some(
                    "the policy changed and no longer allows what this cursor reads".to_owned(),
                );
                return Some(decision);
            }
        }
        None
    }

    /// Names that could not be kept as the server keeps them.
    fn unusable(&self, batch: &Batch) -> Option<Decision> {
        use chaperone_sql::Kind;
        for statement in &batch.statements {
            let (name, room) = match &statement.class.kind {
                Kind::Prepare { name, inner } => (name, self.names.has_room(inner.text.len())),
                Kind::Declare { name, .. } => (name, self.names.has_room_for_open()),
                _ => continue,
            };
            let denial = match (is_usable_in_sql(name), room) {
                (false, _) => super::extended::reserved(name),
                (true, false) => super::extended::too_many(),
                (true, true) => continue,
            };
            return Some(self.flow.deny(denial.reason, None, &denial.message));
        }
        None
    }

    /// Whether a batch writes values while values are masked on their way out, so that a mark in
    /// one would destroy what it stands for.
    pub(crate) fn writes(&self, batch: &Batch) -> bool {
        if self.flow.policy().masking().is_empty() {
            return false;
        }
        batch.statements.iter().any(|statement| {
            statement.class.masking.writes
                || statement.class.accesses.iter().any(|access| {
                    matches!(
                        access.effect,
                        Effect::Write | Effect::Modify | Effect::BulkLoad
                    )
                })
        })
    }

    /// The refusal of a mask on its way back.
    pub(crate) fn write_back(&self) -> Decision {
        self.flow.deny(Reason::MaskedWriteBack, None, WRITE_BACK)
    }

    fn masking_refusal(
        &self,
        batch: &Batch,
        parameters: &[Option<String>],
    ) -> Option<(Reason, String)> {
        let writes = self.writes(batch);
        for statement in &batch.statements {
            let class = &statement.class;
            if let Some(what) = &class.masking.flow {
                return Some((
                    Reason::MaskedFlow,
                    format!("{what} is masked, and this statement would write it where it is not"),
                ));
            }
            if let Some(what) = &class.masking.predicate {
                return Some((
                    Reason::MaskedPredicate,
                    format!(
                        "{what} is masked; it may be read and compared by equality with constants, nothing else"
                    ),
                ));
            }
            if writes {
                let carried = class
                    .strings
                    .iter()
                    .map(String::as_str)
                    .chain(parameters.iter().flatten().map(String::as_str))
                    .any(|value| self.is_mark(value));
                if carried {
                    return Some((Reason::MaskedWriteBack, WRITE_BACK.to_owned()));
                }
            }
            if let chaperone_sql::Kind::Copy {
                format,
                direction: chaperone_sql::CopyDirection::Out,
                options,
                ..
            } = &class.kind
                && (class.masking.touches_masked || self.masks.detectors.is_some())
                && let Some(what) = super::copy::unmaskable(*format, options)
            {
                return Some((Reason::MaskUnsupported, what.to_owned()));
            }
        }
        None
    }

    /// Whether a value on its way in is one of our masks.
    pub(crate) fn is_mark(&self, value: &str) -> bool {
        carries_mark(value)
            || (!self.partial_marks.is_empty()
                && self
                    .partial_marks
                    .contains(&super::results::mark_hash(value.as_bytes())))
    }

    /// Records and words the refusal of a text that cannot be classified.
    pub(crate) async fn refuse_unparsed(
        &mut self,
        error: &ParseError,
        text: &str,
        frame: &Frame,
        phase: Phase,
        offset: usize,
    ) -> Denial {
        let masked = !self.flow.policy().record_masking().is_empty();
        let redacted = redact_unparsed(text, masked);
        let recorded = recorded_frame(
            &frame.raw,
            redacted
                .spans
                .iter()
                .map(|span| span.start.saturating_add(offset)..span.end.saturating_add(offset)),
        );
        let operation = Operation {
            protocol: chaperone_policy::Protocol::Postgres,
            accesses: vec![chaperone_policy::Access {
                effect: chaperone_policy::Effect::Unknown,
                object: Object::Any,
                baseline: false,
            }],
            command: String::new(),
            parameters: Vec::new(),
        };
        let decision = self.flow.deny(error.reason(), None, &error.to_string());
        let command = Command {
            phase,
            verb: "UNPARSED",
            operation: &operation,
            text: &redacted.text,
            parameters: &[],
            exact: &[text.as_bytes()],
            client: &[recorded_part(&frame.raw, recorded.as_ref())],
            refers_to: None,
        };
        self.flow.refuse(&decision, &command).await
    }

    /// What has been forwarded changes what later messages may rely on.
    pub(crate) fn forwarded(&mut self, batch: &Arc<Batch>, running: &mut Running) {
        let generation = self.flow.generation();
        for (position, statement) in batch.statements.iter().enumerate() {
            let count = self.names.expect_statement(statement, batch, generation);
            if count > 0 {
                running.changes.push_back((position, count));
            }
        }
        self.touched |= touches(batch);
        if self.expect_changes(batch) {
            self.overlay.apply(&batch.overlay);
        }
    }

    /// A refusal in the simple protocol.
    pub(crate) fn deny_simple(&mut self, denial: Denial) -> Result<(), Fault> {
        if self.expected.is_empty()
            && !self.pipeline_open
            && self.transaction == TransactionStatus::Idle
        {
            error_response(&denial, Severity::Error).encode(&mut self.out);
            encode::ready_for_query(&mut self.out, TransactionStatus::Idle);
            return Ok(());
        }
        // The server itself must see a failure, so that its transaction is where the agent
        // believes it to be.
        let mut bytes = bytes::BytesMut::new();
        encode::query(&mut bytes, &self.abort_text());
        self.originate(Purpose::Abort, &bytes)?;
        self.expected.push(Expect::Abort {
            denial: Box::new(denial),
            simple: true,
            answered: false,
        });
        Ok(())
    }

    /// A text that PostgreSQL's grammar refuses, naming the session in the server's log.
    pub(crate) fn abort_text(&self) -> String {
        format!("CHAPERONE_DENIED {}", self.flow.id())
    }

    pub(crate) fn originate(&mut self, purpose: Purpose, bytes: &[u8]) -> Result<(), Fault> {
        self.target
            .originate(purpose, bytes, self.flow.record())
            .map_err(|error| Fault::cannot_record(&error))
    }

    /// Forwards a message that carries no command.
    pub(crate) fn forward_control(&mut self, frame: &Frame) -> Result<(), Fault> {
        let permit = self
            .flow
            .record()
            .control(&[frame.raw.as_ref().into()])
            .map_err(|error| Fault::cannot_record(&error))?;
        self.target
            .forward(permit, &frame.raw)
            .map_err(|error| Fault::new(Reason::Internal, error.to_string()))
    }
}

/// Texts behind EXECUTE.
#[derive(Debug, Default)]
pub(crate) struct Executed {
    pub(crate) texts: Vec<Arc<str>>,
    shown: Vec<String>,
}

impl Executed {
    /// The command as people read it: with what it runs.
    pub(crate) fn shown<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.shown.is_empty() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(format!("{text} /* runs: {} */", self.shown.join("; ")))
    }
}

/// Whether any statement of the batch may show a masked relation.
pub(crate) fn touches(batch: &Batch) -> bool {
    batch
        .statements
        .iter()
        .any(|statement| statement.class.masking.touches_masked)
}

/// The frame as it goes into the record.
pub(crate) fn recorded_part<'a>(
    frame: &'a [u8],
    masked: Option<&'a RecordedFrame>,
) -> Recorded<'a> {
    match masked {
        Some(masked) => Recorded {
            bytes: &masked.bytes,
            masked: &masked.masked,
        },
        None => frame.into(),
    }
}
