//! Values of a result under detectors and column masks.

use chaperone_mask::{Counts, Detectors, HashKey, Masker, Outcome, Scanned, Wire};
use chaperone_policy::{Detector, Strategy, Typed};

use crate::{SECRET, control};

/// Every type with a class of its own, and some of the same class.
const TYPES: [u32; 16] = [
    16, 17, 20, 25, 114, 142, 600, 701, 1009, 1016, 1082, 1700, 2249, 2287, 3802, 20_000,
];

/// Two bytes of control (type, format and strategy), then a value.
pub fn values(data: &[u8]) {
    let ([kind, how], value) = control::<2>(data);
    let type_oid = TYPES
        .get(usize::from(kind) % TYPES.len())
        .copied()
        .unwrap_or(25);
    let wire = if how & 1 == 0 {
        Wire::Text
    } else {
        Wire::Binary
    };
    let strategy = strategy(how >> 1);
    let masker = masker();
    let detectors = detectors(strategy);

    // Any bytes of any type: bounded, and the same every time.
    let once = scanned(&detectors, &masker, type_oid, wire, value);
    assert_eq!(scanned(&detectors, &masker, type_oid, wire, value), once);
    assert!(
        once.1.len() <= value.len().saturating_mul(16) + 64,
        "a mask grew out of bounds"
    );
    let mut whole = Vec::new();
    let outcome = masker.mask_whole(type_oid, wire, Some(value), Typed::Zero, &mut whole);
    assert!(outcome == Outcome::Value || whole.is_empty());
    assert!(
        value.len() < 16 || !holds(&whole, value),
        "a value is in its mask"
    );

    // A secret in a text is in no answer, whatever stands around it.
    let Ok(text) = std::str::from_utf8(value) else {
        return;
    };
    // One that is there already may stand where it is none, as in `…@example.com11`.
    if text.contains(SECRET) {
        return;
    }
    let middle = (0..=text.len() / 2)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    let (before, after) = text.split_at_checked(middle).unwrap_or((text, ""));
    let with_secret = format!("{before} {SECRET} {after}");
    let masked = detectors.mask_text(&masker, &with_secret, &mut Counts::default());
    assert!(!masked.contains(SECRET), "{with_secret:?}");
    for type_oid in [25, 142, 1009, 2249, 20_000] {
        let (how, out) = scanned(
            &detectors,
            &masker,
            type_oid,
            Wire::Text,
            with_secret.as_bytes(),
        );
        assert!(
            how != Scanned::Clean && !holds(&out, SECRET.as_bytes()),
            "{with_secret:?} as {type_oid}"
        );
    }
    in_json(&detectors, &masker, &with_secret);
}

/// JSON stays JSON, and nothing that its escapes hide is shown.
fn in_json(detectors: &Detectors, masker: &Masker, text: &str) {
    let document =
        serde_json::json!({ text: [text, { "n": 4_111_111_111_111_111_u64 }] }).to_string();
    for (type_oid, wire) in [(114, Wire::Text), (3802, Wire::Text), (3802, Wire::Binary)] {
        let version: &[u8] = if (type_oid, wire) == (3802, Wire::Binary) {
            &[1]
        } else {
            &[]
        };
        let value = [version, document.as_bytes()].concat();
        let (how, out) = scanned(detectors, masker, type_oid, wire, &value);
        if how == Scanned::Null {
            continue;
        }
        assert_eq!(how, Scanned::Value, "{document}");
        let json = out.strip_prefix(version).unwrap_or_default();
        let read: Result<serde_json::Value, _> = serde_json::from_slice(json);
        let Ok(read) = read else {
            panic!(
                "{document} is no JSON any more: {}",
                String::from_utf8_lossy(json)
            );
        };
        let mut shown = Vec::new();
        strings(&read, &mut shown);
        assert!(shown.iter().all(|text| !text.contains(SECRET)), "{read}");
    }
}

fn strings(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(members) => members.iter().for_each(|(name, value)| {
            into.push(name.clone());
            strings(value, into);
        }),
        serde_json::Value::Array(items) => items.iter().for_each(|item| strings(item, into)),
        serde_json::Value::String(text) => into.push(text.clone()),
        other => into.push(other.to_string()),
    }
}

fn scanned(
    detectors: &Detectors,
    masker: &Masker,
    type_oid: u32,
    wire: Wire,
    value: &[u8],
) -> (Scanned, Vec<u8>) {
    let mut out = Vec::new();
    let mut counts = Counts::default();
    let how = detectors.mask_value(
        masker,
        type_oid,
        wire,
        value,
        Typed::Null,
        &mut counts,
        &mut out,
    );
    assert_eq!(how == Scanned::Clean, counts.is_empty());
    assert!(how == Scanned::Value || out.is_empty());
    (how, out)
}

fn strategy(byte: u8) -> Strategy {
    match byte % 4 {
        0 => Strategy::Redact,
        1 => Strategy::Partial {
            keep_first: 1,
            keep_last: usize::from(byte >> 4),
        },
        2 => Strategy::Hash,
        _ => Strategy::Null,
    }
}

pub(crate) fn detectors(strategy: Strategy) -> Detectors {
    Detectors::new(&Detector::ALL.map(|detector| (detector, strategy)))
}

pub(crate) fn masker() -> Masker {
    Masker::new(HashKey::new([7; 32]))
}

pub(crate) fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
