//! Sealed stores, and what somebody can do to them: with no key, with the attach's, with another's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;
use crate::StoreError;
use crate::clock::{Entropy, Environment, SystemClock, SystemEntropy};
use crate::codec::{self, Put};
use crate::disk::{Disk, NewFile, RealDisk, SpoolFile};
use crate::entry::{Attach, Run, SignedRun};
use crate::keys::SigningKey;
use crate::read::{Sessions, State, show};
use crate::recorder::Recorder;
use crate::segment::{ATTACH, RUN, SEAL};
use crate::store::{SpoolOptions, Store};
use crate::support::*;
use crate::verify::tests::{Entries, read_all, runs, select, write_all};
use crate::verify::{BreakReason, Level, Report, Selection, verify};

/// Random, and remembered: so that a test can be the one who holds the attach's key.
#[derive(Default)]
struct Remembered(Mutex<Vec<Vec<u8>>>);

impl Entropy for Remembered {
    fn fill(&self, out: &mut [u8]) -> bool {
        let filled = SystemEntropy.fill(out);
        self.0.lock().unwrap().push(out.to_vec());
        filled
    }
}

/// The machine's disk, which writes no segment while it is held.
#[derive(Default)]
struct Held(AtomicBool);

impl Disk for Held {
    fn create_spool(&self, path: &Path, len: u64) -> std::io::Result<Arc<dyn SpoolFile>> {
        RealDisk.create_spool(path, len)
    }

    fn create(&self, path: &Path) -> std::io::Result<Box<dyn NewFile>> {
        if self.0.load(Ordering::Acquire) {
            return Err(std::io::Error::other("held"));
        }
        RealDisk.create(path)
    }
}

struct Sealed {
    dir: TempDir,
    entropy: Arc<Remembered>,
    disk: Arc<Held>,
}

