//! Detectors on one value of a result, by type and format.

use chaperone_policy::{Detector, Strategy, Typed};

use super::json::{Position, Unescaped};
use super::{Counts, Detectors, Match};
use crate::masker::{Masker, Outcome, Wire, withhold};
use crate::types::{Class, INT8, NUMERIC, class, detectable};

/// How deep arrays and rows in binary format are followed; deeper ones are read as text only.
const DEEPEST: usize = 8;

/// What detectors made of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scanned {
    /// Nothing found: the value goes on as it is.
    Clean,
    /// NULL instead of the value; nothing was appended.
    Null,
    /// The replacement's bytes were appended.
    Value,
}

impl From<Outcome> for Scanned {
    fn from(outcome: Outcome) -> Scanned {
        match outcome {
            Outcome::Null => Scanned::Null,
            Outcome::Value => Scanned::Value,
        }
    }
}

impl Detectors {
    /// Scans one value that is not NULL, appending what replaces it to `out`.
    ///
    /// Text is replaced match by match. JSON stays JSON: a number that matches becomes a string.
    /// What cannot be rewritten in place (numbers, their arrays, arrays of JSON, arrays and rows
    /// in binary) becomes NULL or, with `typed`, its type's zero, as does a value with a match
    /// whose strategy is [`Strategy::Null`].
    #[expect(
        clippy::too_many_arguments,
        reason = "the shape of Masker::mask_value, and counts"
    )]
    pub fn mask_value(
        &self,
        masker: &Masker,
        type_oid: u32,
        wire: Wire,
        value: &[u8],
        typed: Typed,
        counts: &mut Counts,
        out: &mut Vec<u8>,
    ) -> Scanned {
        if self.is_empty() || !detectable(type_oid, wire) {
            return Scanned::Clean;
        }
        let found = self.in_value(type_oid, wire, value, DEEPEST);
        if found.is_empty() {
            return Scanned::Clean;
        }
        for one in &found {
            counts.add(*one);
        }
        let nothing = found
            .iter()
            .any(|one| matches!(self.strategy(*one), Strategy::Null));
        match (rewritable(type_oid, wire), std::str::from_utf8(value)) {
            (Rewrite::Text, Ok(text)) if !nothing => {
                let masked = self.mask_text(masker, text, &mut Counts::default());
                out.extend_from_slice(masked.as_bytes());
                Scanned::Value
            }
            (Rewrite::Json { version }, _) if !nothing => {
                let split = value
                    .split_at_checked(usize::from(version))
                    .unwrap_or((value, &[]));
                let Ok(json) = std::str::from_utf8(split.1) else {
                    return Scanned::Null;
                };
                out.extend_from_slice(split.0);
                self.rewrite_json(masker, json, out);
                Scanned::Value
            }
            _ if nothing => Scanned::Null,
            _ => withhold(type_oid, wire, typed, out).into(),
        }
    }

    /// Which detectors match in a value, one entry a match.
    fn in_value(&self, type_oid: u32, wire: Wire, value: &[u8], depth: usize) -> Vec<Detector> {
        match (class(type_oid), wire) {
            (Class::Other, _) => Vec::new(),
            (Class::Number, Wire::Binary) => self.in_number(type_oid, value),
            (Class::Json, _) | (Class::Jsonb, Wire::Text) => self.in_json(value),
            (Class::Jsonb, Wire::Binary) => self.in_json(value.get(1..).unwrap_or_default()),
            (Class::Array(_), Wire::Binary) => {
                self.in_container(value, array_elements(value), depth)
            }
            (Class::Record, Wire::Binary) => self.in_container(value, row_fields(value), depth),
            (Class::Foreign, Wire::Binary) => {
                let elements = array_elements(value).or_else(|| row_fields(value));
                self.in_container(value, elements, depth)
            }
            _ => self.in_text(value),
        }
    }

    fn in_text(&self, value: &[u8]) -> Vec<Detector> {
        let text = String::from_utf8_lossy(value);
        self.scan(&text)
            .into_iter()
            .map(|found| found.detector)
            .collect()
    }

    fn in_json(&self, value: &[u8]) -> Vec<Detector> {
        let text = String::from_utf8_lossy(value);
        let found = self.scan(&Unescaped::new(&text).text);
        found.into_iter().map(|found| found.detector).collect()
    }

    fn in_number(&self, type_oid: u32, value: &[u8]) -> Vec<Detector> {
        number_text(type_oid, value).map_or_else(Vec::new, |text| self.in_text(text.as_bytes()))
    }

    /// Reads a container element by element, and as text where it is none after all.
    fn in_container(
        &self,
        value: &[u8],
        elements: Option<Vec<(u32, &[u8])>>,
        depth: usize,
    ) -> Vec<Detector> {
        let (Some(elements), Some(depth)) = (elements, depth.checked_sub(1)) else {
            return self.in_text(value);
        };
        let each = elements.into_iter();
        each.flat_map(|(oid, value)| self.in_value(oid, Wire::Binary, value, depth))
            .collect()
    }

    fn rewrite_json(&self, masker: &Masker, json: &str, out: &mut Vec<u8>) {
        let unescaped = Unescaped::new(json);
        let mut position = Position::new(json);
        let mut from = 0;
        for Match { range, detector } in self.scan(&unescaped.text) {
            let secret = unescaped.text.get(range.clone()).unwrap_or_default();
            let replacement = self.replacement(masker, detector, secret);
            let mut original = unescaped.original(&range);
            let replacement = if position.in_string(original.start) {
                replacement
            } else {
                original = position.number(&original);
                format!("\"{replacement}\"").into()
            };
            out.extend_from_slice(
                json.get(from..original.start)
                    .unwrap_or_default()
                    .as_bytes(),
            );
            out.extend_from_slice(replacement.as_bytes());
            from = original.end;
        }
        out.extend_from_slice(json.get(from..).unwrap_or_default().as_bytes());
    }
}

