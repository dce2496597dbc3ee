//! Stores that somebody changed. The one who changes them here knows the format and rewrites all
//! that no key signs: entry lengths, segment numbers, digests. He has no key.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::Path;

use chaperone_policy::{Durability, Verdict};
use tempfile::TempDir;

use super::*;
use crate::codec::Put;
use crate::entry::Run;
use crate::frame::{NO_HASH, sha256};
use crate::segment::{HEAD, RUN, relative_path};
use crate::support::*;
use crate::{Recorder, Store};

pub(crate) type Entries = Vec<(u8, Vec<u8>)>;

/// Two attaches; the first with two whole sessions and one in two runs, the second with two.
async fn store() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let recorder = attach(dir.path());
    full_session(&recorder, 1).await;
    let mut long = recorder.begin(start(2)).unwrap();
    select(&mut long).await;
    full_session(&recorder, 3).await;
    shipped(&recorder).await;
    select(&mut long).await;
    long.end(closed()).await.unwrap();
    detach(&recorder).await;
    let recorder = attach(dir.path());
    full_session(&recorder, 4).await;
    full_session(&recorder, 5).await;
    detach(&recorder).await;
    assert_ok(dir.path());
    dir
}

pub(crate) async fn select(session: &mut crate::SessionRecorder) {
    let permit = allowed(session, "SELECT 1", Durability::Written).await;
    session.outcome(outcome(permit.sequence())).unwrap();
    session.flush().await.unwrap();
}

pub(crate) fn read_all(dir: &Path) -> Vec<Entries> {
    segment::list(dir)
        .unwrap()
        .iter()
        .map(|&number| {
            let bytes = segment::load(dir, number).unwrap();
            let segment = segment::parse(&bytes).unwrap();
            segment
                .entries
                .iter()
                .map(|e| (e.kind, e.body.to_vec()))
                .collect()
        })
        .collect()
}

use crate::segment;

/// Writes segments anew with everything right that needs no key.
pub(crate) fn write_all(dir: &Path, segments: &[Entries]) {
    for number in segment::list(dir).unwrap() {
        std::fs::remove_file(dir.join(relative_path(number))).unwrap();
    }
    let mut previous = NO_HASH;
    for (index, entries) in segments.iter().enumerate() {
        let number = index as u64 + 1;
        let mut bytes = b"CHSEG1\r\n".to_vec();
        bytes.put_u64(number);
        bytes.put(&previous);
        for (kind, body) in entries {
            bytes.put_u8(*kind);
            bytes.put_len(body.len());
            bytes.put(body);
        }
        previous = sha256(&[&bytes]);
        bytes.put_u8(0);
        bytes.put_u32(36);
        bytes.put_u32(entries.len() as u32);
        bytes.put(&previous);
        std::fs::write(dir.join(relative_path(number)), bytes).unwrap();
    }
}

/// What verify says of a copy of the store after `change`.
fn changed(store: &TempDir, change: impl FnOnce(&mut Vec<Entries>)) -> Break {
    let dir = tempfile::tempdir().unwrap();
    copy(store.path(), dir.path());
    let mut segments = read_all(dir.path());
    change(&mut segments);
    write_all(dir.path(), &segments);
    check(dir.path())
        .first_break()
        .expect("the change goes unnoticed")
        .clone()
}