impl Sealed {
    fn new() -> Sealed {
        Sealed {
            dir: tempfile::tempdir().unwrap(),
            entropy: Arc::default(),
            disk: Arc::default(),
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn attach(&self, recipients: &[&Identity]) -> Arc<Recorder> {
        let environment = Environment {
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::clone(&self.entropy) as Arc<dyn Entropy>,
            disk: Arc::clone(&self.disk) as Arc<dyn Disk>,
        };
        let options = SpoolOptions {
            recipients: recipients.iter().map(|one| one.recipient()).collect(),
            ..options()
        };
        Store::open_with(self.path(), environment)
            .unwrap()
            .attach(identity(), options)
            .unwrap()
    }

    /// The key that signs the last attach's runs.
    fn attach_key(&self) -> SigningKey {
        let attach = read_all(self.path())
            .into_iter()
            .flatten()
            .rfind(|(kind, _)| *kind == ATTACH)
            .unwrap();
        let public = Attach::decode(&attach.1).unwrap().public;
        let drawn = self.entropy.0.lock().unwrap();
        drawn
            .iter()
            .filter_map(|bytes| SigningKey::from_seed(bytes.as_slice().try_into().ok()?))
            .find(|key| *key.public() == public)
            .unwrap()
    }

    /// What verify says with these identities, after `change`.
    fn changed(&self, with: &[&Identity], change: impl FnOnce(&mut Vec<Entries>)) -> Report {
        let copied = tempfile::tempdir().unwrap();
        copy(self.path(), copied.path());
        let mut segments = read_all(copied.path());
        change(&mut segments);
        write_all(copied.path(), &segments);
        read_with(copied.path(), with)
    }
}

fn one() -> Identity {
    Identity::generate(&SystemEntropy).unwrap()
}

fn ring(identities: &[&Identity]) -> Keyring {
    Keyring::new(identities.iter().map(|one| (*one).clone()).collect())
}

fn read_with(dir: &Path, identities: &[&Identity]) -> Report {
    verify(Place::new(dir, &ring(identities)), &Selection::All, None).unwrap()
}

/// A store of two sessions for `identity`, detached.
async fn two_sessions(identity: &Identity) -> Sealed {
    let store = Sealed::new();
    let recorder = store.attach(&[identity]);
    full_session(&recorder, 1).await;
    let mut long = recorder.begin(start(2)).unwrap();
    select(&mut long).await;
    shipped(&recorder).await;
    select(&mut long).await;
    long.end(closed()).await.unwrap();
    detach(&recorder).await;
    store
}

/// A run with another payload, signed as the attach would.
fn resigned(run: &SignedRun<'_>, payload: &[u8], key: &SigningKey) -> Vec<u8> {
    let mut body = Run::encode(run.lead.to_vec(), payload, key).unwrap();
    body.put(payload);
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_key_verifies_the_outside_and_who_has_one_all_of_it() {
    let auditor = one();
    let store = two_sessions(&auditor).await;
    let outer = read_with(store.path(), &[]);
    assert!(outer.ok(), "{:?}", outer.breaks);
    assert_eq!(
        (outer.level, outer.sessions, outer.records),
        (Level::Outer, 2, 0)
    );
    assert_eq!(outer.sealed.len(), 2);
    let other = read_with(store.path(), &[&one()]);
    assert!(other.ok());
    assert_eq!(other.level, Level::Outer);
    let full = read_with(store.path(), &[&one(), &auditor]);
    assert!(full.ok(), "{:?}", full.breaks);
    assert_eq!((full.level, full.sessions), (Level::Full, 2));
    assert!(full.sealed.is_empty() && full.records > 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_can_be_read_with_the_key_alone() {
    let auditor = one();
    let store = two_sessions(&auditor).await;
    for (_, _, run) in runs(&read_all(store.path())) {
        assert!(run.sealed.is_some());
    }
    for entries in read_all(store.path()) {
        for (kind, body) in entries.iter().filter(|(kind, _)| *kind == RUN) {
            let run = Run::decode(body).unwrap();
            assert!(
                run.frames(run.payload).is_err(),
                "entry of kind {kind} is clear"
            );
        }
    }
    let listed = Sessions::list(store.path()).unwrap();
    assert!(
        listed
            .iter()
            .all(|one| one.sealed && one.state == State::Ended)
    );
    assert!(listed.iter().all(|one| one.start.subject.is_empty()));
    let refused = show(store.path(), &listed[0].id).map(drop).unwrap_err();
    assert!(matches!(refused, StoreError::Sealed(_)), "{refused}");
    let place = Place::new(store.path(), &ring(&[&auditor]));
    let opened = Sessions::list(&place).unwrap();
    assert_eq!(
        opened
            .iter()
            .map(|one| (one.records, one.id))
            .collect::<Vec<_>>(),
        listed
            .iter()
            .map(|one| (one.records, one.id))
            .collect::<Vec<_>>()
    );
    assert!(
        opened
            .iter()
            .all(|one| one.start.subject == "shop/report-agent")
    );
    assert_eq!(
        show(&place, &listed[0].id)
            .unwrap()
            .map(Result::unwrap)
            .count(),
        18
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_of_a_sealed_store_is_named_with_a_key_and_without() {
    let auditor = one();
    let store = Sealed::new();
    let recorder = store.attach(&[&auditor]);
    full_session(&recorder, 1).await;
    detach(&recorder).await;
    drop(recorder);
    let own = Store::open(store.path()).unwrap();
    own.own_recipient().unwrap();
    drop(own);
    for file in files(store.path()) {
        let whole = std::fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&file, &bytes).unwrap();
            // Without a key each, as that is the weaker one.
            let both: [&[&Identity]; 2] = [&[], &[&auditor]];
            for with in &both[..if at % 4 == 0 { 2 } else { 1 }] {
                let report = read_with(store.path(), with);
                assert!(
                    !report.ok(),
                    "byte {at} of {} goes unnoticed",
                    file.display()
                );
            }
        }
        std::fs::write(&file, &whole).unwrap();
    }
    assert!(read_with(store.path(), &[&auditor]).ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_and_swapped_frames_are_named_even_if_the_attach_signs_them() {
    let auditor = one();
    let store = two_sessions(&auditor).await;
    let key = store.attach_key();
    let all = read_all(store.path());
    let places = runs(&all);
    let body = |at: usize| all[places[at].0][places[at].1].1.clone();
    let put = |segments: &mut Vec<Entries>, at: usize, body: Vec<u8>| {
        segments[places[at].0][places[at].1].1 = body;
    };
    for at in 0..places.len() {
        let changed = store.changed(&[&auditor], |segments| {
            *segments[places[at].0][places[at].1].1.last_mut().unwrap() ^= 1;
        });
        assert_eq!(
            changed.first_break().unwrap().reason,
            BreakReason::RunChanged
        );
        let signed = store.changed(&[&auditor], |segments| {
            let body = body(at);
            let run = Run::decode(&body).unwrap();
            let mut payload = run.payload.to_vec();
            payload[0] ^= 1;
            put(segments, at, resigned(&run, &payload, &key));
        });
        let found = signed.first_break().unwrap();
        assert_eq!(found.reason, BreakReason::SealBroken);
        assert_eq!(
            (found.session, found.sequence),
            (Some(places[at].2.session), Some(places[at].2.first))
        );
    }
    // The bodies of two sessions, and of two runs of one session, in each other's places.
    for (from, to) in [(0, 1), (1, 0), (1, 2), (2, 1)] {
        let swapped = store.changed(&[&auditor], |segments| {
            let (other, own) = (body(from), body(to));
            let run = Run::decode(&own).unwrap();
            let payload = Run::decode(&other).unwrap().payload.to_vec();
            put(segments, to, resigned(&run, &payload, &key));
        });
        let found = swapped.first_break().unwrap();
        assert_eq!(found.reason, BreakReason::SealBroken, "{from} in {to}");
        assert_eq!(found.session, Some(places[to].2.session));
    }
    // The header is bound to the frames too.
    let changed = store.changed(&[&auditor], |segments| {
        let body = body(0);
        let run = Run::decode(&body).unwrap();
        let mut forged = run.lead.to_vec();
        forged[60] ^= 1;
        let mut made = Run::encode(forged, run.payload, &key).unwrap();
        made.put(run.payload);
        put(segments, 0, made);
    });
    let reasons: Vec<_> = changed.breaks.iter().map(|found| found.reason).collect();
    assert!(reasons.contains(&BreakReason::SealBroken), "{reasons:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sessions_key_opens_it_and_no_other() {
    let auditor = one();
    let store = two_sessions(&auditor).await;
    let all = read_all(store.path());
    let (_, seal) = all
        .iter()
        .flatten()
        .find(|(kind, _)| *kind == SEAL)
        .unwrap();
    let Unwrapped::Secret(secret) = Seal::decode(seal)
        .unwrap()
        .unwrap(std::slice::from_ref(&auditor))
    else {
        panic!("it is for this auditor");
    };
    let sessions = Sessions::list(store.path()).unwrap();
    let name = |at: usize| KeyName {
        attach: sessions[at].attach,
        seal: 1,
        session: sessions[at].id,
    };
    let key = |at: usize| {
        secret
            .session_key(name(at).attach, name(at).session)
            .unwrap()
    };
    let with = |name: KeyName, key: DataKey| {
        let mut ring = Keyring::default();
        ring.insert(name, key);
        // As it travels.
        let mut read = Keyring::default();
        read.take_keys(&ring.keys_to_text()).unwrap();
        verify(Place::new(store.path(), &read), &Selection::All, None).unwrap()
    };
    let right = with(name(0), key(0));
    assert!(right.ok(), "{:?}", right.breaks);
    assert_eq!(right.sealed, [sessions[1].id]);
    assert_eq!((right.level, right.records), (Level::Outer, 18));
    let place = Place::new(store.path(), &{
        let mut ring = Keyring::default();
        ring.insert(name(0), key(0));
        ring
    });
    let of_it = verify(&place, &Selection::Session(sessions[0].id), None).unwrap();
    assert_eq!(of_it.level, Level::Full);
    for wrong in [with(name(0), key(1)), with(name(1), key(0))] {
        let found = wrong.first_break().unwrap();
        assert_eq!(found.reason, BreakReason::KeyMismatch, "{found}");
    }
    let mut text = Keyring::default();
    for bad in ["x", "0011223344556677 1 0011223344556677 00\n", "\n"] {
        assert!(text.take_keys(bad).is_err(), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_does_not_hold_what_it_says_is_named() {
    let auditor = one();
    let store = two_sessions(&auditor).await;
    let key = store.attach_key();
    let reseal = |change: &dyn Fn(&mut Seal)| {
        let report = store.changed(&[&auditor], |segments| {
            for (kind, body) in segments.iter_mut().flatten() {
                if *kind == SEAL {
                    let mut seal = Seal::decode(body).unwrap();
                    change(&mut seal);
                    *body = seal.encode(&key).unwrap();
                }
            }
        });
        report.first_break().unwrap().reason
    };
    let other = encrypt(&[7; 32], &[auditor.recipient()], &SystemEntropy).unwrap();
    assert_eq!(
        reseal(&|seal| seal.wrapped = other.clone()),
        BreakReason::SealInvalid
    );
    assert_eq!(
        reseal(&|seal| seal.commitment = [7; 32]),
        BreakReason::SealInvalid
    );
    assert_eq!(reseal(&|seal| seal.number = 2), BreakReason::SealInvalid);
    let changed = |seal: &mut Seal| *seal.wrapped.last_mut().unwrap() ^= 1;
    assert_eq!(reseal(&changed), BreakReason::SealInvalid);
    let gone = store.changed(&[&auditor], |segments| {
        segments
            .iter_mut()
            .for_each(|entries| entries.retain(|(kind, _)| *kind != SEAL));
    });
    assert_eq!(gone.first_break().unwrap().reason, BreakReason::SealInvalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_recipients_read_what_begins_after_them_and_old_ones_what_began_before() {
    let (old, new) = (one(), one());
    let store = Sealed::new();
    let recorder = store.attach(&[&old]);
    let mut across = recorder.begin(start(1)).unwrap();
    select(&mut across).await;
    shipped(&recorder).await;
    recorder.seal_for(&[new.recipient()]);
    select(&mut across).await;
    across.end(closed()).await.unwrap();
    let mut after = recorder.begin(start(2)).unwrap();
    select(&mut after).await;
    after.end(closed()).await.unwrap();
    detach(&recorder).await;
    let sealed = |with: &[&Identity]| {
        let report = read_with(store.path(), with);
        assert!(report.ok(), "{:?}", report.breaks);
        report.sealed
    };
    let ids: Vec<_> = Sessions::list(store.path())
        .unwrap()
        .iter()
        .map(|one| one.id)
        .collect();
    assert_eq!(sealed(&[&old]), [ids[1]]);
    assert_eq!(sealed(&[&new]), [ids[0]]);
    assert!(sealed(&[&old, &new]).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_is_sealed_under_the_next_attach() {
    let (first, second) = (one(), one());
    let store = Sealed::new();
    let recorder = store.attach(&[&first]);
    let mut session = recorder.begin(start(1)).unwrap();
    select(&mut session).await;
    shipped(&recorder).await;
    // What is written from here on does not leave the spool, as before a kill.
    store.disk.0.store(true, Ordering::Release);
    select(&mut session).await;
    recorder.engine.stop();
    let engine = Arc::downgrade(&recorder.engine);
    drop(session);
    drop(recorder);
    until("its threads to go", || engine.strong_count() == 0);
    store.disk.0.store(false, Ordering::Release);
    let recorder = store.attach(&[&second]);
    detach(&recorder).await;
    let all = read_with(store.path(), &[&first, &second]);
    assert!(all.ok(), "{:?}", all.breaks);
    assert_eq!(all.level, Level::Full);
    for half in [&first, &second] {
        let report = read_with(store.path(), &[half]);
        assert!(report.ok(), "{:?}", report.breaks);
        assert_eq!((report.level, report.sealed.len()), (Level::Outer, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_not_sealed_stays_readable_and_is_from_then_on() {
    let auditor = one();
    let store = Sealed::new();
    let recorder = store.attach(&[]);
    full_session(&recorder, 1).await;
    detach(&recorder).await;
    drop(recorder);
    let clear = read_with(store.path(), &[]);
    assert_eq!((clear.level, clear.sealed.len()), (Level::Full, 0));
    let recorder = store.attach(&[&auditor]);
    full_session(&recorder, 2).await;
    detach(&recorder).await;
    let report = read_with(store.path(), &[]);
    assert!(report.ok(), "{:?}", report.breaks);
    assert_eq!(
        (report.sessions, report.sealed.len(), report.records),
        (2, 1, 18)
    );
    assert_eq!(read_with(store.path(), &[&auditor]).level, Level::Full);
}

#[test]
fn a_stores_own_key_is_made_once_and_nobody_elses_to_read() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let made = || Store::open(dir.path()).unwrap().own_recipient().unwrap();
    let first = made();
    assert_eq!(first, made());
    let path = dir.path().join(SEAL_KEY);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(Identity::parse_file(&text).unwrap()[0].recipient(), first);
}

#[test]
fn a_file_of_age_opens_for_its_recipients_and_for_nobody_else() {
    let (first, second, other) = (one(), one(), one());
    let recipients = [first.recipient(), second.recipient()];
    for len in [0, 1, 65_535, 65_536, 65_537, 200_000] {
        let content: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        let file = encrypt(&content, &recipients, &SystemEntropy).unwrap();
        for identity in [&first, &second] {
            let opened = decrypt(&file, &[other.clone(), identity.clone()]).unwrap();
            assert!(*opened == content, "{len}");
        }
        assert_eq!(
            decrypt(&file, std::slice::from_ref(&other)),
            Err(AgeError::NoIdentity)
        );
        let cut = &file[..file.len() - 1];
        assert_eq!(
            decrypt(cut, std::slice::from_ref(&first)),
            Err(AgeError::Changed)
        );
    }
    // A whole last chunk that is missing shows as well.
    let file = encrypt(&vec![7; 70_000], &recipients, &SystemEntropy).unwrap();
    let cut = &file[..file.len() - (70_000 - 65_536 + 16)];
    assert_eq!(
        decrypt(cut, std::slice::from_ref(&first)),
        Err(AgeError::Changed)
    );
}

#[test]
fn a_changed_byte_of_a_file_of_age_shows() {
    let identity = one();
    let file = encrypt(b"content", &[identity.recipient()], &SystemEntropy).unwrap();
    for at in 0..file.len() {
        let mut bytes = file.clone();
        bytes[at] ^= 1;
        let opened = decrypt(&bytes, std::slice::from_ref(&identity));
        assert!(opened.is_err(), "byte {at}");
    }
    assert!(encrypt(b"", &[], &SystemEntropy).is_err());
    let many = vec![identity.recipient(); MAX_RECIPIENTS + 1];
    assert!(encrypt(b"", &many, &SystemEntropy).is_err());
}

#[test]
fn what_the_age_tool_wrote_is_read() {
    let vectors = include_str!("../../vectors/age.txt");
    let line = |word: &str| {
        let found = vectors.lines().find_map(|line| line.strip_prefix(word));
        found.unwrap().trim().to_owned()
    };
    let identity = Identity::parse(&line("identity")).unwrap();
    assert_eq!(identity.recipient().to_string(), line("recipient"));
    assert_eq!(
        Recipient::parse(&line("recipient")).unwrap(),
        identity.recipient()
    );
    let file = hex::decode(line("file")).unwrap();
    let content = decrypt(&file, &[identity]).unwrap();
    assert_eq!(hex::encode(content.as_slice()), line("content"));
}

#[test]
fn what_is_no_key_of_age_is_refused() {
    let identity = one();
    let recipient = identity.recipient().to_string();
    let secret = identity.to_text();
    for bad in [
        "",
        "age1",
        &recipient.to_uppercase(),
        &recipient[..recipient.len() - 1],
        &format!("{recipient} "),
        &secret,
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN",
        "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t",
    ] {
        assert_eq!(Recipient::parse(bad), Err(AgeError::Recipient), "{bad}");
    }
    for bad in [
        "",
        &recipient,
        &secret.to_lowercase(),
        &format!("{}A", *secret),
    ] {
        assert!(Identity::parse(bad).is_err(), "{bad}");
    }
    let file = format!("# created\n\n{}\n", *secret);
    assert_eq!(Identity::parse_file(&file).unwrap().len(), 1);
    assert!(Identity::parse_file("# nothing\n").is_err());
    assert!(!format!("{identity:?}").contains(&secret[20..]));
}

/// `vectors/seal.txt`: everything from an identity to a run's frames.
#[test]
fn the_vectors_of_the_seal_are_what_is_made() {
    let vectors = include_str!("../../vectors/seal.txt");
    let line = |word: &str| -> String {
        let found = vectors
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{word} ")));
        found.unwrap_or_else(|| panic!("no {word}")).to_owned()
    };
    let bytes = |word: &str| hex::decode(line(word)).unwrap();
    let identity = Identity::parse(&line("identity")).unwrap();
    let seal = Seal::decode(&bytes("seal")).unwrap();
    let Unwrapped::Secret(secret) = seal.unwrap(&[identity]) else {
        panic!("the seal does not open");
    };
    assert_eq!(hex::encode(secret.0.as_ref()), line("secret"));
    assert_eq!(hex::encode(secret.commitment()), line("commitment"));
    let body = bytes("run");
    let signed = Run::decode(&body).unwrap();
    let key = secret
        .session_key(signed.run.signer, signed.run.session)
        .unwrap();
    assert_eq!(*key.to_hex(), line("key"));
    let sealed = signed.run.sealed.unwrap();
    let compressed = key.open(signed.lead, sealed.nonce, signed.payload).unwrap();
    assert_eq!(hex::encode(&compressed), line("compressed"));
    assert_eq!(
        hex::encode(signed.frames(&compressed).unwrap()),
        line("frames")
    );
    let again = key.seal(signed.lead, sealed.nonce, compressed).unwrap();
    assert_eq!(again, signed.payload);
    let public: [u8; 32] = bytes("attach-key").try_into().unwrap();
    assert!(signed.signature_holds(&public) && signed.payload_matches());
    assert!(Seal::signature_holds(&bytes("seal"), &public));
    let frames = bytes("frames");
    let (first, _) = crate::frame::read(&frames).unwrap();
    assert_eq!(first.header.kind, codec::SESSION_START);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_opens_the_sessions_it_was_made_for_and_no_other() {
    use crate::audit::{add_keys, bundle, keys_of};
    let (owner, auditor) = (one(), one());
    let store = two_sessions(&owner).await;
    let place = Place::new(store.path(), &ring(&[&owner]));
    let ids: Vec<_> = Sessions::list(&place)
        .unwrap()
        .iter()
        .map(|one| one.id)
        .collect();
    let keys = keys_of(&place, &ids[..1]).unwrap();
    let check = |files: &bundle::Files, with: &Keyring| {
        let dir = tempfile::tempdir().unwrap();
        let all = Selection::All;
        bundle::verify_bundle(files, None, None, with, &all, dir.path())
            .unwrap()
            .report
    };
    let mut open = bundle::of_folder(store.path(), &ids[..1]).unwrap();
    let shut = open.clone();
    let mut wrapped = open.clone();
    add_keys(&mut open, &keys, &[]).unwrap();
    add_keys(&mut wrapped, &keys, &[auditor.recipient()]).unwrap();
    assert_eq!(check(&shut, &Keyring::default()).level, Level::Outer);
    for (files, with) in [(&open, ring(&[])), (&wrapped, ring(&[&auditor]))] {
        let report = check(files, &with);
        assert!(report.ok(), "{:?}", report.breaks);
        assert_eq!((report.level, report.records), (Level::Full, 18));
        assert_eq!(report.sealed, ids[1..]);
    }
    for with in [ring(&[]), ring(&[&one()])] {
        let report = check(&wrapped, &with);
        assert!(report.ok(), "{:?}", report.breaks);
        assert_eq!(report.level, Level::Outer);
    }
    let name = "data.keys";
    for at in 0..open[name].len() {
        let mut changed = open.clone();
        changed.get_mut(name).unwrap()[at] ^= 1;
        let report = check(&changed, &Keyring::default());
        // A key of nothing that is there opens nothing.
        assert!(!report.ok() || report.level == Level::Outer, "byte {at}");
    }
}
