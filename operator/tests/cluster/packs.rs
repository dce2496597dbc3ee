//! What is old goes into packs, in a bucket and on a volume, and is the same evidence there; nothing is
//! deleted before it is, and a leader that is lost anywhere loses nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use chaperone_control::Bytes;
use chaperone_crds::audit_pack::{ACCESS_KEY_ID, SECRET, SECRET_ACCESS_KEY};
use chaperone_crds::audit_store::NAMESPACE;
use chaperone_crds::{
    AuditBackend, AuditCheckpoint, AuditHold, AuditPack, AuditSegment, AuditStore,
    ObjectStoreBackend, VolumeBackend,
};
use chaperone_evidence::audit::{EntryKind, pack_lines};
use chaperone_operator::audit;
use chaperone_operator::cli::Config;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::time::sleep;
use xtask::process::Scratch;
use xtask::s3proxy::{BUCKET, KEY, KEY_ID, S3Proxy};

use crate::audit::{MINUTES, SOON, Shop, alone, connection, recorded, verified};
use crate::evidence;
use crate::keeping::Keeping;
use crate::support::{Lab, apply, config, eventually, yaml};

/// Of which what a test records is several times as much.
const QUOTA: &str = "256Ki";
const QUOTA_BYTES: u64 = 256 * 1024;

/// Folders that packs are in.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder that packs are in from now on.
fn folder(path: PathBuf) -> PathBuf {
    FOLDERS.lock().unwrap().push(path.clone());
    path
}

/// The resources that are in packs and not in the API server any more.
pub async fn add(
    lab: &Lab,
    segments: &mut Vec<AuditSegment>,
    checkpoints: &mut Vec<AuditCheckpoint>,
) {
    for pack in stored(lab).await {
        let Some(bytes) = file_of(&pack) else {
            // Removed under a tombstone meanwhile; else what is in it is missed.
            continue;
        };
        let digest: [u8; 32] = hex::decode(&pack.spec.digest).unwrap().try_into().unwrap();
        for line in pack_lines(&bytes, &digest).unwrap() {
            let line = line.unwrap();
            if let Ok(found) = serde_json::from_slice::<AuditSegment>(&line) {
                let name = found.name_any();
                match segments.iter().find(|one| one.name_any() == name) {
                    Some(there) => assert_eq!(there.spec, found.spec),
                    None => segments.push(found),
                }
            } else {
                let found: AuditCheckpoint = serde_json::from_slice(&line).unwrap();
                let name = found.name_any();
                match checkpoints.iter().find(|one| one.name_any() == name) {
                    Some(there) => assert_eq!(there.spec, found.spec),
                    None => checkpoints.push(found),
                }
            }
        }
    }
}

async fn stored(lab: &Lab) -> Vec<AuditPack> {
    let packs: Api<AuditPack> = lab.api(NAMESPACE);
    let mut found = packs.list(&ListParams::default()).await.unwrap().items;
    found.retain(|pack| {
        pack.status
            .as_ref()
            .is_some_and(|status| status.stored_at.is_some())
    });
    found.sort_by_key(|pack| pack.spec.number);
    found
}

fn file_of(pack: &AuditPack) -> Option<Vec<u8>> {
    let name = format!("{}.pack", pack.spec.digest);
    let folders = FOLDERS.lock().unwrap().clone();
    let mut folders = folders.iter();
    folders.find_map(|folder| fs::read(folder.join(&name)).ok())
}

/// The names of the objects in a folder.
fn objects(folder: &Path) -> BTreeSet<String> {
    let Ok(listed) = fs::read_dir(folder) else {
        return BTreeSet::new();
    };
    let names = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".pack")).collect()
}

async fn keep(lab: &Lab, backend: Option<AuditBackend>, packed: Option<u64>, hold: Option<&str>) {
    // Where packs are to go, no others are to be made.
    let quota = match (&backend, packed) {
        (Some(_), None) => QUOTA,
        _ => "512Mi",
    };
    let hold = hold.map(|namespace| AuditHold {
        name: "case-18".to_owned(),
        namespaces: vec![namespace.to_owned()],
        sessions: Vec::new(),
        reason: None,
    });
    let keeping = Keeping {
        quota,
        backend,
        at_least: 1,
        packed,
        holds: hold.into_iter().collect(),
    };
    keeping.begin(lab).await;
}

