//! Bundles of a log of which something is gone.

use super::*;
use crate::audit::bundle::BundleError;

/// A pod's store that goes on behind a tombstone, what went, and what came then; and another's that
/// came then.
async fn behind() -> (Cluster, [(String, [u8; 32]); 2], [SessionId; 3]) {
    let mut cluster = Cluster::new();
    let id = |text: String| SessionId(hex::decode(text).unwrap().try_into().unwrap());
    let (dir, gone) = recorded(1).await;
    cluster.ship(1, dir.path());
    cluster.checkpoint();
    let (held, _) = recorded(2).await;
    cluster.ship(2, held.path());
    cluster.checkpoint();
    let hold = Hold {
        name: "case-9".into(),
        namespaces: Vec::new(),
        sessions: Vec::new(),
    };
    cluster.bury(2, vec![hold]);
    let recorder = attach(dir.path());
    let (stays, _) = full_session(&recorder, 7).await;
    detach(&recorder).await;
    cluster.ship(1, dir.path());
    let (new, later) = recorded(3).await;
    cluster.ship(3, new.path());
    cluster.checkpoint();
    let key = |dir: &TempDir| {
        let text = std::fs::read_to_string(dir.path().join("keys/log.pub")).unwrap();
        crate::parse_public_pem(&text).unwrap()
    };
    let stores = [(pod(1).uid, key(&dir)), (pod(3).uid, key(&new))];
    (cluster, stores, [id(gone), id(stays), id(later)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_behind_a_tombstone_proves_itself_and_says_what_is_gone() {
    let (cluster, stores, [gone, stays, later]) = behind().await;
    let (log, public) = (&cluster.collected, cluster.key.public());
    for (stores, sessions) in [
        (&stores[..1], vec![stays]),
        (&stores[1..], vec![later]),
        (&stores[..], vec![stays, later]),
    ] {
        let files = bundle::of_log(log, public, stores, &sessions).unwrap();
        let found = unbundle(&cluster, &files, None);
        assert!(found.report.ok(), "{:#?}", found.report.breaks);
        assert_eq!(found.stores, stores.len());
        let removed = found.log.unwrap().removed.unwrap().tombstone;
        assert_eq!((removed.number, removed.checkpoint), (1, 2));
        let mut notes = found.report.notes.iter();
        assert!(notes.any(|note| note.detail.contains("were removed on")));
        // That the log only grew is shown to whoever kept the note that stays, or a later one.
        for checkpoint in log.checkpoints.values() {
            let found = unbundle(&cluster, &files, Some(&checkpoint.note));
            assert!(found.report.ok(), "{:#?}", found.report.breaks);
        }
    }
    // What went is named, and so is what it may be among.
    let refused = bundle::of_log(log, public, &stores, &[stays, gone]).unwrap_err();
    assert!(matches!(refused, BundleError::Below(id) if id == gone));
    let mut files = bundle::of_log(log, public, &stores, &[stays]).unwrap();
    let manifest = String::from_utf8(files["bundle.json"].clone()).unwrap();
    let other = manifest.replace(&stays.to_string(), &gone.to_string());
    files.insert("bundle.json".into(), other.into_bytes());
    let report = unbundle(&cluster, &files, None).report;
    let first = report.first_break().unwrap();
    assert_eq!(first.reason, BreakReason::SessionMissing);
    assert!(first.detail.contains("tombstone 1"), "{}", first.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_changed_or_missing_file_behind_a_tombstone_is_named() {
    let (cluster, stores, [_, stays, _]) = behind().await;
    let files = bundle::of_log(&cluster.collected, cluster.key.public(), &stores, &[stays]);
    let files = files.unwrap();
    for name in files.keys().filter(|name| name.starts_with("entries/")) {
        let mut less = files.clone();
        less.remove(name);
        assert!(!unbundle(&cluster, &less, None).report.ok(), "{name}");
        let mut changed = files.clone();
        let middle = files[name].len() / 2;
        changed.get_mut(name).unwrap()[middle] ^= 4;
        assert!(!unbundle(&cluster, &changed, None).report.ok(), "{name}");
    }
    // Without the tombstone nothing says why the store has no beginning.
    let manifest = String::from_utf8(files["bundle.json"].clone()).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let entries = manifest["entries"].as_array_mut().unwrap();
    entries.retain(|entry| entry["kind"] != "Tombstone");
    let mut without = files.clone();
    let text = serde_json::to_vec(&manifest).unwrap();
    without.insert("bundle.json".into(), text);
    assert!(!unbundle(&cluster, &without, None).report.ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_that_waits_for_its_checkpoint_is_waited_for() {
    let (mut cluster, stores, [_, stays, _]) = behind().await;
    // Somebody takes the newest checkpoints away, and with them the tombstone's place in the log.
    cluster
        .collected
        .checkpoints
        .retain(|number, _| *number <= 2);
    let made = bundle::of_log(&cluster.collected, cluster.key.public(), &stores, &[stays]);
    assert!(matches!(made, Err(BundleError::Waiting)), "{made:?}");
}
