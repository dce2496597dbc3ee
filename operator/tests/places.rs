//! Where packs go: a folder, and a bucket of a server that speaks S3 and checks signatures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use chaperone_crds::ObjectStoreBackend;
use chaperone_operator::audit::packs::{Credentials, Place, PlaceError};
use chaperone_wire::AllowSpecial;
use xtask::s3proxy::{BUCKET, KEY, KEY_ID, S3Proxy};

const PATIENT: Duration = Duration::from_secs(60);
const HASTY: Duration = Duration::from_secs(3);
const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn spec(server: &S3Proxy) -> ObjectStoreBackend {
    ObjectStoreBackend {
        endpoint: server.endpoint(),
        region: "eu-central-1".to_owned(),
        bucket: BUCKET.to_owned(),
        prefix: Some("prod/packs".to_owned()),
        ca: Some(server.ca().to_owned()),
    }
}

fn place(spec: &ObjectStoreBackend, key: &str, deadline: Duration) -> Place {
    let credentials = Credentials::new(KEY_ID, key);
    Place::bucket(spec, &credentials, AllowSpecial::LiteralLoopback, deadline).unwrap()
}

/// What a place is to do; `file` is what it keeps in the end.
async fn keeps(place: &Place, file: &Path) {
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7) as u8).collect();
    let length = u64::try_from(bytes.len()).unwrap();
    let missing = place.get(DIGEST, length).await;
    assert!(matches!(missing, Err(PlaceError::Missing)), "{missing:?}");
    place.delete(DIGEST).await.unwrap();
    for _ in 0..2 {
        place.put(DIGEST, bytes.clone()).await.unwrap();
        assert_eq!(place.get(DIGEST, length).await.unwrap(), bytes);
    }
    assert_eq!(fs::read(file).unwrap(), bytes);
    // Altered where it lies, it comes back so: the digest is for whoever asked to hold against it.
    let mut altered = bytes.clone();
    altered[1_000_000] ^= 1;
    fs::write(file, &altered).unwrap();
    assert_eq!(place.get(DIGEST, length).await.unwrap(), altered);
    // Longer or shorter it is not read.
    for other in [length - 1, length + 1, 1 << 40] {
        let read = place.get(DIGEST, other).await;
        assert!(matches!(read, Err(PlaceError::Length { .. })), "{read:?}");
    }
    place.delete(DIGEST).await.unwrap();
    assert!(!file.exists());
}

#[tokio::test]
async fn a_folder_keeps_whole_objects_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(folder.path(), PATIENT);
    keeps(&place, &folder.path().join(format!("{DIGEST}.pack"))).await;
    // Cut short by a crash: a draft is no object, and in nobody's way.
    fs::write(folder.path().join("draft"), b"half").unwrap();
    place.put(DIGEST, b"whole".to_vec()).await.unwrap();
    assert_eq!(place.get(DIGEST, 5).await.unwrap(), b"whole");
    // A volume that is not mounted is a fault, and not an empty one.
    let gone = Place::folder(&folder.path().join("unmounted"), PATIENT);
    let put = gone.put(DIGEST, b"x".to_vec()).await;
    assert!(matches!(put, Err(PlaceError::Volume(_))), "{put:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_keeps_objects_and_says_why_it_does_not() {
    let mut server = S3Proxy::new().unwrap();
    let spec = spec(&server);
    let down = place(&spec, KEY, HASTY).put(DIGEST, b"x".to_vec()).await;
    assert!(
        matches!(down, Err(PlaceError::Store(_) | PlaceError::TimedOut)),
        "{down:?}"
    );
    server.start().unwrap();
    let good = place(&spec, KEY, PATIENT);
    let file = server.folder().join(format!("prod/packs/{DIGEST}.pack"));
    keeps(&good, &file).await;

    let forged = place(&spec, "guessed", PATIENT)
        .put(DIGEST, b"x".to_vec())
        .await;
    let why = forged.unwrap_err().to_string();
    assert!(why.contains("403") || why.contains("Signature"), "{why}");
    assert!(!why.contains("guessed") && !why.contains(KEY), "{why}");
    assert!(!file.exists());
    let elsewhere = ObjectStoreBackend {
        bucket: "another".to_owned(),
        ..spec.clone()
    };
    let put = place(&elsewhere, KEY, PATIENT)
        .put(DIGEST, b"x".to_vec())
        .await;
    assert!(put.is_err());
    // Nobody else's certificate, and no address that is the operator's own, unless that is allowed.
    let unknown = ObjectStoreBackend {
        ca: None,
        ..spec.clone()
    };
    let put = place(&unknown, KEY, HASTY).put(DIGEST, b"x".to_vec()).await;
    assert!(put.is_err());
    let credentials = Credentials::new(KEY_ID, KEY);
    let own = Place::bucket(&spec, &credentials, AllowSpecial::Nothing, HASTY).unwrap();
    assert!(own.put(DIGEST, b"x".to_vec()).await.is_err());
    assert!(!file.exists());
    let seen = format!("{good:?} {credentials:?}");
    assert!(!seen.contains(KEY) && !seen.contains(KEY_ID), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = ObjectStoreBackend {
        endpoint: format!("https://{}", silent.local_addr().unwrap()),
        region: "us-east-1".to_owned(),
        bucket: BUCKET.to_owned(),
        prefix: None,
        ca: None,
    };
    let begun = Instant::now();
    let put = place(&spec, KEY, HASTY).put(DIGEST, b"x".to_vec()).await;
    assert!(put.is_err());
    assert!(begun.elapsed() < HASTY * 2, "{:?}", begun.elapsed());
}
