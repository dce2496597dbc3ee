//! Evidence of a real store, through the control API, into resources that verify.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::http::StatusCode;
use chaperone_control::{
    Append, Appended, Bytes, CertificateAnswer, CertificateRequest, RecoveredSession, Refusal,
    SessionView, SessionViews,
};
use chaperone_crds::audit_store::NAMESPACE;
use chaperone_crds::{
    AuditCheckpoint, AuditEntryKind, AuditHold, AuditSegment, AuditStore, Connection, Session,
    SessionSpec, SessionState,
};
use chaperone_evidence::audit::verify::{LogReport, verify_into};
use chaperone_evidence::audit::{Checkpoint, Collected, Entry, EntryKind};
use chaperone_evidence::{Break, BreakReason, Outbox, Outgoing, fingerprint, parse_public_pem};
use chaperone_operator::audit::{self, sessions};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::keeping::Keeping;
use crate::support::{Lab, eventually};
use crate::{evidence, packs};

pub const SOON: Duration = Duration::from_secs(30);

/// There is one log in a cluster, so one test at a time has it.
pub async fn alone() -> MutexGuard<'static, ()> {
    static LOG: Mutex<()> = Mutex::const_new(());
    LOG.lock().await
}

/// A pod with a store of its own.
pub struct Shop {
    pub name: String,
    pub pod: Pod,
    token: String,
    pub store: TempDir,
}

impl Shop {
    pub async fn open(lab: &Lab, connection: &Connection) -> Shop {
        let name = lab.namespace("shop").await;
        let pod = lab.pod(&name, "report-1", connection).await;
        let token = lab.token(&name, Some(&pod), "chaperone.dev").await;
        let store = tempfile::tempdir().unwrap();
        let recorder = evidence::attach(store.path());
        evidence::full_session(&recorder, 1).await;
        evidence::full_session(&recorder, 2).await;
        evidence::detach(&recorder).await;
        Shop {
            name,
            pod,
            token,
            store,
        }
    }