enum Rewrite {
    /// Match by match.
    Text,
    /// Match by match, after a version byte in jsonb's binary form.
    Json { version: bool },
    /// Only as a whole.
    Never,
}

fn rewritable(type_oid: u32, wire: Wire) -> Rewrite {
    match (class(type_oid), wire) {
        (Class::Text | Class::Xml, _) => Rewrite::Text,
        (Class::Record | Class::Foreign, Wire::Text) => Rewrite::Text,
        (Class::Json, _) | (Class::Jsonb, Wire::Text) => Rewrite::Json { version: false },
        (Class::Jsonb, Wire::Binary) => Rewrite::Json { version: true },
        (Class::Array(element), Wire::Text)
            if matches!(class(element), Class::Text | Class::Xml) =>
        {
            Rewrite::Text
        }
        _ => Rewrite::Never,
    }
}

/// The decimal text of a bigint, or of a numeric's integer part (int8send, numeric_send).
fn number_text(type_oid: u32, value: &[u8]) -> Option<String> {
    match type_oid {
        INT8 => Some(i64::from_be_bytes(value.try_into().ok()?).to_string()),
        NUMERIC => {
            let (header, digits) = value.split_at_checked(8)?;
            let weight = i16::from_be_bytes([*header.get(2)?, *header.get(3)?]);
            // No detector knows a number of more than twenty digits.
            let groups = usize::try_from(weight).ok().filter(|weight| *weight < 5)? + 1;
            let mut number = 0_u128;
            for group in 0..groups {
                let digit = match digits.get(group * 2..group * 2 + 2) {
                    Some([high, low]) => u16::from_be_bytes([*high, *low]),
                    _ => 0,
                };
                number = number.checked_mul(10_000)?.checked_add(u128::from(digit))?;
            }
            Some(number.to_string())
        }
        _ => None,
    }
}

/// A cursor over the fields of a container in binary format.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn int(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A length and as many bytes; the length −1 is NULL, read as empty.
    fn value(&mut self) -> Option<&'a [u8]> {
        match self.int()? {
            -1 => Some(&[]),
            length => self.take(usize::try_from(length).ok()?),
        }
    }
}

/// The elements of an array (array_send): dimensions, flags, element type, (size, lower bound)
/// each, elements. None unless the bytes are exactly that.
fn array_elements(value: &[u8]) -> Option<Vec<(u32, &[u8])>> {
    let mut fields = Fields(value);
    let dimensions = fields.int().filter(|count| (0..=6).contains(count))?;
    fields.int().filter(|flags| matches!(flags, 0 | 1))?;
    let element = fields.int()?.cast_unsigned();
    for _ in 0..dimensions {
        fields.take(8)?;
    }
    let mut elements = Vec::new();
    while !fields.0.is_empty() {
        elements.push((element, fields.value()?));
    }
    Some(elements)
}

