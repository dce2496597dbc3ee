//! Unsealings: what the log says of who was given keys, and the keys that are found.

use std::sync::Arc;

use super::*;
use crate::audit::{KeyFinder, Unsealing, UnsealingError, unsealings};
use crate::keys;
use crate::seal::KeyName;
use crate::{Identity, Keyring, Recipient, SessionId, clock::SystemEntropy};

fn vectors(word: &str) -> String {
    let text = include_str!("../../../vectors/unseal.txt");
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{word} ")));
    found.unwrap().to_owned()
}

fn log_key() -> LogKey {
    let seed: [u8; 32] = std::array::from_fn(|at| at as u8);
    LogKey::from_pem(&keys::private_pem(&seed)).unwrap()
}

#[test]
fn the_vector_of_the_unsealing_is_what_is_made() {
    let (key, bytes) = (log_key(), hex::decode(vectors("unsealing")).unwrap());
    assert_eq!(hex::encode(key.public()), vectors("log-pub"));
    let read = Unsealing::open(&bytes, key.public()).unwrap();
    let names = vectors("keys");
    let expected = Unsealing {
        wall_ns: vectors("wall").parse().unwrap(),
        request: vectors("request"),
        uid: vectors("uid"),
        user: vectors("user"),
        groups: vectors("groups").split(' ').map(str::to_owned).collect(),
        recipient: Recipient::parse(&vectors("recipient")).unwrap(),
        reason: vectors("reason"),
        keys: names
            .split(", ")
            .map(|name| KeyName::parse(name).unwrap())
            .collect(),
    };
    assert_eq!(read, expected);
    assert_eq!(expected.sign(&key).unwrap(), bytes);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(
            Unsealing::open(&changed, key.public()).is_err(),
            "byte {at}"
        );
        assert!(Unsealing::open(&bytes[..at], key.public()).is_err());
    }
    let other = LogKey::from_pem(&LogKey::generate().unwrap()).unwrap();
    let forged = expected.sign(&other).unwrap();
    assert_eq!(
        Unsealing::open(&forged, key.public()),
        Err(UnsealingError::Signature)
    );
    let mut twice = expected.clone();
    twice.keys.push(twice.keys[0]);
    assert_eq!(twice.sign(&key), None, "the same key twice");
    twice.keys.clear();
    assert_eq!(twice.sign(&key), None, "no key");
}

fn entry(found: &Unsealing, key: &LogKey) -> (Entry, Vec<u8>) {
    let data = found.sign(key).unwrap();
    let entry = Entry {
        kind: EntryKind::Unseal,
        namespace: "chaperone-audit".to_owned(),
        pod: "chaperone-operator".to_owned(),
        uid: found.uid.clone(),
        store: *key.public(),
        number: 0,
        part: 0,
        parts: 1,
        digest: digest(&data),
    };
    (entry, data)
}

#[test]
fn an_unsealing_that_is_not_the_logs_is_a_break() {
    let key = log_key();
    let bytes = hex::decode(vectors("unsealing")).unwrap();
    let found = Unsealing::open(&bytes, key.public()).unwrap();
    let mut collected = Collected::default();
    let good = vec![entry(&found, &key)];
    collected.segments.insert("us-1".to_owned(), good.clone());
    let dir = tempfile::tempdir().unwrap();
    let report = verify::verify_into(&collected, key.public(), dir.path()).unwrap();
    assert!(report.report.ok(), "{:?}", report.report.breaks);
    assert_eq!(report.unsealings, [("us-1".to_owned(), found.clone())]);
    let other = LogKey::from_pem(&LogKey::generate().unwrap()).unwrap();
    let mut cases = vec![entry(&found, &other)];
    for change in [
        (|entry: &mut Entry| entry.uid = "another".to_owned()) as fn(&mut Entry),
        |entry| entry.store = [7; 32],
        |entry| entry.number = 1,
        |entry| entry.part = 1,
        |entry| entry.parts = 2,
    ] {
        let (mut changed, data) = good[0].clone();
        change(&mut changed);
        cases.push((changed, data));
    }
    for case in cases {
        collected.segments.insert("us-1".to_owned(), vec![case]);
        let dir = tempfile::tempdir().unwrap();
        let report = verify::verify_into(&collected, key.public(), dir.path()).unwrap();
        let first = &report.report.breaks[0];
        assert_eq!(first.reason, crate::BreakReason::UnsealInvalid, "{first}");
        assert!(unsealings(&collected, key.public()).0.is_empty());
    }
}

#[test]
fn keys_of_what_is_not_there_are_not_found() {
    let identity = Identity::generate(&SystemEntropy).unwrap();
    let ring = Arc::new(Keyring::new(vec![identity]));
    let asked = SessionId([9; 8]);
    let mut finder = KeyFinder::new(ring, [asked]);
    let (entry, _) = {
        let found = Unsealing::open(
            &hex::decode(vectors("unsealing")).unwrap(),
            log_key().public(),
        )
        .unwrap();
        entry(&found, &log_key())
    };
    let nonsense = Entry {
        kind: EntryKind::Segment,
        ..entry
    };
    assert!(finder.entry(&nonsense, b"no segment", log_key().public()));
    let found = finder.finish();
    assert_eq!(found.missing, [asked]);
    assert!(found.shut.is_empty() && found.clear.is_empty());
    assert_eq!(found.keys.names().count(), 0);
}