    fn key(&self) -> [u8; 32] {
        let path = self.store.path().join("keys/log.pub");
        parse_public_pem(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    pub async fn certificate(&self, lab: &Lab) -> Result<Bytes, (StatusCode, Refusal)> {
        let request = CertificateRequest {
            store: hex::encode(self.key()),
        };
        let answer: CertificateAnswer = lab
            .ask("POST", "/v1/audit/certificate", &self.token, &request)
            .await?;
        Ok(answer.certificate)
    }

    async fn append(&self, lab: &Lab, append: &Append) -> Result<Appended, (StatusCode, Refusal)> {
        lab.ask("POST", "/v1/audit", &self.token, append).await
    }

    /// Hands in everything; the names of the segments it is in.
    pub async fn hand_in(&self, lab: &Lab) -> BTreeSet<String> {
        let certificate = self.certificate(lab).await.unwrap();
        let mut outbox = Outbox::open(self.store.path()).unwrap();
        let mut names = BTreeSet::new();
        while let Some(next) = outbox.unsent().unwrap() {
            let number = next.number;
            let append = whole(&certificate, next);
            names.insert(self.append(lab, &append).await.unwrap().segment);
            outbox.acknowledge(number).unwrap();
        }
        names
    }
}

fn whole(certificate: &Bytes, next: Outgoing) -> Append {
    Append {
        certificate: certificate.clone(),
        attach: Bytes(next.attach),
        number: next.number,
        part: 0,
        parts: 1,
        data: Bytes(next.bytes),
        urgent: true,
    }
}

pub async fn lab() -> (Lab, Connection) {
    let lab = Lab::start().await;
    let connection = connection(&lab).await;
    (lab, connection)
}

pub async fn connection(lab: &Lab) -> Connection {
    let databases = lab.namespace("databases").await;
    lab.connection(&databases, "orders-db", "orders.db").await
}

fn hash(text: &str) -> [u8; 32] {
    hex::decode(text).unwrap().try_into().unwrap()
}

/// The log as it is in the cluster.
pub async fn collected(lab: &Lab) -> Collected {
    let segments: Api<AuditSegment> = lab.api(NAMESPACE);
    let checkpoints: Api<AuditCheckpoint> = lab.api(NAMESPACE);
    let all = ListParams::default();
    let mut collected = Collected::default();
    let mut found = segments.list(&all).await.unwrap().items;
    let mut named = checkpoints.list(&all).await.unwrap().items;
    // Packs last, as auditors do: what is in one goes only after it is there.
    packs::add(lab, &mut found, &mut named).await;
    for segment in found {
        let entries = segment.spec.entries.iter().map(|entry| {
            let header = Entry {
                kind: match entry.kind {
                    AuditEntryKind::Certificate => EntryKind::Certificate,
                    AuditEntryKind::Segment => EntryKind::Segment,
                    AuditEntryKind::Tombstone => EntryKind::Tombstone,
                    AuditEntryKind::Unseal => EntryKind::Unseal,
                },
                namespace: entry.namespace.clone(),
                pod: entry.pod.clone(),
                uid: entry.uid.clone(),
                store: hash(&entry.store),
                number: entry.number,
                part: entry.part,
                parts: entry.parts,
                digest: hash(&entry.digest),
            };
            (header, entry.data.0.clone())
        });
        collected
            .segments
            .insert(segment.name_any(), entries.collect());
    }
    for checkpoint in named {
        assert_eq!(
            checkpoint.name_any(),
            format!("cp-{}", checkpoint.spec.number)
        );
        let spec = checkpoint.spec;
        let segments = spec.segments.into_iter().map(|segment| {
            let leaves = segment.leaves.iter().map(|leaf| hash(leaf)).collect();
            (segment.name, leaves)
        });
        let read = Checkpoint {
            previous: hash(&spec.previous),
            segments: segments.collect(),
            size: spec.size,
            root: hash(&spec.root),
            subtrees: spec.subtrees.iter().map(|subtree| hash(subtree)).collect(),
            note: spec.note,
        };
        collected.checkpoints.insert(spec.number, read);
    }
    collected
}

/// The log's public key, as auditors get it.
pub async fn public(lab: &Lab) -> [u8; 32] {
    let maps: Api<ConfigMap> = lab.api(NAMESPACE);
    let map = eventually("the log's key is published", SOON, || async {
        maps.get_opt("chaperone-log").await.unwrap()
    })
    .await;
    let data = map.data.unwrap();
    let public = parse_public_pem(&data["log.pub"]).unwrap();
    assert_eq!(data["fingerprint"], fingerprint(&public));
    public
}

/// The log once all of it has a checkpoint, and what an auditor says to it.
pub async fn verified(lab: &Lab) -> (Collected, LogReport) {
    let public = public(lab).await;
    let mut readings = 0;
    let (collected, report) = loop {
        // What is looked at is what has one: meanwhile there may be more.
        let collected = eventually(
            "everything has a checkpoint",
            Duration::from_secs(90),
            || async {
                let collected = collected(lab).await;
                let there = |(name, _): &&(String, _)| collected.segments.contains_key(name);
                let named = collected
                    .checkpoints
                    .values()
                    .flat_map(|checkpoint| &checkpoint.segments)
                    .filter(there)
                    .count();
                (named >= collected.segments.len()).then_some(collected)
            },
        )
        .await;
        let dir = tempfile::tempdir().unwrap();
        let report = verify_into(&collected, &public, dir.path()).unwrap();
        readings += 1;
        // What went under a tombstone while it was read: auditors read it again, too.
        let missing = |found: &Break| found.reason == BreakReason::SegmentMissing;
        if readings == 3 || !report.report.breaks.iter().any(missing) {
            break (collected, report);
        }
    };
    assert!(report.report.ok(), "{:#?}", report.report.breaks);
    assert_eq!(report.pending, 0);
    assert_eq!(
        report.checkpoints,
        u64::try_from(collected.checkpoints.len()).unwrap()
    );
    (collected, report)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn records_arrive_as_custom_resources() {
    let _alone = alone().await;
    let (mut lab, connection) = lab().await;
    let (one, other) = (
        Shop::open(&lab, &connection).await,
        Shop::open(&lab, &connection).await,
    );
    lab.tasks.spawn(audit::lead(lab.context.clone()));
    let names = one.hand_in(&lab).await;
    let (again, more) = tokio::join!(one.hand_in(&lab), other.hand_in(&lab));
    assert!(!names.is_empty() && !more.is_empty() && again.is_empty());
    let (collected, report) = verified(&lab).await;
    assert!(report.report.sessions >= 4, "{report:?}");
    for name in names.iter().chain(&more) {
        assert!(collected.segments.contains_key(name), "{name}");
    }
    let uid = one.pod.uid().unwrap();
    let entries = collected.segments.values().flatten();
    let own: Vec<&Entry> = entries
        .map(|(entry, _)| entry)
        .filter(|entry| entry.uid == uid)
        .collect();
    assert!(own.iter().all(|entry| entry.namespace == one.name
        && entry.pod == "report-1"
        && entry.store == one.key()));

    let stores: Api<AuditStore> = Api::all(lab.client.clone());
    let fingerprint = fingerprint(&public(&lab).await);
    eventually("the status says so", SOON, || async {
        let status = stores.get("default").await.unwrap().status?;
        let ready = status.conditions.first()?.status == "True";
        (ready
            && status.log_key == fingerprint
            && status.size == report.size
            && status.checkpoint == report.checkpoints
            && status.used_bytes > 1000)
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn two_leaders_cannot_fork_the_log() {
    const COPIES: usize = 1400;
    let _alone = alone().await;
    let (mut lab, connection) = lab().await;
    let shop = Shop::open(&lab, &connection).await;
    let names = shop.hand_in(&lab).await;
    let api: Api<AuditSegment> = lab.api(NAMESPACE);
    let segment = api.get(names.first().unwrap()).await.unwrap();
    let first = lab.tasks.spawn(audit::lead(lab.context.clone()));
    lab.tasks.spawn(audit::lead(lab.context.clone()));
    // The same part twice is one, so copies of a segment hurt nobody.
    let prefix = hex::encode(&shop.key()[..4]);
    let copies = stream::iter(0..COPIES).map(|n| {
        let copy = AuditSegment {
            metadata: ObjectMeta {
                name: Some(format!("as-{prefix}-{n}")),
                annotations: segment.metadata.annotations.clone(),
                ..ObjectMeta::default()
            },
            spec: segment.spec.clone(),
        };
        let api = api.clone();
        async move {
            api.create(&PostParams::default(), &copy).await.unwrap();
        }
    });
    copies
        .buffer_unordered(8)
        .enumerate()
        .for_each(|(done, ())| {
            // One is lost in the middle of its work, and a third takes over.
            if done == COPIES / 2 {
                first.abort();
                lab.tasks.spawn(audit::lead(lab.context.clone()));
            }
            std::future::ready(())
        })
        .await;
    let (collected, report) = verified(&lab).await;
    let mut named: BTreeMap<&str, u64> = BTreeMap::new();
    for (number, checkpoint) in &collected.checkpoints {
        assert!(checkpoint.segments.len() <= 1000);
        for (name, _) in &checkpoint.segments {
            assert_eq!(named.insert(name, *number), None, "{name} is named twice");
        }
    }
    // What another test removed is named still by the checkpoint that stays for it.
    named.retain(|name, _| collected.segments.contains_key(*name));
    assert_eq!(named.len(), collected.segments.len());
    assert!(named.len() > COPIES);
    let copies: BTreeSet<&u64> = named
        .iter()
        .filter(|(name, _)| name.contains(&prefix))
        .map(|(_, number)| number)
        .collect();
    assert!(copies.len() > 1, "more than one checkpoint was raced for");
    assert!(report.size >= u64::try_from(COPIES).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn a_pod_hands_in_only_its_own() {
    let _alone = alone().await;
    let (lab, connection) = lab().await;
    let (own, other) = (
        Shop::open(&lab, &connection).await,
        Shop::open(&lab, &connection).await,
    );
    let certificate = own.certificate(&lab).await.unwrap();
    let foreign = other.certificate(&lab).await.unwrap();
    let next = Outbox::open(own.store.path())
        .unwrap()
        .unsent()
        .unwrap()
        .unwrap();
    let theirs = Outbox::open(other.store.path())
        .unwrap()
        .unsent()
        .unwrap()
        .unwrap();
    let good = whole(&certificate, next);
    let mut changed = good.clone();
    let middle = changed.data.0.len() / 2;
    changed.data.0[middle] ^= 1;
    for (what, append) in [
        ("another pod's certificate", whole(&foreign, theirs.clone())),
        ("another pod's segment", whole(&certificate, theirs)),
        ("altered bytes", changed),
        (
            "another number",
            Append {
                number: good.number + 1,
                ..good.clone()
            },
        ),
        (
            "no certificate",
            Append {
                certificate: Bytes(Vec::new()),
                ..good.clone()
            },
        ),
        (
            "a part under another pod's certificate",
            Append {
                certificate: foreign.clone(),
                parts: 2,
                ..good.clone()
            },
        ),
    ] {
        let (status, refusal) = own.append(&lab, &append).await.expect_err(what);
        assert_eq!(status, StatusCode::FORBIDDEN, "{what}");
        assert_eq!(refusal.reason, "EvidenceRefused", "{what}");
    }
    let too_far = Append {
        part: 1,
        ..good.clone()
    };
    let (status, _) = own.append(&lab, &too_far).await.unwrap_err();
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let nobody = lab.ask::<Appended>("POST", "/v1/audit", "a.b.c", &good);
    assert_eq!(nobody.await.unwrap_err().0, StatusCode::UNAUTHORIZED);
    own.append(&lab, &good).await.unwrap();
}

async fn quota(lab: &Lab, quota: &'static str) {
    let keeping = Keeping {
        quota,
        ..Keeping::default()
    };
    keeping.begin(lab).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn a_full_quota_refuses_and_recovers() {
    let _alone = alone().await;
    let (mut lab, connection) = lab().await;
    let shop = Shop::open(&lab, &connection).await;
    let certificate = shop.certificate(&lab).await.unwrap();
    lab.tasks.spawn(audit::lead(lab.context.clone()));
    let stores: Api<AuditStore> = Api::all(lab.client.clone());
    eventually("the leader makes the store", SOON, || async {
        stores.get_opt("default").await.unwrap()
    })
    .await;
    quota(&lab, "1Ki").await;
    let refusal = eventually("nothing is taken in", SOON, || async {
        shop.certificate(&lab).await.err()
    })
    .await;
    assert_eq!(refusal.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refusal.1.reason, "QuotaExceeded");
    assert!(refusal.1.message.contains("raise spec.quota"));
    let next = Outbox::open(shop.store.path())
        .unwrap()
        .unsent()
        .unwrap()
        .unwrap();
    let append = whole(&certificate, next);
    let refusal = shop.append(&lab, &append).await.unwrap_err();
    assert_eq!(refusal.1.reason, "QuotaExceeded");
    let condition = eventually("the store says so", SOON, || async {
        let status = stores.get("default").await.unwrap().status?;
        status
            .conditions
            .into_iter()
            .find(|condition| condition.status == "False")
    })
    .await;
    assert_eq!(condition.reason, "QuotaExceeded");

    quota(&lab, "512Mi").await;
    eventually("evidence is taken in again", SOON, || async {
        shop.append(&lab, &append).await.ok()
    })
    .await;
}

/// Hands in what one life of the shop's sidecar recorded, and waits while there is no room: how often
/// it had to.
pub async fn recorded(lab: &Lab, shop: &Shop, certificate: &Bytes) -> usize {
    let recorder = evidence::attach(shop.store.path());
    for n in 0..SESSIONS {
        evidence::full_session(&recorder, n).await;
    }
    evidence::detach(&recorder).await;
    let mut outbox = Outbox::open(shop.store.path()).unwrap();
    let mut refusals = 0;
    while let Some(next) = outbox.unsent().unwrap() {
        let append = whole(certificate, next);
        if shop.append(lab, &append).await.is_err() {
            refusals += 1;
            eventually("there is room again", MINUTES, || async {
                shop.append(lab, &append).await.ok()
            })
            .await;
        }
        outbox.acknowledge(append.number).unwrap();
    }
    refusals
}

/// Sessions of one life of a sidecar in [`recorded`].
const SESSIONS: usize = 40;
pub const MINUTES: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn the_store_stays_below_its_quota_and_says_what_is_gone() {
    const ROUNDS: u64 = 2;
    /// Of which what one round hands in is less than a fifth.
    const QUOTA: u64 = 512 * 1024;
    let _alone = alone().await;
    let (mut lab, connection) = lab().await;
    let (shop, held) = (
        Shop::open(&lab, &connection).await,
        Shop::open(&lab, &connection).await,
    );
    let certificate = shop.certificate(&lab).await.unwrap();
    held.hand_in(&lab).await;
    let first = lab.tasks.spawn(audit::lead(lab.context.clone()));
    lab.tasks.spawn(audit::lead(lab.context.clone()));
    let public = public(&lab).await;
    let stores: Api<AuditStore> = Api::all(lab.client.clone());
    let status = || async { stores.get_opt("default").await.unwrap()?.status };
    eventually("the leader makes the store", SOON, status).await;
    let hold = AuditHold {
        name: "case-17".to_owned(),
        namespaces: vec![held.name.clone()],
        sessions: Vec::new(),
        reason: None,
    };
    // A checkpoint stays whole for what is held in it: nothing else is to be in that one.
    let held_uid = held.pod.uid().unwrap();
    eventually("what is held has its place in the log", MINUTES, || async {
        let found = collected(&lab).await;
        let named = found.checkpoints.values().flat_map(|one| &one.segments);
        let mut entries = named
            .filter_map(|(name, _)| found.segments.get(name))
            .flatten();
        entries
            .any(|(entry, _)| entry.uid == held_uid && entry.kind == EntryKind::Segment)
            .then_some(())
    })
    .await;
    let keeping = Keeping {
        quota: "512Ki",
        at_least: 1,
        holds: vec![hold],
        ..Keeping::default()
    };
    keeping.begin(&lab).await;
    // Whatever other tests left goes first.
    recorded(&lab, &shop, &certificate).await;
    let removed = || async { status().await?.removed };
    let (mut refusals, mut tombstones) = (0, BTreeSet::new());
    let mut first = Some(first);
    while tombstones.len() < usize::try_from(ROUNDS).unwrap() {
        let newest = |log: Collected| log.checkpoints.into_keys().next_back();
        let before = newest(collected(&lab).await);
        refusals += recorded(&lab, &shop, &certificate).await;
        // The next comes at the pace at which old evidence can go.
        eventually("it has its place in the log", MINUTES, || async {
            (newest(collected(&lab).await) > before).then_some(())
        })
        .await;
        eventually("there is room", MINUTES, || async {
            let used = status().await?.used_bytes;
            (used < QUOTA * 8 / 10).then_some(())
        })
        .await;
        // Whoever reads meanwhile finds nothing wrong.
        let dir = tempfile::tempdir().unwrap();
        let report = verify_into(&collected(&lab).await, &public, dir.path()).unwrap();
        assert!(report.report.ok(), "{:#?}", report.report.breaks);
        if let Some(removed) = removed().await
            && tombstones.insert(removed.tombstone)
            && let Some(first) = first.take()
        {
            // One of the two is lost; the other goes on where it was.
            first.abort();
        }
    }
    assert_eq!(refusals, 0, "nothing was refused while old evidence went");
    let status = eventually("there is room", MINUTES, || async {
        status()
            .await
            .filter(|status| status.used_bytes < QUOTA * 8 / 10)
    })
    .await;
    let ready = &status.conditions[0];
    assert_eq!(
        (ready.status.as_str(), ready.type_.as_str()),
        ("True", "Ready")
    );
    let (collected, report) = verified(&lab).await;
    let removed = report.removed.unwrap();
    assert_eq!(status.removed.unwrap().tombstone, removed.name);
    let tombstone = removed.tombstone;
    assert!(
        tombstone.number >= ROUNDS && tombstone.segments > 10,
        "{tombstone:?}"
    );
    let note = &report.report.notes[0].detail;
    assert!(
        note.contains("were removed on") && note.contains("case-17"),
        "{note}"
    );
    // What is held is there from its first record on.
    let uid = held.pod.uid().unwrap();
    let held_segments = collected
        .segments
        .values()
        .flatten()
        .filter(|(entry, _)| entry.uid == uid && entry.kind == EntryKind::Segment);
    assert!(held_segments.map(|(entry, _)| entry.number).min() == Some(1));
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::all(lab.client.clone());
    eventually("an Event says so", SOON, || async {
        let found = events.list(&ListParams::default()).await.unwrap();
        let mut reasons = found.items.into_iter().filter_map(|event| event.reason);
        reasons.find(|reason| reason == "EvidenceRemoved")
    })
    .await;
    quota(&lab, "512Mi").await;
}

fn session(id: &str, last_at: Timestamp) -> SessionView {
    SessionView {
        id: id.to_owned(),
        spec: SessionSpec {
            subject: "bank/teller".to_owned(),
            connection: "databases/orders-db".to_owned(),
            target: "orders.db:5432/orders".to_owned(),
            purpose: Some("nightly".to_owned()),
            pod: "vault-0".to_owned(),
            state: SessionState::Open,
            end: String::new(),
            started_at: Time(last_at),
            last_at: Time(last_at),
            allowed: 3,
            denied: 1,
            held: 0,
            rows: 7,
            masked: 2,
            findings: 0,
            records: 12,
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn sessions_are_views_of_their_pod() {
    let _alone = alone().await;
    let (lab, connection) = lab().await;
    let shop = Shop::open(&lab, &connection).await;
    let second = lab.pod(&shop.name, "report-2", &connection).await;
    let others = lab.token(&shop.name, Some(&second), "chaperone.dev").await;
    let now = Timestamp::now();
    let old = now - SignedDuration::from_hours(25);
    let put = async |token: &str, sessions: Vec<SessionView>| {
        let body = SessionViews {
            sessions,
            recovered: None,
        };
        let path = "/v1/audit/sessions";
        lab.request("POST", path, token, &body).await.status()
    };
    let views = vec![
        session("00000000000000a1", now),
        session("00000000000000a2", old),
    ];
    assert_eq!(put(&shop.token, views).await, StatusCode::NO_CONTENT);
    let api: Api<Session> = lab.api(&shop.name);
    let made = api.get("00000000000000a1").await.unwrap();
    assert_eq!(made.spec.subject, format!("{}/report", shop.name));
    assert_eq!(made.spec.pod, "report-1");
    assert_eq!(
        made.labels()["chaperone.dev/pod-uid"],
        shop.pod.uid().unwrap()
    );
    assert!(made.owner_references().is_empty());

    // Another pod of the same namespace does not write over it; its own is written all the same.
    let views = vec![
        session("00000000000000a1", now),
        session("00000000000000b1", now),
    ];
    assert_eq!(put(&others, views).await, StatusCode::FORBIDDEN);
    let kept = api.get("00000000000000a1").await.unwrap();
    assert_eq!(kept.spec, made.spec);
    assert_eq!(
        api.get("00000000000000b1").await.unwrap().spec.pod,
        "report-2"
    );
    let bad = vec![session("../secrets", now)];
    assert_eq!(put(&shop.token, bad).await, StatusCode::BAD_REQUEST);
    let later = vec![SessionView {
        spec: SessionSpec {
            rows: 9,
            ..session("00000000000000a1", now).spec
        },
        ..session("00000000000000a1", now)
    }];
    assert_eq!(put(&shop.token, later).await, StatusCode::NO_CONTENT);

    // A sidecar that started again says what became of its own sessions, and of no other's.
    let views = vec![
        session("00000000000000b2", now),
        session("00000000000000b3", now),
    ];
    assert_eq!(put(&others, views).await, StatusCode::NO_CONTENT);
    let tail = |id: &str, end: &str| RecoveredSession {
        id: id.to_owned(),
        last_at: now,
        end: end.to_owned(),
    };
    let restarted = SessionViews {
        sessions: Vec::new(),
        recovered: Some(vec![
            tail("00000000000000a1", ""),
            tail("00000000000000b2", ""),
            tail("00000000000000b3", "ClientClosed"),
        ]),
    };
    for _ in 0..2 {
        let path = "/v1/audit/sessions";
        let said = lab.request("POST", path, &others, &restarted).await;
        assert_eq!(said.status(), StatusCode::NO_CONTENT);
        for (id, state) in [
            ("00000000000000a1", SessionState::Open),
            ("00000000000000b1", SessionState::Interrupted),
            ("00000000000000b2", SessionState::Recovered),
            ("00000000000000b3", SessionState::Ended),
        ] {
            let found = api.get(id).await.unwrap().spec;
            assert_eq!((found.state, found.records), (state, 12), "{id}");
            assert_eq!(found.end.is_empty(), state == SessionState::Open, "{id}");
        }
    }
    // What it says later of one of them is taken all the same.
    let again = vec![session("00000000000000b1", now)];
    assert_eq!(put(&others, again).await, StatusCode::NO_CONTENT);

    // What is old goes; what goes on stays while its pod is there, and is interrupted without it.
    sessions::sweep_once(&lab.context).await.unwrap();
    assert!(api.get_opt("00000000000000a2").await.unwrap().is_none());
    let open = api.get("00000000000000a1").await.unwrap();
    assert_eq!((open.spec.state, open.spec.rows), (SessionState::Open, 9));
    let pods: Api<Pod> = lab.api(&shop.name);
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete("report-1", &at_once).await.unwrap();
    let ended = eventually("the session is interrupted", SOON, || async {
        sessions::sweep_once(&lab.context).await.unwrap();
        let found = api.get("00000000000000a1").await.unwrap();
        (found.spec.state == SessionState::Interrupted).then_some(found)
    })
    .await;
    assert_eq!(ended.spec.end, "its pod is gone");
    let other = api.get("00000000000000b1").await.unwrap();
    assert_eq!(other.spec.state, SessionState::Open);
}
