//! Writing a record's body.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::time::Duration;

use chaperone_policy::{Durability, Reason};

use super::*;
use crate::record::{
    Approval, AsIntent, DecisionView, IntentView, MAX_COMMAND, MAX_ITEMS, MAX_PARAMETERS, MAX_TEXT,
    Outcome, Record, SessionEnd, SessionStart, SessionStarted, Totals, WouldBe,
};

/// Most bytes of all accesses of an Intent, or of all claims of a SessionStart.
const MAX_LIST: usize = 256 * 1024;

/// Appends the body of `record`.
pub(crate) fn encode(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::SessionStart(started) => put_start(out, started),
        Record::Intent(r) => put_intent(out, &r.intent.as_intent(), r.asked, r.served, r.truncated),
        Record::Client {
            class,
            intent,
            stream,
        } => {
            put_client(out, *class, *intent);
            put_stream(
                out,
                std::iter::once(Piece::whole(&stream.bytes, &stream.masked)),
            );
        }
        Record::Server(stream) => {
            put_stream(
                out,
                std::iter::once(Piece::whole(&stream.bytes, &stream.masked)),
            );
        }
        Record::Proxy { purpose, bytes } => put_proxy(out, purpose, bytes),
        Record::Outcome(outcome) => put_outcome(out, outcome),
        Record::Approval(approval) => put_approval(out, approval),
        Record::PolicyChanged(change) => {
            out.put_text(&change.previous);
            out.put_text(&change.current);
            out.put_text(&change.detail);
        }
        Record::Masked(masked) => {
            out.put_text(&masked.by);
            out.put_u64(masked.count);
        }
        Record::Finding(finding) => {
            out.put_text(&finding.kind);
            out.put_text(&finding.detail);
        }
        Record::Gap(gap) => {
            out.put_u64(gap.records);
            out.put_u64(gap.bytes);
            out.put_text(&gap.why);
        }
        Record::SessionEnd(end, totals) => put_end(out, end, totals),
    }
}

/// The kind's number.
pub(crate) fn kind_of(record: &Record) -> u8 {
    match record {
        Record::SessionStart(_) => SESSION_START,
        Record::Intent(_) => INTENT,
        Record::Client { .. } => CLIENT,
        Record::Server(_) => SERVER,
        Record::Proxy { .. } => PROXY,
        Record::Outcome(_) => OUTCOME,
        Record::Approval(_) => APPROVAL,
        Record::PolicyChanged(_) => POLICY_CHANGED,
        Record::Masked(_) => MASKED,
        Record::Finding(_) => FINDING,
        Record::Gap(_) => GAP,
        Record::SessionEnd(..) => SESSION_END,
    }
}

fn put_start(out: &mut Vec<u8>, started: &SessionStarted) {
    // The id is first: a reader of the spool finds it without decoding the rest.
    out.put(&started.id.0);
    out.put(&started.attach.0);
    out.put(&started.previous_start);
    let SessionStart {
        subject,
        delegate,
        claims,
        connection,
        target,
        purpose,
        protocol,
        policy_digest,
    } = &started.start;
    out.put_text(subject);
    out.put_option(delegate.as_deref());
    put_claims(out, claims);
    out.put_text(connection);
    out.put_text(target);
    out.put_option(purpose.as_deref());
    out.put_text(protocol);
    out.put_text(policy_digest);
}

fn put_claims(out: &mut Vec<u8>, claims: &BTreeMap<String, String>) {
    let at = out.len();
    out.put_u32(0);
    let mut count = 0;
    for (name, value) in claims.iter().take(MAX_ITEMS) {
        // Cutting a name could make two names one, and order is part of the encoding.
        if name.len() > MAX_TEXT || out.len() - at > MAX_LIST {
            continue;
        }
        out.put_text(name);
        out.put_text(value);
        count += 1;
    }
    patch_u32(out, at, count);
}

/// Appends an Intent's body. `truncated` is set too where a text had to be cut.
pub(crate) fn put_intent(
    out: &mut Vec<u8>,
    intent: &IntentView<'_, impl Display>,
    asked: Durability,
    served: Durability,
    truncated: bool,
) {
    let IntentView {
        phase,
        summary,
        accesses,
        command,
        parameters,
        digest,
        decision,
        refers_to,
    } = intent;
    let flag = out.len();
    let mut cut = truncated;
    out.put_u8(0);
    out.put_u8(phase_code(*phase));
    out.put_u8(durability_code(asked));
    out.put_u8(durability_code(served));
    out.put(digest);
    out.put_u8(u8::from(refers_to.is_some()));
    if let Some(sequence) = refers_to {
        out.put_u64(*sequence);
    }
    put_decision(out, decision);
    cut |= out.put_cut(summary, MAX_TEXT);
    cut |= put_accesses(out, accesses);
    cut |= out.put_cut(command, MAX_COMMAND);
    cut |= put_parameters(out, parameters);
    if let Some(place) = out.get_mut(flag) {
        *place = u8::from(cut);
    }
}

fn put_accesses(out: &mut Vec<u8>, accesses: &[impl Display]) -> bool {
    let at = out.len();
    out.put_u32(0);
    let (mut count, mut cut) = (0, false);
    for access in accesses {
        if count == MAX_ITEMS || out.len() - at > MAX_LIST {
            cut = true;
            break;
        }
        cut |= out.put_shown(access);
        count += 1;
    }
    patch_u32(out, at, count);
    cut
}