/// The columns of a row (record_send): count, then type and value each.
fn row_fields(value: &[u8]) -> Option<Vec<(u32, &[u8])>> {
    let mut fields = Fields(value);
    let count = fields.int().filter(|count| (0..=1664).contains(count))?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let type_oid = fields.int()?.cast_unsigned();
        columns.push((type_oid, fields.value()?));
    }
    fields.0.is_empty().then_some(columns)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]
    use chaperone_policy::Strategy;
    use proptest::prelude::*;

    use super::*;
    use crate::HashKey;

    const CARD: &str = "4111111111111111";
    const TEXT: u32 = 25;
    const JSON: u32 = 114;
    const JSONB: u32 = 3802;
    const RECORD: u32 = 2249;

    fn scan_as(
        type_oid: u32,
        wire: Wire,
        value: &[u8],
        strategy: Strategy,
        typed: Typed,
    ) -> (Scanned, Vec<u8>) {
        let rules = [
            (Detector::PaymentCard, strategy),
            (Detector::EmailAddress, strategy),
        ];
        let (detectors, masker) = (Detectors::new(&rules), Masker::new(HashKey::new([7; 32])));
        let (mut counts, mut out) = (Counts::default(), Vec::new());
        let scanned =
            detectors.mask_value(&masker, type_oid, wire, value, typed, &mut counts, &mut out);
        assert_eq!(scanned == Scanned::Clean, counts.is_empty());
        assert!(scanned == Scanned::Value || out.is_empty());
        (scanned, out)
    }

    fn scan(type_oid: u32, wire: Wire, value: &[u8]) -> (Scanned, Vec<u8>) {
        scan_as(type_oid, wire, value, Strategy::Redact, Typed::Null)
    }

    fn text(type_oid: u32, value: &str) -> String {
        let (scanned, out) = scan(type_oid, Wire::Text, value.as_bytes());
        assert_eq!(scanned, Scanned::Value, "{value}");
        String::from_utf8(out).unwrap()
    }

    fn array(element: u32, values: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for field in [1, 0, element, u32::try_from(values.len()).unwrap(), 1] {
            bytes.extend_from_slice(&field.to_be_bytes());
        }
        for value in values {
            bytes.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(value);
        }
        bytes
    }

    fn row(fields: &[(u32, &[u8])]) -> Vec<u8> {
        let mut bytes = u32::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
        for (oid, value) in fields {
            bytes.extend_from_slice(&oid.to_be_bytes());
            bytes.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(value);
        }
        bytes
    }

    #[test]
    fn text_arrays_and_rows_are_rewritten_in_place() {
        assert_eq!(text(TEXT, "to ann@example.com"), "to [masked]");
        assert_eq!(
            text(1009, "{a,ann@example.com,\"b c\"}"),
            "{a,[masked],\"b c\"}"
        );
        assert_eq!(text(RECORD, "(1,ann@example.com,)"), "(1,[masked],)");
        assert_eq!(
            text(142, "<mail>ann@example.com</mail>"),
            "<mail>[masked]</mail>"
        );
        assert_eq!(text(20000, "ann@example.com"), "[masked]");
    }

    #[test]
    fn json_stays_json() {
        let json = format!(
            r#"{{"n": {CARD}, "s": "x {CARD}", "ann@example.com": [-{CARD}.5e0, "\"{CARD}"]}}"#
        );
        let expected = serde_json::json!({
            "n": "[masked]", "s": "x [masked]", "[masked]": ["[masked]", "\"[masked]"]
        });
        for type_oid in [JSON, JSONB] {
            let masked: serde_json::Value = serde_json::from_str(&text(type_oid, &json)).unwrap();
            assert_eq!(masked, expected);
        }
        let binary = [b"\x01".as_slice(), json.as_bytes()].concat();
        let (scanned, out) = scan(JSONB, Wire::Binary, &binary);
        assert_eq!((scanned, out[0]), (Scanned::Value, 1));
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&out[1..]).unwrap(),
            expected
        );
    }

    #[test]
    fn escapes_hide_nothing_in_json() {
        assert_eq!(
            text(JSON, r#""a\n\u0061nn\u0040example.com\ud83c\udf89 \/""#),
            r#""a\n[masked]\ud83c\udf89 \/""#
        );
        assert_eq!(
            text(JSON, r#"["\\", "41111111\u003111111\u00311"]"#),
            r#"["\\", "[masked]"]"#
        );
    }

    #[test]
    fn numbers_are_withheld_in_both_formats() {
        let number: i64 = CARD.parse().unwrap();
        let zero = |wire, value: &[u8]| scan_as(20, wire, value, Strategy::Redact, Typed::Zero);
        assert_eq!(
            scan(20, Wire::Text, CARD.as_bytes()),
            (Scanned::Null, vec![])
        );
        assert_eq!(
            zero(Wire::Text, CARD.as_bytes()),
            (Scanned::Value, b"0".to_vec())
        );
        assert_eq!(
            zero(Wire::Binary, &number.to_be_bytes()),
            (Scanned::Value, vec![0; 8])
        );
        // numeric 4111111111111111.5: weight 3, four groups of ten thousands and a fraction.
        let groups: [u16; 9] = [5, 3, 0, 1, 4111, 1111, 1111, 1111, 5000];
        let numeric: Vec<u8> = groups
            .iter()
            .flat_map(|group| group.to_be_bytes())
            .collect();
        assert_eq!(scan(NUMERIC, Wire::Binary, &numeric).0, Scanned::Null);
        assert_eq!(
            scan(1016, Wire::Text, format!("{{{CARD}}}").as_bytes()).0,
            Scanned::Null
        );
        assert_eq!(
            scan(1016, Wire::Binary, &array(20, &[&number.to_be_bytes()])).0,
            Scanned::Null
        );
        assert_eq!(
            scan(20, Wire::Binary, &42_i64.to_be_bytes()).0,
            Scanned::Clean
        );
        assert_eq!(
            scan(NUMERIC, Wire::Binary, &[0, 1, 0x7f, 0xff, 0, 0, 0, 0, 0, 1]).0,
            Scanned::Clean
        );
    }

    #[test]
    fn binary_containers_are_read_through_and_withheld() {
        let number: i64 = CARD.parse().unwrap();
        let inner = row(&[(23, &[0; 4]), (20, &number.to_be_bytes())]);
        assert_eq!(
            scan(
                1009,
                Wire::Binary,
                &array(TEXT, &[b"a", b"ann@example.com"])
            )
            .0,
            Scanned::Null
        );
        assert_eq!(scan(RECORD, Wire::Binary, &inner).0, Scanned::Null);
        assert_eq!(
            scan(RECORD, Wire::Binary, &row(&[(RECORD, &inner)])).0,
            Scanned::Null
        );
        assert_eq!(scan(20000, Wire::Binary, &inner).0, Scanned::Null);
        assert_eq!(
            scan(20000, Wire::Binary, &array(20001, &[b"ann@example.com"])).0,
            Scanned::Null
        );
        assert_eq!(
            scan(20000, Wire::Binary, b"ann@example.com").0,
            Scanned::Null
        );
        assert_eq!(
            scan(1009, Wire::Binary, &array(TEXT, &[b"a", b"b"])).0,
            Scanned::Clean
        );
    }

    #[test]
    fn other_types_are_not_read() {
        assert_eq!(scan(701, Wire::Text, CARD.as_bytes()).0, Scanned::Clean);
        assert_eq!(scan(17, Wire::Binary, CARD.as_bytes()).0, Scanned::Clean);
    }

    #[test]
    fn the_strategy_null_empties_the_whole_value() {
        let mail = b"to ann@example.com";
        let scanned = scan_as(TEXT, Wire::Text, mail, Strategy::Null, Typed::Zero);
        assert_eq!(scanned, (Scanned::Null, vec![]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_bytes_of_any_type_are_read_without_a_fault(
            type_oid in prop::sample::select(vec![20_u32, 25, 114, 3802, 1700, 1009, 1016, 2249, 2287, 20000]),
            value in prop::collection::vec(prop_oneof![any::<u8>(), 0_u8..4], 0..80),
            binary: bool,
        ) {
            let wire = if binary { Wire::Binary } else { Wire::Text };
            scan(type_oid, wire, &value);
        }

        #[test]
        fn any_json_document_stays_one(
            keys in prop::collection::vec("[a-z\"\\\\\u{1}é/]{0,4}(ann@example\\.com|4111111111111111)?[a-z\"\\\\]{0,3}", 1..5),
        ) {
            let document: serde_json::Value = keys.iter().map(|key| (key.clone(), serde_json::json!([key, 4_111_111_111_111_111_u64]))).collect();
            let masked = text(JSON, &document.to_string());
            let masked: serde_json::Value = serde_json::from_str(&masked).unwrap();
            let plain = serde_json::to_string(&masked).unwrap();
            prop_assert!(!plain.contains(CARD) && !plain.contains("ann@example"));
        }
    }
}
