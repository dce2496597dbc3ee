//! What is recorded comes back, whole and in order.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::time::Duration;

use chaperone_evidence::*;
use chaperone_policy::{Durability, Reason, Verdict};
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_is_shown_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = attach(dir.path());
    let (id, _) = full_session(&recorder, 1).await;
    detach(&recorder).await;

    let id = Sessions::find(dir.path(), &id[..6]).unwrap();
    let shown: Vec<Shown> = show(dir.path(), &id).unwrap().map(Result::unwrap).collect();
    let kinds: Vec<&str> = shown.iter().map(|s| s.record.kind()).collect();
    assert_eq!(
        kinds,
        [
            "SessionStart",
            "Proxy",
            "Server",
            "Intent",
            "Client",
            "Server",
            "Masked",
            "Outcome",
            "Intent",
            "Client",
            "Finding",
            "PolicyChanged",
            "Approval",
            "Intent",
            "Client",
            "Outcome",
            "Client",
            "SessionEnd"
        ]
    );
    assert!(
        shown
            .iter()
            .enumerate()
            .all(|(n, s)| s.sequence == n as u64)
    );
    let Record::Intent(read) = &shown[3].record else {
        panic!()
    };
    assert_eq!(read.intent, intent(Verdict::Allow, "SELECT 1"));
    let Record::Intent(read) = &shown[13].record else {
        panic!()
    };
    assert_eq!(
        (read.asked, read.served),
        (Durability::Replicated, Durability::Synced)
    );
    let Record::SessionEnd(_, totals) = &shown[17].record else {
        panic!()
    };
    assert_eq!(
        (
            totals.records,
            totals.forwarded,
            totals.refused,
            totals.rows
        ),
        (17, 2, 1, 2)
    );

    let listed = Sessions::list(dir.path()).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (
            listed[0].allowed,
            listed[0].denied,
            listed[0].rows,
            listed[0].masked
        ),
        (2, 1, 2, 1)
    );
    assert_eq!(listed[0].state, State::Ended);
    assert_eq!(listed[0].start, start(1));
    assert!(assert_ok(dir.path()).notes.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_is_byte_exact() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = attach(dir.path());
    let (id, stream) = full_session(&recorder, 7).await;
    detach(&recorder).await;
    let id = Sessions::find(dir.path(), &id).unwrap();
    let replayed: Vec<Replayed> = replay(dir.path(), &id)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let bytes: Vec<_> = replayed
        .iter()
        .map(|r| (r.direction, r.bytes.clone()))
        .collect();
    assert_eq!(bytes, stream);
    assert_eq!(replayed[2].masked, vec![4..8]);
    assert!(replayed.windows(2).all(|w| w[0].offset <= w[1].offset));
}

