//! COPY data on its way in, and what becomes of a COPY whose policy changes while it runs
//! (PostgreSQL, Message Flow, COPY Operations).

use std::sync::Arc;

use chaperone_enforce::{Command, Denial, Phase};
use chaperone_mask::carries_mark;
use chaperone_policy::{Decision, Reason, Verdict};
use chaperone_sql::{CopyFormat, Kind};

use super::engine::{Engine, Fault};
use super::expect::{CopyRun, Running};
use super::frontend::{QUERY_HEADER, recorded_part};
use super::statements::Batch;
use super::target::Purpose;
use super::text::recorded_frame;
use crate::codec::frontend::tag;
use crate::codec::{Frame, Frontend, encode};

/// Bytes of the data before that are kept, for marks cut in two.
const KEPT: usize = 72;
/// Longest mark that is looked for in binary data, in bytes.
const LONGEST_MARK: usize = 64;
/// Bytes of one message that are recorded before the record is written.
const PIECE: usize = 1024 * 1024;

impl Engine<'_> {
    /// Whether a message must wait because the server may be about to ask for COPY data: it would
    /// take the message for a part of it. Once it has asked, such a message is a fault.
    pub(crate) fn must_wait_for_copy(&self, frame: &Frame) -> Result<bool, Fault> {
        let harmless = matches!(
            frame.tag,
            tag::COPY_DATA
                | tag::COPY_DONE
                | tag::COPY_FAIL
                | tag::SYNC
                | tag::FLUSH
                | tag::TERMINATE
        );
        if harmless {
            return Ok(false);
        }
        if self.copying_in() {
            return Err(Fault::new(
                Reason::ProtocolViolation,
                format!(
                    "a message of type {:?} has no place in COPY data",
                    char::from(frame.tag)
                ),
            ));
        }
        Ok(self.awaiting_copy_in())
    }

    /// Whether the server takes COPY data now.
    pub(crate) fn copying_in(&self) -> bool {
        self.expected.all_running().any(Running::copying_in)
    }

    /// A COPY from the agent has been forwarded and the server has not asked for its data yet.
    pub(crate) fn awaiting_copy_in(&self) -> bool {
        !self.copying_in() && self.expected.all_running().any(Running::will_copy_in)
    }

    /// One message of COPY data, or its end. Outside a COPY the server drops it without a word,
    /// and so do we.
    pub(crate) async fn copy_in(&mut self, frame: Frame) -> Result<(), Fault> {
        let parsed = Frontend::parse(&frame).map_err(|error| Fault::protocol(&error))?;
        if !self.copying_in() {
            if self.awaiting_copy_in() {
                return self.wait_for(super::engine::Blocked::UntilCopy, frame);
            }
            return self.skip(&frame);
        }
        let ends = matches!(parsed, Frontend::CopyDone | Frontend::CopyFail { .. });
        if let Frontend::CopyData(data) = parsed
            && !self.flow.policy().masking().is_empty()
            && self.copy_carries_mark(data)
        {
            let decision = self.write_back();
            return self.refuse_copy_data(&decision, &frame).await;
        }
        let spans = self
            .sensitive_copy()
            .then_some(QUERY_HEADER..frame.raw.len());
        let recorded = recorded_frame(
            &frame.raw,
            spans.into_iter().filter(|span| !span.is_empty()),
        );
        let permit = self.record_data(&frame, recorded.as_ref()).await?;
        self.target
            .forward(permit, &frame.raw)
            .map_err(|error| Fault::new(Reason::Internal, error.to_string()))?;
        if ends {
            self.end_copy_data();
        }
        Ok(())
    }

    /// Records one message, in pieces where it is long.
    async fn record_data(
        &mut self,
        frame: &Frame,
        masked: Option<&super::text::RecordedFrame>,
    ) -> Result<chaperone_evidence::Permit, Fault> {
        let failed = |error: chaperone_evidence::RecordError| Fault::cannot_record(&error);
        if frame.raw.len() <= PIECE {
            let part = recorded_part(&frame.raw, masked);
            return self.flow.record().control(&[part]).map_err(failed);
        }
        // What is masked of a message this long is all of it but its header.
        let header = frame.raw.get(..QUERY_HEADER).unwrap_or_default();
        let mut permit = self
            .flow
            .record()
            .control(&[header.into()])
            .map_err(failed)?;
        let body = match masked {
            Some(masked) => masked.bytes.get(QUERY_HEADER..).unwrap_or_default(),
            None => frame.body(),
        };
        for piece in body.chunks(PIECE) {
            let whole = 0..u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let spans = masked.map(|_| [whole]);
            let part = chaperone_evidence::Part {
                bytes: piece,
                masked: spans.as_ref().map_or(&[], <[_; 1]>::as_slice),
            };
            permit = self.flow.record().control(&[part]).map_err(failed)?;
            self.relieve_record().await?;
        }
        Ok(permit)
    }

    /// Refuses one message of COPY data: recorded without what it says, and the COPY ends.
    async fn refuse_copy_data(&mut self, decision: &Decision, frame: &Frame) -> Result<(), Fault> {
        let Some(batch) = self.copying_batch() else {
            return Ok(());
        };
        let masked = recorded_frame(&frame.raw, std::iter::once(QUERY_HEADER..frame.raw.len()));
        let client = [recorded_part(&frame.raw, masked.as_ref())];
        let denial = self.refuse_running(decision, &batch, &client).await;
        self.end_copy(denial)
    }

    /// Records that what runs was refused while it ran.
    async fn refuse_running(
        &mut self,
        decision: &Decision,
        batch: &Batch,
        client: &[chaperone_evidence::Part<'_>],
    ) -> Denial {
        let intent = self.expected.running().map(|running| running.intent);
        let command = Command {
            phase: Phase::Command,
            verb: &batch.verb,
            operation: &batch.operation,
            text: "",
            parameters: &[],
            exact: &[],
            client,
            refers_to: intent,
        };
        self.flow.refuse(decision, &command).await
    }

    fn copying_batch(&self) -> Option<Arc<Batch>> {
        self.expected
            .all_running()
            .find(|running| running.copying_in())
            .map(|running| Arc::clone(&running.batch))
    }

    fn end_copy_data(&mut self) {
        for running in self.expected.all_running_mut() {
            if running.copying_in() {
                running.copy = Some(CopyRun::In { open: false });
            }
        }
    }

    /// Ends a COPY from the agent at the server; the rest of its data is dropped.
    pub(crate) fn end_copy(&mut self, denial: Denial) -> Result<(), Fault> {
        for running in self.expected.all_running_mut() {
            if running.copying_in() {
                running.copy = Some(CopyRun::In { open: false });
                running.refused = Some(Box::new(denial));
                break;
            }
        }
        let mut bytes = bytes::BytesMut::new();
        encode::copy_fail(&mut bytes, "CHAPERONE_DENIED");
        self.originate(Purpose::Abort, &bytes)
    }

    /// What runs under the policy that has just changed. Statements that were forwarded finish
    /// under the masks of now; a COPY is closed where it is no longer allowed. Running work is
    /// never held (policy.md, A policy change).
    pub(crate) async fn recheck_running(&mut self) -> Result<(), Fault> {
        for running in self.expected.all_running_mut() {
            running.plan = None;
            running.record_plan = None;
        }
        let Some(running) = self.expected.running() else {
            return Ok(());
        };
        if running.copy.is_none() || running.refused.is_some() || self.swallowing {
            return Ok(());
        }
        let batch = Arc::clone(&running.batch);
        match self.no_longer_allowed(&batch) {
            Some(decision) => {
                let denial = self.refuse_running(&decision, &batch, &[]).await;
                if self.copying_in() {
                    self.end_copy(denial)?;
                } else {
                    self.withhold(denial);
                }
                Ok(())
            }
            None => self.replan_copy(),
        }
    }

    /// The refusal of a COPY that the policy of now does not allow.
    pub(crate) fn no_longer_allowed(&self, batch: &Batch) -> Option<Decision> {
        let mut decision = self.flow.decide_again(&batch.operation);
        if !matches!(decision.verdict, Verdict::Deny | Verdict::Hold) {
            return None;
        }
        decision.verdict = Verdict::Deny;
        decision.reason = Reason::PolicyChanged;
        decision.approvals.clear();
        decision.message =
            Some("the policy changed and no longer allows the COPY that runs".to_owned());
        Some(decision)
    }

    fn sensitive_copy(&self) -> bool {
        // Nobody looks at which column a field of the data is for: where any column is masked,
        // so is all of it.
        self.expected
            .all_running()
            .filter(|running| running.copying_in())
            .any(|running| {
                running
                    .batch
                    .statements
                    .iter()
                    .any(|statement| statement.class.masking.sensitive_literals)
            })
    }

    /// Marks are looked for in the raw rows; a piece of the last message is kept so that one cut
    /// in two is found.
    fn copy_carries_mark(&mut self, data: &[u8]) -> bool {
        let mut window = std::mem::take(&mut self.copy_tail);
        window.extend_from_slice(data);
        let found = match self.copy_separators() {
            None => self.binary_carries_mark(&window),
            Some(separators) => {
                let text = String::from_utf8_lossy(&window);
                carries_mark(&text)
                    || text
                        .split(|c: char| separators.contains(&c))
                        .any(|field| self.is_mark(field))
            }
        };
        self.copy_tail = window.split_off(window.len().saturating_sub(KEPT));
        found
    }

    /// What may stand beside a field; `None` for the binary format, which has lengths instead.
    fn copy_separators(&self) -> Option<Vec<char>> {
        let mut separators = vec!['\t', ',', '\n', '\r', '"', ';', '|'];
        let running = self
            .expected
            .all_running()
            .find(|running| running.copying_in())?;
        let classified = running.batch.statements.get(running.statement)?;
        if let Kind::Copy {
            format, options, ..
        } = &classified.class.kind
        {
            if *format == CopyFormat::Binary {
                return None;
            }
            for name in ["delimiter", "quote", "escape"] {
                separators.extend(options.get(name).iter().flat_map(|value| value.chars()));
            }
        }
        Some(separators)
    }

    /// Any four bytes that could be a length are taken for one: a field too many is looked at,
    /// none is missed (PostgreSQL, COPY, Binary Format).
    fn binary_carries_mark(&self, window: &[u8]) -> bool {
        if carries_mark(&String::from_utf8_lossy(window)) {
            return true;
        }
        window.windows(4).enumerate().any(|(at, bytes)| {
            let &[0, 0, 0, length] = bytes else {
                return false;
            };
            let length = usize::from(length);
            let start = at.saturating_add(4);
            (1..=LONGEST_MARK).contains(&length)
                && window
                    .get(start..start.saturating_add(length))
                    .is_some_and(|field| self.is_mark(&String::from_utf8_lossy(field)))
        })
    }
}
