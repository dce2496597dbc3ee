//! What masking costs a value: the strategies, and the detectors on text with and without a match.

#![allow(missing_docs)]

use chaperone_mask::{Counts, Detectors, HashKey, Masker, Wire};
use chaperone_policy::{Detector, Strategy, Typed};
use divan::Bencher;
use divan::counter::BytesCount;

fn main() {
    divan::main();
}

fn masker() -> Masker {
    Masker::new(HashKey::new([7; 32]))
}

#[divan::bench(args = ["redact", "partial", "hash"])]
fn value(bencher: Bencher<'_, '_>, name: &str) {
    let strategy = match name {
        "redact" => Strategy::Redact,
        "partial" => Strategy::Partial {
            keep_first: 0,
            keep_last: 4,
        },
        _ => Strategy::Hash,
    };
    let (masker, mut out) = (masker(), Vec::new());
    bencher.bench_local(|| {
        out.clear();
        let value = Some(b"ann.smith@example.com".as_slice());
        masker.mask_value(25, Wire::Text, value, strategy, Typed::Null, &mut out)
    });
}

#[divan::bench(args = ["clean", "digits", "dotted", "matching"])]
fn detect_two(bencher: Bencher<'_, '_>, name: &str) {
    detect(
        bencher,
        name,
        [Detector::PaymentCard, Detector::EmailAddress],
    );
}

#[divan::bench(args = ["clean", "digits", "dotted", "matching"])]
fn detect_all(bencher: Bencher<'_, '_>, name: &str) {
    detect(bencher, name, Detector::ALL);
}

fn detect<const N: usize>(bencher: Bencher<'_, '_>, name: &str, armed: [Detector; N]) {
    let line = match name {
        "clean" => "The quick brown fox jumps over the lazy dog and goes on.\n",
        "digits" => "2024-01-15 10:22:03.123456 order 1234567890123 item 99\n",
        "dotted" => "See eyewitness-12.example.com/A-B, then the 212 others at 10.1.2.3\n",
        _ => "ann.smith@example.com paid with 4111 1111 1111 1111 today\n",
    };
    let text = line.repeat(72);
    let detectors = Detectors::new(&armed.map(|detector| (detector, Strategy::Redact)));
    let masker = masker();
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| {
        detectors
            .mask_text(&masker, &text, &mut Counts::default())
            .len()
    });
}
