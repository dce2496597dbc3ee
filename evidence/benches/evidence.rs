//! Appending and verifying: performance.md, the rows "record append, chain, seal" and "verify".
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[allow(unused)]
#[path = "../tests/support/mod.rs"]
mod support;

use chaperone_evidence::*;
use chaperone_policy::{Durability, Verdict};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use support::{attach, closed, intent, start};

fn main() {
    divan::main();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn spooled(dir: &std::path::Path) -> std::sync::Arc<Recorder> {
    Store::open(dir)
        .unwrap()
        .attach(AttachIdentity::default(), SpoolOptions::default())
        .unwrap()
}

#[divan::bench(args = [Durability::Written, Durability::Synced])]
fn intent_to_permit(bencher: Bencher<'_, '_>, durability: Durability) {
    let (dir, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let recorder = spooled(dir.path());
    let mut session = recorder.begin(start(1)).unwrap();
    let select = intent(
        Verdict::Allow,
        "SELECT abalance FROM pgbench_accounts WHERE aid = 4711",
    );
    bencher.counter(ItemsCount::new(2u32)).bench_local(|| {
        let client = [Part::from(&[b'q'; 60][..])];
        runtime
            .block_on(session.intent(&select, &client, durability))
            .unwrap()
    });
    runtime.block_on(session.end(closed())).unwrap();
}

#[divan::bench(args = [256, 8192, 65536])]
fn server_bytes(bencher: Bencher<'_, '_>, len: usize) {
    let (dir, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let recorder = spooled(dir.path());
    let mut session = recorder.begin(start(1)).unwrap();
    let bytes: Vec<u8> = (0..len).map(|i| (i % 61) as u8).collect();
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        session.server(&[Part::from(&bytes[..])]).unwrap();
        if session.buffered() > 256 * 1024 {
            runtime.block_on(session.flush()).unwrap();
        }
    });
    runtime.block_on(session.end(closed())).unwrap();
}

/// Small records: how many a core frames and chains.
#[divan::bench]
fn append_records(bencher: Bencher<'_, '_>) {
    let (dir, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let recorder = spooled(dir.path());
    let mut session = recorder.begin(start(1)).unwrap();
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        session.outcome(support::outcome(1)).unwrap();
        if session.buffered() > 256 * 1024 {
            runtime.block_on(session.flush()).unwrap();
        }
    });
    runtime.block_on(session.end(closed())).unwrap();
}

/// A row of a result: neither all alike nor noise.
fn row(len: u32) -> Vec<u8> {
    (0..len)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

/// From the session to a durable segment: framed, chained, written, compressed, sealed, signed, synced.
#[divan::bench(args = [false, true], sample_count = 20)]
fn record_to_segment(bencher: Bencher<'_, '_>, sealed: bool) {
    const BYTES: usize = 16 * 1024 * 1024;
    let (dir, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let store = Store::open(dir.path()).unwrap();
    let recipients = if sealed {
        vec![store.own_recipient().unwrap()]
    } else {
        Vec::new()
    };
    let options = SpoolOptions {
        recipients,
        ..SpoolOptions::default()
    };
    let recorder = store.attach(AttachIdentity::default(), options).unwrap();
    let mut session = recorder.begin(start(1)).unwrap();
    let row = row(8192);
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| {
        for _ in 0..BYTES / row.len() {
            session.server(&[Part::from(&row[..])]).unwrap();
            if session.buffered() > 256 * 1024 {
                runtime.block_on(session.flush()).unwrap();
            }
        }
        runtime.block_on(session.flush()).unwrap();
        runtime.block_on(support::shipped(&recorder));
    });
    runtime.block_on(session.end(closed())).unwrap();
}

#[divan::bench]
fn verify_store(bencher: Bencher<'_, '_>) {
    let (dir, runtime) = (tempfile::tempdir().unwrap(), runtime());
    runtime.block_on(async {
        let recorder = attach(dir.path());
        let mut session = recorder.begin(start(1)).unwrap();
        let row = row(8192);
        for _ in 0..4096 {
            session.server(&[Part::from(&row[..])]).unwrap();
            session.flush().await.unwrap();
        }
        session.end(closed()).await.unwrap();
        support::detach(&recorder).await;
    });
    let bytes = verify(dir.path(), &Selection::All, None).unwrap().bytes;
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| assert!(verify(dir.path(), &Selection::All, None).unwrap().ok()));
}