/// Where the runs are: segment, entry, run.
pub(crate) fn runs(segments: &[Entries]) -> Vec<(usize, usize, Run)> {
    let mut out = Vec::new();
    for (s, entries) in segments.iter().enumerate() {
        for (e, (kind, body)) in entries.iter().enumerate() {
            if *kind == RUN {
                out.push((s, e, Run::decode(body).unwrap().run));
            }
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn rewriting_without_change_is_no_change() {
    let store = store().await;
    let segments = read_all(store.path());
    write_all(store.path(), &segments);
    assert!(check(store.path()).notes.is_empty());
    assert_ok(store.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_is_named_by_verify() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = attach(dir.path());
    full_session(&recorder, 1).await;
    detach(&recorder).await;
    drop(recorder);
    let recorder = attach(dir.path());
    detach(&recorder).await;
    let mut total = 0;
    for file in files(dir.path()) {
        let whole = std::fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&file, &bytes).unwrap();
            let report = check(dir.path());
            let found = report.first_break();
            assert!(
                found.is_some(),
                "byte {at} of {} goes unnoticed",
                file.display()
            );
            total += 1;
        }
        std::fs::write(&file, &whole).unwrap();
    }
    assert!(total > 3000, "{total}");
    assert_ok(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_changed_in_a_session_is_named_with_it() {
    let store = store().await;
    let all = read_all(store.path());
    for (s, e, run) in runs(&all) {
        let found = changed(&store, |segments| {
            *segments[s][e].1.last_mut().unwrap() ^= 1
        });
        assert_eq!(found.reason, BreakReason::RunChanged);
        assert_eq!(
            (found.session, found.sequence),
            (Some(run.session), Some(run.first))
        );
        assert_eq!(found.file, relative_path(s as u64 + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_session_is_named_by_verify() {
    let store = store().await;
    let all = read_all(store.path());
    for (_, _, run) in runs(&all).iter().filter(|(_, _, run)| run.first == 0) {
        let found = changed(&store, |segments| {
            for entries in segments.iter_mut() {
                entries.retain(|(kind, body)| {
                    *kind != RUN || Run::decode(body).unwrap().run.session != run.session
                });
            }
        });
        assert_eq!(found.reason, BreakReason::SessionMissing, "{found}");
    }
    // A session's last run: the head names its tail.
    let (s, e, run) = runs(&all).pop().unwrap();
    let found = changed(&store, |segments| drop(segments[s].remove(e)));
    let named = [BreakReason::SessionMissing, BreakReason::TailMissing];
    assert!(named.contains(&found.reason), "{found}");
    assert!(found.session == Some(run.session) || found.reason == BreakReason::SessionMissing);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_swapped_repeated_and_reordered_runs_are_named() {
    let store = store().await;
    let all = read_all(store.path());
    let places = runs(&all);
    for (s, e, _) in &places {
        changed(&store, |segments| drop(segments[*s].remove(*e)));
        changed(&store, |segments| {
            let again = segments[*s][*e].clone();
            segments[*s].insert(*e, again);
        });
        changed(&store, |segments| {
            let again = segments[*s][*e].clone();
            segments.last_mut().unwrap().push(again);
        });
    }
    for (a, (s, e, _)) in places.iter().enumerate() {
        for (t, f, _) in places.iter().skip(a + 1) {
            changed(&store, |segments| {
                let one = std::mem::replace(&mut segments[*s][*e], (RUN, Vec::new()));
                let two = std::mem::replace(&mut segments[*t][*f], one);
                segments[*s][*e] = two;
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_the_first_break() {
    let store = store().await;
    let all = read_all(store.path());
    let places = runs(&all);
    assert!(places.len() > 4);
    let flip = |segments: &mut Vec<Entries>, (s, e): (usize, usize)| {
        *segments[s][e].1.last_mut().unwrap() ^= 1;
    };
    for (a, (s, e, first)) in places.iter().enumerate() {
        for (t, f, _) in places.iter().skip(a + 1) {
            // Two that were altered; then, behind one that was altered, one that is gone, one that is
            // there twice, and one in another's place.
            let found = [
                changed(&store, |segments| {
                    flip(segments, (*t, *f));
                    flip(segments, (*s, *e));
                }),
                changed(&store, |segments| {
                    flip(segments, (*s, *e));
                    segments[*t].remove(*f);
                }),
                changed(&store, |segments| {
                    flip(segments, (*s, *e));
                    let again = segments[*t][*f].clone();
                    segments[*t].insert(*f, again);
                }),
                changed(&store, |segments| {
                    flip(segments, (*s, *e));
                    let last = places.last().unwrap();
                    let other = segments[last.0][last.1].clone();
                    segments[*t][*f] = other;
                }),
            ];
            for found in found {
                assert_eq!(found.reason, BreakReason::RunChanged, "{found}");
                let place = (found.session, found.sequence);
                assert_eq!(place, (Some(first.session), Some(first.first)), "{found}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_under_another_sessions_name_is_named() {
    let store = store().await;
    let all = read_all(store.path());
    let places = runs(&all);
    let (s, e, _) = places[0];
    let other = places
        .iter()
        .find(|(_, _, run)| run.session != places[0].2.session)
        .unwrap()
        .2
        .session;
    // version, recovered, signer, attach, session
    let found = changed(&store, |segments| {
        segments[s][e].1[18..26].copy_from_slice(&other.0)
    });
    assert_eq!(found.reason, BreakReason::SignatureInvalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_changed_heads_are_named() {
    let store = store().await;
    let all = read_all(store.path());
    for (s, entries) in all.iter().enumerate() {
        for (e, _) in entries
            .iter()
            .enumerate()
            .filter(|(_, (kind, _))| *kind == HEAD)
        {
            changed(&store, |segments| drop(segments[s].remove(e)));
            let found = changed(&store, |segments| segments[s][e].1[10] ^= 1);
            assert_eq!(found.reason, BreakReason::SignatureInvalid);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_attach_is_named() {
    let store = store().await;
    let all = read_all(store.path());
    let second = all
        .iter()
        .rposition(|entries| entries[0].0 == segment::ATTACH)
        .unwrap();
    let last = changed(&store, |segments| segments.truncate(second));
    assert_eq!(last.reason, BreakReason::AttachMissing);
    let first = changed(&store, |segments| drop(segments.drain(..second)));
    assert_eq!(first.reason, BreakReason::AttachMissing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_cut_anywhere_is_named() {
    let store = store().await;
    let count = read_all(store.path()).len();
    for keep in 0..count {
        changed(&store, |segments| segments.truncate(keep));
    }
    for gone in 0..count {
        let dir = tempfile::tempdir().unwrap();
        copy(store.path(), dir.path());
        std::fs::remove_file(dir.path().join(relative_path(gone as u64 + 1))).unwrap();
        assert!(!check(dir.path()).ok(), "segment {gone}");
    }
    let path = store.path().join(relative_path(count as u64));
    let whole = std::fs::read(&path).unwrap();
    for len in 0..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        assert!(!check(store.path()).ok(), "cut to {len} bytes");
    }
    std::fs::write(&path, &whole).unwrap();
    assert_ok(store.path());
    std::fs::remove_file(store.path().join(segment::LATEST)).unwrap();
    assert_eq!(
        check(store.path()).first_break().unwrap().reason,
        BreakReason::AttachMissing
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_key_verifies() {
    let store = store().await;
    let dir = store.path();
    let public =
        crate::parse_public_pem(&std::fs::read_to_string(dir.join("keys/log.pub")).unwrap())
            .unwrap();
    let print = Store::open_read_only(dir).unwrap().log_fingerprint();
    for key in [
        TrustedKey::PublicKey(public),
        TrustedKey::Fingerprint(print.clone()),
    ] {
        let report = verify(dir, &Selection::All, Some(&key)).unwrap();
        assert!(report.ok() && report.key_given, "{:?}", report.breaks);
        assert_eq!(report.fingerprint, print);
    }
    for key in [
        TrustedKey::PublicKey([9; 32]),
        TrustedKey::Fingerprint("SHA256:other".into()),
    ] {
        assert!(!verify(dir, &Selection::All, Some(&key)).unwrap().ok());
    }
    // An auditor's copy has no private keys.
    std::fs::remove_file(dir.join("keys/log.key")).unwrap();
    std::fs::remove_file(dir.join("keys/digest.key")).unwrap();
    let report = verify(dir, &Selection::All, Some(&TrustedKey::PublicKey(public))).unwrap();
    assert!(report.ok() && report.notes.len() == 2);
    // A whole other store under the same roof.
    let other = self::store().await;
    std::fs::copy(other.path().join("keys/log.pub"), dir.join("keys/log.pub")).unwrap();
    assert!(!check(dir).ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_can_be_verified_alone() {
    let store = store().await;
    let all = read_all(store.path());
    let places = runs(&all);
    let (s, e, run) = &places[0];
    let sound = places
        .iter()
        .find(|(_, _, other)| other.session != run.session)
        .unwrap()
        .2
        .session;
    let report = verify(store.path(), &Selection::Session(run.session), None).unwrap();
    assert!(report.ok(), "{:?}", report.breaks);
    assert_eq!(report.records, 18);
    let mut segments = all.clone();
    *segments[*s][*e].1.last_mut().unwrap() ^= 1;
    write_all(store.path(), &segments);
    assert!(
        !verify(store.path(), &Selection::Session(run.session), None)
            .unwrap()
            .ok()
    );
    let breaks = verify(store.path(), &Selection::Session(sound), None)
        .unwrap()
        .breaks;
    assert!(
        breaks
            .iter()
            .all(|found| found.session.is_none_or(|id| id == sound)),
        "{breaks:?}"
    );
}

/// A sidecar that signs what it must not.
async fn forged(forge: impl AsyncFnOnce(&mut crate::SessionRecorder)) -> Break {
    let dir = tempfile::tempdir().unwrap();
    let recorder: std::sync::Arc<Recorder> = attach(dir.path());
    let mut session = recorder.begin(start(1)).unwrap();
    forge(&mut session).await;
    session.end(closed()).await.unwrap();
    detach(&recorder).await;
    check(dir.path())
        .first_break()
        .expect("the forgery goes unnoticed")
        .clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_an_intent_is_named() {
    use crate::record::{ClientClass, Record, Stream};
    let command = |intent| Record::Client {
        class: ClientClass::Command,
        intent,
        stream: Stream {
            bytes: b"Q".to_vec(),
            masked: vec![],
        },
    };
    let found = forged(async |s| s.forge(&command(0))).await;
    assert_eq!(
        (found.reason, found.sequence),
        (BreakReason::CommandWithoutIntent, Some(1))
    );
    let found = forged(async |s| {
        let refused = s
            .refusal(&intent(Verdict::Deny, "DROP"), &[])
            .await
            .unwrap();
        s.forge(&command(refused));
    })
    .await;
    assert_eq!(
        (found.reason, found.sequence),
        (BreakReason::CommandWithoutIntent, Some(3))
    );
    let found = forged(async |s| s.outcome(outcome(0)).unwrap()).await;
    assert_eq!(found.reason, BreakReason::OutcomeWithoutIntent);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_is_not_recorded_is_named() {
    use crate::record::{IntentRecord, Record};
    let redeem = || {
        Record::Intent(Box::new(IntentRecord {
            intent: approved("DELETE", "ar-1"),
            asked: Durability::Synced,
            served: Durability::Synced,
            truncated: false,
        }))
    };
    let found = forged(async |s| s.forge(&redeem())).await;
    assert_eq!(found.reason, BreakReason::ApprovalMissing);
    let found = forged(async |s| {
        s.approval(granted("ar-1")).unwrap();
        s.forge(&redeem());
        s.forge(&redeem());
    })
    .await;
    assert_eq!(
        (found.reason, found.sequence),
        (BreakReason::ApprovalMissing, Some(3))
    );
}