/// What the store says of itself.
async fn condition(lab: &Lab) -> Option<(String, String)> {
    let stores: Api<AuditStore> = Api::all(lab.client.clone());
    let status = stores.get_opt("default").await.unwrap()?.status?;
    let ready = status.conditions.into_iter().next()?;
    Some((ready.reason, ready.message))
}

async fn credentials(lab: &Lab, key: &str) {
    let secrets: Api<Secret> = lab.api(NAMESPACE);
    let secret = yaml(&format!(
        "{{metadata: {{name: {SECRET}}}, stringData: {{{ACCESS_KEY_ID}: {KEY_ID}, {SECRET_ACCESS_KEY}: {key}}}}}"
    ));
    apply(&secrets, &secret).await;
}

/// The segments that are resources.
async fn resources(lab: &Lab) -> BTreeSet<String> {
    let segments: Api<AuditSegment> = lab.api(NAMESPACE);
    let list = segments
        .list_metadata(&ListParams::default())
        .await
        .unwrap();
    list.items.iter().map(ResourceExt::name_any).collect()
}

async fn used(lab: &Lab) -> u64 {
    let stores: Api<AuditStore> = Api::all(lab.client.clone());
    let store = stores.get_opt("default").await.unwrap();
    let status = store.and_then(|store| store.status);
    status.map_or(0, |status| status.used_bytes)
}

