//! The extended protocol: Parse, Execute, Describe, Close, Sync
//! (PostgreSQL, Message Flow, Extended Query). Bind is in `bind`.
//!
//! A statement is decided on at Parse; at Bind again with its parameters, under the names, masks
//! and policy of that moment. An Execute is recorded on its own and decided on again when the
//! policy has changed since its Bind.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use chaperone_enforce::{Command, Denial, Phase};
use chaperone_policy::{Reason, Verdict};
use chaperone_sql::MaskedColumns;

use super::engine::{Blocked, Engine, Fault};
use super::environment::Readiness;
use super::errors::error_response;
use super::expect::{Expect, Running};
use super::frontend::{Counted, recorded_part, touches};
use super::hold::Authorised;
use super::names::{Change, Described, Meaning, Open, Portal, Prepared, RESERVED, is_usable};
use super::target::Purpose;
use super::text::{recorded_frame, redact};
use crate::codec::{Frame, Frontend, Part, ProtocolError, Severity, TransactionStatus, encode};

const HEADER: usize = 5;

impl Engine<'_> {
    pub(crate) async fn parse(&mut self, frame: Frame) -> Result<(), Fault> {
        if self.ready_environment().await? == Readiness::Wait {
            return self.wait_for_idle(frame);
        }
        let Frontend::Parse { name, text, .. } =
            Frontend::parse(&frame).map_err(|error| Fault::protocol(&error))?
        else {
            return Ok(());
        };
        if !is_usable(name) {
            let denial = self.refuse_message(&frame, "PARSE", reserved(name)).await;
            return self.deny_extended(denial);
        }
        if !self.names.has_room(text.len()) {
            let denial = self.refuse_message(&frame, "PARSE", too_many()).await;
            return self.deny_extended(denial);
        }
        // Type byte, length, name and its NUL stand before the text.
        let offset = HEADER.saturating_add(name.len()).saturating_add(1);
        let batch = match self.classify(text) {
            Ok(Some(batch)) => batch,
            Ok(None) => return self.wait_until_settled(frame),
            Err(error) => {
                let denial = self
                    .refuse_unparsed(&error, text, &frame, Phase::Prepare, offset)
                    .await;
                return self.deny_extended(denial);
            }
        };
        let mut decision = self.judge(&batch, &batch.operation, &[], Counted::Later);
        let waits_for_bind = match decision.verdict {
            // A human is asked when the parameters are known.
            Verdict::Hold => true,
            // So is a condition that looks at them.
            Verdict::Deny => decision.reason == Reason::ConditionFailed,
            Verdict::Allow | Verdict::Observe => false,
        };
        if waits_for_bind {
            decision.verdict = Verdict::Allow;
            decision.approvals.clear();
        }
        decision.durability = chaperone_policy::Durability::Written;
        let redacted = redact(text, Some(&batch), &self.record_masks);
        let recorded = recorded_frame(
            &frame.raw,
            redacted
                .spans
                .iter()
                .map(|span| span.start.saturating_add(offset)..span.end.saturating_add(offset)),
        );
        let command = Command {
            phase: Phase::Prepare,
            verb: &batch.verb,
            operation: &batch.operation,
            text: &redacted.text,
            parameters: &[],
            exact: &[text.as_bytes()],
            client: &[recorded_part(&frame.raw, recorded.as_ref())],
            refers_to: None,
        };
        match self.authorise(&decision, &command, &frame).await {
            Authorised::Held => Ok(()),
            Authorised::Denied(denial) => self.deny_extended(denial),
            Authorised::Pass(pass) => {
                let environment = self.current_environment().id;
                let prepared = Arc::new(Prepared::new(
                    text.into(),
                    Arc::clone(&batch),
                    self.flow.generation(),
                    Some(pass.intent()),
                    environment,
                    self.names.version_of(name),
                ));
                let change = Change::Statement(name.to_owned(), Some(Arc::clone(&prepared)));
                self.pass(pass, &frame)?;
                self.names.expect(change);
                self.pipeline_open = true;
                let touches = touches(&batch);
                self.expected.push(Expect::Parse { touches });
                let described = prepared.described(environment);
                self.ask_description(name, &prepared, &described)
            }
        }
    }

    /// Asks for the result columns of a statement, so that every result is known before its rows
    /// come, whether or not the agent asks (postgres.md, Wire).
    pub(crate) fn ask_description(
        &mut self,
        name: &str,
        prepared: &Arc<Prepared>,
        described: &Arc<Described>,
    ) -> Result<(), Fault> {
        if described.must_ask(self.names.section()) {
            self.ask_about(Part::Statement, name, (prepared, described))?;
        }
        Ok(())
    }

    pub(crate) fn ask_about(
        &mut self,
        part: Part,
        name: &str,
        (prepared, described): (&Arc<Prepared>, &Arc<Described>),
    ) -> Result<(), Fault> {
        let mut bytes = BytesMut::new();
        encode::describe(&mut bytes, part, name);
        self.originate(Purpose::Describe, &bytes)?;
        self.pipeline_open = true;
        self.expected.push(Expect::OwnDescribe(
            Arc::clone(prepared),
            Arc::clone(described),
        ));
        Ok(())
    }

    /// Why an EXECUTE of this name was not classified.
    pub(crate) fn not_to_be_executed(&self, name: &str) -> Denial {
        match self.names.statement(name) {
            Meaning::Is(_) => doubtful_statement(name),
            _ => unknown_statement(name),
        }
    }

    pub(crate) async fn execute(&mut self, frame: Frame) -> Result<(), Fault> {
        let Frontend::Execute { portal: name, .. } =
            Frontend::parse(&frame).map_err(|error| Fault::protocol(&error))?
        else {
            return Ok(());
        };
        let denial = match self.names.open(name) {
            Meaning::Is(Open::Portal(portal)) => {
                let name = name.to_owned();
                return self.execute_portal(frame, &name, portal).await;
            }
            Meaning::Unsettled => return self.wait_until_settled(frame),
            // SQL's own cursors are for FETCH: what an Execute of one sends was never described.
            Meaning::Is(Open::Cursor(_)) | Meaning::Nothing => unknown_portal(name),
        };
        let denial = self.refuse_message(&frame, "EXECUTE", denial).await;
        self.deny_extended(denial)
    }

    async fn execute_portal(
        &mut self,
        frame: Frame,
        name: &str,
        portal: Arc<Portal>,
    ) -> Result<(), Fault> {
        // Unless something says otherwise, the decision of its Bind.
        let mut otherwise = None;
        let mut batch = Arc::clone(&portal.batch);
        let version = portal.version.load(Ordering::Relaxed);
        let changed = portal.batch.depends_on_names() && version != self.names.version();
        let replaced = !name.is_empty()
            && self.names.is_doubtful(&Open::Portal(Arc::clone(&portal)))
            && self.current_environment().masks.any();
        if changed || replaced {
            otherwise = Some(self.flow.deny(
                Reason::CatalogChanged,
                None,
                "names may mean something else than when this portal was bound; bind it again",
            ));
        } else if portal.generation != self.flow.generation() {
            // No decision outlives the policy it was made under.
            if self.ready_environment().await? == Readiness::Wait {
                return self.wait_for_idle(frame);
            }
            let text = Arc::clone(&portal.prepared.text);
            match self.classify(&text) {
                Ok(Some(now)) => batch = now,
                Ok(None) => return self.wait_until_settled(frame),
                Err(error) => {
                    let denial = Denial::new(error.reason(), error.to_string());
                    let denial = self.refuse_message(&frame, "EXECUTE", denial).await;
                    return self.deny_extended(denial);
                }
            }
            let operation = batch.operation.clone();
            let mut now = self.judge(&batch, &operation, &portal.parameters, Counted::Later);
            if matches!(now.verdict, Verdict::Deny | Verdict::Hold) {
                now.verdict = Verdict::Deny;
                now.approvals.clear();
                if now.reason != Reason::DeniedByRule {
                    now.reason = Reason::PolicyChanged;
                }
                otherwise = Some(now);
            }
        }
        let command = Command {
            phase: Phase::Execute,
            verb: &batch.verb,
            operation: &batch.operation,
            text: "",
            parameters: &[],
            exact: &[],
            client: &[frame.raw.as_ref().into()],
            refers_to: Some(portal.intent),
        };
        let decision = otherwise.as_ref().unwrap_or(&portal.decision);
        match self.authorise(decision, &command, &frame).await {
            Authorised::Held => Ok(()),
            Authorised::Denied(denial) => self.deny_extended(denial),
            Authorised::Pass(pass) => {
                let generation = self.flow.generation();
                let mut running = Running::new(pass.intent(), Arc::clone(&batch), generation);
                running.portal = Some(Arc::clone(&portal));
                self.pass(pass, &frame)?;
                self.pipeline_open = true;
                self.forwarded(&batch, &mut running);
                // What it does itself does not keep the rest of its rows from coming.
                let version = self.names.version();
                portal.version.store(version, Ordering::Relaxed);
                self.expected.push(Expect::Execute(Box::new(running)));
                Ok(())
            }
        }
    }

    pub(crate) async fn describe(&mut self, frame: &Frame) -> Result<(), Fault> {
        let Frontend::Describe { name, .. } =
            Frontend::parse(frame).map_err(|error| Fault::protocol(&error))?
        else {
            return Ok(());
        };
        if !is_usable(name) {
            let denial = self.refuse_message(frame, "DESCRIBE", reserved(name)).await;
            return self.deny_extended(denial);
        }
        self.forward_control(frame)?;
        self.pipeline_open = true;
        self.expected.push(Expect::Describe);
        Ok(())
    }

    pub(crate) async fn close(&mut self, frame: &Frame) -> Result<(), Fault> {
        let Frontend::Close { part, name } =
            Frontend::parse(frame).map_err(|error| Fault::protocol(&error))?
        else {
            return Ok(());
        };
        if !is_usable(name) {
            let denial = self.refuse_message(frame, "CLOSE", reserved(name)).await;
            return self.deny_extended(denial);
        }
        self.forward_control(frame)?;
        self.pipeline_open = true;
        self.names.expect(match part {
            Part::Statement => Change::Statement(name.to_owned(), None),
            Part::Portal => Change::Open(name.to_owned(), None),
        });
        self.expected.push(Expect::Close);
        Ok(())
    }

    pub(crate) fn sync(&mut self, frame: &Frame) -> Result<(), Fault> {
        Frontend::parse(frame).map_err(|error| Fault::protocol(&error))?;
        if self.copying_in() {
            // The server ignores Sync while it waits for COPY data.
            return self.skipped_control(frame);
        }
        self.skipping = false;
        if std::mem::take(&mut self.local_sync) {
            self.skipped_control(frame)?;
            encode::ready_for_query(&mut self.out, TransactionStatus::Idle);
            return Ok(());
        }
        self.forward_control(frame)?;
        self.pipeline_open = false;
        self.expected.push(Expect::Sync);
        self.names.next_section();
        Ok(())
    }

    /// Recorded, and answered by us.
    fn skipped_control(&mut self, frame: &Frame) -> Result<(), Fault> {
        self.flow
            .record()
            .control(&[frame.raw.as_ref().into()])
            .map(drop)
            .map_err(|error| Fault::cannot_record(&error))
    }

    /// A refusal in the extended protocol: what follows is skipped up to the next Sync.
    pub(crate) fn deny_extended(&mut self, denial: Denial) -> Result<(), Fault> {
        self.skipping = true;
        if self.expected.is_empty()
            && !self.pipeline_open
            && self.transaction == TransactionStatus::Idle
        {
            error_response(&denial, Severity::Error).encode(&mut self.out);
            self.local_sync = true;
            return Ok(());
        }
        let mut bytes = BytesMut::new();
        // A failing unnamed Parse would take the agent's unnamed statement with it.
        encode::parse(&mut bytes, RESERVED, &self.abort_text());
        self.originate(Purpose::Abort, &bytes)?;
        self.pipeline_open = true;
        self.expected.push(Expect::Abort {
            denial: Box::new(denial),
            simple: false,
            answered: false,
        });
        Ok(())
    }

    pub(crate) fn wait_for_idle(&mut self, frame: Frame) -> Result<(), Fault> {
        self.wait_for(Blocked::UntilIdle, frame)
    }

    /// A name that this message uses is being changed by an earlier section.
    pub(crate) fn wait_until_settled(&mut self, frame: Frame) -> Result<(), Fault> {
        self.wait_for(Blocked::UntilSettled, frame)
    }

    pub(crate) fn wait_for(&mut self, what: Blocked, frame: Frame) -> Result<(), Fault> {
        self.pending = Some(frame);
        self.blocked = Some(what);
        Ok(())
    }
}

