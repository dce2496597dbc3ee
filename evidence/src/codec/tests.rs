//! Records: what is written is read, nothing else is, and the published vectors hold.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use std::ops::Range;
use std::time::Duration;

use chaperone_policy::Reason;

use super::*;
use crate::frame::{self, Header, chain};
use crate::record::{
    Approval, AsIntent, AttachId, DecisionRecord, Finding, Gap, Intent, IntentRecord, MAX_COMMAND,
    MAX_PARAMETERS, Masked, Outcome, PolicyChanged, Record, SessionEnd, SessionId, SessionStart,
    SessionStarted, Stream, Totals, WouldBe,
};

fn text() -> impl Strategy<Value = String> {
    "[a-zé '\u{1F600}\\n]{0,24}"
}

fn any_reason() -> impl Strategy<Value = Reason> {
    proptest::sample::select(Reason::ALL)
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    proptest::sample::select(vec![
        Verdict::Allow,
        Verdict::Deny,
        Verdict::Hold,
        Verdict::Observe,
    ])
}

fn any_durability() -> impl Strategy<Value = Durability> {
    proptest::sample::select(vec![
        Durability::Written,
        Durability::Synced,
        Durability::Replicated,
    ])
}

fn stream_strategy() -> impl Strategy<Value = Stream> {
    (vec(any::<u8>(), 0..300), vec((0u32..40, 1u32..10), 0..6)).prop_map(|(bytes, gaps)| {
        let (mut masked, mut at) = (Vec::new(), 0);
        for (gap, len) in gaps {
            let start = at + gap;
            if (start + len) as usize <= bytes.len() {
                masked.push(start..start + len);
                at = start + len;
            }
        }
        Stream { bytes, masked }
    })
}

fn decision_strategy() -> impl Strategy<Value = DecisionRecord> {
    let would_be = (any_verdict(), any_reason(), text(), text()).prop_map(
        |(verdict, reason, policy, rule)| WouldBe {
            verdict,
            reason,
            policy,
            rule,
        },
    );
    let rule = (text(), text(), any::<i64>(), text());
    (
        any_verdict(),
        any_reason(),
        rule,
        option::of(text()),
        option::of(text()),
        option::of(would_be),
    )
        .prop_map(
            |(
                verdict,
                reason,
                (policy, rule, generation, rule_digest),
                access,
                approval,
                would_be,
            )| DecisionRecord {
                verdict,
                reason,
                policy,
                rule,
                generation,
                rule_digest,
                access,
                approval,
                would_be,
            },
        )
}

fn intent_strategy() -> impl Strategy<Value = Record> {
    let phases = vec![Phase::Command, Phase::Prepare, Phase::Bind, Phase::Execute];
    let levels = (any_durability(), any_durability(), any::<bool>());
    let texts = (
        text(),
        vec(text(), 0..4),
        text(),
        vec(option::of(text()), 0..4),
    );
    let rest = (
        any::<[u8; 32]>(),
        decision_strategy(),
        option::of(any::<u64>()),
    );
    (proptest::sample::select(phases), levels, texts, rest).prop_map(
        |(phase, (asked, served, truncated), texts, (digest, decision, refers_to))| {
            let (summary, accesses, command, parameters) = texts;
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
            Record::Intent(Box::new(IntentRecord {
                intent,
                asked,
                served,
                truncated,
            }))
        },
    )
}

fn start_strategy() -> impl Strategy<Value = Record> {
    let ids = (any::<[u8; 8]>(), any::<[u8; 8]>(), any::<[u8; 32]>());
    let who = (
        text(),
        option::of(text()),
        btree_map(text(), text(), 0..4),
        text(),
    );
    let what = (text(), option::of(text()), text(), text());
    (ids, who, what).prop_map(|((id, attach, previous_start), who, what)| {
        let (subject, delegate, claims, connection) = who;
        let (target, purpose, protocol, policy_digest) = what;
        Record::SessionStart(Box::new(SessionStarted {
            start: SessionStart {
                subject,
                delegate,
                claims,
                connection,
                target,
                purpose,
                protocol,
                policy_digest,
            },
            id: SessionId(id),
            attach: AttachId(attach),
            previous_start,
        }))
    })
}