/// Records until most of the quota is used.
async fn filled(lab: &Lab, shop: &Shop, certificate: &Bytes) {
    while used(lab).await < QUOTA_BYTES * 9 / 10 {
        recorded(lab, shop, certificate).await;
        sleep(Duration::from_secs(4)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn what_is_packed_is_the_same_evidence() {
    let _alone = alone().await;
    let mut server = S3Proxy::new().unwrap();
    let bucket = folder(server.folder().join("prod"));
    let scratch = Scratch::new("packs").unwrap();
    let volume = &folder(scratch.path().to_owned());
    let mut lab = Lab::start_with(Config {
        packs_dir: Some(volume.clone()),
        allow_special_targets: true,
        ..config()
    })
    .await;
    let connection = connection(&lab).await;
    let (shop, held) = (
        Shop::open(&lab, &connection).await,
        Shop::open(&lab, &connection).await,
    );
    let certificate = shop.certificate(&lab).await.unwrap();
    held.hand_in(&lab).await;
    let leader = lab.tasks.spawn(audit::lead(lab.context.clone()));
    filled(&lab, &shop, &certificate).await;
    let (_, before) = verified(&lab).await;
    let all = resources(&lab).await;
    let in_bucket = AuditBackend {
        volume: None,
        object_store: Some(ObjectStoreBackend {
            endpoint: server.endpoint(),
            region: "us-east-1".to_owned(),
            bucket: BUCKET.to_owned(),
            prefix: Some("prod".to_owned()),
            ca: Some(server.ca().to_owned()),
        }),
    };

    // The server is down, then does not know us: that is said, and nothing is deleted.
    let failing = |what: &'static str| {
        let lab = &lab;
        async move {
            eventually("that nothing is packed is told", MINUTES, || async {
                let (reason, message) = condition(lab).await?;
                (reason == "PackingFailed" && message.contains(what)).then_some(())
            })
            .await;
        }
    };
    credentials(&lab, "guessed").await;
    keep(&lab, Some(in_bucket.clone()), None, None).await;
    failing("object store").await;
    server.start().unwrap();
    failing("403").await;
    assert!(all.is_subset(&resources(&lab).await), "something is gone");
    assert!(stored(&lab).await.is_empty() && objects(&bucket).is_empty());

    // It is there, and knows us.
    credentials(&lab, KEY).await;
    eventually("there is room", MINUTES, || async {
        (used(&lab).await < QUOTA_BYTES * 7 / 10).then_some(())
    })
    .await;
    let (log, report) = verified(&lab).await;
    assert!(report.size >= before.size && report.report.sessions >= before.report.sessions);
    let left = resources(&lab).await;
    assert!(all.iter().any(|name| !left.contains(name)));
    assert!(all.iter().all(|name| log.segments.contains_key(name)));

    // Whoever knows its digest is given a pack, and nobody else anything.
    let pack = stored(&lab).await.remove(0);
    let path = |digest: &str| format!("/v1/audit/packs/{}/{digest}", pack.name_any());
    let answer = lab.request("GET", &path(&pack.spec.digest), "", &()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body.to_vec(), file_of(&pack).unwrap());
    let guessed = "00".repeat(32);
    for digest in [guessed.as_str(), "", "..%2f..%2fetc%2fpasswd"] {
        let answer = lab.request("GET", &path(digest), "", &()).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{digest}");
    }

    // Leaders are lost wherever they are, and packs go on on a volume.
    leader.abort();
    let on_volume = AuditBackend {
        volume: Some(VolumeBackend {}),
        object_store: None,
    };
    fs::create_dir_all(&bucket).unwrap();
    for name in objects(&bucket) {
        fs::copy(bucket.join(&name), volume.join(&name)).unwrap();
    }
    keep(&lab, Some(on_volume.clone()), None, None).await;
    let counted = stored(&lab).await.len();
    // A checkpoint takes one of them five seconds.
    for round in 0..8 {
        let one = lab.tasks.spawn(audit::lead(lab.context.clone()));
        recorded(&lab, &shop, &certificate).await;
        sleep(Duration::from_millis(1000 + round * 977)).await;
        one.abort();
    }
    lab.tasks.spawn(audit::lead(lab.context.clone()));
    lab.tasks.spawn(audit::lead(lab.context.clone()));
    filled(&lab, &shop, &certificate).await;
    eventually("there is room", MINUTES, || async {
        (used(&lab).await < QUOTA_BYTES * 7 / 10).then_some(())
    })
    .await;
    assert!(stored(&lab).await.len() > counted);
    let (log, _) = verified(&lab).await;
    assert!(all.iter().all(|name| log.segments.contains_key(name)));
    // Each object is named by one AuditPack, and each segment is in one place or on its way.
    let named = || async {
        let packs = stored(&lab).await.into_iter();
        let names: BTreeSet<String> = packs
            .map(|pack| format!("{}.pack", pack.spec.digest))
            .collect();
        names
    };
    eventually("no object is left over", SOON, || async {
        (objects(volume) == named().await).then_some(())
    })
    .await;

    // Packs that are old enough go under a tombstone, but for what is held.
    let packs = stored(&lab).await.len();
    keep(&lab, Some(on_volume.clone()), Some(1), Some(&held.name)).await;
    eventually("old packs are gone", MINUTES, || async {
        (stored(&lab).await.len() < packs).then_some(())
    })
    .await;
    let (log, report) = verified(&lab).await;
    let uid = held.pod.uid().unwrap();
    let kept = log.segments.values().flatten();
    let kept = kept.filter(|(entry, _)| entry.uid == uid && entry.kind == EntryKind::Segment);
    assert_eq!(kept.map(|(entry, _)| entry.number).min(), Some(1));
    let note = &report.report.notes[0].detail;
    assert!(note.contains("case-18"), "{note}");
    assert_eq!(objects(volume), named().await);
    // Once nothing is held nothing is left, and the log goes on.
    emptied(&lab, on_volume, &shop, &certificate).await;
    assert!(objects(volume).is_empty());
    verified(&lab).await;
}

/// Has all packs removed, and nothing packed any more.
async fn emptied(lab: &Lab, backend: AuditBackend, shop: &Shop, certificate: &Bytes) {
    keep(lab, Some(backend), Some(1), None).await;
    eventually("all packs are gone", MINUTES, || async {
        // What comes behind them makes them go whole.
        recorded(lab, shop, certificate).await;
        stored(lab).await.is_empty().then_some(())
    })
    .await;
    keep(lab, None, None, None).await;
}

/// Bytes of all segments and checkpoints, as the quota counts them.
async fn bytes(lab: &Lab) -> u64 {
    let of = |annotations: &std::collections::BTreeMap<String, String>| -> u64 {
        annotations[audit::BYTES_ANNOTATION].parse().unwrap()
    };
    let all = ListParams::default();
    let segments: Api<AuditSegment> = lab.api(NAMESPACE);
    let checkpoints: Api<AuditCheckpoint> = lab.api(NAMESPACE);
    let segments = segments.list_metadata(&all).await.unwrap();
    let checkpoints = checkpoints.list_metadata(&all).await.unwrap();
    let segments: u64 = segments.items.iter().map(|one| of(one.annotations())).sum();
    let checkpoints: u64 = checkpoints
        .items
        .iter()
        .map(|one| of(one.annotations()))
        .sum();
    segments + checkpoints
}

/// Half a million short sessions a day, computed from some that are taken in by the real ingest and
/// packed by the real packer onto a volume, within the default quota.
///
/// Measured, as the quota counts it, with the checkpoints that name it: what a session takes up where
/// one pod has hundreds in a few segments, and at the other end where a pod has two and is gone (a
/// certificate, an attach, heads and a detach for every two). Each has some more records than a session
/// of one statement. Then, for the costlier of both:
/// - a day of them is packed in less than a day (0.7 h where this was measured), so the quota is not
///   reached;
/// - the AuditPacks of a quarter of a year take up less than a tenth of the quota;
/// - the chart's volume of 20 GiB holds more than three days of them: whoever keeps more needs more.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes"]
async fn five_hundred_thousand_short_sessions_fit_the_quota() {
    const DAY: u64 = 500_000;
    const MANY: usize = 600;
    const PODS: u64 = 8;
    const QUOTA: u64 = 512 << 20;
    const PACK: u64 = 16 << 20;
    let _alone = alone().await;
    let scratch = Scratch::new("packs").unwrap();
    let volume = folder(scratch.path().to_owned());
    let mut lab = Lab::start_with(Config {
        packs_dir: Some(volume),
        ..config()
    })
    .await;
    let connection = connection(&lab).await;
    lab.tasks.spawn(audit::lead(lab.context.clone()));
    let shop = Shop::open(&lab, &connection).await;
    let certificate = shop.certificate(&lab).await.unwrap();
    shop.hand_in(&lab).await;
    verified(&lab).await;
    let before = bytes(&lab).await;
    let recorder = evidence::attach(shop.store.path());
    for n in 0..MANY {
        evidence::full_session(&recorder, n).await;
    }
    evidence::detach(&recorder).await;
    shop.hand_in(&lab).await;
    verified(&lab).await;
    let many = bytes(&lab).await;
    for _ in 0..PODS {
        Shop::open(&lab, &connection).await.hand_in(&lab).await;
    }
    let (_, report) = verified(&lab).await;
    let alone = bytes(&lab).await;
    let together = (many - before) / u64::try_from(MANY).unwrap();
    let apart = (alone - many) / (PODS * 2);

    // All of it goes, as fast as it can.
    let on_volume = AuditBackend {
        volume: Some(VolumeBackend {}),
        object_store: None,
    };
    keep(&lab, Some(on_volume.clone()), None, None).await;
    let begun = Instant::now();
    eventually("there is room", MINUTES, || async {
        (bytes(&lab).await < QUOTA_BYTES * 7 / 10).then_some(())
    })
    .await;
    let seconds = begun.elapsed().as_secs_f64();
    let moved = alone - bytes(&lab).await;
    let packs = stored(&lab).await;
    let packed: u64 = packs.iter().map(|pack| pack.spec.bytes).sum();
    let resource = serde_json::to_vec(&packs[0]).unwrap().len() as u64;
    assert!(verified(&lab).await.1.report.sessions >= report.report.sessions);
    emptied(&lab, on_volume, &shop, &certificate).await;

    let costly = together.max(apart);
    let day = DAY * costly;
    let hours = day as f64 / (moved as f64 / seconds) / 3600.0;
    let names = day / PACK * 90 * resource;
    let stays = day as f64 * packed as f64 / moved as f64;
    println!(
        "bytes of a session: {together} among many, {apart} with a pod of its own; a day: {day}, packed \
         {stays:.0} in {hours:.2} h; AuditPacks of 90 days: {names}"
    );
    assert!(hours < 24.0, "{hours} h");
    assert!(names < QUOTA / 10, "{names}");
    assert!(stays * 3.0 < (20_u64 << 30) as f64, "{stays}");
}