fn put_parameters(out: &mut Vec<u8>, parameters: &[Option<String>]) -> bool {
    let at = out.len();
    out.put_u32(0);
    let (mut count, mut cut) = (0, false);
    let mut left = MAX_PARAMETERS;
    for parameter in parameters {
        if count == usize::from(u16::MAX) {
            cut = true;
            break;
        }
        out.put_u8(u8::from(parameter.is_some()));
        if let Some(text) = parameter {
            cut |= out.put_cut(text, left);
            left -= text.len().min(left);
        }
        count += 1;
    }
    patch_u32(out, at, count);
    cut
}

fn put_decision(out: &mut Vec<u8>, decision: &DecisionView<'_, impl Display>) {
    let DecisionView {
        verdict,
        reason,
        policy,
        rule,
        generation,
        rule_digest,
        access,
        approval,
        would_be,
    } = decision;
    out.put_u8(verdict_code(*verdict));
    put_reason(out, *reason);
    out.put_text(policy);
    out.put_text(rule);
    out.put(&generation.to_be_bytes());
    out.put_text(rule_digest);
    out.put_u8(u8::from(access.is_some()));
    if let Some(access) = access {
        out.put_shown(*access);
    }
    out.put_option(*approval);
    out.put_u8(u8::from(would_be.is_some()));
    if let Some(WouldBe {
        verdict,
        reason,
        policy,
        rule,
    }) = would_be.as_deref()
    {
        out.put_u8(verdict_code(*verdict));
        put_reason(out, *reason);
        out.put_text(policy);
        out.put_text(rule);
    }
}

/// Appends what precedes the stream in a Client's body.
pub(crate) fn put_client(out: &mut Vec<u8>, class: ClientClass, intent: u64) {
    out.put_u8(class_code(class));
    out.put_u64(intent);
}

/// Some bytes of a part, and where in the part they begin.
#[derive(Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) base: u32,
    pub(crate) masked: &'a [Range<u32>],
}

impl<'a> Piece<'a> {
    pub(crate) fn whole(bytes: &'a [u8], masked: &'a [Range<u32>]) -> Piece<'a> {
        Piece {
            bytes,
            base: 0,
            masked,
        }
    }

    /// The spans that touch this piece, counted from its own beginning.
    fn spans(self) -> impl Iterator<Item = Range<u32>> + 'a {
        let len = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let base = self.base;
        let end = base.saturating_add(len);
        let first = self.masked.partition_point(|span| span.end <= base);
        let touching = self.masked.get(first..).unwrap_or_default();
        touching
            .iter()
            .take_while(move |span| span.start < end)
            .map(move |span| span.start.max(base) - base..span.end.min(end) - base)
    }
}

/// Appends pieces as one stream. Spans come out ascending, apart and within the bytes, whatever
/// the caller gave.
pub(crate) fn put_stream<'a>(out: &mut Vec<u8>, pieces: impl Iterator<Item = Piece<'a>> + Clone) {
    let at = out.len();
    out.put_u32(0);
    let (mut count, mut offset, mut last) = (0, 0u32, 0u32);
    for piece in pieces.clone() {
        for span in piece.spans() {
            let start = span.start.saturating_add(offset).max(last);
            let end = span.end.saturating_add(offset);
            if start < end {
                out.put_u32(start);
                out.put_u32(end);
                last = end;
                count += 1;
            }
        }
        offset = offset.saturating_add(u32::try_from(piece.bytes.len()).unwrap_or(u32::MAX));
    }
    patch_u32(out, at, count);
    out.put_u32(offset);
    for piece in pieces {
        out.put(piece.bytes);
    }
}

pub(crate) fn put_proxy(out: &mut Vec<u8>, purpose: &str, bytes: &[u8]) {
    out.put_text(purpose);
    out.put_len(bytes.len());
    out.put(bytes);
}

fn put_outcome(out: &mut Vec<u8>, outcome: &Outcome) {
    let Outcome {
        intent,
        status,
        detail,
        rows,
        bytes,
        duration,
    } = outcome;
    out.put_u64(*intent);
    out.put_u8(status_code(*status));
    out.put_text(detail);
    out.put_u64(*rows);
    out.put_u64(*bytes);
    out.put_u64(nanos(*duration));
}

fn put_approval(out: &mut Vec<u8>, approval: &Approval) {
    let Approval {
        request,
        event,
        reviewer,
        authenticated,
        reason,
        policy,
        rule,
        rule_digest,
    } = approval;
    out.put_text(request);
    out.put_u8(event_code(*event));
    out.put_option(reviewer.as_deref());
    out.put_u8(u8::from(*authenticated));
    out.put_text(reason);
    out.put_text(policy);
    out.put_text(rule);
    out.put_text(rule_digest);
}

fn put_end(out: &mut Vec<u8>, end: &SessionEnd, totals: &Totals) {
    out.put_u8(cause_code(end.cause));
    out.put_u8(u8::from(end.reason.is_some()));
    if let Some(reason) = end.reason {
        put_reason(out, reason);
    }
    out.put_text(&end.detail);
    let Totals {
        records,
        forwarded,
        refused,
        client_bytes,
        server_bytes,
        rows,
    } = totals;
    for value in [
        records,
        forwarded,
        refused,
        client_bytes,
        server_bytes,
        rows,
    ] {
        out.put_u64(*value);
    }
}

fn put_reason(out: &mut Vec<u8>, reason: Reason) {
    out.put_text(reason.as_str());
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
