//! Replicated: nothing runs before whoever keeps the evidence elsewhere has said that he has it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use chaperone_evidence::clock::SystemEntropy;
use chaperone_evidence::*;
use chaperone_policy::{Durability, Verdict};
use support::*;
use tokio::time::{Instant, sleep, timeout};

fn replicating(deadline: Duration) -> SpoolOptions {
    SpoolOptions {
        replicate: true,
        deadline,
        ..options()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replicated_intent_waits_for_its_acknowledgement() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Store::open(dir.path())
        .unwrap()
        .attach(identity(), replicating(Duration::from_secs(20)))
        .unwrap();
    let mut session = recorder.begin(start(1)).unwrap();
    let mut segments = recorder.segments();
    let before = *segments.borrow_and_update();
    let delete = intent(Verdict::Allow, "DELETE FROM t");
    let part = [Part::from(&b"Q"[..])];
    let asked = Instant::now();
    let mut permit = Box::pin(session.intent(&delete, &part, Durability::Replicated));
    assert!(
        timeout(Duration::from_millis(300), &mut permit)
            .await
            .is_err(),
        "nobody has acknowledged it"
    );
    // It was shipped at once, not with the next second's.
    assert!(recorder.is_awaited());
    segments.changed().await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(10));
    let number = *segments.borrow_and_update();
    recorder.acknowledged(before);
    assert!(
        timeout(Duration::from_millis(100), &mut permit)
            .await
            .is_err()
    );
    recorder.acknowledged(number);
    let permit = permit.await.unwrap();
    assert!(!recorder.is_awaited());
    session.outcome(outcome(permit.sequence())).unwrap();
    let id = session.id().to_owned();
    session.end(closed()).await.unwrap();
    detach(&recorder).await;
    let id = Sessions::find(dir.path(), &id).unwrap();
    let served = show(dir.path(), &id)
        .unwrap()
        .filter_map(|shown| match shown.unwrap().record {
            Record::Intent(read) => Some((read.asked, read.served)),
            _ => None,
        })
        .collect::<Vec<_>>();
    assert_eq!(served, [(Durability::Replicated, Durability::Replicated)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_acknowledgement_it_is_refused_then_at_once_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Store::open(dir.path())
        .unwrap()
        .attach(identity(), replicating(Duration::from_millis(500)))
        .unwrap();
    let mut session = recorder.begin(start(1)).unwrap();
    let delete = intent(Verdict::Allow, "DELETE FROM t");
    let part = [Part::from(&b"Q"[..])];
    let refused = session.intent(&delete, &part, Durability::Replicated).await;
    assert!(
        matches!(refused, Err(RecordError::Timeout(_))),
        "{refused:?}"
    );
    let again = session.intent(&delete, &part, Durability::Replicated).await;
    assert!(matches!(again, Err(RecordError::Stalled)), "{again:?}");
    // What needs no other is not held up.
    let _ = session
        .intent(&delete, &part, Durability::Synced)
        .await
        .unwrap();
    // And once somebody answers again, so is this.
    let newest = *recorder.segments().borrow();
    recorder.acknowledged(newest);
    let acknowledging = recorder.clone();
    let helper = tokio::spawn(async move {
        let mut segments = acknowledging.segments();
        loop {
            let newest = *segments.borrow_and_update();
            acknowledging.acknowledged(newest);
            let _ = timeout(Duration::from_millis(20), segments.changed()).await;
        }
    });
    sleep(Duration::from_millis(50)).await;
    let _ = session
        .intent(&delete, &part, Durability::Replicated)
        .await
        .unwrap();
    helper.abort();
    session.end(closed()).await.unwrap();
    detach(&recorder).await;
    assert_ok(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tally_tells_every_session_as_it_stands() {
    tally(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tally_tells_of_what_its_own_process_sealed() {
    let auditor = Identity::generate(&SystemEntropy).unwrap();
    tally(&[auditor.recipient()]).await;
}

async fn tally(recipients: &[Recipient]) {
    let dir = tempfile::tempdir().unwrap();
    let away = SpoolOptions {
        recipients: recipients.to_vec(),
        ..replicating(Duration::from_secs(30))
    };
    let store = Store::open(dir.path()).unwrap();
    let recorder = store.attach(identity(), away).unwrap();
    let replicated = Arc::clone(&recorder);
    tokio::spawn(async move {
        let mut segments = replicated.segments();
        while segments.changed().await.is_ok() {
            let newest = *segments.borrow_and_update();
            replicated.acknowledged(newest);
        }
    });
    let (ended, _) = full_session(&recorder, 1).await;
    let mut open = recorder.begin(start(2)).unwrap();
    let _ = open
        .refusal(
            &intent(Verdict::Deny, "DROP TABLE t"),
            &[Part::from(&b"Q"[..])],
        )
        .await
        .unwrap();
    shipped(&recorder).await;
    let mut outbox = Outbox::open(dir.path()).unwrap();
    let keys = recorder.shipped_keys();
    let mut tally = Tally::with(keys.clone());
    // Another process has no key, and must not take headers for all there is.
    let mut other = Tally::default();
    let mut told = std::collections::BTreeMap::new();
    while let Some(next) = outbox.unsent().unwrap() {
        let blind = other.take(&next.bytes).sessions;
        assert!(blind.iter().all(|one| one.sealed != recipients.is_empty()));
        for session in tally.take(&next.bytes).sessions {
            told.insert(session.id.to_string(), session);
        }
        keys.forget(next.number);
        outbox.acknowledge(next.number).unwrap();
    }
    assert_eq!(told.len(), 2);
    assert_eq!(told[&ended].state, State::Ended);
    assert!(told.values().all(|session| !session.sealed));
    assert_eq!((told[&ended].allowed, told[&ended].denied), (2, 1));
    let id = open.id().to_owned();
    assert_eq!((told[&id].state, told[&id].denied), (State::Open, 1));
    open.end(closed()).await.unwrap();
    detach(&recorder).await;
    let mut last = Vec::new();
    while let Some(next) = outbox.unsent().unwrap() {
        last.extend(tally.take(&next.bytes).sessions);
        keys.forget(next.number);
        outbox.acknowledge(next.number).unwrap();
    }
    // Nothing is left that would open them.
    assert!(!format!("{keys:?}").contains("DataKey"), "{keys:?}");
    assert_eq!(last.len(), 1);
    assert_eq!((last[0].id.to_string(), last[0].state), (id, State::Ended));
}