fn small_strategy() -> impl Strategy<Value = Record> {
    let classes = vec![
        ClientClass::Command,
        ClientClass::Control,
        ClientClass::Refused,
    ];
    let outcome =
        (any::<u64>(), 1u8..=5, text(), any::<[u64; 3]>()).prop_map(|(intent, code, detail, n)| {
            let duration = Duration::from_nanos(n[2]);
            Record::Outcome(Outcome {
                intent,
                status: status(code).unwrap(),
                detail,
                rows: n[0],
                bytes: n[1],
                duration,
            })
        });
    let approval = (
        text(),
        1u8..=7,
        option::of(text()),
        any::<bool>(),
        [text(), text(), text(), text()],
    )
        .prop_map(
            |(request, code, reviewer, authenticated, [reason, policy, rule, rule_digest])| {
                let event = event(code).unwrap();
                Record::Approval(Approval {
                    request,
                    event,
                    reviewer,
                    authenticated,
                    reason,
                    policy,
                    rule,
                    rule_digest,
                })
            },
        );
    let end = (1u8..=4, option::of(any_reason()), text(), any::<[u64; 6]>()).prop_map(
        |(code, reason, detail, n)| {
            let totals = Totals {
                records: n[0],
                forwarded: n[1],
                refused: n[2],
                client_bytes: n[3],
                server_bytes: n[4],
                rows: n[5],
            };
            Record::SessionEnd(
                SessionEnd {
                    cause: cause(code).unwrap(),
                    reason,
                    detail,
                },
                totals,
            )
        },
    );
    prop_oneof![
        (
            proptest::sample::select(classes),
            any::<u64>(),
            stream_strategy()
        )
            .prop_map(|(class, intent, stream)| Record::Client {
                class,
                intent,
                stream
            }),
        stream_strategy().prop_map(Record::Server),
        (text(), vec(any::<u8>(), 0..64))
            .prop_map(|(purpose, bytes)| Record::Proxy { purpose, bytes }),
        outcome,
        approval,
        [text(), text(), text()].prop_map(|[previous, current, detail]| {
            Record::PolicyChanged(PolicyChanged {
                previous,
                current,
                detail,
            })
        }),
        (text(), any::<u64>()).prop_map(|(by, count)| Record::Masked(Masked { by, count })),
        [text(), text()].prop_map(|[kind, detail]| Record::Finding(Finding { kind, detail })),
        (any::<u64>(), any::<u64>(), text()).prop_map(|(records, bytes, why)| Record::Gap(Gap {
            records,
            bytes,
            why
        })),
        end,
    ]
}

