//! Bind: a statement is decided on again with its parameters, and a portal made of both
//! (PostgreSQL, Message Flow, Extended Query).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::BytesMut;
use chaperone_enforce::{Command, Denial, Phase};
use chaperone_policy::{Decision, Operation, Reason, Verdict};
use chaperone_sql::MaskedColumns;

use super::engine::{Blocked, Engine, Fault};
use super::environment::Readiness;
use super::expect::Expect;
use super::extended::{doubtful_statement, reserved, too_many, unknown_statement};
use super::frontend::{Counted, recorded_part, touches};
use super::hold::Authorised;
use super::names::{Change, Described, Meaning, Open, Portal, Prepared, is_usable};
use super::statements::Batch;
use super::target::Purpose;
use super::text::{parameter_texts, recorded_frame, redact};
use crate::codec::{Bind, Format, Frame, Frontend, Part, TransactionStatus, encode};

impl Engine<'_> {
    pub(crate) async fn bind(&mut self, frame: Frame) -> Result<(), Fault> {
        if self.ready_environment().await? == Readiness::Wait {
            return self.wait_for_idle(frame);
        }
        let Frontend::Bind(bind) =
            Frontend::parse(&frame).map_err(|error| Fault::protocol(&error))?
        else {
            return Ok(());
        };
        let refused = [bind.portal, bind.statement]
            .into_iter()
            .find(|name| !is_usable(name))
            .map(reserved);
        let refused = refused.or_else(|| (!self.names.has_room_for_open()).then(too_many));
        if let Some(denial) = refused {
            let denial = self.refuse_message(&frame, "BIND", denial).await;
            return self.deny_extended(denial);
        }
        let prepared = match self.names.statement(bind.statement) {
            Meaning::Is(prepared) => prepared,
            Meaning::Unsettled => return self.wait_until_settled(frame.clone()),
            Meaning::Nothing => {
                let denial = unknown_statement(bind.statement);
                let denial = self.refuse_message(&frame, "BIND", denial).await;
                return self.deny_extended(denial);
            }
        };
        if self.is_replaced_maybe(bind.statement, &prepared) {
            let denial = doubtful_statement(bind.statement);
            let denial = self.refuse_message(&frame, "BIND", denial).await;
            return self.deny_extended(denial);
        }
        let binary =
            (0..bind.parameters.len()).any(|index| bind.parameter_format(index) == Format::Binary);
        if binary && self.must_learn_types(bind.statement, &prepared)? {
            return self.wait_for(Blocked::UntilTyped(prepared), frame.clone());
        }
        let batch = match self.classify_again(&prepared) {
            Ok(Some(batch)) => batch,
            Ok(None) => return self.wait_until_settled(frame.clone()),
            Err(denial) => {
                let denial = self.refuse_message(&frame, "BIND", denial).await;
                return self.deny_extended(denial);
            }
        };
        let parameters = parameter_texts(
            &bind.parameters,
            prepared.parameter_types.get().map(Vec::as_slice),
            |index| bind.parameter_format(index),
        );
        let operation = Operation {
            parameters: parameters.clone(),
            ..batch.operation.clone()
        };
        if let Some(name) = &batch.unknown {
            let denial = self.not_to_be_executed(name);
            let denial = self.refuse_message(&frame, "BIND", denial).await;
            return self.deny_extended(denial);
        }
        let mut decision = self.judge(&batch, &operation, &parameters, Counted::Now);
        let carried = bind.parameters.iter().any(|parameter| {
            let value = parameter.value.as_deref().unwrap_or_default();
            self.is_mark(&String::from_utf8_lossy(value))
        });
        if carried && decision.verdict != Verdict::Deny && self.writes(&batch) {
            decision = self.write_back();
        }
        self.bind_decided(
            frame.clone(),
            &bind,
            prepared,
            batch,
            operation,
            parameters,
            decision,
        )
        .await
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one step of bind, split off for its length"
    )]
    async fn bind_decided(
        &mut self,
        frame: Frame,
        bind: &Bind<'_>,
        prepared: Arc<Prepared>,
        batch: Arc<Batch>,
        operation: Operation,
        parameters: Vec<Option<String>>,
        decision: Decision,
    ) -> Result<(), Fault> {
        let sensitive = batch
            .statements
            .iter()
            .any(|statement| statement.class.masking.sensitive_literals);
        let shown: Vec<Option<String>> = parameters
            .iter()
            .map(|parameter| self.shown_parameter(parameter.as_deref(), sensitive))
            .collect();
        let spans = bind
            .parameters
            .iter()
            .zip(parameters.iter().zip(&shown))
            .filter(|(_, (raw, shown))| raw != shown)
            .map(|(parameter, _)| parameter.range.clone());
        let recorded = recorded_frame(&frame.raw, spans);
        let redacted = redact(&prepared.text, Some(&batch), &self.record_masks);
        let executed = self.executed(&batch);
        let text = executed.shown(&redacted.text);
        let mut exact: Vec<&[u8]> = vec![prepared.text.as_bytes()];
        exact.extend(executed.texts.iter().map(|text| text.as_bytes()));
        let formats: Vec<[u8; 1]> = (0..bind.parameters.len())
            .map(|index| [u8::from(bind.parameter_format(index) == Format::Binary)])
            .collect();
        for (parameter, format) in bind.parameters.iter().zip(&formats) {
            exact.push(format);
            // NULL and the empty string are two parameters, not one.
            match &parameter.value {
                Some(value) => exact.extend([&b"v"[..], value.as_ref()]),
                None => exact.push(b"n"),
            }
        }
        let command = Command {
            phase: Phase::Bind,
            verb: &batch.verb,
            operation: &operation,
            text: &text,
            parameters: &shown,
            exact: &exact,
            client: &[recorded_part(&frame.raw, recorded.as_ref())],
            refers_to: prepared.intent,
        };
        match self.authorise(&decision, &command, &frame).await {
            Authorised::Held => Ok(()),
            Authorised::Denied(denial) => self.deny_extended(denial),
            Authorised::Pass(pass) => {
                let environment = self.current_environment().id;
                // What a FETCH or EXECUTE returns is described as it was when it was parsed, but
                // for its portal.
                let by_portal = batch.depends_on_names();
                let described = if by_portal {
                    Described::new(environment)
                } else {
                    let described = prepared.described(environment);
                    self.ask_description(bind.statement, &prepared, &described)?;
                    described
                };
                let intent = pass.intent();
                let touches = touches(&batch);
                let mut decision = decision;
                if decision.verdict == Verdict::Hold {
                    // The grant was used by this Bind; its Executes refer to it and only fetch.
                    decision.verdict = Verdict::Allow;
                    decision.reason = Reason::Allowed;
                    decision.approvals.clear();
                }
                let portal = Arc::new(Portal {
                    prepared: Arc::clone(&prepared),
                    described: Arc::clone(&described),
                    batch,
                    formats: bind.result_formats.as_slice().into(),
                    generation: self.flow.generation(),
                    version: self.names.version_of(bind.portal).into(),
                    intent,
                    decision,
                    parameters: shown.into(),
                    rows: AtomicU64::new(0),
                });
                let open = Some(Open::Portal(portal));
                self.pass(pass, &frame)?;
                self.names
                    .expect(Change::Open(bind.portal.to_owned(), open));
                self.pipeline_open = true;
                self.expected.push(Expect::Bind { intent, touches });
                if by_portal {
                    let asked = (&prepared, &described);
                    self.ask_about(Part::Portal, bind.portal, asked)?;
                }
                Ok(())
            }
        }
    }

    /// Whether a function may have put another statement in the place of this one, so that its
    /// results would be masked as another's. In a failed transaction nothing can be looked up and
    /// nothing runs but its end.
    pub(crate) fn is_replaced_maybe(&mut self, name: &str, prepared: &Prepared) -> bool {
        let over = self.transaction == TransactionStatus::Failed
            && self.expected.is_empty()
            && !self.pipeline_open;
        !over
            && self.names.is_statement_doubtful(name, prepared)
            && self.current_environment().masks.any()
    }

    /// Has the server say the parameter types of a statement before its binary values are read.
    /// True when its answer is to be waited for.
    fn must_learn_types(&mut self, name: &str, prepared: &Arc<Prepared>) -> Result<bool, Fault> {
        if prepared.parameter_types.get().is_some() {
            return Ok(false);
        }
        let described = prepared.described(self.current_environment().id);
        self.ask_description(name, prepared, &described)?;
        if !self.expected.describes(prepared) {
            return Ok(false);
        }
        // Without a Flush the server keeps its answer.
        let mut bytes = BytesMut::new();
        encode::flush(&mut bytes);
        self.originate(Purpose::Describe, &bytes)?;
        Ok(true)
    }

    fn shown_parameter(&self, parameter: Option<&str>, sensitive: bool) -> Option<String> {
        let value = parameter?;
        if sensitive {
            return Some("[masked]".to_owned());
        }
        let shown = super::errors::detected(value.as_bytes(), &self.record_masks);
        Some(String::from_utf8_lossy(&shown).into_owned())
    }

    /// The statement as it is classified now; the one of its Parse when nothing has changed.
    /// `None`: a name it depends on is not settled.
    fn classify_again(&mut self, prepared: &Prepared) -> Result<Option<Arc<Batch>>, Denial> {
        let environment = self.current_environment();
        let same = self.overlay.is_empty()
            && prepared.generation == self.flow.generation()
            && prepared
                .batch
                .statements
                .first()
                .is_none_or(|first| first.environment.id == environment.id)
            // What EXECUTE and FETCH mean depends on names that change under them.
            && !prepared.batch.depends_on_names();
        if same {
            return Ok(Some(Arc::clone(&prepared.batch)));
        }
        let text = Arc::clone(&prepared.text);
        self.classify(&text)
            .map_err(|error| Denial::new(error.reason(), error.to_string()))
    }
}