#[tokio::test(flavor = "multi_thread")]
async fn long_streams_are_split_and_spans_keep_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = attach(dir.path());
    let mut session = recorder.begin(start(1)).unwrap();
    let long: Vec<u8> = (0..150_000u32).map(|i| i as u8).collect();
    // One span across the cut at 64 KiB, one in the last piece.
    let spans = [65_530u32..65_550, 149_000..149_010];
    session
        .server(&[Part {
            bytes: &long,
            masked: &spans,
        }])
        .unwrap();
    let id = session.id().to_owned();
    session.end(closed()).await.unwrap();
    detach(&recorder).await;
    let id = Sessions::find(dir.path(), &id).unwrap();
    let (mut bytes, mut masked) = (Vec::new(), Vec::new());
    for piece in replay(dir.path(), &id).unwrap().map(Result::unwrap) {
        let base = bytes.len() as u32;
        masked.extend(
            piece
                .masked
                .iter()
                .flat_map(|s| s.start + base..s.end + base),
        );
        bytes.extend(piece.bytes);
    }
    assert_eq!(bytes, long);
    assert_eq!(masked, spans.iter().cloned().flatten().collect::<Vec<_>>());
    assert_ok(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_permit_for_what_is_not_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = attach(dir.path());
    let mut session = recorder.begin(start(1)).unwrap();
    for intent in [
        intent(Verdict::Deny, "DROP TABLE t"),
        intent(Verdict::Hold, "DELETE FROM t"),
        approved("DELETE FROM t", "ar-1"),
    ] {
        let refused = session
            .intent(&intent, &[], Durability::Written)
            .await
            .unwrap_err();
        assert_eq!(refused, RecordError::NotAllowed);
        assert_eq!(refused.reason(), Reason::Internal);
    }
    // One grant lets through one command.
    session.approval(granted("ar-1")).unwrap();
    let _ = session
        .intent(&approved("DELETE FROM t", "ar-1"), &[], Durability::Synced)
        .await
        .unwrap();
    let again = session
        .intent(&approved("DELETE FROM t", "ar-1"), &[], Durability::Synced)
        .await;
    assert_eq!(again.unwrap_err(), RecordError::NotAllowed);
    session.end(closed()).await.unwrap();
    detach(&recorder).await;
    assert_ok(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sidecars_never_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = attach(dir.path());
    assert!(matches!(Store::open(dir.path()), Err(StoreError::InUse(_))));
    detach(&recorder).await;
    drop(Store::open(dir.path()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_use_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = attach(dir.path());
    let mut open = recorder.begin(start(0)).unwrap();
    for n in 0..50 {
        full_session(&recorder, n).await;
        let permit = allowed(&mut open, "SELECT 2", Durability::Written).await;
        open.server(&[Part::from(&[n as u8; 9000][..])]).unwrap();
        open.outcome(outcome(permit.sequence())).unwrap();
        assert_ok(dir.path());
    }
    let report = assert_ok(dir.path());
    assert_eq!(report.sessions, 51);
    let listed = Sessions::list(dir.path()).unwrap();
    assert_eq!(listed.iter().filter(|s| s.state == State::Open).count(), 1);
    open.end(closed()).await.unwrap();
    detach(&recorder).await;
    assert!(assert_ok(dir.path()).notes.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn attaches_follow_each_other() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..3 {
        let recorder = attach(dir.path());
        full_session(&recorder, n).await;
        full_session(&recorder, n).await;
        detach(&recorder).await;
    }
    let report = assert_ok(dir.path());
    assert_eq!(
        (report.attaches.len(), report.sessions, report.unproven),
        (3, 6, 0)
    );
    assert!(report.notes.is_empty(), "{:?}", report.notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_dropped_without_an_end_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = attach(dir.path());
    let mut session = recorder.begin(start(1)).unwrap();
    session.server(&[Part::from(&b"hello"[..])]).unwrap();
    drop(session);
    detach(&recorder).await;
    let listed = Sessions::list(dir.path()).unwrap();
    assert_eq!(
        (listed[0].state, listed[0].end.as_str(), listed[0].records),
        (State::Ended, "Aborted", 3)
    );
    assert_ok(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn synced_intents_share_their_fdatasync() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = attach(dir.path());
    let mut tasks = Vec::new();
    for n in 0..16 {
        let recorder = recorder.clone();
        tasks.push(tokio::spawn(async move {
            let mut session = recorder.begin(start(n)).unwrap();
            for _ in 0..20 {
                let _ = allowed(&mut session, "SELECT 3", Durability::Synced).await;
            }
            session.end(closed()).await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let stats = recorder.stats();
    assert_eq!(stats.synced_intents, 320);
    assert!(stats.syncs < 320, "{} fdatasyncs", stats.syncs);
    detach(&recorder).await;
    assert_ok(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_stream_needs_no_more_room_than_the_spool() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = attach(dir.path());
    let mut session = recorder.begin(start(1)).unwrap();
    let piece = vec![b'x'; 32 * 1024];
    // Twenty times the spool.
    for _ in 0..480 {
        session.server(&[Part::from(&piece[..])]).unwrap();
        session.flush().await.unwrap();
        assert!(session.buffered() == 0);
    }
    session.end(closed()).await.unwrap();
    detach(&recorder).await;
    let report = assert_ok(dir.path());
    assert!(report.bytes > 480 * 32 * 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn short_sessions_share_their_segments() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = attach(dir.path());
    for n in 0..2000 {
        let mut session = recorder.begin(start(n)).unwrap();
        let _ = allowed(&mut session, "SELECT 1", Durability::Written).await;
        session.end(closed()).await.unwrap();
    }
    let stats = recorder.stats();
    detach(&recorder).await;
    assert!(stats.segments < 200, "{} segments", stats.segments);
    assert_eq!(assert_ok(dir.path()).sessions, 2000);
    assert_eq!(Sessions::list(dir.path()).unwrap().len(), 2000);
}

/// A segment costs two syncs: what comes in while one is written waits for the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_session_does_not_make_a_segment_of_every_few_records() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Store::open(dir.path())
        .unwrap()
        .attach(identity(), SpoolOptions::default())
        .unwrap();
    let mut session = recorder.begin(start(1)).unwrap();
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        let _ = allowed(&mut session, "SELECT 1", Durability::Written).await;
    }
    let stats = recorder.stats();
    // One a second, and one for each half megabyte.
    let expected = begun.elapsed().as_secs() + stats.appended_bytes / (512 * 1024) + 3;
    assert!(
        stats.segments <= expected,
        "{} segments where {expected} are enough",
        stats.segments
    );
    session.end(closed()).await.unwrap();
    detach(&recorder).await;
    assert_ok(dir.path());
}

#[test]
fn the_digest_tells_apart_what_is_cut_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let key = store.digest_key();
    assert_ne!(key.hmac(&[b"ab", b"c"]), key.hmac(&[b"a", b"bc"]));
    assert_eq!(key.hmac(&[b"ab", b"c"]), key.hmac(&[b"ab", b"c"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_private_and_never_made_twice() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let fingerprint = Store::open(dir.path()).unwrap().log_fingerprint();
    for name in ["keys/log.key", "keys/digest.key"] {
        let mode = std::fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(
        Store::open(dir.path()).unwrap().log_fingerprint(),
        fingerprint
    );
    assert_eq!(
        Store::open_read_only(dir.path()).unwrap().log_fingerprint(),
        fingerprint
    );
    let recorder = attach(dir.path());
    recorder.detach(Duration::from_secs(20)).await.unwrap();
    drop(recorder);
    std::fs::remove_file(dir.path().join("keys/log.key")).unwrap();
    assert!(matches!(
        Store::open(dir.path()),
        Err(StoreError::Corrupt { .. })
    ));
}

#[tokio::test]
async fn a_given_digest_key_is_kept_and_another_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = ([7; 32], [8; 32]);
    let store = Store::open_with_digest_key(dir.path(), &first).unwrap();
    let digest = store.digest_key().hmac(&[b"DELETE"]);
    drop(store);
    // Another store under the same key makes the same digests: grants are found again.
    let other = tempfile::tempdir().unwrap();
    let elsewhere = Store::open_with_digest_key(other.path(), &first).unwrap();
    assert_eq!(elsewhere.digest_key().hmac(&[b"DELETE"]), digest);
    let refused = Store::open_with_digest_key(dir.path(), &second).unwrap_err();
    assert!(matches!(
        refused,
        chaperone_evidence::StoreError::OtherDigestKey(_)
    ));
    assert_eq!(refused.reason(), chaperone_policy::Reason::CannotRecord);
    // Whoever has no key to give opens it as it is.
    let again = Store::open(dir.path()).unwrap();
    assert_eq!(again.digest_key().hmac(&[b"DELETE"]), digest);
}
