//! What a recorder holds does not grow with what goes through it. Alone in its binary: it looks
//! at the memory of the whole process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use chaperone_evidence::*;
use support::*;

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_flat_over_a_long_stream_and_many_sessions() {
    const MIB: usize = 1024 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let recorder = Store::open(dir.path())
        .unwrap()
        .attach(identity(), SpoolOptions::default())
        .unwrap();
    let piece: Vec<u8> = (0..64 * 1024u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect();
    let mut session = recorder.begin(start(1)).unwrap();
    let mut early = 0;
    let total = std::env::var("MEMORY_TEST_MIB")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(192);
    for mib in 0..total {
        for _ in 0..16 {
            session.server(&[Part::from(&piece[..])]).unwrap();
            session.flush().await.unwrap();
        }
        if mib == 64 {
            early = resident();
        }
    }
    session.end(closed()).await.unwrap();
    for n in 0..2000 {
        full_session(&recorder, n).await;
    }
    let late = resident();
    detach(&recorder).await;
    assert!(
        late < early + 16 * MIB,
        "{} MiB, then {} MiB",
        early / MIB,
        late / MIB
    );
}