fn any_record() -> impl Strategy<Value = Record> {
    prop_oneof![
        start_strategy(),
        intent_strategy(),
        small_strategy(),
        small_strategy()
    ]
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    encode(record, &mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_written_is_read(record in any_record()) {
        let bytes = encoded(&record);
        prop_assert_eq!(decode(kind_of(&record), &bytes).unwrap(), record);
    }

    #[test]
    fn a_changed_record_is_refused_or_another_record(
        record in any_record(), at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()
    ) {
        let mut bytes = encoded(&record);
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        if let Ok(other) = decode(kind_of(&record), &bytes) {
            prop_assert_ne!(&other, &record);
            // One record, one encoding: what was read would be written so.
            prop_assert_eq!(encoded(&other), bytes);
        }
    }

    #[test]
    fn hostile_bytes_never_panic_nor_allocate_beyond_themselves(
        kind in any::<u8>(), bytes in vec(any::<u8>(), 0..600)
    ) {
        let _ = decode(kind, &bytes);
        let _ = frame::read(&bytes);
        let _ = crate::entry::Attach::decode(&bytes);
        let _ = crate::entry::Head::decode(&bytes);
        let _ = crate::entry::Run::decode(&bytes).map(|run| run.frames(run.payload));
        let _ = crate::segment::split(&bytes);
        let _ = crate::segment::parse_latest(&bytes);
        let _ = crate::spool::batch_at(&bytes, 1);
    }

    #[test]
    fn counts_that_promise_more_than_follows_are_refused(count in 1u32.., rest in vec(any::<u8>(), 0..64)) {
        let mut bytes = count.to_be_bytes().to_vec();
        bytes.extend(&rest);
        prop_assume!(count as usize > rest.len());
        prop_assert!(Reader::new(&bytes).count(1).is_err());
        prop_assert!(decode(SERVER, &bytes).is_err());
    }

    #[test]
    fn the_chain_tells_any_two_histories_apart(
        frames in vec(vec(any::<u8>(), 1..40), 1..8), at in any::<prop::sample::Index>()
    ) {
        let hash = |frames: &[Vec<u8>]| {
            frames.iter().fold(None, |previous, frame| Some(chain(previous.as_ref(), frame)))
        };
        let whole = hash(&frames);
        let at = at.index(frames.len());
        let mut changed = frames.clone();
        changed[at][0] ^= 1;
        prop_assert_ne!(hash(&changed), whole);
        let mut shorter = frames.clone();
        shorter.remove(at);
        prop_assert_ne!(hash(&shorter), whole);
        let mut swapped = frames.clone();
        swapped.swap(0, at);
        prop_assert_eq!(hash(&swapped) == whole, frames[0] == frames[at]);
    }
}

#[test]
fn masked_spans_given_out_of_order_still_lie_within_the_bytes() {
    let spans = [90u32..200, 3..5, 4..8, 2..2];
    let mut out = Vec::new();
    put_stream(&mut out, std::iter::once(Piece::whole(&[0; 100], &spans)));
    let Record::Server(stream) = decode(SERVER, &out).unwrap() else {
        panic!()
    };
    assert!(
        stream
            .masked
            .iter()
            .all(|span| span.start < span.end && span.end <= 100)
    );
}

#[test]
fn texts_are_cut_between_characters_and_said_to_be() {
    let mut intent = crate::support::intent(Verdict::Allow, &"é".repeat(MAX_COMMAND));
    intent.parameters = vec![Some("x".repeat(MAX_PARAMETERS)), Some("y".into())];
    let mut out = Vec::new();
    put_intent(
        &mut out,
        &intent.as_intent(),
        Durability::Written,
        Durability::Written,
        false,
    );
    let Record::Intent(read) = decode(INTENT, &out).unwrap() else {
        panic!()
    };
    assert!(read.truncated && read.intent.command.len() == MAX_COMMAND);
    assert_eq!(read.intent.parameters[1].as_deref(), Some(""));
    assert!(out.len() < crate::record::MAX_FRAME);
}

/// The frames of vectors/frames.txt: fixed records, one after the other in one session.
fn vectors() -> String {
    use std::fmt::Write;
    let start = Record::SessionStart(Box::new(SessionStarted {
        start: crate::support::start(1),
        id: SessionId([1; 8]),
        attach: AttachId([2; 8]),
        previous_start: [0; 32],
    }));
    let intent = Record::Intent(Box::new(IntentRecord {
        intent: crate::support::intent(Verdict::Allow, "SELECT 1"),
        asked: Durability::Replicated,
        served: Durability::Synced,
        truncated: false,
    }));
    let stream = |bytes: &[u8], masked: &[Range<u32>]| Stream {
        bytes: bytes.to_vec(),
        masked: masked.to_vec(),
    };
    let totals = Totals {
        records: 11,
        forwarded: 1,
        refused: 0,
        client_bytes: 5,
        server_bytes: 9,
        rows: 1,
    };
    let records = [
        start,
        intent,
        Record::Client {
            class: ClientClass::Command,
            intent: 1,
            stream: stream(b"Q\0\0\0\x04", &[]),
        },
        Record::Server(stream(b"D****zzzz", std::slice::from_ref(&(1..5)))),
        Record::Proxy {
            purpose: "login".into(),
            bytes: Vec::new(),
        },
        Record::Outcome(crate::support::outcome(1)),
        Record::Approval(crate::support::granted("ar-1")),
        Record::PolicyChanged(PolicyChanged {
            previous: "a".into(),
            current: "b".into(),
            detail: "c".into(),
        }),
        Record::Masked(Masked {
            by: "public.customers.email".into(),
            count: 1,
        }),
        Record::Finding(Finding {
            kind: "DenialBurst".into(),
            detail: "3".into(),
        }),
        Record::Gap(Gap {
            records: 1,
            bytes: 2,
            why: "full".into(),
        }),
        Record::SessionEnd(
            SessionEnd {
                cause: EndCause::Terminated,
                reason: Some(Reason::SessionExpired),
                detail: String::new(),
            },
            totals,
        ),
    ];
    let mut out = String::from(
        "# kind, frame, chain after it; one session of ordinal 3, made by codec/tests.rs\n",
    );
    let mut hash = None;
    for (sequence, record) in records.iter().enumerate() {
        let header = Header {
            kind: kind_of(record),
            ordinal: 3,
            sequence: sequence as u64,
            wall_ns: 1_700_000_000_000_000_000 + sequence as u64,
            offset_ns: 1000 * sequence as u64,
        };
        let mut bytes = Vec::new();
        frame::write(&mut bytes, &header, |out| encode(record, out)).unwrap();
        let next = chain(hash.as_ref(), &bytes);
        writeln!(
            out,
            "{} {} {}",
            record.kind(),
            hex::encode(&bytes),
            hex::encode(next)
        )
        .unwrap();
        hash = Some(next);
    }
    out
}

/// Version 1 is read for ever: set UPDATE_VECTORS only before it was ever released.
#[test]
fn the_published_vectors_hold() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/frames.txt");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(path, vectors()).unwrap();
    }
    let published = std::fs::read_to_string(path).unwrap();
    assert_eq!(published, vectors());
    for line in published.lines().skip(1) {
        let bytes = hex::decode(line.split(' ').nth(1).unwrap()).unwrap();
        let (frame, rest) = frame::read(&bytes).unwrap();
        assert!(rest.is_empty());
        assert_eq!(
            decode(frame.header.kind, frame.body).unwrap().kind(),
            line.split(' ').next().unwrap()
        );
    }
}

#[test]
fn the_page_of_the_format_lists_every_reason() {
    let page = include_str!("../../FORMAT.md");
    let (_, list) = page.split_once("```reasons\n").unwrap();
    let (list, _) = list.split_once("```").unwrap();
    let listed: Vec<&str> = list.split_whitespace().collect();
    let known: Vec<&str> = chaperone_policy::Reason::ALL
        .iter()
        .map(|r| r.as_str())
        .collect();
    assert_eq!(listed, known);
}