pub(crate) fn reserved(name: &str) -> Denial {
    Denial::new(
        Reason::UnsupportedMessage,
        format!(
            "names have at most 63 ASCII letters, 59 in SQL, and do not begin with {RESERVED}: {}",
            name.get(..80).unwrap_or(name)
        ),
    )
}

/// The server's own words, so that drivers which handle them do.
pub(crate) fn unknown_statement(name: &str) -> Denial {
    let mut denial = Denial::new(
        Reason::UnknownStatement,
        if name.is_empty() {
            "unnamed prepared statement does not exist".to_owned()
        } else {
            format!("prepared statement \"{name}\" does not exist")
        },
    );
    denial.detail = None;
    denial
}

/// A function can PREPARE too, unseen.
pub(crate) fn doubtful_statement(name: &str) -> Denial {
    Denial::new(
        Reason::CatalogChanged,
        format!("a function that ran before may have replaced prepared statement \"{name}\""),
    )
    .with_hint("send what executes it on its own, after a Sync, so that it can be looked up")
}

fn unknown_portal(name: &str) -> Denial {
    Denial::new(
        Reason::UnknownPortal,
        format!("portal \"{name}\" does not exist"),
    )
}

pub(crate) fn too_many() -> Denial {
    Denial::new(
        Reason::LimitExceeded,
        "the session holds more prepared statements or portals than can be kept",
    )
    .with_hint("close some of them, or DEALLOCATE ALL")
}

impl From<ProtocolError> for Fault {
    fn from(error: ProtocolError) -> Self {
        Fault::protocol(&error)
    }
}
