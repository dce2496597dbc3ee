#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use chaperone_policy::{Durability, Verdict};
use serde_json::Value;

use super::Events;
use crate::read::Shown;
use crate::record::{
    Approval, ApprovalEvent, EndCause, Gap, IntentRecord, Masked, Phase, Record, SessionEnd,
    SessionId, SessionStarted, Totals,
};
use crate::scan::Origin;
use crate::support;

fn origin() -> Arc<Origin> {
    Arc::new(Origin {
        id: SessionId([1, 2, 3, 4, 5, 6, 7, 8]),
        attach: Default::default(),
        ordinal: 1,
        start: support::start(1),
        started_ns: 1_700_000_000_000_000_000,
    })
}

/// The events of these records, numbered from 0, as they are written.
fn events(records: Vec<Record>) -> Vec<Value> {
    let mut events = Events::new(origin());
    let mut told = Vec::new();
    for (sequence, record) in (0..).zip(records) {
        let shown = Shown {
            sequence,
            wall_ns: 1_700_000_000_000_000_000 + sequence * 1_000_000,
            offset: Duration::ZERO,
            record,
        };
        told.extend(events.take(&shown));
    }
    told.extend(events.finish());
    told.iter()
        .map(|event| serde_json::to_value(event).unwrap())
        .collect()
}

fn intent(verdict: Verdict, phase: Phase, accesses: &[&str]) -> Record {
    let mut intent = support::intent(verdict, "SELECT 1");
    intent.phase = phase;
    intent.accesses = accesses.iter().map(|access| (*access).to_owned()).collect();
    Record::Intent(Box::new(IntentRecord {
        intent,
        asked: Durability::Written,
        served: Durability::Written,
        truncated: false,
    }))
}

fn begun() -> Record {
    Record::SessionStart(Box::new(SessionStarted {
        start: support::start(1),
        id: origin().id,
        attach: Default::default(),
        previous_start: [0; 32],
    }))
}

fn ended() -> Record {
    let end = SessionEnd {
        cause: EndCause::ClientClosed,
        reason: None,
        detail: String::new(),
    };
    Record::SessionEnd(end, Totals::default())
}

#[test]
fn a_missing_event_shows_in_the_numbers() {
    let told = events(vec![
        begun(),
        intent(Verdict::Allow, Phase::Prepare, &[]),
        intent(Verdict::Allow, Phase::Execute, &["Read on public.orders"]),
        intent(Verdict::Deny, Phase::Prepare, &["Delete on public.orders"]),
        Record::Outcome(support::outcome(2)),
        intent(Verdict::Allow, Phase::Command, &[]),
        ended(),
    ]);
    let numbers: Vec<u64> = told
        .iter()
        .map(|event| event["metadata"]["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    let places: Vec<&str> = told
        .iter()
        .map(|event| event["metadata"]["uid"].as_str().unwrap())
        .collect();
    let places: Vec<&str> = places
        .iter()
        .map(|uid| uid.split_once('/').unwrap().1)
        .collect();
    assert_eq!(places, ["0", "3", "2", "5", "6"]);
    let last = told.last().unwrap();
    assert_eq!(
        (&last["activity_name"], &last["unmapped"]["events"]),
        (&Value::from("Disconnect"), &Value::from(5))
    );
}

#[test]
fn every_decision_says_what_was_done_and_by_which_rule() {
    for (verdict, action, disposition, status) in [
        (Verdict::Allow, "Allowed", "Allowed", "Success"),
        (Verdict::Deny, "Denied", "Blocked", "Failure"),
        (Verdict::Hold, "Denied", "Delayed", "Failure"),
        (Verdict::Observe, "Observed", "Logged", "Success"),
    ] {
        let told = events(vec![
            intent(verdict, Phase::Command, &["Modify on public.orders"]),
            Record::Outcome(support::outcome(0)),
        ]);
        let [event] = told.as_slice() else {
            unreachable!("one command is one event: {told:?}")
        };
        assert_eq!(event["action"], action);
        assert_eq!(event["disposition"], disposition);
        assert_eq!(event["status"], status);
        assert_eq!(event["type_uid"], 600_502);
        assert_eq!(event["policy"]["name"], "shop/report-agent/read-reporting");
        assert_eq!(event["table"]["name"], "public.orders");
        assert_eq!(event["database"]["name"], "orders");
        assert_eq!(event["dst_endpoint"]["port"], 5432);
    }
}

#[test]
fn masked_values_are_counted_with_the_command_that_they_answered() {
    let masked = |count| {
        Record::Masked(Masked {
            by: "public.customers.email".to_owned(),
            count,
        })
    };
    let told = events(vec![
        intent(
            Verdict::Allow,
            Phase::Command,
            &["Read on public.customers"],
        ),
        masked(2),
        masked(3),
        Record::Outcome(support::outcome(0)),
        intent(Verdict::Allow, Phase::Command, &["Read on public.orders"]),
        Record::Outcome(support::outcome(4)),
    ]);
    assert_eq!(told[0]["action"], "Modified");
    assert_eq!(told[0]["unmapped"]["masked_values"], 5);
    assert_eq!(told[1]["action"], "Allowed");
    assert_eq!(told[1]["unmapped"].get("masked_values"), None);
}

#[test]
fn a_review_is_its_reviewers_and_a_gap_is_a_finding() {
    let told = events(vec![
        Record::Approval(Approval {
            event: ApprovalEvent::ReviewedDeny,
            ..support::granted("ar-1")
        }),
        Record::Gap(Gap {
            records: 3,
            bytes: 900,
            why: "the disk was full".to_owned(),
        }),
    ]);
    assert_eq!(told[0]["class_uid"], 3005);
    assert_eq!(told[0]["actor"]["user"]["name"], "local:1000");
    assert_eq!(told[0]["user"]["name"], "shop/report-agent");
    assert_eq!(told[0]["disposition"], "Rejected");
    assert_eq!(told[0]["unmapped"]["authenticated"], false);
    assert_eq!(told[1]["class_uid"], 2004);
    assert_eq!(told[1]["finding_info"]["title"], "EvidenceGap");
    let actor = &told[1]["evidences"][0]["actor"];
    assert_eq!(actor["user"]["name"], "shop/report-agent");
}
