//! Reading a record's body.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use chaperone_policy::Reason;

use super::*;
use crate::record::{
    Approval, AttachId, DecisionRecord, Finding, Gap, Intent, IntentRecord, MAX_ITEMS, MAX_STREAM,
    Masked, Outcome, PolicyChanged, Record, SessionEnd, SessionId, SessionStart, SessionStarted,
    Stream, Totals, WouldBe,
};

/// Reads the body of a record of `kind`.
pub(crate) fn decode(kind: u8, body: &[u8]) -> Result<Record, Malformed> {
    let r = &mut Reader::new(body);
    let record = match kind {
        SESSION_START => Record::SessionStart(Box::new(start(r)?)),
        INTENT => Record::Intent(Box::new(intent(r)?)),
        CLIENT => {
            let class = class(r.u8()?)?;
            let intent = r.u64()?;
            Record::Client {
                class,
                intent,
                stream: stream(r)?,
            }
        }
        SERVER => Record::Server(stream(r)?),
        PROXY => Record::Proxy {
            purpose: r.text()?,
            bytes: r.bytes()?.to_vec(),
        },
        OUTCOME => Record::Outcome(Outcome {
            intent: r.u64()?,
            status: status(r.u8()?)?,
            detail: r.text()?,
            rows: r.u64()?,
            bytes: r.u64()?,
            duration: Duration::from_nanos(r.u64()?),
        }),
        APPROVAL => Record::Approval(Approval {
            request: r.text()?,
            event: event(r.u8()?)?,
            reviewer: r.option(Reader::text)?,
            authenticated: r.flag()?,
            reason: r.text()?,
            policy: r.text()?,
            rule: r.text()?,
            rule_digest: r.text()?,
        }),
        POLICY_CHANGED => Record::PolicyChanged(PolicyChanged {
            previous: r.text()?,
            current: r.text()?,
            detail: r.text()?,
        }),
        MASKED => Record::Masked(Masked {
            by: r.text()?,
            count: r.u64()?,
        }),
        FINDING => Record::Finding(Finding {
            kind: r.text()?,
            detail: r.text()?,
        }),
        GAP => Record::Gap(Gap {
            records: r.u64()?,
            bytes: r.u64()?,
            why: r.text()?,
        }),
        SESSION_END => {
            let (end, totals) = end(r)?;
            Record::SessionEnd(end, totals)
        }
        _ => return Err(Malformed("an unknown kind of record")),
    };
    r.end()?;
    Ok(record)
}

fn start(r: &mut Reader<'_>) -> Result<SessionStarted, Malformed> {
    Ok(SessionStarted {
        id: SessionId(r.array()?),
        attach: AttachId(r.array()?),
        previous_start: r.array()?,
        start: SessionStart {
            subject: r.text()?,
            delegate: r.option(Reader::text)?,
            claims: claims(r)?,
            connection: r.text()?,
            target: r.text()?,
            purpose: r.option(Reader::text)?,
            protocol: r.text()?,
            policy_digest: r.text()?,
        },
    })
}

fn claims(r: &mut Reader<'_>) -> Result<BTreeMap<String, String>, Malformed> {
    let mut claims = BTreeMap::new();
    for _ in 0..r.few(8, MAX_ITEMS)? {
        let name = r.text()?;
        if claims
            .last_key_value()
            .is_some_and(|(last, _)| *last >= name)
        {
            return Err(Malformed("claims out of order"));
        }
        claims.insert(name, r.text()?);
    }
    Ok(claims)
}

fn intent(r: &mut Reader<'_>) -> Result<IntentRecord, Malformed> {
    let truncated = r.flag()?;
    let phase = phase(r.u8()?)?;
    let asked = durability(r.u8()?)?;
    let served = durability(r.u8()?)?;
    let digest = r.array()?;
    let refers_to = r.option(Reader::u64)?;
    let decision = decision(r)?;
    let summary = r.text()?;
    let mut accesses = Vec::new();
    for _ in 0..r.few(4, MAX_ITEMS)? {
        accesses.push(r.text()?);
    }
    let command = r.text()?;
    let mut parameters = Vec::new();
    for _ in 0..r.few(1, usize::from(u16::MAX))? {
        parameters.push(r.option(Reader::text)?);
    }
    let intent = Intent {
        phase,
        summary,
        accesses,
        command,
        parameters,
        digest,
        decision,
        refers_to,
    };
    Ok(IntentRecord {
        intent,
        asked,
        served,
        truncated,
    })
}

fn decision(r: &mut Reader<'_>) -> Result<DecisionRecord, Malformed> {
    Ok(DecisionRecord {
        verdict: verdict(r.u8()?)?,
        reason: reason(r)?,
        policy: r.text()?,
        rule: r.text()?,
        generation: i64::from_be_bytes(r.array()?),
        rule_digest: r.text()?,
        access: r.option(Reader::text)?,
        approval: r.option(Reader::text)?,
        would_be: r.option(|r| {
            Ok(WouldBe {
                verdict: verdict(r.u8()?)?,
                reason: reason(r)?,
                policy: r.text()?,
                rule: r.text()?,
            })
        })?,
    })
}

fn stream(r: &mut Reader<'_>) -> Result<Stream, Malformed> {
    let count = r.count(8)?;
    let mut masked: Vec<Range<u32>> = Vec::new();
    let mut last = 0;
    for _ in 0..count {
        let (start, end) = (r.u32()?, r.u32()?);
        if start < last || start >= end {
            return Err(Malformed("masked spans out of order"));
        }
        masked.push(start..end);
        last = end;
    }
    let bytes = r.bytes()?;
    if usize::try_from(last).unwrap_or(usize::MAX) > bytes.len() {
        return Err(Malformed("a masked span past the end"));
    }
    if bytes.len() > MAX_STREAM {
        return Err(Malformed("a stream longer than a frame may carry"));
    }
    Ok(Stream {
        bytes: bytes.to_vec(),
        masked,
    })
}

fn end(r: &mut Reader<'_>) -> Result<(SessionEnd, Totals), Malformed> {
    let end = SessionEnd {
        cause: cause(r.u8()?)?,
        reason: r.option(reason)?,
        detail: r.text()?,
    };
    let totals = Totals {
        records: r.u64()?,
        forwarded: r.u64()?,
        refused: r.u64()?,
        client_bytes: r.u64()?,
        server_bytes: r.u64()?,
        rows: r.u64()?,
    };
    Ok((end, totals))
}

fn reason(r: &mut Reader<'_>) -> Result<Reason, Malformed> {
    let name = std::str::from_utf8(r.bytes()?).map_err(|_| Malformed("text is not UTF-8"))?;
    Reason::parse(name).ok_or(Malformed("an unknown reason"))
}
